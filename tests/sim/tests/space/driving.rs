//! What the order thread does, as `runtime/node/space/order_thread.rs` and its `receiving.rs`.

use super::apply::{ApplyInput, kept, remove_before};
use super::node::{Effect, Ended, Held, OrderInput, Running};
use bytes::Bytes;
use synod_core::group::{self, Frame};
use synod_core::log::{self, AppendError, SyncError};
use synod_core::order::{self, Entry, Input, Output, Persist, Role, SnapshotMeta};
use synod_core::retention::{Kept, Retention};

/// Segments that are removed at a time.
const SEGMENTS: usize = 4;

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    Done,
    /// It is to be tried again later.
    Full,
    Failed,
}

impl Running {
    /// Takes all that waits in, and does what follows from it, until the disk must be waited for.
    pub(crate) fn wake(&mut self) {
        if self.syncing.is_some() {
            return;
        }
        while let Some(input) = self.inputs.pop_front() {
            self.take(input);
        }
        self.look_at_applied();
        self.tell(group::Input::Give);
        self.drain();
    }

    /// The time that *order* asked for has come.
    pub(crate) fn tick(&mut self) {
        if self.syncing.is_some() {
            return;
        }
        self.look_at_applied();
        self.order.handle(self.now, Input::Timeout);
        self.tell(group::Input::Tick);
        self.drain();
    }

    fn take(&mut self, input: OrderInput) {
        let input = match input {
            OrderInput::Propose(command, request) => {
                return self.tell(group::Input::Propose(command, request));
            }
            OrderInput::Frame { peer, bytes } => return self.receive(peer, &bytes),
            OrderInput::Snapshot { peer, file, meta, frame } => {
                return self.receive_snapshot(peer, file, meta, &frame);
            }
            OrderInput::Lost(peer) => {
                self.unconnected.insert(peer.clone());
                return self.tell(group::Input::Lost(peer));
            }
            OrderInput::Found(peer) => {
                self.unconnected.remove(&peer);
                return self.tell(group::Input::Found(peer));
            }
            OrderInput::Mark(mark) => return self.take_own_mark(mark),
            OrderInput::Rebuilding(is_so) => {
                if is_so {
                    self.waiting.snapshot = None;
                }
                Input::Abstain(is_so)
            }
            OrderInput::AskState(member) => return self.ask_for_state(member),
            OrderInput::Ask(ask) => return self.tell(group::Input::Ask(ask, ())),
            OrderInput::ReadIndex(request) => {
                let ticket = self.coordinator.ticket();
                self.waiting.reads.insert(ticket, request);
                Input::ReadIndex { ticket }
            }
            OrderInput::SnapshotSaved { meta, file } => {
                self.waiting.snapshot = Some((meta.clone(), file));
                self.retain(meta.position.index);
                Input::Compacted { snapshot: meta, first_index: self.log.first_index() }
            }
            OrderInput::SnapshotSent { to, ok } => Input::SnapshotSent { to, ok },
            OrderInput::Fetched { first, entries } => Input::Fetched { first, entries },
            // Whatever came, it is looked at how far.
            OrderInput::Applied => return,
        };
        self.order.handle(self.now, input);
    }

    fn look_at_applied(&mut self) {
        let raft_index = self.apply.through.index;
        if raft_index <= self.waiting.seen_applied {
            return;
        }
        self.waiting.seen_applied = raft_index;
        self.order.handle(self.now, Input::Applied { raft_index });
        let changed = self.membership.changed_at();
        if changed != self.waiting.seen_membership {
            self.waiting.seen_membership = changed;
            self.tell(group::Input::MembersApplied);
        }
    }

    /// Lets what need not be kept go, as `order_thread/retaining.rs`: snapshots first.
    fn retain(&mut self, newest: u64) {
        let note = |what, e: &dyn std::fmt::Display| Effect::Note(what, e.to_string());
        if self.retention != Retention::Everything {
            self.log.roll();
        }
        let kept = match kept(&self.disk) {
            Ok(kept) => kept,
            Err(e) => return self.effects.push(note("not retained", &e)),
        };
        let kept: Vec<Kept> = kept.into_iter().filter(|kept| kept.raft_index <= newest).collect();
        let (log, agreed) = (&self.log, self.marking.agreed);
        let cut = self.retention.cut(0, &kept, agreed, |index| log.bytes_behind(index));
        let Some(cut) = cut else { return };
        if let Err(e) = remove_before(&self.disk, cut.index) {
            return self.effects.push(note("not retained", &e));
        }
        match self.log.compact_some(cut.raft_index, SEGMENTS) {
            Ok(0) => {}
            Ok(_) => self.effects.push(note("compacted", &cut.raft_index)),
            Err(e) => self.effects.push(note("not compacted", &e)),
        }
    }

    /// Does what *order* wants done, until it wants nothing more or something is to be written.
    pub(crate) fn drain(&mut self) {
        let mut written = None;
        while let Some(output) = self.order.poll_output() {
            match output {
                Output::Persist(persist) => {
                    written = Some(persist.number);
                    self.install(persist.snapshot.as_ref());
                    self.append(persist);
                }
                output => self.obey(output, written.is_some()),
            }
        }
        self.syncing = written;
    }

    /// The disk has come to it: all that was appended is made safe.
    pub(crate) fn sync(&mut self) -> Synced {
        let Some(number) = self.syncing else { return Synced::Done };
        match self.log.sync() {
            Ok(()) => {}
            Err(SyncError::Full(_)) => {
                self.is_full = true;
                return Synced::Full;
            }
            Err(SyncError::Failed(_)) => return Synced::Failed,
        }
        self.is_full = false;
        self.syncing = None;
        for held in std::mem::take(&mut self.waiting.held) {
            self.send_held(held);
        }
        self.order.handle(self.now, Input::Persisted { number });
        self.drain();
        Synced::Done
    }

    fn append(&mut self, persist: Persist) {
        let entries: Vec<log::Entry> = persist.entries.into_iter().map(to_log).collect();
        let hard_state = persist.hard_state.map(|state| log::HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        });
        let mut result = self.log.append(&entries, hard_state);
        if let Err(AppendError::PendingFull { .. }) = result {
            result = match self.log.sync() {
                Ok(()) => self.log.append(&entries, hard_state),
                Err(e) => return self.fatal(e.to_string()),
            };
        }
        if let Err(e) = result {
            self.fatal(format!("the log does not take what Raft wants written: {e}"));
        }
    }

    fn obey(&mut self, output: Output, is_writing: bool) {
        match output {
            Output::Appended { ticket, term, index } => {
                self.tell(group::Input::Appended { ticket, term, index });
            }
            Output::Commit { entries, through } => {
                self.effects.push(Effect::Committed(through));
                self.waiting.through = through;
                for entry in entries {
                    let (index, term) = (entry.index, entry.term);
                    self.tell(group::Input::Committed { index, term });
                    if entry.members.is_some() {
                        self.effects.push(Effect::Changed);
                    }
                    let (data, members) = (entry.data, entry.members);
                    if members.is_none() {
                        let at = order::Position { index, term };
                        self.effects.push(Effect::Chosen(at, data.clone()));
                    }
                    self.apply.inputs.push_back(ApplyInput::Commit { index, term, data, members });
                }
                self.apply.inputs.push_back(ApplyInput::Through(through));
            }
            Output::Dropped { ticket, why } => match self.waiting.reads.remove(&ticket) {
                Some(request) => {
                    let ended = Ended::NotProposed("no leader");
                    self.effects.push(Effect::Ended(request, ended));
                }
                None => self.tell(group::Input::Dropped(ticket, why)),
            },
            Output::Fetch { first, last, max_bytes } => {
                let reader = Box::new(self.log.reader());
                self.effects.push(Effect::Fetch { reader, first, last, max_bytes });
            }
            Output::ReadReady { ticket, index } => {
                if let Some(request) = self.waiting.reads.remove(&ticket) {
                    self.apply.reaching.push((index, request));
                    self.tell_reached();
                }
            }
            Output::Refused { from, why } => {
                self.doubt(from, &why);
                self.effects.push(Effect::Note("refused", format!("{from}: {why}")));
            }
            Output::Role { role, term, leader } => self.led_by(role, term, leader),
            Output::Send { to, message, after, snapshot, urgent } => {
                let held = Held { to, message, urgent, snapshot };
                if after.is_some() && is_writing {
                    self.waiting.held.push(held);
                } else {
                    self.send_held(held);
                }
            }
            Output::SnapshotWanted { index } => {
                self.apply.inputs.push_back(ApplyInput::SnapshotOfRaft { at_least: index });
            }
            Output::Persist(_) => {}
        }
    }

    fn send_held(&mut self, held: Held) {
        let Held { to, message, urgent, snapshot } = held;
        if let Some(meta) = snapshot {
            return self.offer(to, &meta, message);
        }
        let peer = self.coordinator.peer_of(&self.membership, to);
        let frame = Frame::Raft(message);
        if !peer.is_some_and(|peer| self.send(&peer, urgent, &frame)) && !urgent {
            self.order.handle(self.now, Input::Unreachable { to });
        }
    }

    fn led_by(&mut self, role: Role, term: u64, leader: Option<u64>) {
        self.effects.push(Effect::Role(role, term));
        self.leader = (role, term, leader);
        self.tell(group::Input::Role { role, term, leader });
        if role != Role::Leader {
            self.marking.collector.forget();
        }
        self.mark_for(leader);
    }

    // What comes from other members.

    fn receive(&mut self, peer: Bytes, bytes: &Bytes) {
        match Frame::decode(bytes) {
            Ok(Frame::Mark { mark, signature }) => {
                if let Some((member, _)) = self.membership.of_peer(&peer) {
                    self.take_mark(member, &peer, mark, signature);
                }
            }
            Ok(Frame::WantState { first }) => {
                if self.membership.of_peer(&peer).is_some() {
                    self.send_state(&peer, first);
                }
            }
            Ok(frame) => self.tell(group::Input::Frame { peer, frame, with_snapshot: false }),
            Err(e) => self.fatal(format!("a frame of a member cannot be read: {e}")),
        }
    }

    fn receive_snapshot(
        &mut self,
        peer: Bytes,
        file: std::path::PathBuf,
        meta: SnapshotMeta,
        frame: &Bytes,
    ) {
        match Frame::decode(frame) {
            Ok(frame @ Frame::Raft(_)) => {
                self.waiting.arrived.push(meta, file);
                self.tell(group::Input::Frame { peer, frame, with_snapshot: true });
            }
            Ok(Frame::State) => self.try_state(&file, meta.position, meta.members),
            _ => {}
        }
    }

    /// Makes a snapshot that has arrived this node's state: the log goes on behind it.
    fn install(&mut self, wanted: Option<&SnapshotMeta>) {
        let Some(wanted) = wanted else { return };
        let Some(file) = self.waiting.arrived.take(wanted.position) else {
            return self
                .fatal("the file of a snapshot that Raft has taken is not there".to_owned());
        };
        let (at, members) = (wanted.position, wanted.members.clone());
        if self.marking.wanted.take().is_some() {
            // It goes on behind all that was held.
            self.apply.inputs.clear();
            self.inputs.push_back(OrderInput::Rebuilding(false));
        }
        self.waiting.through = at;
        if let Err(e) = self.log.install(log::Position { term: at.term, index: at.index }) {
            return self.fatal(format!("the log does not go on behind a snapshot: {e}"));
        }
        self.apply.inputs.push_back(ApplyInput::Install { file: file.clone(), at, members });
        self.waiting.snapshot = Some((wanted.clone(), file));
    }

    /// A reader asks for what nobody else could have written, or for an index.
    pub(crate) fn read(&mut self, request: u64) {
        if self.serves_not() {
            let ended = Ended::NotProposed("rebuilding");
            return self.effects.push(Effect::Ended(request, ended));
        }
        if self.membership.members().len() <= 1 && self.leader.0 == Role::Leader {
            let through = self.apply.through.index;
            if through < self.begins_at {
                return self.apply.reaching.push((self.begins_at, request));
            }
            return self.effects.push(Effect::Ended(request, Ended::Readable(through)));
        }
        self.inputs.push_back(OrderInput::ReadIndex(request));
    }
}

fn to_log(entry: Entry) -> log::Entry {
    let kind = u8::try_from(entry.kind.number()).unwrap_or(u8::MAX);
    log::Entry { term: entry.term, index: entry.index, kind, data: entry.data }
}
