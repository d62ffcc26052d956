//! Senders and receivers that the shim's tests set against a [`Join`].
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod host;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;
use synod_udp_shim::{Join, JoinSpec, MAX_DATAGRAM_BYTES};

/// Long enough that only a datagram that never comes makes a test wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A received datagram, its bytes taken out of the buffer.
pub(crate) type Received = (SocketAddr, Vec<u8>);

/// Joins what the text says.
pub(crate) fn join(spec: &str) -> Join {
    Join::open(&spec.parse::<JoinSpec>().unwrap()).unwrap()
}

/// A socket of an application, which sends on `lo` with no route needed, and where it sends from.
pub(crate) fn sender() -> (UdpSocket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let socket = UdpSocket::from(socket);
    let from = socket.local_addr().unwrap();
    (socket, from)
}

/// An application's public socket, as SWI-Prolog's `udp_broadcast` opens it: bound to any address
/// with SO_REUSEADDR, member of the group on the interface of `on`.
pub(crate) fn member(group: SocketAddrV4, on: Ipv4Addr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, group.port()).into()).unwrap();
    socket.join_multicast_v4(group.ip(), &on).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// The next `count` datagrams.
pub(crate) fn receive(join: &Join, count: usize) -> Vec<Received> {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    let mut next = |i| match join.recv(&mut buffer, Some(PATIENCE)).unwrap() {
        Some(datagram) => (datagram.source, datagram.bytes.to_vec()),
        None => panic!("{i} of {count} came, then nothing; {:?}", join.counters()),
    };
    (0..count).map(&mut next).collect()
}

/// Whether nothing more is there.
pub(crate) fn drained(join: &Join) -> bool {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    join.try_recv(&mut buffer).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
