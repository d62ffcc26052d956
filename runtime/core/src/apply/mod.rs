//! *Apply*: the machine that turns a log into a space's state. Plain and total: the same commands
//! give the same state on every replica, and no Prolog runs here.
//!
//! ```text
//! state(i) = apply(state(i−1), time, command(i))
//! chain(i) = BLAKE3(chain(i−1) ‖ i ‖ time ‖ command(i))
//! ```
//!
//! A transaction is applied if its origin admits it (a session's number that is new, an agent's
//! epoch and cursor) and if no key that it read was written after the version at which it read it.
//! Otherwise it is refused, which is an outcome like any other: it has its index and its place in
//! the chain.

mod agents;
mod chain;
mod change;
mod membership;
mod outcome;
mod read;
mod rest;
mod restore;
mod sessions;
mod snapshot;
mod stamps;
#[cfg(test)]
mod tests;

use crate::command::{Claim, Command, Declaration, Letter, Op, Origin, Transaction};
use crate::kb::key::{self, Key, Keyer};
use crate::kb::{Fact, Indicator, Kb, MAX_KEYS, MAX_PREDICATES, Position};
use crate::term::shape;
pub use agents::{Agent, DeadLetter, MAX_AGENTS, MAX_LETTER_BYTES, MAX_LETTERS};
use bytes::Bytes;
pub use chain::{Chain, link};
pub use change::{Change, Effect};
pub use membership::{MAX_ADMITTED, MAX_TICKETS, Member, Membership, Part, Recovery, Ticket};
use outcome::bound;
pub use outcome::{Outcome, Refusal};
pub use read::{Facts, Goal, MAX_SCANNED, ReadError};
pub use restore::{Restore, RestoreError};
use sessions::Admission;
pub use sessions::{MAX_IN_FLIGHT, MAX_SESSIONS, SESSION_COMMANDS, Session};
pub use snapshot::SnapshotJob;
pub use stamps::MAX_STAMPS;
use stamps::Stamps;
use std::collections::{BTreeMap, BTreeSet};

/// Modules of one space, at most.
pub const MAX_MODULES: usize = 1024;
/// Bytes of the texts of all modules, at most.
pub const MAX_MODULE_BYTES_IN_ALL: usize = 64 << 20;
/// Keys that one refusal names, at most.
pub const MAX_KEYS_NAMED: usize = 64;

/// A published module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its Prolog text.
    pub text: String,
    /// The index at which it was published.
    pub index: u64,
    /// The index at which it had been before, 0 if it had not: what its command named.
    pub(super) after: u64,
}

/// An applied command and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The command's index.
    pub index: u64,
    /// When, in microseconds since 1970 (UTC): the leader's clock, never running backwards.
    pub time: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// What it changed, if it is a transaction that changed or emitted anything.
    pub change: Option<Change>,
}

/// The state of a space.
#[derive(Clone, Debug)]
pub struct State {
    index: u64,
    time: u64,
    chain: [u8; 32],
    kb: Kb,
    stamps: Stamps,
    sessions: sessions::Sessions,
    agents: BTreeMap<String, Agent>,
    modules: BTreeMap<String, Module>,
    membership: Membership,
    /// For the key of each declared argument, since when stamps of it are kept.
    declared: BTreeMap<u64, u64>,
    /// A snapshot that is being taken while commands go on.
    snapshot: Option<SnapshotJob>,
    /// The predicate that was written to last: often it is the next one's too.
    recent: Option<Indicator>,
    /// Whether nobody wants to know what commands change.
    is_quiet: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            index: 0,
            time: 0,
            chain: [0; 32],
            // Calls are made on replicas: here facts are only written.
            kb: Kb::unindexed(),
            stamps: Stamps::default(),
            sessions: sessions::Sessions::default(),
            agents: BTreeMap::new(),
            modules: BTreeMap::new(),
            membership: Membership::default(),
            declared: BTreeMap::new(),
            snapshot: None,
            recent: None,
            is_quiet: false,
        }
    }
}

impl State {
    /// A space before its first command. Its chain starts from the space's id.
    pub fn new(space: [u8; 32]) -> Self {
        Self { chain: space, ..Self::default() }
    }

    /// The index of the last command applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The time of the last command applied, in microseconds since 1970 (UTC).
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The chain at [`State::index`].
    pub fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// The facts.
    pub fn kb(&self) -> &Kb {
        &self.kb
    }

    /// The facts, to go on with alone: a replica that was restored as part of a state.
    pub fn into_kb(self) -> Kb {
        self.kb
    }

    /// The agents, by name.
    pub fn agents(&self) -> &BTreeMap<String, Agent> {
        &self.agents
    }

    /// Published modules, by name.
    pub fn modules(&self) -> &BTreeMap<String, Module> {
        &self.modules
    }

    /// A session that is open.
    pub fn session(&self, id: u64) -> Option<&Session> {
        self.sessions.get(id, self.index)
    }

    /// What came of a session's transaction; nothing if it was not applied, or is no longer kept.
    pub fn outcome(&self, session: u64, seq: u64) -> Option<&Outcome> {
        self.session(session)?.outcomes.get(&seq)
    }

    /// Applies the next command, stamped `time` by the leader.
    pub fn apply(&mut self, time: u64, bytes: &Bytes) -> Applied {
        self.index += 1;
        self.time = self.time.max(time);
        self.chain = link(&self.chain, self.index, self.time, bytes);
        let (outcome, change) = match Command::decode(bytes) {
            Ok(command) => self.execute(command),
            Err(_) => (self.refused(Refusal::Malformed), None),
        };
        Applied { index: self.index, time: self.time, outcome, change }
    }

    /// Leaves out, or no longer, what only matters to who follows command by command: what each changes, and
    /// the facts' digest, which is then computed when it is asked for.
    pub fn be_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
        self.kb.leave_digest(is_quiet);
    }

    /// As [`State::apply`], of a command that whoever followed the chain has decoded, if it could be, and
    /// found to lead to `place`.
    pub fn apply_followed(&mut self, place: &Chain, command: Option<Command>) -> Applied {
        (self.index, self.time, self.chain) = (place.index, place.time, place.hash);
        let (outcome, change) = match command {
            Some(command) => self.execute(command),
            None => (self.refused(Refusal::Malformed), None),
        };
        Applied { index: self.index, time: self.time, outcome, change }
    }

    fn execute(&mut self, command: Command) -> (Outcome, Option<Change>) {
        match command {
            Command::OpenSession { label, nonce } => {
                (Outcome::Committed(self.sessions.open(self.index, label, nonce)), None)
            }
            Command::Transact(transaction) => self.transact(transaction),
            Command::Claim(claim) => (self.claim(claim), None),
            Command::Letter(letter) => (self.letter(letter), None),
            Command::Release { agent, epoch } => (self.release(&agent, epoch), None),
            Command::DropLetters { agent, positions } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    positions.iter().for_each(|position| drop(agent.letters.remove(position)));
                }
                (Outcome::Committed(self.index), None)
            }
            Command::PublishModule { name, text, after } => (self.publish(name, text, after), None),
            Command::Admit(admit) => (self.admit(admit), None),
            Command::IssueTicket(issue) => (self.issue_ticket(&issue), None),
            Command::RevokeTickets { hashes, after } => (self.revoke_tickets(&hashes, after), None),
            Command::Configure(configure) => (self.configure(&configure), None),
            Command::Recover(recover) => (self.recover(&recover), None),
            Command::Checkpoint(checkpoint) => (self.check_point(checkpoint), None),
        }
    }

    fn transact(&mut self, transaction: Transaction) -> (Outcome, Option<Change>) {
        match &transaction.origin {
            &Origin::Session { id, seq, acked } => {
                match self.sessions.admit(id, self.index, seq, acked) {
                    None => return (self.refused(Refusal::NoSession), None),
                    Some(Admission::OutOfWindow) => {
                        return (self.refused(Refusal::OutOfWindow), None);
                    }
                    Some(Admission::Again(outcome)) => return (outcome, None),
                    Some(Admission::New) => {}
                }
                let (outcome, change) = self.validate_and_write(&transaction);
                // A conflict is not kept: sent again the same bytes conflict again, for stamps only
                // rise and no fact comes back, while a rerun of the goal may use the number.
                if !matches!(outcome, Outcome::Refused(_, Refusal::Conflict(_) | Refusal::TooOld)) {
                    self.sessions.record(id, seq, &outcome);
                }
                (outcome, change)
            }
            Origin::Agent { name, epoch, seq, from, to, record: _, letter } => {
                if let Some(outcome) = self.agent_refuses(name, *epoch, *seq, *from, *to) {
                    return (outcome, None);
                }
                let (outcome, change) = match letter {
                    Some(letter) if !self.has_letter(name, *letter) => {
                        (self.refused(Refusal::NoLetter), None)
                    }
                    _ => self.validate_and_write(&transaction),
                };
                if let Some(agent) = self.agents.get_mut(name) {
                    if let Outcome::Committed(_) = outcome {
                        agent.cursor = *to;
                        letter.iter().for_each(|letter| drop(agent.letters.remove(letter)));
                    }
                    agent.last = Some((*seq, outcome.clone()));
                }
                (outcome, change)
            }
        }
    }

    fn has_letter(&self, agent: &str, letter: Position) -> bool {
        self.agents.get(agent).is_some_and(|agent| agent.letters.contains_key(&letter))
    }

    /// The outcome of an agent's command that is not applied: it came before, or its holder or
    /// cursor is not what it thinks.
    fn agent_refuses(
        &mut self,
        name: &str,
        epoch: u64,
        seq: u64,
        from: Position,
        to: Position,
    ) -> Option<Outcome> {
        let index = self.index;
        let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.is_held_in(epoch)) else {
            return Some(self.refused(Refusal::StaleEpoch));
        };
        match &agent.last {
            Some((last, outcome)) if *last == seq => return Some(outcome.clone()),
            Some((last, _)) if *last > seq => return Some(self.refused(Refusal::OutOfWindow)),
            _ => {}
        }
        // A cursor passes nothing that has not come.
        if agent.cursor == from && from <= to && to.index <= index {
            return None;
        }
        // Kept, for the cursor moves: a copy that comes later must not commit.
        let outcome = Outcome::Refused(index, Refusal::StaleCursor);
        agent.last = Some((seq, outcome.clone()));
        Some(outcome)
    }

    fn validate_and_write(&mut self, transaction: &Transaction) -> (Outcome, Option<Change>) {
        if let Some(refusal) = self.invalidates(transaction) {
            return (self.refused(refusal), None);
        }
        if self.is_quiet {
            for (n, op) in (0..).zip(&transaction.ops) {
                self.write(n, op);
            }
            return (Outcome::Committed(self.index), None);
        }
        let by = match &transaction.origin {
            Origin::Session { id, .. } => self.session(*id).map(|session| session.label.clone()),
            Origin::Agent { name, .. } => Some(name.clone()),
        };
        let mut effects = Vec::with_capacity(transaction.ops.len());
        for (n, op) in (0..).zip(&transaction.ops) {
            effects.extend(self.write(n, op).map(|effect| (n, effect)));
        }
        let change = Change { index: self.index, by: by.unwrap_or_default(), effects };
        (Outcome::Committed(self.index), (!transaction.ops.is_empty()).then_some(change))
    }

    fn invalidates(&mut self, transaction: &Transaction) -> Option<Refusal> {
        let Transaction { origin: _, version, reads, ops } = transaction;
        if *version >= self.index {
            return Some(Refusal::Malformed);
        }
        let has_read = !reads.is_empty() || ops.iter().any(|op| matches!(op, Op::Retract { .. }));
        let by = reads.iter().filter(|&&key| Key(key).is_declared());
        // Who reads by an argument that no stamps were kept of would never conflict.
        let knew = |key| self.declared.get(key).is_some_and(|since| since <= version);
        if has_read && *version < self.stamps.floor() || !by.into_iter().all(knew) {
            return Some(Refusal::TooOld);
        }
        let written = ops.iter().filter_map(|op| match op {
            Op::Assert { fact, .. } => Indicator::of(fact),
            Op::Retract { .. } | Op::Emit { .. } => None,
        });
        if !self.has_room_for(ops.len(), written) {
            return Some(Refusal::Full(bound::PREDICATES));
        }
        let stamps = &mut self.stamps;
        let stale = |key: &u64| stamps.is_newer(*key, *version);
        let mut keys: BTreeSet<u64> = reads.iter().copied().filter(stale).collect();
        for op in ops {
            if let Op::Retract { predicate, order } = op {
                let facts = self.kb.predicate(predicate);
                if facts.is_none_or(|facts| facts.fact(*order).is_none()) {
                    keys.insert(key::whole(predicate).0);
                }
            }
        }
        let named: Vec<u64> = keys.into_iter().take(MAX_KEYS_NAMED).collect();
        (!named.is_empty()).then_some(Refusal::Conflict(named))
    }

    /// Whether those of these predicates, `most` at most, that are new pass no bound.
    fn has_room_for(&self, most: usize, predicates: impl Iterator<Item = Indicator>) -> bool {
        if self.kb.predicates().len() + most <= MAX_PREDICATES {
            return true;
        }
        let new = predicates.filter(|predicate| self.kb.predicate(predicate).is_none());
        let new: BTreeSet<_> = new.collect();
        self.kb.predicates().len() + new.len() <= MAX_PREDICATES
    }

    /// Does one operation. The same fact retracted twice in one transaction: once.
    fn write(&mut self, n: u32, op: &Op) -> Option<Effect> {
        let index = self.index;
        match op {
            Op::Emit { event } => Some(Effect::Emitted { event: Bytes::copy_from_slice(event) }),
            Op::Assert { end, fact } => {
                // `invalidates` has refused what is neither an atom nor a compound.
                let predicate = self.predicate_of(fact)?;
                // A copy, so that the fact does not keep the whole log record in memory.
                let fact = Bytes::copy_from_slice(fact);
                let told = (!self.is_quiet).then(|| fact.clone());
                let new = Fact { id: Position { index, n }, bytes: fact };
                let raise = |key| self.stamps.raise(key, index);
                let order = self.kb.assert_raising(&predicate, *end, new, raise);
                told.map(|fact| Effect::Asserted { predicate, order, fact })
            }
            Op::Retract { predicate, order } => {
                let raise = |key| self.stamps.raise(key, index);
                let fact = self.kb.retract_raising(predicate, *order, raise)?;
                if let Some(job) = &mut self.snapshot {
                    job.keep(predicate, *order, &fact);
                }
                let predicate = predicate.clone();
                Some(Effect::Retracted { predicate, order: *order, fact: fact.bytes })
            }
        }
    }

    /// The predicate of a fact. Its name is not copied if it was the last one's too.
    fn predicate_of(&mut self, fact: &[u8]) -> Option<Indicator> {
        let (name, arity) = shape::predicate(fact)?;
        let arity = u32::try_from(arity).ok()?;
        if let Some(recent) = &self.recent
            && (&*recent.name, recent.arity) == (name, arity)
        {
            return Some(recent.clone());
        }
        let predicate = Indicator::new(name, arity);
        self.recent = Some(predicate.clone());
        Some(predicate)
    }

    fn claim(&mut self, claim: Claim) -> Outcome {
        if let Some(agent) = self.agents.get(&claim.agent) {
            if agent.is_claimed_by(&claim) {
                return Outcome::Committed(agent.epoch);
            }
            if agent.epoch != claim.after {
                return self.refused(Refusal::StaleEpoch);
            }
        } else if claim.after != 0 {
            return self.refused(Refusal::StaleEpoch);
        } else if self.agents.len() >= MAX_AGENTS {
            return self.refused(Refusal::Full(bound::AGENTS));
        }
        let declared = claim.declared.iter().map(|declaration| declaration.predicate.clone());
        if !self.has_room_for(claim.declared.len(), declared) {
            return self.refused(Refusal::Full(bound::PREDICATES));
        }
        if !self.has_room_for_keys(&claim.declared) {
            return self.refused(Refusal::Full(bound::KEYS));
        }
        for Declaration { predicate, keys } in &claim.declared {
            self.kb.define(predicate);
            for &argument in keys {
                if self.kb.declare_key(predicate, argument) {
                    let key = Keyer::new(predicate, argument).declared();
                    self.declared.insert(key.0, self.index);
                }
            }
        }
        let new = Agent {
            holder: Some(claim.node.clone()),
            epoch: self.index,
            claimed_after: claim.after,
            mode: claim.mode,
            program: claim.program,
            declared: claim.declared,
            // A new agent handles what comes after it, not the space's history.
            cursor: Position { index: self.index, n: 0 },
            last: None,
            letters: BTreeMap::new(),
        };
        match self.agents.get_mut(&claim.agent) {
            Some(agent) => {
                let (cursor, letters) = (agent.cursor, std::mem::take(&mut agent.letters));
                *agent = Agent { cursor, letters, ..new };
            }
            None => drop(self.agents.insert(claim.agent, new)),
        }
        Outcome::Committed(self.index)
    }

    /// Whether stamps of all these keys are kept: what is read by another is refused.
    pub fn keeps_stamps_of(&self, declared: &[Declaration]) -> bool {
        declared.iter().all(|Declaration { predicate, keys }| {
            let known = self.kb.predicate(predicate).map_or(&[][..], |known| known.declared());
            keys.iter().all(|key| known.contains(key))
        })
    }

    /// Whether stamps of all keys that are declared can be kept. An engine reads by all of them: were
    /// one not taken, all that it does would be refused.
    fn has_room_for_keys(&self, declared: &[Declaration]) -> bool {
        let mut all: BTreeMap<&Indicator, BTreeSet<u32>> = BTreeMap::new();
        for Declaration { predicate, keys } in declared {
            let known = self.kb.predicate(predicate).map(|known| known.declared());
            let all = all.entry(predicate).or_default();
            let fitting = keys.iter().filter(|key| (2..=predicate.arity).contains(key));
            all.extend(known.unwrap_or_default().iter().chain(fitting));
        }
        all.values().all(|keys| keys.len() <= MAX_KEYS)
    }

    fn letter(&mut self, letter: Letter) -> Outcome {
        let Letter { agent: name, epoch, seq, from, to, event, reason } = letter;
        if let Some(outcome) = self.agent_refuses(&name, epoch, seq, from, to) {
            return outcome;
        }
        let outcome = Outcome::Committed(self.index);
        let index = self.index;
        if let Some(agent) = self.agents.get_mut(&name) {
            let event = Bytes::copy_from_slice(&event);
            let position = match to.n.checked_sub(1) {
                // A trigger without a position is kept under the letter's own.
                _ if from >= to => Position { index, n: 0 },
                // The cursor may have stood before it by more than one.
                Some(n) => Position { n, ..to },
                None => from,
            };
            agent.keep_letter(position, DeadLetter { event, reason, index });
            agent.cursor = to;
            agent.last = Some((seq, outcome.clone()));
        }
        outcome
    }

    fn release(&mut self, name: &str, epoch: u64) -> Outcome {
        match self.agents.get_mut(name).filter(|agent| agent.epoch == epoch) {
            Some(agent) => {
                agent.holder = None;
                Outcome::Committed(self.index)
            }
            None => self.refused(Refusal::StaleEpoch),
        }
    }

    fn publish(&mut self, name: String, text: String, after: u64) -> Outcome {
        let index = self.index;
        if let Some(known) = self.modules.get(&name)
            && known.after == after
            && known.text == text
        {
            return Outcome::Committed(known.index);
        }
        if self.modules.get(&name).map_or(0, |known| known.index) != after {
            return self.refused(Refusal::StaleModule);
        }
        let others = self.modules.iter().filter(|(other, _)| **other != name);
        let (len, bytes) =
            others.fold((0, 0), |(len, bytes), (_, known)| (len + 1, bytes + known.text.len()));
        if len >= MAX_MODULES {
            return self.refused(Refusal::Full(bound::MODULES));
        }
        if bytes + text.len() > MAX_MODULE_BYTES_IN_ALL {
            return self.refused(Refusal::Full(bound::MODULE_BYTES));
        }
        self.modules.insert(name, Module { text, index, after });
        Outcome::Committed(index)
    }

    fn refused(&self, why: Refusal) -> Outcome {
        Outcome::Refused(self.index, why)
    }

    /// The digest of the whole state: equal for two replicas at the same index, whether they came
    /// there by the log or by a snapshot.
    pub fn digest(&self) -> [u8; 32] {
        self.digest_with(&rest::items(self))
    }

    fn digest_with(&self, rest: &[Bytes]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for item in rest {
            hasher.update(item);
        }
        self.stamps.hash_into(&mut hasher);
        *hasher.update(&self.kb.digest().to_bytes()).finalize().as_bytes()
    }
}
