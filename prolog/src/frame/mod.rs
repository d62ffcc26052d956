//! What the node and an engine say to each other: CBOR items, each behind its length as four bytes,
//! big end first, over one socket pair. The engine is the active side: it asks and the node answers,
//! except for [`ToEngine::Goal`], [`ToEngine::Stop`] and [`ToEngine::Shutdown`].
//!
//! ```text
//! engine of an agent                      side engine
//!   <- Start                                <- Start
//!   -> Wants                                -> Wants
//!   -> Pull  <- Changes (until no more)     -> Pull  <- Changes (until no more)
//!   -> Loaded | NotLoaded                   -> Loaded | NotLoaded
//!   -> Next                                 <- Goal
//!   <- Triggers                             -> Pull  <- Changes (until Goal's version)
//!   -> Propose <- Outcome                   -> Propose <- Outcome (a transaction that wrote)
//!      | Effects (not answered)             -> Answers (end = More: wait for More or Stop)
//!   -> Next …                               <- Goal …
//! ```
//! While a handler or a goal runs, the engine may ask in between (`Pull`, `Ask`, `Call`, `CallMore`)
//! and tell (`CallClose`). `Renew` says that the engine would like to be replaced before the next
//! batch: it is sent before `Next`, once. A `Shutdown` in answer to `Next` ends the process with 0.
//!
//! Terms, changes and drafts are bytes here: `synod_core` says what is in them.

mod from_engine;
mod shared;
mod to_engine;
mod wire;

pub use from_engine::{
    Answer, Ask, Binding, Declaration, Effect, End, Failed, FromEngine, Mode, Problem, Renewal,
    Run, Severity,
};
pub use shared::{Changes, GoalText, Level, Position};
pub use to_engine::{GoalKind, Limits, Outcome, Role, Sandbox, Start, ToEngine, Trigger, What};

use std::io::{self, Read, Write};
use synod_core::cbor::{self, Reader, Writer};
use wire::Wire;

/// The version of these frames; [`Start`] carries it.
pub const VERSION: u64 = 4;

/// The most bytes in one frame, without its length. A term has at most 1 MiB, a reply of changes
/// about as much; the rest is for a transaction of many writes.
pub const MAX_FRAME: usize = 32 << 20;

/// How many bytes of length stand before a frame.
pub const PREFIX: usize = 4;
/// Bytes of a term that goes into one datagram, at most: as text it may be longer, and is refused then.
pub const MAX_UDP_BYTES: usize = 65_000;
/// Bytes of a term that is published, at most: gossip carries no more.
pub const MAX_PUBLISHED_BYTES: usize = 80_000;
/// Bytes of a term that is sent to an agent, at most.
pub const MAX_SENT_BYTES: usize = 1 << 20;

/// Why a frame could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed or ended.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The frame announces more than [`MAX_FRAME`] bytes.
    #[error("a frame of {0} bytes; at most {MAX_FRAME} are allowed")]
    TooLarge(usize),
    /// The bytes are no frame.
    #[error("malformed frame: {0}")]
    Malformed(#[from] cbor::Error),
}

/// One side's frames.
pub trait Frame: Sized {
    /// The frame's bytes, with its length before them. Fails when there are more than [`MAX_FRAME`].
    fn encode(&self) -> Result<Vec<u8>, FrameError>;

    /// The frame that these bytes are, without a length.
    fn decode(bytes: &[u8]) -> Result<Self, FrameError>;

    /// Writes the frame and its length.
    fn write_to(&self, socket: &mut impl Write) -> Result<(), FrameError> {
        Ok(socket.write_all(&self.encode()?)?)
    }

    /// Reads one frame; `None` when the other side has closed between two frames.
    fn read_from(socket: &mut impl Read) -> Result<Option<Self>, FrameError> {
        let mut prefix = [0; PREFIX];
        match socket.read(&mut prefix)? {
            0 => return Ok(None),
            read => socket.read_exact(&mut prefix[read..])?,
        }
        let mut bytes = vec![0; length(prefix)?];
        socket.read_exact(&mut bytes)?;
        Self::decode(&bytes).map(Some)
    }
}

/// The length that a frame's first four bytes announce.
pub fn length(prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
    match u32::from_be_bytes(prefix) as usize {
        len if len > MAX_FRAME => Err(FrameError::TooLarge(len)),
        len => Ok(len),
    }
}

impl Frame for ToEngine {
    fn encode(&self) -> Result<Vec<u8>, FrameError> {
        encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        decode(bytes)
    }
}

impl Frame for FromEngine {
    fn encode(&self) -> Result<Vec<u8>, FrameError> {
        encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        decode(bytes)
    }
}

fn encode(frame: &impl Wire) -> Result<Vec<u8>, FrameError> {
    let mut w = Writer::onto(vec![0; PREFIX]);
    frame.put(&mut w);
    let mut bytes = w.into_vec();
    let len = bytes.len() - PREFIX;
    match u32::try_from(len) {
        Ok(prefix) if len <= MAX_FRAME => {
            bytes[..PREFIX].copy_from_slice(&prefix.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(FrameError::TooLarge(len)),
    }
}

fn decode<F: Wire>(bytes: &[u8]) -> Result<F, FrameError> {
    let mut r = Reader::new(bytes);
    let frame = F::take(&mut r)?;
    r.end()?;
    Ok(frame)
}

#[cfg(test)]
mod tests;
