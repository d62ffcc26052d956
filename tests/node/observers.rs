//! Nodes that follow a space without being members: they see what members write, through restarts, deaths of
//! the leader and cuts of the log, and write nothing themselves.

use crate::group::{Group, Place, SPACE, ticket};
use crate::world::wait_for;
use serde_json::{Value, json};

const NOTED: &str = "
:- use_module(library(synod)).
:- replicated(noted/1).
on(event(_, _, note(X))) :- assertz(noted(X)).
on(event(_, _, who)) :- space_members(Ms), assertz(noted(Ms)).
";

fn observe(place: &Place, ticket: &str) -> (u16, Value) {
    let join = json!({ "ticket": ticket, "observe": true });
    place.node().ask("POST", "/v1/spaces/join", &join).unwrap()
}

/// An observer of a group's space.
fn observer(group: &Group, name: &'static str) -> Place {
    let mut place = Place::new(name);
    place.start();
    let (status, answer) = observe(&place, &ticket(&group.places[0], json!({})));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["role"], "observer", "{answer}");
    place
}

fn index(place: &Place) -> u64 {
    place.members()["index"].as_u64().unwrap()
}

fn place_of(place: &Place, at: u64) -> Value {
    place.node().get(&format!("/v1/log/place?space={SPACE}&at={at}"))
}

/// Waits until an observer has come as far as a member, and has the same history.
fn wait_same(member: &Place, observer: &Place) {
    let agreed = index(member);
    wait_for("the observer to catch up", || index(observer) >= agreed);
    assert_eq!(place_of(member, agreed), place_of(observer, agreed));
}

/// What an observer has counted.
fn observed(place: &Place) -> Value {
    let spaces = place.node().get("/v1/spaces");
    let spaces = spaces.as_array().unwrap();
    spaces.iter().find(|space| space["name"] == SPACE).unwrap()["observed"].clone()
}

fn facts(place: &Place, pattern: &str, local: bool) -> (u16, Value) {
    let request = json!({ "pattern": pattern, "local": local, "space": SPACE });
    place.node().ask("POST", "/v1/facts", &request).unwrap()
}

#[test]
fn an_observer_sees_what_members_write_and_writes_nothing() {
    let group = Group::of_three_with("notes", NOTED);
    let one = &group.places[0];
    one.node().broadcast("note(before)");
    one.node().wait_query("notes", "noted(before)");
    let mut watcher = observer(&group, "watcher");
    wait_same(one, &watcher);

    // What was acknowledged on a member is read here, at once: a voter says how far that is.
    for n in 0..5 {
        one.node().broadcast(&format!("note({n})"));
        one.node().wait_query("notes", &format!("noted({n})"));
        let (status, found) = facts(&watcher, &format!("noted({n})"), false);
        assert_eq!((status, found["facts"].as_array().map(Vec::len)), (200, Some(1)), "{found}");
    }
    // Gossip alone brings what is written, once voters know that somebody listens.
    wait_for("heads that are gossiped", || observed(&watcher)["heads"].as_u64() > Some(2));
    let (status, found) = facts(&watcher, "noted(X)", true);
    assert_eq!(status, 200, "{found}");
    assert!(found["stale_ms"].as_u64() < Some(5_000), "a voter has just spoken: {found}");

    let refused = [
        ("/v1/broadcast", json!({ "term": "note(mine)", "space": SPACE })),
        ("/v1/session", json!({ "label": "me", "space": SPACE })),
        ("/v1/run", json!({ "program": watcher.world.program("notes.pl", NOTED), "space": SPACE })),
        ("/v1/spaces/tickets?space=shared", json!({})),
        ("/v1/spaces/members/promote?space=shared", json!({ "member": "alpha" })),
        (
            "/v1/spaces/shared/recover",
            json!({ "understood": "recover shared and lose what others have" }),
        ),
    ];
    for (path, body) in refused {
        let (status, answer) = watcher.node().ask("POST", path, &body).unwrap();
        assert_eq!((status, &answer["code"]), (409, &json!("observer")), "{path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("observes"), "{answer}");
    }
    let member = json!({ "member": "watcher" });
    let path = "/v1/spaces/members/promote?space=shared";
    wait_for("the directory", || {
        let members = one.members();
        members["observers"][0]["node"] == "watcher"
    });
    let (status, answer) = one.node().ask("POST", path, &member).unwrap();
    assert_eq!((status, &answer["code"]), (409, &json!("observer")), "{answer}");
    let shown = one.world.yes(["space", "members", SPACE]);
    assert!(shown.contains("observer"), "{shown}");
    one.node().broadcast("who");
    one.node().wait_query("notes", "noted([_|_])");
    let told = one.node().query("notes", "noted([M|Ms])");
    assert!(told[0].contains("member(watcher,observer)"), "{told:?}");
    assert_eq!(told[0].matches(",voter)").count(), 3, "{told:?}");

    // It is there again when its node is, and follows what came meanwhile.
    watcher.kill();
    for n in 5..20 {
        one.node().broadcast(&format!("note({n})"));
    }
    watcher.start();
    wait_same(one, &watcher);
    let log = |place: &Place| place.world.yes(["log", "show", "--space", SPACE, "--json"]);
    let (theirs, ours) = (log(one), log(&watcher));
    assert!(theirs.starts_with(ours.trim_end()) || ours.starts_with(theirs.trim_end()));

    let left = watcher.world.yes(["space", "leave", SPACE]);
    assert!(left.contains("left shared"), "{left}");
    assert!(watcher.node().get("/v1/spaces").as_array().unwrap().len() == 1);
}

#[test]
fn an_observer_follows_through_the_leaders_death_and_says_how_old_it_is() {
    let mut group = Group::of_three();
    let watcher = observer(&group, "watcher");
    let leader = group.leader();
    assert_eq!(group.places[leader].try_broadcast("before").0, 200);
    group.places[leader].kill();
    let other = (leader + 1) % 3;
    wait_for("a write", || group.places[other].try_broadcast("after").0 == 200);
    wait_same(&group.places[other], &watcher);
    // With no voter left it answers of itself only, and says since when.
    let rest: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    for n in rest {
        group.places[n].kill();
    }
    wait_for("it to notice", || facts(&watcher, "noted(X)", false).0 == 503);
    wait_for("it to be old", || {
        facts(&watcher, "noted(X)", true).1["stale_ms"].as_u64() > Some(2_000)
    });
    for place in &mut group.places {
        place.start();
    }
    group.wait_voters(3);
    wait_for("a write", || group.places[0].try_broadcast("again").0 == 200);
    wait_same(&group.places[0], &watcher);
}

#[test]
fn an_observer_that_needs_what_was_let_go_takes_a_snapshot() {
    let group = Group::of_three();
    let one = &group.places[group.leader()];
    for place in &group.places {
        place.node().post("/v1/spaces/shared/retain", &json!({ "retain": "1MiB" }));
    }
    let text = "x".repeat(40_000);
    for n in 0..120 {
        one.node().broadcast(&format!("note({n}, \"{text}\")"));
    }
    let first = |place: &Place| {
        let spaces = place.node().get("/v1/spaces");
        let spaces = spaces.as_array().unwrap().clone();
        spaces.iter().find(|space| space["name"] == SPACE).unwrap()["first"].as_u64().unwrap()
    };
    for place in &group.places {
        wait_for("the log to be cut", || first(place) > 10);
    }
    let mut watcher = observer(&group, "watcher");
    wait_same(one, &watcher);
    assert_eq!(observed(&watcher)["snapshots"], 1);
    assert!(first(&watcher) > 10, "what is before was let go");
    // What it has of it is whole when its node starts again.
    watcher.kill();
    watcher.start();
    one.node().broadcast("note(last)");
    wait_same(one, &watcher);
    assert_eq!(observed(&watcher)["snapshots"], 0);
    // A second one may be given what the first has.
    let second = observer(&group, "second");
    wait_same(one, &second);
}

#[test]
fn an_observer_follows_a_recovery_and_a_spent_ticket_lets_nobody_in() {
    let mut group = Group::of_three();
    let watcher = observer(&group, "watcher");
    assert_eq!(group.places[0].try_broadcast("before").0, 200);
    group.wait_agree();
    wait_same(&group.places[0], &watcher);
    let old = ticket(&group.places[0], json!({}));
    group.places[0].node().post("/v1/spaces/tickets/revoke?space=shared", &Value::Null);
    let mut late = Place::new("late");
    late.start();
    let (status, answer) = observe(&late, &old);
    assert_eq!((status, &answer["code"]), (502, &json!("join")), "{answer}");
    group.wait_agree();
    wait_same(&group.places[0], &watcher);
    for n in [1, 2] {
        group.places[n].kill();
    }
    wait_for("it to notice", || group.places[0].members()["leader"].is_null());
    let words = "recover shared and lose what others have";
    let path = "/v1/spaces/shared/recover";
    group.places[0].node().post(path, &json!({ "understood": words }));
    wait_for("a write", || group.places[0].try_broadcast("after").0 == 200);
    wait_same(&group.places[0], &watcher);
    wait_for("its generation", || watcher.members()["generation"] == 1);
    let here = watcher.members()["observers"][0].clone();
    assert!(here["is_here"] == true && here["trouble"].is_null(), "{here}");
}

/// What `synod doctor` finds of the space.
fn diagnosed(place: &Place) -> Value {
    let said = place.world.run(["doctor", "--json"]).stdout;
    let mut found = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_space = found.find(|found| found["what"] == format!("space {SPACE}"));
    of_space.unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn an_observer_is_told_apart_from_a_member_that_is_in_need() {
    let group = Group::of_three_with("notes", NOTED);
    let watcher = observer(&group, "watcher");
    wait_same(&group.places[0], &watcher);
    wait_for("it to be well", || diagnosed(&watcher)["state"] == "ok");
    let found = diagnosed(&watcher);
    assert!(found["found"].as_str().unwrap().contains("observed"), "{found}");
    for args in [&["query", "noted(X)"][..], &["query", "noted(X)", "--agent", "notes"], &["repl"]]
    {
        let asked = watcher.world.run(args);
        assert_eq!(asked.code, 2, "{args:?}: {asked:?}");
        for wanted in ["only observes shared", "synod facts"] {
            assert!(asked.stderr.contains(wanted), "{args:?}: {wanted}: {asked:?}");
        }
    }
    wait_for("the directory", || group.places[0].members()["observers"][0]["node"] == "watcher");
    let removed = group.places[0].world.run(["space", "remove", "watcher", "--space", SPACE]);
    assert_eq!(removed.code, 2, "{removed:?}");
    assert!(removed.stderr.contains("on that node, `synod space leave shared`"), "{removed:?}");
    assert!(!removed.stderr.contains("join"), "{removed:?}");
}

#[test]
fn an_observer_whose_log_is_damaged_follows_anew() {
    let group = Group::of_three();
    let mut watcher = observer(&group, "watcher");
    for n in 0..30 {
        assert_eq!(group.places[0].try_broadcast(&format!("event({n})")).0, 200);
    }
    wait_same(&group.places[0], &watcher);
    watcher.down();
    let folder = watcher.world.data.join("spaces").join(SPACE);
    let log = std::fs::read_dir(folder.join("log")).unwrap();
    let segment = log.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let len = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[len / 2] ^= 0x10;
    std::fs::write(&segment, &bytes).unwrap();
    watcher.start();
    wait_same(&group.places[0], &watcher);
    let left = std::fs::read_dir(watcher.world.data.join("left")).unwrap();
    assert_eq!(left.count(), 1, "what was there is kept aside");
    // Once it is there, it need not be told again by those that let it in.
    let agreed = index(&watcher);
    watcher.down();
    watcher.start();
    wait_for("its place to be noted", || {
        let text = std::fs::read(folder.join("observer.json")).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        file["at"]["index"].as_u64() >= Some(agreed)
    });
    // The log is gone: the same.
    watcher.down();
    std::fs::remove_dir_all(folder.join("log")).unwrap();
    watcher.start();
    wait_same(&group.places[0], &watcher);
}

#[test]
fn an_observer_that_cannot_be_opened_costs_the_node_nothing_else() {
    let group = Group::of_three();
    let mut watcher = observer(&group, "watcher");
    wait_same(&group.places[0], &watcher);
    watcher.down();
    let file = watcher.world.data.join("spaces").join(SPACE).join("observer.json");
    std::fs::write(&file, "{").unwrap();
    watcher.start();
    let local = json!({ "term": "event(here)", "space": "local" });
    assert_eq!(watcher.node().ask("POST", "/v1/broadcast", &local).unwrap().0, 200);
    let (status, answer) = facts(&watcher, "p(_)", false);
    assert_eq!((status, &answer["code"]), (500, &json!("damaged")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("observer.json"), "{answer}");
    assert_eq!(diagnosed(&watcher)["state"], "bad");
    let new = ticket(&group.places[0], json!({}));
    let (status, answer) = observe(&watcher, &new);
    assert_eq!((status, &answer["code"]), (500, &json!("damaged")), "{answer}");
    // As it says.
    watcher.world.yes(["space", "leave", SPACE]);
    assert_eq!(observe(&watcher, &new).0, 200);
    wait_same(&group.places[0], &watcher);
}
