//! *Order*: one log that every member of a group agrees on, as a machine that only decides.
//!
//! Inside is Raft by the `raft` crate; the files of this module are the only ones that name it. It
//! opens nothing, waits for nothing and knows no clock: what happens comes in as an [`Input`], what
//! is to be done goes out as an [`Output`]. A group of one voter is the smallest case and not a
//! special one; it elects itself at once, needs no network and no time, and costs about a
//! microsecond an entry.
//!
//! # The driver's part
//!
//! 1. Make the machine: `Order::new(config, recovered, now)`, `recovered` being what the disk holds.
//! 2. Take outputs by [`Order::poll_output`] until there are none, in order:
//!    - [`Output::Persist`]: write it behind all earlier ones. One fdatasync may stand for many.
//!      A crash may lose the last ones, and keep a part of the first that it loses.
//!    - [`Output::Send`]: send it, at once or when the `Persist` of `after` is on disk.
//!    - [`Output::Commit`]: hand it to the state above, in order.
//!    - [`Output::Fetch`], [`Output::SnapshotWanted`], a `snapshot` to send: long work; start it.
//!    - the others answer and tell.
//! 3. When writes up to number n are on disk: `handle(now, Persisted { number: n })`, and only then
//!    send what waited for them. What was not told of before a crash may be lost without harm.
//! 4. When the state above has applied up to an index: `Applied`. It lets memory go.
//! 5. At the time that [`Order::poll_timeout`] gives: `Timeout`. Ask again after every step.
//! 6. Otherwise wait for a message, a proposal, a disk. Then `handle` it, and go to 2.
//!
//! [`Order::handle`] cannot fail and does not block. It can panic: some states that Raft rules out
//! end in its own assertions. A driver catches that at the edge of the group and stops that group.
//!
//! # What it refuses
//!
//! A peer's bytes are decoded in `message.rs` and checked in `guard.rs` before Raft sees them. Memory
//! is bounded by [`MAX_UNCOMMITTED_BYTES`], [`MAX_UNAPPLIED_BYTES`] and [`Config::cache_bytes`]:
//! beyond, proposals are dropped as [`Why::Busy`] and a leader's entries are not taken yet.

mod guard;
mod members;
mod message;
mod notice;
mod propose;
mod reads;
mod ready;
mod start;
mod steps;
mod store;
mod types;

#[cfg(test)]
mod tests;

pub use members::{Change, MAX_CHANGES, MAX_LEARNERS, MAX_VOTERS, Members, MembersError};
pub use message::peek;
pub use start::{Config, Recovered, StartError};
pub use types::{
    Committed, Entry, EntryKind, HardState, Input, Output, Persist, Position, Progress, Refusal,
    Role, SnapshotMeta, Why,
};

use crate::time::Time;
use bytes::Bytes;
use message::Mark;
use notice::Notice;
use raft::{RawNode, StateRole};
use reads::Reads;
use std::collections::VecDeque;
use store::Store;

/// Bytes of one proposal.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;
/// Bytes of the entries in one append, which holds one entry at least.
pub const MAX_APPEND_BYTES: u64 = 1 << 20;
/// Bytes of a message: the largest entry, or the most of smaller ones, and what surrounds them.
pub const MAX_MESSAGE_BYTES: usize = MAX_ENTRY_BYTES + (1 << 20);
/// Bytes that a leader has proposed and not committed.
pub const MAX_UNCOMMITTED_BYTES: u64 = 16 << 20;
/// Bytes of entries in memory beyond which nothing new is taken in until the state above applies.
pub const MAX_UNAPPLIED_BYTES: usize = 64 << 20;
/// Appends under way to one member, each of [`MAX_APPEND_BYTES`] or one entry.
pub const MAX_INFLIGHT_APPENDS: usize = 16;
/// Bytes of old entries asked from disk at a time: a few appends, so that the line stays busy.
pub const MAX_FETCH_BYTES: u64 = 4 << 20;
/// Proposals that go into one append to the log, and their bytes.
const MAX_BATCH: (usize, usize) = (4096, 1 << 20);

/// The machine. See the [module](self) for how it is driven.
pub struct Order {
    config: Config,
    mark: Mark,
    raft: RawNode<Store>,
    members: Members,
    outputs: VecDeque<Output>,
    /// Proposals of this turn, and their bytes: they enter the log together.
    proposals: Vec<(u64, Bytes)>,
    proposed_bytes: usize,
    reads: Reads,
    /// The last number of a write, and the writes not on disk as far as this machine knows.
    writes: u64,
    writing: VecDeque<Write>,
    /// Readies with a snapshot that are not all on disk, and its index.
    installing: VecDeque<(u64, u64)>,
    /// The number of Raft's last ready.
    ready: u64,
    /// The hard state as last handed out.
    hard_state: HardState,
    /// Role, term and leader as last told.
    told: (Role, u64, Option<u64>),
    /// The last index handed out as committed, and the last applied above.
    committed: u64,
    applied: u64,
    next_tick: Time,
    notice: Notice,
    /// The time of the last input.
    now: Time,
    /// Whether it is not to lead.
    abstains: bool,
    /// Whether it is not to vote either, for good.
    is_mute: bool,
}

/// A [`Persist`] that is not on disk.
struct Write {
    number: u64,
    /// The ready that it is a part of.
    ready: u64,
    /// Whether it holds a new term or vote.
    promises: bool,
}

impl Order {
    /// A machine that goes on where the disk says it was.
    pub fn new(config: Config, recovered: Recovered, now: Time) -> Result<Self, StartError> {
        let members = recovered.members.clone();
        let applied = recovered.applied;
        let raft = start::start(&config, recovered)?;
        let hard_state = steps::hard_state(&raft);
        let reads =
            Reads::new(config.node, config.seed, config.heartbeat_ticks, config.election_ticks);
        let mut order = Self {
            mark: Mark { group: config.group, generation: config.generation },
            next_tick: steps::next_tick(now, config.tick),
            config,
            raft,
            members,
            outputs: VecDeque::new(),
            proposals: Vec::new(),
            proposed_bytes: 0,
            reads,
            writes: 0,
            writing: VecDeque::new(),
            installing: VecDeque::new(),
            ready: 0,
            hard_state,
            told: (Role::Follower, hard_state.term, None),
            committed: applied,
            applied,
            notice: Notice::default(),
            now,
            abstains: false,
            is_mute: false,
        };
        order.settle();
        Ok(order)
    }

    /// Takes in what happened. Outputs follow from [`Order::poll_output`].
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = now;
        if let Input::Propose { ticket, data } = input {
            return self.propose(ticket, data);
        }
        self.append_proposals();
        match input {
            Input::Applied { raft_index } => {
                self.applied = self.applied.max(raft_index).min(self.committed);
            }
            Input::Abstain(abstains) => self.abstain(abstains),
            Input::Campaign => self.campaign(),
            Input::ChangeMembers { ticket, changes, context } => {
                self.change_members(ticket, changes, context);
            }
            Input::Compacted { snapshot, first_index } => self.compacted(snapshot, first_index),
            Input::Fetched { first, entries } => self.fetched(first, entries),
            Input::Hurry => self.notice.hurry(),
            Input::Mute => self.mute(),
            Input::Message { from, bytes } => self.message(from, &bytes),
            Input::Persisted { number } => self.persisted(number),
            Input::Propose { .. } => {}
            Input::ReadIndex { ticket } => {
                if !self.reads.push(ticket) {
                    self.outputs.push_back(Output::Dropped { ticket, why: Why::Busy });
                }
            }
            Input::SnapshotSent { to, ok } => self.snapshot_sent(to, ok),
            Input::Timeout => self.timeout(now),
            Input::Transfer { to } => self.transfer(to),
            Input::Unreachable { to } => self.raft.report_unreachable(to),
        }
        self.settle();
    }

    /// What is to be done next, if anything. Proposals made since the last call enter the log here.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && !self.proposals.is_empty() {
            self.append_proposals();
            self.settle();
        }
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is wanted, and why. Never, for a member that is alone.
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let reason = match self.role() {
            Role::Leader if self.members.is_alone(self.config.node) && self.reads.is_empty() => {
                return None;
            }
            Role::Leader => match self.notice.due() {
                Some(at) if at < self.next_tick => return Some((at, "notice")),
                _ => "heartbeat",
            },
            Role::Follower | Role::Candidate => "election",
        };
        Some((self.next_tick, reason))
    }

    /// This node's part.
    pub fn role(&self) -> Role {
        match self.raft.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    /// Whom this node takes for the leader.
    pub fn leader(&self) -> Option<u64> {
        Some(self.raft.raft.leader_id).filter(|&id| id != raft::INVALID_ID)
    }

    /// The members, as of what has been handed out as committed.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The hard state as it is at the moment, to be written at a clean end, when all else is.
    pub fn hard_state(&self) -> HardState {
        steps::hard_state(&self.raft)
    }

    /// The end of the log.
    pub fn last(&self) -> Position {
        self.raft.store().last()
    }

    /// How far a leader has brought each other member, by id; empty for who does not lead.
    pub fn progress(&self) -> Vec<Progress> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let all = self.raft.raft.prs().iter().filter(|(id, _)| **id != self.config.node);
        let mut progress: Vec<_> = all
            .map(|(&id, p)| Progress { id, matched: p.matched, active: p.recent_active })
            .collect();
        progress.sort_unstable_by_key(|p| p.id);
        progress
    }
}
