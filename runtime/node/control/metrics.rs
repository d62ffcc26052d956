//! `GET /metrics`: what `status` shows, in Prometheus' text format 0.0.4, with names that follow its
//! conventions: a unit at the end, `_total` for what only rises. A counter begins anew with its node,
//! and an agent's with its run.

use crate::api::{AgentInfo, NetInfo, SpaceInfo, Status, TunnelInfo};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;

/// The format's media type.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The kinds of metric that there are here.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric of each space or agent: name, kind, help, and its value if it has one.
type Metric<T> = (&'static str, Kind, &'static str, fn(&T) -> Option<f64>);

const SPACES: &[Metric<SpaceInfo>] = &[
    ("commands_total", Kind::Counter, "Commands applied: the index.", |s| Some(s.index as f64)),
    ("term", Kind::Gauge, "Raft term.", |s| Some(s.term as f64)),
    ("leader", Kind::Gauge, "Whether this node leads the space.", |s| {
        Some(f64::from(u8::from(s.role == "leader")))
    }),
    ("leader_known", Kind::Gauge, "Whether this node knows who leads the space.", |s| {
        (s.voters > 0).then_some(f64::from(u8::from(s.leader.is_some())))
    }),
    ("voters", Kind::Gauge, "Voters of the space.", |s| (s.voters > 0).then_some(s.voters as f64)),
    ("voters_reachable", Kind::Gauge, "Voters connected with this node, itself included.", |s| {
        (s.voters > 0).then_some(s.voters_reachable as f64)
    }),
    ("facts", Kind::Gauge, "Facts in the knowledge base.", |s| Some(s.facts as f64)),
    ("log_bytes", Kind::Gauge, "Size of the log on disk.", |s| Some(s.log_bytes as f64)),
    ("disk_free_bytes", Kind::Gauge, "Free space of the log's disk.", |s| {
        Some(s.free_bytes as f64)
    }),
    ("disk_reserve_bytes", Kind::Gauge, "Free space below which writes are refused.", |s| {
        Some(s.min_free_bytes as f64)
    }),
    ("read_only", Kind::Gauge, "Whether writes are refused.", |s| {
        Some(f64::from(u8::from(s.read_only.is_some())))
    }),
    ("refused_messages_total", Kind::Counter, "Messages of members not listened to.", |s| {
        Some(s.refused as f64)
    }),
    ("observer_age_seconds", Kind::Gauge, "Time since it was where a voter says it is.", |s| {
        s.observed.map(|o| o.age_ms as f64 / 1e3)
    }),
    ("observer_lag_commands", Kind::Gauge, "Commands that this observer lacks.", |s| {
        s.observed.map(|o| o.lag as f64)
    }),
    ("observer_heads_total", Kind::Counter, "Heads of voters heard and believed.", |s| {
        s.observed.map(|o| o.heads as f64)
    }),
    ("observer_refused_total", Kind::Counter, "Heads and answers not believed.", |s| {
        s.observed.map(|o| o.refused as f64)
    }),
    ("observer_old_heads_total", Kind::Counter, "Heads that had been said before.", |s| {
        s.observed.map(|o| o.old as f64)
    }),
    ("observer_fetched_total", Kind::Counter, "Pieces of the log fetched.", |s| {
        s.observed.map(|o| o.fetched as f64)
    }),
    ("observer_snapshots_total", Kind::Counter, "Snapshots fetched.", |s| {
        s.observed.map(|o| o.snapshots as f64)
    }),
    ("proposals", Kind::Gauge, "Proposals under way.", |s| Some(s.proposals as f64)),
    ("proposals_limit", Kind::Gauge, "Proposals that may be under way.", |s| {
        Some(s.max_proposals as f64)
    }),
    ("proposals_size_bytes", Kind::Gauge, "Size of the proposals under way.", |s| {
        Some(s.proposal_bytes as f64)
    }),
    ("proposals_size_limit_bytes", Kind::Gauge, "Size that they may have.", |s| {
        Some(s.max_proposal_bytes as f64)
    }),
];

const AGENTS: &[Metric<AgentInfo>] = &[
    ("up", Kind::Gauge, "Whether an engine runs.", |a| {
        Some(f64::from(u8::from(a.state == "running")))
    }),
    ("epoch", Kind::Gauge, "Epoch: the index of the claim.", |a| Some(a.epoch as f64)),
    ("lag_commands", Kind::Gauge, "Commands that it has not looked at.", |a| Some(a.lag as f64)),
    ("handled_total", Kind::Counter, "Triggers handled.", |a| Some(a.handled as f64)),
    ("failed_total", Kind::Counter, "Handlers that failed or threw.", |a| Some(a.failed as f64)),
    ("engine_deaths_total", Kind::Counter, "Engines that died.", |a| Some(a.deaths as f64)),
    ("engine_restarts_total", Kind::Counter, "Engines that took over from another.", |a| {
        Some(a.restarts as f64)
    }),
    ("letters", Kind::Gauge, "Letters that wait.", |a| Some(a.letters as f64)),
    ("letters_limit", Kind::Gauge, "Letters that are kept.", |a| Some(a.max_letters as f64)),
    ("dropped_total", Kind::Counter, "Triggers dropped since the queue was full.", |a| {
        Some(a.dropped as f64)
    }),
    ("queue_bytes", Kind::Gauge, "Size of the triggers that wait.", |a| Some(a.queue_bytes as f64)),
    ("queue_limit_bytes", Kind::Gauge, "Size that they may have.", |a| {
        Some(a.max_queue_bytes as f64)
    }),
    ("engine_memory_bytes", Kind::Gauge, "Resident memory of the engine.", |a| {
        a.memory.map(|bytes| bytes as f64)
    }),
    ("engine_memory_limit_bytes", Kind::Gauge, "Memory that the engine may have.", |a| {
        (a.max_memory > 0).then_some(a.max_memory as f64)
    }),
];

const TUNNELS: &[Metric<TunnelInfo>] = &[
    ("up", Kind::Gauge, "Whether it could be opened.", |t| {
        Some(f64::from(u8::from(t.capture != "none")))
    }),
    ("peers", Kind::Gauge, "Peers with which it carries.", |t| Some(t.peers.len() as f64)),
    ("peers_open", Kind::Gauge, "Peers that datagrams can go to now.", |t| {
        Some(t.peers.iter().filter(|peer| peer.open).count() as f64)
    }),
    ("captured_datagrams_total", Kind::Counter, "Datagrams captured here.", |t| {
        Some(t.captured.datagrams as f64)
    }),
    ("captured_bytes_total", Kind::Counter, "Bytes that they carried.", |t| {
        Some(t.captured.bytes as f64)
    }),
    ("received_datagrams_total", Kind::Counter, "Datagrams of peers accepted.", |t| {
        Some(t.received.datagrams as f64)
    }),
    ("received_bytes_total", Kind::Counter, "Bytes that they carried.", |t| {
        Some(t.received.bytes as f64)
    }),
    ("ordered_datagrams_total", Kind::Counter, "Datagrams captured here that are events.", |t| {
        Some(t.order.as_ref()?.datagrams as f64)
    }),
    ("ordered_bytes_total", Kind::Counter, "Bytes that they carried.", |t| {
        Some(t.order.as_ref()?.bytes as f64)
    }),
    ("order_waiting", Kind::Gauge, "Datagrams on their way to be events.", |t| {
        Some(t.order.as_ref()?.waiting as f64)
    }),
    ("stand_ins", Kind::Gauge, "Sockets that stand in for sources of other nodes.", |t| {
        Some(t.stand_ins as f64)
    }),
    ("sources", Kind::Gauge, "Sources of this host that may be answered.", |t| {
        Some(t.sources as f64)
    }),
];

/// The answer.
pub(super) fn answer(status: &Status, tunnels: &[TunnelInfo]) -> Response {
    ([(header::CONTENT_TYPE, TEXT)], text(status, tunnels)).into_response()
}

fn text(status: &Status, tunnels: &[TunnelInfo]) -> String {
    let mut out = String::new();
    head(&mut out, "synod_info", Kind::Gauge, "The node and its version.");
    line(&mut out, "synod_info", &[("node", &status.node), ("version", &status.version)], 1.0);
    head(&mut out, "synod_uptime_seconds", Kind::Gauge, "Time since the node was started.");
    line(&mut out, "synod_uptime_seconds", &[], status.uptime_s as f64);
    head(&mut out, "synod_memory_bytes", Kind::Gauge, "Resident memory of the node.");
    line(&mut out, "synod_memory_bytes", &[], status.memory as f64);
    let name = "synod_refused_frames_total";
    head(
        &mut out,
        name,
        Kind::Counter,
        "Frames and streams of peers that belong to no space here.",
    );
    line(&mut out, name, &[], status.refused_frames as f64);
    if let Some(net) = &status.net {
        network(&mut out, net);
    }
    family(&mut out, "space", SPACES, &status.spaces, |space| vec![("space", &space.name)]);
    family(&mut out, "agent", AGENTS, &status.agents, |agent| {
        vec![("space", &agent.space), ("agent", &agent.name)]
    });
    family(&mut out, "tunnel", TUNNELS, tunnels, |tunnel| vec![("tunnel", &tunnel.name)]);
    if !tunnels.is_empty() {
        of_tunnels(&mut out, tunnels);
    }
    out
}

/// What has a label besides the tunnel's name.
fn of_tunnels(out: &mut String, tunnels: &[TunnelInfo]) {
    let name = "synod_tunnel_dropped_datagrams_total";
    head(out, name, Kind::Counter, "Datagrams dropped, by the reason.");
    for tunnel in tunnels {
        for (reason, n) in &tunnel.drops {
            line(out, name, &[("tunnel", &tunnel.name), ("reason", reason)], *n as f64);
        }
    }
    let name = "synod_tunnel_time_seconds";
    head(out, name, Kind::Gauge, "Time of a datagram in this node that so many did not exceed.");
    for tunnel in tunnels {
        for (quantile, us) in [("0.5", tunnel.p50_us), ("0.99", tunnel.p99_us)] {
            let Some(us) = us else { continue };
            let labels = [("tunnel", &*tunnel.name), ("quantile", quantile)];
            line(out, name, &labels, us as f64 / 1e6);
        }
    }
}

/// What the bridge has counted.
fn network(out: &mut String, net: &NetInfo) {
    head(out, "synod_peers_connected", Kind::Gauge, "Peers that this node is connected with.");
    line(out, "synod_peers_connected", &[], net.connected as f64);
    let name = "synod_observers_served_total";
    head(out, name, Kind::Counter, "Questions of observers answered.");
    line(out, name, &[], net.served as f64);
    let name = "synod_observers_busy_total";
    head(out, name, Kind::Counter, "Questions of observers sent elsewhere: too many at once.");
    line(out, name, &[], net.busy as f64);
    for (counter, n) in &net.stats.counters {
        let name = format!("synod_bridge_{counter}_total");
        let help = format!("The bridge's count of {}.", counter.replace('_', " "));
        head(out, &name, Kind::Counter, &help);
        line(out, &name, &[], *n as f64);
    }
    let name = "synod_bridge_refusals_total";
    head(out, name, Kind::Counter, "Peers, calls and messages turned away, by the reason.");
    for (reason, n) in &net.stats.refusals {
        line(out, name, &[("reason", reason)], *n as f64);
    }
}

/// All metrics of spaces or agents: those of one name stand together, as the format wants it.
fn family<T>(
    out: &mut String,
    of: &str,
    metrics: &[Metric<T>],
    all: &[T],
    labels: impl Fn(&T) -> Vec<(&str, &str)>,
) {
    for (name, kind, help, value) in metrics {
        let name = format!("synod_{of}_{name}");
        let values: Vec<_> = all.iter().filter_map(|one| Some((one, value(one)?))).collect();
        if !values.is_empty() {
            head(out, &name, *kind, help);
        }
        for (one, value) in values {
            line(out, &name, &labels(one), value);
        }
    }
}

fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (n, (label, text)) in labels.iter().enumerate() {
        out.push(if n == 0 { '{' } else { ',' });
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{label}=\"{text}\"");
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_what_is_unknown_is_left_out() {
        let mut out = String::new();
        line(&mut out, "x", &[("a", "q\"b\\s\nn"), ("b", "é")], 1.5);
        line(&mut out, "y", &[], 9_007_199_254_740_991.0);
        assert_eq!(out, "x{a=\"q\\\"b\\\\s\\nn\",b=\"é\"} 1.5\ny 9007199254740991\n");
        let metrics: &[Metric<u8>] = &[("n", Kind::Gauge, "N.", |n| (*n > 1).then_some(2.0))];
        let mut out = String::new();
        family(&mut out, "t", metrics, &[1], |_| Vec::new());
        assert_eq!(out, "");
        family(&mut out, "t", metrics, &[1, 2], |_| Vec::new());
        assert_eq!(out, "# HELP synod_t_n N.\n# TYPE synod_t_n gauge\nsynod_t_n 2\n");
    }
}
