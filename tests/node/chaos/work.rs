//! What the clients do meanwhile, what they are told, and whether it is true.

use super::Field;
use super::linear::{self, Call, Op};
use crate::random::Random;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that speak to each node.
pub(super) const CLIENTS_PER_NODE: usize = 2;
/// How long a client that could not do a thing waits before it does another.
const REST: Duration = Duration::from_millis(20);
/// Money in all accounts.
const TOTAL: u64 = 400;

pub(super) const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(register/1).
:- replicated(account/2).
:- replicated(item/1).
:- replicated(seen/2).
on(event(_, _, e(K))) :-
    ( retract(seen(K, N0)) -> true ; N0 = 0 ),
    N is N0+1,
    assertz(seen(K, N)).
begin :-
    transaction((
        assertz(register(0)),
        assertz(account(1, 100)), assertz(account(2, 100)),
        assertz(account(3, 100)), assertz(account(4, 100))
    )).
swap(New, Old) :- transaction((retract(register(Old)), assertz(register(New)))).
value(X) :- transaction(register(X)).
add(K) :- transaction(assertz(item(K))).
transfer(From, To, Amount) :-
    transaction((
        retract(account(From, B0)), B is B0-Amount, B >= 0, assertz(account(From, B)),
        retract(account(To, C0)), C is C0+Amount, assertz(account(To, C))
    )).
last :- transaction(assertz(item(last))).
items(Ks) :- findall(K, item(K), Ks).
events(Ks) :- findall(K-N, seen(K, N), Ks).
total(Sum) :- findall(B, account(_, B), Bs), sum_list(Bs, Sum).
";

/// The fact that `last` asserts.
pub(super) const LAST: &str = "item(last)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Refused,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Swap,
    Read,
    Add,
    Event,
    Transfer,
}

struct Entry {
    client: usize,
    kind: Kind,
    key: u64,
    /// What the register held, if it was told.
    saw: Option<u64>,
    called: u64,
    answered: u64,
    end: End,
    told: String,
}

/// All that the clients did.
pub(super) struct History {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    notes: Mutex<Vec<(u64, String)>>,
}

impl Default for History {
    fn default() -> Self {
        Self { began: Instant::now(), entries: Mutex::default(), notes: Mutex::default() }
    }
}

impl History {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    pub(super) fn note(&self, what: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push((self.now(), what));
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of each kind ended how.
    pub(super) fn summary(&self) -> String {
        let mut counts = BTreeMap::<String, u64>::new();
        for entry in &*self.entries() {
            *counts.entry(format!("{:?} {:?}", entry.kind, entry.end)).or_default() += 1;
        }
        format!("{counts:?}")
    }

    /// For people to read.
    pub(super) fn text(&self) -> String {
        let mut lines: Vec<(u64, String)> =
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for e in &*self.entries() {
            let Entry { client, kind, key, saw, called, answered, end, told } = e;
            let line = format!("{answered} c{client} {kind:?} {key} saw {saw:?}: {end:?} {told}");
            lines.push((*called, line));
        }
        lines.sort();
        lines.iter().fold(String::new(), |mut text, (at, line)| {
            let _ = writeln!(text, "{at} {line}");
            text
        })
    }

    /// Holds what a node has against what was told; says what is wrong.
    pub(super) fn check(&self, node: usize, query: impl Fn(&str) -> String) -> Vec<String> {
        let mut wrong = Vec::new();
        let total = query("total(X)");
        if total != format!("X = {TOTAL}") {
            wrong.push(format!("n{node}: the accounts have {total} and not {TOTAL}"));
        }
        let items = numbers(&query("items(Ks)"));
        self.once(node, Kind::Add, &items, &mut wrong);
        let events = numbers(&query("events(Ks)"));
        let handled: Vec<u64> = events
            .chunks_exact(2)
            .flat_map(|pair| std::iter::repeat_n(pair[0], pair[1] as usize))
            .filter(|key| *key != 0)
            .collect();
        self.once(node, Kind::Event, &handled, &mut wrong);
        wrong
    }

    fn once(&self, node: usize, kind: Kind, there: &[u64], wrong: &mut Vec<String>) {
        let set: BTreeSet<u64> = there.iter().copied().collect();
        if set.len() != there.len() {
            wrong.push(format!("n{node}: of {kind:?} something is there twice"));
        }
        let mut known = BTreeSet::new();
        for entry in self.entries().iter().filter(|entry| entry.kind == kind) {
            known.insert(entry.key);
            let is_wrong = match entry.end {
                End::Done => !set.contains(&entry.key),
                End::Refused => set.contains(&entry.key),
                End::Unknown => false,
            };
            if is_wrong {
                let (key, end, told) = (entry.key, entry.end, &entry.told);
                wrong.push(format!("n{node}: {kind:?} {key} was {end:?} ({told}), and is not so"));
            }
        }
        let strange = set.difference(&known).count();
        if strange > 0 {
            wrong.push(format!("n{node}: {strange} of {kind:?} come from nowhere"));
        }
    }

    pub(super) fn check_register(&self) -> Vec<String> {
        let call = |entry: &Entry| {
            let op = match (entry.kind, entry.end, entry.saw) {
                (Kind::Swap, End::Done, Some(old)) => Op::Change(old, entry.key),
                (Kind::Swap, End::Unknown, _) => Op::Write(entry.key),
                (Kind::Read, End::Done, Some(seen)) => Op::Read(seen),
                _ => return None,
            };
            let answered = (entry.end == End::Done).then_some(entry.answered);
            Some(Call { op, called: entry.called, answered })
        };
        let calls: Vec<Call> = self.entries().iter().filter_map(call).collect();
        match linear::is_linearizable(0, &calls) {
            true => Vec::new(),
            false => vec![format!("{} calls of the register fit no order", calls.len())],
        }
    }
}

/// The numbers in a text, in order.
fn numbers(text: &str) -> Vec<u64> {
    let digits = |c: char| !c.is_ascii_digit();
    text.split(digits).filter_map(|word| word.parse().ok()).collect()
}

/// One that does one thing after the other, at one node.
pub(super) struct Client<'a> {
    field: &'a Field,
    name: usize,
    random: Random,
    session: Option<u64>,
    seq: u64,
    keys: u64,
}

impl<'a> Client<'a> {
    pub(super) fn new(field: &'a Field, name: usize, seed: u64) -> Self {
        let random = Random::new(seed ^ ((name as u64 + 1) << 32));
        Self { field, name, random, session: None, seq: 0, keys: 0 }
    }

    fn node(&self) -> usize {
        self.name / CLIENTS_PER_NODE
    }

    pub(super) fn work(mut self, history: &History, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let Some(session) = self.session() else {
                std::thread::sleep(REST);
                continue;
            };
            self.seq += 1;
            self.keys += 1;
            let key = self.keys * 100 + self.name as u64 + 1;
            let once = json!({"session": session, "seq": self.seq, "acked": self.seq - 1});
            let (kind, goal) = match self.random.below(6) {
                0 => (Kind::Swap, format!("swap({key}, X)")),
                1 => (Kind::Read, "value(X)".to_owned()),
                2 | 3 => (Kind::Add, format!("add({key})")),
                4 => (Kind::Event, format!("e({key})")),
                _ => {
                    let (from, by) = (self.random.below(4), 1 + self.random.below(3));
                    let (to, amount) = ((from + by) % 4 + 1, 1 + self.random.below(30));
                    (Kind::Transfer, format!("transfer({}, {to}, {amount})", from + 1))
                }
            };
            let (path, body) = match kind {
                Kind::Event => ("/v1/broadcast", json!({"term": goal, "once": once})),
                _ => ("/v1/transact", json!({"goal": goal, "agent": "work", "once": once})),
            };
            let called = history.now();
            let answer = self.field.ask(self.node(), path, &body);
            let answered = history.now();
            let (end, saw, told) = told(kind, answer);
            let entry = Entry { client: self.name, kind, key, saw, called, answered, end, told };
            history.entries().push(entry);
            if end != End::Done {
                // Another session: what the old one's numbers stand for is left as it is.
                self.session = None;
                std::thread::sleep(REST);
            }
        }
    }

    fn session(&mut self) -> Option<u64> {
        if self.session.is_none() {
            let body = json!({"label": format!("c{}", self.name)});
            let (status, answer) = self.field.ask(self.node(), "/v1/session", &body).ok()?;
            (self.session, self.seq) = (answer["session"].as_u64().filter(|_| status == 200), 0);
        }
        self.session
    }
}

/// How a request ended, what it saw, and in what words.
fn told(kind: Kind, answer: std::io::Result<(u16, Value)>) -> (End, Option<u64>, String) {
    let (status, answer) = match answer {
        Ok(answer) => answer,
        Err(e) => return (End::Unknown, None, e.to_string()),
    };
    if status != 200 {
        let code = answer["code"].as_str().unwrap_or_default();
        let is_unknown = matches!(code, "unknown" | "stopping");
        let end = if is_unknown { End::Unknown } else { End::Refused };
        return (end, None, format!("{code}: {}", answer["message"]));
    }
    if answer["outcome"] == "unknown" {
        return (End::Unknown, None, "unknown".to_owned());
    }
    if kind == Kind::Event {
        return (End::Done, None, String::new());
    }
    match answer["answers"][0]["text"].as_str() {
        // `false`, as when there is too little on an account, did nothing.
        None => (End::Refused, None, "false".to_owned()),
        Some(text) => (End::Done, numbers(text).first().copied(), String::new()),
    }
}
