//! Agents as the space knows them: who holds each, and how far it has handled the log.

use super::Outcome;
use crate::command::{Claim, Declaration, Mode};
use crate::kb::Position;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Agents of one space, at most.
pub const MAX_AGENTS: usize = 4096;
/// Letters kept for one agent, at most; the oldest makes room. (The log keeps the event itself.)
pub const MAX_LETTERS: usize = 1024;

/// Bytes of the events of those letters, at most, but for the newest.
pub const MAX_LETTER_BYTES: usize = 4 << 20;

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The node that runs it, if any does.
    pub holder: Option<String>,
    /// The index of the claim that made it the holder. Commands of an older epoch are refused.
    pub epoch: u64,
    /// The epoch before, which the claim named.
    pub(super) claimed_after: u64,
    /// How many nodes run it.
    pub mode: Mode,
    /// BLAKE3 of its program's text.
    pub program: [u8; 32],
    /// The predicates that it declares.
    pub declared: Vec<Declaration>,
    /// The first position of the log that it has not handled.
    pub cursor: Position,
    /// The number of its last command in this epoch, and what came of it.
    pub(super) last: Option<(u64, Outcome)>,
    /// The events that it could not handle, by position.
    pub letters: BTreeMap<Position, DeadLetter>,
}

impl Agent {
    /// Whether some node holds it, in this epoch.
    pub(super) fn is_held_in(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.holder.is_some()
    }

    /// Whether this very claim, sent before, made the present epoch.
    pub(super) fn is_claimed_by(&self, claim: &Claim) -> bool {
        self.epoch > claim.after
            && self.claimed_after == claim.after
            && self.holder.as_deref() == Some(&claim.node)
            && self.program == claim.program
            && self.mode == claim.mode
            && self.declared == claim.declared
    }

    /// Keeps a letter; the oldest make room.
    pub(super) fn keep_letter(&mut self, position: Position, letter: DeadLetter) {
        self.letters.insert(position, letter);
        let mut bytes: usize = self.letters.values().map(|letter| letter.event.len()).sum();
        while self.letters.len() > 1
            && (self.letters.len() > MAX_LETTERS || bytes > MAX_LETTER_BYTES)
        {
            bytes -= self.letters.pop_first().map_or(0, |(_, letter)| letter.event.len());
        }
    }
}

/// An event that an agent could not handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What could not be handled: the argument of `on/1`, encoded.
    pub event: Bytes,
    /// Why.
    pub reason: String,
    /// When that was decided: the index of the command.
    pub index: u64,
}
