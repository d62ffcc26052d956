//! Errors as HTTP answers: the body says it to people and programs, the status to HTTP.

use crate::api::{CODES, ErrorBody};
use crate::space::error;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) ErrorBody);

impl ApiError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self(error(code, message))
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new("bad_request", format!("after the `?`: {}", innermost(&rejection)))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new("bad_request", format!("in the path: {}", innermost(&rejection)))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (status_of(&self.0.code), Json(self.0)).into_response()
    }
}

/// The last cause of an error: axum wraps what serde says, which names the field, in layers that
/// name Rust's types.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn status_of(code: &str) -> StatusCode {
    let known = CODES.iter().find(|(known, _)| *known == code);
    known
        .and_then(|(_, status)| StatusCode::from_u16(*status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
