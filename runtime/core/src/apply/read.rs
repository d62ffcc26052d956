//! Facts that match one goal, read from a state as it stands: by whoever needs no program and so no
//! engine.

use super::State;
use crate::kb::{Indicator, Pattern};
use crate::term::{Term, TermError};
use bytes::Bytes;

/// Facts that one reading looks at, at most: what it does not want is looked at, too, where no index
/// tells it apart.
pub const MAX_SCANNED: usize = 16_384;
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
    /// Whether the predicate ever had a fact, or was declared.
    pub is_known: bool,
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
    /// It is a goal of another kind.
    #[error(
        "{0} is no predicate that has facts: what is more than a call of one is asked by a query, in an \
         agent's program"
    )]
    Control(Indicator),
    /// It would take too long.
    #[error(
        "more than {MAX_SCANNED} facts of {0} had to be looked at: give the first argument, or one more, \
         or ask by a query"
    )]
    Scan(Indicator),
}

/// Those that ISO Prolog and its module systems keep for themselves.
const CONTROL: [(&str, u32); 10] = [
    (",", 2),
    (";", 2),
    ("->", 2),
    ("*->", 2),
    ("\\+", 1),
    (":", 2),
    (":-", 1),
    (":-", 2),
    ("!", 0),
    ("=", 2),
];

impl Goal {
    /// Of a term.
    ///
    /// # Errors
    /// Where it is no call.
    pub fn new(term: Term) -> Result<Self, ReadError> {
        let encoded = Bytes::from(term.encode()?);
        let indicator = Indicator::of(&encoded).ok_or(ReadError::NotCallable)?;
        if CONTROL.contains(&(&*indicator.name, indicator.arity)) {
            return Err(ReadError::Control(indicator));
        }
        Ok(Self { indicator, encoded, pattern: Pattern::exact(term) })
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
        let mut plan = self.kb.plan(&goal.indicator, &goal.encoded);
        if plan.is_scan() {
            // Asked for again and again, it has an index at last.
            self.kb.note_scan(&goal.indicator, &goal.encoded);
            plan = self.kb.plan(&goal.indicator, &goal.encoded);
        }
        let mut found = Facts { index: self.index, ..Facts::default() };
        let Some(predicate) = self.kb.predicate(&goal.indicator) else { return Ok(found) };
        found.is_known = true;
        let (mut after, mut looked_at, mut bytes) = (None, 0, 0);
        loop {
            let some = predicate.find(&plan, after, CHUNK);
            for &(order, fact) in &some {
                after = Some(order);
                if !goal.pattern.matches(fact) {
                    continue;
                }
                bytes += fact.len();
                let is_over = bytes > max_bytes && !found.facts.is_empty();
                if is_over || found.facts.len() >= max_facts {
                    found.more = true;
                    return Ok(found);
                }
                found.facts.push(fact.clone());
            }
            if some.len() < CHUNK {
                return Ok(found);
            }
            looked_at += some.len();
            if looked_at >= MAX_SCANNED {
                return Err(ReadError::Scan(goal.indicator.clone()));
            }
        }
    }
}
