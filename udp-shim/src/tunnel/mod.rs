//! A tunnel as a machine: which datagrams are carried, as whose, to whom, and what is refused. It has
//! no socket and no clock: time is an argument, a duration that only rises.
//!
//! The driver's part:
//!
//! 1. What an application has sent to a group is given to [`Tunnel::captured`]; what comes of it goes
//!    to every peer in a frame, with the sequence number that was given, in the order in which the
//!    numbers were.
//! 2. What an application has sent to a stand-in's socket is given to [`Tunnel::answered`], and goes
//!    to one peer.
//! 3. A frame of a peer is given to [`Tunnel::received`], datagram by datagram. Each ends in something
//!    to be sent here, from a stand-in, or in nothing. A stand-in that is new wants a socket first.
//! 4. [`Tunnel::expire`] is called once in a while, and the sockets of what has expired are closed.
//!
//! A peer is believed in what it says of itself alone: that a datagram came from behind it. It cannot
//! speak as another node, send to anything but the tunnel's groups and the sources that were captured
//! here, or have more of anything than its share.

mod address;
mod counters;
mod dedup;
mod flows;
mod frame;
mod groups;
mod rate;
pub mod segment;
mod stand_ins;

pub use address::{is_virtual, virtual_address};
pub use counters::{Reason, Traffic, TunnelCounters};
pub use dedup::WINDOW;
pub use flows::MAX_FLOWS;
pub use frame::{
    Carried, FRAME_VERSION, Frame, FrameError, FrameWriter, Head, MAX_FRAME_BYTES,
    MAX_FRAME_DATAGRAMS, MAX_SINGLE_BYTES, read_frame,
};
pub use groups::{Groups, GroupsError, MAX_DESTINATIONS, MAX_GROUPS, Ports};
pub use rate::{MAX_BYTES_PER_SECOND, MAX_DATAGRAMS_PER_SECOND};
pub use stand_ins::{MAX_STAND_INS, MAX_STAND_INS_PER_PEER, Remote, StandIn};

use dedup::{Dedup, Passed};
use flows::Flows;
use rate::Rate;
use stand_ins::StandIns;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// A source and a stand-in are forgotten after so long a silence, unless the tunnel says otherwise.
pub const IDLE: Duration = Duration::from_secs(3600);
/// The least and the most that it may say.
pub const MIN_IDLE: Duration = Duration::from_secs(1);
/// See [`MIN_IDLE`].
pub const MAX_IDLE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a tunnel's name, at most.
pub const MAX_NAME_BYTES: usize = 64;
/// Peers of a tunnel, at most.
pub const MAX_PEERS: usize = 256;

/// A tunnel of this node.
#[derive(Debug)]
pub struct Tunnel {
    groups: Groups,
    me: Ipv4Addr,
    boot: u64,
    next_sequence: u64,
    flows: Flows,
    stand_ins: StandIns,
    peers: BTreeMap<Ipv4Addr, Peer>,
    counters: TunnelCounters,
}

#[derive(Debug)]
struct Peer {
    id: Box<[u8]>,
    dedup: Dedup,
    rate: Rate,
}

/// What was captured, as the peers are to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its source.
    pub source: SocketAddrV4,
    /// Its number.
    pub sequence: u64,
}

/// An answer to a source of another side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose side: the virtual address of the peer.
    pub capturer: Ipv4Addr,
    /// Its source, as the peer is to know it.
    pub source: SocketAddrV4,
    /// Whom it answers there.
    pub to: SocketAddrV4,
    /// Its number.
    pub sequence: u64,
}

/// What is to be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// From the socket of this one.
    pub stand_in: StandIn,
    /// If it is new: the address that its socket is to be bound to; at any port, if that one is taken.
    pub open: Option<SocketAddrV4>,
    /// Whose socket is to be closed before.
    pub close: Option<StandIn>,
    /// To a group, or to an application.
    pub to: SocketAddrV4,
}

/// Why a peer cannot take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Another has the same virtual address.
    #[error("its address here, {0}, is another node's already: give one of them a new identity")]
    SameAddress(Ipv4Addr),
    /// There are too many.
    #[error("a tunnel has at most {MAX_PEERS} peers")]
    TooMany,
}

impl Tunnel {
    /// A tunnel of the node with this id, in this one of its starts. A later one has a greater number.
    pub fn new(groups: Groups, me: &[u8], boot: u64) -> Self {
        let me = virtual_address(me);
        Self {
            groups,
            me,
            boot,
            next_sequence: 0,
            flows: Flows::new(me, IDLE),
            stand_ins: StandIns::new(IDLE),
            peers: BTreeMap::new(),
            counters: TunnelCounters::default(),
        }
    }

    /// One that forgets who was silent for this long.
    pub fn forgetting_after(self, idle: Duration) -> Self {
        Self { flows: Flows::new(self.me, idle), stand_ins: StandIns::new(idle), ..self }
    }

    /// A peer takes part from here on; gives its virtual address.
    pub fn add_peer(&mut self, now: Duration, id: &[u8]) -> Result<Ipv4Addr, PeerError> {
        let address = virtual_address(id);
        match self.peers.get(&address) {
            Some(peer) if *peer.id == *id => return Ok(address),
            Some(_) => return Err(PeerError::SameAddress(address)),
            None if address == self.me => return Err(PeerError::SameAddress(address)),
            None if self.peers.len() >= MAX_PEERS => return Err(PeerError::TooMany),
            None => {}
        }
        let peer = Peer { id: id.into(), dedup: Dedup::default(), rate: Rate::new(now) };
        self.peers.insert(address, peer);
        Ok(address)
    }

    /// A peer takes part no longer. Its stand-ins idle away, since it may come back.
    pub fn remove_peer(&mut self, id: &[u8]) {
        let address = virtual_address(id);
        if self.peers.get(&address).is_some_and(|peer| *peer.id == *id) {
            self.peers.remove(&address);
        }
    }

    /// Whether it takes part.
    pub fn has_peer(&self, id: &[u8]) -> bool {
        self.peers.get(&virtual_address(id)).is_some_and(|peer| *peer.id == *id)
    }

    /// An application here has sent to a group.
    pub fn captured(
        &mut self,
        now: Duration,
        source: SocketAddrV4,
        to: SocketAddrV4,
        len: usize,
    ) -> Option<Captured> {
        // What stand-ins send comes back to whoever is a member.
        if is_virtual(*source.ip()) && *source.ip() != self.me {
            return self.drop(Reason::Echo);
        }
        if !self.groups.contains(to) {
            return self.drop(Reason::NotCarried);
        }
        let is_own_loopback = source.ip().is_loopback() && source.port() != 0;
        if !is_own_loopback && !address::is_source(source, self.me) {
            return self.drop(Reason::Source);
        }
        let Ok(source) = self.flows.captured(now, source) else {
            return self.drop(Reason::FlowsFull);
        };
        self.counters.out.add(len);
        Some(Captured { source, sequence: self.number() })
    }

    /// An application here has sent to a stand-in.
    pub fn answered(
        &mut self,
        now: Duration,
        stand_in: StandIn,
        source: SocketAddrV4,
        len: usize,
    ) -> Option<Answer> {
        // Stand-ins do not talk to each other: that could go on for ever.
        if is_virtual(*source.ip()) && *source.ip() != self.me {
            return self.drop(Reason::Echo);
        }
        let Some(remote) = self.stand_ins.remote(now, stand_in) else {
            return self.drop(Reason::NoFlow);
        };
        let Ok(source) = self.flows.answered(now, source) else {
            return self.drop(Reason::FlowsFull);
        };
        self.counters.out.add(len);
        let Remote { capturer, source: to } = remote;
        Some(Answer { capturer, source, to, sequence: self.number() })
    }

    /// A datagram of a peer's frame has come: the `nth` of the frame.
    pub fn received(
        &mut self,
        now: Duration,
        peer: &[u8],
        head: &Head<'_>,
        nth: u64,
        carried: &Carried<'_>,
    ) -> Option<Delivery> {
        let address = virtual_address(peer);
        let known = self.peers.get_mut(&address).filter(|known| *known.id == *peer);
        let Some(known) = known.filter(|_| head.capturer == address) else {
            return self.drop(Reason::Forged);
        };
        if !known.rate.take(now, carried.bytes.len()) {
            return self.drop(Reason::Rate);
        }
        if !address::is_source(carried.source, address) {
            return self.drop(Reason::Source);
        }
        match known.dedup.take(head.boot, head.sequence.saturating_add(nth)) {
            Ok(()) => {}
            Err(Passed::Duplicate) => return self.drop(Reason::Duplicate),
            Err(Passed::Stale) => return self.drop(Reason::Stale),
        }
        let to = if self.groups.contains(carried.to) {
            carried.to
        } else if carried.to.ip().is_multicast() {
            return self.drop(Reason::NotCarried);
        } else {
            match self.flows.actual(now, carried.to) {
                Some(actual) => actual,
                None => return self.drop(Reason::NoFlow),
            }
        };
        let remote = Remote { capturer: address, source: carried.source };
        let Some(found) = self.stand_ins.of(now, remote) else {
            return self.drop(Reason::StandInsFull);
        };
        self.counters.received.add(carried.bytes.len());
        let bound = SocketAddrV4::new(address, carried.source.port());
        let open = found.is_new.then_some(bound);
        Some(Delivery { stand_in: found.stand_in, open, close: found.closed, to })
    }

    /// A stand-in's socket could not be had, or has failed: another is opened with the next datagram.
    pub fn remove_stand_in(&mut self, stand_in: StandIn) {
        self.stand_ins.remove(stand_in);
    }

    /// Gives up what has been idle for long; the sockets of these are to be closed.
    pub fn expire(&mut self, now: Duration) -> Vec<StandIn> {
        self.flows.expire(now);
        self.stand_ins.expire(now)
    }

    /// What the driver has dropped.
    pub fn count_drops(&mut self, reason: Reason, datagrams: u64) {
        self.counters.drop(reason, datagrams);
    }

    /// This node's virtual address.
    pub fn address(&self) -> Ipv4Addr {
        self.me
    }

    /// Which of the node's starts this is.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// What it carries.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What was counted.
    pub fn counters(&self) -> &TunnelCounters {
        &self.counters
    }

    /// Stand-ins in use.
    pub fn stand_ins(&self) -> usize {
        self.stand_ins.len()
    }

    /// Sources on this side that are known.
    pub fn sources(&self) -> usize {
        self.flows.len()
    }

    fn number(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    fn drop<T>(&mut self, reason: Reason) -> Option<T> {
        self.counters.drop(reason, 1);
        None
    }
}

#[cfg(test)]
mod tests;
