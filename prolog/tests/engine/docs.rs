//! The examples in the libraries' doc comments, run in the order in which they stand.
//!
//! An example is a query behind `?-` and what the toplevel answers, in further lines; answers are
//! told apart by `;`. What is thrown is written as the ball.

use super::node::{Node, Options, encoded, term};
use synod_core::term::Term;
use synod_prolog::frame::*;

crate::tests! {
    the_examples_of_library_synod_are_true
    the_examples_of_library_cbor_are_true
}

const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(cbor)).
:- replicated(account/2).
";

struct Example {
    query: String,
    answers: Vec<String>,
}

/// The examples of a library's text.
fn examples(text: &str) -> Vec<Example> {
    let mut all: Vec<Example> = vec![];
    let mut is_open = false;
    for line in text.lines() {
        let line = line.strip_prefix('%').unwrap_or(line).trim();
        if line.starts_with("```") {
            is_open = !is_open;
        } else if !is_open {
            continue;
        } else if let Some(query) = line.strip_prefix("?- ") {
            all.push(Example { query: query.into(), answers: vec![] });
        } else if let Some(example) = all.last_mut() {
            let answer = line.trim_start_matches(';').trim().trim_end_matches('.');
            example.answers.push(answer.into());
        }
    }
    all
}

fn run(node: &mut Node, example: &Example) -> Vec<String> {
    let (mut answers, end) = if example.query.starts_with("transaction") {
        // Its read index, should it ask for one.
        node.replies.push_front(Ok(Term::integer(node.state.index())));
        let solved = node.query(&example.query);
        if !example.query.contains("fresh") {
            node.replies.pop_front();
        }
        solved
    } else {
        node.query(&example.query)
    };
    match end {
        End::Error { text, .. } => answers.push(text),
        End::False if answers.is_empty() => answers.push("false".into()),
        _ => {}
    }
    answers
}

fn check(node: &mut Node, text: &str, least: usize) {
    let examples = examples(text);
    assert!(examples.len() >= least, "{} examples", examples.len());
    for example in &examples {
        let answers = run(node, example);
        assert_eq!(answers, example.answers, "{}", example.query);
    }
}

fn the_examples_of_library_synod_are_true() {
    let mut options = Options::side();
    options.facts = vec![term("account(alice, 100)"), term("account(bert, 5)")];
    let mut node = Node::start(PROGRAM, options);
    let base = node.write_base().to_string_lossy().into_owned();
    node.replies.extend([
        Ok(Term::integer(2)),
        Ok(Term::string(base)),
        Ok(term("committed(9)")),
        Ok(term("[member(n1, voter)]")),
    ]);
    let answers = |call, answers: &[&str], error: Option<&str>| ToEngine::CallAnswers {
        call,
        answers: answers.iter().map(|answer| encoded(answer)).collect(),
        more: false,
        error: error.map(encoded),
    };
    let missing = "error(existence_error(agent,nobody),remote/3)";
    let no_scope = "error(existence_error(udp_scope,'239.0.0.9:9'),udp_request/4)";
    node.calls.extend([
        answers(1, &["answer(stock(apple,3),[])", "answer(stock(apple,4),[])"], None),
        answers(2, &["answer(stock(pear,7),[])"], None),
        answers(3, &[], Some(missing)),
        answers(4, &[], Some(no_scope)),
    ]);
    check(&mut node, synod_prolog::engine::LIBRARY_SYNOD, 31);
}

fn the_examples_of_library_cbor_are_true() {
    let mut node = Node::start(PROGRAM, Options::side());
    check(&mut node, include_str!("../../lib/cbor.pl"), 2);
    // Everything that CBOR has.
    for (bytes, text) in [
        ("\\xa1\\\\x61\\k\\x02\\", "{\"k\"-2}"),
        ("\\x42\\ab", "bytes(\"ab\")"),
        ("\\xf6\\", "@null"),
        ("\\xc1\\\\x01\\", "tag(1,1)"),
        ("\\xf9\\\\x7e\\\\x00\\", "@not_a_number"),
    ] {
        let (answers, end) = node.query(&format!("cbor_term(\"{bytes}\", T)"));
        assert_eq!(answers, [format!("T = {text}")], "{bytes}: {end:?}");
    }
    let (_, end) = node.query("cbor_term(\"\\x83\\\", T)");
    assert!(super::node::error_of(&end).starts_with("error(syntax_error(cbor("), "{end:?}");
    let (_, end) = node.query("cbor_term(B, T)");
    assert_eq!(super::node::error_of(&end), "error(instantiation_error,cbor_term/2)");
}
