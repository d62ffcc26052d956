//! Engines as their node sees them: real processes, a real knowledge base, a node that is this test.
//!
//! This executable is both: with `engine` as its first argument it is an engine, else it runs the
//! tests, and speaks enough of libtest's command line for `cargo test` and nextest.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this is tests, which clippy does not see in a harness of one's own"
)]

mod agent;
mod copies;
mod deaths;
mod docs;
mod facts;
mod loading;
mod node;
mod queries;
mod sandbox;
mod speed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: its name and what it does.
type Test = (&'static str, fn());

/// Lists the tests of a module under its name.
#[macro_export]
macro_rules! tests {
    ($($name:ident)*) => {
        pub(crate) const TESTS: &[$crate::Test] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "engine") {
        return synod_prolog::engine::main(0);
    }
    let all = [
        agent::TESTS,
        copies::TESTS,
        deaths::TESTS,
        docs::TESTS,
        facts::TESTS,
        loading::TESTS,
        queries::TESTS,
        sandbox::TESTS,
        speed::TESTS,
    ]
    .concat();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // Tests of speed take long and say little in a debug build: they are "ignored" ones.
    let is_ignored = |name: &str| name.contains("::speed::");
    let wanted: Vec<&Test> = all
        .iter()
        .filter(|(name, _)| has("--include-ignored") || is_ignored(name) == has("--ignored"))
        .filter(|(name, _)| {
            let mut filters = args.iter().filter(|arg| !arg.starts_with("--") && *arg != "terse");
            let matches = |filter: &String| {
                if has("--exact") { filter == name } else { name.contains(filter.as_str()) }
            };
            filters.clone().next().is_none() || filters.any(matches)
        })
        .collect();
    if has("--list") {
        wanted.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in &wanted {
        let is_ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
        failed += usize::from(!is_ok);
    }
    println!("{} passed, {failed} failed", wanted.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
