//! `synod query GOAL`

use super::answers::{self, Broken};
use super::client::Client;
use super::memory::Memory;
use super::space::SpaceArg;
use super::{Failure, Global, Verdict};
use crate::cli::say::say;
use clap::Args;
use synod::api::GoalRequest;

/// Print the answers of a goal, solved in an agent's program on the facts of its space
#[derive(Debug, Args)]
#[command(after_help = "Prints X = 1. for each answer, true. if nothing is bound, and exits 0; \
                        prints false. and exits 1 if there is none.")]
pub(crate) struct Query {
    /// The goal, as at Prolog's toplevel
    goal: String,
    /// The agent in whose program it is solved [default: the only one]
    #[arg(long, env = "SYNOD_AGENT", value_name = "NAME", hide_env = true)]
    agent: Option<String>,
    #[command(flatten)]
    space: SpaceArg,
    /// Print so many answers at most
    #[arg(long, env = "SYNOD_LIMIT", value_name = "N", hide_env = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Query {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut memory = Memory::of(&data, &self.space.find(&client).await?)?;
        let request = GoalRequest {
            goal: self.goal,
            agent: self.agent,
            space: self.space.space,
            limit: self.limit,
            min_index: memory.index(),
            once: None,
        };
        let events = client.post_events("/v1/query", &request).await;
        let ended = answers::print(&mut global.out(), &request.goal, events).await;
        let ended = ended.map_err(|broken| match broken {
            Broken::Failure(failure) => failure,
            Broken::Call(error) => error.into(),
        })?;
        if ended.more && global.is_verbose() {
            say(format_args!("synod: there may be more answers than --limit lets through"));
        }
        memory.note(ended.index)?;
        Ok(ended.verdict)
    }
}
