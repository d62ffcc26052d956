//! Many small gossip messages become one frame, because signing and checking a frame costs as much
//! for a hundred bytes as for thousands. Pure: times are arguments.
//!
//! ```text
//! frame   version u8  then for each message: length u32 big-endian, bytes
//! ```

use crate::limits::{MAX_GOSSIP, MAX_TOPICS};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VERSION: u8 = 1;
const LENGTH: usize = 4;
/// A frame that has so many bytes waits for no more messages.
const FRAME: usize = 32 << 10;
/// How long a message waits for others.
const DELAY: Duration = Duration::from_millis(1);

/// The largest frame: a message that came when the frame was almost full is still in it.
pub(crate) const MAX_FRAME: usize = FRAME + LENGTH + MAX_GOSSIP;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    Full { free: usize },
    TooLarge,
    TooManyTopics,
}

/// Messages that wait to become frames.
#[derive(Debug)]
pub(crate) struct Batcher {
    open: BTreeMap<Arc<str>, Open>,
    full: VecDeque<(Arc<str>, Vec<u8>)>,
    bytes: usize,
    max: usize,
}

#[derive(Debug)]
struct Open {
    frame: Vec<u8>,
    due: Instant,
}

impl Batcher {
    pub(crate) fn new(max: usize) -> Self {
        Self { open: BTreeMap::new(), full: VecDeque::new(), bytes: 0, max }
    }

    /// Takes a message. Returns whether somebody has to look at when the next frame is due, because
    /// that has changed.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        topic: &str,
        message: &[u8],
    ) -> Result<bool, NotTaken> {
        let size = LENGTH + message.len();
        if message.len() > MAX_GOSSIP {
            return Err(NotTaken::TooLarge);
        }
        if self.bytes > 0 && self.bytes + size > self.max {
            return Err(NotTaken::Full { free: self.max.saturating_sub(self.bytes + LENGTH) });
        }
        let mut first = false;
        if !self.open.contains_key(topic) {
            if self.open.len() >= MAX_TOPICS {
                return Err(NotTaken::TooManyTopics);
            }
            first = self.open.is_empty() && self.full.is_empty();
            let open = Open { frame: vec![VERSION], due: now + DELAY };
            self.open.insert(topic.into(), open);
        }
        self.bytes += size;
        let Some(open) = self.open.get_mut(topic) else {
            return Ok(false);
        };
        // A length is at most MAX_GOSSIP.
        open.frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        open.frame.extend_from_slice(message);
        if open.frame.len() < FRAME {
            return Ok(first);
        }
        if let Some((topic, open)) = self.open.remove_entry(topic) {
            self.full.push_back((topic, open.frame));
        }
        Ok(true)
    }

    /// When the next frame is to be sent, if nothing more comes.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.full.is_empty() {
            return Some(now);
        }
        self.open.values().map(|open| open.due).min()
    }

    /// The next frame that is due.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Arc<str>, Vec<u8>)> {
        let (topic, frame) = match self.full.pop_front() {
            Some(full) => full,
            None => {
                let due = self.open.iter().find(|(_, open)| open.due <= now)?.0.clone();
                let (topic, open) = self.open.remove_entry(&due)?;
                (topic, open.frame)
            }
        };
        self.bytes -= frame.len() - 1;
        Some((topic, frame))
    }

    /// Puts a frame back that could not be sent yet: it is the next one again.
    pub(crate) fn put_back(&mut self, topic: Arc<str>, frame: Vec<u8>) {
        self.bytes += frame.len() - 1;
        self.full.push_front((topic, frame));
    }
}

/// The messages of a frame, or `None` where it is no frame.
pub(crate) fn split(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let (&VERSION, mut rest) = frame.split_first()? else {
        return None;
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_GOSSIP || length > tail.len() {
            return None;
        }
        let (message, tail) = tail.split_at(length);
        messages.push(message);
        rest = tail;
    }
    Some(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_of_version_1_has_these_bytes() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1000);
        batcher.push(now, "t", b"ab").unwrap();
        batcher.push(now, "t", b"").unwrap();
        let (topic, frame) = batcher.next(now + DELAY).unwrap();
        assert_eq!((&*topic, &frame[..]), ("t", &b"\x01\0\0\0\x02ab\0\0\0\0"[..]));
        assert_eq!(split(&frame).unwrap(), [&b"ab"[..], b""]);
    }

    #[test]
    fn a_message_waits_for_others_but_not_long() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1 << 20);
        assert_eq!(batcher.push(now, "t", b"a"), Ok(true));
        assert_eq!(batcher.push(now, "t", b"b"), Ok(false));
        assert_eq!(batcher.due(now), Some(now + DELAY));
        assert_eq!(batcher.next(now), None);
        let (_, frame) = batcher.next(now + DELAY).unwrap();
        assert_eq!(split(&frame).unwrap().len(), 2);
        assert_eq!(batcher.due(now), None);
        assert_eq!(batcher.bytes, 0);
    }

    #[test]
    fn a_full_frame_waits_for_nobody_and_none_is_over_the_bound() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1 << 20);
        batcher.push(now, "t", &vec![0; FRAME - 10]).unwrap();
        assert_eq!(batcher.push(now, "t", &vec![1; MAX_GOSSIP]), Ok(true));
        let (_, frame) = batcher.next(now).unwrap();
        assert!(frame.len() <= MAX_FRAME);
        assert_eq!(split(&frame).unwrap()[1].len(), MAX_GOSSIP);
        assert_eq!(batcher.push(now, "t", &vec![1; MAX_GOSSIP + 1]), Err(NotTaken::TooLarge));
    }

    #[test]
    fn what_waits_is_bounded_and_what_was_put_back_is_the_next_again() {
        let now = Instant::now();
        let mut batcher = Batcher::new(100);
        batcher.push(now, "t", &[0; 60]).unwrap();
        assert_eq!(batcher.push(now, "t", &[0; 60]), Err(NotTaken::Full { free: 32 }));
        let (topic, frame) = batcher.next(now + DELAY).unwrap();
        batcher.put_back(topic, frame.clone());
        assert_eq!(batcher.push(now, "t", &[0; 60]), Err(NotTaken::Full { free: 32 }));
        assert_eq!(batcher.next(now), Some(("t".into(), frame)));
        assert_eq!(batcher.push(now, "t", &[0; 60]), Ok(true));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..60),
        ) {
            let now = Instant::now();
            let mut batcher = Batcher::new(1 << 20);
            for message in &messages {
                batcher.push(now, "t", message).unwrap();
            }
            let mut got: Vec<Vec<u8>> = Vec::new();
            while let Some((_, frame)) = batcher.next(now + DELAY) {
                got.extend(split(&frame).unwrap().into_iter().map(<[u8]>::to_vec));
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            split(&bytes);
        }
    }
}
