//! Counters of everything that a node may want to show of its bridge.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            refusals: Mutex<BTreeMap<&'static str, u64>>,
        }

        /// What has been counted since the start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Peers and connections turned away, by the name of the reason.
            pub refusals: BTreeMap<&'static str, u64>,
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    refusals: self.lock().clone(),
                }
            }
        }

        impl Stats {
            /// Every counter but the refusals, with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Connections made, both ways.
    connected,
    /// Connections that ended.
    disconnected,
    /// Attempts to connect that came to nothing.
    dial_failures,
    /// Messages written to lanes.
    messages_out,
    /// Messages read from lanes.
    messages_in,
    /// Bytes of messages written to lanes, heads included.
    message_bytes_out,
    /// Bytes of messages read from lanes.
    message_bytes_in,
    /// Messages that were refused because their queue was full.
    queue_full,
    /// Messages that were queued for a connection that ended.
    lost,
    /// Streams opened to peers.
    streams_out,
    /// Streams that peers opened.
    streams_in,
    /// Gossip messages that were accepted for sending.
    published,
    /// Frames of gossip that were signed and sent: each carries many messages.
    gossip_frames_out,
    /// Frames of gossip that came.
    gossip_frames_in,
    /// Gossip messages that came.
    gossip_in,
    /// Gossip messages dropped because their reader was slow.
    gossip_dropped,
    /// Frames of gossip that nobody was there to take.
    gossip_unheard,
    /// Messages that were refused because the gossip queue was full.
    gossip_queue_full,
    /// Frames of gossip whose content was no batch of messages.
    gossip_garbage,
    /// Gossip beacons sent to neighbours.
    beacons_out,
    /// Gossip beacons heard.
    beacons_in,
    /// Connections closed because the peer no longer heard our gossip.
    deaf,
    /// Peers that came back as another process while their old connection seemed alive.
    restarts,
    /// Events that nobody listened for any more.
    undelivered,
}

impl Counters {
    pub(crate) fn add(&self, counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.lock().entry(reason).or_default() += 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
