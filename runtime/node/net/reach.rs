//! Agents on other nodes: where they are, who may ask them, and how messages get there.
//!
//! Messages go over one stream to each peer, in order, at most once:
//!
//! ```text
//! hello   = [1, [* token: bstr .size 16]]               shows which spaces the sender shares
//! message = [1, to: tstr, from: tstr, term: bstr]
//! ```
//!
//! each behind its length, four bytes, big-endian.

use super::Net;
use super::messages::who;
use crate::agents::MAX_TOKENS;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use synod_bridge::{PeerId, Stream};
use synod_core::cbor::{Error, Reader, What, Writer};
use synod_core::term::Term;
use synod_prolog::frame::MAX_SENT_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// What the stream of messages is called.
pub(super) const SEND: &str = "synod/agent/1";
/// Bytes of messages that may wait for one peer.
const QUEUE_BYTES: u32 = 8 << 20;
/// Messages that may wait for one peer.
const QUEUE: usize = 4096;
/// What a message costs beside its term.
const OVERHEAD: usize = 1024;
/// A stream over which nothing goes for so long is ended.
const IDLE: Duration = Duration::from_secs(60);
/// How long a peer may take to let a stream be opened, or to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
const VERSION: u64 = 1;

/// A node that an agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) peer: PeerId,
    /// The node's name.
    pub(crate) node: String,
}

/// Messages that wait to be sent to a peer.
pub(super) struct Post {
    queue: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Net {
    /// The nodes that an agent runs on, the likeliest first: who holds it by the log of a space, then whom
    /// the directory names. Only those that this node shares a space with would answer.
    pub(crate) async fn find(&self, agent: &str, space: Option<&str>) -> Vec<Place> {
        let mut places = Vec::new();
        let mut add = |peer: PeerId, node: String| {
            if peer != self.me && !places.iter().any(|place: &Place| place.peer == peer) {
                places.push(Place { peer, node });
            }
        };
        let spaces = self.routes.all();
        let wanted = || spaces.iter().filter(|(s, _)| space.is_none_or(|name| s.name() == name));
        for (space, _) in wanted() {
            let name = agent.to_owned();
            // An agent of each node is there as NAME@NODE.
            let holder = space.look(move |state| state.agents().get(&name)?.holder.clone());
            let Some(Some(holder)) = holder.await else { continue };
            let membership = space.membership();
            let member = membership.members().values().rev().find(|member| member.node == holder);
            if let Some(peer) = member.and_then(|member| PeerId::from_bytes(&member.peer).ok()) {
                add(peer, holder);
            }
        }
        let id = space
            .and_then(|name| spaces.iter().find(|(s, _)| s.name() == name))
            .map(|(s, _)| s.id());
        if space.is_some() && id.is_none() {
            return places;
        }
        let named = self.directory().runs(agent, id.as_ref(), self.started.elapsed());
        for peer in named.iter().filter(|peer| self.is_member(peer)) {
            if let Ok(peer) = PeerId::from_bytes(peer) {
                add(peer, self.node_of(peer).unwrap_or_else(|| peer.to_string()));
            }
        }
        places
    }

    /// Whether a peer is a member of a space of this node.
    fn is_member(&self, peer: &[u8]) -> bool {
        self.routes.all().iter().any(|(space, _)| space.membership().of_peer(peer).is_some())
    }

    /// What shows a peer which spaces this node shares with it.
    pub(crate) fn tokens_for(&self, peer: PeerId) -> Vec<[u8; 16]> {
        let mut tokens = self.routes.tokens_for(peer);
        tokens.truncate(MAX_TOKENS);
        tokens
    }

    /// Whether a peer has shown that it shares a space with this node, and is a member still. Who has not
    /// is counted.
    pub(crate) fn admits(&self, peer: PeerId, tokens: &[[u8; 16]]) -> bool {
        let is_admitted = self.routes.admits(peer, tokens);
        if !is_admitted {
            self.refused_here("call");
            tracing::warn!(
                "{peer} wanted something of an agent, and shares no space with this node"
            );
        }
        is_admitted
    }

    /// Opens a stream to a place; connects first if need be.
    pub(crate) async fn open_to(&self, place: &Place, name: &str) -> Result<Stream, String> {
        let bridge = self.bridge().ok_or("the network is down")?;
        if bridge.free(place.peer, synod_bridge::Lane::Normal).is_none() {
            let mut why = "it is not connected, and nobody knows where it is".to_owned();
            for address in self.addresses_of(place.peer) {
                match bridge.connect(address).await {
                    Ok(_) => break,
                    Err(e) => why = e.to_string(),
                }
            }
            if bridge.free(place.peer, synod_bridge::Lane::Normal).is_none() {
                return Err(why);
            }
        }
        bridge.open(place.peer, name).await.map_err(|e| e.to_string())
    }

    /// Sends a term to an agent at a place. It may be lost on its way.
    pub(crate) fn post(
        self: &Arc<Self>,
        place: &Place,
        to: &str,
        from: &str,
        term: &[u8],
    ) -> Result<(), String> {
        if term.len() > MAX_SENT_BYTES {
            let len = term.len();
            return Err(format!(
                "the term has {len} bytes, and a message {MAX_SENT_BYTES} at most"
            ));
        }
        let full = || format!("too much waits to be sent to node {}", place.node);
        let mut w = Writer::new();
        w.array(4).uint(VERSION).text(to).text(from).bytes(term);
        let bytes = w.into_vec();
        let cost = u32::try_from(bytes.len() + OVERHEAD).unwrap_or(u32::MAX);
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.retain(|_, post| !post.queue.is_closed());
        let post = posts.entry(place.peer).or_insert_with(|| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            self.runtime.spawn(deliver(Arc::downgrade(self), place.clone(), waiting));
            Post { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)) }
        });
        let permit = Arc::clone(&post.room).try_acquire_many_owned(cost).map_err(|_| full())?;
        post.queue.try_send((bytes, permit)).map_err(|_| full())
    }

    /// Takes the messages of a peer.
    pub(super) async fn receive_messages(
        &self,
        peer: PeerId,
        mut stream: Stream,
    ) -> io::Result<()> {
        let hello = timeout(PATIENCE, read(&mut stream)).await;
        let hello = hello.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let tokens = read_hello(&hello).map_err(io::Error::other)?;
        if !self.admits(peer, &tokens) {
            return Err(io::Error::other("it shares no space with this node"));
        }
        loop {
            let bytes = read(&mut stream).await?;
            let (to, from, term) = read_message(&bytes).map_err(io::Error::other)?;
            if !self.agents.sent(&to, &from, term) {
                self.refused_here("message");
                tracing::debug!("{peer} sent something to {to}, which does not run here");
            }
        }
    }

    pub(super) fn refused_here(&self, what: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(what).or_default() += 1;
    }

    /// What of peers was refused here, by its kind.
    pub(super) fn refusals_here(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes messages to a peer, until none has come for a while. One that finds no way is lost.
async fn deliver(
    net: std::sync::Weak<Net>,
    place: Place,
    mut waiting: mpsc::Receiver<(Vec<u8>, OwnedSemaphorePermit)>,
) {
    let mut stream: Option<Stream> = None;
    loop {
        let next = match timeout(IDLE, waiting.recv()).await {
            Ok(next) => next,
            Err(_) => {
                // Whoever sends now finds the queue closed and makes another; what came in between is
                // sent first.
                waiting.close();
                waiting.recv().await
            }
        };
        let Some((bytes, _room)) = next else { return };
        let Some(net) = net.upgrade() else { return };
        // A stream that has broken shows it at the next write: that message goes over a new one.
        for _ in 0..2 {
            if stream.is_none() {
                stream = match timeout(PATIENCE, greet(&net, &place)).await {
                    Ok(Ok(stream)) => Some(stream),
                    Ok(Err(why)) => {
                        tracing::warn!("a message to node {} is lost: {why}", place.node);
                        break;
                    }
                    Err(_) => break,
                };
            }
            let Some(open) = &mut stream else { break };
            match write(open, &bytes).await {
                Ok(()) => break,
                Err(_) => stream = None,
            }
        }
    }
}

async fn greet(net: &Net, place: &Place) -> Result<Stream, String> {
    let mut stream = net.open_to(place, SEND).await?;
    let tokens = net.tokens_for(place.peer);
    let mut w = Writer::new();
    w.array(2).uint(VERSION).array(tokens.len());
    for token in &tokens {
        w.bytes(token);
    }
    write(&mut stream, w.as_slice()).await.map_err(|e| e.to_string())?;
    Ok(stream)
}

fn read_hello(bytes: &[u8]) -> Result<Vec<[u8; 16]>, Error> {
    let mut r = Reader::new(bytes);
    r.array_of(2)?;
    version(&mut r)?;
    let len = r.array()?;
    if len > MAX_TOKENS {
        return Err(r.error(What::TooMany { bound: MAX_TOKENS, of: "tokens" }));
    }
    let tokens = (0..len).map(|_| r.fixed()).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(tokens)
}

fn read_message(bytes: &[u8]) -> Result<(String, String, &[u8]), Error> {
    let mut r = Reader::new(bytes);
    r.array_of(4)?;
    version(&mut r)?;
    let (to, from, term) = (who(&mut r)?, who(&mut r)?, r.bytes()?);
    if term.len() > MAX_SENT_BYTES {
        return Err(r.error(What::TooMany { bound: MAX_SENT_BYTES, of: "bytes of a term" }));
    }
    if Term::decode(term).is_err() {
        return Err(r.invalid("a term that cannot be read"));
    }
    r.end()?;
    Ok((to, from, term))
}

fn version(r: &mut Reader<'_>) -> Result<(), Error> {
    if r.uint()? == VERSION { Ok(()) } else { Err(r.invalid("another version")) }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MAX_SENT_BYTES + OVERHEAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message over the bound"));
    }
    let mut bytes = Vec::new();
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}
