//! Checkpoints: what most voters agree that the log leads to, with their signatures.
//!
//! Each replica takes a [`Mark`] of its state at every so many commands, and where the log has been idle
//! after changes. Voters sign theirs and send them to the leader, whose [`Collector`] makes a command
//! of them as soon as a majority agrees. Who applies that command holds its own mark against it
//! ([`Marks`]): a replica whose state is another is wrong, the leader's included. The log itself is not
//! in question, for every replica has the same chain; the state is made again from it.

use crate::apply::{Membership, Part};
use crate::cbor::Writer;
use crate::command::{Batch, Checkpoint, Command, Signature};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Commands from one mark to the next.
pub const MARK_EVERY: u64 = 65_536;
/// Marks of its own that a replica keeps, for checkpoints that come later.
const MAX_MARKS: usize = 16;
/// Marks of one voter that a leader keeps.
const MAX_OF_ONE: usize = 4;
/// What a signature is over begins with this, so that no other signature can be taken for one.
const PURPOSE: &str = "synod checkpoint 1";

/// A replica's state at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The index.
    pub index: u64,
    /// The chain there.
    pub chain: [u8; 32],
    /// The state's digest there.
    pub digest: [u8; 32],
}

/// What voters sign of a mark.
pub fn statement(space: &[u8; 32], generation: u64, mark: &Mark) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(6).text(PURPOSE).bytes(space).uint(generation).uint(mark.index);
    w.bytes(&mark.chain).bytes(&mark.digest);
    w.into_vec()
}

/// What a checkpoint says of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took no mark there.
    Unknown,
    /// Its state was as most voters' states were.
    Agrees,
    /// Its state was another.
    Differs,
    /// It was on another chain: what is wrong is not the state but the log.
    Apart,
}

/// A replica's own marks.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    marks: VecDeque<Mark>,
}

impl Marks {
    /// Keeps a mark; the oldest goes if there are too many.
    pub fn keep(&mut self, mark: Mark) {
        self.marks.push_back(mark);
        if self.marks.len() > MAX_MARKS {
            self.marks.pop_front();
        }
    }

    /// Whether a batch that is about to be applied to a state of this index is a checkpoint of just that
    /// index, and no mark was taken there: who came to it late, or a moment after the voters have marked it,
    /// takes one now.
    pub fn wants(&self, index: u64, batch: &Batch) -> bool {
        let [command] = &batch.commands[..] else { return false };
        if !Checkpoint::is_likely(command) || self.marks.iter().any(|mark| mark.index == index) {
            return false;
        }
        matches!(Command::decode(command), Ok(Command::Checkpoint(made)) if made.mark.index == index)
    }

    /// Forgets all of them: the state has been made anew.
    pub fn forget(&mut self) {
        self.marks.clear();
    }

    /// The newest one.
    pub fn newest(&self) -> Option<&Mark> {
        self.marks.back()
    }

    /// Holds the replica's own marks against a checkpoint.
    pub fn judge(&self, checkpoint: &Checkpoint) -> Verdict {
        match self.marks.iter().find(|mark| mark.index == checkpoint.mark.index) {
            Some(mark) if *mark == checkpoint.mark => Verdict::Agrees,
            Some(mark) if mark.chain != checkpoint.mark.chain => Verdict::Apart,
            Some(_) => Verdict::Differs,
            None => Verdict::Unknown,
        }
    }
}

/// The voters' marks, as their leader has them.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    by: BTreeMap<u64, VecDeque<(Mark, Bytes)>>,
    /// The index of the last checkpoint that was made of them.
    made: u64,
    /// The last index at which no majority can agree any more.
    disputed: u64,
}

/// What has come of the marks so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// This is to go into the log.
    Made(Checkpoint),
    /// All voters have spoken, and there is no majority.
    None(u64),
}

impl Collector {
    /// Whether a member's mark would be new.
    pub fn wants(&self, member: u64, mark: &Mark) -> bool {
        let newest = self.by.get(&member).and_then(|marks| marks.back());
        mark.index > self.made && newest.is_none_or(|(newest, _)| newest.index < mark.index)
    }

    /// Takes in a member's mark, whose signature has been verified.
    pub fn take(&mut self, member: u64, mark: Mark, signature: Bytes) {
        if !self.wants(member, &mark) {
            return;
        }
        let marks = self.by.entry(member).or_default();
        marks.push_back((mark, signature));
        if marks.len() > MAX_OF_ONE {
            marks.pop_front();
        }
    }

    /// The newest mark that a majority of the voters agrees on, once.
    pub fn agreement(&mut self, membership: &Membership) -> Option<Agreement> {
        // Another leader may have made one of the same marks.
        self.made = self.made.max(membership.checkpoint().map_or(0, |last| last.mark.index));
        let members = membership.members();
        let voters: Vec<u64> =
            members.iter().filter(|(_, m)| m.part == Part::Voter).map(|(&id, _)| id).collect();
        self.by.retain(|id, _| voters.contains(id));
        let all = self.by.values().flatten().map(|(mark, _)| *mark);
        let mut marks: Vec<Mark> = all.filter(|mark| mark.index > self.made).collect();
        marks.sort_unstable_by_key(|mark| std::cmp::Reverse((mark.index, mark.chain, mark.digest)));
        marks.dedup();
        let mut disputed = None;
        for mark in marks {
            let signature = |id: &u64| {
                let (_, signature) = self.by.get(id)?.iter().find(|(known, _)| *known == mark)?;
                let peer = members.get(id)?.peer.clone();
                Some(Signature { member: *id, peer, bytes: signature.clone() })
            };
            let signatures: Vec<_> = voters.iter().filter_map(signature).collect();
            if signatures.len() * 2 > voters.len() {
                self.made = mark.index;
                let generation = membership.generation();
                return Some(Agreement::Made(Checkpoint { generation, mark, signatures }));
            }
            let at_index = |(known, _): &(Mark, Bytes)| known.index == mark.index;
            if self.by.values().filter(|marks| marks.iter().any(at_index)).count() == voters.len()
                && mark.index > self.disputed
            {
                disputed = disputed.max(Some(mark.index));
            }
        }
        self.disputed = disputed?;
        Some(Agreement::None(self.disputed))
    }

    /// Who leads no longer collects nothing.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::State;
    use crate::command::{Admit, Configure, IssueTicket};

    /// Of a space with this many voters, ids from 1.
    fn state(voters: u64) -> State {
        let mut state = State::new([7; 32]);
        let issue = IssueTicket { hash: [1; 32], until: 9, uses: 9 };
        for id in 1..=voters {
            let (peer, node) = (Bytes::from(format!("peer {id}")), format!("n{id}"));
            let ticket = (id > 1).then_some([1; 32]);
            let admit = Admit { peer, node, nonce: [0; 16], ticket, after: 0 };
            state.apply(0, &Command::Admit(admit).encode());
            state.apply(0, &Command::IssueTicket(issue.clone()).encode());
        }
        let voters = (1..=voters).collect();
        state.apply(0, &Command::Configure(Configure { voters, ..Default::default() }).encode());
        state
    }

    fn membership(voters: u64) -> Membership {
        state(voters).membership().clone()
    }

    fn mark(index: u64, digest: u8) -> Mark {
        Mark { index, chain: [3; 32], digest: [digest; 32] }
    }

    fn made(collector: &mut Collector, membership: &Membership) -> Option<(Mark, Vec<u64>)> {
        match collector.agreement(membership)? {
            Agreement::Made(made) => {
                Some((made.mark, made.signatures.iter().map(|s| s.member).collect()))
            }
            Agreement::None(at) => panic!("nobody agrees at {at}"),
        }
    }

    #[test]
    fn a_checkpoint_is_made_once_as_soon_as_most_agree() {
        let (mut collector, voters) = (Collector::default(), membership(3));
        collector.take(1, mark(10, 1), "one".into());
        assert_eq!(collector.agreement(&voters), None);
        collector.take(1, mark(10, 2), "one".into());
        collector.take(9, mark(10, 1), "no voter".into());
        assert_eq!(collector.agreement(&voters), None, "said twice, or by nobody");
        collector.take(3, mark(10, 1), "three".into());
        assert_eq!(made(&mut collector, &voters), Some((mark(10, 1), vec![1, 3])));
        collector.take(2, mark(10, 1), "two".into());
        assert_eq!(collector.agreement(&voters), None, "it was made");
        for member in [1, 2, 3] {
            collector.take(member, mark(20, 1), "again".into());
            collector.take(member, mark(30, 1), "again".into());
        }
        assert_eq!(made(&mut collector, &voters), Some((mark(30, 1), vec![1, 2, 3])));
    }

    #[test]
    fn who_differs_is_outvoted_and_nobody_wins_a_tie() {
        let (mut collector, voters) = (Collector::default(), membership(3));
        collector.take(1, mark(10, 9), "the leader is wrong".into());
        collector.take(2, mark(10, 1), "two".into());
        collector.take(3, mark(10, 1), "three".into());
        assert_eq!(made(&mut collector, &voters), Some((mark(10, 1), vec![2, 3])));
        for member in [1, 2, 3] {
            collector.take(member, mark(20, member as u8), "each its own".into());
        }
        assert_eq!(collector.agreement(&voters), Some(Agreement::None(20)));
        assert_eq!(collector.agreement(&voters), None, "said once");
        let (mut collector, four) = (Collector::default(), membership(4));
        collector.take(1, mark(10, 1), "one".into());
        collector.take(2, mark(10, 1), "two".into());
        assert_eq!(collector.agreement(&four), None, "half is no majority");
        collector.take(4, mark(10, 1), "four".into());
        assert_eq!(made(&mut collector, &four), Some((mark(10, 1), vec![1, 2, 4])));
    }

    #[test]
    fn what_another_leader_has_made_is_not_made_again() {
        let (mut collector, mut state) = (Collector::default(), state(1));
        collector.take(1, mark(2, 1), Bytes::new());
        let Some(Agreement::Made(made)) = collector.clone().agreement(state.membership()) else {
            panic!("it is made")
        };
        state.apply(0, &Command::Checkpoint(made).encode());
        assert_eq!(collector.agreement(state.membership()), None);
        collector.take(1, mark(3, 1), Bytes::new());
        assert!(collector.agreement(state.membership()).is_some());
    }

    #[test]
    fn what_one_member_sends_is_bounded() {
        let mut collector = Collector::default();
        for index in 1..100 {
            collector.take(1, mark(index, 1), Bytes::new());
        }
        assert_eq!(collector.by[&1].len(), MAX_OF_ONE);
        assert!(!collector.wants(1, &mark(50, 1)) && collector.wants(1, &mark(100, 1)));
        let mut marks = Marks::default();
        (1..100).for_each(|index| marks.keep(mark(index, 1)));
        let checkpoint = |mark| Checkpoint { generation: 0, mark, signatures: Vec::new() };
        assert_eq!(marks.judge(&checkpoint(mark(1, 1))), Verdict::Unknown);
        assert_eq!(marks.judge(&checkpoint(mark(99, 1))), Verdict::Agrees);
        assert_eq!(marks.judge(&checkpoint(mark(99, 2))), Verdict::Differs);
        let elsewhere = Mark { chain: [9; 32], ..mark(99, 1) };
        assert_eq!(marks.judge(&checkpoint(elsewhere)), Verdict::Apart);
    }

    #[test]
    fn who_has_not_marked_what_is_agreed_on_does_when_it_hears_of_it() {
        let mut marks = Marks::default();
        let of = |index| {
            Command::Checkpoint(Checkpoint {
                generation: 0,
                mark: mark(index, 1),
                signatures: Vec::new(),
            })
        };
        let batch = |commands: &[Command]| Batch {
            time: 0,
            tags: Vec::new(),
            commands: commands.iter().map(Command::encode).collect(),
        };
        assert!(marks.wants(9, &batch(&[of(9)])));
        assert!(!marks.wants(10, &batch(&[of(9)])), "its state has gone on");
        assert!(!marks.wants(9, &batch(&[])) && !marks.wants(9, &batch(&[of(8), of(9)])));
        let release = Command::Release { agent: "a".to_owned(), epoch: 9 };
        assert!(!marks.wants(9, &batch(&[release])));
        marks.keep(mark(9, 2));
        assert!(!marks.wants(9, &batch(&[of(9)])), "it has one");
    }

    #[test]
    fn what_is_signed_has_these_bytes() {
        let hex: String =
            statement(&[1; 32], 2, &mark(3, 4)).iter().map(|byte| format!("{byte:02x}")).collect();
        let of = |byte: &str| byte.repeat(32);
        let golden = format!(
            "8672{}5820{}02035820{}5820{}",
            "73796e6f6420636865636b706f696e742031",
            of("01"),
            of("03"),
            of("04")
        );
        assert_eq!(hex, golden);
    }
}
