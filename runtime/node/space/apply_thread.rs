//! The thread that drives *apply*: it owns the state, tells the feed and whoever waits, and takes
//! snapshots a little at a time between commands.

use super::feed::Feed;
use super::order_thread::OrderInput;
use super::proposal::{Ended, Pending};
use super::snapshots::{Snapshots, Writing};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError};
use std::time::{Duration, Instant};
use synod_core::apply::{Outcome, Refusal, State};
use synod_core::command::Batch;
use synod_core::order::Position;

/// Bytes of commands after which a snapshot is taken without being asked for.
pub(crate) const SNAPSHOT_BYTES: usize = 32 << 20;
/// How long the thread works on a snapshot at a time, when commands wait.
const SNAPSHOT_STEP: Duration = Duration::from_millis(1);

/// What the thread is told.
pub(super) enum ApplyInput {
    /// A committed entry, and who waits for each of its commands.
    Commit { index: u64, term: u64, data: Bytes, replies: Vec<Pending> },
    /// Everything up to here is committed.
    Through(Position),
    /// Somebody wants to look at the state.
    Inspect(Box<dyn FnOnce(&State) + Send>),
    /// Somebody wants a snapshot no older than this index; told its path by the registry.
    Snapshot { at_least: u64 },
    /// Somebody wants to know when the state contains everything up to this Raft index.
    Await { raft_index: u64, reached: SyncSender<()> },
    /// Nothing more comes.
    Stop,
}

pub(super) struct ApplyThread {
    pub(super) state: State,
    pub(super) inputs: Receiver<ApplyInput>,
    pub(super) order: Sender<OrderInput>,
    pub(super) feed: Arc<Feed>,
    pub(super) snapshots: Arc<Snapshots>,
    /// The last Raft entry whose commands the state contains.
    pub(super) through: Position,
    /// Bytes of commands since the last snapshot was begun.
    pub(super) since_snapshot: usize,
    pub(super) writing: Option<Writing>,
    /// Who waits for which Raft index.
    pub(super) awaited: Vec<(u64, SyncSender<()>)>,
}

impl ApplyThread {
    pub(super) fn run(mut self) {
        loop {
            let Some(input) = self.next_input() else { continue };
            let before = self.through;
            let mut stop = self.take(input);
            while let (false, Ok(input)) = (stop, self.inputs.try_recv()) {
                stop = self.take(input);
                if self.through.index > before.index {
                    // One message to order for many, but not so late that it runs dry.
                    break;
                }
            }
            self.awaited.retain(|(raft_index, reached)| {
                let is_reached = self.through.index >= *raft_index;
                is_reached.then(|| reached.try_send(())).is_none()
            });
            if self.through.index > before.index {
                drop(self.order.send(OrderInput::Applied(self.through.index)));
            }
            if stop {
                return;
            }
            if self.since_snapshot >= SNAPSHOT_BYTES {
                self.begin_snapshot();
            }
            if self.writing.is_some() {
                self.write_snapshot();
            }
        }
    }

    /// The next input; none if the time went into the snapshot.
    fn next_input(&mut self) -> Option<ApplyInput> {
        if self.writing.is_none() {
            return Some(self.inputs.recv().unwrap_or(ApplyInput::Stop));
        }
        match self.inputs.try_recv() {
            Ok(input) => Some(input),
            Err(TryRecvError::Disconnected) => Some(ApplyInput::Stop),
            Err(TryRecvError::Empty) if self.write_snapshot() => None,
            // The disk is slower than the snapshot: wait for it, or for a command.
            Err(TryRecvError::Empty) => self.inputs.recv_timeout(SNAPSHOT_STEP).ok(),
        }
    }

    /// Takes one input in; says whether it was the last.
    fn take(&mut self, input: ApplyInput) -> bool {
        match input {
            ApplyInput::Commit { index, term, data, replies } => {
                self.commit(&data, replies);
                self.through = Position { index, term };
            }
            ApplyInput::Through(through) => self.through = through,
            ApplyInput::Inspect(look) => look(&self.state),
            ApplyInput::Snapshot { at_least } => {
                let is_coming = self.writing.as_ref().is_some_and(|w| w.index() >= at_least);
                let is_there = self.snapshots.newest().is_some_and(|s| s.index >= at_least);
                if !is_coming && !is_there {
                    self.begin_snapshot();
                }
            }
            ApplyInput::Await { raft_index, reached } => self.awaited.push((raft_index, reached)),
            ApplyInput::Stop => return true,
        }
        false
    }

    fn commit(&mut self, data: &Bytes, replies: Vec<Pending>) {
        self.since_snapshot += data.len();
        let mut changes = Vec::new();
        let mut ended = Vec::with_capacity(replies.len());
        match Batch::decode(data) {
            Ok(batch) => {
                for command in &batch.commands {
                    let applied = self.state.apply(batch.time, command);
                    changes.extend(applied.change.map(Arc::new));
                    ended.push(applied.outcome);
                }
            }
            // Every replica reads the same bytes alike: an entry that is no batch changes nothing.
            Err(e) => tracing::error!("a log entry is not a batch of commands: {e}"),
        }
        // The feed first: whoever is told that a write is done may look for it at once.
        self.feed.push(self.state.index(), changes);
        let mut ended = ended.into_iter();
        for reply in replies {
            let outcome = ended.next();
            let refused = || Outcome::Refused(self.state.index(), Refusal::Malformed);
            reply.end(Ended::Applied(outcome.unwrap_or_else(refused)));
        }
    }

    fn begin_snapshot(&mut self) {
        self.since_snapshot = 0;
        let index = self.state.begin_snapshot();
        match self.snapshots.begin(index, self.state.chain(), self.through) {
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
