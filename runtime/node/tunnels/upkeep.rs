//! A tunnel's part of this host while others change the host, and what of it keeps tunnels from being heard.

use std::net::Ipv4Addr;
use synod_udp_shim::network::{UPKEEP_EVERY, Upkeep, lo_is_shut};
use tokio::task::spawn_blocking;

/// A group that is asked with what becomes of groups on this host.
const SOME_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 70, 83);

/// Keeps a tunnel's part of this host as it was put in.
pub(super) async fn uphold(name: String, mut upkeep: Upkeep) {
    let mut last = Vec::new();
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        let upheld = spawn_blocking(move || (upkeep.uphold(), upkeep)).await;
        // It fails as the node ends.
        let Ok((told, again)) = upheld else { return };
        upkeep = again;
        // What cannot be done is tried each time, and said once.
        if told != last {
            told.iter().for_each(|told| tracing::warn!("tunnel {name}: {told}"));
        }
        last = told;
    }
}

/// What keeps all that tunnels carry from being heard here, if something does.
pub fn firewall() -> Option<String> {
    // Where it cannot be known nothing can be said.
    lo_is_shut(SOME_GROUP).ok().flatten()
}
