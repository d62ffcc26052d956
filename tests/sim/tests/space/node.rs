//! One member of a simulated space: the shell of `runtime/node/space` without its threads. What its two
//! threads would do, [`Running`] does when the world says so; what they would have others do, it leaves
//! in [`Running::effects`].

use super::apply::Apply;
use super::marking::Marking;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use synod_core::apply::{Membership, Outcome};
use synod_core::command::Batch;
use synod_core::group::{
    self, Action, Arrived, Ask, Claims, Coordinator, Frame, Mark, Proposals, Scene, Unseen, token,
};
use synod_core::log::{Log, Reader};
use synod_core::order::{self, Config, Entry, Order, Position, Role, SnapshotMeta};
use synod_core::retention::Retention;
use synod_core::time::Time;
use synod_sim::disk::SimDisk;

/// The space's id.
pub(crate) const SPACE: [u8; 32] = [7; 32];
/// What its members know and nobody else.
pub(crate) const KEY: [u8; 32] = [9; 32];

/// Who a node is in the space.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) member: u64,
    pub(crate) peer: Bytes,
    /// How often the space had been recovered by hand when it joined.
    pub(crate) generation: u64,
    /// Members whom it was told of when it joined, by Raft id.
    pub(crate) contacts: BTreeMap<u64, Bytes>,
}

/// What the order thread is told.
pub(crate) enum OrderInput {
    /// The state at an index, for the leader.
    Mark(Mark),
    /// The state is made again, or has been.
    Rebuilding(bool),
    /// The state cannot be made again: ask this member for one.
    AskState(u64),
    /// A command, and the number of the request that wants to know what came of it.
    Propose(Bytes, u64),
    /// The state has come further.
    Applied,
    /// A read that waits, by the number of its request.
    ReadIndex(u64),
    Ask(Ask),
    Frame {
        peer: Bytes,
        bytes: Bytes,
    },
    Snapshot {
        peer: Bytes,
        file: PathBuf,
        meta: SnapshotMeta,
        frame: Bytes,
    },
    Lost(Bytes),
    Found(Bytes),
    Fetched {
        first: u64,
        entries: Vec<Entry>,
    },
    SnapshotSent {
        to: u64,
        ok: bool,
    },
    SnapshotSaved {
        meta: SnapshotMeta,
        file: PathBuf,
    },
}

/// How a request ended, as far as the node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Applied(Outcome),
    /// It is certain not to be in the log.
    NotProposed(&'static str),
    /// Nobody knows.
    Unknown,
    /// A read may look at the state, which has come to this Raft index at least.
    Readable(u64),
}

/// What the world is to do, or to know.
pub(crate) enum Effect {
    Send {
        peer: Bytes,
        bytes: Bytes,
        urgent: bool,
    },
    Offer {
        peer: Bytes,
        to: u64,
        file: Vec<u8>,
        frame: Bytes,
    },
    Fetch {
        reader: Box<Reader<SimDisk>>,
        first: u64,
        last: u64,
        max_bytes: u64,
    },
    Ended(u64, Ended),
    Role(Role, u64),
    /// Raft's log is committed up to here.
    Committed(Position),
    /// This entry of it was handed out.
    Chosen(Position, Bytes),
    /// A batch was applied: the commands from this index on, with what came of each, and the chain
    /// and the digest of the state then.
    Applied {
        first: u64,
        commands: Vec<(Bytes, Outcome)>,
        /// Not told of a state that was broken on purpose.
        state: Option<([u8; 32], [u8; 32])>,
    },
    /// The state is that of a snapshot: its index, chain and digest.
    Installed(u64, ([u8; 32], [u8; 32])),
    /// As above, when the node starts.
    Checked(u64, ([u8; 32], [u8; 32])),
    Proposed {
        foreign: u64,
    },
    Changed,
    /// It was told that the space has gone on without it.
    GoneOn(u64),
    /// The voters cannot agree any more at an index.
    Disputed(u64),
    /// Others have proved that its log has lost something.
    Shortened(String),
    Note(&'static str, String),
    /// The process ends itself.
    Fatal(String),
}

/// A node's process.
pub(crate) struct Running {
    pub(crate) me: Me,
    pub(crate) boot: u64,
    pub(crate) disk: SimDisk,
    pub(crate) order: Order,
    pub(crate) config: Config,
    /// How often the space was recovered by hand, and whether that was once more and without it.
    pub(crate) generation: u64,
    pub(crate) gone_on: Option<u64>,
    /// Why its log is known to be short.
    pub(crate) shortened: Option<String>,
    /// All of a sole voter's log is committed: who reads what it has at its start waits for that.
    pub(crate) begins_at: u64,
    pub(crate) log: Log<SimDisk>,
    pub(crate) apply: Apply,
    pub(crate) inputs: VecDeque<OrderInput>,
    pub(crate) own: Proposals<u64>,
    /// As the apply thread has told it.
    pub(crate) membership: Membership,
    /// Role, term and leader, as told.
    pub(crate) leader: (Role, u64, Option<u64>),
    pub(crate) coordinator: Coordinator<u64, ()>,
    pub(crate) waiting: Waiting,
    /// The index at which it was removed, once it knows.
    pub(crate) removed: Option<u64>,
    /// Peers to whom there is no connection.
    pub(crate) unconnected: BTreeSet<Bytes>,
    /// The write that the order thread waits for.
    pub(crate) syncing: Option<u64>,
    /// Whether that write found the disk full.
    pub(crate) is_full: bool,
    /// The node's clocks, set by the world before each step.
    pub(crate) now: Time,
    pub(crate) wall: u64,
    /// How much of the past it keeps.
    pub(crate) retention: Retention,
    pub(crate) effects: Vec<Effect>,
    pub(crate) marking: Marking,
    /// Whether its state was made another than the log says, and is not right again.
    pub(crate) is_broken: bool,
    /// Whether it knew that before its last step.
    pub(crate) was_wrong: bool,
    /// The index at which that was so first, as far as this start of it knows.
    pub(crate) broken_at: u64,
}

/// Who and what waits for what, as `order_thread::Waiting`.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) reads: BTreeMap<u64, u64>,
    pub(crate) held: Vec<Held>,
    pub(crate) snapshot: Option<(SnapshotMeta, PathBuf)>,
    /// Snapshots that have arrived and may become this node's state.
    pub(crate) arrived: Arrived<PathBuf>,
    pub(crate) seen_membership: u64,
    /// Who says that this log has lost something.
    pub(crate) claims: Claims,
    /// How far the state had come when it was last looked at.
    pub(crate) seen_applied: u64,
    /// The last Raft index that was handed to *apply*.
    pub(crate) through: Position,
}

pub(crate) struct Held {
    pub(crate) to: u64,
    pub(crate) message: Bytes,
    pub(crate) urgent: bool,
    pub(crate) snapshot: Option<SnapshotMeta>,
}

impl Running {
    /// Tells the coordinator, and does what follows.
    pub(crate) fn tell(&mut self, input: group::Input<u64, ()>) {
        self.coordinate(input);
        while let Some(action) = self.coordinator.poll_action() {
            self.act(action);
        }
    }

    fn coordinate(&mut self, input: group::Input<u64, ()>) {
        let Self { now, wall, order, membership, own, coordinator, .. } = self;
        let mut scene = Scene { now: *now, wall: *wall, raft: order, membership, own };
        coordinator.handle(&mut scene, input);
    }

    fn act(&mut self, action: Action<u64, ()>) {
        match action {
            Action::Raft(input) => {
                if let order::Input::Propose { data, .. } = &input {
                    self.count_foreign(data);
                }
                self.order.handle(self.now, input);
            }
            Action::Send { peer, urgent, frame } => {
                if !self.send(&peer, urgent, &frame) {
                    self.coordinate(group::Input::NotSent(frame));
                }
            }
            Action::Ended(request, unseen) => {
                let ended = match unseen {
                    Unseen::Busy => Ended::NotProposed("busy"),
                    Unseen::TooLarge => Ended::NotProposed("too large"),
                    Unseen::NoQuorum => Ended::NotProposed("no quorum"),
                    Unseen::Removed => Ended::NotProposed("removed"),
                    Unseen::GoneOn(_) => Ended::NotProposed("gone on"),
                    Unseen::Unknown => Ended::Unknown,
                };
                self.effects.push(Effect::Ended(request, ended));
            }
            Action::Answer((), result) => {
                let told = result.err().unwrap_or_else(|| "done".to_owned());
                self.effects.push(Effect::Note("ask", told));
            }
            Action::Removed(at) => {
                self.removed = Some(at);
                self.effects.push(Effect::Note("told of its removal", at.to_string()));
            }
            Action::GoneOn(generation) => {
                self.gone_on = Some(generation);
                self.effects.push(Effect::GoneOn(generation));
            }
            Action::Refused(why) => self.effects.push(Effect::Note("refused", why.to_owned())),
        }
    }

    fn count_foreign(&mut self, data: &Bytes) {
        let batch = Batch::decode(data).expect("a batch that was just made");
        let foreign = batch.tags.iter().filter(|tag| tag.member != self.me.member);
        let foreign = foreign.map(|tag| u64::from(tag.count)).sum();
        self.effects.push(Effect::Proposed { foreign });
    }

    pub(crate) fn fatal(&mut self, why: String) {
        self.effects.push(Effect::Fatal(why));
    }

    pub(crate) fn send(&mut self, peer: &Bytes, urgent: bool, frame: &Frame) -> bool {
        if self.unconnected.contains(peer) {
            return false;
        }
        let bytes = frame.encode(&token(&KEY, self.generation, &self.me.peer, peer));
        self.effects.push(Effect::Send { peer: peer.clone(), bytes, urgent });
        true
    }

    /// Sends a member the snapshot that Raft offers it.
    pub(crate) fn offer(&mut self, to: u64, meta: &SnapshotMeta, message: Bytes) {
        let known = self.waiting.snapshot.as_ref().filter(|(known, _)| known == meta);
        let file = known.and_then(|(_, file)| self.disk.contents(file));
        let peer = self
            .coordinator
            .peer_of(&self.membership, to)
            .filter(|peer| !self.unconnected.contains(peer));
        match (file, peer) {
            (Some(file), Some(peer)) => {
                let frame = Frame::Raft(message).encode(&token(
                    &KEY,
                    self.generation,
                    &self.me.peer,
                    &peer,
                ));
                self.effects.push(Effect::Offer { peer, to, file, frame });
            }
            _ => self.inputs.push_back(OrderInput::SnapshotSent { to, ok: false }),
        }
    }
}
