//! What nodes send each other: datagrams, several at a time, with who captured them and as which.
//!
//! A frame is a CBOR sequence (RFC 8742), its grammar is in `frame.cddl`: a head, then datagrams, none in
//! the one that a stream begins with. The first has the head's sequence number, each further one the next. The pair (boot, sequence) names a
//! datagram of a capturer for ever; what it carries is never looked at. Reading is total on any bytes
//! and copies nothing.

use super::MAX_NAME_BYTES;
use crate::join::MAX_DATAGRAM_BYTES;
use ciborium_ll::{Decoder, Encoder, Header};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The version of the format.
pub const FRAME_VERSION: u64 = 1;
/// Datagrams in a frame, at most.
pub const MAX_FRAME_DATAGRAMS: usize = 512;
/// A frame that has so many bytes takes no further datagram.
const FULL_BYTES: usize = 64 << 10;
/// Bytes of a frame's head, and of a datagram without what it carries, at most.
const MAX_HEAD_BYTES: usize = 64 + MAX_NAME_BYTES;
const MAX_WRAPPING_BYTES: usize = 24;
/// Bytes of a frame, at most: one that is almost full takes the largest datagram still.
pub const MAX_FRAME_BYTES: usize =
    MAX_HEAD_BYTES + FULL_BYTES + MAX_DATAGRAM_BYTES + MAX_WRAPPING_BYTES;

/// Bytes of a frame of one datagram, at most.
pub const MAX_SINGLE_BYTES: usize = MAX_HEAD_BYTES + MAX_DATAGRAM_BYTES + MAX_WRAPPING_BYTES;

/// Who captured, as what, and for which tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The capturer's virtual address.
    pub capturer: Ipv4Addr,
    /// Which of its starts this is; later ones are greater.
    pub boot: u64,
    /// The tunnel.
    pub tunnel: &'a str,
    /// The number of the first datagram.
    pub sequence: u64,
}

/// A datagram on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Where it came from, on the capturer's side.
    pub source: SocketAddrV4,
    /// A group of the tunnel; or a source of the receiver's side, which this answers.
    pub to: SocketAddrV4,
    /// What it carries; possibly nothing.
    pub bytes: &'a [u8],
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its head.
    pub head: Head<'a>,
    /// The datagrams.
    pub datagrams: Vec<Carried<'a>>,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is of another version.
    #[error("a frame of version {0}, and this node knows {FRAME_VERSION}")]
    Version(u64),
    /// What stands there is not what the grammar says.
    #[error("byte {0} of a frame is not what the grammar says")]
    Malformed(usize),
    /// A bound is passed.
    #[error("a frame with more than {bound} {of}")]
    TooMany {
        /// The bound.
        bound: usize,
        /// Of what.
        of: &'static str,
    },
}

/// A frame as it is made.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    datagrams: usize,
}

impl FrameWriter {
    /// A frame without datagrams.
    pub fn new(head: &Head<'_>) -> Self {
        let mut bytes = Vec::with_capacity(MAX_HEAD_BYTES);
        push(&mut bytes, Header::Array(Some(5)));
        push(&mut bytes, Header::Positive(FRAME_VERSION));
        push_bytes(&mut bytes, &head.capturer.octets());
        push(&mut bytes, Header::Positive(head.boot));
        push(&mut bytes, Header::Text(Some(head.tunnel.len())));
        bytes.extend_from_slice(head.tunnel.as_bytes());
        push(&mut bytes, Header::Positive(head.sequence));
        Self { bytes, datagrams: 0 }
    }

    /// Appends a datagram.
    pub fn push(&mut self, carried: &Carried<'_>) {
        push(&mut self.bytes, Header::Array(Some(3)));
        push_bytes(&mut self.bytes, &address_bytes(carried.source));
        push_bytes(&mut self.bytes, &address_bytes(carried.to));
        push_bytes(&mut self.bytes, carried.bytes);
        self.datagrams += 1;
    }

    /// Whether a datagram of so many bytes fits, if the frame may have no more than `most`: an empty one takes
    /// the largest within [`MAX_SINGLE_BYTES`].
    pub fn has_room(&self, len: usize, most: usize) -> bool {
        self.bytes.len() + MAX_WRAPPING_BYTES + len <= most
    }

    /// Whether it takes no further datagram.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.datagrams >= MAX_FRAME_DATAGRAMS
    }

    /// How many datagrams it has.
    pub fn len(&self) -> usize {
        self.datagrams
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// The bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a frame.
pub fn read_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooMany { bound: MAX_FRAME_BYTES, of: "bytes" });
    }
    let mut r = Reader { bytes, at: 0 };
    r.array(5)?;
    let version = r.uint()?;
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    let capturer = Ipv4Addr::from(r.fixed::<4>()?);
    let boot = r.uint()?;
    let tunnel = r.text(MAX_NAME_BYTES)?;
    let sequence = r.uint()?;
    let mut datagrams = Vec::new();
    while r.at < bytes.len() {
        if datagrams.len() == MAX_FRAME_DATAGRAMS {
            return Err(FrameError::TooMany { bound: MAX_FRAME_DATAGRAMS, of: "datagrams" });
        }
        r.array(3)?;
        let (source, to) = (r.address()?, r.address()?);
        datagrams.push(Carried { source, to, bytes: r.bytes(MAX_DATAGRAM_BYTES)? });
    }
    // The last datagram's number has to be one, too.
    let last = sequence.checked_add(datagrams.len() as u64);
    if last.is_none() {
        return Err(FrameError::Malformed(r.at));
    }
    Ok(Frame { head: Head { capturer, boot, tunnel, sequence }, datagrams })
}

fn push(bytes: &mut Vec<u8>, header: Header) {
    let Ok(()) = Encoder::from(bytes).push(header);
}

fn push_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    push(bytes, Header::Bytes(Some(content.len())));
    bytes.extend_from_slice(content);
}

fn address_bytes(address: SocketAddrV4) -> [u8; 6] {
    let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
    [a, b, c, d, high, low]
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A head, which is as short as can be, so that equal frames have equal bytes.
    fn head(&mut self) -> Result<Header, FrameError> {
        let mut decoder = Decoder::from(self.bytes.get(self.at..).unwrap_or_default());
        let header = decoder.pull().map_err(|_| FrameError::Malformed(self.at))?;
        let argument = match header {
            Header::Positive(n) => n,
            Header::Array(Some(n)) | Header::Bytes(Some(n)) | Header::Text(Some(n)) => n as u64,
            _ => return self.wrong(),
        };
        let shortest = match argument {
            0..24 => 1,
            24..=0xff => 2,
            0x100..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        if decoder.offset() != shortest {
            return self.wrong();
        }
        self.at += shortest;
        Ok(header)
    }

    fn wrong<T>(&self) -> Result<T, FrameError> {
        Err(FrameError::Malformed(self.at))
    }

    fn array(&mut self, len: usize) -> Result<(), FrameError> {
        if self.head()? == Header::Array(Some(len)) { Ok(()) } else { self.wrong() }
    }

    fn uint(&mut self) -> Result<u64, FrameError> {
        match self.head()? {
            Header::Positive(n) => Ok(n),
            _ => self.wrong(),
        }
    }

    fn text(&mut self, bound: usize) -> Result<&'a str, FrameError> {
        let Header::Text(Some(len)) = self.head()? else { return self.wrong() };
        let bytes = self.take(len, bound, "bytes in a name")?;
        std::str::from_utf8(bytes).or_else(|_| self.wrong())
    }

    fn bytes(&mut self, bound: usize) -> Result<&'a [u8], FrameError> {
        let Header::Bytes(Some(len)) = self.head()? else { return self.wrong() };
        self.take(len, bound, "bytes in a datagram")
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.bytes(N)?.try_into().or_else(|_| self.wrong())
    }

    fn address(&mut self) -> Result<SocketAddrV4, FrameError> {
        let [a, b, c, d, high, low] = self.fixed()?;
        Ok(SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low])))
    }

    fn take(&mut self, len: usize, bound: usize, of: &'static str) -> Result<&'a [u8], FrameError> {
        if len > bound {
            return Err(FrameError::TooMany { bound, of });
        }
        let end = self.at + len;
        let Some(bytes) = self.bytes.get(self.at..end) else { return self.wrong() };
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
