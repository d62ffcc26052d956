//! Tells a node that met itself from one that met another with its identity. Pure.
//!
//! Whoever dials an address of its own sees both ends of that connection: one goes out and one comes
//! in at about the same time. An end that has no other belongs to another process.

use libp2p::Multiaddr;
use std::time::{Duration, Instant};

/// How long the other end may take to show.
const WAIT: Duration = Duration::from_secs(2);
/// Ends that may wait. Whoever floods us with more is found out by those that do.
const MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Mirror {
    waiting: Vec<(Instant, bool, Multiaddr)>,
}

impl Mirror {
    /// An end of a connection with our own identity was seen. Returns the address that was dialed
    /// if both have been: it is our own.
    pub(crate) fn saw(&mut self, now: Instant, inbound: bool, at: Multiaddr) -> Option<Multiaddr> {
        let other = self.waiting.iter().position(|(_, other, _)| *other != inbound);
        match other {
            Some(other) => {
                let (_, _, address) = self.waiting.swap_remove(other);
                Some(if inbound { address } else { at })
            }
            None => {
                if self.waiting.len() < MAX {
                    self.waiting.push((now, inbound, at));
                }
                None
            }
        }
    }

    /// Where another process with our identity was met.
    pub(crate) fn strangers(&mut self, now: Instant) -> Vec<Multiaddr> {
        let late = |(since, _, _): &mut (Instant, bool, Multiaddr)| now >= *since + WAIT;
        self.waiting.extract_if(.., late).map(|(_, _, address)| address).collect()
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|(since, ..)| *since + WAIT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn who_dials_itself_sees_both_ends_in_any_order() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        assert_eq!(mirror.saw(now, false, at(1)), None);
        assert_eq!(mirror.saw(now, true, at(50_000)), Some(at(1)));
        assert_eq!(mirror.saw(now, true, at(50_001)), None);
        assert_eq!(mirror.saw(now, false, at(1)), Some(at(1)));
        assert!(mirror.strangers(now + WAIT).is_empty());
    }

    #[test]
    fn one_end_alone_is_another_process() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        mirror.saw(now, true, at(50_000));
        assert!(mirror.strangers(now + WAIT / 2).is_empty(), "the other may still show");
        assert_eq!(mirror.due(), Some(now + WAIT));
        assert_eq!(mirror.strangers(now + WAIT), [at(50_000)]);
        assert!(mirror.strangers(now + WAIT).is_empty(), "it is told of once");
    }
}
