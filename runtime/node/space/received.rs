//! A snapshot that comes from another member: written aside, checked, and then among the others.

use super::Space;
use super::snapshots::decode_members;
use crate::store::FsDisk;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use synod_core::log::disk::{Disk, DiskError, File};
use synod_core::order::{Position, SnapshotMeta};
use synod_core::snapshot;

/// What files are called that are on their way.
const ASIDE: &str = "incoming-";
/// Bytes of a snapshot, at most: more than a state in memory can be.
const MAX_BYTES: u64 = 64 << 30;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A snapshot on its way in. Dropped before its end, it leaves nothing.
pub(crate) struct ReceivedSnapshot {
    disk: FsDisk,
    space: [u8; 32],
    aside: PathBuf,
    file: <FsDisk as Disk>::File,
    written: u64,
    is_taken: bool,
}

impl ReceivedSnapshot {
    /// Begins to take in a snapshot of so many bytes.
    pub(crate) fn begin(space: &Space, bytes: u64) -> io::Result<Self> {
        let disk = space.disk();
        let room = disk.free_space().map_err(failed)?.saturating_sub(space.min_free());
        if bytes > MAX_BYTES || bytes > room {
            let why = format!("a snapshot of {bytes} bytes does not fit: {room} are free");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let aside = folder().join(format!("{ASIDE}{number}"));
        let file = disk.create(&aside).map_err(failed)?;
        Ok(Self { disk, space: space.id(), aside, file, written: 0, is_taken: false })
    }

    /// Appends what has come.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.written, bytes).map_err(failed)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks it and puts it among the others; returns its path. Blocks.
    pub(crate) fn finish(mut self) -> io::Result<(PathBuf, SnapshotMeta)> {
        let adopted = snapshot::adopt(&self.disk, folder(), &self.aside, self.space);
        let (path, meta) = adopted.map_err(io::Error::other)?;
        self.is_taken = true;
        let members = decode_members(&meta.members).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a snapshot without Raft's members")
        })?;
        let position = Position { index: meta.at.index, term: meta.at.term };
        Ok((self.disk.root().join(path), SnapshotMeta { position, members }))
    }
}

impl Drop for ReceivedSnapshot {
    fn drop(&mut self) {
        if !self.is_taken
            && let Err(e) = self.disk.remove(&self.aside)
        {
            tracing::warn!("a snapshot that did not come to its end is left: {e}");
        }
    }
}

/// Removes what a killed node left of those that were on their way.
pub(super) fn sweep(disk: &FsDisk) -> Result<(), DiskError> {
    for name in disk.list(folder())?.iter().filter(|name| name.starts_with(ASIDE)) {
        disk.remove(&folder().join(name))?;
    }
    Ok(())
}

fn folder() -> &'static Path {
    Path::new("snapshots")
}

fn failed(e: DiskError) -> io::Error {
    io::Error::other(e)
}
