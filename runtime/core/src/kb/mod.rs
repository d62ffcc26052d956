//! The knowledge base: the facts of a space, as canonical bytes.
//!
//! A **predicate** is known by name and arity, without module. Its facts stand in clause order,
//! which is a number: two counters a predicate give `asserta/1` the next below and `assertz/1` the
//! next above, and a number is never used again, so it names the fact for ever. A fact's **id** is
//! the position (index, n) of the write that made it.
//!
//! Every change costs the same however many came before it: facts are ordered maps, a retracted
//! fact is gone at once, and older versions are not kept here (a replica changes only between
//! goals; see [`crate::transaction`] for what a running goal sees).

mod digest;
pub(crate) mod index;
pub mod key;
mod matching;
mod predicate;

use crate::term::shape;
use bytes::Bytes;
pub use digest::SetDigest;
use key::Key;
pub use matching::Pattern;
pub use predicate::{Plan, Predicate, Reads};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Predicates of one knowledge base, at most: each costs memory on every replica.
pub const MAX_PREDICATES: usize = 65_536;
/// Further key arguments that one predicate may declare, at most.
pub const MAX_KEYS: usize = 8;
/// Clause orders stay within this on both sides of zero: more writes than there will be, with room
/// to count on.
pub const MAX_ORDER: i64 = 1 << 62;

/// A predicate's name and arity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Indicator {
    /// The name.
    pub name: Arc<str>,
    /// How many arguments it has.
    pub arity: u32,
}

impl Indicator {
    /// `name/arity`.
    pub fn new(name: &str, arity: u32) -> Self {
        Self { name: name.into(), arity }
    }

    /// Of the encoded term `fact`, if that is an atom or a compound.
    pub fn of(fact: &[u8]) -> Option<Self> {
        let (name, arity) = shape::predicate(fact)?;
        Some(Self { name: name.into(), arity: u32::try_from(arity).ok()? })
    }
}

impl fmt::Display for Indicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.arity)
    }
}

/// Where a write or an event stands in a space: the command's index, and its place in the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Index of the command, counted from 1.
    pub index: u64,
    /// Place among the operations of the command, counted from 0.
    pub n: u32,
}

impl std::str::FromStr for Position {
    type Err = NoPosition;

    /// `INDEX.N`, as a position is shown.
    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then_some(());
        let parsed = text.split_once('.').and_then(|(index, n)| {
            number(index).and(number(n))?;
            Some(Self { index: index.parse().ok()?, n: n.parse().ok()? })
        });
        parsed.ok_or(NoPosition)
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is INDEX.N, as in 12.0")]
pub struct NoPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.n)
    }
}

/// An argument of an encoded term, counted from 1.
pub(crate) fn argument_of(term: &[u8], argument: u32) -> Option<&[u8]> {
    shape::argument(term, usize::try_from(argument).ok()?)
}

/// The end of a predicate's clauses at which a fact is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before all others: `asserta/1`.
    First,
    /// After all others: `assertz/1`.
    Last,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The write that made it.
    pub id: Position,
    /// The whole term, encoded.
    pub bytes: Bytes,
}

/// All facts of a space.
#[derive(Clone, Debug, Default)]
pub struct Kb {
    predicates: BTreeMap<Indicator, Predicate>,
    digest: SetDigest,
    /// Whether facts are found by scans alone: nobody looks for any.
    is_unindexed: bool,
    /// Whether the digest is computed when it is asked for.
    is_undigested: bool,
}

impl Kb {
    /// Without any fact.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without any fact, and without indexes: of a state that is applied to and not read from. What
    /// calls would read is told as ever, and facts are found by scans.
    pub(crate) fn unindexed() -> Self {
        Self { is_unindexed: true, ..Self::default() }
    }

    /// Leaves the digest until it is asked for, and then computes it from all facts; or keeps it up to date.
    pub(crate) fn leave_digest(&mut self, leaves: bool) {
        self.digest = self.digest();
        self.is_undigested = leaves;
    }

    /// A predicate, if anything was ever written to it or declared of it.
    pub fn predicate(&self, indicator: &Indicator) -> Option<&Predicate> {
        self.predicates.get(indicator)
    }

    /// All predicates, by name and arity.
    pub fn predicates(&self) -> impl ExactSizeIterator<Item = (&Indicator, &Predicate)> {
        self.predicates.iter()
    }

    /// How to find the facts that `goal`, a call of `indicator`, could match.
    pub fn plan(&self, indicator: &Indicator, goal: &[u8]) -> Plan {
        match self.predicates.get(indicator) {
            Some(predicate) => predicate.plan(goal),
            None => Predicate::new(indicator).plan(goal),
        }
    }

    /// How many facts there are in all.
    pub fn len(&self) -> usize {
        self.predicates.values().map(Predicate::len).sum()
    }

    /// Whether there is no fact at all.
    pub fn is_empty(&self) -> bool {
        self.predicates.values().all(Predicate::is_empty)
    }

    /// Whether one more predicate would pass [`MAX_PREDICATES`].
    pub fn is_full_for(&self, indicator: &Indicator) -> bool {
        self.predicates.len() >= MAX_PREDICATES && !self.predicates.contains_key(indicator)
    }

    /// The predicate, made if it is new.
    pub fn define(&mut self, indicator: &Indicator) -> &mut Predicate {
        let is_unindexed = self.is_unindexed;
        let new = || Predicate::of_kb(indicator, is_unindexed);
        self.predicates.entry(indicator.clone()).or_insert_with(new)
    }

    /// Declares that reads of a predicate are told apart by this argument too. Says whether that is
    /// new; beyond [`MAX_KEYS`], or out of the arity, it is not taken.
    pub fn declare_key(&mut self, indicator: &Indicator, argument: u32) -> bool {
        let predicate = self.define(indicator);
        let fits = (2..=indicator.arity).contains(&argument);
        fits && predicate.declared().len() < MAX_KEYS && predicate.declare(indicator, argument)
    }

    /// Adds a fact at an end of its predicate and returns its clause order.
    pub fn assert(&mut self, indicator: &Indicator, end: End, fact: Fact) -> i64 {
        self.assert_raising(indicator, end, fact, |_| {})
    }

    /// As [`Kb::assert`], and tells the keys that this writes.
    pub(crate) fn assert_raising(
        &mut self,
        indicator: &Indicator,
        end: End,
        fact: Fact,
        raise: impl FnMut(Key),
    ) -> i64 {
        let is_digested = !self.is_undigested;
        let predicate = self.define(indicator);
        let order = match end {
            End::First => {
                predicate.below -= 1;
                predicate.below + 1
            }
            End::Last => {
                predicate.above += 1;
                predicate.above - 1
            }
        };
        let hash = is_digested.then(|| fact_hash(predicate.whole, order, &fact));
        predicate.insert(order, fact, raise);
        hash.into_iter().for_each(|hash| self.digest.add(hash));
        order
    }

    /// Adds a fact whose clause order is known: what a snapshot or another replica says.
    pub fn place(&mut self, indicator: &Indicator, order: i64, fact: Fact) {
        let is_digested = !self.is_undigested;
        let predicate = self.define(indicator);
        predicate.reach(order, order);
        let hash = is_digested.then(|| fact_hash(predicate.whole, order, &fact));
        predicate.insert(order, fact, |_| {});
        hash.into_iter().for_each(|hash| self.digest.add(hash));
    }

    /// Adds many facts of one predicate, in any order: faster than one by one where it has none.
    pub fn place_all(&mut self, indicator: &Indicator, mut facts: Vec<(i64, Fact)>) {
        facts.sort_unstable_by_key(|&(order, _)| order);
        if !self.define(indicator).is_empty() {
            facts.into_iter().for_each(|(order, fact)| self.place(indicator, order, fact));
            return;
        }
        if !self.is_undigested {
            let whole = key::whole(indicator);
            for (order, fact) in &facts {
                self.digest.add(fact_hash(whole, *order, fact));
            }
        }
        self.define(indicator).fill(facts);
    }

    /// Sets a predicate's order counters, which may stand further out than its facts.
    pub fn set_ends(&mut self, indicator: &Indicator, (below, above): (i64, i64)) {
        let predicate = self.define(indicator);
        predicate.below = predicate.below.min(below);
        predicate.above = predicate.above.max(above);
    }

    /// Takes a fact away by its clause order.
    pub fn retract(&mut self, indicator: &Indicator, order: i64) -> Option<Fact> {
        self.retract_raising(indicator, order, |_| {})
    }

    /// As [`Kb::retract`], and tells the keys that this writes.
    pub(crate) fn retract_raising(
        &mut self,
        indicator: &Indicator,
        order: i64,
        raise: impl FnMut(Key),
    ) -> Option<Fact> {
        let predicate = self.predicates.get_mut(indicator)?;
        let fact = predicate.remove(order, raise)?;
        if !self.is_undigested {
            self.digest.remove(fact_hash(predicate.whole, order, &fact));
        }
        Some(fact)
    }

    /// Notes that a call of `goal` had to scan; indexes an argument that calls keep asking for.
    pub fn note_scan(&mut self, indicator: &Indicator, goal: &[u8]) {
        if let Some(predicate) = self.predicates.get_mut(indicator) {
            predicate.note_scan(indicator, goal);
        }
    }

    /// From here on finds a predicate's facts by indexes, in a knowledge base that has none.
    pub(crate) fn index(&mut self, indicator: &Indicator) {
        if let Some(predicate) = self.predicates.get_mut(indicator) {
            predicate.be_indexed();
        }
    }

    /// The digest of all facts, each with its predicate, clause order and id.
    pub fn digest(&self) -> SetDigest {
        if !self.is_undigested {
            return self.digest;
        }
        let mut digest = SetDigest::default();
        for predicate in self.predicates.values() {
            for (order, fact) in predicate.facts_after(None) {
                digest.add(fact_hash(predicate.whole, order, fact));
            }
        }
        digest
    }
}

/// Hash of one fact in the digest. The predicate's key stands for its name and arity, which the
/// fact's bytes also hold.
fn fact_hash(whole: Key, order: i64, fact: &Fact) -> blake3::Hash {
    const FIXED: usize = 8 + 8 + 8 + 4;
    let mut fixed = [0u8; FIXED];
    fixed[..8].copy_from_slice(&whole.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&order.to_le_bytes());
    fixed[16..24].copy_from_slice(&fact.id.index.to_le_bytes());
    fixed[24..].copy_from_slice(&fact.id.n.to_le_bytes());
    let mut block = [0u8; 128];
    let len = FIXED + fact.bytes.len();
    if len <= block.len() {
        block[..FIXED].copy_from_slice(&fixed);
        block[FIXED..len].copy_from_slice(&fact.bytes);
        return blake3::hash(&block[..len]);
    }
    blake3::Hasher::new().update(&fixed).update(&fact.bytes).finalize()
}

#[cfg(test)]
mod tests;
