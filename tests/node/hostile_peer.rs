//! Peers that do not keep to what nodes have agreed on: each is turned away and counted, and the space
//! goes on committing.

use crate::group::{Group, Place, SPACE};
use crate::random::Random;
use crate::world::wait_for;
use serde_json::Value;
use std::time::Duration;
use synod_bridge::{Bridge, Config, Identity, Lane, Multiaddr, PeerId};
use synod_core::cbor::Writer;
use synod_core::group::{Ask, Frame, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Frames of each sort that are sent.
const FRAMES: usize = 50;

/// A node of the network that is no node of ours.
struct Attacker {
    runtime: Runtime,
    bridge: Bridge,
    targets: Vec<PeerId>,
    _folder: tempfile::TempDir,
}

impl Attacker {
    fn new(identity: Identity, places: &[Place]) -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let _inside = runtime.enter();
        let mut config = Config::new(identity, folder.path().into());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.mdns = false;
        let (bridge, mut events) = synod_bridge::start(config).unwrap();
        runtime.spawn(async move { while events.recv().await.is_some() {} });
        drop(_inside);
        let connect = |place: &Place| {
            let address: Multiaddr = place.address().parse().unwrap();
            runtime.block_on(bridge.connect(address)).unwrap()
        };
        let targets = places.iter().filter(|place| place.is_running()).map(connect).collect();
        Self { runtime, bridge, targets, _folder: folder }
    }

    /// Sends bytes to all; a full queue is waited for.
    fn send(&self, bytes: &[u8]) {
        for target in &self.targets {
            for lane in [Lane::Urgent, Lane::Normal] {
                if bytes.len() <= lane.max_message() {
                    // Whoever is turned away has reached what is tested.
                    let _ = self.runtime.block_on(self.bridge.ready(*target, lane));
                    let _ = self.bridge.send(*target, lane, bytes.to_vec());
                }
            }
        }
    }

    /// Opens a stream, writes to it, and reads until the other side has ended it.
    fn stream(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut answer = Vec::new();
            let Ok(mut stream) = self.bridge.open(self.targets[0], name).await else {
                return answer;
            };
            if stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok() {
                let _ = stream.read_to_end(&mut answer).await;
            }
            answer
        };
        let patient = async { tokio::time::timeout(Duration::from_secs(20), exchange).await };
        let answer = self.runtime.block_on(patient);
        answer.unwrap_or_else(|_| panic!("the node keeps a stream that says nothing more"))
    }
}

fn json_text(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn file(place: &Place, name: &str) -> Value {
    let path = place.world.data.join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

fn bytes32(hex: &str) -> [u8; 32] {
    let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
    std::array::from_fn(byte)
}

/// A message of Raft, whatever it says.
fn message(group: [u8; 32], generation: u64, from: u64, to: u64, body: &[u64]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(6).uint(1).bytes(&group).uint(generation).uint(from).uint(to).array(body.len() + 1);
    for number in body {
        w.uint(*number);
    }
    w.bytes(&[]);
    w.into_vec()
}

fn refused(place: &Place, what: &str) -> u64 {
    let status = place.node().get("/v1/status");
    let spaces = status["spaces"].as_array().unwrap();
    let space = spaces.iter().find(|space| space["name"] == SPACE).unwrap();
    status[what].as_u64().or(space[what].as_u64()).unwrap()
}

/// The group commits, has the members that it had, and nobody has started anew.
fn check_goes_on(group: &Group, members: &Value) {
    for place in group.running() {
        let (status, answer) = place.try_broadcast("hello");
        assert_eq!(status, 200, "{answer}");
    }
    group.wait_agree();
    let now = group.running().next().unwrap().members()["members"].clone();
    let ids = |members: &Value| -> Vec<Value> {
        members.as_array().unwrap().iter().map(|m| m["id"].clone()).collect()
    };
    assert_eq!(ids(&now), ids(members));
}

#[test]
fn a_stranger_is_counted_and_changes_nothing() {
    let group = Group::of_three();
    let members = group.places[0].members();
    let attacker = Attacker::new(Identity::generate(), &group.places);
    let mut random = Random::new(1);
    let id = bytes32(members["id"].as_str().unwrap());
    let mut send_all = || {
        for n in 0..FRAMES {
            let garbage: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
            attacker.send(&garbage);
            let message = message(id, 0, 1, 2, &[2, 1, 0]);
            let frame = Frame::Raft(message.into()).encode(&[n as u8; 16]);
            attacker.send(&frame);
            attacker.send(&frame[..frame.len() - 1 - n % 20]);
        }
        attacker.send(&vec![0x9f; Lane::Normal.max_message()]);
    };
    for place in &group.places {
        wait_for("refusals", || {
            // What was on its way over a connection that was one too many is lost: send it again.
            send_all();
            refused(place, "refused_frames") >= 2 * FRAMES as u64
        });
    }

    let space = members["id"].clone();
    let question = serde_json::json!({"space": space, "secret": "00".repeat(16), "node": "x", "nonce": "11".repeat(16)});
    let answer = attacker.stream("synod/join/1", &json_text(&question));
    assert!(String::from_utf8_lossy(&answer).contains("its ticket is not"), "{answer:?}");
    let before = refused(&group.places[0], "refused_frames");
    let offer = serde_json::json!({"space": space, "bytes": 1_000_000, "frame": 10});
    for (name, bytes) in [
        ("synod/join/1", vec![0xff; 4]),
        ("synod/join/1", b"\0\0\0\x09not json!".to_vec()),
        ("synod/join/1", b"\0\0\0\x09cut".to_vec()),
        ("synod/snapshot/1", json_text(&offer)),
        ("synod/snapshot/1", vec![7; 100_000]),
        ("synod/nothing/1", vec![7; 100]),
    ] {
        assert!(attacker.stream(name, &bytes).is_empty(), "{name}");
    }
    wait_for("refusals", || refused(&group.places[0], "refused_frames") >= before + 6);
    check_goes_on(&group, &members["members"]);
}

#[test]
fn who_knows_the_key_but_is_no_member_is_not_listened_to() {
    let group = Group::of_three();
    let members = group.places[0].members();
    let id = bytes32(members["id"].as_str().unwrap());
    let member = file(&group.places[0], &format!("spaces/{SPACE}/member.json"));
    let key = bytes32(member["key"].as_str().unwrap());
    let attacker = Attacker::new(Identity::generate(), &group.places);
    let me = attacker.bridge.id().to_bytes();
    let send_all = || {
        for (n, target) in attacker.targets.iter().enumerate() {
            let token = token(&key, 0, &me, &target.to_bytes());
            let to = n as u64 + 1;
            for from in 0..4 {
                let forged = message(id, 0, from, to, &[2, 1, 0]);
                let frames = [
                    Frame::Raft(forged.into()),
                    Frame::Ask { boot: 1, number: 1, ask: Ask::Remove(from) },
                    Frame::Propose {
                        boot: 1,
                        giving: 1,
                        first: 1,
                        commands: vec![vec![0x80].into()],
                    },
                ];
                for frame in frames {
                    let _ =
                        attacker.bridge.send(*target, Lane::Normal, frame.encode(&token).to_vec());
                }
            }
        }
    };
    for place in &group.places {
        wait_for("refusals", || {
            send_all();
            refused(place, "refused") >= 12
        });
    }
    check_goes_on(&group, &members["members"]);
}

#[test]
fn a_member_that_has_gone_mad_is_refused_what_makes_no_sense() {
    let mut group = Group::of_three();
    let members = group.places[0].members();
    let id = bytes32(members["id"].as_str().unwrap());
    // One that does not lead loses its mind.
    let mad = (group.leader() + 1) % 3;
    let member = file(&group.places[mad], &format!("spaces/{SPACE}/member.json"));
    let (key, from) =
        (bytes32(member["key"].as_str().unwrap()), member["member"].as_u64().unwrap());
    group.places[mad].kill();
    let identity = Identity::of_folder(&group.places[mad].world.data).unwrap();
    let attacker = Attacker::new(identity, &group.places);
    let me = attacker.bridge.id().to_bytes();
    let term = members["term"].as_u64().unwrap();
    let mut random = Random::new(2);
    let mut send_all = || {
        for target in &attacker.targets {
            let token = token(&key, 0, &me, &target.to_bytes());
            let raft = |message: Vec<u8>| Frame::Raft(message.into());
            for to in 1..4 {
                let mut frames = vec![
                    // Of another space, of another generation, of another member, to nobody.
                    raft(message([9; 32], 0, from, to, &[2, term, 0])),
                    raft(message(id, 7, from, to, &[2, term, 0])),
                    raft(message(id, 0, from % 3 + 1, to, &[2, term, 0])),
                    raft(message(id, 0, from, 99, &[2, term, 0])),
                    // Of an old term; a commit beyond all logs; numbers beyond all bounds; of no kind.
                    raft(message(id, 0, from, to, &[2, 0, 0])),
                    raft(message(id, 0, from, to, &[2, term, 1 << 40])),
                    raft(message(id, 0, from, to, &[2, u64::MAX, u64::MAX])),
                    raft(message(id, 0, from, to, &[77, term])),
                    Frame::Propose {
                        boot: 0,
                        giving: 0,
                        first: u64::MAX - 1,
                        commands: vec![vec![0xf6].into()],
                    },
                    Frame::Propose {
                        boot: 0,
                        giving: 1,
                        first: 1,
                        commands: vec![vec![0x80].into(); 100],
                    },
                    Frame::Answer { boot: 1, number: 5, why: None },
                    Frame::Ask { boot: 1, number: 1, ask: Ask::Promote(88) },
                    Frame::Ask { boot: 1, number: 1, ask: Ask::Transfer(88) },
                ];
                let garbage =
                    (0..random.below(99)).map(|_| random.next() as u8).collect::<Vec<_>>();
                frames.push(raft(garbage));
                for frame in frames {
                    let _ =
                        attacker.bridge.send(*target, Lane::Normal, frame.encode(&token).to_vec());
                }
            }
        }
    };
    for place in group.running() {
        wait_for("refusals", || {
            send_all();
            refused(place, "refused") >= 21
        });
    }
    wait_for("a quorum", || group.running().all(|place| place.try_broadcast("hello").0 == 200));
    drop(attacker);
    group.places[mad].start();
    group.wait_voters(3);
    check_goes_on(&group, &members["members"]);
}
