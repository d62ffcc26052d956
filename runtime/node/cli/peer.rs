//! `synod peer id|known|connections|connect|disconnect|add|rm|stats|key`

use super::client::Client;
use super::table::{Table, bytes, seconds};
use super::{Failure, Global, Verdict};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use synod::api::{
    AddressRequest, ConnectionInfo, KnownPeer, MeInfo, NodeRecord, PeerAnswer, PeerRequest,
    PeerStats,
};
use synod_bridge::{IDENTITY_FILE, Identity, PrivateKey};

/// See and change whom this node knows in the network
#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// Print this node's id in the network, whether the node runs or not
    Id,
    /// List the address book: peers, where they may be, and how dialing went
    Known,
    /// List the connections that there are
    Connections,
    /// List the nodes that are heard of, with their agents
    Nodes,
    /// Connect with whoever is at an address
    Connect(Address),
    /// End the connections with a peer; it is not dialed again for a minute
    Disconnect(Which),
    /// Keep up a connection with whoever is at an address
    Add(Address),
    /// Forget a peer, or one address
    Rm(Which),
    /// Print what was counted: messages, gossip, refusals
    Stats,
    /// Make the key file of a private network, for synod up --private
    Key(Key),
}

/// An address.
#[derive(Debug, Args)]
pub(crate) struct Address {
    /// Like /ip4/192.0.2.1/tcp/4001, with /p2p/ID behind it if the id is known
    address: String,
}

/// A peer.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The peer's id or its node's name; for rm, or an address
    peer: String,
}

/// Where to put a key.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The file to make; one that is there is not replaced
    file: PathBuf,
}

impl Peer {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        match self {
            Self::Id => id(&data, &client, global).await,
            Self::Known => known(&client, global).await,
            Self::Connections => connections(&client, global).await,
            Self::Nodes => nodes(&client, global).await,
            Self::Connect(Address { address }) => {
                changed(&client, "connect", &AddressRequest { address }, global).await
            }
            Self::Disconnect(Which { peer }) => {
                changed(&client, "disconnect", &PeerRequest { peer }, global).await
            }
            Self::Add(Address { address }) => {
                changed(&client, "add", &AddressRequest { address }, global).await
            }
            Self::Rm(Which { peer }) => {
                changed(&client, "remove", &PeerRequest { peer }, global).await
            }
            Self::Stats => stats(&client, global).await,
            Self::Key(Key { file }) => key(&file, global),
        }
    }
}

/// From the data folder: a node that does not run has an identity, too.
async fn id(data: &Path, client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let mut out = global.out();
    if client.is_up().await? {
        let me: MeInfo = client.get("/v1/peers/id").await?;
        match out.is_json() {
            true => out.json(&me)?,
            false => out.line(&me.peer)?,
        }
        return Ok(Verdict::Yes);
    }
    let file = data.join(IDENTITY_FILE);
    if !file.exists() {
        super::say::say(format_args!(
            "synod: {} is not there yet: the node gets its identity when it first takes part in a \
             network (synod up --listen /ip4/0.0.0.0/tcp/4001)",
            file.display()
        ));
        return Ok(Verdict::No);
    }
    let identity = Identity::of_folder(data).map_err(|e| Failure::error(e.to_string()))?;
    match out.is_json() {
        true => out.json(&json!({ "peer": identity.id().to_string() }))?,
        false => out.line(identity.id())?,
    }
    Ok(Verdict::Yes)
}

async fn known(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let known: Vec<KnownPeer> = client.get("/v1/peers/known").await?;
    let mut out = global.out();
    if out.is_json() {
        known.iter().try_for_each(|peer| out.json(peer))?;
        return Ok(Verdict::Yes);
    }
    let mut table = Table::new(["PEER", "NODE", "STATE", "REACHED", "FAILED", "ADDRESS"]);
    for known in &known {
        let state = match (known.connected, known.wanted) {
            (true, _) => "connected",
            (false, true) => "wanted",
            (false, false) => "known",
        };
        let peer = known.peer.clone().unwrap_or_else(|| "-".to_owned());
        let node = known.node.clone().unwrap_or_else(|| "-".to_owned());
        let mut row = |reached: String, failed: String, address: &str| {
            let row =
                [peer.clone(), node.clone(), state.to_owned(), reached, failed, address.to_owned()];
            table.marked_row(known.wanted && !known.connected, row);
        };
        if known.addresses.is_empty() {
            row("-".to_owned(), "-".to_owned(), "-");
        }
        for address in &known.addresses {
            row(address.successes.to_string(), address.failures.to_string(), &address.address);
        }
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}

async fn connections(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let connections: Vec<ConnectionInfo> = client.get("/v1/peers/connections").await?;
    let mut out = global.out();
    if out.is_json() {
        connections.iter().try_for_each(|connection| out.json(connection))?;
        return Ok(Verdict::Yes);
    }
    let mut table =
        Table::new(["PEER", "NODE", "WAY", "FOR", "ROUND TRIP", "IN", "OUT", "ADDRESS"]);
    for connection in &connections {
        let rtt = connection.rtt_us.map(|us| format!("{:.1} ms", us as f64 / 1000.0));
        table.row([
            connection.peer.clone(),
            connection.node.clone().unwrap_or_else(|| "-".to_owned()),
            if connection.inbound { "in" } else { "out" }.to_owned(),
            seconds(connection.seconds),
            rtt.unwrap_or_else(|| "-".to_owned()),
            bytes(connection.bytes_in),
            bytes(connection.bytes_out),
            connection.address.clone(),
        ]);
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}

async fn nodes(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let nodes: Vec<NodeRecord> = client.get("/v1/peers/directory").await?;
    let mut out = global.out();
    if out.is_json() {
        nodes.iter().try_for_each(|node| out.json(node))?;
        return Ok(Verdict::Yes);
    }
    let mut table = Table::new(["NODE", "SPACES", "AGENTS", "CLOCK", "PEER"]);
    for node in &nodes {
        let agent = |agent: &synod::api::RecordedAgent| match agent.runs {
            true => agent.name.clone(),
            false => format!("{} (standby)", agent.name),
        };
        let agents: Vec<String> = node.agents.iter().map(agent).collect();
        table.row([
            node.node.clone(),
            node.spaces.len().to_string(),
            if agents.is_empty() { "-".to_owned() } else { agents.join(", ") },
            format!("{:+.1} s", node.clock_ahead_ms as f64 / 1000.0),
            node.peer.clone(),
        ]);
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}

async fn changed(
    client: &Client,
    what: &str,
    request: &impl serde::Serialize,
    global: &Global,
) -> Result<Verdict, Failure> {
    let answer: PeerAnswer = match client.post(&format!("/v1/peers/{what}"), request).await {
        Ok(answer) => answer,
        Err(error) => return error.or_no(),
    };
    let mut out = global.out();
    if out.is_json() {
        out.json(&answer)?;
    } else if let Some(peer) = &answer.peer {
        out.line(peer)?;
    }
    Ok(Verdict::Yes)
}

async fn stats(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let stats: PeerStats = client.get("/v1/peers/stats").await?;
    let mut out = global.out();
    if out.is_json() {
        out.json(&stats)?;
        return Ok(Verdict::Yes);
    }
    let mut table = Table::new(["COUNTED", "N"]);
    for (name, n) in &stats.counters {
        table.row([name.replace('_', " "), n.to_string()]);
    }
    for (reason, n) in &stats.refusals {
        table.row([format!("refused: {}", reason.replace('_', " ")), n.to_string()]);
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}

fn key(file: &Path, global: &Global) -> Result<Verdict, Failure> {
    let key = PrivateKey::generate();
    key.write(file).map_err(|e| Failure::error(format!("no key was made: {e}")))?;
    let mut out = global.out();
    if out.is_json() {
        out.json(&json!({ "file": file, "fingerprint": key.fingerprint() }))?;
    } else {
        out.line(format_args!("{}  fingerprint {}", file.display(), key.fingerprint()))?;
    }
    Ok(Verdict::Yes)
}
