//! The thread of a space that is followed: it takes in what is heard and fetched, writes what leads on from
//! here, and hands it to *apply*. What has queued is written and synced together, as a member does it.

use super::super::apply_thread::ApplyInput;
use super::super::links::Links;
use super::super::log_writer::LogWriter;
use super::super::mailbox::{Receiver, Sender};
use super::super::order_thread::{OrderInput, since};
use super::super::shared::Shared;
use super::super::snapshots::Snapshots;
use super::{Answered, Observing, Taken, memory};
use crate::store::FsDisk;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use synod_core::group::observer::{Action, Fetched, Input, Memory, Observer, Request, Scene};
use synod_core::group::{Head, Place};
use synod_core::log::{self, Position};
use synod_core::order::{self, EntryKind, HardState, Members, Persist};
use synod_core::retention::{Kept, Retention};

/// Inputs that are taken in before what they lead to is written.
const MAX_TAKEN: usize = 256;
/// How often it is looked who is there to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The number of a question that is not the machine's: its own begin with 1.
const STATE: u64 = 0;
/// Segments that are removed at a time.
const SEGMENTS: usize = 4;

pub(in super::super) struct ObserverThread {
    pub(in super::super) id: [u8; 32],
    pub(in super::super) machine: Observer<Taken>,
    pub(in super::super) inputs: Receiver<OrderInput>,
    /// For what comes of questions.
    pub(in super::super) to_self: Sender<OrderInput>,
    pub(in super::super) log: LogWriter,
    pub(in super::super) disk: FsDisk,
    pub(in super::super) apply: Sender<ApplyInput>,
    pub(in super::super) snapshots: Arc<Snapshots>,
    pub(in super::super) shared: Arc<Shared>,
    pub(in super::super) links: Arc<dyn Links>,
    pub(in super::super) observing: Arc<Observing>,
    pub(in super::super) started: Instant,
    /// Raft's members as of what is written.
    pub(in super::super) members: Members,
    /// The last entry of the newest snapshot.
    pub(in super::super) snapshot: u64,
    /// The snapshots that are kept, newest first.
    pub(in super::super) kept: Vec<Kept>,
    /// When it was last looked who is there.
    pub(in super::super) looked: Option<Instant>,
}

/// What is written and waits for the disk.
#[derive(Default)]
struct Written {
    entries: Vec<log::Entry>,
    heads: Vec<(Head, u64)>,
}

impl ObserverThread {
    pub(in super::super) fn run(mut self) {
        self.look_at_snapshots();
        let mut goes_on = true;
        while goes_on {
            self.look_who_is_there();
            let timeout = self.machine.poll_timeout(self.now()).since(self.now()).min(LOOK_EVERY);
            let first = match self.inputs.recv_timeout(timeout) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(OrderInput::Stop),
            };
            let mut stop = match first {
                Some(input) => self.take(input),
                None => self.tell(Input::Tick),
            };
            for _ in 1..MAX_TAKEN {
                let Ok(input) = self.inputs.try_recv() else { break };
                stop |= self.take(input);
            }
            goes_on = self.obey() && !stop;
            self.show();
        }
        self.remember(self.machine.memory());
        self.log.close(&self.disk);
        drop(self.apply.send(ApplyInput::Stop));
    }

    /// Takes one input in; says whether it is time to stop.
    fn take(&mut self, input: OrderInput) -> bool {
        match input {
            OrderInput::Heard { from, bytes } => {
                self.shared.inbox.fetch_sub(bytes.len(), Ordering::Relaxed);
                self.tell(Input::Heard { from, bytes })
            }
            OrderInput::Asked { number: STATE, answer } => self.take_state(answer),
            OrderInput::Asked { number, answer } => self.tell(Input::Fetched { number, answer }),
            OrderInput::Applied => self.tell(Input::Tick),
            OrderInput::Reader(reply) => {
                drop(reply.send(self.log.reader()));
                false
            }
            OrderInput::SnapshotSaved { meta, kept, .. } => {
                (self.snapshot, self.kept) = (meta.position.index, kept);
                if self.shared.retention() != Retention::Everything {
                    self.log.roll();
                }
                self.retain();
                false
            }
            OrderInput::Tend => {
                self.retain();
                false
            }
            OrderInput::Found { .. } | OrderInput::Lost { .. } => {
                self.looked = None;
                false
            }
            OrderInput::Stop => true,
            OrderInput::AskState { member } => self.ask_for_state(member),
            OrderInput::Ask(_, reply) | OrderInput::Recover(_, reply) => {
                drop(reply.send(Err(super::super::OBSERVES.to_owned())));
                false
            }
            OrderInput::Frame { bytes, .. } => {
                self.shared.inbox.fetch_sub(bytes.len(), Ordering::Relaxed);
                false
            }
            // Dropped, and with them whoever waits is told: the handle lets none of these through.
            OrderInput::Propose(_)
            | OrderInput::ReadIndex(_)
            | OrderInput::Snapshot { .. }
            | OrderInput::Fetched { .. }
            | OrderInput::Mark(_)
            | OrderInput::Apart(_)
            | OrderInput::Rebuilding(_)
            | OrderInput::StateSent
            | OrderInput::SnapshotSent { .. } => false,
        }
    }

    /// Asks a voter for a state in place of this node's, which is wrong and which its own log does not lead to.
    fn ask_for_state(&self, member: u64) -> bool {
        let membership = self.shared.membership();
        if let Some(member) = membership.members().get(&member) {
            let to_self = self.to_self.clone();
            let done = Box::new(move |answer| {
                drop(to_self.send(OrderInput::Asked { number: STATE, answer }));
            });
            self.links.ask(&member.peer, self.id, Request::Snapshot, done);
        }
        false
    }

    /// What came of that: *apply* looks whether the state will do.
    fn take_state(&self, answer: Answered) -> bool {
        let Fetched::Snapshot(head, (file, members)) = answer else { return false };
        let is_voter = self.observing.seen().voters.contains(&head.voter);
        let is_signed = || self.links.is_signed_by(&head.voter, &head.statement(), &head.signature);
        if head.space == self.id && is_voter && is_signed() {
            let Position { term, index } = head.place.at;
            let at = order::Position { term, index };
            drop(self.apply.send(ApplyInput::State { file, at, members }));
        }
        false
    }

    /// Tells the machine; never a reason to stop.
    fn tell(&mut self, input: Input<Taken>) -> bool {
        let (now, membership) = (self.now(), self.shared.membership());
        let links = Arc::clone(&self.links);
        let is_signed = move |peer: &[u8], statement: &[u8], signature: &[u8]| {
            links.is_signed_by(peer, statement, signature)
        };
        let scene = Scene {
            now,
            membership: &membership,
            applied_entry: self.shared.applied(),
            applied: self.shared.applied_index(),
            is_signed: &is_signed,
        };
        self.machine.handle(&scene, input);
        false
    }

    /// Does what the machine says; says whether to go on.
    fn obey(&mut self) -> bool {
        let mut written = Written::default();
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Write { entries, head } => {
                    let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
                    written.entries.extend(entries);
                    written.heads.push((head, bytes));
                }
                Action::Fetch { number, peer, request } => {
                    let to_self = self.to_self.clone();
                    let done = Box::new(move |answer| {
                        drop(to_self.send(OrderInput::Asked { number, answer }));
                    });
                    self.links.ask(&peer, self.id, request, done);
                }
                Action::Install { head, file } => {
                    if !self.write(std::mem::take(&mut written)) || !self.install(head, file) {
                        return false;
                    }
                }
                Action::Remember(memory) => self.remember(&memory),
                Action::Blame { peer, why } => {
                    let peer = self.links.name_of(&peer);
                    tracing::warn!("{peer} was not believed about a space: {why}");
                }
            }
        }
        self.write(written)
    }

    fn remember(&self, memory: &Memory) {
        if let Err(e) = memory::write(&self.disk, memory) {
            tracing::warn!("what voters have said is not noted: {e}");
        }
    }

    /// Makes entries safe, then has them applied. Says whether to go on.
    fn write(&mut self, written: Written) -> bool {
        let Written { entries, heads } = written;
        let Some(last) = entries.last().map(|last| Position { term: last.term, index: last.index })
        else {
            return true;
        };
        let as_order = |entry: &log::Entry| order::Entry {
            term: entry.term,
            index: entry.index,
            kind: kind_of(entry),
            data: entry.data.clone(),
        };
        let persist = Persist {
            number: 0,
            snapshot: None,
            hard_state: Some(HardState { term: last.term, vote: 0, commit: last.index }),
            entries: entries.iter().map(as_order).collect(),
        };
        if !self.log.append(persist) || !self.log.sync() {
            return false;
        }
        for entry in entries {
            let kind = kind_of(&entry);
            let mut members = None;
            if kind == EntryKind::ConfChange {
                self.members = self.members.after_change(&entry.data);
                members = Some(self.members.clone());
            }
            let data = order::Entry::batch(kind, &entry.data);
            let (index, term) = (entry.index, entry.term);
            drop(self.apply.send(ApplyInput::Commit { index, term, data, members }));
        }
        let through = order::Position { term: last.term, index: last.index };
        drop(self.apply.send(ApplyInput::Through(through)));
        let mut seen = self.observing.seen();
        heads.into_iter().for_each(|(head, bytes)| seen.heads.keep(head, bytes));
        true
    }

    /// Makes a snapshot that a voter has signed for the state; the log goes on behind it.
    fn install(&mut self, head: Head, (file, members): Taken) -> bool {
        let Place { at, .. } = head.place;
        self.log.install(at);
        if !self.log.sync() {
            return false;
        }
        self.members = members.clone();
        self.snapshot = at.index;
        let position = order::Position { term: at.term, index: at.index };
        drop(self.apply.send(ApplyInput::Install { file, at: position, members }));
        let mut seen = self.observing.seen();
        seen.heads.forget();
        seen.heads.keep(head, 0);
        drop(seen);
        self.look_at_snapshots();
        true
    }

    /// Lets the machine know whom it can ask, now and then.
    fn look_who_is_there(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let membership = self.shared.membership();
        let scene = Scene {
            now: self.now(),
            membership: &membership,
            applied_entry: self.shared.applied(),
            applied: self.shared.applied_index(),
            is_signed: &|_, _, _| false,
        };
        let voters: BTreeSet<Bytes> = self.machine.voters(&scene);
        let is_there = |peer: &&Bytes| self.links.is_connected(peer);
        let there = voters.iter().filter(is_there).cloned().collect();
        let observers = self.links.observers(self.id);
        self.observing.seen().voters = voters;
        self.tell(Input::Reachable { observers, voters: there });
    }

    /// Shows whoever asks what has become of it.
    fn show(&self) {
        let mut seen = self.observing.seen();
        seen.status = self.machine.status(self.now());
        seen.counts = self.machine.counts();
    }

    fn look_at_snapshots(&mut self) {
        match self.snapshots.kept() {
            Ok(kept) => self.kept = kept,
            Err(e) => tracing::warn!("snapshots cannot be looked at: {e}"),
        }
        self.show_first();
    }

    /// Lets what need not be kept go, as a member does.
    fn retain(&mut self) {
        let kept: Vec<Kept> =
            self.kept.iter().filter(|kept| kept.raft_index <= self.snapshot).copied().collect();
        let log = &self.log;
        let (now, agreed) = (micros(), self.shared.agreed());
        let cut = self.shared.retention().cut(now, &kept, agreed, |index| log.bytes_behind(index));
        let Some(cut) = cut else { return };
        if kept.last().is_some_and(|oldest| oldest.index < cut.index) {
            if let Err(e) = self.snapshots.remove_before(cut.index) {
                return tracing::warn!("snapshots that need not be kept stay: {e}");
            }
            self.kept.retain(|kept| kept.index >= cut.index);
        }
        match self.log.compact(cut.raft_index, SEGMENTS) {
            Ok(SEGMENTS) => drop(self.to_self.send(OrderInput::Tend)),
            Ok(_) => {}
            Err(e) => tracing::warn!("what need not be kept of the log stays: {e}"),
        }
        self.show_first();
    }

    fn show_first(&self) {
        let first = self.log.first_index();
        let is_of_use = |kept: &&Kept| kept.raft_index + 1 >= first;
        let oldest = self.kept.iter().rev().find(is_of_use);
        self.shared.set_first(match oldest {
            Some(oldest) if first > 1 => oldest.index + 1,
            _ => 1,
        });
    }

    fn now(&self) -> synod_core::time::Time {
        since(self.started)
    }
}

fn kind_of(entry: &log::Entry) -> EntryKind {
    EntryKind::from_number(u64::from(entry.kind)).unwrap_or(EntryKind::Normal)
}

/// Microseconds since 1970 (UTC).
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
