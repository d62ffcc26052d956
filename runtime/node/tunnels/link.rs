//! To one peer of a tunnel: frames wait in a queue that is bounded in bytes, and one task writes them to
//! a stream. Where the peer is too slow, or away, the oldest go first: an application would rather
//! have the newest.

use super::latency::Latency;
use crate::net::{Net, Place};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_bridge::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// What the stream is called.
pub(crate) const STREAM: &str = "synod/tunnel/1";
/// Bytes that wait for one peer, at most.
const QUEUE_BYTES: usize = 8 << 20;
/// What has waited for so long is of no use to anybody.
const MAX_AGE: Duration = Duration::from_secs(2);
/// Bytes that are written at once, if as many wait.
const WRITE_BYTES: usize = 64 << 10;
/// How long it takes to try again.
const RETRY: Duration = Duration::from_millis(250);

/// The way to a peer. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Place,
    queue: Arc<Queue>,
    writer: AbortHandle,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    is_open: AtomicBool,
    /// Datagrams that were dropped since somebody asked.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Queued>,
    bytes: usize,
}

/// A frame that waits.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) bytes: Bytes,
    pub(super) datagrams: u64,
    /// When its first datagram was captured.
    pub(super) at: Instant,
}

impl Link {
    /// A stream begins with `greeting`, a frame.
    pub(super) fn start(
        mover: &Handle,
        net: Weak<Net>,
        place: Place,
        latency: Arc<Latency>,
        greeting: Bytes,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let task = write(net, place.clone(), Arc::clone(&queue), latency, greeting);
        Self { place, queue, writer: mover.spawn(task).abort_handle() }
    }

    /// Sends a frame, sooner or later or never.
    pub(super) fn send(&self, frame: Queued) {
        let mut waiting = self.queue.lock();
        waiting.bytes += frame.bytes.len();
        waiting.frames.push_back(frame);
        while waiting.bytes > QUEUE_BYTES {
            let Some(oldest) = waiting.frames.pop_front() else { break };
            waiting.bytes -= oldest.bytes.len();
            self.queue.dropped.fetch_add(oldest.datagrams, Ordering::Relaxed);
        }
        drop(waiting);
        self.queue.changed.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        self.queue.is_open.load(Ordering::Relaxed)
    }

    /// Datagrams that were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        self.queue.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame that is not too old, if one waits.
    fn pop(&self) -> Option<Queued> {
        let mut waiting = self.lock();
        while let Some(frame) = waiting.frames.pop_front() {
            waiting.bytes -= frame.bytes.len();
            if frame.at.elapsed() < MAX_AGE {
                return Some(frame);
            }
            self.dropped.fetch_add(frame.datagrams, Ordering::Relaxed);
        }
        None
    }
}

/// Opens a stream, writes to it as long as it lasts, and opens another.
async fn write(
    net: Weak<Net>,
    place: Place,
    queue: Arc<Queue>,
    latency: Arc<Latency>,
    greeting: Bytes,
) {
    loop {
        let Some(net) = net.upgrade() else { return };
        let opened = net.open_to(&place, STREAM).await;
        drop(net);
        let ended = match opened {
            Ok(stream) => {
                queue.is_open.store(true, Ordering::Relaxed);
                let ended = write_to(stream, &queue, &latency, &greeting).await;
                queue.is_open.store(false, Ordering::Relaxed);
                ended.err().map(|e| e.to_string())
            }
            Err(e) => Some(e),
        };
        tracing::debug!("no way to {}: {}", place.node, ended.unwrap_or_default());
        tokio::time::sleep(RETRY).await;
    }
}

async fn write_to(
    mut stream: Stream,
    queue: &Queue,
    latency: &Latency,
    greeting: &[u8],
) -> io::Result<()> {
    let mut written: Vec<(Instant, u64)> = Vec::new();
    // What waits goes in one piece: each write wakes whoever moves the bytes.
    let mut bytes = Vec::with_capacity(WRITE_BYTES);
    append(&mut bytes, greeting)?;
    loop {
        let changed = queue.changed.notified();
        loop {
            while bytes.len() < WRITE_BYTES
                && let Some(frame) = queue.pop()
            {
                append(&mut bytes, &frame.bytes)?;
                written.push((frame.at, frame.datagrams));
            }
            if bytes.is_empty() {
                break;
            }
            stream.write_all(&bytes).await?;
            bytes.clear();
        }
        stream.flush().await?;
        for (at, datagrams) in written.drain(..) {
            latency.count(at.elapsed(), datagrams);
        }
        // The other side says nothing on this stream: what comes of it is its end.
        tokio::select! {
            () = changed => {}
            ended = stream.read_u8() => {
                let said = ended.map(|_| io::Error::other("it says something on our stream"));
                return Err(said.unwrap_or_else(|e| e));
            }
        }
    }
}

/// A frame behind its length.
fn append(to: &mut Vec<u8>, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
    to.extend_from_slice(&len.to_be_bytes());
    to.extend_from_slice(frame);
    Ok(())
}
