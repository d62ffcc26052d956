//! What the user holds. It talks to connections directly and to the swarm by commands.

use crate::awake::Awake;
use crate::batch::{Batcher, NotTaken};
use crate::book::{AddError, Book};
use crate::conn::{Connection, OpenError, Peers, SendError, lock};
use crate::event::Lane;
use crate::frame::Kind;
use crate::limits::{MAX_GOSSIP, MAX_NAME, MAX_TOPICS};
use crate::stats::{Counters, Stats};
use crate::stream::Stream;
use libp2p::{Multiaddr, PeerId};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// A running bridge. Clones are the same one.
#[derive(Clone)]
pub struct Bridge {
    pub(crate) id: PeerId,
    pub(crate) asked: usize,
    pub(crate) peers: Arc<Peers>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) gossip: Arc<GossipQueue>,
    pub(crate) awake: Arc<Awake>,
    pub(crate) runtime: Handle,
    pub(crate) listening: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// Gossip that waits to be sent.
#[derive(Debug)]
pub(crate) struct GossipQueue {
    pub(crate) batcher: Mutex<Batcher>,
    pub(crate) changed: Notify,
}

type Reply<T> = oneshot::Sender<T>;

/// What the swarm is asked to do.
pub(crate) enum Command {
    Connect(Multiaddr, Reply<Result<PeerId, ConnectError>>),
    Disconnect(PeerId, Reply<bool>),
    Add(Multiaddr, Reply<Result<Option<PeerId>, AddError>>),
    RemovePeer(PeerId, Reply<bool>),
    RemoveAddress(Multiaddr, Reply<bool>),
    Known(Reply<Book>),
    Block(PeerId, Option<Duration>, String, Reply<()>),
    Unblock(PeerId, Reply<bool>),
    Subscribe(String, Reply<Result<(), SubscribeError>>),
    Unsubscribe(String, Reply<bool>),
    Close(Reply<()>),
}

/// Why no connection came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be dialed.
    #[error(transparent)]
    Address(#[from] AddError),
    /// It was tried in vain.
    #[error("no connection with {address}: {why}")]
    Failed {
        /// Where.
        address: Multiaddr,
        /// Why.
        why: String,
    },
    /// The bridge has ended.
    #[error("the bridge has ended")]
    Ended,
}

/// Why a gossip message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Too much waits to be sent already.
    #[error("the gossip queue is full: {free} bytes are free")]
    Full {
        /// What would still fit.
        free: usize,
    },
    /// No gossip message may be so large.
    #[error("a gossip message of {0} bytes is over the bound of {MAX_GOSSIP}")]
    TooLarge(usize),
    /// The topic's name is empty or too long.
    #[error("a topic's name has 1 to {MAX_NAME} bytes")]
    Name,
    /// Messages of too many topics wait.
    #[error("messages of more than {MAX_TOPICS} topics wait")]
    TooManyTopics,
}

/// Why a topic was not subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The topic's name is empty or too long.
    #[error("a topic's name has 1 to {MAX_NAME} bytes")]
    Name,
    /// There are as many subscriptions as there may be.
    #[error("more than {MAX_TOPICS} topics: unsubscribe from some first")]
    TooMany,
    /// The bridge has ended.
    #[error("the bridge has ended")]
    Ended,
}

impl Bridge {
    /// Who this node is.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Where it can be reached, once it listens on every address that it was given.
    pub async fn listening(&self) -> Vec<Multiaddr> {
        let mut listening = self.listening.clone();
        match listening.wait_for(|addresses| addresses.len() >= self.asked).await {
            Ok(addresses) => addresses.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Sends a message. It never waits; what is sent is not acknowledged.
    ///
    /// # Errors
    /// Where the peer is not connected, its queue is full, or the message is too large.
    pub fn send(&self, peer: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        let conn = self.peers.get(&peer).ok_or(SendError::NotConnected(peer))?;
        let sent = conn.send(lane, Kind::Message, bytes);
        if matches!(sent, Err(SendError::Full { .. })) {
            self.counters.add(&self.counters.queue_full, 1);
        }
        sent
    }

    /// Something is expected from a peer within this time, which is short: the bridge's thread looks for it in
    /// place of sleeping until it comes.
    pub fn expect(&self, within: Duration) {
        self.awake.expect(within);
    }

    /// The runtime of the bridge's thread: for tasks that move bytes from a socket to a stream or back, where
    /// waking another thread for each costs more than moving them. They hold the thread up for some
    /// microseconds at a time, no more; they end with the bridge.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many bytes a lane would take now, or `None` if the peer is not connected.
    pub fn free(&self, peer: PeerId, lane: Lane) -> Option<usize> {
        self.peers.get(&peer).map(|conn| conn.out[lane as usize].free())
    }

    /// Waits until half of a lane's queue is free.
    ///
    /// # Errors
    /// Where the peer is not connected, or ceases to be.
    pub async fn ready(&self, peer: PeerId, lane: Lane) -> Result<(), SendError> {
        let conn = self.peers.get(&peer).ok_or(SendError::NotConnected(peer))?;
        conn.out[lane as usize].ready().await;
        self.peers.get(&peer).map(|_| ()).ok_or(SendError::NotConnected(peer))
    }

    /// Opens a stream, which comes to the peer as [`Event::Incoming`](crate::Event::Incoming).
    ///
    /// # Errors
    /// Where the peer is not connected, or one of us has too many streams open.
    pub async fn open(&self, peer: PeerId, name: &str) -> Result<Stream, OpenError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(OpenError::Name);
        }
        let conn = self.peers.get(&peer).ok_or(OpenError::NotConnected(peer))?;
        let (reply, opened) = oneshot::channel();
        conn.request(name.to_owned(), reply)?;
        opened.await.unwrap_or(Err(OpenError::NotConnected(peer)))
    }

    /// Publishes a message to all who subscribe to a topic. It leaves within about a millisecond,
    /// together with others.
    ///
    /// # Errors
    /// Where too much waits already, or the message or the name is too long.
    pub fn publish(&self, topic: &str, bytes: &[u8]) -> Result<(), PublishError> {
        if topic.is_empty() || topic.len() > MAX_NAME {
            return Err(PublishError::Name);
        }
        match lock(&self.gossip.batcher).push(Instant::now(), topic, bytes) {
            Ok(changed) => {
                self.counters.add(&self.counters.published, 1);
                if changed {
                    self.gossip.changed.notify_one();
                }
                Ok(())
            }
            Err(NotTaken::TooLarge) => Err(PublishError::TooLarge(bytes.len())),
            Err(NotTaken::TooManyTopics) => Err(PublishError::TooManyTopics),
            Err(NotTaken::Full { free }) => {
                self.counters.add(&self.counters.gossip_queue_full, 1);
                Err(PublishError::Full { free })
            }
        }
    }

    /// Asks for the messages of a topic.
    ///
    /// # Errors
    /// Where the name is too long or there are too many.
    pub async fn subscribe(&self, topic: &str) -> Result<(), SubscribeError> {
        if topic.is_empty() || topic.len() > MAX_NAME {
            return Err(SubscribeError::Name);
        }
        let asked = self.ask(|reply| Command::Subscribe(topic.to_owned(), reply)).await;
        asked.unwrap_or(Err(SubscribeError::Ended))
    }

    /// Asks for them no more; whether they had been asked for.
    pub async fn unsubscribe(&self, topic: &str) -> bool {
        self.ask(|reply| Command::Unsubscribe(topic.to_owned(), reply)).await.unwrap_or(false)
    }

    /// Connects with whoever is at an address, and returns once it can be spoken to. A connection with
    /// that peer that is being made already will do. The address is not added to the address book as one to stay
    /// connected with: [`add`](Self::add) does that.
    ///
    /// # Errors
    /// Where the address is of no use or nobody of ours is there.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ConnectError> {
        let asked = self.ask(|reply| Command::Connect(address, reply)).await;
        asked.unwrap_or(Err(ConnectError::Ended))
    }

    /// Waits until a peer can be spoken to, whoever connects with whom. It may be for ever.
    pub async fn met(&self, peer: PeerId) {
        self.peers.met(&peer).await;
    }

    /// Ends all connections with a peer, and dials it no more for a minute; whether there were any.
    pub async fn disconnect(&self, peer: PeerId) -> bool {
        self.ask(|reply| Command::Disconnect(peer, reply)).await.unwrap_or(false)
    }

    /// Adds an address to the book and keeps up a connection with whoever is there. Returns whose it
    /// is, if the address says so.
    ///
    /// # Errors
    /// Where it cannot be dialed, or the book is full.
    pub async fn add(&self, address: Multiaddr) -> Result<Option<PeerId>, AddError> {
        self.ask(|reply| Command::Add(address, reply)).await.unwrap_or(Err(AddError::Full))
    }

    /// Forgets a peer; whether it was known. A connection that there is stays.
    pub async fn remove_peer(&self, peer: PeerId) -> bool {
        self.ask(|reply| Command::RemovePeer(peer, reply)).await.unwrap_or(false)
    }

    /// Forgets an address; whether it was known.
    pub async fn remove_address(&self, address: Multiaddr) -> bool {
        self.ask(|reply| Command::RemoveAddress(address, reply)).await.unwrap_or(false)
    }

    /// The address book.
    pub async fn known(&self) -> Book {
        self.ask(Command::Known).await.unwrap_or_default()
    }

    /// Every connection that there is.
    pub fn connections(&self) -> Vec<Connection> {
        self.peers.all().iter().map(|conn| Connection::from(&**conn)).collect()
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Keeps a peer out for a time, or for good. The reason goes to the log.
    pub async fn block(&self, peer: PeerId, time: Option<Duration>, reason: &str) {
        let _ = self.ask(|reply| Command::Block(peer, time, reason.to_owned(), reply)).await;
    }

    /// Lets a blocked peer in again; whether it was blocked.
    pub async fn unblock(&self, peer: PeerId) -> bool {
        self.ask(|reply| Command::Unblock(peer, reply)).await.unwrap_or(false)
    }

    /// Ends all connections, writes the address book, and waits until that is done.
    pub async fn close(&self) {
        let _ = self.ask(Command::Close).await;
    }

    /// `None` once the bridge has ended.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("id", &self.id).finish_non_exhaustive()
    }
}
