//! `synod facts PATTERN`

use super::client::{CallError, Client};
use super::memory::Memory;
use super::say::say;
use super::space::SpaceArg;
use super::{Failure, Global, Verdict};
use clap::Args;
use synod::api::{Facts as Found, FactsRequest};

/// Print the facts of a space that match a pattern: no agent is asked, and no program needed
#[derive(Debug, Args)]
#[command(
    after_help = "Prints a fact a line, as a clause, and exits 0; exits 1 if none matches. What was \
                        acknowledged anywhere before is among what it reads, unless --local says \
                        that this node's own facts will do."
)]
pub(crate) struct Facts {
    /// A call of a replicated predicate
    pattern: String,
    #[command(flatten)]
    space: SpaceArg,
    /// Print so many at most
    #[arg(long, env = "SYNOD_LIMIT", value_name = "N", hide_env = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Read what this node has, also where it reaches no quorum
    #[arg(long, env = "SYNOD_LOCAL", hide_env = true, value_parser = super::units::switch())]
    local: bool,
}

impl Facts {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut memory = Memory::of(&data, &self.space.find(&client).await?)?;
        let request = FactsRequest {
            pattern: self.pattern,
            space: self.space.space,
            limit: self.limit,
            // What this node has, be that less than was seen before.
            min_index: if self.local { 0 } else { memory.index() },
            local: self.local,
        };
        let found: Found = match client.post("/v1/facts", &request).await {
            Ok(found) => found,
            Err(CallError::Told(error)) => {
                return Err(Failure::told_of_text(error, &request.pattern));
            }
            Err(error) => return Err(error.into()),
        };
        memory.note(found.index)?;
        let mut out = global.out();
        for fact in &found.facts {
            match out.is_json() {
                true => out.json(fact)?,
                false => out.line(format_args!("{}.", fact.text))?,
            }
        }
        if !found.is_known {
            say(format_args!("synod: no fact of this predicate was ever written in the space"));
        }
        if let Some(stale) = found.stale_ms {
            say(format_args!(
                "synod: this is what the node knew {:.1} s ago: others may have written since",
                stale as f64 / 1e3
            ));
        }
        if found.more && request.limit.is_none() {
            let count = found.facts.len();
            say(format_args!("synod: there are more than these {count}: `synod query` gives all"));
        }
        Ok(if found.facts.is_empty() { Verdict::No } else { Verdict::Yes })
    }
}
