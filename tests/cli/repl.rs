//! The toplevel, on a terminal and without one.

use crate::SHOP;
use crate::pty::Terminal;
use crate::world::{Node, Ran, World, is_running, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::process::Stdio;

fn shop() -> (World, Node) {
    let world = World::new();
    let text = format!("{SHOP}\n:- use_module(library(dif)).\n");
    let node = world.up_with("shop", &text);
    node.broadcast("arrived(tea, 7)");
    node.broadcast("arrived(\"green tea\", 2)");
    node.wait_query("shop", "stock(\"green tea\", 2)");
    (world, node)
}

fn terminal(world: &World) -> Terminal {
    Terminal::start(world.command(["repl"]))
}

/// Runs a toplevel on lines from a pipe.
fn piped(world: &World, input: impl AsRef<[u8]>) -> Ran {
    let mut command = world.command(["repl"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_vec();
    // One that has seen enough reads no further.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = Ran::from(child.wait_with_output().unwrap());
    writer.join().unwrap();
    ran
}

#[test]
fn answers_look_as_scryers_do() {
    let (world, _node) = shop();
    let mut repl = terminal(&world);
    repl.says("stock(I, N).", "\n   I = tea, N = 7");
    repl.keys(";");
    repl.until("\n;  I = \"green tea\", N = 2.\n");
    repl.says("stock(coffee, _).", "\n   false.\n");
    repl.says("true.", "\n   true.\n");
    repl.says("member(X, [1, 2, 3]).", "\n   X = 1");
    repl.keys(" ");
    repl.until("\n;  X = 2");
    repl.keys(".");
    repl.until("\n;  ... .\n");
    repl.says("member(X, [1, 2, 3]).", "\n   X = 1");
    repl.keys("a");
    repl.until("\n;  X = 2\n;  X = 3.\n");
    repl.says("( X = 1 ; fail ).", "\n   X = 1");
    repl.keys("\r");
    repl.until("\n;  ... .\n");
    repl.says("( X = 1 ; fail ).", "\n   X = 1");
    repl.keys(";");
    repl.until("\n;  false.\n");
    // A goal of several lines, and two in one.
    repl.until("?- ");
    repl.keys("X = f(Y),\r");
    repl.until("|  ");
    repl.keys("Y = 'a. B'. true.\r");
    repl.until("\n   X = f('a. B'), Y = 'a. B'.\n");
    repl.until("   true.\n");
    repl.says("dif(X, a).", "\n   dif:dif(X,a).\n");
    repl.says("X = f(X).", "\n   X = f(X).\n");
    repl.says("X is foo.", "\n   error(type_error(evaluable,foo/0),(is)/2).\n");
    repl.says("throw(oops).", "\n   throw(oops).\n");
    repl.says("foo((.", "syntax error: ");
    repl.says("write(hello).", "hello\n   true.\n");
    repl.until("?- ");
    repl.keys("\x04");
    assert_eq!(repl.wait(), 0);
}

#[test]
fn an_answer_that_nobody_asks_for_is_not_looked_for() {
    let (world, node) = shop();
    let mut repl = terminal(&world);
    repl.says("member(X, [1, 2, 3]), assertz(stock(X, 0)).", "\n   X = 1");
    assert_eq!(node.query("shop", "stock(X, 0)"), ["X = 1"]);
    repl.keys(".");
    repl.until(";  ... .");
    repl.until("?- ");
    assert_eq!(node.query("shop", "stock(X, 0)"), ["X = 1"]);
}

#[test]
fn ctrl_c_stops_the_goal_and_nothing_else() {
    let (world, node) = shop();
    let mut repl = terminal(&world);
    // What is typed is forgotten, too.
    repl.until("?- ");
    repl.keys("X = ");
    repl.until("X = ");
    repl.keys("\x03");
    repl.says("assertz(stock(begun, 1)), for_ever.", "\n");
    node.wait_query("shop", "stock(begun, 1)");
    assert!(is_running(repl.pid()));
    repl.keys("\x03");
    repl.until("% stopped\n");
    repl.says("X = 1.", "\n   X = 1.\n");
    assert_eq!(node.agent("shop")["deaths"], 0);
    // Behind an answer it is no.
    repl.says("member(X, [1, 2]).", "\n   X = 1");
    repl.keys("\x03");
    repl.until(";  ... .\n");
    repl.says("true.", "true.");
}

#[test]
fn goals_are_remembered_and_names_completed() {
    let (world, _node) = shop();
    let mut repl = terminal(&world);
    repl.says("stock(tea, X).", "\n   X = 7.\n");
    repl.until("?- ");
    // The names come from the node meanwhile.
    wait_for("the names", || {
        repl.keys("\x15sto\t7");
        repl.until("7").ends_with("stock(")
    });
    repl.keys("\x15");
    repl.keys("\x04");
    assert_eq!(repl.wait(), 0);
    let mut repl = terminal(&world);
    repl.until("?- ");
    repl.keys("\x1b[A\r");
    repl.until("stock(tea, X).");
    repl.until("\n   X = 7.\n");
    let kept = std::fs::metadata(world.data.join("cli").join("history")).unwrap();
    assert!(kept.len() < 4096);
}

#[test]
fn the_past_can_be_asked_and_changes_watched() {
    let (world, node) = shop();
    let before = node.get("/v1/status")["spaces"][0]["index"].as_u64().unwrap();
    let mut repl = terminal(&world);
    repl.says(":watch stock/2", "?- ");
    let index = node.broadcast("arrived(coffee, 4)");
    repl.until(&format!("% {} shop: assertz(stock(coffee,4))\n", index + 1));
    repl.keys("stock(coffee, N).\r");
    repl.until("\n   N = 4.\n");
    repl.says(&format!(":as_of {before}"), &format!("@{before} ?- "));
    repl.keys("stock(coffee, N).\r");
    repl.until("\n   false.\n");
    repl.says(
        "assertz(stock(gin, 1)).",
        "\n   error(permission_error(modify,past,facts),synod).\n",
    );
    repl.says(":as_of 99999", "?- ");
    repl.keys("true.\r");
    repl.until(" index ");
    repl.says(":as_of now", "?- ");
    repl.keys("stock(coffee, N).\r");
    repl.until("\n   N = 4.\n");
    repl.says(":help", ":watch NAME/ARITY");
    repl.says(":agents", "shop");
    repl.says(":fly", "there is no :fly; see :help");
    repl.says(":unwatch stock/2", "?- ");
}

#[test]
fn without_a_terminal_goals_are_read_and_answers_printed() {
    let (world, _node) = shop();
    let ran = piped(&world, "stock(I, N).\n;\ntrue.\nX = 1,\n  Y = 2.\nmember(X, [a, b]).\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let printed = "I = tea, N = 7.\nI = \"green tea\", N = 2.\ntrue.\nX = 1, Y = 2.\nX = a.\n";
    assert_eq!(ran.stdout, printed);
    let ran = piped(&world, "stock(coffee, N).\ntrue.\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "false.\ntrue.\n"));
    let ran = piped(&world, "throw(oops).\ntrue.\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "true.\n"));
    assert_eq!(ran.stderr, "synod: the goal threw oops\n");
    let ran = piped(&world, "true.\nX = ");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "true.\n"));
    assert!(ran.stderr.contains("no full stop"), "{ran:?}");
    assert_eq!(piped(&world, "").code, 0);
}

#[test]
fn what_is_no_text_or_too_long_is_told_and_nothing_more_read() {
    let (world, _node) = shop();
    let ran = piped(&world, b"true.\n\x7fELF\x02\x01\xff\xfe\0\0\ntrue.\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "true.\n"));
    assert!(ran.stderr.starts_with("synod: line 2 of standard input is no text"), "{ran:?}");
    let ran = piped(&world, vec![b'a'; 10 << 20]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("more than 1 MiB"), "{ran:?}");
    let ran = piped(&world, "a,\n".repeat(1 << 19));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("at most 1 MiB"), "{ran:?}");
}

#[test]
fn a_closed_pipe_ends_it() {
    let (world, _node) = shop();
    let mut command = world.command(["repl"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(b"X = 1.\n").unwrap();
    let mut first = [0; 7];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"X = 1.\n");
    drop(stdout);
    stdin.write_all(b"X = 2.\n").unwrap();
    // The input is still open: it is the output that ends it.
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_predicates_that_a_program_sees_can_be_asked_for() {
    let (world, node) = shop();
    let found = node.get("/v1/agents/shop/predicates");
    let has = |name: &str, arity: u64, replicated: bool| {
        let info = serde_json::json!({"name": name, "arity": arity, "replicated": replicated});
        assert!(found.as_array().unwrap().contains(&info), "{info} is not in {found}");
    };
    has("stock", 2, true);
    has("sell", 2, false);
    has("append", 3, false);
    has("transaction", 1, false);
    has("atom_length", 2, false);
    let internal = |info: &Value| info["name"].as_str().unwrap().starts_with('$');
    assert!(!found.as_array().unwrap().iter().any(internal));
    drop(world);
}
