//! Programs that people have, on hosts that share nothing but a tunnel: none of them knows of it.

use crate::support::{installed, skip};
use crate::tunnels::{Hosts, heard, hosts, pattern};
use crate::world::{PATIENCE, Process, wait_for};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;

/// Whether a Python has a module.
fn has_module(module: &str) -> bool {
    let has = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    has.is_ok_and(|output| output.status.success())
}

/// Hosts with a tunnel of this group and port between them.
fn hosts_for(test: &str, count: usize, group: &str, ports: &str, ttl: u8) -> Option<Hosts> {
    let hosts = hosts(test, count)?;
    hosts.add_everywhere(&json!({"groups": [group], "ports": [ports], "ttl": ttl}));
    Some(hosts)
}

/// A program on a host, in Python.
fn python(hosts: &Hosts, n: usize, text: &str) -> Process {
    let file = hosts.worlds[n].program("app.py", text);
    let mut command = hosts.sites.inside(n, "python3");
    command.args(["-u", &file]).env("CYCLONEDDS_URI", DDS_ON_LO);
    Process::start(command, true)
}

/// Offers a service, and says so.
const MDNS_OFFERS: &str = r#"
import socket, time
from zeroconf import ServiceInfo, Zeroconf, InterfaceChoice
z = Zeroconf(interfaces=["10.78.0.2"])
z.register_service(ServiceInfo("_synod._tcp.local.", "first._synod._tcp.local.", port=4001,
    addresses=[socket.inet_aton("10.78.0.2")], server="first.local.", properties={"a": "b"}))
print("offered")
time.sleep(1000)
"#;

/// Looks for it, while another program has the port already.
const MDNS_LOOKS: &str = r#"
import socket, time
from zeroconf import Zeroconf
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
other.bind(("0.0.0.0", 5353))
z = Zeroconf(interfaces=["10.78.1.2"])
while True:
    found = z.get_service_info("_synod._tcp.local.", "first._synod._tcp.local.", 1000)
    if found: break
print("found", found.port, found.server, found.properties)
"#;

#[test]
fn mdns_finds_a_service_of_another_host() {
    let test = "multicast_apps::mdns_finds_a_service_of_another_host";
    if !has_module("zeroconf") {
        return skip(test, "Python has no module zeroconf (Debian's python3-zeroconf)");
    }
    let Some(hosts) = hosts_for(test, 2, "224.0.0.251", "5353", 255) else { return };
    let mut offers = python(&hosts, 0, MDNS_OFFERS);
    offers.until("offered");
    let mut looks = python(&hosts, 1, MDNS_LOOKS);
    let found = looks.until("found");
    assert!(found.contains("4001 first.local.") && found.contains("b'a'"), "{found}");
    assert_eq!(looks.wait(), 0);
}

/// Answers searches by unicast, as devices do.
const SSDP_DEVICE: &str = r#"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 1900))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.255.255.250") + socket.inet_aton("0.0.0.0"))
print("listening")
while True:
    text, asker = s.recvfrom(65535)
    if text.startswith(b"M-SEARCH"):
        s.sendto(b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\nLOCATION: http://10.78.0.2:80/d.xml\r\n"
                 b"SERVER: synod test\r\nST: upnp:rootdevice\r\nUSN: uuid:1234::upnp:rootdevice\r\n\r\n", asker)
        print("asked by", asker[0])
"#;

const SSDP_SEARCH: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
while True:
    s.sendto(b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n', ("239.255.255.250", 1900))
    try:
        text, device = s.recvfrom(65535)
        break
    except TimeoutError:
        pass
print("found", text.split(b"\r\n")[3].decode(), "at", device[0])
"#;

#[test]
fn ssdp_searches_are_answered_by_unicast() {
    let test = "multicast_apps::ssdp_searches_are_answered_by_unicast";
    if !installed("python3") {
        return skip(test, "python3 is not installed");
    }
    let Some(hosts) = hosts_for(test, 2, "239.255.255.250", "1900", 0) else { return };
    let mut device = python(&hosts, 0, SSDP_DEVICE);
    device.until("listening");
    let mut search = python(&hosts, 1, SSDP_SEARCH);
    let found = search.until("found");
    let [device_there, searcher_there] =
        [1, 0].map(|n| hosts.tunnel(n)["peers"][0]["address"].as_str().unwrap().to_owned());
    assert_eq!(found, format!("found LOCATION: http://10.78.0.2:80/d.xml at {device_there}"));
    device.until(&format!("asked by {searcher_there}"));
}

fn member(group: SocketAddrV4) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, group.port()).into()).unwrap();
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// It looks at where things come in, and leaves out what does not come in by its own interface.
const DDS_ON_LO: &str =
    r#"<General><Interfaces><NetworkInterface name="lo" multicast="true"/></Interfaces></General>"#;

/// Says when it has discovered another.
const DDS: &str = r#"
import time, sys
from cyclonedds.domain import DomainParticipant
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant
p = DomainParticipant(0)
r = BuiltinDataReader(p, BuiltinTopicDcpsParticipant)
known = set()
print("ready")
while True:
    for sample in r.take(9):
        known.add(str(sample.key))
    if len(known) > 1:
        break
    time.sleep(0.05)
print("discovered")
time.sleep(1000)
"#;

#[test]
fn participants_of_dds_discover_each_other() {
    let test = "multicast_apps::participants_of_dds_discover_each_other";
    if !has_module("cyclonedds") {
        return skip(test, "Python has no module cyclonedds (PyPI's cyclonedds)");
    }
    let Some(hosts) = hosts_for(test, 2, "239.255.0.1", "7400-7401", 0) else { return };
    let mut all = [0, 1].map(|n| python(&hosts, n, DDS));
    for one in &mut all {
        one.until("discovered");
    }
}

#[test]
fn a_run_of_rtp_comes_whole_and_in_order() {
    let test = "multicast_apps::a_run_of_rtp_comes_whole_and_in_order";
    let to: SocketAddrV4 = "239.1.2.3:5004".parse().unwrap();
    let Some(hosts) = hosts_for(test, 2, "239.1.2.3", "5004-5005", 0) else { return };
    let member = hosts.sites.on(1, || member(to));
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&member, 16 << 20).unwrap();
    let sender = hosts.socket(0, "0.0.0.0:0");
    sender.set_multicast_ttl_v4(32).unwrap();
    let packet = |sequence: u16| {
        let mut packet = pattern(1400);
        // Version 2, payload 96, its number, a clock of 90 kHz, and its source (RFC 3550).
        packet[..2].copy_from_slice(&[0x80, 96]);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(sequence) * 3000).to_be_bytes());
        packet[8..12].copy_from_slice(&7_u32.to_be_bytes());
        packet
    };
    // As a film is sent: some packets a frame, and the numbers begin anew.
    let numbers = || (0..3000_u16).map(|n| n.wrapping_add(u16::MAX - 1000));
    for (n, sequence) in numbers().enumerate() {
        sender.send_to(&packet(sequence), to).unwrap();
        if n % 20 == 19 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    let mut source = None;
    for sequence in numbers() {
        let (bytes, from) = heard(&member);
        assert_eq!(bytes, packet(sequence), "{sequence}");
        assert_eq!(*source.get_or_insert(from), from);
    }
    assert_eq!(hosts.tunnel(1)["drops"], json!({}));
}

/// A quorum that hosts join late, leave and come back to. Nobody sets while another reads what it has not
/// heard of, for that sets, too.
const PAXOS: &str = ":- use_module(library(udp_broadcast)).
:- use_module(library(paxos)).
:- use_module(library(settings)).
:- multifile paxos:paxos_message_hook/3.
:- dynamic here/1.
paxos:paxos_message_hook(P, -, udp(paxos, P)) :- !.
paxos:paxos_message_hook(P, TMO, udp(paxos, P, TMO)).
say(T) :- print(T), nl, flush_output.
until(G) :- ( catch(G, _, fail) -> true ; sleep(0.02), until(G) ).
start(N) :-
    set_setting(paxos:response_timeout, 0.5),
    udp_broadcast_initialize(ip(239,0,0,2), [method(multicast), scope(paxos)]),
    listen(demo, name(N), true),
    listen(demo, here(M), assertz(here(M))),
    paxos_initialize([node(N)]), say(ready).
quorum(N) :- paxos_property(quorum(Q)), N is popcount(Q).
sets(From, To) :- forall(between(From, To, V), ( paxos_set(count, V) -> true ; say(failed(V)), halt(1) )).
serve(N) :- start(N), thread_get_message(never).
joins(N) :-
    start(N), until(paxos_get(count, V)), say(got(V)), broadcast(udp(paxos, here(N))),
    until((paxos_get(count, W), W > V)), say(told(W)), thread_get_message(never).
lead(N) :-
    start(N), until(quorum(3)), sets(1, 50), say(three),
    until(here(3)), until(quorum(4)), sets(51, 100), say(four),
    until(here(1)), until(quorum(4)), sets(101, 150), say(again),
    findall(A-F, broadcast_request(udp(paxos, name(A):F, 1)), AFs),
    pairs_keys(AFs, As), msort(As, Sorted), say(answers(Sorted)),
    pairs_values(AFs, Fs), sort(Fs, Different), length(Different, Count), say(sources(Count)),
    thread_get_message(never).
";

fn swipl(hosts: &Hosts, n: usize, goal: &str) -> Process {
    let file = hosts.worlds[n].program("quorum.pl", PAXOS);
    let mut command = hosts.sites.inside(n, "swipl");
    command.args(["-q", "-g", goal, "-t", "halt", &file]);
    Process::start(command, true)
}

#[test]
fn a_quorum_of_swi_prologs_is_joined_late_and_come_back_to() {
    let test = "multicast_apps::a_quorum_of_swi_prologs_is_joined_late_and_come_back_to";
    if !installed("swipl") {
        return skip(test, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    let Some(mut hosts) = hosts(test, 4) else { return };
    let all_open = |hosts: &Hosts, on: &[usize]| {
        wait_for("the peers of the tunnel", || {
            on.iter().all(|n| {
                let tunnel = hosts.tunnel(*n);
                let peers = tunnel["peers"].as_array().unwrap();
                peers.len() + 1 == on.len() && peers.iter().all(|peer| peer["open"] == true)
            })
        });
    };
    (0..3).for_each(|n| drop(hosts.add(n, json!({}))));
    all_open(&hosts, &[0, 1, 2]);
    let mut serving = [1, 2].map(|n| {
        let mut process = swipl(&hosts, n, &format!("serve({n})"));
        process.until("ready");
        process
    });
    let mut lead = swipl(&hosts, 0, "lead(0)");
    lead.until("three");

    // A fourth host has no tunnel until now.
    hosts.add(3, json!({}));
    all_open(&hosts, &[0, 1, 2, 3]);
    let mut late = swipl(&hosts, 3, "joins(3)");
    late.until("got(50)");
    lead.until("four");
    late.until("told(");

    // One leaves with its node, and comes back.
    drop(std::mem::replace(&mut serving[0], late));
    hosts.nodes[1].take().unwrap().kill();
    hosts.start(1);
    all_open(&hosts, &[0, 1, 2, 3]);
    let mut back = swipl(&hosts, 1, "joins(1)");
    back.until("got(100)");
    lead.until("again");
    back.until("told(");
    lead.until("answers([0,1,2,3])");
    lead.until("sources(4)");
}
