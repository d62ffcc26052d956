//! Requests about a space's log. It is told as server-sent events, one [`LogEntry`] each; to whoever
//! accepts `application/cbor-seq` it comes as an export, of which `export.cddl` is the grammar.

use super::cbor::accepts;
use super::error::ApiError;
use super::goals::{answer_results, until};
use super::routes::{InSpace, stopping};
use crate::api::{Imported, LogEntry, LogPlace};
use crate::node::Node;
use crate::past::{At, Filter, Span, filter};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::StreamExt;
use serde::Deserialize;
use synod_core::export::MEDIA_TYPE;

type InQuery<T> = Result<Query<T>, QueryRejection>;

/// Which commands, after the `?`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    space: Option<String>,
    /// The first and the last index.
    from: Option<u64>,
    to: Option<u64>,
    /// RFC 3339.
    since: Option<String>,
    until: Option<String>,
    agent: Option<String>,
    /// `name/arity`.
    functor: Option<String>,
    #[serde(default)]
    follow: bool,
}

impl Wanted {
    fn span(&self) -> Result<Span, ApiError> {
        let time = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => filter::time(text)
                .map(Some)
                .map_err(|why| ApiError::new("bad_request", format!("{field}: {why}"))),
        };
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        Ok(Span { from: self.from, to: self.to, since, until })
    }

    fn filter(&self) -> Result<Filter, ApiError> {
        let functor = self.functor.as_deref().map(filter::functor).transpose();
        let functor = functor.map_err(|why| ApiError::new("bad_request", why))?;
        Ok(Filter { agent: self.agent.clone(), functor })
    }
}

pub(super) async fn log(
    State(node): State<Node>,
    headers: HeaderMap,
    wanted: InQuery<Wanted>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted?;
    let (span, filter) = (wanted.span()?, wanted.filter()?);
    let (space, follow) = (wanted.space.as_deref(), wanted.follow);
    if !accepts(&headers, MEDIA_TYPE) {
        let entries = node.log_entries(space, span, filter, follow).await?;
        let size = |entry: &LogEntry| entry.line().len();
        return answer_results(&headers, entries, size, stopping(&node)).await;
    }
    if filter != Filter::default() {
        let why = "an export has all commands of a span: leave out agent and functor";
        return Err(ApiError::new("bad_request", why));
    }
    let pieces = node.export(space, span, follow).await?;
    // A body that ends in an error is not ended in order: whoever reads sees that it is cut.
    let body = until(stopping(&node), pieces).map(Result::flatten);
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(body)).into_response())
}

/// Which place, after the `?`: of an index or a time.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    space: Option<String>,
    at: String,
}

pub(super) async fn place(
    State(node): State<Node>,
    place: InQuery<Place>,
) -> Result<Json<LogPlace>, ApiError> {
    let Query(Place { space, at }) = place?;
    let at: At = at.parse().map_err(|why| ApiError::new("bad_request", format!("at: {why}")))?;
    Ok(Json(node.log_place(space.as_deref(), at).await?))
}

pub(super) async fn import(
    State(node): State<Node>,
    query: InQuery<InSpace>,
    export: Body,
) -> Result<Json<Imported>, ApiError> {
    let Query(InSpace { space }) = query?;
    Ok(Json(node.import(space.as_deref(), export.into_data_stream()).await?))
}
