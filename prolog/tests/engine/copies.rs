//! Native copies of predicates that are read more often than they are written: nothing may tell but
//! the clock.

use super::node::{COPY_AFTER, Node, Options};
use super::{facts, queries};
use std::sync::atomic::Ordering;
use synod_prolog::frame::End;

crate::tests! {
    all_that_is_true_of_facts_is_true_of_copies
    any_sequence_of_goals_says_the_same_with_copies_and_without
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
";

fn node(copy_after: u64) -> Node {
    Node::start(PROGRAM, Options { copy_after, ..Options::side() })
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
            // Knuth, The Art of Computer Programming 2, 3.3.4: MMIX's generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let goal = goals(state >> 33);
            let said = |node: &mut Node| {
                let (answers, end) = node.query(&goal);
                (answers, end, node.facts("p", 2), node.facts("q", 1))
            };
            assert_eq!(said(&mut copied), said(&mut plain), "seed {seed}, step {step}: {goal}");
        }
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
    assert_eq!(reads(&mut node, "assertz(q(2))"), 0, "the copy is gone");
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
