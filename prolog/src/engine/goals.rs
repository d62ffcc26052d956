//! A side engine's main loop, from the host's side: goals and their answers.

use super::errors::{self, Ball};
use super::exit;
use super::host::{Answer, Host, chars};
use super::link::Link;
use super::run::{Phase, unexpected};
use crate::frame::{self, Binding, End, FromEngine, GoalKind, GoalText, Problem, ToEngine};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use synod_core::term::Term;

/// The goal that runs.
#[derive(Debug, Default)]
pub(super) struct Goals {
    id: u64,
    is_running: bool,
    chunk: u32,
    /// Answers of the chunk so far.
    given: u32,
    problems: Vec<Problem>,
    /// How the goal ended, once that is known; until then it ends with no (further) answer.
    end: Option<End>,
    /// Holds the goal's text, for the machine to read.
    text: Option<File>,
    bytes: u64,
}

impl Goals {
    /// The goal's program said `halt`: says so of the goal that runs, if one does.
    pub(super) fn halted(&mut self, link: &mut Link, status: i64) -> bool {
        if !self.is_running {
            return false;
        }
        let end = End::Halted { status };
        let (id, answers) = (self.id, Vec::new());
        link.send(&FromEngine::Answers { id, answers, end, output: Vec::new(), at: 0 });
        true
    }

    /// Something is wrong with the goal's text.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The goal's text, to say lines and columns in.
    pub(super) fn text(&self) -> Option<&File> {
        self.text.as_ref()
    }
}

impl Host {
    /// The next goal to solve: `goal(Kind, File)` or `call(Term)`.
    pub(super) fn next_goal(&mut self) -> Result<Answer, Ball> {
        self.watch.rest();
        self.run.phase = Phase::Goal;
        loop {
            let (id, goal, kind, chunk, at_least) = match self.link.receive() {
                ToEngine::Goal { id, goal, kind, chunk, at_least } => {
                    (id, goal, kind, chunk, at_least)
                }
                // For a goal that has ended meanwhile.
                ToEngine::Stop { .. } | ToEngine::More { .. } => continue,
                other => unexpected("a goal", &other),
            };
            self.watch.begin();
            self.goals.id = id;
            self.goals.is_running = true;
            self.goals.chunk = chunk.max(1);
            self.goals.given = 0;
            self.goals.end = None;
            self.goals.problems.clear();
            self.run.clear();
            if self.facts.replica.version() < at_least {
                self.pull(at_least);
            }
            self.facts.begin();
            let term = match goal {
                GoalText::Text { text } => self.goal_text(&text, kind)?,
                GoalText::Term { term } => match Term::decode(&term) {
                    Ok(term) => Term::structure("call", [term]),
                    Err(error) => {
                        let text = format!("the goal is no term: {error}");
                        self.goals.end = Some(End::Error { text, term: None });
                        self.end_goal();
                        continue;
                    }
                },
            };
            return Ok(Answer::Term(term));
        }
    }

    fn goal_text(&mut self, text: &str, kind: GoalKind) -> Result<Term, Ball> {
        let file = text_file(text).map_err(|error| errors::system(error.to_string()))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.goals.bytes = text.len() as u64;
        self.goals.text = Some(file);
        let kind = match kind {
            GoalKind::Query => "query",
            GoalKind::Transact => "transact",
            GoalKind::Call => "call",
        };
        Ok(Term::structure("goal", [Term::atom(kind), Term::string(path)]))
    }

    /// The machine has read the goal up to this offset: nothing but a full stop may follow.
    pub(super) fn read_to(&mut self, to: &Term) -> Result<Answer, Ball> {
        let to = super::host::number(to)?;
        // What stands behind the text is the full stop that was added to it.
        if to >= self.goals.bytes {
            return Ok(Answer::Term(Term::atom("true")));
        }
        let rest = self.goals.text.as_ref().map(|file| super::loading::text_behind(file, to));
        let rest = rest.unwrap_or_default();
        let is_over = rest.lines().all(|line| {
            let line = line.split('%').next().unwrap_or_default().trim();
            line.is_empty() || line == "."
        });
        if !is_over {
            self.problem_at(to, "text after the end of the goal".into());
        }
        Ok(Answer::Term(Term::atom(if is_over { "true" } else { "false" })))
    }

    /// One answer; the machine is told whether to go on.
    pub(super) fn answered(
        &mut self,
        is_open: bool,
        text: &Term,
        bindings: &Term,
        residuals: &Term,
    ) -> Result<Answer, Ball> {
        let bindings = list(bindings).iter().map(binding).collect();
        let residuals = list(residuals).iter().map(chars).collect();
        let answer = frame::Answer { text: chars(text), bindings, residuals, term: None };
        self.give(is_open, answer)
    }

    /// One answer for another agent.
    pub(super) fn answered_term(&mut self, is_open: bool, term: &Term) -> Result<Answer, Ball> {
        let term = Some(term.encode().map_err(errors::unencodable)?);
        let (text, bindings, residuals) = (String::new(), Vec::new(), Vec::new());
        self.give(is_open, frame::Answer { text, bindings, residuals, term })
    }

    /// The goal threw.
    pub(super) fn goal_threw(&mut self, text: &Term, ball: Option<&Term>) -> Result<Answer, Ball> {
        let term = ball.and_then(|ball| ball.encode().ok());
        self.goals.end = Some(End::Error { text: chars(text), term });
        Ok(Answer::Done)
    }

    /// The goal has ended, with an answer or without.
    pub(super) fn goal_ended(&mut self) -> Result<Answer, Ball> {
        if self.goals.is_running {
            self.end_goal();
        }
        Ok(Answer::Done)
    }

    fn give(&mut self, is_open: bool, answer: frame::Answer) -> Result<Answer, Ball> {
        self.goals.given += 1;
        let is_full = self.goals.given >= self.goals.chunk;
        let end = match (is_open, is_full) {
            (false, _) => End::Done,
            (true, false) => End::Running,
            (true, true) => End::More,
        };
        self.send_answers(vec![answer], end);
        let mut goes_on = is_open;
        if !is_open {
            self.goals.is_running = false;
        } else if is_full {
            goes_on = self.wait_for_more();
        }
        Ok(Answer::Term(Term::atom(if goes_on { "true" } else { "false" })))
    }

    fn wait_for_more(&mut self) -> bool {
        self.watch.rest();
        loop {
            match self.link.receive() {
                ToEngine::More { id } if id == self.goals.id => {
                    self.goals.given = 0;
                    self.watch.begin();
                    return true;
                }
                ToEngine::Stop { id } if id == self.goals.id => {
                    self.goals.is_running = false;
                    self.watch.begin();
                    return false;
                }
                ToEngine::More { .. } | ToEngine::Stop { .. } => {}
                other => unexpected("more or stop", &other),
            }
        }
    }

    fn end_goal(&mut self) {
        let problems = std::mem::take(&mut self.goals.problems);
        let end = match self.goals.end.take() {
            Some(end) => end,
            None if !problems.is_empty() => End::Syntax { problems },
            None => End::False,
        };
        self.send_answers(Vec::new(), end);
        self.goals.is_running = false;
    }

    fn send_answers(&mut self, answers: Vec<frame::Answer>, end: End) {
        let output = self.output.drain();
        let (id, at) = (self.goals.id, self.facts.replica.version());
        self.link.send(&FromEngine::Answers { id, answers, end, output, at });
    }
}

/// A memory file with the text and a full stop behind it.
fn text_file(text: &str) -> io::Result<File> {
    let fd = rustix::fs::memfd_create("synod-goal", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n.\n")?;
    Ok(file)
}

fn list(term: &Term) -> &[Term] {
    match term {
        Term::List(items) => items,
        _ => &[],
    }
}

/// `b(Name, Text, t(Value))`, or `cyclic` in place of the value.
fn binding(term: &Term) -> Binding {
    let Term::Compound(_, args) = term else {
        exit::now(exit::SETUP, "a binding is no binding");
    };
    match args.as_slice() {
        [name, text, value] => Binding {
            name: chars(name),
            text: chars(text),
            term: match value {
                Term::Compound(_, value) => value.first().and_then(|value| value.encode().ok()),
                _ => None,
            },
        },
        _ => exit::now(exit::SETUP, "a binding is no binding"),
    }
}
