//! What is sent on this host for others: from stand-ins, and what was redirected, put back.
//!
//! Everything goes out by `lo` with the time-to-live that was asked for, none unless it was: a datagram
//! whose source is not this host's never reaches a wire. Applications that have joined on a card hear
//! it too, since `IP_MULTICAST_ALL` is on where nobody switched it off, as long as anybody here is a
//! member on `lo`: that is what the memberships held here are for. One socket may hold twenty, so each
//! group has its own.

use super::listeners::Listeners;
use super::rules::MARK;
use crate::join::{MAX_DATAGRAM_BYTES, RECEIVE_BUFFER_BYTES};
use crate::sys;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Bytes of the headers of IPv4 and UDP.
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;
/// Datagrams of one piece, at most: the kernel's own bound.
const MAX_SEGMENTS: usize = 64;

/// Sends on this host.
#[derive(Debug)]
pub struct Injector {
    /// Held for their memberships on `lo`; bound to nothing, they receive nothing.
    members: Mutex<Vec<Socket>>,
    /// Sends with a source that is an application's; only where something is taken from them.
    raw: Option<Socket>,
    /// None where the kernel does not say who listens.
    listeners: Option<Listeners>,
    ttl: u8,
}

/// A socket that sends with whatever source it is told, on `lo`. Whoever it is handed to cannot take its mark off it,
/// without CAP_NET_RAW, and as long as a tunnel's rules are there, nothing with the mark leaves elsewhere.
pub(super) fn raw_sender() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.bind_device(Some(b"lo"))?;
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
    socket.set_mark(MARK)?;
    socket.set_send_buffer_size(RECEIVE_BUFFER_BYTES)?;
    Ok(socket)
}

/// Becomes a member of groups on `lo`: there before anything is put back, so that all hear it.
pub(super) fn members(groups: &[Ipv4Addr], lo: u32) -> io::Result<Vec<Socket>> {
    let member = |group: &Ipv4Addr| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(lo))?;
        Ok(socket)
    };
    groups.iter().map(member).collect()
}

impl Injector {
    /// With `raw` what was captured can be put back.
    pub(super) fn new(members: Vec<Socket>, ttl: u8, raw: Option<Socket>) -> Self {
        let listeners = raw.as_ref().and_then(|_| Listeners::open());
        Self { members: Mutex::new(members), raw, listeners, ttl }
    }

    /// Ends the memberships: what is sent from here on is heard by those alone who are members on `lo`.
    pub(super) fn leave(&self) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Gives the applications of this host datagrams that were taken from them on their way, if any of them
    /// listens. Gives how many the kernel has not taken.
    pub fn put_back<'a>(
        &self,
        to: SocketAddrV4,
        datagrams: impl Iterator<Item = (SocketAddrV4, &'a [u8])> + Clone,
    ) -> u64 {
        // A membership takes nothing away, so there is nothing to put back.
        let Some(raw) = &self.raw else { return 0 };
        let mut sources = datagrams.clone().map(|(source, _)| source);
        if let Some(listeners) = &self.listeners
            && !listeners.any(to, &mut sources)
        {
            return 0;
        }
        let with_heads = datagrams.map(|(source, bytes)| {
            let bytes = &bytes[..bytes.len().min(MAX_DATAGRAM_BYTES)];
            (heads(source, to, bytes.len(), self.ttl), bytes)
        });
        let with_heads: Vec<_> = with_heads.collect();
        let parts =
            with_heads.iter().map(|(heads, bytes)| [IoSlice::new(heads), IoSlice::new(bytes)]);
        let parts: Vec<_> = parts.collect();
        let all: Vec<(&[IoSlice<'_>], SocketAddrV4)> =
            parts.iter().map(|parts| (&parts[..], to)).collect();
        send_all(raw.as_fd(), &all)
    }

    /// Sends datagrams from a stand-in's socket to one destination. Gives how many the kernel has not taken.
    ///
    /// Those of one length that follow each other go through the kernel in one piece, up to the sockets that
    /// hear them.
    pub fn deliver(&self, stand_in: &UdpSocket, to: SocketAddrV4, datagrams: &[&[u8]]) -> u64 {
        let mut failed = 0;
        let mut rest = datagrams;
        while !rest.is_empty() {
            let run = run_of(rest);
            let (now, later) = rest.split_at(run);
            rest = later;
            let parts: Vec<IoSlice<'_>> = now.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let len = u16::try_from(now[0].len()).unwrap_or(u16::MAX);
            if run > 1 && sys::send_segments(stand_in.as_fd(), &parts, len, to).is_ok() {
                continue;
            }
            // Where it cannot be one piece it is several.
            let all: Vec<(&[IoSlice<'_>], SocketAddrV4)> =
                parts.iter().map(|part| (std::slice::from_ref(part), to)).collect();
            failed += send_all(stand_in.as_fd(), &all);
        }
        failed
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
        Ok(socket.into())
    }
}

/// How many datagrams from the first one on can be one piece: all have the same length, but for the last,
/// which may be shorter.
fn run_of(datagrams: &[&[u8]]) -> usize {
    let Some(len) = datagrams.first().map(|bytes| bytes.len()).filter(|len| *len > 0) else {
        return datagrams.len().min(1);
    };
    let most = (MAX_DATAGRAM_BYTES / len).clamp(1, MAX_SEGMENTS).min(datagrams.len());
    let same = datagrams[..most].iter().take_while(|bytes| bytes.len() == len).count();
    let ends_shorter =
        datagrams[..most].get(same).is_some_and(|bytes| (1..len).contains(&bytes.len()));
    same + usize::from(ends_shorter)
}

/// Sends datagrams; gives how many the kernel has not taken. One that nobody waits for any more is refused
/// once, by the answer to the one before it, and goes when it is tried again.
fn send_all(socket: BorrowedFd<'_>, datagrams: &[(&[IoSlice<'_>], SocketAddrV4)]) -> u64 {
    let (mut at, mut failed) = (0, 0);
    let mut is_again = false;
    while at < datagrams.len() {
        let sent = sys::send_many(socket, &datagrams[at..]);
        at += sent;
        if sent > 0 {
            is_again = false;
        } else if std::mem::replace(&mut is_again, true) {
            (at, failed, is_again) = (at + 1, failed + 1, false);
        }
    }
    failed
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
    fn datagrams_of_one_length_are_one_piece() {
        let piece = |lens: &[usize]| {
            let all: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
            run_of(&all.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>())
        };
        assert_eq!(piece(&[]), 0);
        assert_eq!(piece(&[0, 0]), 1, "there is no piece of nothing");
        assert_eq!(piece(&[5, 5, 5, 6]), 3);
        assert_eq!(piece(&[5, 5, 2, 5]), 3, "the last may be shorter");
        assert_eq!(piece(&[5, 5, 0]), 2);
        assert_eq!(piece(&[5, 6]), 1);
        assert_eq!(piece(&[1400; 100]), 46, "no more than a datagram has bytes");
        assert_eq!(piece(&[100; 100]), MAX_SEGMENTS);
        assert_eq!(piece(&[65_507, 65_507]), 1);
        assert_eq!(piece(&[40_000, 30_000]), 1);
    }

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
