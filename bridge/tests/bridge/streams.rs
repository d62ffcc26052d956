//! Streams that are opened for a purpose.

use crate::{Node, as_usual, pair};
use synod_bridge::{Event, Lane, OpenError, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn incoming(node: &mut Node) -> (String, Stream) {
    node.until("a stream", |event| match event {
        Event::Incoming { name, stream, .. } => Some((name, stream)),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_carries_much_both_ways_and_each_end_closes_its_own() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    let mut stream = one.bridge.open(other.id(), "fetch").await.unwrap();
    let (name, mut there) = incoming(&mut other).await;
    assert_eq!(name, "fetch");
    let sending = tokio::spawn(async move {
        stream.write_all(&vec![3; 8 << 20]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let mut got = Vec::new();
    there.read_to_end(&mut got).await.unwrap();
    assert!(got.len() == 8 << 20 && got.iter().all(|byte| *byte == 3));
    there.write_all(b"thanks").await.unwrap();
    there.shutdown().await.unwrap();
    assert_eq!(sending.await.unwrap(), b"thanks");
    let connection = &one.bridge.connections()[0];
    assert!(connection.bytes_out >= 8 << 20 && connection.peer == other.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_while_a_stream_is_stuck() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    let mut stream = one.bridge.open(other.id(), "snapshot").await.unwrap();
    let (_, _never_read) = incoming(&mut other).await;
    let writing = tokio::spawn(async move {
        let _ = stream.write_all(&vec![0; 64 << 20]).await;
    });
    for lane in Lane::ALL {
        one.bridge.send(other.id(), lane, vec![1; 1000]).unwrap();
        other
            .until("the message", |event| match event {
                Event::Message { lane: came, .. } if came == lane => Some(()),
                _ => None,
            })
            .await;
    }
    assert!(!writing.is_finished(), "nobody reads the stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_at_both_ends_and_come_free_again() {
    let (one, mut other) = pair(&|config| config.limits.streams_per_peer = 8, &|config| {
        config.limits.streams_per_peer = 4;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let here = one.bridge.open(other.id(), "x").await.unwrap();
        open.push((here, incoming(&mut other).await));
    }
    assert!(matches!(one.bridge.open(other.id(), "x").await, Err(OpenError::Busy)));
    open.pop();
    // The end over there is dropped in the same moment; its place is free at once.
    let again = one.bridge.open(other.id(), "x").await.unwrap();
    let there = incoming(&mut other).await;
    assert_eq!(other.bridge.stats().refusals["too_many_streams"], 1);

    let back: Vec<_> = {
        let mut back = Vec::new();
        for _ in 0..4 {
            back.push(other.bridge.open(one.id(), "y").await.unwrap());
        }
        back
    };
    let refused = other.bridge.open(one.id(), "y").await;
    assert!(matches!(refused, Err(OpenError::TooMany(_))));
    drop((again, there, back));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_has_a_bound_and_an_absent_peer_is_named() {
    let (one, other) = pair(&as_usual, &as_usual).await;
    for name in ["", &"x".repeat(256)] {
        assert!(matches!(one.bridge.open(other.id(), name).await, Err(OpenError::Name)));
    }
    let stranger = synod_bridge::Identity::generate().id();
    let absent = one.bridge.open(stranger, "x").await;
    assert!(matches!(absent, Err(OpenError::NotConnected(peer)) if peer == stranger));
}
