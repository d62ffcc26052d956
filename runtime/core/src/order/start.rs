//! What a machine starts from: its configuration and its disk.

use super::members::{Members, MembersError};
use super::store::Store;
use super::types::{Entry, HardState, Position, SnapshotMeta};
use super::{MAX_APPEND_BYTES, MAX_INFLIGHT_APPENDS, MAX_UNCOMMITTED_BYTES};
use raft::RawNode;
use std::time::Duration;

/// Who this machine is, and the group it is one of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its Raft id, never 0: handed out once by the group's log and never used again.
    pub node: u64,
    /// The group, by the hash that names it. Every message carries it.
    pub group: [u8; 32],
    /// Raised when a group is recovered by hand: members of older generations are not listened to.
    pub generation: u64,
    /// Where its random draws come from. It must differ from start to start of the same node, or
    /// answers to reads of the last run could be taken for answers to those of this one.
    pub seed: u64,
    /// How often [`Input::Timeout`](super::Input::Timeout) is wanted; the unit of the two below.
    pub tick: Duration,
    /// Ticks between the heartbeats of a leader.
    pub heartbeat_ticks: u32,
    /// Ticks without word from a leader after which a voter stands for election, at least; at most
    /// twice as many, drawn anew in every term.
    pub election_ticks: u32,
    /// How long a leader waits for its next entries before it tells followers of a commit without any. At
    /// once, if that is nothing.
    pub notice_after: Duration,
    /// Bytes of entries, applied already, that are kept in memory for members that lag behind.
    pub cache_bytes: usize,
}

impl Config {
    /// A heartbeat every 100 ms, elections after one to two seconds of silence, and commits told at once.
    pub fn new(node: u64, group: [u8; 32], seed: u64) -> Self {
        Self {
            node,
            group,
            generation: 0,
            seed,
            tick: Duration::from_millis(100),
            heartbeat_ticks: 1,
            election_ticks: 10,
            notice_after: Duration::ZERO,
            cache_bytes: 16 << 20,
        }
    }
}

/// What the disk held when the machine was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state persisted.
    pub hard_state: HardState,
    /// The members as of `applied`.
    pub members: Members,
    /// The last Raft index that the state above this machine contains. Commits begin after it.
    pub applied: u64,
    /// What lies right before the log's first entry: where it was compacted, or 0 and term 0.
    pub before: Position,
    /// Where each run of entries of one term begins, for those entries that are on disk and not in
    /// `entries`; empty if all are.
    pub terms: Vec<Position>,
    /// The log's tail: contiguous, up to its end, and everything after `applied` at least.
    pub entries: Vec<Entry>,
    /// The newest snapshot; there must be one if the log does not begin at index 1.
    pub snapshot: Option<SnapshotMeta>,
}

impl Recovered {
    /// An empty disk. `members` are those of the group's genesis, for whoever joins later too: the
    /// log tells the rest. A founder whose disk was lost must not come back by this: alone, it
    /// would found the group a second time. It joins again, under a new id.
    pub fn nothing(members: Members) -> Self {
        Self {
            hard_state: HardState::default(),
            members,
            applied: 0,
            before: Position::default(),
            terms: Vec::new(),
            entries: Vec::new(),
            snapshot: None,
        }
    }
}

/// Why a machine cannot start from what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// The members make no sense.
    #[error("members: {0}")]
    Members(#[from] MembersError),
    /// The log is not one contiguous run of ascending indexes and terms.
    #[error("the log is not contiguous at index {0}")]
    Gap(u64),
    /// The log ends before what it is known to have held.
    #[error("the log ends at index {last} and index {known} has been committed")]
    Lost {
        /// The last index there is.
        last: u64,
        /// The last index that was applied, or that the hard state calls committed.
        known: u64,
    },
    /// The log was compacted and there is no snapshot of what it lost.
    #[error("the log begins after index {0} and no snapshot reaches there")]
    NoSnapshot(u64),
}

/// Raft on what the disk held.
pub(super) fn start(config: &Config, recovered: Recovered) -> Result<RawNode<Store>, StartError> {
    let applied = recovered.applied;
    let store = Store::new(recovered)?;
    if config.tick.is_zero() {
        return Err(StartError::Config("the tick must be longer than nothing".to_owned()));
    }
    let raft_config = raft::Config {
        id: config.node,
        election_tick: config.election_ticks as usize,
        heartbeat_tick: config.heartbeat_ticks as usize,
        applied,
        max_size_per_msg: MAX_APPEND_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_APPENDS,
        check_quorum: true,
        pre_vote: true,
        // Raft's own would join everything on its way to a member into one message without bound;
        // proposals are joined before they reach it.
        batch_append: false,
        skip_bcast_commit: !config.notice_after.is_zero(),
        max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
        max_committed_size_per_ready: MAX_APPEND_BYTES,
        ..raft::Config::default()
    };
    raft_config.validate().map_err(|e| StartError::Config(e.to_string()))?;
    let silent = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&raft_config, store, &silent).map_err(|e| StartError::Config(e.to_string()))
}
