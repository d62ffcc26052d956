//! Reading snapshots: streamed from a disk, or in place from a mapped file.

use super::format::{self, Item, MAX_HEADER, MAX_ITEM, What};
use super::{Meta, SnapshotError};
use crate::cbor;
use crate::log::SpaceId;
use crate::log::disk::{Disk, File, Why};
use crate::log::record::{Flaw, HeaderFlaw};
use crate::log::scan::{Scan, Step};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// A piece of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The section that it belongs to.
    pub section: u64,
    /// What was written.
    pub items: Bytes,
}

/// A snapshot that is being read: its chunks, in the order in which they were written. An error is the
/// last item, and what came before it is then worth nothing.
#[derive(Debug)]
pub struct Reader<F> {
    scan: Scan<F>,
    path: PathBuf,
    meta: Meta,
    digest: blake3::Hasher,
    chunks: u64,
    done: bool,
}

/// A snapshot whose bytes are in memory, checked; its chunks share them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which state it is.
    pub meta: Meta,
    chunks: Vec<Chunk>,
}

/// What [`newest`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The newest snapshot that is whole, and which state it is.
    pub whole: Option<(PathBuf, Meta)>,
    /// Newer ones that are not, and why: to be told.
    pub passed_over: Vec<SnapshotError>,
}

impl<F: File> Reader<F> {
    /// Opens a snapshot, of `space` if one is given.
    pub fn open<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        space: Option<SpaceId>,
    ) -> Result<Self, SnapshotError> {
        let file = disk.open_read(path)?;
        let end = file.len()?;
        // The header has its own number, which is not known yet, in its checksum.
        let mut scan = Scan::new(file, 0, 0, end);
        scan.fill(MAX_HEADER)?;
        let (meta, len) = checked_header(scan.rest(), path, space)?;
        let mut digest = blake3::Hasher::new();
        digest.update(&scan.rest()[..len]);
        scan.pass(len);
        scan.set_number(meta.index);
        Ok(Self { scan, path: path.to_path_buf(), meta, digest, chunks: 0, done: false })
    }

    /// Which state it is.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Reads to the end, and so checks all of it.
    pub fn check(self) -> Result<Meta, SnapshotError> {
        let meta = self.meta.clone();
        for chunk in self {
            chunk?;
        }
        Ok(meta)
    }

    fn read(&mut self) -> Result<Option<Chunk>, SnapshotError> {
        let Item { what, len } = match self.scan.step(MAX_ITEM, format::parse)? {
            Step::Item(item) => item,
            Step::Flaw(flaw) => return Err(self.damaged(flaw)),
            Step::End => return Err(self.damaged(Flaw::Ends)),
        };
        match what {
            What::Chunk { section, items } => {
                let items = self.scan.slice(items);
                self.digest.update(&self.scan.rest()[..len]);
                self.scan.pass(len);
                self.chunks += 1;
                Ok(Some(Chunk { section, items }))
            }
            What::Footer { chunks, digest } => {
                if chunks != self.chunks || self.digest.finalize() != digest {
                    return Err(self.damaged(Flaw::Digest));
                }
                self.scan.pass(len);
                if self.scan.fill(1)? {
                    return Err(self.damaged(Flaw::NotCbor(cbor::What::Trailing)));
                }
                Ok(None)
            }
        }
    }

    fn damaged(&self, what: Flaw) -> SnapshotError {
        SnapshotError::Damaged { file: self.path.clone(), offset: self.scan.offset(), what }
    }
}

impl<F: File> Iterator for Reader<F> {
    type Item = Result<Chunk, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let chunk = self.read().transpose();
        self.done = !matches!(chunk, Some(Ok(_)));
        chunk
    }
}

impl Snapshot {
    /// Checks a snapshot that is in memory, of `space` if one is given; `path` names it in errors. With
    /// `Bytes::from_owner` the bytes may be a mapped file: nothing of them is copied.
    pub fn open(bytes: Bytes, path: &Path, space: Option<SpaceId>) -> Result<Self, SnapshotError> {
        let (meta, mut at) = checked_header(&bytes, path, space)?;
        let damaged = |offset: usize, what| SnapshotError::Damaged {
            file: path.to_path_buf(),
            offset: offset as u64,
            what,
        };
        let mut chunks = Vec::new();
        loop {
            let item = format::parse(&bytes[at..], meta.index, at as u64);
            let Item { what, len } = item.map_err(|flaw| damaged(at, flaw))?;
            match what {
                What::Chunk { section, items } => {
                    let items = bytes.slice(at + items.start..at + items.end);
                    chunks.push(Chunk { section, items });
                }
                What::Footer { chunks: count, digest } => {
                    if count != chunks.len() as u64 || blake3::hash(&bytes[..at]) != digest {
                        return Err(damaged(at, Flaw::Digest));
                    }
                    if at + len < bytes.len() {
                        return Err(damaged(at + len, Flaw::NotCbor(cbor::What::Trailing)));
                    }
                    return Ok(Self { meta, chunks });
                }
            }
            at += len;
        }
    }

    /// All chunks, in the order in which they were written.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks of one section, likewise.
    pub fn section(&self, section: u64) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter().filter(move |chunk| chunk.section == section).map(|chunk| &chunk.items)
    }
}

/// The snapshots in a folder by index, newest first, and their paths. None have been checked.
pub fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
    let names = match disk.list(dir) {
        Err(e) if e.why == Why::NotFound => Vec::new(),
        names => names?,
    };
    let found = names.iter().filter_map(|name| Some((format::index_of(name)?, dir.join(name))));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The newest snapshot of `space` that is whole, if there is one; it is safe. A damaged one is passed
/// over; one of another version or of another space is an error, for the folder is then not ours to
/// judge.
pub fn newest<D: Disk>(disk: &D, dir: &Path, space: SpaceId) -> Result<Newest, SnapshotError> {
    let mut newest = Newest::default();
    let found = list(disk, dir)?;
    if !found.is_empty() {
        // A process that was killed between the renaming and the syncing left a name that may yet
        // be lost, and whoever starts from it compacts the log.
        disk.sync_dir(dir)?;
    }
    for (_, path) in found {
        match Reader::open(disk, &path, Some(space)).and_then(Reader::check) {
            Ok(meta) => {
                newest.whole = Some((path, meta));
                break;
            }
            Err(e @ SnapshotError::Damaged { .. }) => newest.passed_over.push(e),
            Err(e) => return Err(e),
        }
    }
    Ok(newest)
}

/// Removes all snapshots but the newest `keep`, and what unfinished ones left; says how many files.
/// Not while one is being written.
pub fn sweep<D: Disk>(disk: &D, dir: &Path, keep: usize) -> Result<usize, SnapshotError> {
    let old = list(disk, dir)?.into_iter().skip(keep).map(|(_, path)| path);
    let names = disk.list(dir)?;
    let unfinished = names.iter().filter(|name| format::is_aside(name)).map(|name| dir.join(name));
    let mut removed = 0;
    for path in old.chain(unfinished) {
        disk.remove(&path)?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir)?;
    }
    Ok(removed)
}

/// Makes a snapshot of a file that came from elsewhere, in the same folder under another name: checked to
/// its end, synced, renamed, and the folder synced.
pub fn adopt<D: Disk>(
    disk: &D,
    dir: &Path,
    aside: &Path,
    space: SpaceId,
) -> Result<(PathBuf, Meta), SnapshotError> {
    let meta = Reader::open(disk, aside, Some(space))?.check()?;
    disk.open(aside)?.sync_data()?;
    let path = dir.join(format::file_name(meta.index));
    disk.rename(aside, &path)?;
    disk.sync_dir(dir)?;
    Ok((path, meta))
}

fn checked_header(
    bytes: &[u8],
    path: &Path,
    space: Option<SpaceId>,
) -> Result<(Meta, usize), SnapshotError> {
    let file = || path.to_path_buf();
    let (meta, len) = format::parse_header(bytes).map_err(|e| match e {
        HeaderFlaw::OtherVersion(version) => SnapshotError::OtherVersion { file: file(), version },
        HeaderFlaw::Flaw(what) => SnapshotError::Damaged { file: file(), offset: 0, what },
    })?;
    if space.is_some_and(|space| space != meta.space) {
        return Err(SnapshotError::OtherSpace { file: file(), found: meta.space });
    }
    Ok((meta, len))
}
