//! What the command line remembers in `DATA/cli`: the last index that it was told of, a space. A
//! query asks for that index at least, so that one reads what one has written, whichever node
//! answers.

use super::Failure;
use std::io;
use std::path::PathBuf;
use synod::api::SpaceInfo;

/// The last index of one space.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    index: u64,
}

impl Memory {
    /// What is remembered of a space, by its id: a name may come to mean another.
    pub(crate) fn of(data: &std::path::Path, space: &SpaceInfo) -> Result<Self, Failure> {
        let path = data.join("cli").join(format!("{}.index", space.id));
        let index = match std::fs::read_to_string(&path) {
            // What cannot be read is nothing to wait for.
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Failure::error(format!("{}: {error}", path.display()))),
        };
        Ok(Self { path, index })
    }

    /// The index, 0 if there is none.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Remembers a later one.
    pub(crate) fn note(&mut self, index: u64) -> Result<(), Failure> {
        if index <= self.index {
            return Ok(());
        }
        self.index = index;
        self.write().map_err(|error| Failure::error(format!("{}: {error}", self.path.display())))
    }

    /// Written aside and renamed: another command may read it at the same time.
    fn write(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let aside = self.path.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&aside, self.index.to_string())?;
        std::fs::rename(&aside, &self.path)
    }
}
