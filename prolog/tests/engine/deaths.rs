//! What kills an engine, and how its node can tell.

use super::node::{Node, Options, encoded};
use std::time::{Duration, Instant};
use synod_prolog::Death;
use synod_prolog::frame::*;

crate::tests! {
    a_handler_that_runs_away_is_ended_by_the_time_limit
    a_catch_does_not_help_against_the_time_limit
    a_load_that_runs_away_is_ended
    memory_without_end_is_ended_by_its_limit
    output_without_end_counts_as_memory
    renewal_is_asked_before_the_memory_limit
    inferences_are_limited_where_asked_for
    renewal_is_asked_after_many_new_atoms
    a_panic_of_the_machine_ends_this_process_only
    deep_terms_do_not_overflow_the_stack
    an_engine_whose_node_is_gone_ends
    frames_that_make_no_sense_end_the_engine
    a_shutdown_ends_it
}

const HANDLERS: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- use_module(library(charsio)).
:- replicated(p/1).
loop :- loop.
eat(L) :- eat([L|L], L).
eat(X, L) :- eat([X, L, some_atom|X], L).
deep(0, x) :- !.
deep(N, f(T)) :- N1 is N-1, deep(N1, T).
numbers(N, N, []) :- !.
numbers(I, N, [I|Is]) :- I1 is I+1, numbers(I1, N, Is).
print :- write('something to fill the memory with, again and again, without an end'), nl, print.
on(event(_, _, ok)) :- assertz(p(ok)).
on(event(_, _, loop)) :- loop.
on(event(_, _, caught)) :- catch(loop, _, true), caught.
on(event(_, _, eat)) :- eat(x).
on(event(_, _, print)) :- print.
on(event(_, _, big)) :- numbers(0, 3000000, L), length(L, N), assertz(p(N)).
on(event(_, _, deep(N))) :- deep(N, T), catch(assertz(p(T)), error(E, _), ( write(E), nl )), write(done).
on(event(_, _, native(N))) :- deep(N, T), assertz(native(T)), write(done).
on(event(_, _, panic)) :- '$read_from_chars'(\"a.\", b).
on(message(_, _, _)).
";

fn dies(event: &str, limits: Limits) -> (Death, Duration) {
    let mut node = Node::start(HANDLERS, Options { limits, ..Options::agent() });
    node.expect_next();
    let event = node.event(event);
    node.give(vec![event]);
    let started = Instant::now();
    match node.next_or_death() {
        Err(death) => (death, started.elapsed()),
        Ok(frame) => panic!("{frame:?}"),
    }
}

fn limits(time_ms: u64, memory_bytes: u64, inferences: u64) -> Limits {
    Limits { time_ms, memory_bytes, inferences }
}

fn a_handler_that_runs_away_is_ended_by_the_time_limit() {
    let (death, after) = dies("loop", limits(1500, 0, 0));
    assert_eq!(death, Death::Time);
    assert!(after > Duration::from_millis(1400), "{after:?}");
}

fn a_catch_does_not_help_against_the_time_limit() {
    assert_eq!(dies("caught", limits(1500, 0, 0)).0, Death::Time);
}

fn a_load_that_runs_away_is_ended() {
    let program = ":- use_module(library(synod)). loop :- loop. :- initialization(loop).";
    let options = Options { limits: limits(2000, 0, 0), ..Options::agent() };
    assert_eq!(Node::launch(program, options).next_or_death(), Err(Death::Time));
}

fn memory_without_end_is_ended_by_its_limit() {
    assert_eq!(dies("eat", limits(60_000, 300 << 20, 0)).0, Death::Memory);
}

fn output_without_end_counts_as_memory() {
    assert_eq!(dies("print", limits(60_000, 100 << 20, 0)).0, Death::Memory);
}

fn renewal_is_asked_before_the_memory_limit() {
    let resident = |memory| {
        let options = Options { limits: limits(60_000, memory, 0), ..Options::agent() };
        let mut node = Node::start(HANDLERS, options);
        node.events(&["big"]);
        node.events(&["ok"]);
        (node.resident(), node)
    };
    // What a large list took stays with the process; a fifth more is the limit.
    let (used, _) = resident(0);
    let (_, node) = resident(used / 5 * 6);
    assert_eq!(node.facts("p", 1), ["p(3000000)", "p(ok)"]);
    let asked = node.said.iter().filter(|said| {
        matches!(said,
        FromEngine::Renew { why: Renewal::Memory { bytes } } if *bytes > used / 10 * 8)
    });
    assert_eq!(asked.count(), 1, "{:?}", node.said);
}

fn inferences_are_limited_where_asked_for() {
    assert_eq!(dies("loop", limits(60_000, 0, 100_000)).0, Death::Inferences);
    let options = Options { limits: limits(60_000, 0, 100_000), ..Options::agent() };
    let mut node = Node::start(HANDLERS, options);
    node.events(&["ok"]);
    assert_eq!(node.facts("p", 1), ["p(ok)"]);
}

fn renewal_is_asked_after_many_new_atoms() {
    let mut node = Node::start(HANDLERS, Options::agent());
    for batch in 0..25 {
        let message = |n: u32| Trigger::Message {
            topic: "news".into(),
            from: "bert".into(),
            term: encoded(&format!("'a new atom {batch} {n}'")),
        };
        node.handle((0..1000).map(message).collect());
    }
    let asked =
        node.said.iter().filter(|s| matches!(s, FromEngine::Renew { why: Renewal::Atoms { .. } }));
    assert_eq!(asked.count(), 1);
}

fn a_panic_of_the_machine_ends_this_process_only() {
    assert_eq!(dies("panic", limits(20_000, 0, 0)).0, Death::Panic);
}

fn deep_terms_do_not_overflow_the_stack() {
    let mut node = Node::start(HANDLERS, Options::agent());
    node.events(&["deep(4000)", "deep(6000)", "deep(300000)"]);
    // The first is stored; the others are deeper than terms may be.
    assert_eq!(node.facts("p", 1).len(), 1);
    assert_eq!(
        node.printed(),
        "doneresource_error(term_size)\ndoneresource_error(term_size)\ndone"
    );
    node.events(&["native(300000)", "ok"]);
    assert_eq!(node.facts("p", 1).len(), 2);
}

fn an_engine_whose_node_is_gone_ends() {
    for event in [None, Some("loop")] {
        let mut node = Node::start(HANDLERS, Options::agent());
        node.expect_next();
        if let Some(event) = event {
            let event = node.event(event);
            node.give(vec![event]);
        }
        node.engine.socket.shutdown(std::net::Shutdown::Both).unwrap();
        let status = node.engine.child.wait().unwrap();
        assert_eq!(Death::from(status), Death::Ended);
    }
}

fn frames_that_make_no_sense_end_the_engine() {
    use std::io::Write;
    for bytes in [&[0, 0, 0, 1, 0xff][..], &[0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 2, 0x81, 3]] {
        let mut node = Node::start(HANDLERS, Options::agent());
        node.expect_next();
        node.engine.socket.write_all(bytes).unwrap();
        assert_eq!(node.next_or_death(), Err(Death::Setup));
    }
}

fn a_shutdown_ends_it() {
    let mut node = Node::start(HANDLERS, Options::agent());
    node.expect_next();
    node.send(&ToEngine::Shutdown);
    assert_eq!(node.next_or_death(), Err(Death::Ended));
}
