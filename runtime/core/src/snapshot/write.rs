//! Writing a snapshot, a piece at a time.

use super::{MAX_CHUNK, MAX_MEMBERS, Meta, SnapshotError, format};
use crate::log::disk::{Disk, File};
use std::path::{Path, PathBuf};

/// So much is collected before it is written, in bytes.
const WRITE_AT_ONCE: usize = 256 << 10;

/// A snapshot that is being written aside. Whatever goes wrong, what is there already is not touched,
/// and what is left is swept away by [`sweep`](super::sweep) or by the next try.
#[derive(Debug)]
pub struct Writer<D: Disk> {
    disk: D,
    dir: PathBuf,
    index: u64,
    file: D::File,
    /// How much has been written, in bytes.
    written: u64,
    /// What comes next.
    buffer: Vec<u8>,
    digest: blake3::Hasher,
    chunks: u64,
}

impl<D: Disk> Writer<D> {
    /// Begins a snapshot in `dir`, which exists.
    pub fn create(disk: &D, dir: &Path, meta: &Meta) -> Result<Self, SnapshotError> {
        bounded("members", meta.members.len(), MAX_MEMBERS)?;
        let file = disk.create(&dir.join(format::aside_name(meta.index)))?;
        Ok(Self {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            index: meta.index,
            file,
            written: 0,
            buffer: format::header(meta),
            digest: blake3::Hasher::new(),
            chunks: 0,
        })
    }

    /// Appends a chunk of a section. An empty one is a chunk too.
    pub fn chunk(&mut self, section: u64, items: &[u8]) -> Result<(), SnapshotError> {
        bounded("a chunk", items.len(), MAX_CHUNK)?;
        format::chunk(&mut self.buffer, self.index, self.written, section, items);
        self.chunks += 1;
        if self.buffer.len() >= WRITE_AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// How long the snapshot is so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Makes the snapshot safe, and gives it its name; returns its path.
    pub fn finish(mut self) -> Result<PathBuf, SnapshotError> {
        self.flush()?;
        let digest = *self.digest.finalize().as_bytes();
        format::footer(&mut self.buffer, self.index, self.written, self.chunks, &digest);
        self.flush()?;
        self.file.sync_data()?;
        let path = self.dir.join(format::file_name(self.index));
        self.disk.rename(&self.dir.join(format::aside_name(self.index)), &path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(path)
    }

    /// Gives the snapshot up, and its room back.
    pub fn abandon(self) -> Result<(), SnapshotError> {
        Ok(self.disk.remove(&self.dir.join(format::aside_name(self.index)))?)
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        self.digest.update(&self.buffer);
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn bounded(of: &'static str, len: usize, bound: usize) -> Result<(), SnapshotError> {
    if len > bound { Err(SnapshotError::TooLong { of, len, bound }) } else { Ok(()) }
}
