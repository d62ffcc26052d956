//! Who is known, who is connected, and who is kept connected.

use crate::{LIMIT, Node, as_usual, pair, until};
use synod_bridge::book::split;
use synod_bridge::{ConnectError, Event, Identity, Lane, Multiaddr};

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_asked_for_is_found_whenever_it_comes_up_and_comes_back() {
    let mut first = Node::start(&as_usual);
    let address = first.address().await;
    let mut one = Node::start(&|config| config.peers = vec![address.clone()]);
    one.until_connected(first.id()).await;
    first.until_connected(one.id()).await;
    let (identity, folder, id) = (first.identity.clone(), first.folder, first.bridge.id());
    first.bridge.close().await;
    one.until_disconnected(id).await;
    let port = split(&address).0;
    let again = Node::start_as(identity, folder, &|config| config.listen = vec![port.clone()]);
    one.until_connected(again.id()).await;
    let known = one.bridge.known().await;
    let tries = &known.peers[&id].addresses[&port];
    assert!(known.peers[&id].wanted && tries.wanted && tries.successes >= 2, "{tries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_book_survives_a_restart() {
    let (one, other) = pair(&as_usual, &as_usual).await;
    let address = other.address().await;
    one.bridge.add(address.clone()).await.unwrap();
    let dead: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let nobody = Identity::generate().id();
    one.bridge.add(dead.clone().with_p2p(nobody).unwrap()).await.unwrap();
    until("the failure is counted", async || {
        one.bridge.known().await.peers[&nobody].addresses[&dead].failures > 0
    })
    .await;
    one.bridge.close().await;
    let mut again = Node::start_as(one.identity, one.folder, &as_usual);
    again.until_connected(other.id()).await;
    let known = again.bridge.known().await;
    assert!(known.peers[&nobody].addresses[&dead].failures > 0);
    assert!(again.bridge.remove_address(dead.clone()).await);
    assert!(!again.bridge.remove_address(dead).await);
    assert!(again.bridge.remove_peer(other.id()).await);
    // Its connection stays, so it may be heard of again; nobody asks for it any more.
    let known = again.bridge.known().await.peers;
    assert!(!known.contains_key(&nobody));
    assert!(known.get(&other.id()).is_none_or(|known| !known.wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_learns_peers_from_the_one_it_knows_and_connects_with_them() {
    let hub = Node::start(&as_usual);
    let address = hub.address().await;
    let join = |config: &mut synod_bridge::Config| {
        config.peers = vec![address.clone()];
        config.limits.peers = 4;
    };
    let others: Vec<Node> = (0..3).map(|_| Node::start(&join)).collect();
    let mut new = Node::start(&join);
    let mut missing: std::collections::BTreeSet<_> = others.iter().map(Node::id).collect();
    missing.insert(hub.id());
    while !missing.is_empty() {
        let peer = new
            .until("a connection", |event| match event {
                Event::Connected { peer, .. } => Some(peer),
                _ => None,
            })
            .await;
        missing.remove(&peer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_says_what_became_of_it() {
    let (one, other) = (Node::start(&as_usual), Node::start(&as_usual));
    let address = other.address().await;
    assert_eq!(one.bridge.connect(address.clone()).await, Ok(other.id()));
    assert_eq!(one.bridge.connect(address.clone()).await, Ok(other.id()), "it is already");
    let bare = split(&address).0;
    let port = bare.to_string().rsplit('/').next().unwrap().to_owned();
    let named: Multiaddr = format!("/dns4/localhost/tcp/{port}").parse().unwrap();
    assert_eq!(one.bridge.connect(named).await, Ok(other.id()));
    let failed = |why: Result<_, ConnectError>| why.unwrap_err().to_string();
    let nobody = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    assert!(failed(one.bridge.connect(nobody).await).contains("refused"));
    let third = Node::start(&as_usual);
    let wrong = bare.with_p2p(Identity::generate().id()).unwrap();
    let wrong = failed(third.bridge.connect(wrong).await);
    assert!(wrong.contains(&format!("another peer is there: {}", other.id())), "{wrong}");
    let unknown = "/dns4/nobody.invalid/tcp/1".parse().unwrap();
    assert!(failed(one.bridge.connect(unknown).await).contains("no such host"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_ask_for_a_peer_wait_for_the_one_connection_and_can_use_it() {
    let (one, other) = (Node::start(&as_usual), Node::start(&as_usual));
    let address = other.address().await;
    let ask = || async {
        let connected = one.bridge.connect(address.clone()).await;
        (connected, one.bridge.send(other.id(), Lane::Urgent, vec![1]))
    };
    let met = async {
        one.bridge.met(other.id()).await;
        (Ok(other.id()), one.bridge.send(other.id(), Lane::Normal, vec![2]))
    };
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), met);
    for asked in [a, b, c, d] {
        assert_eq!(asked, (Ok(other.id()), Ok(())));
    }
    assert_eq!(one.bridge.connections().len(), 1);
    // Nobody is there: that, too, is told to all.
    let nobody: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let nobody = nobody.with_p2p(Identity::generate().id()).unwrap();
    let (a, b) =
        tokio::join!(one.bridge.connect(nobody.clone()), one.bridge.connect(nobody.clone()));
    assert!(a.is_err() && b.is_err(), "{a:?} {b:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_shown_and_ended_by_hand() {
    let (mut one, other) = pair(&as_usual, &as_usual).await;
    one.bridge.add(other.address().await).await.unwrap();
    let shown = &one.bridge.connections()[0];
    assert_eq!((shown.peer, shown.inbound), (other.id(), false));
    until("the round trip is measured", async || one.bridge.connections()[0].rtt.is_some()).await;
    assert!(one.bridge.disconnect(other.id()).await);
    one.until_disconnected(other.id()).await;
    assert!(!one.bridge.disconnect(other.id()).await);
    // It is wanted, but whoever ended it by hand meant it.
    let back = tokio::time::timeout(LIMIT / 20, one.until_connected(other.id())).await;
    assert!(back.is_err(), "it was dialed again");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_each_other_at_once_keep_one_connection() {
    let (one, other) = (Node::start(&as_usual), Node::start(&as_usual));
    let (to_one, to_other) = (one.address().await, other.address().await);
    let (a, b) = tokio::join!(one.bridge.add(to_other), other.bridge.add(to_one));
    a.unwrap();
    b.unwrap();
    until("one connection each", async || {
        one.bridge.connections().len() == 1 && other.bridge.connections().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dials_itself_takes_that_for_no_other() {
    let everywhere = "/ip4/0.0.0.0/tcp/0".parse::<Multiaddr>().unwrap();
    let mut node = Node::start(&|config| config.listen = vec![everywhere.clone()]);
    let own = split(&node.address().await).0;
    let port = own.to_string().rsplit('/').next().unwrap().to_owned();
    // One that it knows to be its own, and one that it does not.
    for host in [own, format!("/ip4/127.0.0.2/tcp/{port}").parse().unwrap()] {
        node.bridge.add(host.clone()).await.unwrap();
        until("it gives up its own address", async || node.bridge.known().await.seeds.is_empty())
            .await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    while let Some(event) = node.events.try_recv() {
        assert!(!matches!(event, Event::SameIdentity { .. }), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_identity_are_found_out_when_they_meet() {
    let one = Node::start(&as_usual);
    let mut copy = Node::start_as(one.identity.clone(), tempfile::tempdir().unwrap(), &as_usual);
    let address = split(&one.address().await).0;
    copy.bridge.add(address).await.unwrap();
    // Who is dialed may see no more than somebody who leaves.
    let id = one.id();
    copy.until("the other to be found out", |event| match event {
        Event::SameIdentity { peer, address } => {
            assert!(address.is_some() && peer == id);
            Some(())
        }
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_identity_are_found_out_by_a_third() {
    let mut third = Node::start(&as_usual);
    let address = third.address().await;
    let join = |config: &mut synod_bridge::Config| config.peers = vec![address.clone()];
    let one = Node::start(&join);
    let copy = Node::start_as(one.identity.clone(), tempfile::tempdir().unwrap(), &join);
    let found = third
        .until("the copy to be found out", |event| match event {
            Event::SameIdentity { peer, .. } => Some(peer),
            _ => None,
        })
        .await;
    assert_eq!(found, copy.id());
}
