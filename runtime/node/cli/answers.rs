//! A goal's answers as they come: `X = 100.`, `true.`, `false.`, or one JSON object each.

use super::client::{CallError, Events};
use super::say::say;
use super::{Failure, Global, Out, Verdict};
use synod::api::GoalEvent;

/// How a goal ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// Whether a limit cut it short.
    pub(crate) more: bool,
    pub(crate) index: u64,
}

/// Why a goal did not end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It cannot be read, threw, or its engine ended; or stdout cannot be written.
    Failure(Failure),
    /// The connection died.
    Call(CallError),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Prints the answers of `goal`. What the goal prints goes to stdout too, but not between JSON.
pub(crate) async fn print(
    out: &mut Out,
    goal: &str,
    events: Result<Events<GoalEvent>, CallError>,
) -> Result<Ended, Broken> {
    let mut events = match events {
        Err(CallError::Told(error)) => return Err(Failure::told_of_text(error, goal).into()),
        events => events?,
    };
    while let Some(event) = events.next().await? {
        if let Some(ended) = show(out, goal, event)? {
            return Ok(ended);
        }
    }
    let why = "the node went away before the last answer".to_owned();
    Err(CallError::Lost(why).into())
}

/// The same, for a goal that changes nothing: how it broke off makes no difference. Says whether a limit
/// cut it short, if more is to be said.
pub(crate) async fn print_all(
    global: &Global,
    goal: &str,
    events: Result<Events<GoalEvent>, CallError>,
) -> Result<Ended, Failure> {
    let ended = print(&mut global.out(), goal, events).await.map_err(|broken| match broken {
        Broken::Failure(failure) => failure,
        Broken::Call(error) => error.into(),
    })?;
    if ended.more && global.is_verbose() {
        say(format_args!("synod: there may be more answers than --limit lets through"));
    }
    Ok(ended)
}

/// Prints what one event of a goal's tells; says how the goal ended, if it has.
pub(crate) fn show(out: &mut Out, goal: &str, event: GoalEvent) -> Result<Option<Ended>, Failure> {
    match event {
        GoalEvent::Answer(answer) if out.is_json() => out.json(&answer)?,
        GoalEvent::Answer(answer) => out.line(format_args!("{}.", answer.text))?,
        GoalEvent::Output { text } if out.is_json() => eprint!("{text}"),
        GoalEvent::Output { text } => out.text(&text)?,
        // Only of a goal that was asked to go on answer by answer.
        GoalEvent::More => {}
        GoalEvent::Error(error) => return Err(Failure::told_of_text(error, goal)),
        GoalEvent::End { succeeded, more, index, stale_ms } => {
            if let Some(stale) = stale_ms {
                let seconds = stale as f64 / 1000.0;
                say(format_args!(
                    "synod: no quorum of the space can be reached since {seconds:.1} s: this is what the \
                     node knows, up to index {index}"
                ));
            }
            if !succeeded && !out.is_json() {
                out.line("false.")?;
            }
            let verdict = if succeeded { Verdict::Yes } else { Verdict::No };
            return Ok(Some(Ended { verdict, more, index }));
        }
    }
    Ok(None)
}
