//! What has broken tunnels of multicast elsewhere, one test for each: kinds of sockets, settings of the
//! kernel, rules and flows of others, interfaces that come and go.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

use common::host::{
    CABLE, GROUP, NIC, TO, bound, by_each_tool, heard, ip, lacks, me, next, nothing, pass_on,
    set_for_each_interface, silent, spec,
};
use common::{PATIENCE, member};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use synod_udp_shim::network::{Capture, Mode, Network, Upkeep};
use synod_udp_shim::tunnel::virtual_address;

/// What `iptables-save` prints on a host on which dockerd 20.10 runs.
const DOCKER: &str = include_str!("docker.rules");
/// Its bridge, with the address that it has.
const DOCKER_BRIDGE: &str = "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0
     ip link set docker0 up";

fn opened(name: &str) -> (Network, Vec<Capture>) {
    let mut network = Network::open(&spec(name, Mode::Redirect)).unwrap();
    let captures = network.take_captures();
    (network, captures)
}

/// Whether a datagram of a stand-in is heard by all, once, and can be answered.
fn stands_in(network: &Network, members: &[&UdpSocket]) {
    let at = SocketAddrV4::new(virtual_address(b"peer"), 5000);
    let stand_in = network.injector().stand_in(at).unwrap();
    stand_in.set_nonblocking(false).unwrap();
    stand_in.set_read_timeout(Some(PATIENCE)).unwrap();
    stand_in.send_to(b"of another host", TO).unwrap();
    for member in members {
        assert_eq!(heard(member), (b"of another host".to_vec(), at.into()));
        assert!(silent(member));
    }
    for private in [bound("0.0.0.0:0"), bound((NIC, 0))] {
        private.send_to(b"answer", at).unwrap();
        let (bytes, source) = heard(&stand_in);
        assert_eq!(bytes, b"answer");
        stand_in.send_to(b"and back", source).unwrap();
        assert_eq!(heard(&private), (b"and back".to_vec(), at.into()));
    }
}

#[test]
fn filters_of_sources_keep_nothing_out() {
    let name = "filters_of_sources_keep_nothing_out";
    by_each_tool(name, &format!("{CABLE}; ip route add default dev va"), || {
        for (filter, accepts_local) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
            set_for_each_interface("rp_filter", filter);
            set_for_each_interface("accept_local", accepts_local);
            for mode in [Mode::Redirect, Mode::Join] {
                println!("rp_filter {filter}, accept_local {accepts_local}, {mode}");
                let mut network = Network::open(&spec(name, mode)).unwrap();
                let captures = network.take_captures();
                let members = [member(TO, Ipv4Addr::UNSPECIFIED), member(TO, NIC)];
                let sender = bound((NIC, 0));
                sender.send_to(b"of this host", TO).unwrap();
                assert_eq!(pass_on(&network, &captures), local(&sender), "{mode}");
                for member in &members {
                    assert_eq!(heard(member), (b"of this host".to_vec(), local(&sender).into()));
                }
                stands_in(&network, &[&members[0], &members[1]]);
                // With join a stand-in is heard here again, which the tunnel knows as its own.
                assert!(mode == Mode::Join || nothing(&captures));
            }
        }
    });
}

fn local(socket: &UdpSocket) -> SocketAddrV4 {
    let std::net::SocketAddr::V4(at) = socket.local_addr().unwrap() else { panic!("IPv6") };
    at
}

#[test]
fn connected_senders_that_ask_for_errors_have_none() {
    let name = "connected_senders_that_ask_for_errors_have_none";
    by_each_tool(name, CABLE, || {
        let application = member(TO, NIC);
        let sender = bound((NIC, 5000));
        asks_for_errors(&sender);
        sender.connect(TO).unwrap();
        for round in 0..3 {
            let (network, captures) = opened(name);
            for _ in 0..3 {
                sender.send(b"during").unwrap();
                assert_eq!(pass_on(&network, &captures), SocketAddrV4::new(NIC, 5000), "{round}");
                assert_eq!(heard(&application).0, b"during");
            }
            // Nor is it refused anything at the moment when the tunnel ends.
            drop((network, captures));
            for _ in 0..3 {
                sender.send(b"after").unwrap();
                assert_eq!(heard(&application).0, b"after");
            }
        }
        let unconnected = bound((NIC, 5001));
        asks_for_errors(&unconnected);
        let (network, captures) = opened(name);
        for _ in 0..3 {
            unconnected.send_to(b"unconnected", TO).unwrap();
            assert_eq!(pass_on(&network, &captures), SocketAddrV4::new(NIC, 5001));
        }
        drop((network, captures));
        let connected = bound("0.0.0.0:0");
        let (network, captures) = opened(name);
        connected.connect(TO).unwrap();
        connected.send(b"by the route").unwrap();
        assert_eq!(*pass_on(&network, &captures).ip(), me());
    });
}

/// Errors that come back for what was sent are told of at the next call, as a connected socket has it.
#[allow(unsafe_code)]
fn asks_for_errors(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads an integer that outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_RECVERR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(status, 0);
}

#[test]
fn the_rules_of_docker_change_no_source() {
    let name = "the_rules_of_docker_change_no_source";
    if lacks(name, "iptables-restore") {
        return;
    }
    let setup = format!("{CABLE}; {DOCKER_BRIDGE}; iptables-restore <<'END'\n{DOCKER}\nEND\n");
    by_each_tool(name, &setup, || {
        let bridge = Ipv4Addr::new(172, 17, 0, 1);
        // Two flows that are tracked before, since there are rules; and one of each kind afterwards.
        let (of_bridge, of_card) = (bound((bridge, 5000)), bound((NIC, 5000)));
        let by_bridge = bound("0.0.0.0:5001");
        socket2::SockRef::from(&by_bridge).set_multicast_if_v4(&bridge).unwrap();
        let application = member(TO, NIC);
        for sender in [&of_bridge, &of_card, &by_bridge] {
            sender.send_to(b"before", TO).unwrap();
        }
        assert_eq!(heard(&application).0, b"before");
        for _ in 0..2 {
            let (network, captures) = opened(name);
            for (sender, from) in [
                (&of_bridge, SocketAddrV4::new(bridge, 5000)),
                (&of_card, SocketAddrV4::new(NIC, 5000)),
                (&by_bridge, SocketAddrV4::new(bridge, 5001)),
            ] {
                sender.send_to(b"during", TO).unwrap();
                assert_eq!(pass_on(&network, &captures), from);
                assert_eq!(heard(&application), (b"during".to_vec(), from.into()));
            }
            stands_in(&network, &[&application]);
            drop((network, captures));
            of_card.send_to(b"after", TO).unwrap();
            assert_eq!(heard(&application), (b"after".to_vec(), local(&of_card).into()));
        }
    });
}

#[test]
fn flows_that_are_tracked_in_zones_obey_at_once() {
    let name = "flows_that_are_tracked_in_zones_obey_at_once";
    if lacks(name, "iptables") {
        return;
    }
    let zones = "iptables -t raw -A OUTPUT -p udp --sport 5000 -j CT --zone 7
         iptables -t raw -A OUTPUT -p udp --sport 5001 -j CT --zone-orig 9
         iptables -t nat -A OUTPUT -p udp --dport 1 -j ACCEPT";
    by_each_tool(name, &format!("{CABLE}\n{zones}"), || {
        let application = member(TO, NIC);
        let senders = [5000, 5001, 5002].map(|port| bound((NIC, port)));
        for sender in &senders {
            sender.send_to(b"before", TO).unwrap();
            assert_eq!(heard(&application).0, b"before");
        }
        for _ in 0..2 {
            let (network, captures) = opened(name);
            for sender in &senders {
                sender.send_to(b"during", TO).unwrap();
                assert_eq!(pass_on(&network, &captures), local(sender));
                assert_eq!(heard(&application).0, b"during");
            }
            drop((network, captures));
            for sender in &senders {
                sender.send_to(b"after", TO).unwrap();
                assert_eq!(heard(&application).0, b"after");
            }
        }
    });
}

#[test]
fn routes_that_go_with_their_interface_are_there_again() {
    let name = "routes_that_go_with_their_interface_are_there_again";
    by_each_tool(name, &format!("{CABLE}; ip route add {GROUP} dev va"), || {
        let (network, captures) = opened(name);
        let mut upkeep = network.upkeep().unwrap();
        assert_eq!(upkeep.uphold(), [] as [&str; 0]);
        // The route was somebody's, and goes with its card.
        ip("link del va");
        let any = bound("0.0.0.0:0");
        assert!(any.send_to(b"nowhere", TO).is_err());
        assert_eq!(upkeep.uphold(), ["the route to 239.0.0.2 was gone, and is there again"]);
        any.send_to(b"by our route", TO).unwrap();
        assert_eq!(*pass_on(&network, &captures).ip(), me());
        // Ours goes with its own.
        for _ in 0..2 {
            ip("link set lo down");
            ip("link set lo up");
            assert_eq!(upkeep.uphold().len(), 1);
            any.send_to(b"again", TO).unwrap();
            let application = member(TO, Ipv4Addr::UNSPECIFIED);
            pass_on(&network, &captures);
            assert_eq!(heard(&application).0, b"again");
            stands_in_by_lo(&network, &application);
        }
        drop((network, captures));
        assert_eq!(upkeep.uphold(), [] as [&str; 0], "it is taken out, and stays out");
        assert!(any.send_to(b"nowhere", TO).is_err());
    });
}

fn stands_in_by_lo(network: &Network, member: &UdpSocket) {
    let at = SocketAddrV4::new(virtual_address(b"peer"), 5000);
    network.injector().stand_in(at).unwrap().send_to(b"of another host", TO).unwrap();
    assert_eq!(heard(member), (b"of another host".to_vec(), at.into()));
}

#[test]
fn rules_that_somebody_flushes_are_there_again() {
    let name = "rules_that_somebody_flushes_are_there_again";
    by_each_tool(name, CABLE, || {
        let application = member(TO, NIC);
        let sender = bound((NIC, 5000));
        let (network, captures) = opened(name);
        let mut upkeep = network.upkeep().unwrap();
        let flush: &[&str] = match support::installed("nft") {
            true => &["nft flush ruleset"],
            false => {
                &["iptables -t nat -F", "iptables -t raw -F", "iptables -t nat -F POSTROUTING"]
            }
        };
        for command in flush {
            let mut words = command.split(' ');
            let mut flush = Command::new(words.next().unwrap());
            assert!(flush.args(words).status().unwrap().success());
            let mut told = Vec::new();
            while told.is_empty() {
                told = upkeep.uphold();
            }
            assert_eq!(
                told,
                ["somebody had flushed the rules, which are there again"],
                "{command}"
            );
            for _ in 0..2 {
                sender.send_to(b"again", TO).unwrap();
                assert_eq!(pass_on(&network, &captures), SocketAddrV4::new(NIC, 5000));
                assert_eq!(heard(&application).0, b"again");
                assert!(silent(&application), "it came twice");
            }
        }
    });
}

#[test]
fn a_membership_goes_where_the_route_goes() {
    let name = "a_membership_goes_where_the_route_goes";
    support::in_namespace(name, "", || {
        let mut network = Network::open(&spec(name, Mode::Join)).unwrap();
        assert!(network.remarks()[0].starts_with("no route led to 239.0.0.2"));
        let mut upkeep = network.upkeep().unwrap();
        let captures = network.take_captures();
        let moved = |upkeep: &mut Upkeep| upkeep.uphold().len();
        assert_eq!(moved(&mut upkeep), 0);
        // A card appears, goes, and another one is there in its place.
        for card in ["va", "vc", "va"] {
            ip(&format!("link add {card} type veth peer name vb"));
            ip(&format!("addr add 10.9.0.1/24 dev {card}"));
            ip(&format!("link set {card} up"));
            ip("link set vb up");
            ip(&format!("route add default dev {card}"));
            // Both ports, and the beacons.
            assert_eq!(moved(&mut upkeep), 3);
            let sender = bound("0.0.0.0:0");
            for round in 0..3 {
                sender.send_to(&[round], TO).unwrap();
                let heard = next(&captures);
                assert_eq!((&heard.0[..], *heard.1.ip()), (&[round][..], NIC), "{card}");
                assert_eq!(moved(&mut upkeep), 0);
                // It flaps, and has another address meanwhile; the membership stays.
                ip(&format!("link set {card} down"));
                assert_eq!(moved(&mut upkeep), 0);
                ip(&format!("addr add 10.9.1.{round}/24 dev {card}"));
                ip(&format!("link set {card} up"));
                ip(&format!("route add default dev {card}"));
            }
            assert!(nothing(&captures));
            ip(&format!("link del {card}"));
        }
    });
}

#[test]
fn a_firewall_that_shuts_the_loopback_is_told_of() {
    let name = "a_firewall_that_shuts_the_loopback_is_told_of";
    if lacks(name, "iptables") {
        return;
    }
    for (chain, how) in [("OUTPUT", "refuses"), ("INPUT", "drops")] {
        by_each_tool(name, &format!("{CABLE}; iptables -P {chain} DROP; export HOW={how}"), || {
            let how = std::env::var("HOW").unwrap();
            for mode in [Mode::Redirect, Mode::Join] {
                let network = Network::open(&spec(name, mode)).unwrap();
                let told = network.remarks().iter().filter(|one| one.contains("firewall"));
                let told: Vec<&String> = told.collect();
                assert_eq!(told.len(), 1, "{:?}", network.remarks());
                assert!(told[0].contains(&format!("host {how} what is sent on lo")), "{told:?}");
            }
        });
    }
}

#[test]
fn a_firewall_that_lets_the_loopback_through_lets_all_through() {
    let name = "a_firewall_that_lets_the_loopback_through_lets_all_through";
    if lacks(name, "iptables") {
        return;
    }
    let rules = "iptables -P OUTPUT DROP; iptables -P INPUT DROP
         iptables -A OUTPUT -o lo -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT";
    by_each_tool(name, &format!("{CABLE}\n{rules}"), || {
        let (network, captures) = opened(name);
        assert_eq!(network.remarks(), [] as [&str; 0]);
        let application = member(TO, Ipv4Addr::UNSPECIFIED);
        bound("0.0.0.0:0").send_to(b"within", TO).unwrap();
        pass_on(&network, &captures);
        assert_eq!(heard(&application).0, b"within");
        stands_in_by_lo(&network, &application);
    });
}

#[test]
fn a_socket_that_is_tied_to_a_card_has_no_part_in_redirecting() {
    let name = "a_socket_that_is_tied_to_a_card_has_no_part_in_redirecting";
    by_each_tool(name, CABLE, || {
        let (network, captures) = opened(name);
        let tied = |at: &str, card: &str| {
            let socket = bound(at);
            socket2::SockRef::from(&socket).bind_device(Some(card.as_bytes())).unwrap();
            socket
        };
        let application = member(TO, Ipv4Addr::UNSPECIFIED);
        let of_card = member(TO, NIC);
        socket2::SockRef::from(&of_card).bind_device(Some(b"va")).unwrap();
        // It sends to nobody, and says nothing of that.
        tied("0.0.0.0:0", "va").send_to(b"by the card", TO).unwrap();
        tied("10.9.0.1:0", "va").send_to(b"by the card", TO).unwrap();
        // One that is tied to the loopback is one of all.
        tied("0.0.0.0:5000", "lo").send_to(b"by lo", TO).unwrap();
        let (bytes, source, to) = next(&captures);
        assert_eq!((&bytes[..], source.port()), (&b"by lo"[..], 5000));
        assert_eq!(network.injector().put_back(to, [(source, &bytes[..])].into_iter()), 0);
        assert_eq!(heard(&application).0, b"by lo");
        stands_in_by_lo(&network, &application);
        assert!(nothing(&captures) && silent(&application) && silent(&of_card));
    });
}
