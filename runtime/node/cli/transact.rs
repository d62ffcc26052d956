//! `synod transact GOAL`

use super::answers::{self, Broken};
use super::client::{CallError, Client};
use super::memory::Memory;
use super::space::SpaceArg;
use super::{Failure, Global, Verdict};
use crate::cli::say::say;
use clap::Args;
use synod::api::{GoalRequest, Once, SessionOpened, SessionRequest};

/// The only proposal of a session that a verb opens for itself.
pub(crate) const ONLY: u64 = 1;

/// Who an event or a transaction is from.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabelArg {
    /// Whom its events are from
    #[arg(
        long = "as",
        env = "SYNOD_AS",
        value_name = "NAME",
        default_value = "cli",
        hide_env = true
    )]
    pub(crate) label: String,
}

/// Opens a session, so that what is proposed happens once and can be asked for.
pub(crate) async fn open_session(
    client: &Client,
    space: &SpaceArg,
    label: &LabelArg,
) -> Result<Once, Failure> {
    let request = SessionRequest { label: label.label.clone(), space: space.space.clone() };
    let opened = client.post("/v1/session", &request).await;
    let SessionOpened { session } = opened.map_err(|error| match error {
        CallError::Lost(why) => {
            Failure::error(format!("{why}; nothing was written: send it again"))
        }
        told => told.into(),
    })?;
    Ok(Once { session, seq: ONLY, acked: 0 })
}

/// Run a goal once, as one transaction: all that it writes, or nothing
#[derive(Debug, Args)]
#[command(after_help = "Prints the goal's answer, as query does. If it fails, it has written \
                        nothing and the exit status is 1.")]
pub(crate) struct Transact {
    /// The goal, as at Prolog's toplevel
    goal: String,
    /// The agent whose program it is a goal of [default: the only one]
    #[arg(long, env = "SYNOD_AGENT", value_name = "NAME", hide_env = true)]
    agent: Option<String>,
    #[command(flatten)]
    space: SpaceArg,
    #[command(flatten)]
    label: LabelArg,
}

impl Transact {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut memory = Memory::of(&data, &self.space.find(&client).await?)?;
        let once = open_session(&client, &self.space, &self.label).await?;
        let request = GoalRequest {
            goal: self.goal,
            agent: self.agent,
            space: self.space.space,
            limit: None,
            min_index: memory.index(),
            as_of: None,
            once: Some(once),
            step: None,
        };
        let events = client.post_events("/v1/transact", &request).await;
        if let Err(CallError::Told(error)) = &events
            && request.agent.is_some()
            && error.code == "not_found"
        {
            say(format_args!("synod: {}", error.message));
            return Ok(Verdict::No);
        }
        let ended = answers::print(&mut global.out(), &request.goal, events).await;
        let ended = ended.map_err(|broken| match broken {
            Broken::Failure(failure) => failure,
            Broken::Call(error) => error.of_proposal(&format!("{}-{}", once.session, once.seq)),
        })?;
        if global.is_verbose() && ended.verdict == Verdict::Yes {
            say(format_args!("synod: committed at index {}", ended.index));
        }
        memory.note(ended.index)?;
        Ok(ended.verdict)
    }
}
