//! Whom to believe before the log itself says it.
//!
//! An observer begins with nothing, and knows the place of the space at which it was let in. What leads there is
//! believed of those voters only that have shown to have come by that place: one whose data folder is an old copy
//! may have gone another way since, and signs it all the same. What is written goes by that place, too.

use super::types::Anchor;
use super::wire::{Piece, Request};
use super::{Place, follow};
use crate::log::Position;
use crate::time::Time;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long no voter is found that has come by the place before that is said.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Vouching {
    anchor: Anchor,
    /// Voters that have come by the place.
    vouched: BTreeSet<Bytes>,
    /// Since when voters say that they have not, or cannot tell.
    denied: Option<Time>,
}

impl Vouching {
    pub(super) fn new(anchor: Anchor) -> Self {
        Self { anchor, vouched: BTreeSet::new(), denied: None }
    }

    pub(super) fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// Whether a log that leads here has still to come by the place.
    pub(super) fn is_before(&self, place: &Place) -> bool {
        place.at.index < self.anchor.place.at.index
    }

    /// Whether a voter's word counts for a log that leads here.
    pub(super) fn believes(&self, place: &Place, voter: &Bytes) -> bool {
        !self.is_before(place) || self.vouched.contains(voter)
    }

    /// Whether anybody's does.
    pub(super) fn believes_any(&self, place: &Place) -> bool {
        !self.is_before(place) || !self.vouched.is_empty()
    }

    /// What a voter is asked, to see whether it has come by the place.
    pub(super) fn question(&self) -> Request {
        let Place { at, chain } = self.anchor.place;
        Request::Behind { before: at.index, chain: chain.hash }
    }

    /// Whether a log that has come to a place has come another way.
    pub(super) fn is_astray(&self, place: &Place) -> bool {
        place.at.index == self.anchor.place.at.index && *place != self.anchor.place
    }

    /// A voter has given this piece, signed by itself, for an answer: whether it shows that the voter has come by
    /// the place.
    pub(super) fn shown(&mut self, piece: &Piece) -> bool {
        let mut place = self.anchor.place;
        if piece.before != place.at.index {
            return false;
        }
        for entry in &piece.entries {
            follow(&mut place.chain, entry);
            place.at = Position { term: entry.term, index: entry.index };
        }
        if place == piece.head.place {
            self.vouched.insert(piece.head.voter.clone());
            self.denied = None;
        }
        place == piece.head.place
    }

    /// A voter says that it has not come by the place, or cannot tell.
    pub(super) fn denied(&mut self, now: Time) {
        self.denied.get_or_insert(now);
    }

    /// Whether none has come by it that can be asked, for long.
    pub(super) fn is_hopeless(&self, now: Time) -> bool {
        let is_long = self.denied.is_some_and(|since| now.since(since) >= PATIENCE);
        self.vouched.is_empty() && is_long
    }
}
