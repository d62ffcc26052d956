//! Terms as text: read, written canonically for Scryer, and written for people.
//!
//! - [`read()`] takes what Scryer's writers print and what people type, under a fixed operator table.
//! - [`write()`] gives text that [`read()`] takes back as the same term. Without operators it is
//!   canonical: every atom quoted and every odd character escaped, so that Scryer reads the same
//!   term whatever operators a program has declared. With operators it is for people.
//! - [`write_encoded`] gives the same canonical text straight from a term's bytes.

mod canonical;
mod lex;
mod number;
mod operators;
mod quote;
mod read;
mod stack;
#[cfg(test)]
mod tests;
mod write;

pub use canonical::write_encoded;
pub use lex::{Fault, SyntaxError};
pub use read::{Read, read, read_named};
pub use write::{WriteOptions, write};

/// Whose syntax it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Scryer's, and ISO's.
    Scryer,
    /// SWI-Prolog's, version 7 and later. Read: rationals `1r3`, its own escapes and symbols; a
    /// minus sign makes a number negative only if it touches it; dicts, special floats and `'.'/2`,
    /// which is no list there, are refused by name. Written: in ASCII alone.
    Swi,
}
