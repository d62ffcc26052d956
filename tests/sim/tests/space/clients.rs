//! Clients of the space: sessions, transactions, reads, and what they are told. One that does not know
//! what came of a command sends the same bytes again, to whomever.

use super::node::{Ended, OrderInput};
use super::world::{Event, LAST, World};
use bytes::Bytes;
use std::collections::BTreeSet;
use synod_core::apply::{Outcome, Refusal, State};
use synod_core::command::{Command, Op, Origin, Transaction};
use synod_core::kb::key::Keyer;
use synod_core::kb::{End, Indicator};
use synod_core::term::Term;
use synod_sim::linear::{Action, Operation};

pub(crate) const REGISTERS: i64 = 3;
pub(crate) const ACCOUNTS: i64 = 5;
const ELEMENTS: u64 = 8;
/// How often a client sends one command, at most.
const MAX_TRIES: u32 = 12;
/// How long a read is waited for, in microseconds: as the node does it.
const READ_PATIENCE: u64 = 5_000_000;

/// One client, who does one thing at a time.
#[derive(Default)]
pub(crate) struct Client {
    session: Option<u64>,
    seq: u64,
    acked: u64,
    /// What it has made up so far: values of registers, items of the list.
    made: i64,
    doing: Option<Doing>,
    /// Whether it has written something when all had long been well.
    pub(crate) is_done: bool,
}

struct Doing {
    what: What,
    bytes: Bytes,
    invoked: u64,
    tries: u32,
    /// Requests that have not ended.
    open: BTreeSet<u64>,
    /// Whether each that ended is certain not to have come into the log.
    is_certain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Open,
    Read(i64),
    Swap {
        register: i64,
        old: i64,
        new: i64,
    },
    Append(i64),
    /// A transfer, or a change of the set, or the beginning of all.
    Other,
}

/// Who waits for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Client(usize),
    /// A node that joins, by its number.
    Join(u64),
    Nobody,
    /// Somebody who lives in an older generation, and has not heard of it.
    Older,
}

/// All facts of a state, by name and arguments.
pub(crate) fn decode(state: &State) -> Vec<(Box<str>, Vec<i64>)> {
    let predicates = state.kb().predicates().map(|(_, predicate)| predicate);
    let facts = predicates.flat_map(|predicate| predicate.facts_after(None));
    facts.filter_map(|(_, fact)| arguments(&fact.bytes)).collect()
}

fn arguments(fact: &Bytes) -> Option<(Box<str>, Vec<i64>)> {
    let Ok(Term::Compound(name, args)) = Term::decode(fact) else { return None };
    let integer = |term: &Term| if let Term::Integer(n) = term { Some(*n) } else { None };
    Some((name, args.iter().map(integer).collect::<Option<_>>()?))
}

fn fact(name: &str, args: &[i64]) -> Bytes {
    let args = args.iter().map(|&n| Term::Integer(n)).collect();
    Term::compound(name, args).expect("it has arguments").encode().expect("it is short").into()
}

fn assert(name: &str, args: &[i64]) -> Op {
    Op::Assert { end: End::Last, fact: fact(name, args) }
}

/// What a goal has read and would write.
#[derive(Default)]
struct Draft {
    reads: BTreeSet<u64>,
    ops: Vec<Op>,
}

impl Draft {
    /// The facts that begin with this argument: their clause orders and arguments.
    fn ask(&mut self, state: &State, name: &str, arity: u32, first: i64) -> Vec<(i64, Vec<i64>)> {
        let indicator = Indicator::new(name, arity);
        let argument = Term::Integer(first).encode().expect("it is short");
        self.reads.extend(Keyer::new(&indicator, 1).read(&argument).iter().map(|key| key.0));
        let facts = state.kb().predicate(&indicator).into_iter().flat_map(|p| p.facts_after(None));
        let all = facts.filter_map(|(order, fact)| Some((order, arguments(&fact.bytes)?.1)));
        all.filter(|(_, args)| args.first() == Some(&first)).collect()
    }

    fn retract(&mut self, name: &str, arity: u32, order: i64) {
        self.ops.push(Op::Retract { predicate: Indicator::new(name, arity), order });
    }
}

impl World {
    /// A client goes on.
    pub(crate) fn client(&mut self, c: usize) {
        let pause = 1 + self.rng.below(if self.is_calm() { 200_000 } else { 60_000 });
        self.plan(pause, Event::Client(c));
        match &self.clients[c].doing {
            // What is wrong is found out where something is written.
            None if self.errs && self.is_calm() && self.now < LAST => self.begin(c),
            None if self.is_calm() && (self.now < LAST || self.clients[c].is_done) => {}
            None => self.begin(c),
            // Now and then it does not wait for an answer.
            Some(doing) if doing.open.is_empty() || self.rng.one_in(60) => self.send_again(c),
            Some(_) => {}
        }
    }

    /// The space has gone on from an earlier state, and what all clients had begun is over. Their sessions may
    /// not be there.
    pub(crate) fn begin_anew(&mut self) {
        for c in 0..self.clients.len() {
            self.abandon(c);
            let Client { made, is_done, .. } = self.clients[c];
            self.clients[c] = Client { made, is_done, ..Client::default() };
        }
    }

    fn begin(&mut self, c: usize) {
        let Some(m) = self.some_running() else { return };
        let client = &mut self.clients[c];
        if client.session.is_none() {
            let mut nonce = [0; 16];
            nonce[0] = c as u8;
            // Another than that of an opening that was said to be nowhere.
            nonce[8..].copy_from_slice(&self.now.as_micros().to_le_bytes());
            let bytes = Command::OpenSession { label: format!("client {c}"), nonce }.encode();
            return self.start(c, m, What::Open, bytes);
        }
        client.seq += 1;
        if self.rng.one_in(4) {
            self.clients[c].seq -= 1;
            let register = self.rng.below(REGISTERS as u64) as i64;
            return self.start(c, m, What::Read(register), Bytes::new());
        }
        self.transact(c, m);
    }

    /// Runs a goal on a node's state and proposes what comes of it under the client's number.
    fn transact(&mut self, c: usize, m: u64) {
        let Some(run) = &self.machines[&m].run else { return };
        let (state, client) = (&run.apply.state, &mut self.clients[c]);
        let mut draft = Draft::default();
        client.made += 1;
        let made = client.made;
        let mut what = What::Other;
        if c == 0 && client.seq == 1 && draft.ask(state, "account", 2, 0).is_empty() {
            let each = super::check::IN_THE_BANK / ACCOUNTS;
            draft.ops.extend((0..ACCOUNTS).map(|n| assert("account", &[n, each])));
            draft.ops.extend((0..REGISTERS).map(|n| assert("register", &[n, 0])));
        } else {
            match self.rng.below(10) {
                0..4 => {
                    let register = self.rng.below(REGISTERS as u64) as i64;
                    let known = draft.ask(state, "register", 2, register);
                    if let [(order, args)] = &known[..] {
                        let new = c as i64 * 1_000_000 + made;
                        draft.retract("register", 2, *order);
                        draft.ops.push(assert("register", &[register, new]));
                        what = What::Swap { register, old: args[1], new };
                    }
                }
                4..6 => {
                    let from = self.rng.below(ACCOUNTS as u64) as i64;
                    let to = (from + 1 + self.rng.below(ACCOUNTS as u64 - 1) as i64) % ACCOUNTS;
                    let amount = self.rng.below(60) as i64;
                    let known: Vec<_> = [from, to]
                        .into_iter()
                        .flat_map(|account| draft.ask(state, "account", 2, account))
                        .collect();
                    if let [(one, left), (other, right)] = &known[..]
                        && left[1] >= amount
                    {
                        draft.retract("account", 2, *one);
                        draft.retract("account", 2, *other);
                        draft.ops.push(assert("account", &[from, left[1] - amount]));
                        draft.ops.push(assert("account", &[to, right[1] + amount]));
                    }
                }
                6..8 => {
                    let element = self.rng.below(ELEMENTS) as i64;
                    match &draft.ask(state, "element", 1, element)[..] {
                        [] => draft.ops.push(assert("element", &[element])),
                        [(order, _), ..] => draft.retract("element", 1, *order),
                    }
                }
                _ => {}
            }
            if draft.ops.is_empty() {
                draft.ops.push(assert("item", &[c as i64, made]));
                what = What::Append(made);
            }
        }
        // So that no two commands are the same bytes by chance.
        draft.ops.push(Op::Emit { event: fact("made", &[c as i64, made]) });
        let (id, seq, acked) = (client.session.unwrap_or(0), client.seq, client.acked);
        let origin = Origin::Session { id, seq, acked };
        let reads = draft.reads.into_iter().collect();
        let version = state.index();
        let transaction = Transaction { origin, version, reads, ops: draft.ops };
        let bytes = Command::Transact(transaction).encode();
        self.start(c, m, what, bytes);
    }

    fn start(&mut self, c: usize, m: u64, what: What, bytes: Bytes) {
        let invoked = self.now.as_micros();
        let (open, tries, is_certain) = (BTreeSet::new(), 0, true);
        self.clients[c].doing = Some(Doing { what, bytes, invoked, tries, open, is_certain });
        self.send(c, m);
    }

    fn send(&mut self, c: usize, m: u64) {
        let Some(doing) = &mut self.clients[c].doing else { return };
        doing.tries += 1;
        let (what, bytes) = (doing.what.clone(), doing.bytes.clone());
        let request = self.request(m, Asked::Client(c));
        if let Some(doing) = &mut self.clients[c].doing {
            doing.open.insert(request);
        }
        self.note(|| format!("client {c} asks node {m} for {what:?} as {request}"));
        match what {
            What::Read(_) => self.step(m, |run| run.read(request)),
            _ => self.propose(m, bytes, request),
        }
    }

    /// Proposes at a node, which refuses at once what it has no room for.
    pub(crate) fn propose(&mut self, m: u64, bytes: Bytes, request: u64) {
        let is_full = self.machines[&m].run.as_ref().is_some_and(|run| run.is_full);
        if self.machines[&m].run.as_ref().is_some_and(|run| run.serves_not()) {
            return self.ended(request, Ended::NotProposed("rebuilding"));
        }
        if is_full {
            return self.ended(request, Ended::NotProposed("disk full"));
        }
        self.step(m, |run| run.inputs.push_back(OrderInput::Propose(bytes, request)));
    }

    fn send_again(&mut self, c: usize) {
        let Some(doing) = &self.clients[c].doing else { return };
        if matches!(doing.what, What::Read(_)) {
            // A node that has been removed may know of an index that it never comes to.
            if self.now.as_micros() - doing.invoked > READ_PATIENCE {
                self.clients[c].doing = None;
                self.checker.count("reads given up", 1);
            }
            return;
        }
        let has_tried_enough = doing.tries >= MAX_TRIES && doing.what != What::Open;
        if has_tried_enough && !self.is_calm() && doing.open.is_empty() {
            return self.abandon(c);
        }
        if let Some(m) = self.some_running() {
            self.checker.count("sent again", 1);
            self.send(c, m);
        }
    }

    /// It may have happened, or may yet.
    fn abandon(&mut self, c: usize) {
        let Some(doing) = self.clients[c].doing.take() else { return };
        self.checker.count("abandoned", 1);
        if let What::Swap { register, old, new } = doing.what {
            let action = Action::Swap(old, new);
            let operation = Operation { invoked: doing.invoked, returned: None, action };
            self.checker.histories.entry(register).or_default().push(operation);
        }
    }

    /// A client's request has ended.
    pub(crate) fn client_told(&mut self, c: usize, m: u64, request: u64, ended: &Ended) {
        if let (Ended::Applied(outcome), Some(run)) = (ended, &self.machines[&m].run) {
            self.checker.branch(run.generation).told(outcome);
        }
        let now = self.now.as_micros();
        let client = &mut self.clients[c];
        let Some(doing) = client.doing.as_mut() else { return };
        if !doing.open.remove(&request) {
            return;
        }
        match ended {
            Ended::Unknown => {
                doing.is_certain = false;
                self.checker.count("unknowns", 1);
                if let What::Read(_) = doing.what {
                    client.doing = None;
                }
            }
            Ended::NotProposed(why) => {
                let is_over = doing.is_certain && doing.open.is_empty();
                let doing = client.doing.take_if(|doing| is_over || doing.bytes.is_empty());
                self.checker.count(why, 1);
                if let Some(doing) = doing.filter(|doing| !doing.bytes.is_empty()) {
                    self.never(c, &doing);
                }
            }
            Ended::Readable(_) => {
                let (What::Read(register), invoked) = (&doing.what, doing.invoked) else { return };
                let register = *register;
                client.doing = None;
                let Some(run) = &self.machines[&m].run else { return };
                let mut draft = Draft::default();
                let known = draft.ask(&run.apply.state, "register", 2, register);
                // Before the first transaction there are none.
                let seen = known.first().map_or(0, |(_, args)| args[1]);
                let action = Action::Read(seen);
                let operation = Operation { invoked, returned: Some(now), action };
                self.checker.histories.entry(register).or_default().push(operation);
                self.checker.count("reads", 1);
            }
            Ended::Applied(outcome) => self.applied(c, m, outcome),
        }
    }

    fn applied(&mut self, c: usize, m: u64, outcome: &Outcome) {
        let now = self.now.as_micros();
        let client = &mut self.clients[c];
        let Some(doing) = client.doing.take() else { return };
        match (outcome, &doing.what) {
            (Outcome::Committed(id), What::Open) => client.session = Some(*id),
            (Outcome::Committed(_), what) => {
                client.acked = client.seq;
                client.is_done = now >= LAST.as_micros();
                self.checker.count("committed", 1);
                if let What::Swap { register, old, new } = *what {
                    let (invoked, returned) = (doing.invoked, Some(now));
                    let operation = Operation { invoked, returned, action: Action::Swap(old, new) };
                    self.checker.histories.entry(register).or_default().push(operation);
                } else if let What::Append(made) = what {
                    self.checker.appended.insert((c as i64, *made));
                }
            }
            (Outcome::Refused(_, Refusal::Conflict(_) | Refusal::TooOld), _) => {
                self.never_appended(c, &doing);
                if let What::Swap { register, old, new } = doing.what {
                    let (invoked, action) = (doing.invoked, Action::Swap(old, new));
                    let operation = Operation { invoked, returned: None, action };
                    self.checker.refused.push((register, operation));
                }
                // The goal is run again under the same number.
                self.transact(c, m);
            }
            (Outcome::Refused(_, why), what) => {
                assert_eq!(*why, Refusal::Malformed, "client {c} is told this of {what:?}");
            }
        }
    }

    fn never(&mut self, c: usize, doing: &Doing) {
        self.checker.told_never(&doing.bytes);
        self.never_appended(c, doing);
        if doing.what != What::Open {
            // The number was used by nobody.
            self.clients[c].seq -= 1;
        }
    }

    fn never_appended(&mut self, c: usize, doing: &Doing) {
        if let What::Append(made) = doing.what {
            self.checker.not_appended.insert((c as i64, made));
        }
    }
}
