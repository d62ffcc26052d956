//! What a leader appends: proposals, many at a time, and changes of the members, one at a time.

use super::members::{Change, ChangeSet, MAX_CHANGES, Members};
use super::types::{Output, Why};
use super::{MAX_BATCH, MAX_ENTRY_BYTES, MAX_UNAPPLIED_BYTES, MAX_UNCOMMITTED_BYTES, Order};
use bytes::Bytes;
use raft::eraftpb::{self, Message, MessageType};
use raft::{Changer, StateRole};

impl Order {
    pub(super) fn propose(&mut self, ticket: u64, data: Bytes) {
        let why = match data.len() {
            0 => Why::Empty,
            len if len > MAX_ENTRY_BYTES => Why::TooLarge,
            len => {
                self.proposed_bytes += len;
                self.proposals.push((ticket, data));
                if self.proposals.len() >= MAX_BATCH.0 || self.proposed_bytes >= MAX_BATCH.1 {
                    self.append_proposals();
                    self.settle();
                }
                return;
            }
        };
        self.drop_ticket(ticket, why);
    }

    /// Appends the proposals of this turn as one message to Raft, so that they leave as one message
    /// to each member and as one write to disk.
    pub(super) fn append_proposals(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        self.proposed_bytes = 0;
        let mut proposals = std::mem::take(&mut self.proposals);
        if let Some(why) = self.no_proposals() {
            for (ticket, _) in proposals.drain(..) {
                self.drop_ticket(ticket, why.clone());
            }
        }
        let mut under_way = self.raft.raft.uncommitted_size();
        let (term, mut index) = (self.raft.raft.term, self.raft.raft.raft_log.last_index());
        let mut entries = Vec::with_capacity(proposals.len());
        for (ticket, data) in proposals.drain(..) {
            let size = under_way + data.len();
            // One proposal always fits, as in Raft's own count.
            if under_way > 0 && size as u64 > MAX_UNCOMMITTED_BYTES {
                self.drop_ticket(ticket, Why::Busy);
                continue;
            }
            (under_way, index) = (size, index + 1);
            entries.push(eraftpb::Entry { data, ..eraftpb::Entry::default() });
            self.outputs.push_back(Output::Appended { ticket, term, index });
        }
        self.proposals = proposals; // Its room is used again.
        if !entries.is_empty() {
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.config.node;
            message.set_entries(entries.into());
            let stepped = self.raft.step(message);
            self.notice.sent(index);
            debug_assert!(stepped.is_ok(), "all that Raft would refuse was refused: {stepped:?}");
        }
    }

    fn no_proposals(&self) -> Option<Why> {
        let raft = &self.raft.raft;
        if raft.state != StateRole::Leader {
            Some(Why::NotLeader { leader: self.leader() })
        } else if raft.lead_transferee.is_some() {
            Some(Why::Transferring)
        } else if self.is_full() {
            Some(Why::Busy)
        } else {
            None
        }
    }

    /// Whether the state above lags too far behind to take anything more in.
    pub(super) fn is_full(&self) -> bool {
        let applied = self.config.cache_bytes;
        self.raft.store().cache_bytes() > applied.saturating_add(MAX_UNAPPLIED_BYTES)
    }

    pub(super) fn change_members(&mut self, ticket: u64, changes: Vec<Change>, context: Bytes) {
        let set = ChangeSet { changes, context };
        let data = set.encode();
        if data.len() > MAX_ENTRY_BYTES {
            return self.drop_ticket(ticket, Why::TooLarge);
        }
        if let Some(why) = self.no_proposals().or_else(|| self.no_change(&set)) {
            return self.drop_ticket(ticket, why);
        }
        let raft = &self.raft.raft;
        let (term, index) = (raft.term, raft.raft_log.last_index() + 1);
        match self.raft.propose_conf_change(data, set.to_raft()) {
            Ok(()) => self.outputs.push_back(Output::Appended { ticket, term, index }),
            Err(_) => self.drop_ticket(ticket, Why::Busy),
        }
    }

    /// Why the members cannot be changed like this. Raft itself would append an empty entry instead
    /// and say nothing, or find out only where the change commits.
    fn no_change(&self, set: &ChangeSet) -> Option<Why> {
        let raft = &self.raft.raft;
        if self.members.is_joint() || raft.has_pending_conf() {
            return Some(Why::Members("another change is under way".to_owned()));
        }
        let why = if set.changes.is_empty() || set.changes.len() > MAX_CHANGES {
            "no changes, or too many".to_owned()
        } else if set.changes.iter().any(|change| matches!(change, Change::Only(_))) {
            "nobody is left alone by a leader".to_owned()
        } else if set.changes.iter().any(|change| change.id() == 0) {
            "0 is not the id of a member".to_owned()
        } else {
            let change = set.to_raft();
            let mut changer = Changer::new(raft.prs());
            let changed = match change.enter_joint() {
                Some(auto_leave) => changer.enter_joint(auto_leave, change.get_changes()),
                None => changer.simple(change.get_changes()),
            };
            let checked = changed.map_err(|e| e.to_string()).and_then(|(members, _)| {
                Members::from_raft(&members.to_conf_state()).check().map_err(|e| e.to_string())
            });
            checked.err()?
        };
        Some(Why::Members(why))
    }

    pub(super) fn drop_ticket(&mut self, ticket: u64, why: Why) {
        self.outputs.push_back(Output::Dropped { ticket, why });
    }
}
