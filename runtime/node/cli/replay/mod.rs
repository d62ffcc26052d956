//! `synod replay`: what a log leads to, computed anew.

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
library(lists); it cannot write. Works on an export, or on a space with a node and without one.")]
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
    /// How long the goal may take [default: as long as it does]
    #[arg(long, env = "SYNOD_MAX_TIME", value_name = "TIME", value_parser = units::milliseconds,
          hide_env = true)]
    max_time: Option<u64>,
}

impl Replay {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        if self.file.is_some() && self.space.space.is_some() {
            return Err(Failure::error("say either a file or --space, not both"));
        }
        self.kb(global).await
    }
}
