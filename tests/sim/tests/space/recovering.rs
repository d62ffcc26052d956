//! Majorities that are lost for good, as far as anybody knows: one of those who are left goes on alone, as
//! `runtime/node/space/order_thread/recovering.rs`; and the others are there again later.

use super::clients::Asked;
use super::node::{Effect, Ended, OrderInput, Running};
use super::open::from_log;
use super::world::{CALM, Event, World};
use std::time::Duration;
use synod_core::apply::Part;
use synod_core::command::Command;
use synod_core::group::{Recovery, Survivor};
use synod_core::log;
use synod_core::log::disk::Disk as _;
use synod_core::order::{Order, Position, Recovered};

/// Recoveries of one run, at most.
const MOST: u64 = 2;
/// How long before all is well a majority is lost last.
const LAST_LOSS: Duration = Duration::from_secs(6);

impl Running {
    /// Goes on alone. Says why not, or to which generation; what it writes is safe, or the disk is gone.
    fn recover(&mut self) -> Result<u64, String> {
        if self.syncing.is_some() {
            return Err("it is busy".to_owned());
        }
        self.drain();
        if self.syncing.is_some() {
            return Err("it is busy".to_owned());
        }
        let last = self.order.last();
        let survivor = Survivor {
            me: self.me.member,
            role: self.order.role(),
            is_mute: false,
            is_out: self.coordinator.is_told_out(),
            generation: self.generation,
            membership: &self.membership,
            last,
            hard_state: self.order.hard_state(),
        };
        let recovery = survivor.recovery("it is understood".to_owned(), self.wall);
        let Recovery { generation, entry, hard_state } = recovery.map_err(|e| e.to_string())?;
        let through = self.waiting.through;
        let tail = self.log.read(through.index + 1, last.index + 1, usize::MAX);
        let mut entries: Vec<_> =
            tail.map_err(|e| e.to_string())?.into_iter().map(from_log).collect();
        assert_eq!(entries.last().map_or(through.index, |entry| entry.index), last.index);
        entries.push(entry.clone());
        let before = self.log.before();
        let recovered = Recovered {
            hard_state,
            members: self.order.members().clone(),
            applied: through.index,
            before: Position { index: before.index, term: before.term },
            terms: self
                .log
                .terms(before.index)
                .into_iter()
                .filter(|run| run.index <= through.index)
                .map(|run| Position { index: run.index, term: run.term })
                .collect(),
            entries,
            snapshot: self.waiting.snapshot.as_ref().map(|(meta, _)| meta.clone()),
        };
        let mut config = self.config.clone();
        config.generation = generation;
        config.seed = config.seed.wrapping_add(generation);
        let order = Order::new(config.clone(), recovered, self.now).map_err(|e| e.to_string())?;
        let state = log::HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        };
        let kind = u8::try_from(entry.kind.number()).unwrap_or(u8::MAX);
        let (term, index) = (entry.term, entry.index);
        let entry = log::Entry { term, index, kind, data: entry.data };
        let written = self.log.append(&[entry], Some(state)).map_err(|e| e.to_string());
        written.and_then(|()| self.log.sync().map_err(|e| e.to_string()))?;
        (self.order, self.config, self.generation) = (order, config, generation);
        self.coordinator.recovered(generation);
        self.marking.marked = None;
        self.marking.collector.forget();
        self.waiting.held.clear();
        for request in std::mem::take(&mut self.waiting.reads).into_values() {
            let ended = Ended::NotProposed("recovered");
            self.effects.push(Effect::Ended(request, ended));
        }
        self.own.give_all_again();
        self.drain();
        Ok(generation)
    }
}

impl World {
    /// One of those that run, of whatever generation.
    pub(crate) fn some_up(&mut self) -> Option<u64> {
        let up = self.machines.iter().filter(|(_, machine)| machine.run.is_some());
        let up: Vec<u64> = up.map(|(&m, _)| m).collect();
        (!up.is_empty()).then(|| up[self.rng.below(up.len() as u64) as usize])
    }

    /// Most of the voters are lost. One of the other members is to go on alone. Or those who live in an older
    /// generation are asked to do something.
    pub(crate) fn lose_most(&mut self) {
        self.ask_the_older();
        let is_late = self.now + LAST_LOSS > CALM;
        if self.is_lost || is_late || self.checker.generation >= MOST || self.wiped.is_some() {
            return;
        }
        let Some(survivor) = self.some_running() else { return };
        let Some(run) = &self.machines[&survivor].run else { return };
        let members = run.order.members();
        let part = run.membership.members().get(&run.me.member).map(|member| member.part);
        if members.is_joint()
            || members.voters.len() < 3
            || part.is_none_or(|p| p == Part::Admitted)
        {
            return;
        }
        let (voters, me) = (members.voters.clone(), run.me.member);
        let is_other = |m: &u64| {
            let id = self.machines[m].me.as_ref().map(|me| me.member);
            id.is_some_and(|id| id != me && voters.contains(&id))
        };
        let mut others: Vec<u64> = self.machines.keys().copied().filter(is_other).collect();
        let most = voters.len() / 2 + 1;
        if others.len() < most {
            return;
        }
        while others.len() > most {
            others.remove(self.rng.below(others.len() as u64) as usize);
        }
        self.is_lost = true;
        self.checker.count("majorities lost", 1);
        self.note(|| format!("nodes {others:?} are lost; node {survivor} is to go on alone"));
        for m in others {
            self.crash(m, "for good, it seems");
            self.machines.get_mut(&m).expect("it is there").is_away = true;
            let away = 3_000_000 + self.rng.below(9_000_000);
            self.plan(away, Event::Return(m));
        }
        let pause = 500_000 + self.rng.below(2_500_000);
        self.plan(pause, Event::Recover(survivor));
    }

    /// Somebody says the words on a node.
    pub(crate) fn recover(&mut self, m: u64) {
        let Some(run) = self.machines[&m].run.as_ref().filter(|run| run.gone_on.is_none()) else {
            return self.not_recovered(m);
        };
        let (from, to) = (run.generation, run.generation.max(run.membership.generation()) + 1);
        if from != self.checker.generation {
            return;
        }
        // What is on the disk afterwards is seen when it starts again.
        self.checker.forks(from, to, run.waiting.through, run.apply.state.index());
        let disk = self.machines[&m].disk.clone();
        disk.set_budget(u64::MAX);
        if self.rng.one_in(4) {
            disk.crash_after(disk.operations() + self.rng.below(4));
        }
        let mut result = Err("it does not run".to_owned());
        self.step(m, |run| result = run.recover());
        match result {
            Ok(to) => {
                self.checker.count("recoveries", 1);
                self.note(|| format!("node {m} goes on alone, in generation {to}"));
            }
            Err(why) => {
                self.note(|| format!("node {m} does not go on alone: {why}"));
                if disk.free_space().is_err() {
                    self.checker.count("crashes in a recovery", 1);
                }
                self.not_recovered(m);
            }
        }
    }

    fn not_recovered(&mut self, m: u64) {
        let is_over = self.is_calm() || self.generations() > self.checker.generation;
        match is_over {
            true => self.is_lost = false,
            false => self.plan(400_000, Event::Recover(m)),
        }
    }

    fn generations(&self) -> u64 {
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        running.map(|run| run.generation).max().unwrap_or(0)
    }

    pub(crate) fn come_back(&mut self, m: u64) {
        let machine = self.machines.get_mut(&m).expect("it is there");
        if std::mem::take(&mut machine.is_away) {
            self.checker.count("lost ones come back", 1);
            self.start_node(m);
        }
    }

    /// A node may be the first whose state says that the space has gone on: who asks for something lives there
    /// from here on.
    pub(crate) fn look_for_another_generation(&mut self, m: u64) {
        let Some(run) = &self.machines[&m].run else { return };
        let generation = run.apply.state.membership().generation();
        if generation <= self.checker.generation {
            return;
        }
        self.is_lost = false;
        let state = run.apply.state.clone();
        self.begin_anew();
        self.checker.begins(self.now.as_micros(), generation, &state);
        self.checker.count("generations", 1);
        self.about_members.clear();
    }

    /// A node was told that the space has gone on without it. Whoever looks after it puts what it has of the
    /// space aside, and lets it join anew.
    pub(crate) fn told_of_another_generation(&mut self, m: u64, to: u64) {
        let Some(run) = &self.machines[&m].run else { return };
        let from = run.generation;
        self.checker.count("told of a recovery", 1);
        self.note(|| format!("node {m} is told that the space is of generation {to}"));
        let pause = 200_000 + self.rng.below(3_000_000);
        self.plan(pause, Event::Leave(m, from));
    }

    pub(crate) fn leave(&mut self, m: u64, generation: u64) {
        let machine = &self.machines[&m];
        let is_it = match (&machine.run, &machine.me) {
            (Some(run), _) => run.generation == generation,
            (None, Some(me)) => me.generation <= generation,
            (None, None) => false,
        };
        if is_it {
            self.lose_disk(m);
        }
    }

    /// Who has not heard of it goes on in an older generation, and others there may listen.
    fn ask_the_older(&mut self) {
        let now = self.checker.generation;
        let older = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.run.as_ref().is_some_and(|run| run.generation < now));
        let older: Vec<u64> = older.map(|(&m, _)| m).collect();
        for m in older {
            let name = format!("m{}", self.rng.number());
            let command = Command::PublishModule { name, text: String::new(), after: 0 };
            let request = self.request(m, Asked::Older);
            let bytes = command.encode();
            self.step(m, |run| run.inputs.push_back(OrderInput::Propose(bytes, request)));
        }
    }

    /// Whoever was told that the space has gone on acknowledges nothing more.
    pub(crate) fn older_told(&mut self, m: u64, ended: &Ended) {
        let Some(run) = &self.machines[&m].run else { return };
        match ended {
            Ended::Applied(_) => {
                assert_eq!(run.gone_on, None, "node {m} was told, and acknowledges");
                self.checker.count("acknowledged in an older generation", 1);
            }
            Ended::NotProposed("gone on") => self.checker.count("refused as gone on", 1),
            _ => {}
        }
    }
}
