//! Whom an observer asks for what it lacks: whoever has it, others that only follow before those that vote, and
//! of those that vote the ones that speak to observers before the one that leads, which does not.

use crate::time::Time;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long who could not help is not asked.
const PASS_OVER: Duration = Duration::from_millis(500);
/// How long who lied is not asked.
const PASS_OVER_LIARS: Duration = Duration::from_secs(60);
/// Peers that are passed over, at most: of more, those that would be asked first again are forgotten.
const MAX_PASSED_OVER: usize = 1024;
/// Peers of a kind that are looked at, at most.
const MAX_SOURCES: usize = 256;

#[derive(Debug)]
pub(super) struct Sources {
    observers: Vec<Bytes>,
    voters: Vec<Bytes>,
    until: BTreeMap<Bytes, Time>,
    /// Changes with each choice, so that observers do not all ask the same.
    seed: u64,
}

impl Sources {
    pub(super) fn new(seed: u64) -> Self {
        Self { observers: Vec::new(), voters: Vec::new(), until: BTreeMap::new(), seed }
    }

    pub(super) fn reachable(&mut self, mut observers: Vec<Bytes>, mut voters: Vec<Bytes>) {
        observers.truncate(MAX_SOURCES);
        voters.truncate(MAX_SOURCES);
        (self.observers, self.voters) = (observers, voters);
    }

    /// Somebody to ask now. Only one who votes can say that there is nothing more.
    pub(super) fn choose(
        &mut self,
        now: Time,
        is_heard: impl Fn(&Bytes) -> bool,
        must_vote: bool,
    ) -> Option<Bytes> {
        self.until.retain(|_, until| *until > now);
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pick = self.seed >> 33;
        let is_free = |peer: &&Bytes| !self.until.contains_key(*peer);
        let of = |all: Vec<&Bytes>| {
            let place = pick.checked_rem(all.len() as u64)?;
            all.get(usize::try_from(place).unwrap_or(0)).map(|peer| (*peer).clone())
        };
        let observers = self.observers.iter().filter(|_| !must_vote).filter(is_free).collect();
        let free_voters = || self.voters.iter().filter(is_free);
        of(observers)
            .or_else(|| of(free_voters().filter(|peer| is_heard(peer)).collect()))
            .or_else(|| of(free_voters().collect()))
    }

    pub(super) fn helped(&mut self, peer: &Bytes) {
        self.until.remove(peer);
    }

    pub(super) fn pass_over(&mut self, peer: &Bytes, now: Time) {
        self.until(peer, now + PASS_OVER);
    }

    pub(super) fn pass_over_for_long(&mut self, peer: &Bytes, now: Time) {
        self.until(peer, now + PASS_OVER_LIARS);
    }

    fn until(&mut self, peer: &Bytes, until: Time) {
        self.until.insert(peer.clone(), until);
        if self.until.len() > MAX_PASSED_OVER
            && let Some(first) = self.until.iter().min_by_key(|(_, until)| **until)
        {
            let first = first.0.clone();
            self.until.remove(&first);
        }
    }
}
