//! A goal that runs as a transaction, as seen from inside: a replica of the knowledge base that
//! stands still, and the goal's own writes on top of it.
//!
//! The goal runs once, in its caller's engine. What it read and wrote becomes a [`Draft`], is
//! proposed as one command, and is validated by every replica alike (optimistic concurrency
//! control, Kung and Robinson, TODS 6(2), 1981; by stamps of keys, as in FoundationDB). Nothing of
//! the goal is ever run again to apply it.
//!
//! **Logical update view** (ISO/IEC 13211-1, 7.5.4): a call sees the facts that were there when it
//! was made, whatever is written while it backtracks. The view has a clock that ticks with each
//! write; a retracted fact has a death on that clock, and a [`Cursor`] keeps the time at which its
//! call was made. A fact that was made later lies outside of the ends that the predicate had then.
//!
//! Backtracking over a write keeps the write, as in ISO; only [`View::rollback`] takes writes back.
//! What was read stays noted even then, for it may be why the goal went another way.

mod cursor;
mod reads;
#[cfg(test)]
mod tests;
mod touched;

use crate::command::Op;
use crate::kb::{End, Indicator, Kb, Predicate, Reads};
use bytes::Bytes;
pub use cursor::{Chunk, Cursor, Found};
use reads::ReadSet;
pub use reads::{MAX_KEYS_READ, MAX_KEYS_READ_IN_ALL};
use std::collections::BTreeMap;
use touched::Touched;

/// What one transaction may write, in encoded bytes. A command must fit a log record and a peer
/// frame whole.
pub const MAX_TRANSACTION_BYTES: usize = 3 << 20;
/// What a write counts for towards [`MAX_TRANSACTION_BYTES`] beside its fact or event: more than it
/// takes in a command.
const OP_BYTES: usize = 8;
/// What a retraction counts for, with its clause order and its predicate's place in a table.
const RETRACTION_BYTES: usize = 16;
/// What a predicate counts for in that table, beside its name.
const PREDICATE_BYTES: usize = 16;

/// Why a write was not taken. The view is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The transaction would pass [`MAX_TRANSACTION_BYTES`].
    #[error("a transaction writes {MAX_TRANSACTION_BYTES} bytes at most; do it in several")]
    TooLarge,
    /// Neither an atom nor a compound.
    #[error("a fact is an atom or a compound")]
    NotCallable,
}

/// A running goal's view of the knowledge base.
#[derive(Clone, Debug)]
pub struct View {
    version: u64,
    /// Ticks with each write and is never turned back.
    clock: u64,
    touched: BTreeMap<Indicator, Touched>,
    /// What was done, in order: the writes to propose, and how to undo them.
    steps: Vec<Step>,
    reads: ReadSet,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Added(Indicator, End, i64),
    Removed(Indicator, i64),
    Emitted(Bytes),
}

/// A point to roll back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    steps: usize,
    bytes: usize,
}

/// What a transaction read and wrote, ready to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The index at which it read.
    pub version: u64,
    /// The keys that it read, ascending.
    pub reads: Vec<u64>,
    /// What it wrote and emitted, in order.
    pub ops: Vec<Op>,
}

impl View {
    /// Facts that a cursor looks at in one go, at most.
    const LOOKAHEAD: usize = 128;

    /// A view of a replica that stands at `version`. The replica must not change while the view is
    /// in use; all calls must be given the same one.
    pub fn new(version: u64) -> Self {
        Self {
            version,
            clock: 0,
            touched: BTreeMap::new(),
            steps: Vec::new(),
            reads: ReadSet::default(),
            bytes: 0,
        }
    }

    /// The index that the view reads at.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Calls `goal`, an encoded atom or compound, as a fact is called: notes what that reads, and
    /// gives a cursor over the facts that it could match, for [`View::next`].
    pub fn open(&mut self, kb: &mut Kb, goal: &[u8]) -> Result<Cursor, WriteError> {
        let indicator = Indicator::of(goal).ok_or(WriteError::NotCallable)?;
        let plan = kb.plan(&indicator, goal);
        if plan.is_scan() {
            kb.note_scan(&indicator, goal);
        }
        let goal = Bytes::copy_from_slice(goal);
        self.reads.note(&indicator, plan.reads, &goal);
        let predicate = kb.predicate(&indicator);
        let (mut ends, mut passed) = (predicate.map_or(Predicate::ENDS, Predicate::ends), None);
        if let Some(touched) = self.touched.get_mut(&indicator) {
            ends = touched.ends;
            touched.prepare(&indicator, &plan);
            let predicate = predicate.filter(|_| !touched.has_removed_none());
            passed = predicate.and_then(|predicate| touched.pass(predicate, &plan));
        }
        Ok(Cursor::new(indicator, goal, plan, self.clock, ends, passed))
    }

    /// Notes what a call of `goal` reads, for a caller that has the facts from elsewhere.
    pub fn note(&mut self, kb: &Kb, goal: &[u8]) {
        if let Some(indicator) = Indicator::of(goal) {
            let reads = kb.plan(&indicator, goal).reads;
            self.reads.note(&indicator, reads, &Bytes::copy_from_slice(goal));
        }
    }

    /// Notes that `goal` was called, which reads `reads`.
    pub fn note_reads(&mut self, indicator: &Indicator, reads: Reads, goal: &Bytes) {
        self.reads.note(indicator, reads, goal);
    }

    /// Whether a predicate was written to, be it that the writes were taken back.
    pub fn has_written(&self, indicator: &Indicator) -> bool {
        self.touched.contains_key(indicator)
    }

    /// The next facts of a call, `max_facts` at most and, but for the first one, `max_bytes` at most.
    pub fn next(&self, kb: &Kb, cursor: &mut Cursor, max_facts: usize, max_bytes: usize) -> Chunk {
        cursor.next(kb, self, max_facts, max_bytes)
    }

    /// Adds a fact at one end of its predicate.
    pub fn assert(&mut self, kb: &Kb, end: End, fact: &[u8]) -> Result<(), WriteError> {
        let indicator = Indicator::of(fact).ok_or(WriteError::NotCallable)?;
        self.charge(OP_BYTES + fact.len())?;
        let touched = touched(&mut self.touched, kb, &indicator);
        let (below, above) = &mut touched.ends;
        let order = match end {
            End::First => {
                *below -= 1;
                *below + 1
            }
            End::Last => {
                *above += 1;
                *above - 1
            }
        };
        touched.add(order, Bytes::copy_from_slice(fact));
        self.clock += 1;
        self.steps.push(Step::Added(indicator, end, order));
        Ok(())
    }

    /// Takes away a fact that a cursor found. False if it is gone already, as in ISO 8.9.3 a clause
    /// that another retraction took first.
    pub fn retract(
        &mut self,
        kb: &Kb,
        indicator: &Indicator,
        order: i64,
    ) -> Result<bool, WriteError> {
        let died = self.clock + 1;
        let known = self.touched.get(indicator);
        if known.is_none_or(|touched| touched.own(order).is_none()) {
            let is_there = kb.predicate(indicator).is_some_and(|p| p.fact(order).is_some());
            if !is_there || known.is_some_and(|touched| touched.is_removed(order)) {
                return Ok(false);
            }
            let is_first = known.is_none_or(Touched::has_removed_none);
            let table = if is_first { PREDICATE_BYTES + indicator.name.len() } else { 0 };
            self.charge(RETRACTION_BYTES + table)?;
        }
        let touched = touched(&mut self.touched, kb, indicator);
        if !touched.kill(order, died) {
            touched.remove(order, died);
        }
        self.clock = died;
        self.steps.push(Step::Removed(indicator.clone(), order));
        Ok(true)
    }

    /// Emits an event into the log, if the transaction commits.
    pub fn emit(&mut self, event: &[u8]) -> Result<(), WriteError> {
        self.charge(OP_BYTES + event.len())?;
        self.steps.push(Step::Emitted(Bytes::copy_from_slice(event)));
        Ok(())
    }

    /// A point to which the writes can be taken back.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { steps: self.steps.len(), bytes: self.bytes }
    }

    /// Takes back all writes since `to`, clause order included.
    pub fn rollback(&mut self, to: Savepoint) {
        while self.steps.len() > to.steps {
            match self.steps.pop() {
                Some(Step::Added(indicator, end, order)) => {
                    let Some(touched) = self.touched.get_mut(&indicator) else { continue };
                    touched.forget(order);
                    match end {
                        End::First => touched.ends.0 = order,
                        End::Last => touched.ends.1 = order,
                    }
                }
                Some(Step::Removed(indicator, order)) => {
                    let Some(touched) = self.touched.get_mut(&indicator) else { continue };
                    touched.revive(order);
                }
                Some(Step::Emitted(_)) | None => {}
            }
        }
        self.bytes = to.bytes;
    }

    /// Whether anything was written or emitted, and not taken back.
    pub fn is_read_only(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the transaction read and wrote. A fact that it made and took away again is neither.
    pub fn finish(&self) -> Draft {
        let ops = self.steps.iter().filter_map(|step| self.op(step)).collect();
        Draft { version: self.version, reads: self.reads.keys(), ops }
    }

    /// For each of these keys that the transaction read, one of the calls that read it, encoded.
    pub fn calls_behind(&self, keys: &[u64]) -> Vec<Bytes> {
        self.reads.calls_behind(keys)
    }

    fn op(&self, step: &Step) -> Option<Op> {
        match step {
            Step::Added(indicator, end, order) => {
                let fact = self.touched.get(indicator)?.own(*order)?.clone();
                Some(Op::Assert { end: *end, fact })
            }
            Step::Removed(indicator, order) => {
                let is_own = !self.touched.get(indicator)?.is_removed(*order);
                (!is_own).then(|| Op::Retract { predicate: indicator.clone(), order: *order })
            }
            Step::Emitted(event) => Some(Op::Emit { event: event.clone() }),
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), WriteError> {
        if self.bytes + bytes > MAX_TRANSACTION_BYTES {
            return Err(WriteError::TooLarge);
        }
        self.bytes += bytes;
        Ok(())
    }
}

fn touched<'a>(
    all: &'a mut BTreeMap<Indicator, Touched>,
    kb: &Kb,
    indicator: &Indicator,
) -> &'a mut Touched {
    all.entry(indicator.clone()).or_insert_with(|| {
        Touched::new(kb.predicate(indicator).map_or(Predicate::ENDS, Predicate::ends))
    })
}
