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
mod index;
pub mod key;

use crate::term::shape;
use bytes::Bytes;
pub use digest::SetDigest;
use index::ArgumentIndex;
use key::{Binding, Key, Keyer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Predicates of one knowledge base, at most: each costs memory on every replica.
pub const MAX_PREDICATES: usize = 65_536;
/// Further key arguments that one predicate may declare, at most.
pub const MAX_KEYS: usize = 8;
/// Scans that leave one bound argument unused, before a replica indexes that argument.
const SCANS_BEFORE_INDEX: u32 = 8;
/// Facts below which a scan is cheaper than an index.
const FACTS_BEFORE_INDEX: usize = 64;

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

/// The facts of one predicate.
#[derive(Clone, Debug)]
pub struct Predicate {
    whole: Key,
    /// The clause order that the next `asserta/1` gives.
    below: i64,
    /// The clause order that the next `assertz/1` gives.
    above: i64,
    facts: BTreeMap<i64, Fact>,
    /// The first argument's index, then those of declared keys, then those that calls asked for.
    indexes: Vec<ArgumentIndex>,
    declared: Vec<u32>,
    /// For each argument, how many scans had it bound and unindexed.
    scans: Vec<u32>,
}

impl Predicate {
    fn new(indicator: &Indicator) -> Self {
        let first = (indicator.arity > 0).then(|| ArgumentIndex::new(Keyer::new(indicator, 1), 1));
        Self {
            whole: key::whole(indicator),
            below: -1,
            above: 0,
            facts: BTreeMap::new(),
            indexes: first.into_iter().collect(),
            declared: Vec::new(),
            scans: Vec::new(),
        }
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is no fact.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The clause orders that the next `asserta/1` and the next `assertz/1` give.
    pub fn ends(&self) -> (i64, i64) {
        (self.below, self.above)
    }

    /// The arguments that were declared as further keys, in the order of declaration.
    pub fn declared(&self) -> &[u32] {
        &self.declared
    }

    /// The fact of this clause order.
    pub fn fact(&self, order: i64) -> Option<&Fact> {
        self.facts.get(&order)
    }

    /// The facts in clause order, from behind `after` on.
    pub fn facts_after(&self, after: Option<i64>) -> impl Iterator<Item = (i64, &Fact)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.facts.range((from, Bound::Unbounded)).map(|(&order, fact)| (order, fact))
    }

    /// The keys that a write of `fact` raises.
    pub fn written_keys(&self, fact: &[u8], mut raise: impl FnMut(Key)) {
        raise(self.whole);
        for index in &self.indexes {
            // Indexes that calls asked for are this replica's own business: no state knows of them.
            let is_state = index.argument == 1 || self.is_declared(index.argument);
            if let (true, Some(argument)) = (is_state, argument_of(fact, index.argument)) {
                index.keyer.written(argument).iter().for_each(&mut raise);
            }
        }
    }

    /// How to find the facts that `goal` could match, and what that reads.
    pub fn plan(&self, goal: &[u8]) -> Plan {
        let mut best: Option<(&ArgumentIndex, Binding, &[u8])> = None;
        for index in &self.indexes {
            let Some(argument) = argument_of(goal, index.argument) else { continue };
            let binding = Binding::of(argument);
            let is_better = match (binding, best) {
                (Binding::Unbound, _) => false,
                (_, None) => true,
                (Binding::Ground, Some((_, Binding::Partly, _))) => true,
                _ => false,
            };
            if is_better {
                best = Some((index, binding, argument));
            }
        }
        let Some((index, _, argument)) = best else {
            return Plan { lookup: None, reads: Reads::Whole(self.whole) };
        };
        let keys = index.keyer.read(argument);
        let reads = if index.argument == 1 || self.is_declared(index.argument) {
            Reads::Keys(self.whole, keys)
        } else {
            Reads::Whole(self.whole)
        };
        Plan { lookup: Some((index.argument, keys)), reads }
    }

    /// The clause orders behind `after` under a plan, at most `max`, in order.
    pub fn orders(&self, plan: &Plan, after: Option<i64>, max: usize) -> Vec<i64> {
        let index = plan.lookup.and_then(|(argument, keys)| {
            Some((self.indexes.iter().find(|index| index.argument == argument)?, keys))
        });
        match index {
            Some((index, keys)) => index.orders(keys, after, max),
            None => self.facts_after(after).take(max).map(|(order, _)| order).collect(),
        }
    }

    fn is_declared(&self, argument: u32) -> bool {
        self.declared.contains(&argument)
    }

    fn insert(&mut self, order: i64, fact: Fact) {
        for index in &mut self.indexes {
            index.insert(&fact.bytes, order);
        }
        self.facts.insert(order, fact);
    }

    fn remove(&mut self, order: i64) -> Option<Fact> {
        let fact = self.facts.remove(&order)?;
        for index in &mut self.indexes {
            index.remove(&fact.bytes, order);
        }
        Some(fact)
    }

    fn add_index(&mut self, indicator: &Indicator, argument: u32) {
        if self.indexes.iter().any(|index| index.argument == argument) {
            return;
        }
        let mut index = ArgumentIndex::new(Keyer::new(indicator, argument), argument);
        index.fill(self.facts.iter().map(|(&order, fact)| (order, &fact.bytes)));
        self.indexes.push(index);
    }
}

/// How the facts that a call could match are found.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The argument to look up by and the keys under which to look; all facts if there is none.
    lookup: Option<(u32, key::Keys)>,
    /// What the call is to be noted as having read.
    pub reads: Reads,
}

impl Plan {
    /// Whether all facts of the predicate are gone through.
    pub fn is_scan(&self) -> bool {
        self.lookup.is_none()
    }

    /// Whether facts are looked up by this argument.
    pub fn looks_up(&self, argument: u32) -> bool {
        self.lookup.is_some_and(|(by, _)| by == argument)
    }
}

/// What a call reads, as validation will check it.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// The whole predicate.
    Whole(Key),
    /// These keys; the predicate's own key comes first, for when there are too many.
    Keys(Key, key::Keys),
}

/// All facts of a space.
#[derive(Clone, Debug, Default)]
pub struct Kb {
    predicates: BTreeMap<Indicator, Predicate>,
    digest: SetDigest,
}

impl Kb {
    /// Without any fact.
    pub fn new() -> Self {
        Self::default()
    }

    /// A predicate, if anything was ever written to it or declared of it.
    pub fn predicate(&self, indicator: &Indicator) -> Option<&Predicate> {
        self.predicates.get(indicator)
    }

    /// All predicates, by name and arity.
    pub fn predicates(&self) -> impl Iterator<Item = (&Indicator, &Predicate)> {
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
        self.predicates.entry(indicator.clone()).or_insert_with(|| Predicate::new(indicator))
    }

    /// Declares that reads of a predicate are told apart by this argument too. Says whether that is
    /// new; beyond [`MAX_KEYS`], or out of the arity, it is not taken.
    pub fn declare_key(&mut self, indicator: &Indicator, argument: u32) -> bool {
        let predicate = self.define(indicator);
        let fits = (2..=indicator.arity).contains(&argument);
        if !fits || predicate.is_declared(argument) || predicate.declared.len() >= MAX_KEYS {
            return false;
        }
        predicate.declared.push(argument);
        predicate.add_index(indicator, argument);
        true
    }

    /// Adds a fact at an end of its predicate and returns its clause order.
    pub fn assert(&mut self, indicator: &Indicator, end: End, fact: Fact) -> i64 {
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
        let hash = fact_hash(predicate.whole, order, &fact);
        predicate.insert(order, fact);
        self.digest.add(hash);
        order
    }

    /// Adds a fact whose clause order is known: what a snapshot or another replica says.
    pub fn place(&mut self, indicator: &Indicator, order: i64, fact: Fact) {
        let predicate = self.define(indicator);
        predicate.below = predicate.below.min(order - 1);
        predicate.above = predicate.above.max(order + 1);
        let hash = fact_hash(predicate.whole, order, &fact);
        predicate.insert(order, fact);
        self.digest.add(hash);
    }

    /// Adds many facts of one predicate, in any order: faster than one by one where it has none.
    pub fn place_all(&mut self, indicator: &Indicator, mut facts: Vec<(i64, Fact)>) {
        facts.sort_unstable_by_key(|&(order, _)| order);
        let predicate =
            self.predicates.entry(indicator.clone()).or_insert_with(|| Predicate::new(indicator));
        if !predicate.is_empty() {
            facts.into_iter().for_each(|(order, fact)| self.place(indicator, order, fact));
            return;
        }
        for (order, fact) in &facts {
            self.digest.add(fact_hash(predicate.whole, *order, fact));
        }
        if let (Some((first, _)), Some((last, _))) = (facts.first(), facts.last()) {
            predicate.below = predicate.below.min(first - 1);
            predicate.above = predicate.above.max(last + 1);
        }
        for index in &mut predicate.indexes {
            index.fill(facts.iter().map(|(order, fact)| (*order, &fact.bytes)));
        }
        predicate.facts = facts.into_iter().collect();
    }

    /// Sets a predicate's order counters, which may stand further out than its facts.
    pub fn set_ends(&mut self, indicator: &Indicator, (below, above): (i64, i64)) {
        let predicate = self.define(indicator);
        predicate.below = predicate.below.min(below);
        predicate.above = predicate.above.max(above);
    }

    /// Takes a fact away by its clause order.
    pub fn retract(&mut self, indicator: &Indicator, order: i64) -> Option<Fact> {
        let predicate = self.predicates.get_mut(indicator)?;
        let fact = predicate.remove(order)?;
        self.digest.remove(fact_hash(predicate.whole, order, &fact));
        Some(fact)
    }

    /// Notes that a call of `goal` had to scan; indexes an argument that calls keep asking for.
    pub fn note_scan(&mut self, indicator: &Indicator, goal: &[u8]) {
        let Some(predicate) = self.predicates.get_mut(indicator) else { return };
        if predicate.len() < FACTS_BEFORE_INDEX {
            return;
        }
        predicate.scans.resize(indicator.arity as usize, 0);
        let mut wanted = None;
        for (argument, count) in (1u32..).zip(&mut predicate.scans) {
            let bound = argument_of(goal, argument).map(Binding::of);
            if bound == Some(Binding::Ground) {
                *count += 1;
                if *count >= SCANS_BEFORE_INDEX {
                    *count = 0;
                    wanted = Some(argument);
                    break;
                }
            }
        }
        if let Some(argument) = wanted {
            predicate.add_index(indicator, argument);
        }
    }

    /// The digest of all facts, each with its predicate, clause order and id.
    pub fn digest(&self) -> SetDigest {
        self.digest
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
