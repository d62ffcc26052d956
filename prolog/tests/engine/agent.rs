//! An agent's engine: handlers, their commit, reruns.

use super::node::{Node, Options, encoded};
use synod_prolog::frame::*;

crate::tests! {
    a_handler_is_a_transaction
    later_handlers_of_a_batch_see_earlier_writes
    a_conflict_runs_the_half_again
    a_batch_of_unknown_fate_ends_the_engine
    events_that_conflict_for_ever_are_passed_over_one_by_one
    a_handler_that_fails_or_throws_leaves_nothing_but_what_it_printed
    every_kind_of_trigger_arrives
    effects_are_told_in_order_and_dropped_with_their_handler
    on_engine_may_not_write
    what_a_program_prints_is_output_whatever_it_looks_like
    reading_user_input_is_end_of_file
    the_program_may_change_how_strings_are_read
    halt_ends_the_engine_and_its_transaction
    memory_stays_flat_over_100_000_turns
}

pub(crate) const BANK: &str = "
:- use_module(library(synod)).
:- replicated(account/2).
on(event(_, _, open(A))) :- \\+ account(A, _), assertz(account(A, 0)).
on(event(_, _, deposit(A, N))) :-
    retract(account(A, X)), Y is X+N, assertz(account(A, Y)).
on(event(_, From, show(A))) :- account(A, X), write(From-A-X), nl.
transfer(A, B, N) :-
    transaction(( retract(account(A, X)), X >= N, X1 is X - N, assertz(account(A, X1)),
                  retract(account(B, Y)), Y1 is Y + N, assertz(account(B, Y1)) )).
";

fn a_handler_is_a_transaction() {
    let mut node = Node::start(BANK, Options::agent());
    node.events(&["open(alice)"]);
    assert_eq!(node.facts("account", 2), ["account(alice,0)"]);
    node.events(&["deposit(alice, 5)"]);
    node.events(&["show(alice)"]);
    assert_eq!(node.facts("account", 2), ["account(alice,5)"]);
    assert_eq!(node.printed(), "bert-alice-5\n");
    let run = Run::Batch { batch: 3, first: 0, done: 1, failed: vec![] };
    assert_eq!(node.proposals[2].0, run);
}

fn later_handlers_of_a_batch_see_earlier_writes() {
    let mut node = Node::start(BANK, Options::agent());
    node.events(&["open(alice)", "deposit(alice, 1)", "deposit(alice, 2)", "open(alice)"]);
    assert_eq!(node.facts("account", 2), ["account(alice,3)"]);
    assert_eq!(node.failures(), ["failed"]);
    assert_eq!(node.proposals.len(), 1);
}

fn a_conflict_runs_the_half_again() {
    let mut node = Node::start(BANK, Options::agent());
    node.conflicts = 2;
    node.events(&["open(a)", "open(b)", "open(c)", "open(d)", "open(e)"]);
    assert_eq!(node.facts("account", 2).len(), 5);
    let done: Vec<u32> = node
        .proposals
        .iter()
        .map(|(run, _)| match run {
            Run::Batch { done, .. } => *done,
            Run::Own => 0,
        })
        .collect();
    // 5, halved to 2, halved to 1; then twice as many after each commit.
    assert_eq!(done, [1, 2, 2]);
}

fn a_batch_of_unknown_fate_ends_the_engine() {
    let mut node = Node::start(BANK, Options::agent());
    node.unknown = Some("anna.7".into());
    node.expect_next();
    let event = node.event("open(a)");
    node.give(vec![event]);
    assert_eq!(node.next_or_death(), Err(synod_prolog::Death::Setup));
}

fn events_that_conflict_for_ever_are_passed_over_one_by_one() {
    let mut node = Node::start(BANK, Options::agent());
    node.conflicts_of_writes = true;
    node.events(&["open(a)", "nothing"]);
    node.conflicts_of_writes = false;
    node.events(&["open(b)"]);
    assert_eq!(node.facts("account", 2), ["account(b,0)"]);
    assert_eq!(node.failures(), ["error(conflict([\"a key\"]),synod)"]);
}

fn a_handler_that_fails_or_throws_leaves_nothing_but_what_it_printed() {
    let program = "
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, fail)) :- assertz(p(1)), write(printed), publish(news, 1), fail.
on(event(_, _, throw)) :- assertz(p(2)), Y = foo+1, X is Y, assertz(p(X)).
on(event(_, _, ball)) :- asserta(p(3)), throw(f(X, 'A', X, [a,_])).
on(event(_, _, ok)) :- asserta(p(4)), assertz(p(5)).
";
    let mut node = Node::start(program, Options::agent());
    node.events(&["fail", "throw", "ball", "nothing_of_ours", "ok"]);
    assert_eq!(node.facts("p", 1), ["p(4)", "p(5)"]);
    assert_eq!(
        node.failures(),
        ["failed", "error(type_error(evaluable,foo/0),(is)/2)", "f(_A,'A',_A,[a,_B])"]
    );
    assert_eq!(node.printed(), "printed");
    assert_eq!(node.proposals[0].1.len(), 1);
}

fn every_kind_of_trigger_arrives() {
    let program = "
:- use_module(library(synod)).
on(T) :- writeq(T), nl.
";
    let mut node = Node::start(program, Options::agent());
    let position = Position { index: 9, n: 2 };
    let (from, term) = (|| "bert".to_owned(), || encoded("f(X,Y,X)"));
    node.handle(vec![Trigger::Start]);
    node.handle(vec![Trigger::Engine]);
    node.handle(vec![
        Trigger::Event { position: position.clone(), from: from(), term: term() },
        Trigger::Changed { position: position.clone(), what: What::Retract, fact: encoded("p(1)") },
        Trigger::Message { topic: "news".into(), from: from(), term: encoded("\"text\"") },
        Trigger::Sent { from: from(), term: encoded("[]") },
        Trigger::Timer { term: encoded("'hello world'") },
        Trigger::Datagram {
            group: "239.0.0.2".into(),
            port: 20005,
            from: "10.0.0.1:4711".into(),
            bytes: b"%-prolog-\n\0\xff".to_vec(),
        },
        Trigger::Udp { scope: "subnet".into(), from: "[::1]:5".into(), term: encoded("1.5") },
        Trigger::OrderedDatagram {
            position: position.clone(),
            group: "239.0.0.2".into(),
            port: 20005,
            from: "127.64.0.1:4711".into(),
            bytes: b"\0\xff".to_vec(),
        },
        Trigger::OrderedUdp {
            position,
            scope: "239.0.0.2:20005".into(),
            from: "127.64.0.1:4711".into(),
            term: encoded("g(\"\")"),
        },
        Trigger::Gap { from: 3, to: 7 },
    ]);
    let lines = node.printed();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[2].starts_with("event(9-2,bert,f(_"), "{}", lines[2]);
    assert_eq!(
        [&lines[..2], &lines[3..]].concat(),
        [
            "start",
            "engine",
            "changed(retract(p(1)))",
            "message(news,bert,[t,e,x,t])",
            "sent(bert,[])",
            "timer('hello world')",
            "datagram(ip(239,0,0,2):20005,ip(10,0,0,1):4711,bytes(['%',-,p,r,o,l,o,g,-,'\\n','\\x0\\',ÿ]))",
            "udp(subnet,ip6([:,:,'1']):5,1.5)",
            "datagram(9-2,ip(239,0,0,2):20005,ip(127,64,0,1):4711,bytes(['\\x0\\',ÿ]))",
            "udp(9-2,'239.0.0.2:20005',ip(127,64,0,1):4711,g([]))",
            "gap(3,7)",
        ]
    );
}

fn effects_are_told_in_order_and_dropped_with_their_handler() {
    let program = "
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, go)) :-
    subscribe(news), publish(news, f(X, X)), send(carl, hello), after(0.05, tick), every(1, tock),
    cancel(tick), watch(p/1, [others]), unwatch(p/1), unsubscribe(news),
    agent_log(warning, \"~w is ~q\", [x, 'Y']), broadcast(event(1)), write(done).
on(event(_, _, try)) :-
    (   transaction(( assertz(p(1)), publish(news, 1), fail )) -> true
    ;   catch(transaction(( assertz(p(2)), throw(oops) )), oops, true),
        transaction(assertz(p(3)))
    ).
on(event(_, _, bad(G))) :- catch(call(G), error(E, _), ( writeq(E), nl )).
";
    let mut node = Node::start(program, Options::agent());
    node.events(&["go", "try"]);
    let effects = &node.proposals[0].1;
    let tick = || encoded("tick");
    assert_eq!(
        *effects,
        [
            Effect::Subscribe { topic: "news".into() },
            Effect::Publish { topic: "news".into(), term: encoded("f(X,X)") },
            Effect::Send { agent: "carl".into(), term: encoded("hello") },
            Effect::After { micros: 50_000, term: tick() },
            Effect::Every { micros: 1_000_000, term: encoded("tock") },
            Effect::Cancel { term: tick() },
            Effect::Watch { name: "p".into(), arity: 1, others: true },
            Effect::Unwatch { name: "p".into(), arity: 1 },
            Effect::Unsubscribe { topic: "news".into() },
            Effect::Log { level: Level::Warning, text: "x is 'Y'".into() },
            Effect::Output { bytes: b"done".to_vec() },
        ]
    );
    assert_eq!(node.facts("p", 1), ["p(3)"]);
    node.proposals.clear();
    node.events(&[
        "bad(synod:publish(X, 1))",
        "bad(synod:publish(\"s\", 1))",
        "bad(synod:after(-1, t))",
        "bad(synod:every(0, t))",
        "bad(synod:watch(q/7))",
        "bad(synod:broadcast(X))",
        "bad(synod:agent_log(loud, \"\", []))",
        "bad(synod:transaction(true, [slow]))",
        "bad(synod:linearizable(true))",
        "bad(synod:as_of(3, true))",
    ]);
    assert_eq!(
        node.printed().lines().collect::<Vec<_>>(),
        [
            "instantiation_error",
            "type_error(atom,[s])",
            "domain_error(seconds,-1)",
            "domain_error(timer_period,0)",
            "existence_error(replicated_procedure,q/7)",
            "instantiation_error",
            "domain_error(log_level,loud)",
            "domain_error(transaction_option,slow)",
            "permission_error(access,fresh_version,transaction)",
            "permission_error(access,past,transaction)",
        ]
    );
}

fn on_engine_may_not_write() {
    let program = "
:- use_module(library(synod)).
:- replicated(p/1).
on(engine) :- catch(assertz(p(1)), error(E, _), ( writeq(E), nl )), subscribe(news).
on(start) :- assertz(p(2)).
";
    let mut node = Node::start(program, Options::agent());
    node.handle(vec![Trigger::Engine, Trigger::Start]);
    assert_eq!(node.printed(), "permission_error(modify,facts,engine)\n");
    assert_eq!(node.facts("p", 1), ["p(2)"]);
}

fn what_a_program_prints_is_output_whatever_it_looks_like() {
    let program = "
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, X)) :-
    write(user_output, 'commit\\n'), write(user_output, abcdef(done)), write_canonical(user_output, done),
    nl(user_output), flush_output(user_output), write(abcdef(add(z,p(9)))), nl,
    put_char(user_output, '\\0\\'), assertz(p(X)), write(user_error, to_the_log).
";
    let mut node = Node::start(program, Options::agent());
    node.events(&["1", "2"]);
    assert_eq!(node.facts("p", 1), ["p(1)", "p(2)"]);
    let once = "commit\nabcdef(done)done\nabcdef(add(z,p(9)))\n\0";
    assert_eq!(node.printed(), format!("{once}{once}"));
    assert!(node.stderr().ends_with("to_the_logto_the_log"));
}

fn reading_user_input_is_end_of_file() {
    let program = "
:- use_module(library(synod)).
on(event(_, _, _)) :-
    read(X), get_char(Y), get_char(user_input, Z), writeq([X, Y, Z]).
";
    let mut node = Node::start(program, Options::agent());
    node.events(&["1", "2"]);
    assert_eq!(node.printed(), "[end_of_file,end_of_file,end_of_file]".repeat(2));
}

fn the_program_may_change_how_strings_are_read() {
    let program = "
:- use_module(library(synod)).
:- set_prolog_flag(double_quotes, codes).
:- replicated(p/2).
on(event(_, _, E)) :- assertz(p(E, \"A\")), p(E, Codes), atom_chars(A, E), writeq(A-Codes), nl.
on(timer(E)) :-
    set_prolog_flag(double_quotes, atom), p(E, _), writeq(E), nl.
";
    let mut node = Node::start(program, Options::agent());
    node.events(&["\"text\""]);
    node.handle(vec![Trigger::Timer { term: encoded("\"text\"") }]);
    assert_eq!(node.printed(), "text-[65]\n[t,e,x,t]\n");
    assert_eq!(node.facts("p", 2), ["p(\"text\",[65])"]);
}

fn halt_ends_the_engine_and_its_transaction() {
    let program = "
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, N)) :- assertz(p(N)), halt(N).
on(timer(_)) :- G = halt, call(G).
";
    for (status, trigger) in [(3, None), (0, Some(Trigger::Timer { term: encoded("x") }))] {
        let mut node = Node::start(program, Options::agent());
        node.expect_next();
        let trigger = trigger.unwrap_or_else(|| node.event("3"));
        node.give(vec![trigger]);
        assert_eq!(node.next_said(), FromEngine::Halted { status });
        assert_eq!(node.next_or_death(), Err(synod_prolog::Death::Ended));
        assert!(node.facts("p", 1).is_empty());
    }
}

fn memory_stays_flat_over_100_000_turns() {
    let mut node = Node::start(BANK, Options::agent());
    node.events(&["open(alice)"]);
    let turn = |node: &mut Node, turns: usize| {
        for _ in 0..turns / 64 {
            node.events(&["deposit(alice, 1)"; 64]);
            node.proposals.clear();
        }
        node.resident()
    };
    let before = turn(&mut node, 10_000);
    let after = turn(&mut node, 100_000);
    assert!(after < before + (4 << 20), "{before} {after}");
}
