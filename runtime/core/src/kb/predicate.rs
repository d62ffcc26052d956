//! The facts of one predicate, and how those that a call could match are found.

use super::index::ArgumentIndex;
use super::key::{self, Binding, Key, Keyer};
use super::{Fact, Indicator, argument_of};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Scans that leave one bound argument unused, before a replica indexes that argument.
const SCANS_BEFORE_INDEX: u32 = 8;
/// Facts below which a scan is cheaper than an index.
const FACTS_BEFORE_INDEX: usize = 64;

/// The facts of one predicate.
#[derive(Clone, Debug)]
pub struct Predicate {
    pub(super) whole: Key,
    /// The clause order that the next `asserta/1` gives.
    pub(super) below: i64,
    /// The clause order that the next `assertz/1` gives.
    pub(super) above: i64,
    pub(super) facts: BTreeMap<i64, Fact>,
    /// The first argument's index, then those of declared keys, then those that calls asked for.
    indexes: Vec<ArgumentIndex>,
    declared: Vec<u32>,
    /// For each argument, how many scans had it bound and unindexed.
    scans: Vec<u32>,
    /// Whether the indexes only make keys, and find nothing.
    is_unindexed: bool,
}

impl Predicate {
    /// The ends of a predicate that nothing was ever written to.
    pub(crate) const ENDS: (i64, i64) = (-1, 0);

    pub(super) fn new(indicator: &Indicator) -> Self {
        let first = (indicator.arity > 0).then(|| ArgumentIndex::new(Keyer::new(indicator, 1), 1));
        Self {
            whole: key::whole(indicator),
            below: Self::ENDS.0,
            above: Self::ENDS.1,
            facts: BTreeMap::new(),
            indexes: first.into_iter().collect(),
            declared: Vec::new(),
            scans: Vec::new(),
            is_unindexed: false,
        }
    }

    /// Of a knowledge base that keeps indexes or does not.
    pub(super) fn of_kb(indicator: &Indicator, is_unindexed: bool) -> Self {
        Self { is_unindexed, ..Self::new(indicator) }
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is no fact.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The clause orders that the next `asserta/1` and the next `assertz/1` give.
    pub fn ends(&self) -> (i64, i64) {
        (self.below, self.above)
    }

    /// The arguments that were declared as further keys, in the order of declaration.
    pub fn declared(&self) -> &[u32] {
        &self.declared
    }

    /// The fact of this clause order.
    pub fn fact(&self, order: i64) -> Option<&Fact> {
        self.facts.get(&order)
    }

    /// The facts in clause order, from behind `after` on.
    pub fn facts_after(&self, after: Option<i64>) -> impl Iterator<Item = (i64, &Fact)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.facts.range((from, Bound::Unbounded)).map(|(&order, fact)| (order, fact))
    }

    /// How to find the facts that `goal` could match, and what that reads.
    pub fn plan(&self, goal: &[u8]) -> Plan {
        // The argument that is bound furthest; the first of them if there are several.
        let mut lookup: Option<(Binding, &ArgumentIndex, &[u8])> = None;
        let mut reads = None;
        for (n, index) in self.indexes.iter().enumerate() {
            let Some(argument) = argument_of(goal, index.argument()) else { continue };
            let binding = Binding::of(argument);
            if binding > lookup.map_or(Binding::Unbound, |(best, ..)| best) {
                lookup = Some((binding, index, argument));
            }
            // Indexes that calls asked for are this replica's own business: no stamp knows of them.
            if n < self.indexes_of_state() {
                reads = lookup;
            }
        }
        let keys = |(_, index, argument): (Binding, &ArgumentIndex, &[u8])| {
            (index.argument(), index.keyer().read(argument))
        };
        let lookup = lookup.map(keys).filter(|_| !self.is_unindexed);
        let reads = reads.map(|best| match (best.1, lookup) {
            (index, Some((by, keys))) if by == index.argument() => (index, keys),
            (index, _) => (index, keys(best).1),
        });
        let reads = match reads {
            None => Reads::Whole(self.whole),
            Some((index, keys)) if index.argument() == 1 => Reads::Keys(self.whole, keys),
            Some((index, keys)) => Reads::Keys(self.whole, keys.and(index.keyer().declared())),
        };
        Plan { lookup, reads }
    }

    /// The clause orders behind `after` under a plan, at most `max`, in order.
    pub fn orders(&self, plan: &Plan, after: Option<i64>, max: usize) -> Vec<i64> {
        match self.index(plan) {
            Some((index, keys)) => index.orders(keys, after, max),
            None => self.facts_after(after).take(max).map(|(order, _)| order).collect(),
        }
    }

    /// As [`Predicate::orders`], with the facts.
    pub(crate) fn find(&self, plan: &Plan, after: Option<i64>, max: usize) -> Vec<(i64, &Bytes)> {
        let Some((index, keys)) = self.index(plan) else {
            let behind = self.facts_after(after).take(max);
            return behind.map(|(order, fact)| (order, &fact.bytes)).collect();
        };
        let orders = index.orders(keys, after, max).into_iter();
        orders.filter_map(|order| Some((order, &self.facts.get(&order)?.bytes))).collect()
    }

    fn index(&self, plan: &Plan) -> Option<(&ArgumentIndex, key::Keys)> {
        let (argument, keys) = plan.lookup?;
        Some((self.indexes.iter().find(|index| index.argument() == argument)?, keys))
    }

    /// Notes that a call of `goal` had to scan; indexes an argument that calls keep asking for.
    pub(super) fn note_scan(&mut self, indicator: &Indicator, goal: &[u8]) {
        if self.is_unindexed || self.len() < FACTS_BEFORE_INDEX {
            return;
        }
        self.scans.resize(indicator.arity as usize, 0);
        let mut wanted = None;
        for (argument, count) in (1u32..).zip(&mut self.scans) {
            if argument_of(goal, argument).map(Binding::of) == Some(Binding::Ground) {
                *count += 1;
                if *count >= SCANS_BEFORE_INDEX {
                    *count = 0;
                    wanted = Some(argument);
                    break;
                }
            }
        }
        if let Some(argument) = wanted {
            self.add_index(indicator, argument);
        }
    }

    /// Tells reads apart by this argument too; false if it does so already.
    pub(super) fn declare(&mut self, indicator: &Indicator, argument: u32) -> bool {
        if self.declared.contains(&argument) {
            return false;
        }
        let place = self.indexes_of_state();
        self.add_index(indicator, argument);
        if let Some(at) = self.indexes.iter().position(|index| index.argument() == argument) {
            self.indexes[place..=at].rotate_right(1);
        }
        self.declared.push(argument);
        true
    }

    /// Adds a fact, and tells the keys that this writes.
    pub(super) fn insert(&mut self, order: i64, fact: Fact, mut raise: impl FnMut(Key)) {
        raise(self.whole);
        let of_state = self.indexes_of_state();
        for (n, index) in self.indexes.iter_mut().enumerate() {
            let raise = |key| {
                if n < of_state {
                    raise(key);
                }
            };
            match self.is_unindexed {
                true => index.written(&fact.bytes, raise),
                false => index.insert(&fact.bytes, order, raise),
            }
        }
        self.facts.insert(order, fact);
    }

    /// Adds facts, in ascending order, to a predicate that has none.
    pub(super) fn fill(&mut self, facts: Vec<(i64, Fact)>) {
        if let (Some((first, _)), Some((last, _))) = (facts.first(), facts.last()) {
            self.reach(*first, *last);
        }
        let indexes = self.indexes.iter_mut().filter(|_| !self.is_unindexed);
        for index in indexes {
            index.fill(facts.iter().map(|(order, fact)| (*order, &fact.bytes)));
        }
        // From ascending entries a map is built whole; inserting into it is slower.
        self.facts = facts.into_iter().collect();
    }

    /// Takes a fact away, and tells the keys that this writes.
    pub(super) fn remove(&mut self, order: i64, mut raise: impl FnMut(Key)) -> Option<Fact> {
        let fact = self.facts.remove(&order)?;
        raise(self.whole);
        let of_state = self.indexes_of_state();
        for (n, index) in self.indexes.iter_mut().enumerate() {
            let raise = |key| {
                if n < of_state {
                    raise(key);
                }
            };
            match self.is_unindexed {
                true => index.written(&fact.bytes, raise),
                false => index.remove(&fact.bytes, order, raise),
            }
        }
        Some(fact)
    }

    /// Moves the ends outward, so that no order from `first` to `last` is given again.
    pub(super) fn reach(&mut self, first: i64, last: i64) {
        self.below = self.below.min(first.saturating_sub(1));
        self.above = self.above.max(last.saturating_add(1));
    }

    /// How many of the indexes are by arguments that validation knows of too.
    fn indexes_of_state(&self) -> usize {
        self.indexes.len().min(1 + self.declared.len())
    }

    /// Fills its indexes, if it did without so far.
    pub(super) fn be_indexed(&mut self) {
        if std::mem::take(&mut self.is_unindexed) {
            for index in &mut self.indexes {
                index.fill(self.facts.iter().map(|(&order, fact)| (order, &fact.bytes)));
            }
        }
    }

    fn add_index(&mut self, indicator: &Indicator, argument: u32) {
        if self.indexes.iter().any(|index| index.argument() == argument) {
            return;
        }
        let mut index = ArgumentIndex::new(Keyer::new(indicator, argument), argument);
        if !self.is_unindexed {
            index.fill(self.facts.iter().map(|(&order, fact)| (order, &fact.bytes)));
        }
        self.indexes.push(index);
    }
}

/// How the facts that a call could match are found.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The argument to look up by and the keys under which to look; all facts if there is none.
    lookup: Option<(u32, key::Keys)>,
    /// What the call is to be noted as having read.
    pub reads: Reads,
}

impl Plan {
    /// Whether all facts of the predicate are gone through.
    pub fn is_scan(&self) -> bool {
        self.lookup.is_none()
    }

    /// The argument to look up by, counted from 1, and the keys under which to look.
    pub(crate) fn lookup(&self) -> Option<(u32, key::Keys)> {
        self.lookup
    }
}

/// What a call reads, as validation will check it.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// The whole predicate.
    Whole(Key),
    /// These keys; the predicate's own key comes first, for when there are too many.
    Keys(Key, key::Keys),
}
