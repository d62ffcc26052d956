//! The bytes of a lane: a hello each way, then frames.
//!
//! ```text
//! hello   "SYNB"  lowest u16  highest u16  boot u64  more u16  <more bytes, not read>
//! frame   version u8  kind u8  length u32  <length bytes>
//! ```
//! All numbers are big-endian. The hello's form never changes, so that any two versions understand
//! that they do not understand each other; what later versions add to it goes into `more`.

use std::ops::RangeInclusive;

/// The versions of the protocol that this build speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;

pub(crate) const MAGIC: [u8; 4] = *b"SYNB";
/// The part of a hello that every version has.
pub(crate) const HELLO_BYTES: usize = 18;
/// What a later version may add.
pub(crate) const MAX_MORE: usize = 1024;
pub(crate) const HEADER_BYTES: usize = 6;
const FRAME_VERSION: u8 = 1;

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) versions: RangeInclusive<u16>,
    /// Drawn at each start of a node: two boots of one identity are two processes.
    pub(crate) boot: u64,
}

/// Why a hello cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHello;

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.versions.start().to_be_bytes());
        bytes[6..8].copy_from_slice(&self.versions.end().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.boot.to_be_bytes());
        bytes
    }

    /// Reads the fixed part; also how many bytes follow that are of no concern here.
    pub(crate) fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<(Self, usize), NotHello> {
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut boot = [0; 8];
        boot.copy_from_slice(&bytes[8..16]);
        let more = usize::from(u16_at(16));
        let (lowest, highest) = (u16_at(4), u16_at(6));
        if bytes[..4] != MAGIC || lowest > highest || more > MAX_MORE {
            return Err(NotHello);
        }
        Ok((Self { versions: lowest..=highest, boot: u64::from_be_bytes(boot) }, more))
    }

    /// The highest version that both speak.
    pub(crate) fn common(&self, other: &Self) -> Option<u16> {
        let highest = *self.versions.end().min(other.versions.end());
        let lowest = *self.versions.start().max(other.versions.start());
        (lowest <= highest).then_some(highest)
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message of the user's.
    Message,
    /// "I have heard so many of your gossip beacons", a u64: how a neighbour learns that it is heard.
    Heard,
    /// Where peers are whom the sender knows.
    Peers,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
}

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    Garbage,
    Oversized(usize),
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let kind = match self.kind {
            Kind::Message => 0,
            Kind::Heard => 1,
            Kind::Peers => 2,
        };
        // Who sends has checked the length against a bound far below this.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes();
        [FRAME_VERSION, kind, length[0], length[1], length[2], length[3]]
    }

    pub(crate) fn decode(bytes: [u8; HEADER_BYTES], max: usize) -> Result<Self, BadFrame> {
        let kind = match (bytes[0], bytes[1]) {
            (FRAME_VERSION, 0) => Kind::Message,
            (FRAME_VERSION, 1) => Kind::Heard,
            (FRAME_VERSION, 2) => Kind::Peers,
            _ => return Err(BadFrame::Garbage),
        };
        let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
        match kind {
            Kind::Heard if length != 8 => Err(BadFrame::Garbage),
            _ if length > max => Err(BadFrame::Oversized(length)),
            _ => Ok(Self { kind, length }),
        }
    }
}

/// Takes the bytes of a lane as they come and gives its frames.
#[derive(Debug)]
pub(crate) struct Assembler {
    max: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    body: Option<(Header, Vec<u8>)>,
}

/// What is set aside for a frame before its bytes are here: its length is only a claim.
const AHEAD: usize = 64 << 10;

impl Assembler {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, header: [0; HEADER_BYTES], header_filled: 0, body: None }
    }

    /// Takes bytes from the front of `input` up to the end of the next frame.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Result<Option<(Kind, Vec<u8>)>, BadFrame> {
        if self.body.is_none() {
            let taken = input.len().min(HEADER_BYTES - self.header_filled);
            let end = self.header_filled + taken;
            self.header[self.header_filled..end].copy_from_slice(&input[..taken]);
            self.header_filled = end;
            *input = &input[taken..];
            if end < HEADER_BYTES {
                return Ok(None);
            }
            let header = Header::decode(self.header, self.max)?;
            self.body = Some((header, Vec::with_capacity(header.length.min(AHEAD))));
        }
        let Some((header, body)) = &mut self.body else {
            return Ok(None);
        };
        let taken = input.len().min(header.length - body.len());
        body.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        if body.len() < header.length {
            return Ok(None);
        }
        self.header_filled = 0;
        Ok(self.body.take().map(|(header, body)| (header.kind, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut bytes = Header { kind, length: body.len() }.encode().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn the_bytes_of_version_1_are_these() {
        let hello = Hello { versions: 1..=3, boot: 0x0102_0304_0506_0708 };
        assert_eq!(hello.encode(), *b"SYNB\0\x01\0\x03\x01\x02\x03\x04\x05\x06\x07\x08\0\0");
        assert_eq!(frame(Kind::Message, b"ab"), *b"\x01\0\0\0\0\x02ab");
        assert_eq!(frame(Kind::Heard, &[7; 8])[..7], *b"\x01\x01\0\0\0\x08\x07");
    }

    #[test]
    fn a_hello_reads_back_and_later_additions_are_skipped() {
        let hello = Hello { versions: 2..=9, boot: 77 };
        assert_eq!(Hello::decode(&hello.encode()), Ok((hello.clone(), 0)));
        let mut later = hello.encode();
        later[17] = 5;
        assert_eq!(Hello::decode(&later), Ok((hello, 5)));
    }

    #[test]
    fn versions_meet_at_the_highest_that_both_speak() {
        let of = |versions| Hello { versions, boot: 0 };
        assert_eq!(of(1..=3).common(&of(2..=5)), Some(3));
        assert_eq!(of(2..=5).common(&of(1..=3)), Some(3));
        assert_eq!(of(1..=1).common(&of(2..=2)), None);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_anything_is_set_aside_for_it() {
        let mut assembler = Assembler::new(100);
        let bytes = frame(Kind::Message, &[0; 101]);
        assert_eq!(assembler.take(&mut &bytes[..]), Err(BadFrame::Oversized(101)));
    }

    #[test]
    fn a_frame_of_another_version_or_kind_is_garbage() {
        for header in [[2, 0, 0, 0, 0, 1], [1, 9, 0, 0, 0, 1], [1, 1, 0, 0, 0, 9]] {
            assert_eq!(Header::decode(header, 100), Err(BadFrame::Garbage));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1usize..50,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| frame(Kind::Message, body)).collect();
            let mut assembler = Assembler::new(300);
            let mut got = Vec::new();
            for mut piece in bytes.chunks(cut) {
                while !piece.is_empty() {
                    got.extend(assembler.take(&mut piece).unwrap().map(|(_, body)| body));
                }
            }
            prop_assert_eq!(got, bodies);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut assembler = Assembler::new(1000);
            let mut input = &bytes[..];
            while !input.is_empty() {
                if assembler.take(&mut input).is_err() {
                    break;
                }
            }
        }
    }
}
