//! Each datagram once. Its capturer numbered it, so what it carries is never compared: applications
//! that say the same twice are heard twice.

/// How far behind the greatest number a datagram may come: further behind, nobody knows any more
/// whether it has been there.
pub const WINDOW: u64 = 4096;
const WORDS: usize = (WINDOW / 64) as usize;

/// What was received of one capturer.
#[derive(Clone, Debug, Default)]
pub(super) struct Dedup {
    boot: u64,
    /// One above the greatest number that was there.
    next: u64,
    /// A bit for each number from `next - WINDOW`, by its remainder.
    seen: Box<[u64]>,
}

/// Why a datagram is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It has been there.
    Duplicate,
    /// It is so old that nobody knows, or from before the capturer's last start.
    Stale,
}

impl Dedup {
    /// Takes a datagram in, unless it is to be passed over.
    pub(super) fn take(&mut self, boot: u64, sequence: u64) -> Result<(), Passed> {
        // The last number has none after it; no frame has it.
        if boot < self.boot || sequence == u64::MAX {
            return Err(Passed::Stale);
        }
        if boot > self.boot || self.seen.is_empty() {
            *self = Self { boot, next: sequence, seen: vec![0; WORDS].into() };
        }
        if sequence >= self.next {
            self.forget(self.next, sequence);
            self.next = sequence + 1;
        } else if self.next - sequence > WINDOW {
            return Err(Passed::Stale);
        } else if self.seen[word(sequence)] & bit(sequence) != 0 {
            return Err(Passed::Duplicate);
        }
        self.seen[word(sequence)] |= bit(sequence);
        Ok(())
    }

    /// Numbers from `from` to `to` come into the window.
    fn forget(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            return self.seen.fill(0);
        }
        for sequence in from..=to {
            self.seen[word(sequence)] &= !bit(sequence);
        }
    }
}

fn word(sequence: u64) -> usize {
    (sequence % WINDOW / 64) as usize
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_taken_once_in_any_order() {
        let mut dedup = Dedup::default();
        for sequence in [5, 7, 6, 100, 8] {
            assert_eq!(dedup.take(1, sequence), Ok(()), "{sequence}");
            assert_eq!(dedup.take(1, sequence), Err(Passed::Duplicate), "{sequence}");
        }
        assert_eq!(dedup.take(1, 100 + WINDOW), Ok(()));
        assert_eq!(dedup.take(1, 100), Err(Passed::Stale));
        assert_eq!(dedup.take(1, 101), Ok(()), "the oldest that is known");
    }

    #[test]
    fn a_capturer_that_starts_again_counts_again() {
        let mut dedup = Dedup::default();
        assert_eq!(dedup.take(3, 1000), Ok(()));
        assert_eq!(dedup.take(4, 0), Ok(()));
        assert_eq!(dedup.take(3, 1001), Err(Passed::Stale));
        assert_eq!(dedup.take(4, 1000), Ok(()));
        assert_eq!(dedup.take(4, u64::MAX), Err(Passed::Stale));
        assert_eq!(dedup.take(4, u64::MAX - 1), Ok(()));
        assert_eq!(dedup.take(4, u64::MAX - 1), Err(Passed::Duplicate));
    }

    proptest! {
        /// Against a set of all that was there.
        #[test]
        fn it_is_what_a_set_says(steps in prop::collection::vec((0..3_u64, 0..3 * WINDOW), 0..300)) {
            let (mut dedup, mut seen) = (Dedup::default(), BTreeSet::new());
            let (mut boot, mut top) = (0, None);
            for (of, sequence) in steps {
                let expected = if of < boot {
                    Err(Passed::Stale)
                } else {
                    if of > boot {
                        (boot, top) = (of, None);
                        seen.clear();
                    }
                    if top.is_some_and(|top| sequence + WINDOW <= top) {
                        Err(Passed::Stale)
                    } else if seen.insert(sequence) {
                        // What came before the first is as new as what comes after it.
                        top = Some(top.unwrap_or(0).max(sequence));
                        Ok(())
                    } else {
                        Err(Passed::Duplicate)
                    }
                };
                prop_assert_eq!(dedup.take(of, sequence), expected, "{} {}", of, sequence);
            }
        }
    }
}
