//! Joining a space: who has a ticket asks a member, which has the space admit it.
//!
//! The stream carries one question and one answer, each as JSON. What makes a member of the asker is the
//! log: the secret's hash must be that of an open ticket there. Who only wants to follow the space asks the
//! same on a stream of another name; nothing about that goes into the log.

use super::incoming::{read_text, write_text};
use super::rejoin::shown;
use super::ticket::Ticket;
use super::{Net, NetError, address};
use crate::folder::PlaceText;
use crate::hex::{fixed, hex, unhex};
use crate::space::{Ended, Space};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};
use synod_bridge::{Bridge, PeerId, Stream};
use synod_core::apply::{Outcome, Part};
use synod_core::command::{Admit, Command, MAX_NAME_BYTES};
use synod_core::group::observer::{Anchor, observers_key};
use tokio::time::timeout;

/// What the stream is called.
pub(super) const STREAM: &str = "synod/join/1";
/// The same, for who only wants to follow the space.
pub(super) const OBSERVE: &str = "synod/join/observer/1";
/// How long a member is waited for that no address of the ticket leads to.
const FOUND_PATIENCE: Duration = Duration::from_secs(3);
/// How long a question is asked again whose answer does not come.
const LOST_PATIENCE: Duration = Duration::from_secs(20);
/// How long after it was lost.
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) space: String,
    pub(super) secret: String,
    pub(super) node: String,
    pub(super) nonce: String,
    /// In place of a ticket's secret, if it is a member already and has lost its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<Again>,
}

/// What shows that the asker is a member.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Again {
    /// As frames to the one who is asked begin.
    pub(super) token: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer<W> {
    Welcome(W),
    No { why: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    member: u64,
    generation: u64,
    key: String,
    /// Members' ids in the network, by Raft id.
    members: BTreeMap<u64, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WelcomeObserver {
    generation: u64,
    key: String,
    /// The place at which these voted.
    at: PlaceText,
    /// The voters' ids in the network.
    voters: Vec<String>,
}

/// What a node is told that may follow.
#[derive(Debug)]
pub(crate) struct Followed {
    /// How often the space was recovered.
    pub(crate) generation: u64,
    /// What observers know.
    pub(crate) key: [u8; 32],
    /// Whom to believe at first.
    pub(crate) anchor: Anchor,
}

/// What a node is told that has joined.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Its Raft id.
    pub(crate) member: u64,
    /// How often the space was recovered.
    pub(crate) generation: u64,
    /// What the members know.
    pub(crate) key: [u8; 32],
    /// The members' ids in the network, by Raft id.
    pub(crate) members: BTreeMap<u64, Bytes>,
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The ticket is of another network.
    #[error("{0}")]
    Network(&'static str),
    /// The ticket's member cannot be reached.
    #[error(
        "no member of the space {space} can be reached: {why}; is it running, and may this machine connect \
         to it? `--peer ADDRESS` names another address of it"
    )]
    Unreachable {
        /// The space's name.
        space: String,
        /// What was tried.
        why: String,
    },
    /// The member has said no.
    #[error("the space has not admitted this node: {0}")]
    Refused(String),
    /// What a member said makes no sense.
    #[error("the member's answer cannot be used: {0}")]
    Answer(String),
    /// The ticket's addresses make no sense.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Has a space admit this node.
pub(crate) async fn join(
    net: &Net,
    ticket: &Ticket,
    node: &str,
    nonce: [u8; 16],
) -> Result<Joined, JoinError> {
    joined(question(net, ticket, node, nonce, STREAM).await?)
}

/// Has a member of a space let this node follow it.
pub(crate) async fn follow(net: &Net, ticket: &Ticket, node: &str) -> Result<Followed, JoinError> {
    let welcome: WelcomeObserver = question(net, ticket, node, [0; 16], OBSERVE).await?;
    let wrong = || JoinError::Answer("it has no key, no place or no voters".to_owned());
    let key = fixed(&welcome.key).ok_or_else(wrong)?;
    let bytes = |text: &String| Some(Bytes::from(unhex(text)?));
    let voters = welcome.voters.iter().map(bytes).collect::<Option<BTreeSet<_>>>();
    let voters = voters.filter(|voters| !voters.is_empty()).ok_or_else(wrong)?;
    let place = welcome.at.read().ok_or_else(wrong)?;
    let generation = welcome.generation;
    Ok(Followed { generation, key, anchor: Anchor { place, voters } })
}

/// Asks the ticket's member until it answers.
async fn question<W: DeserializeOwned>(
    net: &Net,
    ticket: &Ticket,
    node: &str,
    nonce: [u8; 16],
    stream: &str,
) -> Result<W, JoinError> {
    check_network(net, ticket)?;
    let unreachable = |why: String| JoinError::Unreachable { space: ticket.name.clone(), why };
    let peer = PeerId::from_bytes(&ticket.peer).map_err(|e| JoinError::Answer(e.to_string()))?;
    let bridge = net.bridge().ok_or_else(|| unreachable("the network is down".to_owned()))?;
    let question = Question {
        space: hex(&ticket.space),
        secret: hex(&ticket.secret),
        node: node.to_owned(),
        nonce: hex(&nonce),
        again: None,
    };
    let until = Instant::now() + LOST_PATIENCE;
    let answer = loop {
        reach(bridge, peer, ticket).await.map_err(unreachable)?;
        // Of two connections that were made at once, one is closed, and with it what was on its way. The
        // nonce makes it one joining, however often it is asked for.
        match ask(bridge, peer, &question, stream).await {
            Ok(answer) => break answer,
            Err(e) if Instant::now() >= until => return Err(unreachable(e.to_string())),
            Err(e) => tracing::debug!("the question to join is asked again: {e}"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    match answer {
        Answer::No { why } => Err(JoinError::Refused(why)),
        Answer::Welcome(welcome) => Ok(welcome),
    }
}

/// What an answer says to who was admitted.
pub(super) fn joined(welcome: Welcome) -> Result<Joined, JoinError> {
    let wrong = || JoinError::Answer("it has no key or no members".to_owned());
    let key = fixed(&welcome.key).ok_or_else(wrong)?;
    let bytes = |(id, text): (u64, String)| Some((id, unhex(&text)?.into()));
    let members = welcome.members.into_iter().map(bytes).collect::<Option<_>>();
    let Welcome { member, generation, .. } = welcome;
    Ok(Joined { member, generation, key, members: members.ok_or_else(wrong)? })
}

fn check_network(net: &Net, ticket: &Ticket) -> Result<(), JoinError> {
    match (&net.network, &ticket.network) {
        (ours, theirs) if ours == theirs => Ok(()),
        (None, Some(_)) => Err(JoinError::Network(
            "the ticket is of a private network: start this node with its key, by --private KEYFILE",
        )),
        (Some(_), None) => Err(JoinError::Network(
            "the ticket is of a network without a key, and this node was started with --private",
        )),
        _ => Err(JoinError::Network(
            "the ticket is of another private network: start this node with that one's key",
        )),
    }
}

pub(super) async fn ask<W: DeserializeOwned>(
    bridge: &Bridge,
    peer: PeerId,
    question: &Question,
    stream: &str,
) -> io::Result<Answer<W>> {
    let mut stream = bridge.open(peer, stream).await.map_err(io::Error::other)?;
    write_text(&mut stream, question).await?;
    read_text(&mut stream).await
}

/// Connects with a ticket's member, wherever it may be.
async fn reach(bridge: &Bridge, peer: PeerId, ticket: &Ticket) -> Result<(), String> {
    if bridge.free(peer, synod_bridge::Lane::Urgent).is_some() {
        return Ok(());
    }
    let mut failures = Vec::new();
    for text in &ticket.addresses {
        let with_peer =
            if text.contains("/p2p/") { text.clone() } else { format!("{text}/p2p/{peer}") };
        let Ok(address) = address(&with_peer) else { continue };
        match bridge.connect(address.clone()).await {
            Ok(_) => {
                // So that it is found again when this node starts again.
                drop(bridge.add(address).await);
                return Ok(());
            }
            Err(e) => failures.push(e.to_string()),
        }
    }
    // mDNS may be about to find it, or it may dial this node.
    if !failures.is_empty() && timeout(FOUND_PATIENCE, bridge.met(peer)).await.is_ok() {
        return Ok(());
    }
    if failures.is_empty() {
        failures.push(format!("{peer} has no address in the ticket"));
    }
    Err(failures.join("; "))
}

/// Answers whoever wants to join.
pub(super) async fn serve(net: &Net, peer: PeerId, mut stream: Stream) -> io::Result<()> {
    let question: Question = read_text(&mut stream).await?;
    let answer = match admit(net, peer, &question).await {
        Ok(welcome) => Answer::Welcome(welcome),
        Err(why) => Answer::No { why },
    };
    if let Answer::No { why } = &answer {
        tracing::warn!("{peer} ({}) was not admitted: {why}", question.node);
    }
    write_text(&mut stream, &answer).await
}

/// Answers whoever wants to follow.
pub(super) async fn serve_observer(net: &Net, peer: PeerId, mut stream: Stream) -> io::Result<()> {
    let question: Question = read_text(&mut stream).await?;
    let answer = match let_in(net, &question).await {
        Ok(welcome) => Answer::Welcome(welcome),
        Err(why) => Answer::No { why },
    };
    match &answer {
        Answer::No { why } => {
            tracing::warn!("{peer} ({}) was not let in to observe: {why}", question.node);
        }
        Answer::Welcome(_) => tracing::info!("{peer} ({}) observes a space", question.node),
    }
    write_text(&mut stream, &answer).await
}

async fn let_in(net: &Net, question: &Question) -> Result<WelcomeObserver, String> {
    let garbled = || "the question cannot be read".to_owned();
    let id: [u8; 32] = fixed(&question.space).ok_or_else(garbled)?;
    let secret: [u8; 16] = fixed(&question.secret).ok_or_else(garbled)?;
    let ticket = *blake3::hash(&secret).as_bytes();
    let Some((space, key)) = net.routes.find(&id) else { return Err(NO_TICKET.to_owned()) };
    // What was revoked or spent elsewhere counts.
    if space.read_index().await.is_none() {
        return Err("no quorum of the space can be reached from here: try again".to_owned());
    }
    let there = space.place_and_members().await;
    let (place, membership) = there.ok_or("the space is being closed here: try again")?;
    let open = membership.tickets().get(&ticket);
    if open.is_none_or(|open| open.until < super::gossip::micros()) {
        return Err(NO_TICKET.to_owned());
    }
    let voters = membership.members().values().filter(|member| member.part == Part::Voter);
    Ok(WelcomeObserver {
        generation: membership.generation(),
        key: hex(&observers_key(&key)),
        at: PlaceText::of(&place),
        voters: voters.map(|member| hex(&member.peer)).collect(),
    })
}

/// A stranger is not told which spaces there are.
const NO_TICKET: &str =
    "its ticket is not, or no longer, good: ask for another (synod space ticket)";

async fn admit(net: &Net, peer: PeerId, question: &Question) -> Result<Welcome, String> {
    let garbled = || "the question cannot be read".to_owned();
    let id: [u8; 32] = fixed(&question.space).ok_or_else(garbled)?;
    let nonce: [u8; 16] = fixed(&question.nonce).ok_or_else(garbled)?;
    if question.node.is_empty() || question.node.len() > MAX_NAME_BYTES {
        return Err(format!("a node's name has 1 to {MAX_NAME_BYTES} bytes"));
    }
    if let Some(again) = &question.again {
        let token = shown(again).ok_or_else(garbled)?;
        return admit_again(net, peer, (id, token), (&question.node, nonce)).await;
    }
    let secret: [u8; 16] = fixed(&question.secret).ok_or_else(garbled)?;
    let Some((space, key)) = net.routes.find(&id) else { return Err(NO_TICKET.to_owned()) };
    let ticket = *blake3::hash(&secret).as_bytes();
    let (peer, membership) = (Bytes::from(peer.to_bytes()), space.membership());
    if membership.joined(&peer, &nonce).is_some() {
        // It asks again, for the answer was lost: the ticket may have been good for this joining alone.
        return welcome(&space, key, &peer, &nonce);
    }
    if !membership.tickets().contains_key(&ticket) {
        return Err(NO_TICKET.to_owned());
    }
    let (node, after) = (question.node.clone(), space.feed().applied());
    let admit = Admit { peer: peer.clone(), node, nonce, ticket: Some(ticket), after };
    say(&space, admit).await?;
    welcome(&space, key, &peer, &nonce)
}

/// Admits a member under another id: what it had before, it has lost.
async fn admit_again(
    net: &Net,
    peer: PeerId,
    (id, token): ([u8; 32], [u8; 16]),
    (node, nonce): (&str, [u8; 16]),
) -> Result<Welcome, String> {
    let no_member =
        "it is no member of the space: by a new ticket it can join (synod space ticket)";
    let shown = net.routes.shown(peer, &token).filter(|space| space.id() == id);
    let space = shown.ok_or(no_member)?;
    let (_, key) = net.routes.find(&id).ok_or(no_member)?;
    let (peer, membership) = (Bytes::from(peer.to_bytes()), space.membership());
    if membership.joined(&peer, &nonce).is_none() {
        membership.of_peer(&peer).filter(|(_, m)| m.node == node).ok_or(no_member)?;
        let (node, after) = (node.to_owned(), space.feed().applied());
        let admit = Admit { peer: peer.clone(), node, nonce, ticket: None, after };
        say(&space, admit).await?;
    }
    welcome(&space, key, &peer, &nonce)
}

/// Has the space's log say it.
async fn say(space: &Space, admit: Admit) -> Result<(), String> {
    match space.commit(&Command::Admit(admit)).await {
        Some(Ended::Applied(Outcome::Committed(_))) => Ok(()),
        Some(Ended::Applied(Outcome::Refused(_, why))) => Err(why.to_string()),
        Some(Ended::NotProposed(why)) => Err(why.to_string()),
        None => Err("the space has not answered in time: try again".to_owned()),
    }
}

fn welcome(space: &Space, key: [u8; 32], peer: &[u8], nonce: &[u8; 16]) -> Result<Welcome, String> {
    let membership = space.membership();
    let joined = membership.joined(peer, nonce);
    let (member, _) = joined.ok_or("it was removed again at once: ask for another ticket")?;
    let members = membership.members().iter().map(|(&id, m)| (id, hex(&m.peer))).collect();
    Ok(Welcome { member, generation: membership.generation(), key: hex(&key), members })
}
