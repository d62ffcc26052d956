//! A goal that runs as a transaction.

use super::{Fact, Facts, indicator};
use std::rc::Rc;
use synod_core::kb::{End, Indicator, Position};
use synod_core::term::Term;

/// A running goal: the version that it began with, and what it has made of it.
#[derive(Clone, Debug)]
pub struct Goal {
    base: Facts,
    now: Facts,
    calls: Vec<Term>,
    done: Vec<Done>,
}

/// What a transaction does to the space when it commits.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Adds a fact.
    Assert(End, Rc<Term>),
    /// Takes away the fact of this clause order.
    Retract(Indicator, i64),
    /// Emits an event.
    Emit(Rc<Term>),
}

/// A write, and for an assertion the clause order that it had while the goal ran.
#[derive(Clone, Debug)]
struct Done(Write, i64);

impl Goal {
    /// A goal that begins with this version.
    pub fn new(base: Facts) -> Self {
        Self { now: base.clone(), base, calls: Vec::new(), done: Vec::new() }
    }

    /// Calls a goal: the facts that the call sees are those of now, whatever comes later. The
    /// first list is all of its predicate, the second those that unify.
    pub fn call(&mut self, goal: &Term) -> (Vec<Fact>, Vec<Fact>) {
        self.calls.push(goal.clone());
        (self.now.of(&indicator(goal)), self.now.answers(goal))
    }

    /// Adds a fact.
    pub fn assert(&mut self, end: End, fact: &Term) {
        let order = self.now.assert(end, Position::default(), fact);
        self.done.push(Done(Write::Assert(end, Rc::new(fact.clone())), order));
    }

    /// Takes a fact away, if it is still there.
    pub fn retract(&mut self, predicate: &Indicator, order: i64) -> bool {
        let is_there = self.now.retract(predicate, order).is_some();
        if is_there {
            self.done.push(Done(Write::Retract(predicate.clone(), order), order));
        }
        is_there
    }

    /// Emits an event.
    pub fn emit(&mut self, event: &Term) {
        self.done.push(Done(Write::Emit(Rc::new(event.clone())), 0));
    }

    /// Takes back what was written since the goal was as `earlier`. What it called stays noted.
    pub fn roll_back(&mut self, earlier: &Self) {
        self.now = earlier.now.clone();
        self.done.clone_from(&earlier.done);
    }

    /// Everything that was called.
    pub fn calls(&self) -> &[Term] {
        &self.calls
    }

    /// The version that the goal began with.
    pub fn base(&self) -> &Facts {
        &self.base
    }

    /// The facts as the goal sees them.
    pub fn now(&self) -> &Facts {
        &self.now
    }

    /// What to propose: a fact that the goal made and took away again is no part of it.
    pub fn writes(&self) -> Vec<Write> {
        let has = |facts: &Facts, predicate: &Indicator, order| {
            facts.of(predicate).iter().any(|fact| fact.order == order)
        };
        let is_proposed = |Done(write, order): &&Done| match write {
            Write::Assert(_, fact) => has(&self.now, &indicator(fact), *order),
            Write::Retract(predicate, order) => has(&self.base, predicate, *order),
            Write::Emit(_) => true,
        };
        self.done.iter().filter(is_proposed).map(|Done(write, _)| write.clone()).collect()
    }
}
