//! Whether any program here listens to a group and port. Where none does, what was taken on its way there
//! need not be put back, which costs more than all else that is done with it.
//!
//! The kernel is asked for the socket that a datagram would find (sock_diag(7), one lookup in its own table),
//! so the answer is as good as delivering it: a program that has just bound its port is seen.

use super::netlink;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so long it is taken that who has listened still does; and that raw sockets are as they were.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Sources that are asked for in one go, at most.
const MAX_ASKED: usize = 4;
/// The raw sockets of this network namespace, whoever holds them.
const RAW: &str = "/proc/thread-self/net/raw";
/// How `RAW` writes the protocol of what hears all of UDP, behind the address.
const RAW_UDP: &str = ":0011";

/// Asks for listeners.
#[derive(Debug)]
pub(super) struct Listeners(Mutex<State>);

#[derive(Debug)]
struct State {
    socket: OwnedFd,
    /// Where somebody has listened, and until when that is remembered: no more than a tunnel has destinations.
    heard: BTreeMap<SocketAddrV4, Instant>,
    /// Whether a raw socket hears everything, and until when that is remembered.
    raw: Option<(bool, Instant)>,
}

impl Listeners {
    /// None where the kernel cannot tell.
    pub(super) fn open() -> Option<Self> {
        let socket = netlink::sockets().ok()?;
        // One that is there has to be found: a kernel that knows nothing says the same of all.
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let at = match probe.local_addr().ok()? {
            std::net::SocketAddr::V4(at) => at,
            std::net::SocketAddr::V6(_) => return None,
        };
        let is_found = netlink::has_listener(&socket, at, at, LO).ok()?;
        let state = State { socket, heard: BTreeMap::new(), raw: None };
        is_found.then_some(Self(Mutex::new(state)))
    }

    /// Whether anybody here may hear what these sources have sent to a group; true in doubt.
    pub(super) fn any(
        &self,
        to: SocketAddrV4,
        sources: impl Iterator<Item = SocketAddrV4>,
    ) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.heard.get(&to).is_some_and(|until| now < *until) {
            return true;
        }
        let is_heard = state.raw_sockets(now) || state.find(to, sources);
        match is_heard {
            true => drop(state.heard.insert(to, now + REMEMBERED)),
            false => drop(state.heard.remove(&to)),
        }
        is_heard
    }
}

impl State {
    fn find(&self, to: SocketAddrV4, sources: impl Iterator<Item = SocketAddrV4>) -> bool {
        // Only a socket that is connected cares who sends.
        let mut last = None;
        let mut asked = 0;
        for source in sources {
            if last == Some(source) {
                continue;
            }
            last = Some(source);
            asked += 1;
            if asked > MAX_ASKED {
                return true;
            }
            if netlink::has_listener(&self.socket, source, to, LO).unwrap_or(true) {
                return true;
            }
        }
        false
    }

    fn raw_sockets(&mut self, now: Instant) -> bool {
        match self.raw {
            Some((are_there, until)) if now < until => are_there,
            _ => {
                let list = std::fs::read_to_string(RAW);
                let are_there = list.map_or(true, |list| list.lines().any(hears_udp));
                self.raw = Some((are_there, now + REMEMBERED));
                are_there
            }
        }
    }
}

/// `lo` is the first interface of every network namespace.
const LO: u32 = 1;

/// Whether a line of `RAW` is of a socket for UDP.
fn hears_udp(line: &str) -> bool {
    line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(RAW_UDP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};

    fn any(to: SocketAddrV4) -> bool {
        let source = [SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9)];
        Listeners::open().expect("sock_diag").any(to, source.into_iter())
    }

    /// A port that nobody has, with a socket that shares it.
    fn bound(at: Ipv4Addr) -> (Socket, u16) {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddrV4::new(at, 0).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket_ipv4().unwrap().port();
        (socket, port)
    }

    #[test]
    fn whoever_hears_a_group_is_found_and_nobody_else() {
        let group = Ipv4Addr::new(239, 77, 0, 9);
        for at in [Ipv4Addr::UNSPECIFIED, group] {
            let (socket, port) = bound(at);
            assert!(any(SocketAddrV4::new(group, port)), "{at}");
            assert!(!any(SocketAddrV4::new(group, port ^ 1)) || port == 0);
            drop(socket);
            assert!(!any(SocketAddrV4::new(group, port)), "{at} is closed");
        }
        let (_here, port) = bound(Ipv4Addr::LOCALHOST);
        assert!(!any(SocketAddrV4::new(group, port)), "it hears no group");
        let both = UdpSocket::bind("[::]:0").unwrap();
        let port = both.local_addr().unwrap().port();
        assert!(any(SocketAddrV4::new(group, port)), "IPv6's sockets hear IPv4, too");
    }

    #[test]
    fn one_that_is_connected_hears_its_own_source() {
        let group = Ipv4Addr::new(239, 77, 0, 9);
        let (socket, port) = bound(Ipv4Addr::UNSPECIFIED);
        let [mine, other] = [4001, 4002].map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        socket.connect(&mine.into()).unwrap();
        // Connecting has bound it to an address of this host; what it hears of the group is nothing.
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let listeners = Listeners::open().unwrap();
        let found = |source| {
            let state = listeners.0.lock().unwrap();
            netlink::has_listener(&state.socket, source, to, LO).unwrap()
        };
        assert!(found(mine) && !found(other));
        assert!(!any(SocketAddrV4::new(group, port)));
    }

    #[test]
    fn too_many_sources_are_not_asked_for() {
        let to = SocketAddrV4::new(Ipv4Addr::new(239, 77, 0, 9), 9);
        let sources = |count: u16| (1..=count).map(|n| SocketAddrV4::new(Ipv4Addr::LOCALHOST, n));
        assert!(!Listeners::open().unwrap().any(to, sources(MAX_ASKED as u16)));
        assert!(Listeners::open().unwrap().any(to, sources(MAX_ASKED as u16 + 1)));
    }

    #[test]
    fn raw_sockets_for_udp_are_told_from_others() {
        let line =
            |protocol| format!("  17: 00000000:{protocol} 00000000:0000 07 00000000:00000000");
        assert!(hears_udp(&line("0011")));
        assert!(!hears_udp(&line("00FF")) && !hears_udp(&line("0001")));
        assert!(!hears_udp("  sl  local_address rem_address   st"));
        assert!(!hears_udp(""));
    }
}
