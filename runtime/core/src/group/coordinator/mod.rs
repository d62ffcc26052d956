//! What a member of a space does beside Raft, as a machine that only decides: it brings proposals to
//! whoever leads, and as the leader makes batches of its own and the others'; it changes the members,
//! hands the leadership over, and passes on what only a leader can do. What a shell adds is threads, a
//! clock and a way to the others.
//!
//! # The driver's part
//!
//! 1. Tell it what happens by [`Coordinator::handle`]: frames, wishes, proposals, what Raft answers,
//!    that a member of the space has changed, and [`Input::Tick`] at each of Raft's timeouts.
//! 2. When all that has come was told: [`Input::Give`]. What came together goes into one batch.
//! 3. After each, do what [`Coordinator::poll_action`] says until there is nothing. A frame that is
//!    known not to arrive comes back by [`Input::NotSent`].
//!
//! A proposal that is seen applied is ended by whoever applies: see [`Proposals::end`].

mod arrived;
mod batching;
mod leading;
mod peers;
#[cfg(test)]
mod tests;

pub use arrived::{Arrived, MAX_ARRIVED};
pub use batching::MAX_FOREIGN_BYTES;

use super::{Ask, Dropped, Frame, Proposals, Steward};
use crate::apply::Membership;
use crate::order::{self, Members, Order, Progress, Role, Why};
use crate::time::Time;
use batching::{Batching, Seen, Share};
use bytes::Bytes;
use leading::{Asker, Changes, Transfer};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a proposal waits to be seen applied, where that needs other members.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who a node is in a space.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its Raft id.
    pub member: u64,
    /// Its id in the network.
    pub peer: Bytes,
    /// Tells this start of the node from others.
    pub boot: u64,
    /// How often the space was recovered by hand, as far as this node knows.
    pub generation: u64,
    /// Members whom it was told of when it joined, by Raft id, for as long as the log has not.
    pub contacts: BTreeMap<u64, Bytes>,
}

/// What Raft knows, as [`Order`] does.
pub trait Standing {
    /// This node's part.
    fn role(&self) -> Role;
    /// Whom it takes for the leader.
    fn leader(&self) -> Option<u64>;
    /// Raft's members.
    fn members(&self) -> &Members;
    /// The last index of the log.
    fn last(&self) -> u64;
    /// How far a leader has brought the others.
    fn progress(&self) -> Vec<Progress>;
}

impl Standing for Order {
    fn role(&self) -> Role {
        self.role()
    }

    fn leader(&self) -> Option<u64> {
        self.leader()
    }

    fn members(&self) -> &Members {
        self.members()
    }

    fn last(&self) -> u64 {
        self.last().index
    }

    fn progress(&self) -> Vec<Progress> {
        self.progress()
    }
}

/// What there is to decide on at one moment.
pub struct Scene<'a, T> {
    /// The time.
    pub now: Time,
    /// The time for people, in microseconds since 1970 (UTC): a leader writes it into each batch.
    pub wall: u64,
    /// What Raft knows.
    pub raft: &'a dyn Standing,
    /// The members, as of what has been applied.
    pub membership: &'a Membership,
    /// This node's own proposals.
    pub own: &'a mut Proposals<T>,
}

/// Something that happened. `T` waits for a proposal, `A` for an answer to a wish.
#[derive(Debug)]
pub enum Input<T, A> {
    /// A command is to be put into the log.
    Propose(Bytes, T),
    /// Something that only a leader can do is wanted.
    Ask(Ask, A),
    /// A frame came from a peer, as the transport has proved.
    Frame {
        /// The peer.
        peer: Bytes,
        /// The frame.
        frame: Frame,
        /// Whether a snapshot came with it, which is safe.
        with_snapshot: bool,
    },
    /// A frame is known not to arrive.
    NotSent(Frame),
    /// There is a connection to a peer: what was given to it before may have been lost.
    Found(Bytes),
    /// The connection to a peer has gone: what was on its way to it may be lost.
    Lost(Bytes),
    /// Raft has put what has this ticket into its log.
    Appended {
        /// The ticket.
        ticket: u64,
        /// The term.
        term: u64,
        /// Raft's index.
        index: u64,
    },
    /// Raft has not, and will not.
    Dropped(u64, Why),
    /// An entry of Raft's log is committed.
    Committed {
        /// Raft's index.
        index: u64,
        /// The term.
        term: u64,
    },
    /// This node's part, or its leader, has changed.
    Role {
        /// What it is now.
        role: Role,
        /// In which term.
        term: u64,
        /// Whom it takes for the leader.
        leader: Option<u64>,
    },
    /// What is known of the members has changed by a command that was applied.
    MembersApplied,
    /// Everything that has come was told: what waits goes to the leader.
    Give,
    /// Time has passed.
    Tick,
}

/// Something to be done, in the order given.
#[derive(Debug)]
pub enum Action<T, A> {
    /// Tell Raft.
    Raft(order::Input),
    /// Send a frame to a peer.
    Send {
        /// The peer.
        peer: Bytes,
        /// Whether it must not wait behind entries on their way.
        urgent: bool,
        /// What.
        frame: Frame,
    },
    /// A proposal ended without being seen applied.
    Ended(T, Unseen),
    /// A wish was granted, or why not.
    Answer(A, Result<(), String>),
    /// A frame was not listened to.
    Refused(&'static str),
    /// This node is a member no longer: it was removed at this index, or at one before.
    Removed(u64),
    /// The space has gone on without this node, to this generation.
    GoneOn(u64),
}

/// How a proposal ended that was not seen applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It is not in the log: too much was under way.
    Busy,
    /// It is not in the log: it is larger than an entry may be.
    TooLarge,
    /// It is not in the log: no leader could be given it in time.
    NoQuorum,
    /// It is not in the log: this node is a member no longer.
    Removed,
    /// It is not in the log: the space has gone on without this node, to this generation.
    GoneOn(u64),
    /// Nobody knows.
    Unknown,
}

/// The machine. Its driver's part stands at the top of its module.
#[derive(Debug)]
pub struct Coordinator<T, A> {
    me: Identity,
    batching: Batching,
    steward: Steward,
    changes: Changes<A>,
    transfer: Option<Transfer<A>>,
    /// When each member was last heard of.
    heard: BTreeMap<u64, Time>,
    /// By member: its wishes that have come.
    asks: BTreeMap<u64, Seen>,
    /// The index at which this node was removed, once it knows.
    removed: Option<u64>,
    /// The generation to which the space has gone on without this node, once it knows.
    gone_on: Option<u64>,
    /// When somebody was last told that it is no member.
    told_removed: Option<Time>,
    /// Wishes that the leader, another member, was asked for, by number.
    asked: BTreeMap<u64, (A, Time)>,
    last_number: u64,
    last_ticket: u64,
    /// Role, term and leader as last told.
    told: (Role, u64, Option<u64>),
    actions: VecDeque<Action<T, A>>,
}

impl<T, A> Coordinator<T, A> {
    /// Of a node that has just started; other members' proposals of so many bytes may wait here, see
    /// [`MAX_FOREIGN_BYTES`].
    pub fn new(me: Identity, max_foreign_bytes: usize) -> Self {
        Self {
            me,
            batching: Batching::new(max_foreign_bytes),
            steward: Steward::default(),
            changes: Changes::default(),
            transfer: None,
            heard: BTreeMap::new(),
            asks: BTreeMap::new(),
            removed: None,
            gone_on: None,
            told_removed: None,
            asked: BTreeMap::new(),
            last_number: 0,
            last_ticket: 0,
            told: (Role::Follower, 0, None),
            actions: VecDeque::new(),
        }
    }

    /// Who this node is.
    pub fn me(&self) -> &Identity {
        &self.me
    }

    /// Whether others have told this node that it is a member no longer, or that the space has gone on.
    pub fn is_told_out(&self) -> bool {
        self.is_out().is_some()
    }

    /// The space was recovered by hand, on this node.
    pub fn recovered(&mut self, generation: u64) {
        self.me.generation = generation;
    }

    /// A ticket for Raft that nothing else has.
    pub fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Takes in what happened. What is to be done follows from [`Coordinator::poll_action`].
    pub fn handle(&mut self, scene: &mut Scene<'_, T>, input: Input<T, A>) {
        match input {
            Input::Propose(command, who) => {
                if let Some(why) = self.is_out() {
                    return self.actions.push_back(Action::Ended(who, why));
                }
                let is_alone = scene.raft.members().is_sole_voter(self.me.member);
                scene.own.push(command, who, (!is_alone).then(|| scene.now + PATIENCE));
            }
            Input::Ask(ask, who) => self.ask(scene, ask, Asker::Here(who)),
            Input::Frame { peer, frame, with_snapshot } => {
                self.receive(scene, peer, frame, with_snapshot);
            }
            Input::NotSent(frame) => self.not_sent(scene, frame),
            Input::Found(peer) => {
                // A learner that was removed says nothing by which it could be told.
                self.tell_removed(scene, &peer);
                let is_leader = |(id, _)| scene.raft.leader() == Some(id);
                if scene.membership.of_peer(&peer).is_some_and(is_leader) {
                    scene.own.give_all_again();
                }
            }
            Input::Lost(peer) => {
                let members = scene.membership.members().iter();
                for (&to, _) in members.filter(|(_, member)| member.peer == peer) {
                    self.actions.push_back(Action::Raft(order::Input::Unreachable { to }));
                }
            }
            Input::Appended { ticket, term, index } => {
                self.batching.taken(ticket);
                self.changes.appended(ticket, term, index);
            }
            Input::Dropped(ticket, why) => self.dropped(scene, ticket, &why),
            Input::Committed { index, term } => {
                for (asker, result) in self.changes.committed(index, term) {
                    self.answer(asker, result);
                }
            }
            Input::Role { role, term, leader } => self.led_by(scene, role, term, leader),
            Input::MembersApplied => {
                self.batching.forget_all_but(scene.membership);
                self.asks.retain(|member, _| scene.membership.members().contains_key(member));
                // A log that this node has recovered may say on the way there that it was removed.
                let is_of_now = scene.membership.generation() >= self.me.generation;
                if let Some(at) = scene.membership.removed_at(self.me.member).filter(|_| is_of_now)
                {
                    self.is_removed(scene, at);
                }
                self.look_after_members(scene);
            }
            Input::Give => self.give(scene),
            Input::Tick => {
                self.give_up(scene);
                self.look_after_members(scene);
                self.give(scene);
            }
        }
    }

    /// What is to be done next, if anything.
    pub fn poll_action(&mut self) -> Option<Action<T, A>> {
        self.actions.pop_front()
    }

    fn receive(&mut self, scene: &mut Scene<'_, T>, peer: Bytes, frame: Frame, snapshot: bool) {
        let frame = match frame {
            Frame::Raft(message) => return self.receive_raft(scene, &peer, message, snapshot),
            // Somebody who has the space's key says so.
            Frame::Recovered { generation } => return self.goes_on(scene, generation),
            frame => frame,
        };
        let known = scene.membership.of_peer(&peer).map(|(member, _)| member);
        // Who has told it of the space may tell it that it is over.
        let is_contact = || self.me.contacts.values().any(|contact| *contact == peer);
        let may_tell = matches!(frame, Frame::Removed { .. }) && is_contact();
        let Some(member) = known.or(may_tell.then_some(0)) else {
            return self.actions.push_back(Action::Refused("its sender is no member"));
        };
        match frame {
            Frame::Propose { boot, giving, first, commands } => {
                self.take_foreign(scene, member, boot, super::Run { giving, first, commands });
            }
            Frame::Dropped { boot, giving, first, count, why } if boot == self.me.boot => {
                self.take_back(scene, Share { member, boot, giving, first, count }, why);
            }
            Frame::Ask { boot, number, ask } => {
                if self.asks.entry(member).or_default().is_new(boot, number) {
                    self.ask(scene, ask, Asker::There { peer, boot, number });
                }
            }
            Frame::Answer { boot, number, why } if boot == self.me.boot => {
                if let Some((who, _)) = self.asked.remove(&number) {
                    self.actions.push_back(Action::Answer(who, why.map_or(Ok(()), Err)));
                }
            }
            Frame::Removed { member, at } if member == self.me.member => self.is_removed(scene, at),
            // Of an earlier start of this node, or of an earlier membership.
            Frame::Dropped { .. }
            | Frame::Answer { .. }
            | Frame::Removed { .. }
            | Frame::Recovered { .. }
            | Frame::Raft(_) => {}
            // The shell's, which has the keys.
            Frame::Mark { .. } | Frame::WantState { .. } | Frame::State => {}
        }
    }

    fn receive_raft(
        &mut self,
        scene: &Scene<'_, T>,
        peer: &Bytes,
        message: Bytes,
        with_snapshot: bool,
    ) {
        let from = match order::peek(&message) {
            // A snapshot's message is taken with its snapshot, and not without.
            Ok((from, is_snapshot)) if is_snapshot == with_snapshot => from,
            Ok(_) => return self.actions.push_back(Action::Refused("a snapshot without its file")),
            Err(_) => return self.actions.push_back(Action::Refused("no message of Raft")),
        };
        if !self.may_be(scene.membership, from, peer) {
            self.tell_removed(scene, peer);
            let why = "its sender is not the member that it says it is";
            return self.actions.push_back(Action::Refused(why));
        }
        self.heard.insert(from, scene.now);
        self.actions.push_back(Action::Raft(order::Input::Message { from, bytes: message }));
    }

    fn not_sent(&mut self, scene: &mut Scene<'_, T>, frame: Frame) {
        match frame {
            // Given again when somebody else leads, or after a while.
            Frame::Propose { giving, first, commands, .. } => {
                scene.own.not_taken(giving, first, batching::count(&commands));
            }
            Frame::Ask { number, .. } => {
                if let Some((who, _)) = self.asked.remove(&number) {
                    let why = "the leader cannot be reached".to_owned();
                    self.actions.push_back(Action::Answer(who, Err(why)));
                }
            }
            Frame::Raft(_)
            | Frame::Dropped { .. }
            | Frame::Answer { .. }
            | Frame::Removed { .. }
            | Frame::Recovered { .. }
            | Frame::Mark { .. }
            | Frame::WantState { .. }
            | Frame::State => {}
        }
    }

    /// This node's part, or its leader, has changed.
    fn led_by(&mut self, scene: &mut Scene<'_, T>, role: Role, term: u64, leader: Option<u64>) {
        let before = std::mem::replace(&mut self.told, (role, term, leader));
        if leader.is_some() && (before.1, before.2) != (term, leader) {
            scene.own.give_all_again();
        }
        self.transferred(leader);
        if role != Role::Leader {
            self.step_down();
        } else if before.0 != role {
            // Who is silent is so from here on.
            let all = scene.membership.members().keys();
            self.heard = all.map(|&id| (id, scene.now)).collect();
        }
    }

    /// Raft has not put into its log what was to go there.
    fn dropped(&mut self, scene: &mut Scene<'_, T>, ticket: u64, why: &Why) {
        if let Some(asker) = self.changes.dropped(ticket) {
            return self.answer(asker, Err(why.to_string()));
        }
        let why = match why {
            Why::TooLarge | Why::Empty => Dropped::TooLarge,
            Why::NotLeader { .. } | Why::Transferring => Dropped::NotLeader,
            Why::Busy | Why::Members(_) => Dropped::Busy,
        };
        for share in self.batching.taken(ticket) {
            self.give_back(scene, share, why);
        }
    }
}
