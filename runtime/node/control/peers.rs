//! Requests about this node in the network, and about gossip.

use super::body::Input;
use super::error::ApiError;
use super::goals::{answer_events, answer_goal};
use super::publishing;
use super::routes::stopping;
use crate::api::{
    AddressRequest, ConnectionInfo, GoalRequest, KnownPeer, MeInfo, NodeRecord, PeerAnswer,
    PeerRequest, PeerStats, Ready,
};
use crate::node::Node;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn router() -> Router<Node> {
    Router::new()
        .route("/v1/peers/id", get(id))
        .route("/v1/peers/known", get(known))
        .route("/v1/peers/connections", get(connections))
        .route("/v1/peers/stats", get(stats))
        .route("/v1/peers/directory", get(directory))
        .route("/v1/peers/connect", post(connect))
        .route("/v1/peers/disconnect", post(disconnect))
        .route("/v1/peers/add", post(add))
        .route("/v1/peers/remove", post(remove))
        .route("/v1/publish", post(publishing::publish))
        .route("/v1/publish/lines", post(publishing::lines))
        .route("/v1/subscribe", get(subscribe))
        .route("/v1/call", post(call))
        .route("/v1/ready", get(ready))
}

async fn id(State(node): State<Node>) -> Answer<MeInfo> {
    Ok(Json(node.peer_id().await?))
}

async fn known(State(node): State<Node>) -> Json<Vec<KnownPeer>> {
    Json(node.known_peers().await)
}

async fn connections(State(node): State<Node>) -> Json<Vec<ConnectionInfo>> {
    Json(node.connections())
}

async fn stats(State(node): State<Node>) -> Json<PeerStats> {
    Json(node.peer_stats())
}

async fn directory(State(node): State<Node>) -> Json<Vec<NodeRecord>> {
    Json(node.directory())
}

async fn connect(
    State(node): State<Node>,
    Input(request): Input<AddressRequest>,
) -> Answer<PeerAnswer> {
    let peer = node.connect_peer(&request.address).await?;
    Ok(Json(PeerAnswer { peer: Some(peer) }))
}

async fn disconnect(
    State(node): State<Node>,
    Input(request): Input<PeerRequest>,
) -> Answer<PeerAnswer> {
    let peer = node.disconnect_peer(&request.peer).await?;
    Ok(Json(PeerAnswer { peer: Some(peer) }))
}

async fn add(
    State(node): State<Node>,
    Input(request): Input<AddressRequest>,
) -> Answer<PeerAnswer> {
    Ok(Json(PeerAnswer { peer: node.add_peer(&request.address).await? }))
}

async fn remove(
    State(node): State<Node>,
    Input(request): Input<PeerRequest>,
) -> Answer<PeerAnswer> {
    Ok(Json(PeerAnswer { peer: node.forget_peer(&request.peer).await? }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
}

async fn subscribe(
    State(node): State<Node>,
    topic: Result<Query<Topic>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Topic { topic }) = topic?;
    Ok(answer_events(node.listen(&topic)?, stopping(&node)))
}

async fn call(
    State(node): State<Node>,
    headers: HeaderMap,
    Input(goal): Input<GoalRequest>,
) -> Result<Response, ApiError> {
    if goal.agent.is_none() {
        return Err(ApiError::new("bad_request", "which agent? a call names its `agent`"));
    }
    answer_goal(&headers, None, node.call(goal).await?).await
}

async fn ready(State(node): State<Node>) -> Json<Ready> {
    Json(node.ready().await)
}
