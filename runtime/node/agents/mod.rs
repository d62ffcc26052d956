//! The agents of this node, and what may be done with them.
//!
//! Each agent is a [task] that owns an engine process. Others reach it through its
//! registration in the [context]: a bounded mailbox, a log, counters, side engines.

mod ask;
mod commit;
mod context;
mod definition;
mod effects;
mod engine;
mod goals;
mod handing;
mod info;
mod letters;
mod load;
mod log;
mod mailbox;
mod names;
mod remote;
mod side;
mod standby;
mod step;
mod takeover;
mod task;
mod timers;
mod topics;
mod triggers;
mod udp;
mod view;

use crate::api::{AgentInfo, ErrorBody, LogLine, Problem};
use crate::api::{AgentOptions, Reloaded, RunRequest};
use crate::multicast;
use crate::node::LOCAL;
use crate::space::{Space, error};
pub(crate) use ask::existence_error;
use commit::claim_after;
pub(crate) use context::Context;
use context::Registered;
use definition::Definition;
use engine::Engine;
pub(crate) use info::resident;
pub(crate) use load::problems;
use load::{LoadError, Loaded};
pub(crate) use log::AgentLog;
pub(crate) use mailbox::Mailbox;
pub(crate) use remote::{CALL, MAX_TOKENS};
pub(crate) use side::{Committed, commit_draft};
use standby::Held;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod_core::command::{MAX_NAME_BYTES, Mode};
use synod_core::kb::Position;
use synod_udp_shim::Join;
use synod_udp_shim::network::monitor::Monitor;
use takeover::How;
use task::{Order, Task};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::spawn_blocking;
use triggers::{Scan, Watches};

/// Orders that wait for an agent's task, at most.
const ORDERS: usize = 16;
/// Events that wait for a client, at most.
const EVENTS: usize = 64;

/// Whether a goal's writes are one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolveKind {
    /// All its answers.
    Query,
    /// Once, as one transaction.
    Transact,
}

/// All agents of this node.
#[derive(Clone)]
pub(crate) struct Agents {
    context: Arc<Context>,
}

impl Agents {
    /// None yet. `folder` is where their own folders are.
    /// `monitor` opens what this process may not.
    pub(crate) fn new(
        node: String,
        executable: PathBuf,
        folder: PathBuf,
        monitor: Option<Arc<Monitor>>,
    ) -> Self {
        Self { context: Arc::new(Context::new(node, executable, folder, monitor)) }
    }

    /// Starts an agent; returns once its program is loaded and the space knows who holds it.
    pub(crate) async fn run(&self, space: Space, run: RunRequest) -> Result<AgentInfo, ErrorBody> {
        let definition = Arc::new(definition_of(&space, &run)?);
        let name = definition.name.clone();
        if let Some(known) = self.context.agent(&name).filter(|agent| agent.view.is_alive()) {
            return Err(exists(&name, &known));
        }
        let folder = self.context.folder_of(&name);
        std::fs::create_dir_all(folder.join("modules"))
            .map_err(|e| error("disk", format!("cannot create {}: {e}", folder.display())))?;
        let captures = self.groups_of(&definition.options.multicast).await?;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let log = AgentLog::open(&folder);
        let registered =
            Registered::new(&self.context, Arc::clone(&definition), space.clone(), log, orders);
        let before = self.context.agent(&name);
        if let Err(known) = self.context.register(&registered) {
            return Err(exists(&name, &known));
        }
        let was_known = folder.join(KEPT).exists() || before.is_some();
        match self.start(&definition, &space, &registered, receiver, run.keep).await {
            Ok(warnings) => {
                for warning in &warnings {
                    registered.log.line("warning", &describe(warning));
                }
                registered.view.warned(warnings);
                udp::start(captures, &registered, &self.context);
                Ok(self.info(&registered).await)
            }
            Err(e) => {
                registered.view.failed(&e.to_string());
                registered.log.line("error", &format!("the agent was not started: {e}"));
                // One that was here is shown, so that it can be restarted.
                if !was_known {
                    self.context.unregister(&name);
                }
                Err(e.body())
            }
        }
    }

    /// Becomes a member of an agent's groups.
    async fn groups_of(&self, specs: &[String]) -> Result<Vec<Join>, ErrorBody> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let (specs, monitor) = (specs.to_vec(), self.context.monitor.clone());
        let joined = spawn_blocking(move || multicast::open(&specs, monitor.as_deref())).await;
        joined.map_err(|e| error("internal", e.to_string()))?
    }

    async fn start(
        &self,
        definition: &Arc<Definition>,
        space: &Space,
        registered: &Registered,
        orders: mpsc::Receiver<Order>,
        keeps: bool,
    ) -> Result<Vec<Problem>, LoadError> {
        let loading = self.context.load(definition, space, registered, 0);
        let (engine, loaded): (Engine, Loaded) = loading.await?;
        let agent = match loaded.mode {
            Mode::One => definition.name.clone(),
            Mode::Each => format!("{}@{}", definition.name, self.context.node()),
        };
        let closed = || LoadError::NotClaimed("the space is closed".to_owned());
        let was_kept = self.context.folder_of(&definition.name).join(KEPT).exists();
        let mut refused: Option<(u64, LoadError)> = None;
        let (epoch, cursor, stands_by) = loop {
            let held = standby::held(&self.context, space, &agent, loaded.mode).await;
            let epoch = match held.ok_or_else(closed)? {
                Held::By { node, program } if program != loaded.program => {
                    return Err(standby::refused(&agent, &node));
                }
                Held::By { .. } => break (0, Position::default(), true),
                Held::Free { epoch } => epoch,
            };
            // One that was refused has perhaps been claimed by a node that this one had not heard of yet.
            match refused.take_if(|(before, _)| *before == epoch) {
                // It runs here when a quorum can be reached again.
                Some(_) if was_kept => break (0, Position::default(), true),
                Some((_, why)) => return Err(why),
                None => {}
            }
            let node = self.context.node();
            match claim_after(space, node, &agent, &loaded, epoch).await {
                Ok((epoch, cursor)) => break (epoch, cursor, false),
                Err(why) => refused = Some((epoch, why)),
            }
        };
        let warnings = loaded.warnings.clone();
        let task = Task {
            context: Arc::clone(&self.context),
            definition: Arc::clone(definition),
            space: space.clone(),
            registered: registered.clone(),
            orders,
            watches: Watches::default(),
            timers: Default::default(),
            scan: Scan::new(&agent, cursor),
            agent,
            epoch,
            stands_by,
            claimed: loaded,
            seq: 0,
            cursor,
            is_started: false,
            batch: None,
            batches: 0,
            suspects: Default::default(),
            retries: Default::default(),
            retrying: None,
            coming: None,
            taken: Default::default(),
            engine_deaths: 0,
            start_deaths: 0,
            has_progressed: false,
            skips_engine: false,
        };
        if !stands_by {
            registered.view.running(engine.pid);
        }
        // Before an order can be obeyed: one that stops it is not undone.
        if keeps {
            keep(&self.context.folder_of(&definition.name), definition);
        }
        tokio::spawn(task.run(engine));
        Ok(warnings)
    }

    /// Starts the agents that were kept, each in the background; what goes wrong is in their logs.
    pub(crate) fn start_kept(
        &self,
        space_of: impl Fn(&str) -> Option<Space>,
        is_closed: impl Fn(&str) -> bool,
    ) {
        let Ok(folders) = std::fs::read_dir(&self.context.folder) else { return };
        for folder in folders.flatten().map(|entry| entry.path()) {
            let Ok(bytes) = std::fs::read(folder.join(KEPT)) else { continue };
            let definition: Definition = match serde_json::from_slice(&bytes) {
                Ok(definition) => definition,
                Err(e) => {
                    let why = format!(
                        "{} cannot be read, and its agent is not started: {e}; run the agent again",
                        folder.join(KEPT).display()
                    );
                    tracing::error!("{why}");
                    if let Some(space) = space_of(LOCAL) {
                        self.show_broken(&folder, space, &why);
                    }
                    continue;
                }
            };
            let Some(space) = space_of(&definition.space) else {
                if is_closed(&definition.space) {
                    tracing::warn!(
                        "the agent {} is not started: its space, {}, is closed",
                        definition.name,
                        definition.space
                    );
                    continue;
                }
                tracing::error!(
                    "the agent {} belongs to the space {}, which this node does not have",
                    definition.name,
                    definition.space
                );
                continue;
            };
            let agents = self.clone();
            tokio::spawn(async move { agents.start_one(space, definition).await });
        }
    }

    /// Starts the agents that are kept for a space that was closed until now.
    pub(crate) async fn start_kept_of(&self, space: &Space) {
        let Ok(folders) = std::fs::read_dir(&self.context.folder) else { return };
        for folder in folders.flatten().map(|entry| entry.path()) {
            let Ok(bytes) = std::fs::read(folder.join(KEPT)) else { continue };
            // One that cannot be read was told of when the node started.
            let Ok(definition) = serde_json::from_slice::<Definition>(&bytes) else { continue };
            if definition.space == space.name() {
                self.start_one(space.clone(), definition).await;
            }
        }
    }

    async fn start_one(&self, space: Space, definition: Definition) {
        let name = definition.name.clone();
        let run = RunRequest {
            program: definition.program.to_string_lossy().into_owned(),
            name: Some(definition.name),
            space: Some(definition.space),
            options: definition.options,
            keep: true,
        };
        if let Err(e) = self.run(space, run).await {
            tracing::error!("the agent {name} was not started: {e}");
        }
    }

    /// Shows an agent whose definition cannot be read as failed.
    fn show_broken(&self, folder: &Path, space: Space, why: &str) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (options, program) = (AgentOptions::default(), PathBuf::new());
        let definition = Definition { name, space: LOCAL.to_owned(), program, options };
        let (orders, _) = mpsc::channel(ORDERS);
        let log = AgentLog::open(folder);
        let registered = Registered::new(&self.context, Arc::new(definition), space, log, orders);
        registered.log.line("error", why);
        registered.view.failed(why);
        // Nothing runs under this name yet: the node is starting.
        drop(self.context.register(&registered));
    }

    /// What engines are started from.
    pub(crate) fn executable(&self) -> &Path {
        &self.context.executable
    }

    /// All agents that this node has run since it started.
    pub(crate) async fn list(&self) -> Vec<AgentInfo> {
        let mut all = Vec::new();
        for agent in self.context.agents() {
            all.push(self.info(&agent).await);
        }
        all
    }

    /// Stops an agent; it is not started again with the node.
    pub(crate) async fn stop(&self, name: &str) -> Result<(), ErrorBody> {
        let agent = self.agent(name)?;
        self.end(&agent, true).await;
        let kept = self.context.folder_of(name).join(KEPT);
        match std::fs::remove_file(&kept) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let why = format!(
                    "{name} is stopped, but starts again with the node: {}: {e}",
                    kept.display()
                );
                Err(error("disk", why))
            }
            _ => Ok(()),
        }
    }

    /// Takes an agent's program over as it is now, between two events; what runs goes on.
    pub(crate) async fn reload(&self, name: &str) -> Result<Reloaded, ErrorBody> {
        let agent = self.agent(name)?;
        if let Some(result) = self.load(&agent, How::Reload).await {
            return result.map_err(|e| {
                let message = format!("{}; the program from before goes on", e.message);
                ErrorBody { message, ..e }
            });
        }
        let text = format!(
            "the agent {name} does not run: `synod agent restart {name}` starts it with the program \
             as it is now"
        );
        Err(error("stopped", text))
    }

    /// Loads the program of an agent anew; none if its task has ended.
    async fn load(&self, agent: &Registered, how: How) -> Option<Result<Reloaded, ErrorBody>> {
        agent.drop_warm();
        let (done, loaded) = oneshot::channel();
        agent.orders.send(Order::Load { how, done }).await.ok()?;
        let result = tokio::select! {
            biased;
            result = loaded => result.ok(),
            // An order that its task never saw may stay in the queue for as long as anybody can send.
            () = agent.orders.closed() => None,
        };
        agent.drop_warm();
        result
    }

    /// Loads an agent's program anew, in a new epoch.
    pub(crate) async fn restart(&self, name: &str) -> Result<Reloaded, ErrorBody> {
        let agent = self.agent(name)?;
        if let Some(result) = self.load(&agent, How::Restart).await {
            return result;
        }
        // Its task has ended: it is run again from its definition.
        let definition = Arc::clone(&agent.definition);
        if definition.program.as_os_str().is_empty() {
            let why = agent.view.shown().why.unwrap_or_default();
            let text =
                format!("{why}; give it its program again with `synod run FILE --agent {name}`");
            return Err(error("damaged", text));
        }
        let run = self.as_run(&definition);
        let AgentInfo { name, epoch, warnings, .. } = self.run(agent.space.clone(), run).await?;
        Ok(Reloaded { agent: name, epoch, is_new_epoch: true, warnings })
    }

    /// The last lines of an agent's log, and what comes behind them.
    pub(crate) fn logs(
        &self,
        name: &str,
        tail: usize,
        follow: bool,
    ) -> Result<mpsc::Receiver<LogLine>, ErrorBody> {
        let agent = self.agent(name)?;
        let (lines, mut coming) = agent.log.tail(tail);
        let (sender, receiver) = mpsc::channel(EVENTS);
        // The agent's own handle would keep its log open for ever.
        drop(agent);
        tokio::spawn(async move {
            for line in lines {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            if !follow {
                return;
            }
            loop {
                let line = tokio::select! {
                    line = coming.recv() => line,
                    () = sender.closed() => return,
                };
                let line = match line {
                    Ok(line) => line,
                    Err(broadcast::error::RecvError::Lagged(missed)) => LogLine {
                        time: log::now_micros(),
                        level: "warning".to_owned(),
                        text: format!("{missed} lines were missed: the log came too fast"),
                    },
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Asks a goal that waits for more; see [`crate::api::GoalRequest::step`].
    pub(crate) fn more(&self, name: &str) -> Result<(), ErrorBody> {
        self.context.steps.more(name)
    }

    /// Ends all agents; they start again with the node if they are kept.
    pub(crate) async fn shut_down(&self) {
        self.context.stop();
        for agent in self.context.agents() {
            // Where others may take over, they are told so at once.
            let is_shared = agent.space.membership().members().len() > 1;
            self.end(&agent, is_shared).await;
        }
    }

    /// What runs the agents of a space again, of those that run.
    pub(crate) fn runs_of(&self, space: &str) -> Vec<RunRequest> {
        let agents = self.context.agents().into_iter();
        let agents = agents.filter(|a| a.definition.space == space && a.view.is_alive());
        agents.map(|agent| self.as_run(&agent.definition)).collect()
    }

    /// Ends the agents of a space, for others that follow.
    pub(crate) async fn end_all_of(&self, space: &str) {
        for agent in self.context.agents().iter().filter(|a| a.definition.space == space) {
            self.end(agent, false).await;
        }
    }

    /// What runs an agent again.
    fn as_run(&self, definition: &Definition) -> RunRequest {
        RunRequest {
            program: definition.program.to_string_lossy().into_owned(),
            name: Some(definition.name.clone()),
            space: Some(definition.space.clone()),
            options: definition.options.clone(),
            keep: self.context.folder_of(&definition.name).join(KEPT).exists(),
        }
    }

    async fn end(&self, agent: &Registered, release: bool) {
        agent.drop_warm();
        let (done, ended) = oneshot::channel();
        if agent.orders.send(Order::Stop { release, done }).await.is_ok() {
            // A task that has ended by itself, before or after it was told, is as good. An order that it
            // never saw may stay in the queue for as long as anybody can send.
            tokio::select! {
                ended = ended => drop(ended),
                () = agent.orders.closed() => {}
            }
        }
    }

    fn agent(&self, name: &str) -> Result<Registered, ErrorBody> {
        let unknown = || {
            let known: Vec<_> =
                self.context.agents().iter().map(|a| a.definition.name.clone()).collect();
            let text = match known.is_empty() {
                true => format!("no agent {name} runs here: start one with `synod run FILE`"),
                false => format!("no agent {name} runs here; there is {}", known.join(", ")),
            };
            error("not_found", text)
        };
        self.context.agent(name).ok_or_else(unknown)
    }
}

fn exists(name: &str, known: &Registered) -> ErrorBody {
    let program = known.definition.program.display();
    let text = format!(
        "an agent {name} runs already ({program}): stop it with `synod agent stop {name}`, or give \
         this one another --agent"
    );
    error("exists", text)
}

/// The file in an agent's folder that makes it start with the node.
const KEPT: &str = "agent.json";

fn keep(folder: &Path, definition: &Definition) {
    let written = serde_json::to_vec_pretty(definition)
        .map_err(std::io::Error::from)
        .and_then(|bytes| std::fs::write(folder.join(KEPT), bytes));
    if let Err(e) = written {
        tracing::error!("{} will not start with the node: {e}", definition.name);
    }
}

fn definition_of(space: &Space, run: &RunRequest) -> Result<Definition, ErrorBody> {
    let program = PathBuf::from(&run.program);
    let stem = program.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = run.name.clone().or(stem).unwrap_or_default();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES / 2
        || !name.chars().all(is_plain)
        || name.starts_with('.')
    {
        let text = format!(
            "{name:?} is no name for an agent: give it letters, digits, _ - . with --agent"
        );
        return Err(error("name", text));
    }
    let space = space.name().to_owned();
    Ok(Definition { name, space, program, options: run.options.clone() })
}

fn describe(problem: &Problem) -> String {
    match problem.line {
        0 => format!("{}: {}", problem.file, problem.text),
        line => format!("{}:{line}:{}: {}", problem.file, problem.column, problem.text),
    }
}

fn stopping() -> ErrorBody {
    error("stopping", "the node is going down: ask again when it is up")
}
