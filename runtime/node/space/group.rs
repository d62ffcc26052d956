//! This node among the members of a space: who it is, and how the others are reached.

use super::links::{Lane, Links, Offer};
use super::open::FOUNDER;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use synod_core::group::{self, Collector, Frame, Mark};

/// Who this node is in a space.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    /// Its Raft id.
    pub(crate) member: u64,
    /// Its id in the network.
    pub(crate) peer: Bytes,
    /// Known to the members and to nobody else.
    pub(crate) key: [u8; 32],
    /// How often the space was recovered by hand.
    pub(crate) generation: u64,
    /// Members whom it was told of when it joined, by Raft id, for as long as the log has not.
    pub(crate) contacts: BTreeMap<u64, Bytes>,
}

impl Me {
    /// The only member there is, and will be.
    pub(crate) fn alone() -> Self {
        let (peer, contacts) = (Bytes::new(), BTreeMap::new());
        Self { member: FOUNDER, peer, key: [0; 32], generation: 0, contacts }
    }
}

/// The way to the other members of a space.
#[derive(Debug)]
pub(super) struct Group {
    /// This node's id in the network.
    peer: Bytes,
    key: [u8; 32],
    /// How often the space was recovered by hand.
    pub(super) generation: u64,
    links: Arc<dyn Links>,
    /// The voters' marks, where this node leads.
    pub(super) marks: Collector,
    /// This node's newest mark, and its signature.
    pub(super) marked: Option<(Mark, Bytes)>,
}

impl Group {
    pub(super) fn new(me: &Me, links: Arc<dyn Links>) -> Self {
        let Me { peer, key, generation, .. } = me;
        let (peer, key, generation) = (peer.clone(), *key, *generation);
        Self { peer, key, generation, links, marks: Collector::default(), marked: None }
    }

    /// Sends a frame to a peer; false if it is known not to arrive.
    pub(super) fn send(&self, peer: &Bytes, lane: Lane, frame: &Frame) -> bool {
        self.links.send(peer, lane, frame.encode(&self.token(peer)))
    }

    /// A frame is expected within this time.
    pub(super) fn expect(&self, within: Duration) {
        self.links.expect(within);
    }

    pub(super) fn offer(
        &self,
        peer: &Bytes,
        space: [u8; 32],
        file: PathBuf,
        frame: &Frame,
        done: Box<dyn FnOnce(bool) + Send>,
    ) {
        let frame = frame.encode(&self.token(peer));
        self.links.offer(peer, space, Offer { file, frame, done });
    }

    /// This node's signature of a mark of a space.
    pub(super) fn sign(&self, space: &[u8; 32], mark: &Mark) -> Bytes {
        self.links.sign(&group::statement(space, self.generation, mark)).into()
    }

    /// Whether a peer has signed a mark of a space.
    pub(super) fn is_signed(
        &self,
        space: &[u8; 32],
        mark: &Mark,
        peer: &[u8],
        signature: &[u8],
    ) -> bool {
        let statement = group::statement(space, self.generation, mark);
        self.links.is_signed_by(peer, &statement, signature)
    }

    fn token(&self, peer: &[u8]) -> [u8; 16] {
        group::token(&self.key, self.generation, &self.peer, peer)
    }
}
