//! The bridge from outside: nodes on the loopback, each with a folder of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod gossip;
mod hostile;
mod lanes;
mod peers;
mod streams;

use std::time::Duration;
use synod_bridge::{Bridge, Config, Event, Events, Identity, Multiaddr, PeerId};
use tempfile::TempDir;

/// Nothing here takes so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// A node that is running.
pub(crate) struct Node {
    pub(crate) bridge: Bridge,
    pub(crate) events: Events,
    pub(crate) identity: Identity,
    /// Its data; gone with it.
    pub(crate) folder: TempDir,
}

/// What a test changes of a node's configuration.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Config);

impl Node {
    pub(crate) fn start(change: Change<'_>) -> Self {
        Self::start_as(Identity::generate(), tempfile::tempdir().unwrap(), change)
    }

    pub(crate) fn start_as(identity: Identity, folder: TempDir, change: Change<'_>) -> Self {
        let mut config = Config::new(identity.clone(), folder.path().into());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        // Only what a test asks for is connected.
        config.limits.peers = 0;
        change(&mut config);
        let (bridge, events) = synod_bridge::start(config).unwrap();
        Self { bridge, events, identity, folder }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.bridge.id()
    }

    pub(crate) async fn address(&self) -> Multiaddr {
        self.bridge.listening().await[0].clone().with_p2p(self.id()).unwrap()
    }

    /// Waits for an event that `pick` makes something of; passes over all others.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the bridge has ended");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, found).await;
        found.unwrap_or_else(|_| panic!("{what} did not come; {:#?}", self.bridge.stats()))
    }

    pub(crate) async fn until_connected(&mut self, with: PeerId) {
        self.until("the connection", |event| match event {
            Event::Connected { peer, .. } if peer == with => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn until_disconnected(&mut self, from: PeerId) {
        self.until("the end of the connection", |event| match event {
            Event::Disconnected { peer } if peer == from => Some(()),
            _ => None,
        })
        .await;
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}: it never held"));
}

/// Two nodes that are connected.
pub(crate) async fn pair(one: Change<'_>, other: Change<'_>) -> (Node, Node) {
    let (mut one, mut other) = (Node::start(one), Node::start(other));
    one.bridge.connect(other.address().await).await.unwrap();
    one.until_connected(other.id()).await;
    other.until_connected(one.id()).await;
    (one, other)
}

pub(crate) fn as_usual(_: &mut Config) {}
