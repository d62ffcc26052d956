//! The steps of the machine, one for each input, and how what Raft has ready becomes outputs.

use super::members::{Change, ChangeSet, MAX_CHANGES, Members};
use super::message;
use super::store::{self, Store, snapshot_from_raft};
use super::types::{
    Committed, Config, Entry, EntryKind, HardState, Output, Persist, Position, Recovered, Role,
    SnapshotMeta, StartError, Why,
};
use super::{
    MAX_APPEND_BYTES, MAX_BATCH, MAX_ENTRY_BYTES, MAX_FETCH_BYTES, MAX_INFLIGHT_APPENDS,
    MAX_UNAPPLIED_BYTES, MAX_UNCOMMITTED_BYTES, Order,
};
use crate::time::Time;
use bytes::Bytes;
use raft::eraftpb::{self, Message, MessageType};
use raft::{Changer, RawNode, SnapshotStatus, StateRole};

/// Raft on what the disk held.
pub(super) fn start(config: &Config, recovered: Recovered) -> Result<RawNode<Store>, StartError> {
    let applied = recovered.applied;
    let store = Store::new(recovered)?;
    if config.tick.is_zero() {
        return Err(StartError::Config("the tick must be longer than nothing".to_owned()));
    }
    let raft_config = raft::Config {
        id: config.node,
        election_tick: config.election_ticks as usize,
        heartbeat_tick: config.heartbeat_ticks as usize,
        applied,
        max_size_per_msg: MAX_APPEND_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_APPENDS,
        check_quorum: true,
        pre_vote: true,
        // Raft's own would join everything on its way to a member into one message without bound;
        // proposals are joined before they reach it.
        batch_append: false,
        max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
        max_committed_size_per_ready: MAX_APPEND_BYTES,
        ..raft::Config::default()
    };
    raft_config.validate().map_err(|e| StartError::Config(e.to_string()))?;
    let silent = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&raft_config, store, &silent).map_err(|e| StartError::Config(e.to_string()))
}

/// The hard state that Raft has at the moment.
pub(super) fn hard_state(raft: &RawNode<Store>) -> HardState {
    let raft = &raft.raft;
    HardState { term: raft.term, vote: raft.vote, commit: raft.raft_log.committed }
}

impl Order {
    // Proposals.

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

    fn drop_ticket(&mut self, ticket: u64, why: Why) {
        self.outputs.push_back(Output::Dropped { ticket, why });
    }

    // The network.

    pub(super) fn message(&mut self, from: u64, bytes: &Bytes) {
        match self.admit(from, bytes) {
            // Raft's errors here are about local messages and unknown senders: both are refused
            // before.
            Ok(message) => drop(self.raft.step(message)),
            Err(why) => self.outputs.push_back(Output::Refused { from, why }),
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: u64, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raft.report_snapshot(to, status);
    }

    pub(super) fn transfer(&mut self, to: u64) {
        // A follower would pass this on, and raft-rs panics where it then comes by again.
        if self.role() == Role::Leader && self.members.voters.contains(&to) {
            self.raft.transfer_leader(to);
        }
    }

    // Time and elections.

    pub(super) fn timeout(&mut self, now: Time) {
        if now < self.next_tick {
            return;
        }
        // Ticks missed are not made up for: a node that slept must not hold it against its leader.
        let tick = self.config.tick;
        let next = self.next_tick + tick;
        self.next_tick = if next > now { next } else { now + tick };
        let given_up = self.reads.tick();
        let leader = self.leader();
        for ticket in given_up {
            self.drop_ticket(ticket, Why::NotLeader { leader });
        }
        if self.role() == Role::Leader || self.may_wait_for_election() {
            self.pin_election_timeout();
            self.raft.tick();
        }
    }

    pub(super) fn campaign(&mut self) {
        if self.role() != Role::Leader && self.may_campaign() {
            // Fails for local messages only, which this is not.
            drop(self.raft.campaign());
        }
    }

    /// Whether standing for election now breaks nothing that Raft takes for granted.
    pub(super) fn may_campaign(&self) -> bool {
        self.raft.raft.promotable() && self.may_wait_for_election()
    }

    /// While a snapshot is on its way to disk Raft cannot look for unapplied changes of members,
    /// and a sole voter elects itself only with its whole log on disk; it panics otherwise.
    fn may_wait_for_election(&self) -> bool {
        let sole = self.members.is_sole_voter(self.config.node);
        self.installing.is_empty() && (!sole || self.is_settled_on_disk())
    }

    /// Whether the whole log is on disk.
    pub(super) fn is_settled_on_disk(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.persisted == log.last_index()
    }

    /// Raft draws its election timeouts from the thread's generator. Drawn from the seed, the same
    /// inputs give the same outputs. Only a tick looks at it.
    fn pin_election_timeout(&mut self) {
        let Config { seed, node, election_ticks, .. } = self.config;
        let draw = mix(seed ^ mix(node ^ mix(self.raft.raft.term)));
        let ticks = u64::from(election_ticks);
        let timeout = ticks + draw % ticks;
        self.raft.raft.set_randomized_election_timeout(timeout as usize);
    }

    // Disk.

    pub(super) fn persisted(&mut self, number: u64) {
        while self.writing.front().is_some_and(|&n| n <= number) {
            self.writing.pop_front();
        }
        // Raft counts readies; those between two writes had nothing to write.
        let done = self.writing.front().map_or(self.number, |next| next - 1);
        self.raft.on_persist_ready(done);
        while self.installing.front().is_some_and(|&(n, _)| n <= number) {
            if let Some((_, index)) = self.installing.pop_front() {
                self.raft.advance_apply_to(index);
            }
        }
    }

    pub(super) fn compacted(&mut self, snapshot: SnapshotMeta, first_index: u64) {
        // One that a leader's snapshot has overtaken means nothing any more.
        if snapshot.position.index <= self.committed && self.installing.is_empty() {
            self.raft.mut_store().compact(snapshot, first_index);
        }
    }

    pub(super) fn fetched(&mut self, first: u64, entries: Vec<Entry>) {
        let Some((first, last)) = self.raft.mut_store().open_window(first, entries) else {
            return;
        };
        for peer in self.progress() {
            self.feed(peer.id, first, last);
        }
        self.raft.mut_store().close_window();
    }

    /// Sends a member all that the window holds for it, as far as its line is free.
    fn feed(&mut self, id: u64, first: u64, last: u64) {
        let raft = &mut self.raft.raft;
        let next = |raft: &raft::Raft<Store>| {
            raft.prs().get(id).filter(|p| !p.is_paused()).map(|p| p.next_idx)
        };
        while let Some(before) = next(raft).filter(|next| (first..=last).contains(next)) {
            raft.send_append(id);
            if next(raft).is_none_or(|after| after <= before) {
                break;
            }
        }
    }

    // What Raft has ready.

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
        let hard_state = Some(hard_state(&self.raft)).filter(|state| *state != self.hard_state);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
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

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of the input moves every bit of
/// the output.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
