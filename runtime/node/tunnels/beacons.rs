//! A tunnel that captures by membership says on its segment that this node is there, and hears who else
//! is: they have heard what was sent there, and are not sent it again.

use super::running::Shared;
use crate::net::{Net, is_signed_by};
use crate::space::Links;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use synod_udp_shim::MAX_DATAGRAM_BYTES;
use synod_udp_shim::network::BeaconSocket;
use synod_udp_shim::tunnel::segment::{BEACON_EVERY, Beacon};
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Beacons that are looked at in a period, at most: looking at one costs a signature.
const MAX_HEARD: u32 = 512;

/// Says and hears beacons for as long as the tunnel is there.
pub(super) async fn exchange(shared: Arc<Shared>, socket: BeaconSocket, net: Weak<Net>, boot: u64) {
    let (socket, somebody_new) = (Arc::new(socket), Arc::new(Notify::new()));
    let say = say(&shared, &socket, &somebody_new, &net, boot);
    let hear = hear(&shared, &socket, &somebody_new);
    tokio::join!(say, hear);
}

/// Once in a while, and at once when somebody new was heard, who may not have heard this node yet.
async fn say(
    shared: &Shared,
    socket: &BeaconSocket,
    somebody_new: &Notify,
    net: &Weak<Net>,
    boot: u64,
) {
    let mut ticks = interval(BEACON_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = somebody_new.notified() => {}
        }
        let Some(net) = net.upgrade() else { return };
        let id = net.me().to_bytes();
        let beacon = Beacon { tunnel: shared.name().to_owned(), id, boot, count };
        let Some(mut bytes) = beacon.signed_part() else { return };
        let signature = net.sign(&bytes);
        bytes.extend_from_slice(&signature);
        if let Err(e) = socket.say(&bytes) {
            tracing::debug!("tunnel {}: no beacon was sent: {e}", shared.name());
        }
    }
}

async fn hear(shared: &Shared, socket: &BeaconSocket, somebody_new: &Notify) {
    let heard = socket.as_fd().try_clone_to_owned().map(UdpSocket::from);
    let heard = match heard.and_then(tokio::net::UdpSocket::from_std) {
        Ok(heard) => heard,
        Err(e) => return tracing::error!("tunnel {}: {e}", shared.name()),
    };
    let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
    let (mut since, mut looked_at) = (Instant::now(), 0);
    loop {
        let taken: io::Result<usize> =
            heard.async_io(Interest::READABLE, || socket.try_recv(&mut buffer)).await;
        let Ok(len) = taken else {
            tokio::task::yield_now().await;
            continue;
        };
        if since.elapsed() >= BEACON_EVERY {
            (since, looked_at) = (Instant::now(), 0);
        }
        looked_at += 1;
        let Some((beacon, part, signature)) = Beacon::read(&buffer[..len]) else { continue };
        let is_looked_at = looked_at <= MAX_HEARD && beacon.tunnel == shared.name();
        if is_looked_at && is_signed_by(&beacon.id, part, signature) && shared.is_near(&beacon) {
            somebody_new.notify_one();
        }
    }
}
