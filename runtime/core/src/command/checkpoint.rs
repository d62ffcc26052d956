//! What most voters agree that the log leads to.

use super::MAX_PEER_BYTES;
use super::codec::array_up_to;
use crate::cbor::{Error, Reader, What, Writer};
use crate::group::Mark;
use crate::order::MAX_VOTERS;
use bytes::Bytes;

/// Bytes of a signature, at most.
pub const MAX_SIGNATURE_BYTES: usize = 128;

/// A majority's word on the state at an index, as it was a little before this command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The generation of the space in which they signed.
    pub generation: u64,
    /// Where, and what.
    pub mark: Mark,
    /// Theirs, by member; [`statement`](crate::group::statement) is what they are over.
    pub signatures: Vec<Signature>,
}

/// A voter's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The voter.
    pub member: u64,
    /// Its id in the network, which holds the key.
    pub peer: Bytes,
    /// The signature itself.
    pub bytes: Bytes,
}

impl Checkpoint {
    /// Whether these bytes may be a checkpoint's: cheap, for who looks for one among many commands.
    pub fn is_likely(command: &[u8]) -> bool {
        command.starts_with(&[0x86, super::codec::CHECKPOINT as u8])
    }

    /// Appends five items.
    pub(crate) fn write(&self, w: &mut Writer) {
        let Mark { index, chain, digest } = &self.mark;
        w.uint(self.generation).uint(*index).bytes(chain).bytes(digest);
        w.array(self.signatures.len());
        for Signature { member, peer, bytes } in &self.signatures {
            w.array(3).uint(*member).bytes(peer).bytes(bytes);
        }
    }

    /// Reads what [`Checkpoint::write`] wrote.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        let generation = r.uint()?;
        let mark = Mark { index: r.uint()?, chain: r.fixed()?, digest: r.fixed()? };
        let len = array_up_to(r, MAX_VOTERS, "signatures")?;
        let mut signatures: Vec<Signature> = Vec::with_capacity(len);
        for _ in 0..len {
            r.array_of(3)?;
            let member = r.uint()?;
            if signatures.last().is_some_and(|last| last.member >= member) {
                return Err(r.invalid("members that do not ascend"));
            }
            let peer = bounded(r, MAX_PEER_BYTES, "bytes of a peer's id")?;
            let bytes = bounded(r, MAX_SIGNATURE_BYTES, "bytes of a signature")?;
            signatures.push(Signature { member, peer, bytes });
        }
        Ok(Self { generation, mark, signatures })
    }
}

/// A copy, so that it does not keep what it was read from in memory.
fn bounded(r: &mut Reader<'_>, bound: usize, of: &'static str) -> Result<Bytes, Error> {
    let at = r.position();
    let bytes = r.bytes()?;
    if bytes.len() > bound {
        return Err(Error { at, what: What::TooMany { bound, of } });
    }
    Ok(Bytes::copy_from_slice(bytes))
}
