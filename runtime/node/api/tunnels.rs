//! Tunnels: multicast groups and ports that nodes carry to each other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What a tunnel is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelRequest {
    /// Its name: nodes whose tunnels have the same name carry to each other.
    pub name: String,
    /// The groups.
    pub groups: Vec<Ipv4Addr>,
    /// The ports of each: `20005`, or `5004-5007`.
    pub ports: Vec<String>,
    /// `redirect` or `join`; the best that is possible, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// The time-to-live of what is delivered here: 0, so that it cannot leave, unless an application
    /// looks at it.
    #[serde(default)]
    pub ttl: u8,
    /// For how long a source may be silent, in milliseconds, until it is forgotten and its stand-ins are given
    /// up; an hour, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// The only peers, by their ids, with which it carries; all that have a tunnel of the name, if
    /// left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// How frames go to the peers: `streams`, `gossip`, or `auto`, which is by streams to few peers and by gossip
    /// to many, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carry: Option<String>,
    /// The space in whose order what is captured here is put, besides being carried; none, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelInfo {
    /// Its name.
    pub name: String,
    /// The groups.
    pub groups: Vec<Ipv4Addr>,
    /// The ports of each.
    pub ports: Vec<String>,
    /// How it captures: `redirect`, `join`, or `none` if it could not be opened.
    pub capture: String,
    /// Whether frames go to the peers by gossip, and not by a stream to each.
    #[serde(default)]
    pub by_gossip: bool,
    /// The time-to-live of what is delivered here.
    pub ttl: u8,
    /// For how long a source may be silent until it is forgotten.
    #[serde(default)]
    pub idle_ms: u64,
    /// This node's address on its peers' hosts.
    pub address: Ipv4Addr,
    /// With whom it carries.
    pub peers: Vec<TunnelPeer>,
    /// What was captured here.
    pub captured: TunnelTraffic,
    /// What came from peers and was accepted.
    pub received: TunnelTraffic,
    /// Datagrams that were dropped, by the reason's name.
    pub drops: BTreeMap<String, u64>,
    /// Sockets that stand in for sources of other nodes.
    pub stand_ins: u64,
    /// Sources of this host that may be answered.
    pub sources: u64,
    /// For how long a datagram was in this node, from its capture until it was written to a peer, in
    /// microseconds: half of them no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// And all but one in a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// What became of the captured datagrams in the order of a space, if the tunnel orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<TunnelOrder>,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// What a tunnel puts in the order of a space. What it does not is among the tunnel's drops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelOrder {
    /// The space.
    pub space: String,
    /// Datagrams of this host that have become events since the tunnel was opened.
    pub datagrams: u64,
    /// Bytes that were in them.
    pub bytes: u64,
    /// Datagrams on their way there.
    pub waiting: u64,
    /// Why nothing is put in order, if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A peer of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPeer {
    /// Its id in the network.
    pub peer: String,
    /// Its node's name.
    pub node: String,
    /// Its address here: that of its sources' stand-ins.
    pub address: Ipv4Addr,
    /// Whether datagrams can go to it now.
    pub open: bool,
    /// Whether it is on the segment that this node captures on, and so has heard what was sent there.
    pub near: bool,
}

/// Datagrams and the bytes that they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelTraffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The process that holds a node's privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorInfo {
    /// Its process.
    pub pid: u32,
    /// Why it holds them no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}
