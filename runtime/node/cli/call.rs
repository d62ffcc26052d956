//! `synod call AGENT GOAL`

use super::answers;
use super::client::{CallError, Client};
use super::{Failure, Global, Verdict};
use crate::cli::say::say;
use clap::Args;
use synod::api::GoalRequest;

/// Print the answers of a goal, solved by an agent on the node where it runs, whichever that is
#[derive(Debug, Args)]
#[command(
    after_help = "Answers come one by one; Ctrl-C ends the goal there. Only nodes that share a \
                        space with this one answer. Exit 1 if there is no answer, or no such agent."
)]
pub(crate) struct Call {
    /// The agent; NAME@NODE for that of one node
    agent: String,
    /// The goal, as at Prolog's toplevel
    goal: String,
    /// The space that the agent is in
    #[arg(long, env = "SYNOD_SPACE", value_name = "NAME", hide_env = true)]
    space: Option<String>,
    /// Print so many answers at most
    #[arg(long, env = "SYNOD_LIMIT", value_name = "N", hide_env = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Call {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        let request = GoalRequest {
            goal: self.goal,
            agent: Some(self.agent),
            space: self.space,
            limit: self.limit,
            min_index: 0,
            as_of: None,
            once: None,
            step: None,
        };
        let events = client.post_events("/v1/call", &request).await;
        if let Err(CallError::Told(error)) = &events
            && error.code == "not_found"
        {
            say(format_args!("synod: {}", error.message));
            return Ok(Verdict::No);
        }
        let ended = answers::print_all(global, &request.goal, events).await?;
        Ok(ended.verdict)
    }
}
