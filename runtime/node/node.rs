//! A stand-in with the facade's signatures, to compile against. NOT FOR MAIN: the real one replaces it.
#![allow(missing_docs, unused_variables, clippy::unused_async)]

use crate::api::{
    AgentInfo, ErrorBody, GoalEvent, GoalRequest, LetterInfo, LogLine, Once, Outcome, RunRequest,
    Status,
};
use bytes::Bytes;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Clone, Debug)]
pub struct Node(#[allow(dead_code)] Arc<()>);

#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub data: PathBuf,
    pub name: Option<String>,
    pub min_free: u64,
    pub executable: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct StartError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolveKind {
    Query,
    Transact,
}

#[derive(Debug)]
pub struct Proposer;

#[derive(Debug)]
pub struct Busy;

#[derive(Clone, Debug)]
pub enum ProposeOutcome {
    Committed(u64),
    Refused(synod_core::apply::Refusal),
    NotProposed(String),
    Unknown,
}

impl Node {
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        unimplemented!()
    }
    pub async fn status(&self) -> Status {
        unimplemented!()
    }
    pub async fn open_session(&self, space: Option<&str>, label: &str) -> Result<u64, ErrorBody> {
        unimplemented!()
    }
    pub async fn broadcast(
        &self,
        space: Option<&str>,
        term: Bytes,
        once: Option<Once>,
    ) -> Result<Outcome, ErrorBody> {
        unimplemented!()
    }
    pub async fn outcome(
        &self,
        space: Option<&str>,
        session: u64,
        seq: u64,
    ) -> Result<Option<Outcome>, ErrorBody> {
        unimplemented!()
    }
    pub async fn solve(
        &self,
        kind: SolveKind,
        goal: GoalRequest,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        unimplemented!()
    }
    pub async fn run_agent(&self, run: RunRequest) -> Result<AgentInfo, ErrorBody> {
        unimplemented!()
    }
    pub async fn agents(&self) -> Vec<AgentInfo> {
        unimplemented!()
    }
    pub async fn stop_agent(&self, name: &str) -> Result<(), ErrorBody> {
        unimplemented!()
    }
    pub async fn restart_agent(&self, name: &str) -> Result<(), ErrorBody> {
        unimplemented!()
    }
    pub async fn letters(&self, name: &str) -> Result<Vec<LetterInfo>, ErrorBody> {
        unimplemented!()
    }
    pub async fn logs(
        &self,
        name: &str,
        tail: usize,
        follow: bool,
    ) -> Result<mpsc::Receiver<LogLine>, ErrorBody> {
        unimplemented!()
    }
    pub async fn publish_module(
        &self,
        space: Option<&str>,
        name: &str,
        text: &str,
    ) -> Result<u64, ErrorBody> {
        unimplemented!()
    }
    pub async fn modules(&self, space: Option<&str>) -> Result<Vec<(String, String)>, ErrorBody> {
        unimplemented!()
    }
    pub fn proposer(&self, space: Option<&str>) -> Result<Proposer, ErrorBody> {
        unimplemented!()
    }
    pub async fn shutdown(&self) {
        unimplemented!()
    }
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}

impl Proposer {
    pub async fn open_session(&self, label: &str) -> Result<u64, ErrorBody> {
        unimplemented!()
    }
    #[allow(clippy::too_many_arguments)]
    pub fn propose(
        &self,
        session: u64,
        seq: u64,
        acked: u64,
        ops: Vec<synod_core::command::Op>,
        version: u64,
        reads: Vec<u64>,
        reply: mpsc::UnboundedSender<(u64, ProposeOutcome)>,
    ) -> Result<(), Busy> {
        unimplemented!()
    }
}

/// Stands in for `synod_core::term::text`.
pub mod text_stub {
    use synod_core::term::Term;
    #[derive(Debug)]
    pub enum Dialect {
        Scryer,
    }
    #[derive(Debug, thiserror::Error)]
    #[error("{line}")]
    pub struct SyntaxError {
        pub line: usize,
        pub column: usize,
        pub what: String,
    }
    pub fn read(text: &str, dialect: Dialect) -> Result<Term, SyntaxError> {
        Ok(Term::atom(text))
    }
}
