//! What an observer's machine is told and tells.

use super::wire::{Answer, Request};
use crate::apply::Membership;
use crate::group::{Head, Place};
use crate::log::Entry;
use crate::time::Time;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Where an observer was let in, and whom to believe until the log has said so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The place of the space at which these voted: what is followed goes by it.
    pub place: Place,
    /// Their ids in the network.
    pub voters: BTreeSet<Bytes>,
}

/// What was heard, and is to be known when the node starts again: who says again what was said before it is not
/// believed then, either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The highest generation that a voter has spoken in.
    pub generation: u64,
    /// Up to when each voter's words are old, in its own time.
    pub said: BTreeMap<Bytes, u64>,
}

/// Whether a peer, by its id, has signed a message, with a signature.
pub type IsSigned = dyn Fn(&[u8], &[u8], &[u8]) -> bool;

/// What the machine looks at.
pub struct Scene<'a> {
    /// Now.
    pub now: Time,
    /// Who takes part, as far as the log is applied.
    pub membership: &'a Membership,
    /// The last entry that is applied.
    pub applied_entry: u64,
    /// The space's index there.
    pub applied: u64,
    /// Whether a peer has signed a message.
    pub is_signed: &'a IsSigned,
}

/// What happens. `F` is what a file of a snapshot is known by.
#[derive(Debug)]
pub enum Input<F> {
    /// Gossip has come, of this author.
    Heard {
        /// Who said it, as the transport has proved.
        from: Bytes,
        /// An announcement.
        bytes: Bytes,
    },
    /// These peers can be asked.
    Reachable {
        /// Other observers of the space.
        observers: Vec<Bytes>,
        /// Those of [`super::Observer::voters`] that are connected.
        voters: Vec<Bytes>,
    },
    /// What came of a fetch.
    Fetched {
        /// Its number.
        number: u64,
        /// What was answered.
        answer: Fetched<F>,
    },
    /// Time has passed, or more was applied.
    Tick,
}

/// What came of a fetch.
#[derive(Debug)]
pub enum Fetched<F> {
    /// An answer.
    Answer(Answer),
    /// A snapshot whose state is that of the head.
    Snapshot(Head, F),
    /// What came was nothing that can be used.
    Bad(String),
    /// Nothing came.
    Lost,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<F> {
    /// Write these entries, then apply them: they lead to the head.
    Write {
        /// In order, behind what is there.
        entries: Vec<Entry>,
        /// Where they lead.
        head: Head,
    },
    /// Ask a peer. What comes of it is told, in any case, with this number.
    Fetch {
        /// The number.
        number: u64,
        /// Whom.
        peer: Bytes,
        /// For what.
        request: Request,
    },
    /// Make this snapshot the state; the log goes on behind it.
    Install {
        /// Its place.
        head: Head,
        /// The file.
        file: F,
    },
    /// Keep this, in place of what was to be kept before, until the machine is made again.
    Remember(Memory),
    /// A peer has said what is not so. Told once of each.
    Blame {
        /// Who.
        peer: Bytes,
        /// What.
        why: String,
    },
}

/// Why an observer does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// All voters that it knows are gone, and others vote.
    Strangers,
    /// The space has another history than what it has applied.
    Apart,
    /// No voter can show that the space has come by where this node was let in.
    Unvouched,
}

/// What it has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// When it last was where a voter said that the space was, then; none, if it never was.
    pub fresh: Option<Time>,
    /// Commands that it lacks, as far as it has heard.
    pub lag: u64,
    /// Why it does not follow, if it does not.
    pub trouble: Option<Trouble>,
}

/// How often things have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Heads that were believed.
    pub heard: u64,
    /// Heads and answers that were not.
    pub refused: u64,
    /// Heads that were said before.
    pub old: u64,
    /// Pieces that were fetched and written.
    pub fetched: u64,
    /// Snapshots that were taken in.
    pub snapshots: u64,
}
