//! Memberships that are held for applications that joined while a tunnel that redirects was there: its route
//! made them join on `lo`, where nothing comes in any more once it is gone. As long as this host is a
//! member where the route leads now, the kernel gives them what comes in there
//! (`IP_MULTICAST_ALL`, which is on unless an application has switched it off).

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where the kernel lists memberships.
const MEMBERSHIPS: &str = "/proc/thread-self/net/igmp";

/// Memberships by their group. Each ends when it is dropped.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Ipv4Addr, Socket>);

impl Kept {
    /// Becomes a member of those of the groups that applications have joined on `lo`, where a route leads
    /// to them. Gives these.
    pub fn keep(&mut self, groups: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        let on_lo = joined_on_lo();
        let mut kept = Vec::new();
        for group in groups.iter().filter(|group| on_lo.contains(group)) {
            let join = || {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                let by_route = InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED);
                socket.join_multicast_v4_n(group, &by_route).map(|()| socket)
            };
            // Where no route leads to it nobody sends to it, either.
            if let Ok(socket) = join() {
                self.0.insert(*group, socket);
                kept.push(*group);
            }
        }
        kept
    }

    /// Ends those that nobody needs any more.
    pub fn prune(&mut self) {
        if !self.0.is_empty() {
            let on_lo = joined_on_lo();
            self.0.retain(|group, _| on_lo.contains(group));
        }
    }
}

fn joined_on_lo() -> Vec<Ipv4Addr> {
    groups_on("lo", &std::fs::read_to_string(MEMBERSHIPS).unwrap_or_default())
}

/// The groups that somebody is a member of on an interface, in the kernel's list.
fn groups_on(interface: &str, text: &str) -> Vec<Ipv4Addr> {
    let (mut groups, mut is_there) = (Vec::new(), false);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if !line.starts_with(['\t', ' ']) {
            is_there = words.nth(1) == Some(interface);
        } else if is_there {
            // In hexadecimal, as this machine reads the bytes on the network.
            let bits = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
            groups.extend(bits.map(|bits| Ipv4Addr::from(bits.to_ne_bytes())));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_an_interface_are_found() {
        let group = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let text = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     2      V3\n\t\t\t\t{}     1 0:00000000\t\t0\n\t\t\t\t{}     1 0:00000000\t\t0\n\
             2\teth0      :     1      V3\n\t\t\t\t{}     1 0:00000000\t\t0\n",
            group([239, 0, 0, 2]),
            group([224, 0, 0, 1]),
            group([239, 0, 0, 3])
        );
        assert_eq!(
            groups_on("lo", &text),
            [Ipv4Addr::new(239, 0, 0, 2), Ipv4Addr::new(224, 0, 0, 1)]
        );
        assert_eq!(groups_on("eth0", &text), [Ipv4Addr::new(239, 0, 0, 3)]);
        assert_eq!(groups_on("eth", &text), [] as [Ipv4Addr; 0]);
    }
}
