//! What is counted of a tunnel: what went each way, and what was dropped, by reason.

use std::collections::BTreeMap;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It was received before.
    Duplicate,
    /// It was put here by this node, or by another on this host.
    Echo,
    /// There are too many sources on this side.
    FlowsFull,
    /// Its capturer is not the peer that sent it.
    Forged,
    /// A frame was not one.
    Malformed,
    /// It answers a source that this node has not captured.
    NoFlow,
    /// It is for a group or a port that the tunnel does not carry.
    NotCarried,
    /// It was heard by membership, and is for another host's node to capture.
    OtherHost,
    /// Nobody may send so much.
    Rate,
    /// Nobody sends from such an address.
    Source,
    /// There are too many sources on the other sides.
    StandInsFull,
    /// It came too late to know whether it was received before.
    Stale,
    /// The kernel did not take it.
    Undelivered,
    /// It waited for a peer that was too slow.
    Queue,
    /// The kernel had no room for what was sent here.
    Kernel,
}

impl Reason {
    /// Its name, as `tunnel list` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Echo => "echo",
            Self::FlowsFull => "sources_full",
            Self::Forged => "forged",
            Self::Kernel => "kernel",
            Self::Malformed => "malformed",
            Self::NoFlow => "unknown_source",
            Self::NotCarried => "not_carried",
            Self::OtherHost => "other_host",
            Self::Queue => "queue",
            Self::Rate => "rate",
            Self::Source => "source",
            Self::StandInsFull => "stand_ins_full",
            Self::Stale => "stale",
            Self::Undelivered => "undelivered",
        }
    }
}

/// Datagrams and the bytes that they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes.
    pub bytes: u64,
}

/// All that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// What was captured here.
    pub out: Traffic,
    /// What came from peers and was accepted.
    pub received: Traffic,
    /// What was dropped.
    pub drops: BTreeMap<Reason, u64>,
}

impl TunnelCounters {
    /// Counts datagrams that were dropped.
    pub fn drop(&mut self, reason: Reason, datagrams: u64) {
        if datagrams > 0 {
            *self.drops.entry(reason).or_default() += datagrams;
        }
    }
}

impl Traffic {
    pub(super) fn add(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}
