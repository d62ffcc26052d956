//! What is measured against the tunnel in the same run: a relay by `socat`, and stock SWI-Prologs.

use super::super::node::Folder;
use super::hosts::Hosts;
use crate::cli::Failure;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAXOS: &str = include_str!("paxos.pl");
/// The hosts of the quorum.
pub(super) const QUORUM: usize = 3;
/// Sets that are measured, and those before.
const SETS: usize = 1050;
/// Where the relay's other half listens.
const RELAY_PORT: u16 = 30_005;
/// How long a rival has to be there.
const READY: Duration = Duration::from_secs(10);

/// Processes that are killed when this is dropped.
#[derive(Default)]
pub(super) struct Processes(Vec<Child>);

impl Processes {
    fn start(&mut self, command: &mut Command) -> Result<&mut Child, Failure> {
        let failed = |e: std::io::Error| Failure::error(format!("a rival: {e}"));
        self.0.push(command.stdin(Stdio::null()).spawn().map_err(failed)?);
        self.0.last_mut().ok_or_else(|| Failure::error("a rival is gone"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself is no loss.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Whether a program is there.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// How socat relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// One way, all by one process: the fastest that it does.
    OneWay,
    /// A process for each datagram, by which an answer finds its way back: as its manual has it for groups.
    Answered,
}

/// Two halves that relay what is sent to a group on the first host to the second.
pub(super) fn relay(hosts: &Hosts, to: SocketAddrV4, how: Relay) -> Result<Processes, Failure> {
    let (group, port) = (to.ip(), to.port());
    let mut halves = Processes::default();
    let (from, other) = (Hosts::address(0), Hosts::address(1));
    let (one_way, receive, fork) = match how {
        Relay::OneWay => (&["-u"][..], "UDP4-RECV", ""),
        Relay::Answered => (&[][..], "UDP4-RECVFROM", ",fork"),
    };
    let member = format!("bind={group},reuseaddr,ip-add-membership={group}:{from}");
    let first =
        [format!("{receive}:{port},{member}{fork}"), format!("UDP4-SENDTO:{other}:{RELAY_PORT}")];
    let second = [
        format!("{receive}:{RELAY_PORT}{fork}"),
        format!("UDP4-DATAGRAM:{group}:{port},ip-multicast-if={other},ip-multicast-ttl=0"),
    ];
    for (n, ends) in [first, second].into_iter().enumerate() {
        let mut command = hosts.inside(n, "socat".as_ref());
        halves
            .start(command.args(one_way).args(["-b", "65507"]).args(ends).stdout(Stdio::null()))?;
    }
    Ok(halves)
}

/// The rate at which one of three stock SWI-Prologs sets a key; or what it said instead.
pub(super) fn paxos(hosts: &Hosts, folder: &Folder) -> Result<Result<f64, String>, Failure> {
    let failed = |e: std::io::Error| Failure::error(format!("swipl: {e}"));
    let path = folder.path().join("paxos.pl");
    std::fs::write(&path, PAXOS).map_err(failed)?;
    let mut all = Processes::default();
    for n in 0..QUORUM {
        let goal = match n + 1 {
            QUORUM => format!("lead({n},{SETS})"),
            _ => format!("serve({n})"),
        };
        let mut command = hosts.inside(n, "swipl".as_ref());
        command.args(["-q", "-g", &goal, "-t", "halt"]).arg(&path);
        let child = all.start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let Some(stdout) = child.stdout.take() else { continue };
        let started = Instant::now();
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(failed)?;
            if let Some(rate) = line.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')) {
                return Ok(rate.parse().map_err(|_| line.clone()));
            }
            if line.starts_with("failed") {
                return Ok(Err(line));
            }
            if n + 1 < QUORUM && line == "ready" {
                break;
            }
            if started.elapsed() > READY * 30 {
                break;
            }
        }
    }
    Ok(Err("it said nothing".to_owned()))
}
