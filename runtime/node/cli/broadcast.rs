//! `synod broadcast TERM`

use super::client::{CallError, Client};
use super::memory::Memory;
use super::space::SpaceArg;
use super::transact::{LabelArg, open_session};
use super::{Failure, Global, Verdict};
use clap::Args;
use synod::api::{BroadcastRequest, Outcome};

/// Put an event in a space's order: every agent of the space handles it, in the same order
#[derive(Debug, Args)]
pub(crate) struct Broadcast {
    /// The event, a Prolog term
    term: String,
    #[command(flatten)]
    space: SpaceArg,
    #[command(flatten)]
    label: LabelArg,
}

impl Broadcast {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut memory = Memory::of(&data, &self.space.find(&client).await?)?;
        let once = open_session(&client, &self.space, &self.label).await?;
        let (term, space) = (self.term, self.space.space);
        let request = BroadcastRequest { term, space, once: Some(once) };
        let outcome: Outcome = match client.post("/v1/broadcast", &request).await {
            Ok(outcome) => outcome,
            Err(CallError::Told(error)) => return Err(Failure::told_of_text(error, &request.term)),
            Err(error) => {
                return Err(error.of_proposal(&format!("{}-{}", once.session, once.seq)));
            }
        };
        match &outcome {
            Outcome::Committed { index } => memory.note(*index)?,
            Outcome::Refused { why } => return Err(Failure::error(format!("refused: {why}"))),
            Outcome::Unknown { id } => {
                return Err(Failure::unknown("the node could not tell", id));
            }
        }
        print(&mut global.out(), &outcome)?;
        Ok(Verdict::Yes)
    }
}

/// Prints an outcome.
pub(crate) fn print(out: &mut super::Out, outcome: &Outcome) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(outcome);
    }
    match outcome {
        Outcome::Committed { index } => out.line(format_args!("committed at index {index}")),
        Outcome::Refused { why } => out.line(format_args!("refused: {why}")),
        Outcome::Unknown { .. } => out.line("unknown"),
    }
}
