//! What a member's work comes to: frames and bytes that it sends and takes, and the time of its machines.
//!
//! All nodes share one processor here, and what many of them do between two steps of a member leaves it no cache. So
//! its time is taken of a step now and then, each with the caches emptied before: whoever else runs, it is the same.

use super::world::{Event, World};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use synod_core::order::Role;
use synod_core::time::Time;

/// What one member has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Of those of its steps that were timed.
    pub(crate) time: Duration,
    pub(crate) timed: u64,
    pub(crate) steps: u64,
}

/// One of so many steps is timed; of a build that is not optimized, whose time says little, fewer.
const TIMED: u64 = if cfg!(debug_assertions) { 1024 } else { 32 };
/// More than the caches hold.
const CACHES: usize = 64 << 20;

#[derive(Default)]
pub(crate) struct Costs {
    all: BTreeMap<u64, Cost>,
    /// The machine whose steps are timed.
    measured: Option<u64>,
    scratch: Vec<u8>,
}

impl Costs {
    /// A frame that a machine has sent or taken.
    pub(crate) fn of(&mut self, m: u64, bytes: usize) {
        let cost = self.all.entry(m).or_default();
        cost.frames += 1;
        cost.bytes += bytes as u64;
    }

    /// A machine begins a step; says when, if this one is timed.
    pub(crate) fn begin(&mut self, m: u64) -> Option<Instant> {
        if self.measured != Some(m) {
            return None;
        }
        let cost = self.all.entry(m).or_default();
        cost.steps += 1;
        if !cost.steps.is_multiple_of(TIMED) {
            return None;
        }
        self.scratch.resize(CACHES, 0);
        self.scratch.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        Some(Instant::now())
    }

    /// It has ended it.
    pub(crate) fn end(&mut self, m: u64, begun: Option<Instant>) {
        if let Some(begun) = begun {
            let cost = self.all.entry(m).or_default();
            cost.time += begun.elapsed();
            cost.timed += 1;
        }
    }

    fn get(&self, m: u64) -> Cost {
        self.all.get(&m).copied().unwrap_or_default()
    }
}

impl World {
    fn leader(&self) -> Option<u64> {
        let leads = |m: &&u64| {
            let run = self.machines[*m].run.as_ref();
            run.is_some_and(|run| run.order.role() == Role::Leader)
        };
        self.machines.keys().find(leads).copied()
    }

    /// Runs while nothing goes wrong, from when all have joined; gives the leader's cost, and how many
    /// commands there were.
    pub(crate) fn run_quietly(&mut self, from: Time, until: Time) -> (Cost, u64) {
        self.watchers.is_quiet = true;
        self.begin_clients();
        self.run_until(from);
        let leader = self.leader().expect("somebody leads");
        self.costs.measured = Some(leader);
        let (before, first) = (self.costs.get(leader), self.checker.last());
        self.run_until(until);
        assert_eq!(self.leader(), Some(leader), "it leads all the while");
        let after = self.costs.get(leader);
        let cost = Cost {
            frames: after.frames - before.frames,
            bytes: after.bytes - before.bytes,
            time: after.time - before.time,
            timed: after.timed - before.timed,
            steps: after.steps - before.steps,
        };
        (cost, self.checker.last() - first)
    }

    fn run_until(&mut self, until: Time) {
        while let Some(event) = self.next_before(until) {
            self.happen(event);
        }
    }

    fn begin_clients(&mut self) {
        for c in 0..self.clients.len() {
            self.plan(1_000_000 + c as u64, Event::Client(c));
        }
    }
}
