//! The proposals that a member has under way: given to whoever leads, given again to whoever leads
//! next, until they are seen applied.
//!
//! Sending the same bytes again is safe, for every command is made to happen once: a transaction by
//! its session's or its agent's number, a claim by what it names, a module by the one before it, an
//! admission by its nonce. So nothing needs to be known of what became of a leader. A proposal that ends
//! without being seen is either certain not to be in the log, or nobody knows.
//!
//! For that, each giving has a number, by which its answer names it: an answer that comes twice, or late,
//! says nothing of another giving. That a *giving* comes twice is the leader's to see (`batching.rs`).

use crate::time::Time;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// After this long without being seen, a proposal that was given to another member is given again.
const GIVE_AGAIN: Duration = Duration::from_secs(3);

/// Proposals under way, each with what its proposer is told by.
#[derive(Debug)]
pub struct Proposals<T> {
    /// The number of the first slot.
    first: u64,
    slots: VecDeque<Option<Slot<T>>>,
    /// How many slots are taken.
    len: usize,
    /// All numbers below have been given to the present leader.
    due: u64,
    /// The number of the last giving.
    giving: u64,
}

#[derive(Debug)]
struct Slot<T> {
    command: Bytes,
    who: T,
    /// When it is given up.
    until: Option<Time>,
    /// The giving by which it went to a leader last, and when that was.
    giving: u64,
    at: Time,
    /// Whether it may be in the log by that giving, and by one before.
    may_be: bool,
    may_have_been: bool,
    is_due: bool,
}

/// Proposals whose numbers follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Counts the runs that a start of a node gives.
    pub giving: u64,
    /// The number of the first.
    pub first: u64,
    /// Their commands.
    pub commands: Vec<Bytes>,
}

impl<T> Default for Proposals<T> {
    fn default() -> Self {
        Self { first: 1, slots: VecDeque::new(), len: 0, due: 1, giving: 0 }
    }
}

impl<T> Proposals<T> {
    /// How many are under way.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a proposal in; given up at `until`, if it is not seen before.
    pub fn push(&mut self, command: Bytes, who: T, until: Option<Time>) {
        let (giving, at, may_be, may_have_been) = (0, Time::ZERO, false, false);
        let slot = Slot { command, who, until, giving, at, may_be, may_have_been, is_due: true };
        self.slots.push_back(Some(slot));
        self.len += 1;
    }

    /// The next proposals to be given to the leader: up to so many and so many bytes, one at least.
    pub fn give(&mut self, now: Time, max_count: usize, max_bytes: usize) -> Option<Run> {
        let mut at = usize::try_from(self.due.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let is_due = |slot: Option<&Option<Slot<T>>>| matches!(slot, Some(Some(s)) if s.is_due);
        while at < self.slots.len() && !is_due(self.slots.get(at)) {
            at += 1;
        }
        let first = self.first + at as u64;
        let (mut commands, mut bytes) = (Vec::new(), 0);
        while let Some(Some(slot)) = self.slots.get_mut(at).filter(|_| commands.len() < max_count) {
            if !slot.is_due || bytes + slot.command.len() > max_bytes && !commands.is_empty() {
                break;
            }
            bytes += slot.command.len();
            commands.push(slot.command.clone());
            slot.may_have_been |= slot.may_be;
            (slot.is_due, slot.at, slot.giving, slot.may_be) = (false, now, self.giving + 1, true);
            at += 1;
        }
        self.due = self.first + at as u64;
        if commands.is_empty() {
            return None;
        }
        self.giving += 1;
        Some(Run { giving: self.giving, first, commands })
    }

    /// Somebody else leads, or what was given is lost: all are given anew.
    pub fn give_all_again(&mut self) {
        self.due = self.first;
        for slot in self.slots.iter_mut().flatten() {
            slot.is_due = true;
        }
    }

    /// Gives those anew of which nothing has been seen for long.
    pub fn give_late_again(&mut self, now: Time) {
        for (slot, number) in self.slots.iter_mut().zip(self.first..) {
            if let Some(slot) = slot.as_mut().filter(|slot| !slot.is_due)
                && now.since(slot.at) >= GIVE_AGAIN
            {
                slot.is_due = true;
                self.due = self.due.min(number);
            }
        }
    }

    /// Those of this run that are still under way have been seen applied, or are otherwise decided:
    /// each is told by its place in the run.
    pub fn end(&mut self, first: u64, count: u32, mut tell: impl FnMut(usize, T)) {
        self.take(first, count, |place, slot| {
            tell(place, slot.who);
            None
        });
    }

    /// Whom these were given to does not lead: they have not got into the log by that giving, and are
    /// given again when somebody else leads.
    pub fn not_taken(&mut self, giving: u64, first: u64, count: u32) {
        self.take(first, count, |_, slot| {
            let may_be = slot.may_be && slot.giving != giving;
            Some(Slot { may_be, ..slot })
        });
    }

    /// Whom these were given to has not put them into the log, and by this giving never will. Those that
    /// cannot be there by another end by `tell`; the others go on.
    pub fn dropped(&mut self, giving: u64, first: u64, count: u32, mut tell: impl FnMut(T)) {
        self.take(first, count, |_, slot| {
            if slot.giving != giving || !slot.may_be {
                return Some(slot);
            }
            if slot.may_have_been || slot.is_due {
                return Some(Slot { may_be: false, ..slot });
            }
            tell(slot.who);
            None
        });
    }

    /// Ends those whose time is over: told with whether they are certain not to be in the log.
    pub fn expire(&mut self, now: Time, mut tell: impl FnMut(T, bool)) {
        let (first, count) = (self.first, u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.take(first, count, |_, slot| {
            if slot.until.is_none_or(|until| now < until) {
                return Some(slot);
            }
            tell(slot.who, !slot.may_be && !slot.may_have_been);
            None
        });
    }

    /// Ends all: told with whether they are certain not to be in the log.
    pub fn end_all(&mut self, mut tell: impl FnMut(T, bool)) {
        let (first, count) = (self.first, u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.take(first, count, |_, slot| {
            tell(slot.who, !slot.may_be && !slot.may_have_been);
            None
        });
    }

    fn take(
        &mut self,
        first: u64,
        count: u32,
        mut look: impl FnMut(usize, Slot<T>) -> Option<Slot<T>>,
    ) {
        for place in 0..count as usize {
            let Some(number) = first.checked_add(place as u64) else { break };
            let Some(at) = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok())
            else {
                continue;
            };
            let Some(taken) = self.slots.get_mut(at) else { break };
            if let Some(slot) = taken.take() {
                *taken = look(place, slot);
                self.len -= usize::from(taken.is_none());
            }
        }
        while matches!(self.slots.front(), Some(None)) {
            self.slots.pop_front();
            self.first += 1;
        }
        self.due = self.due.max(self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_millis(5);

    fn command(n: u8) -> Bytes {
        vec![n].into()
    }

    fn some(n: u8) -> Proposals<u8> {
        let mut proposals = Proposals::default();
        (1..=n).for_each(|n| proposals.push(command(n), n, Some(Time::from_millis(1_000))));
        proposals
    }

    fn given(proposals: &mut Proposals<u8>) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(run) = proposals.give(NOW, 3, 100) {
            all.push((run.first, run.commands.iter().map(|command| command[0]).collect()));
        }
        all
    }

    #[test]
    fn each_is_given_once_in_runs_and_told_when_it_is_seen() {
        let mut proposals = some(4);
        assert_eq!(given(&mut proposals), [(1, vec![1, 2, 3]), (4, vec![4])]);
        assert_eq!(given(&mut proposals), []);
        let mut told = Vec::new();
        proposals.end(2, 2, |place, who| told.push((place, who)));
        proposals.end(2, 9, |place, who| told.push((place, who)));
        assert_eq!(told, [(0, 2), (1, 3), (2, 4)]);
        proposals.push(command(9), 9, None);
        assert_eq!(given(&mut proposals), [(5, vec![9])]);
        proposals.end(0, 6, |place, who| told.push((place, who)));
        assert_eq!(told[3..], [(1, 1), (5, 9)]);
        assert!(proposals.is_empty() && proposals.slots.is_empty());
    }

    #[test]
    fn a_run_is_bounded_by_bytes_and_takes_one_at_least() {
        let mut proposals = some(3);
        assert_eq!(proposals.give(NOW, 9, 0).unwrap().commands.len(), 1);
        assert_eq!(proposals.give(NOW, 9, 2).unwrap().first, 2);
        assert_eq!(proposals.give(NOW, 9, 2), None);
    }

    #[test]
    fn another_leader_is_given_all_that_was_not_seen() {
        let mut proposals = some(4);
        given(&mut proposals);
        proposals.end(2, 1, |_, _| {});
        proposals.give_all_again();
        assert_eq!(given(&mut proposals), [(1, vec![1]), (3, vec![3, 4])]);
        proposals.give_late_again(NOW + (GIVE_AGAIN - Duration::from_micros(1)));
        assert_eq!(given(&mut proposals), []);
        proposals.give_late_again(NOW + GIVE_AGAIN);
        assert_eq!(given(&mut proposals), [(1, vec![1]), (3, vec![3, 4])]);
    }

    #[test]
    fn what_was_dropped_ends_only_if_nobody_else_can_have_it() {
        let mut proposals = some(3);
        given(&mut proposals);
        let mut told = Vec::new();
        proposals.dropped(1, 1, 1, |who| told.push(who));
        assert_eq!(told, [1]);
        proposals.give_all_again();
        given(&mut proposals);
        proposals.dropped(2, 1, 3, |who| told.push(who));
        assert_eq!((told, proposals.len()), (vec![1], 2));
    }

    #[test]
    fn an_answer_that_comes_twice_or_late_says_nothing_of_another_giving() {
        let mut proposals = some(1);
        given(&mut proposals);
        proposals.not_taken(1, 1, 1);
        proposals.give_all_again();
        assert_eq!(proposals.give(NOW, 9, 9).unwrap().giving, 2);
        // The next leader has it in its log: the first one's answer once more changes nothing.
        proposals.not_taken(1, 1, 1);
        proposals.dropped(1, 1, 1, |_| panic!("it may be in the log"));
        let mut told = Vec::new();
        proposals.expire(Time::from_millis(1_000), |who, certain| told.push((who, certain)));
        assert_eq!(told, [(1, false)]);
        // One that is to be given again anyway goes on, and is then as if it had been given once.
        let mut proposals = some(1);
        given(&mut proposals);
        proposals.give_all_again();
        proposals.dropped(1, 1, 1, |_| panic!("it is being given again"));
        given(&mut proposals);
        proposals.dropped(2, 1, 1, |who| told.push((who, true)));
        assert_eq!(told.pop(), Some((1, true)));
    }

    #[test]
    fn one_whose_time_is_over_is_certain_not_to_be_there_if_it_was_given_to_nobody() {
        let mut proposals = some(2);
        proposals.give(NOW, 1, 9);
        let mut told = Vec::new();
        proposals.expire(Time::from_millis(999), |who, certain| told.push((who, certain)));
        proposals.expire(Time::from_millis(1_000), |who, certain| told.push((who, certain)));
        assert_eq!(told, [(1, false), (2, true)]);
        proposals.push(command(6), 6, Some(Time::ZERO));
        given(&mut proposals);
        proposals.not_taken(2, 3, 1);
        assert_eq!(given(&mut proposals), [], "until somebody else leads");
        proposals.expire(NOW, |who, certain| told.push((who, certain)));
        assert_eq!(told.pop(), Some((6, true)));
        proposals.push(command(7), 7, None);
        proposals.expire(Time::from_millis(u32::MAX.into()), |who, _| told.push((who, true)));
        assert_eq!((told.len(), proposals.len()), (2, 1), "one without an end waits for ever");
    }

    /// What happens to the proposals of a member, and to those whom it gives them to.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Propose,
        /// To the first or the second of two.
        Give(bool),
        Again,
        /// One of the givings does what it can: gets into the log; or never will, and that is said.
        Decide(prop::sample::Index, bool, bool),
        /// What was said of one comes, and may come again.
        Hear(prop::sample::Index),
        Expire,
        EndAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Propose),
            4 => any::<bool>().prop_map(Step::Give),
            3 => Just(Step::Again),
            5 => (any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
                .prop_map(|(which, is_in, is_final)| Step::Decide(which, is_in, is_final)),
            5 => any::<prop::sample::Index>().prop_map(Step::Hear),
            1 => Just(Step::Expire),
            1 => Just(Step::EndAll),
        ]
    }

    /// A run that somebody was given, and what became of it.
    struct Given {
        giving: u64,
        first: u64,
        whose: Vec<u8>,
        /// Nothing yet; or whether it is said that by this giving nothing of it is in the log, for now or for good.
        end: Option<Option<bool>>,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Each giving gets into the log, some time, or does not, and of that it is said so, late and more than
        /// once. Whatever is told to be certain was never there, and never comes there.
        #[test]
        fn what_is_certain_not_to_be_in_the_log_never_is(
            steps in prop::collection::vec(step(), 1..60)
        ) {
            let mut proposals = Proposals::default();
            let (mut last, mut never, mut given) = (0, Vec::new(), Vec::<Given>::new());
            for step in steps {
                let (mut certain, mut log) = (Vec::new(), Vec::new());
                let note = |certain: &mut Vec<u8>, who, is_certain| {
                    certain.extend(Some(who).filter(|_| is_certain));
                };
                match step {
                    Step::Propose => {
                        last += 1;
                        proposals.push(command(last), last, Some(NOW));
                    }
                    Step::Give(is_one) => {
                        let most = if is_one { 1 } else { 9 };
                        if let Some(Run { giving, first, commands }) = proposals.give(NOW, most, 99) {
                            let whose = commands.iter().map(|command| command[0]).collect();
                            given.push(Given { giving, first, whose, end: None });
                        }
                    }
                    Step::Again => proposals.give_all_again(),
                    Step::Decide(which, is_in, is_final) => {
                        let mut open: Vec<_> = given.iter_mut().filter(|g| g.end.is_none()).collect();
                        if !open.is_empty() {
                            let given = which.index(open.len());
                            open[given].end = Some((!is_in).then_some(is_final));
                            log.extend(is_in.then(|| open[given].whose.clone()).into_iter().flatten());
                        }
                    }
                    Step::Hear(which) => {
                        let said = given.iter().filter_map(|g| Some((g, g.end??)));
                        let said: Vec<_> = said.collect();
                        if !said.is_empty() {
                            let (run, is_final) = said[which.index(said.len())];
                            let (giving, first) = (run.giving, run.first);
                            let count = run.whose.len() as u32;
                            match is_final {
                                true => proposals.dropped(giving, first, count, |who| certain.push(who)),
                                false => proposals.not_taken(giving, first, count),
                            }
                        }
                    }
                    Step::Expire => proposals.expire(NOW, |who, is| note(&mut certain, who, is)),
                    Step::EndAll => proposals.end_all(|who, is| note(&mut certain, who, is)),
                }
                never.extend(certain);
                // What may yet come there by a giving that is not decided on is not certain either.
                let may_be = given.iter().filter(|g| g.end.is_none() || g.end == Some(None));
                for who in may_be.flat_map(|given| &given.whose).chain(&log) {
                    prop_assert!(!never.contains(who), "{who} is there, or may be");
                }
            }
        }
    }

    /// Given to two, the second of which has not taken it: the first may have.
    fn given_to_two() -> Proposals<u8> {
        let mut proposals = some(1);
        given(&mut proposals);
        proposals.give_all_again();
        given(&mut proposals);
        proposals.not_taken(2, 1, 1);
        proposals
    }

    #[test]
    fn what_the_last_has_not_taken_may_be_in_the_log_by_one_before() {
        let mut told = Vec::new();
        let mut tell = |who, is_certain| told.push((who, is_certain));
        given_to_two().expire(Time::from_millis(1_000), &mut tell);
        given_to_two().end_all(&mut tell);
        assert_eq!(told, [(1, false), (1, false)]);
    }
}
