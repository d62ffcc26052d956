//! Telling the coordinator what happens, and doing what it says.

use super::{OrderThread, lane};
use crate::space::proposal::{Ended, NotProposed, Pending};
use crate::space::serving::Unserved;
use std::time::{SystemTime, UNIX_EPOCH};
use synod_core::group::{Action, Input, Scene, Unseen};

impl OrderThread {
    /// Tells the coordinator, and does what follows.
    pub(super) fn tell(&mut self, input: Input<Pending, super::Wisher>) {
        self.step(input);
        while let Some(action) = self.coordinator.poll_action() {
            self.act(action);
        }
    }

    fn step(&mut self, input: Input<Pending, super::Wisher>) {
        let (now, membership) = (self.now(), self.shared.membership());
        let mut own = self.shared.own();
        let mut scene = Scene {
            now,
            wall: micros(),
            raft: &self.order,
            membership: &membership,
            own: &mut own,
        };
        self.coordinator.handle(&mut scene, input);
    }

    fn act(&mut self, action: Action<Pending, super::Wisher>) {
        match action {
            Action::Raft(input) => self.order.handle(self.now(), input),
            Action::Send { peer, urgent, frame } => {
                if !self.group.send(&peer, lane(urgent), &frame) {
                    self.step(Input::NotSent(frame));
                }
            }
            Action::Ended(pending, unseen) => match unseen {
                Unseen::Busy => pending.end(Ended::NotProposed(NotProposed::Busy)),
                Unseen::TooLarge => pending.end(Ended::NotProposed(NotProposed::TooLarge)),
                Unseen::NoQuorum => pending.end(Ended::NotProposed(NotProposed::NoQuorum)),
                Unseen::Removed => pending.end(Ended::NotProposed(
                    Unserved::Removed(self.shared.removed_at().unwrap_or(0)).into(),
                )),
                Unseen::GoneOn(generation) => {
                    pending.end(Ended::NotProposed(Unserved::GoneOn(generation).into()));
                }
                // Whoever waits is told that nobody knows.
                Unseen::Unknown => drop(pending),
            },
            Action::Answer(reply, result) => drop(reply.send(result)),
            Action::Removed(at) => {
                self.shared.set_removed(at);
                if self.is_mute {
                    // It joins anew, and has said so.
                    return;
                }
                let why = Unserved::Removed(at);
                tracing::error!("the space {}: {why}", crate::hex::hex(&self.id));
            }
            Action::GoneOn(generation) => {
                if self.shared.set_gone_on(generation) {
                    tracing::error!("{}", Unserved::GoneOn(generation));
                }
            }
            Action::Refused(why) => {
                self.shared.refused();
                tracing::debug!("a frame was not listened to: {why}");
            }
        }
    }

    /// Shows whoever asks how far a leader has brought the others.
    pub(super) fn show_progress(&self) {
        let (now, membership) = (self.now(), self.shared.membership());
        let progress = {
            let mut own = self.shared.own();
            let (raft, membership) = (&self.order, &membership);
            let scene = Scene { now, wall: 0, raft, membership, own: &mut own };
            self.coordinator.progress(&scene)
        };
        let silent = |id| self.coordinator.silent(id, now);
        self.shared.set_progress(&progress, self.order.last().index, silent);
    }
}

/// Microseconds since 1970 (UTC).
pub(super) fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
