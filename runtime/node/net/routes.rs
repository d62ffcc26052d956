//! Which space a frame belongs to.

use crate::space::Space;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use synod_bridge::PeerId;
use synod_core::group::{self, Frame};

/// How often a peer is told.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// The spaces that frames may be for, each with the key that its members know.
pub(super) struct Routes {
    me: PeerId,
    spaces: RwLock<Vec<(Space, [u8; 32])>>,
    /// The tokens of frames from each peer, made when the first one comes.
    tokens: RwLock<HashMap<PeerId, Arc<Tokens>>>,
    /// Frames and streams that were for no space.
    refused: AtomicU64,
}

struct Tokens {
    of: Vec<([u8; 16], Space)>,
    /// When it was last told that a space has gone on without it.
    told: Mutex<Option<Instant>>,
}

impl Routes {
    pub(super) fn new(me: PeerId) -> Self {
        Self {
            me,
            spaces: RwLock::default(),
            tokens: RwLock::default(),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, space: Space, key: [u8; 32]) {
        self.spaces.write().unwrap_or_else(PoisonError::into_inner).push((space, key));
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn remove(&self, id: [u8; 32]) {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.retain(|(space, _)| space.id() != id);
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The space whose key a peer shows that it knows, by this token. Whoever is its member knows it;
    /// this node may have to learn that it is, from the very frames that it shows it for.
    pub(super) fn shown(&self, peer: PeerId, token: &[u8; 16]) -> Option<Space> {
        let tokens = self.tokens_of(peer);
        tokens.of.iter().find(|(known, _)| known == token).map(|(_, space)| space.clone())
    }

    /// A space has come to another generation: its tokens are others.
    pub(super) fn renew(&self) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The space of this id, and its key.
    pub(super) fn find(&self, id: &[u8; 32]) -> Option<(Space, [u8; 32])> {
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        spaces.iter().find(|(space, _)| space.id() == *id).cloned()
    }

    /// All of them, each with its key.
    pub(super) fn all(&self) -> Vec<(Space, [u8; 32])> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tokens that this node makes for a peer.
    pub(super) fn tokens_for(&self, peer: PeerId) -> Vec<[u8; 16]> {
        let (from, to) = (self.me.to_bytes(), peer.to_bytes());
        let token = |(space, key): &(Space, _)| group::token(key, space.generation(), &from, &to);
        self.all().iter().map(token).collect()
    }

    /// Whether one of these tokens of a peer is that of a space that it is a member of: no longer is
    /// not enough, though it knows the key.
    pub(super) fn admits(&self, peer: PeerId, tokens: &[[u8; 16]]) -> bool {
        let id = peer.to_bytes();
        let mut spaces = tokens.iter().filter_map(|token| self.shown(peer, token));
        spaces.any(|space| space.membership().of_peer(&id).is_some())
    }

    /// Hands a frame to its space. One of no space here is somebody's who is no member; one of an older
    /// generation is a member's that has not heard: the frame that tells it is returned. One of a newer
    /// generation tells this node.
    pub(super) fn deliver(&self, peer: PeerId, frame: Bytes) -> Option<Bytes> {
        let Ok(token) = Frame::token(&frame) else {
            self.refuse();
            tracing::debug!("{peer} sent what is no frame between members");
            return None;
        };
        match self.shown(peer, &token) {
            Some(space) => {
                space.receive(peer.to_bytes().into(), frame);
                None
            }
            None => {
                self.refuse();
                tracing::debug!("{peer} sent a frame of a space that it shares with nobody here");
                self.of_other_generation(peer, token)
            }
        }
    }

    /// What is said, now and then, to who sends frames of an older generation. Who sends one of a newer
    /// generation says so to the space here.
    fn of_other_generation(&self, peer: PeerId, token: [u8; 16]) -> Option<Bytes> {
        let (me, id, tokens) = (self.me.to_bytes(), peer.to_bytes(), self.tokens_of(peer));
        let mut spaces = self.all().into_iter();
        let (space, key, its) = spaces.find_map(|(space, key)| {
            let its = group::generation_of(&key, space.generation(), (&id, &me), &token)?;
            Some((space, key, its))
        })?;
        let now = space.generation();
        if its > now {
            let told = Frame::Recovered { generation: its };
            space.receive(id.clone().into(), told.encode(&group::token(&key, now, &id, &me)));
        }
        let mut told = tokens.told.lock().unwrap_or_else(PoisonError::into_inner);
        if its >= now || told.is_some_and(|at| at.elapsed() < TELL_AGAIN) {
            return None;
        }
        *told = Some(Instant::now());
        Some(Frame::Recovered { generation: now }.encode(&group::token(&key, its, &me, &id)))
    }

    /// Counts a frame or a stream that was not listened to.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Tells all spaces whether there is a connection to a peer.
    pub(super) fn connected(&self, peer: PeerId, is_connected: bool) {
        if !is_connected {
            self.tokens.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
        }
        let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        for (space, _) in spaces.iter() {
            space.connected(peer.to_bytes().into(), is_connected);
        }
    }

    fn tokens_of(&self, peer: PeerId) -> Arc<Tokens> {
        let known = self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        known.unwrap_or_else(|| {
            let (from, to) = (peer.to_bytes(), self.me.to_bytes());
            let spaces = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
            let token = |(space, key): &(Space, _)| {
                (group::token(key, space.generation(), &from, &to), space.clone())
            };
            let of = spaces.iter().map(token).collect();
            let tokens = Arc::new(Tokens { of, told: Mutex::default() });
            // Under the lock of the spaces: none is added meanwhile.
            let mut all = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
            all.insert(peer, Arc::clone(&tokens));
            tokens
        })
    }
}
