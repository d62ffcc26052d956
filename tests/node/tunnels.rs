//! Nodes on networks of their own carry multicast for applications that know nothing of it.

pub(crate) mod sites;

use crate::support::{installed, skip};
use crate::world::{Node, PATIENCE, Process, World, wait_for};
use serde_json::{Value, json};
use sites::Sites;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 2);
pub(crate) const TO: SocketAddrV4 = SocketAddrV4::new(GROUP, 20005);
/// The largest payload of a datagram.
pub(crate) const LARGEST: usize = 65_507;

/// Hosts with a node each.
pub(crate) struct Hosts {
    pub(crate) sites: Sites,
    pub(crate) worlds: Vec<World>,
    pub(crate) nodes: Vec<Option<Node>>,
}

/// Hosts with nodes that know each other, or the test is skipped.
pub(crate) fn hosts(test: &str, count: usize) -> Option<Hosts> {
    hosts_on(test, count, Sites::new)
}

pub(crate) fn hosts_on(
    test: &str,
    count: usize,
    make: impl FnOnce(usize) -> Result<Sites, String>,
) -> Option<Hosts> {
    for program in ["ip", "nft"] {
        if !installed(program) {
            skip(test, &format!("`{program}` is not installed"));
            return None;
        }
    }
    let sites = match make(count) {
        Ok(sites) => sites,
        Err(why) => {
            skip(test, &why);
            return None;
        }
    };
    let worlds = (0..count).map(|_| World::new()).collect();
    let mut hosts = Hosts { sites, worlds, nodes: (0..count).map(|_| None).collect() };
    (0..count).for_each(|n| hosts.start(n));
    Some(hosts)
}

impl Hosts {
    pub(crate) fn start(&mut self, n: usize) {
        let world = &self.worlds[n];
        let mut command = self.sites.inside(n, crate::world::SYNOD);
        command.args(["up", "--node", &format!("n{n}"), "--listen", &self.sites.address(n)]);
        command.args(["--no-mdns"]).env("SYNOD_DATA", &world.data);
        for peer in (0..self.worlds.len()).filter(|peer| *peer != n) {
            command.args(["--peer", &self.sites.address(peer)]);
        }
        self.nodes[n] = Some(Node::start(command, &world.data));
    }

    pub(crate) fn node(&self, n: usize) -> &Node {
        self.nodes[n].as_ref().unwrap()
    }

    pub(crate) fn add(&self, n: usize, more: Value) -> Value {
        let mut request = json!({"name": "t", "groups": [GROUP], "ports": ["20005-20006"]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.node(n).post("/v1/tunnels", &request)
    }

    pub(crate) fn tunnel(&self, n: usize) -> Value {
        self.node(n).get("/v1/tunnels")[0].clone()
    }

    /// Adds the tunnel everywhere, and waits until each has all others.
    pub(crate) fn add_everywhere(&self, more: &Value) {
        let all = 0..self.worlds.len();
        all.clone().for_each(|n| drop(self.add(n, more.clone())));
        all.for_each(|n| self.wait_open(n));
    }

    pub(crate) fn wait_open(&self, n: usize) {
        wait_for("the peers of the tunnel", || {
            let tunnel = self.tunnel(n);
            let peers = tunnel["peers"].as_array().unwrap();
            peers.len() + 1 == self.worlds.len() && peers.iter().all(|peer| peer["open"] == true)
        });
    }

    /// An application's socket that is a member of the group, as SWI-Prolog opens its public one.
    pub(crate) fn member(&self, n: usize) -> UdpSocket {
        self.sites.on(n, || {
            let kind = socket2::Type::DGRAM;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, TO.port()).into()).unwrap();
            socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.into()
        })
    }

    /// An application's socket that is bound to this.
    pub(crate) fn socket(&self, n: usize, at: &str) -> UdpSocket {
        let socket = self.sites.on(n, || UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

pub(crate) fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; LARGEST];
    let (len, source) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source)
}

pub(crate) fn silent(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let is_silent = socket.recv_from(&mut [0; 9]).is_err();
    socket.set_nonblocking(false).unwrap();
    is_silent
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn requests_cross_and_answers_come_back_by_unicast() {
    let test = "tunnels::requests_cross_and_answers_come_back_by_unicast";
    for capture in ["redirect", "join"] {
        let Some(hosts) = hosts(test, 2) else { return };
        if capture == "join" {
            // A program that chooses nothing needs a route, which is there.
            hosts.add_everywhere(&json!({"capture": "join"}));
        } else {
            hosts.add_everywhere(&json!({}));
        }
        assert_eq!(hosts.tunnel(0)["capture"], capture);
        let members = [hosts.member(0), hosts.member(1)];
        // The same port on both sides, and, with redirect, the same address.
        let at = if capture == "redirect" { "172.21.0.2:5000" } else { "0.0.0.0:5000" };
        let private = [hosts.socket(0, at), hosts.socket(1, at)];
        let mut sources = Vec::new();
        for (n, other) in [(0, 1), (1, 0)] {
            let mut source = None;
            for len in [0, 1, 1471, 1472, 1473, 60_000, LARGEST, 5] {
                private[n].send_to(&pattern(len), TO).unwrap();
                let (bytes, from) = heard(&members[other]);
                assert_eq!(bytes, pattern(len), "{len} bytes by {capture}");
                assert_eq!(*source.get_or_insert(from), from, "a source stays what it is");
                // And it is heard where it was sent, once.
                assert_eq!(heard(&members[n]).0, pattern(len));
            }
            sources.push(source.unwrap());
        }
        assert!(silent(&members[0]) && silent(&members[1]), "nothing comes twice");
        // Each answers the other's source, and the answer's source is the same as the request's.
        for round in 0..3 {
            for (n, other) in [(0, 1), (1, 0)] {
                let text = format!("answer {round} of {n}");
                private[n].send_to(text.as_bytes(), sources[other]).unwrap();
                assert_eq!(heard(&private[other]), (text.into_bytes(), sources[n]), "{capture}");
            }
        }
        for n in [0, 1] {
            let tunnel = hosts.tunnel(n);
            assert_eq!(tunnel["stand_ins"], 1, "{tunnel}");
            assert_eq!(tunnel["captured"]["datagrams"], 8 + 3, "{tunnel}");
            assert_eq!(tunnel["received"]["datagrams"], 8 + 3, "{tunnel}");
            assert!(tunnel["p99_us"].as_u64().is_some(), "{tunnel}");
            let metrics = crate::peers::metrics(&hosts.worlds[n]);
            for line in [
                "synod_tunnel_up{tunnel=\"t\"} 1",
                "synod_tunnel_captured_datagrams_total{tunnel=\"t\"} 11",
                "synod_tunnel_stand_ins{tunnel=\"t\"} 1",
                "synod_tunnel_time_seconds{tunnel=\"t\",quantile=\"0.99\"} 0.0",
            ] {
                assert!(metrics.contains(line), "{line}: {metrics}");
            }
        }
    }
}

#[test]
fn the_kernel_is_as_it_was_after_a_stop_and_after_a_kill() {
    let test = "tunnels::the_kernel_is_as_it_was_after_a_stop_and_after_a_kill";
    let Some(mut hosts) = hosts(test, 1) else { return };
    let before = hosts.sites.kernel(0);
    hosts.add(0, json!({}));
    assert_ne!(hosts.sites.kernel(0), before);
    hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    assert_eq!(hosts.sites.kernel(0), before);
    assert_eq!(hosts.node(0).get("/v1/tunnels"), json!([]));

    hosts.add(0, json!({}));
    hosts.nodes[0].take().unwrap().down();
    assert_eq!(hosts.sites.kernel(0), before);

    // It is there again with the node, and a kill of both its processes leaves it.
    hosts.start(0);
    assert_eq!(hosts.tunnel(0)["capture"], "redirect");
    hosts.nodes[0].take().unwrap().kill_with_monitor();
    let left = hosts.sites.kernel(0);
    assert_ne!(left, before);
    let data = &hosts.worlds[0].data;
    let inside =
        |arguments: &[&str]| said(hosts.sites.inside(0, crate::world::SYNOD), arguments, data);
    let (is_well, text) = inside(&["doctor"]);
    assert!(!is_well && text.contains("bad  network: a node was killed"), "{text}");
    // From another namespace nothing can be taken out, and nothing is forgotten.
    for _ in 0..2 {
        let elsewhere = std::process::Command::new(crate::world::SYNOD);
        let (is_well, text) = said(elsewhere, &["doctor", "--fix-network"], data);
        assert!(!is_well && text.contains("nsenter --net=/"), "{text}");
        assert_eq!(hosts.sites.kernel(0), left);
    }
    let (is_well, text) = inside(&["doctor", "--fix-network"]);
    assert!(is_well && text.starts_with("ok   network: taken out"), "{text}");
    assert_eq!(hosts.sites.kernel(0), before);
    let (is_well, text) = inside(&["doctor", "--fix-network"]);
    assert!(is_well && text.contains("no node has left anything"), "{text}");

    // So does the next start.
    hosts.start(0);
    hosts.nodes[0].take().unwrap().kill_with_monitor();
    hosts.start(0);
    let tables = |hosts: &Hosts| hosts.sites.kernel(0).matches("table ip synod_").count();
    assert_eq!(tables(&hosts), 1);

    // So does a node of another folder, and one that is told of no folder finds it, too.
    hosts.nodes[0].take().unwrap().kill_with_monitor();
    let old = std::mem::replace(&mut hosts.worlds[0], World::new());
    let data = &hosts.worlds[0].data;
    let (is_well, text) = said(hosts.sites.inside(0, crate::world::SYNOD), &["doctor"], data);
    assert!(!is_well && text.contains("has left synod_"), "{text}");
    hosts.start(0);
    let added = hosts.add(0, json!({}));
    assert!(added["remarks"][0].as_str().unwrap().contains("a killed node had left"), "{added}");
    assert_eq!(tables(&hosts), 1);
    hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    assert_eq!(hosts.sites.kernel(0), before);
    drop(old);
}

/// What a command says, and whether it is content.
pub(crate) fn said(
    mut command: std::process::Command,
    arguments: &[&str],
    data: &Path,
) -> (bool, String) {
    let output = command.args(arguments).env("SYNOD_DATA", data).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn one_node_of_a_host_carries_a_group_and_the_other_is_told_who() {
    let test = "tunnels::one_node_of_a_host_carries_a_group_and_the_other_is_told_who";
    let Some(hosts) = hosts(test, 1) else { return };
    let world = World::new();
    let mut command = hosts.sites.inside(0, crate::world::SYNOD);
    command.args(["up", "--node", "second", "--no-mdns"]).env("SYNOD_DATA", &world.data);
    let second = Node::start(command, &world.data);
    for (first, other) in [("redirect", "redirect"), ("redirect", "join"), ("join", "redirect")] {
        hosts.add(0, json!({ "capture": first }));
        let request = json!({"name": "u", "groups": [GROUP], "ports": ["20006"], "capture": other});
        let (code, refused) = second.ask("POST", "/v1/tunnels", &request).unwrap();
        let refused = refused["message"].as_str().unwrap();
        assert_eq!(code, 400, "{refused}");
        assert!(refused.contains("239.0.0.2:20006") && refused.contains("(synod)"), "{refused}");
        hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    }
    let request = json!({"name": "u", "groups": [GROUP], "ports": ["20006"]});
    assert_eq!(second.post("/v1/tunnels", &request)["capture"], "redirect");
}

#[test]
fn a_program_that_joined_by_a_tunnel_goes_on_hearing_without_it() {
    let test = "tunnels::a_program_that_joined_by_a_tunnel_goes_on_hearing_without_it";
    let Some(hosts) = hosts(test, 1) else { return };
    let before = hosts.member(0);
    hosts.add(0, json!({}));
    let during = hosts.member(0);
    let removed = hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    assert!(removed["remarks"][0].as_str().unwrap().contains("239.0.0.2"), "{removed}");
    hosts.socket(0, "0.0.0.0:0").send_to(b"after", TO).unwrap();
    for member in [&before, &during] {
        assert_eq!(heard(member).0, b"after");
        assert!(silent(member));
    }
    // Nobody is left that needs it.
    drop(during);
    hosts.add(0, json!({}));
    let removed = hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    assert_eq!(removed, json!({}));
}

#[test]
fn a_host_that_leaves_and_comes_back_is_heard_again_as_the_same() {
    let test = "tunnels::a_host_that_leaves_and_comes_back_is_heard_again_as_the_same";
    let Some(mut hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:5000");
    private.send_to(b"before", TO).unwrap();
    let (bytes, source) = heard(&member);
    assert_eq!(bytes, b"before");

    hosts.nodes[0].take().unwrap().kill();
    hosts.start(0);
    hosts.wait_open(0);
    private.send_to(b"after a kill", TO).unwrap();
    assert_eq!(heard(&member), (b"after a kill".to_vec(), source));

    // The cable of the other one is out for a while.
    hosts.sites.cable(1, false);
    let captured = hosts.tunnel(0)["captured"]["datagrams"].clone();
    private.send_to(b"while it is out", TO).unwrap();
    wait_for("the datagram to be captured", || {
        hosts.tunnel(0)["captured"]["datagrams"] != captured
    });
    assert!(silent(&member));
    hosts.sites.cable(1, true);
    member.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    wait_for("a datagram after the cable is in again", || {
        private.send_to(b"after the cable", TO).unwrap();
        member.recv_from(&mut [0; 99]).is_ok_and(|(_, from)| from == source)
    });
}

#[test]
fn hosts_of_one_segment_hear_each_datagram_once() {
    let test = "tunnels::hosts_of_one_segment_hear_each_datagram_once";
    for capture in ["join", "redirect"] {
        let Some(hosts) = hosts_on(test, 2, Sites::lan) else { return };
        hosts.add_everywhere(&json!({ "capture": capture }));
        let members = [hosts.member(0), hosts.member(1)];
        let private = [hosts.socket(0, "0.0.0.0:0"), hosts.socket(1, "0.0.0.0:0")];
        // With join they hear each other anyway, and the nodes find that out.
        wait_for("the nodes to hear each other's beacons", || {
            let near = [0, 1].map(|n| hosts.tunnel(n)["peers"][0]["near"] == true);
            near == [capture == "join"; 2]
        });
        for n in 0..20_u8 {
            private[usize::from(n % 2)].send_to(&[n], TO).unwrap();
            for member in &members {
                assert_eq!(heard(member).0, [n], "{capture}");
            }
        }
        let received = [0, 1].map(|n| hosts.tunnel(n)["received"]["datagrams"] == 10);
        assert_eq!(received, [capture == "redirect"; 2]);
    }
}

#[test]
fn only_the_peers_that_are_named_take_part() {
    let test = "tunnels::only_the_peers_that_are_named_take_part";
    let Some(hosts) = hosts(test, 3) else { return };
    let peer = hosts.node(1).get("/v1/peers/id")["peer"].clone();
    hosts.add(0, json!({"peers": [peer]}));
    hosts.add(1, json!({}));
    hosts.add(2, json!({}));
    hosts.wait_open(1);
    hosts.wait_open(2);
    let members = [hosts.member(0), hosts.member(1), hosts.member(2)];
    let private = hosts.socket(2, "0.0.0.0:0");
    private.send_to(b"of a stranger", TO).unwrap();
    assert_eq!(heard(&members[1]).0, b"of a stranger");
    let friend = hosts.socket(1, "0.0.0.0:0");
    friend.send_to(b"of a friend", TO).unwrap();
    assert_eq!(heard(&members[0]).0, b"of a friend");
    assert!(silent(&members[0]));
}

#[test]
fn a_tunnel_that_is_removed_and_added_at_once_is_heard_again() {
    let test = "tunnels::a_tunnel_that_is_removed_and_added_at_once_is_heard_again";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let (member, private) = (hosts.member(1), hosts.socket(0, "0.0.0.0:0"));
    for n in 0..100 {
        private.send_to(&[n], TO).unwrap();
        assert_eq!(heard(&member).0, [n]);
    }
    hosts.node(0).post("/v1/tunnels/t/remove", &json!({}));
    drop(hosts.add(0, json!({})));
    hosts.wait_open(0);
    private.send_to(b"anew", TO).unwrap();
    assert_eq!(heard(&member).0, b"anew", "its numbers began anew");
    assert_eq!(hosts.tunnel(1)["drops"], json!({}));
}

#[test]
fn by_gossip_each_datagram_comes_once_too_and_is_answered() {
    let test = "tunnels::by_gossip_each_datagram_comes_once_too_and_is_answered";
    let Some(hosts) = hosts(test, 3) else { return };
    // Whoever carries by streams hears what comes by gossip, and the other way round.
    for (n, carry) in ["gossip", "gossip", "streams"].into_iter().enumerate() {
        drop(hosts.add(n, json!({ "carry": carry })));
    }
    (0..3).for_each(|n| hosts.wait_open(n));
    // It begins with streams, until the topic's neighbours have found each other.
    wait_for("the tunnel to carry by gossip", || hosts.tunnel(0)["by_gossip"] == true);
    wait_for("the other, too", || hosts.tunnel(1)["by_gossip"] == true);
    assert_eq!(hosts.tunnel(2)["by_gossip"], false);
    let members = [hosts.member(0), hosts.member(1), hosts.member(2)];
    let private = [0, 1, 2].map(|n| hosts.socket(n, "0.0.0.0:0"));
    for n in 0..3 {
        let others = [0, 1, 2].into_iter().filter(|other| *other != n);
        for len in [0, 1, 1472, 1473, 65_000, LARGEST, 7] {
            private[n].send_to(&pattern(len), TO).unwrap();
            for other in others.clone() {
                let (bytes, source) = heard(&members[other]);
                assert_eq!(bytes, pattern(len), "{len} bytes from {n} to {other}");
                members[other].send_to(b"heard", source).unwrap();
                assert_eq!(heard(&private[n]).0, b"heard");
            }
            assert_eq!(heard(&members[n]).0, pattern(len));
        }
    }
    assert!(members.iter().all(silent), "nothing comes twice");
    for n in 0..3 {
        assert_eq!(hosts.tunnel(n)["drops"], json!({}));
    }
    let peer = hosts.node(1).get("/v1/peers/id")["peer"].clone();
    let request = json!({"name": "u", "groups": [GROUP], "ports": ["9"], "carry": "gossip",
                         "peers": [peer]});
    let (status, refused) = hosts.node(0).ask("POST", "/v1/tunnels", &request).unwrap();
    assert_eq!((status, &refused["code"]), (400, &json!("bad_request")), "{refused}");
}

#[test]
fn a_burst_crosses_whole_and_so_do_many_sources() {
    let test = "tunnels::a_burst_crosses_whole_and_so_do_many_sources";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let room = rustix::net::sockopt::set_socket_recv_buffer_size_force(&member, 16 << 20);
    if let Err(why) = room {
        return skip(test, &format!("no receive buffer of that size: {why}"));
    }
    let private = hosts.socket(0, "0.0.0.0:0");
    for n in 0..2000_u32 {
        let mut bytes = pattern(1400);
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        private.send_to(&bytes, TO).unwrap();
    }
    for n in 0..2000_u32 {
        let (bytes, _) = heard(&member);
        assert_eq!((bytes.len(), &bytes[..4]), (1400, &n.to_be_bytes()[..]));
    }
    let sources = 40;
    let sockets: Vec<UdpSocket> = (0..sources).map(|_| hosts.socket(0, "0.0.0.0:0")).collect();
    let mut stand_ins = Vec::new();
    for (n, socket) in sockets.iter().enumerate() {
        socket.send_to(&[n as u8], TO).unwrap();
        let (bytes, source) = heard(&member);
        assert_eq!(bytes, [n as u8]);
        assert!(!stand_ins.contains(&source));
        stand_ins.push(source);
    }
    // Each is answered by itself.
    for (socket, stand_in) in sockets.iter().zip(&stand_ins) {
        member.send_to(stand_in.to_string().as_bytes(), stand_in).unwrap();
        assert_eq!(heard(socket).0, stand_in.to_string().as_bytes());
    }
    assert_eq!(hosts.tunnel(1)["stand_ins"], sources + 1);
    assert_eq!((&hosts.tunnel(0)["drops"], &hosts.tunnel(1)["drops"]), (&json!({}), &json!({})));
}

#[test]
fn a_tunnel_that_one_side_has_removed_carries_nothing_there() {
    let test = "tunnels::a_tunnel_that_one_side_has_removed_carries_nothing_there";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    private.send_to(b"before", TO).unwrap();
    assert_eq!(heard(&member).0, b"before");
    hosts.node(1).post("/v1/tunnels/t/remove", &json!({}));
    wait_for("the peer to be gone", || {
        private.send_to(b"after", TO).unwrap();
        hosts.tunnel(0)["peers"] == json!([])
    });
    assert!(silent(&member));
    // And it is there again.
    hosts.add(1, json!({}));
    hosts.wait_open(0);
    hosts.wait_open(1);
    private.send_to(b"again", TO).unwrap();
    assert_eq!(heard(&member).0, b"again");
}

/// What makes a swipl take part in a quorum over the group, and answer what is asked of it.
///
/// The others learn of the value by what they are told of changes. `paxos_get/2` of a key that has no
/// value here yet *sets* it, and two that set one key at once can block it for ever: each round has the
/// number of a round that somebody has accepted and nobody has concluded. A round that too few answer in
/// time blocks its key in the same way. That time is 20 ms unless it is set, and a machine that has
/// other things to do may well leave a process waiting for longer.
const PAXOS: &str = ":- use_module(library(udp_broadcast)).
:- use_module(library(paxos)).
:- use_module(library(settings)).
:- multifile paxos:paxos_message_hook/3.
paxos:paxos_message_hook(P, -, udp(paxos, P)) :- !.
paxos:paxos_message_hook(P, TMO, udp(paxos, P, TMO)).
say(T) :- print(T), nl, flush_output.
start(N) :-
    set_setting(paxos:response_timeout, 0.5),
    udp_broadcast_initialize(ip(239,0,0,2), [method(multicast), scope(paxos)]),
    listen(demo, name(N), true),
    listen(demo, hello(From), say(hello(From))),
    paxos_initialize([node(N)]), say(ready).
until(G) :- ( catch(G, _, fail) -> true ; sleep(0.02), until(G) ).
quorum(N) :- paxos_property(quorum(Q)), N is popcount(Q).
serve(N) :-
    start(N), thread_self(Me),
    paxos_on_change(count, V, ( V == 300 -> thread_send_message(Me, last) ; true )),
    thread_get_message(last), paxos_get(count, 300), say(agreed), thread_get_message(never).
lead(N) :-
    start(N), until(quorum(3)), say(quorum),
    forall(between(1, 300, V), ( paxos_set(count, V) -> true ; say(failed(V)), halt(1) )),
    say(set),
    until((paxos_get(count, V), V == 300)), say(agreed),
    findall(A-F, broadcast_request(udp(paxos, name(A):F, 1)), AFs),
    findall(A, member(A-_, AFs), As), msort(As, Sorted), say(answers(Sorted)),
    forall(member(_-F, AFs), broadcast(udp(paxos, hello(N):F))),
    thread_get_message(never).
";

/// A stock SWI-Prolog on a host.
fn swipl(hosts: &Hosts, n: usize, goal: &str) -> Process {
    let file = hosts.worlds[n].program("paxos.pl", PAXOS);
    let mut command = hosts.sites.inside(n, "swipl");
    command.args(["-q", "-g", goal, "-t", "halt", &file]);
    Process::start(command, true)
}

#[test]
fn stock_swi_prologs_on_three_hosts_form_one_quorum() {
    let test = "tunnels::stock_swi_prologs_on_three_hosts_form_one_quorum";
    if !installed("swipl") {
        return skip(test, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    let Some(hosts) = hosts(test, 3) else { return };
    hosts.add_everywhere(&json!({}));
    let mut others = [1, 2].map(|n| {
        let mut process = swipl(&hosts, n, &format!("serve({n})"));
        process.until("ready");
        process
    });
    let mut first = swipl(&hosts, 0, "lead(3)");
    for step in ["quorum", "set", "agreed"] {
        first.until(step);
    }
    // Everybody answers, the one that asks too; and what is sent to whom they were arrives.
    first.until("answers([1,2,3])");
    for process in &mut others {
        process.until("agreed");
        process.until("hello(3)");
    }
    for n in 0..3 {
        let tunnel = hosts.tunnel(n);
        assert_eq!(tunnel["stand_ins"], 2, "one for each of the others: {tunnel}");
        assert_eq!(tunnel["drops"], json!({}), "{tunnel}");
    }
}
