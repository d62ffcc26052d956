//! A command on its way into a space's log, and how it ends.

use bytes::Bytes;
use synod_core::apply::Outcome;
use tokio::sync::{mpsc, oneshot};

/// Proposals under way in one space, at most; a further one is refused as busy.
pub const MAX_PROPOSALS: usize = 65_536;

/// A command to be proposed.
#[derive(Debug)]
pub struct Proposal {
    /// The command, encoded.
    pub command: Bytes,
    /// Who wants to know.
    pub reply: Reply,
}

/// Where a proposal's end is told.
#[derive(Debug)]
pub enum Reply {
    /// To whoever waits for this one.
    Once(oneshot::Sender<Ended>),
    /// To a stream of many, with the number that the client gave it.
    Stream(mpsc::UnboundedSender<(u64, Ended)>, u64),
}

impl Reply {
    /// Tells. Whoever no longer listens asks for the outcome by its id.
    pub fn send(self, ended: Ended) {
        match self {
            Self::Once(sender) => drop(sender.send(ended)),
            Self::Stream(sender, number) => drop(sender.send((number, ended))),
        }
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
    #[error("the command is larger than an entry of the log may be")]
    TooLarge,
    /// The disk is nearly full.
    #[error("{0}")]
    DiskFull(String),
    /// Another member leads the space.
    #[error("this node does not lead the space")]
    NotLeader,
    /// The node is going down.
    #[error("the node is going down")]
    Stopping,
}
