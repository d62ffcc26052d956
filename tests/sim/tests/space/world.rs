//! Everything outside of the nodes: time, the network, and who waits for what. One event after the
//! other; a seed decides all of it.

use super::check::Checker;
use super::clients::{Asked, Client};
use super::costs::Costs;
use super::driving::Synced;
use super::node::{Effect, Me, OrderInput, Running};
use super::open::from_log;
use super::watchers::{Watched, Watchers};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use synod_core::log::Reader;
use synod_core::log::disk::Disk as _;
use synod_core::order::Role;
use synod_core::time::Time;
use synod_sim::disk::SimDisk;
use synod_sim::rng::Rng;

/// When things begin to go wrong, when they go wrong no longer, and when they are to be right again.
pub(crate) const STORM: Time = Time::from_millis(5_000);
pub(crate) const CALM: Time = Time::from_millis(25_000);
pub(crate) const END: Time = Time::from_millis(60_000);
/// When each client writes once more: all has been well for long.
pub(crate) const LAST: Time = Time::from_millis(50_000);
const CLIENTS: usize = 4;

pub(crate) enum Event {
    /// Of a node, in one start of it.
    Of(u64, u64, What),
    Client(usize),
    Deliver {
        from: u64,
        to: u64,
        /// Only to this start of the receiver, by that of the sender.
        boots: Option<[u64; 2]>,
        bytes: Bytes,
    },
    DeliverSnapshot {
        from: u64,
        boot: u64,
        member: u64,
        to: u64,
        file: Vec<u8>,
        frame: Bytes,
    },
    Fault,
    Heal(u64, u64),
    Join(u64),
    /// Of a member that has forgotten something.
    JoinAnew(u64),
    /// Of a member that lives in this generation, and was told that the space has gone on.
    Leave(u64, u64),
    Link(u64, u64),
    MakeRoom(u64),
    /// Somebody goes on alone on this machine.
    Recover(u64),
    Restart(u64),
    Restore,
    /// What was lost with others is there again.
    Return(u64),
    Watched(Watched),
}

pub(crate) enum What {
    Apply,
    Fetch { reader: Box<Reader<SimDisk>>, first: u64, last: u64, max_bytes: u64 },
    Snapshot,
    Sync,
    Tick,
    Wake,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Fetch { .. } => "fetch",
            Self::Snapshot => "snapshot",
            Self::Sync => "sync",
            Self::Tick => "tick",
            Self::Wake => "wake",
        }
    }
}

/// A computer with a disk, on which a node runs or does not.
pub(crate) struct Machine {
    pub(crate) peer: Bytes,
    pub(crate) disk: SimDisk,
    pub(crate) me: Option<Me>,
    pub(crate) run: Option<Running>,
    pub(crate) started: Time,
    /// Its clock goes so fast, of a thousand, and is wrong by so many microseconds.
    pub(crate) rate: u64,
    pub(crate) skew: u64,
    /// Which of its joinings is under way or was the last.
    pub(crate) nonce: u8,
    /// Whether the power goes in the middle of its next write.
    pub(crate) is_doomed: bool,
    /// Whether it applies slowly, or its disk is slow.
    pub(crate) is_slow: bool,
    /// Whether its state, or a snapshot of it, may be another than the log says.
    pub(crate) is_wrong: bool,
    /// A copy of its disk, as the member that it was then.
    pub(crate) copy: Option<(u64, SimDisk)>,
    /// Whether its disk has lost something, and whether it asks to be let in anew for that.
    pub(crate) has_forgotten: bool,
    pub(crate) is_joining_anew: bool,
    /// Whether it is lost, as far as anybody knows.
    pub(crate) is_away: bool,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    pub(crate) planned: u64,
    /// What a node has planned already, so that it is planned once.
    busy: BTreeSet<(u64, u64, &'static str)>,
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) clients: Vec<Client>,
    pub(crate) boots: u64,
    pub(crate) requests: BTreeMap<u64, (u64, Asked)>,
    pub(crate) last_request: u64,
    /// Who cannot send to whom.
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    /// Of a thousand messages, how many are lost, and how many come twice.
    pub(crate) loss: u64,
    pub(crate) double: u64,
    pub(crate) checker: Checker,
    pub(crate) is_aloud: bool,
    pub(crate) trace: Option<String>,
    /// The machine whose disk was lost and that has not joined anew.
    pub(crate) wiped: Option<u64>,
    /// When a voter was removed, or lost its disk, last.
    pub(crate) lost: Time,
    /// What was said about members and tickets, and may be said again.
    pub(crate) about_members: Vec<Bytes>,
    pub(crate) last_ticket: u64,
    /// Whether states are broken, and nothing else goes wrong.
    pub(crate) breaks: bool,
    /// Whether majorities are lost, and whether one is.
    pub(crate) recovers: bool,
    /// Whether states are broken while all else goes wrong, too.
    pub(crate) errs: bool,
    /// Whether disks forget, and until when nothing else goes wrong.
    pub(crate) forgets: bool,
    pub(crate) truce: Time,
    /// Whose disk is an old copy, while that lasts.
    pub(crate) restored: Option<u64>,
    pub(crate) is_lost: bool,
    pub(crate) watchers: Watchers,
    pub(crate) costs: Costs,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            now: Time::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            busy: BTreeSet::new(),
            machines: BTreeMap::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            boots: 0,
            requests: BTreeMap::new(),
            last_request: 0,
            cuts: BTreeSet::new(),
            loss: 0,
            double: 0,
            checker: Checker::default(),
            is_aloud: false,
            trace: None,
            wiped: None,
            lost: Time::ZERO,
            about_members: Vec::new(),
            last_ticket: 0,
            breaks: false,
            recovers: false,
            errs: false,
            forgets: false,
            truce: Time::ZERO,
            restored: None,
            is_lost: false,
            watchers: Watchers::new(seed, 0),
            costs: Costs::default(),
        };
        world.found();
        world
    }

    /// One in which all is well but the states, which are broken one after the other.
    pub(crate) fn breaking(seed: u64) -> Self {
        Self { breaks: true, ..Self::new(seed) }
    }

    /// One in which most of the voters are lost, too, and somebody goes on alone.
    pub(crate) fn recovering(seed: u64) -> Self {
        Self { recovers: true, ..Self::new(seed) }
    }

    /// One in which a state is broken now and then, too.
    pub(crate) fn erring(seed: u64) -> Self {
        Self { errs: true, ..Self::new(seed) }
    }

    /// One in which disks also forget what was safe on them.
    pub(crate) fn forgetting(seed: u64) -> Self {
        Self { forgets: true, ..Self::new(seed) }
    }

    pub(crate) fn run(&mut self) {
        (0..CLIENTS).for_each(|c| self.plan(1_000_000 + c as u64, Event::Client(c)));
        self.plan(STORM.as_micros(), Event::Fault);
        let mut is_calm = false;
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > END {
                break;
            }
            self.now = at;
            if !is_calm && self.is_calm() {
                is_calm = true;
                self.calm();
            }
            self.checker.count("steps", 1);
            self.happen(event);
        }
        self.check_the_end();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now >= CALM
    }

    pub(crate) fn plan(&mut self, pause: u64, event: Event) {
        self.planned += 1;
        self.events.insert((self.now + Duration::from_micros(pause), self.planned), event);
    }

    fn plan_once(&mut self, m: u64, boot: u64, pause: u64, what: What) {
        if self.busy.insert((m, boot, what.name())) {
            self.plan(pause, Event::Of(m, boot, what));
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.is_aloud && self.trace.is_none() {
            return;
        }
        let line = format!("{:>10} {}", self.now.as_micros(), line());
        if self.is_aloud {
            println!("{line}");
        }
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{line}");
        }
    }

    /// The next event, if it happens before a time.
    pub(crate) fn next_before(&mut self, until: Time) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        if at > until {
            self.plan(at.since(self.now).as_micros() as u64, event);
            return None;
        }
        self.now = at;
        Some(event)
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Of(m, boot, what) => {
                self.busy.remove(&(m, boot, what.name()));
                if self.machines[&m].run.as_ref().is_some_and(|run| run.boot == boot) {
                    self.of_node(m, what);
                }
            }
            Event::Client(c) => self.client(c),
            Event::Deliver { from, to, boots, bytes } => self.deliver((from, to), boots, bytes),
            Event::DeliverSnapshot { from, boot, member, to, file, frame } => {
                self.deliver_snapshot((from, boot, member), to, &file, frame);
            }
            Event::Fault if self.is_calm() => {}
            Event::Fault if self.now < self.truce => self.plan(100_000, Event::Fault),
            Event::Fault if self.breaks => {
                self.break_a_state();
                self.plan(1_000_000, Event::Fault);
            }
            Event::Fault => {
                self.end_truce();
                self.fault();
                let pause = 20_000 + self.rng.below(500_000);
                self.plan(pause, Event::Fault);
            }
            Event::Heal(a, b) => self.heal(a, b),
            Event::Join(m) => self.ask_to_join(m),
            Event::JoinAnew(m) => self.ask_to_join_anew(m),
            Event::Leave(m, generation) => self.leave(m, generation),
            Event::Link(m, other) => {
                let is_up = self.machines[&other].run.is_some()
                    && !self.cuts.contains(&(m, other))
                    && !self.cuts.contains(&(other, m));
                let peer = self.machines[&other].peer.clone();
                let input = if is_up { OrderInput::Found(peer) } else { OrderInput::Lost(peer) };
                self.step(m, |run| run.inputs.push_back(input));
            }
            Event::MakeRoom(m) => self.machines[&m].disk.set_budget(u64::MAX),
            Event::Recover(m) => self.recover(m),
            Event::Restart(m) => self.start_node(m),
            Event::Restore => self.restore(),
            Event::Return(m) => self.come_back(m),
            Event::Watched(what) => self.watched(what),
        }
    }

    fn of_node(&mut self, m: u64, what: What) {
        match what {
            What::Apply => {
                for _ in 0..1 + self.rng.below(6) {
                    self.step(m, |run| run.apply_some(1));
                }
            }
            What::Fetch { reader, first, last, max_bytes } => {
                let read = reader.read(first, last + 1, max_bytes as usize);
                let entries = read.unwrap_or_default().into_iter().map(from_log).collect();
                self.checker.count("fetches", 1);
                let fetched = OrderInput::Fetched { first, entries };
                self.step(m, |run| run.inputs.push_back(fetched));
            }
            What::Snapshot => {
                let items = 1 + self.rng.below(4) as usize;
                self.step(m, |run| run.write_snapshot(items));
            }
            What::Sync => self.sync(m),
            What::Tick => self.step(m, Running::tick),
            What::Wake => self.step(m, Running::wake),
        }
    }

    fn sync(&mut self, m: u64) {
        let machine = self.machines.get_mut(&m).expect("it is there");
        if std::mem::take(&mut machine.is_doomed) {
            // What was sent before is on its way; the write is torn.
            let more = self.rng.below(3);
            machine.disk.crash_after(machine.disk.operations() + more);
        }
        let mut synced = Synced::Done;
        self.step(m, |run| synced = run.sync());
        match synced {
            Synced::Done => {}
            Synced::Full => self.checker.count("waits for room", 1),
            Synced::Failed => self.checker.count("torn writes", 1),
        }
    }

    /// Has a node do something, and does what follows from it.
    pub(crate) fn step(&mut self, m: u64, act: impl FnOnce(&mut Running)) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&m) else { return };
        let (rate, wall) = (machine.rate, now.as_micros() + machine.skew);
        let local = now.since(machine.started).as_micros() as u64 * rate / 1000;
        let Some(run) = &mut machine.run else { return };
        (run.now, run.wall) = (Time::from_micros(local), 1_000_000_000 + wall);
        run.was_wrong = run.serves_not();
        let begun = self.costs.begin(m);
        act(run);
        self.costs.end(m, begun);
        let effects = std::mem::take(&mut run.effects);
        if machine.disk.free_space().is_err() {
            // The power went meanwhile: nothing of this came out.
            return self.crash(m, "the power goes in a write");
        }
        for effect in effects {
            self.effect(m, effect);
        }
        self.plan_for(m);
    }

    /// Plans what a node waits for.
    fn plan_for(&mut self, m: u64) {
        let machine = &self.machines[&m];
        let (rate, is_slow) = (machine.rate, machine.is_slow);
        let Some(run) = &machine.run else { return };
        let boot = run.boot;
        let tick = run.order.poll_timeout().map(|(at, _)| at.since(run.now).as_micros() as u64);
        let (is_syncing, is_full) = (run.syncing.is_some(), run.is_full);
        let has_inputs = !run.inputs.is_empty();
        let has_commits = !run.apply.inputs.is_empty() || run.serves_not();
        let has_snapshot = run.apply.writing.is_some();
        if is_syncing {
            let slow = if is_slow { 60_000 } else { 2_000 };
            let pause = if is_full { 200_000 } else { 100 + self.rng.below(slow) };
            self.plan_once(m, boot, pause, What::Sync);
        } else {
            if has_inputs {
                let pause = self.rng.below(200);
                self.plan_once(m, boot, pause, What::Wake);
            }
            if let Some(tick) = tick {
                self.plan_once(m, boot, tick * 1000 / rate + 1, What::Tick);
            }
        }
        if has_commits {
            let slow = if is_slow { 100_000 } else { 1_500 };
            let pause = self.rng.below(slow);
            self.plan_once(m, boot, pause, What::Apply);
        }
        if has_snapshot {
            let pause = self.rng.below(3_000);
            self.plan_once(m, boot, pause, What::Snapshot);
        }
    }

    fn effect(&mut self, m: u64, effect: Effect) {
        let Some(run) = &self.machines[&m].run else { return };
        let (member, boot, generation) = (run.me.member, run.boot, run.generation);
        match effect {
            Effect::Send { peer, bytes, urgent } => self.post(m, &peer, bytes, urgent),
            Effect::Offer { peer, to, file, frame } => {
                let Some(other) = self.machine_of(&peer) else { return };
                let pause = 1_000 + self.rng.below(100_000);
                let (from, member) = (m, to);
                let offer = Event::DeliverSnapshot { from, boot, member, to: other, file, frame };
                self.plan(pause, offer);
            }
            Effect::Fetch { reader, first, last, max_bytes } => {
                let pause = self.rng.below(5_000);
                let fetch = What::Fetch { reader, first, last, max_bytes };
                self.plan(pause, Event::Of(m, boot, fetch));
            }
            Effect::Ended(request, ended) => self.ended(request, ended),
            Effect::Role(role, term) => {
                if role == Role::Leader {
                    assert_eq!(run.shortened, None, "node {m} has forgotten, and leads");
                    self.checker.elected(generation, member, term);
                }
                self.note(|| format!("node {m} (member {member}) is {role:?} in term {term}"));
            }
            Effect::Committed(at) => self.checker.branch(generation).committed(member, at),
            Effect::Chosen(at, data) => self.checker.branch(generation).chosen(member, at, &data),
            Effect::Applied { first, commands, state } => {
                let last = first + commands.len() as u64 - 1;
                self.checker.applied(generation, member, first, &commands);
                let Some(state) = state else { return };
                self.checker.branch(generation).state(member, last, state);
                self.note(|| {
                    format!("node {m} has applied {first} to {last}: {:02x?}", &state.0[..4])
                });
                if let Some(run) = &self.machines[&m].run {
                    self.checker.look(generation, &run.apply.state);
                }
                self.look_for_another_generation(m);
            }
            Effect::Checked(index, state) => {
                self.checker.branch(generation).state(member, index, state);
            }
            Effect::Disputed(index) => {
                let is_wrong = self.machines.values().any(|machine| machine.is_wrong);
                assert!(is_wrong, "nobody agrees at {index}, and nobody is wrong");
                self.checker.count("disputed", 1);
            }
            Effect::Shortened(why) => {
                self.checker.count("found to be short", 1);
                self.note(|| format!("the log of node {m} is short: {why}"));
                self.begin_anew_with(m);
            }
            Effect::GoneOn(to) => self.told_of_another_generation(m, to),
            Effect::Installed(index, state) => {
                self.checker.count("snapshots installed", 1);
                self.checker.branch(generation).state(member, index, state);
                self.machines.get_mut(&m).expect("it is there").is_wrong = false;
                self.note(|| format!("node {m} goes on from a snapshot of index {index}"));
            }
            Effect::Proposed { foreign } => self.checker.count("forwarded", foreign),
            Effect::Changed => self.checker.count("changes of members", 1),
            Effect::Note(what, text) => {
                let is_broken = self.machines[&m].run.as_ref().is_some_and(|run| run.is_broken);
                if (what == "rebuilt" || what == "checkpoints") && !is_broken {
                    self.machines.get_mut(&m).expect("it is there").is_wrong = false;
                }
                self.checker.count(what, 1);
                self.note(|| format!("node {m}: {what}: {text}"));
            }
            Effect::Fatal(why) => panic!("node {m} ends itself: {why}"),
        }
    }
}
