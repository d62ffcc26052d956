//! Native copies: a predicate that is read far more often than it is written is kept as clauses of
//! the machine's own, in the module `synod_copy`, where a call costs no host call. Invisible but for
//! speed: a copy stands for the facts of the replica, is dropped at the first write to its predicate,
//! by whomever, and counts as read, whole, by every run that could read it.
//!
//! What the machine has to do for that, making a copy or dropping one, it does before it takes the
//! answer to the host call that brought it about: no goal of the program runs in between.

use std::collections::BTreeMap;
use synod_core::kb::{Indicator, Predicate};
use synod_core::term::{Term, shape};

/// Facts in all copies of an engine, at most.
const MAX_COPIED: usize = 50_000;
/// Facts whose first arguments the machine's own index cannot tell apart, at most.
const MAX_ALIKE: usize = 1024;
/// A copy of so many facts is worth one look-up more.
const FACTS_PER_LOOKUP: usize = 8;
/// How often the number of look-ups that are waited for doubles, at most: once each time a copy was
/// dropped.
const MAX_DOUBLINGS: u32 = 12;

/// What is known of each predicate, and what the machine has to do.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Look-ups that a predicate needs at least; 0 makes no copies.
    wait_for: u64,
    predicates: BTreeMap<Indicator, Copy>,
    /// Facts in copies.
    facts: usize,
    todo: Vec<Todo>,
}

#[derive(Debug, Default)]
struct Copy {
    /// Look-ups since the last write.
    lookups: u64,
    doublings: u32,
    /// Facts of the copy, if there is one or one is being made.
    facts: Option<usize>,
}

/// Something that the machine has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    Make(Indicator),
    Drop(Indicator),
}

impl Copies {
    /// Makes copies from now on, of predicates that were looked up so often since they were written.
    pub(super) fn start(&mut self, wait_for: u64) {
        self.wait_for = wait_for;
    }

    /// A predicate was looked up by its first argument.
    pub(super) fn looked_up(&mut self, indicator: &Indicator, predicate: Option<&Predicate>) {
        if self.wait_for == 0 {
            return;
        }
        let Some(copy) = self.predicates.get_mut(indicator) else {
            self.predicates.insert(indicator.clone(), Copy { lookups: 1, ..Copy::default() });
            return;
        };
        copy.lookups += 1;
        if copy.lookups < self.wait_for << copy.doublings || copy.facts.is_some() {
            return;
        }
        let facts = predicate.map_or(0, Predicate::len);
        if copy.lookups < ((facts / FACTS_PER_LOOKUP) as u64) << copy.doublings {
            return;
        }
        if self.facts + facts > MAX_COPIED || !predicate.is_none_or(is_told_apart) {
            copy.wait_longer();
            return;
        }
        copy.facts = Some(facts);
        self.facts += facts;
        self.todo.push(Todo::Make(indicator.clone()));
    }

    /// A predicate was written to, or may have been.
    pub(super) fn written(&mut self, indicator: &Indicator) {
        let Some(copy) = self.predicates.get_mut(indicator) else { return };
        copy.lookups = 0;
        if let Some(facts) = copy.facts.take() {
            self.facts -= facts;
            copy.wait_longer();
            self.todo.push(Todo::Drop(indicator.clone()));
        }
    }

    /// Nothing that was copied is what a goal is to see.
    pub(super) fn drop_all(&mut self) {
        for (indicator, copy) in &mut self.predicates {
            if copy.facts.take().is_some() {
                self.todo.push(Todo::Drop(indicator.clone()));
            }
        }
        self.facts = 0;
    }

    /// The predicates of which there are copies.
    pub(super) fn copied(&self) -> impl Iterator<Item = &Indicator> {
        self.predicates.iter().filter(|(_, copy)| copy.facts.is_some()).map(|(name, _)| name)
    }

    /// Takes what the machine has to do, as a term; none if there is nothing.
    pub(super) fn take_todo(&mut self) -> Option<Term> {
        if self.todo.is_empty() {
            return None;
        }
        let todo = self.todo.drain(..).map(|todo| {
            let (what, Indicator { name, arity }) = match &todo {
                Todo::Make(indicator) => ("make", indicator),
                Todo::Drop(indicator) => ("drop", indicator),
            };
            Term::structure(what, [Term::atom(&**name), Term::integer(u64::from(*arity))])
        });
        Some(Term::structure("@first", [Term::list(todo.collect())]))
    }
}

impl Copy {
    fn wait_longer(&mut self) {
        self.lookups = 0;
        self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
    }
}

/// Whether the machine's index on the first argument finds as little as ours does. It tells numbers
/// and atoms apart, and compounds by name and arity. Arguments that were declared as keys it does not
/// know.
fn is_told_apart(predicate: &Predicate) -> bool {
    if !predicate.declared().is_empty() {
        return false;
    }
    let mut alike: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut compounds: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    predicate.facts_after(None).all(|(_, fact)| {
        let Some(first) = shape::argument(&fact.bytes, 1) else { return false };
        let count = match shape::functor(first) {
            Some(functor) => compounds.entry(functor).or_default(),
            None => alike.entry(first).or_default(),
        };
        *count += 1;
        *count <= MAX_ALIKE && !shape::is_variable(first)
    })
}

/// The goal that reads a whole predicate.
pub(super) fn most_general(indicator: &Indicator) -> Term {
    let args: Vec<Term> = (0..indicator.arity).map(Term::Var).collect();
    match args.is_empty() {
        true => Term::atom(&*indicator.name),
        false => Term::Compound((&*indicator.name).into(), args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::kb::{End, Fact, Kb, Position};

    fn kb(facts: &[(u32, Term)]) -> Kb {
        let mut kb = Kb::new();
        for (n, first) in facts {
            let fact = Term::structure("p", [first.clone(), Term::integer(u64::from(*n))]);
            let id = Position { index: 1, n: *n };
            let fact = Fact { id, bytes: fact.encode().unwrap().into() };
            kb.assert(&Indicator::new("p", 2), End::Last, fact);
        }
        kb
    }

    fn look_up(copies: &mut Copies, kb: &Kb, times: u64) {
        let p = Indicator::new("p", 2);
        (0..times).for_each(|_| copies.looked_up(&p, kb.predicate(&p)));
    }

    #[test]
    fn a_copy_is_made_after_look_ups_and_dropped_at_a_write_for_twice_as_many() {
        let (kb, p) = (kb(&[(1, Term::Integer(1)), (2, Term::Integer(2))]), Indicator::new("p", 2));
        let mut copies = Copies::default();
        look_up(&mut copies, &kb, 100);
        assert_eq!(copies.take_todo(), None, "none were asked for");
        copies.start(10);
        look_up(&mut copies, &kb, 9);
        copies.written(&p);
        look_up(&mut copies, &kb, 9);
        assert_eq!(copies.take_todo(), None, "a write begins the count anew");
        look_up(&mut copies, &kb, 1);
        assert_eq!(copies.take_todo().unwrap().to_string(), "'@first'([make(p,2)])");
        assert_eq!(copies.copied().collect::<Vec<_>>(), [&p]);
        copies.written(&p);
        copies.written(&p);
        assert_eq!(copies.take_todo().unwrap().to_string(), "'@first'([drop(p,2)])");
        look_up(&mut copies, &kb, 19);
        assert_eq!(copies.take_todo(), None);
        look_up(&mut copies, &kb, 1);
        assert!(copies.take_todo().is_some());
        copies.drop_all();
        assert!(copies.take_todo().is_some());
        assert_eq!((copies.facts, copies.copied().count()), (0, 0));
    }

    #[test]
    fn what_the_machine_cannot_tell_apart_is_not_copied() {
        let many = |first: fn(u32) -> Term| -> Vec<(u32, Term)> {
            (0..=MAX_ALIKE as u32).map(|n| (n, first(n))).collect()
        };
        for (first, is_copied) in [
            ((|n| Term::Integer(n.into())) as fn(u32) -> Term, true),
            (|n| Term::atom(format!("a{n}")), true),
            (|n| Term::string(format!("a{n}")), false),
            (|n| Term::structure("f", [Term::Integer(n.into())]), false),
            (|_| Term::Integer(0), false),
            (|n| if n == 7 { Term::Var(0) } else { Term::Integer(n.into()) }, false),
        ] {
            let kb = kb(&many(first));
            let mut copies = Copies::default();
            copies.start(1);
            look_up(&mut copies, &kb, 1000);
            assert_eq!(copies.take_todo().is_some(), is_copied, "{}", first(3));
        }
    }
}
