//! A space's state as a file's items, taken while commands go on, and read back.
//!
//! ```text
//! head   = [index, time, chain, predicates, sessions, agents, modules, floor]
//! stamps = [0, [index, key]*]        any number of these,
//! facts  = [1 + predicate, [order, index, n, fact]*]   and of these; then
//! end    = [digest]
//! ```
//! `predicate` is a place in the head's list. The facts of one predicate come in no particular
//! order. `log.cddl` has the whole grammar.

use super::agents::{Agent, DeadLetter};
use super::sessions::Session;
use super::stamps::Stamps;
use super::{Outcome, Refusal, State};
use crate::cbor::{Error, Reader, Writer};
use crate::command::{Declaration, Mode, codec};
use crate::kb::{Fact, Indicator, Kb, Position};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries of one item, at most: an item is what one step of the job makes.
const ITEM_ENTRIES: usize = 1024;
/// Bytes of facts after which an item is closed.
const ITEM_BYTES: usize = 64 << 10;

/// A snapshot under way. The state goes on changing; what it was at the job's index is kept.
#[derive(Clone, Debug)]
pub struct SnapshotJob {
    index: u64,
    head: Option<Bytes>,
    stamps: VecDeque<(u64, u64)>,
    predicates: Vec<Indicator>,
    /// The predicate being gone through, and the clause order reached in it.
    at: usize,
    after: Option<i64>,
    /// Facts that were retracted before the job came to them.
    retracted: Vec<(usize, i64, Fact)>,
    end: Option<Bytes>,
}

impl SnapshotJob {
    fn new(state: &State) -> Self {
        let mut w = Writer::new();
        write_rest(&mut w, state);
        Self {
            index: state.index,
            head: Some(w.into_vec().into()),
            stamps: state.stamps.entries().collect(),
            predicates: state.kb.predicates().map(|(indicator, _)| indicator.clone()).collect(),
            at: 0,
            after: None,
            retracted: Vec::new(),
            end: Some(Writer::new().array(1).bytes(&state.digest()).clone().into_vec().into()),
        }
    }

    /// The index whose state this is.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// A fact is being retracted: keeps it if it is part of the snapshot and has not been written.
    pub(super) fn keep(&mut self, predicate: &Indicator, order: i64, fact: &Fact) {
        if fact.id.index > self.index {
            return;
        }
        let Ok(place) = self.predicates.binary_search(predicate) else { return };
        let is_written =
            place < self.at || (place == self.at && self.after.is_some_and(|after| order <= after));
        if !is_written {
            self.retracted.push((place, order, fact.clone()));
        }
    }

    /// The next item; none when the snapshot is whole.
    fn step(&mut self, kb: &Kb) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        if !self.stamps.is_empty() {
            let len = self.stamps.len().min(ITEM_ENTRIES);
            let mut w = Writer::new();
            w.array(1 + len).uint(0);
            for (index, key) in self.stamps.drain(..len) {
                w.array(2).uint(index).uint(key);
            }
            return Some(w.into_vec().into());
        }
        while let Some(indicator) = self.predicates.get(self.at) {
            let (mut facts, mut bytes) = (Vec::new(), 0);
            let mut seen = 0;
            if let Some(predicate) = kb.predicate(indicator) {
                for (order, fact) in predicate.facts_after(self.after) {
                    if seen == ITEM_ENTRIES || bytes > ITEM_BYTES {
                        break;
                    }
                    seen += 1;
                    self.after = Some(order);
                    if fact.id.index <= self.index {
                        bytes += fact.bytes.len();
                        facts.push((order, fact.clone()));
                    }
                }
            }
            let place = self.at;
            if seen == 0 {
                self.at += 1;
                self.after = None;
            }
            if !facts.is_empty() {
                return Some(facts_item(place, &facts));
            }
        }
        if let Some(&(place, ..)) = self.retracted.last() {
            let mut facts = Vec::new();
            while facts.len() < ITEM_ENTRIES {
                let Some(last) = self.retracted.pop_if(|(p, ..)| *p == place) else { break };
                facts.push((last.1, last.2));
            }
            return Some(facts_item(place, &facts));
        }
        self.end.take()
    }
}

fn facts_item(place: usize, facts: &[(i64, Fact)]) -> Bytes {
    let mut w = Writer::new();
    w.array(1 + facts.len()).uint(1 + place as u64);
    for (order, fact) in facts {
        w.array(4).int(*order).uint(fact.id.index).uint(u64::from(fact.id.n)).raw(&fact.bytes);
    }
    w.into_vec().into()
}

impl State {
    /// Starts a snapshot of the state as it is now, and returns its index. One at a time: another
    /// that is under way is dropped.
    pub fn begin_snapshot(&mut self) -> u64 {
        self.snapshot = Some(SnapshotJob::new(self));
        self.index
    }

    /// The next item of the snapshot under way; none when it is whole, or none is.
    pub fn snapshot_step(&mut self) -> Option<Bytes> {
        let item = self.snapshot.as_mut()?.step(&self.kb);
        if item.is_none() {
            self.snapshot = None;
        }
        item
    }

    /// Drops the snapshot under way.
    pub fn abandon_snapshot(&mut self) {
        self.snapshot = None;
    }
}

/// Why a snapshot's items do not make a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An item is not what the grammar says.
    #[error("a snapshot's item cannot be read: {0}")]
    Item(#[from] Error),
    /// An item names a predicate that the head does not have.
    #[error("a snapshot's item names a predicate that its head does not")]
    Predicate,
    /// There is no head, or no end.
    #[error("a snapshot lacks its {0}")]
    Missing(&'static str),
    /// The state that was read has another digest than the one that was written.
    #[error("a snapshot's facts do not have the digest that it gives")]
    Digest,
}

/// Reads a snapshot's items, one by one.
#[derive(Debug, Default)]
pub struct Restore {
    state: Option<State>,
    indicators: Vec<Indicator>,
    facts: Vec<Vec<(i64, Fact)>>,
    stamps: Vec<(u64, u64)>,
    floor: u64,
    /// Only these predicates' facts are kept; all if none.
    wanted: Option<BTreeSet<Indicator>>,
    end: Option<[u8; 32]>,
}

impl Restore {
    /// Reads the whole state.
    pub fn whole() -> Self {
        Self::default()
    }

    /// Reads the facts of these predicates only: what an engine's replica starts from.
    pub fn replica(wanted: BTreeSet<Indicator>) -> Self {
        Self { wanted: Some(wanted), ..Self::default() }
    }

    /// Takes in the next item. Facts are kept as slices of it.
    pub fn item(&mut self, item: &Bytes) -> Result<(), RestoreError> {
        if self.state.is_none() {
            return self.head(item);
        }
        let mut r = Reader::new(item);
        let len = r.array()?;
        if len == 1 && self.end.is_none() && r.rest().first().is_some_and(|&b| b >> 5 == 2) {
            self.end = Some(r.fixed()?);
            return Ok(r.end()?);
        }
        let place = r.uint()?;
        if place == 0 {
            for _ in 1..len {
                r.array_of(2)?;
                let entry = (r.uint()?, r.uint()?);
                self.stamps.push(entry);
            }
            return Ok(r.end()?);
        }
        let place = usize::try_from(place - 1).map_err(|_| RestoreError::Predicate)?;
        let indicator = self.indicators.get(place).ok_or(RestoreError::Predicate)?;
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(indicator)) {
            return Ok(());
        }
        for _ in 1..len {
            r.array_of(4)?;
            let order = r.int()?;
            let id = Position { index: r.uint()?, n: r.uint32()? };
            let from = r.position();
            r.item()?;
            let bytes = item.slice(from..r.position());
            if Indicator::of(&bytes).as_ref() != Some(indicator) {
                return Err(r.invalid("a fact of another predicate").into());
            }
            self.facts[place].push((order, Fact { id, bytes }));
        }
        Ok(r.end()?)
    }

    /// The state. Its digest is checked, unless only some predicates were wanted.
    pub fn finish(self) -> Result<State, RestoreError> {
        let mut state = self.state.ok_or(RestoreError::Missing("head"))?;
        let digest = self.end.ok_or(RestoreError::Missing("end"))?;
        for (indicator, facts) in self.indicators.iter().zip(self.facts) {
            state.kb.place_all(indicator, facts);
        }
        state.stamps = Stamps::restore(self.floor, self.stamps);
        if self.wanted.is_none() && state.digest() != digest {
            return Err(RestoreError::Digest);
        }
        Ok(state)
    }

    fn head(&mut self, item: &Bytes) -> Result<(), RestoreError> {
        let mut r = Reader::new(item);
        r.array_of(8)?;
        let mut state = State { index: r.uint()?, time: r.uint()?, ..State::default() };
        state.chain = r.fixed()?;
        for _ in 0..r.array()? {
            r.array_of(4)?;
            let indicator = codec::read_indicator(&mut r)?;
            let ends = (r.int()?, r.int()?);
            state.kb.set_ends(&indicator, ends);
            for _ in 0..r.array()? {
                state.kb.declare_key(&indicator, r.uint32()?);
            }
            self.indicators.push(indicator);
        }
        for _ in 0..r.array()? {
            let (id, session) = read_session(&mut r)?;
            state.sessions.restore(id, session);
        }
        for _ in 0..r.array()? {
            let (name, agent) = read_agent(&mut r, item)?;
            state.agents.insert(name, agent);
        }
        for _ in 0..r.array()? {
            r.array_of(2)?;
            let (name, text) = (r.text()?.to_owned(), r.text()?.to_owned());
            state.modules.insert(name, text);
        }
        self.floor = r.uint()?;
        r.end()?;
        self.facts = vec![Vec::new(); self.indicators.len()];
        self.state = Some(state);
        Ok(())
    }
}

/// What of a state is neither facts nor stamps, and the stamps behind it: for the digest.
pub(super) fn rest_of_state(state: &State) -> Vec<u8> {
    let mut w = Writer::new();
    write_rest(&mut w, state);
    let stamps = state.stamps.entries();
    w.array(stamps.len());
    for (index, key) in stamps {
        w.array(2).uint(index).uint(key);
    }
    w.into_vec()
}

fn write_rest(w: &mut Writer, state: &State) {
    w.array(8).uint(state.index).uint(state.time).bytes(&state.chain);
    w.array(state.kb.predicates().count());
    for (indicator, predicate) in state.kb.predicates() {
        let (below, above) = predicate.ends();
        w.array(4);
        codec::write_indicator(w, indicator);
        w.int(below).int(above).array(predicate.declared().len());
        predicate.declared().iter().for_each(|&key| {
            w.uint(u64::from(key));
        });
    }
    let sessions = state.sessions.iter();
    w.array(sessions.len());
    for (&id, session) in sessions {
        write_session(w, id, session);
    }
    w.array(state.agents.len());
    for (name, agent) in &state.agents {
        write_agent(w, name, agent);
    }
    w.array(state.modules.len());
    for (name, text) in &state.modules {
        w.array(2).text(name).text(text);
    }
    w.uint(state.stamps.floor());
}

fn write_session(w: &mut Writer, id: u64, session: &Session) {
    w.array(6).uint(id).text(&session.label).bytes(&session.nonce);
    w.uint(session.used).uint(session.acked).array(session.outcomes.len());
    for (&seq, outcome) in &session.outcomes {
        w.array(2).uint(seq);
        outcome.write(w);
    }
}

fn read_session(r: &mut Reader<'_>) -> Result<(u64, Session), Error> {
    r.array_of(6)?;
    let id = r.uint()?;
    let (label, nonce) = (codec::read_name(r)?, r.fixed()?);
    let (used, acked) = (r.uint()?, r.uint()?);
    let mut outcomes = BTreeMap::new();
    for _ in 0..r.array()? {
        r.array_of(2)?;
        outcomes.insert(r.uint()?, Outcome::read(r)?);
    }
    Ok((id, Session { label, nonce, used, acked, outcomes }))
}

fn write_agent(w: &mut Writer, name: &str, agent: &Agent) {
    w.array(10).text(name);
    match &agent.holder {
        Some(holder) => w.text(holder),
        None => w.null(),
    };
    w.uint(agent.epoch).uint(agent.claimed_after).bool(agent.mode == Mode::Each);
    w.bytes(&agent.program).array(agent.declared.len());
    for declaration in &agent.declared {
        w.array(2);
        codec::write_indicator(w, &declaration.predicate);
        w.array(declaration.keys.len());
        declaration.keys.iter().for_each(|&key| {
            w.uint(u64::from(key));
        });
    }
    codec::write_position(w, agent.cursor);
    match &agent.last {
        Some((seq, outcome)) => {
            w.array(2).uint(*seq);
            outcome.write(w);
        }
        None => drop(w.null()),
    }
    w.array(agent.letters.len());
    for (&position, letter) in &agent.letters {
        w.array(4);
        codec::write_position(w, position);
        w.raw(&letter.event).text(&letter.reason).uint(letter.index);
    }
}

fn read_agent(r: &mut Reader<'_>, item: &Bytes) -> Result<(String, Agent), Error> {
    r.array_of(10)?;
    let name = codec::read_name(r)?;
    let holder = if r.null() { None } else { Some(codec::read_name(r)?) };
    let (epoch, claimed_after) = (r.uint()?, r.uint()?);
    let mode = if r.bool()? { Mode::Each } else { Mode::One };
    let program = r.fixed()?;
    let mut declared = Vec::new();
    for _ in 0..r.array()? {
        r.array_of(2)?;
        let predicate = codec::read_indicator(r)?;
        let keys = (0..r.array()?).map(|_| r.uint32()).collect::<Result<_, _>>()?;
        declared.push(Declaration { predicate, keys });
    }
    let cursor = codec::read_position(r)?;
    let last = if r.null() {
        None
    } else {
        r.array_of(2)?;
        Some((r.uint()?, Outcome::read(r)?))
    };
    let mut letters = BTreeMap::new();
    for _ in 0..r.array()? {
        r.array_of(4)?;
        let position = codec::read_position(r)?;
        let from = r.position();
        r.item()?;
        let event = item.slice(from..r.position());
        let letter = DeadLetter { event, reason: r.text()?.to_owned(), index: r.uint()? };
        letters.insert(position, letter);
    }
    let agent =
        Agent { holder, epoch, claimed_after, mode, program, declared, cursor, last, letters };
    Ok((name, agent))
}

impl Outcome {
    /// `[index]`, or `[index, reason, …]`.
    pub fn write(&self, w: &mut Writer) {
        let (index, refusal) = match self {
            Self::Committed(index) => {
                w.array(1).uint(*index);
                return;
            }
            Self::Refused(index, refusal) => (*index, refusal),
        };
        match refusal {
            Refusal::Conflict(keys) => {
                w.array(3).uint(index).uint(0).array(keys.len());
                keys.iter().for_each(|&key| {
                    w.uint(key);
                });
            }
            Refusal::TooOld => drop(w.array(2).uint(index).uint(1)),
            Refusal::NoSession => drop(w.array(2).uint(index).uint(2)),
            Refusal::OutOfWindow => drop(w.array(2).uint(index).uint(3)),
            Refusal::StaleEpoch => drop(w.array(2).uint(index).uint(4)),
            Refusal::StaleCursor => drop(w.array(2).uint(index).uint(5)),
            Refusal::Full(what) => drop(w.array(3).uint(index).uint(6).text(what)),
            Refusal::Malformed => drop(w.array(2).uint(index).uint(7)),
        }
    }

    /// What [`Outcome::write`] wrote.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        let len = r.array()?;
        let index = r.uint()?;
        if len == 1 {
            return Ok(Self::Committed(index));
        }
        let refusal = match (r.uint()?, len) {
            (0, 3) => {
                let keys = (0..r.array()?).map(|_| r.uint()).collect::<Result<_, _>>()?;
                Refusal::Conflict(keys)
            }
            (1, 2) => Refusal::TooOld,
            (2, 2) => Refusal::NoSession,
            (3, 2) => Refusal::OutOfWindow,
            (4, 2) => Refusal::StaleEpoch,
            (5, 2) => Refusal::StaleCursor,
            (6, 3) => match r.text()? {
                "agents" => Refusal::Full("agents"),
                "modules" => Refusal::Full("modules"),
                "predicates" => Refusal::Full("predicates"),
                _ => return Err(r.invalid("an unknown bound")),
            },
            (7, 2) => Refusal::Malformed,
            _ => return Err(r.invalid("an unknown refusal")),
        };
        Ok(Self::Refused(index, refusal))
    }
}
