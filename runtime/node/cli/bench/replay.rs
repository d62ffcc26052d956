//! `synod bench replay`: the knowledge base from an export, and as of any index of a long log.

use super::history::{self, Kind, hash, read};
use super::latency::median;
use super::node::{BenchNode, Folder};
use super::report::Report;
use crate::cli::{Failure, units};
use clap::Args;
use std::fs::File;
use std::path::Path;
use std::time::Instant;
use synod::past::import::import;
use synod::past::kb::replay;

/// What the agent runs.
const PROGRAM: &str = include_str!("items.pl");
/// Each replay is made so often; the median counts.
const TIMES: usize = 3;

/// Replaying commands of one assertz each into the facts, against reading the file and hashing its
/// chain alone; and the past of a long log, asked for at random
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Replay {
    /// Commands that are replayed
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "2M",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// Commands of the log whose past is asked for; 0 leaves that out
    #[arg(long, env = "SYNOD_PAST", value_name = "N", default_value = "10M",
          value_parser = units::count, hide_env = true)]
    past: u64,
    /// Facts that those replace, one after the other
    #[arg(long, env = "SYNOD_FACTS", value_name = "N", default_value = "10k",
          value_parser = units::count, hide_env = true)]
    facts: u64,
    /// How often the past is asked for
    #[arg(long, env = "SYNOD_ASKED", value_name = "N", default_value = "20",
          value_parser = units::count, hide_env = true)]
    asked: u64,
}

impl Replay {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let file = folder.path().join("made.cbor");
        self.replay(&file, report)?;
        if self.past > 0 {
            self.past(&file, folder, report).await?;
        }
        Ok(())
    }

    fn replay(&self, file: &Path, report: &mut Report) -> Result<(), Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::error(e.to_string());
        let written = history::write(file, Kind::Assertz, self.count, |index| {
            report.progress("commands made", index, self.count);
        })?;
        let per_second = |seconds: f64| self.count as f64 / seconds;
        report.figure("bytes of a command, at most", written.longest as f64, "bytes")?;
        let (mut floor, mut hashes, mut replays) = (Vec::new(), Vec::new(), Vec::new());
        // They take turns: what else the machine does, all feel.
        for _ in 0..TIMES {
            floor.push(read(file)?.as_secs_f64());
            hashes.push(hash(file)?.as_secs_f64());
            let source = File::open(file).map_err(|e| failed(&e))?;
            let start = Instant::now();
            let progress = |index| report.progress("replayed", index, self.count);
            let replayed = replay(source, None, progress).map_err(|e| failed(&e))?;
            replays.push(start.elapsed().as_secs_f64());
            if replayed.state.kb().len() as u64 + 1 != self.count {
                return Err(Failure::error("the replay has other facts than were written"));
            }
        }
        report.figure("floor: read the file", per_second(median(floor)), "commands/s")?;
        report.figure(
            "floor: its chain, hashed alone",
            per_second(median(hashes)),
            "commands/s",
        )?;
        report.figure("replay into the facts", per_second(median(replays)), "commands/s")
    }

    async fn past(&self, file: &Path, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::error(e.to_string());
        history::write(file, Kind::Update(self.facts.max(1)), self.past, |index| {
            report.progress("commands made", index, self.past);
        })?;
        let source = File::open(file).map_err(|e| failed(&e))?;
        let data = folder.path().join("n");
        let progress = |index| report.progress("imported", index, self.past);
        import(&data, synod::node::LOCAL, source, file, progress).map_err(|e| failed(&e))?;
        let node = BenchNode::start(folder)?;
        node.run(PROGRAM).await?;
        let mut taken = Vec::new();
        for n in 0..self.asked.max(1) {
            // All over the log, none twice.
            let index = 2 + n.wrapping_mul(2_654_435_761) % (self.past - 2).max(1);
            let start = Instant::now();
            node.query(&format!("as_of({index}, true)")).await?;
            taken.push(start.elapsed().as_secs_f64());
            report.progress("asked", n, self.asked);
        }
        let most = taken.iter().copied().fold(0.0, f64::max);
        let name = format!("as_of at a random index of {}", self.past);
        report.figure(&name, median(taken), "s")?;
        report.figure(&format!("{name}, the slowest"), most, "s")?;
        node.stop().await
    }
}
