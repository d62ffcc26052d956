//! An agent that several nodes run: one holds it, and whoever stands by takes over.

use crate::group::{Group, PROMISED, time_until};
use crate::world::Over;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const SEEN: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(seen/2).
on(event(_, _, e(K))) :-
    ( retract(seen(K, N0)) -> true ; N0 = 0 ),
    N is N0+1,
    assertz(seen(K, N)).
";

/// Emits numbered events, each under a number of a session, until it is over; counts them.
fn emit(group: &Group, from: usize, over: &AtomicBool, sent: &AtomicU64) {
    let node = group.places[from].node();
    let session = node.post("/v1/session", &json!({"label": "test"}))["session"].clone();
    let mut seq = 0;
    while !over.load(Ordering::Relaxed) {
        seq += 1;
        let once = json!({"session": session, "seq": seq, "acked": seq - 1});
        let body = json!({"term": format!("e({seq})"), "once": once});
        // What had no answer is sent again under its number.
        while node.ask("POST", "/v1/broadcast", &body).unwrap().0 != 200 {}
        sent.store(seq, Ordering::Relaxed);
    }
}

fn check_each_once(group: &Group, sent: u64) {
    let last = sent + 1;
    let place = group.running().next().unwrap();
    place.node().broadcast(&format!("e({last})"));
    place.node().wait_query("seen", &format!("seen({last}, _)"));
    for place in group.running() {
        let answers = place.node().query("seen", "findall(K, seen(K, 1), Ks), length(Ks, N)");
        assert!(answers[0].ends_with(&format!("N = {last}")), "of {last}: {answers:?}");
        assert!(place.node().query("seen", "seen(K, N), N > 1").is_empty(), "handled twice");
    }
}

#[test]
fn an_agent_is_taken_over_and_no_event_is_lost_or_handled_twice() {
    let mut group = Group::of_three_with("seen", SEEN);
    let holder = group.holder("seen");
    let client = (holder + 1) % 3;
    let victim = std::mem::replace(&mut group.places[holder], crate::group::Place::new("spare"));
    let mut victim = Some(victim);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| emit(&group, client, &over, &sent));
        let _over = Over(&over);
        let more = |than: u64| {
            time_until(Instant::now(), "events", || sent.load(Ordering::Relaxed) > than)
        };
        more(50);
        victim.as_mut().unwrap().kill();
        let killed = Instant::now();
        let took = time_until(killed, "a takeover", || {
            group.running().any(|place| place.node().agent_if_any("seen")["state"] == "running")
        });
        assert!(took < PROMISED, "{took:?} to a takeover");
        more(sent.load(Ordering::Relaxed) + 50);
    });
    check_each_once(&group, sent.load(Ordering::Relaxed));
    let mut back = victim.unwrap();
    back.start();
    group.places[holder] = back;
    let runs = group.holder("seen");
    assert_ne!(runs, holder, "who comes back stands by");
    group.wait_agree();
    for place in group.running() {
        place
            .node()
            .wait_agent("seen", |agent| agent["state"] == "standby" || agent["state"] == "running");
        assert!(place.node().query("seen", "seen(K, N), N > 1").is_empty(), "handled twice");
    }
}

#[test]
fn who_holds_an_agent_hands_it_over_at_once_when_it_is_stopped_or_goes_down() {
    let mut group = Group::of_three_with("seen", SEEN);
    let first = group.holder("seen");
    group.places[first].node().broadcast("e(1)");
    group.places[first].node().wait_query("seen", "seen(1, 1)");
    let stopped = Instant::now();
    group.places[first].node().post("/v1/agents/seen/stop", &Value::Null);
    let mut second = first;
    let took = time_until(stopped, "a takeover", || {
        second = group.holder("seen");
        second != first
    });
    assert!(took < PROMISED, "{took:?} after a stop");
    group.places[second].down();
    let ended = Instant::now();
    let third = group.holder("seen");
    let took = ended.elapsed();
    assert!(third != first && third != second);
    assert!(took < PROMISED, "{took:?} after the node went down");
    check_each_once(&Group { places: vec![group.places.swap_remove(third)] }, 1);
}

#[test]
fn another_program_under_a_held_name_is_refused_and_the_same_one_stands_by() {
    let group = Group::of_three();
    let [one, two, three] = &group.places[..] else { unreachable!() };
    assert_eq!(one.run("seen", SEEN).0, 200);
    one.node().wait_agent("seen", |agent| agent["state"] == "running");
    let other = format!("{SEEN}\nanother.\n");
    let (status, answer) = two.run("seen", &other);
    assert!(status >= 400, "{answer}");
    let why = answer["message"].as_str().unwrap();
    assert!(why.contains("alpha") && why.contains("another program"), "{why}");
    let (status, answer) = three.run("seen", SEEN);
    assert_eq!(status, 200, "{answer}");
    let standing = three.node().wait_agent("seen", |agent| agent["state"] == "standby");
    assert_eq!(standing["why"], "runs on node alpha");
    assert_eq!(one.node().agent("seen")["state"], "running");
}
