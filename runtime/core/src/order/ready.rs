//! How what Raft has ready becomes outputs.

use super::members::{Change, ChangeSet, Members};
use super::message;
use super::store::{self, snapshot_from_raft};
use super::types::{
    Committed, Entry, EntryKind, HardState, Output, Persist, Position, Role, SnapshotMeta,
};
use super::{MAX_FETCH_BYTES, Order, Write};
use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{self, EntryType, Message, MessageType};

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
        self.ready = ready.number();
        let mut messages = ready.take_messages();
        // A voter that needs nobody's vote but its own leads before that is on disk. Before it is,
        // it could come back, lead the same term again, and tell its learners something else.
        let promised = self.is_promise_on_disk();
        if promised {
            self.send(std::mem::take(&mut messages), None);
        }
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
        let after = self.writing.back().map(|write| write.number);
        self.send(messages, after);
        self.send(persisted_messages, after);
        self.raft.advance_append_async(ready);
        if self.writing.is_empty() {
            self.raft.on_persist_ready(self.ready);
        }
        self.commit(committed);
    }

    /// Whether the term and the vote are where they cannot be forgotten.
    fn is_promise_on_disk(&self) -> bool {
        let HardState { term, vote, .. } = self.hard_state();
        let written = (term, vote) == (self.hard_state.term, self.hard_state.vote);
        written && self.writing.iter().all(|write| !write.promises)
    }

    /// Cuts what Raft wants on disk into writes of which a crash may leave any part without harm:
    ///
    /// - A hard state must not call entries committed that a write supersedes, should its own be
    ///   lost. So it speaks of what earlier writes hold.
    /// - An entry that changes the members must not be there without the knowledge that the change
    ///   before it is committed: a member that had forgotten that could be elected by voters of two
    ///   configurations ago. (Raft applies changes where they commit; every message that brings the
    ///   second change also says that the first is committed, and an election waits for committed
    ///   changes.) So that knowledge is a write of its own, before.
    fn persist(&mut self, snapshot: Option<SnapshotMeta>, entries: &[eraftpb::Entry]) {
        if let Some(snapshot) = snapshot {
            self.raft.mut_store().restore(snapshot.clone());
            self.members = snapshot.members.clone();
            self.committed = snapshot.position.index;
            self.installing.push_back((self.ready, self.committed));
            self.write(Some(snapshot), None, &[]);
        }
        self.raft.mut_store().append(entries);
        let commit = self.hard_state().commit;
        let is_change = |e: &eraftpb::Entry| e.get_entry_type() != EntryType::EntryNormal;
        for part in entries.chunk_by(|_, next| !is_change(next)) {
            let Some(first) = part.first() else { continue };
            let mut state = self.new_hard_state(commit.min(first.index - 1));
            if is_change(first) && state.is_some() {
                self.write(None, state.take(), &[]);
            }
            self.write(None, state, part);
        }
        if entries.is_empty() {
            let state = self.new_hard_state(commit);
            if state.is_some() {
                self.write(None, state, &[]);
            }
        }
    }

    fn new_hard_state(&self, commit: u64) -> Option<HardState> {
        Some(HardState { commit, ..self.hard_state() }).filter(|state| *state != self.hard_state)
    }

    fn write(
        &mut self,
        snapshot: Option<SnapshotMeta>,
        hard_state: Option<HardState>,
        entries: &[eraftpb::Entry],
    ) {
        self.writes += 1;
        let (number, ready) = (self.writes, self.ready);
        let old = self.hard_state;
        self.hard_state = hard_state.unwrap_or(old);
        let promises = (old.term, old.vote) != (self.hard_state.term, self.hard_state.vote);
        self.writing.push_back(Write { number, ready, promises });
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
            let kind = message.get_msg_type();
            let urgent = !matches!(kind, MessageType::MsgAppend | MessageType::MsgSnapshot);
            for message in message::encode(&self.mark, &message) {
                let snapshot = snapshot.clone();
                self.outputs.push_back(Output::Send { to, message, after, snapshot, urgent });
            }
        }
    }

    fn commit(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(last) = entries.last() else {
            return;
        };
        let through = Position { index: last.index, term: last.term };
        let before = std::mem::replace(&mut self.committed, through.index);
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
            } else {
                self.notice(before);
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
                let expected = self.members.after_change(&data);
                if let Ok(set) = &set {
                    self.apply_changes(set);
                }
                debug_assert_eq!(self.members, expected, "as whoever reads the log takes it");
                let data = set.map(|set| set.context).unwrap_or_default();
                Some(Committed { index, term, data, members: Some(self.members.clone()) })
            }
        }
    }

    fn apply_changes(&mut self, set: &ChangeSet) {
        let mut apply = |set: &ChangeSet| {
            if let Ok(members) = self.raft.apply_conf_change(&set.to_raft()) {
                self.members = Members::from_raft(&members);
            }
        };
        let [Change::Only(id)] = set.changes[..] else { return apply(set) };
        // Raft knows no such change, and takes it in steps; nobody is asked for any of them.
        apply(&ChangeSet::default());
        for change in self.members.to_only(id) {
            let step = ChangeSet { changes: vec![change], context: Bytes::new() };
            if let Ok(members) = self.raft.apply_conf_change(&step.to_raft()) {
                self.members = Members::from_raft(&members);
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
