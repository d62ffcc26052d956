//! A log as it should be: lists, and nothing clever.

use synod_core::log::{Entry, HardState, Position};

/// What a log holds: everything since it was begun, whatever has been compacted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) base: Position,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
}

/// What can be appended to it.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Entry(Entry),
    HardState(HardState),
    Restart(Position),
}

impl Model {
    pub(crate) fn last(&self) -> Position {
        let at = |e: &Entry| Position { term: e.term, index: e.index };
        self.entries.last().map_or(self.base, at)
    }

    pub(crate) fn committed(&self) -> Position {
        let nth = self.hard_state.commit.checked_sub(self.base.index + 1);
        let entry = nth.and_then(|nth| self.entries.get(nth as usize));
        entry.map_or(self.base, |entry| Position { term: entry.term, index: entry.index })
    }

    /// The hard state as a start finds it: never of an earlier term than the last entry.
    pub(crate) fn hard_state_found(&self) -> HardState {
        let (state, term) = (self.hard_state, self.last().term);
        if term > state.term { HardState { term, vote: 0, ..state } } else { state }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Entry(entry) => {
                self.entries.truncate((entry.index - self.base.index - 1) as usize);
                self.entries.push(entry.clone());
            }
            Op::HardState(state) => self.hard_state = *state,
            Op::Restart(at) => {
                self.base = *at;
                self.entries.clear();
                self.hard_state.commit = self.hard_state.commit.max(at.index);
            }
        }
    }
}
