//! Copies by key: of a predicate that cannot be copied whole, the facts of those first arguments
//! that are looked up far more often than they are written.

use super::clause::Kind;
use super::{Copies, FACTS_PER_LOOKUP, MAX_COPIED, MAX_DOUBLINGS, Todo, clause};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod_core::kb::{Indicator, Reads};
use synod_core::term::{Term, shape};

/// Keys whose look-ups are counted, at most. Beyond, all counts are halved, and who is left with
/// none is forgotten.
const MAX_COUNTED: usize = 8192;
/// Keys that are copied, at most: a run counts as having read each of them, key by key.
const MAX_KEYS: usize = 1000;
/// Facts of a key that is copied, at most: they are one clause.
pub(in crate::engine) const MAX_KEY_FACTS: usize = 64;
/// Their bytes, at most.
pub(in crate::engine) const MAX_KEY_BYTES: usize = 16 << 10;
/// A key is copied after so small a part of the look-ups that a predicate needs.
const SHARE: u64 = 8;
/// Writes that a key's copy follows before it must be earned again: how often it is read, nobody
/// knows, and each leaves a clause behind that the machine never gives back.
const MAX_WRITES: u32 = 16;

/// A predicate's first argument, encoded.
pub(in crate::engine) type First = Box<[u8]>;

/// What is known of the keys of all predicates.
#[derive(Debug, Default)]
pub(super) struct Keys {
    predicates: BTreeMap<Indicator, BTreeMap<First, Key>>,
    /// How many keys there are in all.
    counted: usize,
    /// Those that are copied, the longest first.
    copied: BTreeMap<u64, (Indicator, First)>,
    next_age: u64,
    /// Keys that are due, or whose copies may be other than what a goal is to see.
    stale: BTreeSet<(Indicator, First)>,
    /// Copied keys that the running goal has written to.
    dirty: BTreeSet<(Indicator, First)>,
    /// Copies that were dropped, and may have been read before.
    dropped: Vec<Read>,
}

#[derive(Debug, Default)]
struct Key {
    /// Look-ups since the last write.
    lookups: u64,
    doublings: u32,
    copy: Option<KeyCopy>,
}

#[derive(Debug)]
struct KeyCopy {
    age: u64,
    facts: Vec<Bytes>,
    writes: u32,
    read: Read,
}

/// What a call of a key reads.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Read {
    pub(in crate::engine) indicator: Indicator,
    pub(in crate::engine) goal: Bytes,
    pub(in crate::engine) reads: Reads,
}

impl Copies {
    /// A key of a predicate that has no copy was looked up.
    pub(super) fn looked_up_key(&mut self, indicator: &Indicator, first: &Term) {
        if !clause::is_key(indicator, first) {
            return;
        }
        let Ok(encoded) = first.encode() else { return };
        let encoded: First = encoded.into();
        if self.keys.key(indicator, &encoded).is_none() {
            self.keys.count(indicator, encoded.clone());
        }
        let wait_for = (self.wait_for / SHARE).max(1);
        let Some(key) = self.keys.key(indicator, &encoded) else { return };
        key.lookups += 1;
        if key.copy.is_none() && key.lookups >= wait_for << key.doublings {
            self.keys.stale.insert((indicator.clone(), encoded));
        }
    }

    /// A fact was added or taken away; of none that is known, any may have been. Only a goal's own
    /// write can be taken back.
    pub(super) fn wrote_key(&mut self, indicator: &Indicator, fact: Option<&[u8]>, is_own: bool) {
        let Some(keys) = self.keys.predicates.get_mut(indicator) else { return };
        let Some(fact) = fact else {
            for (first, key) in keys {
                if key.copy.is_some() {
                    self.keys.stale.insert((indicator.clone(), first.clone()));
                    if is_own {
                        self.keys.dirty.insert((indicator.clone(), first.clone()));
                    }
                }
            }
            return;
        };
        let Some(first) = shape::argument(fact, 1) else { return };
        if !shape::is_ground(first) {
            self.drop_keys(indicator);
            return;
        }
        let Some(key) = keys.get_mut(first) else { return };
        key.lookups = 0;
        if key.copy.is_some() {
            self.keys.stale.insert((indicator.clone(), first.into()));
            if is_own {
                self.keys.dirty.insert((indicator.clone(), first.into()));
            }
        }
    }

    /// The running goal's writes were taken back, or have become the replica's.
    pub(super) fn rewrote_keys(&mut self) {
        self.keys.stale.append(&mut self.keys.dirty);
    }

    /// Keys whose facts are to be told to [`Copies::key_is`].
    pub(in crate::engine) fn take_stale(&mut self) -> BTreeSet<(Indicator, First)> {
        std::mem::take(&mut self.keys.stale)
    }

    /// These are a key's facts, as the running goal is to see them; none, if they cannot be copied.
    pub(in crate::engine) fn key_is(
        &mut self,
        read: Read,
        first: First,
        facts: Option<Vec<Bytes>>,
    ) {
        let indicator = read.indicator.clone();
        let Some(key) = self.keys.key(&indicator, &first) else { return };
        let lookups = key.lookups;
        let Some(copy) = &mut key.copy else {
            let is_worth = |facts: &Vec<Bytes>| lookups >= (facts.len() / FACTS_PER_LOOKUP) as u64;
            match facts.filter(is_worth) {
                Some(facts) if self.make_room(facts.len().max(1)) => {
                    self.make_key(read, first, facts, 0);
                }
                _ => self.keys.wait_longer(&indicator, &first),
            }
            return;
        };
        if facts.as_ref() == Some(&copy.facts) {
            return;
        }
        let writes = copy.writes + 1;
        self.unmake_key(&indicator, &first);
        match facts {
            Some(facts) if writes <= MAX_WRITES && self.make_room(facts.len().max(1)) => {
                self.told.keys_followed += 1;
                self.make_key(read, first, facts, writes);
            }
            _ => self.keys.wait_longer(&indicator, &first),
        }
    }

    /// What all copies of keys read.
    pub(in crate::engine) fn keys_read(&self) -> impl Iterator<Item = &Read> {
        let key = |(indicator, first)| self.keys.predicates.get(indicator)?.get(first);
        let all = self.keys.copied.values().map(|(indicator, first)| (indicator, first));
        all.filter_map(key).filter_map(|key: &Key| Some(&key.copy.as_ref()?.read))
    }

    /// What copies read that are there no longer.
    pub(in crate::engine) fn take_dropped(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.keys.dropped)
    }

    /// Drops the copies of a predicate's keys.
    pub(super) fn drop_keys(&mut self, indicator: &Indicator) {
        let of = |(_, (other, first)): (&u64, &(Indicator, First))| {
            (other == indicator).then(|| first.clone())
        };
        let copied: Vec<First> = self.keys.copied.iter().filter_map(of).collect();
        for first in copied {
            self.unmake_key(indicator, &first);
            self.keys.wait_longer(indicator, &first);
        }
    }

    /// Drops those copied longest ago until there is room for so many facts. Who is still looked up
    /// is copied again, later.
    pub(super) fn make_room(&mut self, facts: usize) -> bool {
        while self.facts + facts > MAX_COPIED || self.keys.copied.len() >= MAX_KEYS {
            let Some((indicator, first)) = self.keys.copied.values().next().cloned() else {
                return false;
            };
            self.told.keys_displaced += 1;
            self.unmake_key(&indicator, &first);
            self.keys.wait_longer(&indicator, &first);
        }
        true
    }

    fn make_key(&mut self, read: Read, first: First, facts: Vec<Bytes>, writes: u32) {
        let indicator = read.indicator.clone();
        let Ok(term) = Term::decode(&first) else { return };
        let Some(clause) = clause::of(&indicator, &term, &facts) else { return };
        let kind = Kind::of(&term, facts.len());
        self.by_key(&indicator);
        self.facts += facts.len().max(1);
        self.told.keys_made += 1;
        let age = self.keys.next_age;
        self.keys.next_age += 1;
        self.keys.copied.insert(age, (indicator.clone(), first.clone()));
        if let Some(key) = self.keys.key(&indicator, &first) {
            key.copy = Some(KeyCopy { age, facts, writes, read });
        }
        self.todo.push(Todo::Key { kind, clause });
    }

    fn unmake_key(&mut self, indicator: &Indicator, first: &[u8]) {
        let copy = self.keys.key(indicator, first).and_then(|key| key.copy.take());
        let (Some(copy), Ok(term)) = (copy, Term::decode(first)) else { return };
        self.keys.copied.remove(&copy.age);
        self.facts -= copy.facts.len().max(1);
        self.keys.dropped.push(copy.read);
        let kind = Kind::of(&term, copy.facts.len());
        self.todo.push(Todo::Unkey { kind, head: clause::head(indicator, &term, kind) });
    }

    /// The machine forgets all clauses of a predicate's keys.
    pub(super) fn forget_keys(&mut self, indicator: &Indicator) {
        let Some(keys) = self.keys.predicates.get_mut(indicator) else { return };
        for copy in keys.values_mut().filter_map(|key| key.copy.take()) {
            self.keys.copied.remove(&copy.age);
            self.facts -= copy.facts.len().max(1);
            self.keys.dropped.push(copy.read);
        }
    }
}

impl Keys {
    fn key(&mut self, indicator: &Indicator, first: &[u8]) -> Option<&mut Key> {
        self.predicates.get_mut(indicator)?.get_mut(first)
    }

    fn wait_longer(&mut self, indicator: &Indicator, first: &[u8]) {
        if let Some(key) = self.key(indicator, first) {
            key.lookups = 0;
            key.doublings = (key.doublings + 1).min(MAX_DOUBLINGS);
        }
    }

    /// Begins to count a key.
    fn count(&mut self, indicator: &Indicator, first: First) {
        while self.counted >= MAX_COUNTED {
            for keys in self.predicates.values_mut() {
                keys.retain(|_, key| {
                    key.lookups /= 2;
                    key.lookups > 0 || key.copy.is_some()
                });
            }
            self.counted = self.predicates.values().map(BTreeMap::len).sum();
        }
        self.counted += 1;
        self.predicates.entry(indicator.clone()).or_default().insert(first, Key::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::kb::Kb;

    fn p() -> Indicator {
        Indicator::new("p", 2)
    }

    fn fact(key: i64, value: i64) -> Bytes {
        Term::structure("p", [key.into(), value.into()]).encode().unwrap().into()
    }

    /// Tells what the keys are that are stale, and says what the machine is told.
    fn settle(copies: &mut Copies, facts: impl Fn(i64) -> Option<Vec<Bytes>>) -> String {
        for (indicator, first) in copies.take_stale() {
            let Ok(Term::Integer(key)) = Term::decode(&first) else { panic!("{first:?}") };
            let goal: Bytes = clause::goal(&indicator, key.into()).encode().unwrap().into();
            let reads = Kb::new().plan(&indicator, &goal).reads;
            copies.key_is(Read { indicator, goal, reads }, first, facts(key));
        }
        copies.take_todo().map(|todo| todo.to_string()).unwrap_or_default()
    }

    fn counting(wait_for: u64) -> Copies {
        let mut copies = Copies::default();
        copies.start(wait_for);
        // The predicate's first look-up.
        copies.looked_up(&p(), None, &Term::EMPTY);
        copies
    }

    #[test]
    fn a_key_is_copied_when_it_was_looked_up_and_follows_its_writes_alone() {
        let mut copies = counting(8 * SHARE);
        let one = |key| Some(vec![fact(key, 0)]);
        (0..7).for_each(|_| copies.looked_up_key(&p(), &7.into()));
        assert_eq!(settle(&mut copies, one), "");
        copies.looked_up_key(&p(), &7.into());
        let made = settle(&mut copies, one);
        assert!(made.contains("keyed(p,2),single(p(7,0))"), "{made}");
        assert_eq!((copies.facts, copies.keys_read().count()), (1, 1));
        copies.wrote_key(&p(), Some(&fact(8, 0)), false);
        assert_eq!(settle(&mut copies, one), "", "another key");
        copies.wrote_key(&p(), Some(&fact(7, 1)), false);
        assert_eq!(settle(&mut copies, one), "", "added and taken away");
        copies.wrote_key(&p(), Some(&fact(7, 1)), false);
        let followed = settle(&mut copies, |key| Some(vec![fact(key, 0), fact(key, 1)]));
        assert!(followed.contains("unsingle(p(7,_1))") && followed.contains("_1=1"), "{followed}");
        assert_eq!((copies.facts, copies.take_dropped().len()), (2, 1));
        copies.wrote_key(&p(), Some(&fact(7, 1)), false);
        assert!(settle(&mut copies, |_| None).contains("unkey"));
        assert_eq!((copies.facts, copies.keys_read().count()), (0, 0));
        (0..15).for_each(|_| copies.looked_up_key(&p(), &7.into()));
        assert_eq!(settle(&mut copies, one), "", "twice as many are waited for");
        copies.looked_up_key(&p(), &7.into());
        assert!(!settle(&mut copies, one).is_empty());
    }

    #[test]
    fn what_a_goal_wrote_and_took_back_is_looked_at_again() {
        let mut copies = counting(1);
        copies.looked_up_key(&p(), &7.into());
        settle(&mut copies, |_| Some(vec![]));
        copies.wrote_key(&p(), Some(&fact(7, 1)), true);
        assert!(!settle(&mut copies, |key| Some(vec![fact(key, 1)])).is_empty());
        copies.rewrote_keys();
        assert!(settle(&mut copies, |_| Some(vec![])).contains("fail"));
        copies.rewrote_keys();
        assert_eq!(settle(&mut copies, |_| panic!("nothing is dirty")), "");
    }

    #[test]
    fn a_fact_of_any_key_drops_all_and_so_do_too_many_writes() {
        let mut copies = counting(1);
        [1, 2].iter().for_each(|&key| copies.looked_up_key(&p(), &key.into()));
        settle(&mut copies, |_| Some(vec![]));
        let open = Term::structure("p", [Term::Var(0), 1.into()]).encode().unwrap();
        copies.wrote_key(&p(), Some(&open), false);
        assert_eq!((copies.facts, copies.keys_read().count()), (0, 0));
        copies.take_todo();
        (0..2).for_each(|_| copies.looked_up_key(&p(), &1.into()));
        settle(&mut copies, |_| Some(vec![]));
        for n in 0..=MAX_WRITES {
            assert_eq!(copies.keys_read().count(), 1, "{n}");
            copies.wrote_key(&p(), None, false);
            settle(&mut copies, |key| Some(vec![fact(key, n.into())]));
        }
        assert_eq!(copies.keys_read().count(), 0);
    }

    #[test]
    fn counts_and_copies_are_bounded_and_the_oldest_copy_makes_room() {
        let mut copies = counting(2 * SHARE);
        for key in 0..3 * MAX_COUNTED as i64 {
            copies.looked_up_key(&p(), &key.into());
            assert!(copies.keys.counted <= MAX_COUNTED);
        }
        let mut copies = counting(1);
        let many = |n: usize| move |key| Some((0..n as i64).map(|n| fact(key, n)).collect());
        for key in 0..=MAX_KEYS as i64 {
            copies.looked_up_key(&p(), &key.into());
            settle(&mut copies, many(1));
        }
        assert_eq!((copies.keys.copied.len(), copies.facts), (MAX_KEYS, MAX_KEYS));
        assert_eq!(copies.told.keys_displaced, 1);
        assert!(!copies.keys_read().any(|read| read.goal == goal(0)), "the oldest is gone");
        let mut copies = counting(1);
        for key in 0..900 {
            (0..8).for_each(|_| copies.looked_up_key(&p(), &key.into()));
            settle(&mut copies, many(MAX_KEY_FACTS));
            assert!(copies.facts <= MAX_COPIED);
        }
        assert!(copies.told.keys_displaced > 0);
        assert!(copies.facts > MAX_COPIED - MAX_KEY_FACTS);
    }

    fn goal(key: i64) -> Bytes {
        clause::goal(&p(), key.into()).encode().unwrap().into()
    }
}
