//! The index of one argument: an ordered set of (key, clause order).

use super::argument_of;
use super::key::{Keyer, Keys};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Finds the clause orders of facts by one argument.
#[derive(Clone, Debug)]
pub(super) struct ArgumentIndex {
    pub(super) keyer: Keyer,
    /// Counted from 1.
    pub(super) argument: u32,
    entries: BTreeSet<(u64, i64)>,
}

impl ArgumentIndex {
    pub(super) fn new(keyer: Keyer, argument: u32) -> Self {
        Self { keyer, argument, entries: BTreeSet::new() }
    }

    /// Takes in many facts at once, which is faster than one by one.
    pub(super) fn fill<'a>(&mut self, facts: impl Iterator<Item = (i64, &'a Bytes)>) {
        let (keyer, argument) = (self.keyer, self.argument);
        let mut entries: Vec<_> = facts
            .filter_map(|(order, fact)| Some((order, argument_of(fact, argument)?)))
            .flat_map(|(order, value)| {
                let keys = keyer.written(value);
                keys.iter().map(|key| (key.0, order)).collect::<Vec<_>>()
            })
            .collect();
        entries.sort_unstable();
        // From ascending entries a set is built whole; inserting into it is slower.
        if self.entries.is_empty() {
            self.entries = entries.into_iter().collect();
        } else {
            self.entries.extend(entries);
        }
    }

    pub(super) fn insert(&mut self, fact: &[u8], order: i64) {
        if let Some(value) = argument_of(fact, self.argument) {
            for key in self.keyer.written(value).iter() {
                self.entries.insert((key.0, order));
            }
        }
    }

    pub(super) fn remove(&mut self, fact: &[u8], order: i64) {
        if let Some(value) = argument_of(fact, self.argument) {
            for key in self.keyer.written(value).iter() {
                self.entries.remove(&(key.0, order));
            }
        }
    }

    /// The orders behind `after` under any of the keys, at most `max`, in order.
    pub(super) fn orders(&self, keys: Keys, after: Option<i64>, max: usize) -> Vec<i64> {
        let mut runs: Vec<_> = keys
            .iter()
            .map(|key| {
                let from = after.map_or(Bound::Included((key.0, i64::MIN)), |after| {
                    Bound::Excluded((key.0, after))
                });
                let run = self.entries.range((from, Bound::Included((key.0, i64::MAX))));
                run.map(|&(_, order)| order).peekable()
            })
            .collect();
        let mut orders = Vec::new();
        while orders.len() < max {
            let next = runs.iter_mut().filter_map(|run| run.peek().copied()).min();
            let Some(next) = next else { break };
            // A fact stands under one key of a call only, but two keys may have one hash.
            for run in &mut runs {
                run.next_if_eq(&next);
            }
            orders.push(next);
        }
        orders
    }
}
