//! The network between the nodes: what it loses, delays, doubles and cuts; and to whom a frame is handed that is
//! of another generation, as `runtime/node/net/routes.rs`.

use super::apply;
use super::node::{Effect, KEY, OrderInput};
use super::world::{Event, World};
use bytes::Bytes;
use synod_core::group::{Frame, generation_of, token};

/// How late a second copy of a frame may come, in microseconds.
const COPY_LATE: u64 = 3_000_000;

impl World {
    pub(crate) fn machine_of(&self, peer: &Bytes) -> Option<u64> {
        self.machines.iter().find(|(_, machine)| machine.peer == *peer).map(|(&m, _)| m)
    }

    pub(crate) fn post(&mut self, from: u64, peer: &Bytes, bytes: Bytes, urgent: bool) {
        let Some(to) = self.machine_of(peer) else { return };
        // The kind is the fourth item: after the array's head, the version and the token. A connection
        // is of two processes; Raft does without that.
        let is_raft = bytes.get(19) == Some(&0);
        let boots = [from, to].map(|m| self.machines[&m].run.as_ref().map_or(0, |run| run.boot));
        let boots = (!is_raft).then_some(boots);
        self.costs.of(from, bytes.len());
        if is_raft {
            self.check_vote(from, &bytes);
        }
        let copies = 1 + u64::from(self.rng.below(1000) < self.double);
        self.checker.count("doubled", copies - 1);
        let mut before = 0;
        for copy in 0..copies {
            let far = match self.rng.below(1000) {
                0..20 if !self.is_calm() => 400_000,
                _ if urgent => 1_000,
                _ => 2_000,
            };
            // A copy comes right behind the first, as likely as when somebody else may lead.
            before = match copy {
                0 => 200 + self.rng.below(far),
                _ if self.rng.one_in(2) => before + 1,
                _ => 200 + self.rng.below(COPY_LATE),
            };
            if self.rng.below(1000) >= self.loss {
                let bytes = bytes.clone();
                self.plan(before, Event::Deliver { from, to, boots, bytes });
            }
        }
    }

    /// A frame comes to a node, if it is for this start of it.
    pub(crate) fn deliver(
        &mut self,
        (from, to): (u64, u64),
        boots: Option<[u64; 2]>,
        bytes: Bytes,
    ) {
        let peer = self.machines[&from].peer.clone();
        let is_its = |(m, boot): (u64, u64)| {
            self.machines[&m].run.as_ref().is_some_and(|run| run.boot == boot)
        };
        let is_lost = boots.is_some_and(|[a, b]| !is_its((from, a)) || !is_its((to, b)));
        if is_lost || self.cuts.contains(&(from, to)) {
            return;
        }
        self.costs.of(to, bytes.len());
        let Some(run) = &self.machines[&to].run else { return };
        let (now, me) = (run.generation, run.me.peer.clone());
        let made = Frame::token(&bytes).expect("a frame of a member");
        let its = generation_of(&KEY, now, (&peer, &me), &made).expect("of a generation near by");
        if its == now {
            return self.step(to, |run| run.inputs.push_back(OrderInput::Frame { peer, bytes }));
        }
        if its > now {
            let told = Frame::Recovered { generation: its };
            let bytes = told.encode(&token(&KEY, now, &peer, &me));
            self.checker.count("told by a newer generation", 1);
            return self.step(to, |run| run.inputs.push_back(OrderInput::Frame { peer, bytes }));
        }
        self.checker.count("told an older generation", 1);
        let told = Frame::Recovered { generation: now }.encode(&token(&KEY, its, &me, &peer));
        self.post(to, &peer, told, false);
    }

    pub(crate) fn deliver_snapshot(
        &mut self,
        (from, boot, member): (u64, u64, u64),
        to: u64,
        file: &[u8],
        frame: Bytes,
    ) {
        let peer = self.machines[&from].peer.clone();
        // What is wrong of one stays with it, or two would be a majority.
        let is_wrong = self.machines[&from].is_wrong;
        let is_lost =
            is_wrong || self.rng.below(1000) < self.loss * 5 || self.cuts.contains(&(from, to));
        self.planned += 1;
        let (number, mut ok) = (self.planned, false);
        let is_of_now = self.machines[&to].run.as_ref().is_some_and(|run| {
            let made = Frame::token(&frame).expect("a frame of a member");
            made == token(&KEY, run.generation, &peer, &run.me.peer)
        });
        if !is_lost && is_of_now {
            self.step(to, |run| match apply::receive(&run.disk, file, number) {
                Ok((file, meta)) => {
                    ok = true;
                    run.inputs.push_back(OrderInput::Snapshot { peer, file, meta, frame });
                }
                Err(e) => run.effects.push(Effect::Note("offer lost", e)),
            });
        }
        let is_back = self.machines[&from].run.as_ref().is_some_and(|run| run.boot == boot);
        if is_back {
            let told = OrderInput::SnapshotSent { to: member, ok };
            self.step(from, |run| run.inputs.push_back(told));
        }
    }
}
