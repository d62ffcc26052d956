//! The log as Raft sees it: the term of every entry, and the newest entries themselves.
//!
//! The log's place is on disk, which is the shell's. Raft however asks for entries and terms in the
//! middle of a step, so the terms of the whole log are kept here as runs (a few bytes an election)
//! and the entries of its tail as a cache: everything that the state above has not applied yet, and
//! of the rest as much as a bound allows. Whatever lies before the cache is asked of the shell and
//! passes through once, as the *window*.

use super::start::{Recovered, StartError};
use super::types::{Entry, EntryKind, Position, SnapshotMeta};
use raft::eraftpb::{self, EntryType, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

/// Reads of old entries that may be under way at the same time: one for every member that lags
/// behind, at its own place.
const MAX_FETCHES: usize = 16;
/// What an entry costs in memory beside its data.
const ENTRY_OVERHEAD: usize = size_of::<eraftpb::Entry>();

/// Raft's storage.
pub(super) struct Store {
    state: RaftState,
    /// What lies right before the log's first entry.
    before: Position,
    /// The first entry of each term, ascending in both.
    terms: Vec<Position>,
    last: u64,
    /// The log's tail, up to `last`.
    cache: VecDeque<eraftpb::Entry>,
    cache_bytes: usize,
    /// Older entries, while Raft is being fed with them.
    window: Vec<eraftpb::Entry>,
    snapshot: Option<SnapshotMeta>,
    wants: RefCell<Wants>,
}

/// What Raft asked for and did not find here.
#[derive(Default)]
struct Wants {
    /// First indexes of fetches that the shell has been asked for and has not answered.
    fetching: BTreeSet<u64>,
    /// Ranges to ask the shell for.
    fetches: Vec<(u64, u64)>,
    /// Whether a snapshot was missed.
    snapshot: bool,
}

impl Store {
    /// Checks what came from disk, so that Raft need not panic over it.
    pub(super) fn new(recovered: Recovered) -> Result<Self, StartError> {
        let Recovered { hard_state, members, applied, before, terms, entries, snapshot } =
            recovered;
        members.check()?;
        if before.index > 0 && snapshot.as_ref().is_none_or(|s| s.position.index < before.index) {
            return Err(StartError::NoSnapshot(before.index));
        }
        let on_disk = entries.first().map_or(applied.max(before.index), |e| e.index - 1);
        let mut store = Self {
            state: RaftState::default(),
            before,
            terms: Vec::new(),
            last: before.index,
            cache: VecDeque::new(),
            cache_bytes: 0,
            window: Vec::new(),
            snapshot,
            wants: RefCell::default(),
        };
        for run in &terms {
            let first = store.terms.is_empty() && run.index == before.index + 1;
            let next = store.terms.last().is_some_and(|last| last.index < run.index);
            if !(first || next) || run.index > on_disk || run.term < store.last_term() {
                return Err(StartError::Gap(run.index));
            }
            store.begin_term(*run);
        }
        if !store.terms.is_empty() {
            store.last = on_disk;
        }
        for entry in entries {
            if entry.index != store.last + 1 || entry.term < store.last_term().max(1) {
                return Err(StartError::Gap(entry.index));
            }
            store.push(to_raft(entry));
        }
        let known = applied.max(hard_state.commit);
        if applied < before.index || store.last < known {
            return Err(StartError::Lost { last: store.last, known });
        }
        if store.cache.front().is_some_and(|e| e.index > applied + 1) {
            return Err(StartError::Gap(applied + 1));
        }
        let mut hard = eraftpb::HardState::default();
        hard.term = hard_state.term.max(store.last_term());
        hard.vote = if hard.term == hard_state.term { hard_state.vote } else { 0 };
        hard.commit = known;
        store.state = RaftState::new(hard, members.to_raft());
        Ok(store)
    }

    /// The position of the log's last entry.
    pub(super) fn last(&self) -> Position {
        Position { index: self.last, term: self.last_term() }
    }

    /// Appends what Raft wants persisted; the first entry supersedes what stands at its index and
    /// after it.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        if let Some(first) = entries.first() {
            self.truncate(first.index);
        }
        entries.iter().for_each(|entry| self.push(entry.clone()));
    }

    /// Begins the log anew behind a snapshot.
    pub(super) fn restore(&mut self, snapshot: SnapshotMeta) {
        self.before = snapshot.position;
        self.last = snapshot.position.index;
        self.terms.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.snapshot = Some(snapshot);
        *self.wants.get_mut() = Wants::default();
    }

    /// Forgets the log before `first_index`, if `snapshot` is of this log, newer than the last and
    /// leaves no gap.
    pub(super) fn compact(&mut self, snapshot: SnapshotMeta, first_index: u64) {
        let index = snapshot.position.index;
        let newest = self.snapshot.as_ref().is_none_or(|s| s.position.index <= index);
        let known = self.term_at(index) == Some(snapshot.position.term);
        if !newest || !known || first_index == 0 || first_index > index + 1 {
            return;
        }
        self.snapshot = Some(snapshot);
        let Some(term) = self.term_at(first_index - 1) else {
            return; // That part of the log is gone already.
        };
        self.before = Position { index: first_index - 1, term };
        let keep = self.terms.partition_point(|run| run.index <= first_index);
        if let Some(run) = keep.checked_sub(1).and_then(|run| self.terms.get_mut(run)) {
            run.index = first_index;
            self.terms.drain(..keep - 1);
        }
        if self.last < first_index {
            self.terms.clear();
        }
        while self.cache.front().is_some_and(|entry| entry.index < first_index) {
            self.pop();
        }
    }

    /// Drops entries up to `applied` from the cache, the oldest first, until `bound` bytes remain.
    pub(super) fn trim(&mut self, applied: u64, bound: usize) {
        while self.cache_bytes > bound
            && self.cache.front().is_some_and(|entry| entry.index <= applied)
        {
            self.pop();
        }
    }

    /// What the cache weighs.
    pub(super) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Takes what was fetched for `first`, if it is what this log holds there. The indexes that
    /// Raft can now ask for.
    pub(super) fn open_window(&mut self, first: u64, entries: Vec<Entry>) -> Option<(u64, u64)> {
        self.wants.get_mut().fetching.remove(&first);
        let ours = |(n, entry): (usize, &Entry)| {
            let index = first + n as u64;
            entry.index == index && self.term_at(index) == Some(entry.term)
        };
        if first <= self.before.index || !entries.iter().enumerate().all(ours) {
            return None;
        }
        self.window = entries.into_iter().map(to_raft).collect();
        Some((self.window.first()?.index, self.window.last()?.index))
    }

    /// Drops what was fetched.
    pub(super) fn close_window(&mut self) {
        self.window = Vec::new();
    }

    /// The ranges of entries that Raft misses, each told once.
    pub(super) fn take_fetches(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.wants.get_mut().fetches)
    }

    /// Whether Raft missed a snapshot.
    pub(super) fn take_snapshot_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wants.get_mut().snapshot)
    }

    fn first(&self) -> u64 {
        self.before.index + 1
    }

    fn last_term(&self) -> u64 {
        self.terms.last().map_or(self.before.term, |run| run.term)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        match self.terms.last() {
            _ if index == self.before.index => Some(self.before.term),
            _ if index < self.before.index || index > self.last => None,
            Some(run) if run.index <= index => Some(run.term),
            _ => {
                let run = self.terms.partition_point(|run| run.index <= index).checked_sub(1)?;
                self.terms.get(run).map(|run| run.term)
            }
        }
    }

    fn begin_term(&mut self, position: Position) {
        if self.terms.is_empty() || self.last_term() != position.term {
            self.terms.push(position);
        }
    }

    fn push(&mut self, entry: eraftpb::Entry) {
        self.begin_term(Position { index: entry.index, term: entry.term });
        self.last = entry.index;
        self.cache_bytes += weight(&entry);
        self.cache.push_back(entry);
    }

    fn pop(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= weight(&entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.cache.back().is_some_and(|entry| entry.index >= from) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= weight(&entry);
            }
        }
        self.terms.truncate(self.terms.partition_point(|run| run.index < from));
        self.last = self.last.min(from - 1);
    }

    fn cached(&self, low: u64) -> Option<usize> {
        let first = self.cache.front()?.index;
        usize::try_from(low.checked_sub(first)?).ok()
    }

    fn in_window(&self, low: u64) -> Option<&[eraftpb::Entry]> {
        let first = self.window.first()?.index;
        let skip = usize::try_from(low.checked_sub(first)?).ok()?;
        self.window.get(skip..).filter(|rest| !rest.is_empty())
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.state.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let count = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX);
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if let Some(skip) = self.cached(low) {
            return Ok(take(self.cache.range(skip..), count, max_bytes));
        }
        if let Some(rest) = self.in_window(low) {
            return Ok(take(rest.iter(), count, max_bytes));
        }
        if !context.can_async() {
            // Only for entries not applied yet, which are never trimmed.
            return Err(StorageError::Unavailable.into());
        }
        let mut wants = self.wants.borrow_mut();
        if wants.fetching.len() < MAX_FETCHES && wants.fetching.insert(low) {
            let cached = self.cache.front().map_or(high, |entry| entry.index);
            wants.fetches.push((low, high.min(cached) - 1));
        }
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.before.index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or_else(|| missing.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let usable = |s: &&SnapshotMeta| {
            let reaches = s.position.index >= request_index.max(self.before.index);
            // Raft refuses a snapshot that does not list its receiver, and would be sent it again
            // for ever.
            reaches && s.position.index > 0 && s.members.contains(to)
        };
        match self.snapshot.as_ref().filter(usable) {
            Some(meta) => Ok(snapshot_to_raft(meta)),
            None => {
                self.wants.borrow_mut().snapshot = true;
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

/// An entry as Raft holds it. The data of a membership change goes into `context`: `data` belongs to
/// the protobuf that Raft writes and reads where a change is proposed, and to nobody else.
pub(super) fn to_raft(entry: Entry) -> eraftpb::Entry {
    let mut to = eraftpb::Entry::default();
    (to.term, to.index) = (entry.term, entry.index);
    match entry.kind {
        EntryKind::Normal => to.data = entry.data,
        EntryKind::ConfChange => {
            to.set_entry_type(EntryType::EntryConfChangeV2);
            to.context = entry.data;
        }
    }
    to
}

/// The reverse of [`to_raft`].
pub(super) fn from_raft(entry: &eraftpb::Entry) -> Entry {
    let (kind, data) = match entry.get_entry_type() {
        EntryType::EntryNormal => (EntryKind::Normal, &entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (EntryKind::ConfChange, &entry.context)
        }
    };
    Entry { term: entry.term, index: entry.index, kind, data: data.clone() }
}

/// Snapshot metadata as Raft holds it.
pub(super) fn snapshot_to_raft(meta: &SnapshotMeta) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let to = snapshot.mut_metadata();
    (to.index, to.term) = (meta.position.index, meta.position.term);
    to.set_conf_state(meta.members.to_raft());
    snapshot
}

/// The reverse of [`snapshot_to_raft`].
pub(super) fn snapshot_from_raft(snapshot: &Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta {
        position: Position { index: meta.index, term: meta.term },
        members: super::Members::from_raft(meta.get_conf_state()),
    }
}

fn weight(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD
}

fn take<'a>(
    entries: impl Iterator<Item = &'a eraftpb::Entry>,
    count: usize,
    max_bytes: u64,
) -> Vec<eraftpb::Entry> {
    let mut bytes = 0u64;
    let fits = |entry: &&eraftpb::Entry| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(weight(entry) as u64);
        first || bytes <= max_bytes
    };
    entries.take(count).take_while(fits).cloned().collect()
}
