//! A space's state as a file's items, taken while commands go on.
//!
//! ```text
//! head, predicates*, sessions*, agents*, letters*, modules*, members*, tickets*, stamps*,
//! facts*, end
//! ```
//! Each item is an array that begins with its kind; `commands.cddl` has the grammar. Facts name
//! their predicate by its place among the predicates, and those of one predicate come in no
//! particular order: one that is retracted before the job comes to it is kept for the end.
//!
//! What is small is encoded at once when the job begins; stamps are copied, facts are gone through
//! a little at a time. [`Restore`](super::Restore) reads the items back.

use super::State;
use super::rest::{self, ITEM_BYTES, ITEM_ENTRIES, kind};
use crate::cbor::Writer;
use crate::kb::{Fact, Indicator, Kb};
use bytes::Bytes;
use std::collections::VecDeque;

/// A snapshot under way. The state goes on changing; what it was at the job's index is kept.
#[derive(Clone, Debug)]
pub struct SnapshotJob {
    index: u64,
    rest: VecDeque<Bytes>,
    stamps: VecDeque<(u64, u64)>,
    /// The predicates, each with the ends outside of which all its facts are younger than the job.
    predicates: Vec<(Indicator, (i64, i64))>,
    /// The predicate being gone through, and the clause order reached in it.
    at: usize,
    after: Option<i64>,
    /// Facts that were retracted before the job came to them.
    retracted: Vec<(usize, i64, Fact)>,
    end: Option<Bytes>,
}

impl SnapshotJob {
    fn new(state: &State) -> Self {
        let rest = rest::items(state);
        let digest = state.digest_with(&rest);
        let mut end = Writer::new();
        end.array(2).uint(kind::END).bytes(&digest);
        let predicates = state.kb.predicates();
        Self {
            index: state.index,
            rest: rest.into(),
            stamps: state.stamps.entries(),
            predicates: predicates.map(|(i, predicate)| (i.clone(), predicate.ends())).collect(),
            at: 0,
            after: None,
            retracted: Vec::new(),
            end: Some(end.into_vec().into()),
        }
    }

    /// The index whose state this is.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// A fact is being retracted: keeps it if it is part of the snapshot and has not been written.
    pub(super) fn keep(&mut self, predicate: &Indicator, order: i64, fact: &Fact) {
        if fact.id.index > self.index {
            return;
        }
        let Ok(place) = self.predicates.binary_search_by(|(known, _)| known.cmp(predicate)) else {
            return;
        };
        let is_written =
            place < self.at || (place == self.at && self.after.is_some_and(|after| order <= after));
        if !is_written {
            self.retracted.push((place, order, fact.clone()));
        }
    }

    /// The next item; none when the snapshot is whole.
    fn step(&mut self, kb: &Kb) -> Option<Bytes> {
        if let Some(item) = self.rest.pop_front() {
            return Some(item);
        }
        if !self.stamps.is_empty() {
            let len = self.stamps.len().min(ITEM_ENTRIES);
            let mut w = Writer::new();
            w.array(1 + len).uint(kind::STAMPS);
            for (index, key) in self.stamps.drain(..len) {
                w.array(2).uint(index).uint(key);
            }
            return Some(w.into_vec().into());
        }
        while let Some((indicator, (below, above))) = self.predicates.get(self.at) {
            let after = self.after.unwrap_or(*below);
            let facts =
                kb.predicate(indicator).into_iter().flat_map(|p| p.facts_after(Some(after)));
            let mut item = FactsItem::new(self.at);
            for (order, fact) in facts.take_while(|&(order, _)| order < *above) {
                self.after = Some(order);
                if item.add(order, fact) {
                    break;
                }
            }
            if let Some(item) = item.finish() {
                return Some(item);
            }
            self.at += 1;
            self.after = None;
        }
        let Some(&(place, ..)) = self.retracted.last() else { return self.end.take() };
        let mut item = FactsItem::new(place);
        while let Some((_, order, fact)) = self.retracted.pop_if(|(p, ..)| *p == place) {
            if item.add(order, &fact) {
                break;
            }
        }
        item.finish()
    }
}

/// An item of facts of one predicate.
struct FactsItem {
    place: usize,
    len: usize,
    facts: Writer,
}

impl FactsItem {
    fn new(place: usize) -> Self {
        Self { place, len: 0, facts: Writer::new() }
    }

    /// Says whether that is enough for one item.
    fn add(&mut self, order: i64, fact: &Fact) -> bool {
        self.len += 1;
        let w = self.facts.array(4).int(order).uint(fact.id.index).uint(u64::from(fact.id.n));
        w.raw(&fact.bytes);
        self.len >= ITEM_ENTRIES || self.facts.len() > ITEM_BYTES
    }

    fn finish(self) -> Option<Bytes> {
        if self.len == 0 {
            return None;
        }
        let mut w = Writer::onto(Vec::with_capacity(self.facts.len() + 24));
        w.array(2 + self.len).uint(kind::FACTS).uint(self.place as u64);
        w.raw(self.facts.as_slice());
        Some(w.into_vec().into())
    }
}

impl State {
    /// Starts a snapshot of the state as it is now, and returns its index. One at a time: another
    /// that is under way is dropped.
    pub fn begin_snapshot(&mut self) -> u64 {
        self.snapshot = Some(SnapshotJob::new(self));
        self.index
    }

    /// The next item of the snapshot under way; none when it is whole, or none is.
    pub fn snapshot_step(&mut self) -> Option<Bytes> {
        let item = self.snapshot.as_mut()?.step(&self.kb);
        if item.is_none() {
            self.snapshot = None;
        }
        item
    }

    /// Drops the snapshot under way.
    pub fn abandon_snapshot(&mut self) {
        self.snapshot = None;
    }
}
