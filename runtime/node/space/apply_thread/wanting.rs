//! A state that is wrong and that this node's own log does not lead to another: the members whose
//! signatures say what it should have been are asked for theirs, one after the other.

use super::super::log_writer::fatal;
use super::rebuilding::replay;
use super::{Applier, ApplyInput, OrderInput};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use synod_core::command::Checkpoint;
use synod_core::group::{Sent, Signers};
use synod_core::order::{Members, Position};

/// How long after one was asked the next is.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is awaited, and what waits for it.
pub(in crate::space) struct Wanted {
    checkpoint: Checkpoint,
    /// What was wrong, for people, and since when it is known.
    why: String,
    started: Instant,
    /// Who had the right state.
    signers: Signers,
    /// When the next is.
    next: Instant,
    /// What was committed meanwhile. It is bounded by what *order* lets be unapplied.
    held: VecDeque<ApplyInput>,
}

impl Wanted {
    /// How long until the next member is asked.
    pub(super) fn patience(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

impl Applier {
    /// Another state is needed, for the log does not lead to one.
    pub(super) fn want_state(
        &mut self,
        checkpoint: Checkpoint,
        (why, reason): (String, String),
        started: Instant,
    ) {
        let Some(signers) = Signers::of(&checkpoint, self.me) else {
            // Whatever is done with this state is wrong, and there is no other.
            fatal(&format!(
                "{why}, and it cannot be made again ({reason}): leave the space and join it again"
            ))
        };
        let members = signers.members();
        tracing::error!(
            "the log here does not lead to what the voters have ({reason}): members {members:?} are asked for it"
        );
        let (next, held) = (Instant::now(), VecDeque::new());
        self.wanted = Some(Wanted { checkpoint, why, started, signers, next, held });
    }

    /// Asks the next member for a state: whoever was asked before has not sent one in time.
    pub(super) fn ask_for_state(&mut self) {
        let Some(wanted) = &mut self.wanted else { return };
        wanted.next = Instant::now() + ASK_AGAIN;
        if let Some(member) = wanted.signers.ask() {
            drop(self.order.send(OrderInput::AskState { member }));
        }
    }

    /// While another state is awaited, keeps what is to be done with it; gives back what is done at once.
    pub(super) fn hold(&mut self, input: ApplyInput) -> Option<ApplyInput> {
        let Some(wanted) = &mut self.wanted else { return Some(input) };
        match input {
            ApplyInput::Commit { .. } | ApplyInput::Through(_) => wanted.held.push_back(input),
            ApplyInput::State { file, at, members } => self.try_state(&file, at, members),
            // A leader's goes on behind all that was held.
            ApplyInput::Install { .. } => {
                if let Some(Wanted { why, checkpoint, started, .. }) = self.wanted.take() {
                    self.take(input);
                    self.end_rebuilding(why, checkpoint.mark.index, started);
                }
            }
            ApplyInput::Snapshot { .. } | ApplyInput::SnapshotOfRaft { .. } | ApplyInput::Tend => {}
            input => return Some(input),
        }
        None
    }

    /// A state has come: goes on with it, unless it is seen to be as wrong.
    fn try_state(&mut self, file: &Path, at: Position, members: Members) {
        let Some(wanted) = self.wanted.take() else { return };
        match self.led_on(file, at, &wanted.checkpoint) {
            Ok(state) => self.state = state,
            Err(why) => {
                tracing::error!("a state that another member has sent will not do: {why}");
                self.forget_state(file);
                self.wanted = Some(wanted);
                return;
            }
        }
        if at.index > self.through.index {
            (self.through, self.members) = (at, members);
        }
        let Wanted { why, checkpoint, started, held, .. } = wanted;
        self.end_rebuilding(why, checkpoint.mark.index, started);
        for input in held {
            let is_in = match &input {
                ApplyInput::Commit { index, .. } => *index <= self.through.index,
                ApplyInput::Through(through) => through.index <= self.through.index,
                _ => false,
            };
            if !is_in {
                self.take(input);
            }
        }
    }

    /// The state of now, from one that has come. One that is newer than this node's log cannot be held
    /// against what the voters have agreed on: it is at their next agreement, as any.
    fn led_on(
        &self,
        file: &Path,
        at: Position,
        checkpoint: &Checkpoint,
    ) -> Result<synod_core::apply::State, String> {
        let (state, at_file) = self.snapshots.look_into(file).map_err(|e| e.to_string())?;
        if at_file != at {
            return Err("it is not what it was said to be".to_owned());
        }
        let is_newer = match Sent::judge(&state, at, self.through, checkpoint) {
            Sent::Taken => return Ok(state),
            Sent::LeadsOn { is_newer } => is_newer,
        };
        let led = replay(state, at, &self.reader()?, self.through, checkpoint, is_newer)?;
        led.ok_or_else(|| "it leads to another state, too".to_owned())
    }

    /// A snapshot that came and is not wanted.
    pub(super) fn forget_state(&self, file: &Path) {
        if let Err(e) = self.snapshots.remove(file) {
            tracing::warn!("a state that came for nothing is left: {e}");
        }
    }
}
