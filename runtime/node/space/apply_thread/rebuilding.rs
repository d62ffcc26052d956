//! Marks of the state, and what is done where it is not what most voters have: it is made again, from a
//! snapshot of before they last agreed and from the log.

use super::super::order_thread::OrderInput;
use super::Applier;
use crate::past::batch_of;
use crate::store::FsDisk;
use bytes::Bytes;
use std::time::{Duration, Instant};
use synod_core::apply::State;
use synod_core::command::{Batch, Checkpoint};
use synod_core::group::{self, MARK_EVERY, Marks, Verdict, mark_of};
use synod_core::log::Reader;
use synod_core::order::Position;
use tokio::sync::oneshot;

/// How long nothing has happened when what happened before is marked.
const IDLE: Duration = Duration::from_secs(10);

/// When marks are taken, and those that were.
#[derive(Clone, Debug)]
pub(crate) struct Marking {
    every: u64,
    idle: Duration,
    marks: Marks,
    /// When commands that are no checkpoints were last applied, if no mark was taken since.
    unmarked: Option<Instant>,
    /// The last checkpoint that was looked at, and the last that this state agreed with.
    seen: u64,
    agreed: u64,
}

impl Default for Marking {
    fn default() -> Self {
        let (marks, unmarked) = (Marks::default(), None);
        Self { every: MARK_EVERY, idle: IDLE, marks, unmarked, seen: 0, agreed: 0 }
    }
}

impl Marking {
    /// For a space whose only voter nobody can contradict.
    pub(crate) fn never() -> Self {
        Self { every: 0, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn each(every: u64, idle: Duration) -> Self {
        Self { every, idle, ..Self::default() }
    }

    /// A state that came from elsewhere than its own commands.
    pub(super) fn begin_anew(&mut self, checkpoint: Option<&Checkpoint>) {
        self.marks.forget();
        self.seen = checkpoint.map_or(0, |checkpoint| checkpoint.mark.index);
        self.agreed = self.seen;
    }

    /// Up to where a state that is opened is right, as far as is known.
    pub(crate) fn agreed_by(&self, state: &State) -> u64 {
        match self.every {
            0 => u64::MAX,
            _ => state.membership().checkpoint().map_or(0, |checkpoint| checkpoint.mark.index),
        }
    }

    /// As a space that is opened begins.
    pub(crate) fn begin(mut self, state: &State) -> Self {
        self.begin_anew(state.membership().checkpoint());
        self
    }

    /// Whether a mark is due at an index.
    pub(super) fn is_due(&self, index: u64) -> bool {
        self.every > 0 && index.is_multiple_of(self.every)
    }

    /// A batch begins to be applied: what it does is to be marked some time.
    pub(super) fn begin_batch(&mut self, batch: &Batch, state: &State) {
        if self.every > 0 && self.marks.wants(state.index(), batch) {
            self.marks.keep(mark_of(state));
        }
        let is_checkpoint = |command: &Bytes| Checkpoint::is_likely(command);
        if self.every > 0 && !batch.commands.iter().all(is_checkpoint) {
            self.unmarked = Some(Instant::now());
        }
    }

    /// How long nothing may happen until what happened before is marked; none if it is.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.unmarked.map(|since| self.idle.saturating_sub(since.elapsed()))
    }
}

impl Applier {
    /// Takes a mark, and has it told to the leader.
    pub(super) fn mark(&mut self) {
        self.marking.unmarked = None;
        let mark = mark_of(&self.state);
        if self.marking.marks.newest() != Some(&mark) {
            self.marking.marks.keep(mark);
            drop(self.order.send(OrderInput::Mark(mark)));
        }
    }

    /// Holds this node's marks against a checkpoint that has come.
    pub(super) fn judge(&mut self) {
        let Some(checkpoint) = self.state.membership().checkpoint() else { return };
        let index = checkpoint.mark.index;
        if index == self.marking.seen {
            return;
        }
        self.marking.seen = index;
        match self.marking.marks.judge(checkpoint) {
            Verdict::Agrees => {
                self.marking.agreed = index;
                self.shared.set_agreed(index);
                // What was kept for that need not be any more.
                drop(self.order.send(OrderInput::Tend));
            }
            Verdict::Unknown => {}
            // The state is what this log leads to: whether the log is wrong, is for whoever has it.
            Verdict::Apart => {
                drop(self.order.send(OrderInput::Apart(Box::new(checkpoint.clone()))));
            }
            Verdict::Differs => {
                let checkpoint = checkpoint.clone();
                self.rebuild(&checkpoint);
            }
        }
    }

    /// This state is wrong: serves nobody until it has been made again.
    fn rebuild(&mut self, checkpoint: &Checkpoint) {
        let (index, voters) = (checkpoint.mark.index, checkpoint.signatures.len());
        let why = format!(
            "what this node made of the log was not, at index {index}, what {voters} voters made of it"
        );
        tracing::error!("{why}: it leads no longer, and makes its state again from the log");
        self.shared
            .set_rebuilding(Some(format!("{why}: it is being made again; ask another node")));
        drop(self.order.send(OrderInput::Rebuilding(true)));
        self.writing = None;
        self.state.abandon_snapshot();
        // One that was finished is as wrong, and is removed with the others.
        self.snapshots.settle();
        let started = Instant::now();
        match self.made_again(checkpoint) {
            Ok(state) => {
                self.state = state;
                self.end_rebuilding(why, index, started);
            }
            Err(_) if self.shared.is_closing() => {}
            Err(e) => self.want_state(checkpoint.clone(), (why, e), started),
        }
    }

    /// As the state of a member that has only now come to it, as far as agreements go.
    pub(super) fn begin_marking_anew(&mut self) {
        self.marking.begin_anew(self.state.membership().checkpoint());
        self.shared.set_agreed(self.marking.agreed_by(&self.state));
    }

    /// The state is right again: serves as before.
    pub(super) fn end_rebuilding(&mut self, why: String, index: u64, started: Instant) {
        self.since_snapshot = 0;
        self.begin_marking_anew();
        self.feed.restart(self.state.index());
        self.told_membership = self.state.membership().changed_at();
        self.shared.set_membership(self.state.membership().clone());
        self.begin_snapshot();
        let took = started.elapsed().as_millis();
        tracing::error!(
            "the state was made again in {took} ms, for what the voters have at index {index}"
        );
        self.shared.rebuilt(format!("{why}; it was made again: look after this machine"));
        drop(self.order.send(OrderInput::Rebuilding(false)));
    }

    /// The state of now, by way of one that most voters agree on.
    fn made_again(&self, checkpoint: &Checkpoint) -> Result<State, String> {
        // What was written since this state was last right may be as wrong as it is.
        self.snapshots.remove_behind(self.marking.agreed).map_err(|e| e.to_string())?;
        let reader = self.reader()?;
        let mut below = u64::MAX;
        loop {
            let loaded = self.snapshots.load_before(|place| place.index < below);
            let (state, at) = match loaded.map_err(|e| e.to_string())? {
                Some(loaded) => loaded,
                None if below == 0 => return Err("nothing leads to what they agree on".to_owned()),
                None => (State::new(self.space), Position::default()),
            };
            below = state.index();
            match replay(state, at, &reader, self.through, checkpoint, false)? {
                Some(state) => return Ok(state),
                None if below == 0 => {}
                None => {
                    tracing::warn!("the snapshot of index {below} leads to another state, too");
                    self.snapshots.remove_behind(below - 1).map_err(|e| e.to_string())?;
                }
            }
        }
    }
}

impl Applier {
    /// A reader of the log.
    pub(super) fn reader(&self) -> Result<Reader<FsDisk>, String> {
        let (sender, reader) = oneshot::channel();
        drop(self.order.send(OrderInput::Reader(sender)));
        reader.blocking_recv().map_err(|_| "the space is being closed".to_owned())
    }
}

/// Goes on from a state with the log; none if it does not come by what the voters agree on, unless it is
/// taken to be right.
pub(super) fn replay(
    state: State,
    at: Position,
    reader: &Reader<FsDisk>,
    through: Position,
    checkpoint: &Checkpoint,
    is_right: bool,
) -> Result<Option<State>, String> {
    let entries = reader.entries(at.index + 1, through.index + 1).map_err(|e| e.to_string())?;
    let batches = entries.filter_map(|entry| match entry {
        // As it was when it came: what is no batch changes nothing.
        Ok(entry) => Batch::decode(&batch_of(&entry)).ok().map(Ok),
        Err(e) => Some(Err(e.to_string())),
    });
    group::replay(state, batches, checkpoint, is_right)
}
