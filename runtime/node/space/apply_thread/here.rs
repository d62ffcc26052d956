//! Commands that are applied by the thread that put them in order, without a word to the one that applies.

use super::{Applier, ApplyInput};
use std::sync::{Mutex, TryLockError};
use synod_core::command::{Batch, Checkpoint};

/// Bytes of commands that are applied so, at most: where there are more, two threads do more than one.
const MAX_BYTES: usize = 4 << 10;

/// Applies what was committed if it is little and nothing else is to be done with the state; says whether it
/// did. `handed` is the last entry that the applier's own thread was given.
pub(in crate::space) fn try_apply(
    applier: &Mutex<Applier>,
    commits: &mut Vec<ApplyInput>,
    handed: u64,
) -> bool {
    if !is_little(commits) {
        return false;
    }
    let mut applier = match applier.try_lock() {
        Ok(applier) => applier,
        Err(TryLockError::Poisoned(_)) => super::broken(),
        Err(TryLockError::WouldBlock) => return false,
    };
    if !applier.is_at_rest(handed) {
        return false;
    }
    applier.apply_here(commits);
    true
}

/// Whether it is nothing but a few commands, none of which may ask for the state to be made again.
fn is_little(commits: &[ApplyInput]) -> bool {
    let mut bytes = 0;
    commits.iter().all(|commit| match commit {
        ApplyInput::Through(_) => true,
        ApplyInput::Commit { data, .. } => {
            bytes += data.len();
            let Ok(batch) = Batch::decode(data) else { return false };
            bytes <= MAX_BYTES && !batch.commands.iter().any(|c| Checkpoint::is_likely(c))
        }
        _ => false,
    })
}

impl Applier {
    /// Whether everything that was handed over is applied, and nothing long is under way.
    fn is_at_rest(&self, handed: u64) -> bool {
        self.through.index >= handed && self.wanted.is_none() && self.writing.is_none()
    }

    fn apply_here(&mut self, commits: &mut Vec<ApplyInput>) {
        let (before, had_patience) = (self.through, self.marking.patience().is_some());
        for commit in commits.drain(..) {
            self.take(commit);
        }
        self.tell_how_far(before);
        // Its thread may wait for ever.
        if self.is_snapshot_due() || self.marking.patience().is_some() && !had_patience {
            drop(self.to_self.send(ApplyInput::Look));
        }
    }
}
