//! What redirecting puts into the kernel, as the commands that put it in and take it out. Pure.
//!
//! All rules are in a table (nftables) or in chains (iptables) of our own, whose name says whose they
//! are; nothing else is touched but the one jump that leads into each chain.
//!
//! - What carries our mark is not tracked: a datagram that is put back has the same addresses as the one
//!   that was redirected, and tracking would redirect it again, whatever the rule says of marks.
//! - Nor is what comes to a tunnel's groups from other nodes' virtual addresses: that is its stand-ins', whose sockets
//!   so need no mark, and no privilege. Nothing of it was tracked before the rules were there, for flows to the groups
//!   are forgotten then. An application that takes such an address for its own is heard here, and carried nowhere, as
//!   it is where it is captured. Nor is what they send to one host: others' rules would give it another source. To
//!   other groups they are tracked: those may be another node's, whose applications have just such an address.
//! - What carries our mark leaves by `lo` alone: the socket that puts back may send with any source, and whoever holds
//!   it can name a card for each datagram (`IP_PKTINFO`), though the socket is tied to `lo`. Its mark stays on it.
//! - Each group and port is redirected to a port of its own. So the destination is known by the socket,
//!   and two flows of one source never meet in one tuple, where the kernel would change a source port.
//! - What is redirected keeps its source, whatever rules of others would do to it on its way: Docker's give
//!   another one to what comes from its bridge's address and does not go to the bridge.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

/// All virtual addresses.
const VIRTUAL: &str = "127.64.0.0/10";
/// All groups.
const GROUPS: &str = "224.0.0.0/4";
/// The mark of what this program puts back: no rule of ours captures it.
pub const MARK: u32 = 0x0053_594e;
/// Characters of a name, at most: a chain of iptables has no more.
pub(super) const MAX_TABLE_BYTES: usize = 28;

/// What the kernel's rules are changed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `iptables`, of either kind.
    Iptables,
    /// `nft`.
    Nft,
}

/// A command with what it reads, and whether it may fail: what is not there cannot be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
    pub(super) input: String,
    pub(super) may_fail: bool,
}

impl Tool {
    /// Its command.
    pub fn program(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nft => "nft",
        }
    }

    /// Puts the rules in: each destination is redirected to a port of 127.0.0.1.
    pub(super) fn put_in(
        self,
        table: &str,
        own: Ipv4Addr,
        redirects: &[(SocketAddrV4, u16)],
    ) -> Vec<Step> {
        match self {
            Self::Nft => vec![nft(nft_table(table, own, redirects))],
            Self::Iptables => iptables_in(table, own, redirects),
        }
    }

    /// Shows what there is, ours and others'.
    pub(super) fn show(self) -> Vec<Step> {
        match self {
            Self::Nft => vec![Step {
                program: "nft",
                arguments: ["list", "tables", "ip"].map(str::to_owned).to_vec(),
                input: String::new(),
                may_fail: false,
            }],
            Self::Iptables => ["-t nat -S", "-t raw -S"].map(|line| iptables(line, false)).to_vec(),
        }
    }

    /// Whether all of a table or chain is among what is shown.
    pub(super) fn is_whole(self, table: &str, shown: &str) -> bool {
        match self {
            Self::Nft => self.tables(shown).any(|one| one == table),
            Self::Iptables => {
                let lines =
                    |what: String| shown.lines().filter(|line| line.contains(&what)).count();
                // Those of both tables lead there; and what is there stands for the rest of it.
                lines(format!("-A OUTPUT -p udp -j {table}")) == 2
                    && lines(format!("-A {table} ")) > 2
                    && lines(format!("--comment {table} ")) == 1
            }
        }
    }

    /// The tables or chains that are shown.
    pub(super) fn tables(self, shown: &str) -> impl Iterator<Item = &str> {
        let prefix = match self {
            Self::Nft => "table ip ",
            Self::Iptables => "-N ",
        };
        shown.lines().filter_map(move |line| line.trim().strip_prefix(prefix))
    }

    /// Takes them out; whoever has none to take out has no error.
    pub(super) fn take_out(self, table: &str) -> Vec<Step> {
        match self {
            // Made first, for what is not there cannot be deleted.
            Self::Nft => vec![nft(format!("table ip {table}\ndelete table ip {table}\n"))],
            Self::Iptables => iptables_out(table),
        }
    }
}

fn nft(input: String) -> Step {
    Step { program: "nft", arguments: vec!["-f".into(), "-".into()], input, may_fail: false }
}

/// In one transaction. The priorities are those of `raw` and of `dstnat`, which nft has no name for here.
fn nft_table(table: &str, own: Ipv4Addr, redirects: &[(SocketAddrV4, u16)]) -> String {
    let all: Vec<String> =
        redirects.iter().map(|(to, _)| format!("{} . {}", to.ip(), to.port())).collect();
    let all = all.join(", ");
    let mut script = format!(
        "table ip {table} {{\n\
         chain unmarked {{ type filter hook output priority -300; policy accept;\n\
         meta mark {MARK} oifname != \"lo\" drop\n\
         meta mark {MARK} notrack\n\
         ip saddr {VIRTUAL} ip saddr != {own} ip daddr . udp dport {{ {all} }} notrack\n\
         ip saddr {VIRTUAL} ip saddr != {own} ip daddr != {GROUPS} meta l4proto udp notrack\n}}\n\
         chain captured {{ type nat hook output priority -100; policy accept;\n\
         meta mark {MARK} accept\n"
    );
    for (to, port) in redirects {
        let (group, at) = (to.ip(), to.port());
        let _ = writeln!(script, "ip daddr {group} udp dport {at} redirect to :{port}");
    }
    // One priority before that of others' `srcnat`: whoever decides first has decided.
    script.push_str(
        "}\nchain kept { type nat hook postrouting priority 99; policy accept;\n\
         oifname \"lo\" ct status dnat ct original ip daddr 224.0.0.0/4 snat to ip saddr\n}\n}\n",
    );
    script
}

fn iptables(line: &str, may_fail: bool) -> Step {
    let arguments = ["-w"].into_iter().chain(line.split(' ')).map(str::to_owned).collect();
    Step { program: "iptables", arguments, input: String::new(), may_fail }
}

fn iptables_in(chain: &str, own: Ipv4Addr, redirects: &[(SocketAddrV4, u16)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |line: String| steps.push(iptables(&line, false));
    add(format!("-t raw -N {chain}"));
    add(format!("-t raw -A {chain} ! -o lo -m mark --mark {MARK} -j DROP"));
    add(format!("-t raw -A {chain} -m mark --mark {MARK} -j NOTRACK"));
    add(format!("-t raw -A {chain} -s {own} -j RETURN"));
    for (to, _) in redirects {
        let (group, at) = (to.ip(), to.port());
        add(format!("-t raw -A {chain} -p udp -s {VIRTUAL} -d {group} --dport {at} -j NOTRACK"));
    }
    add(format!("-t raw -A {chain} -p udp -s {VIRTUAL} ! -d {GROUPS} -j NOTRACK"));
    add(format!("-t raw -I OUTPUT -p udp -j {chain}"));
    add(format!("-t nat -N {chain}"));
    add(format!("-t nat -A {chain} -m mark --mark {MARK} -j RETURN"));
    for (to, port) in redirects {
        let (group, at) = (to.ip(), to.port());
        add(format!(
            "-t nat -A {chain} -p udp -d {group} --dport {at} -j REDIRECT --to-ports {port}"
        ));
    }
    add(format!("-t nat -I OUTPUT -p udp -j {chain}"));
    add(format!("-t nat -I {}", keeping(chain)));
    steps
}

/// What keeps sources. It names the chain that it belongs to, and can be in none: no chain is led to from
/// both ends of the way.
fn keeping(chain: &str) -> String {
    format!(
        "POSTROUTING -o lo -p udp -m conntrack --ctstate DNAT --ctorigdst 224.0.0.0/4 -m comment \
         --comment {chain} -j ACCEPT"
    )
}

fn iptables_out(chain: &str) -> Vec<Step> {
    let lines = ["nat", "raw"].into_iter().flat_map(|table| {
        [
            format!("-t {table} -D OUTPUT -p udp -j {chain}"),
            format!("-t {table} -F {chain}"),
            format!("-t {table} -X {chain}"),
        ]
    });
    let kept = std::iter::once(format!("-t nat -D {}", keeping(chain)));
    kept.chain(lines).map(|line| iptables(&line, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 70, 1, 2);
    const TO: [(&str, u16); 2] = [("239.0.0.2:20005", 4001), ("239.0.0.2:20006", 4002)];

    fn redirects() -> Vec<(SocketAddrV4, u16)> {
        TO.iter().map(|(to, port)| (to.parse().unwrap(), *port)).collect()
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.arguments.join(" ")).collect()
    }

    #[test]
    fn nft_has_a_table_of_its_own() {
        let steps = Tool::Nft.put_in("synod_1", OWN, &redirects());
        assert_eq!(
            steps[0].input,
            "table ip synod_1 {\n\
             chain unmarked { type filter hook output priority -300; policy accept;\n\
             meta mark 5462350 oifname != \"lo\" drop\n\
             meta mark 5462350 notrack\n\
             ip saddr 127.64.0.0/10 ip saddr != 127.70.1.2 ip daddr . udp dport \
             { 239.0.0.2 . 20005, 239.0.0.2 . 20006 } notrack\n\
             ip saddr 127.64.0.0/10 ip saddr != 127.70.1.2 ip daddr != 224.0.0.0/4 \
             meta l4proto udp notrack\n}\n\
             chain captured { type nat hook output priority -100; policy accept;\n\
             meta mark 5462350 accept\n\
             ip daddr 239.0.0.2 udp dport 20005 redirect to :4001\n\
             ip daddr 239.0.0.2 udp dport 20006 redirect to :4002\n}\n\
             chain kept { type nat hook postrouting priority 99; policy accept;\n\
             oifname \"lo\" ct status dnat ct original ip daddr 224.0.0.0/4 snat to ip saddr\n\
             }\n}\n"
        );
        assert_eq!(steps.len(), 1, "all of it or nothing");
        let out = Tool::Nft.take_out("synod_1");
        assert_eq!(out[0].input, "table ip synod_1\ndelete table ip synod_1\n");
    }

    #[test]
    fn the_names_of_tables_and_chains_are_found() {
        let tables = |tool: Tool, shown| tool.tables(shown).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            tables(Tool::Nft, "table ip nat\ntable ip synod_1\ntable ip6 synod_2\n"),
            ["nat", "synod_1"]
        );
        let shown = "-P OUTPUT ACCEPT\n-N DOCKER\n-N synod_1\n-A OUTPUT -p udp -j synod_1\n";
        assert_eq!(tables(Tool::Iptables, shown), ["DOCKER", "synod_1"]);
    }

    #[test]
    fn iptables_has_chains_of_its_own_and_takes_out_what_it_put_in() {
        let steps = lines(&Tool::Iptables.put_in("synod_1", OWN, &redirects()));
        let nat =
            "-w -t nat -A synod_1 -p udp -d 239.0.0.2 --dport 20006 -j REDIRECT --to-ports 4002";
        assert!(steps.contains(&nat.to_owned()), "{steps:?}");
        // What is put back, then all that is the node's own, and of the rest what stand-ins send.
        let own =
            steps.iter().position(|step| step == "-w -t raw -A synod_1 -s 127.70.1.2 -j RETURN");
        let rest =
            "-w -t raw -A synod_1 -p udp -s 127.64.0.0/10 -d 239.0.0.2 --dport 20005 -j NOTRACK";
        assert!(own < steps.iter().position(|step| step == rest), "{steps:?}");
        assert!(steps.contains(&"-w -t nat -I OUTPUT -p udp -j synod_1".to_owned()));
        let kept = steps.last().unwrap();
        assert!(kept.starts_with("-w -t nat -I POSTROUTING -o lo"), "{kept}");
        let out = lines(&Tool::Iptables.take_out("synod_1"));
        assert!(out.contains(&kept.replace(" -I ", " -D ")));
        for table in ["nat", "raw"] {
            // Each jump that is put in is taken out, then the chain.
            assert!(steps.contains(&format!("-w -t {table} -I OUTPUT -p udp -j synod_1")));
            assert!(out.contains(&format!("-w -t {table} -D OUTPUT -p udp -j synod_1")));
            assert!(out.contains(&format!("-w -t {table} -X synod_1")));
        }
        assert!(out.iter().chain(&steps).all(|line| line.contains("synod_1")));
    }
}
