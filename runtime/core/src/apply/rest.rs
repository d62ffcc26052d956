//! What of a state is neither facts nor stamps, as items: a snapshot begins with them, and the digest
//! takes them in. `commands.cddl` has the grammar.

use super::agents::{Agent, DeadLetter};
use super::membership::{write_member, write_removed, write_ticket};
use super::sessions::Session;
use super::{Module, Outcome, State};
use crate::cbor::{Error, Reader, Writer};
use crate::command::{Mode, codec};
use crate::kb::key::Keyer;
use crate::kb::{Indicator, MAX_ORDER};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Entries of one item, at most.
pub(super) const ITEM_ENTRIES: usize = 1024;
/// Bytes of entries after which an item is closed.
pub(super) const ITEM_BYTES: usize = 64 << 10;

/// The kinds of items, in the order in which they come.
pub(super) mod kind {
    pub(crate) const HEAD: u64 = 0;
    pub(crate) const PREDICATES: u64 = 1;
    pub(crate) const SESSIONS: u64 = 2;
    pub(crate) const AGENTS: u64 = 3;
    pub(crate) const LETTERS: u64 = 4;
    pub(crate) const MODULES: u64 = 5;
    pub(crate) const MEMBERS: u64 = 6;
    pub(crate) const TICKETS: u64 = 7;
    pub(crate) const STAMPS: u64 = 8;
    pub(crate) const FACTS: u64 = 9;
    pub(crate) const END: u64 = 10;
}

/// Makes items of one kind, each closed before it gets large.
pub(super) struct Items<'a> {
    kind: u64,
    entries: Writer,
    len: usize,
    out: &'a mut Vec<Bytes>,
}

impl<'a> Items<'a> {
    pub(super) fn new(kind: u64, out: &'a mut Vec<Bytes>) -> Self {
        Self { kind, entries: Writer::new(), len: 0, out }
    }

    /// A writer for the next entry.
    fn entry(&mut self) -> &mut Writer {
        if self.len >= ITEM_ENTRIES || self.entries.len() > ITEM_BYTES {
            self.close();
        }
        self.len += 1;
        &mut self.entries
    }

    fn close(&mut self) {
        if self.len > 0 {
            let entries = std::mem::take(&mut self.entries);
            let mut w = Writer::onto(Vec::with_capacity(entries.len() + 16));
            w.array(1 + self.len).uint(self.kind).raw(entries.as_slice());
            self.out.push(w.into_vec().into());
            self.len = 0;
        }
    }
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Everything but stamps and facts.
pub(super) fn items(state: &State) -> Vec<Bytes> {
    let mut w = Writer::new();
    w.array(11).uint(kind::HEAD).uint(state.index).uint(state.time).bytes(&state.chain);
    w.uint(state.stamps.floor()).uint(state.stamps.dropped());
    state.membership.write_head(&mut w);
    let mut all = vec![w.into_vec().into()];
    let mut items = Items::new(kind::PREDICATES, &mut all);
    for (indicator, predicate) in state.kb.predicates() {
        let (w, (below, above)) = (items.entry(), predicate.ends());
        w.array(5).text(&indicator.name).uint(u64::from(indicator.arity)).int(below).int(above);
        w.array(predicate.declared().len());
        for &argument in predicate.declared() {
            let key = Keyer::new(indicator, argument).declared();
            let since = state.declared.get(&key.0).copied().unwrap_or_default();
            w.array(2).uint(u64::from(argument)).uint(since);
        }
    }
    drop(items);
    let mut items = Items::new(kind::SESSIONS, &mut all);
    for (&id, session) in state.sessions.iter() {
        write_session(items.entry(), id, session);
    }
    drop(items);
    let mut items = Items::new(kind::AGENTS, &mut all);
    for (name, agent) in &state.agents {
        write_agent(items.entry(), name, agent);
    }
    drop(items);
    let mut items = Items::new(kind::LETTERS, &mut all);
    for (name, agent) in &state.agents {
        for (&position, letter) in &agent.letters {
            let w = items.entry().array(5).text(name);
            codec::write_position(w, position);
            w.raw(&letter.event).text(&letter.reason).uint(letter.index);
        }
    }
    drop(items);
    let mut items = Items::new(kind::MODULES, &mut all);
    for (name, module) in &state.modules {
        let w = items.entry().array(4).text(name).text(&module.text);
        w.uint(module.index).uint(module.after);
    }
    drop(items);
    let mut items = Items::new(kind::MEMBERS, &mut all);
    for (&id, member) in state.membership.members() {
        write_member(items.entry(), id, member);
    }
    for (&id, removed) in state.membership.removed() {
        write_removed(items.entry(), id, removed);
    }
    drop(items);
    let mut items = Items::new(kind::TICKETS, &mut all);
    for (hash, ticket) in state.membership.all_tickets() {
        write_ticket(items.entry(), &hash, ticket);
    }
    drop(items);
    all
}

/// Reads the entries of an item into a state. The head has been read, and its kind.
pub(super) fn read(
    state: &mut State,
    kind: u64,
    entries: usize,
    r: &mut Reader<'_>,
    item: &Bytes,
) -> Result<(), Error> {
    for _ in 0..entries {
        let is_new = match kind {
            kind::SESSIONS => {
                let (id, session) = read_session(r)?;
                state.sessions.restore(id, session)
            }
            kind::AGENTS => {
                let (name, agent) = read_agent(r)?;
                state.agents.insert(name, agent).is_none()
            }
            kind::LETTERS => read_letter(state, r, item)?,
            kind::MODULES => {
                r.array_of(4)?;
                let (name, text) = (codec::read_name(r)?, r.text()?.to_owned());
                let module = Module { text, index: r.uint()?, after: r.uint()? };
                state.modules.insert(name, module).is_none()
            }
            kind::MEMBERS => state.membership.restore_member(r)?,
            kind::TICKETS => state.membership.restore_ticket(r)?,
            _ => return Err(r.invalid("an unknown kind of item")),
        };
        if !is_new {
            return Err(r.invalid("an entry that was there already"));
        }
    }
    Ok(())
}

/// Reads one entry of [`kind::PREDICATES`]; the predicate with its ends and declared keys is defined.
pub(super) fn read_predicate(state: &mut State, r: &mut Reader<'_>) -> Result<Indicator, Error> {
    r.array_of(5)?;
    let indicator = Indicator::new(r.text()?, r.uint32()?);
    let (below, above) = (r.int()?, r.int()?);
    if !(-MAX_ORDER..0).contains(&below) || !(0..MAX_ORDER).contains(&above) {
        return Err(r.invalid("ends that no predicate can have"));
    }
    if state.kb.predicate(&indicator).is_some() || state.kb.is_full_for(&indicator) {
        return Err(r.invalid("a predicate that is there already, or one too many"));
    }
    state.kb.set_ends(&indicator, (below, above));
    for _ in 0..r.array()? {
        r.array_of(2)?;
        let (argument, since) = (r.uint32()?, r.uint()?);
        if since > state.index || !state.kb.declare_key(&indicator, argument) {
            return Err(r.invalid("a declared key that the predicate cannot have"));
        }
        state.declared.insert(Keyer::new(&indicator, argument).declared().0, since);
    }
    Ok(indicator)
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
    w.array(9).text(name);
    match &agent.holder {
        Some(holder) => w.text(holder),
        None => w.null(),
    };
    w.uint(agent.epoch).uint(agent.claimed_after).bool(agent.mode == Mode::Each);
    w.bytes(&agent.program);
    codec::write_declared(w, &agent.declared);
    codec::write_position(w, agent.cursor);
    match &agent.last {
        Some((seq, outcome)) => {
            w.array(2).uint(*seq);
            outcome.write(w);
        }
        None => drop(w.null()),
    }
}

fn read_agent(r: &mut Reader<'_>) -> Result<(String, Agent), Error> {
    r.array_of(9)?;
    let name = codec::read_name(r)?;
    let holder = if r.null() { None } else { Some(codec::read_name(r)?) };
    let (epoch, claimed_after) = (r.uint()?, r.uint()?);
    let mode = if r.bool()? { Mode::Each } else { Mode::One };
    let (program, declared) = (r.fixed()?, codec::read_declared(r)?);
    let cursor = codec::read_position(r)?;
    let last = if r.null() {
        None
    } else {
        r.array_of(2)?;
        Some((r.uint()?, Outcome::read(r)?))
    };
    let letters = BTreeMap::new();
    let agent =
        Agent { holder, epoch, claimed_after, mode, program, declared, cursor, last, letters };
    Ok((name, agent))
}

/// Says whether the letter is new.
fn read_letter(state: &mut State, r: &mut Reader<'_>, item: &Bytes) -> Result<bool, Error> {
    r.array_of(5)?;
    let name = codec::read_name(r)?;
    let Some(agent) = state.agents.get_mut(&name) else {
        return Err(r.invalid("a letter of an agent that is not there"));
    };
    let position = codec::read_position(r)?;
    let event = codec::read_term(r, item)?;
    let reason = codec::read_reason(r)?;
    // A copy, so that the event does not keep the whole item in memory.
    let event = Bytes::copy_from_slice(&event);
    let letter = DeadLetter { event, reason, index: r.uint()? };
    Ok(agent.letters.insert(position, letter).is_none())
}
