//! `synod tunnel add|list|rm`

use super::client::{Client, encode};
use super::table::{Table, bytes};
use super::{Failure, Global, Verdict, units};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use synod::api::{TunnelInfo, TunnelOrder, TunnelPeer, TunnelRequest, TunnelTraffic};
use synod_udp_shim::network::Mode;

/// Carry multicast groups between nodes
#[derive(Debug, Subcommand)]
pub(crate) enum Tunnel {
    /// Carry groups and ports to all nodes that have a tunnel of the same name
    ///
    /// Applications stay as they are. What one sends to a group on this host is heard by those on the
    /// other nodes' hosts; each source has a stand-in there, which can be answered by unicast. The
    /// tunnel stays until it is removed.
    Add(Add),
    /// List the tunnels: peers, traffic, what was dropped and why
    List,
    /// Carry no longer, and leave the host as it was
    Rm(Rm),
}

/// What to carry.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name, which is the same on all nodes
    name: String,
    /// A multicast group; may be repeated
    #[arg(
        long,
        required = true,
        env = "SYNOD_GROUP",
        hide_env = true,
        value_name = "G",
        value_delimiter = ','
    )]
    group: Vec<Ipv4Addr>,
    /// A port of each group, or several: 5004-5007; may be repeated
    #[arg(
        long,
        required = true,
        env = "SYNOD_PORT",
        hide_env = true,
        value_name = "P[-Q]",
        value_delimiter = ','
    )]
    port: Vec<String>,
    /// redirect (needs CAP_NET_ADMIN and CAP_NET_RAW) or join [default: what is possible]
    #[arg(long, env = "SYNOD_CAPTURE", hide_env = true, value_name = "HOW", default_value = "auto",
          hide_default_value = true, value_parser = capture)]
    capture: String,
    /// By a stream to each peer, or by gossip that they pass on [default: by gossip to more than 16]
    #[arg(long, env = "SYNOD_CARRY", hide_env = true, value_name = "HOW", default_value = "auto",
          hide_default_value = true, value_parser = ["auto", "streams", "gossip"])]
    carry: String,
    /// The time-to-live of what is delivered here, for applications that look at it (mDNS: 255)
    #[arg(long, env = "SYNOD_TTL", hide_env = true, value_name = "N", default_value_t = 0)]
    ttl: u8,
    /// For how long a source may be silent until its stand-ins are given up [default: 1h]
    #[arg(long, env = "SYNOD_IDLE", hide_env = true, value_name = "TIME", value_parser = units::milliseconds)]
    idle: Option<u64>,
    /// Carry to this peer alone, by its id; may be repeated [default: all that have the tunnel]
    #[arg(
        long,
        env = "SYNOD_TUNNEL_PEER",
        hide_env = true,
        value_name = "ID",
        value_delimiter = ','
    )]
    peer: Vec<String>,
    /// Make each datagram that this host sends an event of this space, too: at most once, and in the same order
    /// for all of its agents
    #[arg(long, env = "SYNOD_ORDER", hide_env = true, value_name = "SPACE")]
    order: Option<String>,
}

/// A way to capture, or `auto`.
fn capture(text: &str) -> Result<String, String> {
    match text {
        "auto" => Ok(text.to_owned()),
        _ => text.parse::<Mode>().map(|mode| mode.to_string()),
    }
}

/// Which.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Its name
    name: String,
}

impl Tunnel {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        match self {
            Self::Add(add) => add.run(&client, global).await,
            Self::List => list(&client, global).await,
            Self::Rm(Rm { name }) => rm(&client, &name, global).await,
        }
    }
}

impl Add {
    async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let request = TunnelRequest {
            name: self.name,
            groups: self.group,
            ports: self.port,
            capture: (self.capture != "auto").then_some(self.capture),
            carry: (self.carry != "auto").then_some(self.carry),
            ttl: self.ttl,
            idle_ms: self.idle,
            peers: self.peer,
            order: self.order,
        };
        let info: TunnelInfo = client.post("/v1/tunnels", &request).await?;
        let mut out = global.out();
        if out.is_json() {
            out.json(&info)?;
        } else {
            let into =
                info.order.as_ref().map(|order| format!(", and orders into {}", order.space));
            let into = into.unwrap_or_default();
            out.line(format_args!("tunnel {} captures by {}{into}", info.name, info.capture))?;
        }
        remarks(&info);
        Ok(Verdict::Yes)
    }
}

async fn list(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let tunnels: Vec<TunnelInfo> = client.get("/v1/tunnels").await?;
    let mut out = global.out();
    if out.is_json() {
        tunnels.iter().try_for_each(|tunnel| out.json(tunnel))?;
        return Ok(Verdict::Yes);
    }
    let mut table = Table::new([
        "TUNNEL",
        "CAPTURE",
        "GROUPS",
        "PORTS",
        "PEERS",
        "OUT",
        "IN",
        "ORDERED",
        "DROPPED",
        "STAND-INS",
        "P50",
        "P99",
    ]);
    for tunnel in &tunnels {
        table.marked_row(tunnel.capture == "none", row(tunnel));
    }
    table.print(&mut out)?;
    for tunnel in tunnels.iter().filter(|tunnel| tunnel.peers.is_empty()) {
        super::say::say(format_args!(
            "synod: tunnel {}: no peer has it: add it on others, and see with `synod peers list` and `synod doctor` \
             whether they are connected",
            tunnel.name
        ));
    }
    tunnels.iter().for_each(remarks);
    Ok(Verdict::Yes)
}

fn row(tunnel: &TunnelInfo) -> [String; 12] {
    let peer = |peer: &TunnelPeer| match peer.open {
        true => peer.node.clone(),
        false => format!("{} (away)", peer.node),
    };
    let way = if tunnel.by_gossip { " by gossip" } else { "" };
    let all = |texts: Vec<String>| match texts.is_empty() {
        true => "-".to_owned(),
        false => texts.join(", "),
    };
    let drops = tunnel.drops.iter().map(|(reason, n)| format!("{n} {}", reason.replace('_', " ")));
    let traffic = |of: TunnelTraffic| format!("{} ({})", of.datagrams, bytes(of.bytes));
    let ordered = tunnel.order.as_ref().map_or_else(
        || "-".to_owned(),
        |order| {
            let TunnelOrder { space, datagrams, waiting, .. } = order;
            let waiting = if *waiting > 0 { format!(", {waiting} wait") } else { String::new() };
            format!("{space}: {datagrams} ({}){waiting}", bytes(order.bytes))
        },
    );
    let time = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("{us} us"));
    [
        tunnel.name.clone(),
        tunnel.capture.clone(),
        all(tunnel.groups.iter().map(ToString::to_string).collect()),
        tunnel.ports.join(", "),
        format!("{}{way}", all(tunnel.peers.iter().map(peer).collect())),
        traffic(tunnel.captured),
        traffic(tunnel.received),
        ordered,
        all(drops.collect()),
        tunnel.stand_ins.to_string(),
        time(tunnel.p50_us),
        time(tunnel.p99_us),
    ]
}

fn remarks(tunnel: &TunnelInfo) {
    for remark in &tunnel.remarks {
        super::say::say(format_args!("synod: tunnel {}: {remark}", tunnel.name));
    }
}

async fn rm(client: &Client, name: &str, global: &Global) -> Result<Verdict, Failure> {
    let path = format!("/v1/tunnels/{}/remove", encode(name));
    let removed = match client.post::<Value>(&path, &json!({})).await {
        Ok(removed) => removed,
        Err(error) => return error.or_no(),
    };
    let remarks = removed["remarks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    remarks.for_each(|remark| super::say::say(format_args!("synod: tunnel {name}: {remark}")));
    let mut out = global.out();
    if out.is_json() {
        out.json(&json!({ "removed": name }))?;
    }
    Ok(Verdict::Yes)
}
