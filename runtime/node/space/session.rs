//! The node's own session in a space: for clients that bring no number of their own.

use super::{Ended, Space};
use crate::api::Once;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use synod_core::apply::Outcome;
use synod_core::command::Command;

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
            *self.numbers() = Numbers::default();
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

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.session.numbers().out.remove(&self.once.seq);
    }
}
