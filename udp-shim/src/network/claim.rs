//! Who has a group and port on this host, and whose rules are in use. A claim is a socket with an abstract
//! name: such names are a network namespace's own, one process has each, and the kernel gives it up with
//! its process, however that ends. Two tunnels that capture the same would hear half of it each, or carry
//! it twice.

use crate::sys;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// The names' beginnings: of what is captured, and of the tables and chains.
const DESTINATION: &str = "synod-tunnel/";
const TABLE: &str = "synod-table/";
/// Where the kernel lists the sockets of the namespace that this thread is in.
const SOCKETS: &str = "/proc/thread-self/net/unix";

/// Something that no other process of this namespace has meanwhile.
#[derive(Debug)]
pub(super) struct Claim {
    _socket: UnixListener,
}

/// Why there is no claim.
#[derive(Debug)]
pub(super) enum ClaimError {
    /// Another process has it: its id and its command, where they can be known.
    Taken(Option<(i32, String)>),
    Kernel(io::Error),
}

impl Claim {
    /// Claims a group and port.
    pub(super) fn destination(to: SocketAddrV4) -> Result<Self, ClaimError> {
        Self::named(&format!("{DESTINATION}{to}"))
    }

    /// Claims the name of a table.
    pub(super) fn table(table: &str) -> Result<Self, ClaimError> {
        Self::named(&format!("{TABLE}{table}"))
    }

    fn named(name: &str) -> Result<Self, ClaimError> {
        let address = SocketAddr::from_abstract_name(name).map_err(ClaimError::Kernel)?;
        match UnixListener::bind_addr(&address) {
            Ok(_socket) => Ok(Self { _socket }),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                Err(ClaimError::Taken(holder(&address)))
            }
            Err(e) => Err(ClaimError::Kernel(e)),
        }
    }
}

fn holder(address: &SocketAddr) -> Option<(i32, String)> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let process = sys::peer_process(stream.as_fd())?;
    let command = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some((process, command.trim().to_owned()))
}

/// What processes of this namespace have claimed.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    tables: Vec<String>,
    groups: Vec<Ipv4Addr>,
}

impl Claimed {
    pub(super) fn now() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string(SOCKETS)?))
    }

    fn parse(text: &str) -> Self {
        let mut claimed = Self::default();
        // An abstract name is shown behind an `@`.
        for name in text.lines().filter_map(|line| line.rsplit(' ').next()?.strip_prefix('@')) {
            if let Some(table) = name.strip_prefix(TABLE) {
                claimed.tables.push(table.to_owned());
            }
            let destination = name.strip_prefix(DESTINATION);
            if let Some(Ok(to)) = destination.map(str::parse::<SocketAddrV4>) {
                claimed.groups.push(*to.ip());
            }
        }
        claimed
    }

    pub(super) fn has_table(&self, table: &str) -> bool {
        self.tables.iter().any(|one| one == table)
    }

    pub(super) fn has_group(&self, group: Ipv4Addr) -> bool {
        self.groups.contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_a_group_and_port_and_the_next_is_told_who() {
        let port = u16::try_from(std::process::id() % 60_000).unwrap() + 1;
        let to = SocketAddrV4::new(Ipv4Addr::new(239, 7, 7, 7), port);
        let claim = Claim::destination(to).unwrap();
        let Err(ClaimError::Taken(Some((process, command)))) = Claim::destination(to) else {
            panic!("it is had twice");
        };
        assert_eq!(u32::try_from(process).unwrap(), std::process::id());
        assert!(!command.is_empty());
        let table = Claim::table(&format!("synod_{port}")).unwrap();
        let claimed = Claimed::now().unwrap();
        assert!(claimed.has_group(*to.ip()) && claimed.has_table(&format!("synod_{port}")));
        drop((claim, table));
        assert!(!Claimed::now().unwrap().has_table(&format!("synod_{port}")));
        Claim::destination(to).unwrap();
    }

    #[test]
    fn only_our_names_are_looked_at() {
        let text = "Num RefCount Protocol Flags Type St Inode Path\n\
                    0: 2 0 00010000 0001 01 1 @synod-tunnel/239.0.0.2:20005\n\
                    0: 2 0 00010000 0001 01 2 @synod-table/synod_1\n\
                    0: 2 0 00010000 0001 01 3 @synod-tunnel/nothing\n\
                    0: 2 0 00010000 0001 01 4 /synod-table/synod_2\n\
                    0: 2 0 00010000 0001 01 5\n";
        let claimed = Claimed::parse(text);
        assert!(claimed.has_group(Ipv4Addr::new(239, 0, 0, 2)) && claimed.groups.len() == 1);
        assert!(claimed.has_table("synod_1") && !claimed.has_table("synod_2"));
    }
}
