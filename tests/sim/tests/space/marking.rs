//! Marks of the state and checkpoints, as `runtime/node/space/order_thread/marking.rs` and
//! `apply_thread/rebuilding.rs`.

use super::apply::{folder, load};
use super::node::{Effect, OrderInput, Running, SPACE};
use bytes::Bytes;
use std::time::Duration;
use synod_core::apply::{State, link};
use synod_core::command::{Batch, Checkpoint, Command};
use synod_core::group::{Agreement, Collector, Frame, Mark, Marks, Verdict, statement};
use synod_core::log::disk::Disk as _;
use synod_core::order::{Entry, EntryKind, Input, Position, Role};
use synod_core::snapshot;
use synod_core::time::Time;

/// How long it takes to make a state again: others elect a leader meanwhile, perhaps more than one.
const REBUILDING: Duration = Duration::from_secs(3);
/// Commands from one mark to the next.
pub(crate) const MARK_EVERY: u64 = 16;

/// What a node knows of marks.
#[derive(Default)]
pub(crate) struct Marking {
    marks: Marks,
    pub(crate) collector: Collector,
    pub(crate) marked: Option<(Mark, Bytes)>,
    /// What the state is made again for, and until when that takes.
    pub(crate) rebuilding: Option<(Time, Checkpoint)>,
    seen: u64,
    pub(crate) agreed: u64,
}

impl Marking {
    /// Of a state that came from elsewhere than its own commands.
    pub(crate) fn begin(state: &State) -> Self {
        let checkpoint = state.membership().checkpoint();
        let seen = checkpoint.map_or(0, |checkpoint| checkpoint.mark.index);
        Self { seen, agreed: seen, ..Self::default() }
    }
}

/// What stands for a key: nobody else says this.
fn sign(peer: &[u8], generation: u64, mark: &Mark) -> Bytes {
    let signed = [peer, &statement(&SPACE, generation, mark)].concat();
    Bytes::copy_from_slice(&link(&SPACE, 0, 0, &signed))
}

fn mark_of(state: &State) -> Mark {
    Mark { index: state.index(), chain: state.chain(), digest: state.digest() }
}

impl Running {
    pub(crate) fn mark(&mut self) {
        let mark = mark_of(&self.apply.state);
        self.marking.marks.keep(mark);
        self.inputs.push_back(OrderInput::Mark(mark));
    }

    pub(crate) fn mark_for_checkpoint(&mut self, batch: &Batch) {
        if self.marking.marks.wants(self.apply.state.index(), batch) {
            self.marking.marks.keep(mark_of(&self.apply.state));
        }
    }

    pub(crate) fn take_own_mark(&mut self, mark: Mark) {
        if self.order.members().is_voter(self.me.member) {
            self.marking.marked = Some((mark, sign(&self.me.peer, self.generation, &mark)));
            self.mark_for(self.order.leader());
        }
    }

    pub(crate) fn mark_for(&mut self, leader: Option<u64>) {
        let (Some(leader), Some((mark, signature))) = (leader, self.marking.marked.clone()) else {
            return;
        };
        if leader == self.me.member {
            self.marking.collector.take(leader, mark, signature);
            return self.agree();
        }
        if let Some(peer) = self.coordinator.peer_of(&self.membership, leader) {
            self.send(&peer, false, &Frame::Mark { mark, signature });
        }
    }

    pub(crate) fn take_mark(&mut self, member: u64, peer: &Bytes, mark: Mark, signature: Bytes) {
        let is_wanted = self.order.role() == Role::Leader
            && self.order.members().is_voter(member)
            && self.marking.collector.wants(member, &mark);
        if is_wanted {
            assert_eq!(
                signature,
                sign(peer, self.generation, &mark),
                "{member} has signed what it says"
            );
            self.marking.collector.take(member, mark, signature);
            self.agree();
        }
    }

    fn agree(&mut self) {
        if self.order.role() != Role::Leader {
            return;
        }
        match self.marking.collector.agreement(&self.membership) {
            Some(Agreement::Made(checkpoint)) => {
                let commands = vec![Command::Checkpoint(checkpoint).encode()];
                let batch = Batch { time: self.wall, tags: Vec::new(), commands };
                let (ticket, data) = (self.coordinator.ticket(), batch.encode());
                self.order.handle(self.now, Input::Propose { ticket, data });
            }
            Some(Agreement::None(index)) => self.fatal(format!("nobody agrees at {index}")),
            None => {}
        }
    }

    pub(crate) fn judge(&mut self) {
        let Some(checkpoint) = self.apply.state.membership().checkpoint() else { return };
        let index = checkpoint.mark.index;
        if index == self.marking.seen {
            return;
        }
        self.marking.seen = index;
        match self.marking.marks.judge(checkpoint) {
            Verdict::Agrees => {
                self.marking.agreed = index;
                self.effects.push(Effect::Note("checkpoints", index.to_string()));
            }
            Verdict::Unknown => {}
            Verdict::Differs if !self.is_broken => {
                self.fatal(format!("its state is wrong at {index}, and nobody has broken it"));
            }
            Verdict::Differs => {
                let checkpoint = checkpoint.clone();
                self.inputs.push_back(OrderInput::Rebuilding(true));
                self.apply.writing = None;
                self.apply.state.abandon_snapshot();
                self.marking.rebuilding = Some((self.now + REBUILDING, checkpoint));
            }
        }
    }

    /// Makes the state another than the log says.
    pub(crate) fn break_state(&mut self) {
        let (name, text) = ("nowhere".to_owned(), self.wall.to_string());
        let after = self.apply.state.modules().get(&name).map_or(0, |module| module.index);
        let place = self.apply.state.place();
        let command = Command::PublishModule { name, text, after };
        self.apply.state.apply_followed(&place, Some(command));
        self.is_broken = true;
    }

    /// Whether the state is being made again, and nothing else is done with it.
    pub(crate) fn is_rebuilding(&mut self) -> bool {
        if let Some((_, checkpoint)) = self.marking.rebuilding.take_if(|(at, _)| *at <= self.now) {
            self.rebuild(&checkpoint);
        }
        self.marking.rebuilding.is_some()
    }

    fn rebuild(&mut self, checkpoint: &Checkpoint) {
        match self.made_again(checkpoint) {
            Ok(state) => self.apply.state = state,
            Err(e) => return self.fatal(format!("the state cannot be made again: {e}")),
        }
        self.is_broken = false;
        let state = &self.apply.state;
        let place = (state.chain(), state.digest());
        self.effects.push(Effect::Checked(state.index(), place));
        self.effects.push(Effect::Note("rebuilt", state.index().to_string()));
        let marked = self.marking.marked.take();
        self.marking = Marking { marked, ..Marking::begin(state) };
        self.inputs.push_back(OrderInput::Rebuilding(false));
    }

    fn made_again(&self, checkpoint: &Checkpoint) -> Result<State, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut kept = Vec::new();
        for (index, path) in snapshot::list(&self.disk, folder()).map_err(|e| text(&e))? {
            match index > self.marking.agreed {
                true => self.disk.remove(&path).map_err(|e| text(&e))?,
                false => kept.push(path),
            }
        }
        for path in kept {
            let (state, at, _) = load(&self.disk, &path)?;
            if let Some(state) = self.replay(state, at, checkpoint)? {
                return Ok(state);
            }
        }
        let begun = self.replay(State::new(SPACE), Position::default(), checkpoint)?;
        begun.ok_or_else(|| "the log leads elsewhere".to_owned())
    }

    fn replay(
        &self,
        mut state: State,
        at: Position,
        checkpoint: &Checkpoint,
    ) -> Result<Option<State>, String> {
        let wanted = &checkpoint.mark;
        let mut is_right = mark_of(&state) == *wanted;
        let (reader, through) = (self.log.reader(), self.apply.through.index);
        for entry in reader.entries(at.index + 1, through + 1).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            let kind = EntryKind::from_number(u64::from(entry.kind)).ok_or("an unknown kind")?;
            let Ok(batch) = Batch::decode(&Entry::batch(kind, &entry.data)) else { continue };
            for command in &batch.commands {
                state.apply(batch.time, command);
                if state.index() == wanted.index {
                    is_right = mark_of(&state) == *wanted;
                }
            }
        }
        Ok(is_right.then_some(state))
    }
}
