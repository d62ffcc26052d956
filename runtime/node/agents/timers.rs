//! An agent's timers. They belong to the node, not to an engine: renewal does not lose them.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Timers of one agent, at most.
pub(super) const MAX_TIMERS: usize = 65_536;
/// The shortest period of a timer that repeats.
pub(super) const MIN_PERIOD: Duration = Duration::from_millis(1);

/// Timers by when they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeMap<(Instant, u64), Timer>,
    next_id: u64,
}

#[derive(Debug)]
struct Timer {
    term: Vec<u8>,
    every: Option<Duration>,
}

impl Timers {
    /// Arms a timer. One that repeats takes the place of another with its term. Says whether there
    /// was room.
    pub(super) fn arm(
        &mut self,
        now: Instant,
        after: Duration,
        every: bool,
        term: Vec<u8>,
    ) -> bool {
        if every {
            self.by_time.retain(|_, timer| timer.every.is_none() || timer.term != term);
        }
        if self.by_time.len() >= MAX_TIMERS {
            return false;
        }
        let every = every.then_some(after.max(MIN_PERIOD));
        // A time beyond what the clock can say is never due.
        if let Some(at) = now.checked_add(every.unwrap_or(after)) {
            self.insert(at, Timer { term, every });
        }
        true
    }

    /// Ends all timers with this term.
    pub(super) fn cancel(&mut self, term: &[u8]) {
        self.by_time.retain(|_, timer| timer.term != term);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The terms of those that are due, each once; repeating ones are armed again from now on.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut due = Vec::new();
        while let Some(entry) = self.by_time.first_entry() {
            let (at, _) = *entry.key();
            if at > now {
                break;
            }
            let timer = entry.remove();
            due.push(timer.term.clone());
            if let Some(period) = timer.every {
                // In step with the first time, and without making up for what was missed.
                let missed = (now - at).as_nanos() / period.as_nanos();
                let missed = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
                let next = period.checked_mul(missed).and_then(|late| at.checked_add(late));
                if let Some(next) = next {
                    self.insert(next, timer);
                }
            }
        }
        due
    }

    fn insert(&mut self, at: Instant, timer: Timer) {
        self.next_id += 1;
        self.by_time.insert((at, self.next_id), timer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_timer_is_due_once_and_a_repeating_one_stays_in_step() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.arm(start, SECOND, false, b"once".to_vec());
        timers.arm(start, SECOND, true, b"tick".to_vec());
        assert!(timers.due(start).is_empty());
        assert_eq!(timers.due(start + SECOND).len(), 2);
        assert_eq!(timers.next(), Some(start + 2 * SECOND));
        // Three periods late: one tick, and the next in step.
        assert_eq!(timers.due(start + SECOND * 9 / 2), [b"tick".to_vec()]);
        assert_eq!(timers.next(), Some(start + 5 * SECOND));
    }

    #[test]
    fn a_repeating_timer_takes_the_place_of_its_like() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.arm(start, SECOND, true, b"tick".to_vec());
        timers.arm(start, 3 * SECOND, true, b"tick".to_vec());
        assert!(timers.due(start + 2 * SECOND).is_empty());
        assert_eq!(timers.due(start + 3 * SECOND).len(), 1);
    }

    #[test]
    fn cancelling_ends_all_of_a_term() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.arm(start, SECOND, true, b"a".to_vec());
        timers.arm(start, SECOND, false, b"a".to_vec());
        timers.arm(start, SECOND, false, b"b".to_vec());
        timers.cancel(b"a");
        assert_eq!(timers.due(start + SECOND), [b"b".to_vec()]);
    }
}
