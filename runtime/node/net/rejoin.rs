//! Joining a space once more: a member whose log has lost what it gave its word for asks the others to
//! admit it under another id.
//!
//! It goes over the stream of joining, without a ticket: that it knows the space's key shows that it is
//! a member, and the connection proves which one.

use super::join::{Again, Answer, Joined, Question, STREAM, ask, joined};
use super::{Net, address};
use crate::hex::{fixed, hex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_bridge::{Bridge, Lane, PeerId};
use synod_core::group;
use tokio::time::timeout;

/// How long a connection with a member may take.
const REACH_PATIENCE: Duration = Duration::from_secs(3);
/// How long a member may take to have the space admit this node.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// A member that joins its space once more.
#[derive(Clone, Debug)]
pub(crate) struct Lost<'a> {
    /// The space.
    pub(crate) space: [u8; 32],
    /// What its members know.
    pub(crate) key: [u8; 32],
    /// How often it was recovered by hand, as far as this node knows.
    pub(crate) generation: u64,
    /// Members' ids in the network.
    pub(crate) contacts: &'a BTreeMap<u64, Bytes>,
}

/// Has a space admit this node under another id, by whichever member answers first; or says what each of
/// them said.
pub(crate) async fn rejoin(
    net: &Net,
    node: &str,
    lost: Lost<'_>,
    nonce: [u8; 16],
) -> Result<Joined, String> {
    let Some(bridge) = net.bridge() else { return Err("the network is down".to_owned()) };
    let mut said = Vec::new();
    let peers = lost.contacts.values().filter_map(|peer| PeerId::from_bytes(peer).ok());
    for peer in peers.filter(|peer| *peer != net.me) {
        if !reach(bridge, peer).await {
            said.push(format!("{peer} cannot be reached"));
            continue;
        }
        let token = group::token(&lost.key, lost.generation, &net.me.to_bytes(), &peer.to_bytes());
        let question = Question {
            space: hex(&lost.space),
            secret: String::new(),
            node: node.to_owned(),
            nonce: hex(&nonce),
            again: Some(Again { token: hex(&token) }),
        };
        match timeout(ANSWER_PATIENCE, ask(bridge, peer, &question, STREAM)).await {
            Ok(Ok(Answer::Welcome(welcome))) => return joined(welcome).map_err(|e| e.to_string()),
            Ok(Ok(Answer::No { why })) => said.push(format!("{peer} says: {why}")),
            Ok(Err(e)) => said.push(format!("{peer}: {e}")),
            Err(_) => said.push(format!("{peer} is silent")),
        }
    }
    if said.is_empty() {
        said.push("no other member is known".to_owned());
    }
    Err(said.join("; "))
}

/// Connects with a member at any address that is known of it, or waits until it has connected itself.
async fn reach(bridge: &Bridge, peer: PeerId) -> bool {
    let is_there = || bridge.free(peer, Lane::Urgent).is_some();
    if is_there() {
        return true;
    }
    for known in bridge.known().await.addresses(&peer) {
        let text = known.to_string();
        let text = if text.contains("/p2p/") { text } else { format!("{text}/p2p/{peer}") };
        if let Ok(address) = address(&text)
            && matches!(timeout(REACH_PATIENCE, bridge.connect(address)).await, Ok(Ok(_)))
        {
            return true;
        }
    }
    timeout(REACH_PATIENCE, bridge.met(peer)).await.is_ok() || is_there()
}

/// The token that a question to be admitted again shows.
pub(super) fn shown(again: &Again) -> Option<[u8; 16]> {
    fixed(&again.token)
}
