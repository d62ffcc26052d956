//! What a connection's task, the swarm and the user share of one connection.

use crate::event::{Held, Inflow, Lane};
use crate::frame::{HEADER_BYTES, Header, Kind};
use crate::lanes::Exchange;
use crate::limits::{Limits, OPENS};
use crate::stream::Stream;
use libp2p::futures::task::AtomicWaker;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// How many bytes of queued messages are put together into one write.
const COALESCE: usize = 64 << 10;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection.
    #[error("{0} is not connected")]
    NotConnected(PeerId),
    /// It would pass the bound of its queue. [`Event::Drained`](crate::Event::Drained) says when
    /// there is room.
    #[error("the queue to {peer} is full: {free} bytes are free")]
    Full {
        /// Whose queue.
        peer: PeerId,
        /// What would still fit.
        free: usize,
    },
    /// No message of this lane may be so large.
    #[error("a message of {length} bytes is over the lane's bound of {max}: open a stream for it")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The bound.
        max: usize,
    },
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no connection.
    #[error("{0} is not connected")]
    NotConnected(PeerId),
    /// As many streams are open to it as may be.
    #[error("too many streams are open to {0}")]
    TooMany(PeerId),
    /// The peer has as many open as it allows.
    #[error("the peer has too many streams open: try again later")]
    Busy,
    /// The name is empty or too long.
    #[error("a stream's name has 1 to {} bytes", crate::limits::MAX_NAME)]
    Name,
    /// The connection failed meanwhile.
    #[error("the stream could not be opened: {0}")]
    Failed(String),
}

/// A stream that somebody waits for.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) name: String,
    pub(crate) held: Held,
    pub(crate) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) inbound: bool,
    pub(crate) since: Instant,
    pub(crate) out: [Outgoing; 2],
    pub(crate) inflow: [Arc<Inflow>; 2],
    pub(crate) streams_in: Arc<Inflow>,
    streams_out: Arc<Inflow>,
    opens: Mutex<VecDeque<OpenRequest>>,
    /// Wakes the task of the connection, which opens streams.
    pub(crate) waker: AtomicWaker,
    /// Wakes the task of the lanes, which moves messages.
    pub(crate) lanes_waker: AtomicWaker,
    /// What those two tell each other.
    pub(crate) exchange: Exchange,
    /// Whether the user has been told of the peer: its messages are not read before.
    pub(crate) open: AtomicBool,
    pub(crate) boot: AtomicU64,
    /// In microseconds; 0 is not known.
    pub(crate) rtt: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl Conn {
    pub(crate) fn new(
        id: ConnectionId,
        peer: PeerId,
        address: Multiaddr,
        inbound: bool,
        limits: &Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            address,
            inbound,
            since: Instant::now(),
            out: [Outgoing::new(limits.queue_urgent), Outgoing::new(limits.queue_normal)],
            inflow: [Inflow::new(limits.inflow_urgent), Inflow::new(limits.inflow_normal)],
            streams_in: Inflow::new(limits.streams_per_peer),
            streams_out: Inflow::new(limits.streams_per_peer),
            opens: Mutex::default(),
            waker: AtomicWaker::new(),
            lanes_waker: AtomicWaker::new(),
            exchange: Exchange::default(),
            open: AtomicBool::new(false),
            boot: AtomicU64::new(0),
            rtt: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    pub(crate) fn send(&self, lane: Lane, kind: Kind, bytes: Vec<u8>) -> Result<(), SendError> {
        let max = lane.max_message();
        if bytes.len() > max {
            return Err(SendError::TooLarge { length: bytes.len(), max });
        }
        self.out[lane as usize].push(self.peer, kind, bytes)?;
        self.lanes_waker.wake();
        Ok(())
    }

    pub(crate) fn request(
        &self,
        name: String,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    ) -> Result<(), OpenError> {
        let held = self.streams_out.try_hold(1).ok_or(OpenError::TooMany(self.peer))?;
        let mut opens = lock(&self.opens);
        if opens.len() >= OPENS {
            return Err(OpenError::TooMany(self.peer));
        }
        opens.push_back(OpenRequest { name, held, reply });
        drop(opens);
        self.waker.wake();
        Ok(())
    }

    pub(crate) fn next_request(&self) -> Option<OpenRequest> {
        lock(&self.opens).pop_front()
    }

    /// The user has been told of the peer: what it sends is delivered from here on.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
        self.lanes_waker.wake();
    }

    /// Nothing is taken any more; how many messages were still queued.
    pub(crate) fn close(&self) -> u64 {
        lock(&self.opens).clear();
        self.out.iter().map(Outgoing::close).sum()
    }
}

/// The messages of a lane that wait to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    max: usize,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<(Kind, Vec<u8>)>,
    bytes: usize,
    /// Somebody was refused, and is to be told when there is room.
    refused: bool,
    closed: bool,
}

impl Outgoing {
    fn new(max: usize) -> Self {
        Self { queue: Mutex::default(), max, room: Notify::new() }
    }

    fn push(&self, peer: PeerId, kind: Kind, bytes: Vec<u8>) -> Result<(), SendError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(SendError::NotConnected(peer));
        }
        let size = bytes.len() + HEADER_BYTES;
        // An empty queue takes any message, so that each can be sent at all.
        if !queue.frames.is_empty() && queue.bytes + size > self.max {
            queue.refused = true;
            let free = self.max.saturating_sub(queue.bytes + HEADER_BYTES);
            return Err(SendError::Full { peer, free });
        }
        queue.bytes += size;
        queue.frames.push_back((kind, bytes));
        Ok(())
    }

    pub(crate) fn free(&self) -> usize {
        self.max.saturating_sub(lock(&self.queue).bytes + HEADER_BYTES)
    }

    /// Waits until half of the queue is free, or the connection is gone.
    pub(crate) async fn ready(&self) {
        loop {
            let notified = self.room.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            {
                let mut queue = lock(&self.queue);
                if queue.closed || queue.bytes <= self.max / 2 {
                    return;
                }
                queue.refused = true;
            }
            notified.await;
        }
    }

    /// Moves queued messages into a buffer, as many as make one good write. Returns how many, and
    /// whether who was refused may now come again.
    pub(crate) fn fill(&self, buffer: &mut Vec<u8>) -> (u64, bool) {
        let mut queue = lock(&self.queue);
        let mut taken = 0;
        while buffer.len() < COALESCE {
            let Some((kind, bytes)) = queue.frames.pop_front() else {
                break;
            };
            queue.bytes -= bytes.len() + HEADER_BYTES;
            buffer.extend_from_slice(&Header { kind, length: bytes.len() }.encode());
            buffer.extend_from_slice(&bytes);
            taken += 1;
        }
        let drained = queue.refused && queue.bytes <= self.max / 2;
        if drained {
            queue.refused = false;
            self.room.notify_waiters();
        }
        (taken, drained)
    }

    fn close(&self) -> u64 {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.bytes = 0;
        self.room.notify_waiters();
        std::mem::take(&mut queue.frames).len() as u64
    }
}

/// The connections over which peers can be sent to; the last one of each is the one that is used.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    conns: RwLock<HashMap<PeerId, Vec<Arc<Conn>>>>,
    added: Notify,
}

impl Peers {
    pub(crate) fn get(&self, peer: &PeerId) -> Option<Arc<Conn>> {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).get(peer)?.last().cloned()
    }

    /// Waits until there is a connection with a peer.
    pub(crate) async fn met(&self, peer: &PeerId) {
        loop {
            // Told of what is added from here on, so nothing is missed between look and wait.
            let added = self.added.notified();
            if self.get(peer).is_some() {
                return;
            }
            added.await;
        }
    }

    /// Adds a connection; whether it is the peer's first.
    pub(crate) fn add(&self, conn: Arc<Conn>) -> bool {
        let mut peers = self.conns.write().unwrap_or_else(PoisonError::into_inner);
        let conns = peers.entry(conn.peer).or_default();
        conns.push(conn);
        let first = conns.len() == 1;
        drop(peers);
        self.added.notify_waiters();
        first
    }

    /// Takes a connection away; it, and whether it was the peer's last.
    pub(crate) fn remove(&self, peer: &PeerId, id: ConnectionId) -> Option<(Arc<Conn>, bool)> {
        let mut peers = self.conns.write().unwrap_or_else(PoisonError::into_inner);
        let conns = peers.get_mut(peer)?;
        let at = conns.iter().position(|conn| conn.id == id)?;
        let conn = conns.remove(at);
        let last = conns.is_empty();
        if last {
            peers.remove(peer);
        }
        Some((conn, last))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Conn>> {
        let peers = self.conns.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().flatten().cloned().collect()
    }

    pub(crate) fn of(&self, peer: &PeerId) -> Vec<Arc<Conn>> {
        let peers = self.conns.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(peer).cloned().unwrap_or_default()
    }
}

/// A connection as it is shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// Who.
    pub peer: PeerId,
    /// Where it is.
    pub address: Multiaddr,
    /// Whether it was the peer that dialed.
    pub inbound: bool,
    /// Since when.
    pub since: Instant,
    /// The last round trip that was measured.
    pub rtt: Option<std::time::Duration>,
    /// Bytes of messages and streams that came.
    pub bytes_in: u64,
    /// Bytes of messages and streams that went.
    pub bytes_out: u64,
}

impl From<&Conn> for Connection {
    fn from(conn: &Conn) -> Self {
        let rtt = conn.rtt.load(Ordering::Relaxed);
        Self {
            peer: conn.peer,
            address: conn.address.clone(),
            inbound: conn.inbound,
            since: conn.since,
            rtt: (rtt > 0).then(|| std::time::Duration::from_micros(rtt)),
            bytes_in: conn.bytes_in.load(Ordering::Relaxed),
            bytes_out: conn.bytes_out.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves nothing half done here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(out: &Outgoing) -> (usize, bool) {
        let mut buffer = Vec::new();
        let (_, drained) = out.fill(&mut buffer);
        (buffer.len(), drained)
    }

    #[test]
    fn a_full_queue_refuses_and_says_once_when_half_of_it_is_free() {
        let out = Outgoing::new(300 << 10);
        let peer = PeerId::random();
        let mut sent = 0;
        while out.push(peer, Kind::Message, vec![0; 50 << 10]).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 5);
        let full = out.push(peer, Kind::Message, vec![0; 50 << 10]);
        assert_eq!(full, Err(SendError::Full { peer, free: out.free() }));
        assert_eq!(fill(&out), (2 * ((50 << 10) + HEADER_BYTES), false));
        assert!(fill(&out).1, "four of five are written");
        assert!(!fill(&out).1, "it is said once");
    }

    #[test]
    fn an_empty_queue_takes_any_message() {
        let out = Outgoing::new(10);
        assert_eq!(out.push(PeerId::random(), Kind::Message, vec![0; 100]), Ok(()));
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let out = Outgoing::new(100);
        let peer = PeerId::random();
        assert_eq!(out.push(peer, Kind::Message, vec![1]), Ok(()));
        assert_eq!(out.close(), 1);
        let closed = out.push(peer, Kind::Message, vec![1]);
        assert_eq!(closed, Err(SendError::NotConnected(peer)));
    }
}
