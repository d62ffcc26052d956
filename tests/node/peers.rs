//! Nodes that know one another: the address book, gossip, and agents that are reached by name from another
//! node. Real processes on loopback.

use crate::world::{Node, Process, Ran, SYNOD, World, children, is_running, kill, wait_for};
use serde_json::{Value, json};

/// A node with a name of its own, which listens on loopback only.
fn up(name: &str) -> (World, Node) {
    let world = World::on_loopback();
    let node = world.up(&["--node", name]);
    (world, node)
}

/// Nodes that share the space `bank`, which the first one has founded.
fn members(names: &[&str]) -> Vec<(World, Node)> {
    let mut all: Vec<(World, Node)> = Vec::new();
    for name in names {
        let (world, node) = up(name);
        match all.first() {
            None => drop(world.yes(["space", "create", "bank"])),
            Some((first, _)) => {
                let ticket = first.yes(["space", "ticket", "bank"]);
                world.yes(["space", "join", ticket.trim()]);
            }
        }
        all.push((world, node));
    }
    for (world, _) in &all {
        wait_for("a node to be ready", || world.run(["status", "--ready"]).code == 0);
    }
    all
}

fn run(world: &World, name: &str, text: &str, node: &Node) {
    let program = world.program(&format!("{name}.pl"), text);
    let request = json!({"program": program, "name": name, "space": "bank", "options": {"max_time_ms": 60_000}});
    node.post("/v1/run", &request);
}

const SHOP: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(heard/2).

on(start) :- subscribe(news).
on(message(news, From, Term)) :- assertz(heard(From, Term)).
on(sent(From, Term)) :- assertz(heard(From, Term)).

item(N) :- member(N, [1, 2, 3]).
for_ever :- repeat, fail.
wrong :- atom_length(_, _).
endless(N) :- length(_, N).
";

const ASKER: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).

ask(N) :- shop::item(N).
first(N) :- once(shop::endless(N)).
nobody :- nobody::item(_).
tell(T) :- send(shop, T).
spread(T) :- publish(news, T).
large :- length(L, 50000), maplist(=(0'x), L), catch(publish(news, L), error(E, _), (write(E), nl)).
";

/// What `GET /metrics` answers.
pub(crate) fn metrics(world: &World) -> String {
    use std::io::{Read, Write};
    let socket = world.data.join("control.sock");
    let mut socket = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: synod\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Whether an engine of a node is at work: it uses the processor.
fn is_busy(node: &Node) -> bool {
    let used = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().to_owned();
        after.split_whitespace().nth(11).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0)
    };
    let pids = children(node.pid());
    let before: u64 = pids.iter().map(used).sum();
    std::thread::sleep(std::time::Duration::from_millis(200));
    pids.iter().map(used).sum::<u64>() >= before + 10
}

#[test]
fn peers_are_known_connected_and_forgotten() {
    let ((a, _alpha), (b, _beta)) = (up("alpha"), up("beta"));
    let me: Value = serde_json::from_str(&a.yes(["peer", "id", "--json"])).unwrap();
    let address = me["listening"][0].as_str().unwrap();
    let id = me["peer"].as_str().unwrap();
    assert_eq!(a.yes(["peer", "id"]).trim(), id);
    assert_eq!(b.yes(["peer", "add", &format!("{address}/p2p/{id}")]).trim(), id);
    wait_for("a connection", || b.yes(["peer", "connections"]).contains(id));
    assert!(b.yes(["peer", "known"]).contains(id));
    // The directory gives names.
    wait_for("a name", || b.yes(["peer", "nodes"]).contains("alpha"));
    assert!(b.yes(["peer", "connections"]).contains("alpha"));
    let metrics = b.run(["peer", "stats", "--json"]);
    let stats: Value = serde_json::from_str(&metrics.stdout).unwrap();
    assert!(stats["counters"]["connected"].as_u64().unwrap() >= 1, "{stats}");
    assert!(b.yes(["status"]).contains("connected with 1"));
    let doctor = b.run(["doctor"]);
    assert!(doctor.stdout.contains("ok   peer alpha: reachable"), "{doctor:?}");
    assert!(doctor.stdout.contains("disk latency: fdatasync p50"), "{doctor:?}");
    assert!(doctor.stdout.contains("clock of alpha"), "{doctor:?}");
    b.yes(["peer", "disconnect", "alpha"]);
    wait_for("no connection", || !b.yes(["peer", "connections"]).contains(id));
    assert_eq!(b.yes(["peer", "rm", id]).trim(), id);
    let again = b.run(["peer", "rm", id]);
    assert_eq!(again.code, 1, "{again:?}");
    let wrong = b.run(["peer", "connect", "nowhere"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("/ip4/192.0.2.1/tcp/4001"), "{wrong:?}");
    let dead = b.run(["peer", "connect", "/ip4/127.0.0.1/tcp/1"]);
    assert_eq!(dead.code, 2, "{dead:?}");
}

#[test]
fn an_id_and_a_key_need_no_node() {
    let world = World::new();
    let none = world.run(["peer", "id"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("identity.json"), "{none:?}");
    let id = {
        let node = world.up(&["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        let id = world.yes(["peer", "id"]);
        drop(node);
        id
    };
    assert_eq!(world.yes(["peer", "id"]), id);
    let well = world.run(["doctor"]);
    assert!(well.stdout.contains(&format!("identity: {}", id.trim())), "{well:?}");
    assert!(well.stdout.contains("it does not run"), "{well:?}");
    let identity = world.data.join("identity.json");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&identity, open).unwrap();
    let ill = world.run(["doctor", "--json"]);
    assert_eq!(ill.code, 1, "{ill:?}");
    let bad = ill.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bad: Vec<Value> = bad.filter(|finding| finding["state"] == "bad").collect();
    assert!(bad.iter().any(|f| f["found"].as_str().unwrap().contains("chmod 600")), "{ill:?}");
    assert!(!world.data.join("doctor.probe").exists());
    let key = world.path().join("network.key");
    let key = key.to_str().unwrap();
    world.yes(["peer", "key", key]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(key).unwrap();
    assert_eq!(world.run(["peer", "key", key]).code, 2, "one that is there is kept");
    assert_eq!(std::fs::read(key).unwrap(), before);
}

#[test]
fn gossip_goes_to_every_node_once() {
    let nodes = members(&["alpha", "beta"]);
    let [(a, alpha), (b, beta)] = &nodes[..] else { panic!("two nodes") };
    run(a, "shop", SHOP, alpha);
    run(b, "asker", ASKER, beta);
    let listen = b.command(["subscribe", "news"]);
    let mut listener = Process::start(listen, false);
    // Gossip goes by what neighbours have told of what they want: until then nobody hears it.
    let mut n = 0;
    wait_for("gossip to reach an agent of another node", || {
        n += 1;
        b.yes(["transact", &format!("spread(paper({n}))"), "--agent", "asker"]);
        a.run(["query", "heard(asker, paper(_))", "--agent", "shop"]).code == 0
    });
    b.yes(["publish", "news", "last(1)", "--as", "editor"]);
    let mut heard = Vec::new();
    while heard.last().is_none_or(|line: &String| !line.contains("last")) {
        heard.push(listener.line());
    }
    assert_eq!(heard.last().unwrap(), "editor@beta: last(1)");
    let unique: std::collections::BTreeSet<_> = heard.iter().collect();
    assert_eq!(unique.len(), heard.len(), "who publishes hears it once: {heard:?}");
    // And the other way, to a client.
    let once = Process::start(b.command(["subscribe", "sport", "--count", "1"]), false);
    wait_for("gossip to reach a client of another node", || {
        a.yes(["publish", "sport", "\"hello there\""]);
        !is_running(once.pid())
    });
    let large = format!("\"{}\"", "x".repeat(90_000));
    let refused = a.run(["publish", "news", &large]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("80000"), "{refused:?}");
}

#[test]
fn agents_are_called_and_sent_to_by_name_from_other_nodes() {
    let nodes = members(&["alpha", "beta"]);
    let [(a, alpha), (b, beta)] = &nodes[..] else { panic!("two nodes") };
    run(a, "shop", SHOP, alpha);
    run(b, "asker", ASKER, beta);
    for line in [
        "synod_space_voters_reachable{space=\"bank\"} 2",
        "synod_space_leader_known{space=\"bank\"} 1",
        "synod_peers_connected 1",
        "# TYPE synod_bridge_messages_in_total counter",
    ] {
        // Who has joined becomes a voter once it has caught up.
        wait_for(line, || metrics(b).contains(line));
    }
    assert_eq!(b.yes(["call", "shop", "item(N)"]), "N = 1.\nN = 2.\nN = 3.\n");
    assert_eq!(b.yes(["call", "shop", "endless(N)", "--limit", "2"]), "N = 0.\nN = 1.\n");
    assert_eq!(b.yes(["query", "item(N)", "--agent", "shop", "--limit", "1"]), "N = 1.\n");
    assert_eq!(b.yes(["query", "ask(N)", "--agent", "asker"]), "N = 1.\nN = 2.\nN = 3.\n");
    assert_eq!(b.yes(["query", "first(N)", "--agent", "asker"]), "N = 0.\n", "cut ends it there");
    b.yes(["transact", "assertz(heard(cli, x))", "--agent", "shop"]);
    assert_eq!(a.yes(["query", "heard(cli, X)", "--agent", "shop"]), "X = x.\n");
    b.yes(["transact", "tell(hello)", "--agent", "asker"]);
    wait_for("what was sent", || {
        a.run(["query", "heard(asker, hello)", "--agent", "shop"]).code == 0
    });
    let none = b.run(["call", "nobody", "true"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("nobody"), "{none:?}");
    let none = b.run(["query", "nobody", "--agent", "asker"]);
    assert!(none.stderr.contains("existence_error(agent,nobody)"), "{none:?}");
    let threw = b.run(["call", "shop", "wrong"]);
    assert!(threw.stderr.contains("instantiation_error"), "{threw:?}");
    let printed = b.run(["query", "large", "--agent", "asker"]);
    assert!(printed.stdout.contains("resource_error(published_term_bytes)"), "{printed:?}");
    // Whoever interrupts a call ends the engine that solves it.
    let calling = || Process::start(b.command(["call", "shop", "for_ever"]), true);
    let mut interrupted = calling();
    wait_for("the goal to be solved there", || is_busy(alpha));
    interrupted.signal(rustix::process::Signal::INT);
    interrupted.wait();
    wait_for("the engine there to end", || !is_busy(alpha));
    // A node that dies while it solves is named.
    let mut calling = calling();
    wait_for("the goal to be solved there", || is_busy(alpha));
    kill(alpha.pid(), rustix::process::Signal::KILL);
    assert!(calling.until("alpha").contains("connection with node alpha broke"));
}

/// A space is shared or it is not: who shares none is told nothing.
#[test]
fn only_members_may_call() {
    let ((a, alpha), (b, _beta)) = (up("alpha"), up("beta"));
    a.yes(["space", "create", "bank"]);
    b.yes(["space", "create", "other"]);
    run(&a, "shop", SHOP, &alpha);
    let me: Value = serde_json::from_str(&a.yes(["peer", "id", "--json"])).unwrap();
    b.yes(["peer", "connect", me["listening"][0].as_str().unwrap()]);
    wait_for("the directory", || b.yes(["peer", "nodes"]).contains("shop"));
    let refused = b.run(["call", "shop", "item(N)"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains("no agent shop"), "{refused:?}");
}

#[test]
fn a_cluster_on_one_machine_starts_and_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/start.sh");
    let at = folder.path().join("c");
    let start = |stop: bool| {
        let mut command = std::process::Command::new("sh");
        command.arg(script).args(stop.then_some("stop")).arg(&at).env("SYNOD", SYNOD);
        command.env("SYNOD_LOG", "warn").stdin(std::process::Stdio::null());
        let ran: Ran = command.output().unwrap().into();
        ran
    };
    /// Stops the nodes however the test ends.
    struct Stop<F: Fn(bool) -> Ran>(F);
    impl<F: Fn(bool) -> Ran> Drop for Stop<F> {
        fn drop(&mut self) {
            (self.0)(true);
        }
    }
    let cluster = Stop(start);
    // Twice: nodes that are members and have their agents already are started as they are.
    for _ in 0..2 {
        let ran = (cluster.0)(false);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");
        for node in ["alpha", "beta", "gamma"] {
            let data = at.join(node);
            let synod = |args: &[&str]| -> Ran {
                let mut command = std::process::Command::new(SYNOD);
                command.args(args).env("SYNOD_DATA", &data).output().unwrap().into()
            };
            let ready = synod(&["status", "--ready"]);
            assert_eq!((ready.code, ready.stdout.as_str()), (0, "ready\n"), "{ready:?}");
            assert!(synod(&["agent", "list"]).stdout.contains("bank"));
        }
        (cluster.0)(true);
    }
}
