//! How what Raft has ready becomes outputs.

use super::members::{ChangeSet, Members};
use super::message;
use super::store::{self, snapshot_from_raft};
use super::types::{Committed, Entry, EntryKind, Output, Persist, Position, Role, SnapshotMeta};
use super::{MAX_FETCH_BYTES, Order};
use raft::StateRole;
use raft::eraftpb::{self, Message};

impl Order {
    /// Takes all that Raft has ready, until it has nothing more.
    pub(super) fn settle(&mut self) {
        loop {
            while self.raft.has_ready() {
                self.take_ready();
            }
            self.ask_reads();
            if self.members.is_sole_voter(self.config.node) {
                self.campaign();
            }
            if !self.raft.has_ready() {
                break;
            }
        }
        let alone = self.members.is_alone(self.config.node);
        let bound = if alone { 0 } else { self.config.cache_bytes };
        let store = self.raft.mut_store();
        store.trim(self.applied, bound);
        for (first, last) in store.take_fetches() {
            self.outputs.push_back(Output::Fetch { first, last, max_bytes: MAX_FETCH_BYTES });
        }
        if store.take_snapshot_wanted() {
            self.outputs.push_back(Output::SnapshotWanted { index: self.committed });
        }
    }

    fn take_ready(&mut self) {
        self.tell_role();
        let mut ready = self.raft.ready();
        self.number = ready.number();
        self.send(ready.take_messages(), None);
        let committed = ready.take_committed_entries();
        let persisted_messages = ready.take_persisted_messages();
        for read in ready.take_read_states() {
            for ticket in self.reads.answer(&read.request_ctx) {
                self.outputs.push_back(Output::ReadReady { ticket, index: read.index });
            }
        }
        if ready.must_sync() {
            let snapshot = Some(ready.snapshot()).filter(|s| !s.is_empty()).map(snapshot_from_raft);
            self.persist(snapshot, &ready.take_entries());
        }
        self.send(persisted_messages, self.writing.back().copied());
        self.raft.advance_append_async(ready);
        if self.writing.is_empty() {
            self.raft.on_persist_ready(self.number);
        }
        self.commit(committed);
    }

    fn persist(&mut self, snapshot: Option<SnapshotMeta>, entries: &[eraftpb::Entry]) {
        let number = self.number;
        let mut state = self.hard_state();
        // A torn write may leave the hard state of this one beside the entries of the one before,
        // which this one supersedes: it must not call those committed.
        if snapshot.is_some() {
            state.commit = self.hard_state.commit;
        } else if let Some(first) = entries.first() {
            state.commit = state.commit.min(first.index - 1);
        }
        let hard_state = (state != self.hard_state).then_some(state);
        self.hard_state = state;
        let store = self.raft.mut_store();
        if let Some(snapshot) = &snapshot {
            let index = snapshot.position.index;
            store.restore(snapshot.clone());
            self.members = snapshot.members.clone();
            self.committed = index;
            self.installing.push_back((number, index));
        }
        store.append(entries);
        self.writing.push_back(number);
        let entries = entries.iter().map(store::from_raft).collect();
        self.outputs.push_back(Output::Persist(Persist { number, snapshot, hard_state, entries }));
    }

    fn send(&mut self, mut messages: Vec<Message>, after: Option<u64>) {
        // Raft goes through its members in the order of a hash.
        messages.sort_by_key(|message| message.to);
        for message in messages {
            let offered = Some(message.get_snapshot()).filter(|s| !s.is_empty());
            let snapshot = offered.map(snapshot_from_raft);
            let to = message.to;
            for message in message::encode(&self.mark, &message) {
                let snapshot = snapshot.clone();
                self.outputs.push_back(Output::Send { to, message, after, snapshot });
            }
        }
    }

    fn commit(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(last) = entries.last() else {
            return;
        };
        let through = Position { index: last.index, term: last.term };
        self.committed = through.index;
        let entries = entries.iter().filter_map(|entry| self.committed_entry(entry)).collect();
        self.outputs.push_back(Output::Commit { entries, through });
        let end = self.raft.raft.raft_log.last_index();
        self.raft.advance_apply_to(through.index);
        if self.role() == Role::Leader {
            if !self.members.is_voter(self.config.node) {
                // raft-rs lets a leader that was removed go on, and panics at its next commit.
                let term = self.raft.raft.term;
                self.raft.raft.become_follower(term, raft::INVALID_ID);
            } else if self.raft.raft.raft_log.last_index() > end {
                // Raft has appended the end of a joint configuration, and tells nobody by itself.
                self.raft.raft.bcast_append();
            }
        }
    }

    fn committed_entry(&mut self, entry: &eraftpb::Entry) -> Option<Committed> {
        let Entry { term, index, kind, data } = store::from_raft(entry);
        match kind {
            EntryKind::Normal if data.is_empty() => None,
            EntryKind::Normal => Some(Committed { index, term, data, members: None }),
            EntryKind::ConfChange => {
                // Every replica reads the same bytes and finds the same errors in them.
                let set = ChangeSet::decode(&data);
                if let Ok(set) = &set
                    && let Ok(members) = self.raft.apply_conf_change(&set.to_raft())
                {
                    self.members = Members::from_raft(&members);
                }
                let data = set.map(|set| set.context).unwrap_or_default();
                Some(Committed { index, term, data, members: Some(self.members.clone()) })
            }
        }
    }

    fn tell_role(&mut self) {
        let now = (self.role(), self.raft.raft.term, self.leader());
        if now != self.told {
            self.told = now;
            self.reads.put_again();
            let (role, term, leader) = now;
            self.outputs.push_back(Output::Role { role, term, leader });
        }
    }

    fn ask_reads(&mut self) {
        let raft = &self.raft.raft;
        let heard = match raft.state {
            // A leader does not know what is committed before it has committed in its own term.
            StateRole::Leader => raft.commit_to_current_term(),
            _ => raft.leader_id != raft::INVALID_ID,
        };
        if heard && !self.reads.is_empty() {
            for context in self.reads.take_due() {
                self.raft.read_index(context);
            }
        }
    }
}
