//! Letters: what killed three engines is handed out again once its program has been mended, exactly
//! once; or dropped.

use crate::random::Random;
use crate::world::{Node, World, kill};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

const PROGRAM: &str = r#"
:- use_module(library(synod)).
:- replicated(said/2).
on(event(_, From, poison(X))) :- KILL, assertz(said(From, X)).
on(event(_, From, say(X))) :- assertz(said(From, X)).
"#;

fn program(kill: &str) -> String {
    PROGRAM.replace("KILL", kill)
}

/// A node whose agent `a` has put `poison(1)` to `poison(n)` aside.
fn with_letters(world: &World, n: u64) -> Node {
    let node = world.up_with("a", &program("halt(1)"));
    for x in 1..=n {
        node.broadcast(&format!("poison({x})"));
        node.wait_agent("a", |agent| agent["letters"] == x);
    }
    node
}

fn retry(node: &Node, body: &Value) -> Vec<Value> {
    node.post("/v1/agents/a/letters/retry", body).as_array().unwrap().clone()
}

fn mend(world: &World, node: &Node, text: &str) {
    world.program("a.pl", text);
    node.post("/v1/agents/a/restart", &Value::Null);
}

#[test]
fn a_letter_is_handled_again_exactly_once() {
    let world = World::new();
    let node = with_letters(&world, 3);
    let letters = node.letters("a");
    assert_eq!(letters[0]["event"], "poison(1)");
    let position = letters[0]["position"].as_str().unwrap().to_owned();
    let trigger = letters[0]["trigger"].as_str().unwrap();
    assert!(trigger.starts_with("event(") && trigger.ends_with(",poison(1))"), "{trigger}");
    // It kills again: the letter stays, and everything else goes on.
    let kept = retry(&node, &json!({ "positions": [position] }));
    assert_eq!(kept[0]["outcome"], "kept");
    assert!(kept[0]["why"].as_str().unwrap().contains("halt(1)"), "{kept:?}");
    node.broadcast("say(0)");
    node.wait_query("a", "said(_, 0)");
    assert_eq!(node.letters("a").len(), 3);
    // A handler that does not succeed leaves it, too.
    mend(&world, &node, &program("X =:= 2"));
    let printed = world.run(["agent", "letters", "a", "--retry", &position]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stdout.contains("kept: its handler did not succeed"), "{printed:?}");
    // One succeeds.
    let all = world.run(["agent", "letters", "a", "--retry", "--all"]);
    assert_eq!(all.code, 1);
    let ends: Vec<_> = all.stdout.lines().map(|l| l.split("  ").nth(2).unwrap()).collect();
    assert_eq!(ends[1], "handled");
    assert!(ends[0].starts_with("kept") && ends[2].starts_with("kept"), "{ends:?}");
    assert_eq!(node.query("a", "said(F, 2)").len(), 1);
    // All at once, from many sides: each once, as from the one who sent it.
    mend(&world, &node, &program("true"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| node.ask("POST", "/v1/agents/a/letters/retry", &json!({ "all": true })));
        }
    });
    assert!(node.letters("a").is_empty());
    assert_eq!(node.query("a", "said(_, 1)"), ["true"]);
    assert_eq!(node.query("a", "said(_, 3)"), ["true"]);
    let from = node.query("a", "said(From, 0)");
    assert_eq!(node.query("a", "said(From, 1)"), from);
    // It is in the log and not in this process: after a crash nothing is handled twice.
    node.kill();
    let node = world.up(&[]);
    node.run_agent(world.path().join("a.pl").to_str().unwrap(), "a", json!({}));
    assert_eq!(node.query("a", "said(_, X)"), ["X = 0", "X = 2", "X = 1", "X = 3"]);
    assert!(node.letters("a").is_empty());
    node.down();
}

#[test]
fn a_node_that_is_killed_meanwhile_handles_each_letter_once() {
    let world = World::new();
    let mut node = with_letters(&world, 4);
    mend(&world, &node, &program("true"));
    let mut random = Random::new(11);
    let mut kills = 0;
    while !node.letters("a").is_empty() {
        std::thread::scope(|scope| {
            let retry = scope.spawn(|| {
                // It is answered or not.
                drop(node.ask("POST", "/v1/agents/a/letters/retry", &json!({ "all": true })));
            });
            std::thread::sleep(Duration::from_micros(random.below(30_000)));
            kill(node.pid(), Signal::KILL);
            retry.join().unwrap();
        });
        kills += 1;
        node.kill();
        node = world.up(&[]);
        node.run_agent(world.path().join("a.pl").to_str().unwrap(), "a", json!({}));
        assert!(kills < 100, "{:?}", node.letters("a"));
    }
    let mut handled = node.query("a", "said(_, X)");
    handled.sort();
    assert_eq!(handled, ["X = 1", "X = 2", "X = 3", "X = 4"], "after {kills} kills");
    node.down();
}

#[test]
fn a_letter_that_writes_nothing_is_handled_too() {
    let world = World::new();
    let node = with_letters(&world, 1);
    mend(
        &world,
        &node,
        ":- use_module(library(synod)).\non(event(_, _, poison(_))) :- write(fine), nl.\n",
    );
    let handled = retry(&node, &json!({ "all": true }));
    assert_eq!(handled[0]["outcome"], "handled", "{handled:?}");
    assert!(node.letters("a").is_empty());
    assert_eq!(node.log("a").iter().filter(|line| line.contains("output fine")).count(), 1);
    node.down();
}

#[test]
fn a_start_that_killed_can_be_handled_after_all() {
    let world = World::new();
    let text = |kill: &str| {
        format!(":- use_module(library(synod)).\n:- replicated(begun/0).\non(start) :- {kill}.\n")
    };
    let node = world.up_with("a", &text("halt(2)"));
    node.wait_agent("a", |agent| agent["letters"] == 1);
    world.program("a.pl", &text("true"));
    node.post("/v1/agents/a/restart", &Value::Null);
    world.program("a.pl", &text("assertz(begun)"));
    node.post("/v1/agents/a/restart", &Value::Null);
    node.wait_query("a", "begun");
    let handled = retry(&node, &json!({ "all": true }));
    assert_eq!(handled[0]["outcome"], "handled", "{handled:?}");
    assert_eq!(node.query("a", "begun").len(), 2);
    node.down();
}

#[test]
fn letters_are_dropped_and_unknown_ones_named() {
    let world = World::new();
    let node = with_letters(&world, 2);
    let positions: Vec<String> =
        node.letters("a").iter().map(|l| l["position"].as_str().unwrap().to_owned()).collect();
    for verb in ["--retry", "--drop"] {
        let none = world.run(["agent", "letters", "a", verb, &positions[0], "99.7", "98.0"]);
        assert_eq!((none.code, none.stdout.as_str()), (1, ""), "{none:?}");
        assert!(
            none.stderr.contains("no letter at 99.7, 98.0: `synod agent letters a`"),
            "{none:?}"
        );
        for (args, says) in
            [(&["x.1"][..], "INDEX.N"), (&[], "--all"), (&["1.0", "--all"], "--all")]
        {
            let ran = world.run([&["agent", "letters", "a", verb], args].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
            assert!(ran.stderr.contains(says), "{ran:?}");
        }
    }
    assert_eq!(node.letters("a").len(), 2, "nothing is done where one is unknown");
    let dropped = world.yes(["agent", "letters", "a", "--drop", &positions[1]]);
    assert_eq!(dropped, format!("{}  poison(2)  dropped\n", positions[1]));
    node.post("/v1/agents/a/stop", &Value::Null);
    let stopped = world.run(["agent", "letters", "a", "--retry", "--all"]);
    assert!(stopped.code == 2 && stopped.stderr.contains("`synod run` it"), "{stopped:?}");
    world.yes(["agent", "letters", "a", "--drop", "--all"]);
    assert!(node.letters("a").is_empty());
    assert_eq!(world.yes(["agent", "letters", "a", "--drop", "--all"]), "");
    node.down();
}
