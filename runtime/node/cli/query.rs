//! `synod query GOAL`

use super::answers;
use super::client::{CallError, Client, encode};
use super::memory::Memory;
use super::space::SpaceArg;
use super::{Failure, Global, Verdict};
use crate::cli::say::say;
use clap::Args;
use synod::api::{GoalRequest, LogPlace};
use synod::past::At;
use synod::rfc3339;

/// Print the answers of a goal, solved in an agent's program on the facts of its space
#[derive(Debug, Args)]
#[command(after_help = "Prints X = 1. for each answer, true. if nothing is bound, and exits 0; \
                        prints false. and exits 1 if there is none. With --as-of, a time means the \
                        last command not after it; before the first there are no facts.")]
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
    /// On the facts as of this index, or this time as in 2025-01-31T09:30:00Z (RFC 3339)
    #[arg(long, env = "SYNOD_AS_OF", value_name = "INDEX|TIME", hide_env = true)]
    as_of: Option<At>,
}

impl Query {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut memory = Memory::of(&data, &self.space.find(&client).await?)?;
        let as_of = match self.as_of {
            Some(At::Index(index)) => Some(index),
            Some(At::Time(time)) => Some(index_of(&client, &self.space, time).await?),
            None => None,
        };
        let request = GoalRequest {
            goal: self.goal,
            agent: self.agent,
            space: self.space.space,
            limit: self.limit,
            min_index: if as_of.is_some() { 0 } else { memory.index() },
            as_of,
            once: None,
            step: None,
        };
        let events = client.post_events("/v1/query", &request).await;
        if let Err(CallError::Told(error)) = &events
            && request.agent.is_some()
            && as_of.is_none()
            && error.code == "not_found"
        {
            say(format_args!("synod: {}", error.message));
            return Ok(Verdict::No);
        }
        let ended = answers::print_all(global, &request.goal, events).await?;
        if as_of.is_none() {
            memory.note(ended.index)?;
        }
        Ok(ended.verdict)
    }
}

/// The index of the last command that is not after a time; 0 if the first one is.
async fn index_of(client: &Client, space: &SpaceArg, time: u64) -> Result<u64, Failure> {
    let at = encode(&rfc3339::format(time));
    let path = match space.as_query().as_str() {
        "" => format!("/v1/log/place?at={at}"),
        query => format!("/v1/log/place{query}&at={at}"),
    };
    let LogPlace { index, .. } = client.get(&path).await?;
    Ok(index)
}
