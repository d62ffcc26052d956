//! One group and port of a tunnel, as its datagrams come.

use super::Mode;
use crate::join::{MAX_DATAGRAM_BYTES, RECEIVE_BUFFER_BYTES};
use crate::sys;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room for the largest datagram, as it is kept.
const EACH: usize = 64 << 10;

/// Datagrams that were captured together: so many at most as one call of the system gives.
#[derive(Debug)]
pub struct Captured {
    buffer: Box<[u8]>,
    received: Vec<(usize, SocketAddrV4)>,
}

impl Default for Captured {
    fn default() -> Self {
        // Pages that no datagram comes to are never touched.
        let buffer = vec![0; EACH * sys::MANY].into_boxed_slice();
        Self { buffer, received: Vec::with_capacity(sys::MANY) }
    }
}

impl Captured {
    /// Each one's source, and what it carries.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddrV4, &[u8])> + Clone {
        let each = self.received.iter().zip(self.buffer.chunks_exact(EACH));
        // One without a source's port has been left out.
        let each = each.filter(|((_, source), _)| source.port() != 0);
        each.map(|((len, source), bytes)| (*source, &bytes[..*len]))
    }

    /// Whether more than one was there.
    pub fn are_several(&self) -> bool {
        self.received.len() > 1
    }

    /// Leaves out some; gives how many.
    pub fn retain(&mut self, mut stays: impl FnMut(SocketAddrV4) -> bool) -> u64 {
        let mut left_out = 0;
        for (_, source) in &mut self.received {
            if source.port() != 0 && !stays(*source) {
                source.set_port(0);
                left_out += 1;
            }
        }
        left_out
    }
}

/// Datagrams to one group and port.
#[derive(Debug)]
pub struct Capture {
    to: SocketAddrV4,
    mode: Mode,
    socket: UdpSocket,
}

impl Capture {
    /// What a socket that was opened for it gives.
    pub(super) fn new(to: SocketAddrV4, mode: Mode, socket: UdpSocket) -> Self {
        Self { to, mode, socket }
    }

    /// A socket that datagrams to a group are redirected to. It shares its port with nobody: with
    /// `SO_REUSEADDR` whoever binds it later would take what comes.
    pub(super) fn redirected(to: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)?;
        Ok(Self::new(to, Mode::Redirect, socket.into()))
    }

    /// Its socket alone.
    pub(super) fn into_file(self) -> OwnedFd {
        self.socket.into()
    }

    /// What was captured was sent there.
    pub fn to(&self) -> SocketAddrV4 {
        self.to
    }

    /// Whether it was taken from the applications here, and is to be put back.
    pub fn is_taken(&self) -> bool {
        self.mode.takes()
    }

    /// Takes the next datagram: its length, and where it came from. If there is none, that is the
    /// error [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn try_recv(
        &self,
        buffer: &mut [u8; MAX_DATAGRAM_BYTES],
    ) -> io::Result<(usize, SocketAddrV4)> {
        match self.socket.recv_from(buffer)? {
            (len, SocketAddr::V4(source)) => Ok((len, source)),
            (_, SocketAddr::V6(_)) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Takes all that are there, up to a bound, in place of what was taken before. If there are none, that
    /// is the error [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn try_recv_many(&self, captured: &mut Captured) -> io::Result<()> {
        captured.received.clear();
        let Captured { buffer, received } = captured;
        sys::receive_many(self.as_fd(), buffer, EACH, received)
    }

    /// How many the kernel has dropped here, modulo 2^32.
    pub fn dropped(&self) -> u32 {
        sys::dropped(self.as_fd()).unwrap_or(0)
    }

    /// The port that its socket is bound to.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
