//! kill -9 of the node under load: what it acknowledged is there, each event was handled once, and
//! what became of the rest can be asked for.

use crate::random::Random;
use crate::stream::{Stream, Told};
use crate::world::{Node, World, ask, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use synod_core::term::Term;

/// How often the node is killed.
const KILLS: usize = 100;
/// Events that a client sends between two of them, at most.
const EVENTS: u64 = 250;
/// Proposals of the stream under way at once, at most.
const IN_FLIGHT: u64 = 64;

const SEEN: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(seen/2).
:- replicated(done/1).
on(event(_, _, e(K))) :-
    ( retract(seen(K, N0)) -> true ; N0 = 0 ),
    N is N0+1,
    assertz(seen(K, N)).
mark(K) :- assertz(done(K)).
"#;

/// A client that sends events under numbers of its session, and remembers how each ended.
struct Client {
    session: u64,
    /// Its numbers are its events' keys, beside this.
    name: u64,
    sent: u64,
    /// The index of each that was acknowledged.
    acknowledged: BTreeMap<u64, u64>,
}

impl Client {
    fn new(node: &Node, name: u64) -> Self {
        let opened = node.post("/v1/session", &json!({"label": "test"}));
        let session = opened["session"].as_u64().unwrap();
        Self { session, name, sent: 0, acknowledged: BTreeMap::new() }
    }

    fn key(&self, seq: u64) -> u64 {
        seq * 10 + self.name
    }

    /// Sends events one after the other until the node is gone.
    fn send_until_gone(&mut self, world: &World, count: &AtomicUsize) {
        for _ in 0..EVENTS {
            self.sent += 1;
            match self.send(world, self.sent) {
                Ok(index) => drop(self.acknowledged.insert(self.sent, index)),
                Err(_) => return,
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, world: &World, seq: u64) -> std::io::Result<u64> {
        let once = json!({"session": self.session, "seq": seq, "acked": seq.saturating_sub(1500)});
        let body = json!({"term": format!("e({})", self.key(seq)), "once": once});
        let (status, answer) = ask(&world.data, "POST", "/v1/broadcast", &body)?;
        match (status, answer["index"].as_u64()) {
            (200, Some(index)) => Ok(index),
            _ => Err(std::io::Error::other(answer.to_string())),
        }
    }

    /// Sends events with many under way at once, until the node is gone.
    fn stream_until_gone(&mut self, world: &World, count: &AtomicUsize) {
        let Ok(stream) = Stream::open(&world.data, self.session) else { return };
        let Stream { mut sender, mut answers } = stream;
        let first = self.sent + 1;
        let (mut under_way, mut next) = (0, first);
        'node: loop {
            while under_way < IN_FLIGHT && next < first + EVENTS {
                let event = Term::structure("e", [Term::Integer(self.key(next) as i64)]);
                self.sent = next;
                if sender.event(next, next.saturating_sub(1500), &event).is_err() {
                    break 'node;
                }
                (under_way, next) = (under_way + 1, next + 1);
            }
            if under_way == 0 {
                return;
            }
            match answers.next() {
                Ok((seq, Told::Committed(index))) => drop(self.acknowledged.insert(seq, index)),
                Ok((seq, Told::No(why))) => panic!("{seq}: {why}"),
                Err(_) => break,
            }
            under_way -= 1;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends again what is unknown, under its number: each has one outcome, however often it is sent.
    fn settle(&mut self, world: &World, node: &Node) {
        let unknown: Vec<u64> = (self.sent.saturating_sub(2 * IN_FLIGHT).max(1)..=self.sent)
            .filter(|seq| !self.acknowledged.contains_key(seq))
            .collect();
        for seq in unknown {
            let path = format!("/v1/outcome/{}-{seq}", self.session);
            let (_, before) = node.ask("GET", &path, &Value::Null).unwrap();
            let index = self.send(world, seq).unwrap();
            if before["outcome"] == "committed" {
                assert_eq!(before["index"], index, "it had been committed");
            } else {
                assert_eq!(before["code"], "not_found", "{before}");
            }
            assert_eq!(node.get(&path), json!({"outcome": "committed", "index": index}));
            self.acknowledged.insert(seq, index);
        }
        if let Some((&seq, &index)) = self.acknowledged.last_key_value() {
            assert_eq!(self.send(world, seq).unwrap(), index, "it had been acknowledged");
        }
    }
}

#[test]
fn a_node_killed_a_hundred_times_keeps_what_it_acknowledged() {
    let world = World::new();
    let program = world.program("seen.pl", SEEN);
    let mut random = Random::new(7);
    let mut node = world.up(&[]);
    let options = json!({"max_time_ms": 60_000});
    let run = json!({"program": program, "name": "seen", "keep": true, "options": options});
    node.post("/v1/run", &run);
    let mut one = Client::new(&node, 1);
    let mut many = Client::new(&node, 2);
    for round in 0..KILLS {
        let count = AtomicUsize::new(0);
        // Every fifth time the agent is at work too, and not just the log.
        let wants_agent = round % 5 == 0;
        let enough = 1 + random.below(EVENTS) as usize;
        node = thread::scope(|scope| {
            scope.spawn(|| one.send_until_gone(&world, &count));
            scope.spawn(|| many.stream_until_gone(&world, &count));
            wait_for("writes", || count.load(Ordering::Relaxed) >= enough);
            if wants_agent {
                let running = node.wait_agent("seen", |agent| agent["state"] == "running");
                node.wait_agent("seen", |agent| {
                    agent["cursor"] != running["cursor"] || agent["lag"].as_u64() < Some(10)
                });
            }
            node.kill();
            world.up(&[])
        });
        one.settle(&world, &node);
        many.settle(&world, &node);
    }
    let events = one.acknowledged.len() + many.acknowledged.len();
    assert_eq!(events as u64, one.sent + many.sent);
    node.wait_agent("seen", |agent| agent["state"] == "running");
    node.broadcast("e(0)");
    node.wait_query("seen", "seen(0, _)");
    let answers = node.query("seen", "findall(K, seen(K, 1), Ks), length(Ks, N)");
    assert!(answers[0].ends_with(&format!("N = {}", events + 1)), "{events} events");
    assert!(node.query("seen", "seen(K, N), N > 1").is_empty(), "handled twice");
    for client in [&one, &many] {
        let indexes: Vec<u64> = client.acknowledged.values().copied().collect();
        let mut distinct = indexes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), indexes.len());
    }
    assert_eq!(node.agent("seen")["letters"], 0);
    node.down();
}

#[test]
fn a_transaction_sent_again_after_a_crash_happens_once() {
    let world = World::new();
    let node = world.up(&[]);
    let program = world.program("seen.pl", SEEN);
    node.post("/v1/run", &json!({"program": program, "name": "seen", "keep": true}));
    let opened = node.post("/v1/session", &json!({"label": "test"}));
    let session = opened["session"].clone();
    let goal = |key: &str| {
        let once = json!({"session": session, "seq": 1});
        json!({"goal": format!("mark({key})"), "agent": "seen", "once": once})
    };
    let first = node.post("/v1/transact", &goal("a"));
    node.kill();
    let node = world.up(&[]);
    node.wait_agent("seen", |agent| agent["state"] == "running");
    let again = node.post("/v1/transact", &goal("a"));
    assert_eq!(first["index"], again["index"]);
    assert_eq!(node.query("seen", "done(X)"), ["X = a"]);
    let ran = world.run(["outcome", &format!("{session}-1")]);
    assert!(ran.stdout.contains(&first["index"].to_string()), "{ran:?}");
    let ran = world.run(["outcome", &format!("{session}-2")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    node.down();
}
