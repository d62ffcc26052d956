//! Everything outside of the nodes: time, the network, and who waits for what. One event after the
//! other; a seed decides all of it.

use super::apply;
use super::check::Checker;
use super::clients::{Asked, Client};
use super::costs::Costs;
use super::driving::Synced;
use super::marking::MARK_EVERY;
use super::node::{Effect, Ended, Me, OrderInput, Running};
use super::open::from_log;
use super::watchers::{Watched, Watchers};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use synod_core::apply::Part;
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
/// How late a second copy of a frame may come, in microseconds.
const COPY_LATE: u64 = 3_000_000;

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
    Link(u64, u64),
    MakeRoom(u64),
    Restart(u64),
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
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    planned: u64,
    /// What a node has planned already, so that it is planned once.
    busy: BTreeSet<(u64, u64, &'static str)>,
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) clients: Vec<Client>,
    pub(crate) boots: u64,
    requests: BTreeMap<u64, (u64, Asked)>,
    last_request: u64,
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
            Event::Deliver { from, to, boots, bytes } => {
                let peer = self.machines[&from].peer.clone();
                let is_its = |(m, boot): (u64, u64)| {
                    self.machines[&m].run.as_ref().is_some_and(|run| run.boot == boot)
                };
                if boots.is_some_and(|[a, b]| !is_its((from, a)) || !is_its((to, b))) {
                    return;
                }
                if !self.cuts.contains(&(from, to)) {
                    self.costs.of(to, bytes.len());
                    self.step(to, |run| run.inputs.push_back(OrderInput::Frame { peer, bytes }));
                }
            }
            Event::DeliverSnapshot { from, boot, member, to, file, frame } => {
                self.deliver_snapshot((from, boot, member), to, &file, frame);
            }
            Event::Fault if self.is_calm() => {}
            Event::Fault if self.breaks => {
                self.break_a_state();
                self.plan(1_000_000, Event::Fault);
            }
            Event::Fault => {
                self.fault();
                let pause = 20_000 + self.rng.below(500_000);
                self.plan(pause, Event::Fault);
            }
            Event::Heal(a, b) => self.heal(a, b),
            Event::Join(m) => self.ask_to_join(m),
            Event::Link(m, other) => {
                let is_up = self.machines[&other].run.is_some()
                    && !self.cuts.contains(&(m, other))
                    && !self.cuts.contains(&(other, m));
                let peer = self.machines[&other].peer.clone();
                let input = if is_up { OrderInput::Found(peer) } else { OrderInput::Lost(peer) };
                self.step(m, |run| run.inputs.push_back(input));
            }
            Event::MakeRoom(m) => self.machines[&m].disk.set_budget(u64::MAX),
            Event::Restart(m) => self.start_node(m),
            Event::Watched(what) => self.watched(what),
        }
    }

    /// Makes the state of one machine another than its log says: of the leader, or of another. Of one at a
    /// time, for two that are wrong alike would be a majority.
    fn break_a_state(&mut self) {
        let running = |m: &u64| self.machines[m].run.as_ref();
        let up: Vec<u64> = self.machines.keys().copied().filter(|m| running(m).is_some()).collect();
        let last = self.checker.last();
        let is_right = |run: &Running| {
            // Far enough behind the last agreement that a snapshot of before it is there, or none is.
            !run.is_broken && run.apply.state.index() + MARK_EVERY > last && run.marking.agreed > 0
        };
        let voters = |run: &Running| run.order.members().voters.len();
        let is_ready = |m: &u64| running(m).is_some_and(|run| is_right(run) && voters(run) >= 3);
        if up.len() < 3 || !up.iter().all(is_ready) {
            return;
        }
        let is_leader = |m: &&u64| running(m).is_some_and(|run| run.order.role() == Role::Leader);
        let at_random = up[self.rng.below(up.len() as u64) as usize];
        let of_leader = up.iter().find(is_leader).copied().filter(|_| self.rng.below(2) == 0);
        let m = of_leader.unwrap_or(at_random);
        let leads = running(&m).is_some_and(|run| run.order.role() == Role::Leader);
        self.checker.count(if leads { "leaders broken" } else { "followers broken" }, 1);
        self.note(|| format!("the state of node {m} is broken"));
        self.step(m, Running::break_state);
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
        let has_commits = !run.apply.inputs.is_empty() || run.marking.rebuilding.is_some();
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
        let (member, boot) = (run.me.member, run.boot);
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
                self.note(|| format!("node {m} (member {member}) is {role:?} in term {term}"));
                if role == Role::Leader {
                    self.checker.elected(member, term);
                }
            }
            Effect::Committed(at) => self.checker.committed(member, at),
            Effect::Chosen(at, data) => self.checker.chosen(member, at, &data),
            Effect::Applied { first, commands, state } => {
                let last = first + commands.len() as u64 - 1;
                self.checker.applied(member, first, &commands);
                let Some(state) = state else { return };
                self.checker.state(member, last, state);
                self.note(|| {
                    format!("node {m} has applied {first} to {last}: {:02x?}", &state.0[..4])
                });
                if let Some(run) = &self.machines[&m].run {
                    self.checker.look(&run.apply.state);
                }
            }
            Effect::Checked(index, state) => self.checker.state(member, index, state),
            Effect::Installed(index, state) => {
                self.checker.count("snapshots installed", 1);
                self.checker.state(member, index, state);
                self.note(|| format!("node {m} goes on from a snapshot of index {index}"));
            }
            Effect::Proposed { foreign } => self.checker.count("forwarded", foreign),
            Effect::Changed => self.checker.count("changes of members", 1),
            Effect::Note(what, text) => {
                self.checker.count(what, 1);
                self.note(|| format!("node {m}: {what}: {text}"));
            }
            Effect::Fatal(why) => panic!("node {m} ends itself: {why}"),
        }
    }

    // The network.

    pub(crate) fn machine_of(&self, peer: &Bytes) -> Option<u64> {
        self.machines.iter().find(|(_, machine)| machine.peer == *peer).map(|(&m, _)| m)
    }

    fn post(&mut self, from: u64, peer: &Bytes, bytes: Bytes, urgent: bool) {
        let Some(to) = self.machine_of(peer) else { return };
        // The kind is the fourth item: after the array's head, the version and the token. A connection
        // is of two processes; Raft does without that.
        let is_raft = bytes.get(19) == Some(&0);
        let boots = [from, to].map(|m| self.machines[&m].run.as_ref().map_or(0, |run| run.boot));
        let boots = (!is_raft).then_some(boots);
        self.costs.of(from, bytes.len());
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

    fn deliver_snapshot(
        &mut self,
        (from, boot, member): (u64, u64, u64),
        to: u64,
        file: &[u8],
        frame: Bytes,
    ) {
        let peer = self.machines[&from].peer.clone();
        let is_lost = self.rng.below(1000) < self.loss * 5 || self.cuts.contains(&(from, to));
        self.planned += 1;
        let (number, mut ok) = (self.planned, false);
        if !is_lost {
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

    // Requests.

    pub(crate) fn request(&mut self, m: u64, asked: Asked) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, (m, asked));
        self.last_request
    }

    pub(crate) fn ended(&mut self, request: u64, ended: Ended) {
        let Some((m, asked)) = self.requests.remove(&request) else { return };
        let run = self.machines[&m].run.as_ref();
        if ended == Ended::NotProposed("no quorum")
            && run.is_some_and(|run| run.leader.0 == Role::Leader)
        {
            self.checker.count("no quorum at a leader", 1);
        }
        self.note(|| format!("request {request} at node {m}: {ended:?}"));
        match asked {
            Asked::Client(c) => self.client_told(c, m, request, &ended),
            Asked::Join(joiner) => self.join_told(joiner, m, &ended),
            Asked::Nobody => {}
        }
    }

    /// What nobody at a node that is gone can tell any more.
    pub(crate) fn end_all_of(&mut self, m: u64) {
        let its = self.requests.iter().filter(|(_, (at, _))| *at == m);
        let its: Vec<u64> = its.map(|(&request, _)| request).collect();
        its.into_iter().for_each(|request| self.ended(request, Ended::Unknown));
    }

    pub(crate) fn some_running(&mut self) -> Option<u64> {
        let running = self.machines.iter().filter(|(_, machine)| machine.run.is_some());
        let mut running: Vec<u64> = running.map(|(&m, _)| m).collect();
        if self.is_calm() {
            // Who is no member any more, and may not know it, is asked by nobody for ever.
            let members = self.members();
            running.retain(|m| {
                let me = self.machines[m].me.as_ref();
                me.is_some_and(|me| members.contains(&me.member))
            });
        }
        if running.is_empty() {
            return None;
        }
        Some(running[self.rng.below(running.len() as u64) as usize])
    }

    /// The members, as the node knows them that has applied most.
    fn members(&self) -> BTreeSet<u64> {
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let newest = running.max_by_key(|run| run.apply.state.index());
        newest.map(|run| run.membership.members().keys().copied().collect()).unwrap_or_default()
    }

    // The end.

    /// Everybody whom the space counts in has come to the same state, under one leader.
    fn check_the_end(&mut self) {
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let leaders = running.filter(|run| run.order.role() == Role::Leader);
        let leader = leaders.max_by_key(|run| run.order.hard_state().term).expect("nobody leads");
        let (members, last) = (leader.order.members().clone(), self.checker.last());
        assert!(!members.is_joint(), "{members}");
        for id in members.voters.iter().chain(&members.learners) {
            let run = self.machines.values().filter_map(|machine| machine.run.as_ref());
            let run = run.clone().find(|run| run.me.member == *id);
            let run = run.unwrap_or_else(|| panic!("{id} of {members} does not run"));
            let part = if members.voters.contains(id) { Part::Voter } else { Part::Learner };
            let known = run.membership.members().get(id).map(|member| member.part);
            assert_eq!(known, Some(part), "the state says so of {id} among {members}");
            assert_eq!(run.apply.state.index(), last, "{id} lags behind among {members}");
            assert!(!run.is_broken, "the state of {id} is wrong, and nobody has noticed");
            self.checker.has_all(run);
        }
        for c in 0..self.clients.len() {
            assert!(self.clients[c].is_done, "client {c} cannot write when all is well");
        }
        self.check_watchers();
        self.checker.check_histories();
    }
}
