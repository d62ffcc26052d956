//! How much a peer may send: so many datagrams and bytes a second, and a burst of a quarter of that.

use std::time::Duration;

/// Datagrams that are taken of one peer in a second, at most.
pub const MAX_DATAGRAMS_PER_SECOND: u64 = 400_000;
/// Bytes that are taken of one peer in a second, at most.
pub const MAX_BYTES_PER_SECOND: u64 = 512 << 20;
/// A burst is what comes in this part of a second.
const BURST: u64 = 4;

/// What a peer may still send. Time is an argument: since the tunnel was made.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    at: Duration,
    datagrams: Bucket,
    bytes: Bucket,
}

#[derive(Clone, Debug)]
struct Bucket {
    per_second: u64,
    /// What is left, in parts of a billion.
    left: u128,
}

impl Rate {
    pub(super) fn new(now: Duration) -> Self {
        let datagrams = Bucket::full(MAX_DATAGRAMS_PER_SECOND);
        Self { at: now, datagrams, bytes: Bucket::full(MAX_BYTES_PER_SECOND) }
    }

    /// Whether a datagram of so many bytes may come in.
    pub(super) fn take(&mut self, now: Duration, len: usize) -> bool {
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        self.datagrams.fill(passed);
        self.bytes.fill(passed);
        let (one, len) = (Bucket::parts(1), Bucket::parts(len as u64));
        if self.datagrams.left < one || self.bytes.left < len {
            return false;
        }
        self.datagrams.left -= one;
        self.bytes.left -= len;
        true
    }
}

impl Bucket {
    fn full(per_second: u64) -> Self {
        Self { per_second, left: Self::parts(per_second / BURST) }
    }

    fn parts(n: u64) -> u128 {
        u128::from(n) * 1_000_000_000
    }

    fn fill(&mut self, nanos: u128) {
        let more = nanos.saturating_mul(u128::from(self.per_second));
        self.left = self.left.saturating_add(more).min(Self::parts(self.per_second / BURST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: &mut Rate, now: Duration, len: usize) -> u64 {
        let mut taken = 0;
        while rate.take(now, len) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn datagrams_are_bounded_by_their_number() {
        let mut rate = Rate::new(Duration::ZERO);
        assert_eq!(taken(&mut rate, Duration::ZERO, 0), MAX_DATAGRAMS_PER_SECOND / 4);
        let millisecond = Duration::from_millis(1);
        assert_eq!(taken(&mut rate, millisecond, 0), MAX_DATAGRAMS_PER_SECOND / 1000);
        assert_eq!(taken(&mut rate, Duration::from_secs(9), 0), MAX_DATAGRAMS_PER_SECOND / 4);
        assert_eq!(taken(&mut rate, millisecond, 0), 0, "time that runs back gives nothing");
    }

    #[test]
    fn large_ones_are_bounded_by_their_bytes() {
        let mut rate = Rate::new(Duration::ZERO);
        let len = 65_507;
        assert_eq!(taken(&mut rate, Duration::ZERO, len), MAX_BYTES_PER_SECOND / 4 / len as u64);
        assert!(rate.take(Duration::ZERO, 1), "a small one still fits");
    }
}
