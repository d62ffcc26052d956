//! For how long datagrams were in this node: counts by time, in steps of a fifth.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps a doubling, and doublings of a microsecond: up to 17 minutes.
const STEPS: usize = 4;
const DOUBLINGS: usize = 30;

/// The counts.
#[derive(Debug)]
pub(super) struct Latency([AtomicU64; STEPS * DOUBLINGS]);

impl Default for Latency {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; STEPS * DOUBLINGS])
    }
}

impl Latency {
    pub(super) fn count(&self, time: Duration, datagrams: u64) {
        let us = time.as_micros().max(1) as f64;
        let step = (us.log2() * STEPS as f64) as usize;
        self.0[step.min(self.0.len() - 1)].fetch_add(datagrams, Ordering::Relaxed);
    }

    /// The time in microseconds that this part of them did not exceed; none if there were none.
    pub(super) fn quantile(&self, part: f64) -> Option<u64> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        let step = counts.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        })?;
        Some(((step + 1) as f64 / STEPS as f64).exp2().ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_fifth() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for us in 1..=1000 {
            latency.count(Duration::from_micros(us), 1);
        }
        for (part, exact) in [(0.5, 500), (0.99, 990)] {
            let found = latency.quantile(part).unwrap();
            assert!((exact..=exact * 5 / 4).contains(&found), "{found} for {exact}");
        }
        latency.count(Duration::from_secs(1 << 20), 1_000_000);
        assert!(latency.quantile(0.99).unwrap() > 1 << 29);
    }
}
