//! Heads: where a voter says, and signs, that the log of its space had come to.
//!
//! ```text
//! head = [1, space: bstr .size 32, generation, term, entry, index, time, chain: bstr .size 32,
//!         said, voter: bstr, signature: bstr]
//! ```
//! `said` is the voter's clock, in microseconds since 1970 (UTC), and higher in each of its heads: what is said
//! again by others is not taken for new. `term` and `entry` are Raft's position of the last entry, `index`, `time` and `chain` the place that
//! its commands lead to. Whoever stands before that place and has what lies between can tell whether
//! it is what the voter has, for only that links to the chain.

use crate::apply::Chain;
use crate::cbor::{Error, Reader, Writer};
use crate::command::MAX_SIGNATURE_BYTES;
use crate::log::Position;
use bytes::Bytes;

/// The version of a head; another one is refused.
const VERSION: u64 = 1;
/// What a signature is over begins with this, so that no other signature can be taken for one.
const PURPOSE: &str = "synod head 1";
/// Bytes of a voter's id in the network, at most.
const MAX_PEER_BYTES: usize = 128;

/// A place in a log of Raft's, and in the history that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The last entry.
    pub at: Position,
    /// What its commands lead to.
    pub chain: Chain,
}

/// What a voter signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The space.
    pub space: [u8; 32],
    /// How often the space was recovered by hand.
    pub generation: u64,
    /// Where the log had come to.
    pub place: Place,
    /// When the voter said so: higher in each of its heads.
    pub said: u64,
    /// The voter's id in the network.
    pub voter: Bytes,
    /// Its signature of [`Head::statement`].
    pub signature: Bytes,
}

impl Head {
    /// One that is yet to be signed.
    pub fn new(space: [u8; 32], generation: u64, place: Place, said: u64, voter: Bytes) -> Self {
        Self { space, generation, place, said, voter, signature: Bytes::new() }
    }

    /// What the voter signs.
    pub fn statement(&self) -> Vec<u8> {
        let Place { at, chain } = &self.place;
        let mut w = Writer::new();
        w.array(9).text(PURPOSE).bytes(&self.space).uint(self.generation);
        w.uint(at.term).uint(at.index).uint(chain.index).uint(chain.time).bytes(&chain.hash);
        w.uint(self.said);
        w.into_vec()
    }

    /// Writes it.
    pub fn write(&self, w: &mut Writer) {
        let Place { at, chain } = &self.place;
        w.array(11).uint(VERSION).bytes(&self.space).uint(self.generation);
        w.uint(at.term).uint(at.index).uint(chain.index).uint(chain.time).bytes(&chain.hash);
        w.uint(self.said).bytes(&self.voter).bytes(&self.signature);
    }

    /// Reads one.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        r.array_of(11)?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of heads"));
        }
        let (space, generation) = (r.fixed()?, r.uint()?);
        let at = Position { term: r.uint()?, index: r.uint()? };
        let chain = Chain { index: r.uint()?, time: r.uint()?, hash: r.fixed()? };
        let (said, voter, signature) = (r.uint()?, r.bytes()?, r.bytes()?);
        if voter.len() > MAX_PEER_BYTES || signature.len() > MAX_SIGNATURE_BYTES {
            return Err(r.invalid("a voter's id or a signature that is too long"));
        }
        let voter = Bytes::copy_from_slice(voter);
        let signature = Bytes::copy_from_slice(signature);
        Ok(Self { space, generation, place: Place { at, chain }, said, voter, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_these_bytes_and_comes_back() {
        let place = Place {
            at: Position { term: 2, index: 300 },
            chain: Chain { index: 7, time: 9, hash: [3; 32] },
        };
        let mut head = Head::new([1; 32], 4, place, 5, "voter".into());
        head.signature = "signed".into();
        let mut w = Writer::new();
        head.write(&mut w);
        let hex: String = w.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = format!(
            "8b015820{}040219012c07095820{}0545766f746572467369676e6564",
            "01".repeat(32),
            "03".repeat(32)
        );
        assert_eq!(hex, golden);
        assert_eq!(Head::read(&mut Reader::new(w.as_slice())).unwrap(), head);
        for cut in 0..w.len() {
            assert!(Head::read(&mut Reader::new(&w.as_slice()[..cut])).is_err(), "{cut}");
        }
        head.voter = vec![0; MAX_PEER_BYTES + 1].into();
        let mut w = Writer::new();
        head.write(&mut w);
        assert!(Head::read(&mut Reader::new(w.as_slice())).is_err());
    }

    #[test]
    fn what_is_signed_tells_places_spaces_and_generations_apart() {
        let place = |index, hash| Place {
            at: Position { term: 1, index: 5 },
            chain: Chain { index, time: 0, hash: [hash; 32] },
        };
        let head = |space, generation, place, said| {
            Head::new([space; 32], generation, place, said, Bytes::new())
        };
        let all = [
            head(1, 0, place(1, 1), 0),
            head(2, 0, place(1, 1), 0),
            head(1, 1, place(1, 1), 0),
            head(1, 0, place(2, 1), 0),
            head(1, 0, place(1, 2), 0),
            head(1, 0, place(1, 1), 1),
        ];
        let mut statements: Vec<_> = all.iter().map(Head::statement).collect();
        statements.sort();
        statements.dedup();
        assert_eq!(statements.len(), all.len());
    }
}
