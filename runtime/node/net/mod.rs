//! This node in the network: the bridge, and what of the spaces goes over it.
//!
//! A frame between members begins with a token that only members can make, of the space and of both
//! peers ([`synod_core::group::token`]): so a frame finds its space, and strangers find none.

mod directory;
mod gossip;
mod heralding;
mod incoming;
mod join;
mod keeper;
pub(crate) mod messages;
mod observing;
pub(crate) mod peers;
mod reach;
mod rejoin;
mod routes;
mod snapshot;
pub(crate) mod ticket;

use crate::agents::Agents;
use crate::folder::Folder;
use crate::hex::hex;
use crate::space::{Done, Lane, Links, Offer, Space};
use crate::tunnels::Tunnels;
use bytes::Bytes;
use directory::Directory;
pub(crate) use join::{Joined, follow, join};
use observing::Observed;
pub(crate) use reach::Place;
use reach::Post;
pub(crate) use rejoin::{Lost, rejoin};
use routes::Routes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_bridge::{Bridge, Config, Deliver, Event, Identity, Multiaddr, PeerId, PrivateKey};
use synod_core::group::observer::Request;

/// Where a node listens if it is not said, and no other port has been taken before.
const ANYWHERE: [&str; 2] = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"];
/// The file in the data folder with the addresses that the node listens on, so that it has the same
/// ports again.
const LISTEN_FILE: &str = "listen.json";

/// Identities that two nodes have and that are remembered, at most.
const MAX_TWINS: usize = 16;

/// How a node takes part in the network.
#[derive(Clone, Debug, Default)]
pub struct NetConfig {
    /// Where to listen.
    pub listen: Vec<String>,
    /// Whom to connect with.
    pub peers: Vec<String>,
    /// The file with a private network's key.
    pub private: Option<PathBuf>,
    /// The only peers that are let in.
    pub allow: Vec<String>,
    /// Whether not to look for peers on the local network.
    pub no_mdns: bool,
}

/// Why a node does not take part in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address is none.
    #[error("{0} is no address: {1}; give one like /ip4/192.0.2.1/tcp/4001")]
    Address(String, String),
    /// A peer's id is none.
    #[error("{0} is no peer's id: {1}; `synod peer id` prints a node's own")]
    Peer(String, String),
    /// The node's key cannot be used.
    #[error(transparent)]
    Identity(#[from] synod_bridge::IdentityError),
    /// The network's key cannot be used.
    #[error(transparent)]
    Key(#[from] synod_bridge::KeyError),
    /// The bridge does not start.
    #[error(transparent)]
    Bridge(#[from] synod_bridge::Error),
}

/// Where a node was to listen, and where it did.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ListenFile {
    asked: Vec<String>,
    listen: Vec<String>,
}

/// The network, as the node has it.
pub(crate) struct Net {
    bridge: OnceLock<Bridge>,
    me: PeerId,
    identity: Identity,
    routes: Routes,
    /// The spaces that this node only follows.
    observed: Observed,
    runtime: tokio::runtime::Handle,
    /// Identities that more than one node was seen to have.
    twins: Mutex<BTreeSet<PeerId>>,
    /// This node's name.
    node: String,
    agents: Agents,
    tunnels: Arc<Tunnels>,
    started: Instant,
    /// What other nodes say of themselves.
    directory: Mutex<Directory>,
    /// Messages to agents that wait to be sent.
    posts: Mutex<HashMap<PeerId, Post>>,
    /// What of peers was refused here, by its kind.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// What was last said of a space, in time: each head says a later one.
    said: AtomicU64,
    /// Which network this is, for tickets: a private one's key shows by its fingerprint.
    pub(crate) network: Option<String>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Takes the bridge's events; the bridge does not keep the network alive.
struct Ears(Weak<Net>);

impl Deliver for Ears {
    fn deliver(&self, event: Event) {
        if let Some(net) = self.0.upgrade() {
            net.heed(event);
        }
    }
}

impl Net {
    /// Takes part in the network.
    pub(crate) async fn start(
        folder: &Folder,
        config: &NetConfig,
        agents: &Agents,
        tunnels: &Arc<Tunnels>,
    ) -> Result<Arc<Self>, NetError> {
        let identity = Identity::of_folder(folder.root())?;
        let me = identity.id();
        let private = config.private.as_deref().map(PrivateKey::read).transpose()?;
        let network = private.as_ref().map(PrivateKey::fingerprint);
        let is_tcp_only = private.is_some();
        let asked = match config.listen.is_empty() {
            true => ANYWHERE.map(str::to_owned).to_vec(),
            false => config.listen.clone(),
        };
        // Where a port is left to the machine, it is the same again.
        let listen =
            addresses(&remembered(folder.root(), &asked).unwrap_or_else(|| asked.clone()))?;
        let is_udp = |address: &Multiaddr| address.to_string().contains("/udp/");
        let keeps =
            |address: &Multiaddr| !(is_tcp_only && config.listen.is_empty() && is_udp(address));
        let allow =
            config.allow.iter().map(|id| peer_id(id)).collect::<Result<BTreeSet<_>, _>>()?;
        let bridge_config = Config {
            listen: listen.into_iter().filter(keeps).collect(),
            peers: addresses(&config.peers)?,
            private,
            allow: (!allow.is_empty()).then_some(allow),
            mdns: !config.no_mdns,
            ..Config::new(identity.clone(), folder.root().to_path_buf())
        };
        let net = Arc::new(Self {
            bridge: OnceLock::new(),
            me,
            identity: identity.clone(),
            routes: Routes::new(me),
            observed: Observed::default(),
            node: folder.name.clone(),
            agents: agents.clone(),
            tunnels: Arc::clone(tunnels),
            started: Instant::now(),
            directory: Mutex::default(),
            posts: Mutex::default(),
            refusals: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            twins: Mutex::default(),
            said: AtomicU64::new(0),
            network,
        });
        let ears = Arc::new(Ears(Arc::downgrade(&net)));
        let bridge = synod_bridge::start_with(bridge_config, ears)?;
        remember(folder.root(), &asked, &bridge.listening().await);
        // Set once, here.
        drop(net.bridge.set(bridge));
        tokio::spawn(keeper::keep(Arc::downgrade(&net)));
        agents.join(&net);
        gossip::start(&net);
        Ok(net)
    }

    /// The bridge.
    pub(crate) fn bridge(&self) -> Option<&Bridge> {
        self.bridge.get()
    }

    /// This node's name.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// This node's id in the network.
    pub(crate) fn me(&self) -> PeerId {
        self.me
    }

    /// Frames of this space find it from here on.
    pub(crate) fn add_space(self: &Arc<Self>, space: Space, key: [u8; 32]) {
        self.routes.add(space.clone(), key);
        heralding::start(self, &space, &key);
        for connection in self.bridge().map(Bridge::connections).unwrap_or_default() {
            space.connected(connection.peer.to_bytes().into(), true);
        }
    }

    /// A space has come to another generation.
    pub(crate) fn renew_tokens(&self) {
        self.routes.renew();
    }

    /// Frames of this space find it no longer.
    pub(crate) fn remove_space(&self, id: [u8; 32]) {
        self.routes.remove(id);
    }

    /// Frames and streams of peers that were not listened to.
    pub(crate) fn refusals(&self) -> u64 {
        self.routes.refusals()
    }

    /// What a person should look at.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.iter().map(|peer| same_identity(*peer)).collect()
    }

    /// Whether there is a connection to a peer.
    pub(crate) fn is_connected(&self, peer: &[u8]) -> bool {
        let Ok(peer) = PeerId::from_bytes(peer) else { return false };
        self.bridge().is_some_and(|bridge| bridge.free(peer, synod_bridge::Lane::Urgent).is_some())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        if let Some(bridge) = self.bridge() {
            bridge.close().await;
        }
    }

    fn heed(self: &Arc<Self>, event: Event) {
        match event {
            Event::Message { peer, bytes, .. } => {
                if let Some(answer) = self.routes.deliver(peer, bytes.into_vec().into()) {
                    self.send(&peer.to_bytes(), Lane::Normal, answer);
                }
            }
            Event::Connected { peer, address } => {
                tracing::info!("connected with {peer} at {address}");
                self.routes.connected(peer, true);
                self.observed.connected(peer, true);
            }
            Event::Disconnected { peer } => {
                tracing::info!("no longer connected with {peer}");
                self.routes.connected(peer, false);
                self.observed.connected(peer, false);
            }
            Event::Gossip { topic, from, bytes } => self.hear(&topic, from, &bytes),
            Event::Incoming { peer, name, stream } => {
                let net = Arc::clone(self);
                // This is the bridge's thread, which has its own to do; a tunnel's datagrams are too many and too
                // small to wake another for each.
                let runtime = match self.bridge().filter(|_| name == crate::tunnels::STREAM) {
                    Some(bridge) => bridge.runtime(),
                    None => &self.runtime,
                };
                runtime.spawn(async move { net.serve(peer, &name, stream).await });
            }
            Event::Refused { peer, address, reason } => {
                let who = peer.map(|peer| peer.to_string());
                let address = address.map(|address| address.to_string());
                let who = who.or(address).unwrap_or_else(|| "somebody".to_owned());
                tracing::warn!("{who} was turned away: {reason}");
            }
            Event::SameIdentity { peer, address } => {
                let address = address.map(|address| format!(" (at {address})")).unwrap_or_default();
                tracing::error!("{}{address}", same_identity(peer));
                let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
                if twins.len() < MAX_TWINS {
                    twins.insert(peer);
                }
            }
            _ => {}
        }
    }
}

impl Links for Net {
    fn send(&self, peer: &[u8], lane: Lane, frame: Bytes) -> bool {
        let lane = match lane {
            Lane::Urgent => synod_bridge::Lane::Urgent,
            Lane::Normal => synod_bridge::Lane::Normal,
        };
        let (Ok(peer), Some(bridge)) = (PeerId::from_bytes(peer), self.bridge()) else {
            return false;
        };
        bridge.send(peer, lane, frame.into()).is_ok()
    }

    fn expect(&self, within: Duration) {
        if let Some(bridge) = self.bridge() {
            bridge.expect(within);
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.identity.sign(message)
    }

    fn is_signed_by(&self, peer: &[u8], message: &[u8], signature: &[u8]) -> bool {
        is_signed_by(peer, message, signature)
    }

    fn ask(&self, peer: &[u8], space: [u8; 32], request: Request, done: Done) {
        self.ask_about(peer, space, request, done);
    }

    fn observers(&self, space: [u8; 32]) -> Vec<Bytes> {
        self.connected_observers(&space)
    }

    fn is_connected(&self, peer: &[u8]) -> bool {
        Self::is_connected(self, peer)
    }

    fn name_of(&self, peer: &[u8]) -> String {
        let Ok(peer) = PeerId::from_bytes(peer) else { return hex(peer) };
        self.node_of(peer).map_or_else(|| peer.to_string(), |node| format!("{node} ({peer})"))
    }

    fn offer(&self, peer: &[u8], space: [u8; 32], offer: Offer) {
        let (Ok(peer), Some(bridge)) = (PeerId::from_bytes(peer), self.bridge()) else {
            return (offer.done)(false);
        };
        let bridge = bridge.clone();
        self.runtime.spawn(async move {
            let sent = snapshot::send(&bridge, peer, space, &offer.file, &offer.frame).await;
            if let Err(e) = &sent {
                tracing::warn!("a snapshot has not reached {peer}: {e}");
            }
            (offer.done)(sent.is_ok());
        });
    }
}

/// Whether a peer, by its id in the network, has signed a message.
pub(crate) fn is_signed_by(peer: &[u8], message: &[u8], signature: &[u8]) -> bool {
    PeerId::from_bytes(peer).is_ok_and(|peer| synod_bridge::is_signed_by(&peer, message, signature))
}

fn same_identity(peer: PeerId) -> String {
    format!(
        "two nodes have the identity {peer}: a data folder was copied; stop one of them, and start it on a \
         data folder of its own"
    )
}

fn addresses(texts: &[String]) -> Result<Vec<Multiaddr>, NetError> {
    texts.iter().map(|text| address(text)).collect()
}

/// Reads an address.
pub(crate) fn address(text: &str) -> Result<Multiaddr, NetError> {
    let parsed: Result<Multiaddr, _> = text.parse();
    parsed.map_err(|e| NetError::Address(text.to_owned(), e.to_string()))
}

/// Reads a peer's id.
pub(crate) fn peer_id(text: &str) -> Result<PeerId, NetError> {
    let parsed: Result<PeerId, _> = text.parse();
    parsed.map_err(|e| NetError::Peer(text.to_owned(), e.to_string()))
}

/// Where the node listened when it was last asked to listen like this.
fn remembered(root: &Path, asked: &[String]) -> Option<Vec<String>> {
    let bytes = std::fs::read(root.join(LISTEN_FILE)).ok()?;
    let file: ListenFile = serde_json::from_slice(&bytes).ok()?;
    let is_free = |address: &String| {
        // A port that somebody else has by now is no reason not to start.
        let port = address.split('/').nth(4).and_then(|port| port.parse::<u16>().ok());
        let host = address.split('/').nth(2).unwrap_or_default();
        match (port, address.contains("/udp/")) {
            (Some(port), true) => UdpSocket::bind((host, port)).is_ok(),
            (Some(port), false) => TcpListener::bind((host, port)).is_ok(),
            (None, _) => false,
        }
    };
    let is_of_use = file.asked == asked && !file.listen.is_empty();
    (is_of_use && file.listen.iter().all(is_free)).then_some(file.listen)
}

/// Notes the ports that were given.
fn remember(root: &Path, asked: &[String], listening: &[Multiaddr]) {
    let leaves_port = |address: &String| address.contains("/tcp/0") || address.contains("/udp/0");
    if !asked.iter().any(leaves_port) {
        return;
    }
    let given = asked.iter().filter_map(|asked| {
        if !leaves_port(asked) {
            return Some(asked.clone());
        }
        let parts: Vec<&str> = asked.split('/').collect();
        let (kind, rest) = (*parts.get(3)?, parts.get(5..)?);
        let same = |address: &String| {
            let theirs: Vec<&str> = address.split('/').collect();
            theirs.get(1) == parts.get(1) && theirs.get(3) == Some(&kind)
        };
        let got = listening.iter().map(ToString::to_string).find(same)?;
        let port = got.split('/').nth(4)?.to_owned();
        let head = [parts.first()?, parts.get(1)?, parts.get(2)?, kind, &*port];
        Some(head.into_iter().chain(rest.iter().copied()).collect::<Vec<_>>().join("/"))
    });
    let file = ListenFile { asked: asked.to_vec(), listen: given.collect() };
    let bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
    if let Err(e) = std::fs::write(root.join(LISTEN_FILE), bytes) {
        tracing::warn!("the node's ports are not remembered: {e}");
    }
}
