//! Who is who: members and their ids in the network.

use super::Coordinator;
use crate::apply::Membership;
use crate::time::Time;
use bytes::Bytes;
use std::time::Duration;

impl<T, A> Coordinator<T, A> {
    /// A member's id in the network.
    pub fn peer_of(&self, membership: &Membership, member: u64) -> Option<Bytes> {
        let known = membership.members().get(&member).map(|member| member.peer.clone());
        known.or_else(|| self.me.contacts.get(&member).cloned())
    }

    /// Whether a peer may speak as this member. One that joined after what this node knows of the log
    /// may: it has the space's key.
    pub(super) fn may_be(&mut self, membership: &Membership, member: u64, peer: &Bytes) -> bool {
        match membership.members().get(&member) {
            Some(known) => known.peer == *peer,
            None if member > membership.last_id() => {
                *self.me.contacts.entry(member).or_insert_with(|| peer.clone()) == *peer
            }
            // It was a member and is one no longer.
            None => false,
        }
    }

    /// How long a member has been silent; not at all, if it was never heard.
    pub fn silent(&self, member: u64, now: Time) -> Duration {
        self.heard.get(&member).map_or(Duration::ZERO, |at| now.since(*at))
    }
}
