//! A program's file changes while the agent runs: what runs is one version of it, and the space knows
//! which.

use crate::world::{Node, World, kill};
use rustix::process::Signal;
use serde_json::{Value, json};

const JOBS: &str = r#"
:- use_module(library(synod)).
:- replicated([job/3, starts/1]).
on(start) :- ( retract(starts(N0)) -> true ; N0 = 0 ), N is N0+1, assertz(starts(N)).
on(event(_, _, job(N, Who))) :- assertz(job(N, Who, open)).
open(Who, N) :- job(N, Who, open).
"#;

/// The same, with a further key.
fn keyed() -> String {
    JOBS.replace("[job/3,", "[job/3+key(2),")
}

fn transact(node: &Node, goal: &str) -> (u16, Value) {
    let body = json!({"goal": goal, "agent": "jobs"});
    node.ask("POST", "/v1/transact", &body).unwrap()
}

#[test]
fn a_key_that_the_space_does_not_know_is_not_read_by() {
    let world = World::new();
    let node = world.up_with("jobs", JOBS);
    node.broadcast("job(1, ann)");
    node.wait_query("jobs", "open(ann, 1)");
    world.program("jobs.pl", &keyed());
    // A goal before this one may have left an engine that still has the old program: it may answer.
    let goal = "open(ann, N), assertz(job(2, ann, done))";
    node.post("/v1/agents/jobs/restart", &Value::Null);
    let (status, answer) = transact(&node, goal);
    assert_eq!((status, &answer["succeeded"]), (200, &json!(true)), "{answer}");

    // Another key, and no restart: the program is newer than what runs.
    node.down();
    let node = world.up_with("jobs", JOBS);
    world.program("jobs.pl", &JOBS.replace("[job/3,", "[job/3+key(3),"));
    let (status, answer) = transact(&node, goal);
    assert_ne!(status, 200, "{answer}");
    let said = answer["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(said.contains("synod agent restart jobs"), "{said}");
    node.post("/v1/agents/jobs/restart", &Value::Null);
    assert_eq!(transact(&node, goal).0, 200);
    node.down();
}

#[test]
fn an_engine_that_dies_is_followed_by_the_program_as_it_is_then_in_an_epoch_of_its_own() {
    let world = World::new();
    let node = world.up_with("jobs", JOBS);
    node.broadcast("job(1, ann)");
    node.wait_query("jobs", "job(1, ann, open), starts(1)");
    let epoch = |node: &Node| node.agent("jobs")["epoch"].as_u64().unwrap();
    let pid = |node: &Node| node.agent("jobs")["pid"].as_u64().map(|pid| pid as u32);
    let first = epoch(&node);

    // The same program goes on in its epoch.
    let old = pid(&node);
    kill(old.unwrap(), Signal::KILL);
    node.wait_agent("jobs", |agent| agent["state"] == "running" && agent["pid"] != json!(old));
    node.broadcast("job(2, ann)");
    node.wait_query("jobs", "job(2, ann, open), starts(1)");
    assert_eq!(epoch(&node), first);

    world.program("jobs.pl", &keyed());
    kill(pid(&node).unwrap(), Signal::KILL);
    node.wait_agent("jobs", |agent| agent["epoch"].as_u64().unwrap() > first);
    node.broadcast("job(3, ann)");
    node.wait_query("jobs", "job(3, ann, open), starts(1)");
    assert_eq!(node.wait_query("jobs", "job(3, _, open), job(N, ann, open)").len(), 3);
    node.down();
}

#[test]
fn a_restart_with_a_program_that_does_not_load_leaves_the_old_one() {
    let world = World::new();
    let node = world.up_with("jobs", JOBS);
    node.broadcast("job(1, ann)");
    node.wait_query("jobs", "job(1, ann, open)");
    let before = node.agent("jobs");
    world.program("jobs.pl", &JOBS.replace("open).", "open"));
    let (status, answer) = node.ask("POST", "/v1/agents/jobs/restart", &Value::Null).unwrap();
    assert_ne!(status, 200, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("syntax error"), "{answer}");
    let ran = world.run(["agent", "restart", "jobs"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("jobs.pl:6:"), "{ran:?}");
    let after = node.agent("jobs");
    assert_eq!((&after["pid"], &after["epoch"]), (&before["pid"], &before["epoch"]));

    // It still handles what comes.
    let handled = after["handled"].as_u64().unwrap();
    node.broadcast("job(2, ann)");
    node.wait_agent("jobs", |agent| agent["handled"].as_u64().unwrap() > handled);
    world.program("jobs.pl", JOBS);
    node.post("/v1/agents/jobs/restart", &Value::Null);
    node.wait_query("jobs", "job(2, ann, open), starts(2)");
    node.down();
}

#[test]
fn an_agent_that_does_not_start_with_its_node_is_shown_and_can_be_restarted() {
    let world = World::new();
    let node = world.up(&[]);
    let path = world.program("jobs.pl", JOBS);
    world.yes(["run", &path, "--detach"]);
    node.wait_query("jobs", "starts(1)");
    node.down();
    world.program("jobs.pl", "p :- .\n");
    let node = world.up(&[]);
    let agent = node.wait_agent("jobs", |agent| agent["state"] == "failed");
    assert!(agent["why"].as_str().unwrap().contains("jobs.pl:1:"), "{agent}");
    world.program("jobs.pl", JOBS);
    node.post("/v1/agents/jobs/restart", &Value::Null);
    node.wait_query("jobs", "starts(2)");

    // What is stopped stays so.
    world.yes(["agent", "stop", "jobs"]);
    node.down();
    let node = world.up(&[]);
    assert!(node.agent_if_any("jobs").is_null());
    node.down();
}
