//! Who stands in here for the sources of other sides: for each a socket of its own, so that an
//! application sees a source that stays the same and can be answered. This table says who stands in
//! for whom; the sockets are the edge's.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Stand-ins for the sources of one peer, at most.
pub const MAX_STAND_INS_PER_PEER: usize = 256;
/// Stand-ins of a tunnel, at most: each is a socket.
pub const MAX_STAND_INS: usize = 1024;
/// Where there is no room, one that has been idle for so long makes room.
const GIVES_WAY: Duration = Duration::from_secs(30);

/// A stand-in. Its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StandIn(pub u64);

/// A remote source: whose, and what it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// The virtual address of the node that captured it.
    pub capturer: Ipv4Addr,
    /// Its address there.
    pub source: SocketAddrV4,
}

/// The table.
#[derive(Clone, Debug)]
pub(super) struct StandIns {
    /// One that was not used for so long, either way, is given up.
    idle: Duration,
    next: u64,
    by_remote: BTreeMap<Remote, (StandIn, Duration)>,
    by_number: BTreeMap<StandIn, Remote>,
}

/// Who stands in, and what has to be done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) stand_in: StandIn,
    pub(super) is_new: bool,
    /// One that gives way: its socket is to be closed.
    pub(super) closed: Option<StandIn>,
}

impl StandIns {
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, next: 0, by_remote: BTreeMap::new(), by_number: BTreeMap::new() }
    }

    /// Who stands in for a source; none if there is no room for another.
    pub(super) fn of(&mut self, now: Duration, remote: Remote) -> Option<Found> {
        if let Some((stand_in, used)) = self.by_remote.get_mut(&remote) {
            *used = now.max(*used);
            return Some(Found { stand_in: *stand_in, is_new: false, closed: None });
        }
        let closed = self.make_room(now, remote.capturer)?;
        let stand_in = StandIn(self.next);
        self.next += 1;
        self.by_remote.insert(remote, (stand_in, now));
        self.by_number.insert(stand_in, remote);
        Some(Found { stand_in, is_new: true, closed })
    }

    /// For whom this one stands in; it is used.
    pub(super) fn remote(&mut self, now: Duration, stand_in: StandIn) -> Option<Remote> {
        let remote = *self.by_number.get(&stand_in)?;
        if let Some((_, used)) = self.by_remote.get_mut(&remote) {
            *used = now.max(*used);
        }
        Some(remote)
    }

    /// Its socket is gone, or could not be had.
    pub(super) fn remove(&mut self, stand_in: StandIn) {
        if let Some(remote) = self.by_number.remove(&stand_in) {
            self.by_remote.remove(&remote);
        }
    }

    /// Gives up the idle ones; their sockets are to be closed.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<StandIn> {
        let idle = |(_, (_, used)): &(&Remote, &(StandIn, Duration))| {
            now.saturating_sub(*used) >= self.idle
        };
        let expired = self.by_remote.iter().filter(idle).map(|(_, (stand_in, _))| *stand_in);
        let expired: Vec<StandIn> = expired.collect();
        expired.iter().for_each(|stand_in| self.remove(*stand_in));
        expired
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Room for one more source of a peer: none if there is none, else who gives way, if one has to. A
    /// peer that has its share takes it from itself; where all are taken, one that has fewer than another takes
    /// it from whoever has the most, however busy: so any number of peers share what there is.
    fn make_room(&mut self, now: Duration, capturer: Ipv4Addr) -> Option<Option<StandIn>> {
        let of_peer = Remote { capturer, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0) }
            ..=Remote { capturer, source: SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX) };
        let is_share_full = self.by_remote.range(of_peer.clone()).count() >= MAX_STAND_INS_PER_PEER;
        let longest = match is_share_full {
            true => self.by_remote.range(of_peer).min_by_key(|(_, (_, used))| *used),
            false if self.by_remote.len() >= MAX_STAND_INS => {
                self.by_remote.iter().min_by_key(|(_, (_, used))| *used)
            }
            false => return Some(None),
        };
        let (stand_in, used) = longest.map(|(_, found)| *found)?;
        let gives_way = match now.saturating_sub(used) >= GIVES_WAY {
            true => stand_in,
            false if is_share_full => return None,
            false => self.of_who_has_more(capturer)?,
        };
        self.remove(gives_way);
        Some(Some(gives_way))
    }

    /// The one that was unused for longest of the peer that has the most, if that has still as many as this one
    /// once it has given one up.
    fn of_who_has_more(&self, than: Ipv4Addr) -> Option<StandIn> {
        let mut counts: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for remote in self.by_remote.keys() {
            *counts.entry(remote.capturer).or_default() += 1;
        }
        let mine = counts.get(&than).copied().unwrap_or_default();
        let (most, _) = counts
            .into_iter()
            .filter(|(_, count)| *count > mine + 1)
            .max_by_key(|(_, count)| *count)?;
        let of_most = self.by_remote.iter().filter(|(remote, _)| remote.capturer == most);
        of_most.min_by_key(|(_, (_, used))| *used).map(|(_, (stand_in, _))| *stand_in)
    }
}

#[cfg(test)]
mod tests {
    use super::super::IDLE;
    use super::*;
    use proptest::prelude::*;

    fn remote(peer: u8, port: u16) -> Remote {
        let source = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), port);
        Remote { capturer: Ipv4Addr::new(127, 70, 0, peer), source }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_source_has_the_same_stand_in_while_it_is_used() {
        let mut all = StandIns::new(IDLE);
        let first = all.of(s(0), remote(1, 5)).unwrap();
        assert!(first.is_new);
        let again = all.of(s(9), remote(1, 5)).unwrap();
        assert_eq!(again, Found { is_new: false, ..first });
        // The same address on another side is another source.
        assert!(all.of(s(9), remote(2, 5)).unwrap().is_new);
        assert_eq!(all.remote(s(10), first.stand_in), Some(remote(1, 5)));
        // An answer is a use, too.
        assert_eq!(all.expire(s(9) + IDLE).len(), 1);
        assert_eq!(all.expire(s(10) + IDLE), [first.stand_in]);
        assert_eq!(all.remote(s(10), first.stand_in), None);
        assert_ne!(all.of(s(11), remote(1, 5)).unwrap().stand_in, first.stand_in);
    }

    #[test]
    fn a_peer_takes_room_from_itself_and_never_from_who_is_busy() {
        let mut all = StandIns::new(IDLE);
        let other = all.of(s(0), remote(2, 1)).unwrap().stand_in;
        let first = all.of(s(1), remote(1, 0)).unwrap().stand_in;
        for port in 1..MAX_STAND_INS_PER_PEER as u16 {
            assert_eq!(all.of(s(2), remote(1, port)).unwrap().closed, None);
        }
        assert_eq!(all.of(s(30), remote(1, 9999)), None, "all of them are busy");
        assert_eq!(all.of(s(31), remote(1, 9999)).unwrap().closed, Some(first));
        assert_eq!(all.len(), MAX_STAND_INS_PER_PEER + 1);
        assert!(all.remote(s(31), other).is_some());
    }

    #[test]
    fn peers_that_take_all_there_is_leave_others_a_share() {
        let mut all = StandIns::new(IDLE);
        let busy = |all: &mut StandIns, peer| {
            (0..1000).filter(|port| all.of(s(1), remote(peer, *port)).is_some()).count()
        };
        for peer in 0..(MAX_STAND_INS / MAX_STAND_INS_PER_PEER) as u8 {
            assert_eq!(busy(&mut all, peer), MAX_STAND_INS_PER_PEER);
        }
        let found = all.of(s(1), remote(9, 1)).unwrap();
        assert!(found.closed.is_some_and(|closed| all.remote(s(1), closed).is_none()));
        // As many as any other, and those are no fewer than that.
        assert_eq!(busy(&mut all, 9), MAX_STAND_INS / 5);
        assert_eq!(all.of(s(1), remote(9, 1)).unwrap().stand_in, found.stand_in, "it keeps them");
        assert_eq!(all.len(), MAX_STAND_INS);
        let counts = (0..4).map(|peer| {
            all.by_remote.keys().filter(|one| one.capturer == remote(peer, 0).capturer).count()
        });
        assert!(counts.min() >= Some(MAX_STAND_INS / 5));
    }

    proptest! {
        #[test]
        fn both_ways_say_the_same_and_bounds_are_kept(
            steps in prop::collection::vec((0..8_u8, 0..400_u16, 0..100_u64), 0..2000),
        ) {
            let mut all = StandIns::new(IDLE);
            let mut now = Duration::ZERO;
            for (peer, port, seconds) in steps {
                now += Duration::from_millis(seconds * 10);
                if let Some(found) = all.of(now, remote(peer, port)) {
                    prop_assert_eq!(all.remote(now, found.stand_in), Some(remote(peer, port)));
                    if let Some(closed) = found.closed {
                        prop_assert_eq!(all.remote(now, closed), None);
                    }
                }
                prop_assert_eq!(all.by_number.len(), all.by_remote.len());
                prop_assert!(all.len() <= MAX_STAND_INS);
            }
        }
    }
}
