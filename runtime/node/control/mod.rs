//! The control socket: HTTP/1.1 with JSON on `DATA/control.sock`, for the command line and for
//! programs.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`api::Status`] |
//! | `GET /metrics` | | the same in Prometheus' text format 0.0.4 |
//! | `POST /v1/session` | [`api::SessionRequest`] | [`api::SessionOpened`] |
//! | `POST /v1/broadcast` | [`api::BroadcastRequest`] | [`api::Outcome`] |
//! | `POST /v1/query`, `/v1/transact` | [`api::GoalRequest`] | a stream of [`api::GoalEvent`] |
//! | `POST /v1/facts` | [`api::FactsRequest`] | [`api::Facts`] |
//! | `GET /v1/outcome/ID?space=` | | [`api::Outcome`] |
//! | `POST /v1/run` | [`api::RunRequest`] | [`api::AgentInfo`] |
//! | `GET /v1/agents` | | an array of [`api::AgentInfo`] |
//! | `POST /v1/agents/NAME/stop` | | `{}` |
//! | `POST /v1/agents/NAME/reload`, `/restart` | | [`api::Reloaded`] |
//! | `GET /v1/agents/NAME/letters` | | an array of [`api::LetterInfo`] |
//! | `POST /v1/agents/NAME/letters/retry` | [`api::LettersRequest`] | an array of [`api::RetriedLetter`] |
//! | `POST /v1/agents/NAME/letters/drop` | [`api::LettersRequest`] | an array of [`api::LetterInfo`] |
//! | `GET /v1/agents/NAME/logs?tail=&follow=` | | a stream of [`api::LogLine`] |
//! | `GET /v1/log?space=&from=&to=&since=&until=&agent=&functor=&follow=` | | a stream of [`api::LogEntry`], or an export, see [`crate::past`] |
//! | `GET /v1/log/place?space=&at=` | | [`api::LogPlace`] |
//! | `POST /v1/log/import?space=` | an export | [`api::Imported`] |
//! | `POST /v1/modules` | [`api::PublishRequest`] | [`api::Published`] |
//! | `GET /v1/modules?space=` | | an array of [`api::ModuleInfo`] |
//! | `GET /v1/modules/NAME?space=` | | [`api::ModuleText`] |
//! | `POST /v1/propose?space=` | a CBOR sequence | a CBOR sequence, see [`propose`] |
//! | `POST /v1/shutdown` | | `{}`, once the node has closed its log |
//!
//! A stream is server-sent events, one JSON object in each `data:` line; to whoever accepts
//! `application/json` and no events it comes as one object instead, when it has ended. What is
//! JSON comes as CBOR to whoever accepts `application/cbor` (RFC 8949). What goes wrong is
//! an [`api::ErrorBody`] under the HTTP status that its code stands for.
//!
//! Whoever may open the socket may do everything: it has mode 0600. The bounds in [`limits`] are
//! there for clients that are broken, not for enemies.
//!
//! [`api::Status`]: crate::api::Status
//! [`api::SessionRequest`]: crate::api::SessionRequest
//! [`api::SessionOpened`]: crate::api::SessionOpened
//! [`api::BroadcastRequest`]: crate::api::BroadcastRequest
//! [`api::Outcome`]: crate::api::Outcome
//! [`api::Facts`]: crate::api::Facts
//! [`api::FactsRequest`]: crate::api::FactsRequest
//! [`api::GoalRequest`]: crate::api::GoalRequest
//! [`api::GoalEvent`]: crate::api::GoalEvent
//! [`api::RunRequest`]: crate::api::RunRequest
//! [`api::AgentInfo`]: crate::api::AgentInfo
//! [`api::LetterInfo`]: crate::api::LetterInfo
//! [`api::LettersRequest`]: crate::api::LettersRequest
//! [`api::Reloaded`]: crate::api::Reloaded
//! [`api::RetriedLetter`]: crate::api::RetriedLetter
//! [`api::LogLine`]: crate::api::LogLine
//! [`api::LogEntry`]: crate::api::LogEntry
//! [`api::LogPlace`]: crate::api::LogPlace
//! [`api::Imported`]: crate::api::Imported
//! [`api::ModuleText`]: crate::api::ModuleText
//! [`api::ModuleInfo`]: crate::api::ModuleInfo
//! [`api::Published`]: crate::api::Published
//! [`api::PublishRequest`]: crate::api::PublishRequest
//! [`api::ErrorBody`]: crate::api::ErrorBody

mod body;
mod cbor;
mod error;
mod facts;
mod goals;
pub mod limits;
mod lingering;
mod log;
mod metrics;
mod peers;
pub mod propose;
mod publishing;
mod routes;
mod socket;
mod spaces;
mod tunnels;

use crate::node::Node;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use limits::{DRAIN_TIME, HEAD_BYTES, HEAD_TIME, MAX_CONNECTIONS};
pub use socket::{BindError, SOCKET_NAME, socket_path};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long to wait before accepting again where the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control socket of a node, listening.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    /// Removes the socket's file when dropped.
    _file: socket::SocketFile,
}

impl Control {
    /// Listens on `data`'s control socket. Only the holder of the data folder may call this: a
    /// socket that is there already is taken for one that a killed node left behind.
    pub fn bind(data: &Path) -> Result<Self, BindError> {
        let (listener, file) = socket::bind(data)?;
        Ok(Self { listener, _file: file })
    }

    /// Serves until the node is asked to stop, from here or from elsewhere, and has stopped.
    pub async fn serve(self, node: Node) {
        let router = routes::router(node.clone());
        let (stop, stopping) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut node_stops = pin!(node.stopping());
        loop {
            // Beyond the bound clients wait in the system's queue until a connection ends.
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &slots) => accepted,
                Some(_) = connections.join_next() => continue,
                () = &mut node_stops => break,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let service = TowerToHyperService::new(router.clone());
                    let stopping = stopping.clone();
                    connections.spawn(async move {
                        converse(stream, service, stopping).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Requests under way end with the node; what streams on for ever is cut off after it.
        stop.send_replace(true);
        node.shutdown().await;
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
            tracing::info!("control socket: {} connections cut off", connections.len());
        }
    }
}

async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn converse(
    stream: UnixStream,
    service: TowerToHyperService<axum::Router>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_header_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let stopped = async { drop(stopping.wait_for(|&is_stopping| is_stopping).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("control connection: {error}");
    }
}
