//! `docs/api.md` is held to what is: its examples are run from top to bottom against real nodes, by a
//! shell and curl as a reader would, and the errors that it names are provoked.

use crate::SHOP;
use crate::http::Raw;
use crate::support::{installed, skip};
use crate::world::{LOOK, PATIENCE, Process, World};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use synod::api::CODES;
use synod_core::cbor::Reader;

const PAGE: &str = include_str!("../../docs/api.md");
/// What the page says stands for further members, items or lines, and within a text for any text.
const REST: &str = "…";
/// Where the page has its program; the test has it elsewhere.
const HOME: &str = "/home/me";

/// A request of the page and what it is said to answer.
#[derive(Debug)]
struct Example {
    /// The route that it stands under.
    route: String,
    command: String,
    status: u16,
    lines: Vec<String>,
}

/// All fenced blocks of a language in a text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn routes() -> Vec<(&'static str, &'static str)> {
    PAGE.split("\n### `").skip(1).map(|part| part.split_once("`\n").unwrap()).collect()
}

/// The examples, with the page's program in this folder.
fn examples(folder: &Path) -> Vec<Example> {
    let mut all = Vec::new();
    for (route, text) in routes() {
        let text = text.replace(HOME, folder.to_str().unwrap());
        let (commands, answers) = (blocks(&text, "sh"), blocks(&text, "text"));
        assert!(!commands.is_empty(), "{route} has no example");
        assert_eq!(commands.len(), answers.len(), "{route}: each example has its answer");
        for (command, answer) in commands.into_iter().zip(answers) {
            let mut lines = answer.lines().map(str::to_owned);
            let status = lines.next().unwrap().split(' ').next().unwrap().parse().unwrap();
            let (route, command) = (route.to_owned(), command.to_owned());
            all.push(Example { route, command, status, lines: lines.collect() });
        }
    }
    all
}

/// What stands for something, as JSON that can be told from all that is literal.
fn template(text: &str) -> Value {
    let (mut made, mut in_string, mut rest) = (String::new(), false, text.chars().peekable());
    let mut inside = Vec::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => in_string = !in_string,
            'N' if !in_string => {
                made.push_str("\"\u{e000}N\"");
                continue;
            }
            '$' if !in_string => {
                let mut name = String::new();
                while let Some(c) = rest.next_if(char::is_ascii_uppercase) {
                    name.push(c);
                }
                made.push_str(&format!("\"${name}\""));
                continue;
            }
            '{' | '[' if !in_string => inside.push(c),
            '}' | ']' if !in_string => drop(inside.pop()),
            '…' if !in_string => {
                // A member has a value; an item is one.
                made.push_str(if inside.last() == Some(&'{') {
                    "\"…\": 0"
                } else {
                    "\"\u{e000}…\""
                });
                continue;
            }
            _ => {}
        }
        made.push(c);
    }
    serde_json::from_str(&made).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether a text is another one in which `…` stands for any.
fn is_text(wanted: &str, found: &str) -> bool {
    let mut parts = wanted.split(REST);
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The values of the page's shell variables, as far as answers have told them.
type Known = BTreeMap<String, String>;

/// Whether an answer is what the page shows.
fn is_as(wanted: &Value, found: &Value, known: &mut Known) -> bool {
    match (wanted, found) {
        (Value::String(wanted), _) if wanted == "\u{e000}N" => found.is_number(),
        (Value::String(name), Value::String(_) | Value::Number(_)) if name.starts_with('$') => {
            let value = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            known.entry(name[1..].to_owned()).or_insert_with(|| value.clone()) == &value
        }
        (Value::String(wanted), Value::String(found)) => is_text(wanted, found),
        (Value::Object(wanted), Value::Object(found)) => {
            let is_open = wanted.contains_key(REST);
            let members = wanted.iter().filter(|(name, _)| *name != REST);
            let all = members
                .clone()
                .all(|(name, wanted)| found.get(name).is_some_and(|it| is_as(wanted, it, known)));
            all && (is_open || members.count() == found.len())
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let (mut at, mut skips) = (0, false);
            for wanted in wanted {
                if wanted == "\u{e000}…" {
                    skips = true;
                    continue;
                }
                let place = found[at..].iter().position(|it| is_as(wanted, it, known));
                match place {
                    Some(0) => at += 1,
                    Some(n) if skips => at += n + 1,
                    _ => return false,
                }
                skips = false;
            }
            skips || at == found.len()
        }
        _ => wanted == found,
    }
}

/// Whether one line of an answer is one of the page: of a stream, of JSON, or of text.
fn is_line(wanted: &str, found: &str, known: &mut Known) -> bool {
    let (wanted, found) = match (wanted.strip_prefix("data: "), found.strip_prefix("data: ")) {
        (Some(wanted), Some(found)) => (wanted, found),
        (None, None) => (wanted, found),
        _ => return false,
    };
    match serde_json::from_str(found) {
        Ok(found) => is_as(&template(wanted), &found, known),
        Err(_) => is_text(wanted, found),
    }
}

fn are_lines(wanted: &[String], found: &[&str], known: &mut Known) -> bool {
    let (wanted, is_open) = match wanted.split_last() {
        Some((last, wanted)) if last == REST => (wanted, true),
        _ => (wanted, false),
    };
    let fits = if is_open { wanted.len() <= found.len() } else { wanted.len() == found.len() };
    fits && wanted.iter().zip(found).all(|(wanted, found)| is_line(wanted, found, known))
}

/// A CBOR sequence of arrays, one line of JSON each.
fn cbor_lines(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let mut r = Reader::new(bytes);
        let items = (0..r.array().unwrap()).map(|_| r.uint().unwrap()).collect::<Vec<_>>();
        lines.push(format!("{items:?}"));
        bytes = &bytes[r.position()..];
    }
    lines
}

/// A shell that runs the page's commands.
struct Shell<'a> {
    folder: &'a Path,
    data: &'a Path,
    other: &'a Path,
    known: Known,
    /// Those that the page leaves in the background.
    background: Vec<Process>,
}

impl Shell<'_> {
    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec 2>/dev/null; {text}")])
            .current_dir(self.folder)
            // Where curl is told to write the head of an answer.
            .env("CURL_HOME", self.folder)
            .env("SYNOD_DATA", self.data)
            .env("OTHER_DATA", self.other)
            .envs(&self.known)
            .stdin(Stdio::null());
        command
    }

    /// The status of the last answer.
    fn status(&self) -> u16 {
        let head = std::fs::read_to_string(self.folder.join("head")).unwrap_or_default();
        let last = head.lines().rfind(|line| line.starts_with("HTTP/1.1 ")).unwrap_or_default();
        last.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn run(&mut self, example: &Example) {
        let _ = std::fs::remove_file(self.folder.join("head"));
        let background = example.command.strip_suffix(" &");
        let is_stream = example.lines.last().is_some_and(|line| line == REST)
            && example.lines[0].starts_with("data: ");
        if is_stream {
            let command = format!("exec {}", background.unwrap_or(&example.command));
            let mut process = Process::start(self.command(&command), false);
            for wanted in example.lines.iter().filter(|line| *line != REST) {
                let found = std::iter::repeat_with(|| process.line()).find(|line| !line.is_empty());
                let found = found.unwrap();
                assert!(is_line(wanted, &found, &mut self.known), "{example:#?} said {found}");
            }
            assert_eq!(self.status(), example.status, "{example:#?}");
            if background.is_some() {
                self.background.push(process);
            }
            return;
        }
        // What has been told of takes a moment to be so: a GET is asked again until it is.
        let started = Instant::now();
        loop {
            let output = self.command(&example.command).output().unwrap();
            let text = String::from_utf8(output.stdout.clone());
            let text = text.unwrap_or_else(|_| cbor_lines(&output.stdout).join("\n"));
            let found: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            let mut known = self.known.clone();
            let is_so =
                self.status() == example.status && are_lines(&example.lines, &found, &mut known);
            if is_so {
                self.known = known;
                return;
            }
            let may_repeat = example.route.starts_with("GET ") && !example.command.contains("-d");
            let status = self.status();
            assert!(
                may_repeat && started.elapsed() < PATIENCE,
                "{example:#?} answered {status}\n{text}\nwith {:?}",
                self.known
            );
            std::thread::sleep(LOOK);
        }
    }
}

#[test]
fn every_example_answers_what_the_page_shows() {
    if !installed("curl") {
        return skip("every_example_answers_what_the_page_shows", "`curl` is not installed");
    }
    let (world, other) = (World::on_loopback(), World::on_loopback());
    world.program("bank.pl", blocks(PAGE, "prolog")[0]);
    world.program(".curlrc", "dump-header = \"head\"\n");
    let mut node = Process::start(world.command(["up"]), false);
    node.until("listening on");
    let _other = other.up(&[]);
    let mut reader = Shell {
        folder: world.path(),
        data: &world.data,
        other: &other.data,
        known: Known::new(),
        background: Vec::new(),
    };
    let examples = examples(world.path());
    assert!(examples.len() > 30, "{}", examples.len());
    for example in &examples {
        reader.run(example);
    }
    // The last one takes the node down.
    assert_eq!(node.wait(), 0);
}

/// The codes that a text names, as in `code`.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let known = |word: &&str| CODES.iter().any(|(code, _)| code == word);
    quoted.filter(known).map(str::to_owned).collect()
}

#[test]
fn the_codes_of_the_page_are_those_that_there_are() {
    let table = PAGE.split("| status | codes |\n|---|---|\n").nth(1).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let mut shown = BTreeSet::new();
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let status: u16 = cells.next().unwrap().parse().unwrap();
        for code in cells.next().unwrap().split(", ") {
            shown.insert((code.trim_matches('`'), status));
        }
    }
    assert_eq!(shown, BTreeSet::from(CODES));
    // Nothing in a list of errors looks like a code and is none, but for what is said of it.
    const OTHERS: [&str; 8] = [
        "problems",
        "step",
        "min_index",
        "id",
        "none of its own",
        "/v1/query",
        "status",
        "shutdown",
    ];
    for (route, text) in routes() {
        let errors = text.lines().find_map(|line| line.strip_prefix("Errors: ")).unwrap();
        for word in errors.split('`').skip(1).step_by(2) {
            let is_known = CODES.iter().any(|(code, _)| *code == word) || OTHERS.contains(&word);
            assert!(is_known || route == "POST /v1/propose", "{route}: {word}");
        }
    }
}

/// A request that is refused: the route, the path and the body that are sent, and the code.
type Refused = (&'static str, &'static str, &'static str, &'static str);

/// Requests to a node with a running agent `a` and one `b` that is stopped.
const REFUSED: &[Refused] = &[
    ("POST /v1/run", "", r#"{"program": "FOLDER/wrong.pl"}"#, "program"),
    ("POST /v1/run", "", r#"{"program": "FOLDER/nowhere.pl"}"#, "not_found"),
    ("POST /v1/run", "", r#"{"program": "FOLDER/a.pl"}"#, "exists"),
    ("POST /v1/run", "", r#"{"program": "FOLDER/a.pl", "name": "."}"#, "name"),
    (
        "POST /v1/run",
        "",
        r#"{"program": "FOLDER/a.pl", "name": "m", "options": {"multicast": ["10.0.0.1:1"]}}"#,
        "multicast",
    ),
    ("POST /v1/run", "", r#"{"program": "FOLDER/halts.pl"}"#, "engine"),
    ("GET /v1/agents/{name}/predicates", "/v1/agents/x/predicates", "", "not_found"),
    ("GET /v1/agents/{name}/predicates", "/v1/agents/c/predicates", "", "program"),
    ("POST /v1/agents/{name}/reload", "/v1/agents/x/reload", "", "not_found"),
    ("POST /v1/agents/{name}/reload", "/v1/agents/b/reload", "", "stopped"),
    ("POST /v1/agents/{name}/reload", "/v1/agents/c/reload", "", "program"),
    ("POST /v1/agents/{name}/restart", "/v1/agents/x/restart", "", "not_found"),
    ("POST /v1/agents/{name}/restart", "/v1/agents/c/restart", "", "program"),
    ("POST /v1/session", "", r#"{"label": ""}"#, "name"),
    ("POST /v1/broadcast", "", r#"{"term": "a("}"#, "syntax"),
    ("POST /v1/broadcast", "", r#"{"term": "X"}"#, "bad_request"),
    ("POST /v1/broadcast", "", r#"{"term": "a", "once": {"session": 4711, "seq": 1}}"#, "refused"),
    ("GET /v1/outcome/{id}", "/v1/outcome/4711-1", "", "not_found"),
    ("GET /v1/outcome/{id}", "/v1/outcome/12", "", "bad_request"),
    ("POST /v1/transact", "", r#"{"goal": "true", "agent": "x"}"#, "not_found"),
    ("POST /v1/facts", "", r#"{"pattern": "a("}"#, "syntax"),
    ("POST /v1/facts", "", r#"{"pattern": "7"}"#, "bad_request"),
    ("POST /v1/facts", "", r#"{"pattern": "a", "space": "x"}"#, "not_found"),
    ("POST /v1/facts", "", r#"{"pattern": "a", "min_index": 4711}"#, "behind"),
    ("POST /v1/query", "", r#"{"goal": "a(", "agent": "a"}"#, "syntax"),
    ("POST /v1/query", "", r#"{"goal": "throw(a)", "agent": "a"}"#, "threw"),
    ("POST /v1/query", "", r#"{"goal": "halt", "agent": "a"}"#, "halted"),
    ("POST /v1/query", "", r#"{"goal": "repeat, fail", "agent": "short"}"#, "engine"),
    ("POST /v1/query", "", r#"{"goal": "true", "agent": "c"}"#, "program"),
    ("POST /v1/query", "", r#"{"goal": "true"}"#, "ambiguous"),
    ("POST /v1/query", "", r#"{"goal": "true", "agent": "x"}"#, "not_found"),
    ("POST /v1/query", "", r#"{"goal": "true", "agent": "a", "as_of": 4711}"#, "not_found"),
    ("POST /v1/query", "", r#"{"goal": "true", "agent": "a", "min_index": 4711}"#, "behind"),
    ("POST /v1/query", "", r#"{"goal": "true", "agent": "a", "step": ""}"#, "bad_request"),
    ("POST /v1/query", "", r#"{"goal": "p(_)", "agent": "a", "step": "taken"}"#, "exists"),
    ("POST /v1/goals/{name}/more", "/v1/goals/x/more", "", "not_found"),
    ("GET /v1/changes", "/v1/changes?predicate=p", "", "bad_request"),
    ("GET /v1/changes", "/v1/changes?space=mars", "", "not_found"),
    ("GET /v1/agents/{name}/logs", "/v1/agents/x/logs", "", "not_found"),
    ("GET /v1/agents/{name}/letters", "/v1/agents/x/letters", "", "not_found"),
    (
        "POST /v1/agents/{name}/letters/retry",
        "/v1/agents/x/letters/retry",
        r#"{"all": true}"#,
        "not_found",
    ),
    ("POST /v1/agents/{name}/letters/retry", "/v1/agents/a/letters/retry", "{}", "bad_request"),
    (
        "POST /v1/agents/{name}/letters/retry",
        "/v1/agents/b/letters/retry",
        r#"{"all": true}"#,
        "stopped",
    ),
    (
        "POST /v1/agents/{name}/letters/drop",
        "/v1/agents/a/letters/drop",
        r#"{"positions": ["9.0"]}"#,
        "not_found",
    ),
    (
        "POST /v1/agents/{name}/letters/drop",
        "/v1/agents/a/letters/drop",
        r#"{"positions": ["nine"]}"#,
        "bad_request",
    ),
    ("POST /v1/agents/{name}/stop", "/v1/agents/x/stop", "", "not_found"),
    ("POST /v1/modules", "", r#"{"name": "", "text": "a."}"#, "name"),
    ("POST /v1/modules", "", r#"{"name": "m", "text": " "}"#, "bad_request"),
    ("POST /v1/modules", "", r#"{"name": "m", "text": ":- module(m, []).\np(."}"#, "program"),
    ("GET /v1/modules/{name}", "/v1/modules/m", "", "not_found"),
    ("GET /v1/log", "/v1/log?functor=p", "", "bad_request"),
    ("GET /v1/log", "/v1/log?from=4711", "", "not_found"),
    ("GET /v1/log/place", "/v1/log/place?at=soon", "", "bad_request"),
    ("GET /v1/log/place", "/v1/log/place?at=4711", "", "not_found"),
    ("POST /v1/log/import", "", "no export", "exists"),
    ("POST /v1/peers/connect", "", r#"{"address": "x"}"#, "address"),
    ("POST /v1/peers/connect", "", r#"{"address": "/ip4/127.0.0.1/tcp/1"}"#, "unreachable"),
    ("POST /v1/peers/disconnect", "", r#"{"peer": "x"}"#, "address"),
    ("POST /v1/peers/disconnect", "", NOBODY, "not_found"),
    ("POST /v1/peers/add", "", r#"{"address": "x"}"#, "address"),
    ("POST /v1/peers/remove", "", r#"{"peer": "x"}"#, "address"),
    ("POST /v1/peers/remove", "", NOBODY, "not_found"),
    ("GET /v1/subscribe", "/v1/subscribe?topic=", "", "name"),
    ("POST /v1/publish", "", r#"{"topic": "", "term": "a"}"#, "name"),
    ("POST /v1/publish", "", r#"{"topic": "a", "term": "a("}"#, "syntax"),
    ("POST /v1/call", "", r#"{"agent": "x", "goal": "a"}"#, "not_found"),
    ("POST /v1/tunnels", "", r#"{"name": ".", "groups": ["239.0.0.2"], "ports": ["1"]}"#, "name"),
    (
        "POST /v1/tunnels",
        "",
        r#"{"name": "t", "groups": ["10.0.0.1"], "ports": ["1"]}"#,
        "bad_request",
    ),
    (
        "POST /v1/tunnels",
        "",
        r#"{"name": "t", "groups": ["239.0.0.2"], "ports": ["47011"], "peers": ["x"]}"#,
        "address",
    ),
    (
        "POST /v1/tunnels",
        "",
        r#"{"name": "t", "groups": ["239.192.77.201"], "ports": ["47010"], "capture": "join"}"#,
        "",
    ),
    (
        "POST /v1/tunnels",
        "",
        r#"{"name": "u", "groups": ["239.192.77.201"], "ports": ["47009-47010"]}"#,
        "exists",
    ),
    ("POST /v1/tunnels/{name}/remove", "/v1/tunnels/t/remove", "", ""),
    ("POST /v1/tunnels/{name}/remove", "/v1/tunnels/t/remove", "", "not_found"),
    ("POST /v1/spaces", "", r#"{"name": "."}"#, "name"),
    ("POST /v1/spaces", "", r#"{"name": "local"}"#, "name"),
    ("POST /v1/spaces/tickets", "", "{}", "local"),
    ("POST /v1/spaces/tickets/revoke", "", "{}", "local"),
    ("POST /v1/spaces/join", "", r#"{"ticket": "bank"}"#, "ticket"),
    ("POST /v1/spaces/join", "", r#"{"ticket": "TICKET", "name": "."}"#, "name"),
    ("POST /v1/spaces/join", "", r#"{"ticket": "TICKET"}"#, "join"),
    ("GET /v1/spaces/members", "", "", "local"),
    ("POST /v1/spaces/members/{what}", "/v1/spaces/members/promote", r#"{"member": "1"}"#, "local"),
    ("POST /v1/spaces/{name}/leave", "/v1/spaces/local/leave", "{}", "local"),
    (
        "POST /v1/spaces/{name}/retain",
        "/v1/spaces/local/retain",
        r#"{"retain": "1"}"#,
        "bad_request",
    ),
    (
        "POST /v1/spaces/{name}/recover",
        "/v1/spaces/local/recover",
        r#"{"understood": "recover local and lose what others have"}"#,
        "local",
    ),
    // Last: there is another space from here on.
    ("POST /v1/spaces", "", r#"{"name": "news"}"#, ""),
    ("POST /v1/spaces", "", r#"{"name": "news"}"#, "exists"),
    (
        "POST /v1/spaces/members/{what}",
        "/v1/spaces/members/promote",
        r#"{"member": "nobody"}"#,
        "not_found",
    ),
    (
        "POST /v1/spaces/members/{what}",
        "/v1/spaces/members/promote",
        r#"{"member": "1"}"#,
        "refused",
    ),
    (
        "POST /v1/spaces/{name}/recover",
        "/v1/spaces/news/recover",
        r#"{"understood": "recover local and lose what others have"}"#,
        "understood",
    ),
    (
        "POST /v1/spaces/{name}/recover",
        "/v1/spaces/news/recover",
        r#"{"understood": "recover news and lose what others have"}"#,
        "quorum",
    ),
];

/// Of a space that nobody has, whose member is nowhere.
const TICKET: &str = "synod-ticket:\
    q4avqiabaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibafsg433omviacaibaeaqcaib\
    aeaqcaibaeaqcwbgaasaqaiseabqgaydambqgaydambqgaydambqgaydambqgaydambqgaydambqhahw";

/// A peer that nobody is.
const NOBODY: &str = r#"{"peer": "12D3KooWLm8DkVjY6cntUAKAL92W4h7BRe5sjq5NJjSFfzdrv4cW"}"#;

/// What takes a full disk, a busy or a broken machine, many nodes or many megabytes to provoke, and is
/// provoked by other tests or by unit tests.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("POST /v1/run", &["not_claimed"]),
    ("GET /v1/agents/{name}/predicates", &["engine"]),
    ("POST /v1/agents/{name}/reload", &["engine", "not_claimed"]),
    ("POST /v1/agents/{name}/restart", &["engine", "not_claimed", "damaged"]),
    ("POST /v1/transact", &["unknown", "refused"]),
    ("POST /v1/query", &["too_large"]),
    ("POST /v1/facts", &["too_large", "no_quorum", "rebuilding"]),
    ("GET /v1/agents/{name}/logs", &["too_large"]),
    ("POST /v1/agents/{name}/letters/drop", &["refused"]),
    ("POST /v1/agents/{name}/stop", &["disk"]),
    ("POST /v1/modules", &["engine"]),
    ("GET /v1/log", &["too_large"]),
    ("POST /v1/log/import", &["bad_request", "disk"]),
    ("POST /v1/spaces", &["net", "disk"]),
    (
        "POST /v1/spaces/join",
        &["exists", "net", "disk", "recovered", "removed", "damaged", "observer"],
    ),
    ("POST /v1/spaces/members/{what}", &["observer"]),
    ("POST /v1/spaces/{name}/recover", &["recovered", "refused", "unknown"]),
    ("POST /v1/spaces/{name}/leave", &["refused", "disk"]),
    ("POST /v1/spaces/{name}/retain", &["disk"]),
    ("GET /v1/peers/id", &["net"]),
    ("POST /v1/peers/connect", &["net"]),
    ("POST /v1/peers/disconnect", &["net"]),
    ("POST /v1/peers/add", &["net", "busy"]),
    ("POST /v1/peers/remove", &["net"]),
    ("POST /v1/tunnels", &["multicast", "busy", "net", "disk"]),
    ("POST /v1/tunnels/{name}/remove", &["disk"]),
    ("GET /v1/subscribe", &["busy"]),
    ("POST /v1/publish", &["too_large", "busy"]),
    ("POST /v1/publish/lines", &["name", "syntax", "bad_request", "too_large", "busy"]),
    ("POST /v1/call", &["unreachable"]),
];

#[test]
fn the_errors_that_the_page_names_can_be_provoked() {
    let world = World::on_loopback();
    let node = world.up_with("a", SHOP);
    let run = |name: &str, text: &str, options: Value| {
        let path = world.program(&format!("{name}.pl"), text);
        node.run_agent(&path, name, options);
    };
    run("b", SHOP, json!({}));
    run("c", SHOP, json!({}));
    run("short", SHOP, json!({"max_time_ms": 2000}));
    node.post("/v1/agents/b/stop", &Value::Null);
    world.program("c.pl", "p(.\n");
    world.program("wrong.pl", "p(.\n");
    world.program("halts.pl", ":- initialization(halt(3)).\n");
    let step = json!({"goal": "repeat", "agent": "a", "step": "taken"});
    let mut waiting = Raw::connect(&world.data);
    waiting.request("POST", "/v1/query", step.to_string());
    assert_eq!(waiting.answer().0, 200);

    let mut provoked: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for &(route, path, body, code) in REFUSED {
        let (method, of_route) = route.split_once(' ').unwrap();
        let path = if path.is_empty() { of_route } else { path };
        let body = body.replace("FOLDER", world.path().to_str().unwrap());
        let body = body.replace("TICKET", TICKET);
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        let body = if body == "" { Value::Null } else { body };
        let (status, answer) = node.ask(method, path, &body).unwrap();
        if code.is_empty() {
            assert_eq!(status, 200, "{route} {body}: {answer}");
            continue;
        }
        assert_eq!(answer["code"], code, "{route} {body}: {status} {answer}");
        let known = CODES.iter().find(|(known, _)| *known == code).unwrap();
        assert_eq!(status, known.1, "{route}");
        let message = answer["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        provoked.entry(route).or_default().insert(code.to_owned());
    }
    for (route, text) in routes() {
        let errors = text.lines().find_map(|line| line.strip_prefix("Errors: ")).unwrap();
        let elsewhere = ELSEWHERE.iter().find(|(of, _)| *of == route).map_or(&[][..], |(_, it)| it);
        for code in named(errors) {
            let is_provoked = provoked.get(route).is_some_and(|codes| codes.contains(&code));
            let is_known = is_provoked || elsewhere.contains(&code.as_str());
            assert!(is_known || route == "POST /v1/propose", "{route}: {code}");
        }
    }
}
