//! When each key was last written: what transactions are validated by.
//!
//! Stamps are state of the space. Only the newest [`MAX_STAMPS`] are kept: dropping one raises the
//! *floor* to its index, and a transaction that read below the floor is refused as too old by every
//! replica alike, whatever the memory of any one of them.

use crate::kb::key::{Key, KeyHash};
use std::collections::{HashMap, VecDeque};

/// Stamps that are kept.
pub const MAX_STAMPS: usize = 1 << 19;

/// The last index at which each key was written, for the newest keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamps {
    /// Looked up only, never gone through: its order differs between replicas.
    last: HashMap<u64, u64, KeyHash>,
    /// (index, key) in the order of writing. An entry that `last` has a newer index for is stale.
    queue: VecDeque<(u64, u64)>,
    floor: u64,
}

impl Stamps {
    /// Raises a key's stamp.
    pub(super) fn raise(&mut self, key: Key, index: u64) {
        if self.last.insert(key.0, index) == Some(index) {
            return;
        }
        self.queue.push_back((index, key.0));
        while self.queue.len() > MAX_STAMPS {
            let Some((old, key)) = self.queue.pop_front() else { break };
            if self.last.get(&key) == Some(&old) {
                self.last.remove(&key);
            }
            self.floor = old;
        }
    }

    /// The highest index of which a stamp may have been dropped.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether a key was written after `version`. Means nothing below the floor.
    pub(super) fn is_newer(&self, key: u64, version: u64) -> bool {
        self.last.get(&key).is_some_and(|&index| index > version)
    }

    /// Everything, oldest first, for snapshots and the digest.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.queue.iter().copied()
    }

    /// As a snapshot says.
    pub(super) fn restore(floor: u64, entries: Vec<(u64, u64)>) -> Self {
        let mut last = HashMap::default();
        for &(index, key) in &entries {
            last.insert(key, index);
        }
        Self { last, queue: entries.into(), floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_newer_only_than_versions_before_its_last_write() {
        let mut stamps = Stamps::default();
        stamps.raise(Key(7), 3);
        stamps.raise(Key(7), 5);
        assert!(stamps.is_newer(7, 4));
        assert!(!stamps.is_newer(7, 5));
        assert!(!stamps.is_newer(8, 0));
    }

    #[test]
    fn dropping_the_oldest_raises_the_floor_and_keeps_a_key_written_again() {
        let mut stamps = Stamps::default();
        stamps.raise(Key(0), 1);
        stamps.raise(Key(1), 2);
        stamps.raise(Key(0), 3);
        for n in 0..MAX_STAMPS as u64 - 2 {
            stamps.raise(Key(100 + n), 4 + n);
        }
        assert_eq!(stamps.floor(), 1);
        assert!(stamps.is_newer(0, 2));
        stamps.raise(Key(99), u64::MAX);
        assert_eq!(stamps.floor(), 2);
        assert!(!stamps.is_newer(1, 1), "its stamp is gone, the floor speaks for it");
    }

    #[test]
    fn what_is_restored_goes_on_alike() {
        let mut stamps = Stamps::default();
        (0..10).for_each(|n| stamps.raise(Key(n % 3), n + 1));
        let entries: Vec<_> = stamps.entries().collect();
        let restored = Stamps::restore(stamps.floor(), entries.clone());
        assert_eq!(restored.entries().collect::<Vec<_>>(), entries);
        assert!((0..3).all(|key| restored.is_newer(key, 7) == stamps.is_newer(key, 7)));
    }
}
