//! One goal of a toplevel: its answers as they are asked for.

use super::input::{Input, Line};
use super::keys::{Key, Keys};
use crate::cli::client::{CallError, Client, Events, encode};
use crate::cli::memory::Memory;
use crate::cli::{Failure, Out, Verdict};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use synod::api::{Answer, ErrorBody, GoalEvent, GoalRequest};
use synod_core::term::text::{self, Dialect};
use tokio::signal::unix::Signal;

/// Answers that the key `f` shows up to a multiple of.
const FIVE: u64 = 5;

const KEYS: &str = "\
;, space, n: next answer   a: all answers   f: next five   ., return: stop   h: help";

/// How a goal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Verdict(Verdict),
    /// It threw, or could not be read. It has been said.
    Error,
    /// Ctrl-C.
    Stopped,
}

/// A goal and what it is solved with.
pub(super) struct Goal<'a> {
    pub(super) client: &'a Client,
    pub(super) agent: &'a str,
    pub(super) goal: &'a str,
    pub(super) as_of: Option<u64>,
    pub(super) memory: &'a mut Memory,
    pub(super) out: &'a mut Out,
    pub(super) input: &'a mut Input,
    pub(super) interrupts: Option<&'a mut Signal>,
    pub(super) is_in_line: &'a AtomicBool,
    pub(super) ahead: &'a mut VecDeque<String>,
}

/// What is wanted behind an answer.
enum Wanted {
    More,
    Stop,
}

impl Goal<'_> {
    pub(super) async fn solve(mut self) -> Result<Said, Failure> {
        let name = name();
        let request = GoalRequest {
            goal: self.goal.to_owned(),
            agent: Some(self.agent.to_owned()),
            space: None,
            limit: None,
            min_index: if self.as_of.is_some() { 0 } else { self.memory.index() },
            as_of: self.as_of,
            once: None,
            step: Some(name.clone()),
        };
        // Signals from before the goal are about nothing.
        if let Some(interrupts) = &mut self.interrupts {
            let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
            while interrupts.poll_recv(&mut nothing).is_ready() {}
        }
        let asked = self.client.post_events("/v1/query", &request);
        let Some(asked) = interruptible(&mut self.interrupts, asked).await else {
            return self.stopped();
        };
        let events: Events<GoalEvent> = match asked {
            Ok(events) => events,
            Err(CallError::Told(error)) => return self.error(error, 0),
            Err(error) => return Err(error.into()),
        };
        self.answers(events, &name).await
    }

    async fn answers(
        &mut self,
        mut events: Events<GoalEvent>,
        name: &str,
    ) -> Result<Said, Failure> {
        let (mut count, mut wants_to) = (0, 0);
        // The answer that is shown when it is known what comes behind it.
        let mut held: Option<Answer> = None;
        loop {
            // Dropping the stream, by leaving, ends the goal.
            let next = interruptible(&mut self.interrupts, events.next()).await;
            let Some(next) = next else { return self.stopped() };
            match next? {
                Some(GoalEvent::Answer(answer)) => held = Some(answer),
                Some(GoalEvent::More) => {
                    let wanted = match held.take() {
                        Some(answer) => {
                            count += 1;
                            self.wanted(&answer, count, &mut wants_to).await?
                        }
                        None => Wanted::More,
                    };
                    if let Wanted::Stop = wanted {
                        return Ok(Said::Verdict(Verdict::Yes));
                    }
                    let path = format!("/v1/goals/{}/more", encode(name));
                    let _: Value = self.client.post(&path, &Value::Null).await?;
                }
                Some(GoalEvent::Output { text }) => {
                    if let Some(answer) = held.take() {
                        count += 1;
                        self.answer(&answer, count, "\n")?;
                    }
                    self.output(&text)?;
                }
                Some(GoalEvent::End { succeeded, index, .. }) => {
                    match held.take() {
                        Some(answer) => self.answer(&answer, count + 1, ".\n")?,
                        None => self.no_answer(succeeded, count)?,
                    }
                    if self.as_of.is_none() {
                        self.memory.note(index)?;
                    }
                    let verdict = if succeeded { Verdict::Yes } else { Verdict::No };
                    return Ok(Said::Verdict(verdict));
                }
                Some(GoalEvent::Error(error)) => {
                    if let Some(answer) = held.take() {
                        count += 1;
                        self.answer(&answer, count, "\n")?;
                    }
                    return self.error(error, count);
                }
                None => {
                    let why = "the node went away before the last answer".to_owned();
                    return Err(CallError::Lost(why).into());
                }
            }
        }
    }

    fn is_terminal(&self) -> bool {
        self.interrupts.is_some()
    }

    fn output(&mut self, text: &str) -> Result<(), Failure> {
        if self.out.is_json() {
            eprint!("{text}");
            return Ok(());
        }
        self.out.text(text)
    }

    /// Shows an answer, of which this is the so manieth, and what ends it on a terminal.
    fn answer(&mut self, answer: &Answer, count: u64, end: &str) -> Result<(), Failure> {
        if self.out.is_json() {
            return self.out.json(answer);
        }
        if !self.is_terminal() {
            return self.out.line(format_args!("{}.", answer.text));
        }
        self.out.begin_line()?;
        self.out.text(&format!("{}{}{end}", lead(count - 1), answer.text))
    }

    /// There is no further answer.
    fn no_answer(&mut self, succeeded: bool, count: u64) -> Result<(), Failure> {
        if self.is_terminal() {
            return self.out.line(format_args!("{}false.", lead(count)));
        }
        if succeeded || self.out.is_json() { Ok(()) } else { self.out.line("false.") }
    }

    /// Shows an answer that may not be the last, and asks what is wanted.
    async fn wanted(
        &mut self,
        answer: &Answer,
        count: u64,
        wants_to: &mut u64,
    ) -> Result<Wanted, Failure> {
        if !self.is_terminal() {
            self.answer(answer, count, "")?;
            return Ok(match self.input.read("").await {
                Line::Text(line) if line == ";" || line == " " => Wanted::More,
                Line::Text(line) if line.trim().is_empty() || line == "." => Wanted::Stop,
                Line::Text(line) => {
                    self.ahead.push_back(line);
                    Wanted::Stop
                }
                Line::Bad(why) => return Err(Failure::error(why)),
                Line::End | Line::Interrupted => Wanted::Stop,
            });
        }
        if count < *wants_to {
            self.answer(answer, count, "\n")?;
            return Ok(Wanted::More);
        }
        let broken = |error: std::io::Error| Failure::error(format!("the terminal: {error}"));
        // Before the answer is seen: who presses a key behind it means it for this.
        let mut keys = Keys::begin().map_err(broken)?;
        self.is_in_line.store(true, Ordering::Relaxed);
        self.answer(answer, count, "")?;
        let wanted = loop {
            let pressed = tokio::task::spawn_blocking(move || (keys.next(), keys)).await;
            let (key, again) = pressed.map_err(|error| Failure::error(error.to_string()))?;
            keys = again;
            match key.map_err(broken)? {
                Key::Next => break Wanted::More,
                Key::Stop => break Wanted::Stop,
                Key::All => *wants_to = u64::MAX,
                Key::Five => *wants_to = (count / FIVE + 1) * FIVE,
                Key::Help => {
                    self.out.text(&format!("\n% {KEYS}\n"))?;
                    continue;
                }
            }
            break Wanted::More;
        };
        self.is_in_line.store(false, Ordering::Relaxed);
        self.out.begin_line()?;
        if let Wanted::Stop = wanted {
            self.out.line(";  ... .")?;
        }
        drop(keys);
        Ok(wanted)
    }

    /// Says what went wrong: as the toplevel does where one looks like it, else as a query does.
    fn error(&mut self, error: ErrorBody, count: u64) -> Result<Said, Failure> {
        self.is_in_line.store(false, Ordering::Relaxed);
        if self.is_terminal() {
            self.out.begin_line()?;
            if error.code == "threw" {
                let lead = lead(count);
                let ball = &error.message;
                let is_error = is_error(ball);
                let text = if is_error { ball.clone() } else { format!("throw({ball})") };
                self.out.line(format_args!("{lead}{text}."))?;
                return Ok(Said::Error);
            }
        }
        Failure::told_of_text(error, self.goal).tell();
        Ok(if self.is_terminal() { Said::Stopped } else { Said::Error })
    }

    fn stopped(&mut self) -> Result<Said, Failure> {
        self.is_in_line.store(false, Ordering::Relaxed);
        self.out.text("\n")?;
        self.out.line("% stopped")?;
        Ok(Said::Stopped)
    }
}

/// Awaits it, unless Ctrl-C comes first.
async fn interruptible<T>(
    interrupts: &mut Option<&mut Signal>,
    what: impl Future<Output = T>,
) -> Option<T> {
    match interrupts {
        None => Some(what.await),
        Some(interrupts) => tokio::select! {
            done = what => Some(done),
            _ = interrupts.recv() => None,
        },
    }
}

/// What stands before an answer, of which there have been so many.
fn lead(count: u64) -> &'static str {
    if count == 0 { "   " } else { ";  " }
}

/// Whether a ball is one of the standard's error terms, which the toplevel shows as they are.
fn is_error(ball: &str) -> bool {
    match text::read(ball, Dialect::Scryer) {
        Ok(term) => term.predicate() == Some(("error", 2)),
        // It holds operators of the program's own.
        Err(_) => ball.starts_with("error("),
    }
}

/// A name that no other goal has: this process, and the time.
fn name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_standard_are_told_from_other_balls() {
        assert!(is_error("error(type_error(evaluable,foo/0),(is)/2)"));
        assert!(is_error("error(a =>> b,c)"), "an operator that is not known here");
        assert!(!is_error("oops") && !is_error("error(x)"));
    }
}
