//! What needs a node that no configuration makes.

use crate::{Config, Event, Events, Identity, Refusal};
use std::time::Duration;

async fn until(events: &mut Events, mut wanted: impl FnMut(&Event) -> bool) {
    let found = async { while !events.recv().await.as_ref().is_none_or(&mut wanted) {} };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap();
}

/// The trap: a frame over the receiver's bound ends its gossip stream for good, while its sender
/// goes on publishing into it.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_ceases_to_hear_is_found_out_and_connected_with_anew() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |folder: &tempfile::TempDir, change: &dyn Fn(&mut Config)| {
        let mut config = Config::new(Identity::generate(), folder.path().into());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.limits.beacon_interval = Duration::from_millis(100);
        change(&mut config);
        let counters = std::sync::Arc::default();
        let (channel, events) = crate::event::channel(std::sync::Arc::clone(&counters));
        (super::start(config, counters, channel, None).unwrap(), events)
    };
    // It takes less than others send.
    let (deaf, mut deaf_events) = start(&there, &|config| config.limits.gossip_transmit = 40_000);
    let address = deaf.listening().await[0].clone().with_p2p(deaf.id()).unwrap();
    let (bridge, mut events) = start(&here, &|config| config.peers = vec![address.clone()]);
    deaf.subscribe("t").await.unwrap();
    until(&mut events, |event| matches!(event, Event::Connected { .. })).await;

    let heard = |deaf: crate::Bridge| async move {
        let before = deaf.stats().beacons_in;
        while deaf.stats().beacons_in < before + 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    heard(deaf.clone()).await;
    assert_eq!(bridge.stats().deaf, 0, "who hears is not deaf");
    bridge.publish("t", &[7; 70_000]).unwrap();
    until(&mut events, |event| matches!(event, Event::Refused { reason: Refusal::Deaf, .. })).await;
    until(&mut events, |event| matches!(event, Event::Connected { .. })).await;
    heard(deaf.clone()).await;
    let publishing = tokio::spawn(async move {
        while bridge.publish("t", b"heard again").is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    until(
        &mut deaf_events,
        |event| matches!(event, Event::Gossip { bytes, .. } if bytes[..] == *b"heard again"),
    )
    .await;
    publishing.abort();
}
