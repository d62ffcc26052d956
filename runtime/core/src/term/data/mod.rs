//! The data codec: any CBOR (RFC 8949) that others made as a term, and back, for `library(cbor)`.
//!
//! ```text
//! integer, bignum        integer                  map            {K-V, …}; without pairs {}
//! float                  float                    tag            tag(T, X)
//! NaN, infinities        @not_a_number            simple value   simple(N)
//!                        @infinity                true, false    @true, @false
//!                        @negative_infinity       null           @null
//! byte string            bytes(Cs)                undefined      @undefined
//! text string            string                   tag 30 [n, d]  a rational, in lowest terms
//! array                  list
//! ```
//!
//! `Cs` is a string of characters 0 to 255. **The empty text string is the atom `''`**, because
//! `""` is `[]`, the empty array. Names are those of Logtalk's `cbor`.
//!
//! Reading takes what is well-formed: indefinite lengths, heads longer than need be, keys in any
//! order; it refuses a key that comes twice. Two items that mean the same may give one term
//! (a float of any width, a bignum that an int would hold); different ones give different terms,
//! but for −0.0, which Scryer does not have, and the payload of a NaN.
//!
//! Writing is deterministic (RFC 8949 §4.2.1): shortest heads, definite lengths, keys sorted by
//! their bytes. It takes a little more than reading gives: an atom is written as a text string,
//! and `bytes/1` may hold a list of integers.
//!
//! A map is nested as deep as it has pairs, so [`MAX_DEPTH`](super::MAX_DEPTH) bounds both.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_next};
pub use encode::{EncodeError, encode};

/// The most bytes of data that are read as one item or written as one.
pub const MAX_DATA_BYTES: usize = 16 << 20;
/// The most items in one, arrays, maps and tags among them.
pub const MAX_DATA_ITEMS: usize = 1 << 20;
/// How deep maps may stand in the keys of maps: each level is encoded to find keys that come
/// twice.
pub const MAX_KEY_DEPTH: usize = 16;

/// What the four values of `@` are called, by the number of their simple value.
const NAMED_SIMPLE: [(u8, &str); 4] =
    [(20, "false"), (21, "true"), (22, "null"), (23, "undefined")];
const NOT_A_NUMBER: &str = "not_a_number";
const INFINITY: &str = "infinity";
const NEGATIVE_INFINITY: &str = "negative_infinity";
