//! The knowledge base and the view of a running goal, held against the reference model: random
//! facts and calls, cursors that are read a few facts at a time while the goal writes, savepoints
//! inside savepoints, declared keys, and indexes that calls have asked for.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use proptest::sample::Index;
use std::rc::Rc;
use synod_core::command::Op;
use synod_core::kb::{End, Fact, Kb, Position};
use synod_core::term::Term;
use synod_core::transaction::{Cursor, Draft, Found, View};
use synod_sim::reference::{self, Facts, Goal, Write, indicator, unifies};
use synod_sim::terms;

/// What a goal does next.
#[derive(Clone, Debug)]
enum Step {
    /// Makes a call and keeps its cursor.
    Open(Term),
    /// Takes so many facts, of so many bytes at most, from one of the open cursors.
    Next(Index, usize, usize),
    /// Retracts one of the facts that some cursor has given.
    Retract(Index),
    /// Adds a fact.
    Assert(End, Term),
    /// Emits an event.
    Emit(Term),
    /// Makes a call that is read to its end at once.
    Ask(Term),
    /// Takes the first fact of a call, as from a queue.
    TakeFirst(Term),
    /// Begins a nested transaction.
    Save,
    /// Ends the innermost nested transaction, and takes its writes back.
    RollBack,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => terms::goal().prop_map(Step::Open),
        6 => (any::<Index>(), 0usize..5, 0usize..60).prop_map(|(i, n, b)| Step::Next(i, n, b)),
        4 => any::<Index>().prop_map(Step::Retract),
        4 => (end(), terms::fact()).prop_map(|(end, fact)| Step::Assert(end, fact)),
        1 => terms::argument().prop_map(Step::Emit),
        2 => terms::goal().prop_map(Step::Ask),
        2 => terms::goal().prop_map(Step::TakeFirst),
        1 => Just(Step::Save),
        1 => Just(Step::RollBack),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![1 => Just(End::First), 2 => Just(End::Last)]
}

/// The facts that a goal begins with, what is declared of them, and calls that were made before.
#[derive(Clone, Debug)]
struct Base {
    facts: Vec<(End, Term)>,
    gone: Vec<Index>,
    keys: Vec<u32>,
    /// Arguments of `q/3` that are indexed because calls asked for them.
    asked_for: Vec<u32>,
}

fn base(facts: usize) -> impl Strategy<Value = Base> {
    let fact = prop_oneof![1 => terms::fact(), 2 => terms::fact_of("q", 3)];
    (
        prop::collection::vec((end(), fact), 0..facts),
        prop::collection::vec(any::<Index>(), 0..8),
        prop::sample::subsequence(vec![2u32, 3], 0..=2),
        prop::sample::subsequence(vec![2u32, 3], 0..=2),
    )
        .prop_map(|(facts, gone, keys, asked_for)| Base { facts, gone, keys, asked_for })
}

/// The real thing and the model, side by side.
struct Pair {
    kb: Kb,
    facts: Facts,
}

impl Pair {
    fn new(base: &Base) -> Self {
        let mut pair = Self { kb: Kb::new(), facts: Facts::default() };
        let mut placed = Vec::new();
        for (n, (end, term)) in (0..).zip(&base.facts) {
            let (id, predicate) = (Position { index: 1, n }, indicator(term));
            let bytes = term.encode().unwrap().into();
            let order = pair.kb.assert(&predicate, *end, Fact { id, bytes });
            assert_eq!(order, pair.facts.assert(*end, id, term));
            placed.push((predicate, order));
        }
        for gone in base.gone.iter().filter(|_| !placed.is_empty()) {
            let (predicate, order) = gone.get(&placed);
            let real = pair.kb.retract(predicate, *order).map(|fact| fact.id);
            assert_eq!(real, pair.facts.retract(predicate, *order).map(|fact| fact.id));
        }
        for &key in &base.keys {
            for (name, arity) in terms::PREDICATES {
                let predicate = indicator(&call(name, *arity, 0));
                let is_new = pair.kb.declare_key(&predicate, key);
                assert_eq!(is_new, key <= *arity as u32);
            }
        }
        for &argument in &base.asked_for {
            // More than the replica puts up with before it makes an index.
            for _ in 0..20 {
                pair.kb.note_scan(&indicator(&call("q", 3, 0)), &encoded(&call("q", 3, argument)));
            }
        }
        pair
    }
}

/// A call with nothing bound but, if it is not 0, this argument.
fn call(name: &str, arity: usize, bound: u32) -> Term {
    let argument = |n: u32| if n == bound { Term::atom("a") } else { Term::Var(n) };
    let args: Vec<Term> = (1..=arity as u32).map(argument).collect();
    if args.is_empty() { Term::atom(name) } else { Term::compound(name, args).unwrap() }
}

fn encoded(term: &Term) -> Vec<u8> {
    term.encode().unwrap()
}

/// A call under way: what the model says of it, and what was given so far.
#[derive(Clone)]
struct Call {
    goal: Term,
    cursor: Cursor,
    visible: Vec<reference::Fact>,
    matching: Vec<reference::Fact>,
    given: Vec<Found>,
    is_over: bool,
}

impl Call {
    fn open(kb: &mut Kb, view: &mut View, model: &mut Goal, goal: &Term) -> Self {
        let cursor = view.open(kb, &encoded(goal)).unwrap();
        let (visible, matching) = model.call(goal);
        Self { goal: goal.clone(), cursor, visible, matching, given: vec![], is_over: false }
    }

    fn next(&mut self, kb: &Kb, view: &View, max_facts: usize, max_bytes: usize) {
        let chunk = view.next(kb, &mut self.cursor, max_facts, max_bytes);
        assert!(chunk.facts.len() <= max_facts.max(1));
        let behind_the_first = chunk.facts.iter().skip(1);
        assert!(behind_the_first.map(|found| found.fact.len()).sum::<usize>() <= max_bytes);
        assert!(chunk.is_last || !chunk.facts.is_empty(), "a chunk moves on");
        assert!(!self.is_over || (chunk.is_last && chunk.facts.is_empty()));
        self.is_over = chunk.is_last;
        self.given.extend(chunk.facts);
        self.check();
    }

    /// What was given is a run of what was visible, holds all that unify, and is in clause order.
    fn check(&self) {
        let mut visible = self.visible.iter();
        for found in &self.given {
            let fact = visible.find(|fact| fact.order == found.order);
            let fact = fact.unwrap_or_else(|| panic!("{found:?} is not visible, or out of order"));
            assert_eq!(encoded(&fact.term), found.fact);
        }
        let unify = |found: &&Found| unifies(&self.goal, &Term::decode(&found.fact).unwrap());
        let given: Vec<i64> = self.given.iter().filter(unify).map(|found| found.order).collect();
        let matching: Vec<i64> = self.matching.iter().map(|fact| fact.order).collect();
        if self.is_over {
            assert_eq!(given, matching, "{:?}", self.goal);
        } else {
            assert!(matching.starts_with(&given), "{given:?} of {matching:?} for {:?}", self.goal);
        }
    }
}

/// A goal, run by both.
struct Run {
    pair: Pair,
    view: View,
    model: Goal,
    calls: Vec<Call>,
    saved: Vec<(synod_core::transaction::Savepoint, Goal, usize)>,
}

impl Run {
    fn new(pair: Pair) -> Self {
        let model = Goal::new(pair.facts.clone());
        Self { pair, view: View::new(1), model, calls: Vec::new(), saved: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let Self { pair: Pair { kb, .. }, view, model, calls, saved } = self;
        match step {
            Step::Open(goal) => calls.push(Call::open(kb, view, model, goal)),
            Step::Ask(goal) => {
                let mut call = Call::open(kb, view, model, goal);
                call.next(kb, view, usize::MAX, usize::MAX);
                assert!(call.is_over);
            }
            Step::TakeFirst(goal) => {
                let mut call = Call::open(kb, view, model, goal);
                call.next(kb, view, 1, usize::MAX);
                if let Some(first) = call.given.first() {
                    assert!(view.retract(kb, call.cursor.predicate(), first.order).unwrap());
                    assert!(model.retract(call.cursor.predicate(), first.order));
                }
                calls.push(call);
            }
            Step::Next(which, facts, bytes) if !calls.is_empty() => {
                which.get_mut(calls).next(kb, view, *facts, *bytes);
            }
            Step::Retract(which) => {
                let given = calls.iter().flat_map(|call| {
                    call.given.iter().map(|found| (call.cursor.predicate().clone(), found.order))
                });
                let given: Vec<_> = given.collect();
                if !given.is_empty() {
                    let (predicate, order) = which.get(&given);
                    let is_taken = view.retract(kb, predicate, *order).unwrap();
                    assert_eq!(is_taken, model.retract(predicate, *order));
                }
            }
            Step::Assert(end, fact) => {
                view.assert(kb, *end, &encoded(fact)).unwrap();
                model.assert(*end, fact);
            }
            Step::Emit(event) => {
                view.emit(&encoded(event)).unwrap();
                model.emit(event);
            }
            Step::Save => saved.push((view.savepoint(), model.clone(), calls.len())),
            Step::RollBack => {
                if let Some((savepoint, earlier, open)) = saved.pop() {
                    view.rollback(savepoint);
                    model.roll_back(&earlier);
                    // The nested goal's own calls are gone with it; the outer ones go on.
                    calls.truncate(open);
                }
            }
            Step::Next(..) => {}
        }
    }

    /// Reads all cursors to their ends, and looks at every predicate as it is at last.
    fn finish(mut self) -> (Draft, Self) {
        for mut call in std::mem::take(&mut self.calls) {
            call.next(&self.pair.kb, &self.view, usize::MAX, usize::MAX);
            assert!(call.is_over);
        }
        for (name, arity) in terms::PREDICATES {
            self.step(&Step::Ask(call(name, *arity, 0)));
        }
        let draft = self.view.finish();
        assert_eq!(draft.ops, self.model.writes().iter().map(op).collect::<Vec<_>>());
        assert_eq!(draft.version, 1);
        assert!(draft.reads.is_sorted_by(|a, b| a < b));
        (draft, self)
    }
}

fn op(write: &Write) -> Op {
    let bytes = |term: &Rc<Term>| term.encode().unwrap().into();
    match write {
        Write::Assert(end, fact) => Op::Assert { end: *end, fact: bytes(fact) },
        Write::Retract(predicate, order) => {
            Op::Retract { predicate: predicate.clone(), order: *order }
        }
        Write::Emit(event) => Op::Emit { event: bytes(event) },
    }
}

proptest! {
    #![proptest_config(terms::cases(512))]

    #[test]
    fn a_goal_sees_and_writes_what_the_model_does(
        base in base(40),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut run = Run::new(Pair::new(&base));
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    }
}

proptest! {
    #![proptest_config(terms::cases(40))]

    #[test]
    fn many_facts_and_many_of_the_goals_own_are_found_through_indexes(
        base in base(150),
        own in prop::collection::vec((end(), terms::fact_of("q", 3)), 0..60),
        goals in prop::collection::vec(terms::goal_of("q", 3), 1..4),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut run = Run::new(Pair::new(&base));
        own.iter().for_each(|(end, fact)| run.step(&Step::Assert(*end, fact.clone())));
        for goal in goals.iter().flat_map(|goal| std::iter::repeat_n(goal, 10)) {
            run.step(&Step::Ask(goal.clone()));
        }
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    }
}
