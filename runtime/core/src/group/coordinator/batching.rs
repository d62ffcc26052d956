//! How what is proposed here, and what other members give to their leader, gets into the log.

use super::super::{Dropped, Frame, Run};
use super::{Action, Coordinator, Scene, Unseen};
use crate::apply::Membership;
use crate::command::{Batch, Tag};
use crate::order::{Input, Role};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Commands of one batch, at most.
const MAX_BATCH: usize = 4096;
/// Bytes of commands after which a batch is closed.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Bytes of what other members gave that wait here, at most, but for a single larger run.
pub const MAX_FOREIGN_BYTES: usize = 32 << 20;

/// Commands of a member, for a batch.
#[derive(Debug)]
struct Foreign {
    member: u64,
    boot: u64,
    run: Run,
}

/// Starts of one member that are told from one another.
const MAX_STARTS: usize = 4;

/// Which numbers of a member have come, so that a frame that comes twice is taken once: those of its last
/// few starts, each the highest, and whether each of the 64 up to it has come. One from before that is
/// taken for a copy, and loses nothing: what it gives is given again.
#[derive(Debug, Default)]
pub(super) struct Seen {
    starts: VecDeque<(u64, u64, u64)>,
}

impl Seen {
    /// Notes a number; false if it has come before, or may have.
    pub(super) fn is_new(&mut self, boot: u64, number: u64) -> bool {
        let place = self.starts.iter().position(|(known, ..)| *known == boot);
        let Some((_, highest, window)) = place.and_then(|place| self.starts.get_mut(place)) else {
            self.starts.push_back((boot, number, 1));
            if self.starts.len() > MAX_STARTS {
                self.starts.pop_front();
            }
            return true;
        };
        if number > *highest {
            let by = u32::try_from(number - *highest).unwrap_or(u32::MAX);
            *window = window.checked_shl(by).unwrap_or(0) | 1;
            *highest = number;
            return true;
        }
        let back = u32::try_from(*highest - number).unwrap_or(u32::MAX);
        let bit = 1u64.checked_shl(back).unwrap_or(0);
        let is_new = bit != 0 && *window & bit == 0;
        *window |= bit;
        is_new
    }
}

/// Which of a batch's commands are whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) member: u64,
    pub(super) boot: u64,
    pub(super) giving: u64,
    pub(super) first: u64,
    pub(super) count: u32,
}

/// What a leader makes batches of, and the batches that Raft has not put into its log yet.
#[derive(Debug)]
pub(super) struct Batching {
    max_foreign_bytes: usize,
    /// What the other members have given to this one, their leader.
    foreign: VecDeque<Foreign>,
    /// Bytes of them.
    foreign_bytes: usize,
    /// By ticket.
    proposed: BTreeMap<u64, Vec<Share>>,
    /// By member: its givings that have come.
    seen: BTreeMap<u64, Seen>,
}

impl Foreign {
    fn share(&self) -> Share {
        let Run { giving, first, ref commands } = self.run;
        Share { member: self.member, boot: self.boot, giving, first, count: count(commands) }
    }

    fn bytes(&self) -> usize {
        self.run.commands.iter().map(Bytes::len).sum()
    }

    fn add_to(self, batch: &mut Batch, shares: &mut Vec<Share>) {
        let share @ Share { member, boot, first, count, .. } = self.share();
        let place = u32::try_from(batch.commands.len()).unwrap_or(u32::MAX);
        batch.tags.push(Tag { place, count, member, boot, first });
        shares.push(share);
        batch.commands.extend(self.run.commands);
    }
}

impl Batching {
    pub(super) fn new(max_foreign_bytes: usize) -> Self {
        Self {
            max_foreign_bytes,
            foreign: VecDeque::new(),
            foreign_bytes: 0,
            proposed: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Forgets what has come from those who are members no longer.
    pub(super) fn forget_all_but(&mut self, membership: &Membership) {
        self.seen.retain(|member, _| membership.members().contains_key(member));
    }

    /// Raft has decided on a batch: whose commands it was made of.
    pub(super) fn taken(&mut self, ticket: u64) -> Vec<Share> {
        self.proposed.remove(&ticket).unwrap_or_default()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.foreign_bytes == 0 || self.foreign_bytes + bytes <= self.max_foreign_bytes
    }

    fn push(&mut self, foreign: Foreign) {
        self.foreign_bytes += foreign.bytes();
        self.foreign.push_back(foreign);
    }

    fn pop(&mut self) -> Option<Foreign> {
        let foreign = self.foreign.pop_front()?;
        self.foreign_bytes -= foreign.bytes();
        Some(foreign)
    }

    /// The next run of another member that fits a batch of so many commands with so many bytes left;
    /// an empty batch takes any.
    fn next(&mut self, commands: usize, left: usize) -> Option<Foreign> {
        let next = self.foreign.front()?;
        let fits = commands + next.run.commands.len() <= MAX_BATCH && next.bytes() <= left;
        if fits || commands == 0 { self.pop() } else { None }
    }
}

impl<T, A> Coordinator<T, A> {
    /// Another member gives commands to this one, which it takes for the leader.
    pub(super) fn take_foreign(
        &mut self,
        scene: &mut Scene<'_, T>,
        member: u64,
        boot: u64,
        run: Run,
    ) {
        if !self.batching.seen.entry(member).or_default().is_new(boot, run.giving) {
            // It was taken, or given back, when it came first: another answer could be another one.
            return;
        }
        let foreign = Foreign { member, boot, run };
        if scene.raft.role() != Role::Leader {
            self.give_back(scene, foreign.share(), Dropped::NotLeader);
        } else if !self.batching.has_room(foreign.bytes()) {
            self.give_back(scene, foreign.share(), Dropped::Busy);
        } else {
            self.batching.push(foreign);
        }
    }

    /// Gives what is proposed to whoever leads: puts it into the log, or sends it there.
    pub(super) fn give(&mut self, scene: &mut Scene<'_, T>) {
        if scene.raft.role() == Role::Leader {
            return self.give_to_log(scene);
        }
        while let Some(foreign) = self.batching.pop() {
            self.give_back(scene, foreign.share(), Dropped::NotLeader);
        }
        let Some(leader) = scene.raft.leader() else { return };
        let boot = self.me.boot;
        while let Some(run) = scene.own.give(scene.now, MAX_BATCH, MAX_BATCH_BYTES) {
            let Run { giving, first, commands } = run;
            let frame = Frame::Propose { boot, giving, first, commands };
            match self.peer_of(scene.membership, leader) {
                Some(peer) => self.actions.push_back(Action::Send { peer, urgent: false, frame }),
                None => self.not_sent(scene, frame),
            }
        }
    }

    fn give_to_log(&mut self, scene: &mut Scene<'_, T>) {
        let (member, boot) = (self.me.member, self.me.boot);
        loop {
            let mut batch = Batch { time: scene.wall, ..Batch::default() };
            let (mut shares, mut left) = (Vec::new(), MAX_BATCH_BYTES);
            while let Some(foreign) = self.batching.next(batch.commands.len(), left) {
                left = left.saturating_sub(foreign.bytes());
                foreign.add_to(&mut batch, &mut shares);
            }
            let room = MAX_BATCH - batch.commands.len();
            if room > 0
                && (left > 0 || batch.commands.is_empty())
                && let Some(run) = scene.own.give(scene.now, room, left)
            {
                Foreign { member, boot, run }.add_to(&mut batch, &mut shares);
            }
            if batch.commands.is_empty() {
                return;
            }
            // Who gave it waits at a follower for the word that it is committed.
            if shares.iter().any(|share| share.member != member) {
                self.actions.push_back(Action::Raft(Input::Hurry));
            }
            let ticket = self.ticket();
            self.batching.proposed.insert(ticket, shares);
            let data = batch.encode();
            self.actions.push_back(Action::Raft(Input::Propose { ticket, data }));
        }
    }

    /// Commands have not got into the log: tells whose they are.
    pub(super) fn give_back(&mut self, scene: &mut Scene<'_, T>, share: Share, why: Dropped) {
        let Share { member, boot, giving, first, count } = share;
        if member == self.me.member {
            return self.take_back(scene, share, why);
        }
        if let Some(peer) = self.peer_of(scene.membership, member) {
            let frame = Frame::Dropped { boot, giving, first, count, why };
            self.actions.push_back(Action::Send { peer, urgent: true, frame });
        }
    }

    /// Proposals of this node have not got into the log where they were given.
    pub(super) fn take_back(&mut self, scene: &mut Scene<'_, T>, share: Share, why: Dropped) {
        let Share { giving, first, count, .. } = share;
        let unseen = match why {
            Dropped::NotLeader => return scene.own.not_taken(giving, first, count),
            Dropped::Busy => Unseen::Busy,
            Dropped::TooLarge => Unseen::TooLarge,
        };
        let actions = &mut self.actions;
        let end = |who| actions.push_back(Action::Ended(who, unseen));
        scene.own.dropped(giving, first, count, end);
    }

    /// Ends what has waited too long, and gives again what may have been lost on the way.
    pub(super) fn give_up(&mut self, scene: &mut Scene<'_, T>) {
        if scene.own.is_empty() {
            return;
        }
        let actions = &mut self.actions;
        scene.own.expire(scene.now, |who, is_certain| {
            let unseen = if is_certain { Unseen::NoQuorum } else { Unseen::Unknown };
            actions.push_back(Action::Ended(who, unseen));
        });
        if scene.raft.role() != Role::Leader {
            scene.own.give_late_again(scene.now);
        }
    }
}

pub(super) fn count(commands: &[Bytes]) -> u32 {
    u32::try_from(commands.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_number_is_new_once(numbers in prop::collection::vec((0..3u64, 0..200u64), 0..400)) {
            let (mut seen, mut taken) = (Seen::default(), BTreeSet::new());
            let mut highest = BTreeMap::new();
            for (boot, number) in numbers {
                let highest = highest.entry(boot).or_insert(0);
                let is_new = seen.is_new(boot, number);
                if is_new {
                    prop_assert!(taken.insert((boot, number)), "{number} of {boot} is taken twice");
                } else {
                    let is_old = number + 64 <= *highest;
                    prop_assert!(is_old || taken.contains(&(boot, number)), "{number} is lost");
                }
                *highest = number.max(*highest);
            }
        }
    }

    #[test]
    fn far_leaps_and_many_starts_are_bounded() {
        let mut seen = Seen::default();
        assert!(seen.is_new(1, 0) && seen.is_new(1, u64::MAX) && !seen.is_new(1, u64::MAX));
        assert!(!seen.is_new(1, 0), "it may have come");
        for boot in 2..9 {
            assert!(seen.is_new(boot, 5) && !seen.is_new(boot, 5));
        }
        assert_eq!(seen.starts.len(), MAX_STARTS);
    }
}
