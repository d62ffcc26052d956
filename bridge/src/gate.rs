//! Who is let in. Pure: it is told the time and what happens, and says yes or why not.

use crate::event::Refusal;
use crate::limits::Limits;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Peers that may be blocked at a time; the block that ends first makes room.
const BLOCKED: usize = 4096;
/// Offences that are forgiven, if they lie far enough apart.
const OFFENCES: u32 = 3;
/// How long an offence is remembered.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Gate {
    allow: Option<BTreeSet<PeerId>>,
    /// `None` is for good.
    blocked: BTreeMap<PeerId, Option<Instant>>,
    offences: BTreeMap<PeerId, (u32, Instant)>,
    pending: HashMap<ConnectionId, IpAddr>,
    established: HashMap<ConnectionId, IpAddr>,
    pending_per_host: usize,
    connections_per_host: usize,
    block: Duration,
}

impl Gate {
    pub(crate) fn new(allow: Option<BTreeSet<PeerId>>, limits: &Limits) -> Self {
        Self {
            allow,
            blocked: BTreeMap::new(),
            offences: BTreeMap::new(),
            pending: HashMap::new(),
            established: HashMap::new(),
            pending_per_host: limits.pending_per_host,
            connections_per_host: limits.connections_per_host,
            block: limits.block,
        }
    }

    /// Whether a peer may be connected with at all.
    pub(crate) fn admits(&self, peer: &PeerId, now: Instant) -> Result<(), Refusal> {
        if self.allow.as_ref().is_some_and(|allow| !allow.contains(peer)) {
            return Err(Refusal::NotAllowed);
        }
        match self.blocked.get(peer) {
            Some(None) => Err(Refusal::Blocked),
            Some(Some(until)) if *until > now => Err(Refusal::Blocked),
            _ => Ok(()),
        }
    }

    /// A connection has come in, and nobody knows yet whose it is.
    pub(crate) fn incoming(&mut self, id: ConnectionId, host: IpAddr) -> Result<(), Refusal> {
        let count =
            |of: &HashMap<ConnectionId, IpAddr>| of.values().filter(|h| **h == host).count();
        let pending = count(&self.pending);
        if pending >= self.pending_per_host
            || pending + count(&self.established) >= self.connections_per_host
        {
            return Err(Refusal::TooMany);
        }
        self.pending.insert(id, host);
        Ok(())
    }

    /// It is a peer's.
    pub(crate) fn established(&mut self, id: ConnectionId) {
        if let Some(host) = self.pending.remove(&id) {
            self.established.insert(id, host);
        }
    }

    /// It has ended, or never came about.
    pub(crate) fn gone(&mut self, id: ConnectionId) {
        self.pending.remove(&id);
        self.established.remove(&id);
    }

    /// Keeps a peer out, for good or until then.
    pub(crate) fn block(&mut self, peer: PeerId, until: Option<Instant>) {
        if self.blocked.len() >= BLOCKED && !self.blocked.contains_key(&peer) {
            let first = self.blocked.iter().filter_map(|(peer, until)| Some(((*until)?, *peer)));
            // Blocks for good were made by hand, and stay.
            if let Some((_, first)) = first.min() {
                self.blocked.remove(&first);
            }
        }
        self.blocked.insert(peer, until);
    }

    /// Takes a block back; whether there was one.
    pub(crate) fn unblock(&mut self, peer: &PeerId) -> bool {
        self.offences.remove(peer);
        self.blocked.remove(peer).is_some()
    }

    /// A peer broke the protocol; whether it stays out for a while now.
    pub(crate) fn offended(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.offences.len() >= BLOCKED {
            self.offences.retain(|_, (_, last)| *last + MEMORY > now);
            if self.offences.len() >= BLOCKED {
                self.offences.pop_first();
            }
        }
        let (count, last) = self.offences.entry(peer).or_insert((0, now));
        *count = if *last + MEMORY > now { *count + 1 } else { 1 };
        *last = now;
        if *count < OFFENCES {
            return false;
        }
        self.offences.remove(&peer);
        self.block(peer, Some(now + self.block));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let limits = Limits { pending_per_host: 3, connections_per_host: 5, ..Limits::default() };
        Gate::new(None, &limits)
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn an_allow_list_lets_in_nobody_else() {
        let (friend, stranger) = (PeerId::random(), PeerId::random());
        let gate = Gate::new(Some([friend].into()), &Limits::default());
        assert_eq!(gate.admits(&friend, Instant::now()), Ok(()));
        assert_eq!(gate.admits(&stranger, Instant::now()), Err(Refusal::NotAllowed));
    }

    #[test]
    fn a_block_ends_by_time_or_by_hand() {
        let (mut gate, peer, now) = (gate(), PeerId::random(), Instant::now());
        gate.block(peer, Some(now + Duration::from_secs(5)));
        assert_eq!(gate.admits(&peer, now), Err(Refusal::Blocked));
        assert_eq!(gate.admits(&peer, now + Duration::from_secs(6)), Ok(()));
        gate.block(peer, None);
        assert_eq!(gate.admits(&peer, now + Duration::from_secs(999)), Err(Refusal::Blocked));
        assert!(gate.unblock(&peer));
        assert_eq!(gate.admits(&peer, now), Ok(()));
    }

    #[test]
    fn repeated_offences_block_and_rare_ones_do_not() {
        let (mut gate, peer, now) = (gate(), PeerId::random(), Instant::now());
        for n in 0..10 {
            assert!(!gate.offended(peer, now + MEMORY * 2 * n), "each is forgotten");
        }
        let now = now + MEMORY * 100;
        assert!(!gate.offended(peer, now));
        assert!(!gate.offended(peer, now));
        assert!(gate.offended(peer, now));
        assert_eq!(gate.admits(&peer, now), Err(Refusal::Blocked));
    }

    #[test]
    fn one_host_cannot_take_all_places() {
        let mut gate = gate();
        let (rude, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for n in 0..3 {
            assert_eq!(gate.incoming(id(n), rude), Ok(()));
        }
        assert_eq!(gate.incoming(id(3), rude), Err(Refusal::TooMany));
        assert_eq!(gate.incoming(id(4), other), Ok(()), "others still come in");
        for n in 0..3 {
            gate.established(id(n));
        }
        assert_eq!(gate.incoming(id(5), rude), Ok(()));
        assert_eq!(gate.incoming(id(6), rude), Ok(()));
        assert_eq!(gate.incoming(id(7), rude), Err(Refusal::TooMany), "five in all");
        gate.gone(id(0));
        assert_eq!(gate.incoming(id(8), rude), Ok(()));
    }

    #[test]
    fn blocks_are_bounded_and_those_made_by_hand_stay() {
        let (mut gate, now) = (gate(), Instant::now());
        let by_hand = PeerId::random();
        gate.block(by_hand, None);
        for _ in 0..BLOCKED + 10 {
            gate.block(PeerId::random(), Some(now + Duration::from_secs(1)));
        }
        assert_eq!(gate.blocked.len(), BLOCKED);
        assert_eq!(gate.admits(&by_hand, now), Err(Refusal::Blocked));
    }
}
