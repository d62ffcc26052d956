//! A space's history as people and their programs are told of it, command by command.

use super::{At, Commands, Filter, Past, PastError, Span, Teller};
use crate::api::LogEntry;
use synod_core::apply::Chain;

/// The commands of a span that a filter admits.
#[derive(Debug)]
pub struct Told {
    teller: Teller,
    commands: Commands,
    span: Span,
    filter: Filter,
    is_over: bool,
}

impl Told {
    /// Reads the state from before the span; it is kept in memory.
    pub fn open(past: &Past, span: Span, filter: Filter) -> Result<Self, PastError> {
        let base = match past.state_before(span.begins_behind()) {
            // Whoever names no beginning wants what there is.
            Err(PastError::Gone { first }) if span.from.is_none() && span.since.is_none() => {
                past.state_before(At::Index(first - 1))
            }
            base => base,
        };
        let (state, commands) = base?;
        Ok(Self { teller: Teller::new(state), commands, span, filter, is_over: false })
    }

    /// The index of the last command that was looked at.
    pub fn index(&self) -> u64 {
        self.teller.state().index()
    }

    /// Whether nothing can come any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next command; none if there is nothing more for now. Blocks.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, PastError> {
        while !self.is_over {
            let Some((stamp, command)) = self.commands.next_command()? else { return Ok(None) };
            let Chain { index, time, hash } = self.teller.state().place();
            let next = Chain { index: index + 1, time: time.max(stamp), hash };
            if self.span.is_passed_by(&next) {
                self.is_over = true;
            } else if self.span.holds(&next) {
                let entry = self.teller.tell(stamp, &command);
                if self.filter.admits(&entry) {
                    return Ok(Some(entry));
                }
            } else {
                self.teller.pass(stamp, &command);
            }
        }
        Ok(None)
    }

    /// Goes on with what has come since.
    pub fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        self.commands.renew(past)
    }

    /// Refuses a span that begins where nothing has come yet.
    pub fn must_have_begun(&self) -> Result<(), PastError> {
        match self.span.begins_behind() {
            At::Index(asked) if asked > 0 && asked >= self.index() => {
                Err(PastError::Ahead { asked: asked + 1, last: self.index() })
            }
            _ => Ok(()),
        }
    }
}
