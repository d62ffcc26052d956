//! The thread that drives *order*: it puts what is proposed into batches, writes entries to the log and
//! hands committed ones to *apply*.
//!
//! It waits for the disk itself: this node is the only voter, so that nothing can be done before its
//! own disk has the entries, and each thread less on the way of a write is a wake-up less.

use super::apply_thread::ApplyInput;
use super::log_writer::LogWriter;
use super::proposal::{Ended, NotProposed, Pending, Proposal};
use super::shared::Shared;
use crate::store::FsDisk;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use synod_core::command::Batch;
use synod_core::log::Reader;
use synod_core::order::{Input, Order, Output, Role, Why};
use synod_core::time::Time;

/// Commands of one batch, at most.
const MAX_BATCH: usize = 4096;
/// Bytes of commands after which a batch is closed.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// How long a closing space waits for what is under way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum OrderInput {
    Propose(Proposal),
    Applied(u64),
    /// Give a reader of what is safe.
    Reader(tokio::sync::oneshot::Sender<Reader<FsDisk>>),
    Stop,
}

pub(super) struct OrderThread {
    pub(super) order: Order,
    pub(super) inputs: Receiver<OrderInput>,
    pub(super) log: LogWriter,
    pub(super) disk: FsDisk,
    pub(super) apply: Sender<ApplyInput>,
    pub(super) shared: Arc<Shared>,
    pub(super) started: Instant,
    pub(super) waiting: Waiting,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Waiting {
    /// By ticket, until the batch stands in the log.
    proposed: HashMap<u64, Vec<Pending>>,
    /// By Raft index, with the term, until it is committed.
    appended: BTreeMap<u64, (u64, Vec<Pending>)>,
    next_ticket: u64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.proposed.is_empty() && self.appended.is_empty()
    }
}

impl OrderThread {
    pub(super) fn run(mut self) {
        let mut proposals = Vec::new();
        let mut stop = None;
        let mut goes_on = self.drain_outputs();
        while goes_on {
            let Some(first) = self.next_input(stop) else {
                if stop.is_some_and(|at| Instant::now() >= at) {
                    break;
                }
                self.order.handle(self.now(), Input::Timeout);
                goes_on = self.drain_outputs();
                continue;
            };
            let mut is_asked_to_stop = self.take(first, &mut proposals);
            // What has come meanwhile goes into the same batch.
            while proposals.len() < MAX_BATCH {
                let Ok(input) = self.inputs.try_recv() else { break };
                is_asked_to_stop |= self.take(input, &mut proposals);
            }
            self.propose(&mut proposals);
            goes_on = self.drain_outputs();
            if is_asked_to_stop {
                stop = Some(Instant::now() + STOP_PATIENCE);
            }
            if stop.is_some() && self.waiting.is_empty() {
                break;
            }
        }
        if goes_on {
            self.log.close(&self.disk);
        }
        drop(self.apply.send(ApplyInput::Stop));
    }

    /// The next input; none when it is time for a timeout.
    fn next_input(&self, stop: Option<Instant>) -> Option<OrderInput> {
        let timeout = self.order.poll_timeout().map(|(at, _reason)| at.since(self.now()));
        let left = stop.map(|at| at.saturating_duration_since(Instant::now()));
        let Some(patience) = timeout.into_iter().chain(left).min() else {
            return Some(self.inputs.recv().unwrap_or(OrderInput::Stop));
        };
        match self.inputs.recv_timeout(patience) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(OrderInput::Stop),
        }
    }

    /// Takes one input in; says whether it is time to stop.
    fn take(&mut self, input: OrderInput, proposals: &mut Vec<Proposal>) -> bool {
        let input = match input {
            OrderInput::Propose(proposal) => {
                proposals.push(proposal);
                return false;
            }
            OrderInput::Stop => return true,
            OrderInput::Reader(reply) => {
                drop(reply.send(self.log.reader()));
                return false;
            }
            OrderInput::Applied(raft_index) => Input::Applied { raft_index },
        };
        self.order.handle(self.now(), input);
        false
    }

    fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let (mut commands, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for proposal in proposals.drain(..) {
            if bytes + proposal.command.len() > MAX_BATCH_BYTES && !commands.is_empty() {
                let commands = std::mem::take(&mut commands);
                let batch = Batch { time, tags: Vec::new(), commands };
                let waiting = std::mem::take(&mut replies);
                propose_batch(&mut self.order, &mut self.waiting, self.started, &batch, waiting);
                bytes = 0;
            }
            bytes += proposal.command.len();
            commands.push(proposal.command);
            replies.push(proposal.pending);
        }
        if !commands.is_empty() {
            let batch = Batch { time, tags: Vec::new(), commands };
            propose_batch(&mut self.order, &mut self.waiting, self.started, &batch, replies);
        }
    }

    /// Does what *order* wants done, until it wants nothing more. Says whether to go on.
    fn drain_outputs(&mut self) -> bool {
        loop {
            let mut written = None;
            while let Some(output) = self.order.poll_output() {
                match output {
                    Output::Persist(persist) => {
                        written = Some(persist.number);
                        if !self.log.append(persist) {
                            return false;
                        }
                    }
                    output => self.obey(output),
                }
            }
            let Some(number) = written else { return true };
            if !self.log.sync() {
                return false;
            }
            self.order.handle(self.now(), Input::Persisted { number });
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Appended { ticket, term, index } => {
                if let Some(replies) = self.waiting.proposed.remove(&ticket) {
                    self.waiting.appended.insert(index, (term, replies));
                }
            }
            Output::Commit { entries, through } => {
                for entry in entries {
                    let replies = self.replies_to(entry.index, entry.term);
                    let data: Bytes = entry.data;
                    let (index, term) = (entry.index, entry.term);
                    let commit = ApplyInput::Commit { index, term, data, replies };
                    drop(self.apply.send(commit));
                }
                drop(self.apply.send(ApplyInput::Through(through)));
            }
            Output::Dropped { ticket, why } => {
                let why = match why {
                    Why::TooLarge | Why::Empty => NotProposed::TooLarge,
                    Why::NotLeader { .. } | Why::Transferring => NotProposed::NotLeader,
                    Why::Busy | Why::Members(_) => NotProposed::Busy,
                };
                for pending in self.waiting.proposed.remove(&ticket).unwrap_or_default() {
                    pending.end(Ended::NotProposed(why.clone()));
                }
            }
            Output::Role { role, term, .. } => {
                self.shared.set_role(role_name(role), term);
            }
            // These speak of other members, and a space of this node alone has none.
            Output::Fetch { first, .. } => {
                let entries = Vec::new();
                self.order.handle(self.now(), Input::Fetched { first, entries });
            }
            Output::Persist(_)
            | Output::ReadReady { .. }
            | Output::Refused { .. }
            | Output::Send { .. }
            | Output::SnapshotWanted { .. } => {}
        }
    }

    /// Who waits for the entry at `index`. Whoever waited for one of another term there has lost it.
    fn replies_to(&mut self, index: u64, term: u64) -> Vec<Pending> {
        let Some((appended, replies)) = self.waiting.appended.remove(&index) else {
            return Vec::new();
        };
        if appended == term {
            return replies;
        }
        for pending in replies {
            pending.end(Ended::NotProposed(NotProposed::NotLeader));
        }
        Vec::new()
    }

    fn now(&self) -> Time {
        since(self.started)
    }
}

/// The order machine's time: microseconds since its thread was made.
pub(super) fn since(started: Instant) -> Time {
    Time::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn propose_batch(
    order: &mut Order,
    waiting: &mut Waiting,
    started: Instant,
    batch: &Batch,
    replies: Vec<Pending>,
) {
    waiting.next_ticket += 1;
    let ticket = waiting.next_ticket;
    waiting.proposed.insert(ticket, replies);
    order.handle(since(started), Input::Propose { ticket, data: batch.encode() });
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Candidate => "candidate",
        Role::Follower => "follower",
        Role::Leader => "leader",
    }
}
