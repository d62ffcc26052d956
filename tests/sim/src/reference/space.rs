//! A space that has applied commands, with all the versions that it went through.

use super::{Facts, Goal, Write, indicator};
use std::rc::Rc;
use synod_core::kb::{Indicator, Position};
use synod_core::term::Term;

/// The facts of a space at every index, and what was written between.
#[derive(Clone, Debug)]
pub struct Space {
    /// By index; the first is the empty space.
    versions: Vec<Facts>,
    /// (index, fact) of every fact that was added or taken away.
    written: Vec<(u64, Rc<Term>)>,
}

/// A call that a transaction made, and the keys that were declared of its predicate then.
#[derive(Clone, Debug)]
pub struct Called {
    /// The goal.
    pub goal: Term,
    /// The declared arguments.
    pub keys: Vec<u32>,
}

/// What is to become of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It commits.
    Commits,
    /// What it read, or retracts, has changed.
    Conflicts,
}

impl Default for Space {
    fn default() -> Self {
        Self { versions: vec![Facts::default()], written: Vec::new() }
    }
}

impl Space {
    /// The index of the last command.
    pub fn index(&self) -> u64 {
        self.versions.len() as u64 - 1
    }

    /// The facts as of an index.
    pub fn at(&self, index: u64) -> &Facts {
        &self.versions[index as usize]
    }

    /// The facts as of the last command.
    pub fn now(&self) -> &Facts {
        self.at(self.index())
    }

    /// A command that changes no facts.
    pub fn skip(&mut self) {
        self.versions.push(self.now().clone());
    }

    /// A command that declares further keys of predicates.
    pub fn declare(&mut self, predicates: &[(Indicator, Vec<u32>)]) {
        let mut next = self.now().clone();
        for (predicate, keys) in predicates {
            next.ends.entry(predicate.clone()).or_insert((-1, 0));
            let declared = next.declared.entry(predicate.clone()).or_default();
            for &key in keys {
                if (2..=predicate.arity).contains(&key) && !declared.contains(&key) {
                    declared.push(key);
                }
            }
        }
        self.versions.push(next);
    }

    /// A command that proposes what a goal did that began at `version`.
    pub fn transact(&mut self, version: u64, calls: &[Called], writes: &[Write]) -> Verdict {
        let is_gone = |write: &Write| match write {
            Write::Retract(predicate, order) => {
                !self.now().of(predicate).iter().any(|fact| fact.order == *order)
            }
            Write::Assert(..) | Write::Emit(_) => false,
        };
        if self.overlaps(version, calls) || writes.iter().any(is_gone) {
            self.skip();
            return Verdict::Conflicts;
        }
        let index = self.index() + 1;
        let mut next = self.now().clone();
        for (n, write) in (0..).zip(writes) {
            match write {
                Write::Assert(end, fact) => {
                    next.assert(*end, Position { index, n }, fact);
                    self.written.push((index, fact.clone()));
                }
                Write::Retract(predicate, order) => {
                    if let Some(fact) = next.retract(predicate, *order) {
                        self.written.push((index, fact.term));
                    }
                }
                Write::Emit(_) => {}
            }
        }
        self.versions.push(next);
        Verdict::Commits
    }

    /// The calls of a goal, as [`Space::transact`] wants them.
    pub fn called(goal: &Goal) -> Vec<Called> {
        let keys = |call| goal.base().declared.get(&indicator(call)).cloned().unwrap_or_default();
        goal.calls().iter().map(|call| Called { goal: call.clone(), keys: keys(call) }).collect()
    }

    /// Whether any call would be answered otherwise now than it was at `version`.
    pub fn has_changed(&self, version: u64, calls: &[Called]) -> bool {
        let (then, now) = (self.at(version), self.now());
        calls.iter().any(|call| then.answers(&call.goal) != now.answers(&call.goal))
    }

    /// Whether the rules say that a call may have been touched by a write after `version`.
    pub fn overlaps(&self, version: u64, calls: &[Called]) -> bool {
        let later = self.written.iter().filter(|(index, _)| *index > version);
        let mut pairs = later.flat_map(|(_, fact)| calls.iter().map(move |call| (call, fact)));
        pairs.any(|(call, fact)| call.overlaps(fact))
    }
}

impl Called {
    /// A call is told apart by its first argument if that is ground, or by the first ground one of
    /// the declared keys; by one that is a compound with variables if none is ground; else not.
    fn overlaps(&self, fact: &Term) -> bool {
        if indicator(&self.goal) != indicator(fact) {
            return false;
        }
        let arguments = || std::iter::once(1).chain(self.keys.iter().copied());
        let in_goal = |n: u32| argument(&self.goal, n);
        let is_ground = |n: &u32| in_goal(*n).is_some_and(Term::is_ground);
        let is_bound = |n: &u32| in_goal(*n).is_some_and(|arg| !matches!(arg, Term::Var(_)));
        let by = arguments().find(is_ground).or_else(|| arguments().find(is_bound));
        let pair = by.and_then(|n| Some((in_goal(n)?, argument(fact, n)?)));
        let Some((asked, written)) = pair else { return true };
        match (asked.is_ground(), written.is_ground()) {
            _ if matches!(written, Term::Var(_)) => true,
            (true, true) => asked == written,
            _ => indicator(asked) == indicator(written) && is_compound(asked, written),
        }
    }
}

fn argument(term: &Term, n: u32) -> Option<&Term> {
    match term {
        Term::Compound(_, args) => args.get(n as usize - 1),
        _ => None,
    }
}

/// Whether neither is atomic: an atom `f` is no `f` of no arguments here.
fn is_compound(a: &Term, b: &Term) -> bool {
    [a, b].iter().all(|term| indicator(term).arity > 0)
}

/// That the rules refuse all that has changed is theirs to prove, not only to say.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::unifies;
    use crate::terms;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_call_overlaps_every_fact_that_it_unifies_with(
            (goal, fact) in (terms::goal(), terms::fact()),
            keys in prop::sample::subsequence(vec![2u32, 3], 0..=2),
        ) {
            let called = Called { goal, keys };
            prop_assert!(!unifies(&called.goal, &fact) || called.overlaps(&fact));
        }
    }
}
