//! A request that is answered before its body has been read: who sends it is in the middle of that, and
//! a connection that is closed on it takes the answer along. So the rest is read and let go of.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The request whose body goes on for as long as its client likes.
const PROPOSE: &str = "/v1/propose";
/// How long a client has to come to the end of a body that nobody reads, before it is cut off.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// Has what a request's handler leaves of its body read. What a propose stream sends has no end.
pub(super) async fn linger(request: Request, next: Next) -> Response {
    let has_no_rest = request.body().is_end_stream() || request.uri().path() == PROPOSE;
    let request = match has_no_rest {
        true => request,
        false => request.map(|body| Body::new(Lingering(body))),
    };
    next.run(request).await
}

/// A body whose rest is read once it is dropped.
struct Lingering(Body);

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (Ok(runtime), false) = (tokio::runtime::Handle::try_current(), self.0.is_end_stream())
        else {
            return;
        };
        let mut rest = std::mem::take(&mut self.0);
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
