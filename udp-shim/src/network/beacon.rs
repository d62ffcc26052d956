//! What nodes say to each other on a network segment, by multicast that does not leave it.

use crate::join::{Join, JoinError, MAX_DATAGRAM_BYTES};
use crate::spec::{Interface, JoinSpec};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// The port of the tunnel's first group at which beacons are sent. The group is the same as the
/// applications', so that beacons take the same interface; the port is another, so that they do not
/// hear them.
pub const BEACON_PORT: u16 = 47_083;

/// Hears and says beacons.
#[derive(Debug)]
pub struct BeaconSocket {
    join: Join,
    sender: UdpSocket,
    to: SocketAddrV4,
}

impl BeaconSocket {
    pub(super) fn open(group: Ipv4Addr) -> Result<Self, JoinError> {
        let to = SocketAddrV4::new(group, BEACON_PORT);
        let join = match Join::open(&JoinSpec::new(to, Interface::ByRoute)) {
            // There may be a route later on.
            Err(JoinError::NoRoute(_)) => {
                Join::open(&JoinSpec::new(to, Interface::Name("lo".into())))?
            }
            join => join?,
        };
        let kernel = |source| JoinError::Kernel { call: "opening a socket for beacons", source };
        let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(kernel)?;
        sender.set_nonblocking(true).map_err(kernel)?;
        // It is 1 unless somebody sets it, and it is to be 1.
        sender.set_multicast_ttl_v4(1).map_err(kernel)?;
        Ok(Self { join, sender, to })
    }

    /// The group that it joined.
    pub(super) fn group(&self) -> Ipv4Addr {
        *self.to.ip()
    }

    /// Says something to whoever is on the segment.
    pub fn say(&self, beacon: &[u8]) -> io::Result<()> {
        self.sender.send_to(beacon, self.to).map(drop)
    }

    /// Takes what was said next: its length. If there is nothing, that is the error
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn try_recv(&self, buffer: &mut [u8; MAX_DATAGRAM_BYTES]) -> io::Result<usize> {
        self.join.try_recv(buffer).map(|got| got.bytes.len())
    }
}

impl AsFd for BeaconSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.join.as_fd()
    }
}
