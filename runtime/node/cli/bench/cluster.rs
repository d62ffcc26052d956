//! `synod bench cluster`: a space of several nodes on this machine, against as many members of etcd.

use super::etcd::Etcd;
use super::floor::Appends;
use super::latency::{Latencies, median};
use super::node::{BenchNode, Folder};
use super::report::Report;
use super::several::{SPACE, Several};
use super::stream::{Stream, event};
use crate::cli::say::say;
use crate::cli::{Failure, units};
use clap::Args;
use std::time::{Duration, Instant};
use synod::api::{BroadcastRequest, Outcome};
use synod_core::term::Term;
use tokio::time::sleep;

/// One at a time, Synod and its rivals take turns so often.
const ROUNDS: u64 = 10;
/// For how long a cluster that does nothing is watched.
const IDLE: Duration = Duration::from_secs(15);
/// How long it is left alone before: what was done before has its after-effects.
const REST: Duration = Duration::from_secs(15);

/// A space of several nodes on this machine: 256-byte events one at a time and many in flight,
/// beside etcd if it is installed; a leader killed; a cluster that does nothing
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Cluster {
    /// Nodes
    #[arg(long, env = "SYNOD_NODES", value_name = "N", default_value_t = 3, hide_env = true)]
    nodes: usize,
    /// Events written one at a time
    #[arg(long, env = "SYNOD_SINGLE", value_name = "N", default_value = "4k",
          value_parser = units::count, hide_env = true)]
    single: u64,
    /// Events written with many in flight
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "400k",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// How many in flight
    #[arg(long, env = "SYNOD_IN_FLIGHT", value_name = "N", default_value_t = 500, hide_env = true)]
    in_flight: usize,
    /// How often the leader is killed
    #[arg(long, env = "SYNOD_KILLS", value_name = "N", default_value_t = 5, hide_env = true)]
    kills: u32,
}

impl Cluster {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let mut cluster = Several::start(folder, self.nodes).await?;
        let etcd = Etcd::start(folder, cluster.nodes.len()).await?;
        if etcd.is_none() {
            say(format_args!(
                "synod: without etcd beside it: install it (Debian's etcd-server) for the comparison"
            ));
        }
        self.one_at_a_time(folder, &cluster, etcd.as_ref(), report).await?;
        self.in_flight(&cluster, etcd.as_ref(), report).await?;
        drop(etcd);
        idle(&cluster, report).await?;
        self.kills(&mut cluster, folder, report).await
    }

    async fn one_at_a_time(
        &self,
        folder: &Folder,
        cluster: &Several,
        etcd: Option<&Etcd>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut appends = Appends::create(folder.path())?;
        let mut stream = Stream::open(&cluster.leader().await?.client).await?;
        let mut follower = Stream::open(&cluster.follower().await?.client).await?;
        let mut rival = match etcd {
            Some(etcd) => Some(etcd.connect().await?),
            None => None,
        };
        let each = self.single.div_ceil(ROUNDS).max(1);
        // Once unmeasured, for all.
        stream.run(each, 1, blob, |_| {}).await?;
        follower.run(each, 1, blob, |_| {}).await?;
        if let Some(rival) = &mut rival {
            rival.run(each).await?;
        }
        let (mut floor, mut ours) = (Latencies::default(), Latencies::default());
        let (mut elsewhere, mut theirs) = (Latencies::default(), Latencies::default());
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            floor.append(appends.run(each)?);
            stream.latencies = Latencies::default();
            stream.run(each, 1, blob, |_| {}).await?;
            let written = std::mem::take(&mut stream.latencies);
            follower.latencies = Latencies::default();
            follower.run(each, 1, blob, |_| {}).await?;
            elsewhere.append(std::mem::take(&mut follower.latencies));
            if let Some(rival) = &mut rival {
                let put = rival.run(each).await?;
                ratios.push(put.total() / written.total());
                theirs.append(put);
            }
            ours.append(written);
            report.progress("one at a time", round + 1, ROUNDS);
        }
        report.latencies("floor: append 256 bytes, fdatasync", &mut floor)?;
        report.latencies("one 256-byte event at a time, at the leader", &mut ours)?;
        report.latencies("the same, at another node", &mut elsewhere)?;
        let rate = ours.count() as f64 / ours.total() * 1e6;
        report.figure("one at a time, at the leader", rate, "events/s")?;
        if !ratios.is_empty() {
            report.latencies("etcd: one put of 256 bytes at a time, at its leader", &mut theirs)?;
            let rate = theirs.count() as f64 / theirs.total() * 1e6;
            report.figure("etcd: one at a time", rate, "puts/s")?;
            report.figure("rate / etcd's, median of the rounds", median(ratios), "times")?;
        }
        Ok(())
    }

    async fn in_flight(
        &self,
        cluster: &Several,
        etcd: Option<&Etcd>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut stream = Stream::open(&cluster.leader().await?.client).await?;
        let in_flight = self.in_flight.max(1);
        stream.run(self.count.div_ceil(10), in_flight, blob, |_| {}).await?;
        stream.latencies = Latencies::default();
        let start = Instant::now();
        let progress = |done| report.progress("many in flight", done, self.count);
        stream.run(self.count, in_flight, blob, progress).await?;
        let rate = self.count as f64 / start.elapsed().as_secs_f64();
        let name = format!("{in_flight} in flight, 256-byte events");
        report.latencies(&name, &mut stream.latencies)?;
        report.figure(&name, rate, "events/s")?;
        if let Some(etcd) = etcd {
            let puts = (self.count / 20).clamp(1_000, 50_000);
            etcd.put_many(in_flight, puts / 10).await?;
            let theirs = etcd.put_many(in_flight, puts).await?;
            report.figure(
                &format!("etcd: {in_flight} clients, 256-byte puts"),
                theirs,
                "puts/s",
            )?;
            report.figure("rate / etcd's", rate / theirs, "times")?;
        }
        Ok(())
    }

    /// Kills the leader, and sees when the first write is acknowledged by another node.
    async fn kills(
        &self,
        cluster: &mut Several,
        folder: &Folder,
        report: &mut Report,
    ) -> Result<(), Failure> {
        if cluster.nodes.len() < 3 {
            return Ok(());
        }
        let mut latencies = Latencies::default();
        for kill in 0..self.kills {
            let leader = cluster.leader_place().await?;
            let other = (leader + 1) % cluster.nodes.len();
            let client = cluster.node(other)?.client.clone();
            // Dropping it kills it.
            cluster.nodes[leader] = None;
            let start = Instant::now();
            let request = BroadcastRequest {
                term: "tick(1)".to_owned(),
                space: Some(SPACE.to_owned()),
                once: None,
            };
            match client.post("/v1/broadcast", &request).await? {
                Outcome::Committed { .. } => latencies.add(start.elapsed()),
                other => {
                    return Err(Failure::error(format!("an event was not committed: {other:?}")));
                }
            }
            cluster.nodes[leader] = Some(BenchNode::start_in(folder, leader, true)?);
            cluster.all_agree().await?;
            report.progress("leaders killed", u64::from(kill) + 1, u64::from(self.kills));
        }
        report.latencies("leader killed to first write acknowledged", &mut latencies)
    }
}

/// What a cluster takes that does nothing.
async fn idle(cluster: &Several, report: &mut Report) -> Result<(), Failure> {
    let time = || -> Result<f64, Failure> {
        let times = cluster.nodes.iter().flatten().map(BenchNode::processor_time);
        Ok(times.collect::<Result<Vec<_>, _>>()?.iter().map(Duration::as_secs_f64).sum())
    };
    sleep(REST).await;
    let (before, sent, start) = (time()?, cluster.sent().await?, Instant::now());
    sleep(IDLE).await;
    let (took, nodes) = (start.elapsed().as_secs_f64(), cluster.nodes.len());
    let share = (time()? - before) / took / nodes as f64;
    report.figure("idle: processor time of a node", share * 100.0, "% of a core")?;
    let pairs = (nodes * nodes.saturating_sub(1) / 2).max(1);
    let rate = (cluster.sent().await? - sent) as f64 / 1e3 / took / pairs as f64;
    report.figure("idle: messages of a pair of nodes, both ways", rate, "KB/s")
}

/// An event of 256 bytes.
fn blob(n: u64) -> Result<Vec<u8>, Failure> {
    let text = format!("{n:020}").repeat(12);
    event(&Term::structure("blob", [Term::string(text)]))
}
