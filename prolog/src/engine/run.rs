//! What a run wrote and wants done, from its start to its commit.

use super::errors::{self, Ball};
use super::facts::Facts;
use super::link::Link;
use crate::frame::{Effect, FromEngine, Outcome, Run, ToEngine};
use std::time::{Duration, Instant};
use synod_core::cbor::Writer;
use synod_core::term::Term;
use synod_core::transaction::Savepoint;

/// How long conflicts are answered by another run.
pub(super) const RERUN_FOR: Duration = Duration::from_secs(5);
/// The first pause before another run; it doubles, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Effects of one run, at most.
pub(super) const MAX_EFFECTS: usize = 100_000;

/// What is allowed at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The program is being loaded: no writes, every engine loads it.
    Loading,
    /// A handler of a batch runs.
    Handler,
    /// `on(engine)` runs: no writes, every engine runs it.
    Engine,
    /// A goal runs in a side engine, outside of any transaction.
    Goal,
    /// A transaction of its own runs.
    Transaction,
}

/// A point in a run to which it can be taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    savepoint: Savepoint,
    effects: usize,
}

/// Effects and marks of what runs.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) phase: Phase,
    pub(super) effects: Vec<Effect>,
    marks: Vec<Mark>,
    proposal: u64,
    pub(super) retry: Retry,
}

/// How often, and since when, a run has met conflicts.
#[derive(Debug, Default)]
pub(super) struct Retry {
    since: Option<Instant>,
    pause: Duration,
}

/// What became of a proposal.
#[derive(Debug)]
pub(super) enum Verdict {
    Committed,
    /// To be run again. After [`RERUN_FOR`], what changed.
    Again,
    TooLong(Vec<String>),
    /// Nobody knows: `unknown(Id)`.
    Unknown(Ball),
    Threw(Ball),
}

impl RunState {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Loading,
            effects: Vec::new(),
            marks: Vec::new(),
            proposal: 0,
            retry: Retry::default(),
        }
    }

    /// Nothing done, nothing marked.
    pub(super) fn clear(&mut self) {
        self.effects.clear();
        self.marks.clear();
    }

    /// Adds an effect.
    pub(super) fn effect(&mut self, effect: Effect) -> Result<(), Ball> {
        if self.effects.len() >= MAX_EFFECTS {
            return Err(errors::resource("effects"));
        }
        self.effects.push(effect);
        Ok(())
    }

    /// A point to go back to, without a number.
    pub(super) fn mark(&self, facts: &Facts) -> Mark {
        Mark { savepoint: facts.savepoint(), effects: self.effects.len() }
    }

    /// Takes back what was done since, but for what was printed and logged.
    pub(super) fn back_to(&mut self, facts: &mut Facts, mark: Mark) {
        facts.rollback(mark.savepoint);
        let since = self.effects.split_off(mark.effects.min(self.effects.len()));
        let is_kept = |e: &Effect| matches!(e, Effect::Output { .. } | Effect::Log { .. });
        self.effects.extend(since.into_iter().filter(is_kept));
    }

    /// A transaction inside another begins.
    pub(super) fn nest(&mut self, facts: &Facts) -> usize {
        self.marks.push(self.mark(facts));
        self.marks.len()
    }

    /// It ended well.
    pub(super) fn keep(&mut self, number: usize) {
        self.marks.truncate(number.saturating_sub(1));
    }

    /// It did not.
    pub(super) fn roll_back(&mut self, facts: &mut Facts, number: usize) {
        if let Some(mark) = self.marks.get(number.saturating_sub(1)).copied() {
            self.keep(number);
            self.back_to(facts, mark);
        }
    }

    /// Proposes what was done and follows what came of it.
    pub(super) fn propose(&mut self, facts: &mut Facts, link: &mut Link, run: Run) -> Verdict {
        self.proposal += 1;
        let mut draft = Writer::new();
        facts.finish().write(&mut draft);
        let effects = std::mem::take(&mut self.effects);
        let proposal = self.proposal;
        link.send(&FromEngine::Propose { proposal, run, draft: draft.into_vec(), effects });
        let (outcome, changes) = match link.receive() {
            ToEngine::Outcome { proposal: of, outcome, changes } if of == proposal => {
                (outcome, changes)
            }
            other => unexpected("an outcome", &other),
        };
        facts.settle();
        facts.follow(&changes);
        match outcome {
            Outcome::Committed { .. } => {
                self.retry = Retry::default();
                Verdict::Committed
            }
            Outcome::Conflict { keys } => self.retry.after_conflict(keys),
            Outcome::Refused { error } => {
                self.retry = Retry::default();
                Verdict::Threw(Term::decode(&error).unwrap_or_else(|_| errors::system("refused")))
            }
            Outcome::Unknown { id } => {
                self.retry = Retry::default();
                let id = Term::string(id);
                Verdict::Unknown(errors::error(Term::structure("unknown", [id])))
            }
            Outcome::Superseded => super::exit::quietly(),
        }
    }
}

impl Retry {
    fn after_conflict(&mut self, keys: Vec<String>) -> Verdict {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= RERUN_FOR {
            *self = Self::default();
            return Verdict::TooLong(keys);
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        // Nothing to wait for but the other writers' going on.
        std::thread::sleep(self.pause);
        Verdict::Again
    }
}

/// `conflict(Keys)`, the keys as they read for people.
pub(super) fn conflict(keys: Vec<String>) -> Ball {
    let keys = keys.into_iter().map(Term::string).collect();
    errors::error(Term::structure("conflict", [Term::list(keys)]))
}

/// A frame that does not answer what was asked ends the engine.
pub(super) fn unexpected(wanted: &str, frame: &ToEngine) -> ! {
    super::exit::now(super::exit::SETUP, &format!("expected {wanted}, got {frame:?}"))
}
