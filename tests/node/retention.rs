//! How much of the past a node keeps: a member that needs what was let go is sent a snapshot, an agent that
//! has not handled it is told of the gap, and who asks for it is told what there is.

use crate::group::{Group, Place, SPACE};
use crate::world::{Node, World, wait_for};
use serde_json::{Value, json};

const LAST: &str = "
:- use_module(library(synod)).
:- replicated(last/1).
:- replicated(lost/2).
on(event(_, _, note(N, _))) :- retractall(last(_)), assertz(last(N)).
on(gap(From, To)) :- assertz(lost(From, To)).
";
/// Bytes of each event.
const LARGE: usize = 40_000;
/// So many of them are several times what is kept.
const MANY: u64 = 120;

/// Emits large events, of these numbers.
fn note(node: &Node, numbers: std::ops::RangeInclusive<u64>) {
    let text = "x".repeat(LARGE);
    for n in numbers {
        node.broadcast(&format!("note({n}, \"{text}\")"));
    }
}

/// What a node says of a space.
fn space(node: &Node, name: &str) -> Value {
    let all = node.get("/v1/spaces");
    let found = all.as_array().unwrap().iter().find(|space| space["name"] == name);
    found.unwrap().clone()
}

fn first(node: &Node, name: &str) -> u64 {
    space(node, name)["first"].as_u64().unwrap()
}

fn retain(node: &Node, name: &str, what: &str) {
    let kept = node.post(&format!("/v1/spaces/{name}/retain"), &json!({ "retain": what }));
    assert_eq!(kept, json!({ "space": name, "retain": what }));
}

#[test]
fn a_member_that_needs_what_was_let_go_catches_up_by_a_snapshot() {
    let mut group = Group::of_three_with("last", LAST);
    for place in &group.places {
        retain(place.node(), SPACE, "1MiB");
    }
    let away = (group.leader() + 1) % 3;
    group.places[0].node().broadcast("note(0, \"\")");
    group.wait_agree();
    let seen = group.places[away].members()["index"].as_u64().unwrap();
    group.places[away].kill();
    let leader = group.leader();
    note(group.places[leader].node(), 1..=MANY);
    for place in group.running() {
        // No further than to where the two agree on what it leads to, which they do once it is quiet.
        wait_for("the log to be cut", || {
            let bytes = space(place.node(), SPACE)["log_bytes"].as_u64().unwrap();
            bytes < MANY * LARGE as u64 / 2
        });
        assert!(first(place.node(), SPACE) > seen + 1);
    }
    group.places[away].start();
    group.wait_voters(3);
    group.wait_agree();
    let back = &group.places[away];
    wait_for("a snapshot of the leader's", || first(back.node(), SPACE) > seen + 1);
    let goal = format!("last({MANY})");
    for place in &group.places {
        wait_for("the same answer everywhere", || place.node().query("last", &goal).len() == 1);
        assert_eq!(space(place.node(), SPACE)["retain"], "1MiB", "it is kept");
    }
    // It can be relied on as before: it takes part in a majority.
    let other = (0..3).find(|n| *n != away && *n != group.leader()).unwrap();
    group.places[other].kill();
    wait_for("a write", || group.places[away].try_broadcast("note(0, \"\")").0 == 200);
}

#[test]
fn an_agent_that_fell_behind_is_told_of_the_gap_and_who_asks_what_there_is() {
    let world = World::new();
    let program = world.program("last.pl", LAST);
    let node = world.up(&[]);
    node.run_agent(&program, "last", json!({}));
    note(&node, 0..=0);
    node.wait_query("last", "last(0)");
    node.post("/v1/agents/last/stop", &Value::Null);
    retain(&node, "local", "1MiB");
    note(&node, 1..=MANY);
    wait_for("the log to be cut", || first(&node, "local") > 10);
    let first = first(&node, "local");
    // What the feed has in memory is gone with the process.
    node.down();
    let node = world.up(&[]);
    assert_eq!(space(&node, "local")["retain"], "1MiB");
    assert!(space(&node, "local")["first"].as_u64().unwrap() >= first);
    node.run_agent(&program, "last", json!({}));
    node.wait_query("last", &format!("last({MANY})"));
    let lost = node.query("last", "lost(From, To)");
    let [one] = &lost[..] else { panic!("{lost:?}") };
    let to: u64 = one.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(to + 1, space(&node, "local")["first"].as_u64().unwrap(), "{one}");

    let asked = node.ask("GET", "/v1/log?from=2", &Value::Null).unwrap();
    let message = asked.1["message"].as_str().unwrap();
    assert_eq!((asked.0, &asked.1["code"]), (404, &json!("not_found")));
    assert!(message.contains(&format!("ask from index {} on", to + 1)), "{message}");
    let file = world.path().join("past.cbor");
    let file = file.to_str().unwrap();
    for args in [&["log", "show", "--from", "2"][..], &["log", "export", file, "--from", "2"]] {
        let said = world.run(args);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains("the log goes back to index"), "{said:?}");
    }
    // Whoever names no beginning is told of what there is, and an export is never cut in silence.
    let shown = world.yes(["log", "show"]);
    assert!(shown.lines().next().unwrap().contains(&format!(" {} ", to + 1)), "{:.200}", shown);
    assert_eq!(world.run(["log", "export", file]).code, 2);
    let past = world.run(["query", "last(X)", "--agent", "last", "--as-of", "2"]);
    assert!(past.code == 2 && past.stderr.contains("the log goes back"), "{past:?}");
    let caught = node.query("last", "catch(as_of(2, last(_)), error(E, _), true)");
    assert_eq!(caught, ["E = existence_error(index,2)"]);
    let as_of = format!("as_of({to}, last(N)), N >= 0");
    assert_eq!(node.query("last", &as_of).len(), 1);

    let (status, answer) =
        node.ask("POST", "/v1/spaces/local/retain", &json!({"retain": "9"})).unwrap();
    assert_eq!((status, &answer["code"]), (400, &json!("bad_request")), "{answer}");
    assert_eq!(
        world.yes(["space", "retain", "local", "everything"]),
        "this node keeps everything of local\n"
    );
}

#[test]
fn a_space_that_keeps_everything_is_never_cut() {
    let mut place = Place::new("alpha");
    place.start().post("/v1/spaces", &json!({ "name": SPACE }));
    note(place.node(), 1..=MANY);
    assert_eq!(first(place.node(), SPACE), 1);
    assert_eq!(space(place.node(), SPACE)["retain"], "everything");
}
