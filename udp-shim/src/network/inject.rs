//! What is sent on this host for others: from stand-ins, and what was redirected, put back.
//!
//! Everything goes out by `lo` with the time-to-live that was asked for, none unless it was: a datagram
//! whose source is not this host's never reaches a wire. Applications that have joined on a card hear
//! it too, since `IP_MULTICAST_ALL` is on where nobody switched it off, as long as anybody here is a
//! member on `lo`: that is what the memberships held here are for. One socket may hold twenty, so each
//! group has its own.

use super::rules::MARK;
use crate::join::{MAX_DATAGRAM_BYTES, RECEIVE_BUFFER_BYTES};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Bytes of the headers of IPv4 and UDP.
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;

/// Sends on this host.
#[derive(Debug)]
pub struct Injector {
    /// Held for their memberships on `lo`; bound to nothing, they receive nothing.
    members: Mutex<Vec<Socket>>,
    /// Sends with a source that is an application's; only where we may.
    raw: Option<Socket>,
    ttl: u8,
}

impl Injector {
    /// `is_redirecting`: what is sent carries our mark, and what was captured can be put back.
    pub(super) fn open(
        groups: &[Ipv4Addr],
        lo: u32,
        ttl: u8,
        is_redirecting: bool,
    ) -> io::Result<Self> {
        let member = |group: &Ipv4Addr| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(lo))?;
            Ok(socket)
        };
        let raw = || {
            let socket =
                Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
            socket.set_mark(MARK)?;
            socket.set_send_buffer_size(RECEIVE_BUFFER_BYTES)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self {
            members: Mutex::new(groups.iter().map(member).collect::<io::Result<_>>()?),
            raw: is_redirecting.then(raw).transpose()?,
            ttl,
        })
    }

    /// Ends the memberships: what is sent from here on is heard by those alone who are members on `lo`.
    pub(super) fn leave(&self) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Gives the applications of this host a datagram that was taken from them on its way.
    pub fn put_back(&self, source: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        // A membership takes nothing away, so there is nothing to put back.
        let Some(raw) = &self.raw else { return Ok(()) };
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let heads = heads(source, to, bytes.len(), self.ttl);
        let parts = [io::IoSlice::new(&heads), io::IoSlice::new(bytes)];
        raw.send_to_vectored(&parts, &to.into()).map(drop)
    }

    /// A stand-in's socket, bound to this address, or to another port of it if that one is taken.
    pub fn stand_in(&self, at: SocketAddrV4) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if socket.bind(&at.into()).is_err() {
            socket.bind(&SocketAddrV4::new(*at.ip(), 0).into())?;
        }
        // Only from here on: no other stand-in is to have this address, and applications that are started later
        // and bind its port of all addresses, as they share it, are to have it.
        socket.set_reuse_address(true)?;
        socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
        socket.set_multicast_ttl_v4(u32::from(self.ttl))?;
        // What the system does not allow it shortens.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        if self.raw.is_some() {
            socket.set_mark(MARK)?;
        }
        Ok(socket.into())
    }
}

/// The headers of IPv4 and UDP. The kernel fills in the first one's checksum; the second goes without.
fn heads(
    source: SocketAddrV4,
    to: SocketAddrV4,
    len: usize,
    ttl: u8,
) -> [u8; IP_BYTES + UDP_BYTES] {
    let mut heads = [0; IP_BYTES + UDP_BYTES];
    let udp = UDP_BYTES + len;
    heads[0] = 0x45;
    heads[2..4].copy_from_slice(&((IP_BYTES + udp) as u16).to_be_bytes());
    heads[8] = ttl;
    heads[9] = UDP;
    heads[12..16].copy_from_slice(&source.ip().octets());
    heads[16..20].copy_from_slice(&to.ip().octets());
    heads[20..22].copy_from_slice(&source.port().to_be_bytes());
    heads[22..24].copy_from_slice(&to.port().to_be_bytes());
    heads[24..26].copy_from_slice(&(udp as u16).to_be_bytes());
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_a_datagram() {
        let (source, to) = ("10.0.0.1:5000".parse().unwrap(), "239.0.0.2:20005".parse().unwrap());
        let heads = heads(source, to, MAX_DATAGRAM_BYTES, 0);
        assert_eq!(
            heads,
            [
                0x45, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 17, 0, 0, 10, 0, 0, 1, 239, 0, 0, 2, 0x13,
                0x88, 0x4e, 0x25, 0xff, 0xeb, 0, 0
            ]
        );
    }
}
