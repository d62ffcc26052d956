//! Side engines: goals and their answers.

use super::agent::BANK;
use super::node::{Node, Options, encoded, error_of, term};
use synod_core::term::Term;
use synod_prolog::Death;
use synod_prolog::frame::*;

crate::tests! {
    answers_look_as_the_toplevel_prints_them
    answers_come_in_chunks_and_can_be_stopped
    a_query_that_cannot_be_read_says_where
    errors_of_goals_are_rendered
    an_answer_that_cannot_be_told_is_an_error_of_its_goal
    a_query_writes_in_transactions_of_their_own
    a_transaction_runs_again_on_conflict
    a_transaction_whose_fate_is_unknown_says_so
    operators_of_the_program_are_known_in_queries
    the_enumeration_of_a_call_sees_what_was_there_when_it_was_made
    a_call_is_answered_in_encoded_terms
    another_agent_is_asked_in_chunks
    the_past_can_be_asked
    halt_in_a_query_ends_the_engine
    the_engine_knows_who_and_where_it_is
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn answers_look_as_the_toplevel_prints_them() {
    let program = "
:- use_module(library(synod)).
:- use_module(library(clpz)).
:- use_module(library(dif)).
:- use_module(library(lists)).
p(1). p(2).
";
    let mut node = Node::start(program, Options::side());
    for (query, answers, end) in [
        ("true", &["true"][..], End::Done),
        ("fail.", &[], End::False),
        ("X = 100", &["X = 100"], End::Done),
        ("p(X)", &["X = 1", "X = 2"], End::Done),
        ("member(X, [a,b]), Y = f(X).", &["X = a, Y = f(a)", "X = b, Y = f(b)"], End::Done),
        ("p(X), X > 5", &[], End::False),
        ("( X = 1 ; X = 2 ; false )", &["X = 1", "X = 2"], End::False),
        ("X = Y", &["X = Y"], End::Done),
        ("X = f(A, B, A)", &["X = f(A,B,A)"], End::Done),
        (
            "X = \"a string\", Y = 'An atom', Z = []",
            &["X = \"a string\", Y = 'An atom', Z = []"],
            End::Done,
        ),
        ("X = (a :- b, c)", &["X = (a:-b,c)"], End::Done),
        ("length(L, 2)", &["L = [_A,_B]"], End::Done),
        ("L = [a,Y|_]", &["L = [a,Y|_A]"], End::Done),
        ("X in 1..3", &["clpz:(X in 1..3)"], End::Done),
        ("X #> 3, X #< 5", &["X = 4"], End::Done),
        ("dif(X, a)", &["dif:dif(X,a)"], End::Done),
        ("X = f(X)", &["X = f(X)"], End::Done),
        ("_X = 1, _ = 2", &["_X = 1"], End::Done),
        ("X is 2 ^ 100", &["X = 1267650600228229401496703205376"], End::Done),
    ] {
        assert_eq!(node.query(query), (strings(answers), end), "{query}");
    }
    // The values, encoded.
    node.ask("X = [1,2.5,\"s\",Y], Z = Y", GoalKind::Query, 1);
    let FromEngine::Answers { answers, .. } = node.next_said() else { panic!() };
    let x = &answers[0].bindings[0];
    assert_eq!((x.name.as_str(), x.term.clone()), ("X", Some(encoded("[1,2.5,\"s\",Y]"))));
    assert_eq!(x.text, "[1,2.5,\"s\",Y]");
}

fn answers_come_in_chunks_and_can_be_stopped() {
    let program = ":- use_module(library(synod)). :- use_module(library(between)).";
    let mut node = Node::start(program, Options::side());
    node.ask("between(1, 1000000, X)", GoalKind::Query, 3);
    let id = node.goal();
    let mut seen = 0;
    for round in 1..=2 {
        loop {
            let FromEngine::Answers { answers, end, .. } = node.next_said() else { panic!() };
            seen += answers.len();
            match end {
                End::Running => {}
                End::More => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, 3 * round);
        node.send(&if round == 1 { ToEngine::More { id } } else { ToEngine::Stop { id } });
    }
    assert_eq!(node.query("X = 1"), (strings(&["X = 1"]), End::Done));
}

fn a_query_that_cannot_be_read_says_where() {
    let mut node = Node::start(BANK, Options::side());
    for (query, line, column) in [
        ("foo((", 1, 6),
        ("foo(a b)", 1, 7),
        ("X = 1,\n Y = = 2", 2, 8),
        ("a. b", 1, 3),
        ("", 1, 1),
        ("'open", 1, 1),
    ] {
        let (answers, end) = node.query(query);
        assert!(answers.is_empty());
        let End::Syntax { problems } = end else { panic!("{query}: {end:?}") };
        let problem = &problems[0];
        assert_eq!((problem.line, problem.column), (line, column), "{query}: {problem:?}");
    }
    assert_eq!(node.query("true. % done"), (strings(&["true"]), End::Done));
}

fn errors_of_goals_are_rendered() {
    let mut node = Node::start(BANK, Options::side());
    for (query, error) in [
        ("X is foo + 1", "error(type_error(evaluable,foo/0),(is)/2)"),
        ("no_such(1)", "error(existence_error(procedure,no_such/1),no_such/1)"),
        ("throw(my('Ball', X, \"s\"))", "my('Ball',_A,\"s\")"),
        ("G = 3, call(G)", "error(type_error(callable,3),call/1)"),
        ("X", "error(instantiation_error,call/1)"),
    ] {
        let (answers, end) = node.query(query);
        assert!(answers.is_empty(), "{query}");
        assert_eq!(error_of(&end), error, "{query}");
    }
}

fn an_answer_that_cannot_be_told_is_an_error_of_its_goal() {
    let program = format!("{BANK}\ndeep(0, a).\ndeep(N, f(X)) :- N > 0, N1 is N-1, deep(N1, X).\n");
    let mut node = Node::start(&program, Options::side());
    let (answers, end) = node.query("deep(10, X) ; deep(5000, X)");
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(error_of(&end), "error(resource_error(term_size),synod)");
    // The engine goes on.
    assert_eq!(node.query("X = 1").0, ["X = 1"]);
}

fn a_query_writes_in_transactions_of_their_own() {
    let mut node = Node::start(BANK, Options::side());
    let (answers, end) = node.query("assertz(account(a, 1)), assertz(account(b, 2)), fail");
    assert_eq!((answers.len(), end), (0, End::False));
    assert_eq!(node.facts("account", 2), ["account(a,1)", "account(b,2)"]);
    assert_eq!(node.proposals.len(), 2);
    // What was written by somebody else is there for the next goal.
    node.assert("account(c, 3)");
    let (answers, _) = node.query("retract(account(X, N)), N >= 2");
    assert_eq!(answers, ["X = b, N = 2", "X = c, N = 3"]);
    assert!(node.facts("account", 2).is_empty());
}

fn a_transaction_runs_again_on_conflict() {
    let mut node = Node::start(BANK, Options::side());
    node.transact("assertz(account(a, 10)), assertz(account(b, 0))");
    node.conflicts = 3;
    let (answers, end) = node.transact("write(x), transfer(a, b, 4)");
    assert_eq!((answers, end), (strings(&["true"]), End::Done));
    assert_eq!(node.facts("account", 2), ["account(a,6)", "account(b,4)"]);
    // Printed once: by the run that committed.
    assert_eq!(node.printed(), "x");
    assert_eq!(node.transact("transfer(a, b, 100)"), (vec![], End::False));
    let (_, end) = node.transact("assertz(account(z, 1)), throw(oops)");
    assert_eq!(error_of(&end), "oops");
    assert_eq!(node.facts("account", 2), ["account(a,6)", "account(b,4)"]);
    // Not for ever.
    node.conflicts = u32::MAX;
    let (_, end) = node.transact("assertz(account(z, 1))");
    assert_eq!(error_of(&end), "error(conflict([\"a key\"]),synod)");
    node.conflicts = 0;
    assert_eq!(node.transact("account(z, X)"), (vec![], End::False));
}

fn a_transaction_whose_fate_is_unknown_says_so() {
    let mut node = Node::start(BANK, Options::side());
    node.unknown = Some("7-3".into());
    let (_, end) = node.transact("assertz(account(z, 1))");
    assert_eq!(error_of(&end), "error(unknown(\"7-3\"),synod)");
    node.replies.push_back(Ok(term("committed(9)")));
    let (answers, _) = node.query("outcome(\"7-3\", X)");
    assert_eq!(answers, ["X = committed(9)"]);
}

fn operators_of_the_program_are_known_in_queries() {
    let program = "
:- use_module(library(synod)).
:- op(700, xfx, ===>).
rule(a ===> b).
";
    let mut node = Node::start(program, Options::side());
    assert_eq!(node.query("rule(X ===> Y)").0, ["X = a, Y = b"]);
    assert_eq!(node.query("rule(X)").0, ["X = (a===>b)"]);
}

fn the_enumeration_of_a_call_sees_what_was_there_when_it_was_made() {
    let mut options = Options::side();
    options.facts = (0..300).map(|n| term(&format!("p({n})"))).collect();
    let program =
        ":- use_module(library(synod)). :- use_module(library(lists)). :- replicated([p/1, q/1]).";
    let mut node = Node::start(program, options);
    // Each write is a transaction of its own, and the replica follows it at once.
    let goal = "p(X), X < 20, Y is X+1000, assertz(p(Y)), retract(p(X)), fail";
    assert_eq!(node.query(goal), (vec![], End::False));
    assert_eq!(node.facts("p", 1).len(), 300);
    let goal = "findall(X, p(X), L), length(L, N), L = [A|_]";
    node.ask(goal, GoalKind::Query, 1);
    let FromEngine::Answers { answers, end, .. } = node.next_said() else { panic!() };
    assert_eq!(end, End::Done);
    assert!(answers[0].text.ends_with("N = 300, A = 20"), "{}", answers[0].text);
}

fn a_call_is_answered_in_encoded_terms() {
    let program = ":- use_module(library(synod)). :- use_module(library(clpz)). p(1, a). p(2, b).";
    let mut node = Node::start(program, Options::side());
    let goal = GoalText::Term { term: encoded("p(X, Y)") };
    node.send(&ToEngine::Goal { id: 1, goal, kind: GoalKind::Call, chunk: 5, at_least: 0 });
    for (answer, wanted) in [("p(1,a)", End::Running), ("p(2,b)", End::Done)] {
        let FromEngine::Answers { answers, end, .. } = node.next_said() else { panic!() };
        assert_eq!(answers[0].term, Some(encoded(&format!("answer({answer}, [])"))));
        assert_eq!(end, wanted);
    }
    let goal = GoalText::Term { term: encoded("'#>'(X, 3)") };
    node.send(&ToEngine::Goal { id: 2, goal, kind: GoalKind::Call, chunk: 5, at_least: 0 });
    let FromEngine::Answers { answers, .. } = node.next_said() else { panic!() };
    let wanted = encoded("answer('#>'(X, 3), [':'(clpz, in(X, '..'(4, sup)))])");
    assert_eq!(answers[0].term, Some(wanted));
}

fn another_agent_is_asked_in_chunks() {
    let program = ":- use_module(library(synod)). :- use_module(library(clpz)).
:- use_module(remote(bert), [q/1]).";
    let mut options = Options::side();
    options.replies.push(Ok(term("true")));
    let mut node = Node::start(program, options);
    let answers = |call, answers: &[&str], more, error: Option<&str>| ToEngine::CallAnswers {
        call,
        answers: answers.iter().map(|answer| encoded(answer)).collect(),
        more,
        error: error.map(encoded),
    };
    node.calls.push_back(answers(
        1,
        &["answer(p(1),[])", "answer(p(Z),[':'(clpz,in(Z,'..'(1,2)))])"],
        true,
        None,
    ));
    node.calls.push_back(answers(1, &["answer(p(3),[])"], false, None));
    let (all, end) = node.query("bert::p(X)");
    assert_eq!((all, end), (strings(&["X = 1", "clpz:(X in 1..2)", "X = 3"]), End::Done));
    assert!(matches!(&node.said[0], FromEngine::Call { agent, goal, .. }
        if agent == "bert" && *goal == encoded("p(X)")));
    assert_eq!(node.said[1], FromEngine::CallMore { call: 1 });
    // An error after an answer, and a cut.
    node.calls.push_back(answers(2, &["answer(q(1),[])"], false, Some("oops")));
    let (all, end) = node.query("q(X)");
    assert_eq!((all, error_of(&end)), (strings(&["X = 1"]), "oops"));
    node.calls.push_back(answers(3, &["answer(q(1),[])"], true, None));
    assert_eq!(node.query("once(q(X))").0, ["X = 1"]);
    assert_eq!(node.said.last(), Some(&FromEngine::CallClose { call: 3 }));
    let missing = "error(existence_error(agent,carl),remote/3)";
    node.calls.push_back(answers(4, &[], false, Some(missing)));
    assert_eq!(error_of(&node.query("carl::p(X)").1), missing);
}

fn the_past_can_be_asked() {
    let mut options = Options::side();
    options.facts = vec![term("p(old)")];
    let program = ":- use_module(library(synod)). :- replicated(p/1).";
    let mut node = Node::start(program, options);
    let base = node.write_base();
    let path = || Ok(Term::string(base.to_string_lossy()));
    node.query("retract(p(old)), assertz(p(new))");
    assert_eq!(node.query("p(X)").0, ["X = new"]);
    node.replies.push_back(path());
    assert_eq!(node.query("as_of(2, p(X)), p(Y)").0, ["X = old, Y = new"]);
    node.replies.push_back(path());
    let (_, end) = node.query("as_of(2, assertz(p(x)))");
    assert_eq!(error_of(&end), "error(permission_error(modify,past,as_of),synod)");
    node.replies.push_back(Err(term("error(existence_error(index, 1), as_of/2)")));
    let (_, end) = node.query("as_of(1, p(_))");
    assert_eq!(error_of(&end), "error(existence_error(index,1),as_of/2)");
    node.replies.push_back(Ok(Term::integer(node.state.index())));
    assert_eq!(node.query("linearizable(p(X))").0, ["X = new"]);
}

fn halt_in_a_query_ends_the_engine() {
    let mut node = Node::start(BANK, Options::side());
    node.ask("halt(3)", GoalKind::Query, 1);
    let FromEngine::Answers { end, .. } = node.next_said() else { panic!() };
    assert_eq!(end, End::Halted { status: 3 });
    assert_eq!(node.next_or_death(), Err(Death::Ended));
}

fn the_engine_knows_who_and_where_it_is() {
    let mut node = Node::start(BANK, Options::side());
    assert_eq!(node.query("self(X), this_node(Y)").0, ["X = anna, Y = n1"]);
    node.replies.push_back(Ok(term("[member(n1, voter)]")));
    assert_eq!(node.query("space_members(X)").0, ["X = [member(n1,voter)]"]);
    assert_eq!(node.query("self(bert)"), (vec![], End::False));
}
