//! The facts of one call, in clause order and in chunks.

use super::View;
use crate::kb::key::Binding;
use crate::kb::{Indicator, Kb, Plan, argument_of};
use crate::term::shape;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

/// Where a call stands in its enumeration.
#[derive(Clone, Debug)]
pub struct Cursor {
    indicator: Indicator,
    plan: Plan,
    goal: Bytes,
    /// What the arguments of a fact must be like.
    tests: Vec<Test>,
    /// The view's clock when the call was made.
    made: u64,
    /// The view's ends when the call was made: facts made later lie outside them.
    ends: (i64, i64),
    /// Everything up to this clause order has been looked at.
    reached: Option<i64>,
    /// Up to here, all that the plan finds in the replica had been retracted when the call was made.
    passed: Option<i64>,
    /// Facts that were found and not given yet.
    ready: VecDeque<Found>,
    /// The view's own facts that have died since the call was made, which still sees them.
    ghosts: BTreeMap<i64, Bytes>,
    /// The last death that has been looked at, by the view's clock.
    last_death: u64,
    /// Whether there is nothing behind `reached`.
    is_at_end: bool,
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

/// What a fact's argument must be for the fact to match, as far as bytes can tell.
#[derive(Clone, Debug)]
struct Test {
    argument: u32,
    /// Where the goal has it. If it is ground, the fact's is equal or has variables; if it is not,
    /// the fact's is a compound of the same name and arity, or a variable.
    wanted: Range<usize>,
    is_ground: bool,
}

impl Cursor {
    pub(super) fn new(
        indicator: Indicator,
        goal: Bytes,
        plan: Plan,
        made: u64,
        ends: (i64, i64),
        passed: Option<i64>,
    ) -> Self {
        let mut tests = Vec::new();
        for (argument, value) in (1..).zip(shape::arguments(&goal)) {
            let binding = Binding::of(value);
            if binding != Binding::Unbound {
                let start = value.as_ptr() as usize - goal.as_ptr() as usize;
                let wanted = start..start + value.len();
                tests.push(Test { argument, wanted, is_ground: binding == Binding::Ground });
            }
        }
        Self {
            indicator,
            plan,
            goal,
            tests,
            made,
            ends,
            reached: None,
            passed,
            ready: VecDeque::new(),
            ghosts: BTreeMap::new(),
            last_death: made,
            is_at_end: false,
        }
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
        // One more than is wanted tells whether the chunk is the last.
        let mut ahead = max_facts.saturating_add(1).clamp(2, View::LOOKAHEAD);
        loop {
            while let Some(found) = self.ready.pop_front() {
                let is_full = facts.len() >= max_facts || bytes + found.fact.len() > max_bytes;
                if is_full && !facts.is_empty() {
                    self.ready.push_front(found);
                    return Chunk { facts, is_last: false };
                }
                bytes += found.fact.len();
                facts.push(found);
            }
            if self.is_at_end {
                return Chunk { facts, is_last: true };
            }
            self.look_ahead(kb, view, ahead);
            ahead = (2 * ahead).min(View::LOOKAHEAD);
        }
    }

    /// Looks at the next facts, `max` at most of each of three kinds: the replica's, the view's own,
    /// and own ones that have died since the call was made.
    fn look_ahead(&mut self, kb: &Kb, view: &View, max: usize) {
        let touched = view.touched.get(&self.indicator);
        for dead in touched.map(|t| t.dead_since(self.last_death)).unwrap_or_default() {
            self.last_death = dead.died;
            self.ghosts.insert(dead.order, dead.fact.clone());
        }
        let after = self.reached.max(self.passed);
        let predicate = kb.predicate(&self.indicator);
        let mut found = predicate.map(|p| p.find(&self.plan, after, max)).unwrap_or_default();
        // What lies behind the last of one kind is not known of the others yet.
        let mut end = last_if_full(&found, max);
        if let Some(touched) = touched {
            found.retain(|&(order, _)| touched.sees(order, self.made));
            let (below, above) = self.ends;
            let after = self.reached.map_or(below, |reached| reached.max(below));
            let mut own = touched.find(&self.plan, after, max);
            own.retain(|&(order, _)| order < above);
            let ghosts = self.ghosts.range((Bound::Excluded(after), Bound::Unbounded));
            let ghosts = ghosts.take_while(|&(&order, _)| order < above).take(max);
            let ghosts: Vec<_> = ghosts.map(|(&order, fact)| (order, fact)).collect();
            for kind in [&own, &ghosts] {
                end = [end, last_if_full(kind, max)].into_iter().flatten().min();
            }
            found.extend(own.into_iter().chain(ghosts));
            found.sort_unstable_by_key(|&(order, _)| order);
            found.dedup_by_key(|&mut (order, _)| order);
        }
        let found = found.into_iter().take_while(|&(order, _)| end.is_none_or(|end| order <= end));
        let found = found.filter(|(_, fact)| self.admits(fact));
        let found: Vec<_> =
            found.map(|(order, fact)| Found { order, fact: fact.clone() }).collect();
        self.ready.extend(found);
        self.is_at_end = end.is_none();
        self.reached = end;
    }

    fn admits(&self, fact: &[u8]) -> bool {
        self.tests.iter().all(|Test { argument, wanted, is_ground }| {
            let wanted = &self.goal[wanted.clone()];
            let Some(value) = argument_of(fact, *argument) else { return false };
            if *is_ground {
                return value == wanted || !shape::is_ground(value) && alike(value, wanted);
            }
            alike(value, wanted)
        })
    }
}

/// Where facts end that are as many as were asked for: there may be more.
fn last_if_full(found: &[(i64, &Bytes)], max: usize) -> Option<i64> {
    found.last().filter(|_| found.len() >= max).map(|&(order, _)| order)
}

/// Whether a fact's argument is a variable, or a compound of the functor of a call's argument.
fn alike(value: &[u8], wanted: &[u8]) -> bool {
    match shape::functor(value) {
        Some(functor) => shape::functor(wanted) == Some(functor),
        None => shape::is_variable(value),
    }
}
