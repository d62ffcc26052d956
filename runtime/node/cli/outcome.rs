//! `synod outcome ID`

use super::client::{Client, encode};
use super::space::SpaceArg;
use super::{Failure, Global, Verdict, broadcast, units};
use clap::Args;

/// Ask how a transaction ended whose outcome was unknown
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if it was committed, 1 if it was refused or is not known.")]
pub(crate) struct Outcome {
    /// Its id, as the command that proposed it printed it
    #[arg(value_parser = units::id)]
    id: String,
    #[command(flatten)]
    space: SpaceArg,
}

impl Outcome {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        let path = format!("/v1/outcome/{}{}", encode(&self.id), self.space.as_query());
        let outcome: synod::api::Outcome = match client.get(&path).await {
            Ok(outcome) => outcome,
            Err(error) => return error.or_no(),
        };
        broadcast::print(&mut global.out(), &outcome)?;
        let is_committed = matches!(outcome, synod::api::Outcome::Committed { .. });
        Ok(if is_committed { Verdict::Yes } else { Verdict::No })
    }
}
