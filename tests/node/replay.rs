//! What another program would have made of what an agent handled.

use crate::world::{Node, World, wait_for};
use serde_json::Value;

const BANK: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- agent(record(true)).
:- replicated([account/2, seen/1]).
on(start) :- watch(account/2).
on(event(_, _, open(A))) :- \+ account(A, _), assertz(account(A, 0)).
on(event(_, _, deposit(A, N))) :-
    retract(account(A, X)), X1 is X+N, assertz(account(A, X1)), send(nobody, got(A, N)).
on(event(_, _, tick)) :- after(0, once).
on(timer(once)) :- assertz(seen(timer)).
on(changed(retract(account(A, X)))) :- X > 99, assertz(seen(A)).
"#;

/// A node that has run the bank for a while, and how far its log goes.
fn yesterday(world: &World) -> (Node, u64) {
    let node = world.up_with("bank", BANK);
    node.broadcast("open(ann)");
    for n in 0..40 {
        node.broadcast(&format!("deposit(ann, {n})"));
    }
    node.broadcast("deposit(bob, 1)");
    node.broadcast("tick");
    node.wait_query("bank", "seen(timer), seen(ann)");
    let last = node.broadcast("deposit(ann, 1000)");
    node.wait_query("bank", "account(ann, X), X > 1000");
    wait_for("the bank to be idle", || node.agent("bank")["lag"] == 0);
    (node, last)
}

fn jsons(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_program_that_does_the_same_differs_in_nothing_and_another_where_it_does() {
    let world = World::new();
    let (node, last) = yesterday(&world);
    let same = world.path().join("bank.pl").to_string_lossy().into_owned();
    let ran = world.run(["replay", "--agent", &same]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.ends_with("; 0 would have been another\n"), "{ran:?}");
    let all = world.yes(["replay", "--agent", &same, "--all"]);
    for line in [
        "  on start",
        "  on timer(once)",
        "    send(nobody,got(ann,7))",
        "  on changed(retract(account(ann,",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    // How many were handled before it in its run, the clock decides.
    let failed = |line: &str| {
        let number = line.strip_prefix("!   the handler of trigger ");
        let number = number.and_then(|rest| rest.strip_suffix(" did not succeed: failed"));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    assert!(all.lines().any(failed), "{all}");

    let changed = BANK.replace("X1 is X+N", "( N =:= 1000 -> X1 is X+N+1 ; X1 is X+N )");
    let changed = world.program("changed.pl", &changed);
    let ran = world.run(["replay", "--agent", &changed, "--name", "bank"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("-   assertz(account(ann,1780))\n"), "{ran:?}");
    assert!(ran.stdout.contains("+   assertz(account(ann,1781))\n"), "{ran:?}");
    assert!(ran.stdout.ends_with("; 1 would have been another\n"), "{ran:?}");

    // The same from an export, without a node, as JSON.
    let export = world.path().join("yesterday.log").to_string_lossy().into_owned();
    world.yes(["log", "export", &export]);
    node.down();
    let ran = world.run(["replay", &export, "--agent", &changed, "--name", "bank", "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let said = jsons(&ran.stdout);
    let [run, summary] = said.as_slice() else { panic!("{ran:?}") };
    assert_eq!(summary["differ"], 1);
    assert!(run["index"].as_u64().unwrap() > last, "{run}");
    let marks: Vec<_> = run["lines"].as_array().unwrap().iter().map(|line| &line[0]).collect();
    assert_eq!(marks, ["same", "was", "would", "same"]);

    // A part of it.
    let until = (last - 1).to_string();
    let ran = world.run(["replay", "--agent", &changed, "--name", "bank", "--until", &until]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn programs_that_die_loop_or_do_not_load_end_in_a_report() {
    let world = World::new();
    let (node, _) = yesterday(&world);
    node.down();
    let elsewhere = world.path().join("elsewhere");
    let writes = format!("N =:= 7 -> open('{}', write, _)", elsewhere.display());
    for (change, code, said) in [
        (writes.as_str(), 1, "permission_error(open,source_sink,"),
        ("N =:= 7 -> halt(1)", 1, "!   the program called halt(1)"),
        ("N =:= 7 -> '$no_such_call'(1)", 1, "existence_error(procedure,"),
        ("N =:= 7 -> repeat, fail", 1, "!   the engine took more time than allowed"),
        ("N =:= 7 -> Y = f(Y), assertz(seen(Y))", 1, "representation_error(cyclic_term)"),
    ] {
        let body = format!("( {change} ; X1 is X+N )");
        let program = world.program("changed.pl", &BANK.replace("X1 is X+N", &body));
        let ran = world.run(["replay", "--agent", &program, "--name", "bank", "--max-time", "1s"]);
        assert_eq!(ran.code, code, "{change}: {ran:?}");
        assert!(ran.stdout.contains(said), "{change}: {ran:?}");
    }
    assert!(!elsewhere.exists(), "a replay writes nothing");
    let broken = world.program("broken.pl", &BANK.replace("open(A))) :-", "open(A))) -"));
    let ran = world.run(["replay", "--agent", &broken, "--name", "bank"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("broken.pl:"), "{ran:?}");
    let ran = world.run(["replay", "--agent", &broken, "--name", "nobody"]);
    assert!(ran.stderr.contains("the log has: bank"), "{ran:?}");
}

#[test]
fn a_letter_that_was_handled_after_all_is_replayed() {
    let world = World::new();
    let program = r#"
:- use_module(library(synod)).
:- replicated(said/1).
on(event(_, _, say(X))) :- ( X == poison, \+ said(cured) -> halt(1) ; assertz(said(X)) ).
"#;
    let node = world.up_with("a", program);
    node.broadcast("say(poison)");
    node.wait_agent("a", |agent| agent["letters"] == 1);
    node.broadcast("say(cured)");
    node.wait_query("a", "said(cured)");
    world.yes(["agent", "letters", "a", "--retry", "--all"]);
    node.wait_query("a", "said(poison)");
    let path = world.path().join("a.pl").to_string_lossy().into_owned();
    let ran = world.run(["replay", "--agent", &path, "--all"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = &ran.stdout;
    assert_eq!(said.matches("    assertz(said(poison))").count(), 1, "{said}");
    assert_eq!(said.matches("!   the program called halt(1)").count(), 1, "{said}");
    node.down();
}
