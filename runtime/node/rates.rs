//! How fast something is counted now: what `status` shows as a rate.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A rate is that of so much time, or a little more.
const WINDOW: Duration = Duration::from_secs(5);
/// How often counts are looked at.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Too little time to speak of a rate.
const TOO_SHORT: Duration = Duration::from_millis(100);

/// What a count was at some moments of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<VecDeque<(Instant, u64)>>);

impl Meter {
    /// Notes what the count is now.
    pub(crate) fn sample(&self, now: Instant, count: u64) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, count));
        // The first is the one at or before the window.
        while samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            samples.pop_front();
        }
    }

    /// How much was counted a second, to a tenth. 0 as long as too little is known.
    pub(crate) fn rate(&self, now: Instant, count: u64) -> f64 {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(since, before)) = samples.front() else { return 0.0 };
        let time = now.duration_since(since);
        if time < TOO_SHORT {
            return 0.0;
        }
        let rate = count.saturating_sub(before) as f64 / time.as_secs_f64();
        (rate * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(meter.rate(start, 7), 0.0, "nothing is known yet");
        for second in 0..20 {
            // Ten a second for ten seconds, then none.
            meter.sample(at(second), 10 * second.min(10));
        }
        assert_eq!(meter.rate(at(19), 100), 0.0);
        assert_eq!(meter.0.lock().unwrap().len(), 6, "no more is kept than is used");
        let meter = Meter::default();
        meter.sample(start, 0);
        meter.sample(at(1), 10);
        assert_eq!(meter.rate(at(2), 25), 12.5);
        assert_eq!(meter.rate(at(2), 0), 0.0, "a count that began anew");
    }
}
