//! What people are shown of an agent: counters and a state, kept by its task, read by anyone.

use crate::api::Problem;
use crate::rates::Meter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// The state of an agent on this node.
#[derive(Debug, Default)]
pub(super) struct View {
    state: Mutex<Shown>,
    handled: AtomicU64,
    failed: AtomicU64,
    deaths: AtomicU64,
    /// Engines that handled what happens, the first one included.
    engines: AtomicU64,
    meter: Meter,
    /// The index up to which all that the agent handles has been handled.
    passed: watch::Sender<u64>,
    /// What its program was warned of when it was loaded.
    warnings: Mutex<Vec<Problem>>,
}

/// What changes as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) state: &'static str,
    pub(super) why: Option<String>,
    pub(super) pid: Option<u32>,
}

impl View {
    pub(super) fn shown(&self) -> Shown {
        self.lock().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.lock().state, "running" | "waiting")
    }

    /// Whether the agent runs, or is being started.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.lock().state, "" | "running" | "standby" | "waiting")
    }

    pub(super) fn running(&self, pid: u32) {
        *self.lock() = Shown { state: "running", why: None, pid: Some(pid) };
    }

    /// Another node runs it.
    pub(super) fn standing_by(&self, node: &str, pid: u32) {
        let why = Some(format!("runs on node {node}"));
        *self.lock() = Shown { state: "standby", why, pid: Some(pid) };
    }

    pub(super) fn waiting(&self, why: &str) {
        *self.lock() = Shown { state: "waiting", why: Some(why.to_owned()), pid: None };
    }

    pub(super) fn failed(&self, why: &str) {
        *self.lock() = Shown { state: "failed", why: Some(why.to_owned()), pid: None };
    }

    pub(super) fn stopped(&self, why: &str) {
        *self.lock() = Shown { state: "stopped", why: Some(why.to_owned()), pid: None };
    }

    pub(super) fn died(&self, why: &str) {
        self.deaths.fetch_add(1, Ordering::Relaxed);
        self.waiting(why);
    }

    pub(super) fn handled_more(&self, handled: u64, failed: u64) {
        self.handled.fetch_add(handled, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// The program was loaded with these warnings.
    pub(super) fn warned(&self, warnings: Vec<Problem>) {
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }

    pub(super) fn warnings(&self) -> Vec<Problem> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that the agent handles up to an index has been handled.
    pub(super) fn has_passed(&self, index: u64) {
        self.passed.send_if_modified(|passed| {
            let is_later = *passed < index;
            *passed = index.max(*passed);
            is_later
        });
    }

    /// The index up to which all that the agent handles has been handled.
    pub(super) fn passed(&self) -> u64 {
        *self.passed.borrow()
    }

    /// Waits until the agent has passed an index.
    pub(super) async fn passes(&self, index: u64) {
        // The sender is here: the wait cannot fail.
        drop(self.passed.subscribe().wait_for(|passed| *passed >= index).await);
    }

    /// An engine has taken over.
    pub(super) fn taken_over(&self, pid: u32) {
        self.engines.fetch_add(1, Ordering::Relaxed);
        self.running(pid);
    }

    /// Engines that took over from one before.
    pub(super) fn restarts(&self) -> u64 {
        self.engines.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Notes how much has been handled, for the rate.
    pub(super) fn sample(&self, now: Instant) {
        self.meter.sample(now, self.handled.load(Ordering::Relaxed));
    }

    /// Triggers handled a second.
    pub(super) fn rate(&self) -> f64 {
        self.meter.rate(Instant::now(), self.handled.load(Ordering::Relaxed))
    }

    /// Triggers handled, handlers that did not succeed, engines that died.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (read(&self.handled), read(&self.failed), read(&self.deaths))
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
