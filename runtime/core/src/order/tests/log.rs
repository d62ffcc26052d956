//! Raft's view of the log against a plain list of entries that forgets nothing.

use crate::order::store::{Store, to_raft};
use crate::order::*;
use proptest::collection::vec;
use proptest::prelude::*;
use raft::{Error, GetEntriesContext, Storage, StorageError};

#[derive(Clone, Debug)]
enum Step {
    /// Supersede so many entries by so many new ones, of a term so much later.
    Append(u64, u64, u64),
    /// Compact up to so many before the end, keeping so many before the snapshot.
    Compact(u64, u64),
    /// Begin anew at so many indexes after what is compacted, and so many terms later.
    Restore(u64, u64),
    /// Forget all in memory up to so many before the end, but for so many bytes.
    Trim(u64, usize),
}

proptest! {
    #[test]
    fn it_is_the_list(steps in vec(step(), 1..40)) {
        let recovered = Recovered::nothing(Members::of_voters([1]));
        let mut both = Both { store: Store::new(recovered).unwrap(), list: List::default() };
        for step in steps {
            both.take(&step);
            both.compare();
        }
    }

    #[test]
    fn what_is_fetched_must_be_of_this_log(first in 1..12u64, len in 0..6u64, wrong in 0..12u64) {
        let mut store = Store::new(Recovered::nothing(Members::of_voters([1]))).unwrap();
        let log: Vec<_> = (1..=9).map(|n| entry(n, n / 3 + 1)).collect();
        store.append(&log.iter().cloned().map(to_raft).collect::<Vec<_>>());
        store.trim(9, 0);
        let mut fetched: Vec<_> = (first..first + len).map(|n| entry(n, n / 3 + 1)).collect();
        let missing = |error| Error::Store(error);
        let ask = |store: &Store| {
            store.entries(first, first + len.max(1), None, GetEntriesContext::empty(true))
        };
        prop_assert_eq!(ask(&store), Err(missing(StorageError::LogTemporarilyUnavailable)));
        prop_assert_eq!(store.take_fetches(), [(first, (first + len.max(1)) - 1)]);
        prop_assert!(ask(&store).is_err());
        prop_assert_eq!(store.take_fetches(), [], "asked for once");

        let spoilt = fetched.iter_mut().find(|entry| entry.index == wrong);
        let good = spoilt.map(|entry| entry.term += 1).is_none();
        let expected = good && len > 0 && first + len <= 10;
        let opened = store.open_window(first, fetched.clone());
        prop_assert_eq!(opened, expected.then(|| (first, first + len - 1)));
        if expected {
            let fetched: Vec<_> = fetched.into_iter().map(to_raft).collect();
            prop_assert_eq!(ask(&store), Ok(fetched));
        }
        store.close_window();
        prop_assert!(ask(&store).is_err());
        prop_assert_eq!(store.take_fetches().len(), 1, "it may be asked for again");
    }
}

#[test]
fn a_snapshot_is_offered_to_whom_it_lists() {
    let mut store = Store::new(Recovered::nothing(Members::of_voters([1, 2]))).unwrap();
    store.append(&[to_raft(entry(1, 1)), to_raft(entry(2, 1))]);
    let refused = |store: &Store, index, to| {
        let unavailable = Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        store.snapshot(index, to) == Err(unavailable)
    };
    assert!(refused(&store, 0, 2));
    assert!(store.take_snapshot_wanted() && !store.take_snapshot_wanted());
    let position = Position { index: 2, term: 1 };
    store.compact(SnapshotMeta { position, members: Members::of_voters([1, 2]) }, 2);
    assert_eq!(store.snapshot(2, 2).unwrap().get_metadata().index, 2);
    assert!(refused(&store, 0, 3), "3 is not listed");
    assert!(refused(&store, 3, 2), "3 is more than 2");
    assert!(store.take_snapshot_wanted());
}

struct Both {
    store: Store,
    list: List,
}

/// The whole log, from index 1; what lies before `first` counts as forgotten.
#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    before: u64,
}

impl Both {
    fn take(&mut self, step: &Step) {
        let last = self.list.last();
        let term = |index| self.list.term(index);
        match *step {
            Step::Append(over, count, later) => {
                let from = last.saturating_sub(over).max(self.list.before);
                let term = term(last).max(1) + later;
                let new: Vec<_> = (from + 1..=from + count).map(|n| entry(n, term)).collect();
                if count > 0 {
                    self.list.entries.truncate(from as usize);
                }
                self.list.entries.extend(new.iter().cloned());
                self.store.append(&new.into_iter().map(to_raft).collect::<Vec<_>>());
            }
            Step::Compact(before_end, keep) => {
                let index = last.saturating_sub(before_end).max(self.list.before);
                let first = (index + 1).saturating_sub(keep).max(1);
                let position = Position { index, term: term(index) };
                let members = Members::of_voters([1]);
                if index > 0 {
                    self.store.compact(SnapshotMeta { position, members }, first);
                }
                // A snapshot older than the last is none.
                if self.store.snapshot(index, 1).is_ok_and(|s| s.get_metadata().index == index) {
                    self.list.before = self.list.before.max(first - 1);
                }
            }
            Step::Restore(further, later) => {
                let index = self.list.before + further;
                let position = Position { index, term: term(last) + later };
                let members = Members::of_voters([1]);
                self.store.restore(SnapshotMeta { position, members });
                let unknown = (1..=position.index).map(|n| entry(n, position.term));
                (self.list.entries, self.list.before) = (unknown.collect(), position.index);
            }
            Step::Trim(before_end, bound) => {
                self.store.trim(last.saturating_sub(before_end), bound);
            }
        }
    }

    fn compare(&self) {
        let List { before, .. } = self.list;
        let last = self.list.last();
        assert_eq!(self.store.first_index(), Ok(before + 1));
        assert_eq!(self.store.last_index(), Ok(last));
        assert_eq!(self.store.last(), Position { index: last, term: self.list.term(last) });
        for index in before..=last {
            assert_eq!(self.store.term(index), Ok(self.list.term(index)), "term of {index}");
        }
        if before > 0 {
            let compacted = Err(Error::Store(StorageError::Compacted));
            assert_eq!(self.store.term(before - 1), compacted);
        }
        assert_eq!(self.store.term(last + 1), Err(Error::Store(StorageError::Unavailable)));
        for low in before + 1..=last {
            match self.store.entries(low, last + 1, None, GetEntriesContext::empty(false)) {
                Ok(entries) => {
                    let all = self.list.entries.iter().skip(low as usize - 1).cloned();
                    assert_eq!(entries, all.map(to_raft).collect::<Vec<_>>());
                    let one = self.store.entries(low, last + 1, 0, GetEntriesContext::empty(false));
                    assert_eq!(one.map(|one| one.len()), Ok(1), "one at least, however large");
                }
                Err(error) => assert_eq!(error, Error::Store(StorageError::Unavailable)),
            }
        }
        let weight = self.store.cache_bytes();
        assert_eq!(
            weight == 0,
            self.store.entries(last, last + 1, None, GetEntriesContext::empty(false)).is_err()
        );
    }
}

impl List {
    fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        index.checked_sub(1).map_or(0, |at| self.entries[at as usize].term)
    }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: format!("{index}/{term}").into() }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u64, 0..6u64, 0..2u64).prop_map(|(o, c, l)| Step::Append(o, c, l)),
        2 => (0..6u64, 0..6u64).prop_map(|(b, k)| Step::Compact(b, k)),
        1 => (1..9u64, 1..3u64).prop_map(|(f, l)| Step::Restore(f, l)),
        2 => (0..6u64, 0..600usize).prop_map(|(b, k)| Step::Trim(b, k)),
    ]
}
