//! `synod space recover`

use super::client::{Client, encode};
use super::say::say;
use super::{Failure, Global, Verdict};
use clap::Args;
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};
use synod::api::{Members, RecoverSpace, recovery_words};

/// What to recover.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The space
    name: String,
    /// That it is understood what is lost: the words that this verb asks for on a terminal
    #[arg(long, env = "SYNOD_UNDERSTOOD", value_name = "WORDS", hide_env = true)]
    understood: Option<String>,
}

impl Recover {
    pub(crate) async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let Self { name, understood } = self;
        let understood = match understood {
            Some(words) => words,
            None => ask(&name, client).await?,
        };
        let path = format!("/v1/spaces/{}/recover", encode(&name));
        let members: Members = client.post(&path, &RecoverSpace { understood }).await?;
        super::spaces::show(&members, global)
    }
}

/// Says what is about to be lost, and has somebody type that it may.
async fn ask(name: &str, client: &Client) -> Result<String, Failure> {
    let words = recovery_words(name);
    if !stdin().is_terminal() || !stderr().is_terminal() {
        let why = format!(
            "{name} is not recovered unless somebody understands what is lost: add --understood \"{words}\""
        );
        return Err(Failure::error(why));
    }
    let path = format!("/v1/spaces/members?space={}", encode(name));
    let members: Members = client.get(&path).await?;
    let others = members.members.iter().filter(|member| !member.is_here);
    let others: Vec<_> = others.map(|member| member.node.as_str()).collect();
    say(format_args!(
        "{name} goes on with this node alone, from index {} on. {} will be members no longer, and what they \
         have acknowledged and this node has not is lost.",
        members.index,
        if others.is_empty() { "No others".to_owned() } else { others.join(", ") },
    ));
    let mut stderr = stderr();
    let _ = write!(stderr, "Type `{words}`: ").and_then(|()| stderr.flush());
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| Failure::error(format!("stdin: {e}")))?;
    if line.trim() == words {
        return Ok(words);
    }
    Err(Failure::error(format!("those are other words: {name} is as it was")))
}
