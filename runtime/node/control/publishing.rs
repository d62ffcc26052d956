//! Gossip from clients: one term, or as many as a body has lines.

use super::body::Input;
use super::error::ApiError;
use super::limits::BODY_BYTES;
use super::routes::read_term;
use crate::api::{PublishTerm, PublishedLines};
use crate::node::Node;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Whom a client's message is from, if it does not say.
const CLIENT: &str = "cli";
/// How long a line waits for room in the queue of gossip.
const FULL_PATIENCE: Duration = Duration::from_secs(5);
/// Bodies of lines that are read at once, at most: they may be long, and wait for their clients.
const AT_ONCE: usize = 32;
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(super) async fn publish(
    State(node): State<Node>,
    Input(request): Input<PublishTerm>,
) -> Result<Json<Value>, ApiError> {
    let term = read_term(&request.term)?;
    node.publish(&request.topic, request.from.as_deref().unwrap_or(CLIENT), &term)?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    topic: String,
    from: Option<String>,
}

/// A term a line. What came before a line that is wrong has been published.
pub(super) async fn lines(
    State(node): State<Node>,
    to: Result<Query<To>, QueryRejection>,
    mut body: Body,
) -> Result<Json<PublishedLines>, ApiError> {
    static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);
    let Query(To { topic, from }) = to?;
    let _turn = TURNS.try_acquire().map_err(|_| {
        let why = format!("{AT_ONCE} clients publish lines already: try again when one is done");
        ApiError::new("busy", why)
    })?;
    let from = from.as_deref().unwrap_or(CLIENT);
    let (mut lines, mut published) = (Lines::default(), 0);
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().ok(),
            Some(Err(e)) => {
                let why = format!("the body broke off after {published} terms: {e}");
                return Err(ApiError::new("bad_request", why));
            }
            None => None,
        };
        let is_last = piece.is_none();
        lines.buffer.extend_from_slice(&piece.unwrap_or_default());
        while let Some(line) = lines.next(is_last)? {
            let said = |error: ApiError| at_line(error, lines.number, published);
            let Some(term) = term(&line).map_err(said)? else { continue };
            when_there_is_room(&node, &topic, from, &term).await.map_err(said)?;
            published += 1;
        }
        if is_last {
            return Ok(Json(PublishedLines { published }));
        }
    }
}

fn term(line: &[u8]) -> Result<Option<Bytes>, ApiError> {
    let text = std::str::from_utf8(line);
    let text = text.map_err(|e| ApiError::new("bad_request", format!("no UTF-8: {e}")))?.trim();
    if text.is_empty() { Ok(None) } else { read_term(text).map(Some) }
}

async fn when_there_is_room(
    node: &Node,
    topic: &str,
    from: &str,
    term: &Bytes,
) -> Result<(), ApiError> {
    let until = Instant::now() + FULL_PATIENCE;
    loop {
        match node.publish(topic, from, term) {
            Err(full) if full.code == "busy" && Instant::now() < until => sleep(LOOK_AGAIN).await,
            ended => return ended.map_err(ApiError::from),
        }
    }
}

fn at_line(mut error: ApiError, line: u64, published: u64) -> ApiError {
    let why = std::mem::take(&mut error.0.message);
    let place = why.strip_prefix("line 1, ").unwrap_or(&why);
    error.0.message = format!("line {line}, {place}; the {published} terms before were published");
    for problem in &mut error.0.problems {
        problem.line = u32::try_from(line).unwrap_or(u32::MAX);
    }
    error
}

/// A body's lines.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// Bytes that are known to have no end of a line among them.
    scanned: usize,
    /// The number of the line that was given last.
    number: u64,
}

impl Lines {
    /// The next line that is whole; the rest, if nothing follows it.
    fn next(&mut self, is_last: bool) -> Result<Option<BytesMut>, ApiError> {
        let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let len = match end {
            Some(at) => self.scanned + at + 1,
            None if is_last && !self.buffer.is_empty() => self.buffer.len(),
            None if self.buffer.len() > BODY_BYTES => {
                let why = format!("line {} is longer than {BODY_BYTES} bytes", self.number + 1);
                return Err(ApiError::new("too_large", why));
            }
            None => {
                self.scanned = self.buffer.len();
                return Ok(None);
            }
        };
        (self.scanned, self.number) = (0, self.number + 1);
        Ok(Some(self.buffer.split_to(len)))
    }
}
