//! The file that says what was put into the kernel, written before it is put there: whoever finds it
//! takes that out again.
//!
//! ```text
//! synod network 2
//! rules nft synod_1f2e3d4c
//! namespace 4026531840 0b6e1fc3-6a36-4f5d-8f4b-0e6f2d3c1a55
//! route 239.0.0.2 127.78.179.36
//! ```

use super::namespace::Namespace;
use super::rules::{MAX_TABLE_BYTES, Tool};
use std::fmt;
use std::net::Ipv4Addr;

const FIRST_LINE: &str = "synod network 2";
/// That of a file that does not say in which namespace.
const WITHOUT_NAMESPACE: &str = "synod network 1";

/// What was put into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkState {
    /// With what the rules were put in.
    pub tool: Tool,
    /// The name of their table or chains.
    pub table: String,
    /// The namespace that it was put into; none where that was not written down.
    pub namespace: Option<Namespace>,
    /// The groups that lead to `lo`.
    pub routes: Vec<Ipv4Addr>,
    /// The address that whoever has none of his own sends to them from.
    pub address: Ipv4Addr,
}

impl NetworkState {
    /// Reads a file's text; none if this is not what such a file holds.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let has_namespace = match lines.next()? {
            FIRST_LINE => true,
            WITHOUT_NAMESPACE => false,
            _ => return None,
        };
        let mut words = lines.next()?.split(' ');
        let tool = match (words.next()?, words.next()?) {
            ("rules", "nft") => Tool::Nft,
            ("rules", "iptables") => Tool::Iptables,
            _ => return None,
        };
        let table = words.next()?;
        if !is_ours(table) || words.next().is_some() {
            return None;
        }
        let namespace = match has_namespace {
            true => {
                let (inode, boot) = lines.next()?.strip_prefix("namespace ")?.split_once(' ')?;
                Some(Namespace { inode: inode.parse().ok()?, boot: boot.to_owned() })
            }
            false => None,
        };
        let (mut routes, mut address) = (Vec::new(), Ipv4Addr::LOCALHOST);
        for line in lines {
            let (group, from) = line.strip_prefix("route ")?.split_once(' ')?;
            let group: Ipv4Addr = group.parse().ok().filter(Ipv4Addr::is_multicast)?;
            routes.push(group);
            address = from.parse().ok().filter(Ipv4Addr::is_loopback)?;
        }
        Some(Self { tool, table: table.to_owned(), namespace, routes, address })
    }
}

impl fmt::Display for NetworkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = if self.namespace.is_some() { FIRST_LINE } else { WITHOUT_NAMESPACE };
        writeln!(f, "{first}\nrules {} {}", self.tool.program(), self.table)?;
        if let Some(Namespace { inode, boot }) = &self.namespace {
            writeln!(f, "namespace {inode} {boot}")?;
        }
        self.routes.iter().try_for_each(|group| writeln!(f, "route {group} {}", self.address))
    }
}

/// Whether a table or chain is one of ours, by its name.
pub(super) fn is_ours(table: &str) -> bool {
    let rest = table.strip_prefix("synod_").unwrap_or_default();
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    !rest.is_empty() && is_plain && table.len() <= MAX_TABLE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let namespace = Namespace { inode: 4026531840, boot: "0b6e-1".to_owned() };
        for (tool, namespace) in [(Tool::Nft, Some(namespace)), (Tool::Iptables, None)] {
            let routes = vec![Ipv4Addr::new(239, 0, 0, 2), Ipv4Addr::new(224, 0, 0, 251)];
            let address = Ipv4Addr::new(127, 70, 1, 2);
            let state =
                NetworkState { tool, table: "synod_1f2e3d4c".into(), namespace, routes, address };
            assert_eq!(NetworkState::parse(&state.to_string()), Some(state));
        }
    }

    #[test]
    fn nothing_else_is_taken_out_whatever_a_file_says() {
        for rest in [
            "rules nft filter\nnamespace 1 b",
            "rules nft synod_a",
            "rules nft synod_a\nnamespace b 1",
            "rules nft synod_a;flush\nnamespace 1 b",
            "rules nft synod_\nnamespace 1 b",
            "rules nft synod_a b\nnamespace 1 b",
            "rules sh synod_a\nnamespace 1 b",
            "rules nft synod_a\nnamespace 1 b\nroute 10.0.0.1 127.0.0.1",
            "rules nft synod_a\nnamespace 1 b\nroute 239.0.0.2 10.0.0.1",
            "rules nft synod_a\nnamespace 1 b\nsomething",
            "",
        ] {
            assert_eq!(NetworkState::parse(&format!("{FIRST_LINE}\n{rest}")), None, "{rest}");
        }
        assert_eq!(NetworkState::parse("synod network 3\nrules nft synod_a"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text: String) {
            prop_assert_eq!(NetworkState::parse(&text), None);
            drop(NetworkState::parse(&format!("{FIRST_LINE}\n{text}")));
        }
    }
}
