//! Peers, streams and gossip for Synod, on libp2p. Bytes in, bytes out: nothing here knows what
//! they mean.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use synod_bridge::{Config, Event, Identity, Lane};
//!
//! let folder = std::path::PathBuf::from("data");
//! let config = Config::new(Identity::of_folder(&folder)?, folder);
//! let (bridge, mut events) = synod_bridge::start(config)?;
//! while let Some(event) = events.recv().await {
//!     if let Event::Message { peer, lane: Lane::Normal, bytes } = event {
//!         bridge.send(peer, Lane::Urgent, bytes.into_vec())?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! There are three ways to say something, and a bound on each:
//!
//! - **Messages** ([`Bridge::send`]) go over two long-lived streams a connection, one for each
//!   [`Lane`], so that an urgent one never waits behind a normal one. They come in order and
//!   unharmed as long as the connection lasts. Sending never waits: a full queue refuses, and
//!   [`Event::Drained`] says when there is room. A receiver that does not let go of what it was
//!   given is sent no more.
//! - **Streams** ([`Bridge::open`]) carry what is large or goes to and fro. Each has a flow control
//!   of its own.
//! - **Gossip** ([`Bridge::publish`]) goes to all who subscribe to a topic, at most once, in no
//!   order, signed by its author. Small messages travel together.
//!
//! Everything about a connection happens on one task, its own: from [`Bridge::send`] to the socket,
//! and from the socket to [`Events`] (or to a [`Deliver`], without even that step).
//!
//! Files: [`identity`](Identity) and [`psk`](PrivateKey) are keys. `frame` is the protocol of the
//! lanes, `batch` that of gossip. `book`, `policy`, `gate` and `mirror` decide: whom we know, whom
//! to dial, who is let in, who has our identity. `conn` is what a connection's task, the swarm and
//! the user share; `handler`, `lane` and `upgrade` run on that task; `links`, `behaviour` and
//! `transport` put libp2p together, and `node` drives it.

mod awake;
mod batch;
mod behaviour;
pub mod book;
mod bridge;
mod conn;
mod driven;
mod event;
mod files;
mod frame;
mod gate;
mod handler;
mod identity;
mod lane;
mod lanes;
pub mod limits;
mod links;
mod mirror;
mod node;
mod policy;
mod psk;
mod stats;
mod stream;
mod tell;
mod transport;
mod upgrade;

pub use bridge::{Bridge, ConnectError, PublishError, SubscribeError};
pub use conn::{Connection, OpenError, SendError};
pub use event::{Deliver, Event, Events, Lane, Payload, Refusal};
pub use files::{BOOK_FILE, SEEDS_FILE};
pub use frame::VERSIONS;
pub use identity::{IDENTITY_FILE, Identity, IdentityError, is_signed_by};
pub use libp2p::{Multiaddr, PeerId};
pub use limits::Limits;
pub use psk::{KeyError, PrivateKey};
pub use stats::Stats;
pub use stream::Stream;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// What a bridge is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is.
    pub identity: Identity,
    /// Where to listen; port 0 takes one that is free.
    pub listen: Vec<Multiaddr>,
    /// Whom to connect with, and to stay connected with.
    pub peers: Vec<Multiaddr>,
    /// The key of a private network: whoever lacks it gets no byte of the protocol.
    pub private: Option<PrivateKey>,
    /// If given, nobody else is let in or dialed.
    pub allow: Option<BTreeSet<PeerId>>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// The data folder, where the address book is.
    pub folder: PathBuf,
    /// The versions of the protocol to speak: [`VERSIONS`], unless an older or a newer node is to
    /// be played.
    pub versions: RangeInclusive<u16>,
    /// The bounds.
    pub limits: Limits,
}

impl Config {
    /// A node that listens nowhere and knows nobody, with everything else as usual.
    pub fn new(identity: Identity, folder: PathBuf) -> Self {
        Self {
            identity,
            listen: Vec::new(),
            peers: Vec::new(),
            private: None,
            allow: None,
            mdns: false,
            folder,
            versions: VERSIONS,
            limits: Limits::default(),
        }
    }
}

/// Why a bridge did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        why: String,
    },
    /// The key of a private network does not cover QUIC.
    #[error(
        "cannot listen on {0}: a private network's key covers TCP only; \
         listen on an address like /ip4/0.0.0.0/tcp/4001"
    )]
    QuicInPrivate(Multiaddr),
    /// A peer's address is of no use.
    #[error(transparent)]
    Peer(#[from] book::AddError),
    /// A file of the data folder cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The limits do not fit together.
    #[error("the limit {name} is {value}, and is to be at least {least}")]
    Limit {
        /// Its name.
        name: &'static str,
        /// What it was set to.
        value: usize,
        /// The least that works.
        least: usize,
    },
    /// Encryption could not be set up.
    #[error("cannot set up encryption: {0}")]
    Noise(String),
    /// Gossip could not be set up.
    #[error("cannot set up gossip: {0}")]
    Gossip(String),
    /// The local network cannot be listened to.
    #[error("cannot look for peers on the local network: {0}; do without by --no-mdns")]
    Mdns(std::io::Error),
    /// No thread can be started.
    #[error("cannot start the bridge's thread: {0}; `ulimit -u` shows how many this user may have")]
    Thread(std::io::Error),
}

/// Starts a bridge, on a thread of its own. It ends with [`Bridge::close`], or once every
/// [`Bridge`] has been dropped.
///
/// # Errors
/// Where an address, a file or a limit does not work out; nothing is left running then.
pub fn start(config: Config) -> Result<(Bridge, Events), Error> {
    node::check(&config)?;
    let counters = Arc::default();
    let (channel, events) = event::channel(Arc::clone(&counters));
    let backlog = Arc::clone(&channel.backlog);
    Ok((node::start(config, counters, channel, Some(backlog))?, events))
}

/// The same with events that are taken where they arise, on the bridge's thread: whoever takes them must not
/// block it.
///
/// # Errors
/// As [`start`].
pub fn start_with(config: Config, deliver: Arc<dyn Deliver>) -> Result<Bridge, Error> {
    node::check(&config)?;
    node::start(config, Arc::default(), deliver, None)
}
