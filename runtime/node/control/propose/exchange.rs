//! The answer's body: it reads the request's, proposes, and is made of the outcomes. All of it
//! runs inside the connection's own task, so that nothing is handed over between tasks on the way
//! in or out.

use super::MAX_IN_FLIGHT;
use super::wire::{Inbox, Item, Proposal, write_ended, write_opened, write_outcome, write_refused};
use crate::api::ErrorBody;
use crate::node::Proposer;
use crate::space::{Ended, NotProposed};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use synod_core::cbor::Writer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes of answers that are usually written at once.
const ANSWERS_BYTES: usize = 8 << 10;

type Opening = Pin<Box<dyn Future<Output = Result<u64, ErrorBody>> + Send>>;

/// One stream of proposals and outcomes.
pub(super) struct Exchange {
    requests: Body,
    inbox: Inbox,
    state: State,
    proposer: Arc<Proposer>,
    /// Bounded by [`MAX_IN_FLIGHT`]: a proposal has one outcome.
    outcomes: UnboundedReceiver<(u64, Option<Ended>)>,
    outcome_to: UnboundedSender<(u64, Option<Ended>)>,
    received: Vec<(u64, Option<Ended>)>,
    in_flight: usize,
    /// A proposal that found the space's queue full.
    waiting: Option<Proposal>,
    answers: Writer,
}

enum State {
    /// No session has been asked for.
    New,
    Opening(Opening),
    Open(u64),
    /// Nothing more is read; why, unless the client has ended its body.
    Ending(Option<(String, String)>),
    Ended,
}

impl Exchange {
    pub(super) fn new(requests: Body, proposer: Proposer) -> Self {
        let (outcome_to, outcomes) = unbounded_channel();
        Self {
            requests,
            inbox: Inbox::default(),
            state: State::New,
            proposer: Arc::new(proposer),
            outcomes,
            outcome_to,
            received: Vec::new(),
            in_flight: 0,
            waiting: None,
            answers: Writer::new(),
        }
    }

    /// Writes the outcomes that have come.
    fn take_outcomes(&mut self, cx: &mut Context<'_>) {
        let mut unknown = false;
        while let Poll::Ready(count) =
            self.outcomes.poll_recv_many(cx, &mut self.received, MAX_IN_FLIGHT)
        {
            self.in_flight -= count;
            for (seq, outcome) in self.received.drain(..) {
                match outcome {
                    Some(outcome) => write_outcome(&mut self.answers, seq, &outcome),
                    None => unknown = true,
                }
            }
        }
        if unknown {
            let text = "what was not answered is unknown: send it again on another stream";
            self.end("unknown", text);
        }
    }

    /// Takes requests in until there are no more, or enough are under way.
    fn take_requests(&mut self, cx: &mut Context<'_>) {
        while self.in_flight < MAX_IN_FLIGHT {
            match &mut self.state {
                State::Ending(_) | State::Ended => return,
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(session)) => self.open(session),
                    Poll::Ready(Err(error)) => self.end(error.code, error.message),
                },
                &mut State::Open(session) if self.waiting.is_some() => {
                    if let Some(proposal) = self.waiting.take()
                        && !self.propose(session, proposal)
                    {
                        return;
                    }
                }
                State::New | State::Open(_) => match self.inbox.next() {
                    Ok(Some(item)) => {
                        if !self.handle(item) {
                            return;
                        }
                    }
                    Err(error) => self.end("bad_request", error.to_string()),
                    Ok(None) => match Pin::new(&mut self.requests).poll_frame(cx) {
                        Poll::Pending => return,
                        Poll::Ready(Some(Ok(frame))) => {
                            // Trailers say nothing here.
                            if let Ok(chunk) = frame.into_data() {
                                self.inbox.push(chunk);
                            }
                        }
                        Poll::Ready(Some(Err(error))) => self.end("bad_request", error.to_string()),
                        Poll::Ready(None) if self.inbox.is_inside_item() => {
                            self.end("bad_request", "the sequence ends inside an item");
                        }
                        Poll::Ready(None) => self.state = State::Ending(None),
                    },
                },
            }
        }
    }

    /// Whether there is room for another item.
    fn handle(&mut self, item: Item) -> bool {
        match (&self.state, item) {
            (State::New, Item::Hello(label)) => {
                let proposer = Arc::clone(&self.proposer);
                let opening = async move { proposer.open_session(&label).await };
                self.state = State::Opening(Box::pin(opening));
            }
            (State::New, Item::Resume(session)) => self.open(session),
            (&State::Open(session), Item::Proposal(proposal)) => {
                return self.propose(session, proposal);
            }
            (State::New, Item::Proposal(_)) => {
                self.end("bad_request", "the first item is a hello: [label] or [session]");
            }
            (_, Item::Hello(_) | Item::Resume(_) | Item::Proposal(_)) => {
                self.end("bad_request", "a stream has one hello, its first item");
            }
        }
        true
    }

    /// Whether there is room for another proposal.
    fn propose(&mut self, session: u64, proposal: Proposal) -> bool {
        let Proposal { seq, acked, .. } = proposal;
        let draft = match proposal.read_draft() {
            Ok(draft) => draft,
            Err(why) => {
                write_refused(&mut self.answers, seq, "malformed", &why.to_string());
                return true;
            }
        };
        match self.proposer.propose(session, seq, acked, draft, &self.outcome_to) {
            Ok(()) => self.in_flight += 1,
            // The next outcome of this stream makes room; without one there is none to wait for.
            Err(NotProposed::Busy) if self.in_flight > 0 => {
                self.waiting = Some(proposal);
                return false;
            }
            Err(why) => write_outcome(&mut self.answers, seq, &Ended::NotProposed(why)),
        }
        true
    }

    fn open(&mut self, session: u64) {
        write_opened(&mut self.answers, session);
        self.state = State::Open(session);
    }

    fn end(&mut self, code: impl Into<String>, text: impl Into<String>) {
        self.state = State::Ending(Some((code.into(), text.into())));
    }
}

impl HttpBody for Exchange {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.take_outcomes(cx);
        this.take_requests(cx);
        if let State::Ending(why) = &this.state
            && this.in_flight == 0
        {
            if let Some((code, text)) = why {
                write_ended(&mut this.answers, code, text);
            }
            this.state = State::Ended;
        }
        if !this.answers.is_empty() {
            let next = Writer::onto(Vec::with_capacity(ANSWERS_BYTES));
            let answers = std::mem::replace(&mut this.answers, next);
            return Poll::Ready(Some(Ok(Frame::data(answers.into_vec().into()))));
        }
        if matches!(this.state, State::Ended) { Poll::Ready(None) } else { Poll::Pending }
    }
}
