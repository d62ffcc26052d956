//! The bytes of a segment: one header, then records, each a CBOR item (`log.cddl` is the grammar).
//!
//! A record ends in a CRC-32C over the segment's number, the record's offset in its file, and the
//! record's bytes up to the checksum; one that was copied to another place does not pass. Each record
//! names its *batch*: how much of its file was safe on the disk when the record was written. So a
//! valid record proves that everything before its batch had been there once, and recovery can tell
//! damage from a write that a crash cut short.

use super::{Entry, HardState, MAX_KIND, MAX_PAYLOAD, Position, SpaceId};
use crate::cbor::{self, Head, Reader, Writer};
use std::ops::Range;

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u64 = 4;
/// The tag that tells CBOR from other files (RFC 8949 §3.4.6).
pub const SELF_DESCRIBED: u64 = 55_799;
/// No header is longer than this, in bytes: the fixed part, and six integers of nine bytes.
pub(super) const MAX_HEADER: usize = 128;
/// What a record takes besides its payload, at most: seven heads of nine bytes and the checksum.
pub(super) const MAX_OVERHEAD: usize = 72;
/// No record is longer than this, in bytes.
pub(super) const MAX_RECORD: usize = MAX_PAYLOAD + MAX_OVERHEAD;

const MAGIC: &str = "synod-log";
const HEADER_ITEMS: usize = 11;
const HARD_STATE: u64 = MAX_KIND as u64 + 1;
const RESTART: u64 = HARD_STATE + 1;
const CLOSED: u64 = RESTART + 1;
/// The checksum as an item: its head and four bytes.
const CRC_ITEM: usize = 5;

/// What is wrong with a part of a segment, or of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The record says that less was safe than an earlier one said.
    #[error("a record's batch does not fit its place")]
    Batch,
    /// The bytes do not carry the checksum that they end in.
    #[error("the checksum does not fit")]
    Checksum,
    /// The hard state counts as committed what the log does not hold.
    #[error("entries up to {commit} are committed, but the log ends at {last}")]
    Commit {
        /// The last committed index.
        commit: u64,
        /// The last index that there is.
        last: u64,
    },
    /// All checksums fit, but not the digest of the whole.
    #[error("the digest does not fit")]
    Digest,
    /// The bytes end inside an item, or before the last one.
    #[error("the file ends too early")]
    Ends,
    /// The segment is not as long as it was when the next one was begun.
    #[error("the file holds {found} bytes, but the next segment was begun after {expected}")]
    Length {
        /// What the next segment says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The bytes are not CBOR as it is written here.
    #[error("{0}")]
    NotCbor(cbor::What),
    /// The bytes are CBOR, but not the header of such a file.
    #[error("not the header of such a file")]
    NotAHeader,
    /// The bytes are CBOR, but no record.
    #[error("not a record")]
    NotARecord,
    /// The header belongs to another segment than the file's name says.
    #[error("the header is that of segment {0}")]
    OtherSegment(u64),
    /// An entry stands where another is due.
    #[error("entry {found} stands where {due} is due")]
    OutOfOrder {
        /// The next index.
        due: u64,
        /// The index that was found.
        found: u64,
    },
    /// The payload is longer than any that is written.
    #[error("a payload of {0} bytes")]
    TooLong(usize),
}

impl Flaw {
    /// Whether the item has its checksum: it was written as it stands, and no crash made it so.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Batch | Self::OtherSegment(_) | Self::OutOfOrder { .. })
    }
}

/// What stands at the start of each segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) space: SpaceId,
    /// Segments of a log are numbered without gaps, from 1.
    pub(super) number: u64,
    /// How long the segment before this one is, in bytes.
    pub(super) previous: u64,
    /// The last entry before this segment.
    pub(super) after: Position,
    /// The hard state before this segment: so none is lost when older ones are removed.
    pub(super) hard_state: HardState,
}

/// Why a header is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFlaw {
    OtherVersion(u64),
    Flaw(Flaw),
}

/// A record, with its payload as a range of the bytes that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry { kind: u8, at: Position, data: Range<usize> },
    HardState(HardState),
    Restart(Position),
    Closed,
}

/// A record with what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) record: Record,
    pub(super) batch: u64,
    /// How many bytes it takes.
    pub(super) len: usize,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.tag(SELF_DESCRIBED).array(HEADER_ITEMS).text(MAGIC).uint(VERSION).bytes(&self.space);
        w.uint(self.number).uint(self.previous);
        w.uint(self.after.index).uint(self.after.term);
        let HardState { term, vote, commit } = self.hard_state;
        w.uint(term).uint(vote).uint(commit);
        let mut out = w.into_vec();
        seal(&mut out, 0, self.number, 0);
        out
    }

    /// Reads the header that stands at the start of `input`, and says how long it is.
    pub(super) fn parse(input: &[u8], number: u64) -> Result<(Self, usize), HeaderFlaw> {
        let mut r = Reader::new(input);
        magic(&mut r, MAGIC, HEADER_ITEMS, VERSION)?;
        let header = Self::parse_rest(&mut r)?;
        let len = check(input, r.position(), header.number, 0)?;
        if header.number != number {
            return Err(Flaw::OtherSegment(header.number).into());
        }
        Ok((header, len))
    }

    fn parse_rest(r: &mut Reader<'_>) -> Result<Self, cbor::Error> {
        let space = r.fixed()?;
        let (number, previous) = (r.uint()?, r.uint()?);
        let after = Position { index: r.uint()?, term: r.uint()? };
        let hard_state = HardState { term: r.uint()?, vote: r.uint()?, commit: r.uint()? };
        Ok(Self { space, number, previous, after, hard_state })
    }
}

/// Where records are about to be written: at the end of what is safe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of the segment.
    pub(super) number: u64,
    /// How much of the segment is safe.
    pub(super) batch: u64,
}

impl Place {
    /// Appends an entry to `out`, which holds the batch so far.
    pub(super) fn entry(self, out: &mut Vec<u8>, entry: &Entry) {
        let start = out.len();
        out.reserve(entry.data.len() + MAX_OVERHEAD);
        let mut w = Writer::onto(std::mem::take(out));
        w.array(6).uint(entry.kind.into()).uint(self.batch);
        w.uint(entry.term).uint(entry.index).bytes(&entry.data);
        self.close(out, w, start);
    }

    pub(super) fn hard_state(self, out: &mut Vec<u8>, state: HardState) {
        let start = out.len();
        let mut w = Writer::onto(std::mem::take(out));
        w.array(6).uint(HARD_STATE).uint(self.batch);
        w.uint(state.term).uint(state.vote).uint(state.commit);
        self.close(out, w, start);
    }

    pub(super) fn restart(self, out: &mut Vec<u8>, at: Position) {
        let start = out.len();
        let mut w = Writer::onto(std::mem::take(out));
        w.array(5).uint(RESTART).uint(self.batch).uint(at.term).uint(at.index);
        self.close(out, w, start);
    }

    pub(super) fn closed(self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut w = Writer::onto(std::mem::take(out));
        w.array(3).uint(CLOSED).uint(self.batch);
        self.close(out, w, start);
    }

    fn close(self, out: &mut Vec<u8>, w: Writer, start: usize) {
        *out = w.into_vec();
        seal(out, start, self.number, self.batch + start as u64);
    }
}

/// Reads the record that stands at the start of `input` and at `offset` of segment `number`.
/// [`Flaw::Ends`] means that a longer input might hold one.
pub(super) fn parse(input: &[u8], number: u64, offset: u64) -> Result<Parsed, Flaw> {
    let mut r = Reader::new(input);
    let (items, kind, batch) = (r.array()?, r.uint()?, r.uint()?);
    if batch > offset {
        return Err(Flaw::NotARecord);
    }
    let record = match (kind, items) {
        (HARD_STATE, 6) => {
            Record::HardState(HardState { term: r.uint()?, vote: r.uint()?, commit: r.uint()? })
        }
        (RESTART, 5) => Record::Restart(Position { term: r.uint()?, index: r.uint()? }),
        (CLOSED, 3) => Record::Closed,
        (kind, 6) if kind <= MAX_KIND.into() => {
            let at = Position { term: r.uint()?, index: r.uint()? };
            let Head::Bytes(len) = r.head()? else { return Err(Flaw::NotARecord) };
            if len > MAX_PAYLOAD {
                return Err(Flaw::TooLong(len));
            }
            let start = r.position();
            r.take(len)?;
            Record::Entry { kind: kind as u8, at, data: start..start + len }
        }
        _ => return Err(Flaw::NotARecord),
    };
    let len = check(input, r.position(), number, offset)?;
    Ok(Parsed { record, batch, len })
}

/// How much of its file was safe when the record at the start of `input` was written, if what stands
/// there looks like a record at all. It costs nothing compared to a checksum.
pub(super) fn glance(input: &[u8]) -> Option<u64> {
    // An array of three, five or six: most bytes are told from one by this alone.
    if !matches!(input.first(), Some(0x83 | 0x85 | 0x86)) {
        return None;
    }
    let mut r = Reader::new(input);
    let (_, kind, batch) = (r.array().ok()?, r.uint().ok()?, r.uint().ok()?);
    (kind <= CLOSED).then_some(batch)
}

/// Reads what every file begins with, up to its version.
pub(crate) fn magic(
    r: &mut Reader<'_>,
    name: &str,
    items: usize,
    version: u64,
) -> Result<(), HeaderFlaw> {
    r.tag(SELF_DESCRIBED)?;
    let found_items = r.array()?;
    if r.text()? != name {
        return Err(Flaw::NotAHeader.into());
    }
    // Another version may be laid out otherwise: it is named before anything else is looked at.
    match r.uint()? {
        found if found != version => Err(HeaderFlaw::OtherVersion(found)),
        _ if found_items == items => Ok(()),
        _ => Err(Flaw::NotAHeader.into()),
    }
}

impl From<Flaw> for HeaderFlaw {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

impl From<cbor::Error> for HeaderFlaw {
    fn from(e: cbor::Error) -> Self {
        Self::Flaw(e.into())
    }
}

impl From<cbor::Error> for Flaw {
    fn from(e: cbor::Error) -> Self {
        match e.what {
            cbor::What::Truncated => Self::Ends,
            what => Self::NotCbor(what),
        }
    }
}

/// Appends the checksum of what stands in `out` from `start` on, and is going to stand at `offset` of
/// file `number`.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize, number: u64, offset: u64) {
    let crc = checksum(&out[start..], number, offset);
    out.push(0x44); // a byte string of four
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Checks the checksum that stands at `end` of `input`, and says where the record ends.
pub(crate) fn check(input: &[u8], end: usize, number: u64, offset: u64) -> Result<usize, Flaw> {
    let item = input.get(end..end + CRC_ITEM).ok_or(Flaw::Ends)?;
    let crc = checksum(&input[..end], number, offset).to_be_bytes();
    if item[0] == 0x44 && item[1..] == crc { Ok(end + CRC_ITEM) } else { Err(Flaw::Checksum) }
}

fn checksum(bytes: &[u8], number: u64, offset: u64) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&number.to_be_bytes());
    place[8..].copy_from_slice(&offset.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}
