//! `synod status`

use super::client::Client;
use super::table::{Table, bytes, seconds};
use super::{Failure, Global, Out, Verdict, agent};
use synod::api::{SpaceInfo, Status};

pub(crate) async fn run(global: &Global) -> Result<Verdict, Failure> {
    let status: Status = Client::new(&global.data()?).get("/v1/status").await?;
    let mut out = global.out();
    if out.is_json() {
        out.json(&status)?;
    } else {
        print(&mut out, &status)?;
    }
    Ok(Verdict::Yes)
}

fn print(out: &mut Out, status: &Status) -> Result<(), Failure> {
    let Status { node, version, pid, data, uptime_s, memory, .. } = status;
    out.line(format_args!(
        "node {node}, version {version}, up {}, {}, process {pid}, data {data}",
        seconds(*uptime_s),
        bytes(*memory)
    ))?;
    for warning in &status.warnings {
        out.line(format_args!("warning: {warning}"))?;
    }
    out.line("")?;
    let mut spaces = Table::new(["SPACE", "ROLE", "TERM", "INDEX", "FACTS", "LOG", "FREE", ""]);
    for space in &status.spaces {
        spaces.row(row(space));
    }
    spaces.print(out)?;
    if !status.agents.is_empty() {
        out.line("")?;
    }
    agent::table(&status.agents).print(out)
}

fn row(space: &SpaceInfo) -> [String; 8] {
    [
        space.name.clone(),
        space.role.clone(),
        space.term.to_string(),
        space.index.to_string(),
        space.facts.to_string(),
        bytes(space.log_bytes),
        bytes(space.free_bytes),
        space.read_only.as_ref().map_or_else(String::new, |why| format!("read-only: {why}")),
    ]
}
