//! `synod run FILE`

use super::client::{Client, encode};
use super::foreground::{self, Foreground, NodeArgs, Signals};
use super::space::SpaceArg;
use super::watch::Watch;
use super::{Failure, Global, Verdict, client, detach, down, lines, monitor, units};
use crate::cli::say::say;
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use synod::api::{
    AgentInfo, AgentOptions, CreateSpace, ErrorBody, JoinSpace, LogLine, Members, Reloaded,
    RunRequest, SpaceInfo,
};
use synod::control::SOCKET_NAME;
use synod::node::{JOINING, Node};
use synod_udp_shim::network::monitor::Monitor;
use tokio::sync::{mpsc, oneshot};
use tracing::level_filters::LevelFilter;

/// Lines that a program may have printed before they are asked for.
const FIRST_LINES: usize = 10_000;
/// What an agent is refused with that could not be claimed.
const NOT_CLAIMED: &str = "not_claimed";
/// How often it is looked whether a space has been joined anew.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what is left of an agent's output has to be printed when the node has stopped.
const LAST_LINES_TIME: Duration = Duration::from_secs(1);

/// Run a program as an agent. If a node runs on the data folder, it gets the program and this
/// command shows its output; else this command is the node. Ctrl-C stops the agent.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Run {
    /// The Prolog program
    file: PathBuf,
    /// The agent's name [default: the file's, without .pl]
    #[arg(long, env = "SYNOD_AGENT", value_name = "NAME", hide_env = true)]
    agent: Option<String>,
    #[command(flatten)]
    space: SpaceArg,
    /// Found the space (--space NAME) first, unless it is there
    #[arg(long, env = "SYNOD_CREATE", hide_env = true, value_parser = units::switch(),
          requires = "space", conflicts_with = "join")]
    create: bool,
    /// Join the space of this ticket first, unless this node has
    #[arg(long, env = "SYNOD_JOIN", value_name = "TICKET", hide_env = true)]
    join: Option<String>,
    /// Refused: an agent writes, and an observer cannot
    #[arg(long, env = "SYNOD_OBSERVE", hide = true, value_parser = units::switch())]
    observe: bool,
    /// Leave it with a node in the background, which starts it again whenever it starts
    #[arg(long, env = "SYNOD_DETACH", hide_env = true, value_parser = units::switch())]
    detach: bool,
    /// Reload the program when it, or a file that it loads from its folder, is saved (synod agent reload)
    #[arg(long, env = "SYNOD_WATCH", hide_env = true, value_parser = units::switch(),
          conflicts_with = "detach")]
    watch: bool,
    /// Take datagrams of a group: 239.0.0.2:20005%lo; may be repeated
    #[arg(
        long,
        env = "SYNOD_MULTICAST",
        value_name = "GROUP:PORT[%IF]",
        value_delimiter = ',',
        hide_env = true
    )]
    multicast: Vec<String>,
    /// Time that a handler, or a goal for each of its answers, may take; 0 is no limit [default: 10s]
    #[arg(long, env = "SYNOD_MAX_TIME", value_name = "TIME", value_parser = units::milliseconds,
          hide_env = true)]
    max_time: Option<u64>,
    /// Memory that its engine may hold; 0 is no limit [default: 1GiB]
    #[arg(long, env = "SYNOD_MAX_MEMORY", value_name = "SIZE", value_parser = units::bytes,
          hide_env = true)]
    max_memory: Option<u64>,
    /// Inferences that a handler or goal may take; 0 is no limit [default: 0]
    #[arg(long, env = "SYNOD_MAX_INFERENCES", value_name = "N", value_parser = units::count,
          hide_env = true)]
    max_inferences: Option<u64>,
    /// Have every call of a replicated predicate looked up, and keep no native copies
    #[arg(long, env = "SYNOD_NO_COPIES", hide_env = true, value_parser = units::switch())]
    no_copies: bool,
    /// Let it read files in a folder besides its own; may be repeated
    #[arg(
        long,
        env = "SYNOD_ALLOW_READ",
        value_name = "DIR",
        value_delimiter = ':',
        hide_env = true
    )]
    allow_read: Vec<PathBuf>,
    /// Let it read and write files in a folder; may be repeated
    #[arg(
        long,
        env = "SYNOD_ALLOW_WRITE",
        value_name = "DIR",
        value_delimiter = ':',
        hide_env = true
    )]
    allow_write: Vec<PathBuf>,
    /// Let it open sockets
    #[arg(long, env = "SYNOD_ALLOW_NET", hide_env = true, value_parser = units::switch())]
    allow_net: bool,
    /// Let it do whatever this user may
    #[arg(long, env = "SYNOD_NO_SANDBOX", hide_env = true, value_parser = units::switch())]
    no_sandbox: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl Run {
    pub(crate) fn run(self, global: &Global) -> Result<Verdict, Failure> {
        if self.observe {
            return Err(Failure::error(
                "an agent writes where it has come to, and an observer writes nothing: run it on a member \
                 (--join without --observe), or observe without it: synod space join TICKET --observe"
                    .to_owned(),
            ));
        }
        let data = global.data()?;
        let request = self.request()?;
        let entry = Entry { create: self.create, join: self.join };
        let client = Client::new(&data);
        let is_up = client::block_on(client.is_up())?;
        if !is_up && !self.detach {
            let monitor = monitor::hold_apart(global, &data, &self.node)?;
            let as_what = (self.node, monitor);
            let be_node = be_node(global, &data, as_what, request, entry, self.watch);
            return foreground::block_on(global, LevelFilter::WARN, be_node);
        }
        if is_up && !self.detach {
            return client::block_on(attend(&client, global, request, entry, self.watch));
        }
        if is_up {
            return client::block_on(hand_over(&client, global, request, entry));
        }
        let user = monitor::user_of(global, &data, &self.node)?;
        detach::start(&data, &self.node, user.as_ref(), global.verbose)?;
        let handed_over = client::block_on(hand_over(&client, global, request, entry));
        if handed_over.is_err() {
            // Nobody has asked for a node without the agent.
            client::block_on(down::run(global))?;
        }
        handed_over
    }

    fn request(&self) -> Result<RunRequest, Failure> {
        let absolute = |path: &PathBuf| {
            let absolute = path.canonicalize();
            let absolute =
                absolute.map_err(|error| Failure::error(format!("{}: {error}", path.display())))?;
            absolute.into_os_string().into_string().map_err(|path| {
                Failure::error(format!("{}: the path is not UTF-8", path.display()))
            })
        };
        let all = |paths: &[PathBuf]| paths.iter().map(absolute).collect::<Result<Vec<_>, _>>();
        let usual = AgentOptions::default();
        Ok(RunRequest {
            program: absolute(&self.file)?,
            name: self.agent.clone(),
            space: self.space.space.clone(),
            keep: self.detach,
            options: AgentOptions {
                max_time_ms: self.max_time.unwrap_or(usual.max_time_ms),
                max_memory: self.max_memory.unwrap_or(usual.max_memory),
                max_inferences: self.max_inferences.unwrap_or(usual.max_inferences),
                sandbox: !self.no_sandbox,
                allow_read: all(&self.allow_read)?,
                allow_write: all(&self.allow_write)?,
                allow_net: self.allow_net,
                multicast: self.multicast.clone(),
                copies: !self.no_copies,
            },
        })
    }
}

/// How the node gets the space that the agent is to run in, if it has it not.
struct Entry {
    create: bool,
    join: Option<String>,
}

impl Entry {
    /// Has a node that runs already found or join the space.
    async fn enter(self, client: &Client, request: &mut RunRequest) -> Result<(), Failure> {
        if let (true, Some(name)) = (self.create, &request.space) {
            let spaces: Vec<SpaceInfo> = client.get("/v1/spaces").await?;
            if spaces.iter().all(|space| space.name != *name) {
                let create = CreateSpace { name: name.clone() };
                let _: Members = client.post("/v1/spaces", &create).await?;
            }
        }
        if let Some(ticket) = self.join {
            let join = JoinSpace { ticket, name: request.space.clone(), observe: false };
            let joined: Members = client.post("/v1/spaces/join", &join).await?;
            request.space = Some(joined.space);
        }
        Ok(())
    }

    /// The same in this process.
    async fn enter_here(self, node: &Node, request: &mut RunRequest) -> Result<(), Failure> {
        if let (true, Some(name)) = (self.create, &request.space)
            && !node.has_space(name)
        {
            node.create_space(name).await.map_err(Failure::told)?;
        }
        if let Some(ticket) = self.join {
            let joined = node.join_space(&ticket, request.space.as_deref()).await;
            request.space = Some(joined.map_err(Failure::told)?.space);
        }
        Ok(())
    }
}

/// Leaves the agent with the node.
async fn hand_over(
    client: &Client,
    global: &Global,
    mut request: RunRequest,
    entry: Entry,
) -> Result<Verdict, Failure> {
    entry.enter(client, &mut request).await?;
    let info: AgentInfo = client.post("/v1/run", &request).await?;
    lines::warn(&info.warnings);
    let mut out = global.out();
    if out.is_json() {
        out.json(&info)?;
    } else {
        out.line(format_args!("agent {} runs in space {}", info.name, info.space))?;
    }
    Ok(Verdict::Yes)
}

/// Has the node run the agent for as long as this command runs.
async fn attend(
    client: &Client,
    global: &Global,
    mut request: RunRequest,
    entry: Entry,
    watches: bool,
) -> Result<Verdict, Failure> {
    let mut signals = Signals::new()?;
    entry.enter(client, &mut request).await?;
    // An agent of this name may have a log of earlier runs. Node and command share a clock.
    let mut begins = now_micros();
    let watch = watch(&request, watches)?;
    let AgentInfo { name, space, .. } = client.post("/v1/run", &request).await?;
    let path = format!("/v1/agents/{}", encode(&name));
    let logs = format!("{path}/logs?tail={FIRST_LINES}&follow=true");
    let mut lines = client.get_events::<LogLine>(&logs).await?;
    let mut out = global.out();
    let reload_path = format!("{path}/reload");
    let reload = || async { Ok(client.post::<Reloaded>(&reload_path, &Value::Null).await?) };
    let mut watching = pin!(reload_if(watch, reload));
    let shown = loop {
        let line = tokio::select! {
            line = lines.next() => line,
            failure = &mut watching => break Err(failure),
            () = signals.next() => break Ok(()),
        };
        match line {
            Ok(Some(line)) => {
                if let Err(failure) = lines::print_output(&mut out, &line, begins) {
                    break Err(failure);
                }
            }
            Ok(None) => {
                begins = now_micros();
                tokio::select! {
                    joined = joined_anew(client, &space) => joined?,
                    () = signals.next() => break Ok(()),
                }
                let agents: Vec<AgentInfo> = client.get("/v1/agents").await?;
                if !is_there(&agents, &name) {
                    return verdict(&agents, &name);
                }
                lines = client.get_events::<LogLine>(&logs).await?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let _: Value = client.post(&format!("{path}/stop"), &Value::Null).await?;
    shown.map(|()| Verdict::Yes)
}

/// Waits while a node joins a space anew: the agents of it go on then.
async fn joined_anew(client: &Client, space: &str) -> Result<(), Failure> {
    loop {
        let spaces: Vec<SpaceInfo> = client.get("/v1/spaces").await?;
        if !spaces.iter().any(|info| info.name == space && info.role == JOINING) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Is the node, for as long as the agent runs.
async fn be_node(
    global: &Global,
    data: &Path,
    (args, monitor): (NodeArgs, Option<Arc<Monitor>>),
    mut request: RunRequest,
    entry: Entry,
    watches: bool,
) -> Result<Verdict, Failure> {
    let watch = watch(&request, watches)?;
    let mut foreground = Foreground::start(data, args, monitor).await?;
    if let Err(failure) = entry.enter_here(&foreground.node, &mut request).await {
        foreground.stop().await?;
        return Err(failure);
    }
    let ended = run_here(global, data, &mut foreground, request, watch).await;
    foreground.stop().await?;
    match ended? {
        Ended::Agent(verdict) => verdict,
        // What the agent says while it is stopped is shown too.
        Ended::Stopped(printed) => match tokio::time::timeout(LAST_LINES_TIME, printed).await {
            Ok(Ok(printed)) => printed.map(|()| Verdict::Yes),
            Ok(Err(_)) | Err(_) => Ok(Verdict::Yes),
        },
    }
}

type Printed = oneshot::Receiver<Result<(), Failure>>;

/// Why the node is to stop.
enum Ended {
    /// The agent has ended, or its output cannot be printed.
    Agent(Result<Verdict, Failure>),
    /// Somebody wants it to; the output is still being printed.
    Stopped(Printed),
}

/// Runs the agent until it ends or is wanted to.
async fn run_here(
    global: &Global,
    data: &Path,
    foreground: &mut Foreground,
    request: RunRequest,
    watch: Option<Watch>,
) -> Result<Ended, Failure> {
    let begins = now_micros();
    let node = foreground.node.clone();
    let AgentInfo { name, space, .. } = run_agent(&node, &request).await.map_err(Failure::told)?;
    let socket = data.join(SOCKET_NAME);
    say(format_args!(
        "[node] listening on {}; agent {name} runs in space {space}; Ctrl-C ends both",
        socket.display()
    ));
    let reload = || async { node.reload_agent(&name).await.map_err(Failure::told) };
    let mut reloading = pin!(reload_if(watch, reload));
    let mut begins = begins;
    loop {
        let lines = node.logs(&name, FIRST_LINES, true).await.map_err(Failure::told)?;
        let mut printed = print_in_thread(global, lines, begins);
        tokio::select! {
            failure = &mut reloading => return Err(failure),
            () = foreground.wanted_to_stop() => return Ok(Ended::Stopped(printed)),
            printed = &mut printed => if let Ok(Err(failure)) = printed {
                return Ok(Ended::Agent(Err(failure)));
            },
        }
        begins = now_micros();
        // The agent goes on once its space is joined anew.
        while node.is_joining_anew(&space) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = foreground.wanted_to_stop() => return Ok(Ended::Agent(Ok(Verdict::Yes))),
            }
        }
        let agents = node.agents().await;
        if !is_there(&agents, &name) {
            return Ok(Ended::Agent(verdict(&agents, &name)));
        }
    }
}

/// Has the node run the agent. Where its space is joined anew meanwhile nobody says what has become of the claim:
/// then it is claimed again, by the member that the node is by then.
async fn run_agent(node: &Node, request: &RunRequest) -> Result<AgentInfo, ErrorBody> {
    let space = request.space.as_deref();
    loop {
        let before = member(node, space).await;
        let ran = node.run_agent(request.clone()).await;
        if !ran.as_ref().is_err_and(|why| why.code == NOT_CLAIMED) {
            return ran;
        }
        while space.is_some_and(|space| node.is_joining_anew(space)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if member(node, space).await == before {
            return ran;
        }
        // As one that ran it may have been started again by now.
        let agents = node.agents().await;
        if let Some(agent) =
            agents.into_iter().find(|agent| agent.program == request.program && is_alive(agent))
        {
            return Ok(agent);
        }
    }
}

/// Which member of a space this node is, if it can be asked.
async fn member(node: &Node, space: Option<&str>) -> Option<u64> {
    let members = node.members(space).await.ok()?.members;
    members.iter().find(|member| member.is_here).map(|member| member.id)
}

/// Whether an agent has been started again.
fn is_there(agents: &[AgentInfo], name: &str) -> bool {
    agents.iter().any(|agent| agent.name == name && is_alive(agent))
}

fn is_alive(agent: &AgentInfo) -> bool {
    matches!(&*agent.state, "running" | "standby" | "waiting")
}

fn watch(request: &RunRequest, watches: bool) -> Result<Option<Watch>, Failure> {
    watches.then(|| Watch::new(Path::new(&request.program))).transpose()
}

/// Reloads whenever the program is saved, if it is watched. Ends in an error only.
async fn reload_if<R>(watch: Option<Watch>, reload: impl Fn() -> R) -> Failure
where
    R: Future<Output = Result<Reloaded, Failure>>,
{
    match watch {
        Some(mut watch) => watch.reload_with(reload).await,
        None => std::future::pending().await,
    }
}

/// Prints in a thread of its own: a terminal that stands still never stalls the node.
fn print_in_thread(global: &Global, mut lines: mpsc::Receiver<LogLine>, begins: u64) -> Printed {
    let (done, printed) = oneshot::channel();
    let mut out = global.out();
    std::thread::spawn(move || {
        let mut print_all = || {
            while let Some(line) = lines.blocking_recv() {
                lines::print_output(&mut out, &line, begins)?;
            }
            Ok(())
        };
        drop(done.send(print_all()));
    });
    printed
}

/// What is to be said of an agent whose log has ended.
fn verdict(agents: &[AgentInfo], name: &str) -> Result<Verdict, Failure> {
    match agents.iter().find(|agent| agent.name == name) {
        Some(AgentInfo { state, why, .. }) if state == "failed" => {
            let why = why.as_deref().unwrap_or("see its log");
            Err(Failure::error(format!("agent {name} failed: {why}")))
        }
        _ => Ok(Verdict::Yes),
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
