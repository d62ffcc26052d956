//! Facts as a program sees them: calls, writes, errors.

use super::node::{Node, Options, error_of, term};
use synod_prolog::frame::End;

crate::tests! {
    facts_are_called_as_clauses_are
    retract_is_nondeterministic_and_respects_constraints
    clause_and_retractall_and_asserta
    errors_are_those_of_a_dynamic_predicate
    writes_are_found_wherever_they_stand
    native_clauses_are_left_alone
    every_term_comes_back_as_it_was
    a_partial_goal_is_a_permission_error_and_never_a_silent_clause
    large_enumerations_come_in_pages
    modules_see_the_same_facts
    a_declared_key_is_read_by_from_the_first_load_on
}

const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(clpz)).
:- use_module(library(lists)).
:- use_module(library(lambda)).
:- use_module(library(dcgs)).
:- use_module(library(iso_ext)).
:- dynamic(native/1).
:- replicated([p/1, q/2, r/0]).
adder --> [X], { assertz(p(X)) }, ( [_] -> adder ; [] ).
keep(X) :- assertz(p(X)).
";

fn node() -> Node {
    Node::start(PROGRAM, Options::side())
}

fn all(node: &mut Node, query: &str) -> Vec<String> {
    let (answers, end) = node.query(query);
    assert!(matches!(end, End::Done | End::False), "{query}: {end:?}");
    answers
}

fn facts_are_called_as_clauses_are() {
    let mut node = node();
    node.transact(
        "assertz(q(1,a)), assertz(q(2,b)), assertz(q(1,c)), assertz(q(f(X),X)), assertz(r)",
    );
    assert_eq!(all(&mut node, "q(1, X)"), ["X = a", "X = c"]);
    assert_eq!(all(&mut node, "q(2, X)"), ["X = b"]);
    assert_eq!(all(&mut node, "q(f(z), X)"), ["X = z"]);
    assert_eq!(all(&mut node, "q(A, b), r"), ["A = 2", "A = f(b)"]);
    assert_eq!(all(&mut node, "q(X, X)"), ["X = f(X)"]);
    assert_eq!(all(&mut node, "findall(A-B, ( q(A,B), integer(A) ), L)"), ["L = [1-a,2-b,1-c]"]);
    assert_eq!(all(&mut node, "\\+ q(3, _)"), ["true"]);
    assert_eq!(all(&mut node, "X #> 1, once(q(X, b))"), ["X = 2"]);
    assert_eq!(all(&mut node, "maplist(q, [1,2], L)"), ["L = \"ab\"", "L = \"cb\""]);
    assert_eq!(all(&mut node, "p(_)"), Vec::<String>::new());
}

fn retract_is_nondeterministic_and_respects_constraints() {
    let mut node = node();
    node.transact("maplist(\\X^assertz(p(X)), [1,2,3,4,5,6])");
    assert_eq!(all(&mut node, "transaction(( retract(p(X)), X >= 3 ))"), ["X = 3"]);
    assert_eq!(node.facts("p", 1), ["p(4)", "p(5)", "p(6)"]);
    assert_eq!(all(&mut node, "X #> 5, once(retract(p(X)))"), ["X = 6"]);
    assert_eq!(node.facts("p", 1), ["p(4)", "p(5)"]);
    assert_eq!(all(&mut node, "retract(( p(X) :- B ))"), ["X = 4, B = true", "X = 5, B = true"]);
    assert!(node.facts("p", 1).is_empty());
    node.transact("assertz(q(A,A)), assertz(q(1,2))");
    assert_eq!(all(&mut node, "retract(q(X, 3))"), ["X = 3"]);
    assert_eq!(node.facts("q", 2), ["q(1,2)"]);
}

fn clause_and_retractall_and_asserta() {
    let mut node = node();
    node.transact("asserta(p(1)), asserta(p(2)), assertz(p(3))");
    assert_eq!(all(&mut node, "p(X)"), ["X = 2", "X = 1", "X = 3"]);
    assert_eq!(all(&mut node, "clause(p(3), B)"), ["B = true"]);
    assert_eq!(all(&mut node, "clause(p(X), foo)"), Vec::<String>::new());
    assert_eq!(all(&mut node, "X #< 3, retractall(p(X))"), ["clpz:(X in inf..2)"]);
    assert_eq!(node.facts("p", 1), ["p(3)"]);
    all(&mut node, "retractall(p(_)), retractall(p(9))");
    assert!(node.facts("p", 1).is_empty());
    // What did not succeed leaves nothing, clause order included.
    node.transact("assertz(p(1)), \\+ transaction(( asserta(p(0)), fail )), assertz(p(2))");
    assert_eq!(node.facts("p", 1), ["p(1)", "p(2)"]);
}

fn errors_are_those_of_a_dynamic_predicate() {
    let mut node = node();
    for (goal, error) in [
        ("assertz(_)", "instantiation_error"),
        ("assertz(( _ :- true ))", "instantiation_error"),
        ("assertz(3)", "type_error(callable,3)"),
        ("assertz(( p(1) :- q(1, X), r ))", "permission_error(modify,replicated_procedure,p/1)"),
        ("assertz(( p(1) :- 4 ))", "type_error(callable,4)"),
        ("asserta(( p(1) :- X ))", "instantiation_error"),
        ("retract(_)", "instantiation_error"),
        ("retract(( 3 :- true ))", "type_error(callable,3)"),
        ("retractall(_)", "instantiation_error"),
        ("retractall(4)", "type_error(callable,4)"),
        ("clause(_, _)", "instantiation_error"),
        ("clause(5, _)", "type_error(callable,5)"),
        ("clause(p(_), 5)", "type_error(callable,5)"),
        ("abolish(p/1)", "permission_error(modify,replicated_procedure,p/1)"),
        ("X = f(X), assertz(p(X))", "representation_error(cyclic_term)"),
        ("X = [a|X], assertz(p(X))", "representation_error(cyclic_term)"),
        ("broadcast(_)", "instantiation_error"),
        ("length(L, 600000), maplist(=(1), L), assertz(p(L))", "resource_error(term_size)"),
    ] {
        let (answers, end) = node.query(goal);
        assert!(answers.is_empty(), "{goal}");
        let text = error_of(&end);
        assert!(text.starts_with(&format!("error({error},")), "{goal}: {text}");
    }
    // The atom that looks like what the machine writes for a cycle is an atom.
    assert_eq!(
        all(&mut node, "assertz(p('...')), assertz(p(f(...))), p(X)"),
        ["X = ...", "X = f(...)"]
    );
}

fn writes_are_found_wherever_they_stand() {
    let mut node = node();
    for (n, goal) in [
        "assertz(p(1))",
        "call(assertz, p(1))",
        "G = assertz(p(1)), call(G)",
        "call(( true, assertz(p(1)) ))",
        "findall(x, assertz(p(1)), _)",
        "\\+ \\+ assertz(p(1))",
        "catch(assertz(p(1)), _, true)",
        "( true -> assertz(p(1)) ; true )",
        "maplist(assertz, [p(1)])",
        "maplist(keep, [1])",
        "phrase(adder, [1])",
        "maplist(\\X^assertz(p(X)), [1])",
        "user:assertz(p(1))",
        "assertz(user:p(1))",
        "assertz(( p(1) :- true ))",
        "forall(member(X, [1]), assertz(p(X)))",
        "setup_call_cleanup(true, assertz(p(1)), true)",
        "assertz(( later :- assertz(p(1)) )), later",
    ]
    .into_iter()
    .enumerate()
    {
        all(&mut node, goal);
        assert_eq!(node.facts("p", 1), ["p(1)"], "{n}: {goal}");
        all(&mut node, "retract(p(1))");
    }
}

fn native_clauses_are_left_alone() {
    let mut node = node();
    assert_eq!(
        all(&mut node, "assertz(native(1)), asserta(native(0)), native(X)"),
        ["X = 0", "X = 1"]
    );
    assert_eq!(all(&mut node, "retract(native(0)), native(X)"), ["X = 1"]);
    assert_eq!(all(&mut node, "clause(native(X), B)"), ["X = 1, B = true"]);
    assert_eq!(all(&mut node, "retractall(native(_)), \\+ native(_)"), ["true"]);
    assert!(node.proposals.is_empty());
}

fn every_term_comes_back_as_it_was() {
    let mut node = node();
    for text in [
        "0",
        "-1",
        "123456789012345678901234567890",
        "1.0",
        "-0.5",
        "1.0e100",
        "'it''s \\n \\x0\\'",
        "\"a \\\"string\\\" with 'quotes' and \\\\ and \\x0\\ and é☃\"",
        "[]",
        "{}",
        "{a,b}",
        "[a,Y]",
        "f(X,Y,X)",
        "[a|V]",
        "[1,2|V]",
        "- 1",
        "-(1)",
        "1 - -1",
        "(a:-b,c;d->e)",
        "[(a,b)]",
        "'\\xa0\\'",
        "f(;,'|','[]',[],{})",
        "\\+a",
        "[a,b,1]",
        "\"abc\"",
        "- - a",
        "a=(\\+b)",
        "'...'",
        "[[a],\"b\",[c,D]]",
    ] {
        let goal = format!(
            "T = ({text}), transaction(( retractall(p(_)), assertz(p(T)), p(U) )), ( subsumes_term(T, U), subsumes_term(U, T) -> R = same ; R = other )"
        );
        let (answers, end) = node.query(&goal);
        assert_eq!(end, End::Done, "{text}");
        assert!(answers[0].ends_with("R = same"), "{text}: {}", answers[0]);
        let stored = term(&node.facts("p", 1)[0]);
        assert_eq!(stored, term(&format!("p(({text}))")), "{text}");
    }
    assert_eq!(
        all(&mut node, "X is 1 rdiv 3, assertz(q(x, X)), q(x, Y), Z is Y * 3")[0]
            .rsplit(", ")
            .next(),
        Some("Z = 1")
    );
}

fn a_partial_goal_is_a_permission_error_and_never_a_silent_clause() {
    let program = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(p/1).
sneaky(L) :- F = assertz, G =.. [F, p(1)], L = [G], hidden(L).
hidden([G|_]) :- builtins:call(G).
";
    let mut node = Node::start(program, Options::side());
    let (answers, end) = node.query("sneaky(L)");
    if answers.is_empty() {
        assert!(error_of(&end).starts_with("error(permission_error(modify,static_procedure,p/1)"));
        assert!(node.facts("p", 1).is_empty());
    } else {
        assert_eq!(node.facts("p", 1), ["p(1)"]);
    }
}

fn large_enumerations_come_in_pages() {
    let mut options = Options::side();
    options.facts = (0..5000).map(|n| term(&format!("q({}, {n})", n % 7))).collect();
    let mut node = Node::start(PROGRAM, options);
    assert_eq!(
        all(&mut node, "findall(X, q(_, X), L), length(L, N), sum_list(L, S), L = [A|_]")[0]
            .split_once("N = ")
            .unwrap()
            .1,
        "5000, S = 12497500, A = 0"
    );
    assert_eq!(
        all(&mut node, "findall(X, q(3, X), L), length(L, N), L = []"),
        Vec::<String>::new()
    );
    // Enumerations that are cut by the ten thousand cost nothing in the end.
    let goal = "findall(X, ( q(_, Y), Y < 3000, once(q(X, _)) ), L), length(L, N)";
    assert!(all(&mut node, goal)[0].ends_with("N = 3000"));
}

fn modules_see_the_same_facts() {
    let mut options = Options::side();
    options.files.push((
        "stock.pl",
        ":- module(stock, [put/1, got/1]).\n:- use_module(library(synod)).\n:- replicated(p/1).\n\
         put(X) :- assertz(p(X)).\ngot(X) :- p(X).\n"
            .into(),
    ));
    let program = ":- module(shop, [sell/1]).\n:- use_module(library(synod)).\n\
        :- use_module(stock).\n:- replicated(p/1).\nsell(X) :- retract(p(X)).\n";
    let mut node = Node::start(program, options);
    assert_eq!(all(&mut node, "put(1), put(2), sell(1), got(X)"), ["X = 2"]);
    assert_eq!(all(&mut node, "p(X)"), ["X = 2"]);
}

fn a_declared_key_is_read_by_from_the_first_load_on() {
    let program = format!("{PROGRAM}:- replicated(job/3+key(2)).\n");
    let jobs = ["job(1, ann, open)", "job(2, bob, open)"];
    let facts = jobs.iter().map(|job| term(job)).collect();
    let mut node = Node::start(&program, Options { facts, ..Options::side() });
    node.claim("job", 3, &[2]);
    let (answers, _) = node.transact("job(N, bob, S), assertz(p(N))");
    assert_eq!(answers, ["N = 2, S = open"]);
    // The key's value, that of facts which are of every value, and that it was told apart by it.
    assert_eq!(node.reads, 3);
}
