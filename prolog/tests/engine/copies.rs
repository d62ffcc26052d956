//! Native copies of predicates that are read more often than they are written: nothing may tell but
//! the clock.

use super::node::{COPY_AFTER, Node, Options};
use super::{facts, queries};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use synod_core::term::Term;
use synod_prolog::frame::End;

crate::tests! {
    all_that_is_true_of_facts_is_true_of_copies
    any_sequence_of_goals_says_the_same_with_copies_and_without
    any_sequence_of_goals_says_the_same_with_copies_by_key_and_without
    a_predicate_that_is_too_large_is_copied_by_key
    what_is_no_string_is_not_taken_for_one
    a_copy_of_a_key_counts_as_read_and_no_other_key_does
    a_copy_of_a_key_goes_on_in_the_middle_of_a_transaction
    strings_are_copied_whatever_the_program_reads_them_as
    a_write_of_somebody_else_is_seen_and_a_copy_counts_as_read
    a_call_sees_what_was_there_when_it_was_made
    a_copy_is_dropped_in_the_middle_of_a_transaction
}

fn all_that_is_true_of_facts_is_true_of_copies() {
    COPY_AFTER.store(1, Ordering::Relaxed);
    facts::TESTS.iter().chain(queries::TESTS).for_each(|(_, test)| test());
    COPY_AFTER.store(0, Ordering::Relaxed);
}

const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated([p/2, q/1, s/3]).
:- replicated(d/3).
";

fn node(copy_after: u64) -> Node {
    Node::start(PROGRAM, Options { copy_after, ..Options::side() })
}

/// A node where `d/3` is not copied whole: the machine would not tell its facts apart.
fn node_by_key(program: &str, copy_after: u64) -> Node {
    let alike = |n: i64| Term::structure("g", [n.into()]);
    let fact = |n: i64| Term::structure("d", [alike(n), 77.into(), Term::atom("alike")]);
    let facts = (0..1025).map(fact).collect();
    Node::start(program, Options { copy_after, facts, ..Options::side() })
}

fn any_sequence_of_goals_says_the_same_with_copies_and_without() {
    let goals = |n: u64| -> String {
        let (a, b) = (n % 5, n / 5 % 4);
        match n / 20 % 14 {
            0..3 => format!("p({a}, X)"),
            3 => format!("p(k{a}, X), p(X, Y)"),
            4 => format!("assertz(p({a}, {b}))"),
            5 => format!("asserta(p(k{a}, {b}))"),
            6 => format!("retract(p({a}, X))"),
            7 => format!("retractall(p({a}, {b}))"),
            8 => format!("p({a}, X), assertz(p({a}, new)), !, findall(Y, p({a}, Y), L)"),
            9 => format!(
                "catch(transaction(( p({a}, X), assertz(p({b}, 9)), p({b}, Y), throw(e) )), e, p({b}, Y))"
            ),
            10 => format!(
                "transaction(( retract(p({a}, X)) ; assertz(p({a}, one)) )), findall(Z, p({a}, Z), L)"
            ),
            11 => format!("q({a}) ; \\+ q({a}), assertz(q({a})), q({a})"),
            12 => format!("p(X, {b})"),
            _ => format!("findall(X-Y, p(X, Y), L), s({a}, \"t\", X)"),
        }
    };
    for seed in 0..4u64 {
        let (mut plain, mut copied) = (node(0), node(1));
        let mut state = seed;
        for step in 0..120 {
            let goal = goals(random(&mut state));
            let said = |node: &mut Node| {
                let (answers, end) = node.query(&goal);
                (answers, end, node.facts("p", 2), node.facts("q", 1))
            };
            assert_eq!(said(&mut copied), said(&mut plain), "seed {seed}, step {step}: {goal}");
        }
        let told = told(&mut copied);
        assert!(told["predicates_made"] > 0 && told["predicates_dropped"] > 0, "{told:?}");
        assert!(told["facts_followed"] > 0, "{told:?}");
    }
}

/// Knuth, The Art of Computer Programming 2, 3.3.4: MMIX's generator.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// What the engine has done with copies so far.
fn told(node: &mut Node) -> BTreeMap<String, u64> {
    let (answers, end) = node.query("synod_host:host(copied, copies(L)), member(N-C, L)");
    assert_eq!(end, End::Done);
    let value = |answer: &str, name: &str| {
        let part = answer.split(", ").find_map(|part| part.strip_prefix(name));
        part.unwrap_or_default().to_owned()
    };
    let pair = |answer: &String| (value(answer, "N = "), value(answer, "C = ").parse().unwrap());
    answers.iter().map(pair).collect()
}

fn any_sequence_of_goals_says_the_same_with_copies_by_key_and_without() {
    let key = |n: u64| match n % 9 {
        n @ 0..3 => n.to_string(),
        3 => "-7".into(),
        4 => "k".into(),
        5 => "\"s\"".into(),
        6 => "\"one long string\"".into(),
        7 => "\"two long string\"".into(),
        _ => "f(1)".into(),
    };
    let goals = |n: u64| -> String {
        let (a, c, b) = (key(n), key(n / 9), n / 81 % 3);
        match n / 243 % 26 {
            0..5 => format!("d({a}, X, Y)"),
            5 => format!("d({a}, {b}, Y)"),
            6 => format!("findall(X-Y, d({a}, X, Y), L), findall(X-Y, d({c}, X, Y), M)"),
            7 => format!("\\+ d({a}, _, _), d({c}, X, Y)"),
            8 | 9 => format!("assertz(d({a}, {b}, \"t\"))"),
            10 => format!("asserta(d({a}, {b}, g({c})))"),
            11 => format!("retract(d({a}, X, Y))"),
            12 => format!("retract(d({a}, {b}, Y)), !, assertz(d({a}, {b}, z))"),
            13 => format!("retractall(d({a}, {b}, _))"),
            14 => format!("d({a}, X, Y), assertz(d({a}, X, new)), findall(Z, d({a}, _, Z), L)"),
            15 => format!("d({a}, X, Y), retract(d({a}, X, Y)), findall(Z, d({a}, _, Z), L)"),
            16 => format!(
                "catch(transaction(( d({a}, X, _), assertz(d({c}, 9, 9)), d({c}, Y, _), throw(e) )), e, \
                 findall(Y, d({c}, Y, _), L))"
            ),
            17 => format!(
                "transaction(( retract(d({a}, X, _)) ; assertz(d({a}, 1, one)) )), findall(Z, d({a}, _, Z), L)"
            ),
            18 => format!(
                "transaction(( assertz(d({a}, 5, 5)), ( \\+ transaction(( asserta(d({a}, 6, 6)), \
                 d({a}, 6, _), retract(d({a}, 5, 5)), fail )) -> true ; true ), findall(X, d({a}, X, _), L) ))"
            ),
            19 => format!("d(X, {b}, Y)"),
            20 => format!("clause(d({a}, X, Y), B)"),
            21 if n.is_multiple_of(3) => format!("assertz(d(_, {b}, open))"),
            22 if n.is_multiple_of(3) => format!("assertz(d({a}, V, V))"),
            21 | 22 => "retractall(d(_, _, open))".into(),
            23 => "retractall(d(k, _, _)), findall(X, d(k, X, _), L)".into(),
            _ => format!("d({a}, X, Y), d({c}, X, Z)"),
        }
    };
    for seed in 0..6u64 {
        // With whole copies too, and with none.
        let (mut plain, mut copied) = match seed % 2 {
            0 => (node(0), node(1)),
            _ => (node_by_key(PROGRAM, 0), node_by_key(PROGRAM, 1)),
        };
        let mut state = seed;
        for step in 0..250 {
            let goal = goals(random(&mut state));
            let others = random(&mut state);
            let said = |node: &mut Node| {
                if others.is_multiple_of(8) {
                    node.assert(&format!("d({}, {}, other)", key(others / 8), others % 5));
                }
                let (answers, end) = match others % 3 {
                    0 => node.transact(&goal),
                    _ => node.query(&goal),
                };
                let facts = if step % 10 == 0 { node.facts("d", 3) } else { vec![] };
                (answers, end, facts)
            };
            assert_eq!(said(&mut copied), said(&mut plain), "seed {seed}, step {step}: {goal}");
        }
        let told = told(&mut copied);
        assert!(told["keys_made"] > 30 && told["keys_followed"] > 10, "{told:?}");
        assert_eq!(told["predicates_made"] > 0, seed % 2 == 0, "{told:?}");
    }
}

fn a_predicate_that_is_too_large_is_copied_by_key() {
    let fact = |n: i64| Term::structure("p", [(n % 30_000).into(), n.into()]);
    let facts = (0..50_001).map(fact).collect();
    let mut node = Node::start(PROGRAM, Options { copy_after: 1, facts, ..Options::side() });
    for _ in 0..3 {
        assert_eq!(node.query("p(7, X)").0, ["X = 7", "X = 30007"]);
        assert_eq!(node.query("p(30000, X)").0, [""; 0]);
    }
    let told = |node: &mut Node| {
        let told = told(node);
        (told["predicates_made"], told["keys_made"], told["keys_followed"])
    };
    assert_eq!(told(&mut node), (0, 2, 0));
    node.assert("p(8, other)");
    assert_eq!(node.query("p(7, X)").0, ["X = 7", "X = 30007"]);
    assert_eq!(told(&mut node), (0, 2, 0), "a write of another key is not felt");
    node.assert("p(7, other)");
    assert_eq!(node.query("p(7, X)").0, ["X = 7", "X = 30007", "X = other"]);
    assert_eq!(told(&mut node), (0, 3, 1));
    node.assert("p(_, any)");
    assert_eq!(node.query("p(7, X)").0, ["X = 7", "X = 30007", "X = other", "X = any"]);
    assert_eq!(node.query("p(30000, X)").0, ["X = any"]);
}

fn what_is_no_string_is_not_taken_for_one() {
    let mut node = node_by_key(PROGRAM, 1);
    let facts = ["\"abcdefghij\"", "\"ab\"", "[foo,b]", "[1,2]", "ab"];
    facts.iter().for_each(|key| drop(node.transact(&format!("assertz(d({key}, {key}, x))"))));
    for _ in 0..4 {
        for key in facts {
            let (answers, _) = node.query(&format!("d({key}, X, _)"));
            assert_eq!(answers.len(), 1, "{key}");
        }
        let said = node.query("d([X,b,c,d,e,f,g,h,i,j], _, _)").0;
        assert_eq!(said, ["X = a"]);
        assert_eq!(node.query("d([a,b,c,d,e,f,g,h,i,X], _, _)").0, ["X = j"]);
        assert_eq!(node.query("d([a,b|X], _, _)").0, ["X = \"cdefghij\"", "X = []"]);
        assert_eq!(node.query("d([X,b], _, _)").0, ["X = a", "X = foo"]);
        assert_eq!(node.query("d([X,f(Y)], _, _)").0, [""; 0]);
        assert_eq!(node.query("d([a,bc], _, _)").0, [""; 0]);
        assert_eq!(node.query("d([ab], _, _)").0, [""; 0]);
    }
    assert!(told(&mut node)["keys_made"] >= 2);
}

fn a_copy_of_a_key_counts_as_read_and_no_other_key_does() {
    let mut node = node_by_key(PROGRAM, 16);
    node.transact("assertz(d(1, a, a)), assertz(d(2, b, b))");
    for _ in 0..40 {
        assert_eq!(node.query("d(1, X, _)").0, ["X = a"]);
    }
    let made = told(&mut node);
    assert_eq!(made["keys_made"], 1, "{made:?}");
    // The key's own, and that of facts that are of every key.
    assert_eq!(reads(&mut node, "assertz(q(1))"), 2);
    assert_eq!(reads(&mut node, "d(1, X, _), assertz(q(2))"), 2);
    assert_eq!(reads(&mut node, "d(2, X, _), assertz(q(3))"), 3);
    // What was dropped in its course a run may have read before.
    assert_eq!(reads(&mut node, "d(1, X, _), assertz(d(_, c, c))"), 2);
    assert_eq!(reads(&mut node, "assertz(q(4))"), 0, "the copy is gone");
}

fn a_copy_of_a_key_goes_on_in_the_middle_of_a_transaction() {
    let mut node = node_by_key(PROGRAM, 1);
    node.transact("assertz(d(1, a, x)), assertz(d(1, b, x))");
    (0..4).for_each(|_| drop(node.query("d(1, X, _)")));
    let goal = "d(1, X, _), retract(d(1, a, x)), \\+ d(1, a, _), asserta(d(1, z, x)), \
                findall(Y, d(1, Y, _), L)";
    assert_eq!(node.transact(goal).0, ["X = a, L = \"zb\""]);
    assert_eq!(node.query("findall(Y, d(1, Y, _), L)").0, ["L = \"zb\""]);
    // What was rolled back is not seen, and what was there before is.
    let goal =
        "\\+ transaction(( retract(d(1, b, x)), d(1, X, _), fail )), findall(Y, d(1, Y, _), L)";
    assert_eq!(node.transact(goal).0, ["L = \"zb\""]);
    // Nor is what a conflict has undone.
    node.conflicts = 1;
    assert_eq!(node.transact("assertz(d(1, c, x)), findall(Y, d(1, Y, _), L)").0, ["L = \"zbc\""]);
    assert_eq!(node.query("findall(Y, d(1, Y, _), L)").0, ["L = \"zbc\""]);
    assert!(told(&mut node)["keys_followed"] > 3);
}

fn strings_are_copied_whatever_the_program_reads_them_as() {
    for flag in ["codes", "atom", "chars"] {
        let program = format!(":- set_prolog_flag(double_quotes, {flag}).{PROGRAM}");
        let mut node = node_by_key(&program, 1);
        node.transact("assertz(d([a,b], [c,d], 1))");
        for _ in 0..5 {
            assert_eq!(node.query("d([a,b], [C|_], X)").0, ["C = c, X = 1"], "{flag}");
        }
        assert_eq!(told(&mut node)["keys_made"], 1);
    }
}

/// How many keys a transaction reads.
fn reads(node: &mut Node, goal: &str) -> usize {
    let (answers, end) = node.transact(goal);
    assert!(!answers.is_empty(), "{goal}: {end:?}");
    node.reads
}

fn a_write_of_somebody_else_is_seen_and_a_copy_counts_as_read() {
    let mut node = node(3);
    node.transact("assertz(p(1, a)), assertz(p(2, b))");
    for _ in 0..5 {
        assert_eq!(node.query("p(1, X)").0, ["X = a"]);
    }
    // A transaction that reads nothing of it counts as one that reads all of it.
    assert_eq!(reads(&mut node, "assertz(q(1))"), 1);
    node.assert("p(1, z)");
    assert_eq!(node.query("p(1, X)").0, ["X = a", "X = z"]);
    assert_eq!(reads(&mut node, "assertz(q(2))"), 1, "the copy has followed");
    node.assert("p(_, w)");
    assert_eq!(node.query("p(1, X)").0, ["X = a", "X = z", "X = w"]);
    assert_eq!(reads(&mut node, "assertz(q(3))"), 0, "the copy is gone");
}

fn a_call_sees_what_was_there_when_it_was_made() {
    let mut node = node(1);
    node.transact("assertz(p(1, a)), assertz(p(1, b)), assertz(p(1, c))");
    node.query("p(1, X)");
    let goal = "p(1, X), assertz(p(1, d)), findall(Y, p(1, Y), Ys)";
    let (answers, end) = node.query(goal);
    assert_eq!(end, End::Done);
    assert_eq!(
        answers,
        ["X = a, Ys = \"abcd\"", "X = b, Ys = \"abcdd\"", "X = c, Ys = \"abcddd\""]
    );
}

fn a_copy_is_dropped_in_the_middle_of_a_transaction() {
    let mut node = node(1);
    node.transact("assertz(p(1, a)), assertz(p(2, b))");
    assert_eq!(node.query("p(1, X)").0, ["X = a"]);
    let goal = "p(1, X), retract(p(1, a)), \\+ p(1, _), asserta(p(1, z)), p(1, Y)";
    assert_eq!(node.transact(goal).0, ["X = a, Y = z"]);
    assert_eq!(node.query("p(1, X)").0, ["X = z"]);
    // What was rolled back is not seen, and what was there before is.
    let goal = "catch(( p(1, X), retract(p(1, X)), throw(no) ), no, true), p(1, Y)";
    node.transact(goal);
    let goal = "transaction(( assertz(p(1, y)), p(1, y) )), \\+ transaction(( retract(p(1, y)), fail )), \
                findall(Y, p(1, Y), L)";
    assert_eq!(node.transact(goal).0, ["L = \"zy\""]);
}
