//! What comes from outside and is not what it should be: it is named, and nothing is lost.

use crate::world::World;
use serde_json::{Value, json};
use std::process::Stdio;

const COUNT: &str =
    ":- use_module(library(synod)).\n:- replicated(n/1).\non(event(_, _, E)) :- assertz(n(E)).\n";

#[test]
fn a_program_that_is_no_file_of_text_is_refused_at_once() {
    let world = World::new();
    let node = world.up(&[]);
    let pipe = world.path().join("pipe.pl");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let large = world.path().join("large.pl");
    std::fs::File::create(&large).unwrap().set_len(3 << 30).unwrap();
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let bytes = world.path().join("bytes.pl");
    std::fs::write(&bytes, b":- use_module(library(synod)).\np(\xff).\n").unwrap();
    let marked = world.program("marked.pl", &format!("\u{feff}{COUNT}"));
    for (program, why) in [
        ("/dev/zero".to_owned(), "it is no file"),
        (path(&pipe), "it is no file"),
        (path(world.path()), "it is no file"),
        (path(&large), "16 MiB at most"),
        (path(&bytes), "it is not UTF-8: byte 33, in line 2"),
    ] {
        let ran = world.run(["run", &program, "--agent", "x", "--detach"]);
        assert_eq!(ran.code, 2, "{program}: {ran:?}");
        assert!(ran.stderr.contains(why), "{program}: {ran:?}");
    }
    // As swipl does, one skips the mark that some editors put before the text.
    world.yes(["run", &marked, "--agent", "x", "--detach"]);
    let ran = world.run(["module", "publish", "zero", "/dev/zero"]);
    assert!(ran.stderr.contains("bytes at most"), "{ran:?}");
    node.down();
}

#[test]
fn names_and_terms_that_nobody_can_use_are_refused() {
    let world = World::new();
    let node = world.up(&[]);
    let text = world.program("m.pl", ":- module(m, []).\n");
    let empty = world.program("empty.pl", "\n");
    for (args, why) in [
        (["module", "publish", "../../m", &text], "is no name for a module"),
        (["module", "publish", "m", &empty], "has no text"),
        (["broadcast", "X", "--as", "me"], "not a variable"),
        (["broadcast", "x", "--as", ""], "label has 1 to"),
        (["query", "true", "--limit", "0"], "--limit"),
    ] {
        let ran = world.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(why), "{args:?}: {ran:?}");
    }
    node.down();
}

#[test]
fn nobody_listening_on_stderr_is_no_crash() {
    let world = World::new();
    let mut command = world.command(["query", "true", "--agent", "nobody"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command.stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn calls_in_a_circle_end_with_an_error_that_says_so_and_leave_room_for_others() {
    let world = World::new();
    let program = ":- use_module(library(synod)).\nr(X) :- remote(a, r(X), [timeout(100)]).\n";
    let node = world.up_with("a", program);
    let body = json!({"goal": "r(X)", "agent": "a"});
    let (status, answer) = node.ask("POST", "/v1/query", &body).unwrap();
    assert_ne!(status, 200, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("call_depth"), "{answer}");
    assert_eq!(node.query("a", "X = 1"), ["X = 1"]);
    node.down();
}

#[test]
fn a_log_that_has_lost_its_end_is_refused_and_told_of() {
    let world = World::new();
    let node = world.up_with("count", COUNT);
    for n in 0..50 {
        node.broadcast(&format!("e({n})"));
    }
    node.down();
    world.yes(["log", "verify"]);
    let log = world.data.join("spaces/local/log/00000000000000000001.log");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    let ran = world.run(["log", "verify"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("is lost"), "{ran:?}");
    let ran = world.run(["up"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is lost; put the log back"), "{ran:?}");
    std::fs::write(&log, &whole).unwrap();
    world.up(&[]).down();
}

#[test]
fn a_space_that_is_gone_is_not_begun_anew() {
    let world = World::new();
    let node = world.up(&[]);
    world.yes(["run", &world.program("count.pl", COUNT), "--detach"]);
    node.broadcast("e(1)");
    node.down();
    let spaces = world.data.join("spaces");
    for gone in ["local", "local/genesis.json"] {
        let aside = world.path().join("aside");
        std::fs::rename(spaces.join(gone), &aside).unwrap();
        let ran = world.run(["up"]);
        assert_eq!(ran.code, 2, "{gone}: {ran:?}");
        assert!(ran.stderr.contains("genesis.json: it is gone"), "{gone}: {ran:?}");
        assert!(!spaces.join(gone).exists(), "nothing was put in its place");
        if gone == "local" {
            assert!(world.run(["log", "verify"]).stderr.contains("holds no space"));
        }
        std::fs::rename(&aside, spaces.join(gone)).unwrap();
    }
    let node = world.up(&[]);
    node.wait_query("count", "n(e(1))");
    node.down();
}

#[test]
fn an_agent_whose_definition_is_damaged_is_shown() {
    let world = World::new();
    let node = world.up(&[]);
    let program = world.program("count.pl", COUNT);
    world.yes(["run", &program, "--detach"]);
    node.down();
    std::fs::write(world.data.join("agents/count/agent.json"), "{\"x\":").unwrap();
    let node = world.up(&[]);
    let agent = node.wait_agent("count", |agent| agent["state"] == "failed");
    assert!(agent["why"].as_str().unwrap().contains("agent.json"), "{agent}");
    let (status, answer) = node.ask("POST", "/v1/agents/count/restart", &Value::Null).unwrap();
    assert_ne!(status, 200);
    assert!(answer["message"].as_str().unwrap().contains("synod run FILE"), "{answer}");
    world.yes(["run", &program, "--detach"]);
    node.broadcast("e(1)");
    node.wait_query("count", "n(e(1))");
    node.down();
}
