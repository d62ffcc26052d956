//! The thread that drives *order*: it puts what is proposed into batches, writes entries to the log,
//! sends what Raft wants sent, and hands committed entries to *apply*.
//!
//! It waits for the disk itself: a member must not answer before its own disk has the entries, and each
//! thread less on the way of a write is a wake-up less. What waits for no disk, a leader's entries and
//! heartbeats, is sent before.

mod acting;
mod marking;
mod receiving;
mod recovering;
mod retaining;

use super::apply_thread::{Applier, ApplyInput, try_apply};
use super::group::Group;
use super::links::Lane;
use super::log_writer::LogWriter;
use super::mailbox::{Receiver, Sender};
use super::observing::Answered;
use super::open::SHORTENED;
use super::polling::Polling;
use super::proposal::{Pending, Proposal};
use super::shared::{Leader, Shared};
use super::snapshots::Snapshots;
use crate::store::FsDisk;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use synod_core::command::Checkpoint;
use synod_core::group::{self, Arrived, Ask, Claims, Coordinator, Frame, Mark, Standpoint};
use synod_core::log::Reader;
use synod_core::log::disk::{Disk, DiskError, File};
use synod_core::order::{self, Config, Entry, Input, Order, Output, Refusal, Role, SnapshotMeta};
use synod_core::retention::Kept;
use synod_core::time::Time;
use tokio::sync::oneshot;

/// Inputs that are taken in before outputs are looked at.
const MAX_TAKEN: usize = 4096;
/// How long a closing space waits for what is under way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the thread is told.
pub(super) enum OrderInput {
    Propose(Proposal),
    /// The state has come further.
    Applied,
    /// Give a reader of what is safe.
    Reader(oneshot::Sender<Reader<FsDisk>>),
    /// Find a Raft index that all that was acknowledged lies at or before; none if no leader says.
    ReadIndex(oneshot::Sender<Option<u64>>),
    /// Do what only a leader can, or have it done.
    Ask(Ask, Wisher),
    /// Go on alone, for good: somebody has said these words.
    Recover(String, Wisher),
    /// A frame from a peer, as the transport has proved.
    Frame {
        peer: Bytes,
        bytes: Bytes,
    },
    /// A snapshot has arrived and is safe, and this frame behind it.
    Snapshot {
        peer: Bytes,
        file: PathBuf,
        meta: SnapshotMeta,
        frame: Bytes,
    },
    /// The connection to a peer has gone: what was on its way may be lost.
    Lost {
        peer: Bytes,
    },
    /// There is a connection to a peer.
    Found {
        peer: Bytes,
    },
    /// Entries from the disk, for a member that lags behind.
    Fetched {
        first: u64,
        entries: Vec<Entry>,
    },
    /// The state at an index, for the leader.
    Mark(Mark),
    /// Most voters agreed on another history than what this node has applied.
    Apart(Box<Checkpoint>),
    /// The state above is not what most others have, and is made anew; or it has been.
    Rebuilding(bool),
    /// The state above cannot be made again from this node's log: ask a member for one.
    AskState {
        member: u64,
    },
    /// A state is on its way to a member no longer.
    StateSent,
    /// What became of a snapshot on its way to a member.
    SnapshotSent {
        to: u64,
        ok: bool,
    },
    /// A snapshot of this node's own is safe.
    SnapshotSaved {
        meta: SnapshotMeta,
        file: PathBuf,
        /// All that there are now, newest first.
        kept: Vec<Kept>,
    },
    /// Gossip of this author, for a node that observes.
    Heard {
        from: Bytes,
        bytes: Bytes,
    },
    /// What came of an observer's question.
    Asked {
        number: u64,
        answer: Answered,
    },
    /// Let what need not be kept go, if anything need not.
    Tend,
    Stop,
}

/// Who waits for the answer to a wish.
pub(super) type Wisher = oneshot::Sender<Result<(), String>>;

pub(super) struct OrderThread {
    pub(super) id: [u8; 32],
    pub(super) order: Order,
    pub(super) config: Config,
    pub(super) inputs: Receiver<OrderInput>,
    /// For threads that work for this one.
    pub(super) to_self: Sender<OrderInput>,
    pub(super) log: LogWriter,
    pub(super) disk: FsDisk,
    pub(super) apply: Sender<ApplyInput>,
    pub(super) applier: Arc<Mutex<Applier>>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) shared: Arc<Shared>,
    pub(super) group: Group,
    pub(super) coordinator: Coordinator<Pending, Wisher>,
    pub(super) started: Instant,
    pub(super) waiting: Waiting,
    /// Whether it votes no more: see [`Input::Mute`].
    pub(super) is_mute: bool,
    pub(super) polling: Polling,
}

/// Who and what waits for what.
#[derive(Default)]
pub(super) struct Waiting {
    reads: BTreeMap<u64, oneshot::Sender<Option<u64>>>,
    /// Frames that wait for the disk.
    held: Vec<Held>,
    /// What *apply* is to be given once whoever waits for this member's disk has its answer.
    committed: Vec<ApplyInput>,
    /// The newest snapshot that a member may be sent, and its file.
    snapshot: Option<(SnapshotMeta, PathBuf)>,
    /// Snapshots of others that have arrived and may become this node's state.
    arrived: Arrived<PathBuf>,
    /// The snapshots that are kept, newest first.
    kept: Vec<Kept>,
    /// Whether the state above is being made again.
    is_rebuilding: bool,
    /// Whether a state is on its way to a member whose own was wrong: one at a time.
    is_sending_state: bool,
    /// Who says that this log has lost something.
    claims: Claims,
    /// How far the state had come when it was last looked at.
    seen_applied: u64,
    /// The last Raft index that was handed to *apply*.
    through: u64,
    /// As above, to its own thread.
    handed: u64,
    /// The index of the last change of the membership that was looked at.
    seen_membership: u64,
}

struct Held {
    to: u64,
    message: Bytes,
    urgent: bool,
    snapshot: Option<SnapshotMeta>,
}

impl Waiting {
    /// With the snapshot that this node started from.
    pub(super) fn from_snapshot(snapshot: Option<(SnapshotMeta, PathBuf)>, through: u64) -> Self {
        Self { snapshot, through, ..Self::default() }
    }
}

impl OrderThread {
    pub(super) fn run(mut self) {
        self.look_at_snapshots();
        let mut stop = None;
        let mut goes_on = self.drain_outputs();
        while goes_on {
            let Some(first) = self.next_input(stop) else {
                if stop.is_some_and(|at| Instant::now() >= at) {
                    break;
                }
                self.tick();
                goes_on = self.drain_outputs();
                continue;
            };
            let mut is_asked_to_stop = self.take(first);
            // What has come meanwhile goes into the same batch.
            for _ in 1..MAX_TAKEN {
                let Ok(input) = self.inputs.try_recv() else { break };
                is_asked_to_stop |= self.take(input);
            }
            self.look_at_applied();
            self.tell(group::Input::Give);
            goes_on = self.drain_outputs();
            if is_asked_to_stop {
                stop = Some(Instant::now() + STOP_PATIENCE);
            }
            if stop.is_some() && self.shared.own().is_empty() {
                break;
            }
        }
        if goes_on {
            self.log.close(&self.disk);
        }
        drop(self.apply.send(ApplyInput::Stop));
    }

    /// The next input; none when it is time for a timeout.
    fn next_input(&mut self, stop: Option<Instant>) -> Option<OrderInput> {
        let timeout = self.order.poll_timeout().map(|(at, _reason)| at.since(self.now()));
        let left = stop.map(|at| at.saturating_duration_since(Instant::now()));
        let Some(patience) = timeout.into_iter().chain(left).min() else {
            return Some(self.inputs.recv().unwrap_or(OrderInput::Stop));
        };
        if let Some(window) = self.polling.left(self.now())
            && let Some(input) = self.inputs.look_for(window.min(patience))
        {
            return Some(input);
        }
        match self.inputs.recv_timeout(patience) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(OrderInput::Stop),
        }
    }

    /// Takes one input in; says whether it is time to stop.
    fn take(&mut self, input: OrderInput) -> bool {
        let input = match input {
            OrderInput::Propose(Proposal { command, pending }) => {
                self.tell(group::Input::Propose(command, pending));
                return false;
            }
            OrderInput::Stop => return true,
            OrderInput::Reader(reply) => {
                drop(reply.send(self.log.reader()));
                return false;
            }
            OrderInput::Frame { peer, bytes } => {
                self.shared.inbox.fetch_sub(bytes.len(), Ordering::Relaxed);
                self.receive(peer, &bytes);
                return false;
            }
            OrderInput::Snapshot { peer, file, meta, frame } => {
                self.receive_snapshot(peer, file, meta, &frame);
                return false;
            }
            OrderInput::Lost { peer } => {
                self.tell(group::Input::Lost(peer));
                return false;
            }
            OrderInput::Found { peer } => {
                self.tell(group::Input::Found(peer));
                return false;
            }
            OrderInput::Mark(mark) => {
                self.mark(mark);
                return false;
            }
            OrderInput::Apart(checkpoint) => {
                self.look_apart(&checkpoint);
                return false;
            }
            OrderInput::Rebuilding(is_so) => {
                self.waiting.is_rebuilding = is_so;
                if is_so {
                    // It may be as wrong as the state was.
                    self.waiting.snapshot = None;
                }
                Input::Abstain(is_so)
            }
            OrderInput::Ask(ask, reply) => {
                self.tell(group::Input::Ask(ask, reply));
                return false;
            }
            OrderInput::Recover(words, reply) => {
                self.recover(words, reply);
                return false;
            }
            OrderInput::ReadIndex(reply) => {
                let ticket = self.coordinator.ticket();
                self.waiting.reads.insert(ticket, reply);
                Input::ReadIndex { ticket }
            }
            OrderInput::AskState { member } => {
                self.ask_for_state(member);
                return false;
            }
            OrderInput::StateSent => {
                self.waiting.is_sending_state = false;
                return false;
            }
            // It was finished just when the state was found to be wrong.
            OrderInput::SnapshotSaved { .. } if self.waiting.is_rebuilding => return false,
            OrderInput::SnapshotSaved { meta, file, kept } => {
                let (snapshot, first_index) = (meta.clone(), self.log.first_index());
                self.waiting.snapshot = Some((meta, file));
                self.order.handle(self.now(), Input::Compacted { snapshot, first_index });
                self.snapshot_saved(kept);
                return false;
            }
            OrderInput::Tend => {
                self.retain();
                return false;
            }
            OrderInput::SnapshotSent { to, ok } => Input::SnapshotSent { to, ok },
            OrderInput::Fetched { first, entries } => Input::Fetched { first, entries },
            // Whatever came, it is looked at how far. A member is told by Raft alone.
            OrderInput::Applied | OrderInput::Heard { .. } | OrderInput::Asked { .. } => {
                return false;
            }
        };
        self.order.handle(self.now(), input);
        false
    }

    /// Lets *order* know what the state contains, and does what a change of the members asks for.
    fn look_at_applied(&mut self) {
        let raft_index = self.shared.applied();
        if raft_index <= self.waiting.seen_applied {
            return;
        }
        self.waiting.seen_applied = raft_index;
        self.order.handle(self.now(), Input::Applied { raft_index });
        let changed = self.shared.membership().changed_at();
        if changed != self.waiting.seen_membership {
            self.waiting.seen_membership = changed;
            self.tell(group::Input::MembersApplied);
            self.show_progress();
        }
    }

    fn tick(&mut self) {
        self.look_at_applied();
        let now = self.now();
        self.order.handle(now, Input::Timeout);
        self.tell(group::Input::Tick);
        self.show_progress();
    }

    /// Does what *order* wants done, until it wants nothing more. Says whether to go on.
    fn drain_outputs(&mut self) -> bool {
        loop {
            let (mut written, mut bytes) = (None, 0);
            while let Some(output) = self.order.poll_output() {
                match output {
                    Output::Persist(persist) => {
                        written = Some(persist.number);
                        bytes +=
                            persist.entries.iter().map(|entry| entry.data.len()).sum::<usize>();
                        if persist.snapshot.is_some() {
                            self.hand_on();
                        }
                        self.install(persist.snapshot.as_ref());
                        if !self.log.append(persist) {
                            return false;
                        }
                    }
                    output => self.obey(output, written.is_some()),
                }
            }
            let Some(number) = written else {
                self.hand_on();
                return true;
            };
            self.expect(bytes);
            if !self.log.sync() {
                return false;
            }
            for held in std::mem::take(&mut self.waiting.held) {
                self.send(held);
            }
            self.hand_on();
            self.order.handle(self.now(), Input::Persisted { number });
        }
    }

    /// Entries of so many bytes are written or committed: what follows from them is looked for if it comes soon.
    fn expect(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.polling.done(self.now(), bytes);
        if let Some(left) = self.polling.left(self.now()) {
            self.group.expect(left);
        }
    }

    /// Gives *apply* what is committed.
    fn hand_on(&mut self) {
        let Waiting { committed, handed, through, .. } = &mut self.waiting;
        if committed.is_empty() || try_apply(&self.applier, committed, *handed) {
            return;
        }
        *handed = *through;
        for committed in self.waiting.committed.drain(..) {
            drop(self.apply.send(committed));
        }
    }

    fn obey(&mut self, output: Output, is_writing: bool) {
        match output {
            Output::Appended { ticket, term, index } => {
                self.tell(group::Input::Appended { ticket, term, index });
            }
            Output::Commit { entries, through } => {
                self.expect(entries.iter().map(|entry| entry.data.len()).sum());
                let mut last = None;
                for entry in entries {
                    let (index, term) = (entry.index, entry.term);
                    self.tell(group::Input::Committed { index, term });
                    let (data, members) = (entry.data, entry.members);
                    let commit = ApplyInput::Commit { index, term, data, members };
                    self.waiting.committed.push(commit);
                    last = Some(order::Position { index, term });
                }
                self.waiting.through = through.index;
                if last != Some(through) {
                    self.waiting.committed.push(ApplyInput::Through(through));
                }
                // Whoever waits for what is committed waits here, on a leader; and elsewhere whoever leads
                // waits for the disk.
                if self.order.role() == Role::Leader {
                    self.hand_on();
                }
            }
            Output::Dropped { ticket, why } => match self.waiting.reads.remove(&ticket) {
                Some(reply) => drop(reply.send(None)),
                None => self.tell(group::Input::Dropped(ticket, why)),
            },
            Output::Fetch { first, last, max_bytes } => self.fetch(first, last, max_bytes),
            Output::ReadReady { ticket, index } => {
                if let Some(reply) = self.waiting.reads.remove(&ticket) {
                    let _ = reply.send(Some(index));
                }
            }
            Output::Refused { from, why } => {
                self.shared.refused();
                self.doubt(from, &why);
                tracing::debug!("a message of member {from} was not listened to: {why}");
            }
            Output::Role { role, term, leader } => self.led_by(role, term, leader),
            Output::Send { to, message, after, snapshot, urgent } => {
                let held = Held { to, message, urgent, snapshot };
                // Whatever waits for a write waits for the one that is next: none is left behind.
                if after.is_some() && is_writing {
                    self.waiting.held.push(held);
                } else {
                    self.send(held);
                }
            }
            Output::SnapshotWanted { index } => {
                let at_least = index;
                drop(self.apply.send(ApplyInput::SnapshotOfRaft { at_least }));
            }
            Output::Persist(_) => {}
        }
    }

    /// A leader takes for granted that this log has what it has not, or speaks to whom this node has become since:
    /// what was acknowledged is lost here, and whom this node has voted for may be, too. It votes no more, not
    /// after a restart either, and joins anew.
    fn doubt(&mut self, from: u64, refusal: &Refusal) {
        if self.is_mute {
            return;
        }
        let (now, me) = (self.now(), self.coordinator.me().member);
        let here = Standpoint::of(me, &self.order, &self.shared.membership(), from);
        if let Some(proof) = self.waiting.claims.doubt(now, from, refusal, here) {
            self.give_up(&proof);
        }
    }

    /// This node's log is not what it gave its word for: it votes no more, and joins anew.
    fn give_up(&mut self, proof: &str) {
        self.is_mute = true;
        self.order.handle(self.now(), Input::Mute);
        let why = format!(
            "{proof}: a data folder was restored from an old copy, this node's or those of most others, or a disk \
             has lost what was written. This node votes no more, and joins anew by itself as soon as a quorum of the \
             others can be reached"
        );
        tracing::error!("{why}");
        if let Err(e) = note_shortened(&self.disk, &why) {
            super::log_writer::fatal(&format!("it cannot be noted that a log is short: {e}"));
        }
        self.shared.set_shortened(why);
    }

    fn send(&mut self, held: Held) {
        let Held { to, message, urgent, snapshot } = held;
        if let Some(meta) = snapshot {
            return self.offer(to, &meta, message);
        }
        let peer = self.coordinator.peer_of(&self.shared.membership(), to);
        let frame = Frame::Raft(message);
        let is_sent = peer.is_some_and(|peer| self.group.send(&peer, lane(urgent), &frame));
        if !is_sent && !urgent {
            self.order.handle(self.now(), Input::Unreachable { to });
        }
    }

    /// This node's part, or its leader, has changed.
    fn led_by(&mut self, role: Role, term: u64, leader: Option<u64>) {
        let name = match role {
            Role::Candidate => "candidate",
            Role::Follower => "follower",
            Role::Leader => "leader",
        };
        self.shared.set_leader(Leader { role: name, term, leader });
        self.tell(group::Input::Role { role, term, leader });
        if role != Role::Leader {
            self.group.marks.forget();
        }
        self.mark_for(leader);
    }

    fn now(&self) -> Time {
        since(self.started)
    }
}

/// Notes in the space's folder that its log has lost what was acknowledged.
fn note_shortened(disk: &FsDisk, why: &str) -> Result<(), DiskError> {
    let aside = Path::new("shortened.new");
    let file = disk.create(aside)?;
    file.write_at(0, why.as_bytes())?;
    file.sync_data()?;
    drop(file);
    disk.rename(aside, Path::new(SHORTENED))?;
    disk.sync_dir(Path::new(""))
}

/// The order machine's time: microseconds since the process opened its first space.
pub(super) fn since(started: Instant) -> Time {
    Time::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn lane(is_urgent: bool) -> Lane {
    if is_urgent { Lane::Urgent } else { Lane::Normal }
}
