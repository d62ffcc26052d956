//! Questions put to encoded terms, with no [`Term`] built: what the knowledge base asks of every
//! fact. All are total: bytes that are no encoded term give `None`, or `false`.
//!
//! [`Term`]: super::Term

use super::bytes::tag;
use crate::cbor::{Head, Reader};

/// The name and the number of arguments of a predicate that has this term for a fact: an atom's
/// (`[]` included) or a compound's. Numbers, variables and lists are no facts.
pub fn predicate(term: &[u8]) -> Option<(&str, usize)> {
    match open(term)? {
        Open::Atom(name) => Some((name, 0)),
        Open::Compound { name, arity, .. } => Some((name, arity)),
        Open::Cell | Open::Rational | Open::Other => None,
    }
}

/// The principal functor of a compound, as a call that is to unify with it knows it: every list
/// that has an item, strings and partial lists too, is a cell, `'.'/2`, and a rational is an
/// `rdiv/2`. `None` for what is atomic and for variables.
pub fn functor(term: &[u8]) -> Option<(&str, usize)> {
    match open(term)? {
        Open::Compound { name, arity, .. } => Some((name, arity)),
        Open::Cell => Some((".", 2)),
        Open::Rational => Some(("rdiv", 2)),
        Open::Atom(_) | Open::Other => None,
    }
}

/// The bytes of the `n`-th argument of a compound, counted from 1 as `arg/3` does; `None` beyond
/// the last, and for lists. The slice of a ground argument is that argument's canonical form; in
/// one with variables, these keep the numbers that they have in the whole term.
pub fn argument(term: &[u8], n: usize) -> Option<&[u8]> {
    arguments(term).nth(n.checked_sub(1)?)
}

/// The bytes of each argument of a compound, in order. Empty for anything else.
pub fn arguments(term: &[u8]) -> Arguments<'_> {
    match open(term) {
        Some(Open::Compound { args, .. }) => Arguments { args },
        _ => Arguments { args: Reader::new(&[]) },
    }
}

/// An iterator over encoded arguments.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    args: Reader<'a>,
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.args.item().ok()
    }
}

/// Whether no variable occurs. It reads heads only, in constant space.
pub fn is_ground(term: &[u8]) -> bool {
    let mut r = Reader::new(term);
    if r.is_at_end() {
        return false;
    }
    while !r.is_at_end() {
        let skipped = match r.head() {
            Ok(Head::Text(len) | Head::Bytes(len)) => r.take(len).is_ok(),
            // Nothing but a variable has null in it.
            Ok(Head::Simple(_)) | Err(_) => false,
            Ok(_) => true,
        };
        if !skipped {
            return false;
        }
    }
    true
}

/// Whether this is a variable.
pub fn is_variable(term: &[u8]) -> bool {
    term.starts_with(VARIABLE)
}

/// How every variable begins: tag 27 on an array of two, the first of them null.
const VARIABLE: &[u8] = &[0xd8, 27, 0x82, 0xf6];

enum Open<'a> {
    Atom(&'a str),
    /// `args` stands before the first argument.
    Compound {
        name: &'a str,
        arity: usize,
        args: Reader<'a>,
    },
    Cell,
    Rational,
    Other,
}

fn open(term: &[u8]) -> Option<Open<'_>> {
    let mut r = Reader::new(term);
    Some(match r.head().ok()? {
        Head::Tag(tag::OBJECT) => {
            let len = r.array().ok()?;
            if r.null() {
                return Some(Open::Other);
            }
            match (r.text().ok()?, len) {
                (".", 3) => Open::Cell,
                (_, 0 | 1) => return None,
                (name, len) => Open::Compound { name, arity: len - 1, args: r },
            }
        }
        Head::Tag(tag::IDENTIFIER) => Open::Atom(r.text().ok()?),
        Head::Tag(tag::RATIONAL) => Open::Rational,
        Head::Array(0) => Open::Atom("[]"),
        Head::Array(_) | Head::Text(_) => Open::Cell,
        _ => Open::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Term;
    use super::super::samples::term;
    use super::*;
    use proptest::prelude::*;

    fn bytes(term: &Term) -> Vec<u8> {
        term.encode().unwrap()
    }

    #[test]
    fn a_fact_tells_its_predicate_and_arguments() {
        let fact = bytes(&Term::structure("account", [Term::atom("alice"), Term::Integer(100)]));
        assert_eq!(predicate(&fact), Some(("account", 2)));
        assert_eq!(argument(&fact, 1), Some(&*bytes(&Term::atom("alice"))));
        assert_eq!(argument(&fact, 2), Some(&*bytes(&Term::Integer(100))));
        assert_eq!((argument(&fact, 0), argument(&fact, 3)), (None, None));
        assert!(is_ground(&fact));
        assert_eq!(predicate(&bytes(&Term::atom("halt"))), Some(("halt", 0)));
        assert_eq!(predicate(&bytes(&Term::Integer(1))), None);
    }

    #[test]
    fn lists_of_every_kind_are_cells() {
        let partial = Term::partial(vec![Term::atom("a")], Term::Var(7));
        for list in [Term::string("ab"), Term::list(vec![Term::Integer(1)]), partial] {
            assert_eq!(functor(&bytes(&list)), Some((".", 2)));
            assert_eq!(predicate(&bytes(&list)), None);
            assert_eq!(argument(&bytes(&list), 1), None);
        }
        assert_eq!(functor(&bytes(&Term::EMPTY)), None);
        assert_eq!(functor(&bytes(&Term::Var(0))), None);
        assert!(is_variable(&bytes(&Term::Var(9))));
    }

    proptest! {
        #[test]
        fn the_bytes_answer_as_the_term_does(term in term()) {
            let bytes = bytes(&term);
            prop_assert_eq!(is_ground(&bytes), term.is_ground());
            prop_assert_eq!(is_variable(&bytes), matches!(term, Term::Var(_)));
            prop_assert_eq!(predicate(&bytes), term.predicate());
            let name = match &term {
                Term::Rational(_) => Some(("rdiv", 2)),
                other => other.functor(),
            };
            prop_assert_eq!(functor(&bytes), name);
            if let Term::Compound(_, args) = &term {
                prop_assert_eq!(arguments(&bytes).count(), args.len());
                for (n, arg) in args.iter().enumerate().filter(|(_, arg)| arg.is_ground()) {
                    prop_assert_eq!(argument(&bytes, n + 1), Some(&*arg.encode().unwrap()));
                }
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (predicate(&bytes), functor(&bytes), argument(&bytes, 2), is_ground(&bytes));
        }
    }
}
