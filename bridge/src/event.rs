//! What the bridge tells its user, and how it reaches them.

use crate::limits::EVENTS;
use crate::stats::Counters;
use crate::stream::Stream;
use libp2p::futures::task::AtomicWaker;
use libp2p::{Multiaddr, PeerId};
use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// One of the two streams of messages that every connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats, votes, acknowledgements: small, and never behind anything else.
    Urgent,
    /// Everything else that is a message. What is larger goes over [`open`](crate::Bridge::open).
    Normal,
}

impl Lane {
    /// Both, the urgent one first.
    pub const ALL: [Self; 2] = [Self::Urgent, Self::Normal];

    /// The largest message that it carries.
    pub const fn max_message(self) -> usize {
        match self {
            Self::Urgent => crate::limits::MAX_URGENT,
            Self::Normal => crate::limits::MAX_NORMAL,
        }
    }
}

/// Something that has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer that speaks our protocol can be sent to.
    Connected {
        /// Who.
        peer: PeerId,
        /// Where it is.
        address: Multiaddr,
    },
    /// The last connection with a peer is gone; what was queued for it is lost.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// A message on a lane. Those of one lane come in the order in which they were sent, as long as
    /// a connection lasts.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// On which lane.
        lane: Lane,
        /// Its bytes.
        bytes: Payload,
    },
    /// A lane that was full has room again.
    Drained {
        /// Whose lane.
        peer: PeerId,
        /// Which lane.
        lane: Lane,
    },
    /// A message of a topic that we subscribe to.
    Gossip {
        /// Its topic.
        topic: Arc<str>,
        /// Who published it: its signature was checked.
        from: PeerId,
        /// Its bytes.
        bytes: Payload,
    },
    /// A peer has opened a stream here.
    Incoming {
        /// Who.
        peer: PeerId,
        /// What for.
        name: String,
        /// Both ends may read and write. To refuse it, drop it.
        stream: Stream,
    },
    /// A peer was turned away. It is told of once a peer; [`Stats`](crate::Stats) count them all.
    Refused {
        /// Who, if it came to that.
        peer: Option<PeerId>,
        /// Where it is.
        address: Option<Multiaddr>,
        /// Why.
        reason: Refusal,
    },
    /// Two processes that are up have the same identity: a data folder was copied.
    SameIdentity {
        /// The identity. It may be our own.
        peer: PeerId,
        /// Where the other one was met.
        address: Option<Multiaddr>,
    },
}

/// Why a peer was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It speaks no version that we do.
    Version {
        /// Those it speaks.
        theirs: RangeInclusive<u16>,
        /// Those we speak.
        ours: RangeInclusive<u16>,
    },
    /// It is not on the list of those who are let in.
    NotAllowed,
    /// It has been blocked: by hand, or for breaking the protocol.
    Blocked,
    /// It broke the protocol: what it sent is no frame.
    Garbage,
    /// It sent a message over the bound.
    Oversized(usize),
    /// It does not hear our gossip though it is connected: the connection was closed.
    Deaf,
    /// There are as many connections as there may be.
    TooMany,
    /// It opened more streams than it may.
    TooManyStreams,
    /// It is no node of ours, or has another network key.
    Stranger(String),
}

impl Refusal {
    /// A name for it that counters go by.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Version { .. } => "version",
            Self::NotAllowed => "not_allowed",
            Self::Blocked => "blocked",
            Self::Garbage => "garbage",
            Self::Oversized(_) => "oversized",
            Self::Deaf => "deaf",
            Self::TooMany => "too_many",
            Self::TooManyStreams => "too_many_streams",
            Self::Stranger(_) => "stranger",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { theirs, ours } => {
                let older = if theirs.end() < ours.start() { "it" } else { "this node" };
                write!(
                    f,
                    "it speaks versions {} to {} of the protocol and this node {} to {}: upgrade {older}",
                    theirs.start(),
                    theirs.end(),
                    ours.start(),
                    ours.end(),
                )
            }
            Self::NotAllowed => f.write_str("it is not among the peers that --allow names"),
            Self::Blocked => f.write_str("it is blocked"),
            Self::Garbage => f.write_str("what it sent is no frame of the protocol"),
            Self::Oversized(length) => write!(f, "it sent a message of {length} bytes"),
            Self::Deaf => f.write_str("it is connected but does not hear gossip: reconnecting"),
            Self::TooMany => f.write_str("there are too many connections"),
            Self::TooManyStreams => f.write_str("it opened too many streams"),
            Self::Stranger(why) => write!(
                f,
                "no connection could be agreed on ({why}): it is no node of this network, or has another network key"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// The bytes of a message. Until they are dropped, or taken by [`into_vec`](Self::into_vec), they
/// count against what its sender may have on the way.
#[derive(Debug)]
pub struct Payload {
    bytes: Vec<u8>,
    _held: [Option<Held>; 2],
}

impl Payload {
    pub(crate) fn new(bytes: Vec<u8>, held: [Option<Held>; 2]) -> Self {
        Self { bytes, _held: held }
    }

    /// The bytes, which then count no more: bounding them is up to whoever takes them.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How much of something may be on the way, in bytes or pieces.
#[derive(Debug)]
pub(crate) struct Inflow {
    used: AtomicUsize,
    max: usize,
    waker: AtomicWaker,
}

/// A share of an [`Inflow`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    inflow: Arc<Inflow>,
    amount: usize,
}

impl Inflow {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max, waker: AtomicWaker::new() })
    }

    /// Takes a share that is there already: the bound is then passed by at most this one.
    pub(crate) fn hold(self: &Arc<Self>, amount: usize) -> Held {
        self.used.fetch_add(amount, Ordering::AcqRel);
        Held { inflow: Arc::clone(self), amount }
    }

    /// Takes a share if it fits.
    pub(crate) fn try_hold(self: &Arc<Self>, amount: usize) -> Option<Held> {
        let held = self.hold(amount);
        // Dropping it gives it back.
        (self.used.load(Ordering::Acquire) <= self.max).then_some(held)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.max
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }

    /// Whether there is room; if not, the waker is woken once there is.
    pub(crate) fn has_room(&self, waker: &std::task::Waker) -> bool {
        if !self.is_full() {
            return true;
        }
        self.waker.register(waker);
        !self.is_full()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = self.inflow.used.fetch_sub(self.amount, Ordering::AcqRel);
        if before >= self.inflow.max {
            self.inflow.waker.wake();
        }
    }
}

/// Takes events where they arise, without a task between.
///
/// It is called on the task of a connection or of the swarm: it must neither block nor take long.
/// What it keeps of messages counts against their senders until it is dropped, so nothing need be
/// bounded a second time.
pub trait Deliver: Send + Sync + 'static {
    /// Takes an event.
    fn deliver(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync + 'static> Deliver for F {
    fn deliver(&self, event: Event) {
        self(event);
    }
}

/// The events of a bridge, one after the other.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<(Event, Held)>,
}

impl Events {
    /// The next event, or `None` once the bridge has ended.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await.map(|(event, _)| event)
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok().map(|(event, _)| event)
    }
}

/// Makes the channel behind [`Events`]. Messages, gossip and streams are bounded by what is held
/// for them; of the others at most [`EVENTS`] wait, then the swarm does.
pub(crate) fn channel(counters: Arc<Counters>) -> (Arc<Channel>, Events) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(Channel { sender, backlog: Inflow::new(EVENTS), counters }), Events { receiver })
}

#[derive(Debug)]
pub(crate) struct Channel {
    sender: mpsc::UnboundedSender<(Event, Held)>,
    pub(crate) backlog: Arc<Inflow>,
    counters: Arc<Counters>,
}

impl Deliver for Channel {
    fn deliver(&self, event: Event) {
        let weight = match event {
            Event::Message { .. } | Event::Gossip { .. } | Event::Incoming { .. } => 0,
            _ => 1,
        };
        // Who no longer listens wants no more events.
        if self.sender.send((event, self.backlog.hold(weight))).is_err() {
            self.counters.add(&self.counters.undelivered, 1);
        }
    }
}
