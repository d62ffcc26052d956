//! This node among the members of a space: who they are, how they are reached, and what only a leader
//! does about them.

use super::links::{Lane, Links, Offer};
use super::open::FOUNDER;
use super::shared::Shared;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use synod_core::apply::Membership;
use synod_core::group::{self, Ask, Frame, Steward};
use synod_core::time::Time;
use tokio::sync::oneshot;

/// Wishes of others, or of this node, that wait for an answer, at most.
const MAX_ASKS: usize = 256;

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

/// Who asked for something that only a leader can do.
#[derive(Debug)]
pub(super) enum Asker {
    /// Somebody on this node.
    Here(oneshot::Sender<Result<(), String>>),
    /// Another member, by its number.
    There { peer: Bytes, number: u64 },
}

/// The members of a space, as the order thread deals with them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) me: Me,
    /// Tells this start of the node from others.
    pub(super) boot: u64,
    links: Arc<dyn Links>,
    shared: Arc<Shared>,
    pub(super) steward: Steward,
    /// When each member was last heard of.
    pub(super) heard: BTreeMap<u64, Time>,
    /// By ticket of a change of members under way.
    pub(super) changing: BTreeMap<u64, Asker>,
    /// Wishes that the leader was asked for, by number.
    asked: BTreeMap<u64, oneshot::Sender<Result<(), String>>>,
    last_number: u64,
}

impl Group {
    pub(super) fn new(me: Me, boot: u64, links: Arc<dyn Links>, shared: Arc<Shared>) -> Self {
        Self {
            me,
            boot,
            links,
            shared,
            steward: Steward::default(),
            heard: BTreeMap::new(),
            changing: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_number: 0,
        }
    }

    pub(super) fn membership(&self) -> Arc<Membership> {
        self.shared.membership()
    }

    /// A member's id in the network.
    fn peer_of(&self, member: u64) -> Option<Bytes> {
        let known = self.membership().members().get(&member).map(|member| member.peer.clone());
        known.or_else(|| self.me.contacts.get(&member).cloned())
    }

    /// Whether a peer may speak as this member. One that joined after what this node knows of the log
    /// may: it has the space's key.
    pub(super) fn may_be(&mut self, member: u64, peer: &Bytes) -> bool {
        let membership = self.membership();
        match membership.members().get(&member) {
            Some(known) => known.peer == *peer,
            None if member > membership.last_id() => {
                *self.me.contacts.entry(member).or_insert_with(|| peer.clone()) == *peer
            }
            // It was a member and is one no longer.
            None => false,
        }
    }

    /// Sends a frame to a member; false if it is known not to arrive.
    pub(super) fn send(&self, member: u64, lane: Lane, frame: &Frame) -> bool {
        self.peer_of(member).is_some_and(|peer| self.send_to(&peer, lane, frame))
    }

    pub(super) fn send_to(&self, peer: &Bytes, lane: Lane, frame: &Frame) -> bool {
        self.links.send(peer, lane, frame.encode(&self.token(peer)))
    }

    pub(super) fn offer(
        &self,
        member: u64,
        space: [u8; 32],
        file: PathBuf,
        message: Bytes,
        done: Box<dyn FnOnce(bool) + Send>,
    ) {
        let Some(peer) = self.peer_of(member) else { return done(false) };
        let frame = Frame::Raft(message).encode(&self.token(&peer));
        self.links.offer(&peer, space, Offer { file, frame, done });
    }

    fn token(&self, peer: &[u8]) -> [u8; 16] {
        group::token(&self.me.key, &self.me.peer, peer)
    }

    /// Asks the leader, another member, for something.
    pub(super) fn ask(
        &mut self,
        leader: u64,
        ask: Ask,
        reply: oneshot::Sender<Result<(), String>>,
    ) {
        self.asked.retain(|_, asked| !asked.is_closed());
        if self.asked.len() >= MAX_ASKS {
            return drop(reply.send(Err("too much is asked for: try again later".to_owned())));
        }
        self.last_number += 1;
        let number = self.last_number;
        if self.send(leader, Lane::Normal, &Frame::Ask { number, ask }) {
            self.asked.insert(number, reply);
        } else {
            drop(reply.send(Err(format!("the leader, member {leader}, cannot be reached"))));
        }
    }

    /// The leader has answered.
    pub(super) fn answered(&mut self, number: u64, why: Option<String>) {
        if let Some(reply) = self.asked.remove(&number) {
            drop(reply.send(why.map_or(Ok(()), Err)));
        }
    }

    /// Tells whoever asked what came of it.
    pub(super) fn tell(&self, asker: Asker, result: Result<(), String>) {
        match asker {
            Asker::Here(reply) => drop(reply.send(result)),
            Asker::There { peer, number } => {
                let answer = Frame::Answer { number, why: result.err() };
                self.send_to(&peer, Lane::Normal, &answer);
            }
        }
    }
}
