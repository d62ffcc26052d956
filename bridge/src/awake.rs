//! Staying awake while messages are expected: the bridge's thread then asks its sockets again and again, and gives way
//! to whoever has work, in place of sleeping until one of them wakes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Until when messages are expected.
#[derive(Debug)]
pub(crate) struct Awake {
    /// Where times are counted from.
    origin: Instant,
    /// In nanoseconds.
    until: AtomicU64,
    is_awake: AtomicBool,
    wanted: Notify,
}

impl Awake {
    pub(crate) fn new() -> Self {
        let (until, is_awake) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { origin: Instant::now(), until, is_awake, wanted: Notify::new() }
    }

    /// Something is expected within this time.
    pub(crate) fn expect(&self, within: Duration) {
        let until = u64::try_from((self.origin.elapsed() + within).as_nanos()).unwrap_or(u64::MAX);
        self.until.fetch_max(until, Ordering::AcqRel);
        if !self.is_awake.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    /// Keeps the thread of a runtime awake whenever something is expected. Never ends.
    pub(crate) async fn keep(&self) {
        loop {
            while self.is_expected() {
                std::thread::yield_now();
                // The runtime asks its sockets meanwhile.
                tokio::task::yield_now().await;
            }
            self.is_awake.store(false, Ordering::Release);
            // Who expects something behind this line, notifies.
            if !self.is_expected() || self.is_awake.swap(true, Ordering::AcqRel) {
                self.wanted.notified().await;
            }
        }
    }

    fn is_expected(&self) -> bool {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        now < self.until.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn it_sleeps_and_is_woken_as_often_as_something_is_expected() {
        let awake = Arc::new(Awake::new());
        let keeping = {
            let awake = Arc::clone(&awake);
            tokio::spawn(async move { awake.keep().await })
        };
        for _ in 0..100 {
            awake.expect(Duration::from_micros(200));
            assert!(awake.is_awake.load(Ordering::Acquire));
            while awake.is_awake.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            assert!(!awake.is_expected(), "it slept too early");
        }
        keeping.abort();
    }
}
