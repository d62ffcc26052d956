//! A space, held against the reference model: engines that read at different versions propose
//! transactions, which are submitted late, in any order, and again; agents are claimed, released and
//! claimed over; snapshots are taken while commands go on. After every command all replicas agree
//! with one another and with the model, on the outcome and on all that there is.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "apply/steps.rs"]
mod steps;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use steps::{Act, Script, Step, Who};
use synod_core::apply::{Applied, Change, Member, Outcome, Part, Restore, State, Ticket};
use synod_core::cbor::{Reader, Writer};
use synod_core::command::{
    Checkpoint, Claim, Command, Letter, Op, Origin, Recover, Signature, Transaction,
};
use synod_core::group::{Mark, Marks, Verdict as Judged};
use synod_core::kb::{Indicator, Kb, Position};
use synod_core::transaction::View;
use synod_sim::reference::{
    Attempt, Called, Facts, Goal, Issued, Joining, Space, Verdict, Write, indicator,
};
use synod_sim::terms;

/// The space's id.
const SPACE: [u8; 32] = [7; 32];

/// A command, as bytes and as the model knows it.
#[derive(Clone)]
struct Proposal {
    bytes: Bytes,
    what: What,
}

#[derive(Clone)]
enum What {
    Transact(Attempt),
    Other(Command),
    Junk,
}

/// A replica that an engine has, of some predicates, as of some version.
struct Engine {
    kb: Kb,
    version: u64,
    wanted: BTreeSet<Indicator>,
}

struct Snapshot {
    replica: usize,
    index: u64,
    items: Vec<Bytes>,
}

struct World {
    model: Space,
    replicas: Vec<State>,
    engines: Vec<Engine>,
    /// All commands with their times, and what they changed.
    log: Vec<(u64, Bytes)>,
    changes: Vec<Change>,
    pending: Vec<Proposal>,
    past: Vec<Proposal>,
    /// What came of each command's bytes the first time.
    first: BTreeMap<Bytes, Outcome>,
    snapshot: Option<Snapshot>,
    /// What a replica keeps of its states, and all that it had.
    marks: Marks,
    marked: Vec<Mark>,
}

/// Commands from one mark to the next.
const MARK_EVERY: u64 = 3;
/// Marks that a replica keeps.
const MARKS: usize = 16;

impl World {
    fn new() -> Self {
        let all: BTreeSet<Indicator> =
            terms::PREDICATES.iter().map(|(name, n)| Indicator::new(name, *n as u32)).collect();
        let some = all.iter().filter(|predicate| &*predicate.name == "q").cloned().collect();
        let engine = |wanted| Engine { kb: Kb::new(), version: 0, wanted };
        Self {
            model: Space::default(),
            replicas: vec![State::new(SPACE); 3],
            engines: vec![engine(all.clone()), engine(all), engine(some)],
            log: Vec::new(),
            changes: Vec::new(),
            pending: Vec::new(),
            past: Vec::new(),
            first: BTreeMap::new(),
            snapshot: None,
            marks: Marks::default(),
            marked: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Run { engine, who, script } => {
                let proposal = self.run(*engine, who, script);
                self.pending.push(proposal);
            }
            Step::Submit(which, time) => {
                if !self.pending.is_empty() {
                    let proposal = self.pending.remove(which % self.pending.len());
                    self.apply(*time, &proposal);
                    self.past.push(proposal);
                }
            }
            Step::Again(which, time) => {
                if !self.past.is_empty() {
                    let proposal = self.past[which % self.past.len()].clone();
                    self.apply(*time, &proposal);
                }
            }
            Step::Follow(engine, how_far) => {
                let behind = self.model.index() - self.engines[*engine].version;
                self.follow(*engine, how_far.index(behind as usize + 1) as u64);
            }
            Step::Other(command) => {
                let command = self.completed(command);
                let proposal = Proposal { bytes: command.encode(), what: What::Other(command) };
                self.pending.push(proposal);
            }
            Step::Junk(bytes) => {
                let bytes = Bytes::copy_from_slice(bytes);
                if Command::decode(&bytes).is_err() {
                    self.apply(0, &Proposal { bytes, what: What::Junk });
                }
            }
            Step::BeginSnapshot(replica) => {
                let index = self.replicas[*replica].begin_snapshot();
                self.snapshot = Some(Snapshot { replica: *replica, index, items: Vec::new() });
            }
            Step::TakeSnapshot(steps) => self.take_snapshot(*steps),
        }
    }

    /// Applies a command everywhere, and compares all that can be seen.
    fn apply(&mut self, time: u64, proposal: &Proposal) {
        let before = self.model.now().clone();
        self.log.push((time, proposal.bytes.clone()));
        let mut all = self.replicas.iter_mut().map(|state| state.apply(time, &proposal.bytes));
        let applied = all.next().unwrap();
        all.for_each(|other| assert_eq!(applied, other));
        self.model.stamp(time);
        let verdict = match &proposal.what {
            What::Transact(attempt) => self.model.transact(attempt),
            What::Other(command) => self.model.apply(command),
            What::Junk => self.model.apply_junk(),
        };
        assert_eq!(Verdict::from(&applied.outcome), verdict, "{:?}", self.log.len());
        self.check_that_it_happens_once(proposal, &applied, &before);
        if let (What::Transact(attempt), Outcome::Committed(index)) =
            (&proposal.what, &applied.outcome)
            && *index == applied.index
        {
            let has_changed = self.model.has_changed(attempt.version, index - 1, &attempt.calls);
            assert!(!has_changed, "committed on what is no longer so: {attempt:?}");
        }
        self.changes.extend(applied.change);
        self.check_replicas();
        if let (What::Other(Command::Checkpoint(agreed)), Outcome::Committed(_)) =
            (&proposal.what, &applied.outcome)
        {
            self.judge(agreed);
        }
        self.mark();
    }

    fn mark(&mut self) {
        let state = &self.replicas[0];
        let (index, chain, digest) = (state.index(), state.chain(), state.digest());
        if index.is_multiple_of(MARK_EVERY) {
            let mark = Mark { index, chain, digest };
            self.marks.keep(mark);
            self.marked.push(mark);
        }
    }

    /// What most voters agree on is held against what a replica had: it finds out that it was wrong if, and
    /// only if, it had another state, and has not forgotten it.
    fn judge(&self, agreed: &Checkpoint) {
        assert_eq!(self.replicas[0].membership().checkpoint(), Some(agreed));
        let kept = self.marked.iter().rev().take(MARKS);
        let known = kept.into_iter().find(|mark| mark.index == agreed.mark.index);
        let expected = match known {
            None => Judged::Unknown,
            Some(mark) if mark.digest == agreed.mark.digest => Judged::Agrees,
            Some(_) => Judged::Differs,
        };
        assert_eq!(self.marks.judge(agreed), expected);
    }

    /// What voters sign of a state that a replica had, or that nobody had.
    fn agreed(&self, agreed: &steps::Agreed) -> Checkpoint {
        let none = Mark { index: 0, chain: [0; 32], digest: [0; 32] };
        let mut mark = self.marked.get(agreed.which.index(self.marked.len().max(1))).copied();
        if let Some(mark) = mark.as_mut().filter(|_| agreed.is_wrong) {
            mark.digest[0] ^= 1;
        }
        let members = &self.model.members;
        let signs = |(id, joining): &(u64, &Joining)| {
            let votes = joining.part == Some(Part::Voter) && !agreed.silent.contains(id);
            votes || agreed.other == Some(*id)
        };
        let signature = |(member, joining): (u64, &Joining)| {
            let peer = joining.peer.clone();
            Signature { member, peer, bytes: Bytes::new() }
        };
        let mut signatures: Vec<_> = members.present().filter(signs).map(signature).collect();
        if let Some(last) = signatures.last_mut().filter(|_| agreed.is_forged) {
            last.peer = Bytes::from_static(b"another");
        }
        let generation = members.generation + u64::from(agreed.is_old);
        Checkpoint { generation, mark: mark.unwrap_or(none), signatures }
    }

    /// A copy changes nothing, whatever came of the first; the end of one that committed is told.
    fn check_that_it_happens_once(&mut self, proposal: &Proposal, now: &Applied, before: &Facts) {
        let Some(first) = self.first.get(&proposal.bytes) else {
            drop(self.first.insert(proposal.bytes.clone(), now.outcome.clone()));
            return;
        };
        assert_eq!(now.change, None);
        assert_eq!(self.model.now().all, before.all);
        let What::Transact(attempt) = &proposal.what else { return };
        if let (Origin::Session { .. }, Outcome::Committed(_)) = (&attempt.origin, first) {
            // Told, or no longer known because it was acknowledged.
            let is_gone = matches!(Verdict::from(&now.outcome), Verdict::Refused(..));
            assert!(is_gone || now.outcome == *first);
        }
    }

    fn check_replicas(&self) {
        let [first, others @ ..] = &self.replicas[..] else { panic!("there are replicas") };
        for other in others {
            assert_eq!(first.digest(), other.digest());
            assert_eq!(first.chain(), other.chain());
        }
        let model = &self.model;
        assert_eq!(first.index(), model.index());
        assert_eq!(facts(first.kb(), |_| true), of_model(model.now(), |_| true));
        let agents = first.agents().iter().map(|(name, agent)| {
            let letters: Vec<Position> = agent.letters.keys().copied().collect();
            (name, agent.epoch, agent.holder.is_some(), agent.cursor, letters)
        });
        let expected = model.agents.iter().map(|(name, agent)| {
            let letters = agent.letters.keys().copied().collect();
            (name, agent.epoch, agent.is_held, agent.cursor, letters)
        });
        assert_eq!(agents.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let texts =
            first.modules().iter().map(|(name, m)| (name.clone(), (m.text.clone(), m.index)));
        let known = model.modules.iter().map(|(n, (text, at, _))| (n.clone(), (text.clone(), *at)));
        assert!(texts.eq(known), "modules");
        self.check_members(first);
    }

    fn check_members(&self, state: &State) {
        let (membership, model) = (state.membership(), &self.model.members);
        assert_eq!(state.time(), self.model.time);
        assert_eq!(membership.last_id(), model.joinings.len() as u64);
        assert_eq!(membership.generation(), model.generation);
        let agreed = membership.checkpoint().map_or(0, |checkpoint| checkpoint.mark.index);
        assert_eq!(agreed, model.agreed);
        let members = membership.members().iter().map(|(&id, member)| {
            let Member { peer, node, nonce, part, since } = member.clone();
            (id, Joining { peer, node, nonce, part: Some(part), since })
        });
        let known = model.present().map(|(id, joining)| (id, joining.clone()));
        assert_eq!(members.collect::<Vec<_>>(), known.collect::<Vec<_>>());
        let time = state.time();
        let tickets = membership.tickets().iter().map(|(&hash, ticket)| {
            let &Ticket { until, uses: left, since } = ticket;
            (hash, Issued { hash, until, left, since })
        });
        // Those that are good for nothing may be kept or not.
        let good: BTreeMap<_, _> =
            tickets.filter(|(_, ticket)| ticket.left > 0 && time <= ticket.until).collect();
        let known = model.good(time).map(|ticket| (ticket.hash, ticket.clone())).collect();
        assert_eq!(good, known);
    }

    /// Runs a goal on an engine's replica, and on the model of it.
    fn run(&mut self, engine: usize, who: &Who, script: &Script) -> Proposal {
        let Engine { kb, version, wanted } = &mut self.engines[engine];
        let mut goal = Goal::new(self.model.at(*version).clone());
        // A replica of another history may be ahead of this one.
        let version = if script.is_early { u64::MAX } else { *version };
        let mut view = View::new(version);
        for act in
            script.acts.iter().filter(|act| act.predicate().is_none_or(|p| wanted.contains(&p)))
        {
            match act {
                Act::Ask(call) | Act::TakeFirst(call) => {
                    let mut cursor = view.open(kb, &call.encode().unwrap()).unwrap();
                    let chunk = view.next(kb, &mut cursor, usize::MAX, usize::MAX);
                    let (_, matching) = goal.call(call);
                    let is_given = |order| chunk.facts.iter().any(|found| found.order == order);
                    assert!(matching.iter().all(|fact| is_given(fact.order)));
                    if let (Act::TakeFirst(_), Some(first)) = (act, matching.first()) {
                        view.retract(kb, cursor.predicate(), first.order).unwrap();
                        goal.retract(cursor.predicate(), first.order);
                    }
                }
                Act::Assert(end, fact) => {
                    view.assert(kb, *end, &fact.encode().unwrap()).unwrap();
                    goal.assert(*end, fact);
                }
                Act::Emit(event) => {
                    view.emit(&event.encode().unwrap()).unwrap();
                    goal.emit(event);
                }
            }
        }
        let keys = |call| kb.predicate(&indicator(call)).map(|p| p.declared().to_vec());
        let called =
            |call| Called { goal: Clone::clone(call), keys: keys(call).unwrap_or_default() };
        let calls = goal.calls().iter().map(called).collect();
        let (draft, writes, origin) = (view.finish(), goal.writes(), self.origin(who));
        assert_eq!(draft.ops, writes.iter().map(op).collect::<Vec<_>>());
        let transaction =
            Transaction { origin: origin.clone(), version, reads: draft.reads, ops: draft.ops };
        let attempt = Attempt { origin, version, calls, writes };
        let command = Command::Transact(transaction);
        command.check_terms().unwrap();
        Proposal { bytes: command.encode(), what: What::Transact(attempt) }
    }

    fn origin(&self, who: &Who) -> Origin {
        match who {
            Who::Session { which, skip, behind } => {
                let sessions = &self.model.sessions;
                let session = (!sessions.is_empty()).then(|| which.get(sessions));
                let seq = session.map_or(1, |session| session.next() + skip);
                let acked = seq.saturating_sub(*behind);
                Origin::Session { id: session.map_or(99, |session| session.id), seq, acked }
            }
            Who::Agent { name, turn, letter } => {
                let (epoch, seq, from, to) = self.turn(name, turn);
                Origin::Agent {
                    name: name.clone(),
                    epoch,
                    seq,
                    from,
                    to,
                    record: Default::default(),
                    letter: letter.and_then(|(which, is_gone)| self.letter(name, which, is_gone)),
                }
            }
        }
    }

    /// One of an agent's letters, if it has any; or one that it never had.
    fn letter(&self, agent: &str, which: Index, is_gone: bool) -> Option<Position> {
        if is_gone {
            return Some(Position { index: 0, n: 7 });
        }
        let letters: Vec<_> = self.model.agents.get(agent)?.letters.keys().copied().collect();
        (!letters.is_empty()).then(|| *which.get(&letters))
    }

    fn turn(&self, name: &str, turn: &steps::Turn) -> (u64, u64, Position, Position) {
        let agent = self.model.agents.get(name);
        let epoch = agent.map_or(1, |agent| agent.epoch) - u64::from(turn.is_old);
        let seq = agent.map_or(1, |agent| agent.next()).saturating_sub(turn.back) + turn.skip;
        let cursor = agent.map_or(Position::default(), |agent| agent.cursor);
        let from = Position { n: cursor.n + u32::from(turn.is_elsewhere), ..cursor };
        let (index, n) = turn.forward;
        let to = if index == 0 { (from.index, from.n + n) } else { (from.index + index, n) };
        (epoch, seq, from, Position { index: to.0, n: to.1 })
    }

    /// A command with the epochs, positions and numbers of now in it.
    fn completed(&self, command: &steps::Other) -> Command {
        let epoch = |agent: &str| self.model.agents.get(agent).map_or(0, |agent| agent.epoch);
        match command {
            steps::Other::Command(command) => command.clone(),
            steps::Other::Publish(name, text, is_late) => {
                let known = self.model.modules.get(name).filter(|_| !is_late);
                let after = known.map_or(0, |(_, at, _)| *at);
                Command::PublishModule { name: name.clone(), text: text.clone(), after }
            }
            steps::Other::Claim(claim, is_late) => {
                let after = if *is_late { 0 } else { epoch(&claim.agent) };
                Command::Claim(Claim { after, ..claim.clone() })
            }
            steps::Other::Letter { agent, turn, event } => {
                let (epoch, seq, from, to) = self.turn(agent, turn);
                let (agent, reason) = (agent.clone(), "died three times".to_owned());
                let event = event.encode().unwrap().into();
                Command::Letter(Letter { agent, epoch, seq, from, to, event, reason })
            }
            steps::Other::Recover(ahead, voter) => {
                let generation = self.model.members.generation + ahead;
                let (voter, words) = (*voter, "the others are lost".to_owned());
                Command::Recover(Recover {
                    generation,
                    voter,
                    node: String::new(),
                    dropped: Default::default(),
                    words,
                })
            }
            steps::Other::Checkpoint(agreed) => Command::Checkpoint(self.agreed(agreed)),
            steps::Other::Release(agent) => {
                Command::Release { agent: agent.clone(), epoch: epoch(agent) }
            }
            steps::Other::DropLetters(agent, keep) => {
                let letters =
                    self.model.agents.get(agent).into_iter().flat_map(|a| a.letters.keys());
                let positions = letters.skip(usize::from(*keep)).copied().collect();
                Command::DropLetters { agent: agent.clone(), positions }
            }
        }
    }

    /// Lets an engine catch up by so many commands, through the bytes that it would be sent.
    fn follow(&mut self, engine: usize, commands: u64) {
        let Engine { kb, version, wanted } = &mut self.engines[engine];
        let through = *version + commands;
        let mut w = Writer::new();
        for change in &self.changes {
            if (*version + 1..=through).contains(&change.index) {
                change.write_for(&mut w, |predicate| wanted.contains(predicate));
            }
        }
        let mut r = Reader::new(w.as_slice());
        while !r.is_at_end() {
            Change::read(&mut r).unwrap().follow(kb);
        }
        *version = through;
        let is_wanted = |predicate: &Indicator| wanted.contains(predicate);
        assert_eq!(facts(kb, |_| true), of_model(self.model.at(through), is_wanted));
        // What its program declares. One of them knows of it before the space does.
        let known = if engine == 0 { self.model.now() } else { self.model.at(through) };
        for (predicate, keys) in &known.declared {
            keys.iter().filter(|_| is_wanted(predicate)).for_each(|&key| {
                kb.declare_key(predicate, key);
            });
        }
    }

    /// Takes so many items of the snapshot under way. When it is whole, a state and an engine's
    /// replica are restored from it and go on from there.
    fn take_snapshot(&mut self, steps: usize) {
        let Some(snapshot) = &mut self.snapshot else { return };
        for _ in 0..steps {
            match self.replicas[snapshot.replica].snapshot_step() {
                Some(item) => snapshot.items.push(item),
                None => return self.restore(),
            }
        }
    }

    fn restore(&mut self) {
        let Some(Snapshot { index, items, .. }) = self.snapshot.take() else { return };
        let mut whole = Restore::whole();
        items.iter().for_each(|item| whole.item(item).unwrap());
        let mut state = whole.finish().unwrap();
        assert_eq!(facts(state.kb(), |_| true), of_model(self.model.at(index), |_| true));
        for (time, command) in &self.log[index as usize..] {
            state.apply(*time, command);
        }
        // The one whose state came by the log makes room.
        self.replicas.rotate_left(1);
        *self.replicas.last_mut().unwrap() = state;
        self.check_replicas();
        let Engine { kb, version, wanted } = &mut self.engines[2];
        let mut replica = Restore::replica(wanted.clone());
        items.iter().for_each(|item| replica.item(item).unwrap());
        *kb = replica.finish().unwrap().into_kb();
        *version = index;
        let is_wanted = |predicate: &Indicator| wanted.contains(predicate);
        assert_eq!(facts(kb, |_| true), of_model(self.model.at(index), is_wanted));
    }
}

/// (predicate, order, id, bytes) of facts, by predicate and in clause order.
type Listed = Vec<(Indicator, i64, Position, Bytes)>;

fn facts(kb: &Kb, is_wanted: impl Fn(&Indicator) -> bool) -> Listed {
    let predicates = kb.predicates().filter(|(indicator, _)| is_wanted(indicator));
    predicates
        .flat_map(|(indicator, predicate)| {
            let facts = predicate.facts_after(None);
            facts.map(move |(order, fact)| (indicator.clone(), order, fact.id, fact.bytes.clone()))
        })
        .collect()
}

fn of_model(facts: &Facts, is_wanted: impl Fn(&Indicator) -> bool) -> Listed {
    let facts = facts.all.iter().filter(|fact| is_wanted(&fact.predicate));
    let bytes = |fact: &synod_sim::reference::Fact| fact.term.encode().unwrap().into();
    let mut all: Listed =
        facts.map(|fact| (fact.predicate.clone(), fact.order, fact.id, bytes(fact))).collect();
    // Stable: those of one predicate stay in the model's order.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn op(write: &Write) -> Op {
    let bytes = |term: &std::rc::Rc<_>| synod_core::term::Term::encode(term).unwrap().into();
    match write {
        Write::Assert(end, fact) => Op::Assert { end: *end, fact: bytes(fact) },
        Write::Retract(predicate, order) => {
            Op::Retract { predicate: predicate.clone(), order: *order }
        }
        Write::Emit(event) => Op::Emit { event: bytes(event) },
    }
}

proptest! {
    #![proptest_config(terms::cases(256))]

    #[test]
    fn all_replicas_do_what_the_model_does(steps in prop::collection::vec(steps::step(), 0..120)) {
        let mut world = World::new();
        steps::beginning().iter().chain(&steps).for_each(|step| world.step(step));
        world.take_snapshot(usize::MAX);
        (0..world.engines.len()).for_each(|engine| {
            let behind = world.model.index() - world.engines[engine].version;
            world.follow(engine, behind);
        });
    }
}
