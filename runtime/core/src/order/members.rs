//! Who takes part in a group, how that changes, and the bytes of both.
//!
//! A change is an entry of the log like any other and takes effect where it commits. One change at
//! a time moves at most one voter; several at once go through a joint configuration (Raft thesis
//! §4.3), in which both the old and the new voters must agree and which Raft leaves by itself.

use super::{Entry, EntryKind};
use crate::cbor::{Error, Reader, Writer};
use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use std::collections::BTreeSet;
use std::fmt;

/// Voters a group may have: beyond seven, each further one costs more than it adds.
pub const MAX_VOTERS: usize = 7;
/// Learners a group may have. Who only follows along observes instead, in any number.
pub const MAX_LEARNERS: usize = 64;
/// Single changes that one entry may make.
pub const MAX_CHANGES: usize = MAX_VOTERS + MAX_LEARNERS;

/// The members of a group at some point of its log, by Raft id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who votes. While a joint configuration lasts: who will.
    pub voters: BTreeSet<u64>,
    /// Who receives the log and does not vote.
    pub learners: BTreeSet<u64>,
    /// Who voted before and must still agree; empty unless the configuration is joint.
    pub outgoing: BTreeSet<u64>,
    /// Outgoing voters that become learners when the joint configuration ends.
    pub learners_next: BTreeSet<u64>,
    /// Whether Raft ends the joint configuration by itself.
    pub auto_leave: bool,
}

/// What is wrong with a set of members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// No voters.
    #[error("a group needs a voter")]
    NoVoters,
    /// Id 0 is nobody's.
    #[error("0 is not the id of a member")]
    ZeroId,
    /// More than [`MAX_VOTERS`] voters or [`MAX_LEARNERS`] learners.
    #[error("more than {MAX_VOTERS} voters or {MAX_LEARNERS} learners")]
    TooMany,
    /// A member in two roles at once, or a joint part outside a joint configuration.
    #[error("the roles of the members contradict each other")]
    Contradiction,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It votes from here on.
    Voter(u64),
    /// It receives the log and does not vote.
    Learner(u64),
    /// It takes no part any more.
    Remove(u64),
    /// It is the only member from here on, whoever else there was: nobody else is asked. No leader
    /// proposes this; [`Entry::recovery`] is how it gets into a log.
    Only(u64),
}

impl Members {
    /// A group of these voters and nobody else.
    pub fn of_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Whether `id` takes part in any role.
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id) || self.learners.contains(&id)
    }

    /// Whether `id` has a vote.
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether two sets of voters must agree at the moment.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` is all there is.
    pub fn is_alone(&self, id: u64) -> bool {
        self.is_sole_voter(id) && self.learners.is_empty()
    }

    /// Whether `id` decides by itself, in both halves of a joint configuration.
    pub fn is_sole_voter(&self, id: u64) -> bool {
        self.is_voter(id) && self.voters.iter().chain(&self.outgoing).all(|&voter| voter == id)
    }

    /// The members after an entry of kind [`super::EntryKind::ConfChange`] with this data has been
    /// committed, for whoever goes through a log without Raft: as Raft itself applies it.
    #[must_use]
    pub fn after_change(&self, data: &Bytes) -> Self {
        match ChangeSet::decode(data) {
            Ok(set) => self.after(&set.changes),
            Err(_) => self.clone(),
        }
    }

    fn after(&self, changes: &[Change]) -> Self {
        if let [Change::Only(id)] = *changes {
            let only = Self::of_voters([id]);
            return if only.check().is_ok() { only } else { self.clone() };
        }
        let mut next = self.clone();
        if changes.is_empty() {
            // The end of a joint configuration.
            next.outgoing.clear();
            next.learners.append(&mut next.learners_next);
            next.auto_leave = false;
        } else {
            if changes.len() > 1 {
                next.outgoing.clone_from(&self.voters);
                next.auto_leave = true;
            }
            changes.iter().for_each(|change| next.make(*change));
        }
        // One that cannot be made leaves all as it was.
        let is_possible = changes.is_empty() == self.is_joint() && next.check().is_ok();
        if is_possible { next } else { self.clone() }
    }

    fn make(&mut self, change: Change) {
        let id = change.id();
        for set in [&mut self.voters, &mut self.learners, &mut self.learners_next] {
            set.remove(&id);
        }
        match change {
            Change::Voter(_) => self.voters.insert(id),
            // Who still votes in the outgoing half becomes a learner when that ends.
            Change::Learner(_) if self.outgoing.contains(&id) => self.learners_next.insert(id),
            Change::Learner(_) => self.learners.insert(id),
            // Alone in its entry, or read as nothing.
            Change::Remove(_) | Change::Only(_) => false,
        };
    }

    /// The changes, one voter at a time, that lead from these members, no joint ones, to `id` alone.
    pub(super) fn to_only(&self, id: u64) -> Vec<Change> {
        let others = self.voters.iter().chain(&self.learners).filter(|&&other| other != id);
        let vote = (!self.voters.contains(&id)).then_some(Change::Voter(id));
        vote.into_iter().chain(others.map(|&other| Change::Remove(other))).collect()
    }

    /// Checks what Raft takes for granted.
    pub fn check(&self) -> Result<(), MembersError> {
        let sets = [&self.voters, &self.learners, &self.outgoing, &self.learners_next];
        if self.voters.is_empty() {
            return Err(MembersError::NoVoters);
        }
        if sets.iter().any(|set| set.contains(&0)) {
            return Err(MembersError::ZeroId);
        }
        let most = [MAX_VOTERS, MAX_LEARNERS, MAX_VOTERS, MAX_VOTERS];
        if sets.iter().zip(most).any(|(set, most)| set.len() > most) {
            return Err(MembersError::TooMany);
        }
        let consistent = self.voters.is_disjoint(&self.learners)
            && self.outgoing.is_disjoint(&self.learners)
            && self.learners_next.is_disjoint(&self.voters)
            && self.learners_next.is_subset(&self.outgoing)
            && (self.is_joint() || !self.auto_leave);
        if consistent { Ok(()) } else { Err(MembersError::Contradiction) }
    }

    /// Appends one item: `[voters, learners, outgoing, learners_next, auto_leave]`, the sets as
    /// ascending arrays of ids.
    pub fn encode_into(&self, w: &mut Writer) {
        w.array(5);
        for set in [&self.voters, &self.learners, &self.outgoing, &self.learners_next] {
            w.array(set.len());
            for &id in set {
                w.uint(id);
            }
        }
        w.bool(self.auto_leave);
    }

    /// Reads what [`Members::encode_into`] wrote, and only what passes [`Members::check`].
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, Error> {
        let start = r.clone();
        r.array_of(5)?;
        let members = Self {
            voters: ids(r, MAX_VOTERS)?,
            learners: ids(r, MAX_LEARNERS)?,
            outgoing: ids(r, MAX_VOTERS)?,
            learners_next: ids(r, MAX_VOTERS)?,
            auto_leave: r.bool()?,
        };
        members.check().map_err(|_| start.invalid("not the members of a group"))?;
        Ok(members)
    }

    pub(super) fn to_raft(&self) -> ConfState {
        let mut state = ConfState::default();
        state.set_voters(self.voters.iter().copied().collect());
        state.set_learners(self.learners.iter().copied().collect());
        state.set_voters_outgoing(self.outgoing.iter().copied().collect());
        state.set_learners_next(self.learners_next.iter().copied().collect());
        state.auto_leave = self.auto_leave;
        state
    }

    pub(super) fn from_raft(state: &ConfState) -> Self {
        Self {
            voters: state.voters.iter().copied().collect(),
            learners: state.learners.iter().copied().collect(),
            outgoing: state.voters_outgoing.iter().copied().collect(),
            learners_next: state.learners_next.iter().copied().collect(),
            auto_leave: state.auto_leave,
        }
    }
}

/// `voters 1 2 3`, and so on for each role that somebody has.
impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = [
            ("voters", &self.voters),
            ("outgoing", &self.outgoing),
            ("learners", &self.learners),
            ("learners next", &self.learners_next),
        ];
        let mut between = "";
        for (name, set) in sets.into_iter().filter(|(_, set)| !set.is_empty()) {
            write!(f, "{between}{name}")?;
            set.iter().try_for_each(|id| write!(f, " {id}"))?;
            between = ", ";
        }
        Ok(())
    }
}

impl Change {
    /// Whom it is about.
    pub fn id(self) -> u64 {
        match self {
            Self::Voter(id) | Self::Learner(id) | Self::Remove(id) | Self::Only(id) => id,
        }
    }
}

/// What the data of an entry of kind [`super::EntryKind::ConfChange`] says. Empty data is the
/// entry by which Raft leaves a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangeSet {
    pub(super) changes: Vec<Change>,
    pub(super) context: Bytes,
}

impl ChangeSet {
    /// `[[change, …], context]`, a change being `[0 voter | 1 learner | 2 remove | 3 only, id]`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(2).array(self.changes.len());
        for change in &self.changes {
            let kind = match change {
                Change::Voter(_) => 0,
                Change::Learner(_) => 1,
                Change::Remove(_) => 2,
                Change::Only(_) => 3,
            };
            w.array(2).uint(kind).uint(change.id());
        }
        w.bytes(&self.context);
        w.into_vec()
    }

    pub(super) fn decode(data: &Bytes) -> Result<Self, Error> {
        if data.is_empty() {
            return Ok(Self::default());
        }
        let mut r = Reader::new(data);
        r.array_of(2)?;
        let len = r.array()?;
        if len == 0 || len > MAX_CHANGES {
            return Err(r.invalid("no changes, or too many"));
        }
        let mut changes = Vec::with_capacity(len);
        for _ in 0..len {
            r.array_of(2)?;
            let (kind, id) = (r.uint()?, r.uint()?);
            changes.push(match kind {
                _ if id == 0 => return Err(r.invalid("0 is not the id of a member")),
                0 => Change::Voter(id),
                1 => Change::Learner(id),
                2 => Change::Remove(id),
                3 if len == 1 => Change::Only(id),
                _ => return Err(r.invalid("an unknown kind of change")),
            });
        }
        let context = data.slice_ref(r.bytes()?);
        r.end()?;
        Ok(Self { changes, context })
    }

    pub(super) fn to_raft(&self) -> ConfChangeV2 {
        let single = |change: &Change| {
            let change_type = match change {
                Change::Voter(_) => ConfChangeType::AddNode,
                Change::Learner(_) => ConfChangeType::AddLearnerNode,
                Change::Remove(_) => ConfChangeType::RemoveNode,
                Change::Only(_) => ConfChangeType::AddNode,
            };
            ConfChangeSingle { change_type, node_id: change.id(), ..ConfChangeSingle::default() }
        };
        let mut change = ConfChangeV2::default();
        change.set_changes(self.changes.iter().map(single).collect::<Vec<_>>().into());
        change
    }
}

impl Entry {
    /// The entry by which a group that has lost a majority of its voters for good goes on with one of
    /// them. Who recovers appends it to what it has, in a term that it alone was elected in, and starts
    /// again: it is committed because it is there. `context` comes back with the commit.
    pub fn recovery(term: u64, index: u64, voter: u64, context: Bytes) -> Self {
        let set = ChangeSet { changes: vec![Change::Only(voter)], context };
        Self { term, index, kind: EntryKind::ConfChange, data: set.encode().into() }
    }

    /// The only voter from this entry on, if it is one of [`Entry::recovery`].
    pub fn recovers(kind: EntryKind, data: &Bytes) -> Option<u64> {
        match (kind, ChangeSet::decode(data).ok()?.changes.as_slice()) {
            (EntryKind::ConfChange, [Change::Only(id)]) => Some(*id),
            _ => None,
        }
    }

    /// The batch of commands in an entry's data: the data itself, or what came with a change of
    /// members. Empty if it holds none.
    pub fn batch(kind: EntryKind, data: &Bytes) -> Bytes {
        match kind {
            EntryKind::Normal => data.clone(),
            EntryKind::ConfChange => {
                ChangeSet::decode(data).map(|set| set.context).unwrap_or_default()
            }
        }
    }

    /// The changes that an entry of kind [`super::EntryKind::ConfChange`] makes, for whoever shows
    /// a log to people; none if it only ends a joint configuration.
    pub fn changes(&self) -> Result<Vec<Change>, Error> {
        Ok(ChangeSet::decode(&self.data)?.changes)
    }
}

fn ids(r: &mut Reader<'_>, most: usize) -> Result<BTreeSet<u64>, Error> {
    let len = r.array()?;
    if len > most {
        return Err(r.invalid("too many members"));
    }
    let mut ids = BTreeSet::new();
    for _ in 0..len {
        let id = r.uint()?;
        if ids.last().is_some_and(|&last| last >= id) {
            return Err(r.invalid("ids that do not ascend"));
        }
        ids.insert(id);
    }
    Ok(ids)
}
