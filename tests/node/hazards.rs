//! What happens to hosts while a tunnel runs: cards flap, addresses change, rules and routes go, sources are
//! silent for long, and anything at all is sent.

use crate::random::Random;
use crate::support::installed;
use crate::tunnels::{GROUP, TO, heard, hosts, said, silent};
use crate::world::{SYNOD, wait_for};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Sends until it is heard, as what is carried while a way is interrupted is lost; gives its source.
fn sent_until_heard(from: &UdpSocket, by: &UdpSocket, text: &str) -> SocketAddr {
    by.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut source = None;
    wait_for(text, || {
        from.send_to(text.as_bytes(), TO).unwrap();
        let mut buffer = [0; 99];
        while let Ok((len, from)) = by.recv_from(&mut buffer) {
            if &buffer[..len] == text.as_bytes() {
                source = Some(from);
            }
        }
        source.is_some()
    });
    by.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
    source.unwrap()
}

#[test]
fn cards_flap_and_a_source_stays_what_it_is() {
    let test = "hazards::cards_flap_and_a_source_stays_what_it_is";
    for capture in ["redirect", "join"] {
        let Some(hosts) = hosts(test, 2) else { return };
        hosts.add_everywhere(&json!({ "capture": capture }));
        let member = hosts.member(1);
        let private = hosts.socket(0, "0.0.0.0:5000");
        let source = sent_until_heard(&private, &member, "before");
        for round in 0..2 {
            for n in [0, 1] {
                hosts.sites.change(n, "link set eth down");
                hosts.sites.change(n, "link set eth up");
                // What manages the network puts it there again.
                hosts.sites.change(n, &format!("route add default via 10.78.{n}.1"));
            }
            let text = format!("after {round}");
            assert_eq!(sent_until_heard(&private, &member, &text), source, "{capture}");
        }
    }
}

#[test]
fn a_host_gets_another_address_and_is_heard_as_the_same() {
    let test = "hazards::a_host_gets_another_address_and_is_heard_as_the_same";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let members = [hosts.member(0), hosts.member(1)];
    let private = hosts.socket(0, "0.0.0.0:5000");
    let source = sent_until_heard(&private, &members[1], "before");
    hosts.sites.change(0, "addr del 10.78.0.2/24 dev eth");
    hosts.sites.change(0, "addr add 10.78.0.77/24 dev eth");
    hosts.sites.change(0, "route add default via 10.78.0.1");
    // Here it is heard all the time.
    private.send_to(b"meanwhile", TO).unwrap();
    while heard(&members[0]).0 != b"meanwhile" {}
    assert_eq!(sent_until_heard(&private, &members[1], "after"), source);
    // And it is answered, and hears the other, as soon as that has found the new way.
    private.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    wait_for("an answer", || {
        members[1].send_to(b"answer", source).unwrap();
        private.recv_from(&mut [0; 99]).is_ok()
    });
    let other = hosts.socket(1, "0.0.0.0:0");
    sent_until_heard(&other, &members[0], "of the other");
}

#[test]
fn what_others_take_out_of_the_kernel_is_there_again() {
    let test = "hazards::what_others_take_out_of_the_kernel_is_there_again";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:5000");
    let source = sent_until_heard(&private, &member, "before");
    let before = hosts.sites.kernel(0);
    hosts.sites.change(0, &format!("route del {GROUP}"));
    assert!(hosts.sites.inside(0, "nft").args(["flush", "ruleset"]).status().unwrap().success());
    assert_ne!(hosts.sites.kernel(0), before);
    wait_for("the rules and the route", || hosts.sites.kernel(0) == before);
    assert_eq!(sent_until_heard(&private, &member, "after"), source);
    hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    assert!(!hosts.sites.kernel(0).contains("synod"));
}

#[test]
fn who_was_silent_for_long_is_heard_at_once_and_as_the_same() {
    let test = "hazards::who_was_silent_for_long_is_heard_at_once_and_as_the_same";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({"idle_ms": 1000}));
    assert_eq!(hosts.tunnel(0)["idle_ms"], 1000);
    let member = hosts.member(1);
    let private = hosts.socket(0, "172.21.0.2:5000");
    let mut source = None;
    for round in 0..2 {
        // The first is carried, and is heard.
        private.send_to(b"first", TO).unwrap();
        let (bytes, from) = heard(&member);
        assert_eq!(bytes, b"first");
        assert_eq!(*source.get_or_insert(from), from, "{round}");
        member.send_to(b"answer", from).unwrap();
        assert_eq!(heard(&private).0, b"answer");
        let known = || {
            let of = |n: usize, what: &str| hosts.tunnel(n)[what].as_u64().unwrap();
            [of(0, "sources"), of(0, "stand_ins"), of(1, "sources"), of(1, "stand_ins")]
        };
        assert_eq!(known(), [1, 1, 1, 1]);
        wait_for("all of them to be forgotten", || known() == [0; 4]);
        // Nobody answers whom nobody knows any more.
        let kind = member.send_to(b"too late", from).map_err(|e| e.kind());
        assert!(kind.is_ok() || kind == Err(std::io::ErrorKind::ConnectionRefused), "{kind:?}");
        assert!(silent(&private));
    }
    let (code, refused) = hosts
        .node(0)
        .ask(
            "POST",
            "/v1/tunnels",
            &json!({"name": "u", "groups": ["239.0.0.9"], "ports": ["1"], "idle_ms": 10}),
        )
        .unwrap();
    assert_eq!(code, 400, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("no less than 1s"), "{refused}");
}

#[test]
fn a_firewall_that_shuts_the_loopback_is_told_of() {
    let test = "hazards::a_firewall_that_shuts_the_loopback_is_told_of";
    let Some(hosts) = hosts(test, 1) else { return };
    if !installed("iptables") {
        return crate::support::skip(test, "iptables is not installed");
    }
    let doctor = || said(hosts.sites.inside(0, SYNOD), &["doctor"], &hosts.worlds[0].data).1;
    assert!(!doctor().contains("firewall"));
    let shut = ["-A", "INPUT", "-i", "lo", "-p", "udp", "-j", "DROP"];
    assert!(hosts.sites.inside(0, "iptables").args(shut).status().unwrap().success());
    let text = doctor();
    assert!(text.contains("warn network: a firewall of this host drops"), "{text}");
    let added = hosts.add(0, json!({}));
    assert!(added["remarks"][0].as_str().unwrap().contains("firewall"), "{added}");
}

/// Datagrams that are sent, and sources that they are sent from.
const DATAGRAMS: usize = 100_000;
const SOURCES: usize = 10_000;

#[test]
fn datagrams_of_any_bytes_from_any_number_of_sources_leave_nothing_behind() {
    let test = "hazards::datagrams_of_any_bytes_from_any_number_of_sources_leave_nothing_behind";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({"idle_ms": 1000}));
    let pids = [0, 1].map(|n| hosts.node(n).pid());
    let files = |n: usize| std::fs::read_dir(format!("/proc/{}/fd", pids[n])).unwrap().count();
    let members = [hosts.member(0), hosts.member(1)];
    let mut random = Random::new(11);
    // What there is once it has run.
    let private = hosts.socket(0, "0.0.0.0:0");
    sent_until_heard(&private, &members[1], "warm");
    let before = [files(0), files(1)];
    let (mut most, mut memory) = ([0; 2], [[0; 2]; 2]);
    for half in &mut memory {
        for source in 0..SOURCES / 2 {
            let from = usize::from(random.below(4) == 0);
            let socket = hosts.socket(from, "0.0.0.0:0");
            for _ in 0..DATAGRAMS / SOURCES {
                let len = match random.below(100) {
                    0 => random.below(65_508),
                    n if n < 10 => random.below(3),
                    _ => random.below(1500),
                };
                let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                socket.send_to(&bytes, TO).unwrap();
            }
            // Some of it is answered, with anything.
            answer(&members, &mut random);
            if source % 500 == 0 {
                for n in [0, 1] {
                    most[n] = most[n].max(files(n));
                    half[n] = half[n].max(resident(pids[n]));
                }
            }
        }
        wait_for("all of them to be forgotten", || {
            [0, 1].iter().all(|n| {
                let tunnel = hosts.tunnel(*n);
                tunnel["stand_ins"] == 0 && tunnel["sources"] == 0
            })
        });
    }
    for n in [0, 1] {
        // Each stand-in is a socket that is sent from and heard.
        assert!(most[n] <= before[n] + 2 * 256 + 16, "{most:?} files, {before:?} before");
        wait_for("the files to be closed", || files(n) <= before[n] + 8);
        // The second half costs nothing that the first one has not.
        let [first, second] = [memory[0][n], memory[1][n]];
        assert!(second <= first + (48 << 20), "{first} bytes, then {second}");
        let tunnel = hosts.tunnel(n);
        assert!(tunnel["received"]["datagrams"].as_u64().unwrap() > 1000, "{tunnel}");
        let drops = tunnel["drops"].as_object().unwrap();
        let of_bounds = ["sources_full", "stand_ins_full", "queue", "kernel", "unknown_source"];
        assert!(drops.keys().all(|reason| of_bounds.contains(&&**reason)), "{tunnel}");
    }
    sent_until_heard(&private, &members[1], "still");
}

/// Answers what is there to whoever sent it.
fn answer(members: &[UdpSocket; 2], random: &mut Random) {
    let mut buffer = vec![0; 70_000];
    for member in members {
        member.set_nonblocking(true).unwrap();
        while let Ok((len, source)) = member.recv_from(&mut buffer) {
            if random.below(8) == 0 {
                let bytes: Vec<u8> = buffer[..len.min(999)].iter().rev().copied().collect();
                // Whoever it was may be gone.
                let _ = member.send_to(&bytes, source);
            }
        }
        member.set_nonblocking(false).unwrap();
    }
}

/// Bytes of memory that a process has.
pub(crate) fn resident(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
