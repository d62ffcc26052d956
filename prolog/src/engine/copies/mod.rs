//! Native copies: what is read far more often than it is written is kept as clauses of the machine's
//! own, where a call costs no host call: a predicate as a whole or, where that cannot be, those of its
//! keys (first arguments) that are looked up. Invisible but for speed: a copy stands for the facts that
//! the running goal is to see, and counts as read by every run that could read it.
//!
//! A copy follows a write where that is cheap and exact, and is dropped where not. That of a whole
//! predicate follows facts that are added at its ends, with clauses that are added; that of a key, which
//! is one clause, follows a write to the key with another clause. What a goal has written and takes
//! back, or what is committed in another place than it had, is dropped or compared.
//!
//! What the machine has to do for that, it does before it takes the answer to the host call that
//! brought it about: no goal of the program runs in between.

mod clause;
mod keys;

pub(super) use clause::goal as key_goal;
pub(super) use keys::{MAX_KEY_BYTES, MAX_KEY_FACTS, Read};

use bytes::Bytes;
use clause::Kind;
use keys::Keys;
use std::collections::{BTreeMap, VecDeque};
use synod_core::kb::{End, Indicator, Predicate};
use synod_core::term::{Term, shape};

/// Facts in all copies of an engine, at most.
const MAX_COPIED: usize = 50_000;
/// Facts whose first arguments the machine's own index cannot tell apart, at most.
const MAX_ALIKE: usize = 1024;
/// Of them strings and other lists, at most: by key strings are found sooner than among more.
const MAX_LISTS: usize = 64;
/// A copy of so many facts is worth one look-up more.
const FACTS_PER_LOOKUP: usize = 8;
/// How often the number of look-ups that are waited for doubles, at most: once each time a copy was
/// dropped.
const MAX_DOUBLINGS: u32 = 12;
/// Facts that a copy of a whole predicate follows before it must be earned again: how often it is
/// read, nobody knows.
const MAX_ADDED: usize = 256;

/// What is known of each predicate, and what the machine has to do.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Look-ups that a predicate needs at least; 0 makes no copies.
    wait_for: u64,
    predicates: BTreeMap<Indicator, Copy>,
    keys: Keys,
    /// Facts in copies.
    facts: usize,
    todo: Vec<Todo>,
    told: Told,
}

#[derive(Debug, Default)]
struct Copy {
    /// Look-ups since the last write.
    lookups: u64,
    doublings: u32,
    /// Look-ups since the start.
    asked: u64,
    whole: Option<Whole>,
    /// Whether the look-ups of its keys are counted: it cannot be copied whole, or is written too often.
    is_by_key: bool,
    /// Whether the machine has been told so.
    is_keyed: bool,
}

/// The copy of a whole predicate.
#[derive(Debug, Default)]
struct Whole {
    facts: usize,
    /// Of which so many were added to it.
    added: usize,
    /// Those that the running goal has added, and the replica does not have yet.
    own: VecDeque<(End, Bytes)>,
}

/// What was done since the engine started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    predicates_made: u64,
    predicates_dropped: u64,
    facts_followed: u64,
    keys_made: u64,
    keys_followed: u64,
    keys_displaced: u64,
}

/// Something that the machine has to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Todo {
    /// Copies a whole predicate.
    Make(Indicator),
    /// Asks the host again.
    Drop(Indicator),
    /// Asks the host for the keys that have no clause.
    Keyed(Indicator),
    Key {
        kind: Kind,
        clause: Term,
    },
    Unkey {
        kind: Kind,
        head: Term,
    },
    Add(End, Term),
}

impl Copies {
    /// Makes copies from now on, of predicates that were looked up so often since they were written.
    pub(super) fn start(&mut self, wait_for: u64) {
        self.wait_for = wait_for;
    }

    /// A predicate was looked up by its first argument.
    pub(super) fn looked_up(
        &mut self,
        indicator: &Indicator,
        predicate: Option<&Predicate>,
        first: &Term,
    ) {
        if self.wait_for == 0 {
            return;
        }
        let Some(copy) = self.predicates.get_mut(indicator) else {
            let copy = Copy { lookups: 1, asked: 1, ..Copy::default() };
            self.predicates.insert(indicator.clone(), copy);
            return;
        };
        copy.lookups += 1;
        copy.asked += 1;
        if copy.whole.is_some() {
            return;
        }
        let facts = predicate.map_or(0, Predicate::len);
        let wait_for = self.wait_for.max((facts / FACTS_PER_LOOKUP) as u64);
        copy.is_by_key |= facts > MAX_COPIED || copy.asked >= 2 * self.wait_for;
        if copy.lookups >= wait_for << copy.doublings {
            if facts <= MAX_COPIED && predicate.is_none_or(is_told_apart) && self.make_room(facts) {
                self.make(indicator, facts);
                return;
            }
            self.wait_longer(indicator);
        }
        if self.predicates.get(indicator).is_some_and(|copy| copy.is_by_key) {
            self.looked_up_key(indicator, first);
        }
    }

    /// The running goal has added a fact.
    pub(super) fn added(&mut self, indicator: &Indicator, end: End, fact: &[u8]) {
        self.wrote_key(indicator, Some(fact), true);
        if self.add(indicator, end, fact)
            && let Some(whole) = self.whole(indicator)
        {
            whole.own.push_back((end, Bytes::copy_from_slice(fact)));
        }
    }

    /// The running goal has taken a fact away; perhaps it is not known which.
    pub(super) fn taken(&mut self, indicator: &Indicator, fact: Option<&[u8]>) {
        self.wrote_key(indicator, fact, true);
        self.drop_whole(indicator);
    }

    /// A fact is about to be added to the replica, at this end or, if at none, among the others.
    pub(super) fn follows(&mut self, indicator: &Indicator, end: Option<End>, fact: &[u8]) {
        self.wrote_key(indicator, Some(fact), false);
        let Some(whole) = self.whole(indicator) else {
            self.drop_whole(indicator);
            return;
        };
        match (whole.own.pop_front(), end) {
            // What the goal has added is as it was when it did.
            (Some((own, own_fact)), Some(end)) if own == end && *own_fact == *fact => {}
            (None, Some(end)) => {
                self.add(indicator, end, fact);
            }
            _ => self.drop_whole(indicator),
        }
    }

    /// A fact is about to be taken from the replica.
    pub(super) fn loses(&mut self, indicator: &Indicator, fact: &[u8]) {
        self.wrote_key(indicator, Some(fact), false);
        self.drop_whole(indicator);
    }

    /// The running goal's writes, some or all, were taken back, or are the replica's now.
    pub(super) fn rewrote(&mut self) {
        self.rewrote_keys();
        let has_own = |copy: &Copy| copy.whole.as_ref().is_some_and(|whole| !whole.own.is_empty());
        let owning = self.predicates.iter().filter(|(_, copy)| has_own(copy));
        let owning: Vec<Indicator> = owning.map(|(indicator, _)| indicator.clone()).collect();
        owning.iter().for_each(|indicator| self.drop_whole(indicator));
    }

    /// Nothing that was copied is what a goal is to see.
    pub(super) fn drop_all(&mut self) {
        let all: Vec<Indicator> = self.predicates.keys().cloned().collect();
        for indicator in all {
            self.forget_keys(&indicator);
            let Some(copy) = self.predicates.get_mut(&indicator) else { continue };
            let whole = copy.whole.take();
            if whole.is_some() || std::mem::take(&mut copy.is_keyed) {
                self.facts -= whole.map_or(0, |whole| whole.facts);
                self.todo.push(Todo::Drop(indicator));
            }
        }
    }

    /// The predicates of which there are whole copies.
    pub(super) fn copied(&self) -> impl Iterator<Item = &Indicator> {
        self.predicates.iter().filter(|(_, copy)| copy.whole.is_some()).map(|(name, _)| name)
    }

    /// Takes what the machine has to do, as a term; none if there is nothing.
    pub(super) fn take_todo(&mut self) -> Option<Term> {
        if self.todo.is_empty() {
            return None;
        }
        let todo = self.todo.drain(..).map(Todo::term);
        Some(Term::structure("@first", [Term::list(todo.collect())]))
    }

    /// What was done: `copies([Name-N, …])`.
    pub(super) fn told(&self) -> Term {
        let told = &self.told;
        let all = [
            ("predicates_made", told.predicates_made),
            ("predicates_dropped", told.predicates_dropped),
            ("facts_followed", told.facts_followed),
            ("keys_made", told.keys_made),
            ("keys_followed", told.keys_followed),
            ("keys_displaced", told.keys_displaced),
        ];
        let all = all.map(|(name, n)| Term::structure("-", [Term::atom(name), Term::integer(n)]));
        Term::structure("copies", [Term::list(all.to_vec())])
    }

    fn whole(&mut self, indicator: &Indicator) -> Option<&mut Whole> {
        self.predicates.get_mut(indicator)?.whole.as_mut()
    }

    fn make(&mut self, indicator: &Indicator, facts: usize) {
        self.forget_keys(indicator);
        let Some(copy) = self.predicates.get_mut(indicator) else { return };
        copy.whole = Some(Whole { facts, ..Whole::default() });
        copy.is_keyed = false;
        self.facts += facts;
        self.told.predicates_made += 1;
        self.todo.push(Todo::Make(indicator.clone()));
    }

    /// A whole copy follows a fact, or is dropped; says which.
    fn add(&mut self, indicator: &Indicator, end: End, fact: &[u8]) -> bool {
        let has_room = self.facts < MAX_COPIED;
        let is_bound = shape::argument(fact, 1).is_none_or(|first| !shape::is_variable(first));
        if let Some(whole) = self.whole(indicator)
            && has_room
            && is_bound
            && whole.added < MAX_ADDED
            && let Ok(fact) = Term::decode(fact)
        {
            whole.added += 1;
            whole.facts += 1;
            self.facts += 1;
            self.told.facts_followed += 1;
            self.todo.push(Todo::Add(end, fact));
            return true;
        }
        self.drop_whole(indicator);
        false
    }

    fn drop_whole(&mut self, indicator: &Indicator) {
        let Some(copy) = self.predicates.get_mut(indicator) else { return };
        copy.lookups = 0;
        if let Some(whole) = copy.whole.take() {
            self.facts -= whole.facts;
            self.told.predicates_dropped += 1;
            self.todo.push(Todo::Drop(indicator.clone()));
            self.wait_longer(indicator);
        }
    }

    fn wait_longer(&mut self, indicator: &Indicator) {
        let Some(copy) = self.predicates.get_mut(indicator) else { return };
        copy.lookups = 0;
        copy.doublings = (copy.doublings + 1).min(MAX_DOUBLINGS);
        copy.is_by_key = true;
    }

    /// The machine is to ask for the keys of a predicate that have no clause.
    fn by_key(&mut self, indicator: &Indicator) {
        let Some(copy) = self.predicates.get_mut(indicator) else { return };
        if !std::mem::replace(&mut copy.is_keyed, true) {
            self.todo.push(Todo::Keyed(indicator.clone()));
        }
    }
}

impl Todo {
    fn term(self) -> Term {
        let of = |what: &str, Indicator { name, arity }: Indicator| {
            Term::structure(what, [Term::atom(&*name), Term::integer(u64::from(arity))])
        };
        match self {
            Self::Make(indicator) => of("make", indicator),
            Self::Drop(indicator) => of("drop", indicator),
            Self::Keyed(indicator) => of("keyed", indicator),
            Self::Key { kind, clause } => {
                let what = match kind {
                    Kind::Single => "single",
                    Kind::Keyed => "key",
                    Kind::Text => "text",
                };
                Term::structure(what, [clause])
            }
            Self::Unkey { kind, head } => {
                let what = match kind {
                    Kind::Single => "unsingle",
                    Kind::Keyed => "unkey",
                    Kind::Text => "untext",
                };
                Term::structure(what, [head])
            }
            Self::Add(End::First, fact) => Term::structure("add", [Term::atom("a"), fact]),
            Self::Add(End::Last, fact) => Term::structure("add", [Term::atom("z"), fact]),
        }
    }
}

/// Whether the machine's index on the first argument finds as little as ours does. It tells numbers
/// and atoms apart, and compounds by name and arity. Arguments that were declared as keys it does not
/// know.
fn is_told_apart(predicate: &Predicate) -> bool {
    if !predicate.declared().is_empty() {
        return false;
    }
    let mut alike: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut compounds: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    predicate.facts_after(None).all(|(_, fact)| {
        let Some(first) = shape::argument(&fact.bytes, 1) else { return false };
        let (count, most) = match shape::functor(first) {
            Some(functor @ (".", 2)) => (compounds.entry(functor).or_default(), MAX_LISTS),
            Some(functor) => (compounds.entry(functor).or_default(), MAX_ALIKE),
            None => (alike.entry(first).or_default(), MAX_ALIKE),
        };
        *count += 1;
        *count <= most && !shape::is_variable(first)
    })
}

/// The goal that reads a whole predicate.
pub(super) fn most_general(indicator: &Indicator) -> Term {
    let args: Vec<Term> = (0..indicator.arity).map(Term::Var).collect();
    match args.is_empty() {
        true => Term::atom(&*indicator.name),
        false => Term::Compound((&*indicator.name).into(), args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::kb::{Fact, Kb, Position};

    fn kb(facts: &[(u32, Term)]) -> Kb {
        let mut kb = Kb::new();
        for (n, first) in facts {
            let fact = Term::structure("p", [first.clone(), Term::integer(u64::from(*n))]);
            let id = Position { index: 1, n: *n };
            let fact = Fact { id, bytes: fact.encode().unwrap().into() };
            kb.assert(&Indicator::new("p", 2), End::Last, fact);
        }
        kb
    }

    fn look_up(copies: &mut Copies, kb: &Kb, times: u64) {
        let p = Indicator::new("p", 2);
        (0..times).for_each(|_| copies.looked_up(&p, kb.predicate(&p), &Term::EMPTY));
    }

    #[test]
    fn a_copy_is_made_after_look_ups_and_dropped_at_a_write_for_twice_as_many() {
        let (kb, p) = (kb(&[(1, Term::Integer(1)), (2, Term::Integer(2))]), Indicator::new("p", 2));
        let mut copies = Copies::default();
        look_up(&mut copies, &kb, 100);
        assert_eq!(copies.take_todo(), None, "none were asked for");
        copies.start(10);
        look_up(&mut copies, &kb, 9);
        copies.taken(&p, None);
        look_up(&mut copies, &kb, 9);
        assert_eq!(copies.take_todo(), None, "a write begins the count anew");
        look_up(&mut copies, &kb, 1);
        assert_eq!(copies.take_todo().unwrap().to_string(), "'@first'([make(p,2)])");
        assert_eq!(copies.copied().collect::<Vec<_>>(), [&p]);
        copies.taken(&p, None);
        copies.taken(&p, None);
        assert_eq!(copies.take_todo().unwrap().to_string(), "'@first'([drop(p,2)])");
        look_up(&mut copies, &kb, 19);
        assert_eq!(copies.take_todo(), None);
        look_up(&mut copies, &kb, 1);
        assert!(copies.take_todo().is_some());
        copies.drop_all();
        assert!(copies.take_todo().is_some());
        assert_eq!((copies.facts, copies.copied().count()), (0, 0));
    }

    #[test]
    fn what_the_machine_cannot_tell_apart_is_not_copied() {
        let many = |first: fn(u32) -> Term| -> Vec<(u32, Term)> {
            (0..=MAX_ALIKE as u32).map(|n| (n, first(n))).collect()
        };
        for (first, is_copied) in [
            ((|n| Term::Integer(n.into())) as fn(u32) -> Term, true),
            (|n| Term::atom(format!("a{n}")), true),
            (|n| Term::string(format!("a{n}")), false),
            (|n| Term::structure("f", [Term::Integer(n.into())]), false),
            (|_| Term::Integer(0), false),
            (|n| if n == 7 { Term::Var(0) } else { Term::Integer(n.into()) }, false),
        ] {
            let kb = kb(&many(first));
            let mut copies = Copies::default();
            copies.start(1);
            look_up(&mut copies, &kb, 1000);
            assert_eq!(copies.take_todo().is_some(), is_copied, "{}", first(3));
        }
        let mut kb = kb(&many(|n| Term::Integer(n.into())));
        kb.declare_key(&Indicator::new("p", 2), 2);
        let mut copies = Copies::default();
        copies.start(1);
        look_up(&mut copies, &kb, 1000);
        assert_eq!(copies.take_todo(), None, "its index knows of no other argument");
    }

    #[test]
    fn a_whole_copy_follows_what_is_added_at_its_ends() {
        let (kb, p) = (kb(&[(1, Term::Integer(1))]), Indicator::new("p", 2));
        let fact = |n: i64| Term::structure("p", [n.into(), n.into()]).encode().unwrap();
        let todo = |copies: &mut Copies| copies.take_todo().map(|todo| todo.to_string());
        let made = || {
            let mut copies = Copies::default();
            copies.start(1);
            look_up(&mut copies, &kb, 2);
            assert_eq!(todo(&mut copies).unwrap(), "'@first'([make(p,2)])");
            copies
        };
        let mut copies = made();
        copies.follows(&p, Some(End::First), &fact(2));
        copies.added(&p, End::Last, &fact(3));
        assert_eq!(todo(&mut copies).unwrap(), "'@first'([add(a,p(2,2)),add(z,p(3,3))])");
        // Its own write is committed as it was made.
        copies.follows(&p, Some(End::Last), &fact(3));
        copies.rewrote();
        assert_eq!((todo(&mut copies), copies.facts), (None, 3));
        // Somebody else's came first.
        copies.added(&p, End::Last, &fact(4));
        copies.follows(&p, Some(End::Last), &fact(5));
        assert!(todo(&mut copies).unwrap().contains("drop(p,2)"));
        // It was taken back.
        let mut copies = made();
        copies.added(&p, End::Last, &fact(4));
        copies.rewrote();
        assert!(todo(&mut copies).unwrap().contains("drop(p,2)"));
        // It has no place at an end; it has a variable in front; there were too many.
        for write in [
            (|copies: &mut Copies, p: &Indicator, fact: &[u8]| copies.follows(p, None, fact))
                as fn(&mut Copies, &Indicator, &[u8]),
            |copies, p, _| {
                let open = Term::structure("p", [Term::Var(0), Term::EMPTY]).encode().unwrap();
                copies.follows(p, Some(End::Last), &open);
            },
            |copies, p, fact| {
                (0..=MAX_ADDED).for_each(|_| copies.follows(p, Some(End::Last), fact));
            },
        ] {
            let mut copies = made();
            write(&mut copies, &p, &fact(4));
            assert!(todo(&mut copies).unwrap().ends_with("drop(p,2)])"));
            assert_eq!(copies.facts, 0);
        }
    }
}
