//! Transactions and reads of other versions: what a goal outside of handlers may ask for.

use super::arguments::{chars, number};
use super::{Answer, Host};
use crate::engine::errors::{self, Ball};
use crate::engine::run::{Phase, Verdict, conflict, unexpected};
use crate::frame::{Ask, FromEngine, Run, ToEngine};
use std::path::PathBuf;
use synod_core::term::Term;

impl Host {
    pub(super) fn begin(&mut self, is_fresh: bool) -> Result<Answer, Ball> {
        match self.run.phase {
            Phase::Handler | Phase::Transaction | Phase::Engine => {
                let number = self.run.nest(&self.facts) as i64;
                Ok(Answer::Term(Term::structure("savepoint", [Term::Integer(number)])))
            }
            Phase::Loading => Err(errors::permission("begin", "transaction", Term::atom("load"))),
            Phase::Goal => {
                if self.facts.is_past() {
                    let culprit = Term::atom("as_of");
                    return Err(errors::permission("begin", "transaction", culprit));
                }
                if is_fresh {
                    self.catch_up()?;
                }
                self.facts.settle();
                self.facts.renew_view();
                self.run.clear();
                self.run.phase = Phase::Transaction;
                Ok(Answer::Term(Term::atom("top")))
            }
        }
    }

    pub(super) fn commit(&mut self) -> Result<Answer, Ball> {
        let yes = || Ok(Answer::Term(Term::atom("true")));
        if self.facts.is_read_only() {
            let effects = std::mem::take(&mut self.run.effects);
            if !effects.is_empty() {
                self.link.send(&FromEngine::Effects { run: Run::Own, effects });
            }
            self.end_transaction();
            return yes();
        }
        let verdict = self.run.propose(&mut self.facts, &mut self.link, Run::Own);
        match verdict {
            Verdict::Committed => {
                self.end_transaction();
                yes()
            }
            Verdict::Again => {
                self.facts.renew_view();
                self.run.clear();
                self.drop_output();
                Ok(Answer::Term(Term::atom("false")))
            }
            Verdict::TooLong(keys) => {
                self.end_transaction();
                Err(conflict(keys))
            }
            Verdict::Unknown(ball) | Verdict::Threw(ball) => {
                self.end_transaction();
                Err(ball)
            }
        }
    }

    pub(super) fn end_transaction(&mut self) {
        self.facts.renew_view();
        self.run.clear();
        self.run.phase = Phase::Goal;
    }

    /// What was printed by a run that did not commit.
    pub(in crate::engine) fn drop_output(&mut self) {
        self.output.drain();
    }

    /// Pulls until the replica is at a version, if it is not yet.
    pub(in crate::engine) fn pull(&mut self, at_least: u64) {
        self.facts.settle();
        loop {
            let since = self.facts.replica.version();
            self.link.send(&FromEngine::Pull { since });
            let changes = match self.link.receive() {
                ToEngine::Changes { changes } => changes,
                other => unexpected("changes", &other),
            };
            self.facts.follow(&changes);
            if !changes.more && self.facts.replica.version() >= at_least {
                break;
            }
        }
        self.facts.renew_view();
    }

    pub(super) fn linearizable(&mut self) -> Result<Answer, Ball> {
        if self.run.phase != Phase::Goal || self.facts.is_past() {
            let culprit = Term::atom("transaction");
            return Err(errors::permission("access", "fresh_version", culprit));
        }
        self.catch_up()?;
        Ok(Answer::Done)
    }

    fn catch_up(&mut self) -> Result<(), Ball> {
        let index = self.ask(Ask::ReadIndex)?;
        self.pull(number(&index)?);
        Ok(())
    }

    pub(super) fn as_of(&mut self, index: u64) -> Result<Answer, Ball> {
        if self.run.phase != Phase::Goal || self.facts.is_past() {
            return Err(errors::permission("access", "past", Term::atom("transaction")));
        }
        let base = chars(&self.ask(Ask::AsOf { index })?);
        let past = self.facts.replica.at(&PathBuf::from(base))?;
        self.facts.enter_past(past);
        Ok(Answer::Done)
    }
}
