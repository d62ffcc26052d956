//! The examples do what they say at their top.

use crate::support::{in_namespace, installed, skip, stated_commands};
use crate::world::{Process, Ran, SYNOD, World, ask, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the commands that an example states, in their order, in a shell at the root of the
/// repository. `synod run` stays; its process is returned with what it printed so far.
fn run_stated(world: &World, example: &str) -> Process {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(example)).unwrap();
    let commands = stated_commands(&text);
    assert!(commands.len() > 1, "{example} states its commands");
    let bin = Path::new(SYNOD).parent().unwrap();
    let mut paths = vec![bin.to_owned()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let paths = std::env::join_paths(paths).unwrap();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).current_dir(root).stdin(Stdio::null());
        command.env("PATH", &paths).env("SYNOD_DATA", &world.data);
        command
    };
    let mut running = None;
    for (line, printed) in commands {
        if line.starts_with("synod run") {
            running = Some(Process::start(shell(&line), true));
            wait_for("the agent to run", || {
                let agents = ask(&world.data, "GET", "/v1/agents", &Value::Null);
                agents.is_ok_and(|(_, agents)| agents[0]["state"] == "running")
            });
            continue;
        }
        let expected = printed.join("\n");
        let status = i32::from(printed.last().is_some_and(|line| line == "false."));
        let mut ran = Ran::from(shell(&line).output().unwrap());
        if line.starts_with("synod query") {
            // What was sent before is handled when it is.
            wait_for(&line, || {
                ran = shell(&line).output().unwrap().into();
                ran.stdout.trim_end() == expected
            });
        }
        assert_eq!(ran.code, status, "{line}: {ran:?}");
        let stdout = ran.stdout.trim_end();
        if line.starts_with("synod broadcast") && printed.is_empty() {
            assert!(stdout.starts_with("committed at index "), "{line}: {ran:?}");
        } else if printed.is_empty() {
            assert!(stdout.is_empty() || stdout == "true.", "{line}: {ran:?}");
        } else {
            assert_eq!(stdout, expected, "{line}: {ran:?}");
        }
    }
    running.unwrap_or_else(|| panic!("{example} is run"))
}

#[test]
fn hello_greets() {
    let world = World::new();
    let mut run = run_stated(&world, "examples/hello.pl");
    run.until("Hello, Ada!");
    assert!(run.seen[0].starts_with("[node] listening on "), "{:?}", run.seen);
    assert!(run.seen[1].starts_with("I am hello, on "), "{:?}", run.seen);
}

#[test]
fn bank_keeps_accounts() {
    let world = World::new();
    let run = run_stated(&world, "examples/bank.pl");
    let ran = world.run(["transact", "transfer(bob, alice, 1000)"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "false.\n"), "{ran:?}");
    assert_eq!(world.yes(["query", "account(bob, X)"]), "X = 30.\n");
    drop(run);
}

#[test]
fn counter_counts() {
    let world = World::new();
    let mut run = run_stated(&world, "examples/counter.pl");
    run.until("visits: 3");
    assert_eq!(run.seen[1..], ["visits: 1", "visits: 2", "visits: 3"]);
}

#[test]
fn prices_come_from_a_stock_program() {
    let test = "examples::prices_come_from_a_stock_program";
    if !installed("swipl") {
        return skip(test, "`swipl` is not installed (Debian's swi-prolog-nox)");
    }
    in_namespace(test, "ip route add 239.0.0.0/8 dev lo", || {
        let world = World::new();
        drop(run_stated(&world, "examples/prices/prices.pl"));
    });
}
