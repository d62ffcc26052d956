//! The node's own session in a space: for clients that bring no number of their own.

use super::{Ended, Space};
use crate::api::Once;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use synod_core::apply::{MAX_IN_FLIGHT, Outcome};
use synod_core::command::Command;

/// Numbers that are kept out because nobody knows yet what became of them, at most.
const MAX_UNKNOWN: usize = 256;
/// How far numbers go beyond one that is kept out, at most: a session has a window.
const UNKNOWN_WINDOW: u64 = MAX_IN_FLIGHT as u64 / 2;
/// Outcomes that became known later and are kept for whoever asks, at most.
const MAX_LATE: usize = 4096;

/// Hands out numbers of a session that is opened when the first one is wanted.
#[derive(Debug)]
pub(crate) struct NodeSession {
    label: String,
    nonce: [u8; 16],
    opening: tokio::sync::Mutex<Option<u64>>,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    out: BTreeSet<u64>,
    /// Those of them whose clients were told that it is unknown what became of them.
    unknown: BTreeSet<u64>,
    /// By session and number: what became of such ones.
    late: BTreeMap<(u64, u64), Outcome>,
}

/// A number, until it is dropped: outcomes below the lowest one that is out are no longer kept.
pub(crate) struct Own<'a> {
    session: &'a NodeSession,
    /// The number.
    pub(crate) once: Once,
}

impl NodeSession {
    /// Of a node of this name; `nonce` differs from start to start.
    pub(super) fn new(label: String, nonce: [u8; 16]) -> Self {
        Self { label, nonce, opening: Default::default(), numbers: Mutex::default() }
    }

    /// The next number. The error is how its session's opening ended; none if the node goes down.
    pub(crate) async fn next(&self, space: &Space) -> Result<Own<'_>, Option<Ended>> {
        let session = self.open(space).await?;
        self.learn(space, session).await;
        let mut numbers = self.numbers();
        numbers.last += 1;
        let seq = numbers.last;
        let acked = numbers.out.first().map_or(seq, |&first| first) - 1;
        numbers.out.insert(seq);
        Ok(Own { session: self, once: Once { session, seq, acked } })
    }

    async fn open(&self, space: &Space) -> Result<u64, Option<Ended>> {
        let mut opening = self.opening.lock().await;
        if let Some(session) = *opening {
            let is_open = space.look(move |state| state.session(session).is_some()).await;
            if is_open.unwrap_or(false) {
                return Ok(session);
            }
            let late = std::mem::take(&mut self.numbers().late);
            *self.numbers() = Numbers { late, ..Numbers::default() };
        }
        let (label, nonce) = (self.label.clone(), self.nonce);
        match space.commit(&Command::OpenSession { label, nonce }).await {
            Some(Ended::Applied(Outcome::Committed(session))) => {
                *opening = Some(session);
                Ok(session)
            }
            ended => Err(ended),
        }
    }

    /// What became of a number whose client was told that it is unknown.
    pub(crate) fn late(&self, session: u64, seq: u64) -> Option<Outcome> {
        self.numbers().late.get(&(session, seq)).cloned()
    }

    /// Looks what became of the unknown ones, before a new number lets the state forget it.
    async fn learn(&self, space: &Space, session: u64) {
        let unknown = self.numbers().unknown.clone();
        if unknown.is_empty() {
            return;
        }
        let look = move |state: &synod_core::apply::State| {
            let outcome = |seq| Some((seq, state.outcome(session, seq)?.clone()));
            unknown.into_iter().filter_map(outcome).collect::<Vec<_>>()
        };
        let known = space.look(look).await.unwrap_or_default();
        let mut numbers = self.numbers();
        for (seq, outcome) in known {
            numbers.late.insert((session, seq), outcome);
            numbers.release(seq);
        }
        while numbers.late.len() > MAX_LATE {
            numbers.late.pop_first();
        }
        // One that is passed can be applied no more.
        while let Some(&first) = numbers.unknown.first()
            && (numbers.unknown.len() > MAX_UNKNOWN || numbers.last - first > UNKNOWN_WINDOW)
        {
            numbers.release(first);
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    fn release(&mut self, seq: u64) {
        self.unknown.remove(&seq);
        self.out.remove(&seq);
    }
}

impl Own<'_> {
    /// Nobody knows what became of it: it is kept out until somebody does.
    pub(crate) fn keep(&self) {
        self.session.numbers().unknown.insert(self.once.seq);
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let mut numbers = self.session.numbers();
        if !numbers.unknown.contains(&self.once.seq) {
            numbers.out.remove(&self.once.seq);
        }
    }
}
