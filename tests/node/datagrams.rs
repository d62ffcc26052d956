//! Datagrams of any bytes, on a group that an agent hears: they arrive, and nothing breaks.

use crate::random::Random;
use crate::support::{in_namespace, installed, skip};
use crate::world::{Node, Process, World, wait_for};
use serde_json::json;
use std::net::UdpSocket;

const GROUP: &str = "239.0.0.2:20005";

const HEARER: &str = r#"
:- use_module(library(synod)).
:- replicated(heard/2).
:- use_module(library(lists)).
on(udp(_Scope, ip(127,0,0,1):_, Term)) :- assertz(heard(term, Term)).
on(datagram(Group:Port, ip(127,0,0,1):_, bytes(Bs))) :- assertz(heard(Group:Port, Bs)).
"#;

fn sender() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(GROUP).unwrap();
    socket
}

fn hearer(world: &World) -> Node {
    let node = world.up(&[]);
    let path = world.program("a.pl", HEARER);
    let options = json!({"multicast": [format!("{GROUP}%lo")], "max_time_ms": 60_000});
    node.run_agent(&path, "a", options);
    node
}

#[test]
fn datagrams_that_are_not_swi_prologs_arrive_as_bytes() {
    let test = "datagrams::datagrams_that_are_not_swi_prologs_arrive_as_bytes";
    in_namespace(test, "ip route add 239.0.0.0/8 dev lo", || {
        let world = World::new();
        let node = hearer(&world);
        let socket = sender();
        socket.send(b"hello").unwrap();
        node.wait_query("a", "heard(ip(239,0,0,2):20005, \"hello\")");
        socket.send(&[0, 1, 255, b'"', b'\\', b'\n']).unwrap();
        node.wait_query(
            "a",
            "heard(_, Bs), Bs = [A,B,C|_], maplist(char_code, [A,B,C], [0,1,255])",
        );
        socket.send(b"").unwrap();
        node.wait_query("a", "heard(_, [])");
        node.down();
    });
}

/// What SWI-Prolog's datagrams begin with.
const MAGIC: &[u8] = b"%-prolog-\n";

/// What SWI-Prolog sends, and near misses of it.
const ALMOST: &[&str] = &[
    "send(price(eur, 108))",
    "send(price(eur, ",
    "send(_{a: 1})",
    "send(f(1.0Inf, -1.0Inf, 1.5NaN))",
    "send(1r3)",
    "send('\\x0\\')",
    "send(\"\\xFF\\\")",
    "request(1, p(_))",
    "reply(1, p(2))",
    "send(A-B-A)",
    "send('unterminated",
    "send({a,b})",
    "send([a|b])",
    "send(f(",
    ")))))",
    "send(''), halt.",
    "send(12345678901234567890123456789012345678901234567890)",
    "\0\0\0",
];

#[test]
fn datagrams_of_any_bytes_break_nothing() {
    let test = "datagrams::datagrams_of_any_bytes_break_nothing";
    in_namespace(test, "ip route add 239.0.0.0/8 dev lo", || {
        let world = World::new();
        let node = hearer(&world);
        let socket = sender();
        let mut random = Random::new(5);
        for _ in 0..20 {
            for text in ALMOST {
                let mut bytes = [MAGIC, text.as_bytes()].concat();
                socket.send(&bytes).unwrap();
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                socket.send(&bytes).unwrap();
                bytes.truncate(at);
                socket.send(&bytes).unwrap();
            }
        }
        for len in [1, 2, 100, 1400, 9000, 65_507] {
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            socket.send(&bytes).unwrap();
        }
        let mut deep = b"%-prolog-\nsend(".to_vec();
        deep.extend(b"f(".repeat(20_000));
        socket.send(&deep).unwrap();
        let mut whole = b"%-prolog-\nsend(".to_vec();
        whole.extend(b"[".repeat(15_000));
        whole.extend(b"]".repeat(15_000));
        whole.extend(b")\n");
        socket.send(&whole).unwrap();
        // Datagrams may be lost; the last one is sent until it is heard.
        wait_for("the last datagram", || {
            socket.send(b"%-prolog-\nsend(last)").unwrap();
            !node.query("a", "heard(term, last)").is_empty()
        });
        assert!(!node.query("a", "heard(term, price(eur, 108))").is_empty());
        let agent = node.agent("a");
        assert_eq!(
            (&agent["deaths"], &agent["failed"]),
            (&json!(0), &json!(0)),
            "{agent} {:#?}",
            node.log("a")
        );
        node.down();
    });
}

/// An agent that takes part in SWI-Prolog's broadcast.
const SPEAKER: &str = r#"
:- use_module(library(synod)).
:- use_module(library(lists)).
on(udp_request('239.0.0.2:20005', ip(127,0,0,1):_, double(X, _)), double(X, Y)) :- Y is 2 * X.
on(udp_request(_, _, word(_)), word(W)) :- member(W, [plain, 'it''s', '\x2603\', f(_, "a")]).
on(udp_request(_, _, wrong(_)), _) :- throw(oops).
tell(T) :- udp_send('239.0.0.2:20005', sent(T)).
numbers(Xs) :- findall(X, udp_request('239.0.0.2:20005', number(_), number(X), [timeout(1.5)]), Xs).
first(X) :- once(udp_request('239.0.0.2:20005', number(_), number(X), [timeout(20)])).
nobody :- udp_request('239.0.0.2:20005', nobody(_), _).
"#;

/// A stock SWI-Prolog that asks the agent, and answers it.
const SWIPL: &str = r":- use_module(library(udp_broadcast)).
say(T) :- print(T), nl, flush_output.
ask(T, A) :- findall(A, broadcast_request(udp(s, T, 2)), As), say(T = As).
run :-
    udp_broadcast_initialize(ip(239,0,0,2), [method(multicast), scope(s)]),
    listen(demo, number(X), member(X, [1, 2])),
    listen(demo, sent(T), ( T == 'a\x2603\b\nc' -> say(exact) ; say(sent(T)) )),
    once(broadcast_request(udp(s, double(21, Y), 20))), say(double(Y)),
    findall(W, broadcast_request(udp(s, word(W), 2)), Ws),
    (   Ws = [plain, 'it\'s', '\x2603\', f(V, _)], var(V) -> say(words) ; say(Ws) ),
    ask(wrong(Z), Z),
    say(asked),
    thread_get_message(never).
";

#[test]
fn an_agent_and_a_stock_swi_prolog_ask_and_answer_each_other() {
    let test = "datagrams::an_agent_and_a_stock_swi_prolog_ask_and_answer_each_other";
    if !installed("swipl") {
        return skip(test, "swipl is not installed (Debian's swi-prolog-nox)");
    }
    in_namespace(test, "ip route add 239.0.0.0/8 dev lo src 127.0.0.1", || {
        let world = World::new();
        let node = world.up(&[]);
        let path = world.program("a.pl", SPEAKER);
        node.run_agent(&path, "a", json!({"multicast": [format!("{GROUP}%lo")]}));
        let mut command = std::process::Command::new("swipl");
        command.args(["-q", "-g", "run", "-t", "halt", &world.program("swi.pl", SWIPL)]);
        let mut swipl = Process::start(command, true);
        swipl.until("double(42)");
        swipl.until("words");
        // What throws there is no answer.
        swipl.until("=[]");
        swipl.until("asked");
        assert_eq!(node.query("a", "numbers(Xs)"), ["Xs = [1,2]"]);
        assert_eq!(node.query("a", "first(X)"), ["X = 1"], "it does not wait for the others");
        assert_eq!(node.query("a", "nobody"), [] as [&str; 0]);
        let unknown = node.query("a", "catch(udp_send('239.0.0.9:1', x), E, true)");
        assert_eq!(unknown, ["true"], "it is said in the log, as of what nobody hears");
        assert!(node.log("a").iter().any(|line| line.contains("nothing was sent to 239.0.0.9:1")));
        let thrown =
            node.query("a", "catch(udp_request('239.0.0.9:1', x(_), _), error(E, _), true)");
        assert_eq!(thrown, ["E = existence_error(udp_scope,'239.0.0.9:1')"]);
        node.query("a", r"tell('a\x2603\b\nc')");
        swipl.until("exact");
        assert!(node.log("a").iter().any(|line| line.contains("what 127.0.0.1:")), "what it threw");
        node.down();
    });
}

const PATIENT: &str = r"
:- use_module(library(synod)).
:- replicated(done/1).
on(event(_, _, ask)) :- udp_request('239.0.0.2:20005', nobody(_), _, [timeout(1000000)]).
on(event(_, _, go(N))) :- assertz(done(N)).
";

#[test]
fn who_asks_for_longer_than_it_may_take_dies_of_that_and_holds_up_nobody() {
    let test = "datagrams::who_asks_for_longer_than_it_may_take_dies_of_that_and_holds_up_nobody";
    in_namespace(test, "ip route add 239.0.0.0/8 dev lo src 127.0.0.1", || {
        let world = World::new();
        let node = world.up(&[]);
        let options = json!({"multicast": [format!("{GROUP}%lo")], "max_time_ms": 1000});
        node.run_agent(&world.program("p.pl", PATIENT), "a", options);
        node.broadcast("ask");
        node.broadcast("go(1)");
        node.wait_query("a", "done(1)");
        let reason = node.letters("a")[0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("took more time than allowed"), "{reason}");
        // Nor is the node held up that is to end while somebody waits.
        node.broadcast("ask");
        node.down();
    });
}
