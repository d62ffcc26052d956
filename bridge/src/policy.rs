//! Whom to dial, and when. Pure: the time and the seed of its chances are arguments.

use crate::book::Book;
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The first pause after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause before a peer that was asked for is tried again.
const LONGEST_WANTED: Duration = Duration::from_secs(5);
/// The longest pause for any other.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// How long a connection has to last for its peer to count as up.
const STEADY: Duration = Duration::from_secs(10);
/// Dials that may run at a time.
const AT_ONCE: usize = 16;
/// How long a peer is left alone that was disconnected by hand.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// Somebody to dial. A seed has no peer id yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Peer(PeerId),
    Seed(Multiaddr),
}

#[derive(Debug)]
struct Pause {
    failures: u32,
    until: Instant,
    connected: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Policy {
    me: PeerId,
    /// The number of connections that are kept up without being asked for.
    peers: usize,
    random: u64,
    dialing: BTreeSet<Target>,
    pauses: BTreeMap<Target, Pause>,
}

impl Policy {
    pub(crate) fn new(me: PeerId, peers: usize, seed: u64) -> Self {
        let (dialing, pauses) = (BTreeSet::new(), BTreeMap::new());
        Self { me, peers, random: seed, dialing, pauses }
    }

    /// Whom to dial now. Each has to end in `succeeded` or `failed`.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        book: &Book,
        connected: &BTreeSet<PeerId>,
    ) -> Vec<Target> {
        let ready = |policy: &Self, target: &Target| {
            !policy.dialing.contains(target)
                && policy.pauses.get(target).is_none_or(|pause| pause.until <= now)
        };
        let mut due: Vec<Target> = Vec::new();
        due.extend(book.seeds.keys().cloned().map(Target::Seed));
        let absent = |peer: &PeerId| *peer != self.me && !connected.contains(peer);
        let peers =
            book.peers.iter().filter(|(peer, known)| absent(peer) && !known.addresses.is_empty());
        let (wanted, others): (Vec<_>, Vec<_>) = peers.partition(|(_, known)| known.wanted);
        due.extend(wanted.into_iter().map(|(peer, _)| Target::Peer(*peer)));
        due.retain(|target| ready(self, target));

        let trying = self.dialing.iter().filter(|target| matches!(target, Target::Peer(_))).count();
        let mut lacking = self.peers.saturating_sub(connected.len() + trying);
        // Those that were met last are the likeliest to be up; among equals chance decides, so that
        // not all nodes ask the same ones.
        let others = others.into_iter().map(|(peer, known)| (known.seen, Target::Peer(*peer)));
        let others: Vec<_> = others.filter(|(_, target)| ready(self, target)).collect();
        let mut others: Vec<_> = others
            .into_iter()
            .map(|(seen, target)| ((std::cmp::Reverse(seen), self.chance()), target))
            .collect();
        others.sort();
        for (_, target) in others {
            if lacking == 0 {
                break;
            }
            lacking -= 1;
            due.push(target);
        }
        due.truncate(AT_ONCE.saturating_sub(self.dialing.len()));
        self.dialing.extend(due.iter().cloned());
        due
    }

    /// When to ask again at the latest, if nothing happens meanwhile.
    pub(crate) fn wake(&self, now: Instant) -> Instant {
        let soon = self.pauses.values().map(|pause| pause.until).filter(|until| *until > now);
        soon.min().unwrap_or(now + LONGEST_WANTED).min(now + LONGEST_WANTED)
    }

    pub(crate) fn succeeded(&mut self, target: &Target, now: Instant) {
        self.dialing.remove(target);
        if let Target::Seed(_) = target {
            self.pauses.remove(target);
        } else if let Some(pause) = self.pauses.get_mut(target) {
            pause.connected = Some(now);
        }
    }

    pub(crate) fn failed(&mut self, target: Target, wanted: bool, now: Instant) {
        self.dialing.remove(&target);
        self.pause(target, wanted, now);
    }

    /// A connection has ended: whoever keeps ending them is asked less and less often.
    pub(crate) fn lost(&mut self, peer: PeerId, wanted: bool, now: Instant) {
        let target = Target::Peer(peer);
        let steady = self
            .pauses
            .get(&target)
            .is_none_or(|pause| pause.connected.is_some_and(|since| now - since >= STEADY));
        if steady {
            self.pauses.remove(&target);
        }
        self.pause(target, wanted, now);
        if let Some(pause) = self.pauses.get_mut(&Target::Peer(peer)) {
            pause.connected = None;
        }
    }

    /// A peer that was disconnected by hand is not dialed for a while.
    pub(crate) fn leave(&mut self, peer: PeerId, now: Instant) {
        let pause = Pause { failures: 0, until: now + LEFT_ALONE, connected: None };
        self.pauses.insert(Target::Peer(peer), pause);
    }

    /// Somebody asks for a peer: it is tried at once.
    pub(crate) fn hurry(&mut self, target: &Target) {
        self.pauses.remove(target);
    }

    /// Forgets the pauses of those who are no longer in the book.
    pub(crate) fn keep_only(&mut self, book: &Book) {
        self.pauses.retain(|target, _| match target {
            Target::Peer(peer) => book.peers.contains_key(peer),
            Target::Seed(address) => book.seeds.contains_key(address),
        });
    }

    fn pause(&mut self, target: Target, wanted: bool, now: Instant) {
        let longest =
            if wanted || matches!(target, Target::Seed(_)) { LONGEST_WANTED } else { LONGEST };
        let chance = self.chance() % 1000;
        let pause =
            self.pauses.entry(target).or_insert(Pause { failures: 0, until: now, connected: None });
        let full = FIRST.saturating_mul(1 << pause.failures.min(20)).min(longest);
        pause.failures = pause.failures.saturating_add(1);
        // Between half of it and all: two that dial each other do not stay in step.
        let part = 500 + u32::try_from(chance).unwrap_or(0) / 2;
        // Who is left alone for longer stays so.
        pause.until = pause.until.max(now + full * part / 1000);
    }

    /// SplitMix64.
    fn chance(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Multiaddr {
        format!("/ip4/10.0.0.{}/tcp/4001", n + 1).parse().unwrap()
    }

    fn policy(peers: usize) -> Policy {
        Policy::new(PeerId::random(), peers, 7)
    }

    #[test]
    fn who_was_asked_for_is_dialed_whatever_the_number_and_others_up_to_it() {
        let (mut book, now) = (Book::default(), Instant::now());
        let wanted = PeerId::random();
        book.add(&at(0).with_p2p(wanted).unwrap()).unwrap();
        for n in 1..9 {
            book.learn(PeerId::random(), &at(n));
        }
        let due = policy(0).due(now, &book, &BTreeSet::new());
        assert_eq!(due, [Target::Peer(wanted)]);
        let mut policy = policy(3);
        assert_eq!(policy.due(now, &book, &BTreeSet::new()).len(), 4);
        assert!(policy.due(now, &book, &BTreeSet::new()).is_empty(), "they are being dialed");
    }

    #[test]
    fn there_are_enough_connections_already() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.learn(PeerId::random(), &at(1));
        let connected: BTreeSet<_> = (0..3).map(|_| PeerId::random()).collect();
        assert!(policy(3).due(now, &book, &connected).is_empty());
        assert_eq!(policy(4).due(now, &book, &connected).len(), 1);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_never_stop() {
        let (mut book, mut now) = (Book::default(), Instant::now());
        let peer = PeerId::random();
        book.add(&at(0).with_p2p(peer).unwrap()).unwrap();
        let (mut policy, none) = (policy(0), BTreeSet::new());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(policy.due(now, &book, &none), [Target::Peer(peer)]);
            policy.failed(Target::Peer(peer), true, now);
            let failed = now;
            while policy.due(now, &book, &none).is_empty() {
                now = policy.wake(now).max(now + Duration::from_millis(1));
            }
            policy.dialing.clear();
            pauses.push(now - failed);
        }
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_WANTED), "{pauses:?}");
        assert!(pauses[11] >= LONGEST_WANTED / 2, "{pauses:?}");
    }

    #[test]
    fn a_steady_connection_that_breaks_is_made_again_soon_and_a_fickle_one_later() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut policy = policy(0);
        let target = Target::Peer(peer);
        policy.lost(peer, true, now);
        assert!(policy.wake(now) <= now + FIRST);
        let mut time = now;
        for _ in 0..10 {
            policy.succeeded(&target, time);
            policy.lost(peer, true, time);
            time = policy.wake(time);
        }
        assert!(policy.wake(time) >= time + LONGEST_WANTED / 2);
        policy.succeeded(&target, time);
        policy.lost(peer, true, time + STEADY);
        assert!(policy.wake(time + STEADY) <= time + STEADY + FIRST);
    }

    #[test]
    fn who_was_disconnected_by_hand_is_left_alone_until_asked_for() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (mut policy, none, peer) = (policy(8), BTreeSet::new(), PeerId::random());
        book.learn(peer, &at(0));
        policy.leave(peer, now);
        assert!(policy.due(now + LEFT_ALONE / 2, &book, &none).is_empty());
        policy.hurry(&Target::Peer(peer));
        assert_eq!(policy.due(now, &book, &none), [Target::Peer(peer)]);
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let mut book = Book::default();
        for n in 0..50 {
            book.learn(PeerId::random(), &at(n));
        }
        let (now, me) = (Instant::now(), PeerId::random());
        let choose = |seed| Policy::new(me, 5, seed).due(now, &book, &BTreeSet::new());
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
    }
}
