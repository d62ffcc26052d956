//! Connections between the members of a space are kept up, however few the bridge would keep by itself:
//! a member that is not connected is dialed again and again at every address that is known of it.

use super::Net;
use crate::space::Space;
use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;
use synod_bridge::{Bridge, Multiaddr, PeerId};

/// How often it is looked who is missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Addresses that are tried at a time, at most.
const MAX_TRIED: usize = 16;

/// Voters of a space that it only follows that a node is connected with, if there are so many: of two one
/// does not lead.
const VOTERS: usize = 2;

/// Looks after connections for as long as the node takes part in the network.
pub(super) async fn keep(net: Weak<Net>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut wanted = BTreeSet::new();
    loop {
        ticks.tick().await;
        let Some(bridge) = net.upgrade().and_then(|net| net.bridge().cloned()) else { return };
        let Some(missing) = net.upgrade().map(|net| net.missing()) else { return };
        if missing.is_empty() {
            continue;
        }
        let known = bridge.known().await;
        let mut tries = Vec::new();
        for peer in missing {
            let addresses = known.addresses(&peer);
            if wanted.insert(peer) {
                // From here on the bridge wants it, too, and does not forget it.
                want(&bridge, peer, &addresses).await;
            }
            tries.extend(addresses.into_iter().map(|address| with(address, peer)));
        }
        for address in tries.into_iter().take(MAX_TRIED) {
            let bridge = bridge.clone();
            // That it is not there is no news.
            tokio::spawn(async move { drop(bridge.connect(address).await) });
        }
    }
}

async fn want(bridge: &Bridge, peer: PeerId, addresses: &[Multiaddr]) {
    for address in addresses {
        drop(bridge.add(with(address.clone(), peer)).await);
    }
}

fn with(address: Multiaddr, peer: PeerId) -> Multiaddr {
    let text = address.to_string();
    if text.contains("/p2p/") {
        return address;
    }
    format!("{text}/p2p/{peer}").parse().unwrap_or(address)
}

impl Net {
    /// Members of this node's spaces that it is not connected with.
    fn missing(&self) -> BTreeSet<PeerId> {
        let mut missing = BTreeSet::new();
        for (space, _) in self.routes.all() {
            for member in space.membership().members().values() {
                let peer = PeerId::from_bytes(&member.peer).ok();
                missing.extend(
                    peer.filter(|peer| *peer != self.me && !self.is_connected(&member.peer)),
                );
            }
        }
        missing.extend(self.observed.all().iter().flat_map(|(space, _)| self.wanted_of(space)));
        missing
    }

    /// Of a space that this node only follows: a few voters are enough, and which differs from node to node.
    fn wanted_of(&self, space: &Space) -> Vec<PeerId> {
        let voters = space.follows().map(|follows| follows.voters).unwrap_or_default();
        let (there, gone): (Vec<_>, Vec<_>) =
            voters.into_iter().partition(|peer| self.is_connected(peer));
        let me = self.me.to_bytes();
        let mut gone: Vec<_> = gone
            .into_iter()
            .map(|peer| (*blake3::hash(&[&me, &peer[..]].concat()).as_bytes(), peer))
            .collect();
        gone.sort_unstable();
        let peers = gone.into_iter().filter_map(|(_, peer)| PeerId::from_bytes(&peer).ok());
        peers.filter(|peer| *peer != self.me).take(VOTERS.saturating_sub(there.len())).collect()
    }
}
