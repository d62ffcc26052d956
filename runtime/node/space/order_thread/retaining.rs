//! Cutting off the beginning of the log what need not be kept.

use super::OrderInput;
use super::OrderThread;
use super::acting::micros;
use synod_core::order::Input;
use synod_core::retention::{Kept, Retention};

/// Segments that are removed at a time: each waits for the disk, and members wait for this thread.
const SEGMENTS: usize = 4;

impl OrderThread {
    /// A snapshot of this node's own is safe: the log may begin behind an older one.
    pub(super) fn snapshot_saved(&mut self, kept: Vec<Kept>) {
        self.waiting.kept = kept;
        if self.shared.retention() != Retention::Everything {
            self.log.roll();
        }
        self.retain();
    }

    /// The snapshots are others than before.
    pub(super) fn look_at_snapshots(&mut self) {
        match self.snapshots.kept() {
            Ok(kept) => self.waiting.kept = kept,
            Err(e) => tracing::warn!("snapshots cannot be looked at: {e}"),
        }
        self.show_first();
    }

    /// Lets what need not be kept go.
    pub(super) fn retain(&mut self) {
        let Some((newest, _)) = self.waiting.snapshot.clone() else { return };
        // One that has come from a leader, and that Raft has not taken, is ahead of this log.
        let is_own = |kept: &&Kept| kept.raft_index <= newest.position.index;
        let kept: Vec<Kept> = self.waiting.kept.iter().filter(is_own).copied().collect();
        let log = &self.log;
        let (now, agreed) = (micros(), self.shared.agreed());
        let cut = self.shared.retention().cut(now, &kept, agreed, |index| log.bytes_behind(index));
        let Some(cut) = cut else { return };
        // The snapshots first: one without the log behind it would be the past of nothing.
        if kept.last().is_some_and(|oldest| oldest.index < cut.index) {
            if let Err(e) = self.snapshots.remove_before(cut.index) {
                return tracing::warn!("snapshots that need not be kept stay: {e}");
            }
            self.waiting.kept.retain(|kept| kept.index >= cut.index);
        }
        match self.log.compact(cut.raft_index, SEGMENTS) {
            Ok(0) => {}
            Ok(removed) => {
                let first_index = self.log.first_index();
                let compacted = Input::Compacted { snapshot: newest, first_index };
                self.order.handle(self.now(), compacted);
                if removed == SEGMENTS {
                    drop(self.to_self.send(OrderInput::Tend));
                }
            }
            Err(e) => tracing::warn!("what need not be kept of the log stays: {e}"),
        }
        self.show_first();
    }

    /// Notes the first index whose command can still be told of.
    pub(super) fn show_first(&self) {
        let first = self.log.first_index();
        let is_of_use = |kept: &&Kept| kept.raft_index + 1 >= first;
        let oldest = self.waiting.kept.iter().rev().find(is_of_use);
        self.shared.set_first(match oldest {
            Some(oldest) if first > 1 => oldest.index + 1,
            _ => 1,
        });
    }
}
