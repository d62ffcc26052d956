//! A `Join` in network namespaces of the tests' own: routes, interfaces that are down or odd, and
//! stock SWI-Prolog on the same port.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "../../tests/support/mod.rs"]
mod support;

use common::{PATIENCE, drained, join, receive, sender};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use synod_udp_shim::{Join, JoinError, Warning};

/// The group of SWI-Prolog's paxos demo, on udp_broadcast's own port.
const GROUP: &str = "239.0.0.2:20005";

/// How SWI-Prolog is put on that group.
const SWI_JOINS: &str = "use_module(library(udp_broadcast)), \
     udp_broadcast_initialize(ip(239,0,0,2), [method(multicast)])";

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
}

fn open(spec: &str) -> Result<Join, JoinError> {
    Join::open(&spec.parse().unwrap())
}

#[test]
fn without_a_route_an_interface_must_be_named() {
    support::in_namespace("without_a_route_an_interface_must_be_named", "", || {
        let error = open(GROUP).unwrap_err();
        assert!(matches!(error, JoinError::NoRoute(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            "no route leads to 239.0.0.2:20005: add one (`ip route add 239.0.0.0/8 dev lo`), or \
             name an interface (239.0.0.2:20005%lo)"
        );
        let named = join("239.0.0.2:20005%lo");

        // What the message says helps, and helps a sender that chooses no interface.
        ip("route add 239.0.0.0/8 dev lo");
        let by_route = join(GROUP);
        let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        sender.send_to(b"by route", GROUP).unwrap();
        for join in [&named, &by_route] {
            assert_eq!(receive(join, 1)[0].1, b"by route");
        }
    });
}

#[test]
fn an_interface_that_is_down_is_said_and_heard_once_up() {
    support::in_namespace(
        "an_interface_that_is_down_is_said_and_heard_once_up",
        "ip link set lo down",
        || {
            let join = join("239.0.0.2:20005%lo");
            let down = Warning::Down { interface: "lo".into() };
            assert!(join.warnings().contains(&down), "{:?}", join.warnings());
            assert!(down.to_string().contains("`ip link set dev lo up`"), "{down}");
            for _ in 0..2 {
                ip("link set dev lo up");
                let (sender, from) = sender();
                sender.send_to(b"up", GROUP).unwrap();
                assert_eq!(receive(&join, 1), [(from, b"up".to_vec())]);
                ip("link set dev lo down");
            }
        },
    );
}

#[test]
fn a_membership_holds_on_its_own_interface_only() {
    support::in_namespace(
        "a_membership_holds_on_its_own_interface_only",
        "ip link add va type veth peer name vb; ip addr add 10.9.0.1/24 dev va
         ip link set va multicast off; ip link set va up; ip link set vb up",
        || {
            let on_lo = join("239.0.0.2:20005%lo");
            let by_name = join("239.0.0.2:20005%va");
            let by_address = join("239.0.0.2:20005%10.9.0.1");

            // Without the flag a group is joined all the same, and the copy for this host comes.
            let odd = Warning::NotMulticast { interface: "va".into() };
            assert!(by_name.warnings().contains(&odd), "{:?}", by_name.warnings());
            assert!(by_address.warnings().contains(&odd), "{:?}", by_address.warnings());
            assert!(
                !on_lo.warnings().iter().any(|one| matches!(one, Warning::NotMulticast { .. }))
            );

            let (to_lo, from_lo) = sender();
            to_lo.send_to(b"on lo", GROUP).unwrap();
            // Whoever is bound to an interface's address sends by that interface, route or none.
            let to_va = UdpSocket::bind((Ipv4Addr::new(10, 9, 0, 1), 0)).unwrap();
            to_va.send_to(b"on va", GROUP).unwrap();

            assert_eq!(receive(&on_lo, 1), [(from_lo, b"on lo".to_vec())]);
            for join in [&by_name, &by_address] {
                assert_eq!(receive(join, 1)[0].1, b"on va");
            }
            for join in [&on_lo, &by_name, &by_address] {
                assert!(drained(join));
                assert_eq!(join.counters().datagrams, 1);
            }
        },
    );
}

#[test]
fn a_port_that_needs_a_privilege_is_said() {
    support::in_namespace("a_port_that_needs_a_privilege_is_said", "", || {
        let mut mine = capabilities(None).unwrap();
        mine.effective.remove(CapabilitySet::NET_BIND_SERVICE);
        set_capabilities(None, mine).unwrap();
        let error = open("239.0.0.2:319%lo").unwrap_err();
        assert!(matches!(error, JoinError::PortNeedsPrivilege(319)), "{error:?}");
        assert!(error.to_string().contains("ip_unprivileged_port_start=319"), "{error}");
    });
}

#[test]
fn swipl_is_heard_byte_for_byte() {
    let name = "swipl_is_heard_byte_for_byte";
    if !support::installed("swipl") {
        return support::skip(name, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    support::in_namespace(name, "ip route add 239.0.0.0/8 dev lo", || {
        let join = join("239.0.0.2:20005%lo");
        let goal = format!(
            "{SWI_JOINS}, broadcast(udp(subnet, price(eur, 108))),
             forall(member(N, [0, 1, 1472, 60000]),
                    ( length(Cs, N), maplist(=(x), Cs), atom_chars(A, Cs),
                      broadcast(udp(subnet, blob(A))) ))"
        );
        let status = Command::new("swipl").args(["-q", "-g", &goal, "-t", "halt"]).status();
        assert!(status.unwrap().success());

        let received = receive(&join, 5);
        let mut wanted =
            vec![&b"%-prolog-\nsend(price(eur,108))"[..], b"%-prolog-\nsend(blob(''))"];
        let blobs = [1, 1472, 60_000]
            .map(|n| [&b"%-prolog-\nsend(blob("[..], &b"x".repeat(n), b"))"].concat());
        wanted.extend(blobs.iter().map(Vec::as_slice));
        let bytes: Vec<_> = received.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(bytes, wanted);
        let from = received[0].0;
        assert!(received.iter().all(|(source, _)| *source == from), "one program, one source");
    });
}

#[test]
fn swipl_and_a_join_share_the_port_in_either_order() {
    let name = "swipl_and_a_join_share_the_port_in_either_order";
    if !support::installed("swipl") {
        return support::skip(name, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    support::in_namespace(name, "ip route add 239.0.0.0/8 dev lo", || {
        let earlier = join(GROUP);
        let mut listener = SwiListener::start();
        let later = join(GROUP);

        let goal = format!("{SWI_JOINS}, broadcast(udp(subnet, price(usd, 92)))");
        let status = Command::new("swipl").args(["-q", "-g", &goal, "-t", "halt"]).status();
        assert!(status.unwrap().success());

        assert_eq!(listener.line(), "usd 92");
        for join in [&earlier, &later] {
            // The earlier one has also heard the listener look for itself.
            while receive(join, 1)[0].1 != b"%-prolog-\nsend(price(usd,92))" {}
        }
    });
}

/// A stock program that prints each price that it hears.
struct SwiListener {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl SwiListener {
    /// Starts it, and waits until it hears what is sent to the group: it says so when it has heard
    /// itself.
    fn start() -> Self {
        let goal = format!(
            "{SWI_JOINS}, thread_self(Me),
             listen(ready, thread_send_message(Me, ready)),
             listen(price(C, P), (format('~w ~w~n', [C, P]), flush_output)),
             repeat, broadcast(udp(subnet, ready)),
             thread_get_message(Me, ready, [timeout(0.1)]), !,
             writeln(ready), flush_output, thread_get_message(never)"
        );
        let mut process = Command::new("swipl")
            .args(["-q", "-g", &goal])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut listener = Self { process, stdout };
        assert_eq!(listener.line(), "ready");
        listener
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut waiting = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
        let ready = poll(&mut waiting, Some(&PATIENCE.try_into().unwrap())).unwrap();
        assert_eq!(ready, 1, "swipl says nothing");
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for SwiListener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
