//! What to join, as people write it: `239.0.0.2:20005`, `239.0.0.2:20005%lo`,
//! `239.0.0.2:20005%192.0.2.7`. The `%` is that of an address's zone (RFC 4007 §11), after the port
//! because the zone here is the membership's and not the address's.
//!
//! Reading it touches nothing: whether the interface exists is asked when the group is joined.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

/// The longest interface name that Linux has: `IFNAMSIZ` less its closing zero.
const MAX_INTERFACE_NAME_BYTES: usize = 15;

/// A multicast group, its port, and the interface to be a member on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinSpec {
    group: SocketAddrV4,
    interface: Interface,
}

/// The interface that a group is joined on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// The one that has this address.
    Address(Ipv4Addr),
    /// The one that the route to the group leads to when it is joined.
    ByRoute,
    /// The one of this name.
    Name(Box<str>),
}

/// Why a text is no [`JoinSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseJoinSpecError {
    /// What stands before the port is not an IPv4 address.
    #[error("`{0}` is not an IPv4 address; write GROUP:PORT or GROUP:PORT%INTERFACE")]
    Address(Box<str>),
    /// What follows the `%` names no interface that could exist.
    #[error("`{0}` can be neither an interface's name nor an IPv4 address")]
    Interface(Box<str>),
    /// There is no port.
    #[error("`{0}` has no port; write GROUP:PORT or GROUP:PORT%INTERFACE")]
    NoPort(Box<str>),
    /// The address is one host's, or all hosts', and not a group's.
    #[error("{0} is not a multicast group; those are 224.0.0.0 to 239.255.255.255")]
    NotMulticast(Ipv4Addr),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` is not a port; those are 1 to 65535")]
    Port(Box<str>),
    /// The last of several ports lies before the first.
    #[error("`{0}` goes from a higher port to a lower one; write them as in 5004-5007")]
    Backwards(Box<str>),
}

impl JoinSpec {
    /// A group that is known to be one.
    pub(crate) fn new(group: SocketAddrV4, interface: Interface) -> Self {
        Self { group, interface }
    }

    /// The group and its port.
    pub fn group(&self) -> SocketAddrV4 {
        self.group
    }

    /// The interface to be a member on.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }
}

impl FromStr for JoinSpec {
    type Err = ParseJoinSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (group, interface) = match text.split_once('%') {
            Some((group, interface)) => (group, interface.parse()?),
            None => (text, Interface::ByRoute),
        };
        let (address, port) =
            group.rsplit_once(':').ok_or_else(|| ParseJoinSpecError::NoPort(group.into()))?;
        let address: Ipv4Addr =
            address.parse().map_err(|_| ParseJoinSpecError::Address(address.into()))?;
        if !address.is_multicast() {
            return Err(ParseJoinSpecError::NotMulticast(address));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(ParseJoinSpecError::Port(port.into())),
            Ok(port) => Ok(Self { group: SocketAddrV4::new(address, port), interface }),
        }
    }
}

impl FromStr for Interface {
    type Err = ParseJoinSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // The kernel's own rule, dev_valid_name() in net/core/dev.c.
        let valid = !text.is_empty()
            && text.len() <= MAX_INTERFACE_NAME_BYTES
            && text != "."
            && text != ".."
            && !text.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
        if valid {
            Ok(Self::Name(text.into()))
        } else {
            Err(ParseJoinSpecError::Interface(text.into()))
        }
    }
}

impl fmt::Display for JoinSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Interface::ByRoute => write!(f, "{}", self.group),
            interface => write!(f, "{}%{interface}", self.group),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::ByRoute => f.write_str("by route"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<JoinSpec, String> {
        text.parse().map_err(|error: ParseJoinSpecError| error.to_string())
    }

    #[test]
    fn the_three_forms_are_read() {
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 2), 20005);
        for (text, interface) in [
            ("239.0.0.2:20005", Interface::ByRoute),
            ("239.0.0.2:20005%lo", Interface::Name("lo".into())),
            ("239.0.0.2:20005%wlp0s20f3.100", Interface::Name("wlp0s20f3.100".into())),
            ("239.0.0.2:20005%127.0.0.1", Interface::Address(Ipv4Addr::LOCALHOST)),
        ] {
            assert_eq!(parse(text), Ok(JoinSpec { group, interface }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "`` has no port; write GROUP:PORT or GROUP:PORT%INTERFACE"),
            ("239.0.0.2", "`239.0.0.2` has no port; write GROUP:PORT or GROUP:PORT%INTERFACE"),
            ("239.0.0.2%lo", "`239.0.0.2` has no port; write GROUP:PORT or GROUP:PORT%INTERFACE"),
            ("239.0.0.2:", "`` is not a port; those are 1 to 65535"),
            ("239.0.0.2:0", "`0` is not a port; those are 1 to 65535"),
            ("239.0.0.2:65536", "`65536` is not a port; those are 1 to 65535"),
            ("239.0.0.2:-1%lo", "`-1` is not a port; those are 1 to 65535"),
            (
                "192.0.2.2:20005",
                "192.0.2.2 is not a multicast group; those are 224.0.0.0 to 239.255.255.255",
            ),
            (
                "255.255.255.255:20005",
                "255.255.255.255 is not a multicast group; those are 224.0.0.0 to 239.255.255.255",
            ),
            (
                "[ff02::1]:20005",
                "`[ff02::1]` is not an IPv4 address; write GROUP:PORT or GROUP:PORT%INTERFACE",
            ),
            (
                "prices:20005",
                "`prices` is not an IPv4 address; write GROUP:PORT or GROUP:PORT%INTERFACE",
            ),
            ("239.0.0.2:20005%", "`` can be neither an interface's name nor an IPv4 address"),
            (
                "239.0.0.2:20005%a name",
                "`a name` can be neither an interface's name nor an IPv4 address",
            ),
            (
                "239.0.0.2:20005%sixteen-letters-",
                "`sixteen-letters-` can be neither an interface's name nor an IPv4 address",
            ),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(group in 0xe000_0000_u32..0xf000_0000, port in 1_u16.., interface in prop_oneof![
            Just(String::new()), "%[a-z][a-z0-9.@_-]{0,14}", any::<Ipv4Addr>().prop_map(|address| format!("%{address}")),
        ]) {
            let text = format!("{}:{port}{interface}", Ipv4Addr::from(group));
            prop_assert_eq!(parse(&text).map(|spec| spec.to_string()), Ok(text));
        }

        #[test]
        fn no_text_is_too_much_for_the_reader(text in "[0-9.:%a-z\\PC]{0,40}") {
            if let Ok(spec) = parse(&text) {
                prop_assert_eq!(parse(&spec.to_string()), Ok(spec));
            }
        }
    }
}
