//! What is in a request: its arguments, as Rust has them, and what makes one unreadable.

use crate::engine::errors::{self, Ball};
use synod_core::term::Term;

pub(super) fn with_variables_from(term: Term, first: u32) -> Term {
    let mut term = term;
    let mut pending = vec![&mut term];
    while let Some(term) = pending.pop() {
        match term {
            Term::Var(n) => *n = n.wrapping_add(first),
            Term::List(items) | Term::Compound(_, items) => pending.extend(items),
            Term::Partial(items, tail) => {
                pending.extend(items);
                pending.push(tail);
            }
            _ => {}
        }
    }
    term
}

pub(super) fn decoded(bytes: &[u8]) -> Result<Term, Ball> {
    Term::decode(bytes).map_err(|error| errors::system(format!("no term from the node: {error}")))
}

pub(super) fn unknown(name: &str) -> Ball {
    errors::existence("host_call", Term::atom(name))
}

/// Whether `...` stands in a request outside of quotes: the machine writes it for what a cycle goes
/// on with, and it is an atom too.
pub(super) fn may_be_cyclic(request: &[u8]) -> bool {
    if !request.windows(3).any(|part| part == b"...") {
        return false;
    }
    let mut at = 0;
    while at < request.len() {
        match request[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < request.len() && request[at] != quote {
                    at += if request[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'.' if request[at..].starts_with(b"...") => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

pub(super) fn unreadable(error: &synod_core::term::text::SyntaxError) -> Ball {
    use synod_core::term::text::Fault;
    match error.what {
        Fault::TooLong | Fault::TooDeep => errors::resource("term_size"),
        _ => errors::system(format!("a request cannot be read: {error}")),
    }
}

/// The text of an atom or a string.
pub(in crate::engine) fn chars(term: &Term) -> String {
    match term {
        Term::Atom(text) | Term::String(text) => text.to_string(),
        _ => String::new(),
    }
}

/// A number that the machine got from here, or that its library has checked.
pub(in crate::engine) fn number(term: &Term) -> Result<u64, Ball> {
    match term {
        Term::Integer(n) => u64::try_from(*n).ok(),
        Term::Big(n) => u64::try_from(n).ok(),
        _ => None,
    }
    .ok_or_else(|| errors::domain("not_less_than_zero", term.clone()))
}

pub(super) fn signed(term: &Term) -> Result<i64, Ball> {
    match term {
        Term::Integer(n) => Ok(*n),
        _ => Err(errors::domain("small_integer", term.clone())),
    }
}

pub(super) fn index(term: &Term) -> Result<usize, Ball> {
    number(term).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

pub(in crate::engine) fn arity_of(term: &Term) -> Result<u32, Ball> {
    number(term).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

pub(super) fn is_true(term: &Term) -> bool {
    matches!(term, Term::Atom(name) if &**name == "true")
}

/// Refuses a term of more than so many bytes, by the name of the bound.
pub(super) fn bounded(term: &[u8], bound: usize, name: &str) -> Result<(), Ball> {
    if term.len() > bound { Err(errors::resource(name)) } else { Ok(()) }
}
