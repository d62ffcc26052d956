//! Who shall vote: what the leader of a space does about its members without being asked, and what
//! becomes of people's wishes.
//!
//! - Who was admitted becomes a learner. An earlier joining of the same node is removed with that: the
//!   node has lost the disk of the one before.
//! - While there are fewer voters than [`TARGET_VOTERS`], learners that have kept up for
//!   [`STEADY`] become voters, two at a time if that makes their number odd: a group of two is no
//!   safer than one of one, and stops as soon as either does.
//! - Nobody is demoted or removed by a timer.

use crate::apply::{Membership, Part};
use crate::command::Configure;
use crate::order::{Change, MAX_VOTERS, Members, Progress};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Voters that a space has, if it has members enough.
pub const TARGET_VOTERS: usize = 3;
/// How long a learner has kept up before it is made a voter that leaves the voters even in number.
pub const STEADY: Duration = Duration::from_secs(10);
/// How long if it makes them odd: the group is the safer for it at once.
const STEADY_WHEN_ODD: Duration = Duration::from_secs(1);
/// Entries that a learner may lack and still be said to keep up.
const KEPT_UP: u64 = 1_000;

/// A change of Raft's members, and what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For Raft. None if only people's wishes are about somebody whom Raft does not know.
    pub changes: Vec<Change>,
    /// For the state of the space.
    pub configure: Configure,
}

/// What somebody wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Let this member vote.
    Promote(u64),
    /// Let this member be one no longer.
    Remove(u64),
}

/// Why a wish is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// There is no such member.
    #[error("{0} is the id of no member: `synod space members` lists them")]
    NoMember(u64),
    /// It votes already.
    #[error("{0} votes already")]
    Votes(u64),
    /// There are voters enough.
    #[error("there are {MAX_VOTERS} voters, and no more are allowed: remove one first")]
    TooMany,
    /// It does not receive the log yet.
    #[error("{0} does not receive the log yet: try again when it does")]
    NotYet(u64),
    /// It is behind.
    #[error("{id} lacks {lag} entries of the log: try again when it has caught up")]
    Behind {
        /// The member.
        id: u64,
        /// Entries that it lacks.
        lag: u64,
    },
    /// Nobody would be left.
    #[error("{0} is the only voter: nobody would be left to decide anything")]
    Last(u64),
    /// One change at a time.
    #[error("another change of the members is under way: try again in a moment")]
    UnderWay,
}

/// What a leader knows of its members over time.
#[derive(Clone, Debug, Default)]
pub struct Steward {
    /// Since when each learner has kept up.
    steady: BTreeMap<u64, Time>,
}

/// What there is to decide on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The members as the state of the space has them.
    pub membership: &'a Membership,
    /// Raft's members.
    pub members: &'a Members,
    /// How far the leader has brought the others.
    pub progress: &'a [Progress],
    /// The end of the leader's log.
    pub last: u64,
}

impl Steward {
    /// Forgets what it saw: this node leads anew, or no longer.
    pub fn forget(&mut self) {
        self.steady.clear();
    }

    /// What is to be changed now without being asked.
    pub fn plan(&mut self, now: Time, view: View<'_>) -> Option<Plan> {
        let View { membership, members, .. } = view;
        if members.is_joint() {
            return None;
        }
        self.watch(now, view);
        // The state lags behind Raft, or Raft's change is not in the state yet: wait for both.
        let known = membership.members();
        let in_raft = |id: &u64| members.contains(*id);
        // Whom a leader took in whose state had not come to where that one was removed.
        let is_removed = |id: &&u64| membership.removed_at(**id).is_some();
        let all = members.voters.iter().chain(&members.learners);
        let removed: Vec<u64> = all.filter(is_removed).copied().collect();
        if !removed.is_empty() && !members.voters.iter().all(|id| removed.contains(id)) {
            return Some(change(members, &removed, &[], &[]));
        }
        if members.voters.iter().chain(&members.learners).any(|id| !known.contains_key(id)) {
            return None;
        }
        let new = known.iter().filter(|(id, m)| m.part == Part::Admitted && !in_raft(id));
        if let Some((&id, member)) = new.last() {
            let is_older =
                |(other, m): &(&u64, &crate::apply::Member)| m.peer == member.peer && **other < id;
            let older: Vec<u64> = known.iter().filter(is_older).map(|(&id, _)| id).collect();
            return Some(change(members, &older, &[id], &[]));
        }
        let lack = TARGET_VOTERS.saturating_sub(members.voters.len());
        if lack == 0 {
            return None;
        }
        let since = |id: &u64| self.steady.get(id).map(|since| now.since(*since));
        let ready = |least: Duration| -> Vec<u64> {
            let long = |id: &&u64| since(id).is_some_and(|steady| steady >= least);
            members.learners.iter().filter(long).copied().collect()
        };
        let odd: Vec<u64> = ready(STEADY_WHEN_ODD);
        // As many as fit, an odd number of voters in all.
        let count = odd.len().min(lack);
        let count = count.saturating_sub((members.voters.len() + count + 1) % 2);
        if count > 0 {
            return Some(change(members, &[], &[], odd.get(..count)?));
        }
        let steady = ready(STEADY);
        steady.first().map(|&id| change(members, &[], &[], &[id]))
    }

    /// How a wish is granted.
    pub fn grant(&self, wish: Wish, view: View<'_>) -> Result<Plan, WishError> {
        let View { membership, members, progress, last } = view;
        if members.is_joint() {
            return Err(WishError::UnderWay);
        }
        match wish {
            Wish::Promote(id) | Wish::Remove(id) if !membership.members().contains_key(&id) => {
                Err(WishError::NoMember(id))
            }
            Wish::Promote(id) if members.voters.contains(&id) => Err(WishError::Votes(id)),
            Wish::Promote(_) if members.voters.len() >= MAX_VOTERS => Err(WishError::TooMany),
            Wish::Promote(id) => {
                // Who has taken nothing yet may be somebody who never came, and would be waited for.
                let Some(progress) = progress.iter().find(|p| p.id == id && p.matched > 0) else {
                    return Err(WishError::NotYet(id));
                };
                let lag = last.saturating_sub(progress.matched);
                if lag > KEPT_UP {
                    return Err(WishError::Behind { id, lag });
                }
                Ok(change(members, &[], &[], &[id]))
            }
            Wish::Remove(id) if members.is_sole_voter(id) => Err(WishError::Last(id)),
            Wish::Remove(id) => Ok(change(members, &[id], &[], &[])),
        }
    }

    fn watch(&mut self, now: Time, view: View<'_>) {
        let View { members, progress, last, .. } = view;
        let keeps_up = |id: &u64| {
            let progress = progress.iter().find(|p| p.id == *id);
            // Who has taken nothing yet may be somebody who never came.
            progress.is_some_and(|p| p.active && p.matched > 0 && p.matched + KEPT_UP >= last)
        };
        let keep: BTreeSet<u64> = members.learners.iter().copied().filter(keeps_up).collect();
        self.steady.retain(|id, _| keep.contains(id));
        for id in keep {
            self.steady.entry(id).or_insert(now);
        }
    }
}

fn change(members: &Members, removed: &[u64], learners: &[u64], voters: &[u64]) -> Plan {
    let mut changes = Vec::new();
    let mut configure = Configure {
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        removed: removed.iter().copied().collect(),
    };
    for &id in removed {
        if members.contains(id) {
            changes.push(Change::Remove(id));
        }
        configure.voters.remove(&id);
        configure.learners.remove(&id);
    }
    for &id in learners {
        changes.push(Change::Learner(id));
        configure.learners.insert(id);
    }
    for &id in voters {
        changes.push(Change::Voter(id));
        configure.learners.remove(&id);
        configure.voters.insert(id);
    }
    Plan { changes, configure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::State;
    use crate::command::{Admit, Command, IssueTicket};
    use bytes::Bytes;

    /// A space of these nodes, each `(node, nonce)`, the first of which founded it.
    fn space(nodes: &[(&str, u8)]) -> State {
        let mut state = State::new([1; 32]);
        let mut apply = |command: Command| drop(state.apply(0, &command.encode()));
        for (n, (node, nonce)) in nodes.iter().enumerate() {
            let ticket = (n > 0).then_some([5; 32]);
            let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), (*node).to_owned());
            apply(Command::Admit(Admit { peer, node, nonce: [*nonce; 16], ticket, after: 0 }));
            apply(Command::IssueTicket(IssueTicket { hash: [5; 32], until: 9, uses: 99 }));
        }
        state
    }

    fn members(voters: &[u64], learners: &[u64]) -> Members {
        let learners = learners.iter().copied().collect();
        Members { learners, ..Members::of_voters(voters.iter().copied()) }
    }

    fn progress(matched: &[(u64, u64)]) -> Vec<Progress> {
        let progress = |&(id, matched): &(u64, u64)| Progress { id, matched, active: true };
        matched.iter().map(progress).collect()
    }

    fn plan(
        steward: &mut Steward,
        millis: u64,
        state: &State,
        members: &Members,
        reached: &[(u64, u64)],
    ) -> Option<Vec<Change>> {
        let progress = progress(reached);
        let (membership, progress) = (state.membership(), &progress[..]);
        let view = View { membership, members, progress, last: 5_000 };
        steward.plan(Time::from_millis(millis), view).map(|plan| plan.changes)
    }

    #[test]
    fn who_is_admitted_becomes_a_learner_and_takes_the_place_of_its_lost_self() {
        let mut steward = Steward::default();
        let state = space(&[("a", 0), ("b", 0)]);
        let got = plan(&mut steward, 0, &state, &members(&[1], &[]), &[]);
        assert_eq!(got, Some(vec![Change::Learner(2)]));
        assert_eq!(plan(&mut steward, 0, &state, &members(&[1], &[2]), &[]), None);
        let state = space(&[("a", 0), ("b", 0), ("b", 1)]);
        let got = plan(&mut steward, 0, &state, &members(&[1], &[2]), &[]);
        assert_eq!(got, Some(vec![Change::Remove(2), Change::Learner(3)]));
    }

    #[test]
    fn who_was_taken_in_by_a_leader_that_had_not_heard_of_its_removal_goes() {
        let mut steward = Steward::default();
        let mut state = space(&[("a", 0), ("b", 0), ("c", 0)]);
        // The state has not come to where 4 was admitted.
        assert_eq!(plan(&mut steward, 0, &state, &members(&[1], &[2, 4]), &[]), None);
        let configure = Configure { removed: [2].into(), ..Configure::default() };
        state.apply(0, &Command::Configure(configure).encode());
        let got = plan(&mut steward, 0, &state, &members(&[1], &[2]), &[]);
        assert_eq!(got, Some(vec![Change::Remove(2)]));
        let got = plan(&mut steward, 0, &state, &members(&[1], &[]), &[]);
        assert_eq!(got, Some(vec![Change::Learner(3)]), "and others are taken in again");
        // Whoever is removed itself removes nobody.
        let configure = Configure { removed: [1].into(), ..Configure::default() };
        state.apply(0, &Command::Configure(configure).encode());
        assert_eq!(plan(&mut steward, 0, &state, &members(&[1], &[]), &[]), None);
    }

    #[test]
    fn two_learners_that_keep_up_vote_soon_and_one_alone_later() {
        let state = {
            let mut state = space(&[("a", 0), ("b", 0), ("c", 0)]);
            let configure = Configure { learners: [2, 3].into(), ..Configure::default() };
            state.apply(0, &Command::Configure(configure).encode());
            state
        };
        let raft = members(&[1], &[2, 3]);
        let mut steward = Steward::default();
        let both = [(2, 5_000), (3, 4_000)];
        assert_eq!(plan(&mut steward, 0, &state, &raft, &both), None);
        assert_eq!(plan(&mut steward, 999, &state, &raft, &both), None);
        let got = plan(&mut steward, 1_000, &state, &raft, &both);
        assert_eq!(got, Some(vec![Change::Voter(2), Change::Voter(3)]));
        // One of them falls behind, and comes back.
        let one = [(2, 5_000), (3, 3_999)];
        assert_eq!(plan(&mut steward, 1_001, &state, &raft, &one), None);
        assert_eq!(plan(&mut steward, 9_999, &state, &raft, &one), None);
        let got = plan(&mut steward, 10_000, &state, &raft, &one);
        assert_eq!(got, Some(vec![Change::Voter(2)]));
        // Two vote: one more makes three, at once.
        let raft = members(&[1, 2], &[3]);
        assert_eq!(plan(&mut steward, 10_001, &state, &raft, &both), None);
        let got = plan(&mut steward, 11_001, &state, &raft, &both);
        assert_eq!(got, Some(vec![Change::Voter(3)]));
        assert_eq!(plan(&mut steward, 99_000, &state, &members(&[1, 2, 3], &[]), &both), None);
    }

    #[test]
    fn who_was_admitted_and_never_came_does_not_vote() {
        let mut steward = Steward::default();
        let state = space(&[("a", 0), ("b", 0), ("c", 0)]);
        let raft = members(&[1], &[2, 3]);
        let (membership, members, progress) =
            (state.membership(), &raft, progress(&[(2, 0), (3, 0)]));
        for millis in [0, 2_000, 20_000] {
            let view = View { membership, members, progress: &progress, last: 5 };
            assert_eq!(steward.plan(Time::from_millis(millis), view), None);
        }
    }

    #[test]
    fn wishes_are_granted_or_it_is_said_why_not() {
        let steward = Steward::default();
        let state = space(&[("a", 0), ("b", 0), ("c", 0)]);
        let raft = members(&[1], &[2]);
        let progress = progress(&[(2, 3_000)]);
        let (membership, members, progress) = (state.membership(), &raft, &progress[..]);
        let grant = |wish, last| steward.grant(wish, View { membership, members, progress, last });
        assert_eq!(grant(Wish::Promote(9), 0), Err(WishError::NoMember(9)));
        assert_eq!(grant(Wish::Promote(1), 0), Err(WishError::Votes(1)));
        assert_eq!(grant(Wish::Promote(3), 0), Err(WishError::NotYet(3)));
        let never_came = View {
            membership,
            members,
            progress: &[Progress { id: 2, matched: 0, active: true }],
            last: 5,
        };
        assert_eq!(steward.grant(Wish::Promote(2), never_came), Err(WishError::NotYet(2)));
        assert_eq!(grant(Wish::Promote(2), 4_001), Err(WishError::Behind { id: 2, lag: 1_001 }));
        let plan = grant(Wish::Promote(2), 4_000).unwrap();
        assert_eq!(plan.changes, [Change::Voter(2)]);
        assert_eq!(plan.configure.voters, [1, 2].into());
        assert_eq!(grant(Wish::Remove(1), 0), Err(WishError::Last(1)));
        let plan = grant(Wish::Remove(3), 0).unwrap();
        assert_eq!((plan.changes, plan.configure.removed), (vec![], [3].into()));
        let plan = grant(Wish::Remove(2), 0).unwrap();
        assert_eq!((plan.changes, plan.configure.learners), (vec![Change::Remove(2)], [].into()));
    }
}
