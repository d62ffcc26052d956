//! A network and disks that misbehave, all by seed: messages are lost, doubled, late and overtaken;
//! members crash and lose what their disks had not confirmed; the network falls apart and heals;
//! clients propose, read, change the members and compact all the while. In the end all is well
//! again, and so must the group be.
//!
//! `SEED=n` runs that seed alone and prints all that happens. `SEEDS=n` runs so many of each kind.

use super::check::{Checker, Counts};
use super::member::{Member, Parcel};
use super::storm::Random;
use super::trace;
use crate::order::*;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long things go wrong, and how long they may take to be right again.
const STORM: Time = Time::from_millis(20_000);
const CALM: Time = Time::from_millis(35_000);

#[test]
fn three_voters_agree_through_storms() {
    let counts = storms(0, 100, |seed| Sim::new(seed, 3, false));
    assert_much_happened(counts, Counts { changes: 0, ..MUCH });
}

#[test]
fn changing_members_agree_through_storms() {
    let counts = storms(1_000_000, 100, |seed| Sim::new(seed, 3 + seed % 3, true));
    assert_much_happened(counts, MUCH);
}

#[test]
fn one_voter_survives_its_disk() {
    let counts = storms(2_000_000, 60, |seed| Sim::new(seed, 1, false));
    let much = Counts { changes: 0, fetches: 0, refused: 0, snapshots: 0, ..MUCH };
    assert_much_happened(counts, much);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..3 {
        let trace = || {
            let mut sim = Sim::new(seed, 3, true);
            sim.trace = Some(String::new());
            sim.run();
            sim.trace.unwrap()
        };
        let first = trace();
        assert!(first.lines().count() > 1_000, "only {} lines", first.lines().count());
        assert!(first == trace(), "seed {seed}");
    }
}

/// What the seeds of one test see at least, so that they cannot pass by nothing happening.
const MUCH: Counts = Counts {
    elections: 250,
    entries: 10_000,
    changes: 300,
    reads: 1_000,
    snapshots: 100,
    fetches: 100,
    refused: 100,
};

fn assert_much_happened(counts: Counts, least: Counts) {
    let alone = ["SEED", "SEEDS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(alone || counts.covers(&least), "{counts:?} of {least:?}");
    println!("{counts:?}");
}

fn storms(first: u64, count: u64, sim: impl Fn(u64) -> Sim) -> Counts {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let alone = number("SEED");
    let seeds = match alone {
        Some(seed) => seed..seed + 1,
        None => first..first + number("SEEDS").unwrap_or(count),
    };
    let mut sum = Counts::default();
    for seed in seeds {
        let told = OnPanic(seed);
        let mut sim = sim(seed);
        sim.aloud = alone.is_some();
        sim.run();
        std::mem::forget(told);
        sum.add(&sim.checker.counts);
    }
    sum
}

/// Says which seed it was.
struct OnPanic(u64);

impl Drop for OnPanic {
    fn drop(&mut self) {
        eprintln!("SEED={}", self.0);
    }
}

pub(super) enum Event {
    Applied(u64),
    Client,
    Compact(u64),
    Deliver(Parcel),
    Disk(u64),
    Fault,
    Fetched(u64),
    Restart(u64),
    Tick(u64),
}

pub(super) struct Sim {
    pub(super) random: Random,
    pub(super) now: Time,
    /// What is to happen, by time and then in the order planned.
    pub(super) events: BTreeMap<(Time, u64), Event>,
    planned: u64,
    pub(super) members: BTreeMap<u64, Member>,
    genesis: Members,
    pub(super) changing: bool,
    /// Events that a member has planned already.
    pub(super) busy: BTreeSet<(u64, &'static str)>,
    pub(super) sides: Vec<BTreeSet<u64>>,
    /// Who crashes as soon as it has something to write, its messages being on their way.
    pub(super) doomed: BTreeSet<u64>,
    /// Of a thousand messages, how many are lost, and how many come twice.
    pub(super) loss: u64,
    pub(super) double: u64,
    pub(super) tickets: u64,
    pub(super) checker: Checker,
    aloud: bool,
    trace: Option<String>,
}

impl Sim {
    fn new(seed: u64, voters: u64, changing: bool) -> Self {
        let genesis = Members::of_voters(1..=voters);
        let mut sim = Self {
            random: Random(seed),
            now: Time::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            members: BTreeMap::new(),
            genesis,
            changing,
            busy: BTreeSet::new(),
            sides: Vec::new(),
            doomed: BTreeSet::new(),
            loss: 0,
            double: 0,
            tickets: 0,
            checker: Checker::default(),
            aloud: false,
            trace: None,
        };
        (1..=voters).for_each(|id| sim.join(id));
        sim
    }

    fn run(&mut self) {
        let ids: Vec<_> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.settle(id));
        self.plan(1, Event::Client);
        self.plan(1, Event::Fault);
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > CALM {
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.check_the_end();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Applied(id) => {
                self.busy.remove(&(id, "apply"));
                let raft_index = self.members[&id].committed.index;
                self.handle(id, Input::Applied { raft_index });
            }
            Event::Client if self.now < STORM => {
                self.client();
                let pause = self.random.below(60_000);
                self.plan(pause, Event::Client);
            }
            Event::Compact(id) => {
                self.busy.remove(&(id, "snapshot"));
                self.compact(id);
            }
            Event::Deliver(parcel) => self.deliver(parcel),
            Event::Disk(id) => {
                self.busy.remove(&(id, "disk"));
                let (now, count) = (self.now, 1 + self.random.below(4) as usize);
                self.member(id).write(now, count);
                self.settle(id);
            }
            Event::Fault if self.now < STORM => {
                self.fault();
                let pause = 50_000 + self.random.below(1_000_000);
                self.plan(pause, Event::Fault);
            }
            Event::Fault => self.calm(),
            Event::Fetched(id) => {
                self.busy.remove(&(id, "fetch"));
                let now = self.now;
                self.member(id).fetch_one(now);
                self.settle(id);
            }
            Event::Restart(id) => self.restart(id),
            Event::Tick(id) => {
                self.busy.remove(&(id, "tick"));
                self.handle(id, Input::Timeout);
            }
            Event::Client => {}
        }
    }

    // What members do.

    pub(super) fn join(&mut self, id: u64) {
        let mut config = Config::new(id, [7; 32], self.random.next());
        config.cache_bytes = 2_000;
        let member = Member::new(config, self.genesis.clone(), self.now);
        self.members.insert(id, member);
        self.checker.started(id, 0, 0);
    }

    pub(super) fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    pub(super) fn handle(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.member(id).handle(now, input);
        self.settle(id);
    }

    /// Takes a member's outputs, checks them, and plans what follows from them.
    pub(super) fn settle(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        let outputs = member.take_outputs();
        let Some(order) = &member.order else {
            return;
        };
        for output in &outputs {
            if self.aloud || self.trace.is_some() {
                let line = format!("{} {}\n", self.now, trace::output(id, output));
                if self.aloud {
                    print!("{line}");
                }
                if let Some(trace) = &mut self.trace {
                    trace.push_str(&line);
                }
            }
            self.checker.output(id, order, output);
        }
        let (tick, outbox) = (order.poll_timeout(), std::mem::take(&mut member.outbox));
        let (writes, fetches) = (!member.writes.is_empty(), !member.fetches.is_empty());
        let wanted = |output: &Output| matches!(output, Output::SnapshotWanted { .. });
        if outputs.iter().any(wanted) {
            self.plan_once((id, "snapshot"), 10_000, Event::Compact(id));
        }
        let commits = outputs.iter().any(|output| matches!(output, Output::Commit { .. }));
        if let Some((at, _)) = tick {
            let pause = at.since(self.now).as_micros() as u64;
            self.plan_once((id, "tick"), pause, Event::Tick(id));
        }
        if writes {
            let slow = if self.random.chance(150) { 100_000 } else { 3_000 };
            let pause = self.random.below(slow);
            self.plan_once((id, "disk"), pause, Event::Disk(id));
        }
        if fetches {
            let pause = self.random.below(5_000);
            self.plan_once((id, "fetch"), pause, Event::Fetched(id));
        }
        if commits {
            let pause = self.random.below(20_000);
            self.plan_once((id, "apply"), pause, Event::Applied(id));
        }
        outbox.into_iter().for_each(|parcel| self.post(parcel));
        if writes && self.random.chance(300) && self.doomed.remove(&id) {
            self.crash(id);
        }
    }

    fn plan_once(&mut self, what: (u64, &'static str), pause: u64, event: Event) {
        if self.busy.insert(what) {
            self.plan(pause, event);
        }
    }

    pub(super) fn plan(&mut self, pause: u64, event: Event) {
        let at = self.now + Duration::from_micros(pause);
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    // The network.

    fn post(&mut self, parcel: Parcel) {
        let copies = 1 + u64::from(self.random.chance(self.double));
        for _ in 0..copies {
            // Most take a millisecond or so, and some overtake others by far.
            let far = if self.random.chance(50) { 400_000 } else { 2_000 };
            let pause = 200 + self.random.below(far);
            let lost = self.random.chance(self.loss);
            if !lost {
                self.plan(pause, Event::Deliver(parcel.clone()));
            } else if parcel.snapshot.is_some() {
                self.handle(parcel.from, Input::SnapshotSent { to: parcel.to, ok: false });
            } else if self.random.chance(500) {
                self.handle(parcel.from, Input::Unreachable { to: parcel.to });
            }
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        let Parcel { from, to, message, snapshot, .. } = parcel;
        let side = |id| self.sides.iter().position(|side| side.contains(&id));
        let arrives =
            side(from) == side(to) && self.members.get(&to).is_some_and(|m| m.order.is_some());
        if arrives {
            self.handle(to, Input::Message { from, bytes: message });
        }
        if snapshot.is_some() {
            self.handle(from, Input::SnapshotSent { to, ok: arrives });
        }
    }

    /// Everybody whom the group counts in has everything, under one leader who takes proposals.
    fn check_the_end(&mut self) {
        let leaders: Vec<_> = self.members.values().filter_map(|m| m.order.as_ref()).collect();
        let leaders = leaders.iter().filter(|order| order.role() == Role::Leader);
        let leader = leaders.max_by_key(|order| order.hard_state().term).expect("nobody leads");
        let (committed, members) = (self.checker.committed(), leader.members());
        assert!(!members.is_joint(), "{members}");
        for id in members.voters.iter().chain(&members.learners) {
            let reached = self.members[id].committed.index;
            assert_eq!(reached, committed, "{id} lags behind among {members}");
        }
    }
}
