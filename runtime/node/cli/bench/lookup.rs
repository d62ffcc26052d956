//! `synod bench lookup`: reading many facts from Prolog, starting with them, and doing nothing.

use super::floor;
use super::latency::median;
use super::node::{BenchNode, Folder};
use super::report::Report;
use super::stream::{Stream, draft, encoded};
use crate::cli::{Failure, units};
use clap::{Args, ValueEnum};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use synod_core::command::Op;
use synod_core::kb::End;
use synod_core::term::Term;
use tokio::time::sleep;

/// What the agent runs.
const PROGRAM: &str = include_str!("items.pl");
/// And when the same keys are looked up so often that they are copied.
const HOT: &str = include_str!("hot.pl");
/// Facts written in one transaction.
const WRITTEN_AT_ONCE: u64 = 1000;
/// Transactions of them in flight.
const IN_FLIGHT: usize = 4;
/// Keys that are looked up, spread over all.
const SAMPLES: u64 = 1000;
/// Rounds over those keys of one measurement.
const ROUNDS: u64 = 50;
/// Each measurement is made so often; the median counts.
const TIMES: usize = 5;
/// How long everything rests before it is looked at idle.
const REST: Duration = Duration::from_secs(1);
const MIB: f64 = (1 << 20) as f64;

/// Facts read from Prolog by key and one after the other; keys that are read again and again, with native
/// copies and without, against clauses in the program's text; how fast a node starts with them and
/// without, and what it takes when idle
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Lookup {
    /// Facts
    #[arg(long, env = "SYNOD_FACTS", value_name = "N", default_value = "1M",
          value_parser = units::count, hide_env = true)]
    facts: u64,
    /// What their keys are
    #[arg(long, env = "SYNOD_KEYS", value_enum, default_value = "integers", hide_env = true)]
    keys: Keys,
    /// How long an idle node is looked at
    #[arg(long, env = "SYNOD_IDLE", value_name = "TIME", default_value = "5s",
          value_parser = units::milliseconds, hide_env = true)]
    idle: u64,
}

/// Kinds of keys.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keys {
    /// 0, 1, 2, …
    Integers,
    /// "key0", "key1", …
    Strings,
    /// Of six bytes at most.
    Atoms,
}

impl Lookup {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let floor = (0..TIMES).map(|_| floor::start()).collect::<Result<Vec<_>, _>>()?;
        report.figure("floor: start this program for its version", middle(floor), "s")?;
        self.empty(folder, report).await?;
        let node = BenchNode::start(folder)?;
        self.fill(&node, report).await?;
        self.read(&node, report).await?;
        node.stop().await?;
        self.full(folder, report).await?;
        let node = BenchNode::start(folder)?;
        for (copies, what) in [(false, "looked up each time"), (true, "with native copies")] {
            self.hot(&node, copies, what, report).await?;
        }
        node.stop().await
    }

    /// Reads the same keys again and again.
    async fn hot(
        &self,
        node: &BenchNode,
        copies: bool,
        what: &str,
        report: &mut Report,
    ) -> Result<(), Failure> {
        node.end().await?;
        let mut program = HOT.to_owned();
        for n in (0..SAMPLES).map(|n| key(n, self.facts)) {
            let clause = Term::structure("plain", [self.keys.key(n), Term::integer(n)]);
            // Writing to a string cannot fail.
            let _ = writeln!(program, "{clause}.");
        }
        node.run_with(&program, copies).await?;
        let took = async |of: &str| -> Result<Duration, Failure> {
            let start = Instant::now();
            node.handled(node.broadcast(&format!("hot({of},{ROUNDS})")).await?).await?;
            Ok(start.elapsed())
        };
        // Not measured: keys are copied when they were looked up often enough.
        took("facts").await?;
        took("facts").await?;
        let [mut none, mut plain, mut facts] = [Duration::MAX; 3];
        for n in 0..TIMES {
            none = none.min(took("none").await?);
            plain = plain.min(took("plain").await?);
            facts = facts.min(took("facts").await?);
            report.progress("reading the same keys", n as u64 + 1, TIMES as u64);
        }
        node.agent().await?;
        let one = |time: Duration| {
            time.saturating_sub(none).as_secs_f64() * 1e6 / (SAMPLES * ROUNDS) as f64
        };
        report.figure("floor: a look-up of a clause, 1000 keys", one(plain), "µs")?;
        report.figure(&format!("a look-up of 1000 keys, {what}"), one(facts), "µs")?;
        let ratio = one(facts) / one(plain);
        report.figure(&format!("  of that of a clause, {what}"), ratio, "times")
    }

    /// Starts nodes on empty folders, and looks at the last one while it does nothing.
    async fn empty(&self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let mut starts = Vec::new();
        for n in 1..=TIMES {
            let start = Instant::now();
            let node = BenchNode::start(folder)?;
            // What is measured is the look-up, not what copies save.
            node.run_with(PROGRAM, false).await?;
            node.handled(node.broadcast("nothing").await?).await?;
            starts.push(start.elapsed());
            if n == TIMES {
                report.figure("start to first event handled, empty", middle(starts), "s")?;
                self.rest(&node, report).await?;
                return node.stop().await;
            }
            node.stop().await?;
            std::fs::remove_dir_all(folder.path().join("n0"))
                .map_err(|error| Failure::error(format!("the node's folder: {error}")))?;
        }
        Ok(())
    }

    async fn rest(&self, node: &BenchNode, report: &mut Report) -> Result<(), Failure> {
        sleep(REST).await;
        let idle = Duration::from_millis(self.idle);
        let (_, before) = node.progress().await?;
        let start = Instant::now();
        sleep(idle).await;
        // Looking costs the node time, which is none of its own.
        let after = before.again()?;
        let seconds = start.elapsed().as_secs_f64();
        report.figure("idle: memory of the node", after.node as f64 / MIB, "MiB")?;
        report.figure("idle: memory of the engine", after.engine as f64 / MIB, "MiB")?;
        let both = (after.node + after.engine) as f64 / MIB;
        report.figure("idle: memory of both", both, "MiB")?;
        let busy = (after.time() - before.time()).as_secs_f64() / seconds * 100.0;
        report.figure("idle: processor time of both", busy, "%")
    }

    async fn fill(&self, node: &BenchNode, report: &mut Report) -> Result<(), Failure> {
        let mut stream = Stream::open(&node.client).await?;
        let batches = self.facts.div_ceil(WRITTEN_AT_ONCE);
        let items = |n: u64| {
            let from = n * WRITTEN_AT_ONCE;
            let upto = self.facts.min(from + WRITTEN_AT_ONCE);
            let item = |n| assert(&Term::structure("item", [self.keys.key(n), Term::integer(n)]));
            (from..upto).map(item).collect::<Result<Vec<_>, _>>().map(draft)
        };
        let start = Instant::now();
        let progress = |done| report.progress("facts written", done, batches);
        stream.run(batches, IN_FLIGHT, items, progress).await?;
        let rate = self.facts as f64 / start.elapsed().as_secs_f64();
        let samples = |_| {
            let sample =
                |n| assert(&Term::structure("sample", [self.keys.key(key(n, self.facts))]));
            (0..SAMPLES).map(sample).collect::<Result<Vec<_>, _>>().map(draft)
        };
        stream.run(1, 1, samples, |_| {}).await?;
        report.figure("facts written, 1000 in a transaction", rate, "facts/s")
    }

    async fn read(&self, node: &BenchNode, report: &mut Report) -> Result<(), Failure> {
        // Stopped with the node that has rested on the same folder, and kept.
        let last = node.broadcast("nothing").await?;
        node.handled(last).await?;
        let took = async |event: &str| -> Result<Duration, Failure> {
            let start = Instant::now();
            node.handled(node.broadcast(event).await?).await?;
            Ok(start.elapsed())
        };
        let lookups = SAMPLES * ROUNDS;
        let (mut keyed, mut each) = (Vec::new(), Vec::new());
        for n in 0..TIMES {
            let around = took(&format!("loop({ROUNDS})")).await?;
            let lookup = took(&format!("lookup({ROUNDS})")).await?;
            keyed.push(lookup.saturating_sub(around).as_secs_f64() * 1e6 / lookups as f64);
            let around = took("nothing").await?;
            let all = took("enumerate").await?;
            each.push(all.saturating_sub(around).as_secs_f64() * 1e6 / self.facts as f64);
            report.progress("reading", n as u64 + 1, TIMES as u64);
        }
        let floor = floor::lookup(self.facts, lookups).as_secs_f64() * 1e6;
        report.figure("floor: lookup in a BTreeMap", floor, "µs")?;
        report.figure("keyed lookup from Prolog", median(keyed), "µs")?;
        report.figure("enumeration from Prolog", median(each), "µs a fact")?;
        node.query(&format!("count({})", self.facts)).await?;
        let (_, usage) = node.progress().await?;
        report.figure("with all facts: memory of the node", usage.node as f64 / MIB, "MiB")?;
        report.figure("with all facts: memory of the engine", usage.engine as f64 / MIB, "MiB")
    }

    async fn full(&self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let mut starts = Vec::new();
        for n in 1..=TIMES {
            let start = Instant::now();
            let node = BenchNode::start(folder)?;
            node.handled(node.broadcast("nothing").await?).await?;
            starts.push(start.elapsed());
            node.stop().await?;
            report.progress("starting", n as u64, TIMES as u64);
        }
        let name = format!("start to first event handled, {} facts", self.facts);
        report.figure(&name, middle(starts), "s")
    }
}

impl Keys {
    fn key(self, n: u64) -> Term {
        match self {
            Self::Integers => Term::integer(n),
            Self::Strings => Term::string(format!("key{n}")),
            Self::Atoms => Term::atom(atom(n)),
        }
    }
}

/// A letter, and the number to the base 36: of six bytes up to 60 million.
fn atom(mut n: u64) -> String {
    let mut name = String::from("k");
    loop {
        name.extend(char::from_digit((n % 36) as u32, 36));
        n /= 36;
        if n == 0 {
            return name;
        }
    }
}

/// The nth key that is looked up: all over the place, none twice in a row.
pub(super) fn key(n: u64, facts: u64) -> u64 {
    n.wrapping_mul(2_654_435_761) % facts.max(1)
}

fn assert(fact: &Term) -> Result<Op, Failure> {
    Ok(Op::Assert { end: End::Last, fact: encoded(fact)? })
}

/// The median, in seconds.
fn middle(times: Vec<Duration>) -> f64 {
    median(times.iter().map(Duration::as_secs_f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_atoms_are_short() {
        let names: std::collections::BTreeSet<String> = (0..100_000).map(atom).collect();
        assert_eq!(names.len(), 100_000);
        assert!(atom(1_000_000).len() <= 6);
    }
}
