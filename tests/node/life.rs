//! What agents do as time goes by: they are kept, tick, watch, and speak with one another.

use crate::world::{Process, World, wait_for};
use serde_json::{Value, json};

const KEPT: &str = r#"
:- use_module(library(synod)).
:- replicated(said/1).
:- replicated(starts/1).
on(start) :- ( retract(starts(N0)) -> true ; N0 = 0 ), N is N0+1, assertz(starts(N)).
on(event(_, _, say(X))) :- assertz(said(X)).
"#;

#[test]
fn what_is_left_with_a_node_starts_with_it_until_it_is_stopped() {
    let world = World::new();
    let path = world.program("kept.pl", KEPT);
    // No node runs: it is left in the background with the agent.
    let said = world.yes(["run", "--detach", "--max-time", "60s", &path]);
    assert_eq!(said, "agent kept runs in space local\n");
    world.yes(["broadcast", "say(1)"]);
    world.yes(["down"]);
    let node = world.up(&[]);
    node.wait_agent("kept", |agent| agent["state"] == "running");
    node.wait_query("kept", "starts(2)");
    node.broadcast("say(2)");
    node.wait_query("kept", "said(2)");
    assert_eq!(node.query("kept", "said(X)"), ["X = 1", "X = 2"]);
    assert_eq!(world.run(["agent", "stop", "kept"]).code, 0);
    node.broadcast("say(3)");
    node.down();
    let node = world.up(&[]);
    assert_eq!(node.get("/v1/agents"), json!([]));
    // Run again it goes on where it stood.
    node.run_agent(&path, "kept", json!({}));
    node.wait_query("kept", "said(3)");
    assert_eq!(node.agent("kept")["handled"].as_u64(), Some(3), "engine, start, say(3)");
    node.down();
}

const TIMERS: &str = r#"
:- use_module(library(synod)).
:- replicated(ticks/1).
:- replicated(rung/1).
on(start) :- assertz(ticks(0)), every(0.01, tick), after(0.01, once), after(0.02, never), cancel(never).
on(timer(tick)) :- retract(ticks(N0)), N is N0+1, assertz(ticks(N)), ( N >= 5 -> cancel(tick) ; true ).
on(timer(once)) :- assertz(rung(once)).
on(timer(never)) :- assertz(rung(never)).
"#;

#[test]
fn timers_tick_until_they_are_cancelled() {
    let world = World::new();
    let node = world.up_with("a", TIMERS);
    node.wait_query("a", "ticks(5)");
    node.wait_query("a", "rung(once)");
    assert_eq!(node.query("a", "rung(X)"), ["X = once"]);
    node.down();
}

const SPEAKER: &str = r#"
:- use_module(library(synod)).
:- replicated(heard/3).
:- replicated(account/2).
on(start) :- subscribe(news), watch(account/2, [others]).
on(event(_, From, tell(Agent, What))) :- atom(From), self(speaker), send(Agent, What).
on(event(_, _, news(What))) :- self(speaker), publish(news, What).
on(event(_, _, open(Who, Whom))) :- self(Who), assertz(account(Whom, 0)).
on(event(_, _, close(Who, Whom))) :- self(Who), retract(account(Whom, _)).
on(event(_, _, ask(Who, Whom))) :- self(Who), findall(X, Whom::num(X), Xs), assertz(heard(Who, answers, Xs)).
on(event(_, _, ask_one(Who, Whom))) :- self(Who), Whom::num(X), X > 1, !, assertz(heard(Who, one, X)).
on(event(_, _, ask_wrong(Who, Whom))) :- self(Who), catch(Whom::wrong, E, true), E = error(Formal, _), assertz(heard(Who, ball, Formal)).
on(sent(From, What)) :- self(Me), assertz(heard(Me, sent(From), What)).
on(message(Topic, From, What)) :- self(Me), assertz(heard(Me, message(Topic, From), What)).
on(changed(What)) :- self(Me), assertz(heard(Me, changed, What)).
num(1). num(2). num(3).
wrong :- throw(error(type_error(mine, yours), wrong)).
"#;

#[test]
fn agents_of_a_node_send_publish_watch_and_call() {
    let world = World::new();
    let node = world.up(&[]);
    let path = world.program("a.pl", SPEAKER);
    for name in ["speaker", "listener"] {
        node.run_agent(&path, name, json!({"max_time_ms": 60_000}));
    }
    node.wait_agent("listener", |agent| agent["handled"].as_u64() >= Some(2));
    let heard = |what: &str| node.wait_query("speaker", &format!("heard({what})"));
    node.broadcast("tell(listener, f(X, X, \"s\"))");
    heard("listener, sent(speaker), f(A, B, \"s\")), A == B, \\+ \\+ A = 1, (true");
    node.broadcast("news(1)");
    heard("listener, message(news, speaker), 1");
    heard("speaker, message(news, speaker), 1");
    node.broadcast("open(listener, \"x\")");
    heard("speaker, changed, assertz(account(\"x\", 0))");
    node.broadcast("close(listener, \"x\")");
    heard("speaker, changed, retract(account(\"x\", 0))");
    node.broadcast("ask(speaker, listener)");
    heard("speaker, answers, [1,2,3]");
    node.broadcast("ask_one(speaker, listener)");
    heard("speaker, one, 2");
    node.broadcast("ask_wrong(speaker, listener)");
    heard("speaker, ball, type_error(mine, yours)");
    node.broadcast("ask_wrong(speaker, nobody)");
    heard("speaker, ball, existence_error(agent, nobody)");
    assert!(node.query("speaker", "heard(listener, changed, _)").is_empty(), "its own");
    node.down();
}

#[test]
fn the_past_and_the_newest_can_be_asked_for() {
    let world = World::new();
    let node = world.up(&[]);
    // Away from the node's data, which a fence would else let it read with its own folder.
    std::fs::create_dir(world.path().join("programs")).unwrap();
    let program = world.program("programs/kept.pl", KEPT);
    node.run_agent(&program, "kept", json!({}));
    node.broadcast("say(1)");
    node.wait_query("kept", "said(1)");
    // Other commands may stand between an event and what came of it.
    let then = node.get("/v1/status")["spaces"][0]["index"].as_u64().unwrap();
    node.broadcast("say(2)");
    node.wait_query("kept", "said(2)");
    assert_eq!(node.query("kept", "linearizable(said(2))"), ["true"]);
    let past = format!("as_of({then}, findall(X, said(X), Xs))");
    assert_eq!(node.query("kept", &past), ["Xs = [1]"]);
    let goal = json!({"goal": "as_of(1000000, true)", "agent": "kept"});
    let (_, answer) = node.ask("POST", "/v1/query", &goal).unwrap();
    assert!(answer["message"].as_str().unwrap().contains("existence_error(index"), "{answer}");
    node.down();
}

const GROWING: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- use_module(library(charsio)).
:- replicated(seen/2).
:- dynamic(kept/2).
on(event(_, _, e(K))) :-
    length(L, 4000), maplist(=(K), L),
    asserta(kept(K, L)),
    ( retract(seen(K, N0)) -> true ; N0 = 0 ),
    N is N0+1,
    assertz(seen(K, N)).
"#;

#[test]
fn an_engine_that_has_grown_is_renewed_and_nothing_is_lost() {
    const EVENTS: usize = 150;
    let world = World::new();
    let node = world.up(&[]);
    let path = world.program("a.pl", GROWING);
    node.run_agent(&path, "a", json!({"max_memory": 96 << 20, "max_time_ms": 60_000}));
    for n in 0..EVENTS {
        node.broadcast(&format!("e({n})"));
    }
    node.wait_query("a", &format!("seen({}, _)", EVENTS - 1));
    let answers = node.query("a", "findall(K, seen(K, 1), Ks), length(Ks, N)");
    assert!(answers[0].ends_with(&format!("N = {EVENTS}")), "{answers:?}");
    let log = node.log("a").join("\n");
    assert!(log.contains("the engine is renewed: "), "{log}");
    assert_eq!(node.agent("a")["letters"], 0, "{log}");
    node.down();
}

#[test]
fn a_run_ends_with_its_agent() {
    let world = World::new();
    let text = ":- use_module(library(synod)).\non(start) :- write(hi), nl.\non(event(_, _, stop)) :- halt.\n";
    let path = world.program("a.pl", text);
    let mut run = Process::start(world.command(["run", &path]), false);
    run.until("hi");
    world.yes(["broadcast", "stop"]);
    assert_eq!(run.wait(), 0);
    // Beside a node it shows the output too, and the node goes on.
    let node = world.up(&[]);
    let mut run = Process::start(world.command(["run", "--agent", "b", &path]), false);
    run.until("hi");
    assert_eq!(node.agent("b")["state"], "running");
    node.broadcast("stop");
    assert_eq!(run.wait(), 0);
    assert!(node.ask("GET", "/v1/status", &Value::Null).is_ok());
    node.down();
}

const HEAVY: &str = r#"
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, p(X))) :- assertz(p(X)).
"#;

#[test]
fn engines_and_nodes_start_from_a_snapshot() {
    let world = World::new();
    let node = world.up_with("a", HEAVY);
    for n in 0..100 {
        node.broadcast(&format!("p({n})"));
    }
    node.wait_query("a", "p(99)");
    node.post("/v1/agents/a/stop", &Value::Null);
    let snapshots = world.data.join("spaces/local/snapshots");
    let bulk = format!("bulk(\"{}\")", "x".repeat(900 << 10));
    wait_for("a snapshot", || {
        node.broadcast(&bulk);
        let mut names = std::fs::read_dir(&snapshots).unwrap().map(|e| e.unwrap().file_name());
        names.any(|name| name.to_string_lossy().ends_with(".snapshot"))
    });
    let path = world.path().join("a.pl");
    node.run_agent(path.to_str().unwrap(), "b", json!({"max_time_ms": 60_000}));
    assert_eq!(node.query("b", "findall(X, p(X), Xs), Xs = [0|_]").len(), 1);
    node.broadcast("p(100)");
    node.wait_query("b", "p(100)");
    node.kill();
    let node = world.up(&[]);
    node.run_agent(path.to_str().unwrap(), "b", json!({"max_time_ms": 60_000}));
    node.wait_query("b", "p(0), p(100)");
    assert_eq!(node.get("/v1/status")["spaces"][0]["facts"], 101);
    node.down();
}
