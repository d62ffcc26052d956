//! A client of `POST /v1/propose`, with as many proposals in flight as are wanted.

use super::latency::Latencies;
use crate::cli::Failure;
use crate::cli::client::Client;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use synod::control::propose::MAX_IN_FLIGHT;
use synod_core::cbor::{Error, Head, Reader, What, Writer};
use synod_core::command::Op;
use synod_core::term::Term;
use synod_core::transaction::Draft;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep_until;

/// The session's label: events are from it.
const LABEL: &str = "bench";
/// An answer that says: committed.
const COMMITTED: u64 = 0;

/// One stream of proposals and their outcomes, which come in the order of the proposals.
#[derive(Debug)]
pub(super) struct Stream {
    requests: UnboundedSender<Bytes>,
    answers: Incoming,
    received: BytesMut,
    /// Proposals that have not been sent.
    unsent: Writer,
    /// The number of the last one.
    seq: u64,
    /// When those that are not answered were made.
    in_flight: VecDeque<Instant>,
    /// How long those took that have been answered.
    pub(super) latencies: Latencies,
    /// The index of the last one that has been answered.
    pub(super) index: u64,
}

impl Stream {
    /// Opens a stream, and a session on it.
    pub(super) async fn open(client: &Client) -> Result<Self, Failure> {
        let (requests, body) = unbounded_channel();
        let mut hello = Writer::new();
        hello.array(1).text(LABEL);
        // The body has just been made and listens.
        drop(requests.send(hello.into_vec().into()));
        let answer = client.post_stream("/v1/propose", Requests(body)).await?;
        let mut stream = Self {
            requests,
            answers: answer.into_body(),
            received: BytesMut::new(),
            unsent: Writer::new(),
            seq: 0,
            in_flight: VecDeque::new(),
            latencies: Latencies::default(),
            index: 0,
        };
        while stream.take_opened()?.is_none() {
            stream.receive().await?;
        }
        Ok(stream)
    }

    /// Makes a proposal, which [`Stream::send`] sends.
    pub(super) fn propose(&mut self, draft: &[u8]) {
        self.propose_since(draft, Instant::now());
    }

    /// The same, of one that was to be made at a time which may be past.
    fn propose_since(&mut self, draft: &[u8], since: Instant) {
        let acked = self.seq - self.in_flight.len() as u64;
        self.seq += 1;
        self.unsent.array(3).uint(self.seq).uint(acked).bytes(draft);
        self.in_flight.push_back(since);
    }

    /// Sends what has been proposed.
    pub(super) fn send(&mut self) {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent).into_vec();
            // That nobody listens is told by the answers, which end.
            drop(self.requests.send(unsent.into()));
        }
    }

    /// Proposals that have not been answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Waits for answers; returns when there was one at least. May be given up and called again.
    pub(super) async fn answered(&mut self) -> Result<(), Failure> {
        let before = self.in_flight.len();
        loop {
            while self.take_answer()? {}
            if self.in_flight.len() < before || before == 0 {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// Proposes `count` drafts, never more than `in_flight` at once, and waits for all of them.
    pub(super) async fn run(
        &mut self,
        count: u64,
        in_flight: usize,
        mut draft: impl FnMut(u64) -> Result<Vec<u8>, Failure>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let mut made = 0;
        while made < count || self.in_flight() > 0 {
            while made < count && self.in_flight() < in_flight {
                self.propose(&draft(made)?);
                made += 1;
            }
            self.send();
            self.answered().await?;
            progress(made - self.in_flight() as u64);
        }
        Ok(())
    }

    /// Proposes `count` drafts, so many a second whatever becomes of those before (an open loop), and
    /// waits for all of them. Each takes from when it was due, so that what a stall holds up is counted.
    pub(super) async fn run_at_rate(
        &mut self,
        count: u64,
        rate: f64,
        mut draft: impl FnMut(u64) -> Result<Vec<u8>, Failure>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let (start, mut made) = (Instant::now(), 0);
        let due = |n: u64| start + Duration::from_secs_f64(n as f64 / rate);
        while made < count || self.in_flight() > 0 {
            while made < count && due(made) <= Instant::now() && self.in_flight() < MAX_IN_FLIGHT {
                self.propose_since(&draft(made)?, due(made));
                made += 1;
            }
            self.send();
            let waits = made < count && self.in_flight() < MAX_IN_FLIGHT;
            tokio::select! {
                answered = self.answered(), if self.in_flight() > 0 => answered?,
                () = sleep_until(due(made).into()), if waits => {}
            }
            progress(made - self.in_flight() as u64);
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        match self.answers.frame().await {
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    self.received.extend_from_slice(&chunk);
                }
                Ok(())
            }
            Some(Err(error)) => Err(Failure::error(format!("the propose stream: {error}"))),
            None => Err(Failure::error("the node has ended the propose stream")),
        }
    }

    fn take_opened(&mut self) -> Result<Option<u64>, Failure> {
        self.take(|r| {
            r.array_of(2)?;
            r.uint()?;
            r.uint()
        })
    }

    fn take_answer(&mut self) -> Result<bool, Failure> {
        let answer = self.take(|r| {
            let fields = r.array()?;
            let (seq, outcome) = (r.uint()?, r.uint()?);
            let said = match r.head()? {
                Head::Uint(index) if outcome == COMMITTED => Ok(index),
                Head::Text(len) => Err(r.take_text(len)?.to_owned()),
                _ => return Err(r.invalid("an answer has an index or a word")),
            };
            if fields > 3 {
                r.text()?;
            }
            Ok((seq, said))
        })?;
        let Some((seq, said)) = answer else { return Ok(false) };
        let expected = self.seq + 1 - self.in_flight.len() as u64;
        let made = self.in_flight.pop_front();
        match (said, made) {
            (Ok(index), Some(made)) if seq == expected => {
                self.latencies.add(made.elapsed());
                self.index = index;
                Ok(true)
            }
            (Ok(_), _) => Err(Failure::error(format!("answer {seq} came out of order"))),
            (Err(why), _) => {
                Err(Failure::error(format!("proposal {seq} was not committed: {why}")))
            }
        }
    }

    /// Takes an item out of what has been received, if there is a whole one.
    fn take<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Failure> {
        let mut r = Reader::new(&self.received);
        match read(&mut r) {
            Ok(item) => {
                let len = r.position();
                self.received.advance(len);
                Ok(Some(item))
            }
            Err(Error { what: What::Truncated, .. }) => Ok(None),
            Err(error) => Err(Failure::error(format!("the propose stream: {error}"))),
        }
    }
}

/// The request's body: what is sent, as it is sent.
struct Requests(UnboundedReceiver<Bytes>);

impl hyper::body::Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// The draft of a transaction that reads nothing.
pub(super) fn draft(ops: Vec<Op>) -> Vec<u8> {
    let mut w = Writer::new();
    Draft { version: 0, reads: Vec::new(), ops }.write(&mut w);
    w.into_vec()
}

/// The draft of an event.
pub(super) fn event(event: &Term) -> Result<Vec<u8>, Failure> {
    Ok(draft(vec![Op::Emit { event: encoded(event)? }]))
}

/// A term's bytes.
pub(super) fn encoded(term: &Term) -> Result<Bytes, Failure> {
    let bytes = term.encode();
    bytes.map(Bytes::from).map_err(|error| Failure::error(format!("a term: {error}")))
}
