//! Being the node: what `up` and `run` share.

use super::{Failure, Global, units};
use clap::Args;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use synod::control::{Control, socket_path};
use synod::net::NetConfig;
use synod::node::{Node, NodeConfig};
use synod_udp_shim::network::monitor::Monitor;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::level_filters::LevelFilter;

/// Signals within this time are one: who sends one to a process often sends it to its group too.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// How a node is set up.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// As root: be this user, whose the data folder has to be (--data DIR)
    #[arg(long, env = "SYNOD_USER", value_name = "NAME", hide_env = true)]
    user: Option<String>,
    /// The node's name [default: the host's, with four digits]
    #[arg(long, env = "SYNOD_NODE", value_name = "NAME", hide_env = true)]
    node: Option<String>,
    /// Refuse writes while the disk has less free than this
    #[arg(long, env = "SYNOD_MIN_FREE", value_name = "SIZE", default_value = "256MiB",
          value_parser = units::bytes, hide_env = true)]
    min_free: u64,
    /// While writes come close behind each other, look so long for what follows from one before a thread sleeps:
    /// 0 never does
    #[arg(long, env = "SYNOD_BUSY_POLL", value_name = "TIME", default_value = "1ms",
          value_parser = units::busy_poll, hide_env = true)]
    busy_poll: Duration,
    /// Listen for other nodes here: /ip4/0.0.0.0/tcp/4001; may be repeated [default: any free port,
    /// and the same again]
    #[arg(
        long,
        env = "SYNOD_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env = true
    )]
    listen: Vec<String>,
    /// Connect with the node at this address; may be repeated
    #[arg(
        long,
        env = "SYNOD_PEER",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        hide_env = true
    )]
    peer: Vec<String>,
    /// Keep to nodes that have this file's key (synod peer key); over TCP only
    #[arg(long, env = "SYNOD_PRIVATE", value_name = "KEYFILE", hide_env = true)]
    private: Option<PathBuf>,
    /// Let in only the peer of this id; may be repeated
    #[arg(
        long,
        env = "SYNOD_ALLOW",
        value_name = "PEERID",
        value_delimiter = ',',
        hide_env = true
    )]
    allow: Vec<String>,
    /// Do not look for nodes on the local network
    #[arg(long, env = "SYNOD_NO_MDNS", hide_env = true, value_parser = units::switch())]
    no_mdns: bool,
}

impl NodeArgs {
    /// Who it is to be.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Where it is to listen.
    pub(crate) fn listen(&self) -> &[String] {
        &self.listen
    }

    /// As arguments again.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args = vec!["--min-free".into(), self.min_free.to_string().into()];
        let busy_poll = format!("{}us", self.busy_poll.as_micros());
        args.extend(["--busy-poll".into(), busy_poll.into()]);
        let lists = [("--listen", &self.listen), ("--peer", &self.peer), ("--allow", &self.allow)];
        for (flag, values) in lists {
            args.extend(values.iter().flat_map(|value| [flag.into(), value.into()]));
        }
        if let Some(user) = &self.user {
            args.extend(["--user".into(), user.into()]);
        }
        if let Some(node) = &self.node {
            args.extend(["--node".into(), node.into()]);
        }
        if let Some(private) = &self.private {
            args.extend(["--private".into(), private.into()]);
        }
        if self.no_mdns {
            args.push("--no-mdns".into());
        }
        args
    }
}

/// A node that runs in this process, and its control socket.
pub(crate) struct Foreground {
    pub(crate) node: Node,
    server: JoinHandle<()>,
    signals: Signals,
}

impl Foreground {
    /// Starts the node of `data`.
    pub(crate) async fn start(
        data: &Path,
        args: NodeArgs,
        monitor: Option<Arc<Monitor>>,
    ) -> Result<Self, Failure> {
        // Looked at first: a path that is too long is found before anything is written.
        socket_path(data).map_err(|error| Failure::error(error.to_string()))?;
        let signals = Signals::new()?;
        let executable = std::env::current_exe().map_err(|error| {
            Failure::error(format!(
                "this program's own path cannot be found: {error}; start it by its path"
            ))
        })?;
        let NodeArgs { node: name, min_free, busy_poll, listen, peer: peers, .. } = args;
        let NodeArgs { private, allow, no_mdns, .. } = args;
        let wants_net = !listen.is_empty() || !peers.is_empty();
        let net = NetConfig { listen, peers, private, allow, no_mdns };
        let data = data.to_owned();
        let config = NodeConfig {
            data: data.clone(),
            name,
            min_free,
            busy_poll,
            executable,
            net,
            wants_net,
            monitor,
        };
        let data = &data;
        let node = Node::start(config).await.map_err(|error| Failure::error(error.to_string()))?;
        let control = match Control::bind(data) {
            Ok(control) => control,
            Err(error) => {
                node.shutdown().await;
                return Err(Failure::error(error.to_string()));
            }
        };
        let server = tokio::spawn(control.serve(node.clone()));
        Ok(Self { node, server, signals })
    }

    /// Waits until a signal or a client wants the node to stop.
    pub(crate) async fn wanted_to_stop(&mut self) {
        let stopping = self.node.stopping();
        tokio::select! {
            () = self.signals.next() => {}
            () = stopping => {}
        }
    }

    /// Stops the node. A further signal ends the process where it stands: the log is as safe as
    /// after a crash.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let Self { node, server, mut signals } = self;
        let stopped = async {
            node.shutdown().await;
            server.await
        };
        let further = async {
            tokio::time::sleep(ONE_SIGNAL).await;
            signals.drain();
            signals.next().await;
        };
        tokio::select! {
            stopped = stopped => stopped.map_err(|error| Failure::error(error.to_string())),
            () = further => Err(Failure::error("ended by a further signal before it had stopped")),
        }
    }
}

/// Ctrl-C, SIGTERM and the terminal's end.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = || -> io::Result<_> {
            Ok([
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ])
        };
        Ok(Self(
            listen().map_err(|error| {
                Failure::error(format!("signals cannot be waited for: {error}"))
            })?,
        ))
    }

    /// Forgets those that have come.
    fn drain(&mut self) {
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        for signal in &mut self.0 {
            while signal.poll_recv(&mut nothing).is_ready() {}
        }
    }

    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs a verb that is a node, whose log goes to stderr.
pub(crate) fn block_on<T>(
    global: &Global,
    quietest: LevelFilter,
    verb: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let asked = std::env::var("SYNOD_LOG").unwrap_or_default();
    let level = level(&asked, global.verbose, quietest)?;
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(has_colour);
    log.with_max_level(level).with_target(false).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::error(format!(
            "threads cannot be started: {error}; `ulimit -u` shows how many this user may have"
        ))
    })?;
    let ended = runtime.block_on(verb);
    // A thread that waits for a terminal or a disk does not keep the process.
    runtime.shutdown_background();
    ended
}

/// The threads that answer requests and mind the agents: half as many as there are processors. Each space has two
/// threads of its own, the bridge one and each agent a process; and a request wakes a second thread for nothing
/// where there is one.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// What the node's log tells: as `SYNOD_LOG` says; without it as the verb does, and more with `-v`.
fn level(asked: &str, verbose: u8, quietest: LevelFilter) -> Result<LevelFilter, Failure> {
    if asked.is_empty() {
        return Ok(match (verbose, quietest) {
            (0, level) => level,
            (1, LevelFilter::WARN) => LevelFilter::INFO,
            (1, _) | (2, LevelFilter::WARN) => LevelFilter::DEBUG,
            (2.., _) => LevelFilter::TRACE,
        });
    }
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = levels.contains(&asked.to_ascii_lowercase().as_str());
    let level = known.then(|| asked.parse().ok()).flatten();
    level.ok_or_else(|| {
        Failure::error(format!("SYNOD_LOG is {asked:?}; the levels are {}", levels.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_as_loud_as_was_asked() {
        let loud = |asked, verbose, quietest| level(asked, verbose, quietest).ok();
        assert_eq!(loud("", 0, LevelFilter::WARN), Some(LevelFilter::WARN));
        assert_eq!(loud("", 1, LevelFilter::WARN), Some(LevelFilter::INFO));
        assert_eq!(loud("", 2, LevelFilter::INFO), Some(LevelFilter::TRACE));
        assert_eq!(loud("debug", 0, LevelFilter::WARN), Some(LevelFilter::DEBUG));
        assert_eq!(loud("OFF", 2, LevelFilter::WARN), Some(LevelFilter::OFF));
        assert_eq!(loud("loud", 0, LevelFilter::WARN), None);
        assert_eq!(loud("3", 0, LevelFilter::WARN), None);
    }
}
