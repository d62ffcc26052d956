//! Whether what is sent on `lo` arrives there. All that a tunnel captures and delivers goes that way, and a
//! firewall that drops what it does not know, and lets `lo` be no exception, keeps it from everybody.

use super::beacon::BEACON_PORT;
use crate::join::{Join, JoinError, MAX_DATAGRAM_BYTES};
use crate::spec::{Interface, JoinSpec};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// How long a datagram may be on its way through this host.
const PATIENCE: Duration = Duration::from_millis(300);

/// Sends to a group on `lo`, at the port of beacons, and listens: what is wrong, if that does not arrive.
pub fn lo_is_shut(group: Ipv4Addr) -> Result<Option<String>, JoinError> {
    let kernel = |call| move |source| JoinError::Kernel { call, source };
    let to = SocketAddrV4::new(group, BEACON_PORT);
    let join = Join::open(&JoinSpec::new(to, Interface::Name("lo".into())))?;
    let voice = join.voice()?;
    voice.set_multicast_ttl_v4(0).map_err(kernel("setting IP_MULTICAST_TTL"))?;
    // Others may ask the same just now: each knows its own by where it comes from.
    let port = voice.local_addr().map_err(kernel("asking for a port"))?.port();
    let shut = |how| {
        let text = "nothing that a tunnel carries is heard here; let it accept what goes out and comes in by lo \
                    (`nft insert rule inet filter input iifname lo accept`, or as it is called there)";
        Ok(Some(format!("a firewall of this host {how} what is sent on lo: {text}")))
    };
    match voice.send_to(b"", to) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return shut("refuses"),
        sent => sent.map_err(kernel("sending on lo"))?,
    };
    let (mut buffer, until) = (Box::new([0; MAX_DATAGRAM_BYTES]), Instant::now() + PATIENCE);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let heard = join.recv(&mut buffer, Some(left)).map_err(kernel("receiving on lo"))?;
        match heard {
            None => return shut("drops"),
            Some(heard) if heard.source.port() == port => return Ok(None),
            Some(_) => {}
        }
    }
}
