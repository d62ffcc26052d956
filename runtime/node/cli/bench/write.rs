//! `synod bench write`: events that no agent handles, from a client to the disk and back.

use super::floor::Appends;
use super::latency::{Latencies, median};
use super::node::{BenchNode, Folder};
use super::report::Report;
use super::stream::{Stream, event};
use crate::cli::client::Client;
use crate::cli::{Failure, units};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use synod::api::{BroadcastRequest, Outcome};
use synod_core::term::Term;
use tokio::task::JoinSet;

/// Single writes and bare appends take turns so often: what else the machine does, both feel.
const ROUNDS: u64 = 20;

/// Events from one client: one at a time against a bare fdatasync, many in flight, and as HTTP
/// requests
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Write {
    /// Events written one at a time
    #[arg(long, env = "SYNOD_SINGLE", value_name = "N", default_value = "4k",
          value_parser = units::count, hide_env = true)]
    single: u64,
    /// Events written with many in flight
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "1M",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// How many in flight
    #[arg(long, env = "SYNOD_IN_FLIGHT", value_name = "N", default_value_t = 64, hide_env = true)]
    in_flight: usize,
    /// Instead, so many events a second, whether those before are done or not (an open loop): each
    /// takes from when it was due
    #[arg(long, env = "SYNOD_RATE", value_name = "N", value_parser = units::count, hide_env = true)]
    rate: Option<u64>,
    /// Events written by an HTTP request each, as many at once
    #[arg(long, env = "SYNOD_REQUESTS", value_name = "N", default_value = "50k",
          value_parser = units::count, hide_env = true)]
    requests: u64,
}

impl Write {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let node = BenchNode::start(folder)?;
        if let Some(rate) = self.rate {
            self.at_rate(&node, rate.max(1) as f64, report).await?;
            return node.stop().await;
        }
        self.one_at_a_time(folder, &node, report).await?;
        self.in_flight(&node, report).await?;
        self.requests(&node, report).await?;
        node.stop().await
    }

    async fn one_at_a_time(
        &self,
        folder: &Folder,
        node: &BenchNode,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut appends = Appends::create(folder.path())?;
        let mut stream = Stream::open(&node.client).await?;
        let each = self.single.div_ceil(ROUNDS).max(1);
        // Once unmeasured, for both.
        appends.run(each)?;
        stream.run(each, 1, tick, |_| {}).await?;
        let (mut floor, mut writes) = (Latencies::default(), Latencies::default());
        let mut ratios = Vec::new();
        for round in 0..ROUNDS {
            let mut bare = appends.run(each)?;
            stream.latencies = Latencies::default();
            stream.run(each, 1, tick, |_| {}).await?;
            let mut written = std::mem::take(&mut stream.latencies);
            ratios.push(written.quantile(0.5) / bare.quantile(0.5));
            floor.append(bare);
            writes.append(written);
            report.progress("one at a time", round + 1, ROUNDS);
        }
        report.latencies("floor: append 256 bytes, fdatasync", &mut floor)?;
        report.latencies("one event at a time, /v1/propose", &mut writes)?;
        let (writes, floor) = (writes.total(), floor.total());
        report.figure("one at a time / floor, median of the rounds", median(ratios), "times")?;
        report.figure("one at a time / floor, by total time", writes / floor, "times")
    }

    async fn at_rate(
        &self,
        node: &BenchNode,
        rate: f64,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut stream = Stream::open(&node.client).await?;
        let start = Instant::now();
        let progress = |done| report.progress("at a rate", done, self.count);
        stream.run_at_rate(self.count, rate, tick, progress).await?;
        let done = self.count as f64 / start.elapsed().as_secs_f64();
        report.latencies("events at a rate, each from when it was due", &mut stream.latencies)?;
        report.figure("asked for", rate, "events/s")?;
        report.figure("done", done, "events/s")
    }

    async fn in_flight(&self, node: &BenchNode, report: &mut Report) -> Result<(), Failure> {
        let mut stream = Stream::open(&node.client).await?;
        let in_flight = self.in_flight.max(1);
        stream.run(self.count.div_ceil(10), in_flight, tick, |_| {}).await?;
        stream.latencies = Latencies::default();
        let start = Instant::now();
        let progress = |done| report.progress("many in flight", done, self.count);
        stream.run(self.count, in_flight, tick, progress).await?;
        let seconds = start.elapsed().as_secs_f64();
        let name = format!("{in_flight} in flight, /v1/propose");
        report.latencies(&name, &mut stream.latencies)?;
        report.figure(&name, self.count as f64 / seconds, "events/s")
    }

    async fn requests(&self, node: &BenchNode, report: &mut Report) -> Result<(), Failure> {
        let body = BroadcastRequest { term: "tick(1)".to_owned(), space: None, once: None };
        let body: Bytes = serde_json::to_vec(&body)
            .map_err(|error| Failure::error(format!("JSON: {error}")))?
            .into();
        let left = Arc::new(AtomicU64::new(self.requests));
        let start = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.in_flight.max(1) {
            clients.spawn(broadcast(node.client.clone(), body.clone(), Arc::clone(&left)));
        }
        let mut latencies = Latencies::default();
        while let Some(ended) = clients.join_next().await {
            latencies.append(ended.map_err(|error| Failure::error(error.to_string()))??);
            let done = self.requests - left.load(Ordering::Relaxed).min(self.requests);
            report.progress("requests", done, self.requests);
        }
        let seconds = start.elapsed().as_secs_f64();
        let name = format!("{} at once, POST /v1/broadcast each", self.in_flight.max(1));
        report.latencies(&name, &mut latencies)?;
        report.figure(&name, self.requests as f64 / seconds, "events/s")
    }
}

/// A small event.
fn tick(n: u64) -> Result<Vec<u8>, Failure> {
    event(&Term::structure("tick", [Term::integer(n)]))
}

/// Broadcasts one event after the other on one connection, while there are any left.
async fn broadcast(
    client: Client,
    body: Bytes,
    left: Arc<AtomicU64>,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    let mut connection = client.connect().await?;
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let start = Instant::now();
        let outcome = connection.call(Method::POST, "/v1/broadcast", body.clone()).await?;
        let Outcome::Committed { .. } = outcome else {
            return Err(Failure::error(format!("an event was not committed: {outcome:?}")));
        };
        latencies.add(start.elapsed());
    }
    Ok(latencies)
}
