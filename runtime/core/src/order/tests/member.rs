//! A member as a driver runs it: the machine, a disk that keeps what it was told to, and messages
//! that wait for the disk. Time and the network are the caller's.

use crate::order::*;
use crate::time::Time;
use std::collections::VecDeque;

/// What a member's disk holds, and loses never.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    genesis: Members,
    pub(super) hard_state: HardState,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) before: Position,
    pub(super) entries: Vec<Entry>,
}

/// The part of a write that a crash keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tear {
    /// So many of the first entries.
    pub(super) entries: usize,
    pub(super) hard_state: bool,
}

/// A message on its way, or waiting to be.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) message: Bytes,
    pub(super) snapshot: Option<SnapshotMeta>,
    after: Option<u64>,
}

pub(super) struct Member {
    pub(super) config: Config,
    /// None while the member is down.
    pub(super) order: Option<Order>,
    pub(super) disk: Disk,
    /// Written and not known to be on disk.
    pub(super) writes: VecDeque<Persist>,
    waiting: VecDeque<Parcel>,
    /// Ready to leave.
    pub(super) outbox: VecDeque<Parcel>,
    /// Reads of the log to be answered.
    pub(super) fetches: VecDeque<(u64, u64, u64)>,
    pub(super) committed: Position,
}

impl Disk {
    fn new(genesis: Members) -> Self {
        Self {
            genesis,
            hard_state: HardState::default(),
            snapshot: None,
            before: Position::default(),
            entries: Vec::new(),
        }
    }

    /// Writes all of it.
    fn write(&mut self, persist: &Persist) {
        self.tear(persist, Tear { entries: usize::MAX, hard_state: true });
    }

    /// Writes a part of it.
    fn tear(&mut self, persist: &Persist, tear: Tear) {
        if let Some(snapshot) = &persist.snapshot {
            self.before = snapshot.position;
            self.snapshot = Some(snapshot.clone());
            self.entries.clear();
        }
        if let Some(state) = persist.hard_state.filter(|_| tear.hard_state) {
            let old = std::mem::replace(&mut self.hard_state, state);
            assert!(state.term >= old.term, "a term was forgotten: {old:?}, {state:?}");
            let kept = old.vote == 0 || state.vote == old.vote || state.term > old.term;
            assert!(kept, "a vote was taken back: {old:?}, {state:?}");
        }
        for entry in persist.entries.iter().take(tear.entries) {
            let at = usize::try_from(entry.index - self.before.index - 1).unwrap();
            self.entries.truncate(at);
            assert_eq!(self.entries.len(), at, "a gap in the log at {}", entry.index);
            self.entries.push(entry.clone());
        }
    }

    pub(super) fn compact(&mut self, snapshot: SnapshotMeta, first: u64) {
        let gone = usize::try_from(first - self.before.index - 1).unwrap();
        if let Some(last) = self.entries.drain(..gone).next_back() {
            self.before = Position { index: last.index, term: last.term };
        }
        self.snapshot = Some(snapshot);
    }

    /// The entries from `first` to `last`, as far as they are here and within the bytes.
    fn read(&self, first: u64, last: u64, max_bytes: u64) -> Vec<Entry> {
        let Some(skip) = first.checked_sub(self.before.index + 1) else {
            return Vec::new();
        };
        let mut bytes = 0;
        let wanted = |entry: &&Entry| {
            let one = bytes == 0;
            bytes += entry.data.len() as u64 + 1;
            entry.index <= last && (one || bytes <= max_bytes)
        };
        let from = self.entries.iter().skip(usize::try_from(skip).unwrap());
        from.take_while(wanted).cloned().collect()
    }

    /// As a shell recovers it whose state above is the snapshot's: what that contains is told by
    /// its terms only.
    pub(super) fn recovered(&self) -> Recovered {
        let applied = self.snapshot.as_ref().map_or(0, |s| s.position.index);
        let (old, tail): (Vec<_>, Vec<_>) =
            self.entries.iter().cloned().partition(|e| e.index <= applied);
        let mut terms: Vec<Position> = Vec::new();
        for Entry { index, term, .. } in old {
            if terms.last().is_none_or(|run| run.term != term) {
                terms.push(Position { index, term });
            }
        }
        Recovered {
            hard_state: self.hard_state,
            members: self.snapshot.as_ref().map_or(&self.genesis, |s| &s.members).clone(),
            applied,
            before: self.before,
            terms,
            entries: tail,
            snapshot: self.snapshot.clone(),
        }
    }
}

impl Member {
    pub(super) fn new(config: Config, genesis: Members, now: Time) -> Self {
        let mut member = Self {
            config,
            order: None,
            disk: Disk::new(genesis),
            writes: VecDeque::new(),
            waiting: VecDeque::new(),
            outbox: VecDeque::new(),
            fetches: VecDeque::new(),
            committed: Position::default(),
        };
        member.start(now);
        member
    }

    pub(super) fn start(&mut self, now: Time) {
        self.config.seed += 1;
        let order = Order::new(self.config.clone(), self.disk.recovered(), now).unwrap();
        self.committed = self.disk.snapshot.as_ref().map(|s| s.position).unwrap_or_default();
        self.order = Some(order);
    }

    /// Of what was written and not confirmed, the first `writes` and of the next one a part have
    /// reached the disk by chance.
    pub(super) fn crash(&mut self, writes: usize, tear: Tear) {
        for (n, persist) in std::mem::take(&mut self.writes).iter().enumerate() {
            if n < writes {
                self.disk.write(persist);
            } else if n == writes && persist.snapshot.is_none() {
                self.disk.tear(persist, tear);
            }
        }
        self.order = None;
        self.waiting.clear();
        self.outbox.clear();
        self.fetches.clear();
    }

    pub(super) fn handle(&mut self, now: Time, input: Input) {
        if let Some(order) = &mut self.order {
            order.handle(now, input);
        }
    }

    /// Takes all outputs, does what can be done at once, and tells what they were.
    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.order.as_mut().and_then(Order::poll_output) {
            match &output {
                Output::Persist(persist) => self.writes.push_back(persist.clone()),
                Output::Send { to, message, after, snapshot, urgent: _ } => {
                    let (to, message, after) = (*to, message.clone(), *after);
                    let snapshot = snapshot.clone();
                    let parcel = Parcel { from: self.config.node, to, message, snapshot, after };
                    match after {
                        Some(_) => self.waiting.push_back(parcel),
                        None => self.outbox.push_back(parcel),
                    }
                }
                Output::Fetch { first, last, max_bytes } => {
                    self.fetches.push_back((*first, *last, *max_bytes));
                }
                Output::Commit { through, .. } => self.committed = *through,
                _ => {}
            }
            outputs.push(output);
        }
        outputs
    }

    /// The oldest so many writes reach the disk together; says whether there was any.
    pub(super) fn write(&mut self, now: Time, count: usize) -> bool {
        let mut number = 0;
        for persist in self.writes.drain(..count.min(self.writes.len())) {
            number = persist.number;
            self.disk.write(&persist);
            if let Some(snapshot) = &persist.snapshot {
                self.committed = snapshot.position;
            }
        }
        if number > 0 {
            self.handle(now, Input::Persisted { number });
        }
        while self.waiting.front().is_some_and(|p| p.after.is_some_and(|after| after <= number)) {
            self.outbox.extend(self.waiting.pop_front());
        }
        number > 0
    }

    /// Answers the oldest read of the log; says whether there was one.
    pub(super) fn fetch_one(&mut self, now: Time) -> bool {
        let Some((first, last, max_bytes)) = self.fetches.pop_front() else {
            return false;
        };
        let entries = self.disk.read(first, last, max_bytes);
        self.handle(now, Input::Fetched { first, entries });
        true
    }

    /// Takes a snapshot of what is committed and drops the log before `first`.
    pub(super) fn compact(&mut self, now: Time, first: u64) {
        let Some(order) = &self.order else { return };
        let snapshot = SnapshotMeta { position: self.committed, members: order.members().clone() };
        self.disk.compact(snapshot.clone(), first);
        self.handle(now, Input::Compacted { snapshot, first_index: first });
    }
}
