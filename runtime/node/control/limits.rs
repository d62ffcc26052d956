//! What one client, and all of them together, may ask of the control socket.

use super::error::ApiError;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections open at once, at most. Further ones wait until one ends.
pub const MAX_CONNECTIONS: usize = 256;
/// Requests under way at once, at most, streams among them. A further one is refused as busy;
/// `status` and `shutdown` never are.
pub const MAX_REQUESTS: usize = 192;
/// Bytes of a request's head, at most.
pub const HEAD_BYTES: usize = 16 << 10;
/// How long a client may take to send a request's head, and may keep a connection idle.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a JSON body, at most. A term or goal that is larger goes through `/v1/propose`.
pub const BODY_BYTES: usize = 1 << 20;
/// How long a client may take to send a JSON body.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// Bytes of answers that are collected into one object, at most. A stream has no such bound.
pub const COLLECTED_BYTES: usize = 16 << 20;
/// Lines of an agent's log that one request may ask back for.
pub const MAX_TAIL: usize = 100_000;
/// How long connections have to end after the node has stopped.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Lets a request through if there is room, and keeps its place until its answer has been sent.
pub(super) async fn admit(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let place = places.try_acquire_owned().map_err(|_| {
        let why = format!("{MAX_REQUESTS} requests are under way: try again in a moment");
        ApiError::new("busy", why)
    })?;
    let answer = next.run(request).await;
    Ok(answer.map(|body| Body::new(Placed { body, _place: place })))
}

/// A body that keeps a request's place.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
