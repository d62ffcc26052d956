//! How long each of many things took.

use serde_json::{Value, json};
use std::time::Duration;

/// The widest bar of a printed histogram, in characters.
const BAR: usize = 40;

/// Times, each kept: percentiles are exact.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    pub(super) fn add(&mut self, time: Duration) {
        self.nanos.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.nanos.append(&mut other.nanos);
    }

    pub(super) fn count(&self) -> usize {
        self.nanos.len()
    }

    /// The sum of all times, in microseconds.
    pub(super) fn total(&self) -> f64 {
        self.nanos.iter().map(|&nanos| nanos as f64).sum::<f64>() / 1e3
    }

    /// The microseconds that a part of them, of 1, did not take longer than.
    pub(super) fn quantile(&mut self, part: f64) -> f64 {
        self.nanos.sort_unstable();
        let rank = (part * self.nanos.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.nanos.len().max(1)) - 1;
        self.nanos.get(at).map_or(f64::NAN, |&nanos| nanos as f64 / 1e3)
    }

    /// How many took at most so many microseconds and more than half of it, for powers of two.
    fn buckets(&self) -> Vec<(u64, usize)> {
        let mut buckets = std::collections::BTreeMap::new();
        for nanos in &self.nanos {
            *buckets.entry(nanos.div_ceil(1000).max(1).next_power_of_two()).or_default() += 1;
        }
        buckets.into_iter().collect()
    }

    /// As JSON, times in microseconds.
    pub(super) fn json(&mut self) -> Value {
        let buckets: Vec<Value> = self
            .buckets()
            .iter()
            .map(|(upto, count)| json!({ "upto": upto, "n": count }))
            .collect();
        json!({
            "count": self.count(),
            "p50": self.quantile(0.5),
            "p90": self.quantile(0.9),
            "p99": self.quantile(0.99),
            "max": self.quantile(1.0),
            "buckets": buckets,
        })
    }

    /// In one line, for people.
    pub(super) fn line(&mut self) -> String {
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|part| self.quantile(part));
        format!("p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  max {max:.0} µs")
    }

    /// As a histogram, a line a power of two that anything fell into.
    pub(super) fn bars(&self) -> Vec<String> {
        let buckets = self.buckets();
        let most = buckets.iter().map(|&(_, count)| count).max().unwrap_or(1);
        let bar = |(upto, count): &(u64, usize)| {
            let bar = "#".repeat((count * BAR).div_ceil(most));
            format!("≤ {upto:>7} µs {count:>9} {bar}")
        };
        buckets.iter().map(bar).collect()
    }
}

/// The median of some numbers; not a number, if there are none.
pub(super) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    match of.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => of[len / 2],
        len => f64::midpoint(of[len / 2 - 1], of[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|n| latencies.add(Duration::from_micros(n)));
        latencies
    }

    #[test]
    fn a_quantile_is_a_time_that_was_measured() {
        let mut hundred = of((1..=100).rev());
        assert_eq!(hundred.quantile(0.5), 50.0);
        assert_eq!(hundred.quantile(0.99), 99.0);
        assert_eq!(hundred.quantile(1.0), 100.0);
        assert_eq!(of([7]).quantile(0.5), 7.0);
        assert!(Latencies::default().quantile(0.5).is_nan());
    }

    #[test]
    fn buckets_hold_all_and_overlap_nowhere() {
        let latencies = of([0, 1, 2, 3, 4, 5, 1024, 1025]);
        assert_eq!(latencies.buckets(), [(1, 2), (2, 1), (4, 2), (8, 1), (1024, 1), (2048, 1)]);
        assert_eq!(latencies.bars().len(), 6);
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
