//! What the verbs print, where, and with which status they end.

use crate::SHOP;
use crate::pty::Terminal;
use crate::world::{Process, Ran, World, children, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn answers_are_prolog_and_the_status_is_yes_or_no() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    assert!(world.yes(["broadcast", "arrived(tea, 7)"]).starts_with("committed at index "));
    world.yes(["broadcast", "arrived(\"green tea\", 2)"]);
    assert_eq!(world.yes(["query", "stock(tea, X)"]), "X = 7.\n");
    assert_eq!(world.yes(["query", "stock(tea, 7)"]), "true.\n");
    let all = world.yes(["query", "stock(I, X)"]);
    assert_eq!(lines(&all), ["I = tea, X = 7.", "I = \"green tea\", X = 2."]);
    assert_eq!(world.yes(["query", "stock(I, X)", "--limit", "1"]), "I = tea, X = 7.\n");
    let no = world.run(["query", "stock(coffee, X)"]);
    assert_eq!((no.code, no.stdout.as_str(), no.stderr.as_str()), (1, "false.\n", ""));

    let json = world.yes(["query", "stock(I, X)", "--json"]);
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), &json[1]["bindings"]["I"]), (2, &"green tea".into()));
    let no = world.run(["query", "stock(coffee, X)", "--json"]);
    assert_eq!((no.code, no.stdout.as_str()), (1, ""));
}

#[test]
fn facts_are_read_without_an_agent() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let none = world.run(["facts", "stock(_, _)"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (1, "", ""));
    let none = world.run(["facts", "stok(_, _)"]);
    assert_eq!((none.code, none.stdout.as_str()), (1, ""));
    assert!(none.stderr.contains("no fact of this predicate was ever written"), "{none:?}");
    let goal = world.run(["facts", "stock(_, _), stock(_, _)"]);
    assert!(goal.code == 2 && goal.stderr.contains("by a query"), "{goal:?}");
    world.yes(["broadcast", "arrived(tea, 7)"]);
    world.yes(["broadcast", "arrived(\"green tea\", 2)"]);
    // The agent has handled both once this is answered, and what it wrote is there for all.
    assert_eq!(world.yes(["query", "stock(\"green tea\", 2)"]), "true.\n");
    node.post("/v1/agents/shop/stop", &Value::Null);
    let all = world.yes(["facts", "stock(_, _)"]);
    assert_eq!(lines(&all), ["stock(tea,7).", "stock(\"green tea\",2)."]);
    assert_eq!(world.yes(["facts", "stock(tea, X)"]), "stock(tea,7).\n");
    assert_eq!(world.yes(["facts", "stock(I, X)", "--limit", "1", "--local"]), "stock(tea,7).\n");
    let none = world.run(["facts", "stock(X, X)"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (1, "", ""));
    let json = world.yes(["facts", "stock(tea, X)", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["args"], serde_json::json!(["tea", 7]));
    let wrong = world.run(["facts", "stock(("]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
    assert!(wrong.stderr.contains("syntax error"), "{wrong:?}");
    let wrong = world.run(["facts", "stock(_, _)", "--space", "nowhere"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("no space nowhere"), "{wrong:?}");
}

#[test]
fn a_query_sees_what_became_of_the_events_before_it() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    for n in 1..=20 {
        world.yes(["broadcast", "arrived(tea, 1)"]);
        assert_eq!(world.yes(["query", "stock(tea, X)"]), format!("X = {n}.\n"));
    }
    let list: Value = serde_json::from_str(&world.yes(["agent", "list", "--json"])).unwrap();
    assert_eq!(list["lag"], 0);
}

#[test]
fn what_a_goal_prints_is_printed_before_its_answer() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    assert_eq!(world.yes(["query", "write(hello), nl"]), "hello\ntrue.\n");
    assert_eq!(world.yes(["query", "write(hello)"]), "hello\ntrue.\n");
    let json = world.run(["query", "write(hello), nl", "--json"]);
    assert_eq!((json.stdout.lines().count(), json.stderr.as_str()), (1, "hello\n"));
}

#[test]
fn an_answer_may_be_nested_deeper_than_json_is_read() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    let term = format!("{}a{}", "f(".repeat(1000), ")".repeat(1000));
    let goal = format!("X = {term}");
    assert_eq!(world.yes(["query", &goal]), format!("{goal}.\n"));
    let json: Value = serde_json::from_str(&world.yes(["query", &goal, "--json"])).unwrap();
    assert_eq!(json["bindings"]["X"]["text"], term);
}

#[test]
fn a_transaction_is_done_wholly_or_not_at_all() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    node.broadcast("arrived(tea, 7)");
    node.wait_query("shop", "stock(tea, 7)");
    assert_eq!(world.yes(["transact", "sell(tea, 3)"]), "true.\n");
    assert_eq!(world.yes(["query", "stock(tea, X)"]), "X = 4.\n");
    let no = world.run(["transact", "sell(tea, 5)"]);
    assert_eq!((no.code, no.stdout.as_str()), (1, "false.\n"));
    let error = world.run(["transact", "sell(tea, 1), throw(oops)"]);
    assert_eq!((error.code, error.stderr.as_str()), (2, "synod: the goal threw oops\n"));
    assert_eq!(world.yes(["query", "stock(tea, X)"]), "X = 4.\n");
}

#[test]
fn a_syntax_error_is_told_by_its_place() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    for (verb, goal, line, column) in
        [("query", "foo((", 1, 6), ("transact", "foo((", 1, 6), ("broadcast", "f(a\n, b", 2, 4)]
    {
        let ran = world.run([verb, goal]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        let said = lines(&ran.stderr);
        let place = format!("synod: line {line}, column {column}: syntax error: ");
        assert!(said[0].starts_with(&place), "{ran:?}");
        // The line that it is in, and a mark below the place.
        assert_eq!(said[1], format!("  {}", goal.lines().last().unwrap()));
        assert_eq!(said[2], format!("  {}^", " ".repeat(column - 1)));
    }
}

#[test]
fn of_a_long_goal_that_is_wrong_the_place_is_shown() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    let goal = format!("X = \"{}\", Y = = 1, Z = \"{}\"", "a".repeat(50_000), "b".repeat(50_000));
    let ran = world.run(["query", &goal]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.len() < 600 && ran.stderr.contains("Y = = 1"), "{}", ran.stderr.len());
}

#[test]
fn what_is_the_agents_own_no_goal_sets() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    for goal in ["watch(stock/2)", "after(1, t)", "every(1, t)", "cancel(t)", "subscribe(a)"] {
        for verb in ["query", "transact"] {
            let ran = world.run([verb, goal]);
            assert!(ran.code == 2 && ran.stderr.contains("permission_error"), "{goal}: {ran:?}");
        }
    }
}

#[test]
fn answers_are_printed_as_they_come_and_a_closed_pipe_is_no_error() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    let mut command = world.command(["query", "count(X)"]);
    let mut query = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut answers = BufReader::new(query.stdout.take().unwrap()).lines();
    for n in 0..20 {
        assert_eq!(answers.next().unwrap().unwrap(), format!("X = {n}."));
    }
    drop(answers);
    assert_eq!(query.wait().unwrap().code(), Some(0));
}

#[test]
fn errors_are_one_line_that_says_what_to_do() {
    let world = World::new();
    let no_node = format!(
        "synod: no node runs on {0}; start one with: synod up --data {0}\n",
        world.data.display()
    );
    for verb in [&["query", "true"][..], &["status"], &["down"], &["agent", "list"]] {
        let ran = world.run(verb);
        assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout.as_str()), (2, no_node.as_str(), ""));
    }
    let node = world.up(&[]);
    for (args, says) in [
        (&["query"][..], "<GOAL>"),
        (&["query", "true"], "synod run FILE"),
        (&["query", "true", "--limit", "x"], "--limit"),
        (&["query", "true", "--space", "mars"], "local"),
        (&["run", "x.pl", "--max-time", "soon"], "500ms"),
        (&["fly"], "fly"),
        (&["--data"], "--data"),
        (&["outcome", "12"], "12-1"),
        (&["outcome", ""], "it is empty: give a transaction's id, as in 12-1"),
        (&["module", "get", ""], "it is empty: give the module's name"),
        (&["agent", "stop", ""], "it is empty: give the agent's name, as `synod agent list`"),
    ] {
        let ran = world.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?} {ran:?}");
        assert!(ran.stderr.starts_with("synod: ") && ran.stderr.contains(says), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    // What is asked for and not found is a no.
    for args in [
        &["agent", "stop", "x"][..],
        &["query", "true", "--agent", "x"],
        &["transact", "true", "--agent", "x"],
        &["agent", "letters", "x"],
        &["agent", "logs", "x"],
        &["module", "get", "x"],
        &["outcome", "99-1"],
    ] {
        let ran = world.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?} {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    drop(node);
}

#[test]
fn flags_come_from_the_environment_too() {
    let world = World::new();
    let _node = world.up_with("shop", SHOP);
    let query = |name: &str, value: &str| {
        let output = world.command(["query", "member(X, [1, 2])"]).env(name, value).output();
        Ran::from(output.unwrap())
    };
    assert_eq!(query("SYNOD_LIMIT", "1").stdout, "X = 1.\n");
    assert_eq!(query("SYNOD_AGENT", "shop").stdout, "X = 1.\nX = 2.\n");
    assert!(query("SYNOD_AGENT", "nobody").stderr.contains("nobody"));
    for (value, is_json) in [("true", true), ("1", true), ("0", false), ("no", false), ("", false)]
    {
        assert_eq!(query("SYNOD_JSON", value).stdout.starts_with('{'), is_json, "{value}");
    }
    assert!(query("SYNOD_DATA", "/nowhere").stderr.contains("/nowhere"));
}

#[test]
fn an_outcome_that_nobody_waited_for_can_be_asked_for() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let session = node.post("/v1/session", &serde_json::json!({"label": "me"}))["session"].clone();
    let once = serde_json::json!({"session": session, "seq": 1});
    let event = serde_json::json!({"term": "arrived(tea, 1)", "once": once});
    let index = node.post("/v1/broadcast", &event)["index"].clone();
    let id = format!("{session}-1");
    assert_eq!(world.yes(["outcome", &id]), format!("committed at index {index}\n"));
    // Sent again, it is the same one.
    assert_eq!(node.post("/v1/broadcast", &event)["index"], index);
    let ran = world.run(["outcome", &format!("{session}-2")]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn a_node_that_dies_meanwhile_leaves_an_id_to_ask_for() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let engines = children(node.pid()).len();
    let mut command = world.command(["transact", "for_ever"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The goal has arrived when an engine is started for it.
    wait_for("the goal", || children(node.pid()).len() > engines);
    node.kill();
    let ran = Ran::from(running.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("synod: unknown: "), "{ran:?}");
    let (_, id) = ran.stderr.trim_end().split_once("; ask with: synod outcome ").unwrap();
    assert!(id.ends_with("-1"), "{ran:?}");
    let _node = world.up(&[]);
    let outcome = world.run(["outcome", id]);
    assert!(outcome.code == 1 && outcome.stderr.contains(id), "{outcome:?}");
}

#[test]
fn agents_are_listed_followed_stopped_and_restarted() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let list = world.yes(["agent", "list"]);
    let row: Vec<&str> = lines(&list)[1].split_whitespace().collect();
    assert_eq!(row[..3], ["shop", "local", "running"]);
    let mut logs = Process::start(world.command(["agent", "logs", "shop", "-f"]), false);
    assert!(logs.line().ends_with(" output  open"));
    node.broadcast("arrived(tea, 1)");
    assert!(logs.line().ends_with("(cli,tea,1)") || logs.seen[1].contains("arrived("));
    world.yes(["agent", "restart", "shop"]);
    logs.until(" output  open");
    let last = world.yes(["agent", "logs", "shop", "-n", "1"]);
    assert!(last.ends_with(" output  open\n") && last.lines().count() == 1, "{last}");
    world.yes(["agent", "stop", "shop"]);
    // Whoever follows sees the end of it.
    assert_eq!(logs.wait(), 0);
    assert!(world.yes(["agent", "list"]).contains("stopped"));
    assert_eq!(world.yes(["agent", "letters", "shop"]), "");
    let json = world.yes(["agent", "list", "--json"]);
    let agent: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(agent["state"], "stopped");
}

#[test]
fn status_shows_the_node_and_its_spaces() {
    let world = World::new();
    let node = world.up(&["--node", "alpha"]);
    let status = world.yes(["status"]);
    assert!(status.starts_with("node alpha, version "), "{status}");
    assert!(lines(&status).iter().any(|line| line.starts_with("local  leader")), "{status}");
    let json: Value = serde_json::from_str(&world.yes(["status", "--json"])).unwrap();
    assert_eq!((&json["node"], &json["pid"]), (&"alpha".into(), &node.pid().into()));
}

#[test]
fn modules_are_published_listed_and_got() {
    let world = World::new();
    let _node = world.up(&[]);
    assert_eq!(world.yes(["module", "list"]), "");
    let file = world.program("m.pl", ":- module(m, [p/1]).\np(1).\n");
    assert!(world.yes(["module", "publish", "m", &file]).starts_with("published at index "));
    assert_eq!(lines(&world.yes(["module", "list"])), ["MODULE  SIZE", "m       27 B"]);
    assert_eq!(world.yes(["module", "get", "m"]), std::fs::read_to_string(file).unwrap());
    // What is no program is not published; nothing of what is published is run for that.
    for (text, says) in [
        (":- module(m, [p/1]).\np(2).\np(.\n", "m:3:"),
        (":- module(m, []).\n:- use_module(library(no_such)).\n", "library(no_such)"),
    ] {
        let ran = world.run(["module", "publish", "m", &world.program("wrong.pl", text)]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(
            ran.stderr.contains(says) && ran.stderr.contains("nothing is published"),
            "{ran:?}"
        );
    }
    let later = ":- module(later, [q/1]).\n:- use_module(net(not_yet)).\n:- op(700, xfx, ~~>).\n\
                 q(a ~~> b).\n:- initialization(throw(never)).\n";
    world.yes(["module", "publish", "later", &world.program("later.pl", later)]);
    assert!(world.yes(["module", "get", "m"]).contains("p(1)"));
}

#[test]
fn the_last_index_is_remembered_for_queries() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let said = world.yes(["broadcast", "arrived(tea, 1)", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let id = node.get("/v1/status")["spaces"][0]["id"].as_str().unwrap().to_owned();
    let kept = || std::fs::read_to_string(world.data.join("cli").join(format!("{id}.index")));
    assert_eq!(kept().unwrap(), said["index"].to_string());
    // What is no index is no reason not to answer.
    std::fs::write(world.data.join("cli").join(format!("{id}.index")), "x").unwrap();
    world.yes(["query", "true"]);
    assert!(kept().unwrap().parse::<u64>().unwrap() >= said["index"].as_u64().unwrap());
    node.kill();
}

#[test]
fn help_goes_to_stdout() {
    let world = World::new();
    for args in [&["help"][..], &["--help"], &["help", "run"], &["query", "-h"], &["--version"]] {
        let ran = world.run(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert!(ran.stdout.contains("synod") || ran.stdout.contains("Usage"), "{ran:?}");
    }
    let ran = world.run::<&str>([]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
}

#[test]
fn a_space_is_recovered_by_who_types_what_is_lost_and_only_where_it_must_be() {
    let world = World::on_loopback();
    let node = world.up(&["--node", "alpha"]);
    node.post("/v1/spaces", &serde_json::json!({"name": "bank"}));
    let words = "recover bank and lose what others have";
    let typed = |line: &str| {
        let mut terminal = Terminal::start(world.command(["space", "recover", "bank"]));
        terminal.until("bank goes on with this node alone");
        terminal.until(&format!("Type `{words}`: "));
        terminal.keys(&format!("{line}\r"));
        terminal
    };
    let mut other = typed("yes");
    other.until("those are other words: bank is as it was");
    assert_eq!(other.wait(), 2);
    // The words alone do not do it: nothing is lost.
    let mut healthy = typed(words);
    healthy.until("a quorum of bank can be reached (1 of 1: alpha)");
    assert_eq!(healthy.wait(), 2);
    assert_eq!(node.get("/v1/spaces/members?space=bank")["generation"], 0);
    let local = world.run(["space", "recover", "local", "--understood", words]);
    assert!(local.code == 2 && local.stderr.contains("this node's alone"), "{local:?}");
}
