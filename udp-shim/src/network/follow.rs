//! Memberships that go where the route goes: the kernel holds one on the interface that it was made on, and
//! ends it with that.

use super::netlink::interface_to;
use crate::interface::Interfaces;
use crate::spec::Interface;
use socket2::{InterfaceIndexOrAddress, Socket};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

/// Moves the membership of a socket.
#[derive(Debug)]
pub(super) struct Follower {
    /// The same socket under another number.
    socket: Socket,
    group: Ipv4Addr,
    /// The interface on which it is a member.
    on: u32,
}

impl Follower {
    /// The socket has just become a member where the route led; on `lo`, if there was none.
    pub(super) fn new(socket: BorrowedFd<'_>, group: Ipv4Addr) -> io::Result<Self> {
        let lo = Interface::Name("lo".into());
        let on = match interface_to(group)? {
            Some(on) => on,
            None => Interfaces::list()?.find(&lo).map(|lo| lo.index).unwrap_or_default(),
        };
        Ok(Self { socket: socket.try_clone_to_owned()?.into(), group, on })
    }

    pub(super) fn group(&self) -> Ipv4Addr {
        self.group
    }

    /// Joins anew if the route leads elsewhere by now; whether that was so. Without a route it stays.
    pub(super) fn follow(&mut self) -> io::Result<bool> {
        let Some(meant) = interface_to(self.group)?.filter(|meant| *meant != self.on) else {
            return Ok(false);
        };
        match self.socket.join_multicast_v4_n(&self.group, &InterfaceIndexOrAddress::Index(meant)) {
            // It is a member there already.
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => return Err(e),
            _ => {}
        }
        // It has ended by itself where the interface is gone.
        let before = InterfaceIndexOrAddress::Index(std::mem::replace(&mut self.on, meant));
        let _ = self.socket.leave_multicast_v4_n(&self.group, &before);
        Ok(true)
    }
}
