//! This node in the network, the others there, and what is gossiped.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who this node is in the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MeInfo {
    /// Its id there.
    pub peer: String,
    /// Its name.
    pub node: String,
    /// Where it listens.
    pub listening: Vec<String>,
}

/// A node's part in the network, as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetInfo {
    /// The node's id there.
    pub peer: String,
    /// Peers that it is connected with.
    pub connected: u64,
    /// Questions of observers that were answered since the node started.
    #[serde(default)]
    pub served: u64,
    /// Those that were told to ask elsewhere, for too many were under way.
    #[serde(default)]
    pub busy: u64,
    /// What the bridge has counted.
    pub stats: PeerStats,
}

/// What has been counted since the node started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerStats {
    /// Counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Peers and connections turned away, by the reason's name.
    pub refusals: BTreeMap<String, u64>,
}

/// A peer of the address book.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its id; none for an address of which nobody knows yet whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its node's name, if the directory has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether somebody asked for it by hand: a connection is then kept up.
    pub wanted: bool,
    /// Whether it is connected now.
    pub connected: bool,
    /// Where it may be.
    pub addresses: Vec<KnownAddress>,
}

/// An address, and how dialing it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownAddress {
    /// The address.
    pub address: String,
    /// How often it was reached.
    pub successes: u64,
    /// How often it was not.
    pub failures: u64,
    /// When it was last reached (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// Who.
    pub peer: String,
    /// Its node's name, if the directory has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where.
    pub address: String,
    /// Whether the peer dialed.
    pub inbound: bool,
    /// For how many seconds.
    pub seconds: u64,
    /// The last round trip that was measured, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that went.
    pub bytes_out: u64,
}

/// An address to connect with or to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressRequest {
    /// Like `/ip4/192.0.2.1/tcp/4001`, with `/p2p/ID` behind it if the id is known.
    pub address: String,
}

/// A peer, or an address of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRequest {
    /// The peer's id, its node's name, or (to be removed) an address.
    pub peer: String,
}

/// The peer that was meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerAnswer {
    /// Its id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// A term to be gossiped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishTerm {
    /// The topic.
    pub topic: String,
    /// The term as Prolog text.
    pub term: String,
    /// Whom it is from; `cli`, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Terms that were gossiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedLines {
    /// How many.
    pub published: u64,
}

/// A term that was gossiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TopicMessage {
    /// A message.
    Message {
        /// The topic.
        topic: String,
        /// Who published it: an agent's name, or what a client calls itself.
        from: String,
        /// On which node.
        node: String,
        /// The term as text.
        term: String,
    },
    /// Whoever reads was too slow: so many messages were dropped.
    Missed {
        /// How many.
        messages: u64,
    },
}

/// What a node gossips of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id in the network.
    pub peer: String,
    /// Its name.
    pub node: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// The ids of its spaces, in hexadecimal.
    pub spaces: Vec<String>,
    /// Its agents.
    pub agents: Vec<RecordedAgent>,
    /// The names of its tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<String>,
    /// By how many milliseconds its clock is ahead of this node's, as far as a message's way lets it
    /// be known.
    pub clock_ahead_ms: i64,
}

/// An agent of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAgent {
    /// Its name.
    pub name: String,
    /// Its space's id, in hexadecimal; none for the node's own space `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Whether it runs there; else it stands by.
    pub runs: bool,
}

/// Whether a node can be relied on: each of its spaces has a leader, and it has applied all that was
/// acknowledged before it was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Whether it is so.
    pub ready: bool,
    /// Why not, a line for each space that is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}
