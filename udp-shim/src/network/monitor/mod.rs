//! Privilege separation: what a tunnel needs CAP_NET_ADMIN and CAP_NET_RAW for is done by a process of its own,
//! the **monitor**, and the node that speaks with peers has no privileges.
//!
//! ```text
//! node (no capabilities) ══ socket pair ══ monitor (two capabilities) ── nft, iptables, netlink
//!   Monitor::open ── Open ──►  checks, claims, opens sockets, puts rules in
//!                 ◄─ sockets, remarks ──
//! ```
//!
//! - The monitor listens to nobody but the process that has started it, and believes nothing of what that says:
//!   groups are multicast, the address is one of 127.64.0.0/10, the rules' names are ours, and the one folder that
//!   it writes in is an argument of its own.
//! - It runs as the node's user, so that it writes no file that the node could not.
//! - What it puts into the kernel it takes out when the socket pair ends, however the node ended, and then it ends.
//! - What it hands over does what it was opened for, and little more: a raw socket has a mark that nobody without the
//!   privileges takes off it, and while a tunnel is open nothing with that leaves by a card. It lets a node speak to
//!   the applications of this host in any name; that is what it is for.

mod client;
mod message;
mod passing;
mod serve;
#[cfg(test)]
mod tests;

pub use client::{HANDED_ON, Lease, Monitor};
pub use message::{Answer, MAX_MESSAGE_BYTES, Message, Open, Refused, Request, Restored, VERSION};
pub use serve::serve;

/// What a monitor is called, before its node's number: `ps` shows it, and who finds a group taken looks there.
pub(super) const NAME: &str = "synod:";
/// Networks that are open at once, at most.
const MAX_OPEN: usize = 64;
