//! A changed program takes over between two events: what the node keeps goes on, nothing is lost or
//! handled twice, and what does not load changes nothing.

use crate::random::Random;
use crate::world::{Node, Over, World, kill, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Reloads during the load.
const RELOADS: u64 = 13;

const SHOP: &str = r#"
:- use_module(library(synod)).
:- replicated([begun/1, ticked/1, seen/1, heard/1, started/1 MORE]).
on(engine) :- true.
on(start) :-
    assertz(begun(VERSION)), every(0.02, tick), watch(thing/1), subscribe(news).
on(timer(tick)) :- \+ ticked(VERSION), assertz(ticked(VERSION)).
on(changed(assertz(thing(X)))) :- assertz(seen(VERSION-X)).
on(message(news, _, X)) :- assertz(heard(VERSION-X)).
on(event(_, _, thing(X))) :- assertz(thing(X)).
on(event(_, _, tell(X))) :- publish(news, X).
:- replicated(thing/1).
"#;

fn shop(version: &str, more: &str) -> String {
    SHOP.replace("VERSION", version).replace("MORE", more)
}

fn reload(node: &Node, name: &str) -> (u16, Value) {
    node.ask("POST", &format!("/v1/agents/{name}/reload"), &Value::Null).unwrap()
}

#[test]
fn what_the_node_keeps_goes_on_and_start_does_not_run_again() {
    let world = World::new();
    let node = world.up_with("shop", &shop("1", ""));
    node.wait_query("shop", "ticked(1)");
    let epoch = node.agent("shop")["epoch"].as_u64().unwrap();
    // Nothing has changed: the epoch goes on.
    let (status, answer) = reload(&node, "shop");
    assert_eq!((status, &answer["is_new_epoch"]), (200, &json!(false)), "{answer}");
    assert_eq!(node.agent("shop")["epoch"], epoch);
    // A predicate more, and a key: the space is told.
    world.program("shop.pl", &shop("2", ", note/2+key(2)"));
    let said = world.yes(["agent", "reload", "shop"]);
    assert!(said.starts_with("agent shop goes on in epoch "), "{said}");
    assert!(node.agent("shop")["epoch"].as_u64().unwrap() > epoch);
    node.wait_query("shop", "ticked(2)");
    node.broadcast("thing(a)");
    node.wait_query("shop", "seen(2-a)");
    node.broadcast("tell(b)");
    node.wait_query("shop", "heard(2-b)");
    world.yes(["transact", "assertz(note(1, 2))"]);
    assert_eq!(node.query("shop", "note(X, 2)"), ["X = 1"]);
    assert_eq!(node.query("shop", "begun(V)"), ["V = 1"]);
    // A restart begins anew.
    world.yes(["agent", "restart", "shop"]);
    node.wait_query("shop", "begun(2)");
    node.down();
}

#[test]
fn a_renewal_that_finds_another_program_keeps_what_runs_too() {
    let world = World::new();
    let node = world.up_with("shop", &shop("1", ""));
    node.wait_query("shop", "ticked(1)");
    world.program("shop.pl", &shop("2", ""));
    kill(node.agent("shop")["pid"].as_u64().unwrap() as u32, Signal::KILL);
    node.wait_query("shop", "ticked(2)");
    assert_eq!(node.query("shop", "begun(V)"), ["V = 1"]);
    node.down();
}

#[test]
fn what_does_not_load_is_refused_by_its_place_and_the_old_one_goes_on() {
    let world = World::new();
    let node = world.up_with("shop", &shop("1", ""));
    node.wait_query("shop", "ticked(1)");
    let pid = node.agent("shop")["pid"].clone();
    let path = world.program("shop.pl", &format!("{}\non(x) :- foo((.\n", shop("2", "")));
    let ran = world.run(["agent", "reload", "shop"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains(&format!("{path}:14:")), "{ran:?}");
    assert!(ran.stderr.contains("the program from before goes on"), "{ran:?}");
    world.program("shop.pl", &format!("{}:- agent(each).\n", shop("2", "")));
    let (status, answer) = reload(&node, "shop");
    assert_eq!(status, 409, "{answer}");
    node.broadcast("thing(a)");
    node.wait_query("shop", "seen(1-a)");
    assert_eq!(node.agent("shop")["pid"], pid, "the same engine");
    // One that does not run cannot be reloaded; one that is not there is not found.
    node.post("/v1/agents/shop/stop", &Value::Null);
    let ran = world.run(["agent", "reload", "shop"]);
    assert!(ran.code == 2 && ran.stderr.contains("synod agent restart shop"), "{ran:?}");
    assert_eq!(world.run(["agent", "reload", "nobody"]).code, 1);
    node.down();
}

const LOAD: &str = r#"
:- use_module(library(synod)).
:- replicated([done/2, last/1]).
on(event(_, _, n(N))) :-
    (   retract(last(M)) -> true ; M = 0 ),
    (   N =:= M + 1 -> true ; assertz(done(gap, M-N)) ),
    assertz(last(N)), assertz(done(VERSION, N)).
"#;

#[test]
fn under_load_no_event_is_lost_or_handled_twice() {
    let world = World::new();
    let node = world.up_with("a", &LOAD.replace("VERSION", "0"));
    let is_done = AtomicBool::new(false);
    let mut random = Random::new(7);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut n = 0;
            while !is_done.load(Ordering::Relaxed) {
                n += 1;
                node.broadcast(&format!("n({n})"));
            }
            n
        });
        let over = Over(&is_done);
        for version in 1..=RELOADS {
            // Every third does not load; every fourth time the engine dies meanwhile.
            let is_broken = version % 3 == 0;
            let broken = if is_broken { "on(x) :- foo((.\n" } else { "" };
            world.program(
                "a.pl",
                &format!("{}{broken}", LOAD.replace("VERSION", &version.to_string())),
            );
            let killer = scope.spawn({
                let (node, strikes, wait) = (&node, version % 4 == 0, random.below(300));
                move || {
                    if strikes {
                        thread::sleep(std::time::Duration::from_millis(wait));
                        let pid = node.agent("a")["pid"].as_u64();
                        pid.into_iter().for_each(|pid| kill(pid as u32, Signal::KILL));
                    }
                }
            });
            let (status, answer) = reload(&node, "a");
            assert_eq!(status == 200, !is_broken, "{version}: {answer}");
            killer.join().unwrap();
            if is_broken {
                // An engine that dies now finds nothing that loads: it is mended first.
                continue;
            }
            node.wait_query("a", &format!("done({version}, N)"));
        }
        drop(over);
        load.join().unwrap()
    });
    node.wait_query("a", &format!("last({sent})"));
    assert!(node.query("a", "done(gap, X)").is_empty());
    let handled = node.query("a", "done(_, N)");
    let expected: Vec<_> = (1..=sent).map(|n| format!("N = {n}")).collect();
    assert!(handled == expected, "{} of {sent}: {:#?}", handled.len(), node.log("a"));
    assert!(node.letters("a").is_empty());
    node.down();
}

#[test]
fn a_log_is_followed_over_restarts_and_deaths_and_kept_over_runs() {
    let world = World::new();
    let text = ":- use_module(library(synod)).\non(start) :- write(begun), nl.\n\
                on(event(_, _, X)) :- write(X), nl.\n";
    let node = world.up_with("a", text);
    let mut logs = crate::world::Process::start(world.command(["agent", "logs", "a", "-f"]), false);
    logs.until("output  begun");
    kill(node.agent("a")["pid"].as_u64().unwrap() as u32, Signal::KILL);
    logs.until("a fresh one follows");
    node.broadcast("one");
    logs.until("output  one");
    node.post("/v1/agents/a/restart", &Value::Null);
    logs.until("output  begun");
    node.post("/v1/agents/a/reload", &Value::Null);
    node.broadcast("two");
    logs.until("output  two");
    // Ctrl-C ends it without a word, and so does a reader who goes, though nothing more is printed.
    logs.signal(Signal::INT);
    assert_eq!(logs.wait(), 0);
    let mut command = world.command(["agent", "logs", "a", "-f"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut quiet = command.spawn().unwrap();
    drop(quiet.stdout.take());
    let mut ended = None;
    wait_for("the follower to end", || {
        ended = quiet.try_wait().unwrap();
        ended.is_some()
    });
    let ran: crate::world::Ran = quiet.wait_with_output().unwrap().into();
    assert_eq!((ended.unwrap().code(), ran.stderr.as_str()), (Some(0), ""));
    // Another run, of another node: what was logged before is still there.
    node.kill();
    let node = world.up(&[]);
    node.run_agent(world.path().join("a.pl").to_str().unwrap(), "a", json!({}));
    let log = node.log("a");
    assert!(log.iter().any(|line| line == "output two"), "{log:#?}");
    node.down();
}
