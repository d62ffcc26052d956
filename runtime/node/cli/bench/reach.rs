//! `synod bench reach`: programs that read the same facts again and again, against the same programs
//! over clauses of their own.

use super::node::{BenchNode, Folder};
use super::report::Report;
use super::stream::{Stream, draft};
use crate::cli::{Failure, units};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use synod_core::command::Op;
use synod_core::kb::End;
use synod_core::term::Term;

/// What the agent runs, before its clauses.
const PROGRAM: &str = include_str!("reach.pl");
/// Edges that leave each node of the graph.
const DEGREE: u64 = 5;
/// Facts written in one transaction.
const WRITTEN_AT_ONCE: u64 = 1000;
/// Keys that are looked up.
const KEYS: u64 = 1000;
/// Rounds over those keys of one measurement.
const LOOKUP_ROUNDS: u64 = 300;
/// Walks through the graph of one measurement.
const REACH_ROUNDS: u64 = 5;
/// Each measurement is made so often, in turns; the least counts.
const TIMES: usize = 5;

/// Keyed look-ups of facts that nobody writes, and the nodes that can be reached in a graph of them,
/// against the same program over clauses in its own text: with native copies of the facts, and without
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Reach {
    /// Edges of the graph
    #[arg(long, env = "SYNOD_FACTS", value_name = "N", default_value = "50k",
          value_parser = units::count, hide_env = true)]
    facts: u64,
}

/// The least that each of the goals took.
#[derive(Clone, Copy, Debug)]
struct Took {
    none: Duration,
    plain: Duration,
    facts: Duration,
    reach_plain: Duration,
    reach_facts: Duration,
}

impl Reach {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let edges = edges(self.facts);
        let mut program = PROGRAM.to_owned();
        for (from, to) in &edges {
            // Writing to a string cannot fail.
            let _ = writeln!(program, "plain({from},{to}).");
        }
        let reached = reached(&edges);
        let node = BenchNode::start(folder)?;
        fill(&node, &edges, report).await?;
        for (copies, what) in [(false, "looked up each time"), (true, "with native copies")] {
            node.run_with(&program, copies).await?;
            let took = measure(&node, reached, report).await?;
            node.end().await?;
            tell(report, what, took)?;
        }
        node.stop().await
    }
}

fn tell(report: &mut Report, what: &str, took: Took) -> Result<(), Failure> {
    let one = |time: Duration| {
        time.saturating_sub(took.none).as_secs_f64() * 1e6 / (LOOKUP_ROUNDS * KEYS) as f64
    };
    let (plain, facts) = (one(took.plain), one(took.facts));
    report.figure("floor: a look-up of a clause", plain, "µs")?;
    report.figure(&format!("a look-up of a fact, {what}"), facts, "µs")?;
    report.figure(&format!("  of that of a clause, {what}"), facts / plain, "times")?;
    let loops = took.facts.as_secs_f64() / took.plain.as_secs_f64();
    report.figure(&format!("  and the loops around both, {what}"), loops, "times")?;
    let walk = |time: Duration| time.as_secs_f64() * 1e3 / REACH_ROUNDS as f64;
    report.figure("floor: reachability over clauses", walk(took.reach_plain), "ms")?;
    report.figure(&format!("reachability over facts, {what}"), walk(took.reach_facts), "ms")?;
    let ratio = took.reach_facts.as_secs_f64() / took.reach_plain.as_secs_f64();
    report.figure(&format!("  of that over clauses, {what}"), ratio, "times")
}

async fn measure(node: &BenchNode, reached: usize, report: &mut Report) -> Result<Took, Failure> {
    let took = async |event: String| -> Result<Duration, Failure> {
        let start = Instant::now();
        node.handled(node.broadcast(&event).await?).await?;
        Ok(start.elapsed())
    };
    let lookup = |what: &str| format!("lookup({what},{LOOKUP_ROUNDS},{KEYS})");
    let reach = |what: &str| format!("reach({what},{REACH_ROUNDS},{reached})");
    // Once without being measured: a copy is made when it is worth while.
    took(lookup("facts")).await?;
    took(reach("facts")).await?;
    let mut least = Took {
        none: Duration::MAX,
        plain: Duration::MAX,
        facts: Duration::MAX,
        reach_plain: Duration::MAX,
        reach_facts: Duration::MAX,
    };
    for n in 1..=TIMES {
        for (least, event) in [
            (&mut least.none, lookup("none")),
            (&mut least.plain, lookup("plain")),
            (&mut least.facts, lookup("facts")),
            (&mut least.reach_plain, reach("plain")),
            (&mut least.reach_facts, reach("facts")),
        ] {
            *least = (*least).min(took(event).await?);
        }
        report.progress("rounds", n as u64, TIMES as u64);
    }
    node.agent().await?;
    Ok(least)
}

async fn fill(node: &BenchNode, edges: &[(u64, u64)], report: &mut Report) -> Result<(), Failure> {
    let mut stream = Stream::open(&node.client).await?;
    let batches = (edges.len() as u64).div_ceil(WRITTEN_AT_ONCE);
    let items = |n: u64| {
        let edges = edges.iter().skip((n * WRITTEN_AT_ONCE) as usize);
        let assert = |&(from, to): &(u64, u64)| {
            let fact = Term::structure("edge", [Term::integer(from), Term::integer(to)]);
            let fact = super::stream::encoded(&fact)?;
            Ok(Op::Assert { end: End::Last, fact })
        };
        edges.take(WRITTEN_AT_ONCE as usize).map(assert).collect::<Result<Vec<_>, _>>().map(draft)
    };
    stream.run(batches, 1, items, |done| report.progress("facts written", done, batches)).await
}

/// A graph that looks random and is the same each time.
fn edges(count: u64) -> Vec<(u64, u64)> {
    let nodes = (count / DEGREE).max(1);
    let mut state = 1u64;
    let mut next = || {
        // Knuth, The Art of Computer Programming 2, 3.3.4: MMIX's generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % nodes + 1
    };
    // Each node has an edge, so that each key has a fact.
    (0..count).map(|n| (n % nodes + 1, next())).collect()
}

/// How many nodes can be reached from the first.
fn reached(edges: &[(u64, u64)]) -> usize {
    let mut leads: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    edges.iter().for_each(|&(from, to)| leads.entry(from).or_default().push(to));
    let (mut seen, mut waiting) = (BTreeSet::from([1]), vec![1]);
    while let Some(node) = waiting.pop() {
        waiting.extend(leads.get(&node).into_iter().flatten().filter(|to| seen.insert(**to)));
    }
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_is_counted() {
        assert_eq!(reached(&[(1, 2), (2, 1), (3, 4), (2, 5)]), 3);
        let edges = edges(50);
        assert_eq!(edges.len(), 50);
        assert!((1..=10).all(|node| edges.iter().filter(|(from, _)| *from == node).count() == 5));
    }
}
