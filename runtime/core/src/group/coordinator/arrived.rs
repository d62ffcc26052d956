//! Snapshots of others that have arrived and are safe, until Raft has taken or left them.

use crate::order::{Position, SnapshotMeta};
use std::collections::VecDeque;

/// Snapshots that are remembered, at most. Raft takes one with the message that comes behind it, or
/// never: those before the last few are of no use.
pub const MAX_ARRIVED: usize = 8;

/// The queue of them, the newest last. `F` names the file.
#[derive(Debug)]
pub struct Arrived<F> {
    files: VecDeque<(SnapshotMeta, F)>,
}

impl<F> Default for Arrived<F> {
    fn default() -> Self {
        Self { files: VecDeque::new() }
    }
}

impl<F> Arrived<F> {
    /// One has arrived.
    pub fn push(&mut self, meta: SnapshotMeta, file: F) {
        self.files.push_back((meta, file));
        if self.files.len() > MAX_ARRIVED {
            self.files.pop_front();
        }
    }

    /// The one that Raft has taken. Those that end no later can never be taken after it, and are
    /// forgotten; later ones may be.
    pub fn take(&mut self, wanted: Position) -> Option<F> {
        let found = self.files.iter().position(|(meta, _)| meta.position == wanted);
        let file = found.and_then(|place| self.files.remove(place)).map(|(_, file)| file);
        self.files.retain(|(meta, _)| meta.position.index > wanted.index);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Members;

    fn meta(index: u64) -> SnapshotMeta {
        let position = Position { index, term: 1 };
        SnapshotMeta { position, members: Members::default() }
    }

    fn some(of: &[u64]) -> Arrived<u64> {
        let mut arrived = Arrived::default();
        of.iter().for_each(|&index| arrived.push(meta(index), index));
        arrived
    }

    #[test]
    fn what_raft_takes_is_there_though_others_came_before_and_after() {
        let mut arrived = some(&[5, 3, 9]);
        assert_eq!(arrived.take(meta(5).position), Some(5));
        assert_eq!(arrived.take(meta(3).position), None, "it ended before what was taken");
        assert_eq!(arrived.take(meta(9).position), Some(9));
    }

    #[test]
    fn they_are_bounded_and_the_oldest_is_forgotten() {
        let all: Vec<u64> = (1..=MAX_ARRIVED as u64 + 1).collect();
        let mut arrived = some(&all);
        assert_eq!(arrived.files.len(), MAX_ARRIVED);
        assert_eq!(arrived.take(meta(1).position), None);
        assert_eq!(some(&all).take(meta(2).position), Some(2));
    }
}
