//! By which way a tunnel's frames go to its peers. A stream to each is the shortest, and its sender writes every
//! frame as often as there are peers; gossip is written to a few, who pass it on.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synod_bridge::limits::MAX_GOSSIP;
use synod_bridge::{Bridge, PublishError};
use synod_udp_shim::tunnel::{MAX_FRAME_BYTES, MAX_SINGLE_BYTES};

// A datagram of any size is carried by either way.
const _: () = assert!(MAX_SINGLE_BYTES <= MAX_GOSSIP && MAX_SINGLE_BYTES <= MAX_FRAME_BYTES);

/// Peers that frames go to by streams, at most, where nobody says how they are to go.
const MAX_STREAMED: usize = 16;
/// And from so many on downward they do so again.
const STREAMED_AGAIN: usize = 12;
/// Frames go by streams for so long after a topic is listened to: its neighbours have to find each other, and who has
/// just ceased to listen, and begins again, is let in after ten seconds (gossipsub's back-off).
const SETTLING: Duration = Duration::from_secs(15);
/// What comes before a tunnel's name in the name of its topic.
const PREFIX: &str = "synod/tunnel/1/";

/// How frames are to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Carriage {
    /// By streams to few, by gossip to many.
    #[default]
    Auto,
    Streams,
    Gossip,
}

impl FromStr for Carriage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "streams" => Ok(Self::Streams),
            "gossip" => Ok(Self::Gossip),
            _ => Err(format!("{text:?} is no way to carry: say auto, streams or gossip")),
        }
    }
}

impl Carriage {
    /// Whether frames for so many go by gossip, if those before did or did not.
    fn is_by_gossip(self, did: bool, peers: usize) -> bool {
        match self {
            Self::Auto if did => peers > STREAMED_AGAIN,
            Self::Auto => peers > MAX_STREAMED,
            Self::Streams => false,
            Self::Gossip => true,
        }
    }
}

/// The tunnel whose topic this is, if it is one.
pub(crate) fn of_network(topic: &str) -> Option<&str> {
    topic.strip_prefix(PREFIX)
}

/// A tunnel's topic. All who have the tunnel listen to it, however they send themselves.
pub(super) struct Topic {
    name: String,
    carriage: Carriage,
    bridge: Option<Bridge>,
    is_used: AtomicBool,
    /// Since when it is listened to.
    since: OnceLock<Instant>,
}

impl Topic {
    pub(super) fn new(tunnel: &str, carriage: Carriage, bridge: Option<&Bridge>) -> Self {
        Self {
            name: format!("{PREFIX}{tunnel}"),
            carriage,
            bridge: bridge.cloned(),
            is_used: AtomicBool::new(false),
            since: OnceLock::new(),
        }
    }

    /// So many take part.
    pub(super) fn look(&self, peers: usize) {
        let has_settled = self.since.get().is_some_and(|since| since.elapsed() >= SETTLING);
        let is_used = has_settled && self.carriage.is_by_gossip(self.is_used(), peers);
        self.is_used.store(is_used, Ordering::Relaxed);
    }

    /// Whether frames go by gossip now.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Bytes of a frame, at most, by the way that is taken now.
    pub(super) fn most(&self) -> usize {
        if self.is_used() { MAX_GOSSIP } else { MAX_FRAME_BYTES }
    }

    pub(super) fn publish(&self, frame: &[u8]) -> Result<(), PublishError> {
        self.bridge.as_ref().map_or(Ok(()), |bridge| bridge.publish(&self.name, frame))
    }

    /// Listens, if it does not yet.
    pub(super) async fn subscribe(&self) {
        let Some(bridge) = &self.bridge else { return };
        if self.since.get().is_none() {
            match bridge.subscribe(&self.name).await {
                Ok(()) => drop(self.since.set(Instant::now())),
                Err(e) => tracing::debug!("what comes by gossip is not heard: {e}"),
            }
        }
    }

    /// Listens no longer.
    pub(super) async fn unsubscribe(&self) {
        if let Some(bridge) = &self.bridge {
            bridge.unsubscribe(&self.name).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_have_streams_and_many_have_gossip_and_it_does_not_go_to_and_fro() {
        let (mut did, mut ways) = (false, Vec::new());
        for peers in [0, 1, 16, 17, 16, 13, 12, 13, 16, 17, 255] {
            did = Carriage::Auto.is_by_gossip(did, peers);
            ways.push(did);
        }
        let (streams, gossip) = (false, true);
        assert_eq!(
            ways,
            [
                streams, streams, streams, gossip, gossip, gossip, streams, streams, streams,
                gossip, gossip
            ]
        );
        for peers in [0, 255] {
            assert!(!Carriage::Streams.is_by_gossip(true, peers));
            assert!(Carriage::Gossip.is_by_gossip(false, peers));
        }
    }

    #[test]
    fn a_topic_is_its_tunnels_and_no_other() {
        let topic = Topic::new("prices", Carriage::Auto, None);
        assert_eq!(of_network(&topic.name), Some("prices"));
        assert_eq!(of_network("synod/directory/1"), None);
        assert!("by pigeon".parse::<Carriage>().unwrap_err().contains("say auto"));
    }
}
