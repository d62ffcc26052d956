//! Requests that read facts.

use super::body::Input;
use super::error::ApiError;
use super::routes::read_text;
use crate::api::{Facts, FactsRequest};
use crate::node::Node;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};

pub(super) fn router() -> Router<Node> {
    Router::new().route("/v1/facts", post(facts))
}

async fn facts(
    State(node): State<Node>,
    Input(request): Input<FactsRequest>,
) -> Result<Json<Facts>, ApiError> {
    let pattern = read_text(&request.pattern)?;
    Ok(Json(node.facts(request, pattern).await?))
}
