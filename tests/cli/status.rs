//! What `synod status` shows people and machines, and `GET /metrics` a Prometheus.

use crate::SHOP;
use crate::world::{PATIENCE, Process, World, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Fields that machines may rely on.
const NODE: &[&str] =
    &["node", "version", "pid", "data", "uptime_s", "memory", "spaces", "agents", "warnings"];
const SPACE: &[&str] = &[
    "name",
    "id",
    "role",
    "term",
    "index",
    "facts",
    "log_bytes",
    "free_bytes",
    "min_free_bytes",
    "commands_per_s",
    "proposals",
    "max_proposals",
    "proposal_bytes",
    "max_proposal_bytes",
    "voters",
    "voters_reachable",
];
const AGENT: &[&str] = &[
    "name",
    "space",
    "state",
    "program",
    "holder",
    "epoch",
    "cursor",
    "lag",
    "handled",
    "handled_per_s",
    "failed",
    "deaths",
    "restarts",
    "letters",
    "max_letters",
    "dropped",
    "queue_bytes",
    "max_queue_bytes",
    "pid",
    "memory",
    "max_memory",
];

fn has_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!value[field].is_null(), "{field} in {value}");
    }
}

#[test]
fn it_shows_what_goes_on_at_a_glance() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    wait_for("rates", || {
        node.broadcast("arrived(tea, 1)");
        let status = node.get("/v1/status");
        let rate = |value: &Value, name: &str| value[name].as_f64().unwrap() > 0.0;
        rate(&status["spaces"][0], "commands_per_s") && rate(&status["agents"][0], "handled_per_s")
    });
    let status: Value = serde_json::from_str(&world.yes(["status", "--json"])).unwrap();
    has_fields(&status, NODE);
    has_fields(&status["spaces"][0], SPACE);
    has_fields(&status["agents"][0], AGENT);
    assert_eq!(status["agents"][0]["restarts"], 0);
    let shown = world.yes(["status"]);
    assert!(!shown.contains("warning") && !shown.contains("NEAR"), "{shown}");
    assert!(!shown.contains('\x1b'), "no colour where there is no terminal: {shown}");
    assert!(shown.lines().nth(1).unwrap().ends_with(" free"), "{shown}");
    for head in ["SPACE", "EVENTS/S", "UNDER WAY", "AGENT", "LETTERS", "RESTARTS", "MEMORY"] {
        assert!(shown.contains(head), "{head} in {shown}");
    }
    let row = shown.lines().find(|line| line.starts_with("shop")).unwrap();
    assert!(row.contains("running") && row.contains(" of "), "{shown}");
    world.yes(["agent", "restart", "shop"]);
    assert_eq!(node.wait_agent("shop", |agent| agent["restarts"] == 1)["deaths"], 0);
    node.down();
}

#[test]
fn limits_that_are_near_are_marked_in_words_and_by_colour_on_a_terminal_only() {
    let world = World::new();
    let node = world.up(&[]);
    let free = node.get("/v1/status")["spaces"][0]["free_bytes"].as_u64().unwrap();
    node.down();
    let node = world.up(&["--min-free", &(free / 4 * 3).to_string()]);
    let shown = world.yes(["status"]);
    assert!(shown.contains("warning: local: disk: "), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("local ")).unwrap();
    assert!(row.contains("NEAR disk: "), "{shown}");
    let on_terminal = |variables: &[(&str, &str)]| {
        let command = format!("{} status", crate::world::SYNOD);
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("SYNOD_DATA", &world.data);
        script.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied());
        String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
    };
    if !crate::support::installed("script") {
        let test = "limits_that_are_near_are_marked_in_words_and_by_colour_on_a_terminal_only";
        return crate::support::skip(test, "`script` is not installed (Debian's bsdutils)");
    }
    assert!(on_terminal(&[]).contains("\x1b[33mwarning: local"));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_terminal(&[plain]);
        assert!(shown.contains("NEAR disk") && !shown.contains('\x1b'), "{shown}");
    }
    node.down();
}

#[test]
fn it_goes_on_until_ctrl_c() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let mut watch = Process::start(world.command(["status", "--watch"]), true);
    for _ in 0..3 {
        watch.until("node ");
        watch.until("shop");
    }
    watch.signal(Signal::INT);
    assert_eq!(watch.wait(), 0);
    let mut watch = Process::start(world.command(["status", "-w", "--json"]), true);
    for _ in 0..2 {
        has_fields(&serde_json::from_str(&watch.line()).unwrap(), NODE);
    }
    // A node that goes is told.
    node.down();
    watch.until("no node runs");
    assert_eq!(watch.wait(), 2);
}

#[test]
fn the_nodes_log_is_prose_and_as_loud_as_was_asked() {
    let world = World::new();
    let ran = {
        let mut up = world.command(["up"]);
        crate::world::Ran::from(up.env("SYNOD_LOG", "loud").output().unwrap())
    };
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("off, error, warn, info, debug, trace"), "{ran:?}");
    let program = world.program("shop.pl", SHOP);
    for (level, is_told) in [("info", true), ("error", false)] {
        let mut command = world.command(["up"]);
        command.env("SYNOD_LOG", level);
        let mut up = Process::start(command, true);
        up.until("listening on");
        let mut run = Process::start(world.command(["run", &program]), false);
        run.until("open");
        run.signal(Signal::INT);
        assert_eq!(run.wait(), 0);
        up.signal(Signal::TERM);
        assert_eq!(up.wait(), 0);
        if is_told {
            up.until("agent shop: runs no more: stopped");
        }
        up.rest();
        let said = up.seen.iter().any(|line| line.contains("agent shop: runs in epoch "));
        assert_eq!(said, is_told, "{:?}", up.seen);
    }
}

fn metrics(world: &World) -> (String, String) {
    let mut socket = UnixStream::connect(world.data.join("control.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: synod\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_lowercase(), body.to_owned())
}

type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads the text format 0.0.4 as its specification has it, and refuses what it does not allow.
fn parse(text: &str) -> (BTreeMap<String, String>, Samples) {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let (mut samples, mut closed, mut current) = (Samples::new(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap().to_owned(), words.next().unwrap());
            match what {
                "HELP" => assert!(helps.insert(name.clone()) && !rest.is_empty(), "{line}"),
                "TYPE" => {
                    assert!(matches!(rest, "counter" | "gauge"), "{line}");
                    assert!(types.insert(name.clone(), rest.to_owned()).is_none(), "{line}");
                }
                _ => panic!("{line}"),
            }
            if name != current {
                assert!(closed.insert(name.clone()), "{name} stands in one place");
                current = name;
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        assert_eq!(name, current, "a sample stands below its type");
        assert!(types.contains_key(&name) && helps.contains(&name), "{line}");
        assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
    }
    (types, samples)
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = line.find(|c| !is_name(c)).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(label.chars().all(is_name), "{line}");
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((label.to_owned(), value));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    node.run_agent(&world.program("other.pl", SHOP), "other", json!({"max_time_ms": 60_000}));
    for _ in 1..=5 {
        node.broadcast("arrived(tea, 1)");
    }
    node.wait_agent("shop", |agent| agent["handled"].as_u64() >= Some(5));
    let (head, text) = metrics(&world);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let (types, samples) = parse(&text);
    for (name, kind) in &types {
        assert!(name.starts_with("synod_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
    let space = ("space".to_owned(), "local".to_owned());
    let of_space = |name: &str| samples[&(name.to_owned(), vec![space.clone()])];
    let of_agent = |name: &str, agent: &str| {
        let labels = vec![space.clone(), ("agent".to_owned(), agent.to_owned())];
        samples[&(name.to_owned(), labels)]
    };
    assert!(of_space("synod_space_commands_total") >= 5.0);
    assert_eq!(of_space("synod_space_leader"), 1.0);
    assert!(of_space("synod_space_log_bytes") > 0.0);
    assert!(of_agent("synod_agent_handled_total", "shop") >= 5.0);
    assert_eq!(of_agent("synod_agent_up", "other"), 1.0);
    assert!(of_agent("synod_agent_engine_memory_bytes", "shop") > 0.0);
    assert_eq!(of_agent("synod_agent_engine_memory_limit_bytes", "shop"), f64::from(1 << 30));
    assert!(samples[&("synod_uptime_seconds".to_owned(), Vec::new())] >= 0.0);
    node.down();
}
