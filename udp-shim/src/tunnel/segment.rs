//! Nodes that hear the same network segment.
//!
//! A `join` on a card hears applications of other hosts, and so does every other node's there. Each
//! node says on the segment, with a time-to-live of 1, that it is there; who hears that hears
//! everything else there, too. So a datagram is captured by the node of the host that sent it alone,
//! and what was captured on a segment is not sent to the peers on it, who have heard it.
//!
//! While nodes have not heard each other, what one of them captures goes to the other as well, and is
//! heard there twice: until the first beacon, which is sent at once.

use super::MAX_NAME_BYTES;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a node says that it is there.
pub const BEACON_EVERY: Duration = Duration::from_secs(1);
/// Who was not heard for so long is not there.
pub const BEACON_EXPIRES: Duration = Duration::from_secs(4);
/// Nodes of a segment, at most.
pub const MAX_SEGMENT_NODES: usize = 256;
/// The version of the beacon.
const VERSION: u8 = 1;
/// Bytes of an id, at most, and of a signature.
const MAX_ID_BYTES: usize = 128;
const MAX_SIGNATURE_BYTES: usize = 256;

/// What a node says on a segment, before it is signed:
/// `version · tunnel's length · tunnel · id's length · id · boot · count`, numbers big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The tunnel.
    pub tunnel: String,
    /// The node's id.
    pub id: Vec<u8>,
    /// Which of its starts this is.
    pub boot: u64,
    /// How many it has sent before in this one.
    pub count: u64,
}

/// The nodes that are heard on a segment.
#[derive(Clone, Debug)]
pub struct Segment {
    me: Vec<u8>,
    heard: BTreeMap<Vec<u8>, Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Duration,
    last: (u64, u64),
}

impl Beacon {
    /// The bytes that are signed; none if a bound is passed.
    pub fn signed_part(&self) -> Option<Vec<u8>> {
        if self.tunnel.len() > MAX_NAME_BYTES || self.id.len() > MAX_ID_BYTES {
            return None;
        }
        let mut bytes = vec![VERSION, self.tunnel.len() as u8];
        bytes.extend_from_slice(self.tunnel.as_bytes());
        bytes.push(self.id.len() as u8);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.boot.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        Some(bytes)
    }

    /// Reads a beacon; gives it with its signed part and its signature, which the caller checks.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (version, rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (tunnel, rest) = counted(rest, MAX_NAME_BYTES)?;
        let (id, rest) = counted(rest, MAX_ID_BYTES)?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (count, signature) = rest.split_first_chunk()?;
        if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES {
            return None;
        }
        let beacon = Self {
            tunnel: std::str::from_utf8(tunnel).ok()?.to_owned(),
            id: id.to_vec(),
            boot: u64::from_be_bytes(*boot),
            count: u64::from_be_bytes(*count),
        };
        Some((beacon, &bytes[..bytes.len() - signature.len()], signature))
    }
}

/// Bytes behind their length, which is one byte.
fn counted(bytes: &[u8], bound: usize) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let len = usize::from(*len);
    if len > bound { None } else { rest.split_at_checked(len) }
}

impl Segment {
    /// A segment on which nobody else was heard yet.
    pub fn new(me: &[u8]) -> Self {
        Self { me: me.to_vec(), heard: BTreeMap::new() }
    }

    /// A beacon whose signature is its author's was heard; whether somebody new is there. One that is
    /// not later than the last of its author was kept by somebody else, and says nothing.
    pub fn heard(&mut self, now: Duration, beacon: &Beacon) -> bool {
        if beacon.id == self.me {
            return false;
        }
        let last = (beacon.boot, beacon.count);
        if let Some(heard) = self.heard.get_mut(&beacon.id) {
            if last <= heard.last {
                return false;
            }
            let was_gone = now.saturating_sub(heard.at) >= BEACON_EXPIRES;
            *heard = Heard { at: now, last };
            return was_gone;
        }
        if self.heard.len() >= MAX_SEGMENT_NODES {
            self.heard.retain(|_, heard| now.saturating_sub(heard.at) < BEACON_EXPIRES);
            if self.heard.len() >= MAX_SEGMENT_NODES {
                return false;
            }
        }
        self.heard.insert(beacon.id.clone(), Heard { at: now, last });
        true
    }

    /// Whether a node hears this segment.
    pub fn has(&self, now: Duration, id: &[u8]) -> bool {
        self.heard.get(id).is_some_and(|heard| now.saturating_sub(heard.at) < BEACON_EXPIRES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beacon(id: &[u8], boot: u64, count: u64) -> Beacon {
        Beacon { tunnel: "t".to_owned(), id: id.to_vec(), boot, count }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_is_heard_is_there_until_it_is_silent() {
        let mut segment = Segment::new(b"m");
        assert!(!segment.has(s(0), b"a"));
        assert!(segment.heard(s(0), &beacon(b"a", 1, 0)));
        assert!(!segment.heard(s(3), &beacon(b"a", 1, 1)), "it was there before");
        assert!(segment.has(s(6), b"a") && !segment.has(s(7), b"a"));
        assert!(segment.heard(s(7), &beacon(b"a", 1, 2)), "it is back");
    }

    #[test]
    fn a_beacon_that_was_kept_says_nothing() {
        let mut segment = Segment::new(b"m");
        assert!(segment.heard(s(0), &beacon(b"a", 1, 5)));
        assert!(!segment.heard(s(3), &beacon(b"a", 1, 5)));
        assert!(!segment.heard(s(3), &beacon(b"a", 1, 4)));
        assert!(!segment.has(s(4), b"a"));
        assert!(segment.heard(s(5), &beacon(b"a", 2, 0)), "it is back");
        assert!(!segment.heard(s(5), &beacon(b"m", 9, 0)), "it is this node's own");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut segment = Segment::new(b"m");
        for n in 0..MAX_SEGMENT_NODES as u32 {
            assert!(segment.heard(s(0), &beacon(&n.to_be_bytes(), 1, 0)));
        }
        assert!(!segment.heard(s(1), &beacon(b"another", 1, 0)));
        assert!(segment.heard(s(4), &beacon(b"another", 1, 1)), "the silent make room");
    }

    proptest! {
        #[test]
        fn a_beacon_is_read_as_it_was_written(tunnel in "[a-z]{0,64}", id in prop::collection::vec(any::<u8>(), 0..128), boot: u64, count: u64) {
            let beacon = Beacon { tunnel, id, boot, count };
            let part = beacon.signed_part().unwrap();
            let bytes = [&part[..], b"signature"].concat();
            prop_assert_eq!(Beacon::read(&bytes), Some((beacon, &part[..], &b"signature"[..])));
            prop_assert_eq!(Beacon::read(&part), None);
        }

        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            if let Some((beacon, part, _)) = Beacon::read(&bytes) {
                let written = beacon.signed_part();
                prop_assert_eq!(written.as_deref(), Some(part));
            }
        }
    }
}
