//! When each key was last written: what transactions are validated by.
//!
//! Stamps are state of the space. Only the newest [`MAX_STAMPS`] are kept: dropping one raises the
//! *floor* to its index, and a transaction that read below the floor is refused as too old by every
//! replica alike, whatever the memory of any one of them.
//!
//! They are too many to be hashed whole for every digest of the state. Entries are numbered from the
//! first that ever was, and each block of [`BLOCK`] numbers is hashed once, when it is full; a digest
//! takes in the hashes of the blocks, and the few entries at the ends that make no whole block.

use crate::kb::key::{Key, KeyHash};
use std::collections::{HashMap, VecDeque};

/// Stamps that are kept.
pub const MAX_STAMPS: usize = 1 << 19;
/// Entries that are hashed together.
const BLOCK: u64 = 1024;
/// Entries of one index that are gone through one by one.
const FEW: usize = 16;

/// The last index at which each key was written, for the newest keys.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    /// Looked up only, never gone through: its order differs between replicas. Of the first `known`
    /// entries of the queue: it is brought up to date when somebody asks, and a log in which nobody reads
    /// is applied without it.
    last: HashMap<u64, u64, KeyHash>,
    /// (index, key) in the order of writing. An entry with a newer one of its key is stale.
    queue: VecDeque<(u64, u64)>,
    known: usize,
    /// How many of the last entries are of the newest index.
    of_newest: usize,
    /// How many entries were dropped from the queue's front: the number of the first one in it.
    dropped: u64,
    /// The hashes of the whole blocks in the queue, in order.
    blocks: VecDeque<blake3::Hash>,
    floor: u64,
    /// How long the queue may be: [`MAX_STAMPS`], but for tests.
    bound: usize,
}

impl Default for Stamps {
    fn default() -> Self {
        Self::bounded(MAX_STAMPS)
    }
}

impl Stamps {
    pub(super) fn bounded(bound: usize) -> Self {
        Self {
            last: HashMap::default(),
            queue: VecDeque::new(),
            known: 0,
            of_newest: 0,
            dropped: 0,
            blocks: VecDeque::new(),
            floor: 0,
            bound,
        }
    }

    /// Raises a key's stamp.
    pub(super) fn raise(&mut self, key: Key, index: u64) {
        if self.is_raised(key.0, index) {
            return;
        }
        self.push(index, key.0);
        while self.queue.len() > self.bound {
            let Some((old, key)) = self.queue.pop_front() else { break };
            if self.dropped.is_multiple_of(BLOCK) {
                self.blocks.pop_front();
            }
            self.dropped += 1;
            if self.known > 0 {
                self.known -= 1;
                if self.last.get(&key) == Some(&old) {
                    self.last.remove(&key);
                }
            }
            self.floor = old;
        }
    }

    /// Whether a key has been raised to this very index.
    fn is_raised(&mut self, key: u64, index: u64) -> bool {
        if self.queue.back().is_none_or(|&(newest, _)| newest != index) {
            return false;
        }
        if self.of_newest > FEW {
            self.know_all();
            return self.last.get(&key) == Some(&index);
        }
        self.queue.iter().rev().take(self.of_newest).any(|&(_, raised)| raised == key)
    }

    /// Brings the map up to date.
    fn know_all(&mut self) {
        for &(index, key) in self.queue.range(self.known..) {
            self.last.insert(key, index);
        }
        self.known = self.queue.len();
    }

    fn push(&mut self, index: u64, key: u64) {
        let is_newest = self.queue.back().is_some_and(|&(newest, _)| newest == index);
        self.of_newest = if is_newest { self.of_newest + 1 } else { 1 };
        self.queue.push_back((index, key));
        let len = self.queue.len();
        let is_full = (self.dropped + len as u64).is_multiple_of(BLOCK);
        if let (true, Some(start)) = (is_full, len.checked_sub(BLOCK as usize)) {
            self.blocks.push_back(hash(self.queue.range(start..)));
        }
    }

    /// The highest index of which a stamp may have been dropped.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// How many entries have been dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether a key was written after `version`. Means nothing below the floor.
    pub(super) fn is_newer(&mut self, key: u64, version: u64) -> bool {
        if self.known < self.queue.len() {
            self.know_all();
        }
        self.last.get(&key).is_some_and(|&index| index > version)
    }

    /// Everything, oldest first, for snapshots.
    pub(super) fn entries(&self) -> VecDeque<(u64, u64)> {
        self.queue.clone()
    }

    /// Takes everything into a digest.
    pub(super) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        let len = self.queue.len();
        // Where the first block begins, and where the last one ends.
        let first = (self.dropped.next_multiple_of(BLOCK) - self.dropped) as usize;
        let first = if self.blocks.is_empty() { len } else { first };
        let last = first + self.blocks.len() * BLOCK as usize;
        hasher.update(&(len as u64).to_le_bytes());
        hasher.update(hash(self.queue.range(..first)).as_bytes());
        for block in &self.blocks {
            hasher.update(block.as_bytes());
        }
        hasher.update(hash(self.queue.range(last..)).as_bytes());
    }

    /// As a snapshot says.
    pub(super) fn restore(floor: u64, dropped: u64, entries: Vec<(u64, u64)>) -> Self {
        let mut stamps = Self { floor, dropped, ..Self::default() };
        for (index, key) in entries {
            stamps.push(index, key);
        }
        stamps
    }
}

fn hash<'a>(entries: impl Iterator<Item = &'a (u64, u64)>) -> blake3::Hash {
    let mut bytes = Vec::with_capacity(16 * BLOCK as usize);
    for (index, key) in entries {
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&key.to_le_bytes());
    }
    blake3::hash(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(stamps: &Stamps) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        stamps.hash_into(&mut hasher);
        hasher.finalize()
    }

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
        for bound in [4, 1000, MAX_STAMPS] {
            let mut stamps = Stamps::bounded(bound);
            stamps.raise(Key(0), 1);
            stamps.raise(Key(1), 2);
            stamps.raise(Key(0), 3);
            for n in 0..bound as u64 - 2 {
                stamps.raise(Key(100 + n), 4 + n);
            }
            assert_eq!(stamps.floor(), 1);
            assert!(stamps.is_newer(0, 2));
            stamps.raise(Key(99), u64::MAX);
            assert_eq!(stamps.floor(), 2);
            assert!(!stamps.is_newer(1, 1), "its stamp is gone, the floor speaks for it");
        }
    }

    #[test]
    fn what_is_restored_goes_on_alike_wherever_the_blocks_lie() {
        for (bound, count) in [(7, 20), (3000, 100), (3000, 2048), (3000, 9999), (5000, 20_000)] {
            let mut stamps = Stamps::bounded(bound);
            (0..count).for_each(|n| stamps.raise(Key(n % 4001), n + 1));
            let entries: Vec<_> = stamps.entries().into();
            let mut restored = Stamps::restore(stamps.floor(), stamps.dropped(), entries);
            restored.bound = bound;
            for n in count..count + 3000 {
                if n % 100 == 0 {
                    assert_eq!(restored.entries(), stamps.entries());
                    assert_eq!(digest(&restored), digest(&stamps), "{bound}, {count}, {n}");
                }
                assert_eq!(restored.is_newer(n % 4001, n - 9), stamps.is_newer(n % 4001, n - 9));
                restored.raise(Key(n % 4001), n + 1);
                stamps.raise(Key(n % 4001), n + 1);
            }
        }
    }

    #[test]
    fn a_key_is_raised_once_an_index_however_many_are_and_whoever_asks() {
        for asks in [false, true] {
            let mut stamps = Stamps::bounded(3000);
            for index in 1..200 {
                for key in (0..index % 40).chain(0..index % 40) {
                    stamps.raise(Key(key), index);
                    assert!(!asks || stamps.is_newer(key, index - 1));
                }
            }
            let mut entries: Vec<_> = stamps.entries().into();
            let len = entries.len();
            entries.dedup();
            entries.sort_unstable();
            entries.dedup();
            assert_eq!(entries.len(), len);
            for key in 0..39 {
                let last = (1..200).rev().find(|index| key < index % 40).unwrap();
                assert!(stamps.is_newer(key, last - 1) && !stamps.is_newer(key, last), "{key}");
            }
        }
    }

    #[test]
    fn a_digest_tells_any_two_apart() {
        let filled = |count: u64, odd: u64| {
            let mut stamps = Stamps::bounded(2500);
            (0..count).for_each(|n| stamps.raise(Key(if n == odd { u64::MAX } else { n }), n + 1));
            digest(&stamps)
        };
        // In a part before the first block, in one, and behind the last; or one more.
        let all = [(5000, 0), (5000, 2510), (5000, 3500), (5000, 4999), (5001, 0), (1, 1), (0, 0)];
        for (n, a) in all.iter().enumerate() {
            for b in &all[..n] {
                assert_ne!(filled(a.0, a.1), filled(b.0, b.1), "{a:?} {b:?}");
            }
        }
    }
}
