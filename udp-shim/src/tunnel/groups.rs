//! Which groups and ports a tunnel carries.

use crate::spec::ParseJoinSpecError;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

/// Groups of a tunnel, at most.
pub const MAX_GROUPS: usize = 64;
/// Pairs of a group and a port, at most: each may take a socket.
pub const MAX_DESTINATIONS: usize = 256;

/// Ports, from the first to the last: `20005`, `5004-5007`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// Every one of these groups at every one of these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    groups: Vec<Ipv4Addr>,
    ports: Vec<Ports>,
}

/// Why these groups and ports are none of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// There is none.
    #[error("a tunnel carries at least one group and one port")]
    Empty,
    /// An address is not a group's.
    #[error("{0} is not a multicast group; those are 224.0.0.0 to 239.255.255.255")]
    NotMulticast(Ipv4Addr),
    /// There are too many.
    #[error("{count} {of}, and a tunnel has at most {bound}: make several tunnels")]
    TooMany {
        /// How many.
        count: usize,
        /// Of what.
        of: &'static str,
        /// The bound.
        bound: usize,
    },
}

impl Groups {
    /// Checks and sorts them; what is there twice counts once.
    pub fn new(mut groups: Vec<Ipv4Addr>, mut ports: Vec<Ports>) -> Result<Self, GroupsError> {
        groups.sort_unstable();
        groups.dedup();
        ports.sort_unstable();
        ports.dedup();
        if groups.is_empty() || ports.is_empty() {
            return Err(GroupsError::Empty);
        }
        if let Some(other) = groups.iter().find(|group| !group.is_multicast()) {
            return Err(GroupsError::NotMulticast(*other));
        }
        let too_many = |count, of, bound| Err(GroupsError::TooMany { count, of, bound });
        if groups.len() > MAX_GROUPS {
            return too_many(groups.len(), "groups", MAX_GROUPS);
        }
        let count = ports.iter().map(|ports| ports.count()).sum::<usize>() * groups.len();
        if count > MAX_DESTINATIONS {
            return too_many(count, "pairs of a group and a port", MAX_DESTINATIONS);
        }
        Ok(Self { groups, ports })
    }

    /// The groups, in order.
    pub fn groups(&self) -> &[Ipv4Addr] {
        &self.groups
    }

    /// The ports, in order.
    pub fn ports(&self) -> &[Ports] {
        &self.ports
    }

    /// Every pair of a group and a port, once.
    pub fn destinations(&self) -> Vec<SocketAddrV4> {
        let pair = |(group, port): (&Ipv4Addr, u16)| SocketAddrV4::new(*group, port);
        let ports = || self.ports.iter().flat_map(|ports| ports.first..=ports.last);
        let all = self.groups.iter().flat_map(|group| ports().map(move |port| (group, port)));
        let mut all: Vec<SocketAddrV4> = all.map(pair).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether this is one of the pairs.
    pub fn contains(&self, to: SocketAddrV4) -> bool {
        let has_port = |ports: &Ports| (ports.first..=ports.last).contains(&to.port());
        self.groups.binary_search(to.ip()).is_ok() && self.ports.iter().any(has_port)
    }
}

impl Ports {
    /// From one to the other.
    pub fn new(first: u16, last: u16) -> Result<Self, ParseJoinSpecError> {
        match first {
            0 => Err(ParseJoinSpecError::Port("0".into())),
            _ if first > last => {
                Err(ParseJoinSpecError::Backwards(format!("{first}-{last}").into()))
            }
            _ => Ok(Self { first, last }),
        }
    }

    /// The first.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last.
    pub fn last(self) -> u16 {
        self.last
    }

    fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl FromStr for Ports {
    type Err = ParseJoinSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |part: &str| match part.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(ParseJoinSpecError::Port(part.into())),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        Self::new(first, last)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups(groups: &[&str], ports: &[&str]) -> Result<Groups, String> {
        let ports = ports.iter().map(|text| text.parse::<Ports>().map_err(|e| e.to_string()));
        let groups = groups.iter().map(|text| text.parse().unwrap()).collect();
        Groups::new(groups, ports.collect::<Result<_, _>>()?).map_err(|e| e.to_string())
    }

    #[test]
    fn every_group_has_every_port() {
        let all = groups(&["239.0.0.2", "224.0.0.251"], &["5353", "20005-20006"]).unwrap();
        let told: Vec<String> = all.destinations().iter().map(ToString::to_string).collect();
        let wanted = ["224.0.0.251:5353", "224.0.0.251:20005", "224.0.0.251:20006"];
        assert_eq!(told[..3], wanted);
        assert_eq!(told.len(), 6);
        assert!(all.contains("239.0.0.2:20006".parse().unwrap()));
        assert!(!all.contains("239.0.0.2:20007".parse().unwrap()));
        assert!(!all.contains("239.0.0.3:20006".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (of, ports, why) in [
            (&["239.0.0.2"][..], &[][..], "a tunnel carries at least one group and one port"),
            (
                &["192.0.2.1"],
                &["1"],
                "192.0.2.1 is not a multicast group; those are 224.0.0.0 to 239.255.255.255",
            ),
            (&["239.0.0.2"], &["0"], "`0` is not a port; those are 1 to 65535"),
            (
                &["239.0.0.2"],
                &["9-7"],
                "`9-7` goes from a higher port to a lower one; write them as in 5004-5007",
            ),
            (&["239.0.0.2"], &["7-70000"], "`70000` is not a port; those are 1 to 65535"),
            (
                &["239.0.0.2"],
                &["1-257"],
                "257 pairs of a group and a port, and a tunnel has at most 256: make several tunnels",
            ),
        ] {
            assert_eq!(groups(of, ports), Err(why.to_owned()));
        }
        assert!(groups(&["239.0.0.2"], &["1-65535"]).unwrap_err().starts_with("65535 pairs"));
    }

    proptest! {
        #[test]
        fn it_contains_what_it_lists(first in 1..u16::MAX - 40, of in 0..20_u16, other: u16) {
            let ports = format!("{first}-{}", first + of);
            prop_assert_eq!(ports.parse::<Ports>().unwrap().to_string().parse(), Ok::<_, ParseJoinSpecError>(Ports { first, last: first + of }));
            let all = groups(&["239.0.0.2", "239.0.0.9"], &[&ports]).unwrap();
            let listed = all.destinations();
            prop_assert_eq!(listed.len(), 2 * (usize::from(of) + 1));
            prop_assert!(listed.iter().all(|to| all.contains(*to)));
            let to = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 9), other);
            prop_assert_eq!(all.contains(to), listed.contains(&to));
        }
    }
}
