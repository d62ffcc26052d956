//! Errors as HTTP answers: the body says it to people and programs, the status to HTTP.

use crate::api::ErrorBody;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) ErrorBody);

impl ApiError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self(ErrorBody { code, message, problems: Vec::new(), id: None })
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

/// The HTTP status (RFC 9110 §15) that a code stands for.
fn status_of(code: &str) -> StatusCode {
    match code {
        "bad_request" | "syntax" | "program" | "name" | "multicast" => StatusCode::BAD_REQUEST,
        "not_found" => StatusCode::NOT_FOUND,
        "bad_method" => StatusCode::METHOD_NOT_ALLOWED,
        "slow" => StatusCode::REQUEST_TIMEOUT,
        "refused" | "exists" | "ambiguous" | "not_claimed" | "stopped" => StatusCode::CONFLICT,
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "threw" | "halted" | "engine" => StatusCode::UNPROCESSABLE_ENTITY,
        "busy" | "stopping" | "not_leader" | "behind" => StatusCode::SERVICE_UNAVAILABLE,
        "unknown" => StatusCode::GATEWAY_TIMEOUT,
        "full" => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
