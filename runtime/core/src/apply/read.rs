//! Facts that match one goal, read from a state as it stands: by whoever needs no program and so no
//! engine.

use super::State;
use crate::kb::{Indicator, Pattern};
use crate::term::{Term, TermError};
use crate::transaction::View;
use bytes::Bytes;

/// Facts that one reading goes through, at most, where no index leads to those that it wants.
pub const MAX_SCANNED: usize = 100_000;
/// Facts that are looked at between two looks at the bounds.
const CHUNK: usize = 256;

/// What is read for: a call of one predicate.
#[derive(Clone, Debug)]
pub struct Goal {
    indicator: Indicator,
    encoded: Bytes,
    pattern: Pattern,
}

/// Facts, in clause order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Each encoded.
    pub facts: Vec<Bytes>,
    /// Whether there are more than were wanted.
    pub more: bool,
    /// The index that they are of.
    pub index: u64,
}

/// Why facts were not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is no atom or compound.
    #[error("a number, a variable or a list is no call of a predicate")]
    NotCallable,
    /// It cannot be encoded.
    #[error(transparent)]
    Term(#[from] TermError),
    /// It would take too long.
    #[error(
        "{predicate} has {facts} facts, and without a first argument more than {MAX_SCANNED} are not \
         gone through: give it, or ask by a query"
    )]
    Scan {
        /// Whose facts.
        predicate: Indicator,
        /// How many there are.
        facts: usize,
    },
}

impl Goal {
    /// Of a term.
    ///
    /// # Errors
    /// Where it is no call.
    pub fn new(term: Term) -> Result<Self, ReadError> {
        let encoded = Bytes::from(term.encode()?);
        let indicator = Indicator::of(&encoded).ok_or(ReadError::NotCallable)?;
        Ok(Self { indicator, encoded, pattern: Pattern::new(term) })
    }
}

impl State {
    /// The facts that match a goal: `max_facts` at most and, but for the first, `max_bytes` at most. The
    /// first reading of a predicate makes its indexes, which stay. Of facts whose lists have no end there may
    /// be some that do not match.
    ///
    /// # Errors
    /// Where too many would have to be gone through.
    pub fn read(
        &mut self,
        goal: &Goal,
        max_facts: usize,
        max_bytes: usize,
    ) -> Result<Facts, ReadError> {
        self.kb.index(&goal.indicator);
        let len = self.kb.predicate(&goal.indicator).map_or(0, |predicate| predicate.len());
        let mut view = View::new(self.index);
        let not_callable = |_| ReadError::NotCallable;
        let mut cursor = view.open(&mut self.kb, &goal.encoded).map_err(not_callable)?;
        // Asked for again and again, it has an index by now.
        if len > MAX_SCANNED && self.kb.plan(&goal.indicator, &goal.encoded).is_scan() {
            return Err(ReadError::Scan { predicate: goal.indicator.clone(), facts: len });
        }
        let (mut found, mut bytes) = (Facts { index: self.index, ..Facts::default() }, 0);
        loop {
            let chunk = view.next(&self.kb, &mut cursor, CHUNK, usize::MAX);
            for fact in chunk.facts.into_iter().filter(|fact| goal.pattern.matches(&fact.fact)) {
                bytes += fact.fact.len();
                let is_over = bytes > max_bytes && !found.facts.is_empty();
                if is_over || found.facts.len() >= max_facts {
                    found.more = true;
                    return Ok(found);
                }
                found.facts.push(fact.fact);
            }
            if chunk.is_last {
                return Ok(found);
            }
        }
    }
}
