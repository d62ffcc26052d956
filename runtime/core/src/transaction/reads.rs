//! What a transaction has read: keys, by predicate, within a bound.

use crate::kb::Indicator;
use crate::kb::Reads;
use crate::kb::key::Key;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Keys of one predicate that are told apart, at most; over that, it is read whole.
pub const MAX_KEYS_READ: usize = 1024;

/// The keys that were read, each with a call that read it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadSet {
    predicates: BTreeMap<Indicator, PredicateReads>,
}

#[derive(Clone, Debug)]
enum PredicateReads {
    Keys(BTreeMap<u64, Bytes>),
    Whole { whole: Key, call: Bytes },
}

impl ReadSet {
    /// Notes that `goal` was called, which reads `reads`.
    pub(super) fn note(&mut self, indicator: &Indicator, reads: Reads, goal: &[u8]) {
        let call = || Bytes::copy_from_slice(goal);
        let (whole, new_keys) = match reads {
            Reads::Whole(whole) => {
                let all = PredicateReads::Whole { whole, call: call() };
                self.predicates.insert(indicator.clone(), all);
                return;
            }
            Reads::Keys(whole, keys) => (whole, keys),
        };
        let predicate = self
            .predicates
            .entry(indicator.clone())
            .or_insert_with(|| PredicateReads::Keys(BTreeMap::new()));
        if let PredicateReads::Keys(keys) = predicate {
            for key in new_keys.iter() {
                keys.entry(key.0).or_insert_with(call);
            }
            if keys.len() > MAX_KEYS_READ {
                *predicate = PredicateReads::Whole { whole, call: call() };
            }
        }
    }

    /// All keys, ascending.
    pub(super) fn keys(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for predicate in self.predicates.values() {
            match predicate {
                PredicateReads::Keys(keys) => all.extend(keys.keys()),
                PredicateReads::Whole { whole, .. } => all.push(whole.0),
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// One call for each of `keys` that was read.
    pub(super) fn calls_behind(&self, keys: &[u64]) -> Vec<Bytes> {
        keys.iter().filter_map(|&key| self.call_behind(key)).collect()
    }

    fn call_behind(&self, key: u64) -> Option<Bytes> {
        self.predicates.values().find_map(|predicate| match predicate {
            PredicateReads::Keys(keys) => keys.get(&key).cloned(),
            PredicateReads::Whole { whole, call } => (whole.0 == key).then(|| call.clone()),
        })
    }
}
