//! Segments written by hand, by the grammar in `log.cddl` and by nothing of the log's own code.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use synod_core::cbor::{Reader, Writer};
use synod_core::log::{Entry, Limits, Log, OpenError, Position, Recovered, SpaceId};
use synod_sim::disk::SimDisk;

pub(crate) const SPACE: SpaceId = [5; 32];
pub(crate) const LOG: &str = "space/log";
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 1 << 20, pending_bytes: 1 << 20, ahead_bytes: 0 };

pub(crate) fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), Path::new(LOG), SPACE, LIMITS)
}

pub(crate) fn entry(term: u64, index: u64, len: usize) -> Entry {
    Entry { term, index, kind: 0, data: vec![index as u8; len].into() }
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// A segment that is being made.
pub(crate) struct Segment {
    pub(crate) bytes: Vec<u8>,
    number: u64,
    batch: u64,
}

impl Segment {
    /// With the header of the log's first moment.
    pub(crate) fn new(number: u64, space: SpaceId) -> Self {
        Self::with(number, space, 0, [0; 5])
    }

    /// With the header of a log that goes on after a snapshot's place.
    pub(crate) fn beginning(after: Position) -> Self {
        Self::with(1, SPACE, 0, [after.index, after.term, after.term, 0, after.index])
    }

    /// With the header that follows what a disk holds.
    pub(crate) fn after(disk: &SimDisk, number: u64) -> Self {
        Self::after_but(disk, number, |_| {})
    }

    /// The same, but for a change to the last entry's index and term and the hard state.
    pub(crate) fn after_but(disk: &SimDisk, number: u64, change: impl Fn(&mut [u64; 5])) -> Self {
        let (log, recovered) = open(disk).unwrap();
        let previous = disk.contents(Path::new(LOG).join(segment_name(number - 1))).unwrap().len();
        let (last, state) = (log.last(), recovered.hard_state);
        let mut rest = [last.index, last.term, state.term, state.vote, state.commit];
        change(&mut rest);
        Self::with(number, SPACE, previous as u64, rest)
    }

    fn with(number: u64, space: SpaceId, previous: u64, rest: [u64; 5]) -> Self {
        let mut segment = Self { bytes: Vec::new(), number, batch: 0 };
        let mut w = Writer::new();
        w.tag(55_799)
            .array(11)
            .text("synod-log")
            .uint(synod_core::log::VERSION)
            .bytes(&space)
            .uint(number)
            .uint(previous);
        rest.iter().for_each(|n| {
            w.uint(*n);
        });
        segment.push(w);
        segment.sync();
        segment
    }

    pub(crate) fn entry(&mut self, kind: u64, term: u64, index: u64, data: &[u8]) -> &mut Self {
        let mut w = Writer::new();
        w.array(6).uint(kind).uint(self.batch).uint(term).uint(index).bytes(data);
        self.push(w)
    }

    pub(crate) fn hard_state(&mut self, term: u64, vote: u64, commit: u64) -> &mut Self {
        self.item(&[16, self.batch, term, vote, commit])
    }

    pub(crate) fn restart(&mut self, at: Position) -> &mut Self {
        self.item(&[17, self.batch, at.term, at.index])
    }

    pub(crate) fn closed(&mut self) -> &mut Self {
        self.item(&[18, self.batch])
    }

    /// A record of integers.
    pub(crate) fn item(&mut self, of: &[u64]) -> &mut Self {
        let mut w = Writer::new();
        w.array(of.len() + 1);
        of.iter().for_each(|n| {
            w.uint(*n);
        });
        self.push(w)
    }

    /// What follows is of the next batch.
    pub(crate) fn sync(&mut self) -> &mut Self {
        self.batch = self.bytes.len() as u64;
        self
    }

    pub(crate) fn batch(&mut self, batch: u64) -> &mut Self {
        self.batch = batch;
        self
    }

    fn push(&mut self, mut w: Writer) -> &mut Self {
        let mut sum = self.number.to_be_bytes().to_vec();
        sum.extend_from_slice(&(self.bytes.len() as u64).to_be_bytes());
        sum.extend_from_slice(w.as_slice());
        w.bytes(&crc32c::crc32c(&sum).to_be_bytes());
        self.bytes.extend_from_slice(w.as_slice());
        self
    }
}

/// Where the header of a segment ends.
pub(crate) fn header_len(segment: &[u8]) -> usize {
    Reader::new(segment).item().unwrap().len()
}

/// Where the items of a segment end, the header's end first; and that each has its checksum.
pub(crate) fn record_ends(segment: &[u8], number: u64) -> Vec<usize> {
    let mut r = Reader::new(segment);
    let mut ends = Vec::new();
    while !r.is_at_end() {
        let start = r.position();
        let item = r.item().unwrap();
        let (content, crc) = item.split_at(item.len() - 4);
        let mut sum = number.to_be_bytes().to_vec();
        sum.extend_from_slice(&(start as u64).to_be_bytes());
        sum.extend_from_slice(&content[..content.len() - 1]);
        assert_eq!(crc, crc32c::crc32c(&sum).to_be_bytes(), "at {start}");
        ends.push(r.position());
    }
    ends
}
