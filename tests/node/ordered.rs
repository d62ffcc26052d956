//! Tunnels that order: what applications send on several hosts is one sequence of events, each once, for the agents
//! on all of them.

use crate::support::{installed, skip};
use crate::tunnels::sites::Sites;
use crate::world::{Node, Over, Process, World, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 2);
const TO: SocketAddrV4 = SocketAddrV4::new(GROUP, 20005);
/// The largest payload of a datagram.
const LARGEST: usize = 65_507;
/// Datagrams that a host sends behind something that happens.
const MORE: usize = 300;
/// Between two looks at all that an agent has noted.
const BREATH: Duration = Duration::from_millis(100);

/// Notes what it gets in the order in which it gets it; each node's instance by itself.
const HEARD: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- agent(each).
:- replicated(heard/5).
on(datagram(Position, Group:Port, From, bytes(Bs))) :-
    this_node(Node), assertz(heard(Node, Position, Group:Port, From, Bs)).
on(udp(Position, Scope, From, Term)) :-
    this_node(Node), assertz(heard(Node, Position, Scope, From, udp(Term))).
on(event(Position, From, Term)) :-
    this_node(Node), assertz(heard(Node, Position, event, From, Term)).
";

/// Has no clause for datagrams.
const DEAF: &str = "
:- use_module(library(synod)).
:- replicated(told/1).
on(event(_, _, Term)) :- assertz(told(Term)).
";

/// Hosts with a node each.
struct Hosts {
    sites: Sites,
    worlds: Vec<World>,
    nodes: Vec<Option<Node>>,
}

impl Hosts {
    /// Hosts with nodes that know each other, or the test is skipped.
    fn new(test: &str, make: impl FnOnce() -> Result<Sites, String>, count: usize) -> Option<Self> {
        for program in ["ip", "nft"] {
            if !installed(program) {
                skip(test, &format!("`{program}` is not installed"));
                return None;
            }
        }
        let sites = match make() {
            Ok(sites) => sites,
            Err(why) => {
                skip(test, &why);
                return None;
            }
        };
        let worlds = (0..count).map(|_| World::new()).collect();
        let mut hosts = Self { sites, worlds, nodes: (0..count).map(|_| None).collect() };
        (0..count).for_each(|n| hosts.start(n));
        Some(hosts)
    }

    /// Three with a space that all are members of, and the agent that notes on each.
    fn three(test: &str, make: impl FnOnce() -> Result<Sites, String>) -> Option<Self> {
        let hosts = Self::new(test, make, 3)?;
        hosts.node(0).post("/v1/spaces", &json!({"name": "bank"}));
        let ticket = hosts.ticket();
        for n in [1, 2] {
            hosts.node(n).post("/v1/spaces/join", &json!({ "ticket": ticket }));
        }
        wait_for("three voters", || {
            (0..3).all(|n| {
                let members = hosts.node(n).get("/v1/spaces/members?space=bank");
                let all = members["members"].as_array().unwrap();
                all.iter().filter(|member| member["part"] == "voter").count() == 3
            })
        });
        (0..3).for_each(|n| drop(hosts.run_heard(n)));
        Some(hosts)
    }

    fn start(&mut self, n: usize) {
        let world = &self.worlds[n];
        let mut command = self.sites.inside(n, crate::world::SYNOD);
        command.args(["up", "--node", &format!("n{n}"), "--listen", &self.sites.address(n)]);
        command.args(["--no-mdns"]).env("SYNOD_DATA", &world.data);
        for peer in (0..self.worlds.len()).filter(|peer| *peer != n) {
            command.args(["--peer", &self.sites.address(peer)]);
        }
        self.nodes[n] = Some(Node::start(command, &world.data));
    }

    fn node(&self, n: usize) -> &Node {
        self.nodes[n].as_ref().unwrap()
    }

    fn ticket(&self) -> String {
        let made = self.node(0).post("/v1/spaces/tickets?space=bank", &json!({}));
        made["ticket"].as_str().unwrap().to_owned()
    }

    fn run_heard(&self, n: usize) -> Value {
        let path = self.worlds[n].program("heard.pl", HEARD);
        let options = json!({"max_time_ms": 60_000});
        let run = json!({"program": path, "name": "heard", "keep": true, "options": options});
        self.node(n).post("/v1/run", &run)
    }

    fn add(&self, n: usize, capture: &str) -> Value {
        let request = json!({
            "name": "t", "groups": [GROUP], "ports": ["20005"], "capture": capture, "order": "bank"
        });
        self.node(n).post("/v1/tunnels", &request)
    }

    /// Adds the tunnel everywhere, and waits until each has all others.
    fn add_everywhere(&self, capture: &str) {
        let all = 0..self.worlds.len();
        all.clone().for_each(|n| drop(self.add(n, capture)));
        all.for_each(|n| {
            wait_for("the peers of the tunnel", || {
                let tunnel = self.tunnel(n);
                let peers = tunnel["peers"].as_array().unwrap();
                peers.len() + 1 == self.worlds.len() && peers.iter().all(|p| p["open"] == true)
            });
        });
    }

    fn tunnel(&self, n: usize) -> Value {
        self.node(n).get("/v1/tunnels")[0].clone()
    }

    /// An application's socket.
    fn socket(&self, n: usize) -> UdpSocket {
        self.sites.on(n, || UdpSocket::bind("0.0.0.0:0").unwrap())
    }

    /// What the instance on a node has noted, in the order in which it did, as it is seen on another.
    fn heard(&self, of: usize, on: usize) -> Vec<String> {
        let pattern = format!("heard(n{of}, P, T, F, B)");
        let request = json!({"pattern": pattern, "space": "bank", "limit": 100_000});
        let answer = self.node(on).post("/v1/facts", &request);
        let text =
            |fact: &Value| fact["text"].as_str().unwrap().replacen(&format!("n{of},"), "", 1);
        answer["facts"].as_array().unwrap().iter().map(text).collect()
    }

    /// How much it is, asked for at leisure: what is asked of a node keeps it from its work.
    fn has_heard(&self, n: usize) -> usize {
        std::thread::sleep(BREATH);
        self.heard(n, n).len()
    }

    /// Waits until all instances have noted so much, and gives what they have, which is the same.
    fn agreed(&self, count: usize) -> Vec<String> {
        for of in 0..3 {
            wait_for("an agent to have handled all", || self.has_heard(of) >= count);
        }
        let first = self.heard(0, 0);
        assert_eq!(first.len(), count);
        for of in 1..3 {
            assert_eq!(self.heard(of, 0), first, "the same, in the same order");
        }
        first
    }
}

/// Sends so many that say who sends them and which they are.
fn send(socket: &UdpSocket, n: usize, numbers: std::ops::Range<usize>, pause: Duration) {
    for number in numbers {
        socket.send_to(said(n, number).as_bytes(), TO).unwrap();
        std::thread::sleep(pause);
    }
}

/// Sends until [`MORE`] were sent behind something that happens; gives how many.
fn send_beyond(socket: &UdpSocket, n: usize, is_so: &AtomicBool, pause: Duration) -> usize {
    let (mut sent, mut behind) = (0, 0);
    while behind < MORE {
        behind += usize::from(is_so.load(Ordering::Relaxed));
        send(socket, n, sent..sent + 1, pause);
        sent += 1;
    }
    sent
}

fn said(n: usize, number: usize) -> String {
    format!("from {n} number {number:05}")
}

/// The content of a fact: the string that it ends in.
fn content(fact: &str) -> &str {
    fact.rsplit('"').nth(1).unwrap_or_else(|| panic!("no string in {fact}"))
}

/// That the contents of one host's datagrams are there once each and as they were sent; gives how many.
fn in_order(heard: &[String], n: usize) -> usize {
    let own: Vec<&str> = heard.iter().map(|fact| content(fact)).collect();
    let prefix = format!("from {n} ");
    let own: Vec<&str> = own.into_iter().filter(|text| text.starts_with(&prefix)).collect();
    assert!(own.is_sorted_by(|one, next| one < next), "of host {n}: {own:?}");
    own.len()
}

#[test]
fn agents_on_three_hosts_hear_what_all_send_in_one_order() {
    let test = "ordered::agents_on_three_hosts_hear_what_all_send_in_one_order";
    let Some(mut hosts) = Hosts::three(test, || Sites::new(3)) else { return };
    let deaf = hosts.worlds[0].program("deaf.pl", DEAF);
    let options = json!({"max_time_ms": 60_000});
    let deaf = json!({"program": deaf, "name": "deaf", "space": "bank", "options": options});
    hosts.node(0).post("/v1/run", &deaf);
    hosts.add_everywhere("redirect");
    let sockets: Vec<UdpSocket> = (0..3).map(|n| hosts.socket(n)).collect();
    std::thread::scope(|scope| {
        for (n, socket) in sockets.iter().enumerate() {
            scope.spawn(move || send(socket, n, 0..200, Duration::from_millis(1)));
        }
    });
    let heard = hosts.agreed(600);
    assert_eq!([0, 1, 2].map(|n| in_order(&heard, n)), [200; 3]);
    let mut mixed = heard.clone();
    mixed.sort_by_key(|fact| content(fact).to_owned());
    assert!(heard != mixed, "no host's come all before another's");
    for (n, socket) in sockets.iter().enumerate() {
        let tunnel = hosts.tunnel(n);
        assert_eq!(tunnel["order"]["space"], "bank");
        assert_eq!(tunnel["order"]["datagrams"], 200, "{tunnel}");
        assert_eq!((&tunnel["order"]["waiting"], &tunnel["drops"]), (&json!(0), &json!({})));
        assert_eq!(tunnel["received"]["datagrams"], 400, "they are carried, too: {tunnel}");
        // Of each source as the others know it.
        let address = tunnel["address"].as_str().unwrap().replace('.', ",");
        let port = socket.local_addr().unwrap().port();
        let source = format!("ip({address}):{port},\"from {n} number 00000\"");
        assert_eq!(heard.iter().filter(|fact| fact.contains(&source)).count(), 1, "{source}");
    }
    let listed = hosts.worlds[1].yes(["tunnel", "list"]);
    assert!(listed.contains("bank: 200 ("), "{listed}");
    let metrics = crate::peers::metrics(&hosts.worlds[1]);
    assert!(
        metrics.contains("synod_tunnel_ordered_datagrams_total{tunnel=\"t\"} 200"),
        "{metrics}"
    );

    // Of any size, byte by byte; and what somebody broadcasts that looks like one is none.
    let letters: String = (0..LARGEST).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let all: Vec<u8> = (0..=255).collect();
    sockets[1].send_to(b"", TO).unwrap();
    sockets[1].send_to(letters.as_bytes(), TO).unwrap();
    sockets[1].send_to(&all, TO).unwrap();
    hosts.agreed(603);
    let forged = "datagram(t, n0, ip(239,0,0,2):20005, ip(1,2,3,4):5, bytes(\"x\"))";
    hosts.node(0).post("/v1/broadcast", &json!({"term": forged, "space": "bank"}));
    let heard = hosts.agreed(604);
    hosts.node(0).wait_query("deaf", "told(datagram(_, _, _, _, _))");
    let agent = hosts.node(0).agent("deaf");
    assert!(
        agent["handled"].as_u64() < Some(10),
        "it is not handed what it has no clause for: {agent}"
    );
    assert!(heard[600].ends_with(",[])"), "{}", heard[600]);
    assert_eq!(content(&heard[601]), letters);
    assert!(heard[603].contains(",event,") && heard[603].contains("datagram(t,"), "{}", heard[603]);
    let goal = "heard(n2, _, _:_, _, Bs), length(Bs, 256), maplist(char_code, Bs, Cs)";
    let found = hosts.node(2).query("heard", goal);
    let codes = format!("Cs = {all:?}").replace(", ", ",");
    assert!(found.len() == 1 && found[0].contains(&codes), "{codes} in {found:?}");

    // The log tells of them, and a replay shows them.
    let world = &hosts.worlds[0];
    let shown = world.yes(["log", "show", "--space", "bank"]);
    let line = "tunnel:t !datagram(t,n1,ip(239,0,0,2):20005,ip(127,";
    assert!(shown.contains(line), "{line} in {shown}");
    let file = world.path().join("bank.log").to_string_lossy().into_owned();
    world.yes(["log", "export", &file, "--space", "bank"]);
    world.yes(["log", "verify", &file]);
    let replayed =
        world.yes(["replay", &file, "-q", "heard(n1, _, _, _, \"from 2 number 00199\")"]);
    assert_eq!(replayed, "true.\n");
    // A replay is on no node, so the program is told on which it was.
    let program = world.program("again.pl", &HEARD.replace("this_node(Node)", "Node = n0"));
    let replayed = world.yes(["replay", &file, "--agent", &program, "--name", "heard@n0", "--all"]);
    assert!(replayed.contains("  on datagram("), "{replayed}");
    assert!(replayed.ends_with("; 0 would have been another\n"), "{replayed}");

    // A node that goes down puts what it has captured in order before.
    send(&sockets[1], 1, 200..400, Duration::ZERO);
    wait_for("all to be captured", || hosts.tunnel(1)["captured"]["datagrams"] == 200 + 3 + 200);
    hosts.nodes[1].take().unwrap().down();
    wait_for("all to be in order", || hosts.has_heard(0) == 604 + 200);
    assert_eq!(in_order(&hosts.heard(0, 0)[603..], 1), 200);
}

#[test]
fn nothing_is_ordered_twice_when_a_leader_is_killed_and_starts_again() {
    let test = "ordered::nothing_is_ordered_twice_when_a_leader_is_killed_and_starts_again";
    let Some(mut hosts) = Hosts::three(test, || Sites::new(3)) else { return };
    hosts.add_everywhere("redirect");
    let sockets: Vec<UdpSocket> = (0..3).map(|n| hosts.socket(n)).collect();
    let leads = |n: &usize| hosts.node(*n).get("/v1/spaces/members?space=bank")["role"] == "leader";
    let leader = (0..3).find(leads).unwrap();
    let seen_on = (leader + 1) % 3;
    let (pause, is_killed) = (Duration::from_millis(2), AtomicBool::new(false));
    let (before, sent) = std::thread::scope(|scope| {
        let over = Over(&is_killed);
        let sending: Vec<_> = sockets
            .iter()
            .enumerate()
            .map(|(n, socket)| {
                let is_killed = &is_killed;
                scope.spawn(move || send_beyond(socket, n, is_killed, pause))
            })
            .collect();
        wait_for("some of them", || hosts.has_heard(seen_on) > 100);
        let before = hosts.heard(seen_on, seen_on);
        hosts.nodes[leader].take().unwrap().kill();
        drop(over);
        let sent = sending.into_iter().map(|sending| sending.join().unwrap());
        (before, sent.collect::<Vec<usize>>())
    });
    hosts.start(leader);
    wait_for("its tunnel", || hosts.tunnel(leader)["capture"] == "redirect");
    std::thread::scope(|scope| {
        for (n, socket) in sockets.iter().enumerate() {
            let sent = sent[n];
            scope.spawn(move || send(socket, n, sent..sent + MORE, pause));
        }
    });
    // Each instance has handled the last of all hosts: so it has all of them.
    let last: Vec<String> = (0..3).map(|n| said(n, sent[n] + MORE - 1)).collect();
    let has_all =
        |heard: &[String]| last.iter().all(|last| heard.iter().any(|fact| content(fact) == last));
    for n in 0..3 {
        wait_for("all to be in order and handled", || {
            std::thread::sleep(BREATH);
            hosts.tunnel(n)["order"]["waiting"] == 0 && has_all(&hosts.heard(n, n))
        });
    }
    let heard = hosts.agreed(hosts.heard(0, 0).len());
    assert_eq!(heard[..before.len()], before, "what was there before is there, where it was");
    let once: BTreeSet<&str> = heard.iter().map(|fact| content(fact)).collect();
    assert_eq!(once.len(), heard.len(), "none is there twice");
    for (n, &sent) in sent.iter().enumerate() {
        let (own, tunnel) = (in_order(&heard, n), hosts.tunnel(n));
        if n == leader {
            // What its host sent while it was dead nobody has captured.
            assert!((MORE..=sent).contains(&own), "{own} of {} of the killed one", sent);
            assert_eq!(tunnel["order"]["datagrams"], MORE, "{tunnel}");
        } else {
            assert_eq!(own, sent + MORE, "of one that went on: {tunnel}");
            assert_eq!(tunnel["order"]["datagrams"], own, "{tunnel}");
        }
    }
}

#[test]
fn without_a_quorum_it_is_said_and_counted_and_goes_on_with_one() {
    let test = "ordered::without_a_quorum_it_is_said_and_counted_and_goes_on_with_one";
    let Some(mut hosts) = Hosts::three(test, || Sites::new(3)) else { return };
    hosts.add_everywhere("redirect");
    let socket = hosts.socket(0);
    send(&socket, 0, 0..10, Duration::ZERO);
    hosts.agreed(10);
    for n in [1, 2] {
        hosts.nodes[n].take().unwrap().kill();
    }
    send(&socket, 0, 10..20, Duration::ZERO);
    // What a leader had in its log when it lost its followers may yet come to be in order, and nobody knows.
    let given_up = || {
        let drops = hosts.tunnel(0)["drops"].clone();
        drops["order_late"].as_u64().unwrap_or(0) + drops["order_unknown"].as_u64().unwrap_or(0)
    };
    wait_for("all to be given up", || given_up() == 10);
    let warned = || hosts.node(0).get("/v1/status")["warnings"].to_string();
    let warning = "not ordered into bank: no quorum of the space's voters can be reached";
    wait_for("a warning", || warned().contains(warning));
    assert_eq!(hosts.tunnel(0)["captured"]["datagrams"], 20, "they are carried nevertheless");
    for n in [1, 2] {
        hosts.start(n);
    }
    // As soon as somebody leads again.
    wait_for("a leader", || hosts.node(0).get("/v1/spaces/members?space=bank")["leader"].is_u64());
    send(&socket, 0, 20..30, Duration::ZERO);
    for n in 0..3 {
        wait_for("the last of them", || {
            hosts.heard(n, n).iter().any(|f| content(f) == said(0, 29))
        });
    }
    let heard = hosts.agreed(hosts.heard(0, 0).len());
    assert!((20..=30).contains(&in_order(&heard, 0)), "{heard:#?}");
    assert_eq!(hosts.tunnel(0)["order"]["datagrams"], 20);
    let warned = || hosts.node(0).get("/v1/status")["warnings"].to_string();
    wait_for("no warning", || !warned().contains(warning));
}

#[test]
fn what_all_of_one_segment_hear_is_ordered_once() {
    let test = "ordered::what_all_of_one_segment_hear_is_ordered_once";
    let Some(hosts) = Hosts::three(test, || Sites::lan(3)) else { return };
    hosts.add_everywhere("join");
    let sockets: Vec<UdpSocket> = (0..3).map(|n| hosts.socket(n)).collect();
    std::thread::scope(|scope| {
        for (n, socket) in sockets.iter().enumerate() {
            scope.spawn(move || send(socket, n, 0..100, Duration::from_millis(1)));
        }
    });
    let heard = hosts.agreed(300);
    assert_eq!([0, 1, 2].map(|n| in_order(&heard, n)), [100; 3]);
    for n in 0..3 {
        let tunnel = hosts.tunnel(n);
        assert_eq!(tunnel["drops"]["other_host"], 200, "each hears the others: {tunnel}");
        assert_eq!(tunnel["order"]["datagrams"], 100, "{tunnel}");
    }
}

#[test]
fn what_stock_swi_prolog_broadcasts_is_a_term_on_all_nodes() {
    let test = "ordered::what_stock_swi_prolog_broadcasts_is_a_term_on_all_nodes";
    if !installed("swipl") {
        return skip(test, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    let Some(hosts) = Hosts::three(test, || Sites::new(3)) else { return };
    hosts.add_everywhere("redirect");
    let goal = r#"use_module(library(udp_broadcast)),
        udp_broadcast_initialize(ip(239,0,0,2), [method(multicast), scope(s)]),
        broadcast(udp(s, price('caf\xe9\', "a \"b\" \\ \xff\", 'it''s\n\t', f(X,Y,X,Y), 1.5, [1,2|Z], [])))"#;
    let mut command = hosts.sites.inside(1, "swipl");
    command.args(["-q", "-g", goal, "-t", "halt"]);
    assert_eq!(Process::start(command, true).wait(), 0);
    hosts.agreed(1);
    let goal = r#"heard(N, I-0, '239.0.0.2:20005', ip(127,_,_,_):_,
        udp(price('caf\xe9\', "a \"b\" \\ \xff\", 'it''s\n\t', f(X,Y,X,Y), 1.5, [1,2|Z], []))),
        X \== Y, var(X), var(Z), integer(I)"#;
    for n in 0..3 {
        assert_eq!(hosts.node(n).query("heard", goal).len(), 3);
    }
}

#[test]
fn a_space_that_is_not_there_is_refused_and_one_that_is_left_is_told_of() {
    let test = "ordered::a_space_that_is_not_there_is_refused_and_one_that_is_left_is_told_of";
    let Some(hosts) = Hosts::new(test, || Sites::new(2), 2) else { return };
    let order = |n: usize| {
        let world = &hosts.worlds[n];
        let add = ["tunnel", "add", "t", "--group", "239.0.0.2", "--port", "20005"];
        world.run(add.into_iter().chain(["--order", "bank"]))
    };
    let refused = order(1);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--order bank: this node has no space bank"), "{refused:?}");
    hosts.node(0).post("/v1/spaces", &json!({"name": "bank"}));
    let join = json!({"ticket": hosts.ticket(), "observe": true});
    hosts.node(1).post("/v1/spaces/join", &join);
    let refused = order(1);
    assert!(refused.code == 2 && refused.stderr.contains("only observes the space"), "{refused:?}");
    hosts.node(1).post("/v1/spaces/bank/leave", &json!({}));
    hosts.node(1).post("/v1/spaces/join", &json!({"ticket": hosts.ticket()}));
    let added = order(1);
    assert!(added.stdout.contains("captures by redirect, and orders into bank"), "{added:?}");
    let socket = hosts.socket(1);
    let ordered = || hosts.tunnel(1)["order"].clone();
    socket.send_to(b"one", TO).unwrap();
    wait_for("it to be in order", || ordered()["datagrams"] == 1);

    hosts.node(1).post("/v1/spaces/bank/leave", &json!({}));
    let warned = || hosts.node(1).get("/v1/status")["warnings"].to_string();
    let warning = "tunnel t: what it captures is carried and not ordered into bank";
    wait_for("a warning", || warned().contains(warning));
    assert!(hosts.worlds[1].run(["doctor"]).stdout.contains(warning));
    socket.send_to(b"two", TO).unwrap();
    wait_for("it to be counted", || hosts.tunnel(1)["drops"]["order_late"] == 1);
    assert_eq!(hosts.tunnel(1)["captured"]["datagrams"], 2, "it is carried nevertheless");

    // Back in the space it goes on, in a session of that.
    hosts.node(1).post("/v1/spaces/join", &json!({"ticket": hosts.ticket()}));
    wait_for("no warning", || !warned().contains(warning));
    socket.send_to(b"three", TO).unwrap();
    wait_for("it to be in order", || ordered()["datagrams"] == 2);
    let label = json!({"label": "tunnel:t", "space": "bank"});
    let (status, answer) = hosts.node(1).ask("POST", "/v1/session", &label).unwrap();
    assert_eq!((status, &answer["code"]), (400, &json!("name")), "{answer}");
}
