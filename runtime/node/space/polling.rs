//! Whether a thread that waits looks again and again for what comes next, or sleeps until it is woken.
//!
//! To wake a thread takes 5 µs where its processor is awake, and 20 to 70 where that has gone to sleep, on a virtual
//! machine above all; and a write among three nodes wakes one thread after the other. So where small writes come one
//! close behind the other, who waits for the next part of one looks for it, and gives way to everybody who has work.
//! As with Linux's haltpoll, what has lately not paid off is not done: a node that nobody writes to sleeps, and so does
//! one whose writes are further apart.

use std::time::Duration;
use synod_core::time::Time;

/// How long after a part of a write the next is looked for, if nobody says otherwise.
pub const BUSY_POLL: Duration = Duration::from_millis(1);
/// Parts that came later than that in a row, after which none is looked for.
const MAX_MISSES: u8 = 4;
/// Bytes that are written at once above which there are so many writers that nobody waits for one.
const FEW_BYTES: usize = 4 << 10;

/// When to look.
#[derive(Debug)]
pub(super) struct Polling {
    window: Duration,
    /// When the last part of a small write was done.
    last: Option<Time>,
    misses: u8,
}

impl Polling {
    /// Looks for as long as `window` after each part of a write; never, if that is none.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, last: None, misses: MAX_MISSES }
    }

    /// A part of a write was done: entries of so many bytes were written, or committed.
    pub(super) fn done(&mut self, now: Time, bytes: usize) {
        let is_soon = self.last.is_some_and(|last| now.since(last) <= self.window);
        self.misses = if is_soon { 0 } else { self.misses.saturating_add(1).min(MAX_MISSES) };
        self.last = (bytes <= FEW_BYTES).then_some(now);
    }

    /// How long to look from now on; none if not at all.
    pub(super) fn left(&self, now: Time) -> Option<Duration> {
        if self.window.is_zero() || self.misses == MAX_MISSES {
            return None;
        }
        let left = self.window.saturating_sub(now.since(self.last?));
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(1000);

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn what_comes_soon_is_looked_for_from_then_on() {
        let mut polling = Polling::new(WINDOW);
        assert_eq!(polling.left(at(0)), None);
        polling.done(at(0), 300);
        assert_eq!(polling.left(at(1)), None, "nobody knows yet that another comes");
        polling.done(at(900), 300);
        assert_eq!(polling.left(at(1000)), Some(Duration::from_micros(900)));
        assert_eq!(polling.left(at(1899)), Some(Duration::from_micros(1)));
        assert_eq!(polling.left(at(1900)), None, "it did not come");
    }

    #[test]
    fn what_comes_too_late_some_times_in_a_row_is_looked_for_no_more() {
        let mut polling = Polling::new(WINDOW);
        polling.done(at(0), 1);
        polling.done(at(1), 1);
        for late in 1..u64::from(MAX_MISSES) {
            polling.done(at(late * 10_000), 1);
            assert!(polling.left(at(late * 10_000)).is_some(), "{late}");
        }
        polling.done(at(100_000), 1);
        assert_eq!(polling.left(at(100_000)), None);
        polling.done(at(100_500), 1);
        assert!(polling.left(at(100_500)).is_some(), "it pays off again");
    }

    #[test]
    fn nothing_is_looked_for_among_many_or_where_people_say_so() {
        let mut polling = Polling::new(WINDOW);
        (0..3).for_each(|n| polling.done(at(n), FEW_BYTES));
        assert!(polling.left(at(3)).is_some());
        polling.done(at(4), FEW_BYTES + 1);
        assert_eq!(polling.left(at(4)), None);
        let mut never = Polling::new(Duration::ZERO);
        (0..3).for_each(|_| never.done(at(0), 1));
        assert_eq!(never.left(at(0)), None);
    }
}
