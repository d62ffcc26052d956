//! What a space's commands did, long ago: a snapshot from before, and the log applied to it again.

use super::snapshots::{SnapshotError, Snapshots};
use crate::store::fs_disk::FsDisk;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use synod_core::apply::{Change, State};
use synod_core::command::Batch;
use synod_core::log::{Entries, ReadError, Reader};

/// Changes behind an index, in order, read as they are asked for.
#[derive(Debug)]
pub struct History {
    state: State,
    entries: Entries<FsDisk>,
    ready: VecDeque<Arc<Change>>,
    after: u64,
}

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The space has been closed.
    #[error("the space is closed")]
    Closed,
    /// There has been no such command yet.
    #[error("the space stands at index {last}")]
    Ahead {
        /// The last index.
        last: u64,
    },
    /// Neither a snapshot nor the log reaches back so far.
    #[error("the log goes back to index {first} only: what was before has been compacted")]
    Gone {
        /// The first index that can be told of.
        first: u64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl History {
    /// Of the changes behind index `after`. Blocks while it reads.
    pub(super) fn open(
        snapshots: &Snapshots,
        reader: Reader<FsDisk>,
        space: [u8; 32],
        after: u64,
    ) -> Result<Self, HistoryError> {
        let base = snapshots.load_before(after)?;
        let (state, through) = base.unwrap_or_else(|| (State::new(space), Default::default()));
        if reader.first_index() > through.index + 1 {
            let first = snapshots.oldest().unwrap_or(0);
            return Err(HistoryError::Gone { first });
        }
        let entries = reader.entries(through.index + 1, u64::MAX)?;
        Ok(Self { state, entries, ready: VecDeque::new(), after })
    }

    /// The index up to which the changes that were given lead.
    pub fn index(&self) -> u64 {
        self.ready.front().map_or(self.state.index(), |next| next.index.saturating_sub(1))
    }

    /// The next change; none at the end of what was safe when the history was opened. Blocks.
    pub fn next_change(&mut self) -> Result<Option<Arc<Change>>, HistoryError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                if change.index > self.after {
                    return Ok(Some(change));
                }
                continue;
            }
            let Some(entry) = self.entries.next().transpose()? else { return Ok(None) };
            if entry.kind != 0 || entry.data.is_empty() {
                continue;
            }
            let Ok(batch) = Batch::decode(&entry.data) else { continue };
            for command in &batch.commands {
                let applied = self.state.apply(batch.time, command);
                self.ready.extend(applied.change.map(Arc::new));
            }
        }
    }
}

/// Writes the state as of `index` to a file of its own. Blocks.
pub(super) fn as_of(
    snapshots: &Snapshots,
    reader: Reader<FsDisk>,
    space: [u8; 32],
    index: u64,
) -> Result<PathBuf, HistoryError> {
    let base = snapshots.load_before(index)?;
    let (mut state, through) = base.unwrap_or_else(|| (State::new(space), Default::default()));
    if reader.first_index() > through.index + 1 {
        return Err(HistoryError::Gone { first: snapshots.oldest().unwrap_or(0) });
    }
    'log: for entry in reader.entries(through.index + 1, u64::MAX)? {
        let entry = entry?;
        if entry.kind != 0 || entry.data.is_empty() {
            continue;
        }
        let Ok(batch) = Batch::decode(&entry.data) else { continue };
        for command in &batch.commands {
            if state.index() >= index {
                break 'log;
            }
            state.apply(batch.time, command);
        }
    }
    Ok(snapshots.write_past(state)?)
}
