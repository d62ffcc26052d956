//! Members whose disks have lost what they gave their word for: they join anew by themselves, as others.

use crate::group::{Group, Place, SPACE};
use crate::world::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn space(place: &Place) -> PathBuf {
    place.world.data.join("spaces").join(SPACE)
}

fn segment(place: &Place) -> PathBuf {
    let log = fs::read_dir(space(place).join("log")).unwrap();
    log.map(|entry| entry.unwrap().path()).max().unwrap()
}

/// Turns one bit in the middle of a log: what is behind it was acknowledged.
fn damage(place: &Place) -> Vec<u8> {
    let path = segment(place);
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[len / 2] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    bytes
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// The Raft id that a node has of itself; none while it is between two.
fn id(place: &Place) -> Option<u64> {
    let path = format!("/v1/spaces/members?space={SPACE}");
    let (_, members) = place.node().ask("GET", &path, &Value::Null).ok()?;
    let me = members["members"].as_array()?.iter().find(|member| member["is_here"] == true)?;
    me["id"].as_u64()
}

/// Waits until each node has noted who else there is: it asks them where its log does not say.
fn wait_noted(group: &Group) {
    let noted = |place: &Place| {
        let text = fs::read(space(place).join("member.json")).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        file["contacts"].as_object().map_or(0, serde_json::Map::len)
    };
    wait_for("the members to be noted", || group.running().all(|place| noted(place) == 3));
}

fn write(place: &Place, count: usize) {
    for n in 0..count {
        let (status, answer) = place.try_broadcast(&format!("event({n})"));
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn a_voter_whose_log_is_damaged_or_gone_joins_anew_and_votes_again() {
    let mut group = Group::of_three_with("a", "on(event(_, _, event(_))).\n");
    wait_noted(&group);
    // The founder, too, whom nobody has told who else there is.
    for (victim, is_gone) in [(0, false), (1, true)] {
        write(&group.places[2], 30);
        group.wait_agree();
        let before = id(&group.places[victim]).unwrap();
        group.places[victim].down();
        write(&group.places[2], 1);
        let damaged = damage(&group.places[victim]);
        if is_gone {
            fs::remove_dir_all(space(&group.places[victim]).join("log")).unwrap();
        }
        group.places[victim].start();
        wait_for("it to vote again", || {
            let votes = group.places[2].part(group.places[victim].name);
            votes.as_deref() == Some("voter") && id(&group.places[victim]) > Some(before)
        });
        group.wait_voters(3);
        group.wait_agree();
        let all = group.places[2].members();
        let ids = all["members"].as_array().unwrap().iter().map(|member| member["id"].as_u64());
        assert!(!ids.flatten().any(|id| id == before), "{all}");
        // What was there is kept as it was.
        let left = fs::read_dir(group.places[victim].world.data.join("left")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().path().join("log")).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        if !is_gone {
            let kept = fs::read(left[0].join(segment(&group.places[victim]).file_name().unwrap()));
            assert_eq!(kept.unwrap(), damaged);
        }
        let node = group.places[victim].node();
        node.wait_agent("a", |agent| agent["state"] == "running" || agent["state"] == "standby");
    }
    // With one of the others gone, each of the two is needed.
    group.places[2].kill();
    group.leader();
    wait_for("writes to go on", || group.places[0].try_broadcast("event(end)").0 == 200);
    group.wait_agree();
}

#[test]
fn a_founder_whose_log_goes_back_to_when_it_was_alone_joins_anew() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[1], 10);
    group.wait_agree();
    let before = id(&group.places[0]).unwrap();
    group.places[0].kill();
    // The header alone is left, and the beginning of a record.
    let log = fs::OpenOptions::new().write(true).open(segment(&group.places[0])).unwrap();
    log.set_len(72).unwrap();
    drop(log);
    group.places[0].start();
    wait_for("it to vote again", || {
        let votes = group.places[1].part(group.places[0].name);
        votes.as_deref() == Some("voter") && id(&group.places[0]) > Some(before)
    });
    group.wait_voters(3);
    group.wait_agree();
    write(&group.places[0], 1);
    group.wait_agree();
}

#[test]
fn a_damaged_voter_that_reaches_nobody_serves_what_else_it_has_and_joins_anew_once_it_can() {
    let mut group = Group::of_three_with("a", "on(event(_, _, event(_))).\n");
    wait_noted(&group);
    write(&group.places[1], 20);
    group.wait_agree();
    let before = id(&group.places[1]).unwrap();
    for place in &mut group.places {
        place.down();
    }
    let damaged = damage(&group.places[1]);
    let name = segment(&group.places[1]).file_name().unwrap().to_str().unwrap().to_owned();
    group.places[1].start();
    let place = &group.places[1];
    let local = json!({ "term": "event(here)", "space": "local" });
    assert_eq!(place.node().ask("POST", "/v1/broadcast", &local).unwrap().0, 200);
    // It is not taken for one that has no such space, and nobody is sent to another.
    let (status, answer) = place.try_broadcast("event(there)");
    assert_eq!((status, &answer["code"]), (500, &json!("damaged")), "{answer}");
    let doctor = place.world.run(["doctor"]);
    let told = [
        answer["message"].as_str().unwrap().to_owned(),
        place.world.run(["space", "members", SPACE]).stderr,
        place.world.yes(["status"]),
        doctor.stdout,
    ];
    for told in &told {
        for wanted in [&*name, "entry", "cannot be reached", "asked to let this node in anew"] {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
    }
    let ready = place.world.run(["status", "--ready"]);
    assert_eq!(ready.code, 1, "{ready:?}");
    assert!(ready.stderr.contains(SPACE), "{ready:?}");
    let (status, answer) = place.join(&format!("{SPACE}-is-no-ticket"));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(fs::read(segment(place)).unwrap(), damaged, "nothing is touched");
    // It goes on asking.
    group.places[0].start();
    group.places[2].start();
    wait_for("it to have joined anew", || id(&group.places[1]).is_some_and(|id| id > before));
    group.wait_voters(3);
    group.wait_agree();
    let node = group.places[1].node();
    node.wait_agent("a", |agent| agent["state"] == "running" || agent["state"] == "standby");
}

#[test]
fn a_closed_space_can_be_left() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[1], 20);
    for place in &mut group.places {
        place.down();
    }
    damage(&group.places[1]);
    let place = &mut group.places[1];
    place.start();
    let left = place.world.yes(["space", "leave", SPACE]);
    assert!(left.contains("left shared"), "{left}");
    let spaces = place.node().get("/v1/spaces");
    assert_eq!(spaces.as_array().unwrap().len(), 1, "{spaces}");
    assert!(!space(place).exists());
}

#[test]
fn a_voter_that_has_lost_the_end_of_its_log_between_two_records_joins_anew() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[0], 20);
    group.wait_agree();
    let victim = (0..3).find(|n| *n != group.leader()).unwrap();
    let before = id(&group.places[victim]).unwrap();
    let end = |place: &Place| {
        let bytes = fs::read(segment(place)).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    };
    // All of it is written.
    let border = end(&group.places[victim]);
    write(&group.places[0], 20);
    group.wait_agree();
    group.places[victim].kill();
    let place = &group.places[victim];
    assert!(end(place) > border);
    let log = fs::OpenOptions::new().write(true).open(segment(place)).unwrap();
    log.set_len(border).unwrap();
    drop(log);
    group.places[victim].start();
    wait_for("it to have joined anew", || id(&group.places[victim]).is_some_and(|id| id > before));
    group.wait_voters(3);
    group.wait_agree();
}

#[test]
fn a_voter_with_another_history_than_its_leader_joins_anew() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[0], 5);
    group.wait_agree();
    let before = id(&group.places[1]).unwrap();
    for place in &mut group.places {
        place.down();
    }
    let data = group.places[0].world.data.clone();
    let kept = data.with_extension("copy");
    copy(&data, &kept);
    // The first two agree on something that the first then loses, and the first and the third on something else.
    group.places[0].start();
    group.places[1].start();
    wait_for("a quorum", || group.places[0].try_broadcast("event(lost)").0 == 200);
    write(&group.places[1], 10);
    group.wait_agree();
    group.places[0].down();
    group.places[1].down();
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    // Twice, so that their terms are others.
    for _ in 0..2 {
        group.places[0].start();
        group.places[2].start();
        wait_for("a quorum", || group.places[2].try_broadcast("event(instead)").0 == 200);
        write(&group.places[2], 5);
        group.places[2].down();
        group.places[0].down();
    }
    group.places[0].start();
    group.places[2].start();
    wait_for("a quorum", || group.places[2].try_broadcast("event(end)").0 == 200);
    group.places[1].start();
    wait_for("it to have joined anew", || id(&group.places[1]).is_some_and(|id| id > before));
    group.wait_voters(3);
    group.wait_agree();
    let left = fs::read_dir(group.places[1].world.data.join("left")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
    let why = fs::read_to_string(left[0].join("shortened")).unwrap();
    assert!(why.contains("is committed here, and the leader has another"), "{why}");
}

#[test]
fn a_voter_that_goes_back_to_an_id_that_it_has_no_longer_joins_anew() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[0], 5);
    group.wait_agree();
    let victim = (0..3).find(|n| *n != group.leader()).unwrap();
    let first = id(&group.places[victim]).unwrap();
    group.places[victim].down();
    let data = group.places[victim].world.data.clone();
    let kept = data.with_extension("copy");
    copy(&data, &kept);
    damage(&group.places[victim]);
    group.places[victim].start();
    wait_for("its second id", || id(&group.places[victim]).is_some_and(|id| id > first));
    group.wait_voters(3);
    group.wait_agree();
    let second = id(&group.places[victim]).unwrap();
    group.places[victim].down();
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    group.places[victim].start();
    wait_for("its third id", || id(&group.places[victim]).is_some_and(|id| id > second));
    group.wait_voters(3);
    group.wait_agree();
    let left = fs::read_dir(data.join("left")).unwrap().map(|entry| entry.unwrap().path());
    let why: Vec<_> =
        left.filter_map(|left| fs::read_to_string(left.join("shortened")).ok()).collect();
    assert!(why.iter().any(|why| why.contains("which it became later")), "{why:?}");
}

/// An old copy of a node's folder, in place of what has come since.
fn with_old_copy(group: &mut Group, victim: usize) {
    group.places[victim].down();
    let data = group.places[victim].world.data.clone();
    let kept = data.with_extension("copy");
    copy(&data, &kept);
    group.places[victim].start();
    write(&group.places[victim], 20);
    group.wait_agree();
    group.places[victim].down();
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
}

#[test]
fn a_program_that_is_run_with_its_node_goes_on_when_its_space_is_joined_anew() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[0], 1);
    group.wait_agree();
    let victim = (0..3).find(|n| *n != group.leader()).unwrap();
    let before = id(&group.places[victim]).unwrap();
    with_old_copy(&mut group, victim);
    let place = &mut group.places[victim];
    let says = "on(event(_, _, say(X))) :- write(said(X)), nl.\n";
    let program = place.world.program("says.pl", says);
    place.start_with(&[&program, "--space", SPACE, "--max-time", "60s"]);
    wait_for("it to have joined anew", || id(place).is_some_and(|id| id > before));
    place.node().wait_agent("says", |agent| agent["state"] == "running");
    wait_for("a write", || place.try_broadcast("say(after)").0 == 200);
    place.node_mut().prints("said(after)");
    place.down();
}

#[test]
fn a_voter_whose_folder_is_an_old_copy_votes_no_more_and_joins_anew() {
    let mut group = Group::of_three_with("a", "on(event(_, _, event(_))).\n");
    wait_noted(&group);
    write(&group.places[0], 1);
    group.wait_agree();
    let victim = (0..3).find(|n| *n != group.leader()).unwrap();
    let before = id(&group.places[victim]).unwrap();
    group.places[victim].down();
    let data = group.places[victim].world.data.clone();
    let kept = data.with_extension("copy");
    copy(&data, &kept);
    group.places[victim].start();
    write(&group.places[victim], 20);
    group.wait_agree();
    group.places[victim].down();
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    group.places[victim].start();
    // Its word for what it no longer has is what the others go by.
    let place = &group.places[victim];
    wait_for("it to have joined anew", || {
        data.join("left").exists() && id(place).is_some_and(|id| id > before)
    });
    wait_for("it to vote again", || {
        group.places.iter().all(|at| at.part(place.name).as_deref() == Some("voter"))
    });
    group.wait_voters(3);
    group.wait_agree();
    let left = fs::read_dir(data.join("left")).unwrap().map(|entry| entry.unwrap().path());
    let why: Vec<_> =
        left.map(|left| fs::read_to_string(left.join("shortened")).unwrap()).collect();
    assert!(why[0].contains("restored from an old copy"), "{why:?}");
    let events = json!({"pattern": "nothing(_)", "space": SPACE});
    assert_eq!(place.node().ask("POST", "/v1/facts", &events).unwrap().0, 200);
    write(place, 1);
    group.wait_agree();
    place
        .node()
        .wait_agent("a", |agent| agent["state"] == "standby" || agent["state"] == "running");
}
