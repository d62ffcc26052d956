//! The address book: who there is, where, and how dialing them went. Pure: times are arguments, in
//! seconds since 1970, for they outlive the process.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Peers that are kept.
pub const MAX_PEERS: usize = 1024;
/// Addresses that are kept of each.
pub const MAX_ADDRESSES: usize = 8;
/// Addresses without a peer id that are kept.
pub const MAX_SEEDS: usize = 64;
/// The longest address, in bytes of its binary form.
const MAX_ADDRESS_BYTES: usize = 512;
/// So many failures in a row make an address dead…
const DEAD_FAILURES: u32 = 8;
/// …if it has not been reached for so long.
const DEAD_AFTER: u64 = 24 * 60 * 60;

/// How dialing an address went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// How often it was reached.
    pub successes: u64,
    /// How often it was not.
    pub failures: u64,
    /// How often it was not since it last was.
    pub failed_in_a_row: u32,
    /// When it was last reached.
    pub reached: Option<u64>,
    /// Whether somebody gave it by hand: it is then never dropped.
    pub wanted: bool,
}

/// A peer of the book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whether somebody asked for it by hand: a connection is then kept up.
    pub wanted: bool,
    /// When there was last a connection.
    pub seen: Option<u64>,
    /// Where it may be, without its id.
    pub addresses: BTreeMap<Multiaddr, Tries>,
}

/// The book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The peers.
    pub peers: BTreeMap<PeerId, Known>,
    /// Addresses given by hand of which nobody knows yet whose they are.
    pub seeds: BTreeMap<Multiaddr, Tries>,
}

/// Why an address was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Nobody could dial it.
    #[error("{0} is no address that can be dialed: give one like /ip4/192.0.2.7/tcp/4001")]
    NotDialable(Multiaddr),
    /// The book is full of addresses that were given by hand.
    #[error("the address book is full: remove some first")]
    Full,
}

impl Book {
    /// Adds an address that somebody gave; with a `/p2p/` part at its end, as that peer's.
    ///
    /// # Errors
    /// Where it cannot be dialed or nothing may make room for it.
    pub fn add(&mut self, address: &Multiaddr) -> Result<Option<PeerId>, AddError> {
        let (address, peer) = split(address);
        if !dialable(&address) {
            return Err(AddError::NotDialable(address));
        }
        let Some(peer) = peer else {
            if !self.seeds.contains_key(&address) && self.seeds.len() >= MAX_SEEDS {
                return Err(AddError::Full);
            }
            self.seeds.entry(address).or_default().wanted = true;
            return Ok(None);
        };
        if !self.make_room(&peer, true) {
            return Err(AddError::Full);
        }
        let known = self.peers.entry(peer).or_default();
        if !make_room(&mut known.addresses, &address, true) {
            return Err(AddError::Full);
        }
        known.wanted = true;
        known.addresses.entry(address).or_default().wanted = true;
        Ok(Some(peer))
    }

    /// Notes an address that others told of. It pushes out nothing that is better.
    pub fn learn(&mut self, peer: PeerId, address: &Multiaddr) {
        let (address, named) = split(address);
        if named.is_some_and(|named| named != peer) || !dialable(&address) {
            return;
        }
        if self.make_room(&peer, false) {
            let known = self.peers.entry(peer).or_default();
            if make_room(&mut known.addresses, &address, false) {
                known.addresses.entry(address).or_default();
            }
        }
    }

    /// A peer was reached at an address, or came by itself (`None`).
    pub fn reached(&mut self, peer: PeerId, address: Option<&Multiaddr>, now: u64) {
        if let Some(address) = address {
            let (address, _) = split(address);
            let was_seed = self.seeds.remove(&address);
            self.learn(peer, &address);
            if let Some(known) = self.peers.get_mut(&peer) {
                if let Some(tries) = known.addresses.get_mut(&address) {
                    tries.successes += 1;
                    tries.failed_in_a_row = 0;
                    tries.reached = Some(now);
                    tries.wanted |= was_seed.is_some();
                }
                known.wanted |= was_seed.is_some();
            }
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.seen = Some(now);
        }
    }

    /// An address was tried in vain.
    pub fn failed(&mut self, peer: Option<PeerId>, address: &Multiaddr, now: u64) {
        let (address, named) = split(address);
        let tries = match peer.or(named) {
            Some(peer) => {
                self.peers.get_mut(&peer).and_then(|known| known.addresses.get_mut(&address))
            }
            None => self.seeds.get_mut(&address),
        };
        if let Some(tries) = tries {
            tries.failures += 1;
            tries.failed_in_a_row = tries.failed_in_a_row.saturating_add(1);
        }
        self.purge(now);
    }

    /// Somebody asks for a peer: a connection is kept up. Whether the book knows it.
    pub fn want(&mut self, peer: &PeerId) -> bool {
        self.peers.get_mut(peer).is_some_and(|known| {
            known.wanted = true;
            true
        })
    }

    /// Forgets a peer; whether it was known.
    pub fn remove_peer(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer).is_some()
    }

    /// Forgets an address, whosever it is; whether it was known.
    pub fn remove_address(&mut self, address: &Multiaddr) -> bool {
        let (address, named) = split(address);
        let mut removed = named.is_none() && self.seeds.remove(&address).is_some();
        for (peer, known) in &mut self.peers {
            if named.is_none_or(|named| named == *peer) {
                removed |= known.addresses.remove(&address).is_some();
            }
        }
        self.peers.retain(|_, known| !known.addresses.is_empty());
        removed
    }

    /// Where a peer may be, the likeliest first.
    pub fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let Some(known) = self.peers.get(peer) else {
            return Vec::new();
        };
        let mut addresses: Vec<_> = known.addresses.iter().collect();
        addresses.sort_by_key(|(_, tries)| std::cmp::Reverse(worth(tries)));
        addresses.into_iter().map(|(address, _)| address.clone()).collect()
    }

    /// Drops addresses that are dead, and peers without any.
    fn purge(&mut self, now: u64) {
        for known in self.peers.values_mut() {
            known.addresses.retain(|_, tries| !is_dead(tries, now));
        }
        self.peers.retain(|_, known| known.wanted || !known.addresses.is_empty());
    }

    /// Whether there is a place for the peer, which the least of the others may have to leave.
    fn make_room(&mut self, peer: &PeerId, wanted: bool) -> bool {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(peer) {
            return true;
        }
        let least = self.peers.iter().filter(|(_, known)| !known.wanted);
        let worth_of = |known: &Known| known.addresses.values().map(worth).max();
        let least = least.min_by_key(|(_, known)| (known.seen, worth_of(known)));
        match least.map(|(least, known)| (*least, known.seen)) {
            // A crowd of names that somebody tells of does not push out peers that were met.
            Some((least, seen)) if wanted || seen.is_none() => {
                self.peers.remove(&least);
                true
            }
            _ => false,
        }
    }
}

fn make_room(
    addresses: &mut BTreeMap<Multiaddr, Tries>,
    address: &Multiaddr,
    wanted: bool,
) -> bool {
    if addresses.len() < MAX_ADDRESSES || addresses.contains_key(address) {
        return true;
    }
    let least = addresses.iter().filter(|(_, tries)| !tries.wanted).min_by_key(|(_, t)| worth(t));
    match least.map(|(least, tries)| (least.clone(), tries.reached)) {
        Some((least, reached)) if wanted || reached.is_none() => {
            addresses.remove(&least);
            true
        }
        _ => false,
    }
}

/// Addresses that were reached come first, then those that failed least.
fn worth(tries: &Tries) -> (bool, std::cmp::Reverse<u32>, Option<u64>, u64) {
    let doubtful = tries.failed_in_a_row >= DEAD_FAILURES;
    let worth = std::cmp::Reverse(tries.failed_in_a_row);
    (!doubtful && tries.reached.is_some(), worth, tries.reached, tries.successes)
}

fn is_dead(tries: &Tries, now: u64) -> bool {
    let long_ago = tries.reached.is_none_or(|reached| now.saturating_sub(reached) > DEAD_AFTER);
    !tries.wanted && tries.failed_in_a_row >= DEAD_FAILURES && long_ago
}

/// An address without the id of the peer at its end, and that id.
pub fn split(address: &Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut rest = address.clone();
    match rest.pop() {
        Some(Protocol::P2p(peer)) => (rest, Some(peer)),
        _ => (address.clone(), None),
    }
}

/// Whether an address says where to connect to: no wildcard, no port 0, not endless.
fn dialable(address: &Multiaddr) -> bool {
    let mut port = false;
    for part in address {
        match part {
            Protocol::Ip4(ip) if ip.is_unspecified() => return false,
            Protocol::Ip6(ip) if ip.is_unspecified() => return false,
            Protocol::Tcp(0) | Protocol::Udp(0) => return false,
            Protocol::Tcp(_) | Protocol::Udp(_) => port = true,
            _ => {}
        }
    }
    port && address.len() <= MAX_ADDRESS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Multiaddr {
        format!("/ip4/10.0.{}.{}/tcp/4001", n / 250, n % 250 + 1).parse().unwrap()
    }

    fn of(peer: PeerId, n: usize) -> Multiaddr {
        at(n).with_p2p(peer).unwrap()
    }

    #[test]
    fn successes_and_failures_are_counted_for_each_address() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        assert_eq!(book.add(&of(peer, 1)), Ok(Some(peer)));
        book.learn(peer, &at(2));
        book.failed(Some(peer), &at(1), 10);
        book.failed(Some(peer), &at(1), 11);
        book.reached(peer, Some(&of(peer, 2)), 12);
        let known = &book.peers[&peer];
        assert_eq!((known.wanted, known.seen), (true, Some(12)));
        assert_eq!((known.addresses[&at(1)].failures, known.addresses[&at(2)].successes), (2, 1));
        assert_eq!(book.addresses(&peer), [at(2), at(1)], "the likeliest first");
    }

    #[test]
    fn a_dead_address_is_dropped_and_one_given_by_hand_never() {
        let (mut book, peer, given) = (Book::default(), PeerId::random(), PeerId::random());
        book.learn(peer, &at(1));
        book.add(&of(given, 2)).unwrap();
        for now in 0..u64::from(DEAD_FAILURES) {
            assert!(book.peers.contains_key(&peer));
            book.failed(Some(peer), &at(1), now);
            book.failed(Some(given), &at(2), now);
        }
        assert!(!book.peers.contains_key(&peer), "a peer without an address goes too");
        assert_eq!(book.addresses(&given), [at(2)]);
    }

    #[test]
    fn an_address_that_worked_a_day_ago_is_given_time() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.reached(peer, Some(&at(1)), 1000);
        for _ in 0..100 {
            book.failed(Some(peer), &at(1), 1000 + DEAD_AFTER);
        }
        assert_eq!(book.addresses(&peer), [at(1)]);
        book.failed(Some(peer), &at(1), 1001 + DEAD_AFTER);
        assert!(book.addresses(&peer).is_empty());
    }

    #[test]
    fn a_seed_becomes_the_address_of_whom_is_met_there() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        assert_eq!(book.add(&at(1)), Ok(None));
        book.reached(peer, Some(&at(1)), 5);
        assert!(book.seeds.is_empty());
        assert!(book.peers[&peer].wanted && book.peers[&peer].addresses[&at(1)].wanted);
    }

    #[test]
    fn names_that_somebody_tells_of_push_out_nobody_that_was_met() {
        let mut book = Book::default();
        let (met, given) = (PeerId::random(), PeerId::random());
        book.reached(met, Some(&at(1)), 1);
        book.add(&of(given, 2)).unwrap();
        for n in 0..3 * MAX_PEERS {
            book.learn(PeerId::random(), &at(n));
        }
        assert_eq!(book.peers.len(), MAX_PEERS);
        assert!(book.peers.contains_key(&met) && book.peers.contains_key(&given));
        for n in 0..100 {
            book.learn(met, &at(n + 10));
        }
        assert_eq!(book.peers[&met].addresses.len(), MAX_ADDRESSES);
        assert!(book.peers[&met].addresses.contains_key(&at(1)));
    }

    #[test]
    fn what_nobody_could_dial_is_refused() {
        let mut book = Book::default();
        for text in ["/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4", "/p2p-circuit"] {
            assert!(matches!(book.add(&text.parse().unwrap()), Err(AddError::NotDialable(_))));
        }
        let (peer, other) = (PeerId::random(), PeerId::random());
        book.learn(peer, &of(other, 1));
        assert!(book.peers.is_empty(), "nobody speaks for another");
    }

    #[test]
    fn peers_and_addresses_are_removed_by_hand() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.add(&of(peer, 1)).unwrap();
        book.add(&of(peer, 2)).unwrap();
        assert!(book.remove_address(&at(1)) && !book.remove_address(&at(1)));
        assert_eq!(book.addresses(&peer), [at(2)]);
        assert!(book.remove_peer(&peer) && !book.remove_peer(&peer));
    }

    #[test]
    fn it_reads_back_from_json() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.add(&of(peer, 1)).unwrap();
        book.add(&at(2)).unwrap();
        book.reached(peer, Some(&at(1)), 7);
        let text = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<Book>(&text).unwrap(), book);
    }
}
