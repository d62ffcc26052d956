//! Spaces that nodes follow without being members: what such a node asks, and what it is answered.
//!
//! Each question goes over a stream of its own and is answered there. Who asks shows that it was let in; no more
//! than so many are served at once, and of one peer fewer: the others are told to ask somebody else.

use super::incoming::{PATIENCE, timed};
use super::{Net, gossip, snapshot};
use crate::hex::hex;
use crate::space::{Answered, Done, ReceivedSnapshot, Served, Space};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use synod_bridge::{Bridge, PeerId, Stream};
use synod_core::group::observer::{
    Answer, Fetched, Found, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Piece, Request, observers_key,
    proof,
};
use synod_core::group::{Head, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the stream is called.
pub(super) const STREAM: &str = "synod/observe/1";
/// Before the name of the topic of a space's heads.
const TOPIC: &str = "synod/heads/1/";
/// Questions that are answered at once, at most, and of one peer.
const MAX_SERVED: u32 = 32;
const MAX_SERVED_OF_ONE: u32 = 2;

/// The spaces that this node follows, and whom it serves.
#[derive(Default)]
pub(super) struct Observed {
    spaces: RwLock<Vec<(Space, [u8; 32], String)>>,
    serving: Mutex<BTreeMap<PeerId, u32>>,
    served: AtomicU64,
    busy: AtomicU64,
}

impl Observed {
    /// All of them, each with its observers' key.
    pub(super) fn all(&self) -> Vec<(Space, [u8; 32])> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.iter().map(|(space, key, _)| (space.clone(), *key)).collect()
    }

    fn find(&self, id: &[u8; 32]) -> Option<(Space, [u8; 32])> {
        self.all().into_iter().find(|(space, _)| space.id() == *id)
    }

    /// The space whose heads are gossiped under a topic.
    pub(super) fn of_topic(&self, topic: &str) -> Option<Space> {
        if !topic.starts_with(TOPIC) {
            return None;
        }
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.iter().find(|(_, _, known)| known == topic).map(|(space, ..)| space.clone())
    }

    /// Tells all of them whether there is a connection to a peer.
    pub(super) fn connected(&self, peer: PeerId, is_connected: bool) {
        for (space, _) in self.all() {
            space.connected(peer.to_bytes().into(), is_connected);
        }
    }

    /// A peer's turn; none if too many are served.
    fn turn(&self, peer: PeerId) -> Option<Turn<'_>> {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = serving.get(&peer).copied().unwrap_or(0);
        if serving.values().sum::<u32>() >= MAX_SERVED || of_one >= MAX_SERVED_OF_ONE {
            self.busy.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        serving.insert(peer, of_one + 1);
        Some(Turn { observed: self, peer })
    }

    /// Questions that were answered, and those that were told to go elsewhere.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.served.load(Ordering::Relaxed), self.busy.load(Ordering::Relaxed))
    }
}

struct Turn<'a> {
    observed: &'a Observed,
    peer: PeerId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut serving = self.observed.serving.lock().unwrap_or_else(PoisonError::into_inner);
        match serving.get_mut(&self.peer) {
            Some(of_one) if *of_one > 1 => *of_one -= 1,
            _ => drop(serving.remove(&self.peer)),
        }
    }
}

/// The network's name of the topic of a space's heads: only who was let in can make it.
pub(super) fn topic(key: &[u8; 32]) -> String {
    let hash = blake3::keyed_hash(key, TOPIC.as_bytes());
    format!("{TOPIC}{}", hex(&hash.as_bytes()[..16]))
}

impl Net {
    /// Follows a space from here on.
    pub(crate) async fn add_observed(&self, space: Space, key: [u8; 32]) {
        let topic = topic(&key);
        {
            let mut all = self.observed.spaces.write().unwrap_or_else(PoisonError::into_inner);
            all.push((space.clone(), key, topic.clone()));
        }
        if let Some(bridge) = self.bridge()
            && bridge.subscribe(&topic).await.is_err()
        {
            tracing::warn!("{} is followed by asking, not by gossip", space.name());
        }
    }

    /// Follows a space no longer.
    pub(crate) async fn remove_observed(&self, id: [u8; 32]) {
        let gone = {
            let mut all = self.observed.spaces.write().unwrap_or_else(PoisonError::into_inner);
            let place = all.iter().position(|(space, ..)| space.id() == id);
            place.map(|place| all.remove(place))
        };
        if let (Some((_, _, topic)), Some(bridge)) = (gone, self.bridge()) {
            bridge.unsubscribe(&topic).await;
        }
    }

    /// The nodes that follow a space: name, id in the network, and the index that each had come to.
    pub(crate) fn observers_of(&self, space: &[u8; 32]) -> Vec<(String, Vec<u8>, u64)> {
        let (at, directory) = (self.started.elapsed(), self.directory());
        let all = directory.observers(space, at);
        all.map(|(peer, heard, index)| (heard.record.node.clone(), peer.to_vec(), index)).collect()
    }

    /// Whether anybody follows a space.
    pub(super) fn is_observed(&self, space: &[u8; 32]) -> bool {
        let (at, directory) = (self.started.elapsed(), self.directory());
        directory.observers(space, at).next().is_some()
    }

    pub(super) fn connected_observers(&self, space: &[u8; 32]) -> Vec<Bytes> {
        let all = self.observers_of(space).into_iter().map(|(_, peer, _)| peer);
        all.filter(|peer| self.is_connected(peer)).map(Bytes::from).collect()
    }

    /// Questions of followers that were answered, and those that were told to go elsewhere.
    pub(crate) fn served(&self) -> (u64, u64) {
        self.observed.counts()
    }

    /// This node's word for where a space is.
    pub(super) fn head(&self, space: &Space, place: Place) -> Head {
        let now = gossip::micros();
        let later = |said: u64| Some(now.max(said.saturating_add(1)));
        let said = self.said.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        let said = now.max(said.unwrap_or(0).saturating_add(1));
        let voter = self.me.to_bytes().into();
        let mut head = Head::new(space.id(), space.generation(), place, said, voter);
        head.signature = self.identity.sign(&head.statement()).into();
        head
    }

    /// The space that a peer shows that it may follow.
    fn followed_by(&self, peer: PeerId, shown: &[u8; 16]) -> Option<Space> {
        let (from, to) = (peer.to_bytes(), self.me.to_bytes());
        let of_members = self.routes.all().into_iter();
        let of_members = of_members.map(|(space, key)| (space, observers_key(&key)));
        let mut all = of_members.chain(self.observed.all());
        all.find(|(_, key)| proof(key, &from, &to) == *shown).map(|(space, _)| space)
    }

    pub(super) fn ask_about(&self, peer: &[u8], space: [u8; 32], request: Request, done: Done) {
        let found = self.observed.find(&space);
        let (Ok(peer), Some(bridge), Some((space, key))) =
            (PeerId::from_bytes(peer), self.bridge(), found)
        else {
            return done(Fetched::Lost);
        };
        let (bridge, me) = (bridge.clone(), self.me);
        self.runtime.spawn(async move {
            let proof = proof(&key, &me.to_bytes(), &peer.to_bytes());
            let answered = ask(&bridge, peer, &space, request, &proof).await;
            done(answered.unwrap_or_else(|e| {
                tracing::debug!("{peer} has not answered about {}: {e}", space.name());
                Fetched::Lost
            }));
        });
    }
}

async fn ask(
    bridge: &Bridge,
    peer: PeerId,
    space: &Space,
    request: Request,
    proof: &[u8; 16],
) -> io::Result<Answered> {
    let mut stream = bridge.open(peer, STREAM).await.map_err(io::Error::other)?;
    write(&mut stream, &request.encode(proof)).await?;
    let bytes = tokio::time::timeout(PATIENCE, read(&mut stream, MAX_ANSWER_BYTES)).await;
    let bytes = match bytes {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
            return Ok(Fetched::Bad(format!("it answered with {e}")));
        }
        Ok(Err(e)) => return Err(e),
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is slow")),
    };
    let (head, bytes) = match Answer::decode(&bytes) {
        Ok(Answer::Snapshot { head, bytes }) if request == Request::Snapshot => (head, bytes),
        Ok(answer) => return Ok(Fetched::Answer(answer)),
        Err(e) => return Ok(Fetched::Bad(format!("it answered what cannot be read: {e}"))),
    };
    let mut received = ReceivedSnapshot::begin(space, bytes)?;
    snapshot::take(&mut stream, &mut received, bytes).await?;
    let space = space.clone();
    let checked = tokio::task::spawn_blocking(move || space.check_snapshot(received, head)).await;
    checked.map_err(io::Error::other)
}

/// Answers a node that follows a space, or wants to.
pub(super) async fn serve(net: &Net, peer: PeerId, mut stream: Stream) -> io::Result<()> {
    let bytes = timed(read(&mut stream, MAX_REQUEST_BYTES)).await?;
    let (shown, request) = Request::decode(&bytes).map_err(io::Error::other)?;
    let Some(space) = net.followed_by(peer, &shown) else {
        return Err(io::Error::other("it has not shown that it may follow a space here"));
    };
    let Some(_turn) = net.observed.turn(peer) else {
        return write(&mut stream, &Answer::Busy.encode()).await;
    };
    let answer = match request {
        Request::Behind { before, chain } => behind(net, &space, before, chain).await,
        Request::Index if space.may_sign() => {
            space.read_index().await.map_or(Answer::Gone, Answer::Index)
        }
        Request::Index => Answer::Busy,
        Request::Snapshot => return give_snapshot(net, &space, &mut stream).await,
    };
    write(&mut stream, &answer.encode()).await
}

async fn behind(net: &Net, space: &Space, before: u64, chain: [u8; 32]) -> Answer {
    match space.behind(before, chain).await {
        Some(Served::ToSign(Found::Entries(entries, place))) => {
            let before = place.at.index - entries.len() as u64;
            Answer::Piece(Piece { head: net.head(space, place), before, entries })
        }
        Some(Served::ToSign(Found::Gone)) => Answer::Gone,
        Some(Served::ToSign(Found::Apart)) => Answer::Apart,
        Some(Served::Signed(piece)) => Answer::Piece(piece),
        Some(Served::Nothing) | None => Answer::Busy,
    }
}

async fn give_snapshot(net: &Net, space: &Space, stream: &mut Stream) -> io::Result<()> {
    let found = if space.may_sign() { space.snapshot_to_give().await } else { None };
    let Some((place, path)) = found else {
        return write(stream, &Answer::Gone.encode()).await;
    };
    let mut file = tokio::fs::File::open(path).await?;
    let bytes = file.metadata().await?.len();
    let head = net.head(space, place);
    write(stream, &Answer::Snapshot { head, bytes }.encode()).await?;
    snapshot::put(stream, &mut file, bytes).await?;
    timed(stream.flush()).await
}

/// Writes bytes with their length before them as four bytes, big-endian.
async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let write = async {
        stream.write_all(&len.to_be_bytes()).await?;
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timed(write).await
}

/// Reads what [`write()`] wrote.
async fn read(stream: &mut Stream, most: usize) -> io::Result<Bytes> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > most {
        let why = format!("{len} bytes, of which there may be {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}
