//! Gossip, and the traps of it that are known.

use crate::{Node, as_usual, pair, until};
use std::collections::BTreeSet;
use std::time::Duration;
use synod_bridge::limits::MAX_GOSSIP;
use synod_bridge::{Event, PublishError};

async fn gossip(node: &mut Node) -> (String, Vec<u8>) {
    node.until("gossip", |event| match event {
        Event::Gossip { topic, bytes, .. } => Some((topic.to_string(), bytes.into_vec())),
        _ => None,
    })
    .await
}

/// Two nodes whose gossip flows from the first to the second, and back.
async fn neighbours() -> (Node, Node) {
    let (mut one, mut other) = pair(&as_usual, &as_usual).await;
    for node in [&one, &other] {
        node.bridge.subscribe("t").await.unwrap();
    }
    flows(&one, &mut other).await;
    flows(&other, &mut one).await;
    (one, other)
}

/// Publishes until the first message has come: who subscribes to what takes a while to get about.
async fn flows(from: &Node, to: &mut Node) {
    let (publisher, id) = (from.bridge.clone(), from.id());
    let publishing = tokio::spawn(async move {
        loop {
            publisher.publish("t", b"ready?").unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    to.until("the first gossip", |event| match event {
        Event::Gossip { from, .. } if from == id => Some(()),
        _ => None,
    })
    .await;
    publishing.abort();
    let _ = publishing.await;
    // What was published before is no part of what a test counts.
    from.bridge.publish("t", b"begin").unwrap();
    while gossip(to).await.1 != b"begin" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_messages_all_come_with_their_author_and_topic() {
    let (one, mut other) = neighbours().await;
    for _ in 0..3 {
        one.bridge.publish("t", b"same").unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        let id = one.id();
        other
            .until("a message", |event| match event {
                Event::Gossip { topic, from, bytes } => {
                    assert_eq!((&*topic, from, &*bytes), ("t", id, &b"same"[..]));
                    Some(())
                }
                _ => None,
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_datagrams_5_ms_apart_all_come() {
    let (one, mut other) = neighbours().await;
    let publisher = one.bridge.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..100u8 {
            publisher.publish("t", &vec![n; 65_507]).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut came = BTreeSet::new();
    while came.len() < 100 {
        let (_, bytes) = gossip(&mut other).await;
        assert!(bytes.len() == 65_507 && bytes.iter().all(|byte| *byte == bytes[0]));
        came.insert(bytes[0]);
    }
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_sixty_large_messages_all_come_and_so_does_what_follows() {
    let (one, mut other) = neighbours().await;
    for burst in 0..5u8 {
        for n in 0..60u8 {
            let mut message = vec![burst; 60_000];
            message[0] = n;
            one.bridge.publish("t", &message).unwrap();
        }
        let mut came = BTreeSet::new();
        while came.len() < 60 {
            let (_, bytes) = gossip(&mut other).await;
            assert_eq!((bytes.len(), bytes[1]), (60_000, burst));
            came.insert(bytes[0]);
        }
    }
    one.bridge.publish("t", b"small").unwrap();
    assert_eq!(gossip(&mut other).await.1, b"small");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_travel_together_in_order_and_none_is_lost() {
    let (one, mut other) = neighbours().await;
    let before = one.bridge.stats().gossip_frames_out;
    let publisher = one.bridge.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..50_000u32 {
            let mut message = [0; 100];
            message[..4].copy_from_slice(&n.to_be_bytes());
            while publisher.publish("t", &message).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for n in 0..50_000u32 {
        let (_, bytes) = gossip(&mut other).await;
        assert_eq!((bytes.len(), &bytes[..4]), (100, &n.to_be_bytes()[..]));
    }
    publishing.await.unwrap();
    let frames = one.bridge.stats().gossip_frames_out - before;
    assert!(frames < 5000, "{frames} frames: they do not travel together");
    assert_eq!(other.bridge.stats().gossip_dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_under_its_identity_is_heard_again_and_hears() {
    let (mut one, other) = neighbours().await;
    let (identity, id) = (other.identity.clone(), other.id());
    let folder = other.folder;
    let back = one.address().await;
    // It goes without a word: its connection still stands when it is back.
    let left = std::mem::ManuallyDrop::new((other.bridge, other.events));
    let mut again =
        Node::start_as(identity, folder, &move |config| config.peers = vec![back.clone()]);
    again.bridge.subscribe("t").await.unwrap();
    one.until("its restart to be seen", |event| {
        matches!(event, Event::Disconnected { peer } if peer == id).then_some(())
    })
    .await;
    one.until_connected(id).await;
    flows(&again, &mut one).await;
    flows(&one, &mut again).await;
    assert!(one.bridge.stats().restarts >= 1);
    drop(std::mem::ManuallyDrop::into_inner(left));
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_reaches_those_beyond_the_neighbours() {
    let nodes: Vec<Node> = (0..4).map(|_| Node::start(&as_usual)).collect();
    for pair in nodes.windows(2) {
        pair[0].bridge.connect(pair[1].address().await).await.unwrap();
    }
    for node in &nodes {
        node.bridge.subscribe("t").await.unwrap();
    }
    let mut nodes = nodes;
    let mut last = nodes.pop().unwrap();
    flows(&nodes[0], &mut last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_subscribes_to_comes_to_nobody() {
    let (one, mut other) = neighbours().await;
    other.bridge.subscribe("u").await.unwrap();
    assert!(other.bridge.unsubscribe("u").await);
    assert!(!other.bridge.unsubscribe("u").await, "it is unsubscribed already");
    one.bridge.publish("u", b"not for you").unwrap();
    one.bridge.publish("v", b"nor this").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    one.bridge.publish("t", b"but this").unwrap();
    assert_eq!(gossip(&mut other).await, ("t".into(), b"but this".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_sizes_and_the_queue_are_bounded() {
    let node = Node::start(&|config| config.limits.gossip_queue = 100_000);
    assert_eq!(node.bridge.publish("", b"x"), Err(PublishError::Name));
    assert_eq!(node.bridge.publish(&"x".repeat(256), b"x"), Err(PublishError::Name));
    let large = vec![0; MAX_GOSSIP + 1];
    assert_eq!(node.bridge.publish("t", &large), Err(PublishError::TooLarge(large.len())));
    let full = (0..1000).find_map(|_| node.bridge.publish("t", &[0; 30_000]).err());
    assert!(matches!(full, Some(PublishError::Full { .. })), "{full:?}");
    assert_eq!(node.bridge.stats().gossip_queue_full, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_loses_gossip_and_nothing_else() {
    let (one, mut other) = pair(&as_usual, &|config| config.limits.gossip_inflow = 50_000).await;
    for node in [&one, &other] {
        node.bridge.subscribe("t").await.unwrap();
    }
    flows(&one, &mut other).await;
    for _ in 0..100 {
        one.bridge.publish("t", &[0; 10_000]).unwrap();
    }
    until("it is dropped", async || other.bridge.stats().gossip_dropped > 0).await;
    one.bridge.send(other.id(), synod_bridge::Lane::Normal, b"a message".to_vec()).unwrap();
    other.until("the message", |event| matches!(event, Event::Message { .. }).then_some(())).await;
}
