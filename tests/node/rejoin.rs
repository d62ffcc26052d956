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
fn a_damaged_voter_that_reaches_nobody_says_what_is_damaged_and_what_to_do() {
    let mut group = Group::of_three();
    wait_noted(&group);
    write(&group.places[1], 20);
    group.wait_agree();
    for place in &mut group.places {
        place.down();
    }
    let place = &group.places[1];
    let damaged = damage(place);
    let ran = place.world.run([&["up"][..], &place.flags()].concat());
    assert_eq!(ran.code, 2, "{ran:?}");
    let name = segment(place).file_name().unwrap().to_str().unwrap().to_owned();
    for wanted in [&*name, "byte", "entry", "cannot be reached", "start it again when a quorum"] {
        assert!(ran.stderr.contains(wanted), "{wanted}: {}", ran.stderr);
    }
    assert_eq!(fs::read(segment(place)).unwrap(), damaged, "nothing is touched");
    // As it says.
    group.places[0].start();
    group.places[2].start();
    group.places[1].start();
    group.wait_voters(3);
    group.wait_agree();
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
