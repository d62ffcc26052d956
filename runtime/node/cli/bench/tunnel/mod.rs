//! `synod bench tunnel`: datagrams through a tunnel, against the same network without one, a relay, and the
//! same stock programs.

mod hosts;
mod load;
mod rivals;

use super::latency::Latencies;
use super::node::{BenchNode, Folder};
use super::report::Report;
use crate::cli::Failure;
use clap::Args;
use hosts::Hosts;
use load::Way;
use rivals::{QUORUM, Relay};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use synod::api::{TunnelInfo, TunnelRequest};
use tokio::time::sleep;

const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 2), 20005);
/// Where nodes listen.
const PORT: u16 = 4001;
/// The sizes that are measured.
const SMALL: usize = 100;
const LARGE: usize = 1400;
/// Datagrams a second whose times are measured.
const RATE: f64 = 1000.0;
/// Datagrams of one burst.
const BURST: u64 = 2000;
/// How long nodes have to find each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// Datagrams through a tunnel between hosts that are network namespaces: how many a second arrive
/// without loss, against a relay by socat; the time that it adds; a burst; library(paxos) of stock
/// SWI-Prologs. Root alone makes such hosts. They are gone afterwards
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Tunnel {
    /// How long each rate is kept up
    #[arg(long, env = "SYNOD_TIME", value_name = "TIME", default_value = "2s",
          value_parser = crate::cli::units::milliseconds, hide_env = true)]
    time: u64,
}

impl Tunnel {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let hosts = Hosts::make(QUORUM)?;
        let (sender, member) = (hosts.sender(0)?, hosts.member(1, TO)?);
        let time = Duration::from_millis(self.time);
        let way = Way { sender: &sender, member: &member, to: TO };
        let has_swipl = rivals::is_installed("swipl");

        let mut floor = way.send(SMALL, RATE, time * 2)?.times;
        report.latencies("floor: one segment, 1,000 a second", &mut floor)?;
        let paxos_floor = match has_swipl {
            true => Some(rivals::paxos(&hosts, folder)?),
            false => None,
        };
        let mut relayed = Vec::new();
        if rivals::is_installed("socat") {
            for how in [Relay::OneWay, Relay::Answered] {
                relayed.push(self.relayed(&hosts, how, report)?);
            }
        }

        let mut nodes = Vec::new();
        open(&mut nodes, 2, &hosts, folder).await?;
        let rate = way.greatest(SMALL, time)?;
        report.figure("100 bytes, all arrive", rate, "datagrams/s")?;
        for (relayed, whose) in
            relayed.into_iter().zip(["  of the one-way relay's", "  of the other's"])
        {
            report.figure(whose, rate / relayed, "times")?;
        }
        let rate = way.greatest(LARGE, time)?;
        report.figure("1,400 bytes, all arrive", mbit(rate), "Mbit/s")?;
        self.gossiped(&nodes, &hosts, report).await?;
        let mut times = way.send(SMALL, RATE, time * 2)?.times;
        report.latencies("1,000 a second", &mut times)?;
        added(report, &mut times, &mut floor)?;
        let burst = way.burst(LARGE, BURST)?;
        let lost = burst.sent - burst.arrived;
        report.figure("of a burst of 2,000 of 1,400 bytes lost", lost as f64, "datagrams")?;
        if let Some(floor) = paxos_floor {
            open(&mut nodes, QUORUM, &hosts, folder).await?;
            quorum(report, floor, rivals::paxos(&hosts, folder)?)?;
        }
        for node in nodes {
            node.stop().await?;
        }
        Ok(())
    }

    /// Through a tunnel of its own.
    async fn gossiped(
        &self,
        nodes: &[BenchNode],
        hosts: &Hosts,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let to = SocketAddrV4::new(*TO.ip(), TO.port() + 1);
        for node in nodes {
            let request = carried("gossip", to, "gossip");
            let _: TunnelInfo = node.client.post("/v1/tunnels", &request).await?;
        }
        let (sender, member) = (hosts.sender(0)?, hosts.member(1, to)?);
        let way = Way { sender: &sender, member: &member, to };
        let started = Instant::now();
        loop {
            let tunnels: Vec<TunnelInfo> = nodes[0].client.get("/v1/tunnels").await?;
            if tunnels.iter().any(|tunnel| tunnel.by_gossip) && way.burst(LARGE, 1)?.arrived == 1 {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::error("nothing comes by gossip"));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let rate = way.greatest(LARGE, Duration::from_millis(self.time))?;
        report.figure("1,400 bytes by gossip, all arrive", mbit(rate), "Mbit/s")?;
        for node in nodes {
            let _: Value = node.client.post("/v1/tunnels/gossip/remove", &json!({})).await?;
        }
        Ok(())
    }

    /// On ports of its own: a segment of its own it has not, and a group that nobody else relays.
    fn relayed(&self, hosts: &Hosts, how: Relay, report: &mut Report) -> Result<f64, Failure> {
        let to = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 3), 20007);
        let relay = rivals::relay(hosts, to, how)?;
        let (sender, member) = (hosts.sender(0)?, hosts.member(1, to)?);
        // What is sent does not leave the first host by itself, so that all of it comes by the relay.
        let failed = |e: std::io::Error| Failure::error(format!("a socket's time-to-live: {e}"));
        sender.set_multicast_ttl_v4(0).map_err(failed)?;
        let way = Way { sender: &sender, member: &member, to };
        let started = Instant::now();
        while way.burst(SMALL, 1)?.arrived == 0 {
            if started.elapsed() > PATIENCE {
                return Err(Failure::error("socat relays nothing"));
            }
        }
        let rate = way.greatest(SMALL, Duration::from_millis(self.time))?;
        drop(relay);
        let name = match how {
            Relay::OneWay => "rival: a one-way relay by socat, 100 bytes, all arrive",
            Relay::Answered => "rival: one that can be answered",
        };
        report.figure(name, rate, "datagrams/s")?;
        Ok(rate)
    }
}

fn mbit(rate: f64) -> f64 {
    rate * LARGE as f64 * 8.0 / 1e6
}

fn added(report: &mut Report, times: &mut Latencies, floor: &mut Latencies) -> Result<(), Failure> {
    for (part, name) in [(0.5, "added to a datagram, p50"), (0.99, "added to a datagram, p99")] {
        report.figure(name, times.quantile(part) - floor.quantile(part), "µs")?;
    }
    Ok(())
}

fn quorum(
    report: &mut Report,
    floor: Result<f64, String>,
    through: Result<f64, String>,
) -> Result<(), Failure> {
    for (name, rate) in [("floor: paxos_set on one segment", &floor), ("paxos_set", &through)] {
        match rate {
            Ok(rate) => report.figure(name, *rate, "/s")?,
            Err(said) => report.figure(&format!("{name}: {said}"), f64::NAN, "/s")?,
        }
    }
    if let (Ok(floor), Ok(through)) = (floor, through) {
        report.figure("  of that on one segment", through / floor, "times")?;
    }
    Ok(())
}

fn carried(name: &str, to: SocketAddrV4, carry: &str) -> TunnelRequest {
    TunnelRequest {
        name: name.to_owned(),
        groups: vec![*to.ip()],
        ports: vec![to.port().to_string()],
        capture: Some("redirect".to_owned()),
        carry: Some(carry.to_owned()),
        ttl: 0,
        idle_ms: None,
        peers: Vec::new(),
        order: None,
    }
}

/// A node on each of so many hosts, with a tunnel that leads to all others.
async fn open(
    nodes: &mut Vec<BenchNode>,
    count: usize,
    hosts: &Hosts,
    folder: &Folder,
) -> Result<(), Failure> {
    let synod = std::env::current_exe().map_err(|e| Failure::error(e.to_string()))?;
    let at = |n: usize| format!("/ip4/{}/tcp/{PORT}", Hosts::address(n));
    let request = carried("bench", TO, "streams");
    for n in nodes.len()..count {
        let (listen, first) = (at(n), at(0));
        let mut arguments = vec!["--listen", &listen];
        if n > 0 {
            arguments.extend(["--peer", &first]);
        }
        let command = hosts.inside(n, synod.as_os_str());
        let node = BenchNode::start_by(command, folder, n, &arguments)?;
        let _: TunnelInfo = node.client.post("/v1/tunnels", &request).await?;
        nodes.push(node);
    }
    let started = Instant::now();
    for node in nodes.iter() {
        loop {
            let tunnels: Vec<TunnelInfo> = node.client.get("/v1/tunnels").await?;
            let open = tunnels.iter().flat_map(|tunnel| &tunnel.peers).filter(|peer| peer.open);
            if open.count() + 1 == count {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::error("the nodes do not find each other"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
