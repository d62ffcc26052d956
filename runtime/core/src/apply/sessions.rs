//! Client sessions: what makes a client's transaction happen once, however often it is sent.

use super::Outcome;
use std::collections::BTreeMap;

/// Sessions open at once, at most; the one that was used longest ago makes room.
pub const MAX_SESSIONS: usize = 4096;
/// Outcomes kept for one session, at most: how many transactions a client may have in flight.
pub const MAX_IN_FLIGHT: usize = 4096;
/// A session that no command of the last so many has used is over.
pub const SESSION_COMMANDS: u64 = 1_000_000;

/// One client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who opened it, for people and for `From` in events.
    pub label: String,
    /// Told two openings apart.
    pub(super) nonce: [u8; 16],
    /// The index of the last command that used it.
    pub(super) used: u64,
    /// Outcomes up to this number have been dropped.
    pub(super) acked: u64,
    pub(super) outcomes: BTreeMap<u64, Outcome>,
}

/// What a session says of a transaction that is about to be applied.
pub(super) enum Admission {
    /// It is new.
    New,
    /// It was applied before, with this outcome.
    Again(Outcome),
    /// It cannot be told whether it was: the client has acknowledged it, or has more in flight than
    /// it may.
    OutOfWindow,
}

/// All sessions of a space.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<u64, Session>,
}

impl Sessions {
    /// Opens a session with the command at `index`, or finds the one that the same opening made.
    pub(super) fn open(&mut self, index: u64, label: String, nonce: [u8; 16]) -> u64 {
        let is_over = |session: &Session| index.saturating_sub(session.used) > SESSION_COMMANDS;
        self.by_id.retain(|_, session| !is_over(session));
        let known = self.by_id.iter().find(|(_, s)| s.nonce == nonce && s.label == label);
        if let Some((&id, _)) = known {
            return id;
        }
        if self.by_id.len() >= MAX_SESSIONS {
            let oldest = self.by_id.iter().min_by_key(|(_, session)| session.used);
            if let Some(id) = oldest.map(|(&id, _)| id) {
                self.by_id.remove(&id);
            }
        }
        let outcomes = BTreeMap::new();
        self.by_id.insert(index, Session { label, nonce, used: index, acked: 0, outcomes });
        index
    }

    /// The session of this number, unless it is over.
    pub(super) fn get(&self, id: u64, index: u64) -> Option<&Session> {
        self.by_id.get(&id).filter(|session| index.saturating_sub(session.used) <= SESSION_COMMANDS)
    }

    /// Notes a use by the command at `index`, and what the client no longer asks for.
    pub(super) fn admit(&mut self, id: u64, index: u64, seq: u64, acked: u64) -> Option<Admission> {
        self.get(id, index)?;
        let session = self.by_id.get_mut(&id)?;
        session.used = index;
        if acked > session.acked && acked < seq {
            session.acked = acked;
            // Nearly always it is one: splitting the map would make another.
            while session.outcomes.first_key_value().is_some_and(|(&seq, _)| seq <= acked) {
                session.outcomes.pop_first();
            }
        }
        if let Some(outcome) = session.outcomes.get(&seq) {
            return Some(Admission::Again(outcome.clone()));
        }
        // Both refuse for ever: what the session has been told only grows, and how far the command
        // is from what its client had been told is part of the command. So no copy of it that comes
        // later commits, and no more outcomes are kept than that.
        let ahead = seq.saturating_sub(acked);
        let is_in_window = seq > session.acked && (1..=MAX_IN_FLIGHT as u64).contains(&ahead);
        Some(if is_in_window { Admission::New } else { Admission::OutOfWindow })
    }

    /// Keeps a transaction's outcome.
    pub(super) fn record(&mut self, id: u64, seq: u64, outcome: &Outcome) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.outcomes.insert(seq, outcome.clone());
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&u64, &Session)> {
        self.by_id.iter()
    }

    /// As a snapshot says; false if the session is there already.
    pub(super) fn restore(&mut self, id: u64, session: Session) -> bool {
        self.by_id.insert(id, session).is_none()
    }
}
