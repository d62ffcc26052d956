//! The facts of one call, in clause order and in chunks.

use super::View;
use crate::kb::key::Binding;
use crate::kb::{Indicator, Kb, Plan, argument_of};
use crate::term::shape;
use bytes::Bytes;

/// Clause orders taken from the replica's index in one go.
const LOOKAHEAD: usize = 64;

/// Where a call stands in its enumeration.
#[derive(Clone, Debug)]
pub struct Cursor {
    indicator: Indicator,
    plan: Plan,
    /// What the arguments of a fact must be like; empty where the plan already sees to it.
    tests: Vec<(u32, Test)>,
    /// The view's clock when the call was made.
    made: u32,
    after: Option<i64>,
}

/// A fact that a call could match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its clause order, which with its predicate names it to [`View::retract`].
    pub order: i64,
    /// The whole term, encoded.
    pub fact: Bytes,
}

/// Some of the facts of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The facts, in clause order. All that match are here, and perhaps some that do not.
    pub facts: Vec<Found>,
    /// Whether the call has no more.
    pub is_last: bool,
}

/// What the fact's argument must be for the fact to match, as far as bytes can tell.
#[derive(Clone, Debug)]
enum Test {
    /// Equal to this ground term, unless it has variables itself.
    Ground(Bytes),
    /// A compound of this name and arity, or a variable.
    Functor(String, usize),
}

impl Cursor {
    pub(super) fn new(indicator: Indicator, goal: &[u8], plan: Plan, made: u32) -> Self {
        let mut tests = Vec::new();
        for argument in 1..=indicator.arity {
            let Some(value) = argument_of(goal, argument) else { continue };
            match (Binding::of(value), shape::functor(value)) {
                (Binding::Unbound, _) => {}
                (Binding::Ground, _) if plan.looks_up(argument) => {}
                (Binding::Ground, _) => {
                    tests.push((argument, Test::Ground(Bytes::copy_from_slice(value))));
                }
                (Binding::Partly, Some((name, arity))) => {
                    tests.push((argument, Test::Functor(name.to_owned(), arity)));
                }
                (Binding::Partly, None) => {}
            }
        }
        Self { indicator, plan, tests, made, after: None }
    }

    /// The predicate that is called.
    pub fn predicate(&self) -> &Indicator {
        &self.indicator
    }

    pub(super) fn next(
        &mut self,
        kb: &Kb,
        view: &View,
        max_facts: usize,
        max_bytes: usize,
    ) -> Chunk {
        let mut facts: Vec<Found> = Vec::new();
        let mut bytes = 0;
        loop {
            let batch = self.candidates(kb, view);
            if batch.is_empty() {
                return Chunk { facts, is_last: true };
            }
            for found in batch {
                if !self.admits(&found.fact) {
                    self.after = Some(found.order);
                    continue;
                }
                bytes += found.fact.len();
                if facts.len() >= max_facts.max(1) || (bytes > max_bytes && !facts.is_empty()) {
                    return Chunk { facts, is_last: false };
                }
                self.after = Some(found.order);
                facts.push(found);
            }
        }
    }

    /// The next facts that the call sees, from one of the three runs that follow one another in
    /// clause order: those that the view added in front, the replica's, those added behind.
    fn candidates(&mut self, kb: &Kb, view: &View) -> Vec<Found> {
        let touched = view.touched.get(&self.indicator);
        let predicate = kb.predicate(&self.indicator);
        let (below, above) = predicate.map_or((-1, 0), |p| p.ends());
        let own = |from: i64, to: i64| -> Vec<Found> {
            let Some(touched) = touched else { return Vec::new() };
            let run = touched.added.range(from..=to);
            let sees = |born, died: Option<u32>| {
                born <= self.made && died.is_none_or(|died| self.made < died)
            };
            run.filter(|(_, added)| sees(added.born, added.died))
                .take(LOOKAHEAD)
                .map(|(&order, added)| Found { order, fact: added.fact.clone() })
                .collect()
        };
        let after = self.after.unwrap_or(i64::MIN);
        if after < below {
            let front = own(after.saturating_add(1), below);
            if !front.is_empty() {
                return front;
            }
        }
        if let Some(predicate) = predicate.filter(|_| after < above) {
            let mut from = self.after;
            loop {
                let orders = predicate.orders(&self.plan, from, LOOKAHEAD);
                let Some(&last) = orders.last() else { break };
                let is_seen = |order: &i64| {
                    let died = touched.and_then(|t| t.removed.get(order));
                    died.is_none_or(|&died| self.made < died)
                };
                let seen: Vec<Found> = orders
                    .into_iter()
                    .filter(is_seen)
                    .filter_map(|order| {
                        Some(Found { order, fact: predicate.fact(order)?.bytes.clone() })
                    })
                    .collect();
                if !seen.is_empty() {
                    return seen;
                }
                from = Some(last);
            }
        }
        own(after.saturating_add(1).max(above), i64::MAX)
    }

    fn admits(&self, fact: &[u8]) -> bool {
        self.tests.iter().all(|(argument, test)| {
            let Some(value) = argument_of(fact, *argument) else { return false };
            match test {
                Test::Ground(wanted) => value == wanted || !shape::is_ground(value),
                Test::Functor(name, arity) => match shape::functor(value) {
                    Some(functor) => functor == (name.as_str(), *arity),
                    None => Binding::of(value) == Binding::Unbound,
                },
            }
        })
    }
}
