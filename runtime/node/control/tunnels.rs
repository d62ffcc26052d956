//! Requests about tunnels.

use super::body::Input;
use super::error::ApiError;
use crate::api::{TunnelInfo, TunnelRequest};
use crate::node::Node;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn router() -> Router<Node> {
    Router::new()
        .route("/v1/tunnels", get(list).post(add))
        .route("/v1/tunnels/{name}/remove", post(remove))
}

async fn list(State(node): State<Node>) -> Json<Vec<TunnelInfo>> {
    Json(node.tunnels())
}

async fn add(State(node): State<Node>, Input(request): Input<TunnelRequest>) -> Answer<TunnelInfo> {
    Ok(Json(node.add_tunnel(request).await?))
}

async fn remove(
    State(node): State<Node>,
    name: Result<Path<String>, PathRejection>,
) -> Answer<Value> {
    let remarks = node.remove_tunnel(&name?.0).await?;
    Ok(Json(if remarks.is_empty() { json!({}) } else { json!({ "remarks": remarks }) }))
}
