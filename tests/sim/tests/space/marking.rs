//! Marks of the state and checkpoints, as `runtime/node/space/order_thread/marking.rs` and
//! `apply_thread/rebuilding.rs`.

use super::apply::{ApplyInput, folder, load};
use super::node::{Effect, KEY, OrderInput, Running, SPACE};
use super::open::from_log;
use bytes::Bytes;
use std::path::Path;
use std::time::Duration;
use synod_core::apply::{State, link};
use synod_core::command::{Batch, Checkpoint, Command};
use synod_core::group::{
    Agreement, Collector, Frame, Giving, Mark, Marks, Sent, Signers, Verdict, mark_of, replay,
    statement, token,
};
use synod_core::log::disk::Disk as _;
use synod_core::order::{Entry, Input, Members, Position, Role};
use synod_core::snapshot;
use synod_core::time::Time;

/// How long it takes to make a state again: others elect a leader meanwhile, perhaps more than one.
const REBUILDING: Duration = Duration::from_secs(3);
/// Commands from one mark to the next.
pub(crate) const MARK_EVERY: u64 = 16;

/// A state that is awaited, and when the next member is asked for it.
pub(crate) struct Wanted {
    checkpoint: Checkpoint,
    signers: Signers,
    next: Time,
}

/// How long after one was asked the next is.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a node knows of marks.
#[derive(Default)]
pub(crate) struct Marking {
    marks: Marks,
    pub(crate) collector: Collector,
    pub(crate) marked: Option<(Mark, Bytes)>,
    /// What the state is made again for, and until when that takes.
    pub(crate) rebuilding: Option<(Time, Checkpoint)>,
    /// Another state, which this node's own log does not lead to.
    pub(crate) wanted: Option<Wanted>,
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
            Some(Agreement::None(index)) => self.effects.push(Effect::Disputed(index)),
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
                // What it had marked before it was broken was right.
                self.is_broken &= index <= self.broken_at;
                self.marking.agreed = index;
                self.effects.push(Effect::Note("checkpoints", index.to_string()));
            }
            Verdict::Unknown => {}
            Verdict::Apart => self.fatal(format!("its log was another at {index}")),
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

    /// Whether the state is being made again, and nothing else is done with it.
    pub(crate) fn is_rebuilding(&mut self) -> bool {
        if let Some((_, checkpoint)) = self.marking.rebuilding.take_if(|(at, _)| *at <= self.now) {
            self.rebuild(&checkpoint);
        }
        if let Some(wanted) = self.marking.wanted.as_mut().filter(|wanted| wanted.next <= self.now)
        {
            wanted.next = self.now + ASK_AGAIN;
            self.inputs.extend(wanted.signers.ask().map(OrderInput::AskState));
        }
        self.serves_not()
    }

    /// Whether its state is known to be wrong.
    pub(crate) fn serves_not(&self) -> bool {
        self.marking.rebuilding.is_some() || self.marking.wanted.is_some()
    }

    fn rebuild(&mut self, checkpoint: &Checkpoint) {
        match self.made_again(checkpoint) {
            Ok(state) => self.apply.state = state,
            Err(e) => return self.want_state(checkpoint, e),
        }
        self.right_again();
    }

    fn want_state(&mut self, checkpoint: &Checkpoint, why: String) {
        let Some(signers) = Signers::of(checkpoint, self.me.member) else {
            return self.fatal(format!("the state cannot be made again: {why}"));
        };
        self.effects.push(Effect::Note("states wanted", why));
        let (checkpoint, next) = (checkpoint.clone(), self.now);
        self.marking.wanted = Some(Wanted { checkpoint, signers, next });
    }

    /// Asks a member for a state in place of this node's.
    pub(crate) fn ask_for_state(&mut self, member: u64) {
        if let Some(peer) = self.coordinator.peer_of(&self.membership, member) {
            let first = self.log.first_index();
            self.send(&peer, false, &Frame::WantState { first });
        }
    }

    /// Sends a member the newest snapshot here, if its log goes on behind that.
    pub(crate) fn send_state(&mut self, peer: &Bytes, first: u64) {
        let newest = self.waiting.snapshot.as_ref().map(|(meta, _)| meta.position.index);
        match (Giving::to(first, newest, self.serves_not()), &self.waiting.snapshot) {
            (Giving::Newest, Some((_, file))) => {
                let Some(file) = self.disk.contents(file) else { return };
                let token = token(&KEY, self.generation, &self.me.peer, peer);
                let frame = Frame::State.encode(&token);
                self.effects.push(Effect::Offer { peer: peer.clone(), to: 0, file, frame });
            }
            (Giving::Later(at_least), _) => {
                self.apply.inputs.push_back(ApplyInput::SnapshotOfRaft { at_least });
            }
            (Giving::Newest | Giving::Nothing, _) => {}
        }
    }

    /// A state has come: goes on with it, unless it is seen to be as wrong.
    pub(crate) fn try_state(&mut self, file: &Path, at: Position, members: Members) {
        let Some(wanted) = self.marking.wanted.take() else { return };
        match self.led_on(file, at, &wanted.checkpoint) {
            Ok(state) => self.apply.state = state,
            Err(why) => {
                self.effects.push(Effect::Note("states that will not do", why));
                drop(self.disk.remove(file));
                self.marking.wanted = Some(wanted);
                return;
            }
        }
        if at.index > self.apply.through.index {
            (self.apply.through, self.apply.members) = (at, members);
        }
        let through = self.apply.through.index;
        self.apply.inputs.retain(|input| match input {
            ApplyInput::Commit { index, .. } => *index > through,
            ApplyInput::Through(at) => at.index > through,
            _ => true,
        });
        self.effects.push(Effect::Note("states taken", through.to_string()));
        self.right_again();
    }

    fn led_on(&self, file: &Path, at: Position, checkpoint: &Checkpoint) -> Result<State, String> {
        let (state, at_file, _) = load(&self.disk, file)?;
        if at_file != at {
            return Err("it is not what it was said to be".to_owned());
        }
        let is_newer = match Sent::judge(&state, at, self.apply.through, checkpoint) {
            Sent::Taken => return Ok(state),
            Sent::LeadsOn { is_newer } => is_newer,
        };
        let led = self.replay(state, at, checkpoint, is_newer)?;
        led.ok_or_else(|| "it leads to another state, too".to_owned())
    }

    fn right_again(&mut self) {
        self.is_broken = false;
        self.membership = self.apply.state.membership().clone();
        self.apply.told_membership = self.membership.changed_at();
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
        // What is removed and comes back when the power goes would be what the node starts from.
        self.disk.sync_dir(folder()).map_err(|e| text(&e))?;
        for path in kept {
            let (state, at, _) = load(&self.disk, &path)?;
            if let Some(state) = self.replay(state, at, checkpoint, false)? {
                return Ok(state);
            }
            self.disk.remove(&path).map_err(|e| text(&e))?;
            self.disk.sync_dir(folder()).map_err(|e| text(&e))?;
        }
        let begun = self.replay(State::new(SPACE), Position::default(), checkpoint, false)?;
        begun.ok_or_else(|| "the log leads elsewhere".to_owned())
    }

    fn replay(
        &self,
        state: State,
        at: Position,
        checkpoint: &Checkpoint,
        is_right: bool,
    ) -> Result<Option<State>, String> {
        let (reader, through) = (self.log.reader(), self.apply.through.index);
        let entries = reader.entries(at.index + 1, through + 1).map_err(|e| e.to_string())?;
        let batches = entries.filter_map(|entry| match entry.map(from_log) {
            Ok(entry) => Batch::decode(&Entry::batch(entry.kind, &entry.data)).ok().map(Ok),
            Err(e) => Some(Err(e.to_string())),
        });
        replay(state, batches, checkpoint, is_right)
    }
}
