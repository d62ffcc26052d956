//! The index of one argument: for each key the clause orders of the facts that write it.

use super::argument_of;
use super::key::{Key, KeyHash, Keyer, Keys};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

/// Finds the clause orders of facts by one argument.
#[derive(Clone, Debug)]
pub(crate) struct ArgumentIndex {
    keyer: Keyer,
    /// Counted from 1.
    argument: u32,
    /// Looked up only, never gone through. A key is found in one step however many there are.
    runs: HashMap<u64, Run, KeyHash>,
}

/// The clause orders under one key. Most keys have one.
#[derive(Clone, Debug)]
enum Run {
    One(i64),
    Many(BTreeSet<i64>),
}

impl ArgumentIndex {
    pub(crate) fn new(keyer: Keyer, argument: u32) -> Self {
        Self { keyer, argument, runs: HashMap::default() }
    }

    /// The argument that is looked up by, counted from 1.
    pub(crate) fn argument(&self) -> u32 {
        self.argument
    }

    /// Makes the keys of the argument.
    pub(crate) fn keyer(&self) -> &Keyer {
        &self.keyer
    }

    /// Takes in many facts at once, which is faster than one by one.
    pub(crate) fn fill<'a>(&mut self, facts: impl ExactSizeIterator<Item = (i64, &'a Bytes)>) {
        self.runs.reserve(facts.len());
        let mut entries = Vec::with_capacity(facts.len());
        for (order, fact) in facts {
            if let Some(value) = argument_of(fact, self.argument) {
                entries.extend(self.keyer.written(value).iter().map(|key| (key.0, order)));
            }
        }
        // In the order of the table's buckets, for one that is large is slow to reach at random.
        let buckets = self.runs.capacity().next_power_of_two() as u64;
        entries.sort_unstable_by_key(|&(key, order)| (key & (buckets - 1), order));
        entries.into_iter().for_each(|(key, order)| self.add(key, order));
    }

    /// Tells the keys that a fact writes, and takes nothing in.
    pub(crate) fn written(&self, fact: &[u8], raise: impl FnMut(Key)) {
        if let Some(value) = argument_of(fact, self.argument) {
            self.keyer.written(value).iter().for_each(raise);
        }
    }

    /// Takes a fact in, and tells the keys that it writes.
    pub(crate) fn insert(&mut self, fact: &[u8], order: i64, mut raise: impl FnMut(Key)) {
        let Some(value) = argument_of(fact, self.argument) else { return };
        for key in self.keyer.written(value).iter() {
            raise(key);
            self.add(key.0, order);
        }
    }

    fn add(&mut self, key: u64, order: i64) {
        self.runs.entry(key).and_modify(|run| run.insert(order)).or_insert(Run::One(order));
    }

    /// Takes a fact out, and tells the keys that it had written.
    pub(crate) fn remove(&mut self, fact: &[u8], order: i64, mut raise: impl FnMut(Key)) {
        let Some(value) = argument_of(fact, self.argument) else { return };
        for key in self.keyer.written(value).iter() {
            raise(key);
            if self.runs.get_mut(&key.0).is_some_and(|run| run.remove(order)) {
                self.runs.remove(&key.0);
            }
        }
    }

    /// The orders behind `after` under any of the keys, at most `max`, in order.
    pub(crate) fn orders(&self, keys: Keys, after: Option<i64>, max: usize) -> Vec<i64> {
        let mut under = keys.iter().filter_map(|key| self.runs.get(&key.0));
        let Some(first) = under.next() else { return Vec::new() };
        let Some(second) = under.next() else { return first.after(after).take(max).collect() };
        let mut all: Vec<_> = [first, second]
            .into_iter()
            .chain(under)
            .map(|run| run.after(after).peekable())
            .collect();
        let mut orders = Vec::new();
        while orders.len() < max {
            let next = all.iter_mut().filter_map(|run| run.peek().copied()).min();
            let Some(next) = next else { break };
            // A fact stands under one key of a call only, but two keys may have one hash.
            for run in &mut all {
                run.next_if_eq(&next);
            }
            orders.push(next);
        }
        orders
    }
}

impl Run {
    fn insert(&mut self, order: i64) {
        match self {
            Self::One(other) if *other == order => {}
            Self::One(other) => *self = Self::Many(BTreeSet::from([*other, order])),
            Self::Many(orders) => drop(orders.insert(order)),
        }
    }

    /// Says whether none is left.
    fn remove(&mut self, order: i64) -> bool {
        match self {
            Self::One(other) => *other == order,
            Self::Many(orders) => {
                orders.remove(&order);
                if let (Some(&last), 1) = (orders.first(), orders.len()) {
                    *self = Self::One(last);
                }
                false
            }
        }
    }

    fn after(&self, after: Option<i64>) -> impl Iterator<Item = i64> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (one, many) = match self {
            Self::One(order) => (Some(*order), None),
            Self::Many(orders) => (None, Some(orders.range((from, Bound::Unbounded)).copied())),
        };
        let one = one.filter(|&order| after.is_none_or(|after| order > after));
        one.into_iter().chain(many.into_iter().flatten())
    }
}
