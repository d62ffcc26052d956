//! A space's log: Raft's storage and the history that users export, written once.
//!
//! A folder of *segments*, each a CBOR sequence (RFC 8742) of a header and records. The driver's part:
//!
//! 1. [`Log::create`] once, [`Log::open`] at every later start; look at what [`Recovered`] tells, and
//!    [`Log::install`] the snapshot to start from.
//! 2. [`Log::append`] whatever order wants to persist, as much as has queued: it only fills a buffer.
//! 3. [`Log::sync`]: one write and one `fdatasync` for all of it. Only then tell order `Persisted`.
//! 4. On [`SyncError::Full`] nothing is lost or half-written: make room, `sync` again. On
//!    [`SyncError::Failed`] end the process: what the disk holds is known only to the next `open`.
//! 5. [`Log::compact`] once a snapshot is safe, and as far as retention allows. [`Log::close`] at the
//!    end.
//!
//! Entries are opaque bytes here. An entry whose index has been there supersedes it and all above it.
//! A damaged log is refused, a torn one is cut and the cut is told; which is which is explained in
//! `recover`, the bytes in `record` and `log.cddl`.
//!
//! What it does not do: it keeps no entry in memory, it decides nothing, and it starts no thread.

pub mod disk;
mod error;
mod index;
mod read;
pub(crate) mod record;
mod recover;
pub(crate) mod scan;
mod write;

pub use self::error::{AppendError, CompactError, SyncError};
pub use self::index::SegmentInfo;
pub use self::read::{Entries, ReadError, Reader};
pub use self::record::{Flaw, SELF_DESCRIBED, VERSION};
pub use self::recover::{Cut, Damage, OpenError, Recovered};
pub use self::write::Log;

use self::disk::Disk;
use bytes::Bytes;
use std::path::Path;

/// No payload is longer than this, in bytes: as much as Raft leaves uncommitted.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// The largest [`Entry::kind`].
pub const MAX_KIND: u8 = 15;
/// How much is read at a time, in bytes. An entry that was read keeps so much in memory at most.
pub const READ_CHUNK: usize = 256 << 10;

/// What a space is known by: the hash of its genesis.
pub type SpaceId = [u8; 32];

/// A place in Raft's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The term of the entry there.
    pub term: u64,
    /// Its index; entries are counted from 1.
    pub index: u64,
}

impl Position {
    /// The index of the entry that follows.
    pub fn next(self) -> u64 {
        self.index.saturating_add(1)
    }

    /// Whether an entry at `next` may stand right behind one here.
    fn precedes(self, next: Self) -> bool {
        self.index.checked_add(1) == Some(next.index) && self.term <= next.term
    }
}

/// An entry of Raft's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader made it.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What order takes the data for; at most [`MAX_KIND`], and nothing to the log.
    pub kind: u8,
    /// The payload, at most [`MAX_PAYLOAD`] bytes.
    pub data: Bytes,
}

/// What a voter must remember besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that it has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: u64,
    /// The last index that it knows to be committed.
    pub commit: u64,
}

/// How large things may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A new segment is begun when one holds so much, in bytes; the batch that reaches it may pass it.
    pub segment_bytes: u64,
    /// So much may wait to be written, in bytes.
    pub pending_bytes: usize,
    /// So many zeros are written ahead of records, in bytes.
    pub ahead_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, pending_bytes: 64 << 20, ahead_bytes: 64 << 10 }
    }
}

impl HardState {
    /// A crash may have kept entries of a term and lost the hard state that went with them. Nobody
    /// was told of a vote in that term, or the hard state would have been safe.
    fn not_before(self, term: u64) -> Self {
        if term > self.term { Self { term, vote: 0, ..self } } else { self }
    }

    /// With all up to `index` committed.
    fn committed(self, index: u64) -> Self {
        Self { commit: self.commit.max(index), ..self }
    }
}

/// Reads and checks all of a log without changing anything, of any space if none is given: what is
/// [`Recovered`], which space it is, and a reader of its entries.
pub fn inspect<D: Disk>(
    disk: &D,
    dir: &Path,
    space: Option<SpaceId>,
) -> Result<(Recovered, SpaceId, Reader<D>), OpenError> {
    let found = recover::recover(disk, dir, space)?;
    let end = found.index.segments.last().map_or(0, |segment| segment.bytes);
    Ok((found.recovered, found.space, Reader::new(disk, dir, &found.index, end)))
}
