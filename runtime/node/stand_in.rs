//! What an engine is told that runs without a node around it: on a state of the past, over a log that is
//! replayed, or to check a text.

use crate::agents::existence_error;
use synod_core::term::Term;
use synod_prolog::frame::{Ask, FromEngine, ToEngine};

/// Who answers in a node's place.
pub(crate) struct StandIn<M> {
    /// The index at which the space stands.
    pub(crate) index: u64,
    /// Whether agents count as known: they cannot be asked either way.
    pub(crate) has_agents: bool,
    /// Where a module is, or why it is not there.
    pub(crate) module: M,
}

/// What there is to say to a frame.
pub(crate) enum Answer {
    /// This.
    Says(ToEngine),
    /// Nothing: it wants no answer.
    Nothing,
    /// It is not a stand-in's to answer.
    Other(FromEngine),
}

impl<M: FnOnce(&str) -> Result<Term, Term>> StandIn<M> {
    pub(crate) fn answer(self, frame: FromEngine) -> Answer {
        Answer::Says(match frame {
            FromEngine::Ask { ask } => {
                let (answer, error) = match self.told(ask) {
                    Ok(term) => (Some(encoded(&term)), None),
                    Err(term) => (None, Some(encoded(&term))),
                };
                ToEngine::Reply { answer, error }
            }
            FromEngine::Call { call, agent, .. } => {
                let error = Some(encoded(&existence_error("agent", Term::atom(agent))));
                ToEngine::CallAnswers { call, answers: Vec::new(), more: false, error }
            }
            FromEngine::CallMore { call } => {
                ToEngine::CallAnswers { call, answers: Vec::new(), more: false, error: None }
            }
            // Effects that would leave the engine are passed over.
            FromEngine::CallClose { .. }
            | FromEngine::Wants { .. }
            | FromEngine::Effects { .. } => return Answer::Nothing,
            other => return Answer::Other(other),
        })
    }

    fn told(self, ask: Ask) -> Result<Term, Term> {
        match ask {
            Ask::ReadIndex => Ok(Term::integer(self.index)),
            Ask::AsOf { index } => Err(existence_error("index", Term::integer(index))),
            Ask::Fate { .. } => Ok(Term::atom("unknown")),
            Ask::Members => Ok(Term::list(Vec::new())),
            Ask::Agent { .. } if self.has_agents => Ok(Term::atom("true")),
            Ask::Agent { name } => Err(existence_error("agent", Term::atom(name))),
            Ask::Module { name } => (self.module)(&name),
        }
    }
}

/// That there is no such module.
pub(crate) fn no_module(name: &str) -> Result<Term, Term> {
    Err(existence_error("module", Term::atom(name)))
}

/// Terms that are made here are small and without cycles.
pub(crate) fn encoded(term: &Term) -> Vec<u8> {
    term.encode().unwrap_or_default()
}
