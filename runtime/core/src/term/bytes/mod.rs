//! The term codec: canonical bytes of a term and back.
//!
//! ```text
//! integer                 int, or tag 2/3 beyond 64 bits
//! float                   the shortest of the three widths that is exact
//! rational                tag 30 [n, d]
//! atom                    tag 39 on a text string;   [] is the empty array
//! string                  text string
//! list                    array
//! partial list            tag 27 [".", [item…], tail]
//! compound                tag 27 [name, argument…]
//! variable                tag 27 [null, n], numbered by first occurrence
//! ```
//!
//! It is injective and deterministic: equal terms have equal bytes, unequal ones unequal bytes,
//! and any byte string either decodes to a term that encodes to the same bytes or is refused.
//! A partial list cannot be taken for a compound `'.'/2`, which does not exist: it is a list cell.
//! Both ways are loops over a stack of their own, so depth costs memory, which [`MAX_DEPTH`]
//! bounds, and never the thread's stack. Nothing is reserved on the word of a head.
//!
//! [`MAX_DEPTH`]: super::MAX_DEPTH

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use super::{Term, TermError};
use crate::cbor::{Error, Reader, Writer};
pub(super) use decode::{decode_bignum, decode_integer};
pub(super) use encode::encode_integer;

/// Tags of RFC 8949 §3.4.3 and of the IANA registry that the codec uses.
pub(super) mod tag {
    pub(crate) const POSITIVE_BIGNUM: u64 = 2;
    pub(crate) const NEGATIVE_BIGNUM: u64 = 3;
    pub(crate) const OBJECT: u64 = 27;
    pub(crate) const RATIONAL: u64 = 30;
    pub(crate) const IDENTIFIER: u64 = 39;
}

impl Term {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TermError> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out)?;
        Ok(out)
    }

    /// Appends the canonical bytes to `out`, which an error leaves as it was.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), TermError> {
        let start = out.len();
        let mut writer = Writer::onto(std::mem::take(out));
        let done = encode::encode(self, &mut writer);
        *out = writer.into_vec();
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// The term that these bytes are the canonical form of.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let term = Self::decode_from(&mut reader)?;
        reader.end()?;
        Ok(term)
    }

    /// The term that stands next in `reader`.
    pub fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Error> {
        decode::decode(reader)
    }
}
