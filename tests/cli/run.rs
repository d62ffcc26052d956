//! `synod run`, `up` and `down`: who is the node, who shows the output, and who ends what.

use crate::SHOP;
use crate::world::{PATIENCE, Process, Ran, World, ask, is_running, wait_for};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Instant;

/// Takes a node down that was left in the background.
struct Background<'a>(&'a World);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        self.0.run(["down"]);
    }
}

/// The state of an agent, as others see it.
fn state(world: &World, name: &str) -> Option<String> {
    let (_, agents) = ask(&world.data, "GET", "/v1/agents", &Value::Null).ok()?;
    let agent = agents.as_array()?.iter().find(|agent| agent["name"] == name)?.clone();
    Some(agent["state"].as_str()?.to_owned())
}

#[test]
fn alone_it_is_the_node_until_ctrl_c() {
    let world = World::new();
    let program = world.program("shop.pl", SHOP);
    let mut command = world.command(["run", &program]);
    // A terminal sends its signals to the whole group: the engines are in it or not.
    command.process_group(0);
    let mut run = Process::start(command, false);
    assert_eq!(run.line(), "open");
    world.yes(["broadcast", "arrived(tea, 7)"]);
    assert_eq!(run.line(), "arrived(cli,tea,7)");
    let group = Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    assert_eq!(run.wait(), 0);
    assert!(!world.data.join("control.sock").exists());
    // It closed its log: there is nothing to repair, and the fact is there.
    assert!(world.yes(["log", "verify"]).contains("whole"));
    let mut run = Process::start(world.command(["run", &program]), false);
    assert_eq!(run.line(), "open");
    assert_eq!(world.yes(["query", "stock(tea, X)"]), "X = 7.\n");
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), 0);
}

#[test]
fn output_goes_to_stdout_and_the_log_to_stderr() {
    let world = World::new();
    let program = world.program(
        "talker.pl",
        ":- use_module(library(synod)).\non(start) :- write(said), nl.\non(event(_, _, fail)) :- fail.\n\
         on(event(_, _, halt)) :- halt.\n",
    );
    for is_beside in [false, true] {
        let _node = is_beside.then(|| world.up(&[]));
        let name = if is_beside { "second" } else { "first" };
        let mut command = world.command(["run", &program, "--agent", name]);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the agent", || state(&world, name).as_deref() == Some("running"));
        world.yes(["broadcast", "fail"]);
        wait_for("the handler", || {
            world.run(["agent", "logs", name]).stdout.contains("did not succeed")
        });
        world.yes(["broadcast", "halt"]);
        // A program that halts ends its run.
        let ran = Ran::from(running.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "said\n"), "{ran:?}");
        assert!(ran.stderr.contains("did not succeed") && ran.stderr.contains("halt"), "{ran:?}");
        assert!(ran.stderr.lines().all(|line| line.starts_with('[')), "{ran:?}");
    }
}

#[test]
fn a_program_that_cannot_be_loaded_is_told_by_line() {
    let world = World::new();
    let broken = world.program("broken.pl", ":- use_module(library(synod)).\non(start) :- foo(.\n");
    for is_beside in [false, true] {
        let _node = is_beside.then(|| world.up(&[]));
        let ran = world.run(["run", &broken]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.starts_with("synod: "), "{ran:?}");
        assert!(ran.stderr.contains("broken.pl:2:"), "{ran:?}");
        assert_eq!(state(&world, "broken"), None);
    }
    let ran = world.run(["run", "/nowhere/x.pl"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (2, "synod: /nowhere/x.pl: No such file or directory (os error 2)\n")
    );
}

#[test]
fn beside_a_node_it_shows_the_output_and_ctrl_c_ends_the_agent() {
    let world = World::new();
    let node = world.up(&[]);
    let program = world.program("shop.pl", SHOP);
    let mut run = Process::start(world.command(["run", &program, "--agent", "teashop"]), false);
    assert_eq!(run.line(), "open");
    node.broadcast("arrived(tea, 1)");
    assert!(run.line().starts_with("arrived("));
    run.signal(Signal::INT);
    assert_eq!(run.wait(), 0);
    assert_eq!(state(&world, "teashop").as_deref(), Some("stopped"));
    // The same again: what an earlier run printed is not shown.
    let mut run = Process::start(world.command(["run", &program, "--agent", "teashop"]), false);
    assert_eq!(run.line(), "open");
    // Stopped from elsewhere, its output ends.
    world.yes(["agent", "stop", "teashop"]);
    assert_eq!(run.wait(), 0);
    assert_eq!(run.rest(), ["open"]);
    node.down();
}

#[test]
fn detached_it_stays_and_comes_back_with_its_node() {
    let world = World::new();
    let _background = Background(&world);
    let program = world.program("shop.pl", SHOP);
    // No node runs yet: one is left in the background.
    let said = world.yes(["run", &program, "--detach"]);
    assert_eq!(said, "agent shop runs in space local\n");
    world.yes(["broadcast", "arrived(tea, 2)"]);
    let ran = world.run(["run", &program, "--detach"]);
    assert!(ran.code == 2 && ran.stderr.contains("runs already"), "{ran:?}");
    world.yes(["down"]);
    assert_eq!(world.run(["status"]).code, 2);
    world.yes(["up", "--detach"]);
    wait_for("the agent", || state(&world, "shop").as_deref() == Some("running"));
    wait_for("the fact", || world.run(["query", "stock(tea, 2)"]).code == 0);
    // Stopped, it does not come back.
    world.yes(["agent", "stop", "shop"]);
    world.yes(["down"]);
    world.yes(["up", "--detach"]);
    assert_eq!(state(&world, "shop"), None);
}

#[test]
fn a_folder_has_one_node_and_is_free_when_down_returns() {
    let world = World::new();
    let _background = Background(&world);
    let listening = format!("listening on {}\n", world.data.join("control.sock").display());
    let mut pids = Vec::new();
    for _ in 0..5 {
        assert_eq!(world.yes(["up", "--detach"]), listening);
        let (_, status) = ask(&world.data, "GET", "/v1/status", &Value::Null).unwrap();
        let pid = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
        for args in [&["up"][..], &["up", "--detach"]] {
            let ran = world.run(args);
            assert_eq!(ran.code, 2);
            assert!(ran.stderr.contains(&format!("process {pid}")), "{ran:?}");
            assert!(ran.stderr.contains("synod down"), "{ran:?}");
        }
        world.yes(["down"]);
        assert!(!is_running(pid));
        pids.push(pid);
    }
    pids.dedup();
    assert_eq!(pids.len(), 5);
}

#[test]
fn a_node_that_was_killed_leaves_a_socket_that_is_in_nobodys_way() {
    let world = World::new();
    world.up(&[]).kill();
    assert!(world.data.join("control.sock").exists());
    let ran = world.run(["status"]);
    assert!(ran.code == 2 && ran.stderr.contains("synod up --data"), "{ran:?}");
    world.up(&[]).down();
    assert!(!world.data.join("control.sock").exists());
}

#[test]
fn what_keeps_a_node_from_its_folder_is_named() {
    let world = World::new();
    let file = world.program("file", "");
    let long = world.path().join("x".repeat(100));
    for (data, says) in
        [(file.as_str(), "file"), (long.to_str().unwrap(), "choose a shorter --data")]
    {
        for verb in ["up", "status"] {
            let ran = world.run([verb, "--data", data]);
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.stderr.starts_with("synod: ") && ran.stderr.contains(says), "{ran:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        }
    }
    assert!(!long.exists());
}

#[test]
fn a_reader_of_the_output_that_goes_ends_the_run() {
    let world = World::new();
    let program = world.program(
        "ticker.pl",
        ":- use_module(library(synod)).\non(start) :- every(0.01, t).\non(timer(t)) :- write(t), nl.\n",
    );
    let mut command = world.command(["run", &program]);
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the agent", || state(&world, "ticker").as_deref() == Some("running"));
    drop(running.stdout.take());
    let started = Instant::now();
    let mut ended = None;
    wait_for("the run to end", || {
        ended = running.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn warnings_of_the_program_are_seen_with_their_places() {
    let world = World::new();
    let program = world.program(
        "typo.pl",
        ":- use_module(library(synod)).\n:- use_module(library(lists)).\non(start) :- write(begun), nl.\n\
         p(X) :- apend([], [], _).\nq.\np(1).\n",
    );
    let mut run = Process::start(world.command(["run", &program]), true);
    run.until("begun");
    for text in [
        "typo.pl:4:1: singleton variable X",
        "typo.pl:4:9: unknown procedure apend/3; did you mean append/3?",
        "typo.pl:6:1: clauses of p/1 do not stand together",
    ] {
        let said =
            || run.seen.iter().any(|line| line.starts_with("[warning] ") && line.contains(text));
        if !said() {
            run.until(text);
        }
    }
    let log = world.yes(["agent", "logs", "typo"]);
    assert!(log.contains("typo.pl:4:9: unknown procedure apend/3"), "{log}");
}

#[test]
fn the_examples_are_without_warnings() {
    let world = World::new();
    let node = world.up(&[]);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (name, file) in [
        ("hello", "hello.pl"),
        ("bank", "bank.pl"),
        ("counter", "counter.pl"),
        ("prices", "prices/prices.pl"),
    ] {
        let options = serde_json::json!({"max_time_ms": 60_000});
        node.run_agent(root.join(file).to_str().unwrap(), name, options);
        let log = node.log(name);
        assert!(!log.iter().any(|line| line.starts_with("warning ")), "{name}: {log:?}");
    }
}
