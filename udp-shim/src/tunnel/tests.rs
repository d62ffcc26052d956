//! Two nodes' tunnels against each other, and a peer that lies.

use super::*;
use proptest::prelude::*;

const A: &[u8] = b"alpha";
const B: &[u8] = b"beta";
const GROUP: &str = "239.0.0.2:20005";
const NOW: Duration = Duration::from_secs(1);

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn groups() -> Groups {
    Groups::new(vec![Ipv4Addr::new(239, 0, 0, 2)], vec!["20005-20006".parse().unwrap()]).unwrap()
}

/// A tunnel of one node with the other as its peer.
fn tunnel(me: &[u8], peer: &[u8]) -> Tunnel {
    let mut tunnel = Tunnel::new(groups(), me, 1);
    tunnel.add_peer(NOW, peer).unwrap();
    tunnel
}

fn head(of: &[u8], boot: u64, sequence: u64) -> Head<'static> {
    Head { capturer: virtual_address(of), boot, tunnel: "t", sequence }
}

fn carried(source: &str, to: &str) -> Carried<'static> {
    Carried { source: at(source), to: at(to), bytes: b"x" }
}

fn drops(tunnel: &Tunnel) -> Vec<(&'static str, u64)> {
    tunnel.counters().drops.iter().map(|(reason, n)| (reason.name(), *n)).collect()
}

#[test]
fn a_request_goes_there_and_its_answer_comes_back_to_who_asked() {
    let (mut a, mut b) = (tunnel(A, B), tunnel(B, A));
    let asked = a.captured(NOW, at("10.0.0.1:5000"), at(GROUP), 4).unwrap();
    assert_eq!(asked, Captured { source: at("10.0.0.1:5000"), sequence: 0 });

    let there = carried("10.0.0.1:5000", GROUP);
    let delivery = b.received(NOW, A, &head(A, 1, 0), 0, &there).unwrap();
    assert_eq!(delivery.to, at(GROUP));
    assert_eq!(delivery.open, Some(SocketAddrV4::new(virtual_address(A), 5000)));

    // An application of the same address there answers.
    let answer = b.answered(NOW, delivery.stand_in, at("10.0.0.1:5000"), 1).unwrap();
    assert_eq!((answer.capturer, answer.to), (virtual_address(A), at("10.0.0.1:5000")));
    let back = Carried { source: answer.source, to: answer.to, bytes: b"y" };
    let delivered = a.received(NOW, B, &head(B, 1, answer.sequence), 0, &back).unwrap();
    assert_eq!(delivered.to, at("10.0.0.1:5000"));
    assert_eq!(delivered.open, Some(SocketAddrV4::new(virtual_address(B), 5000)));

    // And is answered by its stand-in.
    let again = a.answered(NOW, delivered.stand_in, at("10.0.0.1:5000"), 1).unwrap();
    let there = Carried { source: again.source, to: again.to, bytes: b"z" };
    let last = b.received(NOW, A, &head(A, 1, again.sequence), 0, &there).unwrap();
    assert_eq!((last.stand_in, last.to), (delivery.stand_in, at("10.0.0.1:5000")));
    assert_eq!((drops(&a), drops(&b)), (vec![], vec![]));
}

#[test]
fn what_stand_ins_send_is_not_captured_and_they_do_not_talk_to_each_other() {
    let mut b = tunnel(B, A);
    let delivery = b.received(NOW, A, &head(A, 1, 0), 0, &carried("10.0.0.1:5", GROUP)).unwrap();
    let stand_in = delivery.open.unwrap();
    assert_eq!(b.captured(NOW, stand_in, at(GROUP), 1), None);
    assert_eq!(b.answered(NOW, delivery.stand_in, stand_in, 1), None);
    assert_eq!(drops(&b), [("echo", 2)]);
    // Its own applications send from its own address.
    let own = SocketAddrV4::new(virtual_address(B), 5);
    assert_eq!(b.captured(NOW, own, at(GROUP), 1).unwrap().source, own);
}

#[test]
fn a_peer_speaks_for_itself_alone() {
    let mut b = tunnel(B, A);
    let good = carried("10.0.0.1:5", GROUP);
    assert_eq!(b.received(NOW, A, &head(b"gamma", 1, 0), 0, &good), None, "as another");
    assert_eq!(b.received(NOW, b"gamma", &head(b"gamma", 1, 0), 0, &good), None, "a stranger");
    assert_eq!(b.received(NOW, A, &head(B, 1, 0), 0, &good), None, "as this node");
    assert_eq!(drops(&b), [("forged", 3)]);
    let c = virtual_address(b"gamma");
    for source in ["239.0.0.2:5", "255.255.255.255:5", "0.0.0.0:5", "127.0.0.1:5", "10.0.0.1:0"] {
        assert_eq!(b.received(NOW, A, &head(A, 1, 0), 0, &carried(source, GROUP)), None);
    }
    let as_other = Carried { source: SocketAddrV4::new(c, 5), ..good };
    assert_eq!(b.received(NOW, A, &head(A, 1, 0), 0, &as_other), None);
    assert_eq!(drops(&b), [("forged", 3), ("source", 6)]);
}

#[test]
fn nothing_is_sent_but_to_the_groups_and_to_who_was_captured() {
    let mut b = tunnel(B, A);
    b.captured(NOW, at("10.0.0.9:7"), at(GROUP), 1).unwrap();
    let to = |to| carried("10.0.0.1:5", to);
    let mut sequence = 0;
    let mut receive = |carried: Carried<'_>| {
        sequence += 1;
        b.received(NOW, A, &head(A, 1, sequence), 0, &carried).map(|delivery| delivery.to)
    };
    for other in ["239.0.0.2:20007", "239.0.0.3:20005", "224.0.0.251:5353"] {
        assert_eq!(receive(to(other)), None, "{other}");
    }
    for other in ["10.0.0.9:8", "10.0.0.8:7", "127.0.0.1:7", "255.255.255.255:7", "8.8.8.8:53"] {
        assert_eq!(receive(to(other)), None, "{other}");
    }
    assert_eq!(receive(to("10.0.0.9:7")), Some(at("10.0.0.9:7")));
    assert_eq!(receive(to("239.0.0.2:20006")), Some(at("239.0.0.2:20006")));
    assert_eq!(drops(&b), [("unknown_source", 5), ("not_carried", 3)]);
    assert_eq!(b.stand_ins(), 1, "what is refused takes no room");
}

#[test]
fn a_datagram_is_delivered_once_and_equal_ones_twice() {
    let mut b = tunnel(B, A);
    let mut receive = |boot, sequence, nth| {
        b.received(NOW, A, &head(A, boot, sequence), nth, &carried("10.0.0.1:5", GROUP)).is_some()
    };
    assert!(receive(1, 7, 0) && receive(1, 7, 1));
    assert!(!receive(1, 8, 0) && !receive(1, 7, 1));
    assert!(receive(2, 0, 0), "it has started again");
    assert!(!receive(1, 9, 0));
    assert_eq!(drops(&b), [("duplicate", 2), ("stale", 1)]);
}

#[test]
fn a_peer_that_sends_too_much_is_cut_and_others_are_not() {
    let mut b = tunnel(B, A);
    b.add_peer(NOW, b"gamma").unwrap();
    let taken = (0..MAX_DATAGRAMS_PER_SECOND)
        .filter(|n| b.received(NOW, A, &head(A, 1, *n), 0, &carried("10.0.0.1:5", GROUP)).is_some())
        .count() as u64;
    assert_eq!(taken, MAX_DATAGRAMS_PER_SECOND / 4);
    assert_eq!(drops(&b), [("rate", MAX_DATAGRAMS_PER_SECOND - taken)]);
    let other = head(b"gamma", 1, 0);
    assert!(b.received(NOW, b"gamma", &other, 0, &carried("10.0.0.1:5", GROUP)).is_some());
}

#[test]
fn peers_are_so_many_and_none_has_anothers_address() {
    let mut tunnel = Tunnel::new(groups(), A, 1);
    assert_eq!(tunnel.add_peer(NOW, A), Err(PeerError::SameAddress(virtual_address(A))));
    let mut ids = (0..).map(|n: u32| n.to_be_bytes());
    while tunnel.peers.len() < MAX_PEERS {
        let _ = tunnel.add_peer(NOW, &ids.next().unwrap());
    }
    assert_eq!(tunnel.add_peer(NOW, B), Err(PeerError::TooMany));
    let id = 0_u32.to_be_bytes();
    assert!(tunnel.add_peer(NOW, &id).is_ok(), "who is there stays");
    tunnel.remove_peer(&id);
    assert!(tunnel.add_peer(NOW, B).is_ok());
}

#[test]
fn a_stand_in_outlives_its_peers_absence_and_not_an_hour() {
    let mut b = tunnel(B, A);
    let first = b.received(NOW, A, &head(A, 1, 0), 0, &carried("10.0.0.1:5", GROUP)).unwrap();
    b.remove_peer(A);
    b.add_peer(NOW, A).unwrap();
    let again = b.received(NOW, A, &head(A, 2, 0), 0, &carried("10.0.0.1:5", GROUP)).unwrap();
    assert_eq!((again.stand_in, again.open), (first.stand_in, None));
    assert_eq!(b.expire(NOW + IDLE), [first.stand_in]);
    // Used after that, the first datagram arrives.
    let later = NOW + IDLE * 2;
    let anew = b.received(later, A, &head(A, 2, 1), 0, &carried("10.0.0.1:5", GROUP)).unwrap();
    assert!(anew.open.is_some());
}

proptest! {
    /// Whatever a peer sends, what comes of it goes to a group of the tunnel or to who was captured.
    #[test]
    fn no_peer_makes_this_node_send_elsewhere(
        frames in prop::collection::vec(
            (any::<bool>(), 0..3_u64, 0..64_u64, any::<u32>(), 0..4_u16, any::<u32>(), 0..8_u16, 0..6_u8), 0..200),
    ) {
        let mut b = tunnel(B, A);
        let captured = at("10.0.0.9:7");
        b.captured(NOW, captured, at(GROUP), 1).unwrap();
        for (honest, boot, sequence, source, port, to, to_port, kind) in frames {
            let to_ip = match kind {
                0 => Ipv4Addr::from(to),
                1 => *captured.ip(),
                _ => Ipv4Addr::new(239, 0, 0, 2),
            };
            let to = SocketAddrV4::new(to_ip, if kind > 2 { 20_003 + to_port } else { to_port });
            let source = SocketAddrV4::new(source.into(), port);
            let head = Head { tunnel: "t", capturer: if honest { virtual_address(A) } else { source.ip().to_owned() }, boot, sequence };
            let delivered = b.received(NOW, A, &head, 0, &Carried { source, to, bytes: b"" });
            if let Some(delivery) = delivered {
                prop_assert!(honest || *source.ip() == virtual_address(A));
                prop_assert!(groups().contains(delivery.to) || delivery.to == captured);
            }
        }
    }
}
