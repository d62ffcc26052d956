//! Transactions of agents on several nodes at once: on keys of their own, and all on one.

use super::node::Folder;
use super::report::Report;
use super::several::{SPACE, Several};
use super::stream::{Stream, event};
use crate::cli::Failure;
use std::time::{Duration, Instant};
use synod_core::term::Term;
use tokio::time::{MissedTickBehavior, interval};

/// What every node runs.
const PROGRAM: &str = include_str!("each.pl");
/// Events in flight.
const IN_FLIGHT: usize = 256;
/// How many events the log is ahead of the slowest agent, at most.
const AHEAD: u64 = 4096;
/// How often it is looked how far the agents have come.
const LOOK: Duration = Duration::from_millis(20);

/// Has every node's agent make a transaction of each of so many events, first on keys of its own, then,
/// a tenth as many, on the same key as all others.
pub(super) async fn run(
    folder: &Folder,
    nodes: usize,
    count: u64,
    keys: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let several = Several::start(folder, nodes).await?;
    for place in 0..several.nodes.len() {
        several.node(place)?.run_in(PROGRAM, Some(SPACE), true).await?;
    }
    for (kind, count, name) in [
        ("own", count, "transactions on distinct keys, all nodes"),
        ("hot", count.div_ceil(10), "transactions on one hot key, all nodes"),
    ] {
        let all = several.nodes.len() as u64 * count;
        let start = Instant::now();
        handle(&several, kind, count, keys, report).await?;
        let seconds = start.elapsed().as_secs_f64();
        several.all_agree().await?;
        several.node(0)?.query(&format!("sum({kind}, {all})")).await?;
        report.figure(name, all as f64 / seconds, "transactions/s")?;
    }
    Ok(())
}

/// Writes events, and waits until every node's agent has handled all of them.
async fn handle(
    several: &Several,
    kind: &str,
    count: u64,
    keys: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut stream = Stream::open(&several.leader().await?.client).await?;
    let before = handled(several).await?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut made, mut done) = (0, 0);
    while done < count {
        while made < count.min(done + AHEAD) && stream.in_flight() < IN_FLIGHT {
            stream.propose(&event(&Term::structure(kind, [Term::integer(made % keys)]))?);
            made += 1;
        }
        stream.send();
        tokio::select! {
            biased;
            _ = look.tick() => {
                let now = handled(several).await?;
                let each = now.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before));
                done = each.min().unwrap_or(count);
                report.progress(kind, done, count);
            }
            answered = stream.answered(), if stream.in_flight() > 0 => answered?,
        }
    }
    Ok(())
}

/// How many events each node's agent has handled.
async fn handled(several: &Several) -> Result<Vec<u64>, Failure> {
    let mut all = Vec::new();
    for place in 0..several.nodes.len() {
        all.push(several.node(place)?.agent().await?.handled);
    }
    Ok(all)
}
