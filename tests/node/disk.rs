//! The data folder: full, damaged, somebody else's, of another version.

use crate::support::{installed, skip};
use crate::world::{Node, Process, Ran, World, ask, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FACTS: &str = r#"
:- use_module(library(synod)).
:- replicated(p/1).
on(event(_, _, p(X))) :- assertz(p(X)).
"#;

/// Set where a test runs inside a mount namespace of its own.
const INSIDE: &str = "SYNOD_TEST_MOUNTS";

/// Runs `body` where it may mount, or skips it by name: the test binary starts itself again there.
fn with_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !installed("unshare") {
        return skip(test, "`unshare` is not installed");
    }
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user", "--kill-child", "--"]).stdin(Stdio::null());
        unshare
    };
    let trial = unshare().args(["mount", "-t", "tmpfs", "none", "/mnt"]).output().unwrap();
    if !trial.status.success() {
        return skip(test, "this user may mount nothing");
    }
    let mut inside = unshare();
    inside.arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    let ran: Ran =
        inside.args(["--exact", test, "--nocapture", "--test-threads=1"]).output().unwrap().into();
    assert!(ran.code == 0 && ran.stdout.contains("1 passed"), "{test}: {ran:#?}");
}

/// A world whose data folder is on a disk of this size.
fn on_disk_of(size: &str) -> World {
    let world = World::new();
    fs::create_dir(&world.data).unwrap();
    let options = format!("size={size},mode=700");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "none"])
        .arg(&world.data)
        .status()
        .unwrap();
    assert!(mount.success());
    world
}

/// Fills the disk but for so many KiB.
fn fill(world: &World, leave_kib: u64) -> PathBuf {
    let path = world.data.join("filler");
    let stat = rustix::fs::statvfs(&world.data).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    let bytes = vec![0; usize::try_from(free.saturating_sub(leave_kib << 10)).unwrap()];
    fs::write(&path, bytes).unwrap();
    path
}

fn is_refused(node: &Node, why: &str) {
    let (status, answer) = node.ask("POST", "/v1/broadcast", &json!({"term": "p(never)"})).unwrap();
    assert_eq!(answer["code"], "full", "{status} {answer}");
    assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
}

#[test]
fn below_the_room_that_is_kept_free_writes_are_refused_and_reads_go_on() {
    with_mounts(
        "disk::below_the_room_that_is_kept_free_writes_are_refused_and_reads_go_on",
        || {
            let world = on_disk_of("64m");
            let node = world.up(&["--min-free", "8MiB"]);
            let path = world.program("a.pl", FACTS);
            node.run_agent(&path, "a", json!({}));
            node.broadcast("p(1)");
            node.wait_query("a", "p(1)");
            let filler = fill(&world, 7 << 10);
            // How much room there is is found out now and then.
            let big = format!("p(\"{}\")", "x".repeat(200 << 10));
            wait_for("writes to be refused", || {
                let (status, _) = node.ask("POST", "/v1/broadcast", &json!({"term": big})).unwrap();
                status != 200
            });
            is_refused(&node, "make room, or lower --min-free");
            let ran = world.run(["broadcast", "p(never)"]);
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.stderr.contains("make room"), "{ran:?}");
            let ran = world.run(["transact", "assertz(p(never))"]);
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.stderr.contains("make room"), "{ran:?}");
            assert_eq!(node.query("a", "p(1)"), ["true"]);
            assert!(world.yes(["status"]).contains("make room"));
            fs::remove_file(filler).unwrap();
            wait_for("writes to be taken", || {
                let (status, _) =
                    node.ask("POST", "/v1/broadcast", &json!({"term": "p(2)"})).unwrap();
                status == 200
            });
            node.wait_query("a", "p(2)");
            assert!(node.query("a", "p(never)").is_empty());
            node.down();
        },
    );
}

#[test]
fn a_disk_without_any_room_is_waited_out() {
    with_mounts("disk::a_disk_without_any_room_is_waited_out", || {
        let world = on_disk_of("32m");
        let node = world.up(&["--min-free", "0"]);
        let path = world.program("a.pl", FACTS);
        node.run_agent(&path, "a", json!({}));
        node.broadcast("p(1)");
        node.wait_query("a", "p(1)");
        let filler = fill(&world, 0);
        // One write finds out; it is not acknowledged before it is on the disk.
        let term = format!("p(\"{}\")", "x".repeat(100 << 10));
        let data = world.data.clone();
        let has_room = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&has_room);
        let waiting = std::thread::spawn(move || {
            let mut acknowledged = 0;
            // The first may find room that the log has taken in advance.
            while !is_over.load(Ordering::Relaxed) {
                let body = json!({ "term": term });
                let (status, answer) = ask(&data, "POST", "/v1/broadcast", &body).unwrap();
                assert_eq!(status, 200, "what waits is not refused: {answer}");
                acknowledged += 1;
            }
            acknowledged
        });
        wait_for("the disk to be found full", || {
            node.get("/v1/status")["spaces"][0]["read_only"].is_string()
        });
        is_refused(&node, "the disk is full");
        assert_eq!(node.query("a", "p(1)"), ["true"]);
        has_room.store(true, Ordering::Relaxed);
        fs::remove_file(&filler).unwrap();
        let acknowledged: u64 = waiting.join().unwrap();
        wait_for("writes to be taken", || {
            let (status, _) = node.ask("POST", "/v1/broadcast", &json!({"term": "p(2)"})).unwrap();
            status == 200
        });
        node.wait_query("a", "p(2)");
        // All that was acknowledged is there, and what waited for room may be.
        let facts = node.get("/v1/status")["spaces"][0]["facts"].as_u64().unwrap();
        assert!(facts >= 3, "{facts}");
        let events = node.get("/v1/status")["spaces"][0]["index"].as_u64().unwrap();
        assert!(events > acknowledged, "{events} {acknowledged}");
        node.down();
    });
}

#[test]
fn a_node_on_a_full_disk_can_be_stopped() {
    with_mounts("disk::a_node_on_a_full_disk_can_be_stopped", || {
        let world = on_disk_of("32m");
        let node = world.up(&["--min-free", "0"]);
        let path = world.program("a.pl", FACTS);
        let run = json!({"program": path, "name": "a", "keep": true});
        node.post("/v1/run", &run);
        node.broadcast("p(1)");
        node.wait_query("a", "p(1)");
        let filler = fill(&world, 0);
        let term = format!("p(\"{}\")", "x".repeat(100 << 10));
        let data = world.data.clone();
        let waiting = std::thread::spawn(move || {
            let body = json!({ "term": term });
            while let Ok((200, _)) = ask(&data, "POST", "/v1/broadcast", &body) {}
        });
        wait_for("the disk to be found full", || {
            node.get("/v1/status")["spaces"][0]["read_only"].is_string()
        });
        node.down();
        waiting.join().unwrap();
        // Without room it starts, and says what is there; with room the agent runs again.
        let node = world.up(&["--min-free", "0"]);
        assert!(node.get("/v1/status")["spaces"][0]["facts"].as_u64() > Some(0));
        fs::remove_file(&filler).unwrap();
        node.wait_query("a", "p(1)");
        node.down();
    });
}

/// A node that does not start: what it says.
fn refused(world: &World) -> String {
    let ran = world.run(["up"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("synod: ")).count(), 1, "{ran:?}");
    ran.stderr
}

#[test]
fn a_folder_of_another_version_is_refused() {
    let world = World::new();
    world.up(&[]).down();
    fs::write(world.data.join("version"), "99\n").unwrap();
    let said = refused(&world);
    assert!(said.contains("is of format 99,"), "{said}");
    fs::write(world.data.join("version"), "what\n").unwrap();
    assert!(refused(&world).contains("version"), "{said}");
}

#[test]
fn a_second_node_says_who_holds_the_folder() {
    let world = World::new();
    let node = world.up(&[]);
    let pid = node.pid().to_string();
    for args in [&["up"][..], &["up", "--detach"]] {
        let ran = world.run(args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(&format!("process {pid}")), "{ran:?}");
        assert!(ran.stderr.contains("synod down --data"), "{ran:?}");
    }
    node.down();
}

#[test]
fn a_folder_without_rights_says_so() {
    let test = "disk::a_folder_without_rights_says_so";
    let world = World::new();
    world.up(&[]).down();
    let mut command;
    if rustix::process::getuid().is_root() {
        // Root may do anything: somebody else tries.
        if !installed("setpriv") {
            return skip(test, "`setpriv` is not installed");
        }
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = world.path().join("synod");
        fs::copy(crate::world::SYNOD, &program).unwrap();
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
        command.arg("up").env("SYNOD_DATA", &world.data);
    } else {
        fs::set_permissions(&world.data, fs::Permissions::from_mode(0o000)).unwrap();
        command = world.command(["up"]);
    }
    let ran = Ran::from(command.output().unwrap());
    fs::set_permissions(&world.data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("ermission denied"), "{ran:?}");
    assert!(ran.stderr.contains(world.data.to_str().unwrap()), "{ran:?}");
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("spaces/local/log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn damage_in_the_log_is_named_and_a_torn_end_is_cut() {
    let world = World::new();
    let node = world.up_with("a", FACTS);
    for n in 0..50 {
        node.broadcast(&format!("p({n})"));
    }
    node.wait_query("a", "p(49)");
    node.kill();
    let segment = segments(&world.data).pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    let len = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // In the middle: records behind it are whole, so it was acknowledged.
    for at in [len / 3, len / 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&segment, &damaged).unwrap();
        let said = refused(&world);
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name), "{said}");
        assert!(said.contains("offset") || said.contains("byte"), "{said}");
        assert_eq!(fs::read(&segment).unwrap(), damaged, "nothing is cut from what is refused");
    }
    // At the end: a write that was torn.
    fs::write(&segment, &whole[..len - 3]).unwrap();
    let mut command = world.command(["up"]);
    command.env("SYNOD_VERBOSE", "1");
    let mut process = Process::start(command, true);
    process.until("listening on");
    let seen = process.rest().join("\n");
    assert!(seen.contains("cut"), "{seen}");
    let (_, status) = ask(&world.data, "GET", "/v1/status", &Value::Null).unwrap();
    assert!(status["spaces"][0]["facts"].as_u64() >= Some(49), "{status}");
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait(), 0);
    fs::write(&segment, b"").unwrap();
    assert!(refused(&world).contains("local"), "an empty segment");
}
