//! Moves a connection's messages, on a task of its own.
//!
//! The connection's own task would do, but each time that it is woken libp2p asks the handlers of all protocols
//! and counts up what they speak, which costs more than a message does.

use crate::conn::{Conn, lock};
use crate::handler::{Report, Shared};
use crate::lane::{LaneError, Reader, Writer};
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::task::AbortHandle;

/// What is read at once. A muxer's frame has as much.
const READ: usize = 16 << 10;

/// What a connection's task and that of its lanes tell each other.
#[derive(Debug, Default)]
pub(crate) struct Exchange(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Ends that have come about and are not yet moved.
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    said: Said,
}

/// What a peer has said to the node itself, each kind once: so there is no end of it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// It has heard a beacon of ours.
    pub(crate) heard: bool,
    /// The newest that it tells of others.
    pub(crate) told: Option<Vec<u8>>,
    /// How a lane ended; nothing is moved from then on.
    ended: Option<LaneError>,
}

impl Exchange {
    pub(crate) fn write_to(&self, writer: Writer) {
        lock(&self.0).writers.push(writer);
    }

    pub(crate) fn read_from(&self, reader: Reader) {
        lock(&self.0).readers.push(reader);
    }

    /// What is to be reported of the lanes.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let Said { heard, told, ended } = std::mem::take(&mut lock(&self.0).said);
        let heard = heard.then_some(Report::Heard);
        heard.into_iter().chain(told.map(Report::Told)).chain(ended.map(Report::from)).collect()
    }
}

/// The task of a connection's lanes. It ends with this.
#[derive(Debug)]
pub(crate) struct Lanes(AbortHandle);

impl Lanes {
    /// Needs a runtime.
    pub(crate) fn start(conn: &Arc<Conn>, shared: &Arc<Shared>) -> Self {
        let mut moving = Moving {
            conn: Arc::clone(conn),
            shared: Arc::clone(shared),
            writers: Vec::new(),
            readers: Vec::new(),
            buffer: vec![0; READ].into_boxed_slice(),
        };
        Self(tokio::spawn(poll_fn(move |cx| moving.poll(cx))).abort_handle())
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Moving {
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    buffer: Box<[u8]>,
}

impl Moving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.conn.lanes_waker.register(cx.waker());
        {
            let mut inner = lock(&self.conn.exchange.0);
            self.writers.append(&mut inner.writers);
            self.readers.append(&mut inner.readers);
        }
        // Nothing moves before the user has been told of the peer.
        if !self.conn.open.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let mut said = Said::default();
        said.ended = self.move_messages(cx, &mut said).err();
        let has_ended = said.ended.is_some();
        if has_ended || said.heard || said.told.is_some() {
            let mut inner = lock(&self.conn.exchange.0);
            inner.said.heard |= said.heard;
            inner.said.told = said.told.or(inner.said.told.take());
            inner.said.ended = said.ended;
            drop(inner);
            self.conn.waker.wake();
        }
        if has_ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads before it writes: what is answered at once leaves with the same turn.
    fn move_messages(&mut self, cx: &mut Context<'_>, said: &mut Said) -> Result<(), LaneError> {
        let (counters, deliver) = (&self.shared.counters, &*self.shared.deliver);
        for reader in &mut self.readers {
            reader.poll(cx, &mut self.buffer, &self.conn, counters, deliver, said)?;
        }
        for writer in &mut self.writers {
            writer.poll(cx, &self.conn, counters, deliver)?;
        }
        Ok(())
    }
}
