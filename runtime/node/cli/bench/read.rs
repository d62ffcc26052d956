//! `synod bench read`: facts read by key, one request each, from a space of several nodes.

use super::etcd::Etcd;
use super::latency::Latencies;
use super::node::Folder;
use super::report::Report;
use super::several::{SPACE, Several};
use super::stream::{Stream, draft, encoded};
use crate::cli::client::Client;
use crate::cli::say::say;
use crate::cli::{Failure, units};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use synod::api::{Facts, FactsRequest};
use synod_core::command::Op;
use synod_core::kb::End;
use synod_core::term::Term;
use tokio::task::JoinSet;

/// Facts that are written in one transaction.
const AT_ONCE: u64 = 500;
/// Synod and its rival take turns so often: what else the machine does, both feel.
const ROUNDS: u64 = 5;
/// Keys are taken in steps of this, a prime, so that no two clients stay on one.
const STRIDE: u64 = 7919;

/// Facts of a space of several nodes, read by key with an HTTP request each: so that all that was
/// acknowledged before is among what is read (linearizable), beside etcd if it is installed; and as
/// the node that is asked has them
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Read {
    /// Nodes
    #[arg(long, env = "SYNOD_NODES", value_name = "N", default_value_t = 3, hide_env = true)]
    nodes: usize,
    /// Clients at once, spread over the nodes
    #[arg(long, env = "SYNOD_CLIENTS", value_name = "N", default_value_t = 64, hide_env = true)]
    clients: usize,
    /// Reads of each kind
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "200k",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// Facts, and keys of etcd's
    #[arg(long, env = "SYNOD_FACTS", value_name = "N", default_value = "1k",
          value_parser = units::count, hide_env = true)]
    facts: u64,
}

impl Read {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let several = Several::start(folder, self.nodes).await?;
        self.fill(&several).await?;
        let etcd = Etcd::start(folder, several.nodes.len()).await?;
        match &etcd {
            Some(etcd) => self.fill_etcd(etcd).await?,
            None => say(format_args!(
                "synod: without etcd beside it: install it (Debian's etcd-server) for the comparison"
            )),
        }
        let each = self.count.div_ceil(ROUNDS).max(1);
        // Once unmeasured, for both.
        self.ours(&several, each, false).await?;
        if let Some(etcd) = &etcd {
            self.theirs(etcd, each.div_ceil(4)).await?;
        }
        let (mut linearizable, mut local) = (Latencies::default(), Latencies::default());
        let (mut rival, mut ratios) = (Latencies::default(), Vec::new());
        let (mut rates, mut local_rates, mut rival_rates) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (took, rate) = self.ours(&several, each, false).await?;
            linearizable.append(took);
            rates.push(rate);
            let (took, local_rate) = self.ours(&several, each, true).await?;
            local.append(took);
            local_rates.push(local_rate);
            if let Some(etcd) = &etcd {
                let (took, theirs) = self.theirs(etcd, each.div_ceil(4)).await?;
                rival.append(took);
                ratios.push(rate / theirs);
                rival_rates.push(theirs);
            }
            report.progress("reads", (round + 1) * each, ROUNDS * each);
        }
        let clients = self.clients;
        let median = super::latency::median;
        let name = format!("linearizable reads, {clients} clients");
        report.latencies(&name, &mut linearizable)?;
        report.figure(&name, median(rates), "reads/s")?;
        let name = format!("local reads, {clients} clients");
        report.latencies(&name, &mut local)?;
        report.figure(&name, median(local_rates), "reads/s")?;
        if etcd.is_some() {
            let name = format!("etcd: linearizable reads, {clients} clients");
            report.latencies(&name, &mut rival)?;
            report.figure(&name, median(rival_rates), "reads/s")?;
            let ratio = median(ratios);
            report.figure("rate / etcd's, median of the rounds", ratio, "times")?;
        }
        Ok(())
    }

    async fn fill(&self, several: &Several) -> Result<(), Failure> {
        let mut stream = Stream::open(&several.leader().await?.client).await?;
        let value = "x".repeat(256);
        let item = |n: u64| {
            let item = Term::structure("item", [Term::integer(n), Term::string(value.clone())]);
            Ok(Op::Assert { end: End::Last, fact: encoded(&item)? })
        };
        let facts = |n: u64| {
            let some = n * AT_ONCE..self.facts.min((n + 1) * AT_ONCE);
            Ok(draft(some.map(item).collect::<Result<_, Failure>>()?))
        };
        stream.run(self.facts.div_ceil(AT_ONCE), 1, facts, |_| {}).await?;
        several.all_agree().await
    }

    async fn fill_etcd(&self, etcd: &Etcd) -> Result<(), Failure> {
        let mut client = etcd.connect().await?;
        for n in 0..self.facts {
            client.put(n).await?;
        }
        Ok(())
    }

    /// So many reads from all clients; how long each took, and how many there were a second.
    async fn ours(
        &self,
        several: &Several,
        count: u64,
        local: bool,
    ) -> Result<(Latencies, f64), Failure> {
        let left = Arc::new(AtomicU64::new(count));
        let (start, mut running) = (Instant::now(), JoinSet::new());
        for n in 0..self.clients {
            let client = several.node(n % several.nodes.len())?.client.clone();
            running.spawn(read(client, Arc::clone(&left), self.facts, n as u64, local));
        }
        all(running, count, start).await
    }

    async fn theirs(&self, etcd: &Etcd, count: u64) -> Result<(Latencies, f64), Failure> {
        let left = Arc::new(AtomicU64::new(count));
        let (start, mut running) = (Instant::now(), JoinSet::new());
        for n in 0..self.clients {
            let (mut client, left) = (etcd.connect_to(n).await?, Arc::clone(&left));
            let (facts, mut key) = (self.facts, n as u64);
            running.spawn(async move {
                let mut latencies = Latencies::default();
                while take(&left) {
                    let start = Instant::now();
                    client.get(key % facts).await?;
                    latencies.add(start.elapsed());
                    key += STRIDE;
                }
                Ok(latencies)
            });
        }
        all(running, count, start).await
    }
}

/// Reads one fact after the other on one connection, while there are reads left.
async fn read(
    client: Client,
    left: Arc<AtomicU64>,
    facts: u64,
    mut key: u64,
    local: bool,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    let mut connection = client.connect().await?;
    while take(&left) {
        let request = FactsRequest {
            pattern: format!("item({}, _)", key % facts),
            space: Some(SPACE.to_owned()),
            limit: None,
            min_index: 0,
            local,
        };
        let body = serde_json::to_vec(&request);
        let body: Bytes = body.map_err(|error| Failure::error(format!("JSON: {error}")))?.into();
        let start = Instant::now();
        let found: Facts = connection.call(Method::POST, "/v1/facts", body).await?;
        latencies.add(start.elapsed());
        if found.facts.len() != 1 {
            return Err(Failure::error(format!("{} found {found:?}", request.pattern)));
        }
        key += STRIDE;
    }
    Ok(latencies)
}

fn take(left: &AtomicU64) -> bool {
    let one = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
}

async fn all(
    mut running: JoinSet<Result<Latencies, Failure>>,
    count: u64,
    start: Instant,
) -> Result<(Latencies, f64), Failure> {
    let mut latencies = Latencies::default();
    while let Some(ended) = running.join_next().await {
        latencies.append(ended.map_err(|error| Failure::error(error.to_string()))??);
    }
    Ok((latencies, count as f64 / start.elapsed().as_secs_f64()))
}
