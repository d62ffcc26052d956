//! One function for each request. They read what came, call the node, and say how it went.

use super::body::Input;
use super::error::ApiError;
use super::goals::{answer_events, answer_goal, answer_lines};
use super::limits::{MAX_REQUESTS, MAX_TAIL, admit};
use super::lingering::linger;
use super::{cbor, facts, log, metrics, peers, propose, spaces, tunnels};
use crate::api::{
    AgentInfo, BroadcastRequest, GoalRequest, LetterInfo, LettersRequest, ModuleInfo, ModuleText,
    Outcome, PredicateInfo, Problem, PublishRequest, Published, Reloaded, RetriedLetter,
    RunRequest, SessionOpened, SessionRequest, Status,
};
use crate::node::{Node, SolveKind};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use synod_core::kb::Indicator;
use synod_core::term::Term;
use synod_core::term::text::{self, Dialect};
use tokio::sync::Semaphore;

type InPath = Result<Path<String>, PathRejection>;
type InQuery<T> = Result<Query<T>, QueryRejection>;
type Answer<T> = Result<Json<T>, ApiError>;

/// All requests that there are.
pub(super) fn router(node: Node) -> Router {
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let bounded = Router::new()
        .route("/v1/session", post(open_session))
        .route("/v1/broadcast", post(broadcast))
        .route("/v1/query", post(query))
        .route("/v1/transact", post(transact))
        .route("/v1/goals/{name}/more", post(more))
        .route("/v1/changes", get(changes))
        .route("/v1/outcome/{id}", get(outcome))
        .route("/v1/run", post(run))
        .route("/v1/agents", get(agents))
        .route("/v1/agents/{name}/stop", post(stop_agent))
        .route("/v1/agents/{name}/restart", post(restart_agent))
        .route("/v1/agents/{name}/reload", post(reload_agent))
        .route("/v1/agents/{name}/letters", get(letters))
        .route("/v1/agents/{name}/letters/retry", post(retry_letters))
        .route("/v1/agents/{name}/letters/drop", post(drop_letters))
        .route("/v1/agents/{name}/logs", get(logs))
        .route("/v1/log", get(log::log))
        .route("/v1/log/place", get(log::place))
        .route("/v1/log/import", post(log::import))
        .route("/v1/agents/{name}/predicates", get(predicates))
        .route("/v1/modules", get(modules).post(publish))
        .route("/v1/modules/{name}", get(module))
        .route("/v1/propose", post(propose::propose))
        .merge(facts::router())
        .merge(spaces::router())
        .merge(peers::router())
        .merge(tunnels::router())
        .layer(from_fn_with_state(places, admit));
    Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(prometheus))
        .route("/v1/shutdown", post(shutdown))
        .merge(bounded)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(cbor::negotiate))
        .layer(from_fn(linger))
        .with_state(node)
}

/// Resolves when the node goes down.
pub(super) fn stopping(node: &Node) -> impl Future<Output = ()> + Send + 'static {
    let node = node.clone();
    async move { node.stopping().await }
}

/// The space that a request speaks of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InSpace {
    pub(super) space: Option<String>,
}

async fn status(State(node): State<Node>) -> Json<Status> {
    Json(node.status().await)
}

async fn prometheus(State(node): State<Node>) -> Response {
    metrics::answer(&node.status().await, &node.tunnels())
}

async fn shutdown(State(node): State<Node>) -> Json<Value> {
    node.ask_to_stop();
    node.shutdown().await;
    Json(json!({}))
}

async fn open_session(
    State(node): State<Node>,
    Input(request): Input<SessionRequest>,
) -> Answer<SessionOpened> {
    let session = node.open_session(request.space.as_deref(), &request.label).await?;
    Ok(Json(SessionOpened { session }))
}

async fn broadcast(
    State(node): State<Node>,
    Input(request): Input<BroadcastRequest>,
) -> Answer<Outcome> {
    let term = read_term(&request.term)?;
    Ok(Json(node.broadcast(request.space.as_deref(), term, request.once).await?))
}

async fn query(
    State(node): State<Node>,
    headers: HeaderMap,
    Input(goal): Input<GoalRequest>,
) -> Result<Response, ApiError> {
    answer_goal(&headers, None, node.solve(SolveKind::Query, goal).await?).await
}

async fn transact(
    State(node): State<Node>,
    headers: HeaderMap,
    Input(goal): Input<GoalRequest>,
) -> Result<Response, ApiError> {
    let once = goal.once;
    answer_goal(&headers, once, node.solve(SolveKind::Transact, goal).await?).await
}

async fn more(State(node): State<Node>, name: InPath) -> Answer<Value> {
    let Path(name) = name?;
    node.more(&name)?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watched {
    space: Option<String>,
    predicate: Option<String>,
    after: Option<u64>,
}

async fn changes(
    State(node): State<Node>,
    watched: InQuery<Watched>,
) -> Result<Response, ApiError> {
    let Query(Watched { space, predicate, after }) = watched?;
    let predicate = predicate.map(|text| indicator(&text)).transpose()?;
    let changes = node.changes(space.as_deref(), predicate, after)?;
    Ok(answer_events(changes, stopping(&node)))
}

/// `Name/Arity`. The name may hold slashes, and is quoted if Prolog wants it quoted.
fn indicator(text: &str) -> Result<Indicator, ApiError> {
    let bad = || {
        let why = format!("`{text}` is no predicate: those are NAME/ARITY, as in account/2");
        ApiError::new("bad_request", why)
    };
    let (name, arity) = text.rsplit_once('/').ok_or_else(bad)?;
    let arity = arity.parse::<u32>().map_err(|_| bad())?;
    match text::read(name, Dialect::Scryer) {
        Ok(term) => match term.predicate() {
            Some((name, 0)) => Ok(Indicator::new(name, arity)),
            _ => Err(bad()),
        },
        Err(_) => Err(bad()),
    }
}

async fn predicates(State(node): State<Node>, name: InPath) -> Answer<Vec<PredicateInfo>> {
    let Path(name) = name?;
    Ok(Json(node.predicates(&name).await?))
}

async fn outcome(State(node): State<Node>, id: InPath, query: InQuery<InSpace>) -> Answer<Outcome> {
    let (Path(id), Query(InSpace { space })) = (id?, query?);
    let numbers = id
        .split_once('-')
        .and_then(|(session, seq)| Some((session.parse::<u64>().ok()?, seq.parse::<u64>().ok()?)));
    let Some((session, seq)) = numbers else {
        let why = format!("`{id}` is no proposal's id: those are SESSION-NUMBER, as in 12-1");
        return Err(ApiError::new("bad_request", why));
    };
    match node.outcome(space.as_deref(), session, seq).await? {
        Some(outcome) => Ok(Json(outcome)),
        None => {
            let why = format!("{id} was not committed, or so long ago that it is no longer known");
            Err(ApiError::new("not_found", why))
        }
    }
}

async fn run(State(node): State<Node>, Input(request): Input<RunRequest>) -> Answer<AgentInfo> {
    Ok(Json(node.run_agent(request).await?))
}

async fn agents(State(node): State<Node>) -> Json<Vec<AgentInfo>> {
    Json(node.agents().await)
}

async fn stop_agent(State(node): State<Node>, name: InPath) -> Answer<Value> {
    let Path(name) = name?;
    node.stop_agent(&name).await?;
    Ok(Json(json!({})))
}

async fn restart_agent(State(node): State<Node>, name: InPath) -> Answer<Reloaded> {
    let Path(name) = name?;
    Ok(Json(node.restart_agent(&name).await?))
}

async fn reload_agent(State(node): State<Node>, name: InPath) -> Answer<Reloaded> {
    let Path(name) = name?;
    Ok(Json(node.reload_agent(&name).await?))
}

async fn letters(State(node): State<Node>, name: InPath) -> Answer<Vec<LetterInfo>> {
    let Path(name) = name?;
    Ok(Json(node.letters(&name).await?))
}

async fn retry_letters(
    State(node): State<Node>,
    name: InPath,
    Input(which): Input<LettersRequest>,
) -> Answer<Vec<RetriedLetter>> {
    let Path(name) = name?;
    Ok(Json(node.retry_letters(&name, &which).await?))
}

async fn drop_letters(
    State(node): State<Node>,
    name: InPath,
    Input(which): Input<LettersRequest>,
) -> Answer<Vec<LetterInfo>> {
    let Path(name) = name?;
    Ok(Json(node.drop_letters(&name, &which).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    #[serde(default)]
    tail: usize,
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(node): State<Node>,
    headers: HeaderMap,
    name: InPath,
    lines: InQuery<Lines>,
) -> Result<Response, ApiError> {
    let (Path(name), Query(Lines { tail, follow })) = (name?, lines?);
    let lines = node.logs(&name, tail.min(MAX_TAIL), follow).await?;
    answer_lines(&headers, lines).await
}

async fn publish(
    State(node): State<Node>,
    Input(request): Input<PublishRequest>,
) -> Answer<Published> {
    let PublishRequest { name, text, space } = request;
    let index = node.publish_module(space.as_deref(), &name, &text).await?;
    Ok(Json(Published { index }))
}

async fn modules(State(node): State<Node>, query: InQuery<InSpace>) -> Answer<Vec<ModuleInfo>> {
    let modules = node.modules(query?.space.as_deref()).await?;
    let info = |(name, text): (String, String)| ModuleInfo { name, bytes: text.len() as u64 };
    Ok(Json(modules.into_iter().map(info).collect()))
}

async fn module(
    State(node): State<Node>,
    name: InPath,
    query: InQuery<InSpace>,
) -> Answer<ModuleText> {
    let (Path(name), Query(InSpace { space })) = (name?, query?);
    let found = node.modules(space.as_deref()).await?.into_iter().find(|module| module.0 == name);
    match found {
        Some((name, text)) => Ok(Json(ModuleText { name, text })),
        None => Err(ApiError::new(
            "not_found",
            format!("no module `{name}` was published: `synod module list` shows those that were"),
        )),
    }
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::new(
        "not_found",
        format!("there is no {} here: docs/api.md names the requests that there are", uri.path()),
    )
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        "bad_method",
        format!("{} does not take {method}: docs/api.md names what it takes", uri.path()),
    )
}

/// Reads a term that a person wrote, and gives its bytes.
pub(super) fn read_term(text: &str) -> Result<Bytes, ApiError> {
    let encoded = read_text(text)?.encode();
    Ok(encoded.map_err(|error| ApiError::new("too_large", error.to_string()))?.into())
}

/// A term as Prolog text.
pub(super) fn read_text(text: &str) -> Result<Term, ApiError> {
    text::read(text, Dialect::Scryer).map_err(|error| {
        let what = format!("syntax error: {}", error.what);
        let at = format!("line {}, column {}", error.line, error.column);
        let mut refusal = ApiError::new("syntax", format!("{at}: {what}"));
        refusal.0.problems.push(Problem {
            severity: "error".to_owned(),
            file: String::new(),
            line: u32::try_from(error.line).unwrap_or(0),
            column: u32::try_from(error.column).unwrap_or(0),
            text: what,
        });
        refusal
    })
}
