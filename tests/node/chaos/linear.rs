//! Whether what clients saw of one register can have happened in one order: Wing and Gong's search, with
//! Lowe's memory of what was tried.
//!
//! An operation takes effect at one moment between its call and its answer. One whose answer never came
//! may have taken effect at any moment since its call, or never.

use std::collections::HashSet;

/// What was done to the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// It was seen to hold this.
    Read(u64),
    /// It was made to hold this.
    Write(u64),
    /// It held the first, and was made to hold the second.
    Change(u64, u64),
}

/// An operation and when it was under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) op: Op,
    pub(crate) called: u64,
    /// None if nothing is known of its end.
    pub(crate) answered: Option<u64>,
}

/// Whether the calls can have happened one after the other, from a register that held `first`.
pub(crate) fn is_linearizable(first: u64, calls: &[Call]) -> bool {
    // A write of unknown end that nobody saw may as well not have happened: whatever came next wrote, too.
    let is_seen = |value: u64| calls.iter().any(|call| sees(call.op) == Some(value));
    let matters = |call: &&Call| match (call.op, call.answered) {
        (Op::Write(value), None) => is_seen(value),
        _ => true,
    };
    let mut calls: Vec<Call> = calls.iter().filter(matters).copied().collect();
    calls.sort_by_key(|call| call.called);
    let mut tried = HashSet::new();
    let mut states = vec![(first, vec![false; calls.len()])];
    while let Some((value, done)) = states.pop() {
        if calls.iter().zip(&done).all(|(call, done)| *done || call.answered.is_none()) {
            return true;
        }
        // Nothing may be put before what had ended when it was called.
        let undone = calls.iter().zip(&done).filter(|(_, done)| !**done);
        let first_end = undone.filter_map(|(call, _)| call.answered).min().unwrap_or(u64::MAX);
        for (n, call) in calls.iter().enumerate() {
            if call.called > first_end {
                break;
            }
            let Some(next) = (!done[n]).then(|| after(value, call.op)).flatten() else { continue };
            let mut done = done.clone();
            done[n] = true;
            if tried.insert((next, done.clone())) {
                states.push((next, done));
            }
        }
    }
    false
}

/// The value that an operation found.
fn sees(op: Op) -> Option<u64> {
    match op {
        Op::Read(seen) | Op::Change(seen, _) => Some(seen),
        Op::Write(_) => None,
    }
}

fn after(value: u64, op: Op) -> Option<u64> {
    match op {
        Op::Read(seen) => (seen == value).then_some(value),
        Op::Write(new) => Some(new),
        Op::Change(old, new) => (old == value).then_some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Op, is_linearizable};

    fn call(op: Op, called: u64, answered: u64) -> Call {
        Call { op, called, answered: (answered > 0).then_some(answered) }
    }

    #[test]
    fn what_was_acknowledged_is_seen_by_whoever_asks_later() {
        let write = call(Op::Write(1), 1, 4);
        assert!(is_linearizable(0, &[write, call(Op::Read(0), 2, 3), call(Op::Read(1), 5, 6)]));
        assert!(is_linearizable(0, &[write, call(Op::Read(1), 2, 3), call(Op::Read(1), 5, 6)]));
        assert!(!is_linearizable(0, &[write, call(Op::Read(0), 5, 6)]), "a stale read");
        let back = [write, call(Op::Read(1), 2, 3), call(Op::Read(0), 4, 5)];
        assert!(!is_linearizable(0, &back), "it was seen and seen no more");
    }

    #[test]
    fn many_writes_of_unknown_end_are_no_burden() {
        let mut calls: Vec<Call> = (100..140).map(|n| call(Op::Write(n), n - 99, 0)).collect();
        let changes =
            (0..300).map(|n| call(Op::Change(n + 1000, n + 1001), 50 + 2 * n, 51 + 2 * n));
        calls.extend(changes);
        assert!(is_linearizable(1000, &calls));
        calls.push(call(Op::Read(139), 900, 901));
        assert!(is_linearizable(1000, &calls));
        calls.push(call(Op::Read(1300), 902, 903));
        assert!(!is_linearizable(1000, &calls));
    }

    #[test]
    fn a_change_happens_once_and_an_unknown_one_at_most_once() {
        let both = [call(Op::Change(0, 1), 1, 4), call(Op::Change(0, 2), 2, 5)];
        assert!(!is_linearizable(0, &both), "a lost update");
        let chain = [call(Op::Change(1, 2), 1, 9), call(Op::Change(0, 1), 2, 5)];
        assert!(is_linearizable(0, &chain));
        let unknown = call(Op::Change(0, 1), 1, 0);
        assert!(is_linearizable(0, &[unknown, call(Op::Read(0), 5, 6)]));
        assert!(is_linearizable(0, &[unknown, call(Op::Read(1), 5, 6)]));
        let gone = [unknown, call(Op::Read(1), 5, 6), call(Op::Read(0), 7, 8)];
        assert!(!is_linearizable(0, &gone));
        assert!(!is_linearizable(0, &[call(Op::Read(7), 1, 2)]), "from nowhere");
    }
}
