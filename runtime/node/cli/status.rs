//! `synod status`

use super::client::Client;
use super::foreground::Signals;
use super::table::{Table, bytes, seconds};
use super::{Failure, Global, Out, Verdict, units};
use clap::Args;
use std::time::Duration;
use synod::api::{self, AgentInfo, MonitorInfo, Ready, SpaceInfo};

/// How often the screen is drawn anew.
const REFRESH: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its top (ECMA-48: CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the node, its spaces and agents: what they do now, and which limits are near
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Go on showing it, every second, until Ctrl-C
    #[arg(short, long, env = "SYNOD_WATCH", hide_env = true, value_parser = units::switch())]
    watch: bool,
    /// Show nothing but whether the node can be relied on: exit 0 if each space has a leader and this
    /// node has caught up with it, else 1
    #[arg(long, env = "SYNOD_READY", hide_env = true, value_parser = units::switch(),
          conflicts_with = "watch")]
    ready: bool,
}

impl Status {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        let mut out = global.out();
        if self.ready {
            return ready(&client, &mut out).await;
        }
        if !self.watch {
            show(&client, &mut out, "").await?;
            return Ok(Verdict::Yes);
        }
        let clear = if out.is_terminal() { CLEAR } else { "" };
        let show_on = async {
            loop {
                show(&client, &mut out, clear).await?;
                tokio::time::sleep(REFRESH).await;
            }
        };
        let mut signals = Signals::new()?;
        tokio::select! {
            ended = show_on => ended,
            // Whoever watches has seen enough.
            () = signals.next() => Ok(Verdict::Yes),
            () = Out::closed() => Ok(Verdict::Yes),
        }
    }
}

async fn ready(client: &Client, out: &mut Out) -> Result<Verdict, Failure> {
    let ready: Ready = client.get("/v1/ready").await?;
    if out.is_json() {
        out.json(&ready)?;
    } else {
        out.line(if ready.ready { "ready" } else { "not ready" })?;
        ready.why.iter().for_each(|why| super::say::say(format_args!("synod: {why}")));
    }
    Ok(if ready.ready { Verdict::Yes } else { Verdict::No })
}

async fn show(client: &Client, out: &mut Out, clear: &str) -> Result<(), Failure> {
    let status: api::Status = client.get("/v1/status").await?;
    if out.is_json() {
        return out.json(&status);
    }
    out.text(clear)?;
    print(out, &status)?;
    // Without a terminal one screen follows the other.
    if clear.is_empty() { Ok(()) } else { out.line("") }
}

fn print(out: &mut Out, status: &api::Status) -> Result<(), Failure> {
    let api::Status { node, version, pid, data, uptime_s, memory, .. } = status;
    out.line(format_args!(
        "node {node}, version {version}, up {}, {}, process {pid}",
        seconds(*uptime_s),
        bytes(*memory)
    ))?;
    match status.spaces.first() {
        Some(space) => out.line(format_args!("data {data}, {} free", bytes(space.free_bytes)))?,
        None => out.line(format_args!("data {data}"))?,
    }
    if let Some(net) = &status.net {
        out.line(format_args!("peer {}, connected with {}", net.peer, net.connected))?;
    }
    if let Some(MonitorInfo { pid, ended: None }) = &status.monitor {
        out.line(format_args!("privileges are held apart, by process {pid}"))?;
    }
    for warning in &status.warnings {
        let line = out.marked(&format!("warning: {warning}"));
        out.line(line)?;
    }
    out.line("")?;
    spaces(&status.spaces).print(out)?;
    if !status.agents.is_empty() {
        out.line("")?;
    }
    agents(&status.agents).print(out)
}

fn spaces(spaces: &[SpaceInfo]) -> Table {
    let mut table = Table::new([
        "SPACE",
        "ROLE",
        "LEADER",
        "VOTERS",
        "TERM",
        "INDEX",
        "EVENTS/S",
        "FACTS",
        "LOG",
        "UNDER WAY",
        "",
    ]);
    for space in spaces {
        let behind = space.observed.filter(|observed| observed.lag > 0);
        let behind = behind.map(|observed| format!("{} behind", observed.lag));
        let read_only = space.read_only.as_ref().map(|why| format!("READ-ONLY: {why}"));
        let read_only = read_only.or(behind);
        let note = note(read_only, &space.near);
        let is_shared = space.voters > 0;
        let is_led = is_shared && space.observed.is_none();
        let is_marked = !note.is_empty() || (is_led && space.leader.is_none());
        let dash = || "-".to_owned();
        let voters = format!("{} of {}", space.voters_reachable, space.voters);
        table.marked_row(
            is_marked,
            [
                space.name.clone(),
                space.role.clone(),
                if is_led {
                    space.leader.clone().unwrap_or_else(|| "none".to_owned())
                } else {
                    dash()
                },
                if is_shared { voters } else { dash() },
                space.term.to_string(),
                space.index.to_string(),
                space.commands_per_s.to_string(),
                space.facts.to_string(),
                bytes(space.log_bytes),
                format!(
                    "{} of {}, {} of {}",
                    space.proposals,
                    space.max_proposals,
                    bytes(space.proposal_bytes),
                    bytes(space.max_proposal_bytes)
                ),
                note,
            ],
        );
    }
    table
}

fn agents(agents: &[AgentInfo]) -> Table {
    let mut table = Table::new([
        "AGENT", "STATE", "SPACE", "EPOCH", "LAG", "HANDLED", "EVENTS/S", "FAILED", "LETTERS",
        "RESTARTS", "MEMORY", "",
    ]);
    for agent in agents {
        let is_marked = !agent.near.is_empty() || matches!(&*agent.state, "failed" | "waiting");
        table.marked_row(
            is_marked,
            [
                agent.name.clone(),
                agent.state.clone(),
                agent.space.clone(),
                agent.epoch.to_string(),
                agent.lag.to_string(),
                agent.handled.to_string(),
                agent.handled_per_s.to_string(),
                agent.failed.to_string(),
                agent.letters.to_string(),
                agent.restarts.to_string(),
                match (agent.memory, agent.max_memory) {
                    (None, _) => "-".to_owned(),
                    (Some(memory), 0) => bytes(memory),
                    (Some(memory), max) => format!("{} of {}", bytes(memory), bytes(max)),
                },
                note(agent.why.clone(), &agent.near),
            ],
        );
    }
    table
}

/// What is to be said of a row in words.
fn note(why: Option<String>, near: &[String]) -> String {
    let near = near.iter().map(|near| format!("NEAR {near}"));
    why.into_iter().chain(near).collect::<Vec<_>>().join("; ")
}
