//! A space's state at one index, in a file: what a node starts from, and what lets its log be
//! compacted.
//!
//! The file is a CBOR sequence (RFC 8742, grammar in `log.cddl`): a header that says which state it is,
//! the state in chunks, a footer with the BLAKE3 of all before it. What the chunks hold is their
//! writer's matter. Each chunk is numbered with the section that it belongs to and has a checksum, so
//! damage has an offset.
//!
//! A snapshot is written aside, synced, renamed, and its folder synced: [`Writer`]. A file with a
//! snapshot's name is therefore whole, unless the disk damaged it; then [`newest`] falls back to the
//! one before and says why. Only when [`Writer::finish`] has returned may the log be compacted.

mod format;
mod read;
mod write;

pub use self::read::{Chunk, Newest, Reader, Snapshot, adopt, list, newest, sweep};
pub use self::write::Writer;

use crate::log::disk::DiskError;
use crate::log::{Flaw, Position, SpaceId};
use bytes::Bytes;
use std::path::PathBuf;

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u64 = 4;
/// No chunk is longer than this, in bytes. Writers do well to stay near [`GOOD_CHUNK`].
pub const MAX_CHUNK: usize = 16 << 20;
/// A chunk of this length, in bytes, takes well under a millisecond to write.
pub const GOOD_CHUNK: usize = 64 << 10;
/// The members take no more than this, in bytes.
pub const MAX_MEMBERS: usize = 64 << 10;

/// Which state a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The space.
    pub space: SpaceId,
    /// How many commands have been applied.
    pub index: u64,
    /// The chain at that index.
    pub chain: [u8; 32],
    /// The last entry of Raft's log that has been applied.
    pub at: Position,
    /// Raft's members at that entry, as order writes them; at most [`MAX_MEMBERS`] bytes.
    pub members: Bytes,
}

/// Why a snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file is not what was written.
    #[error("{} is damaged at byte {offset}: {what}", file.display())]
    Damaged {
        /// The snapshot.
        file: PathBuf,
        /// Where the bad part begins.
        offset: u64,
        /// What is wrong there.
        what: Flaw,
    },
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The snapshot was written by another version of this program.
    #[error(
        "{} is of format {version}, and this Synod reads {VERSION}: use the Synod that wrote it",
        file.display()
    )]
    OtherVersion {
        /// The snapshot.
        file: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The snapshot is that of another space.
    #[error("{} belongs to another space", file.display())]
    OtherSpace {
        /// The snapshot.
        file: PathBuf,
        /// The space that it names.
        found: SpaceId,
    },
    /// A chunk or the members are longer than there may be.
    #[error("{len} bytes of {of}: there may be {bound} at most")]
    TooLong {
        /// What is too long.
        of: &'static str,
        /// How long it is, in bytes.
        len: usize,
        /// The bound.
        bound: usize,
    },
}
