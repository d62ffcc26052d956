//! What the knowledge base, a running goal and a space should do, said as plainly as it can be:
//! lists, linear search, real unification, and every version kept whole. Slow, and short enough to
//! be read as the definition that the real ones are held against.
//!
//! * [`Facts`] is one version of a knowledge base.
//! * [`Goal`] is a transaction that runs: its calls copy what they see, its savepoints copy all.
//! * [`Space`] applies commands. It knows every version that ever was, so it can validate a
//!   transaction in two ways: by the rules of the stamps ([`Space::overlaps`]), which decide, and by
//!   asking all its calls again ([`Space::has_changed`]), which must never find more.

mod goal;
mod members;
mod origins;
mod space;
mod unify;

pub use goal::{Goal, Write};
pub use members::{Issued, Joining, Members};
pub use origins::{Agent, Session};
pub use space::{Attempt, Called, Space, Verdict, Why};
use std::collections::BTreeMap;
use std::rc::Rc;
use synod_core::command::Declaration;
use synod_core::kb::{End, Indicator, Position};
use synod_core::term::Term;
pub use unify::unifies;

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its predicate.
    pub predicate: Indicator,
    /// Clause order in its predicate.
    pub order: i64,
    /// The write that made it.
    pub id: Position,
    /// The term.
    pub term: Rc<Term>,
}

/// One version of a knowledge base.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// All facts; those of one predicate stand in clause order.
    pub all: Vec<Fact>,
    /// The clause orders that the next `asserta/1` and `assertz/1` of each predicate give.
    pub ends: BTreeMap<Indicator, (i64, i64)>,
    /// The arguments, other than the first, that reads of each predicate are told apart by.
    pub declared: BTreeMap<Indicator, Vec<u32>>,
}

impl Facts {
    /// Adds a fact and returns its clause order.
    pub fn assert(&mut self, end: End, id: Position, term: &Term) -> i64 {
        let predicate = indicator(term);
        let (below, above) = self.ends.entry(predicate.clone()).or_insert((-1, 0));
        let term = Rc::new(term.clone());
        match end {
            End::First => {
                let order = *below;
                *below -= 1;
                self.all.insert(0, Fact { predicate, order, id, term });
                order
            }
            End::Last => {
                let order = *above;
                *above += 1;
                self.all.push(Fact { predicate, order, id, term });
                order
            }
        }
    }

    /// Takes a fact away.
    pub fn retract(&mut self, predicate: &Indicator, order: i64) -> Option<Fact> {
        let is_it = |fact: &Fact| fact.order == order && fact.predicate == *predicate;
        let place = self.all.iter().position(is_it)?;
        Some(self.all.remove(place))
    }

    /// Tells reads of a predicate apart by further arguments, as far as it has them.
    pub fn declare(&mut self, declaration: &Declaration) {
        let Declaration { predicate, keys } = declaration;
        self.ends.entry(predicate.clone()).or_insert((-1, 0));
        let declared = self.declared.entry(predicate.clone()).or_default();
        for &key in keys {
            if (2..=predicate.arity).contains(&key) && !declared.contains(&key) {
                declared.push(key);
            }
        }
    }

    /// The facts of a predicate, in clause order.
    pub fn of(&self, predicate: &Indicator) -> Vec<Fact> {
        self.all.iter().filter(|fact| fact.predicate == *predicate).cloned().collect()
    }

    /// The facts that a call unifies with, in clause order.
    pub fn answers(&self, call: &Term) -> Vec<Fact> {
        let predicate = indicator(call);
        let answers = |fact: &&Fact| fact.predicate == predicate && unifies(call, &fact.term);
        self.all.iter().filter(answers).cloned().collect()
    }
}

/// The predicate of a fact or a call, which must be an atom or a compound.
pub fn indicator(term: &Term) -> Indicator {
    let (name, arity) = term.predicate().unwrap_or(("", 0));
    Indicator::new(name, arity as u32)
}
