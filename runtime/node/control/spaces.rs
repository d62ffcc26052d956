//! Requests about spaces of several nodes, and about this node in the network.

use super::body::Input;
use super::error::ApiError;
use super::routes::InSpace;
use crate::api::{
    CreateSpace, JoinSpace, LeftSpace, MemberRequest, Members, RecoverSpace, RetainRequest,
    Retained, SpaceInfo, TicketInfo, TicketRequest,
};
use crate::node::Node;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

type Answer<T> = Result<Json<T>, ApiError>;
type InPath<T> = Result<Path<T>, PathRejection>;
type InQuery<T> = Result<Query<T>, QueryRejection>;

pub(super) fn router() -> Router<Node> {
    Router::new()
        .route("/v1/spaces", get(list).post(create))
        .route("/v1/spaces/join", post(join))
        .route("/v1/spaces/tickets", post(ticket))
        .route("/v1/spaces/tickets/revoke", post(revoke))
        .route("/v1/spaces/members", get(members))
        .route("/v1/spaces/members/{what}", post(change))
        .route("/v1/spaces/{name}/leave", post(leave))
        .route("/v1/spaces/{name}/retain", post(retain))
        .route("/v1/spaces/{name}/recover", post(recover))
}

async fn list(State(node): State<Node>) -> Json<Vec<SpaceInfo>> {
    Json(node.status().await.spaces)
}

async fn create(State(node): State<Node>, Input(request): Input<CreateSpace>) -> Answer<Members> {
    Ok(Json(node.create_space(&request.name).await?))
}

async fn join(State(node): State<Node>, Input(request): Input<JoinSpace>) -> Answer<Members> {
    let JoinSpace { ticket, name, observe } = request;
    Ok(Json(match observe {
        true => node.observe_space(&ticket, name.as_deref()).await?,
        false => node.join_space(&ticket, name.as_deref()).await?,
    }))
}

async fn ticket(
    State(node): State<Node>,
    query: InQuery<InSpace>,
    Input(request): Input<TicketRequest>,
) -> Answer<TicketInfo> {
    let Query(InSpace { space }) = query?;
    Ok(Json(node.issue_ticket(space.as_deref(), request.uses, request.seconds).await?))
}

async fn revoke(State(node): State<Node>, query: InQuery<InSpace>) -> Answer<Value> {
    let Query(InSpace { space }) = query?;
    node.revoke_tickets(space.as_deref()).await?;
    Ok(Json(json!({})))
}

async fn members(State(node): State<Node>, query: InQuery<InSpace>) -> Answer<Members> {
    let Query(InSpace { space }) = query?;
    Ok(Json(node.members(space.as_deref()).await?))
}

async fn change(
    State(node): State<Node>,
    what: InPath<String>,
    query: InQuery<InSpace>,
    Input(request): Input<MemberRequest>,
) -> Answer<Members> {
    let (Path(what), Query(InSpace { space })) = (what?, query?);
    if !["promote", "remove", "transfer"].contains(&&*what) {
        let text = format!("a member is not {what}d: promote, remove or transfer");
        return Err(ApiError::new("not_found", text));
    }
    Ok(Json(node.ask_leader(space.as_deref(), &what, &request.member).await?))
}

async fn leave(State(node): State<Node>, name: InPath<String>) -> Answer<LeftSpace> {
    let Path(name) = name?;
    Ok(Json(LeftSpace { aside: node.leave_space(&name).await? }))
}

async fn retain(
    State(node): State<Node>,
    name: InPath<String>,
    Input(request): Input<RetainRequest>,
) -> Answer<Retained> {
    let Path(name) = name?;
    Ok(Json(node.retain(&name, &request.retain).await?))
}

async fn recover(
    State(node): State<Node>,
    name: InPath<String>,
    Input(request): Input<RecoverSpace>,
) -> Answer<Members> {
    Ok(Json(node.recover_space(&name?.0, &request.understood).await?))
}
