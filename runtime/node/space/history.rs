//! What a space's commands did, long ago: a snapshot from before, and the log applied to it again.

use super::snapshots::Snapshots;
use crate::past::{At, Commands, Past, PastError};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use synod_core::apply::{Change, State};

/// Changes behind an index, in order, read as they are asked for.
#[derive(Debug)]
pub struct History {
    state: State,
    commands: Commands,
    ready: VecDeque<Arc<Change>>,
    after: u64,
}

impl History {
    /// Of the changes behind index `after`. Blocks while it reads.
    pub(super) fn open(past: &Past, after: u64) -> Result<Self, PastError> {
        let (state, commands) = past.state_before(At::Index(after))?;
        Ok(Self { state, commands, ready: VecDeque::new(), after })
    }

    /// The index up to which the changes that were given lead.
    pub fn index(&self) -> u64 {
        self.ready.front().map_or(self.state.index(), |next| next.index.saturating_sub(1))
    }

    /// The next change; none at the end of what was safe when the history was opened. Blocks.
    pub fn next_change(&mut self) -> Result<Option<Arc<Change>>, PastError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                if change.index > self.after {
                    return Ok(Some(change));
                }
                continue;
            }
            let Some((stamp, command)) = self.commands.next_command()? else { return Ok(None) };
            self.ready.extend(self.state.apply(stamp, &command).change.map(Arc::new));
        }
    }
}

/// Writes the state as of `index` to a file of its own. Blocks.
pub(super) fn as_of(snapshots: &Snapshots, past: &Past, index: u64) -> Result<PathBuf, PastError> {
    Ok(snapshots.write_past(past.state_at(At::Index(index))?)?)
}
