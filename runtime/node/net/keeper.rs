//! Connections between the members of a space are kept up, however few the bridge would keep by itself:
//! a member that is not connected is dialed again and again at every address that is known of it.

use super::Net;
use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;
use synod_bridge::{Bridge, Multiaddr, PeerId};

/// How often it is looked who is missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Addresses that are tried at a time, at most.
const MAX_TRIED: usize = 16;

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
        missing
    }
}
