//! What goes into the machine and what comes out of it. Nothing here names the library inside.

use super::members::{Change, Members};
use crate::cbor;
use bytes::Bytes;

/// The part of Raft's state that must outlive the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term heard of.
    pub term: u64,
    /// Whom this node voted for in it; 0 for nobody.
    pub vote: u64,
    /// How far the log is known to be committed. It may lag behind on disk without harm.
    pub commit: u64,
}

/// A place in the log. The two together name the content of everything up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Raft's index.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
}

/// An entry of the log, as it is written to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: u64,
    /// Its index, counted from 1.
    pub index: u64,
    /// What its data is.
    pub kind: EntryKind,
    /// What was proposed; empty for the entry that each election appends.
    pub data: Bytes,
}

/// What the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Somebody's proposal, opaque here.
    Normal,
    /// A change of the members.
    ConfChange,
}

impl EntryKind {
    /// Its number on disk and on the wire.
    pub fn number(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::ConfChange => 1,
        }
    }

    /// The kind of that number.
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            _ => None,
        }
    }
}

/// A snapshot as Raft knows it; its content is the shell's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that it contains.
    pub position: Position,
    /// The members as of there.
    pub members: Members,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Lead no longer and do not stand for election, until this is taken back. It goes on voting and
    /// following: its log is as good as any, and what is above it is not.
    Abstain(bool),
    /// Stand for election now, if this node may.
    Campaign,
    /// Change the members. Answered like a proposal. A leader that is removed steps down where that
    /// commits; handing over first spares the others an election. A member that is removed must
    /// stay until the others know, or two voters can become one who waits for the other for ever.
    ChangeMembers {
        /// The caller's number for it.
        ticket: u64,
        /// What changes. More than one goes through a joint configuration.
        changes: Vec<Change>,
        /// Opaque data that comes back with the commit.
        context: Bytes,
    },
    /// The log before `first_index` is about to be dropped from disk; `snapshot` stands for it.
    Compacted {
        /// The newest snapshot, durable.
        snapshot: SnapshotMeta,
        /// The first index that stays.
        first_index: u64,
    },
    /// The state above contains everything up to this Raft index, durably or not.
    Applied {
        /// The index.
        raft_index: u64,
    },
    /// The answer to [`Output::Fetch`], which must come, with no entries if there are none.
    Fetched {
        /// The `first` of the request.
        first: u64,
        /// Entries from there on, contiguous.
        entries: Vec<Entry>,
    },
    /// What is proposed next is awaited at a follower: it is to be told of the commit at once.
    Hurry,
    /// Bytes from a peer.
    Message {
        /// Who sent them, as the transport has proved.
        from: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Lead no longer, do not stand for election, and do not vote, for as long as this machine lives:
    /// the disk has lost what it gave its word for, and nobody knows for whom it has voted.
    Mute,
    /// Everything up to and with the [`Persist`] of that number is on disk.
    Persisted {
        /// The number.
        number: u64,
    },
    /// Append something to the log.
    Propose {
        /// The caller's number for it.
        ticket: u64,
        /// The data.
        data: Bytes,
    },
    /// Find an index that every write acknowledged so far lies at or before.
    ReadIndex {
        /// The caller's number for it.
        ticket: u64,
    },
    /// What became of a snapshot that [`Output::Send`] offered. It must be told.
    SnapshotSent {
        /// To whom.
        to: u64,
        /// Whether it arrived.
        ok: bool,
    },
    /// The time that `poll_timeout` gave has come.
    Timeout,
    /// Hand the leadership to this voter, if this node has it.
    Transfer {
        /// To whom.
        to: u64,
    },
    /// A message to this peer was lost on the way.
    Unreachable {
        /// The peer.
        to: u64,
    },
}

/// Something to be done, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The proposal stands in this leader's log. As long as this machine lives, it is committed if,
    /// and only if, the commit of that index has that term.
    Appended {
        /// The proposal's number.
        ticket: u64,
        /// The term.
        term: u64,
        /// The Raft index.
        index: u64,
    },
    /// Everything up to `through` is committed.
    Commit {
        /// What is new and not empty, ascending.
        entries: Vec<Committed>,
        /// How far the log is committed, counting the entries that elections append.
        through: Position,
    },
    /// This will not be done, and has left no trace.
    Dropped {
        /// The number of the proposal, change or read.
        ticket: u64,
        /// Why.
        why: Why,
    },
    /// Read entries from disk and answer with [`Input::Fetched`].
    Fetch {
        /// The first index wanted.
        first: u64,
        /// The last index wanted; fewer will do.
        last: u64,
        /// Stop after so many bytes, one entry at least.
        max_bytes: u64,
    },
    /// Write this to disk.
    Persist(Persist),
    /// The answer to [`Input::ReadIndex`]: the state at this Raft index, or later, will do.
    ReadReady {
        /// The read's number.
        ticket: u64,
        /// The index.
        index: u64,
    },
    /// A message was not listened to.
    Refused {
        /// Who sent it.
        from: u64,
        /// Why.
        why: Refusal,
    },
    /// This node's part has changed.
    Role {
        /// What it is now.
        role: Role,
        /// In which term.
        term: u64,
        /// Whom it takes for the leader.
        leader: Option<u64>,
    },
    /// Send a message to a peer.
    Send {
        /// The peer's Raft id.
        to: u64,
        /// The bytes.
        message: Bytes,
        /// Not before the [`Persist`] of this number is on disk.
        after: Option<u64>,
        /// If there is one: deliver this snapshot's file first, then the message, then tell what
        /// became of it by [`Input::SnapshotSent`].
        snapshot: Option<SnapshotMeta>,
        /// Whether it is short and must not wait behind entries on their way: heartbeats, votes,
        /// answers. Those that are not are sent in order.
        urgent: bool,
    },
    /// A member needs a snapshot and none would do: take one of this index or later and tell by
    /// [`Input::Compacted`]. Asked again as long as it is needed.
    SnapshotWanted {
        /// The index of the entry that the snapshot must contain.
        index: u64,
    },
}

/// What is to be written. Writes become durable in the order of their numbers. Within one, the order
/// is the writer's, and a crash may leave a part: the hard state, or some of the first entries, or
/// both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number. They count up.
    pub number: u64,
    /// A snapshot that a leader sent, to be made this node's state: the log begins anew behind it.
    /// Nothing else is in such a write, and a crash leaves all of it or nothing.
    pub snapshot: Option<SnapshotMeta>,
    /// The hard state, if it changed. Its commit speaks of what earlier writes hold.
    pub hard_state: Option<HardState>,
    /// Entries to append. What the log holds from the first one's index on is superseded.
    pub entries: Vec<Entry>,
}

/// An entry that can never change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its Raft index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The data proposed, or a membership change's context.
    pub data: Bytes,
    /// After a membership change: the members from here on. A change that could not be made leaves
    /// them as they were, on every node alike.
    pub members: Option<Members>,
}

/// Why a proposal, a change or a read was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The limits on what is uncommitted, unapplied or waiting are reached: try later.
    #[error("too much is under way")]
    Busy,
    /// There is no data.
    #[error("the proposal is empty")]
    Empty,
    /// The members cannot be changed like that, or not yet.
    #[error("members: {0}")]
    Members(String),
    /// Only the leader appends.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// More than [`super::MAX_ENTRY_BYTES`].
    #[error("the proposal is too large")]
    TooLarge,
    /// The leadership is being handed over.
    #[error("the leadership is being handed over")]
    Transferring,
}

/// Why a message was not listened to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It speaks of entries that this log has never held: the log here was cut, or the sender lies.
    #[error("it takes for granted entries up to {theirs}, and this log ends at {ours}")]
    BeyondLog {
        /// The index that the message speaks of.
        theirs: u64,
        /// The last index here.
        ours: u64,
    },
    /// Another entry is committed here than the one that it speaks of: one of the two has lost what it had
    /// given its word for.
    #[error("entry {index} is committed here, and it speaks of another in its place")]
    Apart {
        /// The entry.
        index: u64,
    },
    /// It asks for a vote, and this node has none: see [`Input::Mute`].
    #[error("it asks for a vote, and this node does not vote")]
    Mute,
    /// It says that somebody else sent it.
    #[error("it says it is from {claimed}")]
    Forged {
        /// Whom it says it is from.
        claimed: u64,
    },
    /// It is no message.
    #[error("{0}")]
    Malformed(#[from] cbor::Error),
    /// It is for another member.
    #[error("it is for {to}")]
    Misdirected {
        /// For whom.
        to: u64,
    },
    /// It is of another generation of the group.
    #[error("it is of generation {0}")]
    OtherGeneration(u64),
    /// It is of another group.
    #[error("it is of another group")]
    OtherGroup,
    /// Too much waits already.
    #[error("too much waits here already")]
    Overloaded,
    /// Its sender is no member.
    #[error("its sender is no member")]
    Stranger,
    /// It is longer than [`super::MAX_MESSAGE_BYTES`].
    #[error("{0} bytes are too many")]
    TooLong(usize),
    /// It came at a time when it means nothing.
    #[error("it means nothing at this time")]
    Untimely,
}

/// A node's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It stands for election, or asks whether it should.
    Candidate,
    /// It follows, or waits for somebody to follow.
    Follower,
    /// It leads.
    Leader,
}

/// How far a leader has brought another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub id: u64,
    /// Its log agrees with the leader's up to here.
    pub matched: u64,
    /// Whether it has been heard of in the last election timeout.
    pub active: bool,
}
