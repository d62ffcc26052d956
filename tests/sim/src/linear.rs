//! Whether what clients saw of one register can have happened in some order that keeps to their clocks:
//! the search of Wing and Gong (1993) with Lowe's cache (2017) of what was tried before.

use std::collections::HashSet;

/// What was done to the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was read, and held this.
    Read(i64),
    /// It held the first and holds the second from there on, in one step.
    Swap(i64, i64),
}

/// Something that a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was begun.
    pub invoked: u64,
    /// When its end was known; never, for one that may have happened since, or may yet, or not at all.
    pub returned: Option<u64>,
    /// What.
    pub action: Action,
}

/// Why a history is not taken for one of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLinear {
    /// There is no such order. With how many operations the longest one that was found has.
    NoOrder(usize),
    /// The search was given up after so many steps.
    TooHard,
}

/// Steps after which the search is given up.
const MAX_STEPS: usize = 2_000_000;

/// Which operations have been put in order so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, n: usize) -> bool {
        self.0[n / 64] & (1 << (n % 64)) != 0
    }

    fn with(&self, n: usize) -> Self {
        let mut more = self.clone();
        more.0[n / 64] |= 1 << (n % 64);
        more
    }
}

/// Checks a register's history; it holds `initial` at first.
pub fn check(initial: i64, operations: &[Operation]) -> Result<(), NotLinear> {
    let mut all = operations.to_vec();
    all.sort_by_key(|operation| (operation.invoked, operation.returned.unwrap_or(u64::MAX)));
    let needed = all.iter().filter(|operation| operation.returned.is_some()).count();
    let mut tried = HashSet::new();
    let mut stack = vec![(Done(vec![0; all.len() / 64 + 1]), initial, 0)];
    let (mut best, mut steps) = (0, 0);
    while let Some((done, value, count)) = stack.pop() {
        if count == needed {
            return Ok(());
        }
        best = best.max(count);
        // What was begun before the first end of what is not done may be next.
        let open = || all.iter().enumerate().filter(|(n, _)| !done.has(*n));
        let first_end = open().filter_map(|(_, operation)| operation.returned).min();
        let may = |operation: &Operation| first_end.is_none_or(|end| operation.invoked <= end);
        for (n, operation) in open().take_while(|(_, operation)| may(operation)) {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(NotLinear::TooHard);
            }
            let after = match operation.action {
                Action::Read(seen) if seen == value => value,
                Action::Swap(old, new) if old == value => new,
                Action::Read(_) | Action::Swap(..) => continue,
            };
            let more = done.with(n);
            if tried.insert((more.clone(), after)) {
                let count = count + usize::from(operation.returned.is_some());
                stack.push((more, after, count));
            }
        }
    }
    Err(NotLinear::NoOrder(best))
}

#[cfg(test)]
mod tests {
    use super::Action::{Read, Swap};
    use super::*;
    use crate::rng::Rng;

    fn op(invoked: u64, returned: u64, action: Action) -> Operation {
        Operation { invoked, returned: Some(returned), action }
    }

    fn perhaps(invoked: u64, action: Action) -> Operation {
        Operation { invoked, returned: None, action }
    }

    #[test]
    fn what_overlaps_may_be_in_any_order_and_what_does_not_in_one() {
        let swap = op(0, 10, Swap(0, 1));
        assert_eq!(check(0, &[]), Ok(()));
        assert_eq!(check(0, &[swap, op(5, 6, Read(0))]), Ok(()));
        assert_eq!(check(0, &[swap, op(5, 6, Read(1))]), Ok(()));
        assert_eq!(check(0, &[swap, op(11, 12, Read(1))]), Ok(()));
        assert_eq!(check(0, &[swap, op(11, 12, Read(0))]), Err(NotLinear::NoOrder(1)));
        let back = [swap, op(2, 3, Read(1)), op(4, 5, Read(0))];
        assert_eq!(check(0, &back), Err(NotLinear::NoOrder(2)), "seen, and then not");
    }

    #[test]
    fn two_cannot_both_take_the_same_value_away() {
        let both = [op(0, 10, Swap(0, 1)), op(0, 10, Swap(0, 2))];
        assert!(check(0, &both).is_err());
        let one_after_the_other = [op(0, 10, Swap(0, 1)), op(0, 10, Swap(1, 2))];
        assert_eq!(check(0, &one_after_the_other), Ok(()));
        assert!(check(0, &[op(0, 3, Swap(1, 2)), op(4, 5, Swap(0, 1))]).is_err());
    }

    #[test]
    fn what_nobody_knows_of_may_have_happened_late_or_not_at_all_but_not_early() {
        let unknown = perhaps(5, Swap(0, 1));
        assert_eq!(check(0, &[unknown, op(90, 91, Read(0))]), Ok(()));
        assert_eq!(check(0, &[unknown, op(90, 91, Read(1))]), Ok(()));
        assert_eq!(check(0, &[unknown, op(90, 91, Read(0)), op(92, 93, Read(1))]), Ok(()));
        assert!(check(0, &[unknown, op(90, 91, Read(1)), op(92, 93, Read(0))]).is_err());
        assert!(check(0, &[unknown, op(1, 2, Read(1))]).is_err());
    }

    /// Histories made from an order that there was are taken; with one value changed they are not.
    #[test]
    fn histories_that_were_are_taken_and_spoiled_ones_are_not() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut value, mut history) = (0, Vec::new());
            for n in 1..=100u64 {
                // It takes effect at 10·n.
                let (before, after) = (rng.below(40), rng.below(40));
                let action = if rng.one_in(3) { Read(value) } else { Swap(value, n as i64) };
                if let Swap(_, new) = action {
                    value = new;
                }
                let returned = (!rng.one_in(10)).then_some(10 * n + after);
                history.push(Operation {
                    invoked: (10 * n).saturating_sub(before),
                    returned,
                    action,
                });
            }
            assert_eq!(check(0, &history), Ok(()), "seed {seed}");
            let known: Vec<usize> = (0..100).filter(|&n| history[n].returned.is_some()).collect();
            let spoiled = known[rng.below(known.len() as u64) as usize];
            history[spoiled].action = match history[spoiled].action {
                Read(_) => Read(-1),
                Swap(_, new) => Swap(-1, new),
            };
            assert!(check(0, &history).is_err(), "seed {seed}");
        }
    }
}
