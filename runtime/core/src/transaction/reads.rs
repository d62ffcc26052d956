//! What a transaction has read: keys, by predicate, within bounds.

use crate::kb::key::Key;
use crate::kb::{Indicator, Reads};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Keys of one predicate that are told apart, at most; over that, it is read whole.
pub const MAX_KEYS_READ: usize = 1024;
/// Keys of all predicates that are told apart, at most; over that, every one is read whole. What
/// was read must fit into a command beside what was written.
pub const MAX_KEYS_READ_IN_ALL: usize = 1 << 16;

/// The keys that were read, each with a call that read it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadSet {
    predicates: BTreeMap<Indicator, PredicateReads>,
    /// How many keys there are in all.
    len: usize,
    /// Whether there were too many: from then on every predicate is read whole.
    is_coarse: bool,
}

#[derive(Clone, Debug)]
enum PredicateReads {
    Keys { whole: Key, keys: BTreeMap<u64, Bytes> },
    Whole { whole: Key, call: Bytes },
}

impl ReadSet {
    /// Notes that `goal` was called, which reads `reads`.
    pub(super) fn note(&mut self, indicator: &Indicator, reads: Reads, goal: &Bytes) {
        let (whole, new_keys) = match reads {
            Reads::Keys(whole, keys) if !self.is_coarse => (whole, keys),
            Reads::Keys(whole, _) | Reads::Whole(whole) => {
                return self.note_whole(indicator, whole, goal);
            }
        };
        let predicate = self
            .predicates
            .entry(indicator.clone())
            .or_insert_with(|| PredicateReads::Keys { whole, keys: BTreeMap::new() });
        let PredicateReads::Keys { keys, .. } = predicate else { return };
        let before = keys.len();
        for key in new_keys.iter() {
            keys.entry(key.0).or_insert_with(|| goal.clone());
        }
        self.len += keys.len() - before;
        if keys.len() > MAX_KEYS_READ {
            self.note_whole(indicator, whole, goal);
        } else if self.len > MAX_KEYS_READ_IN_ALL {
            self.make_coarse();
        }
    }

    fn note_whole(&mut self, indicator: &Indicator, whole: Key, goal: &Bytes) {
        let all = PredicateReads::Whole { whole, call: goal.clone() };
        let before = self.predicates.insert(indicator.clone(), all);
        self.len += 1;
        self.len -= before.map_or(0, |before| before.len());
    }

    fn make_coarse(&mut self) {
        self.is_coarse = true;
        for predicate in self.predicates.values_mut() {
            if let PredicateReads::Keys { whole, keys } = predicate {
                let call = keys.first_key_value().map(|(_, call)| call.clone());
                *predicate =
                    PredicateReads::Whole { whole: *whole, call: call.unwrap_or_default() };
            }
        }
        self.len = self.predicates.len();
    }

    /// All keys, ascending.
    pub(super) fn keys(&self) -> Vec<u64> {
        let mut all = Vec::with_capacity(self.len);
        for predicate in self.predicates.values() {
            match predicate {
                PredicateReads::Keys { keys, .. } => all.extend(keys.keys()),
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
            PredicateReads::Keys { keys, .. } => keys.get(&key).cloned(),
            PredicateReads::Whole { whole, call } => (whole.0 == key).then(|| call.clone()),
        })
    }
}

impl PredicateReads {
    fn len(&self) -> usize {
        match self {
            Self::Keys { keys, .. } => keys.len(),
            Self::Whole { .. } => 1,
        }
    }
}
