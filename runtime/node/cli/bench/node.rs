//! The node that is measured: a process on a folder of its own, both gone when the bench is.

use super::machine::{processor_time, resident};
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::say::say;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use synod::api::{
    AgentInfo, AgentOptions, BroadcastRequest, GoalEvent, GoalRequest, Outcome, RunRequest,
};
use tokio::time::sleep;

/// The agent that is measured.
pub(super) const AGENT: &str = "bench";
/// How long one query, load or handler may take: filling and counting are long ones.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// What an engine may hold.
const MAX_MEMORY: u64 = 8 << 30;
/// How long a node has to stop.
const STOP_TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened whose time is measured.
const LOOK_OFTEN: Duration = Duration::from_millis(1);

fn failed(error: std::io::Error) -> Failure {
    Failure::error(format!("the node: {error}"))
}

/// A folder for all that a bench writes, removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What was made for it to be in.
    made: Option<PathBuf>,
}

impl Folder {
    /// Creates a folder of its own in a data folder, next to what a node would write there.
    pub(super) fn create(data: &Path) -> Result<Self, Failure> {
        let failed =
            |path: &Path, e: std::io::Error| Failure::error(format!("{}: {e}", path.display()));
        let made = (!data.exists()).then(|| data.to_owned());
        let path = data.join(format!("bench-{}", std::process::id()));
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(data).map_err(|e| failed(data, e))?;
        builder.recursive(false).create(&path).map_err(|e| failed(&path, e))?;
        Ok(Self { path, made })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            say(format_args!("synod: {}: {error}", self.path.display()));
        }
        if let Some(made) = &self.made {
            // Unless somebody else has put something there.
            drop(std::fs::remove_dir(made));
        }
    }
}

/// A node in a process of its own, killed when dropped.
#[derive(Debug)]
pub(super) struct BenchNode {
    child: Child,
    data: PathBuf,
    pub(super) client: Client,
}

impl BenchNode {
    /// Starts a node and returns when it can be spoken to.
    pub(super) fn start(folder: &Folder) -> Result<Self, Failure> {
        Self::start_in(folder, 0, false)
    }

    /// The same, as one of several, which may meet on this machine.
    pub(super) fn start_in(folder: &Folder, n: usize, meets: bool) -> Result<Self, Failure> {
        let listen: &[&str] = if meets { &["--listen", "/ip4/127.0.0.1/tcp/0"] } else { &[] };
        let program = std::env::current_exe().map_err(failed)?;
        Self::start_by(Command::new(program), folder, n, listen)
    }

    /// The same, by a command that becomes Synod, with these arguments besides.
    pub(super) fn start_by(
        mut command: Command,
        folder: &Folder,
        n: usize,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        let data = folder.path().join(format!("n{n}"));
        let log = File::options().create(true).append(true).open(folder.path().join("node.log"));
        let mut child = command
            .args(["up", "--no-mdns", "--node", &format!("bench{n}"), "--data"])
            .arg(&data)
            .args(arguments)
            .env_remove("SYNOD_LISTEN")
            .env_remove("SYNOD_PEER")
            .env_remove("SYNOD_DETACH")
            .env_remove("SYNOD_JSON")
            .env_remove("SYNOD_VERBOSE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let node = Self { child, client: Client::new(&data), data };
        if line.is_empty() {
            let said = std::fs::read_to_string(folder.path().join("node.log"));
            let said = said.unwrap_or_default();
            let said = said.lines().last().unwrap_or("it said nothing");
            return Err(Failure::error(format!("the node did not start: {said}")));
        }
        Ok(node)
    }

    /// Time on a processor that it has had.
    pub(super) fn processor_time(&self) -> Result<Duration, Failure> {
        processor_time(self.child.id()).ok_or_else(|| Failure::error("the node is gone"))
    }

    /// Stops it in order.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let _: serde_json::Value =
            self.client.post("/v1/shutdown", &serde_json::Value::Null).await?;
        let deadline = Instant::now() + STOP_TIME;
        while Instant::now() < deadline {
            let ended = self.child.try_wait();
            if ended.map_err(|e| Failure::error(format!("the node: {e}")))?.is_some() {
                return Ok(());
            }
            sleep(LOOK_OFTEN).await;
        }
        Err(Failure::error("the node did not stop"))
    }

    /// Runs a program as the agent that is measured. The node keeps it for its next start.
    pub(super) async fn run(&self, program: &str) -> Result<(), Failure> {
        self.run_with(program, true).await
    }

    /// As [`BenchNode::run`], with native copies of facts or without.
    pub(super) async fn run_with(&self, program: &str, copies: bool) -> Result<(), Failure> {
        self.run_in(program, None, copies).await
    }

    /// As [`BenchNode::run_with`], in a space.
    pub(super) async fn run_in(
        &self,
        program: &str,
        space: Option<&str>,
        copies: bool,
    ) -> Result<(), Failure> {
        let path = self.data.join("bench.pl");
        std::fs::write(&path, program)
            .map_err(|error| Failure::error(format!("{}: {error}", path.display())))?;
        let request = RunRequest {
            program: path.to_string_lossy().into_owned(),
            name: Some(AGENT.to_owned()),
            space: space.map(str::to_owned),
            options: AgentOptions {
                max_time_ms: u64::try_from(MAX_TIME.as_millis()).unwrap_or(u64::MAX),
                max_memory: MAX_MEMORY,
                copies,
                ..AgentOptions::default()
            },
            keep: true,
        };
        let _: AgentInfo = self.client.post("/v1/run", &request).await?;
        Ok(())
    }

    /// Stops the agent.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        let path = format!("/v1/agents/{AGENT}/stop");
        let _: serde_json::Value = self.client.post(&path, &serde_json::Value::Null).await?;
        Ok(())
    }

    /// The agent as it stands.
    pub(super) async fn agent(&self) -> Result<AgentInfo, Failure> {
        let agents: Vec<AgentInfo> = self.client.get("/v1/agents").await?;
        let agent = agents.into_iter().find(|agent| is_measured(&agent.name));
        let agent = agent.ok_or_else(|| Failure::error("the agent does not run"))?;
        if agent.failed > 0 || agent.deaths > 0 {
            let why = agent.why.as_deref().unwrap_or("a handler failed");
            return Err(Failure::error(format!("the agent that is measured is not well: {why}")));
        }
        Ok(agent)
    }

    /// Broadcasts an event; returns its index.
    pub(super) async fn broadcast(&self, term: &str) -> Result<u64, Failure> {
        let request = BroadcastRequest { term: term.to_owned(), space: None, once: None };
        match self.client.post("/v1/broadcast", &request).await? {
            Outcome::Committed { index } => Ok(index),
            other => Err(Failure::error(format!("an event was not committed: {other:?}"))),
        }
    }

    /// Waits until the agent has handled the event at this index.
    pub(super) async fn handled(&self, index: u64) -> Result<(), Failure> {
        loop {
            let agents: Vec<AgentInfo> = self.client.get("/v1/agents").await?;
            let agent = agents.iter().find(|agent| is_measured(&agent.name));
            if agent.and_then(cursor).is_some_and(|(at, n)| at > index || at == index && n > 0) {
                return Ok(());
            }
            sleep(LOOK_OFTEN).await;
        }
    }

    /// How much the agent has handled, and what it and the node have taken for it.
    pub(super) async fn progress(&self) -> Result<(u64, Usage), Failure> {
        let agent = self.agent().await?;
        let engine = agent.pid.ok_or_else(|| Failure::error("no engine runs"))?;
        Ok((agent.handled, Usage::of([self.child.id(), engine])?))
    }

    /// Has a goal solved, which must succeed.
    pub(super) async fn query(&self, goal: &str) -> Result<(), Failure> {
        let request = GoalRequest {
            goal: goal.to_owned(),
            agent: Some(self.agent().await?.name),
            space: None,
            limit: Some(1),
            min_index: 0,
            as_of: None,
            once: None,
            step: None,
        };
        let mut events = self.client.post_events::<GoalEvent>("/v1/query", &request).await?;
        while let Some(event) = events.next().await? {
            match event {
                GoalEvent::End { succeeded: true, .. } => return Ok(()),
                GoalEvent::Error(error) => return Err(Failure::told(error)),
                GoalEvent::Answer(_) | GoalEvent::Output { .. } | GoalEvent::More => {}
                GoalEvent::End { .. } => break,
            }
        }
        Err(Failure::error(format!("{goal} is false: what was measured is wrong")))
    }
}

impl Drop for BenchNode {
    fn drop(&mut self) {
        // It may have ended in order.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a node and its agent's engine hold, in bytes, and have had of the processors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pids: [u32; 2],
    pub(super) node: u64,
    pub(super) node_time: Duration,
    pub(super) engine: u64,
    pub(super) engine_time: Duration,
}

impl Usage {
    fn of(pids: [u32; 2]) -> Result<Self, Failure> {
        let of = |pid| resident(pid).zip(processor_time(pid));
        let gone = || Failure::error("the node or its engine is gone");
        let [node, engine] = pids;
        let (node, node_time) = of(node).ok_or_else(gone)?;
        let (engine, engine_time) = of(engine).ok_or_else(gone)?;
        Ok(Self { pids, node, node_time, engine, engine_time })
    }

    /// The same processes as they are now.
    pub(super) fn again(&self) -> Result<Self, Failure> {
        Self::of(self.pids)
    }

    /// Both have had so much.
    #[cfg(test)]
    pub(super) fn for_test(time: Duration) -> Self {
        Self { pids: [0, 0], node: 0, node_time: time, engine: 0, engine_time: time }
    }

    /// Both processes' processor time.
    pub(super) fn time(&self) -> Duration {
        self.node_time + self.engine_time
    }
}

/// Whether it is the agent that is measured, or a node's instance of it.
fn is_measured(name: &str) -> bool {
    name.split('@').next() == Some(AGENT)
}

fn cursor(agent: &AgentInfo) -> Option<(u64, u64)> {
    let (index, n) = agent.cursor.split_once('.')?;
    Some((index.parse().ok()?, n.parse().ok()?))
}
