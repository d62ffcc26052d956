//! Whether a fact matches a goal: unification of two terms that share no variable, without its
//! result. A machine does the real one; this saves it the facts that cannot match, lets `retract/1`
//! take a fact away in the same host call that finds it, and answers whoever reads without a machine.

use crate::term::{Term, shape};

/// A goal, ready to be compared with facts.
#[derive(Clone, Debug)]
pub struct Pattern {
    goal: Term,
    /// Every argument is ground or a variable of its own: then what the knowledge base finds among
    /// ground facts matches, and need not be looked at.
    is_plain: bool,
}

impl Pattern {
    /// Of a goal, an atom or a compound.
    pub fn new(goal: Term) -> Self {
        let is_plain = match &goal {
            Term::Compound(_, args) => {
                let mut seen: Vec<u32> = Vec::new();
                args.iter().all(|arg| match arg {
                    Term::Var(n) if seen.contains(n) => false,
                    Term::Var(n) => {
                        seen.push(*n);
                        true
                    }
                    arg => arg.is_ground(),
                })
            }
            _ => true,
        };
        Self { goal, is_plain }
    }

    /// The same, for facts of which nothing is known but their predicate.
    pub fn exact(goal: Term) -> Self {
        Self { goal, is_plain: false }
    }

    /// Whether the encoded `fact`, which the knowledge base found for this goal, matches it. Where a
    /// list without an end meets another it may say so of one that does not.
    pub fn matches(&self, fact: &[u8]) -> bool {
        if self.is_plain && shape::is_ground(fact) {
            return true;
        }
        match Term::decode(fact) {
            Ok(fact) => Bindings::default().unify((&self.goal, Side::Goal), (&fact, Side::Fact)),
            Err(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Goal,
    Fact,
}

type Part<'a> = (&'a Term, Side);

#[derive(Debug, Default)]
struct Bindings<'a> {
    bound: Vec<((u32, Side), Part<'a>)>,
}

/// Comparisons after which two terms are taken to match: rational trees may go on for ever, and the
/// machine has the last word anyway.
const MAX_STEPS: usize = 100_000;

impl<'a> Bindings<'a> {
    fn unify(&mut self, a: Part<'a>, b: Part<'a>) -> bool {
        let mut pending = vec![(a, b)];
        // Lists are compared item by item, tails as what is left of the items.
        for _ in 0..MAX_STEPS {
            let Some((a, b)) = pending.pop() else { return true };
            let (a, b) = (self.resolve(a), self.resolve(b));
            match (a, b) {
                ((Term::Var(x), p), (Term::Var(y), q)) if (x, p) == (y, q) => {}
                ((Term::Var(x), p), b) => self.bound.push(((*x, p), b)),
                (a, (Term::Var(y), q)) => self.bound.push(((*y, q), a)),
                ((Term::Compound(f, xs), p), (Term::Compound(g, ys), q)) => {
                    if f != g || xs.len() != ys.len() {
                        return false;
                    }
                    pending.extend(xs.iter().zip(ys).map(|(x, y)| ((x, p), (y, q))));
                }
                ((Term::List(xs), p), (Term::List(ys), q)) => {
                    if xs.len() != ys.len() {
                        return false;
                    }
                    pending.extend(xs.iter().zip(ys).map(|(x, y)| ((x, p), (y, q))));
                }
                // What is left of two partial lists, or of one and a string, has no term of its
                // own here. The machine will tell.
                (
                    (Term::Partial(..), _),
                    (Term::Partial(..) | Term::List(_) | Term::String(_), _),
                )
                | ((Term::List(_) | Term::String(_), _), (Term::Partial(..), _))
                | ((Term::List(_), _), (Term::String(_), _))
                | ((Term::String(_), _), (Term::List(_), _)) => {
                    if !self.unify_lists(a, b, &mut pending) {
                        return false;
                    }
                }
                ((a, _), (b, _)) => {
                    if a != b {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Compares lists as far as both have items in hand. A tail that would have to be made up is
    /// taken to match, unless it is empty on one side and known not to be on the other.
    fn unify_lists(
        &self,
        a: Part<'a>,
        b: Part<'a>,
        pending: &mut Vec<(Part<'a>, Part<'a>)>,
    ) -> bool {
        let (xs, x_tail) = items(a.0);
        let (ys, y_tail) = items(b.0);
        match (xs, ys) {
            (Items::Terms(xs), Items::Terms(ys)) => {
                pending.extend(xs.iter().zip(ys).map(|(x, y)| ((x, a.1), (y, b.1))));
                let (longer, tail) = match xs.len().cmp(&ys.len()) {
                    std::cmp::Ordering::Less => (&ys[xs.len()..], x_tail.map(|t| (t, a.1))),
                    std::cmp::Ordering::Equal => {
                        match (x_tail, y_tail) {
                            (Some(x), Some(y)) => pending.push(((x, a.1), (y, b.1))),
                            (Some(t), None) => pending.push(((t, a.1), (&EMPTY, b.1))),
                            (None, Some(t)) => pending.push(((t, b.1), (&EMPTY, a.1))),
                            (None, None) => {}
                        }
                        return true;
                    }
                    std::cmp::Ordering::Greater => (&xs[ys.len()..], y_tail.map(|t| (t, b.1))),
                };
                debug_assert!(!longer.is_empty());
                tail.is_some_and(|tail| self.may_be_cell(tail))
            }
            (Items::Chars(text), Items::Terms(terms)) => {
                self.may_spell(text, terms, y_tail.map(|t| (t, b.1)))
            }
            (Items::Terms(terms), Items::Chars(text)) => {
                self.may_spell(text, terms, x_tail.map(|t| (t, a.1)))
            }
            (Items::Chars(x), Items::Chars(y)) => x == y,
        }
    }

    fn may_be_cell(&self, tail: Part<'a>) -> bool {
        match self.resolve(tail).0 {
            Term::List(items) => !items.is_empty(),
            Term::Var(_) | Term::String(_) | Term::Partial(..) => true,
            _ => false,
        }
    }

    fn may_spell(&self, text: &str, terms: &[Term], tail: Option<Part<'a>>) -> bool {
        let chars = text.chars().count();
        let fits = match tail {
            None => terms.len() == chars,
            Some(tail) if terms.len() < chars => self.may_be_cell(tail),
            Some(_) => terms.len() == chars,
        };
        fits && terms.iter().zip(text.chars()).all(|(term, c)| match term {
            Term::Var(_) => true,
            Term::Atom(name) => name.chars().eq([c]),
            _ => false,
        })
    }

    fn resolve(&self, mut part: Part<'a>) -> Part<'a> {
        // A chain of variables is at most as long as there are bindings.
        for _ in 0..=self.bound.len() {
            let Term::Var(n) = part.0 else { break };
            match self.bound.iter().find(|(var, _)| *var == (*n, part.1)) {
                Some((_, to)) => part = *to,
                None => break,
            }
        }
        part
    }
}

static EMPTY: Term = Term::EMPTY;

enum Items<'a> {
    Terms(&'a [Term]),
    Chars(&'a str),
}

fn items(list: &Term) -> (Items<'_>, Option<&Term>) {
    match list {
        Term::Partial(items, tail) => (Items::Terms(items), Some(tail)),
        Term::List(items) => (Items::Terms(items), None),
        Term::String(text) => (Items::Chars(text), None),
        _ => (Items::Terms(&[]), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(goal: Vec<Term>, fact: Vec<Term>) -> bool {
        let goal = Term::compound("p", goal).unwrap();
        let fact = Term::compound("p", fact).unwrap().encode().unwrap();
        Pattern::new(goal).matches(&fact)
    }

    fn a(name: &str) -> Term {
        Term::atom(name)
    }

    #[test]
    fn variables_match_anything_once_and_the_same_thing_twice() {
        let (x, y) = (|| Term::Var(0), || Term::Var(1));
        assert!(matches(vec![x(), y()], vec![a("a"), a("b")]));
        assert!(!matches(vec![x(), x()], vec![a("a"), a("b")]));
        assert!(matches(vec![x(), x()], vec![a("a"), a("a")]));
        // A fact's variables are its own.
        assert!(matches(vec![a("a"), x()], vec![x(), x()]));
        assert!(!matches(vec![a("a"), a("b")], vec![x(), x()]));
        assert!(matches(vec![x(), a("b")], vec![Term::structure("f", [x()]), y()]));
    }

    #[test]
    fn partly_bound_arguments_are_compared_inside() {
        let f = |arg| Term::structure("f", [arg]);
        assert!(matches(vec![f(Term::Var(0))], vec![f(a("a"))]));
        assert!(!matches(vec![f(Term::Var(0))], vec![Term::structure("g", [a("a")])]));
        assert!(!matches(vec![f(f(Term::Var(0)))], vec![f(a("a"))]));
    }

    #[test]
    fn lists_of_every_form_match_as_lists_do() {
        let list = |items: Vec<Term>| Term::list(items);
        let open = |items: Vec<Term>| Term::partial(items, Term::Var(7));
        assert!(matches(vec![open(vec![a("a")])], vec![Term::string("ab")]));
        assert!(matches(vec![open(vec![a("a")])], vec![Term::string("a")]));
        assert!(!matches(vec![open(vec![a("x")])], vec![Term::string("ab")]));
        assert!(!matches(vec![open(vec![a("a")])], vec![Term::EMPTY]));
        assert!(matches(vec![open(vec![Term::Integer(1)])], vec![list(vec![1.into(), 2.into()])]));
        assert!(!matches(vec![open(vec![1.into(), 2.into()])], vec![list(vec![1.into()])]));
        assert!(matches(
            vec![list(vec![Term::Var(0), 2.into()])],
            vec![list(vec![1.into(), 2.into()])]
        ));
        assert!(matches(vec![list(vec![Term::Var(0), a("b")])], vec![Term::string("ab")]));
        assert!(!matches(vec![list(vec![Term::Var(0)])], vec![Term::string("ab")]));
    }
}
