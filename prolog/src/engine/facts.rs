//! The program's calls and writes of facts: a view over the replica, and where each enumeration
//! stands.

use super::copies::{Copies, MAX_KEY_BYTES, MAX_KEY_FACTS, Read, key_goal, most_general};
use super::errors::{self, Ball};
use super::exit;
use super::replica::Replica;
use crate::frame::Changes;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use synod_core::apply::Effect;
use synod_core::kb::{End, Indicator, Kb, Pattern};
use synod_core::term::{Term, shape};
use synod_core::transaction::{Cursor, Draft, Found, Savepoint, View};

/// Facts in the first answer to a call; each further answer has four times as many.
const FIRST_FACTS: usize = 8;
/// Facts in one answer, at most.
const MAX_FACTS: usize = 1024;
/// Bytes of facts in one answer, but for its first fact.
const MAX_BYTES: usize = 256 << 10;
/// Enumerations that are kept, at most. One that was cut stays until its run ends, for the machine
/// does not say so; beyond this the oldest is let go, and to go on with it is an error.
const MAX_CURSORS: usize = 1 << 16;

/// Some facts, and how to get more.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) facts: Vec<Found>,
    /// The number to ask for more under; none after the last.
    pub(super) more: Option<u64>,
    pub(super) are_handles: bool,
}

/// A view over the replica and its enumerations.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) replica: Replica,
    pub(super) copies: Copies,
    view: View,
    open: BTreeMap<u64, Enumeration>,
    next: u64,
    /// Stands in for the replica while `as_of/2` runs.
    past: Option<Box<(Kb, View)>>,
}

#[derive(Debug)]
struct Enumeration {
    cursor: Cursor,
    pattern: Pattern,
    /// Found, and not given out yet.
    ready: VecDeque<Found>,
    is_last: bool,
    page: usize,
    are_handles: bool,
}

impl Facts {
    pub(super) fn new(replica: Replica) -> Self {
        let view = View::new(replica.version());
        let (copies, open) = (Copies::default(), BTreeMap::new());
        Self { replica, copies, view, open, next: 0, past: None }
    }

    /// Starts anew at the replica's version: nothing read, nothing written, nothing enumerated.
    pub(super) fn begin(&mut self) {
        self.open.clear();
        self.renew_view();
    }

    /// A new view at the replica's version, under enumerations that go on with what they were to see.
    pub(super) fn renew_view(&mut self) {
        self.view = View::new(self.replica.version());
        self.copies.rewrote();
        drop(self.copies.take_dropped());
        // A call of a copy is not seen here.
        for indicator in self.copies.copied() {
            if let Ok(goal) = most_general(indicator).encode() {
                self.view.note(&self.replica.kb, &goal);
            }
        }
    }

    /// Follows changes.
    pub(super) fn follow(&mut self, changes: &Changes) {
        let copies = &mut self.copies;
        let written = |effect: &Effect, kb: &Kb| match effect {
            Effect::Asserted { predicate, order, fact } => {
                let end = kb.predicate(predicate).map_or(Some(End::Last), |known| {
                    let (below, above) = known.ends();
                    match *order {
                        order if order >= above => Some(End::Last),
                        order if order <= below => Some(End::First),
                        _ => None,
                    }
                });
                copies.follows(predicate, end, fact);
            }
            Effect::Retracted { predicate, fact, .. } => copies.loses(predicate, fact),
            Effect::Emitted { .. } => {}
        };
        if let Err(error) = self.replica.follow(changes, written) {
            exit::now(exit::SETUP, &format!("malformed changes: {error}"));
        }
    }

    /// Tells what is to be copied by key as the running goal is to see it, and notes what it may
    /// have read of copies that are gone. Comes before the machine takes up an answer.
    pub(super) fn settle_copies(&mut self) {
        if self.is_past() {
            return;
        }
        for (indicator, first) in self.copies.take_stale() {
            let Ok(key) = Term::decode(&first) else { continue };
            let Ok(goal) = key_goal(&indicator, key).encode() else { continue };
            let reads = self.replica.kb.plan(&indicator, &goal).reads;
            let facts = self.facts_of_key(&goal);
            let read = Read { indicator, goal: goal.into(), reads };
            self.copies.key_is(read, first, facts);
        }
        for read in self.copies.take_dropped() {
            self.view.note_reads(&read.indicator, read.reads, &read.goal);
        }
    }

    /// All facts of a key; none if there are too many, or one that stands for others.
    fn facts_of_key(&mut self, goal: &[u8]) -> Option<Vec<Bytes>> {
        let mut cursor = self.view.open(&mut self.replica.kb, goal).ok()?;
        let chunk = self.view.next(&self.replica.kb, &mut cursor, MAX_KEY_FACTS, MAX_KEY_BYTES);
        let bytes: usize = chunk.facts.iter().map(|found| found.fact.len()).sum();
        let facts: Vec<Bytes> = chunk.facts.into_iter().map(|found| found.fact).collect();
        let fits = chunk.is_last && bytes <= MAX_KEY_BYTES;
        (fits && facts.iter().all(|fact| shape::is_ground(fact))).then_some(facts)
    }

    /// All facts of a predicate, to be copied.
    pub(super) fn copy(&mut self, indicator: &Indicator) -> Result<Page, Ball> {
        self.find(most_general(indicator), false)
    }

    /// Before the replica changes in the middle of a goal: what enumerations are still to see is
    /// taken out of it (the logical update view).
    pub(super) fn settle(&mut self) {
        let Self { replica, view, open, .. } = self;
        for enumeration in open.values_mut() {
            while !enumeration.is_last {
                enumeration.refill(&replica.kb, view, MAX_FACTS);
            }
        }
    }

    /// Calls a goal.
    pub(super) fn find(&mut self, goal: Term, are_handles: bool) -> Result<Page, Ball> {
        let first = match &goal {
            Term::Compound(_, args) => args.first().filter(|first| !matches!(first, Term::Var(_))),
            _ => None,
        };
        let first = first.cloned();
        let enumeration = self.enumerate(goal, are_handles)?;
        let indicator = enumeration.cursor.predicate();
        if let Some(first) = first
            && self.past.is_none()
            && !self.view.has_written(indicator)
        {
            self.copies.looked_up(indicator, self.replica.kb.predicate(indicator), &first);
        }
        Ok(self.page(enumeration, None))
    }

    /// More of a call.
    pub(super) fn more(&mut self, number: u64) -> Result<Page, Ball> {
        let Some(enumeration) = self.open.remove(&number) else { return Err(stale(number)) };
        Ok(self.page(enumeration, Some(number)))
    }

    /// Takes the first fact away that matches, and says where to go on.
    pub(super) fn take(&mut self, goal: Term) -> Result<Page, Ball> {
        let enumeration = self.enumerate(goal, false)?;
        self.take_next(enumeration, None)
    }

    /// Takes the next one away.
    pub(super) fn take_more(&mut self, number: u64) -> Result<Page, Ball> {
        let Some(enumeration) = self.open.remove(&number) else { return Err(stale(number)) };
        self.take_next(enumeration, Some(number))
    }

    /// Takes all facts away that match.
    pub(super) fn take_all(&mut self, goal: Term) -> Result<(), Ball> {
        let mut enumeration = self.enumerate(goal, false)?;
        let indicator = enumeration.cursor.predicate().clone();
        while let Some(found) = enumeration.next(&self.replica.kb, &self.view) {
            self.retract(&indicator, found.order, Some(&found.fact))?;
        }
        Ok(())
    }

    /// Takes one fact away, which may be known; false if it is gone.
    pub(super) fn retract(
        &mut self,
        indicator: &Indicator,
        order: i64,
        fact: Option<&[u8]>,
    ) -> Result<bool, Ball> {
        let taken = self.view.retract(&self.replica.kb, indicator, order);
        let was_there = taken.map_err(errors::unwritable)?;
        if was_there {
            self.copies.taken(indicator, fact);
        }
        Ok(was_there)
    }

    /// Adds a fact.
    pub(super) fn add(&mut self, end: End, fact: &[u8]) -> Result<(), Ball> {
        self.view.assert(&self.replica.kb, end, fact).map_err(errors::unwritable)?;
        if let Some(indicator) = Indicator::of(fact) {
            self.copies.added(&indicator, end, fact);
        }
        Ok(())
    }

    /// Emits an event.
    pub(super) fn emit(&mut self, event: &[u8]) -> Result<(), Ball> {
        self.view.emit(event).map_err(errors::unwritable)
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        self.view.savepoint()
    }

    pub(super) fn rollback(&mut self, to: Savepoint) {
        self.view.rollback(to);
        self.copies.rewrote();
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.view.is_read_only()
    }

    /// What the run read and wrote. Whether it called a copy of a key, nobody knows: it counts as
    /// having called each.
    pub(super) fn finish(&mut self) -> Draft {
        for read in self.copies.keys_read() {
            self.view.note_reads(&read.indicator, read.reads, &read.goal);
        }
        self.view.finish()
    }

    /// Looks at the past from now on.
    pub(super) fn enter_past(&mut self, (kb, version): (Kb, u64)) {
        self.copies.drop_all();
        self.past = Some(Box::new((kb, View::new(version))));
    }

    /// Looks at the present again.
    pub(super) fn leave_past(&mut self) {
        self.past = None;
    }

    /// Whether `as_of/2` runs.
    pub(super) fn is_past(&self) -> bool {
        self.past.is_some()
    }

    fn enumerate(&mut self, goal: Term, are_handles: bool) -> Result<Enumeration, Ball> {
        let bytes = goal.encode().map_err(errors::unencodable)?;
        let cursor = match &mut self.past {
            Some(past) => {
                let (kb, view) = &mut **past;
                view.open(kb, &bytes)
            }
            None => self.view.open(&mut self.replica.kb, &bytes),
        };
        Ok(Enumeration {
            cursor: cursor.map_err(errors::unwritable)?,
            pattern: Pattern::new(goal),
            ready: VecDeque::new(),
            is_last: false,
            page: FIRST_FACTS,
            are_handles,
        })
    }

    fn page(&mut self, mut enumeration: Enumeration, number: Option<u64>) -> Page {
        let (kb, view) = self.seen();
        let wanted = enumeration.page;
        while enumeration.ready.len() < wanted && !enumeration.is_last {
            enumeration.refill(kb, view, wanted);
        }
        let mut bytes = 0;
        let mut facts = Vec::new();
        while let Some(found) = enumeration.ready.front() {
            bytes += found.fact.len();
            if facts.len() >= wanted || (bytes > MAX_BYTES && !facts.is_empty()) {
                break;
            }
            facts.extend(enumeration.ready.pop_front());
        }
        enumeration.page = (wanted * 4).min(MAX_FACTS);
        let are_handles = enumeration.are_handles;
        let more = if enumeration.is_over() { None } else { Some(self.keep(enumeration, number)) };
        Page { facts, more, are_handles }
    }

    fn take_next(
        &mut self,
        mut enumeration: Enumeration,
        number: Option<u64>,
    ) -> Result<Page, Ball> {
        let indicator = enumeration.cursor.predicate().clone();
        while let Some(found) = enumeration.next(&self.replica.kb, &self.view) {
            // Looked ahead before the write, so that the last one leaves no choice open.
            if enumeration.ready.is_empty() && !enumeration.is_last {
                enumeration.refill(&self.replica.kb, &self.view, FIRST_FACTS);
            }
            if self.retract(&indicator, found.order, Some(&found.fact))? {
                let is_over = enumeration.is_over();
                let more = if is_over { None } else { Some(self.keep(enumeration, number)) };
                return Ok(Page { facts: vec![found], more, ..Page::default() });
            }
        }
        Ok(Page::default())
    }

    fn seen(&self) -> (&Kb, &View) {
        match &self.past {
            Some(past) => (&past.0, &past.1),
            None => (&self.replica.kb, &self.view),
        }
    }

    fn keep(&mut self, enumeration: Enumeration, number: Option<u64>) -> u64 {
        let number = match number {
            Some(number) => number,
            None => {
                if self.open.len() >= MAX_CURSORS {
                    self.open.pop_first();
                }
                self.next += 1;
                self.next
            }
        };
        self.open.insert(number, enumeration);
        number
    }
}

impl Enumeration {
    fn is_over(&self) -> bool {
        self.is_last && self.ready.is_empty()
    }

    fn next(&mut self, kb: &Kb, view: &View) -> Option<Found> {
        while self.ready.is_empty() && !self.is_last {
            self.refill(kb, view, FIRST_FACTS);
        }
        self.ready.pop_front()
    }

    fn refill(&mut self, kb: &Kb, view: &View, facts: usize) {
        let chunk = view.next(kb, &mut self.cursor, facts, MAX_BYTES);
        self.is_last = chunk.is_last;
        let matching = chunk.facts.into_iter().filter(|found| self.pattern.matches(&found.fact));
        self.ready.extend(matching);
    }
}

fn stale(number: u64) -> Ball {
    errors::existence("enumeration", Term::integer(number))
}

/// A fact's bytes as they are kept.
pub(super) fn encoded(fact: &Term) -> Result<Bytes, Ball> {
    fact.encode().map(Bytes::from).map_err(errors::unencodable)
}
