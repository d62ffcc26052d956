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

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We dialed, and our own identity answered.
    Out,
    /// Our own identity dialed us.
    In,
    /// Somebody dialed us and left while it was agreed on how to talk: so does a node that dials
    /// itself, if the end that dialed is the first to notice.
    Broken,
}

#[derive(Debug, Default)]
pub(crate) struct Mirror {
    waiting: Vec<(Instant, End, Multiaddr)>,
}

impl Mirror {
    /// An end was seen. Returns the address that was dialed if both have been: it is our own.
    pub(crate) fn saw(&mut self, now: Instant, end: End, at: Multiaddr) -> Option<Multiaddr> {
        let fits = |other: End| (other == End::Out) != (end == End::Out);
        let other = self.waiting.iter().position(|(_, other, _)| fits(*other));
        match other {
            Some(other) => {
                let (_, _, address) = self.waiting.swap_remove(other);
                Some(if end == End::Out { at } else { address })
            }
            None => {
                // What may mean nothing makes room for what does.
                if self.waiting.len() >= MAX
                    && let Some(least) = self.waiting.iter().position(|(_, e, _)| *e == End::Broken)
                {
                    self.waiting.remove(least);
                }
                if self.waiting.len() < MAX {
                    self.waiting.push((now, end, at));
                }
                None
            }
        }
    }

    /// Where another process with our identity was met.
    pub(crate) fn strangers(&mut self, now: Instant) -> Vec<Multiaddr> {
        let late = |(since, ..): &mut (Instant, End, Multiaddr)| now >= *since + WAIT;
        let late = self.waiting.extract_if(.., late);
        late.filter(|(_, end, _)| *end != End::Broken).map(|(_, _, address)| address).collect()
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
        for inner in [End::In, End::Broken] {
            assert_eq!(mirror.saw(now, End::Out, at(1)), None);
            assert_eq!(mirror.saw(now, inner, at(50_000)), Some(at(1)));
            assert_eq!(mirror.saw(now, inner, at(50_001)), None);
            assert_eq!(mirror.saw(now, End::Out, at(1)), Some(at(1)));
        }
        assert!(mirror.strangers(now + WAIT).is_empty());
    }

    #[test]
    fn one_end_alone_is_another_process_and_a_broken_one_is_nothing() {
        for end in [End::In, End::Out] {
            let (mut mirror, now) = (Mirror::default(), Instant::now());
            mirror.saw(now, end, at(50_000));
            assert!(mirror.strangers(now + WAIT / 2).is_empty(), "the other may still show");
            assert_eq!(mirror.due(), Some(now + WAIT));
            assert_eq!(mirror.strangers(now + WAIT), [at(50_000)]);
            assert!(mirror.strangers(now + WAIT).is_empty(), "it is told of once");
        }
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        for n in 0..1000 {
            mirror.saw(now, End::Broken, at(n));
        }
        mirror.saw(now, End::In, at(7));
        assert_eq!(mirror.strangers(now + WAIT), [at(7)]);
    }
}
