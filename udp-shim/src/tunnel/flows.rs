//! The sources on this side: who was captured, and so may be answered.
//!
//! An application that is bound to no address of its own has several: it sends to a group from the one
//! that the route says, and answers a stand-in, whose address is a loopback one, from 127.0.0.1. The
//! other side is to see one source. So a loopback source is known under the node's virtual address,
//! or under the address that the same port has been seen with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Sources that are known at once, at most.
pub const MAX_FLOWS: usize = 4096;
/// Where there is no room, one that has been idle for so long makes room.
const GIVES_WAY: Duration = Duration::from_secs(30);

/// Sources by port and address, as the other side knows them.
#[derive(Clone, Debug)]
pub(super) struct Flows {
    me: Ipv4Addr,
    /// One that was not heard of for so long, and to which nothing went, is forgotten.
    idle: Duration,
    flows: BTreeMap<(u16, Ipv4Addr), Flow>,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Where it was last seen, which is where answers go.
    actual: SocketAddrV4,
    /// Whether only answers were seen of it, whose address the kernel chose.
    is_chosen: bool,
    used: Duration,
}

/// There is no room for another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Flows {
    pub(super) fn new(me: Ipv4Addr, idle: Duration) -> Self {
        Self { me, idle, flows: BTreeMap::new() }
    }

    /// A source has sent to a group; gives what the other side knows it as.
    pub(super) fn captured(
        &mut self,
        now: Duration,
        actual: SocketAddrV4,
    ) -> Result<SocketAddrV4, Full> {
        let port = actual.port();
        let ip = match actual.ip().is_loopback() {
            true => self.me,
            // One whose answers were seen first.
            false => match self.flows.get_mut(&(port, self.me)).filter(|flow| flow.is_chosen) {
                Some(_) => self.me,
                None => *actual.ip(),
            },
        };
        self.seen(now, (port, ip), actual, false)
    }

    /// A source has answered a stand-in; gives what the other side knows it as.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        actual: SocketAddrV4,
    ) -> Result<SocketAddrV4, Full> {
        let port = actual.port();
        let known = |flows: &Self| {
            let same =
                flows.flows.range((port, Ipv4Addr::UNSPECIFIED)..=(port, Ipv4Addr::BROADCAST));
            let latest = same.max_by_key(|(_, flow)| flow.used);
            latest.map(|((_, ip), _)| *ip).unwrap_or(flows.me)
        };
        let is_loopback = actual.ip().is_loopback();
        let ip = if is_loopback { known(self) } else { *actual.ip() };
        self.seen(now, (port, ip), actual, *actual.ip() == Ipv4Addr::LOCALHOST)
    }

    /// Where an answer to a source goes; none if nobody of that name was seen here.
    pub(super) fn actual(&mut self, now: Duration, known_as: SocketAddrV4) -> Option<SocketAddrV4> {
        let flow = self.flows.get_mut(&(known_as.port(), *known_as.ip()))?;
        if now.saturating_sub(flow.used) >= self.idle {
            return None;
        }
        flow.used = flow.used.max(now);
        Some(flow.actual)
    }

    /// Forgets the idle ones.
    pub(super) fn expire(&mut self, now: Duration) {
        let idle = self.idle;
        self.flows.retain(|_, flow| now.saturating_sub(flow.used) < idle);
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    fn seen(
        &mut self,
        now: Duration,
        key: (u16, Ipv4Addr),
        actual: SocketAddrV4,
        is_chosen: bool,
    ) -> Result<SocketAddrV4, Full> {
        let known_as = SocketAddrV4::new(key.1, key.0);
        if let Some(flow) = self.flows.get_mut(&key) {
            // What the kernel chose tells less than what was seen before.
            let actual = if is_chosen && !flow.is_chosen { flow.actual } else { actual };
            *flow =
                Flow { actual, is_chosen: is_chosen && flow.is_chosen, used: flow.used.max(now) };
            return Ok(known_as);
        }
        if self.flows.len() >= MAX_FLOWS {
            let idle = |flow: &Flow| now.saturating_sub(flow.used);
            let longest = self.flows.iter().max_by_key(|(_, flow)| idle(flow));
            let Some((&key, _)) = longest.filter(|(_, flow)| idle(flow) >= GIVES_WAY) else {
                return Err(Full);
            };
            self.flows.remove(&key);
        }
        self.flows.insert(key, Flow { actual, is_chosen, used: now });
        Ok(known_as)
    }
}

#[cfg(test)]
mod tests {
    use super::super::IDLE;
    use super::*;

    const ME: Ipv4Addr = Ipv4Addr::new(127, 70, 1, 2);
    const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const NIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(ip, port)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_application_without_an_address_is_one_source() {
        let mut flows = Flows::new(ME, IDLE);
        // By the route's address to the group, from 127.0.0.1 in answers.
        assert_eq!(flows.captured(s(0), at(ME, 5)), Ok(at(ME, 5)));
        assert_eq!(flows.answered(s(1), at(LO, 5)), Ok(at(ME, 5)));
        assert_eq!(flows.actual(s(1), at(ME, 5)), Some(at(ME, 5)));
        // By a card's address to the group.
        assert_eq!(flows.captured(s(0), at(NIC, 6)), Ok(at(NIC, 6)));
        assert_eq!(flows.answered(s(1), at(LO, 6)), Ok(at(NIC, 6)));
        assert_eq!(flows.actual(s(1), at(NIC, 6)), Some(at(NIC, 6)));
        // The answer first.
        assert_eq!(flows.answered(s(1), at(LO, 7)), Ok(at(ME, 7)));
        assert_eq!(flows.captured(s(2), at(NIC, 7)), Ok(at(ME, 7)));
        assert_eq!(flows.answered(s(3), at(LO, 7)), Ok(at(ME, 7)));
        assert_eq!(flows.len(), 3);
    }

    #[test]
    fn applications_with_addresses_of_their_own_are_told_apart() {
        let mut flows = Flows::new(ME, IDLE);
        assert_eq!(flows.captured(s(0), at(ME, 5)), Ok(at(ME, 5)));
        assert_eq!(flows.captured(s(0), at(NIC, 5)), Ok(at(NIC, 5)));
        assert_eq!(flows.answered(s(1), at(NIC, 5)), Ok(at(NIC, 5)));
        assert_eq!(flows.actual(s(1), at(NIC, 5)), Some(at(NIC, 5)));
        assert_eq!(flows.actual(s(1), at(ME, 5)), Some(at(ME, 5)));
    }

    #[test]
    fn only_who_was_seen_is_answered_and_only_while_that_is_known() {
        let mut flows = Flows::new(ME, IDLE);
        flows.captured(s(0), at(NIC, 5)).unwrap();
        assert_eq!(flows.actual(s(0), at(NIC, 6)), None);
        assert_eq!(flows.actual(s(0), at(ME, 5)), None);
        assert_eq!(flows.actual(IDLE - s(1), at(NIC, 5)), Some(at(NIC, 5)));
        // An answer is a use.
        assert_eq!(flows.actual(IDLE + s(1), at(NIC, 5)), Some(at(NIC, 5)));
        assert_eq!(flows.actual(IDLE * 3, at(NIC, 5)), None);
        flows.expire(IDLE * 3);
        assert_eq!(flows.len(), 0);
    }

    #[test]
    fn there_is_room_for_so_many_and_the_idle_make_room() {
        let mut flows = Flows::new(ME, IDLE);
        for n in 0..MAX_FLOWS {
            flows.captured(s(0), at(NIC, n as u16 + 1)).unwrap();
        }
        flows.captured(s(40), at(NIC, 1)).unwrap();
        assert_eq!(flows.captured(GIVES_WAY - s(1), at(NIC, 60_000)), Err(Full));
        assert!(flows.captured(s(40), at(NIC, 60_000)).is_ok());
        assert_eq!(flows.len(), MAX_FLOWS);
        assert_eq!(flows.actual(s(40), at(NIC, 1)), Some(at(NIC, 1)));
    }
}
