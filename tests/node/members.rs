//! Who takes part in a space: tickets, promotions, removals, and nodes that are not who they should be.

use crate::group::{Group, PROMISED, Place, SPACE, ticket};
use crate::world::wait_for;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

fn change(place: &Place, what: &str, member: &str) -> (u16, Value) {
    let path = format!("/v1/spaces/members/{what}?space={SPACE}");
    place.node().ask("POST", &path, &json!({ "member": member })).unwrap()
}

fn yes((status, answer): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{answer}");
    answer
}

/// An error's code and text.
fn no((status, answer): (u16, Value)) -> String {
    assert!(status >= 400, "{answer}");
    format!("{}: {}", answer["code"].as_str().unwrap(), answer["message"].as_str().unwrap())
}

#[test]
fn a_fourth_learns_and_votes_when_one_is_removed() {
    let mut group = Group::of_three();
    let mut fourth = Place::new("delta");
    fourth.start();
    yes(fourth.join(&ticket(&group.places[0], json!({}))));
    wait_for("a learner", || fourth.part("delta").as_deref() == Some("learner"));
    yes(group.places[1].try_broadcast("hello"));
    group.places.push(fourth);
    group.wait_agree();
    assert_eq!(group.places[0].part("delta").as_deref(), Some("learner"), "three vote already");

    // Whoever is asked has the leader do it.
    let leader = group.leader();
    let (gone, asked) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = group.places[gone].name;
    group.places[gone].kill();
    yes(change(&group.places[asked], "remove", name));
    wait_for("a new voter", || group.places[3].part("delta").as_deref() == Some("voter"));
    assert_eq!(group.places[3].part(name), None);
    group.wait_voters(3);
    // With the two others it is a majority.
    let leader = group.leader();
    let dead = (0..4).find(|n| *n != gone && *n != leader).unwrap();
    group.places[dead].kill();
    yes(group.places[leader].try_broadcast("hello"));
    let text = no(change(&group.places[leader], "remove", "nobody"));
    assert!(text.contains("nobody is no member's node or id"), "{text}");
}

#[test]
fn who_was_removed_while_it_was_away_is_told_so_and_joins_anew() {
    let mut group = Group::of_three();
    let leader = group.leader();
    let gone = (leader + 1) % 3;
    let name = group.places[gone].name;
    group.places[gone].kill();
    yes(change(&group.places[leader], "remove", name));
    wait_for("the removal", || group.places[leader].part(name).is_none());
    yes(group.places[leader].try_broadcast("hello"));

    // Nobody sends it the log any more, so that it cannot say of itself that it is no member.
    let mut place = group.places.remove(gone);
    place.start();
    wait_for("it to be told", || {
        let (status, answer) = place.try_broadcast("hello");
        assert!(status >= 400, "{answer}");
        answer["code"] == "removed"
    });
    let text = no(place.try_broadcast("hello"));
    assert!(text.contains("removed at index") && text.contains("synod space leave"), "{text}");
    let status = place.node().get("/v1/status");
    let spaces = status["spaces"].as_array().unwrap();
    let shown = spaces.iter().find(|space| space["name"] == SPACE).unwrap();
    assert!(shown["read_only"].as_str().unwrap().contains("removed at index"), "{shown}");
    // It is told again when it starts again.
    place.kill();
    place.start();
    wait_for("it to be told again", || place.try_broadcast("hello").1["code"] == "removed");

    place.node().post(&format!("/v1/spaces/{SPACE}/leave"), &Value::Null);
    let with_ticket = ticket(group.running().next().unwrap(), json!({}));
    yes(place.join(&with_ticket));
    group.places.push(place);
    group.wait_voters(3);
    yes(group.places[2].try_broadcast("hello"));
    group.wait_agree();
}

#[test]
fn the_leadership_is_handed_over_and_a_member_leaves() {
    let mut group = Group::of_three();
    let leader = group.leader();
    let (to, asked) = ((leader + 1) % 3, (leader + 2) % 3);
    yes(change(&group.places[asked], "transfer", group.places[to].name));
    wait_for("the new leader", || group.places[to].members()["role"] == "leader");
    yes(group.places[leader].try_broadcast("hello"));
    let text = no(change(&group.places[asked], "promote", group.places[to].name));
    assert!(text.contains("votes already"), "{text}");
    let text = no(change(&group.places[asked], "transfer", "77"));
    assert!(text.contains("77"), "{text}");

    // The leader itself leaves: another leads, and what it had is kept aside.
    let path = format!("/v1/spaces/{SPACE}/leave");
    let left = group.places[to].node().post(&path, &Value::Null);
    let left_at = Instant::now();
    let aside = left["aside"].as_str().unwrap();
    assert!(std::path::Path::new(aside).is_dir(), "{aside}");
    let gone = group.places.remove(to);
    let status = group.places[0].try_broadcast("hello");
    yes(status);
    assert!(left_at.elapsed() < PROMISED);
    group.wait_voters(2);
    assert!(gone.node().get("/v1/status")["spaces"].as_array().unwrap().len() == 1);
    // It may come again, as another member.
    yes(gone.join(&ticket(&group.places[0], json!({}))));
    group.places.push(gone);
    group.wait_voters(3);
    group.wait_agree();
}

#[test]
fn tickets_that_are_not_good_are_refused_with_the_reason() {
    let mut founder = Place::new("alpha");
    founder.start().post("/v1/spaces", &json!({ "name": SPACE }));
    let mut two = Place::new("beta");
    two.start();
    let good = ticket(&founder, json!({}));
    for (bad, why) in [
        ("bank".to_owned(), "begins with synod-ticket:"),
        (good[..good.len() - 3].to_owned(), ""),
        (good.replace("synod-ticket:", "synod-ticket:zz"), ""),
    ] {
        let text = no(two.join(&bad));
        assert!(text.starts_with("ticket") && text.contains(why), "{text}");
    }

    let single = ticket(&founder, json!({"uses": 1}));
    yes(two.join(&single));
    // Whoever has what a ticket gives is told so again.
    yes(two.join(&single));
    let mut three = Place::new("gamma");
    three.start();
    assert!(no(three.join(&single)).contains("ticket"), "used up");
    let revoked = ticket(&founder, json!({}));
    founder.node().post(&format!("/v1/spaces/tickets/revoke?space={SPACE}"), &json!({}));
    let text = no(three.join(&revoked));
    assert!(text.contains("ask for another (synod space ticket)"), "{text}");

    let mut same = Place::new("beta");
    same.start();
    let text = no(same.join(&ticket(&founder, json!({}))));
    assert!(text.contains("name"), "{text}");

    founder.down();
    let text = no(three.join(&good));
    assert!(text.contains("can be reached") && text.contains("--peer"), "{text}");
    assert_eq!(three.node().get("/v1/status")["spaces"].as_array().unwrap().len(), 1, "only local");
}

#[test]
fn a_ticket_of_a_private_network_needs_its_key() {
    let place = Place::new("alpha");
    let key = place.world.path().join("key");
    let text: String = (0..32u8).map(|n| format!("{n:02x}")).collect();
    std::fs::write(&key, format!("/key/swarm/psk/1.0.0/\n/base16/\n{text}\n")).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let flags = [&place.flags()[..], &["--private", key.to_str().unwrap()]].concat();
    let private = place.world.up(&flags);
    private.post("/v1/spaces", &json!({ "name": SPACE }));
    let made = private.post("/v1/spaces/tickets", &json!({}));
    let mut stranger = Place::new("beta");
    stranger.start();
    let text = no(stranger.join(made["ticket"].as_str().unwrap()));
    assert!(text.contains("private network") && text.contains("--private KEYFILE"), "{text}");
}

#[test]
fn a_copied_data_folder_is_noticed() {
    let mut group = Group::of_three();
    group.places[2].down();
    let copy = Place::new("gamma");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&group.places[2].world.data, &copy.world.data])
        .status();
    assert!(copied.unwrap().success());
    group.places[2].start();
    group.wait_voters(3);
    let twin = copy.world.up(&copy.flags());
    let mut said = Vec::new();
    wait_for("a warning", || {
        let status = group.places[0].node().get("/v1/status");
        said = status["warnings"].as_array().unwrap().clone();
        !said.is_empty()
    });
    let said = said[0].as_str().unwrap();
    assert!(said.contains("two nodes have the identity") && said.contains("copied"), "{said}");
    assert_eq!(group.places[0].try_broadcast("hello").0, 200, "the others go on");
    drop(twin);
}
