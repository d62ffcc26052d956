//! A space that has lost most of its voters for good is gone on with by hand, and by hand alone.

use crate::group::{Group, Place, SPACE, ticket};
use crate::world::wait_for;
use serde_json::{Value, json};

const WORDS: &str = "recover shared and lose what others have";

fn recover(place: &Place, words: &str) -> (u16, Value) {
    let path = format!("/v1/spaces/{SPACE}/recover");
    place.node().ask("POST", &path, &json!({ "understood": words })).unwrap()
}

/// The lines of the space's log that say this.
fn told(place: &Place, kind: &str) -> Vec<Value> {
    let text = place.world.yes(["log", "show", "--space", SPACE, "--json"]);
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["kind"] == kind).collect()
}

#[test]
fn one_of_three_goes_on_and_who_comes_back_does_no_harm() {
    let mut group = Group::of_three();
    assert_eq!(group.places[1].try_broadcast("before").0, 200);
    let (status, answer) = recover(&group.places[0], WORDS);
    assert_eq!((status, &answer["code"]), (409, &json!("quorum")), "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("3 of 3") && said.contains("beta"), "{said}");

    // The leader is among those that are lost, so that nothing is left over of it.
    let lost = group.leader();
    let kept = (lost + 1) % 3;
    let back = (lost + 2) % 3;
    let agreed = group.places[lost].members()["index"].as_u64().unwrap();
    wait_for("all to have applied the same", || {
        group.running().all(|place| place.members()["index"].as_u64() >= Some(agreed))
    });
    group.places[lost].kill();
    group.places[back].kill();
    let kept_place = |group: &Group| group.places[kept].name;
    wait_for("it to notice", || group.places[kept].members()["leader"].is_null());
    let (status, answer) = group.places[kept].try_broadcast("lost");
    assert_eq!((status, &answer["code"]), (503, &json!("no_quorum")), "{answer}");

    let (status, answer) = recover(&group.places[kept], "yes");
    assert_eq!((status, &answer["code"]), (400, &json!("understood")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains(WORDS), "{answer}");
    let asked = group.places[kept].world.run(["space", "recover", SPACE]);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.stderr.contains(&format!("--understood \"{WORDS}\"")), "{asked:?}");
    let nowhere = group.places[kept].world.run(["space", "recover", "mars", "--understood", WORDS]);
    assert!(nowhere.code == 2 && nowhere.stderr.contains("mars"), "{nowhere:?}");
    assert_eq!(group.places[kept].members()["generation"], 0);

    let shown = group.places[kept].world.yes(["space", "recover", SPACE, "--understood", WORDS]);
    assert!(shown.contains("generation 1") && shown.contains("led by this node"), "{shown}");
    let (status, answer) = group.places[kept].try_broadcast("after");
    assert_eq!(status, 200, "{answer}");
    let said = told(&group.places[kept], "recover");
    assert_eq!((said.len(), &said[0]["by"]), (1, &json!(kept_place(&group))), "{said:?}");
    let what = said[0]["what"].as_str().unwrap();
    for word in ["generation 1", group.places[lost].name, group.places[back].name, WORDS] {
        assert!(what.contains(word), "{word} in {what}");
    }

    // What it has written holds when it starts again, and others join it.
    group.places[kept].kill();
    group.places[kept].start();
    wait_for("it to lead again", || group.places[kept].members()["role"] == "leader");
    let members = group.places[kept].members();
    assert_eq!(
        (&members["generation"], &members["recovered"]["node"]),
        (&json!(1), &said[0]["by"])
    );
    assert_eq!(members["members"].as_array().unwrap().len(), 1, "{members}");
    let mut fourth = Place::new("delta");
    fourth.start();
    let good = ticket(&group.places[kept], json!({}));
    assert_eq!(fourth.join(&good).0, 200);
    wait_for("a second voter", || fourth.part("delta").as_deref() == Some("voter"));
    assert_eq!(fourth.try_broadcast("hello").0, 200);

    // One that was lost comes back, and is told that the space has gone on.
    group.places[back].start();
    wait_for("it to be told", || group.places[back].members()["gone_on"] == 1);
    let term = group.places[kept].members()["term"].clone();
    for (status, answer) in [
        group.places[back].try_broadcast("stale"),
        recover(&group.places[back], WORDS),
        group.places[back].join(&good),
    ] {
        assert_eq!((status, &answer["code"]), (409, &json!("recovered")), "{answer}");
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains("generation 1") && said.contains("join again"), "{said}");
    }
    let status = group.places[back].node().get("/v1/status");
    assert!(status["warnings"].to_string().contains("recovered at generation 1"), "{status}");
    let listed = group.places[back].world.run(["space", "members", SPACE]);
    assert!(listed.stderr.contains("leave it (synod space leave shared)"), "{listed:?}");
    assert_eq!(fourth.try_broadcast("unharmed").0, 200);
    assert_eq!(group.places[kept].members()["term"], term, "nobody was deposed");
    assert!(
        told(&group.places[kept], "transaction").iter().all(|e| !e.to_string().contains("stale"))
    );

    // It leaves, without anybody to ask, and is a member again.
    group.places[back].node().post(&format!("/v1/spaces/{SPACE}/leave"), &Value::Null);
    assert_eq!(group.places[back].join(&good).0, 200);
    group.places.push(fourth);
    group.wait_voters(3);
    group.wait_agree();
}

#[test]
fn a_learner_may_be_who_goes_on() {
    let mut group = Group::of_three();
    let mut fourth = Place::new("delta");
    fourth.start();
    assert_eq!(fourth.join(&ticket(&group.places[0], json!({}))).0, 200);
    wait_for("a learner", || fourth.part("delta").as_deref() == Some("learner"));
    assert_eq!(group.places[0].try_broadcast("before").0, 200);
    group.places.push(fourth);
    group.wait_agree();
    for place in &mut group.places[..3] {
        place.kill();
    }
    let fourth = &group.places[3];
    // Who does not vote does not notice: whoever it takes for the leader does not answer.
    let (status, answer) = recover(fourth, WORDS);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["recovered"]["dropped"], json!(["alpha", "beta", "gamma"]));
    assert_eq!(fourth.try_broadcast("after").0, 200);
    assert_eq!(fourth.part("delta").as_deref(), Some("voter"));
}

#[test]
fn who_leads_beside_a_recovered_member_is_told_so_and_leaves_at_once() {
    let mut group = Group::of_three();
    assert_eq!(group.places[1].try_broadcast("before").0, 200);
    group.wait_agree();
    let alone = (group.leader() + 1) % 3;
    let others = [(alone + 1) % 3, (alone + 2) % 3];
    for other in others {
        group.places[other].kill();
    }
    wait_for("it to notice", || group.places[alone].members()["leader"].is_null());
    assert_eq!(recover(&group.places[alone], WORDS).0, 200);
    let good = ticket(&group.places[alone], json!({}));
    // The others agree among themselves before they hear of it.
    group.places[alone].kill();
    for other in others {
        group.places[other].start();
    }
    let mut leader = others[0];
    wait_for("the other two to go on", || {
        let leads = |other: &usize| group.places[*other].members()["role"] == "leader";
        leader = others.into_iter().find(leads).unwrap_or(leader);
        leads(&leader) && group.places[leader].try_broadcast("beside").0 == 200
    });
    group.places[alone].start();
    let place = &group.places[leader];
    wait_for("it to be told", || {
        place.node().get("/v1/status")["warnings"].to_string().contains("generation 1")
    });
    // It is a member of the one, and does not tell who wants it in the other that all is done.
    let (status, answer) = place.join(&good);
    assert_eq!(status, 409, "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("generation 1") && said.contains("space leave"), "{said}");
    // There is nobody to ask.
    place.node().post(&format!("/v1/spaces/{SPACE}/leave"), &Value::Null);
    assert_eq!(place.join(&good).0, 200);
    wait_for("it to be a member", || place.members()["generation"] == 1);
}
