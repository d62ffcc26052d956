//! What a space's newest commands did, kept in memory for those who follow: engines, for their
//! replicas, and agents, for their events.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use synod_core::apply::{Change, Effect};
use tokio::sync::watch;

/// Bytes of changes that are kept. Who is behind them is served from the log. Agents and engines
/// that keep up need a fraction of it.
pub(super) const FEED_BYTES: usize = 16 << 20;
/// Changes that are kept, at most: small ones cost more than their bytes.
pub(super) const FEED_CHANGES: usize = 1 << 18;
/// What one change costs besides the bytes of its facts and events.
const CHANGE_OVERHEAD: usize = 128;

/// The newest changes of a space.
#[derive(Debug)]
pub struct Feed {
    kept: RwLock<Kept>,
    applied: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// All changes behind this index are here.
    after: u64,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

/// Changes behind an index.
#[derive(Clone, Debug)]
pub struct Changes {
    /// In order.
    pub changes: Vec<Arc<Change>>,
    /// The index that they lead to.
    pub to: u64,
    /// Whether more are known already.
    pub more: bool,
}

impl Feed {
    /// Of a space that stands at `index`.
    pub fn new(index: u64) -> Self {
        let kept = Kept { after: index, changes: VecDeque::new(), bytes: 0 };
        Self { kept: RwLock::new(kept), applied: watch::Sender::new(index) }
    }

    /// Adds what the commands up to `index` did.
    pub fn push(&self, index: u64, changes: impl IntoIterator<Item = Arc<Change>>) {
        let mut kept = self.write();
        for change in changes {
            kept.bytes += size(&change);
            kept.changes.push_back(change);
        }
        while kept.bytes > FEED_BYTES || kept.changes.len() > FEED_CHANGES {
            let Some(oldest) = kept.changes.pop_front() else { break };
            kept.bytes -= size(&oldest);
            kept.after = oldest.index;
        }
        drop(kept);
        self.applied.send_replace(index);
    }

    /// Goes on from another index: what lies between is not known here.
    pub fn restart(&self, index: u64) {
        let mut kept = self.write();
        (kept.after, kept.bytes) = (index, 0);
        kept.changes.clear();
        drop(kept);
        self.applied.send_replace(index);
    }

    /// The changes behind `index`, as far as they fit `max_bytes`, the first in any case. None if
    /// some of them are no longer kept.
    pub fn behind(&self, index: u64, max_bytes: usize) -> Option<Changes> {
        // Read before the lock is taken: the changes up to there are all in.
        let applied = *self.applied.borrow();
        let kept = self.read();
        if index < kept.after {
            return None;
        }
        let start = kept.changes.partition_point(|change| change.index <= index);
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for change in kept.changes.range(start..) {
            bytes += size(change);
            if bytes > max_bytes && !changes.is_empty() {
                let to = changes.last().map_or(index, |last: &Arc<Change>| last.index);
                return Some(Changes { changes, to, more: true });
            }
            changes.push(Arc::clone(change));
        }
        let last = changes.last().map_or(index, |last: &Arc<Change>| last.index);
        Some(Changes { changes, to: applied.max(last).max(index), more: false })
    }

    /// Whether who stands at `index` had better move on: half of what is kept is newer, and what
    /// is older may go soon.
    pub fn is_ageing(&self, index: u64) -> bool {
        let applied = self.applied();
        let kept = self.read();
        kept.bytes > FEED_BYTES / 2
            && index.saturating_sub(kept.after) < applied.saturating_sub(kept.after) / 2
    }

    /// The index behind which all changes are kept.
    pub fn after(&self) -> u64 {
        self.read().after
    }

    /// Follows the index of the last command applied.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The index of the last command applied.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(change: &Change) -> usize {
    let effects: usize = change
        .effects
        .iter()
        .map(|(_, effect)| match effect {
            Effect::Asserted { fact: bytes, .. }
            | Effect::Retracted { fact: bytes, .. }
            | Effect::Emitted { event: bytes } => CHANGE_OVERHEAD + bytes.len(),
        })
        .sum();
    CHANGE_OVERHEAD + effects
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn change(index: u64, bytes: usize) -> Arc<Change> {
        let event = Effect::Emitted { event: Bytes::from(vec![0; bytes]) };
        Arc::new(Change { index, by: String::new(), effects: vec![(0, event)] })
    }

    #[test]
    fn what_lies_behind_an_index_comes_in_order_and_leads_to_the_last_command() {
        let feed = Feed::new(10);
        feed.push(13, [change(11, 8), change(13, 8)]);
        feed.push(15, []);
        let all = feed.behind(10, usize::MAX).unwrap();
        assert_eq!(all.changes.iter().map(|c| c.index).collect::<Vec<_>>(), [11, 13]);
        assert_eq!((all.to, all.more), (15, false));
        let later = feed.behind(11, usize::MAX).unwrap();
        assert_eq!(later.changes.len(), 1);
        let none = feed.behind(15, usize::MAX).unwrap();
        assert_eq!((none.changes.len(), none.to), (0, 15));
    }

    #[test]
    fn a_bound_in_bytes_is_kept_but_for_the_first() {
        let feed = Feed::new(0);
        feed.push(3, [change(1, 1000), change(2, 1000), change(3, 1000)]);
        let some = feed.behind(0, 1).unwrap();
        assert_eq!((some.changes.len(), some.to, some.more), (1, 1, true));
    }

    #[test]
    fn an_index_ages_when_what_is_kept_has_moved_on() {
        let feed = Feed::new(0);
        feed.push(2, [change(1, 8), change(2, 8)]);
        assert!(!feed.is_ageing(0), "there is room for long");
        feed.push(3, [change(3, FEED_BYTES / 2)]);
        assert!(feed.is_ageing(0));
        assert!(!feed.is_ageing(2) && !feed.is_ageing(3));
    }

    #[test]
    fn what_is_no_longer_kept_is_said_to_be_missing() {
        let feed = Feed::new(0);
        for index in 1..=3 {
            feed.push(index, [change(index, FEED_BYTES / 2)]);
        }
        assert!(feed.behind(0, 1).is_none());
        assert_eq!(feed.after(), 2);
        assert_eq!(feed.behind(2, 1).unwrap().to, 3);
    }
}
