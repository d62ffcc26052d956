//! A running node: its data folder, its spaces, its agents.

mod closed;
mod facts;
mod log;
mod observing;
mod outcome;
mod peers;
mod recovering;
mod rejoining;
mod spaces;
mod start;
#[cfg(test)]
mod tests;
mod tunnels;
mod warden;

pub use crate::agents::SolveKind;
use crate::agents::{Agents, Committed, commit_draft};
use crate::api::{
    self, AgentInfo, ChangeEvent, ErrorBody, GoalEvent, GoalRequest, LetterInfo, LettersRequest,
    LogLine, Once, PredicateInfo, Problem, Reloaded, RetriedLetter, RunRequest, SpaceInfo, Status,
};
use crate::check;
use crate::folder::{Folder, FolderError, random};
use crate::net::{Net, NetConfig};
use crate::rates;
use crate::space::{
    Ended, Marking, Me, NoLinks, NotProposed, OBSERVES, OpenSpace, Reply, Space, error,
    not_proposed,
};
use crate::tunnels::Tunnels;
use bytes::Bytes;
use closed::ClosedSpaces;
pub use closed::{CLOSED, JOINING};
pub(crate) use log::told;
pub(crate) use outcome::unseen;
use outcome::{committed, stopping};
pub use start::{NodeConfig, StartError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use synod_core::apply::{Outcome, Refusal, State};
use synod_core::command::{Command, MAX_NAME_BYTES, Op, Origin, Transaction};
use synod_core::datagrams::RESERVED;
use synod_core::kb::Indicator;
use synod_core::term::shape::is_variable;
use synod_core::transaction::Draft;
use tokio::sync::{Mutex, Notify, OnceCell, Semaphore, mpsc};
use tokio::task::spawn_blocking;

/// The space that every node has.
pub const LOCAL: &str = "local";

/// How often a module is published anew because somebody else was first.
const MAX_PUBLICATIONS: usize = 8;

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    folder: Folder,
    spaces: RwLock<BTreeMap<String, Space>>,
    /// Those that cannot be served.
    closed: ClosedSpaces,
    /// Bytes that must stay free on the disk.
    min_free: u64,
    busy_poll: Duration,
    agents: Agents,
    tunnels: Arc<Tunnels>,
    net_config: NetConfig,
    net: OnceCell<Arc<Net>>,
    /// How many logs may still be read at once.
    told: Arc<Semaphore>,
    /// Held while it is written who this node is in a space.
    member_files: std::sync::Mutex<()>,
    /// Held while an export is imported.
    importing: Mutex<()>,
    /// Turns to read facts.
    reading: Semaphore,
    started: Instant,
    stop: Notify,
    is_stopping: std::sync::atomic::AtomicBool,
}

impl Node {
    /// Takes the data folder, opens its spaces, and starts the agents that are kept there.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let wants_net = config.wants_net;
        let node = spawn_blocking(move || Self::open(config)).await;
        let node = node.map_err(|e| {
            let e = std::io::Error::other(e.to_string());
            StartError::Folder(FolderError::Io(PathBuf::new(), e))
        })??;
        if wants_net || node.0.tunnels.are_wanted() {
            node.net().await.map_err(|e| StartError::Net(e.message))?;
        }
        node.open_memberships().await?;
        let spaces = node.spaces();
        tokio::spawn(sample(Arc::downgrade(&node.0)));
        tokio::spawn(warden::watch(Arc::downgrade(&node.0)));
        node.0.tunnels.mind_monitor();
        tracing::info!(
            "node {}: data folder {}",
            node.0.folder.name,
            node.0.folder.root().display()
        );
        if let Some(net) = node.0.net.get() {
            node.0.tunnels.open_kept(net, &node.find_space()).await;
        }
        node.0.agents.start_kept(|name| spaces.get(name).cloned(), |name| node.is_closed(name));
        Ok(node)
    }

    fn open(config: NodeConfig) -> Result<Self, StartError> {
        let folder = Folder::open(&config.data, config.name.as_deref())?;
        let (path, id) = folder.space(LOCAL)?;
        let open = OpenSpace {
            name: LOCAL.to_owned(),
            id,
            folder: path,
            min_free: config.min_free,
            busy_poll: config.busy_poll,
            node: folder.name.clone(),
            seed: random()?,
            me: Me::alone(),
            observes: None,
            marking: Marking::never(),
            links: Arc::new(NoLinks),
        };
        let opened = open.open();
        let local = opened.map_err(|why| StartError::Space { name: LOCAL.to_owned(), why })?;
        let spaces = BTreeMap::from([(LOCAL.to_owned(), local)]);
        let monitor = config.monitor;
        let (name, executable) = (folder.name.clone(), config.executable);
        let agents = Agents::new(name, executable, folder.agents(), monitor.clone());
        let tunnels = Arc::new(Tunnels::of(folder.root(), monitor));
        Ok(Self(Arc::new(Inner {
            folder,
            spaces: RwLock::new(spaces),
            closed: Default::default(),
            min_free: config.min_free,
            busy_poll: config.busy_poll,
            agents,
            tunnels,
            net_config: config.net,
            net: OnceCell::new(),
            told: Arc::new(Semaphore::new(log::MAX_TOLD)),
            member_files: std::sync::Mutex::default(),
            importing: Mutex::default(),
            reading: Semaphore::new(facts::AT_ONCE),
            started: Instant::now(),
            stop: Notify::new(),
            is_stopping: Default::default(),
        })))
    }

    /// What `synod status` shows.
    pub async fn status(&self) -> Status {
        let mut spaces = Vec::new();
        for space in self.spaces().values() {
            let info = space.info().await;
            spaces.extend(info.map(|info| self.with_members(space, info)));
        }
        spaces.extend(self.closed_infos());
        let agents = self.agents().await;
        let full =
            spaces.iter().filter_map(|s| Some(format!("{}: {}", s.name, s.read_only.as_ref()?)));
        let mut warnings: Vec<String> = full.collect();
        warnings.extend(self.0.tunnels.warnings());
        let near = |name: &str, near: &[String]| -> Vec<String> {
            near.iter().map(|near| format!("{name}: {near}")).collect()
        };
        warnings.extend(self.0.net.get().map(|net| net.warnings()).unwrap_or_default());
        let apart = self
            .spaces()
            .into_values()
            .filter_map(|space| Some(format!("{}: {}", space.name(), space.is_apart()?)));
        warnings.extend(apart);
        let was_wrong = self
            .spaces()
            .into_values()
            .filter_map(|space| Some(format!("{}: {}", space.name(), space.was_wrong()?)));
        warnings.extend(was_wrong);
        warnings.extend(spaces.iter().flat_map(|s: &SpaceInfo| near(&s.name, &s.near)));
        warnings.extend(agents.iter().flat_map(|a| near(&a.name, &a.near)));
        for agent in &agents {
            if let ("failed" | "waiting", Some(why)) = (&*agent.state, &agent.why) {
                warnings.push(format!("{}: {why}", agent.name));
            }
            if agent.letters > 0 {
                let (name, letters) = (&agent.name, agent.letters);
                warnings.push(format!("{name}: {letters} letters: synod agent letters {name}"));
            }
        }
        Status {
            node: self.0.folder.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            data: self.0.folder.root().display().to_string(),
            uptime_s: self.0.started.elapsed().as_secs(),
            memory: crate::agents::resident(std::process::id()).unwrap_or(0),
            refused_frames: self.0.net.get().map_or(0, |net| net.refusals()),
            spaces,
            agents,
            warnings,
            net: self.net_info(),
            monitor: self.0.tunnels.monitor_info(),
        }
    }

    /// Opens a client's session and returns its number.
    pub async fn open_session(&self, space: Option<&str>, label: &str) -> Result<u64, ErrorBody> {
        open_session(&self.space(space)?, label).await
    }

    /// Broadcasts an encoded term: an event of the space's log.
    pub async fn broadcast(
        &self,
        space: Option<&str>,
        term: Bytes,
        once: Option<Once>,
    ) -> Result<api::Outcome, ErrorBody> {
        if is_variable(&term) {
            return Err(error(
                "bad_request",
                "an event is a term, not a variable: give the variable a value",
            ));
        }
        let space = self.space(space)?;
        let ops = vec![Op::Emit { event: term }];
        let draft = Draft { version: 0, reads: Vec::new(), ops };
        Ok(match commit_draft(&space, once, draft).await {
            Committed::At(index) => api::Outcome::Committed { index },
            Committed::Refused(why) => return Err(error("refused", why)),
            Committed::NotProposed(why) => return Err(not_proposed(&why)),
            // An event reads nothing that could change.
            Committed::Conflict(_) => {
                return Err(error(
                    "refused",
                    "it conflicts with what came before it: send it again",
                ));
            }
            Committed::Unknown(id) => api::Outcome::Unknown { id },
        })
    }

    /// What became of a client's transaction; none if it was not applied, or is no longer kept.
    pub async fn outcome(
        &self,
        space: Option<&str>,
        session: u64,
        seq: u64,
    ) -> Result<Option<api::Outcome>, ErrorBody> {
        let space = self.space(space)?;
        let seen = space.look(move |state| state.outcome(session, seq).cloned()).await;
        let seen = seen.ok_or_else(stopping)?;
        let seen = seen.or_else(|| space.node_session().late(session, seq));
        Ok(seen.map(|outcome| match outcome {
            Outcome::Committed(index) => api::Outcome::Committed { index },
            Outcome::Refused(_, why) => api::Outcome::Refused { why: why.to_string() },
        }))
    }

    /// Solves a goal in a side engine. Dropping the receiver ends it.
    pub async fn solve(
        &self,
        kind: SolveKind,
        goal: GoalRequest,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        let space = goal.space.clone();
        let solved = self.0.agents.solve(kind, goal).await;
        solved.map_err(|e| match self.space(space.as_deref()) {
            Ok(space) if space.is_observed() && e.code == "not_found" => {
                observing::runs_no_agents(&space)
            }
            Err(closed) if e.code == "not_found" && closed.code == "damaged" => closed,
            _ => e,
        })
    }

    /// Asks a goal for more that goes on answer by answer.
    pub fn more(&self, goal: &str) -> Result<(), ErrorBody> {
        self.0.agents.more(goal)
    }

    /// The predicates that an agent's program sees.
    pub async fn predicates(&self, agent: &str) -> Result<Vec<PredicateInfo>, ErrorBody> {
        self.0.agents.predicates(agent).await
    }

    /// The changes of a space's facts, as they come; of one predicate, or of all.
    pub fn changes(
        &self,
        space: Option<&str>,
        predicate: Option<Indicator>,
        after: Option<u64>,
    ) -> Result<mpsc::Receiver<ChangeEvent>, ErrorBody> {
        Ok(self.space(space)?.watch(predicate, after))
    }

    /// Runs a program as an agent; returns once it is loaded and claimed, or with its problems.
    pub async fn run_agent(&self, run: RunRequest) -> Result<AgentInfo, ErrorBody> {
        let space = self.space(run.space.as_deref())?;
        if space.is_observed() {
            let text = format!("an agent writes, and {OBSERVES}");
            return Err(error("observer", text));
        }
        self.0.agents.run(space, run).await
    }

    /// All agents that this node has run since it started.
    pub async fn agents(&self) -> Vec<AgentInfo> {
        self.0.agents.list().await
    }

    /// Stops an agent for good.
    pub async fn stop_agent(&self, name: &str) -> Result<(), ErrorBody> {
        self.0.agents.stop(name).await
    }

    /// Takes an agent's program over as it is now, between two events; what runs goes on.
    pub async fn reload_agent(&self, name: &str) -> Result<Reloaded, ErrorBody> {
        self.0.agents.reload(name).await
    }

    /// Loads an agent's program anew, in a new epoch.
    pub async fn restart_agent(&self, name: &str) -> Result<Reloaded, ErrorBody> {
        self.0.agents.restart(name).await
    }

    /// The events that an agent could not handle.
    pub async fn letters(&self, name: &str) -> Result<Vec<LetterInfo>, ErrorBody> {
        self.0.agents.letters(name).await
    }

    /// Hands letters to an agent's handler again; says how each of them went.
    pub async fn retry_letters(
        &self,
        name: &str,
        which: &LettersRequest,
    ) -> Result<Vec<RetriedLetter>, ErrorBody> {
        self.0.agents.retry_letters(name, which).await
    }

    /// Drops letters of an agent; gives those that were.
    pub async fn drop_letters(
        &self,
        name: &str,
        which: &LettersRequest,
    ) -> Result<Vec<LetterInfo>, ErrorBody> {
        self.0.agents.drop_letters(name, which).await
    }

    /// The last `tail` lines of an agent's log and, if `follow`, what comes behind them.
    pub async fn logs(
        &self,
        name: &str,
        tail: usize,
        follow: bool,
    ) -> Result<mpsc::Receiver<LogLine>, ErrorBody> {
        self.0.agents.logs(name, tail, follow)
    }

    /// Makes a module's text part of a space; returns the index.
    pub async fn publish_module(
        &self,
        space: Option<&str>,
        name: &str,
        text: &str,
    ) -> Result<u64, ErrorBody> {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
            let text = format!(
                "{name:?} is no name for a module: give it letters, digits, _ and -, up to \
                 {MAX_NAME_BYTES} bytes"
            );
            return Err(error("name", text));
        }
        if text.trim().is_empty() {
            return Err(error(
                "bad_request",
                format!("the module {name} has no text: give it some"),
            ));
        }
        let space = self.space(space)?;
        space.serves_writes().map_err(|why| why.body())?;
        // As at the start of a program, it says how the text is written, and is no part of it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.check_module(name, text).await?;
        let known = name.to_owned();
        let look = move |state: &State| state.modules().get(&known).map(|module| module.index);
        for _ in 0..MAX_PUBLICATIONS {
            let after = space.look(look.clone()).await.ok_or_else(stopping)?.unwrap_or(0);
            let (name, text) = (name.to_owned(), text.to_owned());
            let publish = Command::PublishModule { name, text, after };
            match space.commit(&publish).await {
                Some(Ended::Applied(Outcome::Refused(_, Refusal::StaleModule))) => {}
                ended => return committed(ended),
            }
        }
        let text =
            format!("{name} is being published by somebody else at the same time: try again");
        Err(error("busy", text))
    }

    /// Refuses a text that no program could use.
    async fn check_module(&self, name: &str, text: &str) -> Result<(), ErrorBody> {
        let (executable, text) = (self.0.agents.executable().to_owned(), text.to_owned());
        let of = name.to_owned();
        let checked = spawn_blocking(move || check::module(&executable, &of, &text)).await;
        let problems = checked.map_err(|_| stopping())?.map_err(|e| {
            error(
                "engine",
                format!("the module {name} cannot be checked: {e}; nothing is published"),
            )
        })?;
        let errors = problems.into_iter().filter(|problem| problem.severity == "error");
        let problems: Vec<Problem> = errors.collect();
        match problems.first() {
            None => Ok(()),
            Some(Problem { file, line, column, text, .. }) => {
                let text = format!("{file}:{line}:{column}: {text}; nothing is published");
                Err(ErrorBody { problems, ..error("program", text) })
            }
        }
    }

    /// The modules of a space: names and texts.
    pub async fn modules(&self, space: Option<&str>) -> Result<Vec<(String, String)>, ErrorBody> {
        let look = self.space(space)?;
        let seen = look.look(|state| state.modules().clone()).await;
        let modules = seen.ok_or_else(stopping)?;
        Ok(modules.into_iter().map(|(name, module)| (name, module.text)).collect())
    }

    /// For clients with many proposals in flight.
    pub fn proposer(&self, space: Option<&str>) -> Result<Proposer, ErrorBody> {
        Ok(Proposer { space: self.space(space)? })
    }

    /// Goes down in order: agents end, logs are closed.
    pub async fn shutdown(&self) {
        self.0.is_stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.tunnels.shut_down().await;
        self.0.agents.shut_down().await;
        let spaces: Vec<Space> = self.spaces().into_values().collect();
        let closed = spawn_blocking(move || spaces.iter().for_each(Space::close));
        drop(closed.await);
        if let Some(net) = self.0.net.get() {
            net.close().await;
        }
        self.0.stop.notify_waiters();
    }

    /// Asks whoever runs the node to shut it down.
    pub fn ask_to_stop(&self) {
        self.0.is_stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.stop.notify_waiters();
    }

    /// Resolves when somebody has asked for the node to go down.
    pub async fn stopping(&self) {
        loop {
            let asked = self.0.stop.notified();
            if self.0.is_stopping.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            asked.await;
        }
    }

    /// The network, which is taken part in from the first time that somebody asks.
    pub(crate) async fn net(&self) -> Result<Arc<Net>, ErrorBody> {
        let start =
            || Net::start(&self.0.folder, &self.0.net_config, &self.0.agents, &self.0.tunnels);
        let net = self.0.net.get_or_try_init(start).await;
        net.cloned().map_err(|e| error("net", e.to_string()))
    }

    /// All spaces, by name.
    fn spaces(&self) -> BTreeMap<String, Space> {
        self.0.spaces.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The space of this name; without one, the only one besides `local`, else `local`.
    fn space(&self, name: Option<&str>) -> Result<Space, ErrorBody> {
        let (spaces, closed) = (self.spaces(), self.closed());
        let is_other = |name: &&String| *name != LOCAL && !spaces.contains_key(*name);
        let names = spaces.keys().chain(closed.keys().filter(is_other)).map(String::as_str);
        let name = name.unwrap_or_else(|| api::default_space(names));
        spaces.get(name).cloned().ok_or_else(|| {
            if let Some(closed) = closed.get(name) {
                return closed.refusal(name);
            }
            let known: Vec<&str> = spaces.keys().map(String::as_str).collect();
            let text = format!("this node has no space {name}; it has {}", known.join(", "));
            error("not_found", text)
        })
    }
}

/// Looks at what is counted, for as long as the node is there.
async fn sample(node: Weak<Inner>) {
    let mut ticks = tokio::time::interval(rates::SAMPLE_EVERY);
    loop {
        let now = ticks.tick().await.into_std();
        let Some(node) = node.upgrade() else { return };
        Node(Arc::clone(&node)).spaces().values().for_each(|space| space.sample(now));
        node.agents.sample(now);
    }
}

/// Proposes a client's transactions without waiting for each.
#[derive(Clone)]
pub struct Proposer {
    space: Space,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeOutcome {
    /// Applied, at this index.
    Committed(u64),
    /// It can never commit.
    Refused(Refusal),
    /// It did not enter the log.
    NotProposed(String),
}

/// Told the number of each proposal and how it ended, in the order of their ends.
pub type ProposeReplies = mpsc::UnboundedReceiver<(u64, Ended)>;

impl Proposer {
    /// Opens a session and returns its number.
    pub async fn open_session(&self, label: &str) -> Result<u64, ErrorBody> {
        open_session(&self.space, label).await
    }

    /// Proposes a transaction; its end is sent to `reply` with its number. A reply that never comes
    /// (the node goes down) means unknown.
    pub fn propose(
        &self,
        session: u64,
        seq: u64,
        acked: u64,
        draft: Draft,
        reply: &mpsc::UnboundedSender<(u64, Option<Ended>)>,
    ) -> Result<(), NotProposed> {
        let Draft { version, reads, ops } = draft;
        let origin = Origin::Session { id: session, seq, acked };
        let command = Command::Transact(Transaction { origin, version, reads, ops });
        if command.check_terms().is_err() {
            let malformed = Outcome::Refused(0, Refusal::Malformed);
            drop(reply.send((seq, Some(Ended::Applied(malformed)))));
            return Ok(());
        }
        self.space.propose(command.encode(), Reply::Stream(reply.clone(), seq))
    }
}

impl From<Ended> for ProposeOutcome {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Applied(Outcome::Committed(index)) => Self::Committed(index),
            Ended::Applied(Outcome::Refused(_, why)) => Self::Refused(why),
            Ended::NotProposed(why) => Self::NotProposed(why.to_string()),
        }
    }
}

async fn open_session(space: &Space, label: &str) -> Result<u64, ErrorBody> {
    if label.is_empty() || label.len() > MAX_NAME_BYTES {
        return Err(error(
            "name",
            format!(
                "a session's label has 1 to {MAX_NAME_BYTES} bytes, and this has {}",
                label.len()
            ),
        ));
    }
    if label.starts_with(RESERVED) {
        let text = format!("a session's label does not begin with {RESERVED}: tunnels have those");
        return Err(error("name", text));
    }
    let nonce = random()
        .map_err(|e| error("internal", format!("no random number for the session: {e}")))?;
    committed(space.commit(&Command::OpenSession { label: label.to_owned(), nonce }).await)
}
