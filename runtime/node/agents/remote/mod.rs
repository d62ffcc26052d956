//! Goals that agents of other nodes solve, and goals of theirs that agents of this node solve.
//!
//! The engine that solves one goes no further than it was asked to: when it has given as many answers as
//! are wanted at a time it waits for a byte on the stream. Whoever wants no more drops the stream, and the
//! engine is ended.

mod wire;

use super::side::{SideEvent, Solve};
use super::{Agents, Context};
use crate::api::{ErrorBody, Once};
use crate::net::{Net, Place};
use crate::space::error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use synod_bridge::{PeerId, Stream};
use synod_prolog::frame::GoalKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
pub(crate) use wire::MAX_TOKENS;
use wire::Question;

/// What the stream is called.
pub(crate) const CALL: &str = "synod/call/1";
/// Events that wait for whoever asked, at most; then the stream waits.
const EVENTS: usize = 16;
/// How long a peer may take to say what it wants, or to take what it is told while it asks for more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Says that more answers are wanted.
const MORE: u8 = 1;

/// A goal that an agent elsewhere solves.
pub(super) struct Remote {
    pub(super) agent: String,
    /// The space whose indexes and sessions it speaks of.
    pub(super) space: Option<[u8; 32]>,
    pub(super) solve: Solve,
}

/// Has the first of these nodes that can solve a goal. Dropping the receiver ends it. It goes on behind
/// [`SideEvent::More`] when `asked` says so.
pub(super) fn solve(
    net: Arc<Net>,
    places: Vec<Place>,
    remote: Remote,
    asked: Arc<Notify>,
) -> mpsc::Receiver<SideEvent> {
    let (events, receiver) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let closed = events.clone();
        tokio::select! {
            () = solve_at_one(&net, &places, &remote, &asked, &events) => {}
            // Whoever asked has gone: the stream is dropped, and the engine there ends.
            () = closed.closed() => {}
        }
    });
    receiver
}

async fn solve_at_one(
    net: &Net,
    places: &[Place],
    remote: &Remote,
    asked: &Notify,
    events: &mpsc::Sender<SideEvent>,
) {
    let mut why = error("not_found", format!("no agent {} is known", remote.agent));
    for place in places {
        match converse(net, place, remote, asked, events).await {
            Ok(()) => return,
            Err(Failed::Untouched(body)) => why = body,
            Err(Failed::Broke(e)) => {
                why = broke(place, remote, &e);
                break;
            }
        }
    }
    drop(events.send(SideEvent::Failed(why)).await);
}

/// Why a node has not solved a goal.
enum Failed {
    /// It has not begun: another one may be asked.
    Untouched(ErrorBody),
    /// It may have begun.
    Broke(io::Error),
}

fn broke(place: &Place, remote: &Remote, e: &io::Error) -> ErrorBody {
    let text = format!("the connection with node {} broke: {e}", place.node);
    match remote.solve.once.filter(|_| matches!(remote.solve.kind, GoalKind::Transact)) {
        Some(Once { session, seq, .. }) => {
            ErrorBody { id: Some(format!("{session}-{seq}")), ..error("unknown", text) }
        }
        None => {
            error("unreachable", format!("{text}; `synod peer connections` shows who is there"))
        }
    }
}

/// Asks one node, and passes on what it tells.
async fn converse(
    net: &Net,
    place: &Place,
    remote: &Remote,
    asked: &Notify,
    events: &mpsc::Sender<SideEvent>,
) -> Result<(), Failed> {
    let unreachable = |why: String| {
        let text = format!("node {}, which has the agent, cannot be reached: {why}", place.node);
        Failed::Untouched(error("unreachable", text))
    };
    let opened = timeout(PATIENCE, net.open_to(place, CALL)).await;
    let mut stream =
        opened.map_err(|_| unreachable("it does not answer".to_owned()))?.map_err(unreachable)?;
    let Solve { kind, goal, chunk, limit, at_least, as_of, once, depth, .. } = &remote.solve;
    let question = Question {
        tokens: net.tokens_for(place.peer),
        agent: remote.agent.clone(),
        space: remote.space,
        kind: kind.clone(),
        goal: goal.clone(),
        chunk: *chunk,
        limit: *limit,
        at_least: *at_least,
        as_of: *as_of,
        once: *once,
        depth: *depth,
    };
    let question = question.encode();
    if question.len() > wire::MAX_BYTES {
        let text = format!("a goal for another node has {} bytes at most", wire::MAX_BYTES);
        return Err(Failed::Untouched(error("too_large", text)));
    }
    write(&mut stream, &question).await.map_err(Failed::Broke)?;
    let mut has_begun = false;
    loop {
        let bytes = read(&mut stream).await.map_err(Failed::Broke)?;
        let event = wire::decode(&bytes).map_err(|e| Failed::Broke(io::Error::other(e)))?;
        match event {
            SideEvent::Failed(body) if !has_begun && is_elsewhere(&body) => {
                return Err(Failed::Untouched(body));
            }
            SideEvent::More => {
                if events.send(SideEvent::More).await.is_err() {
                    return Ok(());
                }
                asked.notified().await;
                stream.write_all(&[MORE]).await.map_err(Failed::Broke)?;
                stream.flush().await.map_err(Failed::Broke)?;
            }
            event => {
                has_begun = true;
                let is_last = is_last(&event);
                if events.send(event).await.is_err() || is_last {
                    return Ok(());
                }
            }
        }
    }
}

fn is_elsewhere(body: &ErrorBody) -> bool {
    matches!(&*body.code, "not_found" | "stopping")
}

fn is_last(event: &SideEvent) -> bool {
    matches!(event, SideEvent::End { .. } | SideEvent::Threw { .. } | SideEvent::Failed(_))
}

impl Agents {
    /// Solves a goal for a peer, which shares a space with this node.
    pub(crate) async fn serve_call(
        &self,
        net: &Net,
        peer: PeerId,
        mut stream: Stream,
    ) -> io::Result<()> {
        let bytes = timeout(PATIENCE, read(&mut stream)).await;
        let bytes = bytes.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let question = Question::decode(&bytes).map_err(io::Error::other)?;
        let no = |body| wire::encode(&SideEvent::Failed(body));
        if !net.admits(peer, &question.tokens) {
            let text = "this node shares no space with the one that asks: only members may call";
            return write(&mut stream, &no(error("refused", text))).await;
        }
        let Some(agent) = self.context.runs(&question.agent) else {
            let (name, node) = (&question.agent, self.context.node());
            let text = format!("no agent {name} runs on node {node}");
            return write(&mut stream, &no(error("not_found", text))).await;
        };
        let solve = match self.solve_of(question, agent.space.id()) {
            Ok(solve) => solve,
            Err(body) => return write(&mut stream, &no(body)).await,
        };
        let is_query = matches!(solve.kind, GoalKind::Query);
        let step = solve.step.clone();
        let mut events = match agent.solve(&self.context, solve) {
            Ok(events) => events,
            Err(body) => return write(&mut stream, &no(body)).await,
        };
        let (mut asks, mut tells) = tokio::io::split(stream);
        loop {
            let mut byte = [0];
            let event = tokio::select! {
                event = events.recv() => event,
                read = asks.read_exact(&mut byte) => {
                    // Whoever asked has gone, and the engine with it.
                    read?;
                    if let Some(step) = &step {
                        step.ask();
                    }
                    continue;
                }
            };
            let Some(mut event) = event else { return Ok(()) };
            if let SideEvent::End { stale_ms, .. } = &mut event {
                let stale = agent.space.leaderless_for().filter(|_| is_query);
                *stale_ms = stale.map(|stale| u64::try_from(stale.as_millis()).unwrap_or(u64::MAX));
            }
            let mut bytes = wire::encode(&event);
            if bytes.len() > wire::MAX_BYTES {
                let text = format!("an answer is over the bound of {} bytes", wire::MAX_BYTES);
                event = SideEvent::Failed(error("too_large", text));
                bytes = wire::encode(&event);
            }
            // Whoever asked may take its time, or go.
            write(&mut tells, &bytes).await?;
            if is_last(&event) {
                return Ok(());
            }
        }
    }

    fn solve_of(&self, question: Question, here: [u8; 32]) -> Result<Solve, ErrorBody> {
        let Question { space, kind, goal, chunk, limit, at_least, as_of, once, depth, .. } =
            question;
        let is_of_here = space == Some(here);
        if !is_of_here && (once.is_some() || as_of.is_some()) {
            let text = "the agent is of another space than the request: say which with --space";
            return Err(error("bad_request", text));
        }
        if depth > super::ask::MAX_CALL_DEPTH {
            return Err(error("refused", "too many calls of agents stand behind one another"));
        }
        Ok(Solve {
            kind,
            goal,
            chunk: chunk.max(1),
            limit,
            at_least: if is_of_here { at_least } else { 0 },
            as_of,
            once,
            depth,
            step: Some(Arc::new(self.context.steps.unnamed())),
        })
    }
}

impl Context {
    /// Where else an agent runs.
    pub(super) async fn elsewhere(
        &self,
        agent: &str,
        space: Option<&str>,
    ) -> Option<(Arc<Net>, Vec<Place>)> {
        let net = self.net()?;
        let places = net.find(agent, space).await;
        (!places.is_empty()).then_some((net, places))
    }

    /// Calls an agent elsewhere, for another agent.
    pub(super) fn call_elsewhere(
        (net, places): (Arc<Net>, Vec<Place>),
        agent: String,
        goal: Vec<u8>,
        chunk: u32,
        depth: u32,
        asked: Arc<Notify>,
    ) -> mpsc::Receiver<SideEvent> {
        let solve = Solve::call(goal, chunk, depth);
        self::solve(net, places, Remote { agent, space: None, solve }, asked)
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > wire::MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it says more than it may"));
    }
    // Read as it comes: a length alone takes no room.
    let mut bytes = Vec::new();
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
