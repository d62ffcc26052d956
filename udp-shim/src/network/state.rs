//! The file that says what was put into the kernel, written before it is put there: whoever finds it
//! takes that out again.
//!
//! ```text
//! synod network 1
//! rules nft synod_1f2e3d4c
//! route 239.0.0.2 127.78.179.36
//! ```

use super::rules::{MAX_TABLE_BYTES, Tool};
use std::fmt;
use std::net::Ipv4Addr;

const FIRST_LINE: &str = "synod network 1";

/// What was put into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkState {
    /// With what the rules were put in.
    pub tool: Tool,
    /// The name of their table or chains.
    pub table: String,
    /// The groups that lead to `lo`.
    pub routes: Vec<Ipv4Addr>,
    /// The address that whoever has none of his own sends to them from.
    pub address: Ipv4Addr,
}

impl NetworkState {
    /// Reads a file's text; none if this is not what such a file holds.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut words = lines.next()?.split(' ');
        let tool = match (words.next()?, words.next()?) {
            ("rules", "nft") => Tool::Nft,
            ("rules", "iptables") => Tool::Iptables,
            _ => return None,
        };
        let table = words.next()?;
        let is_ours = table.strip_prefix("synod_").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        if !is_ours || table.len() > MAX_TABLE_BYTES || words.next().is_some() {
            return None;
        }
        let (mut routes, mut address) = (Vec::new(), Ipv4Addr::LOCALHOST);
        for line in lines {
            let (group, from) = line.strip_prefix("route ")?.split_once(' ')?;
            let group: Ipv4Addr = group.parse().ok().filter(Ipv4Addr::is_multicast)?;
            routes.push(group);
            address = from.parse().ok().filter(Ipv4Addr::is_loopback)?;
        }
        Some(Self { tool, table: table.to_owned(), routes, address })
    }
}

impl fmt::Display for NetworkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nrules {} {}", self.tool.program(), self.table)?;
        self.routes.iter().try_for_each(|group| writeln!(f, "route {group} {}", self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        for tool in [Tool::Nft, Tool::Iptables] {
            let routes = vec![Ipv4Addr::new(239, 0, 0, 2), Ipv4Addr::new(224, 0, 0, 251)];
            let address = Ipv4Addr::new(127, 70, 1, 2);
            let state = NetworkState { tool, table: "synod_1f2e3d4c".into(), routes, address };
            assert_eq!(NetworkState::parse(&state.to_string()), Some(state));
        }
    }

    #[test]
    fn nothing_else_is_taken_out_whatever_a_file_says() {
        for rest in [
            "rules nft filter",
            "rules nft synod_a;flush",
            "rules nft synod_",
            "rules nft synod_a b",
            "rules sh synod_a",
            "rules nft synod_a\nroute 10.0.0.1 127.0.0.1",
            "rules nft synod_a\nroute 239.0.0.2 10.0.0.1",
            "rules nft synod_a\nsomething",
            "",
        ] {
            assert_eq!(NetworkState::parse(&format!("{FIRST_LINE}\n{rest}")), None, "{rest}");
        }
        assert_eq!(NetworkState::parse("synod network 2\nrules nft synod_a"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text: String) {
            prop_assert_eq!(NetworkState::parse(&text), None);
            drop(NetworkState::parse(&format!("{FIRST_LINE}\n{text}")));
        }
    }
}
