//! The datagrams of SWI-Prolog's `library(udp_broadcast)`: `%-prolog-`, a line break, and a term
//! in canonical text, in ISO-8859-1.
//!
//! Read, they may hold what Scryer has no term for, which is refused by name: dicts, infinities and
//! NaN, compounds without arguments, and `'.'/2`, which is no list there. Strings become strings
//! and SWI-Prolog's `[]` becomes `[]`, as its atom `'[]'` does: Scryer has one thing where it has
//! two. Text with operators is read under ISO's; SWI-Prolog writes none.
//!
//! Written, they are ASCII: a raw character beyond ISO-8859-1 cannot be sent, an escaped one can.
//! A datagram without the magic line may be anything (an application can replace the codec); it is
//! [`SwiError::NotSwi`], and to be carried as bytes.

use super::text::{self, Dialect, SyntaxError, WriteOptions};
use super::{Term, TermError};

/// How each datagram begins. (The library's documentation has it differently.)
const MAGIC: &[u8] = b"%-prolog-\n";

/// The most bytes of a datagram that the library receives.
pub const MAX_RECEIVED_BYTES: usize = 65_535;
/// The most bytes of one that IPv4 carries.
pub const MAX_SENT_BYTES: usize = 65_507;

/// A message of the library. Variables with the same number in both of its terms are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swi {
    /// `send(Term)`, to whoever listens.
    Send(Term),
    /// `request(Id, Term)`; whoever has a solution replies.
    Request {
        /// To be repeated in replies as it is.
        id: Term,
        /// The goal.
        term: Term,
    },
    /// `reply(Id, Term)`, one solution.
    Reply {
        /// The request's.
        id: Term,
        /// The goal, instantiated.
        term: Term,
    },
}

/// Why a datagram is no message, or a message no datagram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwiError {
    /// The magic line is missing.
    #[error("not in the form of SWI-Prolog's udp_broadcast")]
    NotSwi,
    /// The text is no term.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// The term is none of the three messages.
    #[error("neither send/1, request/2 nor reply/2")]
    NotAMessage,
    /// Longer than [`MAX_RECEIVED_BYTES`] or [`MAX_SENT_BYTES`].
    #[error("longer than a datagram")]
    TooLong,
    /// SWI-Prolog would read something else.
    #[error("'[|]'/2 is SWI-Prolog's list cell")]
    ListCell,
    /// Not to be built.
    #[error("{0}")]
    Term(#[from] TermError),
}

/// The message that a datagram holds.
pub fn read(datagram: &[u8]) -> Result<Swi, SwiError> {
    let text = datagram.strip_prefix(MAGIC).ok_or(SwiError::NotSwi)?;
    if datagram.len() > MAX_RECEIVED_BYTES {
        return Err(SwiError::TooLong);
    }
    // Each byte of ISO-8859-1 is the character of that number.
    let text: String = text.iter().map(|byte| char::from(*byte)).collect();
    let Term::Compound(name, args) = text::read(&text, Dialect::Swi)? else {
        return Err(SwiError::NotAMessage);
    };
    let mut args = args.into_iter();
    match (&*name, args.next(), args.next(), args.next()) {
        ("send", Some(term), None, _) => Ok(Swi::Send(term)),
        ("request", Some(id), Some(term), None) => Ok(Swi::Request { id, term }),
        ("reply", Some(id), Some(term), None) => Ok(Swi::Reply { id, term }),
        _ => Err(SwiError::NotAMessage),
    }
}

/// The datagram of a message.
pub fn write(message: &Swi) -> Result<Vec<u8>, SwiError> {
    let (name, terms) = match message {
        Swi::Send(term) => ("send", vec![term]),
        Swi::Request { id, term } => ("request", vec![id, term]),
        Swi::Reply { id, term } => ("reply", vec![id, term]),
    };
    let mut text = String::with_capacity(256);
    for (n, term) in terms.into_iter().enumerate() {
        if has_swi_cell(term) {
            return Err(SwiError::ListCell);
        }
        text.push_str(if n == 0 { name } else { "," });
        text.push_str(if n == 0 { "(" } else { "" });
        text::write(term, &mut text, WriteOptions::SWI);
    }
    text.push(')');
    if MAGIC.len() + text.len() > MAX_SENT_BYTES {
        return Err(SwiError::TooLong);
    }
    Ok([MAGIC, text.as_bytes()].concat())
}

fn has_swi_cell(term: &Term) -> bool {
    let mut pending = vec![term];
    while let Some(term) = pending.pop() {
        if matches!(term, Term::Compound(name, args) if &**name == "[|]" && args.len() == 2) {
            return true;
        }
        pending.extend(term.parts());
    }
    false
}

#[cfg(test)]
mod tests;
