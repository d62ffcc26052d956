//! How much of its past a space keeps on this node: a file in its folder, for people to read, too.

use super::apply_thread::ApplyInput;
use super::order_thread::OrderInput;
use super::{OpenSpaceError, Space};
use crate::store::FsDisk;
use std::io;
use std::path::Path;
use synod_core::log::disk::{Disk, DiskError, File as _};
use synod_core::retention::Retention;

/// The file that says so, as people write it. Without it, everything is kept.
pub(crate) const FILE: &str = "retention";

/// What a space's folder says.
pub(super) fn read(disk: &FsDisk) -> Result<Retention, OpenSpaceError> {
    let path = disk.root().join(FILE);
    let why = match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(retention) => return Ok(retention),
            Err(e) => format!("{e}"),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Retention::Everything),
        Err(e) => e.to_string(),
    };
    Err(OpenSpaceError::Retention { path, why })
}

fn write(disk: &FsDisk, retention: Retention) -> Result<(), DiskError> {
    let aside = Path::new("retention.new");
    let file = disk.create(aside)?;
    file.write_at(0, format!("{retention}\n").as_bytes())?;
    file.sync_data()?;
    drop(file);
    disk.rename(aside, Path::new(FILE))?;
    disk.sync_dir(Path::new(""))
}

impl Space {
    /// How much of its past is kept here.
    pub(crate) fn retention(&self) -> Retention {
        self.inner.shared.retention()
    }

    /// Keeps so much from now on. What is no longer to be kept goes soon, and for good. Blocks.
    pub(crate) fn retain(&self, retention: Retention) -> Result<(), DiskError> {
        write(self.inner.shared.disk(), retention)?;
        self.inner.shared.set_retention(retention);
        self.tend();
        Ok(())
    }

    /// Lets what is too old go, if anything is.
    pub(super) fn tend(&self) {
        drop(self.inner.apply.send(ApplyInput::Tend));
        drop(self.inner.order.send(OrderInput::Tend));
    }
}
