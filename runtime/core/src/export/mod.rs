//! A space's log as a file for others: what `synod log export` writes and other programs read.
//!
//! A CBOR sequence (RFC 8742; the grammar is `export.cddl`) of a header, one *envelope* a command, and an
//! end. Each envelope has its command's index and time and the first bytes of the chain there, so what
//! was changed, cut out, moved or left out is found at its own index; the end has the whole chain, so
//! what is missing at the end is found too. Who made it all up is found by the signatures of voters, which
//! are in the checkpoints among the commands: [`Signed`] looks for them.
//!
//! [`Writer`] makes the bytes, or seals what a [`Drafter`] has laid out. [`Parser`] takes them apart as
//! they come, in memory bounded by one item, whatever lengths they claim; [`Verifier`] follows the chain.
//! Both are two so that two threads may share the work; [`Reader`] is the latter two.

mod error;
mod parse;
mod signed;
mod verify;
mod write;

pub use error::{ExportError, Flaw};
pub use parse::{Envelope, Item, Parser};
pub use signed::{Forged, Signed, SignedEnd, Signer};
pub use verify::{Reader, Verifier};
pub use write::{Draft, Drafter, Writer};

use crate::apply::Chain;
use crate::command::{MAX_COMMAND_BYTES, MAX_NAME_BYTES};

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u64 = 2;
/// The media type of a CBOR sequence (RFC 8742 §6.1).
pub const MEDIA_TYPE: &str = "application/cbor-seq";
/// Bytes of the chain in each envelope.
pub const CHECK_BYTES: usize = 8;
/// No item is longer than this, in bytes: an envelope's heads, index, time and check come to 31.
pub const MAX_ITEM: usize = MAX_COMMAND_BYTES + 4096;

const MAGIC: &str = "synod-export";
const END: &str = "end";
/// Items of the header's array.
const HEADER_ITEMS: usize = 6;

/// What an export begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The space's id.
    pub space: [u8; 32],
    /// Its name on the node that exported it; at most [`MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// The index of the first envelope.
    pub first: u64,
    /// The chain before that.
    pub chain: [u8; 32],
}

impl Header {
    /// Of what lies behind a place in a space's log.
    pub fn behind(space: [u8; 32], name: &str, place: &Chain) -> Self {
        // As much of a name as fits.
        let name = name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned();
        Self { space, name, first: place.index.saturating_add(1), chain: place.hash }
    }

    /// Whether the export holds the space's log from its first command on.
    pub fn is_whole(&self) -> bool {
        self.first == 1
    }
}

/// What an export ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The last index.
    pub index: u64,
    /// The chain there.
    pub chain: [u8; 32],
}
