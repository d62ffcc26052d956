//! `synod bench transact`: Prolog transactions through one agent, an event each.

use super::floor::Appends;
use super::load;
use super::node::{BenchNode, Folder};
use super::report::Report;
use crate::cli::{Failure, units};
use clap::Args;
use synod_core::term::Term;

/// What the agent runs.
const PROGRAM: &str = include_str!("total.pl");
/// Bare appends that the disk's floor is measured with.
const APPENDS: u64 = 1000;
/// The part of the events after which what is sustained is measured.
const WARM: f64 = 0.1;

/// Transactions of one agent: for each event it reads a fact, adds to it, and writes it back
#[derive(Debug, Args)]
pub(crate) struct Transact {
    /// Events
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "400k",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// Facts that they are spread over
    #[arg(long, env = "SYNOD_FACTS", value_name = "N", default_value = "1k",
          value_parser = units::count, hide_env = true)]
    facts: u64,
    /// Nodes; with several, each has the agent, which makes a transaction of every event: on keys of
    /// its own, and a tenth as many on one key that all of them write
    #[arg(long, env = "SYNOD_NODES", value_name = "N", default_value_t = 1, hide_env = true)]
    nodes: usize,
}

impl Transact {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        if self.nodes > 1 {
            let facts = self.facts.max(1);
            return super::contended::run(folder, self.nodes, self.count, facts, report).await;
        }
        let node = BenchNode::start(folder)?;
        node.run(PROGRAM).await?;
        let mut floor = Appends::create(folder.path())?.run(APPENDS)?;
        let facts = self.facts.max(1);
        let samples = load::run(&node, self.count, |n| add(n % facts), report).await?;
        node.query(&format!("sum({})", self.count)).await?;
        report.latencies("floor: append 256 bytes, fdatasync", &mut floor)?;
        let count = self.count as f64;
        let warm = load::when(&samples, count * WARM);
        let end = load::when(&samples, count);
        if let (Some((warm_at, warm_time)), Some((at, time))) = (warm, end) {
            let events = count * (1.0 - WARM);
            let rate = events / (at - warm_at);
            report.figure("transactions, sustained", rate, "events/s")?;
            let busy = (time - warm_time) / events * 1e6;
            report.figure("processor time of node and engine", busy, "µs an event")?;
        }
        if let (Some(warm), Some(last)) =
            (samples.iter().find(|sample| sample.handled as f64 >= count * WARM), samples.last())
        {
            let engine = last.usage.engine_time.saturating_sub(warm.usage.engine_time);
            let events = (last.handled - warm.handled).max(1) as f64;
            report.figure(
                "  of it the engine",
                engine.as_secs_f64() / events * 1e6,
                "µs an event",
            )?;
        }
        node.stop().await
    }
}

/// `add(Key, 1)`.
pub(super) fn add(key: u64) -> Term {
    Term::structure("add", [Term::integer(key), Term::integer(1)])
}
