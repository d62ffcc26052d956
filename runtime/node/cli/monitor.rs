//! Privileges are held apart from the node: `up` and `run` start a monitor before anything else, and give up what
//! they may do besides what their user may. `synod monitor`, which is hidden, is that process.

use super::foreground::NodeArgs;
use super::user::User;
use super::{Failure, Global, Verdict};
use clap::Args;
use rustix::thread::CapabilitySet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod::tunnels::NETWORK;
use synod_udp_shim::network::monitor::{HANDED_ON, Monitor as Process, serve};
use synod_udp_shim::privileges;

/// Ports below need a privilege to be listened on.
const FIRST_FREE_PORT: u16 = 1024;

/// What holds the privileges of a node, which starts it
#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Where it is written down what the kernel was told
    #[arg(long, hide = true)]
    folder: PathBuf,
}

impl Monitor {
    /// Serves the node at the other end of the standard input.
    pub(crate) fn run(self) -> Result<Verdict, Failure> {
        let told = |error: std::io::Error| Failure::error(format!("monitor: {error}"));
        let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)
            .map_err(|error| told(error.into()))?;
        let null = std::fs::File::open("/dev/null").map_err(told)?;
        rustix::stdio::dup2_stdin(&null).map_err(|error| told(error.into()))?;
        serve(socket, &self.folder).map_err(told)?;
        Ok(Verdict::Yes)
    }
}

/// Starts a monitor if there are privileges for it, and gives up those of this process. It is called before there
/// is a second thread: each has its own.
pub(crate) fn hold_apart(
    global: &Global,
    data: &Path,
    node: &NodeArgs,
) -> Result<Option<Arc<Process>>, Failure> {
    let executable = std::env::current_exe()
        .map_err(|error| Failure::error(format!("this program's own path: {error}")))?;
    let user = user_of(global, data, node)?;
    if let Some(user) = &user {
        // To narrow what children may ever have takes one, too.
        user.become_them(HANDED_ON | CapabilitySet::SETPCAP, &executable)?;
    }
    let has_them = privileges::are_held();
    if !has_them && user.is_none() {
        return Ok(None);
    }
    let monitor = has_them.then(|| start(&executable, data)).transpose()?;
    // A port below 1024 is listened on when the node first takes part in a network, which may be any time, and by
    // a thread that is there by then; a capability is a thread's, and no thread can give up another's. So it stays
    // for as long as the node runs, where such a port was asked for.
    let listens_below = node.listen().iter().any(|address| is_below(address));
    let keep = match listens_below {
        true => CapabilitySet::NET_BIND_SERVICE,
        false => CapabilitySet::empty(),
    };
    privileges::keep_only(keep, Some(&executable)).map_err(|error| {
        Failure::error(format!("the node's privileges cannot be given up: {error}"))
    })?;
    Ok(monitor.map(Arc::new))
}

fn start(executable: &Path, data: &Path) -> Result<Process, Failure> {
    // What is written into it should have the path that the node shows.
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let folder = data.join(NETWORK);
    let args = ["monitor".as_ref(), "--folder".as_ref(), folder.as_os_str()];
    Process::start(executable, args).map_err(|error| {
        Failure::error(format!(
            "the process that is to hold the node's privileges cannot be started: {error}; without \
             CAP_NET_ADMIN and CAP_NET_RAW none is needed, and tunnels that redirect do not work"
        ))
    })
}

/// Who the node is to be, once that user has the data folder.
pub(crate) fn user_of(
    global: &Global,
    data: &Path,
    node: &NodeArgs,
) -> Result<Option<User>, Failure> {
    let Some(name) = node.user() else { return Ok(None) };
    if global.data.is_none() {
        let text = format!("--user {name} has a data folder of its own: say which with --data DIR");
        return Err(Failure::error(text));
    }
    let user = User::find(name)?;
    user.own(data)?;
    Ok(Some(user))
}

/// Whether an address has a port that needs a privilege: `/ip4/0.0.0.0/tcp/443`.
fn is_below(address: &str) -> bool {
    let parts: Vec<&str> = address.split('/').collect();
    parts.windows(2).any(|pair| {
        let port = pair[1].parse::<u16>().unwrap_or(0);
        matches!(pair[0], "tcp" | "udp") && (1..FIRST_FREE_PORT).contains(&port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_need_a_privilege_are_seen() {
        for below in ["/ip4/0.0.0.0/tcp/443", "/ip6/::/udp/1023/quic-v1", "/dns4/x/tcp/1"] {
            assert!(is_below(below), "{below}");
        }
        for free in ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/1024", "/ip4/0.0.0.0", "", "tcp"] {
            assert!(!is_below(free), "{free}");
        }
    }
}
