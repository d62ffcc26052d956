//! Reading entries back: a reader sees the live log as it was safe on the disk when it was made.

use super::disk::{Disk, DiskError, Why};
use super::index::{Index, Segment};
use super::record::{self, Flaw, MAX_RECORD, Record};
use super::recover::Damage;
use super::scan::{Scan, Step};
use super::{Entry, Position};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log's entries at one moment, for any thread; cheap to clone and to keep.
#[derive(Clone, Debug)]
pub struct Reader<D> {
    disk: D,
    dir: PathBuf,
    segments: Arc<[Arc<Segment>]>,
    /// The last entry that can be read.
    last: u64,
    first: u64,
    /// How much of the last segment is safe.
    end: u64,
}

/// Why entries cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The entry has been compacted away, maybe since the reader was made.
    #[error("entry {asked} has been compacted away: the log begins at {first}")]
    Compacted {
        /// The entry that was asked for.
        asked: u64,
        /// The first that there is, as far as is known.
        first: u64,
    },
    /// The file is not what it was when the log was opened.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl<D: Disk> Reader<D> {
    /// `end` is how much of the last segment is safe: nothing, if it waits to be created.
    pub(super) fn new(disk: &D, dir: &Path, index: &Index, end: u64) -> Self {
        Self {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            segments: index.segments.as_slice().into(),
            last: index.last.index,
            first: index.first(),
            end,
        }
    }

    /// The first entry that can be read, or the one that will be.
    pub fn first_index(&self) -> u64 {
        self.first
    }

    /// The entries from index `from` up to, not including, `to`, as far as there are such, streamed.
    pub fn entries(&self, from: u64, to: u64) -> Result<Entries<D>, ReadError> {
        if from < self.first && from < to {
            return Err(ReadError::Compacted { asked: from, first: self.first });
        }
        let to = to.min(self.last.saturating_add(1));
        Ok(Entries { reader: self.clone(), next: from, to, run: None })
    }

    /// The entries from `from` up to, not including, `to`, as far as their payloads fit `max_bytes`;
    /// the first in any case.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let mut bytes = 0;
        let mut read = Vec::new();
        for entry in self.entries(from, to)? {
            let entry = entry?;
            bytes += entry.data.len();
            if bytes > max_bytes && !read.is_empty() {
                break;
            }
            read.push(entry);
        }
        Ok(read)
    }
}

/// Entries, one after the other. An error is the last item.
#[derive(Debug)]
pub struct Entries<D: Disk> {
    reader: Reader<D>,
    next: u64,
    to: u64,
    /// The segment that is being read, and the last entry to read in this go.
    run: Option<(Scan<D::File>, PathBuf, u64)>,
}

impl<D: Disk> Iterator for Entries<D> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.to {
            return None;
        }
        let entry = self.read().transpose();
        if !matches!(entry, Some(Ok(_))) {
            self.to = self.next;
        }
        entry
    }
}

impl<D: Disk> Entries<D> {
    fn read(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some((scan, file, last)) = &mut self.run else {
                if self.seek()? {
                    continue;
                }
                return Ok(None);
            };
            let offset = scan.offset();
            let damage = |what| Damage { file: file.clone(), offset, index: self.next, what };
            let parsed = match scan.step(MAX_RECORD, record::parse)? {
                Step::Item(parsed) => parsed,
                Step::Flaw(flaw) => return Err(damage(flaw).into()),
                // The end of what is safe: the rest of the run waits to be written.
                Step::End => return Ok(None),
            };
            let Record::Entry { kind, at, data } = parsed.record else {
                scan.pass(parsed.len);
                continue;
            };
            if at.index > self.next {
                let what = Flaw::OutOfOrder { due: self.next, found: at.index };
                return Err(damage(what).into());
            }
            let found = at.index == self.next;
            let data = found.then(|| scan.slice(data));
            scan.pass(parsed.len);
            if let Some(data) = data {
                self.next += 1;
                if at.index == *last {
                    self.run = None;
                }
                let Position { term, index } = at;
                return Ok(Some(Entry { term, index, kind, data }));
            }
        }
    }

    /// Finds the run that holds the next entry; says whether there is one.
    fn seek(&mut self) -> Result<bool, ReadError> {
        let Reader { disk, dir, segments, end, .. } = &self.reader;
        let behind =
            |segment: &Arc<Segment>| segment.runs.last().is_none_or(|r| r.last < self.next);
        let Some(nth) = segments.iter().position(|segment| !behind(segment)) else {
            return Ok(false);
        };
        let segment = &segments[nth];
        let Some(run) = segment.runs.iter().find(|run| run.last >= self.next) else {
            return Ok(false);
        };
        let end = if nth + 1 == segments.len() { *end } else { segment.bytes };
        let start = run.seek(self.next);
        if start >= end {
            return Ok(false);
        }
        let file = dir.join(Segment::file_name(segment.number));
        let open = match disk.open_read(&file) {
            Ok(open) => open,
            Err(e) if e.why == Why::NotFound => {
                // Segments go from the oldest on.
                let later = segments[nth + 1..].iter().find_map(|later| later.runs.first());
                let first = later.map_or(self.reader.last.saturating_add(1), |run| run.first);
                return Err(ReadError::Compacted { asked: self.next, first });
            }
            Err(e) => return Err(e.into()),
        };
        let scan = Scan::new(open, segment.number, start, end);
        self.run = Some((scan, file, run.last));
        Ok(true)
    }
}
