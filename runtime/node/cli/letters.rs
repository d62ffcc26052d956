//! `synod agent letters`

use super::client::{Client, encode};
use super::{Failure, Global, Out, Verdict, units};
use clap::Args;
use synod::api::{LetterInfo, LettersRequest, RetriedLetter};

/// Print what an agent could not handle, and why; hand it to the handler again, or drop it
///
/// An event that three engines have died on is put aside as a letter. Mend the program and take it
/// over (synod agent reload), then retry: the handler is called once more with what the letter is of.
/// The letter goes in the same step in which what the handler wrote is committed, so it is handled
/// once. If the handler fails, throws or kills its engine again, the letter stays. Exit 1 if any stays.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Letters {
    /// The agent
    name: String,
    /// Hand these letters to the handler again: positions as they are printed, or --all
    #[arg(long, env = "SYNOD_RETRY", value_name = "POSITION", num_args = 0.., hide_env = true,
          conflicts_with = "drop")]
    retry: Option<Vec<String>>,
    /// Drop these letters: positions as they are printed, or --all
    #[arg(long, env = "SYNOD_DROP", value_name = "POSITION", num_args = 0.., hide_env = true)]
    drop: Option<Vec<String>>,
    /// All letters that there are
    #[arg(long, env = "SYNOD_ALL", hide_env = true, value_parser = units::switch())]
    all: bool,
}

impl Letters {
    /// All of an agent's, to be printed.
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), retry: None, drop: None, all: false }
    }

    pub(crate) async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let Self { name, retry, drop, all } = self;
        let path = format!("/v1/agents/{}/letters", encode(&name));
        let mut out = global.out();
        match (retry, drop) {
            (Some(positions), _) => {
                let which = which("--retry", &name, positions, all)?;
                match client.post(&format!("{path}/retry"), &which).await {
                    Ok(retried) => tell_retried(&mut out, retried),
                    Err(error) => error.or_no(),
                }
            }
            (None, Some(positions)) => {
                let which = which("--drop", &name, positions, all)?;
                match client.post(&format!("{path}/drop"), &which).await {
                    Ok(dropped) => print(&mut out, dropped, |letter| {
                        format!("{}  {}  dropped", letter.position, letter.event)
                    }),
                    Err(error) => error.or_no(),
                }
            }
            (None, None) if all => Err(Failure::error(format!(
                "--all of what? synod agent letters {name} --retry --all"
            ))),
            (None, None) => match client.get(&path).await {
                Ok(letters) => print(&mut out, letters, |letter| {
                    format!("{}  {}  {}", letter.position, letter.event, letter.reason)
                }),
                Err(error) => error.or_no(),
            },
        }
    }
}

fn which(
    flag: &str,
    name: &str,
    positions: Vec<String>,
    all: bool,
) -> Result<LettersRequest, Failure> {
    if all != positions.is_empty() {
        let text =
            format!("{flag} takes positions, as synod agent letters {name} prints them, or --all");
        return Err(Failure::error(text));
    }
    Ok(LettersRequest { positions, all })
}

fn print(
    out: &mut Out,
    letters: Vec<LetterInfo>,
    line: impl Fn(&LetterInfo) -> String,
) -> Result<Verdict, Failure> {
    for letter in &letters {
        if out.is_json() {
            out.json(letter)?;
        } else {
            out.line(line(letter))?;
        }
    }
    Ok(Verdict::Yes)
}

fn tell_retried(out: &mut Out, retried: Vec<RetriedLetter>) -> Result<Verdict, Failure> {
    for letter in &retried {
        if out.is_json() {
            out.json(letter)?;
            continue;
        }
        let RetriedLetter { position, event, outcome, why } = letter;
        match why {
            None => out.line(format_args!("{position}  {event}  {outcome}"))?,
            Some(why) => out.line(format_args!("{position}  {event}  {outcome}: {why}"))?,
        }
    }
    let all_handled = retried.iter().all(|letter| letter.why.is_none());
    Ok(if all_handled { Verdict::Yes } else { Verdict::No })
}
