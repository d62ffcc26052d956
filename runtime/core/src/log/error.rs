//! What may go wrong with a log that is being written, an enum for each operation.

use super::disk::DiskError;
use super::{HardState, MAX_KIND, MAX_PAYLOAD};

/// Why something cannot be appended. Nothing of it has been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The entry's kind is larger than [`MAX_KIND`].
    #[error("entry {index} is of kind {kind}: there are none above {MAX_KIND}")]
    Kind {
        /// The entry.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// An entry leaves a gap, goes back in terms, or supersedes one that is committed.
    #[error("entry {found} cannot follow {last}, with {commit} committed")]
    OutOfOrder {
        /// The index of the entry.
        found: u64,
        /// The last index.
        last: u64,
        /// What is committed.
        commit: u64,
    },
    /// Too much waits to be written; [`Log::sync`](super::Log::sync) first.
    #[error("{waiting} bytes wait to be written: there is room for {room} at most")]
    PendingFull {
        /// How much waits, in bytes.
        waiting: usize,
        /// [`Limits::pending_bytes`](super::Limits::pending_bytes).
        room: usize,
    },
    /// The hard state goes back, or counts as committed what the log does not hold.
    #[error("the hard state {found:?} cannot follow {was:?}, with {last} the last entry")]
    State {
        /// The new one.
        found: HardState,
        /// The one before.
        was: HardState,
        /// The last index.
        last: u64,
    },
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("entry {index} holds {len} bytes: there may be {MAX_PAYLOAD} at most")]
    TooLong {
        /// The entry.
        index: u64,
        /// How long its payload is, in bytes.
        len: usize,
    },
}

/// Why what was appended is not safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The disk is full. Nothing half-written is left, and what was appended still waits: another
    /// [`Log::sync`](super::Log::sync) writes it when there is room.
    #[error("nothing was written: {0}")]
    Full(DiskError),
    /// The disk failed, so nobody knows what it holds. The process must end; every later call
    /// answers the same.
    #[error("the log cannot go on: {0}")]
    Failed(DiskError),
}

/// Why no segments can be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// A segment cannot be removed. It is part of the log still.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was appended before is not safe.
    #[error(transparent)]
    Sync(#[from] SyncError),
}
