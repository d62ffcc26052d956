//! Terms as the text that goes to the machine and comes from it.

use synod_core::term::Term;
use synod_core::term::text::{self, Dialect, WriteOptions};

/// What the machine wrote. It writes canonically, so that the text tells of every term but a cyclic
/// one, which was checked before.
pub(super) fn read(text: &str) -> Result<Term, text::SyntaxError> {
    text::read(text, Dialect::Scryer)
}

/// Appends a term that the machine reads back as the same.
pub(super) fn write(term: &Term, out: &mut String) {
    text::write(term, out, WriteOptions::default());
}
