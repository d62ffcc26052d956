//! Who is who: members and their ids in the network.

use super::super::Frame;
use super::{Action, Coordinator, Scene, Unseen};
use crate::apply::Membership;
use crate::order;
use crate::time::Time;
use bytes::Bytes;
use std::time::Duration;

/// Who is no member is told so, but not at each of its frames.
const TOLD_AGAIN: Duration = Duration::from_millis(200);

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

    /// Tells a peer that it was removed, if it was and is no member by another joining. Its own log may
    /// never say so: nobody sends it any more.
    pub(super) fn tell_removed(&mut self, scene: &Scene<'_, T>, peer: &Bytes) {
        let is_early = |at: Time| scene.now.since(at) < TOLD_AGAIN;
        let removed = scene.membership.removed_peer(peer);
        let Some((member, at)) = removed.filter(|_| !self.told_removed.is_some_and(is_early))
        else {
            return;
        };
        self.told_removed = Some(scene.now);
        let frame = Frame::Removed { member, at };
        self.actions.push_back(Action::Send { peer: peer.clone(), urgent: true, frame });
    }

    /// This node is a member no longer. What it has proposed nobody takes; what it gave to a leader
    /// before may be in the log.
    pub(super) fn is_removed(&mut self, scene: &mut Scene<'_, T>, at: u64) {
        if self.removed.replace(at).is_some() {
            return;
        }
        self.actions.push_back(Action::Removed(at));
        let actions = &mut self.actions;
        scene.own.end_all(|who, is_certain| {
            let unseen = if is_certain { Unseen::Removed } else { Unseen::Unknown };
            actions.push_back(Action::Ended(who, unseen));
        });
    }

    /// Why nobody takes what this node proposes, if that is so.
    pub(super) fn is_out(&self) -> Option<Unseen> {
        let removed = self.removed.map(|_| Unseen::Removed);
        removed.or_else(|| self.gone_on.map(Unseen::GoneOn))
    }

    /// The space goes on without this node. What it and its like have acknowledged so far is not given up for
    /// nothing: they acknowledge nothing more, and take no part in an election in which that could go on.
    pub(super) fn goes_on(&mut self, scene: &mut Scene<'_, T>, generation: u64) {
        let known = self.gone_on.unwrap_or(self.me.generation);
        if generation <= known {
            return;
        }
        self.gone_on = Some(generation);
        self.actions.push_back(Action::GoneOn(generation));
        self.actions.push_back(Action::Raft(order::Input::Mute));
        let actions = &mut self.actions;
        scene.own.end_all(|who, is_certain| {
            let unseen = if is_certain { Unseen::GoneOn(generation) } else { Unseen::Unknown };
            actions.push_back(Action::Ended(who, unseen));
        });
    }

    /// How long a member has been silent; not at all, if it was never heard.
    pub fn silent(&self, member: u64, now: Time) -> Duration {
        self.heard.get(&member).map_or(Duration::ZERO, |at| now.since(*at))
    }
}
