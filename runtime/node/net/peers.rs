//! Peers as people see them: the address book, connections, what was counted.

use super::{Net, address, peer_id};
use crate::api::{
    ConnectionInfo, ErrorBody, KnownAddress, KnownPeer, MeInfo, NetInfo, NodeRecord, PeerStats,
    RecordedAgent,
};
use crate::hex::hex;
use crate::rfc3339;
use crate::space::error;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use synod_bridge::book::{Known, Tries};
use synod_bridge::{Bridge, Multiaddr, PeerId};
use tokio::time::timeout;

/// How long the bridge may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(1);

impl Net {
    /// Who this node is.
    pub(crate) async fn me_info(&self) -> MeInfo {
        let listening = match self.bridge() {
            Some(bridge) => timeout(PATIENCE, bridge.listening()).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let listening = listening.iter().map(ToString::to_string).collect();
        MeInfo { peer: self.me.to_string(), node: self.node.clone(), listening }
    }

    /// What `status` shows.
    pub(crate) fn info(&self) -> NetInfo {
        let peers: BTreeSet<PeerId> = self.connected();
        let (served, busy) = self.served();
        let (peer, connected) = (self.me.to_string(), peers.len() as u64);
        NetInfo { peer, connected, served, busy, stats: self.stats() }
    }

    fn connected(&self) -> BTreeSet<PeerId> {
        let all = self.bridge().map(Bridge::connections).unwrap_or_default();
        all.iter().map(|connection| connection.peer).collect()
    }

    /// What has been counted.
    pub(crate) fn stats(&self) -> PeerStats {
        let Some(bridge) = self.bridge() else { return PeerStats::default() };
        let stats = bridge.stats();
        let counters = stats.named().map(|(name, n)| (name.to_owned(), n)).collect();
        let mut refusals: BTreeMap<String, u64> =
            stats.refusals.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let ours = self.refusals_here();
        refusals.extend(ours.into_iter().map(|(what, n)| (format!("agents_{what}"), n)));
        PeerStats { counters, refusals }
    }

    /// The address book.
    pub(crate) async fn known(&self) -> Vec<KnownPeer> {
        let Some(bridge) = self.bridge() else { return Vec::new() };
        let (book, connected) = (bridge.known().await, self.connected());
        let peer = |(peer, known): (&PeerId, &Known)| KnownPeer {
            peer: Some(peer.to_string()),
            node: self.node_of(*peer),
            wanted: known.wanted,
            connected: connected.contains(peer),
            addresses: known.addresses.iter().map(known_address).collect(),
        };
        let seed = |seed: (&Multiaddr, &Tries)| KnownPeer {
            peer: None,
            node: None,
            wanted: true,
            connected: false,
            addresses: vec![known_address(seed)],
        };
        book.peers.iter().map(peer).chain(book.seeds.iter().map(seed)).collect()
    }

    /// All connections.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        let all = self.bridge().map(Bridge::connections).unwrap_or_default();
        let info = |connection: synod_bridge::Connection| ConnectionInfo {
            peer: connection.peer.to_string(),
            node: self.node_of(connection.peer),
            address: connection.address.to_string(),
            inbound: connection.inbound,
            seconds: connection.since.elapsed().as_secs(),
            rtt_us: connection.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
        };
        all.into_iter().map(info).collect()
    }

    /// Connects with whoever is at an address.
    pub(crate) async fn connect(&self, text: &str) -> Result<String, ErrorBody> {
        let address = read_address(text)?;
        let bridge = self.bridge().ok_or_else(down)?;
        let peer = bridge.connect(address).await;
        peer.map(|peer| peer.to_string()).map_err(|e| error("unreachable", e.to_string()))
    }

    /// Ends all connections with a peer.
    pub(crate) async fn disconnect(&self, text: &str) -> Result<String, ErrorBody> {
        let peer = self.peer(text)?;
        match self.bridge().ok_or_else(down)?.disconnect(peer).await {
            true => Ok(peer.to_string()),
            false => Err(error("not_found", format!("there is no connection with {text}"))),
        }
    }

    /// Adds an address to the book; a connection with whoever is there is kept up.
    pub(crate) async fn add(&self, text: &str) -> Result<Option<String>, ErrorBody> {
        let address = read_address(text)?;
        let added = self.bridge().ok_or_else(down)?.add(address).await;
        match added {
            Ok(peer) => Ok(peer.map(|peer| peer.to_string())),
            Err(synod_bridge::book::AddError::Full) => {
                Err(error("busy", "the address book is full: remove some with `synod peer rm`"))
            }
            Err(e) => Err(error("address", e.to_string())),
        }
    }

    /// Takes a peer or an address out of the book.
    pub(crate) async fn forget(&self, text: &str) -> Result<Option<String>, ErrorBody> {
        let bridge = self.bridge().ok_or_else(down)?;
        let (peer, was_known) = if text.starts_with('/') {
            (None, bridge.remove_address(read_address(text)?).await)
        } else {
            let peer = self.peer(text)?;
            (Some(peer.to_string()), bridge.remove_peer(peer).await)
        };
        match was_known {
            true => Ok(peer),
            false => Err(error("not_found", format!("{text} is not in the address book"))),
        }
    }

    /// The peer of an id or of a node's name.
    fn peer(&self, text: &str) -> Result<PeerId, ErrorBody> {
        let at = self.started.elapsed();
        let named = self
            .directory()
            .live(at)
            .find(|(_, heard)| heard.record.node == text)
            .map(|(peer, _)| peer.to_vec());
        match named.and_then(|peer| PeerId::from_bytes(&peer).ok()) {
            Some(peer) => Ok(peer),
            None => peer_id(text).map_err(|e| error("address", e.to_string())),
        }
    }

    /// What the other nodes say of themselves.
    pub(crate) fn records(&self) -> Vec<NodeRecord> {
        let at = self.started.elapsed();
        let directory = self.directory();
        let record = |(peer, heard): (&[u8], &super::directory::Heard)| {
            let record = &heard.record;
            let agent = |agent: &super::directory::Agent| RecordedAgent {
                name: agent.name.clone(),
                space: agent.space.and_then(|n| record.spaces.get(n)).map(|held| hex(&held.id)),
                runs: agent.runs,
            };
            NodeRecord {
                peer: PeerId::from_bytes(peer).map_or_else(|_| hex(peer), |peer| peer.to_string()),
                node: record.node.clone(),
                addresses: record.addresses.clone(),
                spaces: record.spaces.iter().map(|held| hex(&held.id)).collect(),
                agents: record.agents.iter().map(agent).collect(),
                tunnels: record.tunnels.clone(),
                clock_ahead_ms: heard.ahead / 1000,
            }
        };
        directory.live(at).map(record).collect()
    }

    /// The id of a space by its name here; of the only one, without a name.
    pub(crate) fn space_id(&self, name: Option<&str>) -> Option<[u8; 32]> {
        let spaces = self.routes.all();
        match (name, spaces.as_slice()) {
            (Some(name), spaces) => {
                spaces.iter().find(|(s, _)| s.name() == name).map(|(s, _)| s.id())
            }
            (None, [(only, _)]) => Some(only.id()),
            (None, _) => None,
        }
    }
}

fn known_address((address, tries): (&Multiaddr, &Tries)) -> KnownAddress {
    KnownAddress {
        address: address.to_string(),
        successes: tries.successes,
        failures: tries.failures,
        reached: tries.reached.map(|at| rfc3339::format(at.saturating_mul(1_000_000))),
    }
}

fn read_address(text: &str) -> Result<Multiaddr, ErrorBody> {
    address(text).map_err(|e| error("address", e.to_string()))
}

fn down() -> ErrorBody {
    error("stopping", "the node is going down: ask again when it is up")
}
