//! Walking a whole term: copying, comparing, looking for variables. Loops, not recursion, because
//! what the compiler would derive needs 3 MiB of stack at [`MAX_DEPTH`] in a debug build.
//!
//! [`MAX_DEPTH`]: super::MAX_DEPTH

use super::Term;
use std::{iter, mem, slice};

/// See [`Term::parts`].
type Parts<'a> = iter::Chain<slice::Iter<'a, Term>, std::option::IntoIter<&'a Term>>;

impl Term {
    /// Arguments of a compound, items of a list; of a partial list the items, then the tail.
    pub fn parts(&self) -> impl Iterator<Item = &Self> + Clone {
        self.all_parts()
    }

    /// Whether no variable occurs.
    pub fn is_ground(&self) -> bool {
        let mut pending = vec![];
        let mut next = Some(self);
        while let Some(term) = next {
            if matches!(term, Self::Var(_)) {
                return false;
            }
            pending.extend(term.all_parts());
            next = pending.pop();
        }
        true
    }

    fn all_parts(&self) -> Parts<'_> {
        let (parts, tail): (&[Self], Option<&Self>) = match self {
            Self::List(parts) | Self::Compound(_, parts) => (parts, None),
            Self::Partial(items, tail) => (items, Some(tail)),
            _ => (&[], None),
        };
        parts.iter().chain(tail)
    }

    /// A copy of a term that has no parts.
    fn leaf(&self) -> Option<Self> {
        Some(match self {
            Self::Integer(n) => Self::Integer(*n),
            Self::Big(n) => Self::Big(n.clone()),
            Self::Rational(r) => Self::Rational(r.clone()),
            Self::Float(f) => Self::Float(*f),
            Self::Atom(name) => Self::Atom(name.clone()),
            Self::String(text) => Self::String(text.clone()),
            Self::Var(n) => Self::Var(*n),
            Self::List(items) if items.is_empty() => Self::EMPTY,
            Self::List(_) | Self::Partial(..) | Self::Compound(..) => return None,
        })
    }
}

/// A term of which some parts have been copied.
struct Copying<'a> {
    of: &'a Term,
    left: Parts<'a>,
    done: Vec<Term>,
}

impl<'a> Copying<'a> {
    fn new(of: &'a Term) -> Self {
        let left = of.all_parts();
        Self { of, done: Vec::with_capacity(left.clone().count()), left }
    }

    fn finish(mut self) -> Term {
        match self.of {
            Term::Compound(name, _) => Term::Compound(name.clone(), self.done),
            Term::Partial(..) => {
                let tail = self.done.pop().unwrap_or(Term::EMPTY);
                Term::Partial(self.done, Box::new(tail))
            }
            _ => Term::List(self.done),
        }
    }
}

impl Clone for Term {
    fn clone(&self) -> Self {
        if let Some(copy) = self.leaf() {
            return copy;
        }
        let mut outer = Vec::new();
        let mut open = Copying::new(self);
        loop {
            let copy = match open.left.next() {
                Some(part) => match part.leaf() {
                    Some(copy) => copy,
                    None => {
                        outer.push(mem::replace(&mut open, Copying::new(part)));
                        continue;
                    }
                },
                None => match outer.pop() {
                    Some(next) => mem::replace(&mut open, next).finish(),
                    None => return open.finish(),
                },
            };
            open.done.push(copy);
        }
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        let mut pending = Vec::new();
        let mut next = Some((self, other));
        while let Some((a, b)) = next {
            let alike = match (a, b) {
                (Self::Integer(a), Self::Integer(b)) => a == b,
                (Self::Big(a), Self::Big(b)) => a == b,
                (Self::Rational(a), Self::Rational(b)) => a == b,
                (Self::Float(a), Self::Float(b)) => a == b,
                (Self::Atom(a), Self::Atom(b)) | (Self::String(a), Self::String(b)) => a == b,
                (Self::Var(a), Self::Var(b)) => a == b,
                (Self::List(a), Self::List(b)) => a.len() == b.len(),
                (Self::Partial(a, _), Self::Partial(b, _)) => a.len() == b.len(),
                (Self::Compound(f, a), Self::Compound(g, b)) => f == g && a.len() == b.len(),
                _ => false,
            };
            if !alike {
                return false;
            }
            pending.extend(a.all_parts().zip(b.all_parts()));
            next = pending.pop();
        }
        true
    }
}

// Sound because no constructor lets NaN in.
impl Eq for Term {}

#[cfg(test)]
mod tests {
    use super::super::samples::term;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_copy_is_equal_and_another_term_is_not(a in term(), b in term()) {
            prop_assert_eq!(&a.clone(), &a);
            prop_assert_eq!(a == b, format!("{a:?}") == format!("{b:?}"));
        }
    }
}
