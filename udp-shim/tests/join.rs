//! A `Join` on the loopback of the host as it is, with real sockets on the other side. Each test has
//! a group of its own and a port that was free.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

use common::{drained, free_port, join, member, receive, sender};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use synod_udp_shim::{
    Join, JoinError, JoinSpec, MAX_DATAGRAM_BYTES, RECEIVE_BUFFER_BYTES, Warning,
};
use tokio::io::Interest;

/// The datagrams of the burst that must come through whole, and their size.
const BURST: usize = 2_000;
const BURST_BYTES: usize = 1_400;

/// A group on a port of its own, and how it is joined on `lo`.
fn group(last: u8) -> (SocketAddrV4, String) {
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 192, 77, last), free_port());
    (group, format!("{group}%lo"))
}

/// Bytes that tell whether any was lost, moved or added.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// The groups that this host is a member of on an interface, as /proc/net/igmp lists them.
fn memberships(interface: &str) -> Vec<Ipv4Addr> {
    let mut device = "";
    let mut groups = Vec::new();
    let table = std::fs::read_to_string("/proc/net/igmp").unwrap();
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace();
        if line.starts_with(char::is_whitespace) {
            let group = u32::from_str_radix(words.next().unwrap(), 16).unwrap();
            if device == interface {
                groups.push(Ipv4Addr::from(u32::from_be(group)));
            }
        } else {
            device = words.nth(1).unwrap();
        }
    }
    groups
}

#[test]
fn every_size_arrives_whole_and_with_its_source() {
    let (group, spec) = group(1);
    let join = join(&spec);
    let (sender, from) = sender();
    let sizes = [0, 1, 1_472, 1_473, 60_000, MAX_DATAGRAM_BYTES];
    for size in sizes {
        assert_eq!(sender.send_to(&pattern(size), group).unwrap(), size);
        assert_eq!(receive(&join, 1), [(from, pattern(size))], "{size} bytes");
    }
    let counters = join.counters();
    assert_eq!(counters.datagrams, sizes.len() as u64);
    assert_eq!(counters.bytes, sizes.iter().sum::<usize>() as u64);
    assert_eq!(counters.dropped, 0);
    assert!(sender.send_to(&pattern(MAX_DATAGRAM_BYTES + 1), group).is_err(), "there are larger");
}

#[test]
fn two_groups_on_one_port_are_kept_apart() {
    let (one, one_spec) = group(2);
    let two = SocketAddrV4::new(Ipv4Addr::new(239, 192, 77, 3), one.port());
    let joins = [join(&one_spec), join(&format!("{two}%lo")), join(&one_spec)];
    let (sender, from) = sender();
    for i in 0..10 {
        sender.send_to(&[1, i], one).unwrap();
        sender.send_to(&[2, i], two).unwrap();
    }
    for (join, tag) in joins.iter().zip([1, 2, 1]) {
        let wanted: Vec<_> = (0..10).map(|i| (from, vec![tag, i])).collect();
        assert_eq!(receive(join, 10), wanted);
        assert!(drained(join));
    }
}

#[test]
fn an_application_on_the_port_loses_nothing() {
    let (group, spec) = group(4);
    let before = member(group, Ipv4Addr::LOCALHOST);
    let join = join(&spec);
    let (sender, from) = sender();

    // Unicast to the shared port is the application's, though the join is the later binder.
    let port = SocketAddrV4::new(Ipv4Addr::LOCALHOST, group.port());
    sender.send_to(b"for the application", port).unwrap();
    let mut buffer = [0; 100];
    let (len, source) = before.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], source), (&b"for the application"[..], from));

    // Multicast is for all of them, a later one too, and the join has heard nothing else.
    let after = member(group, Ipv4Addr::LOCALHOST);
    sender.send_to(b"for all", group).unwrap();
    for application in [&before, &after] {
        let (len, source) = application.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&b"for all"[..], from));
    }
    assert_eq!(receive(&join, 1), [(from, b"for all".to_vec())]);
    assert_eq!(join.counters().datagrams, 1);
}

#[test]
fn a_port_that_is_not_shared_is_named() {
    let (group, spec) = group(5);
    let _selfish = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port())).unwrap();
    let error = Join::open(&spec.parse().unwrap()).unwrap_err();
    assert!(matches!(error, JoinError::AddressInUse(port) if port == group.port()), "{error:?}");
    let port = group.port();
    assert_eq!(
        error.to_string(),
        format!(
            "UDP port {port} is held by a program that does not share it (it lacks SO_REUSEADDR); \
             `ss -ulpn 'sport = :{port}'` names it"
        )
    );
}

#[test]
fn interfaces_are_found_by_name_and_by_address() {
    let (group, _) = group(6);
    let (sender, from) = sender();
    for interface in ["lo", "127.0.0.1"] {
        let join = join(&format!("{group}%{interface}"));
        assert_eq!(memberships("lo").iter().filter(|one| *one == group.ip()).count(), 1);
        sender.send_to(interface.as_bytes(), group).unwrap();
        assert_eq!(receive(&join, 1), [(from, interface.as_bytes().to_vec())]);
        assert!(
            !join.warnings().iter().any(|one| !matches!(one, Warning::SmallBuffer(_))),
            "{:?}",
            join.warnings()
        );
        drop(join);
        assert!(!memberships("lo").contains(group.ip()), "the membership outlives its join");
    }
    for (interface, said) in
        [("nosuch0", "no interface nosuch0 here"), ("203.0.113.9", "no interface 203.0.113.9 here")]
    {
        let spec: JoinSpec = format!("{group}%{interface}").parse().unwrap();
        let error = Join::open(&spec).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("lo 127.0.0.1"), "{error}");
    }
}

#[test]
fn a_burst_that_nobody_reads_meanwhile_is_kept_whole() {
    let (group, spec) = group(8);
    let join = join(&spec);
    // The kernel charges some 2.3 kB for each, against twice the buffer.
    if join.receive_buffer().bytes < BURST * 2_400 / 2 {
        return support::skip(
            "a_burst_that_nobody_reads_meanwhile_is_kept_whole",
            &join.warnings()[0].to_string(),
        );
    }
    let (sender, from) = sender();
    let mut bytes = pattern(BURST_BYTES);
    for i in 0..BURST {
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        sender.send_to(&bytes, group).unwrap();
    }
    for (i, (source, received)) in receive(&join, BURST).into_iter().enumerate() {
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        assert!(source == from && received == bytes, "datagram {i}");
    }
    assert_eq!(join.counters().dropped, 0);
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let (group, spec) = group(9);
    let join = join(&spec);
    let (sender, _) = sender();
    let bytes = pattern(60_000);
    // Four times what the kernel will hold.
    let sent = 4 * 2 * RECEIVE_BUFFER_BYTES / bytes.len();
    for _ in 0..sent {
        sender.send_to(&bytes, group).unwrap();
    }
    while !drained(&join) {}
    let counters = join.counters();
    assert!(counters.dropped > 0, "{counters:?}");
    assert_eq!(counters.datagrams + counters.dropped, sent as u64, "{counters:?}");
    assert_eq!(join.counters(), counters, "drops are counted once");
}

#[test]
fn waiting_ends_with_a_datagram_or_with_the_time() {
    let (group, spec) = group(10);
    let join = join(&spec);
    let start = Instant::now();
    let timeout = Duration::from_millis(30);
    assert_eq!(join.recv(&mut [0; MAX_DATAGRAM_BYTES], Some(timeout)).unwrap(), None);
    assert!(start.elapsed() >= timeout);

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut buffer = [0; MAX_DATAGRAM_BYTES];
            join.recv(&mut buffer, None).unwrap().map(|datagram| datagram.bytes.to_vec())
        });
        let (sender, _) = sender();
        sender.send_to(b"wake up", group).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"wake up");
    });
}

#[tokio::test]
async fn a_reactor_drives_it_by_its_descriptor() {
    let (group, spec) = group(11);
    let join = join(&spec);
    let watched: UdpSocket = join.as_fd().try_clone_to_owned().unwrap().into();
    let watched = tokio::net::UdpSocket::from_std(watched).unwrap();
    let (sender, from) = sender();
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    for round in 0..3_u8 {
        // Nothing is there when this first asks: the reactor has to wake it, each time anew.
        let receiving = watched.async_io(Interest::READABLE, || {
            join.try_recv(&mut buffer).map(|datagram| (datagram.source, datagram.bytes.to_vec()))
        });
        let sending = async { sender.send_to(&[round], group).unwrap() };
        let (received, _) = tokio::join!(biased; receiving, sending);
        assert_eq!(received.unwrap(), (from, vec![round]));
    }
}

#[test]
fn without_privilege_the_buffer_is_what_the_system_allows_and_is_said() {
    let (_, spec) = group(12);
    // Capabilities are a thread's own, and this thread ends with the test.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mine = capabilities(None).unwrap();
            mine.effective.remove(CapabilitySet::NET_ADMIN);
            set_capabilities(None, mine).unwrap();

            let join = join(&spec);
            let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
            let allowed: usize = allowed.trim().parse().unwrap();
            let buffer = join.receive_buffer();
            assert_eq!(buffer.bytes, allowed.min(RECEIVE_BUFFER_BYTES));
            let said = join.warnings().contains(&Warning::SmallBuffer(buffer));
            assert_eq!(said, allowed < RECEIVE_BUFFER_BYTES, "{:?}", join.warnings());
        });
    });
}
