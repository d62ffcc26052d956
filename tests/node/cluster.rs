//! Three nodes that share a space: what one does all see, and they go on while two of them can speak.

use crate::group::{Group, PROMISED, Place};
use crate::world::{Process, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Instant;

const NOTED: &str = "
:- use_module(library(synod)).
:- replicated(noted/1).
on(event(_, _, note(X))) :- assertz(noted(X)).
note_now(X) :- transaction(assertz(noted(X))).
";

#[test]
fn three_terminals_share_a_bank() {
    let bank = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bank.pl");
    let places = ["alpha", "beta", "gamma"].map(Place::new);
    let start = |place: &Place, entry: &[&str]| {
        let mut command = place.world.command(["run", bank, "--max-time", "60s"]);
        command.args(entry).args(place.flags());
        let mut terminal = Process::start(command, true);
        terminal.until("listening on");
        terminal
    };
    let mut terminals = vec![start(&places[0], &["--space", "bank", "--create"])];
    let ticket = places[0].world.yes(["space", "ticket", "bank"]);
    // Both at once, as two people would.
    std::thread::scope(|scope| {
        let (start, ticket) = (&start, ticket.trim());
        let join = |n: usize| {
            let place = &places[n];
            scope.spawn(move || start(place, &["--join", ticket]))
        };
        let joining = [join(1), join(2)];
        terminals.extend(joining.map(|joined| joined.join().unwrap()));
    });
    let members = |place: &Place| -> Value {
        serde_json::from_str(&place.world.yes(["space", "members", "bank", "--json"])).unwrap()
    };
    wait_for("three voters", || {
        places.iter().all(|place| {
            let members = members(place);
            let all = members["members"].as_array().unwrap();
            all.iter().filter(|member| member["part"] == "voter").count() == 3
        })
    });
    let shown = places[2].world.yes(["space", "members", "bank"]);
    for word in ["alpha", "beta", "gamma", "voter", "leader", "term", "index", "LAG"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }

    places[1].world.yes(["broadcast", "open(alice)"]);
    places[2].world.yes(["broadcast", "open(bob)"]);
    places[0].world.yes(["broadcast", "deposit(alice, 100)"]);
    let query = |place: &Place, goal| place.world.run(["query", goal]).stdout;
    wait_for("the deposit", || query(&places[0], "account(alice, X)") == "X = 100.\n");
    for (n, place) in places.iter().enumerate() {
        place.world.yes(["transact", "transfer(alice, bob, 30)", "--agent", "bank"]);
        for other in &places {
            // Acknowledged is seen, wherever one looks.
            let left = 100 - 30 * (n + 1);
            assert_eq!(query(other, "account(alice, X)"), format!("X = {left}.\n"));
        }
    }
    let refused = places[1].world.run(["transact", "transfer(alice, bob, 30)", "--agent", "bank"]);
    assert_eq!((refused.code, &*refused.stdout), (1, "false.\n"));
    for place in &places {
        assert_eq!(query(place, "total(X)"), "X = 100.\n");
        assert!(place.world.yes(["status"]).lines().count() < 30);
    }
}

#[test]
fn a_killed_leader_is_replaced_and_catches_up_when_it_is_back() {
    let mut group = Group::of_three_with("notes", NOTED);
    group.places[0].node().broadcast("note(before)");
    let leader = group.leader();
    let other = (leader + 1) % 3;
    group.places[leader].kill();
    let killed = Instant::now();
    let (status, answer) = group.places[other].try_broadcast("note(meanwhile)");
    let took = killed.elapsed();
    assert_eq!(status, 200, "{answer}");
    assert!(took < PROMISED, "{took:?} to the first write");
    group.places[leader].start();
    group.wait_voters(3);
    for place in &group.places {
        place.node().wait_query("notes", "noted(meanwhile)");
    }
    let (status, answer) = group.places[leader].try_broadcast("note(after)");
    assert_eq!(status, 200, "{answer}");
    group.wait_agree();
}

#[test]
fn a_node_that_is_cut_off_says_so_and_is_right_again_afterwards() {
    let group = Group::of_three_with("notes", NOTED);
    let [one, others @ ..] = &group.places[..] else { unreachable!() };
    one.node().broadcast("note(before)");
    one.node().wait_query("notes", "noted(before)");
    let signal =
        |signal| others.iter().for_each(|other| crate::world::kill(other.node().pid(), signal));
    signal(Signal::STOP);
    // What a leader had in its log before it noticed is unknown, and not refused.
    wait_for("it to notice", || one.members()["leader"].is_null());
    let (status, answer) = one.try_broadcast("note(lost)");
    assert_eq!((status, &answer["code"]), (503, &json!("no_quorum")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("quorum"), "{answer}");
    let goal = json!({"goal": "note_now(lost)", "agent": "notes"});
    let (status, answer) = one.node().ask("POST", "/v1/transact", &goal).unwrap();
    assert!(status != 200 && answer["message"].as_str().unwrap().contains("quorum"), "{answer}");
    let goal = json!({"goal": "noted(X)", "agent": "notes"});
    let answer = one.node().post("/v1/query", &goal);
    assert_eq!(answer["answers"][0]["text"], "X = before");
    assert!(answer["stale_ms"].as_u64() > Some(0), "{answer}");
    let pattern = |local| json!({"pattern": "noted(X)", "local": local});
    let (status, answer) = one.node().ask("POST", "/v1/facts", &pattern(false)).unwrap();
    assert_eq!((status, &answer["code"]), (503, &json!("no_quorum")), "{answer}");
    let answer = one.node().post("/v1/facts", &pattern(true));
    assert_eq!(answer["facts"][0]["text"], "noted(before)");
    assert!(answer["stale_ms"].as_u64() > Some(0), "{answer}");
    let said = one.world.run(["query", "noted(X)", "--agent", "notes"]);
    assert!(said.stderr.contains("no quorum of the space can be reached since"), "{said:?}");

    signal(Signal::CONT);
    wait_for("a quorum", || one.try_broadcast("note(after)").0 == 200);
    one.node().wait_query("notes", "noted(after)");
    assert!(one.node().query("notes", "noted(lost)").is_empty());
    assert_eq!(one.node().post("/v1/query", &goal)["stale_ms"], Value::Null);
    // Every node reads what any other has acknowledged, at once.
    for (n, place) in group.places.iter().enumerate() {
        let write = json!({"goal": format!("note_now({n})"), "agent": "notes"});
        place.node().post("/v1/transact", &write);
        for place in &group.places {
            let found = place.node().post("/v1/facts", &json!({"pattern": format!("noted({n})")}));
            assert_eq!(found["facts"].as_array().unwrap().len(), 1, "{n} {found}");
        }
    }
    group.wait_agree();
}

#[test]
fn what_became_of_an_unknown_write_can_be_asked_for_later() {
    let group = Group::of_three_with("notes", NOTED);
    let leads = |n: &usize| group.places[*n].members()["role"] == "leader";
    let leader = (0..3).find(leads).unwrap();
    let others: Vec<_> = (0..3).filter(|n| *n != leader).map(|n| &group.places[n]).collect();
    let one = &group.places[leader];
    one.node().broadcast("note(before)");
    let signal =
        |signal| others.iter().for_each(|other| crate::world::kill(other.node().pid(), signal));
    signal(Signal::STOP);
    let (status, answer) = one.try_broadcast("note(perhaps)");
    signal(Signal::CONT);
    // Its leader had it in its log, and did not know yet that it was cut off.
    assert_eq!((status, &answer["outcome"]), (200, &json!("unknown")), "{answer}");
    let path = format!("/v1/outcome/{}", answer["id"].as_str().unwrap());
    wait_for("writes to go on", || one.try_broadcast("note(after)").0 == 200);
    for _ in 0..3 {
        one.node().broadcast("note(after)");
    }
    let outcome = one.node().ask("GET", &path, &Value::Null).unwrap();
    let is_there = !one.node().query("notes", "noted(perhaps)").is_empty();
    match outcome {
        (200, told) => {
            assert_eq!((&told["outcome"], is_there), (&json!("committed"), true), "{told}")
        }
        (404, told) => assert!(!is_there, "{told}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_start_again_at_once() {
    let mut group = Group::of_three_with("notes", NOTED);
    group.places[1].node().broadcast("note(before)");
    for place in &mut group.places {
        place.kill();
    }
    for place in &mut group.places {
        place.start();
    }
    group.wait_voters(3);
    let (status, answer) = group.places[2].try_broadcast("note(after)");
    assert_eq!(status, 200, "{answer}");
    for place in &group.places {
        place.node().wait_query("notes", "noted(before), noted(after)");
    }
    group.wait_agree();
}
