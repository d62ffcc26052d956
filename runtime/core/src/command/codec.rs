//! Commands as bytes. A command is a CBOR array whose first item says which it is; a transaction
//! names each predicate that it retracts from once, in a table.

use super::{Admit, Checkpoint, Configure, IssueTicket, MAX_PEER_BYTES, MAX_REVOKED, Recover};
use super::{Claim, Command, Declaration, Letter, MAX_DECLARATIONS, MAX_MODULE_BYTES};
use super::{MAX_NAME_BYTES, MAX_REASON_BYTES, MAX_RECORD_TERMS};
use super::{Mode, Op, Origin, Record, Transaction};
use crate::apply::{MAX_ADMITTED, MAX_LETTERS};
use crate::cbor::{Error, Reader, What, Writer};
use crate::kb::{End, Indicator, MAX_KEYS, MAX_PREDICATES, Position};
use crate::transaction::Draft;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one encoded command, at most: with a batch's head it is one entry of the log.
pub const MAX_COMMAND_BYTES: usize = crate::order::MAX_ENTRY_BYTES - 4096;

const OPEN_SESSION: u64 = 0;
const TRANSACT: u64 = 1;
const CLAIM: u64 = 2;
const LETTER: u64 = 3;
const RELEASE: u64 = 4;
const DROP_LETTERS: u64 = 5;
const PUBLISH_MODULE: u64 = 6;
pub(super) const ADMIT: u64 = 7;
const ISSUE_TICKET: u64 = 8;
const REVOKE_TICKETS: u64 = 9;
const CONFIGURE: u64 = 10;
pub(super) const RECOVER: u64 = 11;
pub(super) const CHECKPOINT: u64 = 12;

const ASSERTZ: u64 = 0;
const ASSERTA: u64 = 1;
const RETRACT: u64 = 2;
const EMIT: u64 = 3;

impl Command {
    /// The command's bytes. Equal commands have equal bytes.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        match self {
            Self::OpenSession { label, nonce } => {
                w.array(3).uint(OPEN_SESSION).text(label).bytes(nonce);
            }
            Self::Transact(transaction) => write_transaction(&mut w, transaction),
            Self::Claim(claim) => write_claim(&mut w, claim),
            Self::Letter(letter) => {
                w.array(8).uint(LETTER).text(&letter.agent).uint(letter.epoch).uint(letter.seq);
                write_position(&mut w, letter.from);
                write_position(&mut w, letter.to);
                w.raw(&letter.event).text(&letter.reason);
            }
            Self::Release { agent, epoch } => {
                w.array(3).uint(RELEASE).text(agent).uint(*epoch);
            }
            Self::DropLetters { agent, positions } => {
                w.array(3).uint(DROP_LETTERS).text(agent).array(positions.len());
                positions.iter().for_each(|&position| write_position(&mut w, position));
            }
            Self::PublishModule { name, text, after } => {
                w.array(4).uint(PUBLISH_MODULE).text(name).text(text).uint(*after);
            }
            Self::Admit(admit) => {
                let len = 5 + usize::from(admit.ticket.is_some());
                w.array(len).uint(ADMIT).bytes(&admit.peer).text(&admit.node).bytes(&admit.nonce);
                w.uint(admit.after);
                if let Some(hash) = &admit.ticket {
                    w.bytes(hash);
                }
            }
            Self::IssueTicket(ticket) => {
                w.array(4).uint(ISSUE_TICKET).bytes(&ticket.hash).uint(ticket.until);
                w.uint(u64::from(ticket.uses));
            }
            Self::RevokeTickets { hashes, after } => {
                w.array(3).uint(REVOKE_TICKETS).uint(*after).array(hashes.len());
                for hash in hashes {
                    w.bytes(hash);
                }
            }
            Self::Configure(configure) => {
                w.array(4).uint(CONFIGURE);
                for ids in [&configure.voters, &configure.learners, &configure.removed] {
                    w.array(ids.len());
                    for &id in ids {
                        w.uint(id);
                    }
                }
            }
            Self::Recover(recover) => {
                w.array(6).uint(RECOVER).uint(recover.generation).uint(recover.voter);
                w.text(&recover.node).array(recover.dropped.len());
                for (&id, node) in &recover.dropped {
                    w.array(2).uint(id).text(node);
                }
                w.text(&recover.words);
            }
            Self::Checkpoint(checkpoint) => checkpoint.write(w.array(6).uint(CHECKPOINT)),
        }
        w.into_vec().into()
    }

    /// Reads a command. Facts and events stay slices of `bytes`; they are checked to be
    /// well-formed CBOR, and facts to be atoms or compounds. [`Command::check_terms`] does the rest.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_COMMAND_BYTES, of: "bytes" }));
        }
        let at = r.position();
        let len = r.array()?;
        let kind = r.uint()?;
        let expect = |wanted: usize| {
            let what = What::Invalid("a command of another length");
            if len == wanted { Ok(()) } else { Err(Error { at, what }) }
        };
        let command = match kind {
            OPEN_SESSION => {
                expect(3)?;
                Self::OpenSession { label: read_name(&mut r)?, nonce: r.fixed()? }
            }
            TRANSACT => {
                expect(6)?;
                Self::Transact(read_transaction(&mut r, bytes)?)
            }
            CLAIM => {
                expect(7)?;
                Self::Claim(read_claim(&mut r)?)
            }
            LETTER => {
                expect(8)?;
                Self::Letter(Letter {
                    agent: read_name(&mut r)?,
                    epoch: r.uint()?,
                    seq: r.uint()?,
                    from: read_position(&mut r)?,
                    to: read_position(&mut r)?,
                    event: read_term(&mut r, bytes)?,
                    reason: read_reason(&mut r)?,
                })
            }
            RELEASE => {
                expect(3)?;
                Self::Release { agent: read_name(&mut r)?, epoch: r.uint()? }
            }
            DROP_LETTERS => {
                expect(3)?;
                let agent = read_name(&mut r)?;
                let len = array_up_to(&mut r, MAX_LETTERS, "letters")?;
                let positions = (0..len).map(|_| read_position(&mut r));
                Self::DropLetters { agent, positions: positions.collect::<Result<_, _>>()? }
            }
            PUBLISH_MODULE => {
                expect(4)?;
                let name = read_name(&mut r)?;
                let text = read_bounded(&mut r, MAX_MODULE_BYTES, "bytes of a module")?;
                Self::PublishModule { name, text, after: r.uint()? }
            }
            ADMIT => {
                let with_ticket = len == 6;
                if !with_ticket {
                    expect(5)?;
                }
                let (peer, node) = (read_peer(&mut r)?, read_name(&mut r)?);
                let (nonce, after) = (r.fixed()?, r.uint()?);
                let ticket = if with_ticket { Some(r.fixed()?) } else { None };
                Self::Admit(Admit { peer, node, nonce, ticket, after })
            }
            ISSUE_TICKET => {
                expect(4)?;
                let (hash, until, uses) = (r.fixed()?, r.uint()?, r.uint32()?);
                Self::IssueTicket(IssueTicket { hash, until, uses })
            }
            REVOKE_TICKETS => {
                expect(3)?;
                let after = r.uint()?;
                let len = array_up_to(&mut r, MAX_REVOKED, "tickets")?;
                let hashes = (0..len).map(|_| r.fixed()).collect::<Result<_, _>>()?;
                Self::RevokeTickets { hashes, after }
            }
            CONFIGURE => {
                expect(4)?;
                let voters = read_ids(&mut r)?;
                let (learners, removed) = (read_ids(&mut r)?, read_ids(&mut r)?);
                Self::Configure(Configure { voters, learners, removed })
            }
            RECOVER => {
                expect(6)?;
                Self::Recover(Recover {
                    generation: r.uint()?,
                    voter: r.uint()?,
                    node: read_name(&mut r)?,
                    dropped: read_named(&mut r)?,
                    words: read_reason(&mut r)?,
                })
            }
            CHECKPOINT => {
                expect(6)?;
                Self::Checkpoint(Checkpoint::read(&mut r)?)
            }
            _ => return Err(Error { at, what: What::Invalid("an unknown command") }),
        };
        r.end()?;
        Ok(command)
    }

    /// Checks that every fact and event is a term in canonical form: what a node does with
    /// commands that others made, before it proposes them.
    pub fn check_terms(&self) -> Result<(), crate::term::DecodeError> {
        match self {
            Self::Transact(transaction) => {
                if let Origin::Agent { record, .. } = &transaction.origin {
                    for term in record.triggers.iter().chain(&record.sent) {
                        crate::term::Term::decode(term)?;
                    }
                }
                for op in &transaction.ops {
                    match op {
                        Op::Assert { fact: term, .. } | Op::Emit { event: term } => {
                            crate::term::Term::decode(term)?;
                        }
                        Op::Retract { .. } => {}
                    }
                }
                Ok(())
            }
            Self::Letter(letter) => crate::term::Term::decode(&letter.event).map(drop),
            Self::OpenSession { .. }
            | Self::Claim(_)
            | Self::Release { .. }
            | Self::DropLetters { .. }
            | Self::PublishModule { .. }
            | Self::Admit(_)
            | Self::IssueTicket(_)
            | Self::RevokeTickets { .. }
            | Self::Configure(_)
            | Self::Recover(_)
            | Self::Checkpoint(_) => Ok(()),
        }
    }
}

impl Draft {
    /// Appends the draft as three items: version, keys read, operations with their table.
    pub fn write(&self, w: &mut Writer) {
        write_effects(w, self.version, &self.reads, &self.ops);
    }

    /// Reads what [`Draft::write`] wrote, from the start of `bytes`.
    pub fn read(bytes: &Bytes) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let draft = read_effects(&mut r, bytes)?;
        r.end()?;
        Ok(draft)
    }
}

fn write_transaction(w: &mut Writer, transaction: &Transaction) {
    w.array(6).uint(TRANSACT);
    match &transaction.origin {
        Origin::Session { id, seq, acked } => {
            w.array(3).uint(*id).uint(*seq).uint(*acked);
        }
        Origin::Agent { name, epoch, seq, from, to, record, letter } => {
            w.array(7 + usize::from(letter.is_some())).text(name).uint(*epoch).uint(*seq);
            write_position(w, *from);
            write_position(w, *to);
            for terms in [&record.triggers, &record.sent] {
                w.array(terms.len());
                for term in terms {
                    w.raw(term);
                }
            }
            if let Some(letter) = letter {
                write_position(w, *letter);
            }
        }
    }
    write_effects(w, transaction.version, &transaction.reads, &transaction.ops);
}

fn write_effects(w: &mut Writer, version: u64, reads: &[u64], ops: &[Op]) {
    w.uint(version).array(reads.len());
    for &key in reads {
        w.uint(key);
    }
    // In the order of first use, each with its place.
    let (mut table, mut places) = (Vec::new(), BTreeMap::new());
    for op in ops {
        if let Op::Retract { predicate, .. } = op
            && !places.contains_key(predicate)
        {
            places.insert(predicate, table.len() as u64);
            table.push(predicate);
        }
    }
    w.array(table.len());
    for predicate in table {
        write_indicator(w, predicate);
    }
    w.array(ops.len());
    for op in ops {
        match op {
            Op::Assert { end: End::Last, fact } => w.array(2).uint(ASSERTZ).raw(fact),
            Op::Assert { end: End::First, fact } => w.array(2).uint(ASSERTA).raw(fact),
            Op::Retract { predicate, order } => {
                let place = places.get(predicate).copied().unwrap_or_default();
                w.array(3).uint(RETRACT).uint(place).int(*order)
            }
            Op::Emit { event } => w.array(2).uint(EMIT).raw(event),
        };
    }
}

fn read_terms(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Vec<Bytes>, Error> {
    let len = array_up_to(r, MAX_RECORD_TERMS, "terms of a record")?;
    (0..len).map(|_| read_term(r, bytes)).collect()
}

fn read_transaction(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Transaction, Error> {
    let origin = match r.array()? {
        3 => Origin::Session { id: r.uint()?, seq: r.uint()?, acked: r.uint()? },
        len @ (7 | 8) => Origin::Agent {
            name: read_name(r)?,
            epoch: r.uint()?,
            seq: r.uint()?,
            from: read_position(r)?,
            to: read_position(r)?,
            record: Record { triggers: read_terms(r, bytes)?, sent: read_terms(r, bytes)? },
            letter: if len == 8 { Some(read_position(r)?) } else { None },
        },
        _ => return Err(r.invalid("an origin of another length")),
    };
    let Draft { version, reads, ops } = read_effects(r, bytes)?;
    Ok(Transaction { origin, version, reads, ops })
}

fn read_effects(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Draft, Error> {
    let version = r.uint()?;
    let len = r.array()?;
    let mut reads = Vec::with_capacity(len);
    for _ in 0..len {
        let key = r.uint()?;
        if reads.last().is_some_and(|&last| last >= key) {
            return Err(r.invalid("keys read that do not ascend"));
        }
        reads.push(key);
    }
    let len = array_up_to(r, MAX_PREDICATES, "predicates")?;
    let table = (0..len).map(|_| read_indicator(r)).collect::<Result<Vec<_>, _>>()?;
    let mut used = 0;
    let len = r.array()?;
    let mut ops = Vec::with_capacity(len);
    for _ in 0..len {
        let items = r.array()?;
        ops.push(match (r.uint()?, items) {
            (ASSERTZ, 2) => Op::Assert { end: End::Last, fact: read_fact(r, bytes)? },
            (ASSERTA, 2) => Op::Assert { end: End::First, fact: read_fact(r, bytes)? },
            (RETRACT, 3) => {
                let place = usize::try_from(r.uint()?).unwrap_or(usize::MAX);
                let Some(predicate) = table.get(place) else {
                    return Err(r.invalid("a predicate that is not in the table"));
                };
                // The table is in the order of first use, so that equal commands are equal bytes.
                if place > used {
                    return Err(r.invalid("a table of predicates out of order"));
                }
                used = used.max(place + 1);
                Op::Retract { predicate: predicate.clone(), order: r.int()? }
            }
            (EMIT, 2) => Op::Emit { event: read_term(r, bytes)? },
            _ => return Err(r.invalid("an unknown operation")),
        });
    }
    if used != table.len() || table.iter().collect::<BTreeSet<_>>().len() != used {
        return Err(r.invalid("a table of predicates with too many"));
    }
    Ok(Draft { version, reads, ops })
}

fn write_claim(w: &mut Writer, claim: &Claim) {
    w.array(7).uint(CLAIM).text(&claim.agent).text(&claim.node).bytes(&claim.program);
    w.bool(claim.mode == Mode::Each).uint(claim.after);
    write_declared(w, &claim.declared);
}

fn read_claim(r: &mut Reader<'_>) -> Result<Claim, Error> {
    let (agent, node, program) = (read_name(r)?, read_name(r)?, r.fixed()?);
    let mode = if r.bool()? { Mode::Each } else { Mode::One };
    let after = r.uint()?;
    Ok(Claim { agent, node, program, mode, after, declared: read_declared(r)? })
}

pub(crate) fn write_declared(w: &mut Writer, declared: &[Declaration]) {
    w.array(declared.len());
    for declaration in declared {
        w.array(2);
        write_indicator(w, &declaration.predicate);
        write_keys(w, &declaration.keys);
    }
}

pub(crate) fn read_declared(r: &mut Reader<'_>) -> Result<Vec<Declaration>, Error> {
    let len = array_up_to(r, MAX_DECLARATIONS, "declarations")?;
    let mut declared = Vec::with_capacity(len);
    for _ in 0..len {
        r.array_of(2)?;
        declared.push(Declaration { predicate: read_indicator(r)?, keys: read_keys(r)? });
    }
    Ok(declared)
}

fn write_keys(w: &mut Writer, keys: &[u32]) {
    w.array(keys.len());
    for &key in keys {
        w.uint(u64::from(key));
    }
}

fn read_keys(r: &mut Reader<'_>) -> Result<Vec<u32>, Error> {
    (0..array_up_to(r, MAX_KEYS, "keys of a predicate")?).map(|_| r.uint32()).collect()
}

pub(crate) fn write_position(w: &mut Writer, position: Position) {
    w.array(2).uint(position.index).uint(u64::from(position.n));
}

pub(crate) fn read_position(r: &mut Reader<'_>) -> Result<Position, Error> {
    r.array_of(2)?;
    Ok(Position { index: r.uint()?, n: r.uint32()? })
}

pub(crate) fn write_indicator(w: &mut Writer, indicator: &Indicator) {
    w.array(2).text(&indicator.name).uint(u64::from(indicator.arity));
}

pub(crate) fn read_indicator(r: &mut Reader<'_>) -> Result<Indicator, Error> {
    r.array_of(2)?;
    Ok(Indicator::new(r.text()?, r.uint32()?))
}

pub(crate) fn read_name(r: &mut Reader<'_>) -> Result<String, Error> {
    read_bounded(r, MAX_NAME_BYTES, "bytes of a name")
}

pub(crate) fn read_reason(r: &mut Reader<'_>) -> Result<String, Error> {
    read_bounded(r, MAX_REASON_BYTES, "bytes of a reason")
}

pub(crate) fn read_peer(r: &mut Reader<'_>) -> Result<Bytes, Error> {
    let at = r.position();
    let peer = r.bytes()?;
    if peer.len() > MAX_PEER_BYTES {
        let what = What::TooMany { bound: MAX_PEER_BYTES, of: "bytes of a peer's id" };
        return Err(Error { at, what });
    }
    // A copy, so that a member does not keep the whole log record in memory.
    Ok(Bytes::copy_from_slice(peer))
}

fn read_ids(r: &mut Reader<'_>) -> Result<BTreeSet<u64>, Error> {
    let mut ids = BTreeSet::new();
    for _ in 0..array_up_to(r, crate::order::MAX_CHANGES, "members")? {
        let id = r.uint()?;
        if ids.last().is_some_and(|&last| last >= id) {
            return Err(r.invalid("ids that do not ascend"));
        }
        ids.insert(id);
    }
    Ok(ids)
}

/// Members with their nodes' names.
fn read_named(r: &mut Reader<'_>) -> Result<BTreeMap<u64, String>, Error> {
    let mut named = BTreeMap::new();
    for _ in 0..array_up_to(r, MAX_ADMITTED, "members")? {
        r.array_of(2)?;
        let id = r.uint()?;
        if named.last_key_value().is_some_and(|(&last, _)| last >= id) {
            return Err(r.invalid("ids that do not ascend"));
        }
        named.insert(id, read_name(r)?);
    }
    Ok(named)
}

/// The head of an array of no more than `bound` items.
pub(crate) fn array_up_to(
    r: &mut Reader<'_>,
    bound: usize,
    of: &'static str,
) -> Result<usize, Error> {
    let at = r.position();
    let len = r.array()?;
    if len > bound { Err(Error { at, what: What::TooMany { bound, of } }) } else { Ok(len) }
}

fn read_bounded(r: &mut Reader<'_>, bound: usize, of: &'static str) -> Result<String, Error> {
    let at = r.position();
    let text = r.text()?;
    if text.len() > bound {
        return Err(Error { at, what: What::TooMany { bound, of } });
    }
    Ok(text.to_owned())
}

pub(crate) fn read_term(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Bytes, Error> {
    let from = r.position();
    r.item()?;
    Ok(bytes.slice(from..r.position()))
}

fn read_fact(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Bytes, Error> {
    let at = r.position();
    let fact = read_term(r, bytes)?;
    if Indicator::of(&fact).is_none() {
        let what = What::Invalid("a fact that is neither an atom nor a compound");
        return Err(Error { at, what });
    }
    Ok(fact)
}
