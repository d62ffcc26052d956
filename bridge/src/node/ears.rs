//! Whether neighbours hear our gossip. Pure: times are arguments.
//!
//! A gossip stream can die while its connection lives, and publishing goes on as if nothing were:
//! after a message over the receiver's bound, or when a peer returns under its old identity. So each
//! node has a topic that only it subscribes to; its neighbours publish beacons there, which go the
//! way that all gossip goes, and it answers on the urgent lane. Who does not answer is deaf, and
//! closing the connection heals it.

use libp2p::PeerId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Ears {
    interval: Duration,
    may_miss: u32,
    peers: HashMap<PeerId, Ear>,
}

#[derive(Debug)]
struct Ear {
    next: Instant,
    unheard: u32,
    /// How many beacons of this peer have come here.
    from: u64,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) beacons: Vec<PeerId>,
    pub(super) deaf: Vec<PeerId>,
}

impl Ears {
    pub(super) fn new(interval: Duration, may_miss: u32) -> Self {
        Self { interval, may_miss, peers: HashMap::new() }
    }

    pub(super) fn connected(&mut self, peer: PeerId, now: Instant) {
        self.peers.insert(peer, Ear { next: now + self.interval, unheard: 0, from: 0 });
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Its next beacon is due now.
    pub(super) fn ask_now(&mut self, peer: &PeerId, now: Instant) {
        if let Some(ear) = self.peers.get_mut(peer) {
            ear.next = now;
        }
    }

    /// The peer says that it hears us.
    pub(super) fn heard(&mut self, peer: &PeerId) {
        if let Some(ear) = self.peers.get_mut(peer) {
            ear.unheard = 0;
        }
    }

    /// A beacon of the peer has come; how many of this connection have.
    pub(super) fn came(&mut self, peer: &PeerId) -> Option<u64> {
        self.peers.get_mut(peer).map(|ear| {
            ear.from += 1;
            ear.from
        })
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.peers.values().map(|ear| ear.next).min()
    }

    pub(super) fn round(&mut self, now: Instant) -> Round {
        let mut round = Round::default();
        for (peer, ear) in self.peers.iter_mut().filter(|(_, ear)| ear.next <= now) {
            ear.next = now + self.interval;
            if ear.unheard >= self.may_miss {
                round.deaf.push(*peer);
            } else {
                ear.unheard += 1;
                round.beacons.push(*peer);
            }
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_answers_is_never_deaf_and_who_ceases_to_is_after_three() {
        let (mut ears, peer, mut now) = (Ears::new(SECOND, 3), PeerId::random(), Instant::now());
        ears.connected(peer, now);
        assert_eq!(ears.round(now), Round::default());
        for _ in 0..10 {
            now += SECOND;
            assert_eq!(ears.due(), Some(now));
            assert_eq!(ears.round(now).beacons, [peer]);
            ears.heard(&peer);
        }
        for _ in 0..3 {
            now += SECOND;
            assert_eq!(ears.round(now).beacons, [peer]);
        }
        now += SECOND;
        assert_eq!(ears.round(now), Round { beacons: vec![], deaf: vec![peer] });
        ears.gone(&peer);
        assert_eq!(ears.due(), None);
    }
}
