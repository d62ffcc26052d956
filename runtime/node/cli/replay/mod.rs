//! `synod replay`: what a log leads to, computed anew, or what another program would have made of it.

mod agent;
mod kb;

use super::space::SpaceArg;
use super::{Failure, Global, Verdict, units};
use clap::Args;
use std::path::PathBuf;
use synod::past::At;

/// The facts as they were at any index or time, and a goal's answers on them
#[derive(Debug, Args)]
#[command(after_help = "\
Without --query all facts are printed, one a line, as Prolog reads them back. A time means the last command \
not after it: before the first one there are no facts, after the last one they are what they are now. An \
index that has not come is an error. A goal sees the facts as predicates of the same names and arities, and \
library(lists); it cannot write. Works on an export, or on a space with a node and without one.

With --agent the triggers that the agent handled are given to another program, each at the version at \
which it was handled, and what that would have written and sent is shown beside what was. Exits 1 if they \
differ: what `synod log export` wrote yesterday is a test of today's program.")]
pub(crate) struct Replay {
    /// An export [default: the space's own log]
    file: Option<PathBuf>,
    #[command(flatten)]
    space: SpaceArg,
    /// As of this index, or this time as in 2025-01-31T09:30:00Z (RFC 3339) [default: now]
    #[arg(long, env = "SYNOD_UNTIL", value_name = "INDEX|TIME", hide_env = true)]
    until: Option<At>,
    /// Print the answers of this goal
    #[arg(short, long, env = "SYNOD_QUERY", value_name = "GOAL", hide_env = true)]
    query: Option<String>,
    /// Print so many answers, or facts, at most
    #[arg(long, env = "SYNOD_LIMIT", value_name = "N", hide_env = true)]
    limit: Option<u64>,
    /// Give what an agent handled to this program, and show what would have been another
    #[arg(long, value_name = "PROGRAM", env = "SYNOD_REPLAY_AGENT", hide_env = true,
          conflicts_with_all = ["query", "limit"])]
    agent: Option<PathBuf>,
    /// The agent in the log whose program it is [default: the program's file name, or the only agent]
    #[arg(long, value_name = "NAME", env = "SYNOD_REPLAY_AS", hide_env = true, requires = "agent")]
    name: Option<String>,
    /// From this index on
    #[arg(long, value_name = "INDEX", env = "SYNOD_FROM", hide_env = true, requires = "agent")]
    from: Option<u64>,
    /// As fast as it goes, or with the pauses that there were
    #[arg(
        long,
        value_enum,
        default_value = "instant",
        env = "SYNOD_PACE",
        hide_env = true,
        requires = "agent"
    )]
    pace: agent::Pace,
    /// Show all runs, not only those that differ
    #[arg(long, requires = "agent", env = "SYNOD_ALL", hide_env = true,
          value_parser = units::switch())]
    all: bool,
    /// How long the goal, or a handler, may take [default: as long as it does]
    #[arg(long, env = "SYNOD_MAX_TIME", value_name = "TIME", value_parser = units::milliseconds,
          hide_env = true)]
    max_time: Option<u64>,
}

impl Replay {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        if self.file.is_some() && self.space.space.is_some() {
            return Err(Failure::error("say either a file or --space, not both"));
        }
        match self.agent.clone() {
            Some(program) => self.agent(&program, global).await,
            None => self.kb(global).await,
        }
    }
}
