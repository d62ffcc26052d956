//! What programs may and may not be, and what is said of those that may not.

use crate::world::{Node, World};
use serde_json::json;

/// Runs a program that cannot be loaded; gives what is said, and checks that nothing is left.
fn refused(name: &str, text: &str) -> String {
    let world = World::new();
    let path = world.program(name, text);
    let ran = world.run(["run", &path]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let said = ran.stderr.replace(&path, name);
    assert!(said.starts_with("synod: "), "{said}");
    said
}

#[test]
fn all_syntax_errors_are_told_with_line_and_column() {
    let text = "\
:- use_module(library(synod)).
:- use_module(library(lists)).

on(event(_, _, a)) :- foo((.
ok(1).
bad(X) :- X = = 1.
ok(2).
worse(\"no end).
";
    let said = refused("syntax.pl", text);
    for place in ["syntax.pl:4:", "syntax.pl:6:", "syntax.pl:8:"] {
        assert!(said.contains(place), "{place} in {said}");
    }
    assert_eq!(said.matches("syntax error").count(), 4, "the first of them leads: {said}");
}

#[test]
fn programs_that_cannot_be_loaded_say_why() {
    for (text, why) in [
        (":- use_module(library(synod)).\n:- use_module(library(no_such)).\n", "no_such"),
        (":- use_module(library(synod)).\n:- use_module(no_file).\n", "no_file"),
        (":- use_module(library(synod)).\n:- initialization(throw(my_error)).\n", "my_error"),
        (":- use_module(library(synod)).\n:- no_such_directive(1).\n", "no_such_directive"),
        (":- use_module(library(synod)).\n:- replicated(p/1).\np(1).\n", "p/1"),
        (":- use_module(library(synod)).\n:- initialization(halt).\n", "halt"),
        (
            ":- use_module(library(synod)).\np(1.0e999).\n",
            "wrong.pl:2:1: syntax error: infinite float",
        ),
        (
            ":- use_module(library(synod)).\n:- replicated(p/1).\n:- initialization(assertz(p(1))).\n",
            "permission_error(modify,facts,load)",
        ),
    ] {
        let said = refused("wrong.pl", text);
        assert!(said.contains(why), "{text}: {said}");
    }
    let world = World::new();
    let ran = world.run(["run", "/no/such/file.pl"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("/no/such/file.pl"), "{ran:?}");
}

#[test]
fn a_program_that_loops_while_it_is_loaded_is_given_up() {
    let world = World::new();
    let text = ":- use_module(library(synod)).\n:- initialization(l).\nl :- l.\n";
    let path = world.program("loop.pl", text);
    let ran = world.run(["run", &path, "--max-time", "1s"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("took more time than allowed while it loaded"), "{ran:?}");
}

const HANDLERS: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(said/1).
:- replicated(pair/2).
on(event(_, _, fail)) :- assertz(said(never)), fail.
on(event(_, _, throw)) :- assertz(said(never)), throw(my_ball).
on(event(_, _, rule)) :- assertz((said(X) :- X = 1)).
on(event(_, _, cyclic)) :- X = f(X), assertz(said(X)).
on(event(_, _, unbound)) :- assertz(_).
on(event(_, _, unbound_retract)) :- retract(_).
on(event(_, _, unbound_call)) :- call(_).
on(event(_, _, built)) :- G = maplist(assertz), call(G, [said(built)]).
on(event(_, _, read)) :- read(X), assertz(said(read(X))).
on(event(_, _, framing)) :- put_all(20), nl, assertz(said(framed)).
on(event(_, _, say(X))) :- assertz(said(X)).
put_all(0) :- !.
put_all(N) :-
    put_char('\x0\'), put_char('\x1\'), write('"$frame"(1). =k '), write(user_error, '{"id":1}'),
    write(user_output, 'loaded.\n'), N1 is N-1, put_all(N1).
"#;

fn failure(node: &Node, event: &str) -> String {
    let before = node.agent("a")["failed"].as_u64().unwrap();
    node.broadcast(event);
    node.wait_agent("a", |agent| agent["failed"].as_u64().unwrap() > before);
    let log = node.log("a");
    log.into_iter().rfind(|line| line.contains("did not succeed")).unwrap()
}

#[test]
fn a_handler_that_does_not_succeed_leaves_nothing_but_a_line() {
    let world = World::new();
    let node = world.up_with("a", HANDLERS);
    for (event, why) in [
        ("fail", "failed"),
        ("throw", "my_ball"),
        ("rule", "error("),
        ("cyclic", "representation_error(cyclic_term)"),
        ("unbound", "instantiation_error"),
        ("unbound_retract", "instantiation_error"),
        ("unbound_call", "instantiation_error"),
    ] {
        let said = failure(&node, event);
        assert!(said.contains(why), "{event}: {said}");
    }
    node.broadcast("built");
    node.broadcast("read");
    node.wait_query("a", "said(read(end_of_file))");
    node.broadcast("framing");
    node.wait_query("a", "said(framed)");
    assert_eq!(node.query("a", "said(X)"), ["X = built", "X = read(end_of_file)", "X = framed"]);
    assert_eq!(node.agent("a")["deaths"], 0);
    let log = node.log("a").join("\n");
    assert_eq!(log.matches("loaded.").count(), 20, "what it printed is its output: {log}");
    node.down();
}

const LIBRARIES: &str = r#"
:- use_module(library(synod)).
:- use_module(library(clpz)).
:- use_module(library(dcgs)).
:- use_module(library(assoc)).
:- use_module(library(tabling)).
:- use_module(library(charsio)).
:- use_module(library(format)).
:- replicated(solved/2).
:- table path/2.
edge(1, 2). edge(2, 3). edge(3, 1).
path(X, Y) :- edge(X, Y).
path(X, Y) :- path(X, Z), edge(Z, Y).
digits([D|Ds]) --> [D], { char_type(D, numeric) }, digits(Ds).
digits([]) --> [].
on(event(_, _, solve(N))) :-
    X #> 0, X * X #= N, label([X]),
    list_to_assoc([N-X], A), get_assoc(N, A, Y),
    phrase(digits(_), "12"),
    assertz(solved(N, Y)).
"#;

#[test]
fn libraries_work_in_programs_and_in_goals() {
    let world = World::new();
    let node = world.up_with("a", LIBRARIES);
    node.broadcast("solve(49)");
    assert_eq!(node.wait_query("a", "solved(49, X)"), ["X = 7"]);
    let mut reached = node.query("a", "path(1, X)");
    reached.sort();
    assert_eq!(reached, ["X = 1", "X = 2", "X = 3"]);
    assert_eq!(node.query("a", "X #> 3, X #< 6, X * 2 #= 10"), ["X = 5"]);
    assert_eq!(world.yes(["query", "X #> 3, X in 0..5, labeling([], [X])"]), "X = 4.\nX = 5.\n");
    assert_eq!(world.yes(["query", "X #> 3"]), "clpz:(X in 4..sup).\n");
    assert_eq!(world.yes(["query", "phrase(digits(Ds), \"42\")"]), "Ds = \"42\".\n");
    assert_eq!(world.yes(["query", "format(\"~a-~d~n\", [x, 3])"]), "x-3\ntrue.\n");
    node.down();
}

#[test]
fn operators_of_a_program_are_those_of_its_goals() {
    let world = World::new();
    let text = ":- use_module(library(synod)).\n:- op(700, xfx, likes).\nmary likes wine.\n";
    let node = world.up_with("a", text);
    assert_eq!(node.query("a", "mary likes X"), ["X = wine"]);
    let run = json!({"program": world.path().join("a.pl"), "name": "a", "options": {}});
    let (status, answer) = node.ask("POST", "/v1/run", &run).unwrap();
    assert_eq!((status, &answer["code"]), (409, &json!("exists")), "{answer}");
    node.down();
}
