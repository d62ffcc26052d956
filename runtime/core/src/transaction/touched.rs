//! What a running goal has done to one predicate.

use super::View;
use crate::kb::index::ArgumentIndex;
use crate::kb::key::{Keyer, Keys};
use crate::kb::{Indicator, Plan, Predicate};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Own facts below which a scan is cheaper than an index.
const OWN_BEFORE_INDEX: usize = 32;

/// The writes of one predicate.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    /// The clause orders that the next writes at the two ends would get, were the transaction
    /// applied now. They lie outside the replica's own, so an order tells whose a fact is.
    pub(super) ends: (i64, i64),
    /// The facts that the goal has made and that are there.
    own: BTreeMap<i64, Bytes>,
    /// Of own facts, by arguments that calls looked up by since there are many.
    indexes: Vec<ArgumentIndex>,
    /// Own facts that were retracted, in that order. Calls made before still see them.
    dead: Vec<Dead>,
    /// The replica's facts that were retracted, by order, and when.
    removed: BTreeMap<i64, u64>,
    /// For a plan, an order up to which all that it would find in the replica is retracted. Without
    /// it, taking the first of a long queue again and again would pass over all that were taken.
    passed: BTreeMap<Option<(u32, Keys)>, i64>,
}

/// An own fact that was retracted.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    pub(super) order: i64,
    pub(super) fact: Bytes,
    /// When, by the view's clock.
    pub(super) died: u64,
}

impl Touched {
    pub(super) fn new(ends: (i64, i64)) -> Self {
        Self {
            ends,
            own: BTreeMap::new(),
            indexes: Vec::new(),
            dead: Vec::new(),
            removed: BTreeMap::new(),
            passed: BTreeMap::new(),
        }
    }

    /// The own fact of this order.
    pub(super) fn own(&self, order: i64) -> Option<&Bytes> {
        self.own.get(&order)
    }

    /// Whether the replica's fact of this order was retracted.
    pub(super) fn is_removed(&self, order: i64) -> bool {
        self.removed.contains_key(&order)
    }

    /// Whether nothing of the replica was retracted.
    pub(super) fn has_removed_none(&self) -> bool {
        self.removed.is_empty()
    }

    /// Whether a call made at `made` sees the replica's fact of this order.
    pub(super) fn sees(&self, order: i64, made: u64) -> bool {
        self.removed.get(&order).is_none_or(|&died| made < died)
    }

    pub(super) fn add(&mut self, order: i64, fact: Bytes) {
        for index in &mut self.indexes {
            index.insert(&fact, order, |_| {});
        }
        self.own.insert(order, fact);
    }

    /// Undoes [`Touched::add`].
    pub(super) fn forget(&mut self, order: i64) {
        self.take(order);
    }

    /// Retracts an own fact; false if there is none of this order.
    pub(super) fn kill(&mut self, order: i64, died: u64) -> bool {
        let Some(fact) = self.take(order) else { return false };
        self.dead.push(Dead { order, fact, died });
        true
    }

    /// Retracts a fact of the replica.
    pub(super) fn remove(&mut self, order: i64, died: u64) {
        self.removed.insert(order, died);
    }

    /// Undoes the last [`Touched::kill`] or [`Touched::remove`], which was of this order.
    pub(super) fn revive(&mut self, order: i64) {
        if self.removed.remove(&order).is_some() {
            self.passed.clear();
        } else if let Some(dead) = self.dead.pop() {
            self.add(dead.order, dead.fact);
        }
    }

    /// Own facts that were retracted after `time`, in that order.
    pub(super) fn dead_since(&self, time: u64) -> &[Dead] {
        let from = self.dead.partition_point(|dead| dead.died <= time);
        self.dead.get(from..).unwrap_or_default()
    }

    /// The own facts that a plan finds behind `after`, at most `max`, in order.
    pub(super) fn find(&self, plan: &Plan, after: i64, max: usize) -> Vec<(i64, &Bytes)> {
        let index = plan.lookup().and_then(|(argument, keys)| {
            Some((self.indexes.iter().find(|index| index.argument() == argument)?, keys))
        });
        let Some((index, keys)) = index else {
            let behind = self.own.range((Bound::Excluded(after), Bound::Unbounded));
            return behind.take(max).map(|(&order, fact)| (order, fact)).collect();
        };
        let orders = index.orders(keys, Some(after), max);
        orders.into_iter().filter_map(|order| Some((order, self.own.get(&order)?))).collect()
    }

    /// Indexes the own facts by what a plan looks up by, if that is worth it.
    pub(super) fn prepare(&mut self, indicator: &Indicator, plan: &Plan) {
        let Some((argument, _)) = plan.lookup() else { return };
        let is_there = self.indexes.iter().any(|index| index.argument() == argument);
        if is_there || self.own.len() < OWN_BEFORE_INDEX {
            return;
        }
        let mut index = ArgumentIndex::new(Keyer::new(indicator, argument), argument);
        index.fill(self.own.iter().map(|(&order, fact)| (order, fact)));
        self.indexes.push(index);
    }

    /// An order up to which a new call need not look at the replica, for all that it would find
    /// there has been retracted.
    pub(super) fn pass(&mut self, predicate: &Predicate, plan: &Plan) -> Option<i64> {
        let lookup = plan.lookup();
        let before = self.passed.get(&lookup).copied();
        let mut passed = before;
        loop {
            let orders = predicate.orders(plan, passed, View::LOOKAHEAD);
            let kept = orders.iter().position(|&order| !self.is_removed(order));
            let gone = orders.get(..kept.unwrap_or(orders.len())).unwrap_or_default();
            passed = gone.last().copied().or(passed);
            if kept.is_some() || orders.is_empty() {
                break;
            }
        }
        if let (Some(order), true) = (passed, passed != before) {
            self.passed.insert(lookup, order);
        }
        passed
    }

    fn take(&mut self, order: i64) -> Option<Bytes> {
        let fact = self.own.remove(&order)?;
        for index in &mut self.indexes {
            index.remove(&fact, order, |_| {});
        }
        Some(fact)
    }
}
