//! Membership of a group, and what comes in by it.
//!
//! The socket is bound to the *group's* address, with `SO_REUSEADDR`. So the kernel itself keeps out
//! other groups and unicast; and unicast that an application on the same port waits for still
//! reaches it: of several sockets bound to `0.0.0.0` the last would take it all. `IP_MULTICAST_ALL`
//! is off, so that only this membership counts, on its own interface. Multicast goes to every
//! member, so the applications lose nothing; a program that binds the port *without*
//! `SO_REUSEADDR`, however, cannot share it with anybody, and whichever of the two comes second is
//! refused.
//!
//! Some things that were tried, since manuals are silent on them:
//! - `lo` has no `MULTICAST` flag and needs none: a member on `lo` gets what is sent there. The
//!   flag is advice to programs; groups arrive on other interfaces without it as well.
//! - An interface may be down when it is joined, or go down and up later: the membership stays.
//!   It ends when the interface is removed, and then the group has to be joined anew; nor does it
//!   move when the route does.
//! - A sender reaches a group on `lo` by a route (`ip route add 239.0.0.0/8 dev lo`), which programs
//!   that choose no interface need, SWI-Prolog among them, or by `IP_MULTICAST_IF`.

use crate::interface::{Found, Interfaces};
use crate::spec::{Interface, JoinSpec};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that a UDP datagram over IPv4 carries: 65535 less both headers.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// The receive buffer that is asked for. The kernel grants twice as much and charges each datagram
/// its bookkeeping too: 2,000 datagrams of 1,400 bytes take 4.6 MB of it.
pub const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A membership of one group on one interface. It ends when this is dropped.
#[derive(Debug)]
pub struct Join {
    socket: UdpSocket,
    spec: JoinSpec,
    receive_buffer: ReceiveBuffer,
    warnings: Vec<Warning>,
    datagrams: AtomicU64,
    bytes: AtomicU64,
    dropped: Mutex<Dropped>,
}

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it came from. A sender on an interface that has no address of its own is `0.0.0.0`.
    pub source: SocketAddr,
    /// What it carries; possibly nothing.
    pub bytes: &'a [u8],
}

/// What has come in since the group was joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub datagrams: u64,
    /// Bytes that they carried.
    pub bytes: u64,
    /// Datagrams that the kernel dropped because the receive buffer was full, or because their
    /// checksum was wrong.
    pub dropped: u64,
}

/// The receive buffer that a socket got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveBuffer {
    /// Its size, counted as `net.core.rmem_max` counts.
    pub bytes: usize,
    /// The size that was asked for.
    pub wanted: usize,
}

/// Something that does not keep the group from being joined, and may keep datagrams from coming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The interface is down.
    Down {
        /// Its name.
        interface: Box<str>,
    },
    /// The interface is not marked as one that carries multicast.
    NotMulticast {
        /// Its name.
        interface: Box<str>,
    },
    /// The receive buffer is smaller than was asked for.
    SmallBuffer(ReceiveBuffer),
}

/// Why a group could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another socket has the port, and does not share it.
    #[error(
        "UDP port {0} is held by a program that does not share it (it lacks SO_REUSEADDR); \
         `ss -ulpn 'sport = :{0}'` names it"
    )]
    AddressInUse(u16),
    /// The process that opens it for this one has said why it cannot.
    #[error("{0}")]
    Told(String),
    /// The kernel refused, for a reason of its own.
    #[error("{call}: {source}")]
    Kernel {
        /// What was asked of it.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// No route leads to the group, and no interface is named.
    #[error(
        "no route leads to {group}: add one (`ip route add {net}.0.0.0/8 dev lo`), or name an \
         interface ({group}%lo)",
        group = .0, net = .0.ip().octets()[0]
    )]
    NoRoute(SocketAddrV4),
    /// The interface is not there.
    #[error("there is no interface {interface} here, only {known}")]
    NoSuchInterface {
        /// What was asked for.
        interface: Interface,
        /// Those that are there, with their addresses.
        known: String,
    },
    /// The port is among those that need a privilege.
    #[error(
        "UDP port {0} needs a privilege: `sysctl -w net.ipv4.ip_unprivileged_port_start={0}` lifts \
         that, or run with CAP_NET_BIND_SERVICE"
    )]
    PortNeedsPrivilege(u16),
}

impl Join {
    /// Joins the group. From then on the kernel queues its datagrams.
    pub fn open(spec: &JoinSpec) -> Result<Self, JoinError> {
        let interface = find_interface(spec.interface())?;
        let socket = bind(spec.group())?;
        raise_receive_buffer(&socket)?;
        socket.set_multicast_all_v4(false).map_err(kernel("setting IP_MULTICAST_ALL"))?;
        become_member(&socket, spec.group(), interface.as_ref())?;
        Self::with(socket, spec)
    }

    /// A membership whose socket another process has opened, as [`Join::open`] does.
    pub(crate) fn with(socket: Socket, spec: &JoinSpec) -> Result<Self, JoinError> {
        let interface = find_interface(spec.interface())?;
        let receive_buffer = receive_buffer(&socket)?;
        let dropped = Dropped::since_now(&socket).map_err(kernel("reading SO_MEMINFO"))?;
        Ok(Self {
            warnings: warnings(interface.as_ref(), receive_buffer),
            socket: socket.into(),
            spec: spec.clone(),
            receive_buffer,
            datagrams: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: Mutex::new(dropped),
        })
    }

    /// Its socket, bound to the group and a member of it.
    pub(crate) fn into_socket(self) -> UdpSocket {
        self.socket
    }

    /// A socket that sends to the group where this membership hears it, and that can be answered.
    pub fn voice(&self) -> Result<UdpSocket, JoinError> {
        let socket =
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(kernel("opening a UDP socket"))?;
        socket.set_nonblocking(true).map_err(kernel("setting O_NONBLOCK"))?;
        if let Some(found) = find_interface(self.spec.interface())? {
            let (any, index) = (Ipv4Addr::UNSPECIFIED, found.index);
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, index)
                .map_err(|e| kernel("setting IP_MULTICAST_IF")(e.into()))?;
        }
        Ok(socket)
    }

    /// Takes the next datagram, waiting for it until the time is up; then there is none.
    pub fn recv<'a>(
        &self,
        buffer: &'a mut [u8; MAX_DATAGRAM_BYTES],
        timeout: Option<Duration>,
    ) -> io::Result<Option<Datagram<'a>>> {
        // A time too long to be counted is as good as none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match self.take(buffer) {
                Ok((len, source)) => return Ok(Some(Datagram { source, bytes: &buffer[..len] })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Takes the next datagram if it is there; if not, that is the error
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). It is for a driver that waits on the descriptor
    /// itself: with tokio, make a `UdpSocket` of a duplicate of it (`as_fd`, `try_clone_to_owned`)
    /// and call this in its `async_io`.
    pub fn try_recv<'a>(
        &self,
        buffer: &'a mut [u8; MAX_DATAGRAM_BYTES],
    ) -> io::Result<Datagram<'a>> {
        let (len, source) = self.take(buffer)?;
        Ok(Datagram { source, bytes: &buffer[..len] })
    }

    /// What has come in since the group was joined.
    pub fn counters(&self) -> Counters {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        // It was readable when the socket was opened, and there is no way for it to stop being so.
        if let Ok(now) = sys::dropped(self.socket.as_fd()) {
            dropped.advance(now);
        }
        Counters {
            datagrams: self.datagrams.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped: dropped.total,
        }
    }

    /// What was joined.
    pub fn spec(&self) -> &JoinSpec {
        &self.spec
    }

    /// The receive buffer that the socket got.
    pub fn receive_buffer(&self) -> ReceiveBuffer {
        self.receive_buffer
    }

    /// What was seen on joining that may keep datagrams from coming.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// One recvfrom(2) a datagram: recvmmsg(2) measured no faster.
    fn take(&self, buffer: &mut [u8; MAX_DATAGRAM_BYTES]) -> io::Result<(usize, SocketAddr)> {
        let (len, source) = self.socket.recv_from(buffer)?;
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok((len, source))
    }

    /// Waits for datagrams; false when the time is up.
    fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Join {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Join {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl ReceiveBuffer {
    /// Whether it is smaller than was asked for.
    pub fn is_small(self) -> bool {
        self.bytes < self.wanted
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { interface } => write!(
                f,
                "interface {interface} is down, and nothing comes in by it until \
                 `ip link set dev {interface} up`"
            ),
            Self::NotMulticast { interface } => write!(
                f,
                "interface {interface} is not marked as carrying multicast; should nothing come \
                 in, try `ip link set dev {interface} multicast on`"
            ),
            Self::SmallBuffer(ReceiveBuffer { bytes, wanted }) => write!(
                f,
                "the receive buffer is {bytes} bytes of {wanted}, and bursts beyond it are lost; \
                 `sysctl -w net.core.rmem_max={wanted}` or CAP_NET_ADMIN gives the whole"
            ),
        }
    }
}

fn find_interface(wanted: &Interface) -> Result<Option<Found>, JoinError> {
    if *wanted == Interface::ByRoute {
        return Ok(None);
    }
    let interfaces = Interfaces::list().map_err(kernel("listing the interfaces"))?;
    match interfaces.find(wanted) {
        Some(found) => Ok(Some(found.clone())),
        None => Err(JoinError::NoSuchInterface {
            interface: wanted.clone(),
            known: interfaces.to_string(),
        }),
    }
}

fn bind(group: SocketAddrV4) -> Result<Socket, JoinError> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
        .map_err(kernel("opening a UDP socket"))?;
    socket.set_reuse_address(true).map_err(kernel("setting SO_REUSEADDR"))?;
    socket.bind(&group.into()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => JoinError::AddressInUse(group.port()),
        io::ErrorKind::PermissionDenied => JoinError::PortNeedsPrivilege(group.port()),
        _ => kernel("binding to the group")(error),
    })?;
    Ok(socket)
}

fn raise_receive_buffer(socket: &Socket) -> Result<(), JoinError> {
    let wanted = RECEIVE_BUFFER_BYTES;
    match sockopt::set_socket_recv_buffer_size_force(socket, wanted) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            socket.set_recv_buffer_size(wanted).map_err(kernel("setting SO_RCVBUF"))
        }
        Err(error) => Err(kernel("setting SO_RCVBUFFORCE")(error.into())),
    }
}

fn receive_buffer(socket: &Socket) -> Result<ReceiveBuffer, JoinError> {
    let doubled = socket.recv_buffer_size().map_err(kernel("reading SO_RCVBUF"))?;
    Ok(ReceiveBuffer { bytes: doubled / 2, wanted: RECEIVE_BUFFER_BYTES })
}

fn become_member(
    socket: &Socket,
    group: SocketAddrV4,
    interface: Option<&Found>,
) -> Result<(), JoinError> {
    let on = match interface {
        Some(found) => InterfaceIndexOrAddress::Index(found.index),
        None => InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED),
    };
    socket.join_multicast_v4_n(group.ip(), &on).map_err(|error| {
        match (error.raw_os_error(), interface) {
            (Some(libc::ENODEV), None) => JoinError::NoRoute(group),
            _ => kernel("joining the group")(error),
        }
    })
}

fn warnings(interface: Option<&Found>, buffer: ReceiveBuffer) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(found) = interface {
        if !found.up {
            warnings.push(Warning::Down { interface: found.name.clone() });
        }
        if !found.multicast && !found.loopback {
            warnings.push(Warning::NotMulticast { interface: found.name.clone() });
        }
    }
    if buffer.is_small() {
        warnings.push(Warning::SmallBuffer(buffer));
    }
    warnings
}

fn kernel(call: &'static str) -> impl FnOnce(io::Error) -> JoinError {
    move |source| JoinError::Kernel { call, source }
}

/// The kernel's count of drops, which wraps at 2^32, made into one that does not: it has to be read
/// once in 4 billion drops.
#[derive(Debug)]
struct Dropped {
    last: u32,
    total: u64,
}

impl Dropped {
    fn since_now(socket: &Socket) -> io::Result<Self> {
        Ok(Self { last: sys::dropped(socket.as_fd())?, total: 0 })
    }

    fn advance(&mut self, now: u32) {
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_drops_outlives_the_kernels_wrapping() {
        let mut dropped = Dropped { last: u32::MAX - 1, total: 10 };
        dropped.advance(u32::MAX);
        assert_eq!(dropped.total, 11);
        dropped.advance(4);
        assert_eq!(dropped.total, 16);
        dropped.advance(4);
        assert_eq!(dropped.total, 16);
    }
}
