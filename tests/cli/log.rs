//! `synod log` and `synod replay`: the past as users see it, with a node and without one.

use crate::SHOP;
use crate::world::{Process, World, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;
use synod::control::limits::DRAIN_TIME;

/// A world in which a shop has had three arrivals and a sale, and has been closed. Gives the last index.
fn shop(world: &World) -> u64 {
    let node = world.up_with("shop", SHOP);
    for arrival in ["arrived(tea, 7)", "arrived(\"green tea\", 2)", "arrived(tea, 1)"] {
        world.yes(["broadcast", arrival]);
    }
    node.wait_query("shop", "stock(tea, 8)");
    assert_eq!(world.yes(["transact", "sell(tea, 3)"]), "true.\n");
    let last = node.get("/v1/status")["spaces"][0]["index"].as_u64().unwrap();
    node.down();
    last
}

fn jsons(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The index of the only entry with an effect that reads so.
fn index_of(entries: &[Value], term: &str) -> u64 {
    let has = |entry: &&Value| {
        entry["effects"].as_array().is_some_and(|all| all.iter().any(|e| e["term"] == term))
    };
    let found: Vec<_> = entries.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{term}: {found:?}");
    found[0]["index"].as_u64().unwrap()
}

#[test]
fn a_log_reads_as_what_was_done_with_a_node_and_without() {
    let world = World::new();
    let last = shop(&world);
    let shown = world.yes(["log", "show"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len() as u64, last);
    for wanted in [
        " cli !arrived(tea,7)",
        " shop +stock(tea,7)",
        " shop -stock(tea,7) +stock(tea,8)",
        " cli -stock(tea,8) +stock(tea,5)",
        " shop claim held by ",
        " cli session",
    ] {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {shown}");
    }
    for (n, line) in lines.iter().enumerate() {
        let mut words = line.split(' ');
        assert!(synod::rfc3339::parse(words.next().unwrap()).is_some(), "{line}");
        assert_eq!(words.next(), Some((n + 1).to_string().as_str()));
    }
    let all = jsons(&world.yes(["log", "show", "--json"]));
    assert_eq!(all.len() as u64, last);

    // Each filter, and the same from a node.
    let sold = index_of(&all, "stock(tea,5)");
    let (at, time) =
        (sold.to_string(), all[sold as usize - 1]["time"].as_str().unwrap().to_owned());
    let queries: [&[&str]; 6] = [
        &["--agent", "shop"],
        &["--functor", "arrived/2"],
        &["--functor", "stock/2", "--agent", "shop"],
        &["--from", "3", "--to", "5"],
        &["--since", &time],
        &["--until", &time, "--from", &at],
    ];
    let show = |query: &[&str]| world.yes([&["log", "show"], query].concat());
    let offline: Vec<String> = queries.iter().map(|query| show(query)).collect();
    assert!(offline[0].lines().all(|line| line.contains(" shop ")));
    assert_eq!((offline[1].lines().count(), offline[3].lines().count()), (3, 3));
    assert!(offline[2].lines().all(|line| line.contains("stock(")));
    assert!(offline[4].contains(" -stock(tea,8) +stock(tea,5)"));
    let no = world.run(["log", "show", "--functor", "nothing/1"]);
    assert_eq!((no.code, no.stdout.as_str(), no.stderr.as_str()), (1, "", ""));
    let late = (last + 7).to_string();
    let ahead = world.run(["log", "show", "--from", &late]);
    let says = format!("synod: index {late} has not come: the log ends at index {last}\n");
    assert_eq!((ahead.code, ahead.stderr.as_str()), (2, says.as_str()));
    for (args, says) in
        [(["--functor", "stock"], "NAME/ARITY"), (["--since", "yesterday"], "2025-01-31T09:30:00Z")]
    {
        let wrong = world.run([&["log", "show"], &args[..]].concat());
        assert!(wrong.code == 2 && wrong.stderr.contains(says), "{wrong:?}");
    }

    let node = world.up(&[]);
    for (query, offline) in queries.iter().zip(&offline).take(4) {
        assert_eq!(&show(query), offline);
    }
    let ahead = world.run(["log", "show", "--from", &(last + 70).to_string()]);
    assert!(ahead.code == 2 && ahead.stderr.contains("has not come: the log ends at"), "{ahead:?}");
    node.down();
}

#[test]
fn a_tail_follows_resumes_and_ends_on_ctrl_c() {
    let world = World::new();
    let node = world.up(&[]);
    world.yes(["broadcast", "one"]);
    let mut tail = Process::start(world.command(["log", "tail", "--from", "1"]), true);
    tail.until(" cli !one");
    world.yes(["broadcast", "two"]);
    let line = tail.until(" cli !two");
    let index: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
    tail.signal(rustix::process::Signal::INT);
    assert_eq!(tail.wait(), 0);
    world.yes(["broadcast", "three"]);
    let from = (index + 1).to_string();
    let mut tail = Process::start(world.command(["log", "tail", "--json", "--from", &from]), true);
    let first: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!(first["index"], index + 1);
    tail.until("\"three\"");
    assert!(!tail.seen.iter().any(|line| line.contains("\"two\"")));
    node.down();
}

#[test]
fn what_follows_does_not_keep_a_node_from_going_down() {
    let world = World::new();
    let path = world.program("shop.pl", SHOP);
    let mut node = Process::start(world.command(["run", &path]), true);
    let line = node.until("[node] listening on ");
    assert!(line.contains("control.sock; agent shop runs in space local"), "{line}");
    let mut tail = Process::start(world.command(["log", "tail", "--from", "1"]), true);
    tail.until(" shop claim");
    let begun = Instant::now();
    node.signal(rustix::process::Signal::INT);
    assert_eq!(node.wait(), 0);
    // It would be cut off after a second.
    assert!(begun.elapsed() < DRAIN_TIME, "{:?}", begun.elapsed());
    assert_eq!(tail.wait(), 2);
    let rest = tail.rest();
    assert!(rest.last().unwrap().contains("synod: the node"), "{rest:?}");
    let alone = world.run(["log", "tail"]);
    assert!(alone.code == 2 && alone.stderr.contains("synod up --data"), "{alone:?}");
}

#[test]
fn a_folder_of_another_format_is_refused_without_a_node_too() {
    let world = World::new();
    shop(&world);
    std::fs::write(world.data.join("version"), "99\n").unwrap();
    for args in [&["log", "verify"][..], &["log", "show"], &["replay"]] {
        let ran = world.run(args);
        assert!(ran.code != 0 && ran.stderr.contains("is of format 99, and"), "{args:?} {ran:?}");
    }
}

#[test]
fn an_export_comes_back_as_the_same_space() {
    let world = World::new();
    let last = shop(&world);
    let file = world.path().join("log.cbor");
    let file = file.to_str().unwrap();
    let exported = &jsons(&world.yes(["log", "export", file, "--json"]))[0];
    assert_eq!((&exported["first"], &exported["last"]), (&1.into(), &last.into()));
    let verified = world.yes(["log", "verify", file]);
    let chain = exported["chain"].as_str().unwrap();
    assert!(verified.contains("whole; local, index 1 to "), "{verified}");
    assert!(
        verified.contains(chain) && verified.ends_with("the end is not signed\n"),
        "{verified}"
    );
    // stdout is the same bytes, and a part is a part.
    let bytes = std::fs::read(file).unwrap();
    let stdout = world.command(["log", "export", "-"]).output().unwrap();
    assert!(stdout.status.success() && stdout.stdout == bytes && stdout.stderr.is_empty());
    let part = world.path().join("part.cbor");
    let part = part.to_str().unwrap();
    world.yes(["log", "export", part, "--from", "3", "--to", "6"]);
    assert!(world.yes(["log", "verify", part]).contains("index 3 to 6, "));
    let refused = world.run(["log", "import", part]);
    assert!(refused.code == 2 && refused.stderr.contains("stands at index"), "{refused:?}");

    // Into an empty data folder without a node, and into a node.
    let offline = World::new();
    let refused = offline.run(["log", "import", part]);
    assert!(refused.code == 2 && refused.stderr.contains("begins at index 3"), "{refused:?}");
    let imported = jsons(&offline.yes(["log", "import", file, "--json"])).remove(0);
    assert_eq!((&imported["chain"], &imported["commands"]), (&chain.into(), &last.into()));
    let online = World::new();
    let node = online.up(&[]);
    let refused = online.run(["log", "import", part]);
    assert!(refused.code == 2 && refused.stderr.contains("begins at index 3"), "{refused:?}");
    assert_eq!(jsons(&online.yes(["log", "import", file, "--json"]))[0], imported);
    let again = online.run(["log", "import", file]);
    assert!(again.code == 2 && again.stderr.contains(&format!("at index {last}")), "{again:?}");
    node.down();
    for world in [&offline, &online] {
        assert!(!world.data.join("import-local").exists());
        let copy = world.path().join("copy.cbor");
        world.yes(["log", "export", copy.to_str().unwrap()]);
        assert!(std::fs::read(&copy).unwrap() == bytes, "what is imported is exported alike");
        assert!(world.yes(["log", "verify"]).contains(chain));
    }

    // It is a space like any other: the agent goes on where it was.
    let node = offline.up_with("shop", SHOP);
    assert_eq!(offline.yes(["query", "stock(tea, X)"]), "X = 5.\n");
    offline.yes(["broadcast", "arrived(tea, 1)"]);
    assert_eq!(offline.yes(["query", "stock(tea, X)"]), "X = 6.\n");
    let again = offline.run(["log", "import", file]);
    assert!(again.code == 2 && again.stderr.contains("empty one only"), "{again:?}");
    let live = offline.path().join("live.cbor");
    let live = live.to_str().unwrap();
    offline.yes(["log", "export", live, "--to", &last.to_string()]);
    assert!(std::fs::read(live).unwrap() == bytes, "from a node as from a folder");
    node.down();
}

#[test]
fn what_is_wrong_with_an_export_is_said_and_exits_1() {
    let world = World::new();
    shop(&world);
    let path = world.path().join("log.cbor");
    let file = path.to_str().unwrap();
    world.yes(["log", "export", file]);
    let bytes = std::fs::read(file).unwrap();
    let flip = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        changed
    };
    let name = bytes.windows(5).rposition(|five| five == b"green").unwrap();
    let with_more = [&bytes[..], b"x"].concat();
    for (changed, says) in [
        (flip(name), "its check does not fit"),
        (bytes[..bytes.len() - 50].to_vec(), "its end is missing"),
        (bytes[..2].to_vec(), "not an export of a Synod log"),
        (b"hello".to_vec(), "not an export of a Synod log"),
        (Vec::new(), "not an export of a Synod log"),
        (with_more, "bytes follow the end"),
    ] {
        std::fs::write(file, changed).unwrap();
        let ran = world.run(["log", "verify", file]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{says}: {ran:?}");
        assert!(ran.stderr.starts_with(&format!("synod: {file}: ")), "{ran:?}");
        assert!(ran.stderr.contains(says) && ran.stderr.lines().count() == 1, "{ran:?}");
        let fresh = World::new();
        for args in [&["log", "import", file][..], &["replay", file]] {
            let ran = fresh.run(args);
            assert!(ran.code == 2 && ran.stderr.contains(says), "{args:?}: {ran:?}");
        }
        assert!(!fresh.data.join("spaces/local/log").exists(), "nothing is left behind");
    }
    let gone = world.run(["log", "verify", "/nowhere/log.cbor"]);
    assert!(gone.code == 2 && gone.stderr.contains("/nowhere/log.cbor: "), "{gone:?}");
}

/// Ten gigabytes of nothing behind a header, in a file that takes no room: refused without being read
/// into memory.
#[test]
fn a_huge_file_is_refused_in_little_memory() {
    let world = World::new();
    shop(&world);
    let path = world.path().join("huge.cbor");
    world.yes(["log", "export", path.to_str().unwrap(), "--to", "2"]);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let end = file.metadata().unwrap().len() - 40;
    file.set_len(end).unwrap();
    file.write_all(&[0x84, 3, 0, 0x5b, 0, 0, 0, 2, 0x54, 0x0b, 0xe4, 0]).unwrap();
    file.set_len(10 << 30).unwrap();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 1000000; exec \"$0\" log verify \"$1\"", crate::world::SYNOD]);
    let ran = limited.arg(&path).env("SYNOD_DATA", &world.data).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(1), "{stderr}");
    assert!(stderr.contains("index ") && stderr.contains(", byte "), "{stderr}");
}

#[test]
fn a_closed_pipe_ends_everything_quietly() {
    let world = World::new();
    shop(&world);
    for args in [&["log", "show"][..], &["log", "export", "-"], &["replay"]] {
        let mut command = world.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{args:?}"
        );
    }
}

#[test]
fn the_past_answers_from_a_file_a_folder_and_a_node() {
    let world = World::new();
    let last = shop(&world);
    let all = jsons(&world.yes(["log", "show", "--json"]));
    let place = world.path().join("log.cbor");
    let file = place.to_str().unwrap();
    world.yes(["log", "export", file]);
    let entry = |index: u64| &all[index as usize - 1];
    let eight = index_of(&all[..all.len() - 1], "stock(tea,8)");
    let time = entry(eight).clone()["time"].as_str().unwrap().to_owned();
    let before = (index_of(&all, "stock(\"green tea\",2)") - 1).to_string();
    let goal = "findall(N, stock(_, N), Ns), sum_list(Ns, Sum)";
    let ask = |from: &[&str]| {
        let until = |until: &str, rest: &[&str]| {
            world.run([&["replay"], from, &["--until", until], rest].concat())
        };
        let now = world.yes([&["replay"], from].concat());
        assert_eq!(now, "stock(\"green tea\",2).\nstock(tea,5).\n");
        for at in [&eight.to_string(), &time] {
            let then = until(at, &[]).stdout;
            assert_eq!(then, "stock(\"green tea\",2).\nstock(tea,8).\n", "{at}");
            let answer = until(at, &["-q", goal]).stdout;
            assert_eq!(answer, "Ns = [2,8], Sum = 10.\n", "{at}");
        }
        assert_eq!(until(&before, &["-q", "stock(X, Y)"]).stdout, "X = tea, Y = 7.\n");
        let none = until(&before, &["-q", "stock(coffee, _)"]);
        assert_eq!((none.code, none.stdout.as_str()), (1, "false.\n"));
        let limited = until("99999999999", &["-q", "repeat", "--limit", "2"]);
        let ahead = format!("index 99999999999 has not come: the log ends at index {last}\n");
        assert!(limited.code == 2 && limited.stderr.ends_with(&ahead), "{limited:?}");
        // Before all and after all.
        assert_eq!(until("1971-01-01T00:00:00Z", &[]).stdout, "");
        assert_eq!(until("0", &[]).stdout, "");
        assert_eq!(until("2200-01-01T00:00:00Z", &["--limit", "1"]).stdout.lines().count(), 1);
        let json = jsons(&until(&eight.to_string(), &["--json"]).stdout);
        assert_eq!(json[1]["fact"], "stock(tea,8)");
        assert_eq!(json[1]["predicate"], "stock/2");
        let json = jsons(&until(&eight.to_string(), &["--json", "-q", "stock(tea, X)"]).stdout);
        assert_eq!(json[0]["bindings"]["X"], 8);
    };
    ask(&[file]);
    ask(&["--space", "local"]);

    let syntax = world.run(["replay", file, "-q", "foo(("]);
    assert!(syntax.code == 2 && syntax.stderr.contains("line 1, column 6"), "{syntax:?}");
    let write = world.run(["replay", file, "-q", "assertz(stock(a, 1))"]);
    assert!(write.code == 2 && write.stderr.contains("permission_error(modify,past"), "{write:?}");
    let wrong = world.run(["replay", "--until", "soon"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("neither an index nor a time"), "{wrong:?}");

    let node = world.up_with("shop", SHOP);
    let at = eight.to_string();
    for as_of in [&at, &time] {
        assert_eq!(world.yes(["query", "--as-of", as_of, "stock(tea, X)"]), "X = 8.\n");
    }
    assert_eq!(world.yes(["query", "stock(tea, X)"]), "X = 5.\n");
    let early = world.run(["query", "--as-of", "1971-01-01T00:00:00Z", "stock(_, _)"]);
    assert_eq!((early.code, early.stdout.as_str()), (1, "false.\n"));
    let ahead = world.run(["query", "--as-of", "99999", "stock(_, _)"]);
    assert!(ahead.stderr.contains("index 99999 has not come"), "{ahead:?}");
    let write = world.run(["query", "--as-of", &at, "assertz(stock(a, 1))"]);
    assert!(write.code == 2 && write.stderr.contains("permission_error(modify,past"), "{write:?}");
    let live = world.yes(["replay", "--until", &at]);
    assert_eq!(live, "stock(\"green tea\",2).\nstock(tea,8).\n");
    let live = world.yes(["replay", "--until", &time, "-q", "stock(tea, X)"]);
    assert_eq!(live, "X = 8.\n");
    node.down();
}

#[test]
fn a_follower_of_the_export_gets_what_comes() {
    let world = World::new();
    let node = world.up(&[]);
    world.yes(["broadcast", "one"]);
    let mut socket =
        std::os::unix::net::UnixStream::connect(world.data.join("control.sock")).unwrap();
    let request =
        "GET /v1/log?follow=true HTTP/1.1\r\nHost: synod\r\nAccept: application/cbor-seq\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = BufReader::new(socket);
    let mut seen = Vec::new();
    let mut until = |text: &[u8]| {
        while !seen.windows(text.len()).any(|window| window == text) {
            let more = answer.fill_buf().unwrap();
            assert!(!more.is_empty(), "it ended");
            seen.extend_from_slice(more);
            let len = more.len();
            answer.consume(len);
        }
    };
    until(b"synod-export");
    until(b"one");
    world.yes(["broadcast", "second"]);
    until(b"second");
    wait_for("the node", || node.pid() > 0);
    node.down();
}
