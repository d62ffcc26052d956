//! Facts that are read without an engine.

use super::*;
use proptest::prelude::*;

fn assert(fact: Term) -> Op {
    Op::Assert { end: End::Last, fact: fact.encode().unwrap().into() }
}

fn pair(a: Term, b: Term) -> Term {
    Term::structure("p", [a, b])
}

fn read(state: &mut State, goal: Term, max: usize, bytes: usize) -> (Vec<Term>, bool) {
    let found = state.read(&Goal::new(goal).unwrap(), max, bytes).unwrap();
    assert_eq!(found.index, state.index());
    (found.facts.iter().map(|fact| Term::decode(fact).unwrap()).collect(), found.more)
}

const ALL: usize = usize::MAX;

#[test]
fn facts_come_in_clause_order_up_to_the_bounds() {
    let mut space = Space::new();
    let facts: Vec<Term> = (0..10_i64).map(|n| pair((n % 2).into(), n.into())).collect();
    space.write(facts.iter().cloned().map(assert).collect());
    let state = &mut space.state;
    let any = || pair(Term::Var(0), Term::Var(1));
    assert_eq!(read(state, any(), ALL, ALL), (facts.clone(), false));
    assert_eq!(read(state, any(), 3, ALL), (facts[..3].to_vec(), true));
    assert_eq!(read(state, any(), 10, ALL), (facts.clone(), false));
    assert_eq!(read(state, any(), ALL, 1), (facts[..1].to_vec(), true), "the first in any case");
    let odd = pair(1.into(), Term::Var(0));
    let odds: Vec<Term> = facts.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(read(state, odd, ALL, ALL), (odds, false));
    assert_eq!(read(state, pair(1.into(), 2.into()), ALL, ALL), (vec![], false));
    let same = pair(Term::Var(0), Term::Var(0));
    assert_eq!(read(state, same, ALL, ALL).0, [pair(0.into(), 0.into()), pair(1.into(), 1.into())]);
    assert_eq!(read(state, Term::atom("unheard_of"), ALL, ALL), (vec![], false));
}

#[test]
fn what_is_no_call_of_a_predicate_is_refused() {
    assert_eq!(Goal::new(7.into()).unwrap_err(), ReadError::NotCallable);
    assert_eq!(Goal::new(Term::Var(0)).unwrap_err(), ReadError::NotCallable);
    let both = Term::structure(",", [Term::atom("a"), Term::atom("b")]);
    assert_eq!(Goal::new(both).unwrap_err(), ReadError::Control(Indicator::new(",", 2)));
    let no = Goal::new(Term::structure("\\+", [Term::atom("a")])).unwrap_err();
    assert!(no.to_string().contains("query"), "{no}");
}

#[test]
fn what_would_take_too_long_is_refused_until_there_is_an_index() {
    let mut space = Space::new();
    let most = i64::try_from(MAX_SCANNED).unwrap();
    let facts = |n: i64| assert(pair(Term::atom("same"), n.into()));
    for n in 0..=most / 4096 {
        space.write((n * 4096..(n + 1) * 4096).map(facts).collect());
    }
    let state = &mut space.state;
    // By a first argument that all have, as without one.
    let wanted = |first: Term| Goal::new(pair(first, (most + 1).into())).unwrap();
    let refused = state.read(&wanted(Term::atom("same")), 1, ALL).unwrap_err();
    assert_eq!(refused, ReadError::Scan(Indicator::new("p", 2)));
    assert_eq!(state.read(&wanted(Term::atom("other")), 1, ALL).unwrap().facts.len(), 0);
    let any = || pair(Term::Var(0), Term::Var(1));
    assert_eq!(read(state, any(), 5, ALL).0.len(), 5, "the bounds are of what is looked at");
    // What is asked for often has an index at last.
    let found = (0..64).find_map(|_| state.read(&wanted(Term::Var(0)), 1, ALL).ok()).unwrap();
    assert_eq!((found.facts.len(), found.more), (1, false));
}

proptest! {
    /// Reading makes indexes, and writing keeps them: what is found is what a scan finds.
    #[test]
    fn reading_says_what_the_facts_say(
        ops in prop::collection::vec((0..3_u8, 0..6_i64, 0..3_i64), 0..60),
    ) {
        let mut space = Space::new();
        let mut facts: Vec<(i64, i64)> = Vec::new();
        for (what, a, b) in ops {
            match what {
                0 => {
                    space.write(vec![assert(pair(a.into(), b.into()))]);
                    facts.push((a, b));
                }
                1 => if let Some(at) = facts.iter().position(|fact| *fact == (a, b)) {
                    let goal = pair(a.into(), b.into()).encode().unwrap();
                    let kb = space.state.kb();
                    let predicate = Indicator::new("p", 2);
                    let all = kb.predicate(&predicate).unwrap().facts_after(None);
                    let (order, _) = all.into_iter().find(|(_, f)| f.bytes == goal).unwrap();
                    space.write(vec![Op::Retract { predicate, order }]);
                    facts.remove(at);
                }
                _ => {
                    let (found, more) = read(&mut space.state, pair(a.into(), Term::Var(0)), ALL, ALL);
                    let wanted: Vec<Term> = facts.iter().filter(|fact| fact.0 == a)
                        .map(|&(a, b)| pair(a.into(), b.into())).collect();
                    prop_assert_eq!((found, more), (wanted, false));
                }
            }
        }
    }
}
