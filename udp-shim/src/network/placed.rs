//! What is put into the kernel for a tunnel that redirects, and taken out again: a file that says what, then
//! routes and rules.

use super::claim::Claim;
use super::open::{CLEANING, taken};
use super::rules::Step;
use super::{NetworkError, NetworkState, kernel, lo, netlink};
use crate::privileges::{NEEDED, spawn_with};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What is in the kernel for a tunnel. It is taken out when this is dropped.
#[derive(Debug)]
pub(super) struct Placed {
    state: NetworkState,
    path: PathBuf,
    redirects: Vec<(SocketAddrV4, u16)>,
    /// Says that somebody uses it.
    _claim: Claim,
}

impl Placed {
    /// Puts it in: the file first, then what it says. Gives what a person should know, too.
    pub(super) fn put_in(
        state: NetworkState,
        path: &Path,
        redirects: Vec<(SocketAddrV4, u16)>,
    ) -> Result<(Self, Vec<String>), NetworkError> {
        let _claim = Claim::table(&state.table, Instant::now() + CLEANING)
            .map_err(|e| taken(&state.table, e))?;
        // What was written there is not to be forgotten.
        super::restore(path)?;
        let placed = Self { state, path: path.to_owned(), redirects, _claim };
        let remarks = placed.fill()?;
        Ok((placed, remarks))
    }

    /// Puts in again what others have taken out meanwhile; gives what that was, or why it could not be.
    pub(super) fn uphold(&self, with_rules: bool) -> Vec<String> {
        let mut told = match self.keep_routes() {
            Ok(groups) => {
                let told = |group| format!("the route to {group} was gone, and is there again");
                groups.into_iter().map(told).collect()
            }
            Err(e) => vec![e.to_string()],
        };
        match if with_rules { self.keep_rules() } else { Ok(false) } {
            Ok(true) => {
                told.push("somebody had flushed the rules, which are there again".to_owned())
            }
            Ok(false) => {}
            Err(e) => told.push(e.to_string()),
        }
        told
    }

    /// Routes go with the interface that they lead to. Gives the groups of those that are there again.
    fn keep_routes(&self) -> Result<Vec<Ipv4Addr>, NetworkError> {
        let Self { state, .. } = self;
        let (lo, mut again) = (lo()?, Vec::new());
        for group in &state.routes {
            let added = netlink::add_route(*group, lo, state.address);
            if added.map_err(kernel(format!("adding a route to {group}")))? {
                again.push(*group);
            }
        }
        Ok(again)
    }

    /// Whether somebody had flushed the rules.
    fn keep_rules(&self) -> Result<bool, NetworkError> {
        let Self { state, redirects, .. } = self;
        let shown = state.tool.show().iter().map(run).collect::<Result<String, _>>()?;
        if state.tool.is_whole(&state.table, &shown) {
            return Ok(false);
        }
        state.tool.take_out(&state.table).iter().try_for_each(done)?;
        let put_in = state.tool.put_in(&state.table, state.address, redirects);
        put_in.iter().try_for_each(done)?;
        netlink::forget_flows(&state.routes).map_err(kernel("forgetting old flows"))?;
        Ok(true)
    }

    fn fill(&self) -> Result<Vec<String>, NetworkError> {
        let Self { state, path, redirects, .. } = self;
        let written = write_durably(path, &state.to_string());
        written.map_err(|e| NetworkError::State { path: path.clone(), why: e.to_string() })?;
        let mut remarks = Vec::new();
        let lo = lo()?;
        for group in &state.routes {
            let added = netlink::add_route(*group, lo, state.address);
            if !added.map_err(kernel(format!("adding a route to {group}")))? {
                remarks.push(format!(
                    "there is a route to {group} already, which is left as it is: applications send \
                     from the address that it says"
                ));
            }
        }
        state.tool.put_in(&state.table, state.address, redirects).iter().try_for_each(done)?;
        netlink::forget_flows(&state.routes).map_err(kernel("forgetting old flows"))?;
        Ok(remarks)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // What cannot be taken out now is there for the next start, which says so if it fails, too.
        if take_out(&self.state, &self.path).is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes out what a state says, but for the routes that another one beside its file needs, too.
pub(super) fn take_out(state: &NetworkState, path: &Path) -> Result<(), NetworkError> {
    state.tool.take_out(&state.table).iter().try_for_each(done)?;
    let lo = lo()?;
    let shared = routes_beside(path, &state.table);
    for group in state.routes.iter().filter(|group| !shared.contains(group)) {
        let removed = netlink::remove_route(*group, lo, state.address);
        removed.map_err(kernel(format!("taking out the route to {group}")))?;
    }
    netlink::forget_flows(&state.routes).map_err(kernel("forgetting old flows")).map(drop)
}

/// The groups that the states of other tables in a folder have routes to.
fn routes_beside(path: &Path, table: &str) -> Vec<Ipv4Addr> {
    let files = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let files = files.into_iter().flatten().flatten().map(|file| file.path());
    let others = files.filter(|file| file != path && file.extension() == path.extension());
    let texts = others.filter_map(|file| std::fs::read_to_string(file).ok());
    let states = texts.filter_map(|text| NetworkState::parse(&text));
    states.filter(|state| state.table != table).flat_map(|state| state.routes).collect()
}

pub(super) fn done(step: &Step) -> Result<(), NetworkError> {
    run(step).map(drop)
}

/// Runs a command, and gives what it printed.
pub(super) fn run(step: &Step) -> Result<String, NetworkError> {
    let command = || [&[step.program.to_owned()][..], &step.arguments].concat().join(" ");
    let failed = |said: String| NetworkError::Command { command: command(), said };
    let mut command_line = Command::new(step.program);
    command_line
        .args(&step.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn_with(NEEDED, &mut command_line).map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever does not read it fails, and says why.
        let _ = stdin.write_all(step.input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() || step.may_fail {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    // Whoever else may write the folder does not say which file is written.
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
