//! Messages on lanes.

use crate::{Node, as_usual, pair};
use synod_bridge::limits::{MAX_NORMAL, MAX_URGENT};
use synod_bridge::{Event, Lane, SendError};

async fn message(node: &mut Node) -> (Lane, Vec<u8>) {
    node.until("a message", |event| match event {
        Event::Message { lane, bytes, .. } => Some((lane, bytes.into_vec())),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_whole_and_in_order_both_ways_over_tcp_and_quic() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (mut one, mut other) =
            pair(&|config| config.listen = vec![listen.parse().unwrap()], &|config| {
                config.listen = vec![listen.parse().unwrap()];
            })
            .await;
        for n in 0..1000usize {
            let bytes = vec![n as u8; n * 7];
            one.bridge.send(other.id(), Lane::Normal, bytes.clone()).unwrap();
            other.bridge.send(one.id(), Lane::Normal, bytes).unwrap();
        }
        for n in 0..1000usize {
            let expected = (Lane::Normal, vec![n as u8; n * 7]);
            assert_eq!(message(&mut one).await, expected);
            assert_eq!(message(&mut other).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_messages_pass_and_larger_ones_are_refused_to_their_sender() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    for (lane, max) in [(Lane::Normal, MAX_NORMAL), (Lane::Urgent, MAX_URGENT)] {
        let refused = one.bridge.send(other.id(), lane, vec![0; max + 1]);
        assert_eq!(refused, Err(SendError::TooLarge { length: max + 1, max }));
        one.bridge.send(other.id(), lane, vec![7; max]).unwrap();
        assert_eq!(message(&mut other).await, (lane, vec![7; max]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_message_does_not_wait_behind_normal_ones() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    while one.bridge.send(other.id(), Lane::Normal, vec![0; 1 << 20]).is_ok() {}
    one.bridge.send(other.id(), Lane::Urgent, b"now".to_vec()).unwrap();
    let mut before = 0;
    while message(&mut other).await.0 == Lane::Normal {
        before += 1;
    }
    // Sixteen of a MiB were queued before it.
    assert!(before < 8, "it came behind {before} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_keeps_what_it_gets_stops_its_sender_and_nobody_else() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    let mut kept = Vec::new();
    let full = loop {
        match one.bridge.send(other.id(), Lane::Normal, vec![1; 1 << 20]) {
            Ok(()) => {}
            Err(full) => break full,
        }
        while let Some(event) = other.events.try_recv() {
            kept.push(event);
        }
        tokio::task::yield_now().await;
        assert!(kept.len() < 100, "nothing holds it back");
    };
    assert!(matches!(full, SendError::Full { .. }));
    one.bridge.send(other.id(), Lane::Urgent, b"still here".to_vec()).unwrap();
    other
        .until("the urgent one", |event| match event {
            Event::Message { lane: Lane::Urgent, .. } => Some(()),
            event => {
                kept.push(event);
                None
            }
        })
        .await;
    assert_eq!(one.bridge.stats().queue_full, 1);
    // Letting go of it lets the sender on.
    kept.clear();
    let mut one = one;
    let (drained, ready) = (one.bridge.clone(), other.id());
    tokio::spawn(async move { while other.events.recv().await.is_some() {} });
    one.until("room", |event| match event {
        Event::Drained { lane: Lane::Normal, .. } => Some(()),
        _ => None,
    })
    .await;
    drained.ready(ready, Lane::Normal).await.unwrap();
    assert!(drained.free(ready, Lane::Normal).unwrap() >= 8 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_connected_gets_nothing() {
    let (mut one, other) = pair(&as_usual, &as_usual).await;
    let id = other.id();
    other.bridge.close().await;
    one.until_disconnected(id).await;
    assert_eq!(one.bridge.send(id, Lane::Urgent, vec![1]), Err(SendError::NotConnected(id)));
    assert_eq!(one.bridge.free(id, Lane::Urgent), None);
    assert!(one.bridge.connections().is_empty());
}
