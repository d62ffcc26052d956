//! Many that change one thing: nothing is lost, and all of them get to the end.

use crate::world::World;
use serde_json::{Value, json};
use std::thread;

const BOTH: &str = r#"
:- use_module(library(synod)).
:- replicated(count/2).
:- replicated(rerun/1).
on(event(_, _, both)) :- add(shared, 1), self(Me), add(Me, 1).
add(Key, N) :-
    transaction((
        ( retract(count(Key, N0)) -> true ; N0 = 0 ),
        N1 is N0 + N,
        assertz(count(Key, N1))
    )).
"#;

#[test]
fn agents_and_clients_that_update_one_key_lose_nothing_and_all_finish() {
    const EVENTS: u64 = 300;
    const CLIENTS: u64 = 3;
    const GOALS: u64 = 20;
    let world = World::new();
    let node = world.up(&[]);
    let path = world.program("both.pl", BOTH);
    for name in ["a", "b"] {
        node.run_agent(&path, name, json!({}));
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..EVENTS {
                node.broadcast("both");
            }
        });
        for client in 0..CLIENTS {
            let node = &node;
            scope.spawn(move || {
                for _ in 0..GOALS {
                    let agent = if client % 2 == 0 { "a" } else { "b" };
                    let goal = json!({"goal": "add(shared, 1)", "agent": agent});
                    let answer = node.post("/v1/transact", &goal);
                    assert_eq!(answer["succeeded"], Value::Bool(true), "{answer}");
                }
            });
        }
    });
    for name in ["a", "b"] {
        node.wait_query(name, &format!("count({name}, {EVENTS})"));
    }
    let wanted = 2 * EVENTS + CLIENTS * GOALS;
    assert_eq!(node.query("a", "count(shared, N)"), [format!("N = {wanted}")]);
    for name in ["a", "b"] {
        let agent = node.agent(name);
        assert_eq!(agent["failed"], 0, "{agent} {:?}", node.log(name));
        assert_eq!(agent["deaths"], 0, "{agent}");
    }
    node.down();
}
