//! Peers that mean harm, or are not what they should be.

use crate::{Change, Node, as_usual, pair, until};
use std::time::Duration;
use synod_bridge::book::split;
use synod_bridge::{Event, Lane, Multiaddr, Refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn refusal(node: &mut Node) -> Refusal {
    node.until("a refusal", |event| match event {
        Event::Refused { reason, .. } => Some(reason),
        _ => None,
    })
    .await
}

fn socket(address: &Multiaddr) -> String {
    let text = split(address).0.to_string();
    let parts: Vec<_> = text.split('/').collect();
    format!("{}:{}", parts[2], parts[4])
}

/// Both still talk to each other.
async fn talk(one: &Node, other: &mut Node) {
    one.bridge.send(other.id(), Lane::Urgent, b"well?".to_vec()).unwrap();
    other.until("a word", |event| matches!(event, Event::Message { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_clearly_on_both_sides() {
    let mut older = Node::start(&as_usual);
    let mut newer = Node::start(&|config| config.versions = 2..=3);
    let address = older.address().await;
    let error = newer.bridge.connect(address).await.unwrap_err().to_string();
    assert!(error.contains("versions 1 to 1") && error.contains("upgrade it"), "{error}");
    assert_eq!(refusal(&mut newer).await, Refusal::Version { theirs: 1..=1, ours: 2..=3 });
    let told = refusal(&mut older).await;
    assert_eq!(told, Refusal::Version { theirs: 2..=3, ours: 1..=1 });
    assert!(told.to_string().contains("upgrade this node"), "{told}");
    assert!(older.bridge.connections().is_empty() && newer.bridge.connections().is_empty());
    let both = |count: fn(&synod_bridge::Stats) -> u64| {
        count(&older.bridge.stats()) + count(&newer.bridge.stats())
    };
    until("they part", async || both(|stats| stats.disconnected) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_overlap_get_on() {
    let (one, mut other) = pair(&as_usual, &|config| config.versions = 1..=7).await;
    talk(&one, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_on_the_list_is_let_in_neither_way() {
    let friend = Node::start(&as_usual);
    let id = friend.id();
    let mut closed = Node::start(&|config| config.allow = Some([id].into()));
    let stranger = Node::start(&as_usual);
    let address = closed.address().await;
    // Whether the stranger notices before or after its connection stands, it gets nothing.
    let _ = stranger.bridge.connect(address.clone()).await;
    assert_eq!(refusal(&mut closed).await, Refusal::NotAllowed);
    assert!(closed.bridge.connections().is_empty());
    let outward = closed.bridge.connect(stranger.address().await).await.unwrap_err();
    assert!(outward.to_string().contains("--allow"), "{outward}");
    friend.bridge.connect(address).await.unwrap();
    closed.until_connected(friend.id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_peer_is_cut_off_and_stays_out_until_it_is_let_in() {
    let (mut one, other) = pair(&as_usual, &as_usual).await;
    one.bridge.block(other.id(), None, "a test").await;
    one.until_disconnected(other.id()).await;
    let address = one.address().await;
    // It may have tried again by itself before the disconnection was told of.
    let _ = other.bridge.connect(address.clone()).await;
    until("it is turned away", async || one.bridge.stats().refusals.contains_key("blocked")).await;
    assert!(one.bridge.unblock(other.id()).await);
    until("it is let in", async || other.bridge.connect(address.clone()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_the_port_harm_nobody() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    let socket = socket(&one.address().await);
    for n in 0..20u8 {
        let mut stream = TcpStream::connect(&socket).await.unwrap();
        let noise: Vec<u8> = (0..5000u32).map(|i| (i * 31 + u32::from(n) * 17) as u8).collect();
        let _ = stream.write_all(&noise).await;
    }
    until("they are counted", async || {
        one.bridge.stats().refusals.get("stranger").copied().unwrap_or(0) >= 20
    })
    .await;
    talk(&one, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_connections_from_one_host_leave_existing_peers_alone() {
    let (one, mut other) = pair(&as_usual, &as_usual).await;
    let socket = socket(&one.address().await);
    let mut held = Vec::new();
    for _ in 0..2000 {
        // Those over the bound are closed; the listener's own queue may be full for a moment.
        if let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(&socket)).await
        {
            held.push(stream);
        }
    }
    assert!(held.len() > 1000, "only {} came through", held.len());
    talk(&one, &mut other).await;
    talk(&other, &mut { one }).await;
}

/// What a stranger sees of a private network.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_network_shows_no_byte_of_the_protocol() {
    let key = synod_bridge::PrivateKey::generate();
    let other_key = synod_bridge::PrivateKey::generate();
    let private: Change<'_> = &move |config| config.private = Some(key);
    let (one, mut other) = pair(private, private).await;
    talk(&one, &mut other).await;

    let address = one.address().await;
    let mut stream = TcpStream::connect(socket(&address)).await.unwrap();
    // The handshake is 24 random bytes each way; then a stranger's words decrypt to nonsense.
    stream.write_all(&[7; 24]).await.unwrap();
    stream.write_all(b"\x13/multistream/1.0.0\n").await.unwrap();
    let mut seen = Vec::new();
    let closed = stream.read_to_end(&mut seen);
    let _ = tokio::time::timeout(Duration::from_secs(15), closed).await.expect("it stays open");
    let text = String::from_utf8_lossy(&seen);
    for word in ["multistream", "noise", "synod", "yamux", "libp2p"] {
        assert!(!text.contains(word), "{text}");
    }

    let open = Node::start(&as_usual);
    assert!(open.bridge.connect(address.clone()).await.is_err(), "it has no key");
    let elsewhere = Node::start(&move |config| config.private = Some(other_key));
    let error = elsewhere.bridge.connect(address).await.unwrap_err().to_string();
    assert!(error.contains("network key"), "{error}");
    assert!(one.bridge.stats().refusals["stranger"] >= 2);
    talk(&one, &mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_refused_in_words() {
    let start = |change: Change<'_>| {
        let folder = tempfile::tempdir().unwrap();
        let identity = synod_bridge::Identity::generate();
        let mut config = synod_bridge::Config::new(identity, folder.path().into());
        change(&mut config);
        synod_bridge::start(config).unwrap_err().to_string()
    };
    let quic: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let error = start(&|config| {
        config.private = Some(synod_bridge::PrivateKey::generate());
        config.listen = vec![quic.clone()];
    });
    assert!(error.contains("quic-v1") && error.contains("TCP only"), "{error}");
    let taken = Node::start(&as_usual);
    let address = split(&taken.address().await).0;
    let error = start(&|config| config.listen = vec![address.clone()]);
    assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    let error = start(&|config| config.listen = vec!["/memory/1".parse().unwrap()]);
    assert!(error.contains("/memory/1"), "{error}");
    let error = start(&|config| config.limits.gossip_transmit = 65_536);
    assert!(error.contains("gossip_transmit"), "{error}");
    let error = start(&|config| config.peers = vec!["/ip4/10.0.0.1".parse().unwrap()]);
    assert!(error.contains("/ip4/10.0.0.1 is no address"), "{error}");
}
