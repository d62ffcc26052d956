//! Engines die of what programs do and of what is done to them. That engine alone is replaced; the
//! node and other agents do not notice; no event is lost or handled twice.

use crate::random::Random;
use crate::world::{Node, Over, World, children, kill, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Engine deaths of the fault injection, in all; or what this variable says.
const DEATHS: usize = 60;
const DEATHS_VARIABLE: &str = "NODE_TEST_DEATHS";

const COUNTER: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(ticks/1).
on(event(_, _, tick)) :- ( retract(ticks(N0)) -> true ; N0 = 0 ), N is N0+1, assertz(ticks(N)).
"#;

const VICTIM: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- dynamic(native/1).
:- replicated(said/1).
on(event(_, _, loop)) :- loop.
on(event(_, _, memory)) :- fill([]).
on(event(_, _, panic)) :- X = f(X), assertz(native(X)).
on(event(_, _, stop)) :- halt(1).
on(event(_, _, fork)) :- process:process_create("true", [], []).
on(event(_, _, say(X))) :- assertz(said(X)).
:- use_module(library(process)).
loop :- loop.
fill(L) :- length(L1, 100000), fill([L1|L]).
"#;

fn ticks(node: &Node) -> u64 {
    let answers = node.query("counter", "ticks(N)");
    let number = answers.first().and_then(|text| text.strip_prefix("N = ")?.parse().ok());
    number.unwrap_or(0)
}

#[test]
fn an_event_that_kills_three_engines_is_a_letter_and_nobody_else_notices() {
    let world = World::new();
    let node = world.up_with("counter", COUNTER);
    let options = json!({"max_time_ms": 6000, "max_memory": 96 << 20});
    node.run_agent(&world.program("victim.pl", VICTIM), "victim", options);
    let is_done = AtomicBool::new(false);
    let (mut reasons, mut positions) = (Vec::new(), Vec::new());
    let sent = thread::scope(|scope| {
        let steady = scope.spawn(|| {
            let mut sent = 0;
            // Each is handled before the next one is sent: a counter that stalls is found out.
            while !is_done.load(Ordering::Relaxed) {
                node.broadcast("tick");
                sent += 1;
                wait_for("a tick", || ticks(&node) == sent);
            }
            sent
        });
        let over = Over(&is_done);
        for (n, (poison, reason)) in [
            ("stop", "called halt(1)"),
            ("panic", "panicked"),
            ("memory", "took more memory than allowed"),
            ("loop", "took more time than allowed"),
        ]
        .into_iter()
        .enumerate()
        {
            node.broadcast(&format!("say(\"before {poison}\")"));
            positions.push(format!("{}.0", node.broadcast(poison)));
            node.broadcast(&format!("say(\"behind {poison}\")"));
            node.wait_agent("victim", |agent| agent["letters"] == n + 1);
            node.wait_query("victim", &format!("said(\"behind {poison}\")"));
            reasons.push(format!("three engines died on it; the last one {reason}"));
        }
        drop(over);
        steady.join().unwrap()
    });
    let letters = node.letters("victim");
    let told: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(told, reasons);
    let events: Vec<_> = letters.iter().map(|letter| letter["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["stop", "panic", "memory", "loop"]);
    let at: Vec<_> = letters.iter().map(|letter| letter["position"].as_str().unwrap()).collect();
    assert_eq!(at, positions);
    assert_eq!(node.query("victim", "said(X)").len(), 8, "what stood beside them was handled");
    let printed = world.yes(["agent", "letters", "victim"]);
    assert!(printed.lines().nth(3).unwrap().contains("  loop  three engines died"), "{printed}");
    let counter = node.agent("counter");
    assert_eq!((&counter["deaths"], &counter["state"]), (&json!(0), &json!("running")));
    assert_eq!(ticks(&node), sent);
    assert!(sent > 20, "the counter went on meanwhile: {sent}");
    node.down();
}

#[test]
fn a_program_may_start_no_other() {
    let world = World::new();
    let node = world.up_with("victim", VICTIM);
    node.broadcast("fork");
    node.broadcast("say(\"on\")");
    node.wait_query("victim", "said(\"on\")");
    assert!(children(node.pid()).iter().all(|pid| children(*pid).is_empty()));
    let log = node.log("victim").join("\n");
    assert!(log.contains("did not succeed") || log.contains("signal"), "{log}");
    node.down();
}

#[test]
fn handlers_of_start_and_engine_that_kill_are_passed_over() {
    let world = World::new();
    let node = world.up_with(
        "a",
        r#"
:- use_module(library(synod)).
:- replicated(said/1).
on(engine) :- halt(1).
on(start) :- halt(2).
on(event(_, _, say(X))) :- assertz(said(X)).
"#,
    );
    node.broadcast("say(1)");
    node.wait_query("a", "said(1)");
    let log = node.log("a").join("\n");
    assert!(log.contains("on(engine) killed three engines and is passed over"), "{log}");
    assert_eq!(node.letters("a")[0]["event"], "start");
    node.down();
}

#[test]
fn halt_stops_the_agent_and_leaves_nothing() {
    let world = World::new();
    let program = r#"
:- use_module(library(synod)).
:- replicated(said/1).
on(event(_, _, stop)) :- assertz(said(never)), halt.
on(event(_, _, say(X))) :- assertz(said(X)).
"#;
    let node = world.up_with("a", program);
    node.broadcast("say(1)");
    node.broadcast("stop");
    let agent = node.wait_agent("a", |agent| agent["state"] == "stopped");
    assert_eq!(agent["why"], "the program called halt");
    node.broadcast("say(2)");
    // The event that stopped it has not been handled: it stops it again.
    node.post("/v1/agents/a/restart", &Value::Null);
    node.wait_agent("a", |agent| agent["state"] == "stopped");
    std::fs::write(world.path().join("a.pl"), program.replace(", halt", "")).unwrap();
    node.post("/v1/agents/a/restart", &Value::Null);
    node.wait_query("a", "said(2)");
    assert_eq!(node.query("a", "said(X)"), ["X = 1", "X = never", "X = 2"]);
    node.down();
}

#[test]
fn a_restart_while_engines_die_takes_the_program_as_it_is_now() {
    let world = World::new();
    let broken = ":- use_module(library(synod)).\non(start) :- halt(1).\n";
    let node = world.up_with("a", broken);
    node.wait_agent("a", |agent| agent["deaths"].as_u64().unwrap() > 0);
    let mended =
        ":- use_module(library(synod)).\n:- replicated(p/1).\non(start) :- assertz(p(1)).\n";
    world.program("a.pl", mended);
    node.post("/v1/agents/a/restart", &Value::Null);
    node.wait_query("a", "p(X)");
    node.down();
}

const SEEN: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(seen/2).
on(event(_, _, e(K))) :-
    self(Me),
    ( retract(seen(Me-K, N0)) -> true ; N0 = 0 ),
    N is N0+1,
    assertz(seen(Me-K, N)).
"#;

/// A killer strikes an engine that runs at a moment of its own, waits until the agent has handled
/// something (three deaths on one event would make it a letter), and strikes again; now and then at
/// one that is still loading.
#[test]
fn engines_killed_at_any_moment_lose_nothing_and_double_nothing() {
    let wanted = std::env::var(DEATHS_VARIABLE).ok().and_then(|n| n.parse().ok()).unwrap_or(DEATHS);
    let world = World::new();
    let node = world.up(&[]);
    let path = world.program("seen.pl", SEEN);
    let names = ["a", "b", "c"];
    for name in names {
        node.run_agent(&path, name, json!({}));
    }
    let (killed, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_done.load(Ordering::Relaxed) {
                node.broadcast(&format!("e({sent})"));
                sent += 1;
                if sent % 10 == 0 {
                    let is_near = |agent: &Value| agent["lag"].as_u64().unwrap() < 100;
                    wait_for("the agents to follow", || {
                        is_done.load(Ordering::Relaxed)
                            || names.iter().all(|name| is_near(&node.agent(name)))
                    });
                }
            }
            sent
        });
        let over = Over(&is_done);
        let killers = names.map(|name| {
            let (node, killed) = (&node, &killed);
            scope.spawn(move || {
                let mut random = Random::new(name.len() as u64 + u64::from(name.as_bytes()[0]));
                while killed.load(Ordering::Relaxed) < wanted {
                    strike(node, name, &mut random);
                    killed.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        killers.into_iter().for_each(|killer| killer.join().unwrap());
        drop(over);
        sender.join().unwrap()
    });
    node.broadcast("e(last)");
    for name in names {
        node.wait_query(name, &format!("seen({name}-last, N)"));
        // The killers may strike three engines in a row that were handed the same event.
        let letters = node.letters(name);
        assert!(letters.len() * 100 <= wanted, "{letters:?}\n{:#?}", node.log(name));
        for letter in &letters {
            let event = letter["event"].as_str().unwrap();
            let handled = node.query(name, &format!("{event} = e(K), seen({name}-K, N)"));
            assert!(handled.is_empty(), "{letter} was handled: {handled:?}");
        }
        let doubled = node.query(name, &format!("seen({name}-K, N), N =\\= 1"));
        assert!(doubled.is_empty(), "{doubled:?}");
        let answers =
            node.query(name, &format!("findall(K, seen({name}-K, _), Ks), length(Ks, N)"));
        let last = answers[0].rsplit(", ").next();
        let handled = sent + 1 - letters.len();
        assert_eq!(last, Some(&*format!("N = {handled}")), "{letters:?} {:#?}", node.log(name));
    }
    let deaths: u64 = names.iter().map(|name| node.agent(name)["deaths"].as_u64().unwrap()).sum();
    assert!(deaths as usize * 2 > wanted, "{deaths} engines died while they ran");
    node.down();
}

fn strike(node: &Node, name: &str, random: &mut Random) {
    let running = node.wait_agent(name, |agent| agent["state"] == "running");
    thread::sleep(Duration::from_micros(random.below(40_000)));
    kill(running["pid"].as_u64().unwrap() as u32, Signal::KILL);
    if random.below(4) == 0 {
        let agents = node.get("/v1/agents");
        let pids: Vec<_> = agents.as_array().unwrap().iter().map(|a| a["pid"].clone()).collect();
        let is_loading = |pid: &u32| !pids.contains(&json!(pid));
        if let Some(loading) = children(node.pid()).into_iter().find(is_loading) {
            kill(loading, Signal::KILL);
        }
    }
    node.wait_agent(name, |agent| {
        agent["state"] == "running" && (agent["cursor"] != running["cursor"] || agent["lag"] == 0)
    });
}
