//! When a leader tells its followers of a commit.
//!
//! Raft tells them at once, with an empty append to each, which they answer. Where writes follow one
//! another the next entries say the same a moment later: so a notice waits a little for them, unless
//! somebody at a follower waits for the commit.

use super::Order;
use super::types::Role;
use crate::time::Time;

/// What followers are still to be told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notice {
    /// When they are told, if no entries have told them by then.
    due: Option<Time>,
    /// Whether the next entries are awaited at a follower.
    is_hurried: bool,
    /// The last index that is.
    awaited: u64,
}

impl Notice {
    /// The next entries are awaited at a follower.
    pub(super) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// When it is time to tell.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Entries up to `last` have gone out, and with them what is committed.
    pub(super) fn sent(&mut self, last: u64) {
        self.due = None;
        if std::mem::take(&mut self.is_hurried) {
            self.awaited = last;
        }
    }
}

impl Order {
    /// What was committed behind `before` is to be told.
    pub(super) fn notice(&mut self, before: u64) {
        let after = self.config.notice_after;
        if after.is_zero() || self.members.is_alone(self.config.node) {
            return;
        }
        if self.notice.awaited > before {
            self.give_notice();
        } else {
            self.notice.due.get_or_insert(self.now + after);
        }
    }

    /// Gives the notice that is due by now.
    pub(super) fn notice_due(&mut self) {
        if self.notice.due.is_some_and(|due| due <= self.now) {
            self.give_notice();
        }
    }

    fn give_notice(&mut self) {
        self.notice.due = None;
        if self.role() == Role::Leader {
            self.raft.raft.bcast_append();
        }
    }
}
