//! A command on its way into a space's log, and how it ends.

use super::serving::Unserved;
use super::shared::Shared;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use synod_core::apply::Outcome;
use tokio::sync::{mpsc, oneshot};

/// Proposals under way in one space, at most; a further one is refused as busy.
pub const MAX_PROPOSALS: usize = 65_536;
/// Bytes of their commands, at most, but for a single larger one.
pub const MAX_PROPOSAL_BYTES: usize = 64 << 20;

/// A command to be proposed.
#[derive(Debug)]
pub struct Proposal {
    /// The command, encoded.
    pub command: Bytes,
    /// Who wants to know.
    pub(super) pending: Pending,
}

/// Where a proposal's end is told.
#[derive(Debug)]
pub enum Reply {
    /// To whoever waits for this one. Dropped if it is not known.
    Once(oneshot::Sender<Ended>),
    /// To a stream of many, with the number that the client gave it. Nothing, if it is not known.
    Stream(mpsc::UnboundedSender<(u64, Option<Ended>)>, u64),
}

/// A proposal under way: counted until its end has been told, or until nobody knows it any more.
#[derive(Debug)]
pub(super) struct Pending {
    reply: Option<Reply>,
    bytes: usize,
    shared: Arc<Shared>,
}

impl Pending {
    /// None if too much is under way.
    pub(super) fn begin(shared: &Arc<Shared>, bytes: usize, reply: Reply) -> Option<Self> {
        let UnderWay { proposals, bytes: in_all } = &shared.under_way;
        let (before, bytes_before) =
            (proposals.fetch_add(1, Ordering::Relaxed), in_all.fetch_add(bytes, Ordering::Relaxed));
        let fits = bytes_before == 0 || bytes_before + bytes <= MAX_PROPOSAL_BYTES;
        let pending = Self { reply: Some(reply), bytes, shared: Arc::clone(shared) };
        if before < MAX_PROPOSALS && fits {
            return Some(pending);
        }
        pending.forget();
        None
    }

    /// Ends it without a word: whoever proposed it knows already.
    pub(super) fn forget(mut self) {
        self.reply = None;
    }

    /// Tells. Whoever no longer listens asks for the outcome by its id.
    pub(super) fn end(mut self, ended: Ended) {
        match self.reply.take() {
            Some(Reply::Once(sender)) => drop(sender.send(ended)),
            Some(Reply::Stream(sender, number)) => drop(sender.send((number, Some(ended)))),
            None => {}
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let UnderWay { proposals, bytes } = &self.shared.under_way;
        proposals.fetch_sub(1, Ordering::Relaxed);
        bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(Reply::Stream(sender, number)) = self.reply.take() {
            drop(sender.send((number, None)));
        }
    }
}

/// What is under way in a space.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    proposals: AtomicUsize,
    bytes: AtomicUsize,
}

impl UnderWay {
    /// Proposals, and their bytes.
    pub(super) fn counts(&self) -> (u64, u64) {
        let read = |n: &AtomicUsize| n.load(Ordering::Relaxed) as u64;
        (read(&self.proposals), read(&self.bytes))
    }
}

/// How a proposal ended, as far as this node knows. One that is never told of is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was put in order and applied, or refused on applying.
    Applied(Outcome),
    /// It did not enter the log and never will.
    NotProposed(NotProposed),
}

/// Why a command did not enter the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// Too much is under way.
    #[error("too much is under way: try again in a moment")]
    Busy,
    /// It is larger than an entry of the log may be.
    #[error("the command is larger than an entry of the log may be: make several of it")]
    TooLarge,
    /// The space does not serve writes on this node.
    #[error(transparent)]
    Unserved(#[from] Unserved),
    /// No leader could be given it in time.
    #[error(
        "no quorum of the space's voters can be reached, and nothing was written: `synod space members` \
         shows who is missing; reads of this node's own state go on"
    )]
    NoQuorum,
    /// The node is going down.
    #[error("the node is going down: ask again when it is up")]
    Stopping,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FsDisk;

    #[test]
    fn what_is_under_way_is_bounded_and_always_told_or_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let shared =
            Arc::new(Shared::new(FsDisk::new(folder.path()), 0, Default::default(), (0, 0)));
        let (sender, mut told) = mpsc::unbounded_channel();
        let begin = |n, bytes| Pending::begin(&shared, bytes, Reply::Stream(sender.clone(), n));
        let large = begin(1, MAX_PROPOSAL_BYTES + 1).unwrap();
        assert!(begin(2, 1).is_none(), "nothing beside a larger one");
        drop(large);
        assert_eq!(told.try_recv().unwrap(), (1, None), "who is not told does not know");
        let halves = [3, 4].map(|n| begin(n, MAX_PROPOSAL_BYTES / 2).unwrap());
        assert!(begin(5, 1).is_none());
        let busy = Ended::NotProposed(NotProposed::Busy);
        halves.into_iter().for_each(|half| half.end(busy.clone()));
        assert_eq!(told.try_recv().unwrap(), (3, Some(busy.clone())));
        assert_eq!(told.try_recv().unwrap(), (4, Some(busy)));
        let all: Vec<_> = (0..MAX_PROPOSALS as u64).map_while(|n| begin(n, 0)).collect();
        assert_eq!(all.len(), MAX_PROPOSALS);
        assert!(begin(6, 0).is_none());
        assert!(told.try_recv().is_err(), "one that was not begun is told nothing");
        drop(all);
        assert!(begin(7, 1).is_some());
    }
}
