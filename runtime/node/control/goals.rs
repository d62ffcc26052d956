//! Answers that come one by one: a goal's, and the lines of an agent's log. As server-sent events
//! (WHATWG HTML §9.2), or collected into one object.

use super::cbor::accepts;
use super::error::ApiError;
use super::limits::COLLECTED_BYTES;
use crate::api::{Answers, ErrorBody, GoalEvent, LogLine, Once};
use crate::space::error;
use axum::Json;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use std::task::Poll;
use tokio::sync::mpsc::Receiver;

/// Answers with a goal's events. The first one is waited for, so that a goal that cannot be read
/// has an HTTP status that says so. Dropping the answer stops the goal. `once` says which proposal
/// the goal may have made.
pub(super) async fn answer_goal(
    headers: &HeaderMap,
    once: Option<Once>,
    mut events: Receiver<GoalEvent>,
) -> Result<Response, ApiError> {
    let first = match events.recv().await {
        Some(GoalEvent::Error(error)) => return Err(error.into()),
        Some(event) => event,
        None => return Err(broke_off(once)),
    };
    if wants_one_object(headers) {
        collect_goal(first, once, events).await.map(|answers| Json(answers).into_response())
    } else {
        Ok(stream_all(Some(first), events))
    }
}

/// Answers with the lines of a log.
pub(super) async fn answer_lines(
    headers: &HeaderMap,
    mut lines: Receiver<LogLine>,
) -> Result<Response, ApiError> {
    if !wants_one_object(headers) {
        return Ok(stream_all(None, lines));
    }
    let (mut collected, mut bytes) = (Vec::new(), 0);
    while let Some(line) = lines.recv().await {
        bytes += size_of::<LogLine>() + line.text.len();
        if bytes > COLLECTED_BYTES {
            return Err(too_large());
        }
        collected.push(line);
    }
    Ok(Json(collected).into_response())
}

/// Answers with what comes until the first error: as events, or as one array if that is wanted. `size`
/// says about how much room one takes.
pub(super) async fn answer_results<T: Serialize + Send + 'static>(
    headers: &HeaderMap,
    mut results: Receiver<Result<T, ErrorBody>>,
    size: impl Fn(&T) -> usize,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> Result<Response, ApiError> {
    if !wants_one_object(headers) {
        let events = until(stopping, results).map(|result| match result.flatten() {
            Ok(value) => Event::default().json_data(&value).map_err(axum::Error::new),
            // A stream that breaks off says that something is missing.
            Err(error) => Err(axum::Error::new(error)),
        });
        return Ok(Sse::new(events).into_response());
    }
    let (mut collected, mut bytes) = (Vec::new(), 0);
    while let Some(result) = results.recv().await {
        let value = result?;
        bytes += size_of::<T>() + size(&value);
        if bytes > COLLECTED_BYTES {
            return Err(too_large());
        }
        collected.push(value);
    }
    Ok(Json(collected).into_response())
}

/// Answers with what has no end, so that there is no collecting it: a space's changes, gossip.
pub(super) fn answer_events<T: Serialize + Send + 'static>(
    changes: Receiver<T>,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let events = until(stopping, changes).map(|change| match change {
        Ok(change) => Event::default().json_data(&change).map_err(axum::Error::new),
        Err(error) => Err(axum::Error::new(error)),
    });
    Sse::new(events).into_response()
}

/// What is received, until the node goes down: what has no end would keep it from that.
pub(super) fn until<T: Send + 'static>(
    stopping: impl Future<Output = ()> + Send + 'static,
    mut received: Receiver<T>,
) -> impl Stream<Item = Result<T, ErrorBody>> + Send + 'static {
    let mut stopping = Some(Box::pin(stopping));
    stream::poll_fn(move |cx| {
        if let Poll::Ready(next) = received.poll_recv(cx) {
            return Poll::Ready(next.map(Ok));
        }
        let Some(waiting) = &mut stopping else { return Poll::Ready(None) };
        waiting.as_mut().poll(cx).map(|()| {
            stopping = None;
            Some(Err(stops()))
        })
    })
}

fn stops() -> ErrorBody {
    error("stopping", "the node is going down: ask again when it is up")
}

fn wants_one_object(headers: &HeaderMap) -> bool {
    let one = accepts(headers, "application/json") || accepts(headers, "application/cbor");
    one && !accepts(headers, "text/event-stream")
}

fn stream_all<T>(first: Option<T>, mut rest: Receiver<T>) -> Response
where
    T: Serialize + Send + 'static,
{
    let rest = stream::poll_fn(move |cx| rest.poll_recv(cx));
    let events = stream::iter(first).chain(rest);
    Sse::new(events.map(|event| Event::default().json_data(&event))).into_response()
}

async fn collect_goal(
    first: GoalEvent,
    once: Option<Once>,
    mut rest: Receiver<GoalEvent>,
) -> Result<Answers, ApiError> {
    let mut all = Answers::default();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            GoalEvent::Answer(answer) => {
                // The bindings say the same as the text, at twice its length or so.
                bytes += 4 * answer.text.len();
                all.answers.push(answer);
            }
            GoalEvent::Output { text } => {
                bytes += text.len();
                all.output.push_str(&text);
            }
            // Goes on when another request says so.
            GoalEvent::More => {}
            GoalEvent::End { succeeded, more, index, stale_ms } => {
                return Ok(Answers { succeeded, more, index, stale_ms, ..all });
            }
            GoalEvent::Error(error) => return Err(error.into()),
        }
        if bytes > COLLECTED_BYTES {
            return Err(too_large());
        }
        next = rest.recv().await;
    }
    Err(broke_off(once))
}

fn too_large() -> ApiError {
    let why = format!(
        "there is more than {} MiB: set a limit, or accept text/event-stream",
        COLLECTED_BYTES >> 20
    );
    ApiError::new("too_large", why)
}

/// The events ended without the last one: nobody will tell how the goal ended.
fn broke_off(once: Option<Once>) -> ApiError {
    let why = "the node is going down: ask again when it is up";
    match once {
        Some(Once { session, seq, .. }) => {
            let id = Some(format!("{session}-{seq}"));
            let ApiError(body) = ApiError::new("unknown", why);
            ApiError(ErrorBody { id, ..body })
        }
        None => ApiError::new("stopping", why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Answer;
    use axum::body::to_bytes;
    use axum::http::{HeaderValue, StatusCode, header};
    use tokio::sync::mpsc;

    fn events(of: Vec<GoalEvent>) -> Receiver<GoalEvent> {
        let (sender, receiver) = mpsc::channel(of.len().max(1));
        of.into_iter().for_each(|event| sender.try_send(event).unwrap());
        receiver
    }

    fn answer(text: &str) -> GoalEvent {
        let (bindings, residuals) = (serde_json::Map::new(), Vec::new());
        GoalEvent::Answer(Answer { text: text.into(), bindings, residuals })
    }

    const END: GoalEvent =
        GoalEvent::End { succeeded: true, more: false, index: 7, stale_ms: None };

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    async fn text(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 30).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn answers_stream_as_events() {
        let goal = events(vec![answer("X = 1"), answer("X = 2"), END]);
        let response = answer_goal(&HeaderMap::new(), None, goal).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(
            text(response).await,
            "data: {\"event\":\"answer\",\"text\":\"X = 1\",\"bindings\":{}}\n\n\
             data: {\"event\":\"answer\",\"text\":\"X = 2\",\"bindings\":{}}\n\n\
             data: {\"event\":\"end\",\"succeeded\":true,\"more\":false,\"index\":7}\n\n"
        );
    }

    #[tokio::test]
    async fn whoever_wants_json_gets_one_object() {
        let goal = events(vec![answer("X = 1"), answer("X = 2"), END]);
        let response = answer_goal(&accept("application/json"), None, goal).await.unwrap();
        let all: Answers = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(all.answers.len(), 2);
        assert!(all.succeeded && !all.more && all.index == 7);
    }

    #[tokio::test]
    async fn an_error_before_the_first_answer_is_the_status() {
        for headers in [HeaderMap::new(), accept("application/json")] {
            let ApiError(syntax) = ApiError::new("syntax", "here");
            let goal = events(vec![GoalEvent::Error(syntax)]);
            let response = answer_goal(&headers, None, goal).await.unwrap_err().into_response();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            assert_eq!(text(response).await, r#"{"code":"syntax","message":"here"}"#);
        }
    }

    #[tokio::test]
    async fn a_goal_that_ends_without_a_word_is_an_error_and_a_transaction_unknown() {
        let code = |answer: Result<Response, ApiError>| answer.unwrap_err().0.code;
        let none = || events(vec![]);
        let cut = || events(vec![answer("X = 1")]);
        let json = accept("application/json");
        assert_eq!(code(answer_goal(&HeaderMap::new(), None, none()).await), "stopping");
        assert_eq!(code(answer_goal(&json, None, cut()).await), "stopping");
        let once = Some(Once { session: 12, seq: 3, acked: 0 });
        for goal in [none(), cut()] {
            let ApiError(error) = answer_goal(&json, once, goal).await.unwrap_err();
            assert_eq!((error.code.as_str(), error.id.as_deref()), ("unknown", Some("12-3")));
        }
    }

    #[tokio::test]
    async fn what_is_collected_is_bounded() {
        let huge = "x".repeat(COLLECTED_BYTES);
        let goal = events(vec![answer(&huge), END]);
        let error = answer_goal(&accept("application/json"), None, goal).await.unwrap_err();
        assert_eq!(error.0.code, "too_large");
    }
}
