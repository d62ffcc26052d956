//! The part of us that runs on each connection's own task: it sets lanes and streams up. What goes over them is
//! moved elsewhere.

use crate::conn::{Conn, OpenError, OpenRequest};
use crate::event::{Deliver, Event, Held, Lane, Refusal};
use crate::frame::{BadFrame, Hello};
use crate::lane::{LaneError, Reader, Writer};
use crate::lanes::Lanes;
use crate::limits::SETUP;
use crate::stats::Counters;
use crate::stream::Stream;
use crate::upgrade::{Accept, Accepted, Open, Opened, SetupError};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError,
    FullyNegotiatedInbound, FullyNegotiatedOutbound, ListenUpgradeError,
};
use libp2p::swarm::{StreamUpgradeError, SubstreamProtocol};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) hello: Hello,
    pub(crate) deliver: Arc<dyn Deliver>,
    pub(crate) counters: Arc<Counters>,
}

/// What a connection tells the swarm.
#[derive(Debug)]
pub(crate) enum Report {
    /// The connection is there: what it shares with the swarm.
    Established(Arc<Conn>),
    /// Both lanes are up, and this is who the peer said it is.
    Ready(Hello),
    /// The peer broke the protocol or speaks another one.
    Refused(Refusal),
    /// The peer is connected, but speaks nothing of ours.
    NotOurs,
    /// A lane has ended, and with it the connection.
    Broken(String),
    /// The peer has heard a gossip beacon of ours.
    Heard,
    /// The peer tells of others.
    Told(Vec<u8>),
}

/// What an outbound stream was asked for by.
pub(crate) enum Wanted {
    Lane,
    Named { held: Held, reply: oneshot::Sender<Result<Stream, OpenError>> },
}

pub(crate) struct Handler {
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    lanes_wanted: VecDeque<Lane>,
    /// Which lanes go out, and which come in.
    writes: [bool; 2],
    reads: [bool; 2],
    /// Moves their messages for as long as there is the connection.
    _lanes: Lanes,
    incoming: VecDeque<(String, libp2p::Stream, Held)>,
    reports: VecDeque<Report>,
    /// Whether the connection is to be kept: it speaks our protocol, as far as is known.
    keep: bool,
}

impl Handler {
    pub(crate) fn new(conn: Arc<Conn>, shared: Arc<Shared>) -> Self {
        let established = Report::Established(Arc::clone(&conn));
        Self {
            _lanes: Lanes::start(&conn, &shared),
            conn,
            shared,
            lanes_wanted: Lane::ALL.into(),
            writes: [false; 2],
            reads: [false; 2],
            incoming: VecDeque::new(),
            reports: [established].into(),
            keep: true,
        }
    }

    fn deliver_streams(&mut self) {
        for (name, stream, held) in self.incoming.drain(..) {
            let counters = &self.shared.counters;
            counters.add(&counters.streams_in, 1);
            let stream = Stream::new(stream, Arc::clone(&self.conn), held);
            self.shared.deliver.deliver(Event::Incoming { peer: self.conn.peer, name, stream });
        }
    }

    fn on_opened(&mut self, opened: Opened, wanted: Wanted) {
        match (opened, wanted) {
            (Opened::Lane(lane, stream, hello), _) => {
                self.writes[lane as usize] = true;
                self.conn.exchange.write_to(Writer::new(stream, lane));
                self.conn.lanes_waker.wake();
                if self.writes == [true; 2] {
                    self.reports.push_back(Report::Ready(hello));
                }
            }
            (Opened::Named(stream), Wanted::Named { held, reply }) => {
                let counters = &self.shared.counters;
                counters.add(&counters.streams_out, 1);
                // Who no longer waits has dropped the other end; the stream goes with it.
                let _ = reply.send(Ok(Stream::new(stream, Arc::clone(&self.conn), held)));
            }
            (Opened::Named(_), Wanted::Lane) => {}
        }
    }

    fn on_not_opened(&mut self, error: StreamUpgradeError<SetupError>, wanted: Wanted) {
        match wanted {
            Wanted::Lane => {
                self.keep = false;
                self.reports.push_back(match error {
                    StreamUpgradeError::NegotiationFailed => Report::NotOurs,
                    StreamUpgradeError::Apply(error) => self.setup_failed(error),
                    StreamUpgradeError::Timeout => {
                        Report::Broken("the peer did not answer in time".into())
                    }
                    StreamUpgradeError::Io(error) => Report::Broken(error.to_string()),
                });
            }
            Wanted::Named { reply, .. } => {
                let error = match error {
                    StreamUpgradeError::Apply(SetupError::Busy) => OpenError::Busy,
                    StreamUpgradeError::Apply(SetupError::Io(error))
                    | StreamUpgradeError::Io(error) => OpenError::Failed(error.to_string()),
                    StreamUpgradeError::Timeout => {
                        OpenError::Failed("the peer did not answer in time".into())
                    }
                    _ => OpenError::Failed("the peer speaks another protocol".into()),
                };
                let _ = reply.send(Err(error));
            }
        }
    }

    fn setup_failed(&self, error: SetupError) -> Report {
        match error {
            SetupError::Io(error) => Report::Broken(error.to_string()),
            SetupError::Garbage => Report::Refused(Refusal::Garbage),
            SetupError::Busy => Report::Refused(Refusal::TooManyStreams),
            SetupError::Version(theirs) => Report::Refused(Refusal::Version {
                theirs: theirs.versions,
                ours: self.shared.hello.versions.clone(),
            }),
        }
    }
}

impl From<LaneError> for Report {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Ended => Self::Broken("the peer closed a lane".into()),
            LaneError::Io(error) => Self::Broken(error.to_string()),
            LaneError::Frame(BadFrame::Garbage) => Self::Refused(Refusal::Garbage),
            LaneError::Frame(BadFrame::Oversized(length)) => {
                Self::Refused(Refusal::Oversized(length))
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Report;
    type InboundProtocol = Accept;
    type OutboundProtocol = Open;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Wanted;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        let accept = Accept { hello: self.shared.hello.clone(), conn: Arc::clone(&self.conn) };
        SubstreamProtocol::new(accept, ()).with_timeout(SETUP)
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Open, Wanted, Report>> {
        self.conn.waker.register(cx.waker());
        if self.conn.open.load(Ordering::Acquire) {
            self.deliver_streams();
        }
        self.reports.extend(self.conn.exchange.reports());
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        let (open, wanted) = if let Some(lane) = self.lanes_wanted.pop_front() {
            (Open::Lane(lane, self.shared.hello.clone()), Wanted::Lane)
        } else if let Some(OpenRequest { name, held, reply }) = self.conn.next_request() {
            (Open::Named(name), Wanted::Named { held, reply })
        } else {
            return Poll::Pending;
        };
        let protocol = SubstreamProtocol::new(open, wanted).with_timeout(SETUP);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Accept, Open, (), Wanted>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => match protocol {
                // A second lane of a kind would let a peer pass its own bound.
                Accepted::Lane(lane, stream) => {
                    if std::mem::replace(&mut self.reads[lane as usize], true) {
                        self.reports.push_back(Report::Refused(Refusal::Garbage));
                    } else {
                        self.conn.exchange.read_from(Reader::new(stream, lane));
                        self.conn.lanes_waker.wake();
                    }
                }
                Accepted::Open(name, stream, held) => {
                    self.incoming.push_back((name, stream, held));
                }
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.on_opened(protocol, info),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.on_not_opened(error, info);
            }
            // A stream that was cut off while it was set up is no offence.
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError {
                error: SetupError::Io(_),
                ..
            }) => {}
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { error, .. }) => {
                let report = self.setup_failed(error);
                self.reports.push_back(report);
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("conn", &self.conn).finish_non_exhaustive()
    }
}
