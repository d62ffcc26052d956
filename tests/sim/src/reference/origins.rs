//! Who may do what: sessions and agents, by their rules. All that a session or an epoch was ever
//! told is kept; the rules say which of it may be asked for again.

use super::space::{Verdict, Why};
use std::collections::BTreeMap;
use synod_core::apply::MAX_IN_FLIGHT;
use synod_core::command::{Claim, Letter};
use synod_core::kb::Position;

/// What an origin says to a transaction before anything is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is new.
    New,
    /// It came before, and this was its end.
    Again(Verdict),
    /// It cannot be.
    Refused(Why),
}

/// A client's session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number.
    pub id: u64,
    label: String,
    nonce: [u8; 16],
    acked: u64,
    told: BTreeMap<u64, Verdict>,
}

impl Session {
    pub(super) fn new(id: u64, label: String, nonce: [u8; 16]) -> Self {
        Self { id, label, nonce, acked: 0, told: BTreeMap::new() }
    }

    pub(super) fn is_of(&self, label: &str, nonce: &[u8; 16]) -> bool {
        self.label == label && self.nonce == *nonce
    }

    pub(super) fn admit(&mut self, seq: u64, acked: u64) -> Admission {
        if acked < seq {
            self.acked = self.acked.max(acked);
        }
        match self.told.get(&seq) {
            Some(verdict) if seq > self.acked => Admission::Again(*verdict),
            _ if seq <= self.acked || seq <= acked => Admission::Refused(Why::OutOfWindow),
            _ if seq - acked > MAX_IN_FLIGHT as u64 => Admission::Refused(Why::OutOfWindow),
            _ => Admission::New,
        }
    }

    /// Conflicts are not kept: a rerun may use the number.
    pub(super) fn tell(&mut self, seq: u64, verdict: Verdict) {
        if !matches!(verdict, Verdict::Refused(_, Why::Conflict | Why::TooOld)) {
            self.told.insert(seq, verdict);
        }
    }

    /// The number after the highest that was used.
    pub fn next(&self) -> u64 {
        self.told.last_key_value().map_or(0, |(&last, _)| last).max(self.acked) + 1
    }
}

/// An agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The claim that its epoch comes from.
    pub claim: Claim,
    /// The index of that claim.
    pub epoch: u64,
    /// Whether the epoch goes on.
    pub is_held: bool,
    /// The first position that it has not handled.
    pub cursor: Position,
    /// What could not be handled.
    pub letters: BTreeMap<Position, Letter>,
    told: BTreeMap<u64, Verdict>,
}

/// The part of an agent's command that the agent's rules are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) from: Position,
    pub(super) to: Position,
}

impl Agent {
    pub(super) fn new(claim: Claim, epoch: u64) -> Self {
        let cursor = Position { index: epoch, n: 0 };
        let (letters, told) = (BTreeMap::new(), BTreeMap::new());
        Self { claim, epoch, is_held: true, cursor, letters, told }
    }

    /// Begins another epoch, if the claim names this one.
    pub(super) fn claim(&mut self, claim: Claim, index: u64) -> Verdict {
        if self.is_held && self.claim == claim {
            return Verdict::Committed(self.epoch);
        }
        if claim.after != self.epoch {
            return Verdict::Refused(index, Why::StaleEpoch);
        }
        let (cursor, letters) = (self.cursor, std::mem::take(&mut self.letters));
        *self = Self { cursor, letters, ..Self::new(claim, index) };
        Verdict::Committed(index)
    }

    pub(super) fn admit(&mut self, turn: Turn, index: u64) -> Admission {
        if !self.is_held || turn.epoch != self.epoch {
            return Admission::Refused(Why::StaleEpoch);
        }
        let last = self.told.last_key_value();
        match last.map(|(&last, verdict)| (turn.seq.cmp(&last), *verdict)) {
            Some((std::cmp::Ordering::Equal, verdict)) => return Admission::Again(verdict),
            Some((std::cmp::Ordering::Less, _)) => return Admission::Refused(Why::OutOfWindow),
            Some((std::cmp::Ordering::Greater, _)) | None => {}
        }
        if turn.from != self.cursor || turn.to < turn.from || turn.to.index > index {
            self.tell(turn, Verdict::Refused(index, Why::StaleCursor));
            return Admission::Refused(Why::StaleCursor);
        }
        Admission::New
    }

    pub(super) fn tell(&mut self, turn: Turn, verdict: Verdict) {
        self.told.insert(turn.seq, verdict);
        if let Verdict::Committed(_) = verdict {
            self.cursor = turn.to;
        }
    }

    /// The number after the last.
    pub fn next(&self) -> u64 {
        self.told.last_key_value().map_or(0, |(&last, _)| last) + 1
    }
}
