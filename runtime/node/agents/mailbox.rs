//! What waits for an agent and has no position in the log: messages, datagrams, timers that are due.
//! At most once: what does not fit is dropped and counted, and what waits is gone with the node.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use synod_prolog::frame::Trigger;
use tokio::sync::Notify;

/// Bytes of triggers that may wait, with what each costs besides its content.
pub(super) const MAILBOX_BYTES: usize = 8 << 20;
/// What one trigger costs besides its content.
const TRIGGER_OVERHEAD: usize = 96;

/// A bounded queue of triggers.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    dropped: AtomicU64,
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    triggers: VecDeque<Trigger>,
    bytes: usize,
}

impl Mailbox {
    /// Puts a trigger in; drops it if there is no room. Says whether it was taken.
    pub(crate) fn put(&self, trigger: Trigger) -> bool {
        let size = size(&trigger);
        let mut queue = self.lock();
        if queue.bytes + size > MAILBOX_BYTES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        queue.bytes += size;
        queue.triggers.push_back(trigger);
        drop(queue);
        self.came.notify_one();
        true
    }

    /// Puts a timer's trigger in, unless the same one still waits: a slow handler is not flooded.
    pub(super) fn put_timer(&self, term: &[u8]) {
        let waits = |trigger: &Trigger| matches!(trigger, Trigger::Timer { term: t } if t == term);
        if !self.lock().triggers.iter().any(waits) {
            self.put(Trigger::Timer { term: term.to_vec() });
        }
    }

    /// Takes a timer's trigger back, if it still waits.
    pub(super) fn take_back_timer(&self, term: &[u8]) {
        let mut queue = self.lock();
        let is_it = |trigger: &Trigger| matches!(trigger, Trigger::Timer { term: t } if t == term);
        let freed: usize = queue.triggers.iter().filter(|t| is_it(t)).map(size).sum();
        queue.triggers.retain(|trigger| !is_it(trigger));
        queue.bytes -= freed;
    }

    /// Takes out what came first, `max` at most.
    pub(super) fn take(&self, max: usize) -> Vec<Trigger> {
        let mut queue = self.lock();
        let len = queue.triggers.len().min(max);
        let taken: Vec<_> = queue.triggers.drain(..len).collect();
        queue.bytes -= taken.iter().map(size).sum::<usize>();
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().triggers.is_empty()
    }

    /// Resolves when something has come since the last time.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(trigger: &Trigger) -> usize {
    let content = match trigger {
        Trigger::Message { topic, from, term } => topic.len() + from.len() + term.len(),
        Trigger::Sent { from, term } => from.len() + term.len(),
        Trigger::Timer { term } => term.len(),
        Trigger::Datagram { group, from, bytes, .. } => group.len() + from.len() + bytes.len(),
        Trigger::OrderedDatagram { group, from, bytes, .. } => {
            group.len() + from.len() + bytes.len()
        }
        Trigger::Udp { scope, from, term } | Trigger::OrderedUdp { scope, from, term, .. } => {
            scope.len() + from.len() + term.len()
        }
        Trigger::Event { from, term, .. } => from.len() + term.len(),
        Trigger::Changed { fact, .. } => fact.len(),
        Trigger::Recorded { term } => term.len(),
        Trigger::Start | Trigger::Engine | Trigger::Gap { .. } => 0,
    };
    TRIGGER_OVERHEAD + content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(bytes: usize) -> Trigger {
        Trigger::Timer { term: vec![0; bytes] }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put(timer(MAILBOX_BYTES - TRIGGER_OVERHEAD)));
        assert!(!mailbox.put(timer(0)));
        assert_eq!(mailbox.dropped(), 1);
        assert_eq!(mailbox.take(9).len(), 1);
        assert!(mailbox.put(timer(0)), "room is given back");
    }

    #[test]
    fn a_timer_waits_once() {
        let mailbox = Mailbox::default();
        mailbox.put_timer(b"a");
        mailbox.put_timer(b"a");
        mailbox.put_timer(b"b");
        mailbox.take_back_timer(b"a");
        assert_eq!(mailbox.take(9).len(), 1, "one that is cancelled waits no longer");
        assert_eq!(mailbox.lock().bytes, 0);
    }
}
