//! A request's JSON body: read whole, within bounds, and refused by the field that is at fault.

use super::error::{ApiError, innermost};
use super::limits::{BODY_BYTES, BODY_TIME};
use axum::Json;
use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

/// A request's body as a `T`, whatever its content type says.
pub(super) struct Input<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = Limited::new(request.into_body(), BODY_BYTES);
        let bytes = match tokio::time::timeout(BODY_TIME, body.collect()).await {
            Err(_) => {
                let why = format!(
                    "the body did not arrive within {} s: send it again",
                    BODY_TIME.as_secs()
                );
                return Err(ApiError::new("slow", why));
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let why = format!(
                    "the body is larger than {} KiB; what is larger goes through /v1/propose",
                    BODY_BYTES >> 10
                );
                return Err(ApiError::new("too_large", why));
            }
            Ok(Err(error)) => {
                return Err(ApiError::new(
                    "bad_request",
                    format!("the body broke off: {error}; send it again"),
                ));
            }
            Ok(Ok(body)) => body.to_bytes(),
        };
        match Json::from_bytes(&bytes) {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                Err(ApiError::new("bad_request", format!("the body: {}", innermost(&rejection))))
            }
        }
    }
}
