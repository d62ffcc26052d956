//! Figures. They are of interest in a release build, on a quiet machine:
//! `cargo test --release -p synod-prolog --test engine -- --ignored`.

use super::agent::BANK;
use super::node::{Node, Options, term};
use std::time::{Duration, Instant};

crate::tests! {
    figures
}

const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(between)).
:- replicated([p/2, account/2]).
nothing(N) :- ( between(1, N, _), fail ; true ).
lookups(N) :- ( between(1, N, I), K is I * 7919 mod 100000, p(K, _), fail ; true ).
all :- ( p(_, _), fail ; true ).
updates(N) :- transaction(( between(1, N, _), retract(account(a, X)), Y is X+1, assertz(account(a, Y)), fail ; true )).
";

fn timed(node: &mut Node, goal: &str) -> Duration {
    let started = Instant::now();
    let (answers, end) =
        if goal.starts_with("updates") { node.transact(goal) } else { node.query(goal) };
    assert_eq!(answers, ["true"], "{end:?}");
    started.elapsed()
}

fn figures() {
    let started = Instant::now();
    let empty = Node::start(BANK, Options::agent());
    println!("start to loaded, program without CLP: {:?}", started.elapsed());
    println!("resident: {} KiB", empty.resident() / 1024);
    drop(empty);
    let mut options = Options::side();
    options.limits.time_ms = 0;
    options.facts = (0..100_000).map(|n| term(&format!("p({n}, name)"))).collect();
    options.facts.push(term("account(a, 0)"));
    let mut node = Node::start(PROGRAM, options);
    let nothing = timed(&mut node, "nothing(100000)");
    let lookups = timed(&mut node, "lookups(100000)");
    println!("keyed lookup of 100,000 facts: {:?}", (lookups - nothing) / 100_000);
    let all = timed(&mut node, "all");
    println!("enumeration: {:?} a fact", all / 100_000);
    let updates = timed(&mut node, "updates(10000)");
    println!("update (retract, assertz): {:?}", updates / 10_000);
    let mut agent = Node::start(BANK, Options::agent());
    agent.events(&["open(alice)"]);
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..200 {
            agent.events(&["deposit(alice, 1)"; 64]);
            agent.proposals.clear();
        }
        let each = started.elapsed() / (200 * 64);
        println!("handler (read, compute, write back): {each:?}, {} KiB", agent.resident() / 1024);
    }
}
