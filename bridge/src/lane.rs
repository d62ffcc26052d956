//! The two ends of a lane: what is queued is written, what comes is delivered.

use crate::conn::Conn;
use crate::event::{Deliver, Event, Lane, Payload};
use crate::frame::{Assembler, BadFrame, HEADER_BYTES, Kind};
use crate::lanes::Said;
use crate::stats::Counters;
use libp2p::Stream;
use libp2p::futures::{AsyncRead as _, AsyncWrite as _};
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What is read of a lane before the others have their turn.
const TURN: usize = 256 << 10;
/// Buffers that have grown past this are given back once they are empty.
const KEEP: usize = 128 << 10;

/// How often a peer may tell of others.
const TOLD: Duration = Duration::from_millis(500);

/// Why a lane ended.
#[derive(Debug)]
pub(crate) enum LaneError {
    Ended,
    Io(io::Error),
    Frame(BadFrame),
}

impl From<io::Error> for LaneError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes what is queued: everything that waits becomes one write.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: Stream,
    lane: Lane,
    buffer: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Writer {
    pub(crate) fn new(stream: Stream, lane: Lane) -> Self {
        Self { stream, lane, buffer: Vec::new(), written: 0, unflushed: false }
    }

    /// Writes what it can. The waker of the lanes is registered, so that what is queued later is
    /// written as well.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        conn: &Conn,
        counters: &Counters,
        deliver: &dyn Deliver,
    ) -> Result<(), LaneError> {
        loop {
            if self.written == self.buffer.len() {
                self.buffer.clear();
                self.buffer.shrink_to(KEEP);
                self.written = 0;
                let (messages, drained) = conn.out[self.lane as usize].fill(&mut self.buffer);
                if drained {
                    deliver.deliver(Event::Drained { peer: conn.peer, lane: self.lane });
                }
                if self.buffer.is_empty() {
                    break;
                }
                counters.add(&counters.messages_out, messages);
                counters.add(&counters.message_bytes_out, self.buffer.len() as u64);
                conn.bytes_out.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.written..])? {
                Poll::Ready(0) => return Err(LaneError::Ended),
                Poll::Ready(written) => {
                    self.written += written;
                    self.unflushed = true;
                }
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }
}

/// Reads what a peer sends and delivers it, as long as its user keeps up.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Stream,
    lane: Lane,
    assembler: Assembler,
    /// When the peer last told of others.
    told: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(stream: Stream, lane: Lane) -> Self {
        Self { stream, lane, assembler: Assembler::new(lane.max_message()), told: None }
    }

    /// Reads what there is; what is meant for the node itself is told of apart.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        conn: &Conn,
        counters: &Counters,
        deliver: &dyn Deliver,
        said: &mut Said,
    ) -> Result<(), LaneError> {
        let inflow = &conn.inflow[self.lane as usize];
        let mut read_now = 0;
        while inflow.has_room(cx.waker()) {
            if read_now > TURN {
                cx.waker().wake_by_ref();
                break;
            }
            let read = match Pin::new(&mut self.stream).poll_read(cx, buffer)? {
                Poll::Ready(0) => return Err(LaneError::Ended),
                Poll::Ready(read) => read,
                Poll::Pending => break,
            };
            read_now += read;
            let mut input = &buffer[..read];
            while !input.is_empty() {
                match self.assembler.take(&mut input).map_err(LaneError::Frame)? {
                    Some((Kind::Message, bytes)) => {
                        let size = bytes.len() + HEADER_BYTES;
                        let bytes = Payload::new(bytes, [Some(inflow.hold(size)), None]);
                        counters.add(&counters.messages_in, 1);
                        deliver.deliver(Event::Message { peer: conn.peer, lane: self.lane, bytes });
                    }
                    Some((Kind::Heard, _)) => said.heard = true,
                    Some((Kind::Peers, bytes)) => {
                        // Once in a while is enough; more is passed over.
                        let now = Instant::now();
                        if self.told.is_none_or(|told| now - told >= TOLD) {
                            self.told = Some(now);
                            said.told = Some(bytes);
                        }
                    }
                    None => {}
                }
            }
        }
        counters.add(&counters.message_bytes_in, read_now as u64);
        conn.bytes_in.fetch_add(read_now as u64, Ordering::Relaxed);
        Ok(())
    }
}
