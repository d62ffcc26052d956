//! Who has a group and port on this host, and whose rules are in use. A claim is a socket with an abstract
//! name: such names are a network namespace's own, one process has each, and the kernel gives it up with
//! its process, however that ends. Two tunnels that capture the same would hear half of it each, or carry
//! it twice.
//!
//! A [monitor](super::monitor) claims for its node, and says so by its name, `synod:NODE`: if that node was killed,
//! it is about to take out what it has put in, and whoever wants the same waits for it.

use super::monitor::NAME;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Instant;

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
    /// This process, whose node was killed, has it still.
    Ending(i32),
    Kernel(io::Error),
}

impl Claim {
    /// Claims a group and port; waits until then for a process that is about to give it up.
    pub(super) fn destination(to: SocketAddrV4, until: Instant) -> Result<Self, ClaimError> {
        Self::once_free(&format!("{DESTINATION}{to}"), until)
    }

    /// Claims the name of a table, in the same way.
    pub(super) fn table(table: &str, until: Instant) -> Result<Self, ClaimError> {
        Self::once_free(&format!("{TABLE}{table}"), until)
    }

    fn once_free(name: &str, until: Instant) -> Result<Self, ClaimError> {
        loop {
            match Self::named(name) {
                Err(ClaimError::Ending(process)) if Instant::now() < until => {
                    wait_for_end(process, until).map_err(ClaimError::Kernel)?;
                }
                claimed => return claimed,
            }
        }
    }

    fn named(name: &str) -> Result<Self, ClaimError> {
        let address = SocketAddr::from_abstract_name(name).map_err(ClaimError::Kernel)?;
        match UnixListener::bind_addr(&address) {
            Ok(_socket) => Ok(Self { _socket }),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(holder(name)),
            Err(e) => Err(ClaimError::Kernel(e)),
        }
    }
}

/// Who has it: a node, where its monitor claims for it.
fn holder(name: &str) -> ClaimError {
    let process = connected(name).ok().and_then(|socket| sys::peer_process(socket.as_fd()));
    let Some(process) = process else { return ClaimError::Taken(None) };
    let command = command_of(process);
    let Some(node) = command.strip_prefix(NAME).and_then(|node| node.parse().ok()) else {
        return ClaimError::Taken(Some((process, command)));
    };
    // Another process may have the node's number by now; its child this one is not.
    match is_child(process, node) {
        true => ClaimError::Taken(Some((node, command_of(node)))),
        false => ClaimError::Ending(process),
    }
}

/// Connects, and never waits: anybody may have filled the queue of who listens, which nobody empties.
fn connected(name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok(socket)
}

fn command_of(process: i32) -> String {
    let command = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    command.trim().to_owned()
}

fn is_child(process: i32, parent: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything, and the state.
    let found = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    found.and_then(|found| found.parse().ok()) == Some(parent) && !has_ended(parent)
}

fn has_ended(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_none_or(|state| matches!(state, "Z" | "X"))
}

fn wait_for_end(process: i32, until: Instant) -> io::Result<()> {
    let process = Pid::from_raw(process).ok_or(io::ErrorKind::InvalidData)?;
    let ended = match pidfd_open(process, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        ended => ended?,
    };
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
    let left = left.map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
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
        let claim = Claim::destination(to, Instant::now()).unwrap();
        let Err(ClaimError::Taken(Some((process, command)))) =
            Claim::destination(to, Instant::now())
        else {
            panic!("it is had twice");
        };
        assert_eq!(u32::try_from(process).unwrap(), std::process::id());
        assert!(!command.is_empty());
        let table = Claim::table(&format!("synod_{port}"), Instant::now()).unwrap();
        let claimed = Claimed::now().unwrap();
        assert!(claimed.has_group(*to.ip()) && claimed.has_table(&format!("synod_{port}")));
        drop((claim, table));
        assert!(!Claimed::now().unwrap().has_table(&format!("synod_{port}")));
        Claim::destination(to, Instant::now()).unwrap();
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
