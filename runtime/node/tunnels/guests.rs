//! Peers that take part before the directory knows of their tunnel, since gossip may be late: few, and for a
//! short while. So nobody takes the places of those that have the tunnel.

use std::collections::BTreeMap;
use std::time::Duration;
use synod_bridge::PeerId;

/// As many at once, at most.
const MAX_GUESTS: usize = 16;
/// And for so long: what a node says of itself is repeated every other second.
const GUEST_TIME: Duration = Duration::from_secs(15);

/// Who they are, and since when.
#[derive(Debug, Default)]
pub(super) struct Guests(BTreeMap<PeerId, Duration>);

impl Guests {
    /// Whether there is room for somebody, who is a guest then.
    pub(super) fn admit(&mut self, now: Duration, peer: PeerId) -> bool {
        let has_room = self.0.contains_key(&peer) || self.0.len() < MAX_GUESTS;
        if has_room {
            self.0.entry(peer).or_insert(now);
        }
        has_room
    }

    /// The directory knows of its tunnel now; or it could not be had.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// Sends away those that have been guests for too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<PeerId> {
        let is_over = |since: Duration| now.saturating_sub(since) >= GUEST_TIME;
        let gone = self.0.iter().filter(|(_, since)| is_over(**since)).map(|(peer, _)| *peer);
        let gone: Vec<PeerId> = gone.collect();
        gone.iter().for_each(|peer| self.remove(*peer));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_few_places_and_not_for_long() {
        let (mut guests, second) = (Guests::default(), Duration::from_secs(1));
        let peers: Vec<PeerId> = (0..=MAX_GUESTS).map(|_| PeerId::random()).collect();
        assert!(peers[..MAX_GUESTS].iter().all(|peer| guests.admit(second, *peer)));
        assert!(!guests.admit(second, peers[MAX_GUESTS]));
        // Coming again makes nobody stay longer.
        assert!(guests.admit(second * 10, peers[0]));
        assert_eq!(guests.expire(GUEST_TIME), []);
        guests.remove(peers[1]);
        assert_eq!(guests.expire(second + GUEST_TIME).len(), MAX_GUESTS - 1);
        assert!(guests.admit(second * 20, peers[MAX_GUESTS]));
    }
}
