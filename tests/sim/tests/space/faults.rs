//! What goes wrong in a simulated space, and what people do about its members, drawn at random.

use super::clients::Asked;
use super::forgetting::SHORTENED;
use super::node::{Ended, Me, OrderInput};
use super::open::{FOUNDER, open};
use super::world::{Event, Machine, World};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_core::apply::{Outcome, Part, Refusal};
use synod_core::command::{Admit, Command, IssueTicket};
use synod_core::group::Ask;
use synod_core::log::disk::Disk as _;
use synod_core::retention::Retention;
use synod_sim::disk::SimDisk;

/// The ticket by which nodes join, and one that is taken back again and again.
const TICKET: [u8; 32] = [3; 32];
const OTHER_TICKET: [u8; 32] = [4; 32];
/// Machines, at most.
const MACHINES: u64 = 7;
/// Between two losses of a voter a change of the members is decided on.
const BETWEEN_LOSSES: Duration = Duration::from_secs(4);
/// Voters, at most, by the wish of people.
const VOTERS: usize = 5;

impl World {
    /// The founder, alone; others join soon.
    pub(crate) fn found(&mut self) {
        self.add_machine(1);
        let peer = self.machines[&1].peer.clone();
        let me =
            Me { member: FOUNDER, peer: peer.clone(), generation: 0, contacts: BTreeMap::new() };
        self.machines.get_mut(&1).expect("it is there").me = Some(me);
        self.start_node(1);
        let admit =
            Admit { peer, node: "node 1".to_owned(), nonce: [0; 16], ticket: None, after: 0 };
        let issue = IssueTicket { hash: TICKET, until: u64::MAX, uses: 1000 };
        for command in [Command::Admit(admit), Command::IssueTicket(issue)] {
            let request = self.request(1, Asked::Nobody);
            self.propose(1, command.encode(), request);
        }
        for m in 2..=3 + self.rng.below(2) {
            self.add_machine(m);
            let pause = 100_000 + self.rng.below(300_000);
            self.plan(pause, Event::Join(m));
        }
    }

    fn add_machine(&mut self, m: u64) {
        let machine = Machine {
            peer: Bytes::from(format!("peer {m}")),
            disk: SimDisk::new(self.rng.number()),
            me: None,
            run: None,
            started: self.now,
            rate: 950 + self.rng.below(101),
            skew: self.rng.below(60_000_000),
            nonce: 0,
            is_doomed: false,
            is_slow: false,
            copy: None,
            is_wrong: false,
            has_forgotten: false,
            is_joining_anew: false,
            is_away: false,
        };
        self.machines.insert(m, machine);
    }

    // Joining.

    pub(crate) fn ask_to_join(&mut self, m: u64) {
        let machine = &self.machines[&m];
        if machine.me.is_some() {
            return;
        }
        let (peer, nonce) = (machine.peer.clone(), [machine.nonce; 16]);
        let again = 500_000 + self.rng.below(500_000);
        let Some(at) = self.some_running() else { return self.plan(again, Event::Join(m)) };
        let run = self.machines[&at].run.as_ref().expect("it runs");
        if !run.membership.tickets().contains_key(&TICKET) {
            self.issue_anew(at);
            return self.plan(again, Event::Join(m));
        }
        let (node, after) = (format!("node {m}"), run.apply.state.index());
        let admit = Command::Admit(Admit { peer, node, nonce, ticket: Some(TICKET), after });
        let request = self.request(at, Asked::Join(m));
        self.note(|| format!("node {m} asks node {at} to be admitted"));
        self.about_members.push(admit.encode());
        self.propose(at, admit.encode(), request);
    }

    pub(crate) fn join_told(&mut self, m: u64, at: u64, ended: &Ended) {
        let pause = 200_000 + self.rng.below(1_000_000);
        match ended {
            Ended::Applied(Outcome::Committed(_)) => {}
            // It was let in without hearing of it, and removed since: it asks for another joining.
            Ended::Applied(Outcome::Refused(_, Refusal::Removed)) => {
                self.machines.get_mut(&m).expect("it is there").nonce += 1;
                return self.plan(pause, self.joins(m));
            }
            _ => return self.plan(pause, self.joins(m)),
        }
        let machine = &self.machines[&m];
        let Some(run) = &self.machines[&at].run else {
            return self.plan(pause, self.joins(m));
        };
        let joined = run.membership.joined(&machine.peer, &[machine.nonce; 16]);
        let Some((member, _)) = joined else {
            // Removed again at once.
            self.machines.get_mut(&m).expect("it is there").nonce += 1;
            return self.plan(pause, self.joins(m));
        };
        let members = run.membership.members();
        let contacts = members.iter().map(|(&id, member)| (id, member.peer.clone())).collect();
        let (peer, generation) = (machine.peer.clone(), run.generation);
        let me = Me { member, peer, generation, contacts };
        self.note(|| format!("node {m} is member {member}"));
        self.checker.count("joins", 1);
        if self.machines[&m].is_joining_anew {
            self.put_aside(m);
        }
        self.machines.get_mut(&m).expect("it is there").me = Some(me);
        if self.wiped == Some(m) {
            self.wiped = None;
        }
        self.start_node(m);
    }

    /// How it is asked for once more.
    fn joins(&self, m: u64) -> Event {
        if self.machines[&m].is_joining_anew { Event::JoinAnew(m) } else { Event::Join(m) }
    }

    // Processes.

    pub(crate) fn start_node(&mut self, m: u64) {
        self.boots += 1;
        let (boot, now) = (self.boots, self.now);
        let retention = match self.rng.one_in(4) {
            true => Retention::Everything,
            false => Retention::Bytes(self.rng.below(6_000)),
        };
        // The power may go again while the node reads its log.
        let goes_again = !self.is_calm() && boot > 4 && self.rng.one_in(8);
        let more = self.rng.below(12);
        let Some(machine) = self.machines.get_mut(&m) else { return };
        let is_to_start = machine.run.is_none() && !machine.is_away;
        let (Some(me), true) = (machine.me.clone(), is_to_start) else { return };
        machine.disk.set_budget(u64::MAX);
        if goes_again {
            machine.disk.crash_after(machine.disk.operations() + more);
        }
        machine.started = now;
        match open(machine.disk.clone(), me, boot, machine.is_wrong) {
            Ok(mut run) => {
                let branch = self.checker.branch(run.generation);
                run.is_broken = machine.is_wrong && !branch.is_right(&run.apply.state);
                machine.is_wrong = run.is_broken;
                run.retention = retention;
                machine.run = Some(run);
            }
            Err(e) if machine.has_forgotten || machine.disk.contents(SHORTENED).is_some() => {
                self.note(|| format!("node {m} does not start: {e}"));
                return self.begin_anew_with(m);
            }
            Err(e) => {
                assert!(machine.disk.free_space().is_err(), "node {m} cannot be started: {e}");
                machine.disk = machine.disk.lose_power();
                self.checker.count("crashes in recovery", 1);
                return self.plan(100_000, Event::Restart(m));
            }
        }
        self.note(|| format!("node {m} starts, for the {boot}th"));
        self.links(m);
        self.step(m, super::node::Running::drain);
    }

    pub(crate) fn crash(&mut self, m: u64, why: &str) {
        let is_kill = self.rng.one_in(3);
        let machine = self.machines.get_mut(&m).expect("it is there");
        if machine.run.take().is_none() {
            return;
        }
        let is_alive = machine.disk.free_space().is_ok();
        machine.disk =
            if is_kill && is_alive { machine.disk.kill() } else { machine.disk.lose_power() };
        machine.is_doomed = false;
        self.note(|| format!("node {m} crashes: {why}"));
        self.checker.count("crashes", 1);
        self.end_all_of(m);
        self.links(m);
        let long = if self.rng.one_in(4) { 5_000_000 } else { 800_000 };
        let pause = 50_000 + self.rng.below(long);
        let pause = if self.is_calm() { 50_000 } else { pause };
        self.plan(pause, Event::Restart(m));
    }

    /// The others, and it, find out whether there is a connection.
    pub(crate) fn links(&mut self, m: u64) {
        let others: Vec<u64> = self.machines.keys().copied().filter(|&other| other != m).collect();
        for other in others {
            let (soon, late) = (self.rng.below(300_000), self.rng.below(300_000));
            self.plan(soon, Event::Link(other, m));
            self.plan(late, Event::Link(m, other));
        }
    }

    pub(crate) fn heal(&mut self, a: u64, b: u64) {
        self.cuts.remove(&(a, b));
        for (m, other) in [(a, b), (b, a)] {
            let pause = self.rng.below(200_000);
            self.plan(pause, Event::Link(m, other));
        }
    }

    fn cut(&mut self, a: u64, b: u64, micros: u64) {
        if a == b || !self.cuts.insert((a, b)) {
            return;
        }
        self.plan(micros, Event::Heal(a, b));
        // Sometimes nobody notices.
        if self.rng.one_in(2) {
            let pause = self.rng.below(1_000_000);
            self.plan(pause, Event::Link(a, b));
            self.plan(pause, Event::Link(b, a));
        }
    }

    // What goes wrong.

    pub(crate) fn fault(&mut self) {
        let Some(m) = self.some_up() else { return };
        if self.recovers && self.rng.one_in(12) {
            return self.lose_most();
        }
        if self.errs && self.rng.one_in(10) {
            return self.break_one();
        }
        if self.forgets && self.rng.one_in(6) {
            return self.forget();
        }
        match self.rng.below(100) {
            0..14 => self.crash(m, "by chance"),
            14..24 => self.machines.get_mut(&m).expect("it is there").is_doomed = true,
            24..38 => self.partition(),
            38..46 => {
                let Some(other) = self.some_up() else { return };
                let micros = 300_000 + self.rng.below(3_000_000);
                self.checker.count("one-way cuts", 1);
                self.cut(m, other, micros);
            }
            46..52 => {
                let machine = self.machines.get_mut(&m).expect("it is there");
                machine.is_slow = !machine.is_slow;
            }
            52..56 => {
                // It may have a bound already, and then keeps it.
                let room = self.rng.below(600);
                let Ok(free @ 0x1_0000_0000..) = self.machines[&m].disk.free_space() else {
                    return;
                };
                let used = u64::MAX - free;
                self.machines[&m].disk.set_budget(used + room);
                let pause = 200_000 + self.rng.below(2_000_000);
                self.plan(pause, Event::MakeRoom(m));
            }
            56..58 => self.isolate(m),
            58..64 => {
                self.loss = if self.rng.one_in(2) { 0 } else { self.rng.below(150) };
                self.double = self.rng.below(100);
            }
            64..68 => self.copy_of_old(m),
            68..72 => self.step(m, |run| {
                if run.apply.writing.is_none() {
                    run.begin_snapshot();
                }
            }),
            _ => self.people(m),
        }
    }

    fn partition(&mut self) {
        let micros = 500_000 + self.rng.below(4_000_000);
        let all: Vec<u64> = self.machines.keys().copied().collect();
        let side: Vec<bool> = all.iter().map(|_| self.rng.one_in(2)).collect();
        self.note(|| format!("the network falls apart: {all:?} {side:?}"));
        self.checker.count("partitions", 1);
        for (i, &a) in all.iter().enumerate() {
            for (j, &b) in all.iter().enumerate() {
                if side[i] != side[j] {
                    self.cut(a, b, micros);
                }
            }
        }
    }

    /// One node alone, for longer than anybody waits for a proposal.
    fn isolate(&mut self, m: u64) {
        self.note(|| format!("node {m} is alone"));
        self.checker.count("isolations", 1);
        let others: Vec<u64> = self.machines.keys().copied().filter(|&other| other != m).collect();
        for other in others {
            self.cut(m, other, 12_000_000);
            self.cut(other, m, 12_000_000);
        }
    }

    /// What people do about the members.
    fn people(&mut self, m: u64) {
        let run = self.machines[&m].run.as_ref().expect("it runs");
        let members = run.membership.members();
        let of = |part| members.iter().filter(move |(_, member)| member.part == part);
        let voters: Vec<u64> = of(Part::Voter).map(|(&id, _)| id).collect();
        let learners: Vec<u64> = of(Part::Learner).map(|(&id, _)| id).collect();
        let some = |of: &[u64], n: u64| of.get(n as usize % of.len().max(1)).copied();
        let n = self.rng.number() % 1000;
        let ask = match self.rng.below(10) {
            0..3 => some(&voters, n).map(Ask::Transfer),
            3..5 if voters.len() < VOTERS => some(&learners, n).map(Ask::Promote),
            5 if voters.len() > 2 && self.may_lose_a_voter() => some(&voters, n).map(Ask::Remove),
            6 => some(&learners, n).map(Ask::Remove),
            7 => return self.tickets(m),
            8 => return self.come_or_return(),
            9 => return self.wipe(m, &voters),
            _ => None,
        };
        if let Some(ask) = ask {
            self.note(|| format!("node {m} is asked to {ask:?}"));
            self.checker.count("wishes", 1);
            self.step(m, |run| run.inputs.push_back(OrderInput::Ask(ask)));
        }
    }

    fn tickets(&mut self, m: u64) {
        let after = self.machines[&m].run.as_ref().map_or(0, |run| run.apply.state.index());
        let command = match self.rng.one_in(2) {
            // All that are known, the one by which nodes join among them.
            true => Command::RevokeTickets { hashes: Vec::new(), after },
            false => {
                // Another each time, that is known by who issued it.
                self.last_ticket += 1;
                let mut hash = OTHER_TICKET;
                hash[..8].copy_from_slice(&self.last_ticket.to_le_bytes());
                Command::IssueTicket(IssueTicket { hash, until: u64::MAX, uses: 3 })
            }
        };
        let request = self.request(m, Asked::Nobody);
        self.about_members.push(command.encode());
        self.propose(m, command.encode(), request);
    }

    /// The ticket by which nodes join was taken back: it is issued anew, and not as a copy.
    fn issue_anew(&mut self, m: u64) {
        self.last_ticket += 1;
        let until = u64::MAX - self.last_ticket;
        let issue = Command::IssueTicket(IssueTicket { hash: TICKET, until, uses: 1000 });
        let request = self.request(m, Asked::Nobody);
        self.propose(m, issue.encode(), request);
    }

    /// A copy of what was once said about members and tickets comes late.
    fn copy_of_old(&mut self, m: u64) {
        if self.about_members.is_empty() {
            return;
        }
        // One that would admit somebody who is no member any more, rather than another.
        let run = self.machines[&m].run.as_ref();
        let is_ghost = |bytes: &&Bytes| match (Command::decode(bytes), run) {
            (Ok(Command::Admit(admit)), Some(run)) => {
                run.membership.joined(&admit.peer, &admit.nonce).is_none()
            }
            _ => false,
        };
        let ghosts: Vec<&Bytes> = self.about_members.iter().filter(is_ghost).collect();
        let all: Vec<&Bytes> = self.about_members.iter().collect();
        let from = if ghosts.is_empty() { all } else { ghosts };
        let command = from[self.rng.below(from.len() as u64) as usize].clone();
        let request = self.request(m, Asked::Nobody);
        self.checker.count("late copies about members", 1);
        self.propose(m, command, request);
    }

    /// Another machine joins, or one that is a member no longer, without its old disk.
    fn come_or_return(&mut self) {
        let gone: Vec<u64> = self.machines.keys().copied().filter(|&m| self.is_gone(m)).collect();
        if let Some(&m) = gone.first() {
            self.checker.count("returns", 1);
            return self.lose_disk(m);
        }
        let next = self.machines.len() as u64 + 1;
        if next <= MACHINES {
            self.add_machine(next);
            self.plan(1_000, Event::Join(next));
        }
    }

    /// Whether a machine's member is one no longer, and everybody knows.
    fn is_gone(&self, m: u64) -> bool {
        let Some(me) = &self.machines[&m].me else { return false };
        if self.recovers && !self.is_stranger(m) {
            // It may go on alone, and others may not know.
            return false;
        }
        let others = self.machines.iter().filter(|(other, machine)| {
            **other != m && machine.me.is_some() && !self.is_stranger(**other)
        });
        let mut others = others.map(|(_, machine)| machine);
        others.all(|machine| {
            machine.run.as_ref().is_some_and(|run| {
                let known = &run.membership;
                known.last_id() >= me.member
                    && !known.members().contains_key(&me.member)
                    && !run.order.members().contains(me.member)
            })
        })
    }

    /// Whether a running node, told of its own removal, knows that it is no member.
    fn is_stranger(&self, m: u64) -> bool {
        self.machines[&m].run.as_ref().is_some_and(|run| {
            let known = &run.membership;
            known.last_id() >= run.me.member && !known.members().contains_key(&run.me.member)
        })
    }

    /// Whether the last voter that was lost has been made up for. Of three, one may lose its disk or be
    /// removed; both at once leave two voters, one of whom nobody ever hears.
    pub(crate) fn may_lose_a_voter(&mut self) -> bool {
        // One of two who are left may be the one that is wrong.
        let is_wrong = self.machines.values().any(|machine| machine.is_wrong);
        if is_wrong
            || self.is_lost
            || self.wiped.is_some()
            || self.now.since(self.lost) < BETWEEN_LOSSES
        {
            return false;
        }
        self.lost = self.now;
        true
    }

    /// One of three voters or more loses its disk: it joins as another member.
    fn wipe(&mut self, seen_by: u64, voters: &[u64]) {
        let id_of = |m: &u64| self.machines[m].me.as_ref().map(|me| me.member);
        let others = self.machines.keys().copied().filter(|m| *m != seen_by);
        let its: Vec<u64> =
            others.filter(|m| id_of(m).is_some_and(|id| voters.contains(&id))).collect();
        let all_run = self.machines.values().all(|machine| machine.run.is_some());
        let seen = self.machines[&seen_by].run.as_ref();
        let raft = seen.map_or(0, |run| run.order.members().voters.len());
        let is_leader = seen.is_some_and(|run| run.leader.0 == synod_core::order::Role::Leader);
        if its.is_empty() || !all_run || raft < 3 || !is_leader || !self.may_lose_a_voter() {
            return;
        }
        let m = its[self.rng.below(its.len() as u64) as usize];
        self.wiped = Some(m);
        self.checker.count("lost disks", 1);
        self.lose_disk(m);
    }

    pub(crate) fn lose_disk(&mut self, m: u64) {
        self.note(|| format!("node {m} loses its disk"));
        let disk = SimDisk::new(self.rng.number());
        let machine = self.machines.get_mut(&m).expect("it is there");
        (machine.run, machine.me, machine.disk) = (None, None, disk);
        (machine.copy, machine.has_forgotten, machine.is_joining_anew) = (None, false, false);
        machine.is_wrong = false;
        machine.nonce += 1;
        self.end_all_of(m);
        self.links(m);
        self.plan(300_000, Event::Join(m));
    }

    /// All is well again.
    pub(crate) fn calm(&mut self) {
        self.note(|| "calm".to_owned());
        (self.loss, self.double) = (0, 0);
        for (a, b) in std::mem::take(&mut self.cuts) {
            self.heal(a, b);
        }
        let all: Vec<u64> = self.machines.keys().copied().collect();
        for m in all {
            let machine = self.machines.get_mut(&m).expect("it is there");
            (machine.is_doomed, machine.is_slow) = (false, false);
            machine.disk.set_budget(u64::MAX);
            machine.is_away = false;
            self.links(m);
            self.start_node(m);
        }
    }
}
