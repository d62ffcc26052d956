//! `synod bench update`: one fact, updated again and again, costs the same for ever.

use super::floor::Appends;
use super::load::{self, Sample};
use super::node::{BenchNode, Folder};
use super::report::Report;
use super::transact::add;
use crate::cli::{Failure, units};
use clap::Args;

/// What the agent runs.
const PROGRAM: &str = include_str!("total.pl");
/// Bare appends that the disk's floor is measured with, before and after.
const APPENDS: u64 = 500;
/// The early update.
const EARLY: u64 = 1000;
/// The late one, unless there are fewer.
const LATE: u64 = 1_000_000;
/// How many updates are timed together to tell what one takes.
const WINDOW: u64 = 50_000;
/// Looks at the processes' memory between its first and its last.
const LOOKS: u64 = 8;
const MIB: f64 = (1 << 20) as f64;

/// Updates of one fact by one agent: the millionth against the thousandth, and memory meanwhile
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Updates
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "2M",
          value_parser = units::count, hide_env = true)]
    count: u64,
}

impl Update {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let node = BenchNode::start(folder)?;
        node.run(PROGRAM).await?;
        let mut appends = Appends::create(folder.path())?;
        let mut floor = appends.run(APPENDS)?;
        let samples = load::run(&node, self.count, |_| add(0), report).await?;
        node.query(&format!("sum({})", self.count)).await?;
        floor.append(appends.run(APPENDS)?);
        report.latencies("floor: append 256 bytes, fdatasync", &mut floor)?;
        self.times(&samples, report)?;
        self.memory(&samples, report)?;
        node.stop().await
    }

    fn times(&self, samples: &[Sample], report: &mut Report) -> Result<(), Failure> {
        let window = WINDOW.min(self.count / 4).max(1);
        let early = EARLY.min(self.count / 4);
        let late = LATE.min(self.count - window);
        let of = |from: u64| {
            let (at0, time0) = load::when(samples, from as f64)?;
            let (at1, time1) = load::when(samples, (from + window) as f64)?;
            let each = 1e6 / window as f64;
            Some(((at1 - at0) * each, (time1 - time0) * each))
        };
        let (Some(first), Some(last)) = (of(early), of(late)) else { return Ok(()) };
        let name = |n| format!("update {n}, mean of {window} from there");
        report.figure(&name(early), first.0, "µs")?;
        report.figure(&name(late), last.0, "µs")?;
        report.figure("late / early", last.0 / first.0, "times")?;
        report.figure(&format!("{}, processor time", name(early)), first.1, "µs")?;
        report.figure(&format!("{}, processor time", name(late)), last.1, "µs")?;
        report.figure("late / early, processor time", last.1 / first.1, "times")
    }

    fn memory(&self, samples: &[Sample], report: &mut Report) -> Result<(), Failure> {
        for look in 0..=LOOKS {
            // The first look is at the thousandth: before it, there is nothing in any buffer.
            let after = (self.count * look / LOOKS).max(EARLY.min(self.count));
            if let Some(sample) = samples.iter().find(|sample| sample.handled >= after) {
                let name = |what| format!("memory after {after} updates, {what}");
                report.figure(&name("node"), sample.usage.node as f64 / MIB, "MiB")?;
                report.figure(&name("engine"), sample.usage.engine as f64 / MIB, "MiB")?;
            }
        }
        Ok(())
    }
}
