//! Reading a file of items from some offset on, one by one, in memory bounded by one chunk and one
//! item, whatever the file holds.

use super::READ_CHUNK;
use super::disk::{DiskError, File};
use super::record::Flaw;
use bytes::{Bytes, BytesMut};

/// A place in a file and the bytes around it.
#[derive(Debug)]
pub(crate) struct Scan<F> {
    file: F,
    number: u64,
    /// Bytes of the file; the first stands at `chunk_at`.
    chunk: Bytes,
    chunk_at: u64,
    /// How far into the chunk the next item stands.
    next: usize,
    /// What lies beyond is not looked at.
    end: u64,
}

/// What stands at the place.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Item(T),
    Flaw(Flaw),
    End,
}

/// Reads the item that stands at the start of the bytes, with the file's number and the item's offset.
/// [`Flaw::Ends`] means that more bytes might hold one.
pub(crate) type Parse<T> = fn(&[u8], u64, u64) -> Result<T, Flaw>;

impl<F: File> Scan<F> {
    /// Reads the file of that number from `offset` to `end`.
    pub(crate) fn new(file: F, number: u64, offset: u64, end: u64) -> Self {
        Self { file, number, chunk: Bytes::new(), chunk_at: offset, next: 0, end }
    }

    /// The offset in the file of what comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.chunk_at + self.next as u64
    }

    /// The number of the file.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Gives the file a number that was learnt from it.
    pub(crate) fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// The bytes that have been read from the place on. [`Scan::pass`] moves on.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.chunk[self.next..]
    }

    /// Parses the item that stands here, of `longest` bytes at most, without moving.
    pub(crate) fn step<T>(
        &mut self,
        longest: usize,
        parse: Parse<T>,
    ) -> Result<Step<T>, DiskError> {
        if self.next == self.chunk.len() && !self.fill(1)? {
            return Ok(Step::End);
        }
        loop {
            match parse(self.rest(), self.number, self.offset()) {
                Ok(item) => return Ok(Step::Item(item)),
                Err(Flaw::Ends) => {
                    let wanted = self.rest().len() + 1;
                    if wanted > longest || !self.fill(wanted)? {
                        return Ok(Step::Flaw(Flaw::Ends));
                    }
                }
                Err(flaw) => return Ok(Step::Flaw(flaw)),
            }
        }
    }

    /// Moves over `len` bytes that have been read.
    pub(crate) fn pass(&mut self, len: usize) {
        self.next = (self.next + len).min(self.chunk.len());
    }

    /// A part of what stands here, shared and not copied: it keeps its whole chunk in memory.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Bytes {
        self.chunk.slice(self.next + range.start..self.next + range.end)
    }

    /// Reads on until `wanted` bytes from the place on are there and the chunk is full, or the file has
    /// no more; says whether they are there.
    pub(crate) fn fill(&mut self, wanted: usize) -> Result<bool, DiskError> {
        let have = self.rest().len();
        if have >= wanted {
            return Ok(true);
        }
        let at = self.offset();
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        // An item longer than a chunk: twice as much each time, so that all of it is moved once.
        let size = (have * 2).max(wanted).max(READ_CHUNK).min(left);
        if size == have {
            return Ok(false);
        }
        let mut chunk = match std::mem::take(&mut self.chunk).try_into_mut() {
            Ok(mut mine) => {
                mine.copy_within(self.next.., 0);
                mine.resize(size, 0);
                mine
            }
            Err(shared) => {
                let mut fresh = BytesMut::zeroed(size);
                fresh[..have].copy_from_slice(&shared[self.next..]);
                fresh
            }
        };
        let read = self.file.read_at(at + have as u64, &mut chunk[have..])?;
        chunk.truncate(have + read);
        (self.chunk, self.chunk_at, self.next) = (chunk.freeze(), at, 0);
        Ok(have + read >= wanted)
    }
}
