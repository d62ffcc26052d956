//! What drives *apply*: it has the state, tells the feed and whoever waits, and takes snapshots a little at a time
//! between commands. It has a thread of its own, and where that has nothing to do, the thread that puts commands in
//! order applies a few by itself: each thread less on the way of a write is a wake-up less.

mod here;
mod rebuilding;
mod wanting;

use super::feed::Feed;
use super::log_writer::fatal;
use super::mailbox::{Receiver, Sender};
use super::order_thread::OrderInput;
use super::proposal::Ended;
use super::shared::Shared;
use super::snapshots::{Snapshots, Writing};
use bytes::Bytes;
pub(super) use here::try_apply;
pub(crate) use rebuilding::Marking;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use synod_core::apply::State;
use synod_core::command::{Batch, Tag};
use synod_core::group::Place;
use synod_core::log;
use synod_core::order::{Members, Position, SnapshotMeta};
use synod_core::retention::Kept;
use tokio::sync::oneshot;
use wanting::Wanted;

/// Bytes of commands after which a snapshot is taken without being asked for.
pub(crate) const SNAPSHOT_BYTES: u64 = 32 << 20;
/// Bytes of commands after which *order* is woken to know of them: it keeps them in memory until then.
const MAX_UNTOLD: usize = 1 << 20;
/// How long the thread works on a snapshot at a time, when commands wait.
const SNAPSHOT_STEP: Duration = Duration::from_millis(1);

/// What the thread is told.
pub(super) enum ApplyInput {
    /// A committed entry, and Raft's members from there on if it changes them.
    Commit { index: u64, term: u64, data: Bytes, members: Option<Members> },
    /// Everything up to here is committed.
    Through(Position),
    /// Somebody wants to look at the state.
    Inspect(Box<dyn FnOnce(&mut State) + Send>),
    /// Somebody wants a snapshot no older than this index; told its path by the registry.
    Snapshot { at_least: u64 },
    /// Another member needs a snapshot that holds this entry of Raft's log.
    SnapshotOfRaft { at_least: u64 },
    /// A snapshot of a leader's is safe: it becomes the state.
    Install { file: PathBuf, at: Position, members: Members },
    /// A state has come from another member, as this one's is wrong.
    State { file: PathBuf, at: Position, members: Members },
    /// Somebody wants to know when the state contains everything up to this Raft index.
    Await { raft_index: u64, reached: SyncSender<()> },
    /// Somebody wants to know the space's index once the state contains everything up to this Raft
    /// index.
    Reach { raft_index: u64, reached: oneshot::Sender<u64> },
    /// Somebody wants to know where the state is.
    Place(oneshot::Sender<Place>),
    /// Take a snapshot if one is due for what is to be forgotten.
    Tend,
    /// Something was applied elsewhere, and there is something to do for it.
    Look,
    /// Nothing more comes.
    Stop,
}

/// The thread: it waits for what is to be done while whoever else likes may have the applier.
pub(super) struct ApplyThread {
    pub(super) applier: Arc<Mutex<Applier>>,
    pub(super) inputs: Receiver<ApplyInput>,
}

/// The state, and what belongs to it.
pub(super) struct Applier {
    pub(super) space: [u8; 32],
    pub(super) state: State,
    pub(super) order: Sender<OrderInput>,
    /// To its own thread.
    pub(super) to_self: Sender<ApplyInput>,
    pub(super) feed: Arc<Feed>,
    pub(super) snapshots: Arc<Snapshots>,
    /// The last Raft entry whose commands the state contains.
    pub(super) through: Position,
    /// Bytes of commands since the last snapshot was begun.
    pub(super) since_snapshot: usize,
    pub(super) writing: Option<Writing>,
    /// The time of the state of the last snapshot.
    pub(super) snapshot_time: Option<u64>,
    /// Who waits for which Raft index.
    pub(super) awaited: Vec<(u64, SyncSender<()>)>,
    /// As above, for reads.
    pub(super) reaching: Vec<(u64, oneshot::Sender<u64>)>,
    pub(super) shared: Arc<Shared>,
    /// Raft's members as of there.
    pub(super) members: Members,
    /// This node among the members, and which start of it.
    pub(super) me: u64,
    pub(super) boot: u64,
    /// When the membership was last told of.
    pub(super) told_membership: u64,
    /// As above, to *order*.
    pub(super) order_knows: u64,
    /// Bytes of commands since *order* was last woken.
    pub(super) untold_bytes: usize,
    pub(super) marking: Marking,
    /// While this state is wrong and another is awaited.
    pub(super) wanted: Option<Wanted>,
}

impl ApplyThread {
    pub(super) fn run(mut self) {
        loop {
            let Some(input) = self.next_input() else { continue };
            let mut applier = lock(&self.applier);
            let before = applier.through;
            let mut stop = applier.take(input);
            while let (false, Ok(input)) = (stop, self.inputs.try_recv()) {
                stop = applier.take(input);
                if applier.through.index > before.index {
                    // One message to order for many, but not so late that it runs dry.
                    break;
                }
            }
            applier.tell_how_far(before);
            if stop {
                return;
            }
            applier.tend_snapshot();
        }
    }

    /// The next input; none if the time went into something else.
    fn next_input(&mut self) -> Option<ApplyInput> {
        let until = lock(&self.applier).until();
        let received = match until {
            Until::Asked => self.inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Until::After(patience) => self.inputs.recv_timeout(patience),
            Until::Written => match self.inputs.try_recv() {
                Err(TryRecvError::Empty) if lock(&self.applier).write_snapshot() => return None,
                // The disk is slower than the snapshot: wait for it, or for a command.
                Err(TryRecvError::Empty) => self.inputs.recv_timeout(SNAPSHOT_STEP),
                Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
                Ok(input) => Ok(input),
            },
        };
        match received {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Disconnected) => Some(ApplyInput::Stop),
            Err(RecvTimeoutError::Timeout) => {
                lock(&self.applier).time_has_come();
                None
            }
        }
    }
}

/// How long the thread waits for something to do.
enum Until {
    /// Until there is something.
    Asked,
    /// As long as this.
    After(Duration),
    /// Not at all: a snapshot is being written.
    Written,
}

fn lock(applier: &Mutex<Applier>) -> MutexGuard<'_, Applier> {
    applier.lock().unwrap_or_else(|_| broken())
}

/// Ends the process: nobody knows what a state is that was left in the middle of a command.
fn broken() -> ! {
    fatal("a thread has panicked while it applied a command")
}

impl Applier {
    fn until(&self) -> Until {
        match (&self.wanted, &self.writing) {
            (Some(wanted), _) => Until::After(wanted.patience()),
            (None, Some(_)) => Until::Written,
            (None, None) => self.marking.patience().map_or(Until::Asked, Until::After),
        }
    }

    /// Nothing has come for as long as was to be waited.
    fn time_has_come(&mut self) {
        if self.wanted.is_some() {
            self.ask_for_state();
        } else if self.writing.is_none() && self.marking.patience().is_some_and(|p| p.is_zero()) {
            self.mark();
        }
    }

    /// Lets whoever waits know how far the state has come, if it has come further.
    fn tell_how_far(&mut self, before: Position) {
        self.awaited.retain(|(raft_index, reached)| {
            let is_reached = self.through.index >= *raft_index;
            is_reached.then(|| reached.try_send(())).is_none()
        });
        if self.through.index > before.index {
            self.tell_reached();
            self.tell_order();
        }
    }

    /// Begins a snapshot that is due, and goes on with one.
    fn tend_snapshot(&mut self) {
        if self.is_snapshot_due() {
            self.begin_snapshot();
        }
        if self.writing.is_some() {
            self.write_snapshot();
        }
    }

    fn is_snapshot_due(&self) -> bool {
        self.since_snapshot as u64 >= self.shared.snapshot_bytes()
    }

    /// Takes one input in; says whether it was the last.
    fn take(&mut self, input: ApplyInput) -> bool {
        let Some(input) = self.hold(input) else { return false };
        match input {
            ApplyInput::Commit { index, term, data, members } => {
                if !data.is_empty() {
                    self.commit(&data);
                }
                if let Some(members) = members {
                    self.members = members;
                }
                self.through = Position { index, term };
                self.judge();
            }
            ApplyInput::Through(through) => self.through = through,
            ApplyInput::Inspect(look) => look(&mut self.state),
            ApplyInput::Snapshot { at_least } => {
                let is_coming = self.writing.as_ref().is_some_and(|w| w.index() >= at_least);
                let is_there = self.snapshots.newest().is_some_and(|s| s.index >= at_least);
                if !is_coming && !is_there {
                    self.begin_snapshot();
                }
            }
            ApplyInput::SnapshotOfRaft { at_least } => {
                let is_coming = self.writing.is_some();
                if !is_coming && self.through.index >= at_least {
                    self.begin_snapshot();
                }
            }
            // Nobody wants one any more.
            ApplyInput::State { file, .. } => self.forget_state(&file),
            ApplyInput::Install { file, at, members } => self.install(&file, at, members),
            ApplyInput::Await { raft_index, reached } => self.awaited.push((raft_index, reached)),
            ApplyInput::Reach { raft_index, reached } if self.through.index >= raft_index => {
                let _ = reached.send(self.state.index());
            }
            ApplyInput::Reach { raft_index, reached } => self.reaching.push((raft_index, reached)),
            ApplyInput::Place(reply) => drop(reply.send(self.place())),
            ApplyInput::Tend => self.tend(),
            ApplyInput::Look => {}
            ApplyInput::Stop => return true,
        }
        false
    }

    fn place(&self) -> Place {
        let Position { index, term } = self.through;
        Place { at: log::Position { term, index }, chain: self.state.place() }
    }

    fn commit(&mut self, data: &Bytes) {
        self.since_snapshot += data.len();
        self.untold_bytes += data.len();
        let batch = match Batch::decode(data) {
            Ok(batch) => batch,
            // Every replica reads the same bytes alike: an entry that is no batch changes nothing.
            Err(e) => return tracing::error!("a log entry is not a batch of commands: {e}"),
        };
        self.marking.begin_batch(&batch, &self.state);
        let mut changes = Vec::new();
        let mut ended = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            let applied = self.state.apply(batch.time, command);
            changes.extend(applied.change.map(Arc::new));
            ended.push(Some(applied.outcome));
            if self.marking.is_due(applied.index) {
                self.mark();
            }
        }
        // The feed first: whoever is told that a write is done may look for it at once.
        self.feed.push(self.state.index(), changes);
        self.tell_membership();
        let is_own = |tag: &&Tag| (tag.member, tag.boot) == (self.me, self.boot);
        for tag in batch.tags.iter().filter(is_own) {
            self.shared.own().end(tag.first, tag.count, |place, pending| {
                let outcome = ended.get_mut(tag.place as usize + place).and_then(Option::take);
                if let Some(outcome) = outcome {
                    pending.end(Ended::Applied(outcome));
                }
            });
        }
    }

    /// Lets *order* know how far the state has come. It looks by itself whenever it is awake, and is woken
    /// only for what cannot wait until then.
    fn tell_order(&mut self) {
        self.shared.set_applied(self.through.index, self.state.index());
        let changed = self.state.membership().changed_at();
        let is_due = self.untold_bytes >= MAX_UNTOLD || self.shared.is_closing();
        if is_due || changed != self.order_knows {
            (self.untold_bytes, self.order_knows) = (0, changed);
            drop(self.order.send(OrderInput::Applied));
        }
    }

    fn tell_reached(&mut self) {
        let (through, index) = (self.through.index, self.state.index());
        if self.reaching.is_empty() {
            return;
        }
        let (there, waiting) = std::mem::take(&mut self.reaching)
            .into_iter()
            .partition(|(raft_index, _)| *raft_index <= through);
        self.reaching = waiting;
        let there: Vec<(u64, oneshot::Sender<u64>)> = there;
        for (_, reached) in there {
            let _ = reached.send(index);
        }
    }

    fn tell_membership(&mut self) {
        let membership = self.state.membership();
        if membership.changed_at() != self.told_membership {
            self.told_membership = membership.changed_at();
            self.shared.set_membership(membership.clone());
        }
    }

    /// Takes a leader's snapshot for the state. It is safe and was checked when it came.
    fn install(&mut self, file: &Path, at: Position, members: Members) {
        self.writing = None;
        match self.snapshots.install(file) {
            Ok(state) => {
                self.state = state;
                (self.through, self.members, self.since_snapshot) = (at, members, 0);
                self.snapshot_time = Some(self.state.time());
                self.begin_marking_anew();
                self.feed.restart(self.state.index());
                self.shared.set_membership(self.state.membership().clone());
                self.told_membership = self.state.membership().changed_at();
                tracing::info!("went on from a snapshot of index {}", self.state.index());
            }
            // Raft goes on behind it, and this state cannot.
            Err(e) => fatal(&format!("a snapshot that was taken in is gone: {e}")),
        }
    }

    /// Few commands may come for long, and what is too old go all the same.
    fn tend(&mut self) {
        let (now, newest) = (now_micros(), self.state.time());
        let retention = self.shared.retention();
        if self.writing.is_none() && retention.is_snapshot_due(now, self.snapshot_time, newest) {
            self.begin_snapshot();
        }
    }

    fn begin_snapshot(&mut self) {
        // One that is under way is given up for it.
        self.writing = None;
        (self.since_snapshot, self.snapshot_time) = (0, Some(self.state.time()));
        let index = self.state.begin_snapshot();
        let order = self.order.clone();
        let meta = SnapshotMeta { position: self.through, members: self.members.clone() };
        let saved = move |file: PathBuf, kept: Vec<Kept>| {
            drop(order.send(OrderInput::SnapshotSaved { meta, file, kept }));
        };
        let place = (self.through, &self.members);
        match self.snapshots.begin(index, self.state.chain(), place, saved) {
            Ok(writing) => self.writing = Some(writing),
            Err(e) => {
                self.state.abandon_snapshot();
                tracing::warn!("no snapshot was taken: {e}");
            }
        }
    }

    /// Goes on with the snapshot for a moment; says whether it could.
    fn write_snapshot(&mut self) -> bool {
        let until = Instant::now() + SNAPSHOT_STEP;
        while Instant::now() < until {
            let Some(writing) = &mut self.writing else { return true };
            match writing.has_room() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(e) => {
                    tracing::warn!("the snapshot was given up: {e}");
                    self.state.abandon_snapshot();
                    self.writing = None;
                    return true;
                }
            }
            match self.state.snapshot_step() {
                Some(item) => writing.item(item),
                None => {
                    if let Some(writing) = self.writing.take() {
                        writing.finish();
                    }
                }
            }
        }
        true
    }
}

/// Microseconds since 1970 (UTC).
fn now_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
