//! Turning peers away: each reason is told and logged once a peer, and counted always.

use super::Node;
use crate::event::{Event, Refusal};
use crate::limits::REFUSED;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Whoever makes up identities could fill the log by them: more than this a minute is not told.
const A_MINUTE: u32 = 60;

type Key = (Option<PeerId>, Option<String>, &'static str);

/// Who has been told of already.
#[derive(Debug, Default)]
pub(super) struct Refused {
    told: BTreeSet<Key>,
    order: VecDeque<Key>,
    minute: Option<(Instant, u32)>,
}

impl Refused {
    fn is_news(&mut self, key: Key, now: Instant) -> bool {
        if self.told.contains(&key) {
            return false;
        }
        let (since, count) = self.minute.get_or_insert((now, 0));
        if now - *since >= Duration::from_secs(60) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > A_MINUTE {
            return false;
        }
        if self.order.len() >= REFUSED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.told.insert(key);
        true
    }
}

impl Node {
    pub(super) fn refuse(
        &mut self,
        peer: Option<PeerId>,
        address: Option<Multiaddr>,
        reason: Refusal,
    ) {
        self.counters.refuse(reason.name());
        // Who has no name is known by its host, for its port is another each time.
        let host = if peer.is_none() { address.as_ref().and_then(host) } else { None };
        if !self.refused.is_news((peer, host, reason.name()), Instant::now()) {
            return;
        }
        let who = peer.map_or_else(|| "a stranger".to_owned(), |peer| peer.to_string());
        let at = address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        tracing::warn!("refused {who}{at}: {reason}");
        self.deliver.deliver(Event::Refused { peer, address, reason });
    }

    /// A peer broke the protocol: its connections end, and if it goes on so it stays out.
    pub(super) fn offended(&mut self, peer: PeerId, address: Multiaddr, reason: Refusal) {
        self.refuse(Some(peer), Some(address), reason);
        let gate = &mut self.swarm.behaviour_mut().links.gate;
        if gate.offended(peer, Instant::now()) {
            tracing::warn!("{peer} broke the protocol repeatedly and stays out for a while");
        }
        self.disconnect(peer);
    }

    /// Two processes that are up have one identity.
    pub(super) fn same_identity(&mut self, peer: PeerId, address: Option<Multiaddr>) {
        self.counters.refuse("same_identity");
        let host = address.as_ref().and_then(host);
        if !self.refused.is_news((Some(peer), host, "same_identity"), Instant::now()) {
            return;
        }
        let at = address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
        let whose = if peer == self.id { "this node's identity" } else { "one identity" };
        tracing::error!(
            "another process{at} has {whose}, {peer}: a data folder was copied; \
             stop one of them, and start it on a data folder of its own"
        );
        self.deliver.deliver(Event::SameIdentity { peer, address });
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) -> bool {
        self.swarm.disconnect_peer_id(peer).is_ok()
    }
}

fn host(address: &Multiaddr) -> Option<String> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.to_string()),
        Protocol::Ip6(ip) => Some(ip.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_a_peer_and_a_crowd_of_names_is_bounded() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        let peer = PeerId::random();
        assert!(refused.is_news((Some(peer), None, "garbage"), now));
        assert!(!refused.is_news((Some(peer), None, "garbage"), now));
        assert!(refused.is_news((Some(peer), None, "version"), now));
        let mut told = 0;
        for _ in 0..5000 {
            told += u32::from(refused.is_news((Some(PeerId::random()), None, "garbage"), now));
        }
        assert_eq!(told, A_MINUTE - 2);
        assert!(refused.told.len() <= REFUSED);
        let later = now + Duration::from_secs(61);
        assert!(refused.is_news((Some(PeerId::random()), None, "garbage"), later));
    }
}
