//! Redirecting in network namespaces of the tests' own: what every kind of sender sends is captured with
//! its source, put back once, never leaves, and nothing of it is left in the kernel afterwards.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

use common::{PATIENCE, member};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use synod_udp_shim::MAX_DATAGRAM_BYTES;
use synod_udp_shim::network::{Capture, MARK, Mode, Network, NetworkSpec, restore};
use synod_udp_shim::tunnel::{Groups, virtual_address};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 2);
const TO: SocketAddrV4 = SocketAddrV4::new(GROUP, 20005);
const OTHER: SocketAddrV4 = SocketAddrV4::new(GROUP, 20006);
const NIC: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Two ends of a cable: what leaves `va` is seen on `vb`.
const CABLE: &str = "ip link add va type veth peer name vb; ip addr add 10.9.0.1/24 dev va
     ip link set va up; ip link set vb up";

/// Runs a test in a namespace, if there is something to redirect with.
fn redirecting(test: &str, setup: &str, body: impl FnOnce()) {
    if !support::installed("nft") && !support::installed("iptables") {
        return support::skip(test, "neither nft nor iptables is installed");
    }
    support::in_namespace(test, setup, body);
}

fn me() -> Ipv4Addr {
    virtual_address(b"me")
}

fn state(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("synod-{name}-{}.network", std::process::id()))
}

fn spec(name: &str) -> NetworkSpec {
    let ports = vec!["20005-20006".parse().unwrap()];
    NetworkSpec {
        groups: Groups::new(vec![GROUP], ports).unwrap(),
        address: me(),
        capture: Some(Mode::Redirect),
        ttl: 0,
        tag: "test".to_owned(),
        state: state(name),
    }
}

/// The next datagram to a group, its source, and where it was sent.
fn next(captures: &[Capture]) -> (Vec<u8>, SocketAddrV4, SocketAddrV4) {
    let mut waiting: Vec<PollFd<'_>> =
        captures.iter().map(|capture| PollFd::new(capture, PollFlags::IN)).collect();
    let ready = poll(&mut waiting, Some(&PATIENCE.try_into().unwrap())).unwrap();
    assert!(ready > 0, "nothing is captured");
    let at = waiting.iter().position(|one| one.revents().contains(PollFlags::IN)).unwrap();
    let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
    let (len, source) = captures[at].try_recv(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source, captures[at].to())
}

fn nothing(captures: &[Capture]) -> bool {
    let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
    let is_empty = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    captures.iter().all(|capture| capture.try_recv(&mut buffer).is_err_and(is_empty))
}

fn heard(member: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 70_000];
    let (len, source) = member.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source)
}

fn silent(member: &UdpSocket) -> bool {
    member.set_nonblocking(true).unwrap();
    let is_silent = member.recv_from(&mut [0; 9]).is_err();
    member.set_nonblocking(false).unwrap();
    is_silent
}

fn said(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the kernel has of routes and rules.
fn kernel() -> String {
    let rules = match support::installed("nft") {
        true => said("nft", "list ruleset"),
        false => said("iptables-save", "-t nat") + &said("iptables-save", "-t raw"),
    };
    // A cable that was just plugged in comes up meanwhile, and IPv6 with it.
    let routes = said("ip", "-4 route show table all").replace(" linkdown", "");
    routes + &rules + &said("ip", "addr show dev lo")
}

#[test]
fn every_kind_of_sender_is_captured_with_its_source() {
    let name = "every_kind_of_sender_is_captured_with_its_source";
    redirecting(name, CABLE, || {
        let mut network = Network::open(&spec(name)).unwrap();
        assert_eq!((network.mode(), network.remarks()), (Mode::Redirect, &[][..]));
        let captures = network.take_captures();

        // One that chooses nothing sends from the node's virtual address. There was no route before.
        let any = UdpSocket::bind("0.0.0.0:0").unwrap();
        any.send_to(b"any", TO).unwrap();
        let from = SocketAddrV4::new(me(), any.local_addr().unwrap().port());
        assert_eq!(next(&captures), (b"any".to_vec(), from, TO));

        // The same source port to two ports is the same source.
        any.send_to(b"other", OTHER).unwrap();
        assert_eq!(next(&captures), (b"other".to_vec(), from, OTHER));

        // Bound to a card's address, by a card, and without copies for this host.
        let card = UdpSocket::bind((NIC, 5000)).unwrap();
        for (what, set) in [("bound", 0), ("by the card", 1), ("no loop", 2)] {
            let options = socket2::SockRef::from(&card);
            match set {
                1 => options.set_multicast_if_v4(&NIC).unwrap(),
                2 => options.set_multicast_loop_v4(false).unwrap(),
                _ => {}
            }
            card.send_to(what.as_bytes(), TO).unwrap();
            let from = SocketAddrV4::new(NIC, 5000);
            assert_eq!(next(&captures), (what.as_bytes().to_vec(), from, TO));
        }

        // Bound to the loopback.
        let lo = UdpSocket::bind("127.0.0.1:0").unwrap();
        lo.send_to(b"lo", TO).unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, lo.local_addr().unwrap().port());
        assert_eq!(next(&captures), (b"lo".to_vec(), from, TO));

        for len in [0, 1, 1471, 1472, 1473, 60_000, MAX_DATAGRAM_BYTES] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            card.send_to(&bytes, TO).unwrap();
            assert_eq!(next(&captures).0, bytes, "{len} bytes");
        }
        assert!(nothing(&captures));
    });
}

#[test]
fn what_is_put_back_is_heard_once_by_all_and_not_captured_again() {
    let name = "what_is_put_back_is_heard_once_by_all_and_not_captured_again";
    for filter in 0..3 {
        let test = name;
        let setup = format!("{CABLE}; sysctl -qw net.ipv4.conf.all.rp_filter={filter}");
        redirecting(test, &setup, || put_back_and_stand_in(name));
    }
}

fn put_back_and_stand_in(name: &str) {
    // One application was there before, on the card; the other comes afterwards.
    let before = member(TO, NIC);
    let mut network = Network::open(&spec(name)).unwrap();
    let captures = network.take_captures();
    let after = member(TO, Ipv4Addr::UNSPECIFIED);
    let injector = network.injector();
    let senders = [UdpSocket::bind("0.0.0.0:0").unwrap(), UdpSocket::bind((NIC, 5000)).unwrap()];
    for sender in &senders {
        // The very same addresses several times.
        for len in [5, 60_000, MAX_DATAGRAM_BYTES, 0] {
            sender.send_to(&vec![7; len], TO).unwrap();
            let (bytes, source, to) = next(&captures);
            assert_eq!(injector.put_back(to, [(source, &bytes[..])].into_iter()), 0);
            for member in [&before, &after] {
                assert_eq!(heard(member), (vec![7; len], source.into()), "{len}");
                assert!(silent(member));
            }
            assert!(nothing(&captures), "it came again");
        }
    }

    // A stand-in is heard, is not captured, and talks with both, whatever they are bound to.
    let at = SocketAddrV4::new(virtual_address(b"peer"), 5000);
    let stand_in = injector.stand_in(at).unwrap();
    assert_eq!(stand_in.local_addr().unwrap(), at.into());
    stand_in.set_nonblocking(false).unwrap();
    stand_in.set_read_timeout(Some(PATIENCE)).unwrap();
    for len in [5, 1473, MAX_DATAGRAM_BYTES] {
        stand_in.send_to(&vec![8; len], TO).unwrap();
        for member in [&before, &after] {
            assert_eq!(heard(member), (vec![8; len], at.into()));
        }
    }
    for (sender, from) in senders.iter().zip(["127.0.0.1", "10.9.0.1"]) {
        sender.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.send_to(b"answer", at).unwrap();
        let (bytes, source) = heard(&stand_in);
        assert_eq!((&bytes[..], source.ip().to_string().as_str()), (&b"answer"[..], from));
        stand_in.send_to(b"and back", source).unwrap();
        assert_eq!(heard(sender), (b"and back".to_vec(), at.into()));
    }
    assert!(nothing(&captures));
    // A second one at the same place has another port.
    let second = injector.stand_in(at).unwrap().local_addr().unwrap();
    assert_eq!(second.ip(), *at.ip());
    assert_ne!(second.port(), 5000);
}

#[test]
fn nothing_leaves_by_a_card() {
    let name = "nothing_leaves_by_a_card";
    if !support::installed("nft") {
        return support::skip(name, "nft is not installed, which counts what leaves");
    }
    let counting = "nft 'add table ip wire'
         nft 'add chain ip wire out { type filter hook postrouting priority 0; }'
         nft 'add rule ip wire out oifname va ip daddr 224.0.0.0/4 meta l4proto udp counter'";
    redirecting(name, &format!("{CABLE}\n{counting}"), || {
        let left = |count: u32| {
            said("nft", "list table ip wire").contains(&format!("counter packets {count} "))
        };
        let mut network = Network::open(&spec(name)).unwrap();
        let captures = network.take_captures();
        let card = UdpSocket::bind((NIC, 5000)).unwrap();
        card.set_multicast_ttl_v4(32).unwrap();
        card.send_to(b"captured", TO).unwrap();
        let (bytes, source, to) = next(&captures);
        // It is put back for whoever listens.
        let member = member(TO, Ipv4Addr::LOCALHOST);
        assert_eq!(network.injector().put_back(to, [(source, &bytes[..])].into_iter()), 0);
        assert_eq!(heard(&member).0, b"captured");
        let stand_in = network.injector().stand_in("127.70.0.1:1".parse().unwrap()).unwrap();
        stand_in.send_to(b"forged", TO).unwrap();
        assert!(left(0));
        // Nor does what has our mark by whatever way, as long as the rules are there.
        let marked = UdpSocket::bind((NIC, 0)).unwrap();
        socket2::SockRef::from(&marked).set_mark(MARK).unwrap();
        assert!(marked.send_to(b"marked", "239.0.0.3:9").is_err());
        assert!(marked.send_to(b"marked", "10.9.0.2:9").is_err());
        assert!(left(0));
        card.send_to(b"not carried", "239.0.0.3:9").unwrap();
        assert!(left(1), "what is not carried goes its way");
        drop(network);
        card.send_to(b"carried no more", TO).unwrap();
        assert!(left(2));
    });
}

#[test]
fn what_nobody_here_listens_to_is_not_put_back() {
    let name = "what_nobody_here_listens_to_is_not_put_back";
    if !support::installed("nft") {
        return support::skip(name, "nft is not installed, which counts what is put back");
    }
    let counting = "nft 'add table ip put'
         nft 'add chain ip put back { type filter hook output priority 0; }'
         nft 'add rule ip put back ip saddr 10.0.0.9 counter'";
    redirecting(name, counting, || {
        let network = Network::open(&spec(name)).unwrap();
        let sent = || said("nft", "list table ip put");
        let source = "10.0.0.9:5000".parse().unwrap();
        let is_put_back = || {
            let before = sent();
            assert_eq!(network.injector().put_back(TO, [(source, &b"x"[..])].into_iter()), 0);
            before != sent()
        };
        assert!(!is_put_back(), "nobody listens");
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, TO.port())).unwrap();
        assert!(!is_put_back(), "a socket of one address hears no group");
        drop(other);
        // Who binds the port hears the next one, whether it has joined or not.
        let late = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, TO.port())).unwrap();
        late.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(is_put_back());
        assert_eq!(heard(&late), (b"x".to_vec(), SocketAddr::V4(source)));
    });
}

#[test]
fn a_raw_socket_hears_what_is_put_back() {
    let name = "a_raw_socket_hears_what_is_put_back";
    redirecting(name, "", || {
        let network = Network::open(&spec(name)).unwrap();
        let all = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
        let all = UdpSocket::from(all);
        all.set_read_timeout(Some(PATIENCE)).unwrap();
        let source = "10.0.0.9:5000".parse().unwrap();
        assert_eq!(network.injector().put_back(TO, [(source, &b"x"[..])].into_iter()), 0);
        assert!(all.recv_from(&mut [0; 99]).is_ok());
    });
}

#[test]
fn a_burst_that_nobody_reads_meanwhile_is_kept() {
    let name = "a_burst_that_nobody_reads_meanwhile_is_kept";
    redirecting(name, "", || {
        let mut network = Network::open(&spec(name)).unwrap();
        let captures = network.take_captures();
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        for n in 0..2000_u32 {
            let mut bytes = vec![0; 1400];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            sender.send_to(&bytes, TO).unwrap();
        }
        for n in 0..2000_u32 {
            assert_eq!(next(&captures).0[..4], n.to_be_bytes());
        }
        assert_eq!(captures[0].dropped(), 0);
    });
}

#[test]
fn the_socket_that_is_redirected_to_cannot_be_stolen() {
    let name = "the_socket_that_is_redirected_to_cannot_be_stolen";
    redirecting(name, "", || {
        let mut network = Network::open(&spec(name)).unwrap();
        let captures = network.take_captures();
        let listening = std::fs::read_to_string("/proc/net/udp").unwrap();
        let local = |line: &str| {
            let (ip, port) = line.split_whitespace().nth(1)?.split_once(':')?;
            (ip == "0100007F").then(|| u16::from_str_radix(port, 16).unwrap())
        };
        let ports: Vec<u16> = listening.lines().filter_map(local).collect();
        assert_eq!(ports.len(), captures.len());
        for (port, ip) in ports.iter().zip([Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]) {
            let thief = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            thief.set_reuse_address(true).unwrap();
            thief.set_reuse_port(true).unwrap();
            let error = thief.bind(&SocketAddrV4::new(ip, *port).into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
    });
}

#[test]
fn many_groups_and_many_sources() {
    let name = "many_groups_and_many_sources";
    redirecting(name, "", || {
        let groups: Vec<Ipv4Addr> = (1..=40).map(|n| Ipv4Addr::new(239, 1, 0, n)).collect();
        let ports = vec!["7000".parse().unwrap()];
        let groups = Groups::new(groups, ports).unwrap();
        let mut network = Network::open(&NetworkSpec { groups, ..spec(name) }).unwrap();
        let captures = network.take_captures();
        let last: SocketAddrV4 = "239.1.0.40:7000".parse().unwrap();
        let application = member(last, Ipv4Addr::UNSPECIFIED);
        for n in 0..40_u8 {
            let source = UdpSocket::bind("0.0.0.0:0").unwrap();
            source.send_to(&[n], last).unwrap();
            let (bytes, from, to) = next(&captures);
            assert_eq!((&bytes[..], to), (&[n][..], last));
            assert_eq!(network.injector().put_back(to, [(from, &bytes[..])].into_iter()), 0);
            assert_eq!(heard(&application).1, from.into());
        }
    });
}

#[test]
fn the_kernel_is_as_it_was_when_it_is_closed() {
    let name = "the_kernel_is_as_it_was_when_it_is_closed";
    let others = "nft add table ip docker; \
         nft 'add chain ip docker out { type nat hook output priority -100; }'; \
         nft 'add rule ip docker out fib daddr type local tcp dport 99 redirect to :98'";
    let others = if support::installed("nft") { others } else { "" };
    redirecting(name, &format!("{CABLE}; {others}"), || {
        let before = kernel();
        let sender = UdpSocket::bind((NIC, 5000)).unwrap();
        let application = member(TO, NIC);
        // A flow that is tracked already, because somebody else has rules, obeys the new ones at once.
        sender.send_to(b"before", TO).unwrap();
        assert_eq!(heard(&application).0, b"before");
        for _ in 0..2 {
            let mut network = Network::open(&spec(name)).unwrap();
            let captures = network.take_captures();
            assert_ne!(kernel(), before);
            assert!(state(name).exists());
            sender.send_to(b"during", TO).unwrap();
            assert_eq!(next(&captures).0, b"during");
            drop(network);
            assert_eq!(kernel(), before);
            assert!(!state(name).exists());
            // And goes its way again as soon as they are gone.
            sender.send_to(b"after", TO).unwrap();
            assert_eq!(heard(&application).0, b"after");
        }
    });
}

#[test]
fn what_a_killed_process_left_is_taken_out() {
    let name = "what_a_killed_process_left_is_taken_out";
    redirecting(name, CABLE, || {
        let before = kernel();
        let kept = state("kept");
        let network = Network::open(&spec(name)).unwrap();
        std::fs::copy(state(name), &kept).unwrap();
        // As a kill would leave it.
        std::mem::forget(network);
        assert_ne!(kernel(), before);
        assert!(restore(&kept).unwrap());
        assert_eq!(kernel(), before);
        assert!(!kept.exists());
        assert!(!restore(&kept).unwrap(), "there is nothing more");
        // What was taken out by hand meanwhile is no error.
        assert!(restore(&state(name)).unwrap());
        assert_eq!(kernel(), before);
    });
}

#[test]
fn a_route_that_two_tunnels_need_goes_with_the_last_of_them() {
    let name = "a_route_that_two_tunnels_need_goes_with_the_last_of_them";
    redirecting(name, CABLE, || {
        let folder = std::env::temp_dir().join(format!("synod-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let spec = |tag: &str, port: &str| NetworkSpec {
            groups: Groups::new(vec![GROUP], vec![port.parse().unwrap()]).unwrap(),
            tag: tag.to_owned(),
            state: folder.join(tag).with_extension("state"),
            ..spec(name)
        };
        let before = kernel();
        let first = Network::open(&spec("one", "20005")).unwrap();
        let mut second = Network::open(&spec("two", "20006")).unwrap();
        drop(first);
        let captures = second.take_captures();
        let any = UdpSocket::bind("0.0.0.0:0").unwrap();
        any.send_to(b"still", SocketAddrV4::new(GROUP, 20006)).unwrap();
        assert_eq!(next(&captures).0, b"still");
        drop(second);
        assert_eq!(kernel(), before);
        std::fs::remove_dir(&folder).unwrap();
    });
}

#[test]
fn a_route_that_is_there_is_left_alone() {
    let name = "a_route_that_is_there_is_left_alone";
    redirecting(name, &format!("{CABLE}; ip route add 239.0.0.2/32 dev va"), || {
        let before = kernel();
        let mut network = Network::open(&spec(name)).unwrap();
        assert!(network.remarks()[0].contains("a route to 239.0.0.2 already"));
        let captures = network.take_captures();
        let any = UdpSocket::bind("0.0.0.0:0").unwrap();
        any.send_to(b"by the card", TO).unwrap();
        assert_eq!(*next(&captures).1.ip(), NIC);
        drop(network);
        assert_eq!(kernel(), before);
    });
}

#[test]
fn without_privilege_it_says_what_is_missing_and_joins() {
    let name = "without_privilege_it_says_what_is_missing_and_joins";
    redirecting(name, "ip route add 239.0.0.0/8 dev lo", || {
        let mut mine = rustix::thread::capabilities(None).unwrap();
        mine.effective.remove(rustix::thread::CapabilitySet::NET_RAW);
        rustix::thread::set_capabilities(None, mine).unwrap();
        let error = Network::open(&spec(name)).unwrap_err().to_string();
        assert!(error.contains("CAP_NET_RAW") && error.contains("setcap"), "{error}");
        let auto = NetworkSpec { capture: None, ..spec(name) };
        let mut network = Network::open(&auto).unwrap();
        assert_eq!(network.mode(), Mode::Join);
        assert!(
            network.remarks()[0].contains("by join, because redirect cannot be: it needs CAP_")
        );
        let captures = network.take_captures();
        let any = UdpSocket::bind("0.0.0.0:0").unwrap();
        any.send_to(b"joined", TO).unwrap();
        assert_eq!(next(&captures).0, b"joined");
        assert!(!Path::new(&state(name)).exists());
    });
}

#[test]
fn iptables_does_the_same() {
    let name = "iptables_does_the_same";
    if !support::installed("iptables") {
        return support::skip(name, "iptables is not installed");
    }
    redirecting(name, "", || {
        // It may find nothing else, so it starts itself again on a path of its own.
        if !support::installed("nft") {
            return by_iptables();
        }
        let folder = std::env::temp_dir().join(format!("synod-path-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let real = std::env::split_paths(&path).map(|one| one.join("iptables"));
        let real = real.into_iter().find(|one| one.is_file()).unwrap();
        std::os::unix::fs::symlink(&real, folder.join("iptables")).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("PATH", &folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rules = said("iptables-save", "-t nat") + &said("iptables-save", "-t raw");
        assert!(rules.contains("OUTPUT") && !rules.contains("synod"), "{rules}");
    });
}

fn by_iptables() {
    let mut network = Network::open(&spec("iptables")).unwrap();
    let captures = network.take_captures();
    let application = member(TO, Ipv4Addr::UNSPECIFIED);
    let any = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..3 {
        any.send_to(b"by iptables", TO).unwrap();
        let (bytes, source, to) = next(&captures);
        assert_eq!(*source.ip(), me());
        assert_eq!(network.injector().put_back(to, [(source, &bytes[..])].into_iter()), 0);
        assert_eq!(heard(&application), (b"by iptables".to_vec(), source.into()));
        assert!(nothing(&captures));
    }
}
