//! Requests that are wrong: what comes back names the thing.

use crate::SHOP;
use crate::http::{Raw, request};
use crate::world::{World, children, is_running, wait_for};
use serde_json::{Value, json};

/// Refused with this status and code, and a message that says this.
fn refused(answer: &(u16, Value), status: u16, code: &str, says: &str) {
    let (got, body) = answer;
    assert_eq!((*got, body["code"].as_str()), (status, Some(code)), "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(says) && !message.contains('\n'), "{message}");
}

#[test]
fn a_body_that_is_wrong_is_refused_by_its_field() {
    let world = World::new();
    let node = world.up(&[]);
    let post = |path: &str, body: &[u8]| request(&world.data, "POST", path, body);
    let deep = format!("{{\"term\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (path, body, says) in [
        ("/v1/broadcast", &b"{\"term\": 3}"[..], "term"),
        ("/v1/broadcast", b"{}", "missing field `term`"),
        ("/v1/broadcast", b"{\"term\": \"a\", \"tern\": 1}", "unknown field `tern`"),
        ("/v1/broadcast", b"{\"term\": \"a\", \"term\": \"b\"}", "duplicate field `term`"),
        (
            "/v1/broadcast",
            b"{\"term\": \"a\", \"once\": {\"session\": -1, \"seq\": 1}}",
            "once.session",
        ),
        ("/v1/broadcast", b"{\"term\": \"\xff\"}", "line 1"),
        ("/v1/broadcast", b"{\"term\": \"a\"} x", "trailing"),
        ("/v1/broadcast", deep.as_bytes(), "term"),
        ("/v1/broadcast", b"", "EOF"),
        ("/v1/query", b"[]", "line 1"),
        ("/v1/query", b"{\"goal\": \"a\", \"limit\": \"x\"}", "limit"),
        ("/v1/run", b"{\"program\": \"/x.pl\", \"options\": {\"max_time\": 1}}", "max_time"),
        ("/v1/session", b"null", "null"),
        ("/v1/modules", b"{\"name\": \"m\"}", "missing field `text`"),
    ] {
        let answer = post(path, body);
        refused(&answer, 400, "bad_request", says);
    }
    assert_eq!(node.get("/v1/status")["spaces"][0]["index"], 0);
}

#[test]
fn a_term_that_cannot_be_read_is_refused_by_its_place() {
    let world = World::new();
    let _node = world.up(&[]);
    let answer = request(&world.data, "POST", "/v1/broadcast", r#"{"term": "f(a,\n  b"}"#);
    refused(&answer, 400, "syntax", "line 2, column 4");
    assert_eq!(answer.1["problems"][0]["line"], 2);
    let deep = format!(r#"{{"term": "{}a{}"}}"#, "f(".repeat(5000), ")".repeat(5000));
    let answer = request(&world.data, "POST", "/v1/broadcast", deep);
    refused(&answer, 400, "syntax", "4096");
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let world = World::new();
    let _node = world.up(&[]);
    let ask = |method: &str, path: &str| request(&world.data, method, path, "");
    refused(&ask("GET", "/v1/nothing"), 404, "not_found", "/v1/nothing");
    refused(&ask("GET", "/"), 404, "not_found", "/");
    refused(&ask("DELETE", "/v1/status"), 405, "bad_method", "DELETE");
    refused(&ask("GET", "/v1/agents/a%2Fb/letters"), 404, "not_found", "a/b");
    refused(&ask("GET", "/v1/agents/%FF/letters"), 400, "bad_request", "UTF-8");
    refused(&ask("GET", "/v1/agents/x/logs?tial=3"), 400, "bad_request", "tial");
    refused(&ask("GET", "/v1/agents/x/logs?tail=-3"), 400, "bad_request", "tail");
    refused(&ask("GET", "/v1/outcome/12"), 400, "bad_request", "12-1");
    refused(&ask("GET", "/v1/outcome/99-1"), 404, "not_found", "99-1");
    refused(&ask("GET", "/v1/modules/m"), 404, "not_found", "m");
    refused(&ask("GET", "/v1/modules?space=mars"), 404, "not_found", "mars");
}

#[test]
fn bytes_that_are_no_request_harm_nobody() {
    let world = World::new();
    let node = world.up(&[]);
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 1..64_usize {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        })
        .take(n * 37)
        .collect();
        let mut raw = Raw::connect(&world.data);
        raw.send(&bytes);
        raw.send("\r\n\r\n");
        let said = raw.closed();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{n}");
    }
    assert_eq!(node.get("/v1/agents"), json!([]));
}

#[test]
fn lines_are_published_as_they_come_up_to_one_that_is_wrong() {
    let world = World::new();
    let _node = world.up(&[]);
    let mut heard = Raw::connect(&world.data);
    heard.request("GET", "/v1/subscribe?topic=news", "");
    assert_eq!(heard.answer().0, 200);
    let publish = |query: &str, body: &[u8]| {
        request(&world.data, "POST", &format!("/v1/publish/lines?{query}"), body)
    };
    let (status, answer) = publish("topic=news&from=me", b"one.\n\n  two(X, X)\nthree");
    assert_eq!((status, &answer), (200, &json!({"published": 3})));
    for term in ["one", "two(", "three"] {
        let said = String::from_utf8(heard.chunk()).unwrap();
        assert!(said.contains(&format!("\"term\":\"{term}")), "{said}");
        assert!(said.contains("\"from\":\"me\""), "{said}");
    }
    refused(
        &publish("topic=news", b"four\nf(\nsix"),
        400,
        "syntax",
        "the 1 terms before were published",
    );
    assert!(String::from_utf8(heard.chunk()).unwrap().contains("four"));
    refused(&publish("topic=news", b"four\n\xff"), 400, "bad_request", "line 2");
    refused(&publish("topic=", b"four"), 400, "name", "topic");
    refused(&publish("topic=news&from=", b"four"), 400, "name", "from");
    let long = vec![b'x'; (1 << 20) + 2];
    refused(&publish("topic=news", &long), 413, "too_large", "line 1");
    let (status, answer) = publish("topic=news", b"");
    assert_eq!((status, answer), (200, json!({"published": 0})));
}

#[test]
fn a_body_that_nobody_reads_does_not_take_the_answer_along() {
    let world = World::new();
    let _node = world.up(&[]);
    let mut client = Raw::connect(&world.data);
    // More than a socket keeps, so that the client could not write it if nobody read.
    let body = vec![b' '; 4 << 20];
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: synod\r\ncontent-length: {}\r\n\r\n", body.len())
    };
    for path in ["/v1/agents/nobody/stop", "/v1/nowhere", "/v1/broadcast"] {
        client.send(head(path));
        if path == "/v1/broadcast" {
            client.send_all(&body);
        }
        let (status, answer) = client.answer();
        assert!((400..500).contains(&status), "{}", String::from_utf8_lossy(&answer));
        if path != "/v1/broadcast" {
            client.send_all(&body);
        }
    }
    client.request("GET", "/v1/status", "");
    assert_eq!(client.answer().0, 200, "the connection goes on");
}

#[test]
fn answers_come_as_the_client_accepts_them() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    node.broadcast("arrived(tea, 7)");
    node.wait_query("shop", "stock(tea, 7)");
    let query = |accept: &str| {
        let body = r#"{"goal": "stock(tea, X)"}"#;
        let mut raw = Raw::connect(&world.data);
        raw.send(format!(
            "POST /v1/query HTTP/1.1\r\nhost: synod\r\naccept: {accept}\r\ncontent-length: {}\r\n\r\n\
             {body}",
            body.len()
        ));
        raw
    };
    let mut stream = query("text/event-stream");
    assert_eq!(stream.answer().0, 200);
    let first = String::from_utf8(stream.chunk()).unwrap();
    let first: Value = serde_json::from_str(first.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&first["event"], &first["text"]), (&"answer".into(), &"X = 7".into()));

    let (status, body) = query("application/json").answer();
    let all: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &all["answers"][0]["bindings"]["X"]), (200, &7.into()));
    assert_eq!((&all["succeeded"], &all["more"]), (&true.into(), &false.into()));

    let (status, body) = query("application/cbor").answer();
    // A map, and in it somewhere the text of the answer.
    assert_eq!((status, body[0] >> 5), (200, 5));
    assert!(body.windows(6).any(|bytes| bytes == b"\x65X = 7"), "{body:?}");
}

#[test]
fn a_goal_ends_with_the_client_that_asked() {
    let world = World::new();
    let node = world.up(&[]);
    let program = world.program("shop.pl", SHOP);
    node.run_agent(&program, "shop", json!({"max_time_ms": 3_600_000}));
    let mut raw = Raw::connect(&world.data);
    raw.request("POST", "/v1/query", r#"{"goal": "write(begun), nl, (true ; for_ever)"}"#);
    assert_eq!(raw.answer().0, 200);
    let mut running = None;
    wait_for("the goal to run", || {
        running = children(node.pid()).into_iter().find(|&pid| ticks(pid) > MUCH);
        running.is_some()
    });
    drop(raw);
    wait_for("its engine to end", || !is_running(running.unwrap()));
    assert_eq!(node.query("shop", "true"), ["true"]);
}

/// Ticks of a processor that only an engine takes that runs for ever: 1.5 s.
const MUCH: u64 = 150;

/// Ticks of a processor that a process has taken (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    behind_name.split_whitespace().nth(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
