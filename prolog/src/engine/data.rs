//! `library(cbor)`: the data codec, for CBOR that others made.

use super::errors::{self, Ball};
use synod_core::term::{Term, data};

/// `cbor_term/2` from bytes: a string of the characters 0 to 255.
pub(super) fn decode(bytes: &Term) -> Result<Term, Ball> {
    let bytes = bytes_of(bytes)?;
    data::decode(&bytes).map_err(|error| {
        let what = Term::structure("cbor", [Term::string(error.to_string())]);
        errors::error(Term::structure("syntax_error", [what]))
    })
}

/// `cbor_term/2` to bytes.
pub(super) fn encode(term: &Term) -> Result<Term, Ball> {
    let bytes = data::encode(term)
        .map_err(|error| errors::domain("cbor", Term::string(error.to_string())))?;
    Ok(Term::string(bytes.iter().map(|byte| char::from(*byte)).collect::<String>()))
}

fn bytes_of(chars: &Term) -> Result<Vec<u8>, Ball> {
    let text = match chars {
        Term::String(text) => &**text,
        Term::List(items) if items.is_empty() => "",
        other => return Err(errors::domain("bytes", other.clone())),
    };
    let byte =
        |c: char| u8::try_from(u32::from(c)).map_err(|_| errors::domain("bytes", chars.clone()));
    text.chars().map(byte).collect()
}
