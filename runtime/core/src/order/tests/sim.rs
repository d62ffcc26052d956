//! A network and disks that misbehave, all by seed: messages are lost, doubled, late and overtaken;
//! members crash and lose what their disks had not confirmed; the network falls apart and heals;
//! clients propose, read, change the members and compact all the while. In the end all is well
//! again, and so must the group be.
//!
//! `SEED=n` runs that seed alone and prints all that happens. `SEEDS=n` runs so many of each kind.

use super::check::{Checker, Counts};
use super::member::{Member, Parcel};
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
    let counts = storms(0, 120, |seed| Sim::new(seed, 3, false));
    assert_much_happened(counts, Counts { changes: 0, ..MUCH });
}

#[test]
fn changing_members_agree_through_storms() {
    let counts = storms(1_000_000, 120, |seed| Sim::new(seed, 3 + seed % 3, true));
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

enum Event {
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

struct Sim {
    random: Random,
    now: Time,
    /// What is to happen, by time and then in the order planned.
    events: BTreeMap<(Time, u64), Event>,
    planned: u64,
    members: BTreeMap<u64, Member>,
    genesis: Members,
    changing: bool,
    /// Events that a member has planned already.
    busy: BTreeSet<(u64, &'static str)>,
    sides: Vec<BTreeSet<u64>>,
    /// Who crashes as soon as it has something to write, its messages being on their way.
    doomed: BTreeSet<u64>,
    /// Of a thousand messages, how many are lost, and how many come twice.
    loss: u64,
    double: u64,
    tickets: u64,
    checker: Checker,
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

    fn join(&mut self, id: u64) {
        let mut config = Config::new(id, [7; 32], self.random.next());
        config.cache_bytes = 2_000;
        let member = Member::new(config, self.genesis.clone(), self.now);
        self.members.insert(id, member);
        self.checker.started(id, 0);
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    fn handle(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.member(id).handle(now, input);
        self.settle(id);
    }

    /// Takes a member's outputs, checks them, and plans what follows from them.
    fn settle(&mut self, id: u64) {
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

    fn plan(&mut self, pause: u64, event: Event) {
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

    // Clients and faults.

    fn client(&mut self) {
        let id = self.somebody_who_leads();
        match self.random.below(100) {
            0..70 => {
                for _ in 0..=self.random.below(8) {
                    self.propose(id);
                }
                self.settle(id);
            }
            70..85 => {
                self.tickets += 1;
                let (ticket, id) = (self.tickets, self.anybody());
                if self.members[&id].order.is_some() {
                    self.checker.read(ticket);
                    self.handle(id, Input::ReadIndex { ticket });
                }
            }
            85..92 => {
                let id = self.anybody();
                self.compact(id);
            }
            92..94 => {
                let to = self.anybody();
                self.handle(id, Input::Transfer { to });
            }
            _ if self.changing => self.change_members(id),
            _ => {}
        }
    }

    fn propose(&mut self, id: u64) {
        self.tickets += 1;
        let data = format!("{}{}", self.tickets, "x".repeat(self.random.below(200) as usize));
        let (now, ticket, data) = (self.now, self.tickets, Bytes::from(data));
        if self.members[&id].order.is_some() {
            self.checker.proposed(ticket, &data);
            self.member(id).handle(now, Input::Propose { ticket, data });
        }
    }

    fn compact(&mut self, id: u64) {
        let (now, keep) = (self.now, self.random.below(20));
        let member = self.member(id);
        let first = member.committed.index.saturating_sub(keep) + 1;
        // A snapshot on its way to disk overtakes one taken now.
        let installing = member.writes.iter().any(|write| write.snapshot.is_some());
        if !installing && member.committed.index > 0 && first > member.disk.before.index {
            member.compact(now, first);
            self.settle(id);
        }
    }

    /// Adds, promotes, demotes or removes one or two, keeping the group between two and five.
    fn change_members(&mut self, id: u64) {
        let Some(order) = &self.members[&id].order else {
            return;
        };
        let members = order.members().clone();
        let mut changes = Vec::new();
        for _ in 0..=self.random.below(2) {
            let voters: Vec<_> = members.voters.iter().copied().collect();
            let learners: Vec<_> = members.learners.iter().copied().collect();
            let voter = voters[self.random.below(voters.len() as u64) as usize];
            match self.random.below(4) {
                0 if self.members.len() < 9 && learners.len() < 2 => {
                    let new = self.members.len() as u64 + 1;
                    self.join(new);
                    self.settle(new);
                    changes.push(Change::Learner(new));
                }
                1 if !learners.is_empty() && voters.len() < 5 => {
                    changes.push(Change::Voter(learners[0]));
                }
                2 if voters.len() > 2 => changes.push(Change::Learner(voter)),
                3 if voters.len() > 2 => changes.push(Change::Remove(voter)),
                _ => {}
            }
        }
        changes.dedup_by_key(|change| change.id());
        if !changes.is_empty() {
            self.tickets += 1;
            let (ticket, context) = (self.tickets, Bytes::new());
            self.handle(id, Input::ChangeMembers { ticket, changes, context });
        }
    }

    fn fault(&mut self) {
        let id = self.anybody();
        match self.random.below(10) {
            0 => self.crash(id),
            1..3 => drop(self.doomed.insert(id)),
            3..5 => self.restart(id),
            5..7 => {
                let ids: Vec<_> = self.members.keys().copied().collect();
                self.sides = vec![ids.into_iter().filter(|_| self.random.chance(500)).collect()];
            }
            7 => self.sides.clear(),
            8 => (self.loss, self.double) = (self.random.below(300), self.random.below(200)),
            _ => (self.loss, self.double) = (0, 0),
        }
    }

    /// Comes back soon, more often than not: what it has forgotten is asked for at once.
    fn crash(&mut self, id: u64) {
        if self.members[&id].order.is_none() {
            return;
        }
        if self.random.chance(700) {
            let pause = self.random.below(20_000);
            self.plan(pause, Event::Restart(id));
        }
        let (writes, entries) = (self.random.below(3) as usize, self.random.below(3) as usize);
        self.member(id).crash(writes, entries);
        self.busy.retain(|(busy, _)| *busy != id);
        self.events.retain(|_, event| {
            !matches!(event, Event::Applied(e) | Event::Compact(e) | Event::Disk(e)
                | Event::Fetched(e) | Event::Tick(e) if *e == id)
        });
    }

    fn restart(&mut self, id: u64) {
        let now = self.now;
        if self.members[&id].order.is_none() {
            self.member(id).start(now);
            self.checker.started(id, self.members[&id].committed.index);
            self.settle(id);
        }
    }

    fn calm(&mut self) {
        (self.loss, self.double) = (0, 0);
        self.sides.clear();
        self.doomed.clear();
        let ids: Vec<_> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.restart(id));
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

    fn anybody(&mut self) -> u64 {
        let at = self.random.below(self.members.len() as u64) as usize;
        *self.members.keys().nth(at).unwrap()
    }

    /// Mostly somebody who believes to lead.
    fn somebody_who_leads(&mut self) -> u64 {
        let leads = |m: &Member| m.order.as_ref().is_some_and(|o| o.role() == Role::Leader);
        let leaders: Vec<_> =
            self.members.iter().filter(|(_, m)| leads(m)).map(|(id, _)| *id).collect();
        if leaders.is_empty() || self.random.chance(50) {
            return self.anybody();
        }
        leaders[self.random.below(leaders.len() as u64) as usize]
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.below(1_000) < of_a_thousand
    }
}
