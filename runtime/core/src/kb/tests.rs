use super::key::{Keys, whole};
use super::*;
use crate::term::Term;
use crate::term::samples::term;
use proptest::collection::vec;
use proptest::prelude::*;

fn p(args: &[Term]) -> Bytes {
    let term =
        if args.is_empty() { Term::atom("p") } else { Term::compound("p", args.to_vec()).unwrap() };
    term.encode().unwrap().into()
}

fn indicator(arity: usize) -> Indicator {
    Indicator::new("p", arity as u32)
}

fn fact(n: u32, bytes: Bytes) -> Fact {
    Fact { id: Position { index: 1, n }, bytes }
}

/// A knowledge base of p/2 facts `p(Key, Value)`.
fn kb(pairs: impl IntoIterator<Item = (i64, i64)>) -> Kb {
    let mut kb = Kb::new();
    for (n, (key, value)) in (0..).zip(pairs) {
        kb.assert(&indicator(2), End::Last, fact(n, p(&[key.into(), value.into()])));
    }
    kb
}

fn orders(kb: &Kb, goal: &[u8], arity: usize) -> Vec<i64> {
    let plan = kb.plan(&indicator(arity), goal);
    let predicate = kb.predicate(&indicator(arity)).unwrap();
    let orders = predicate.orders(&plan, None, usize::MAX);
    let found = predicate.find(&plan, None, usize::MAX);
    assert_eq!(found.iter().map(|(order, _)| *order).collect::<Vec<_>>(), orders);
    orders
}

fn read(plan: &Plan) -> (Key, Option<Keys>) {
    match plan.reads {
        Reads::Whole(whole) => (whole, None),
        Reads::Keys(whole, keys) => (whole, Some(keys)),
    }
}

#[test]
fn clause_order_grows_at_both_ends_and_is_never_given_again() {
    let (mut kb, p2) = (kb([(1, 1), (2, 2)]), indicator(2));
    let fact = |n| fact(n, p(&[3.into(), 3.into()]));
    assert_eq!(kb.assert(&p2, End::First, fact(7)), -1);
    assert_eq!(kb.assert(&p2, End::First, fact(8)), -2);
    assert_eq!(kb.assert(&p2, End::Last, fact(9)), 2);
    let listed = |kb: &Kb| -> Vec<i64> {
        kb.predicate(&p2).unwrap().facts_after(None).map(|(order, _)| order).collect()
    };
    assert_eq!(listed(&kb), [-2, -1, 0, 1, 2]);
    assert_eq!(kb.retract(&p2, -2).map(|fact| fact.id.n), Some(8));
    assert_eq!(kb.retract(&p2, 2).map(|fact| fact.id.n), Some(9));
    assert_eq!(kb.retract(&p2, 2), None);
    assert_eq!(kb.assert(&p2, End::First, fact(10)), -3);
    assert_eq!(kb.assert(&p2, End::Last, fact(11)), 3);
    assert_eq!(listed(&kb), [-3, -1, 0, 1, 3]);
    assert_eq!(kb.predicate(&p2).unwrap().ends(), (-4, 4));
    assert_eq!(orders(&kb, &p(&[3.into(), Term::Var(0)]), 2), [-3, -1, 3]);
}

#[test]
fn a_fact_placed_far_out_moves_the_ends_and_overflows_nothing() {
    let mut kb = Kb::new();
    for order in [5, -9, i64::MAX, i64::MIN] {
        kb.place(&indicator(0), order, fact(0, p(&[])));
    }
    assert_eq!(kb.predicate(&indicator(0)).unwrap().ends(), (i64::MIN, i64::MAX));
    assert_eq!(kb.predicate(&indicator(0)).unwrap().len(), 4);
}

#[test]
fn a_declared_argument_is_a_key_of_its_own() {
    let (mut kb, p2) = (kb([(1, 10), (2, 10), (3, 20)]), indicator(2));
    let by_second = p(&[Term::Var(0), 10.into()]);
    assert!(kb.plan(&p2, &by_second).is_scan());
    assert!(kb.declare_key(&p2, 2));
    assert!(!kb.declare_key(&p2, 2), "it is there already");
    assert!(!kb.declare_key(&p2, 1), "the first always is one");
    assert!(!kb.declare_key(&p2, 3), "there is no third");
    assert_eq!(orders(&kb, &by_second, 2), [0, 1]);
    assert!(read(&kb.plan(&p2, &by_second)).1.is_some());
    // The first argument comes first, if it is bound as far.
    let both = kb.plan(&p2, &p(&[1.into(), 10.into()]));
    assert_eq!(read(&both), read(&kb.plan(&p2, &p(&[1.into(), Term::Var(0)]))));
}

#[test]
fn no_more_keys_are_declared_than_the_bound() {
    let (mut kb, wide) = (Kb::new(), indicator(20));
    let declared = (2..=20).filter(|&argument| kb.declare_key(&wide, argument)).count();
    assert_eq!(declared, MAX_KEYS);
    assert_eq!(kb.predicate(&wide).unwrap().declared(), (2..).take(MAX_KEYS).collect::<Vec<u32>>());
}

#[test]
fn an_argument_that_calls_keep_asking_for_is_indexed_and_read_as_before() {
    let (mut kb, p2) = (kb((0..100).map(|n| (n, n % 10))), indicator(2));
    let goal = p(&[Term::Var(0), 3.into()]);
    let partly = p(&[Term::Var(0), Term::structure("f", [Term::Var(1)])]);
    let before = read(&kb.plan(&p2, &goal));
    assert_eq!(before, (whole(&p2), None));
    for _ in 0..20 {
        kb.note_scan(&p2, &partly);
    }
    assert!(kb.plan(&p2, &goal).is_scan(), "no scan was for want of a key");
    let needed = (1..20).find(|_| {
        kb.note_scan(&p2, &goal);
        !kb.plan(&p2, &goal).is_scan()
    });
    assert_eq!(needed, Some(8));
    assert_eq!(read(&kb.plan(&p2, &goal)), before, "validation knows nothing of it");
    assert_eq!(orders(&kb, &goal, 2), (0..10).map(|n| 10 * n + 3).collect::<Vec<i64>>());
    // It is kept up, and a declaration makes it known to validation.
    kb.retract(&p2, 13);
    kb.assert(&p2, End::Last, fact(0, p(&[5.into(), 3.into()])));
    assert_eq!(orders(&kb, &goal, 2)[..2], [3, 23]);
    assert_eq!(orders(&kb, &goal, 2).last(), Some(&100));
    assert!(kb.declare_key(&p2, 2));
    assert!(read(&kb.plan(&p2, &goal)).1.is_some());
}

#[test]
fn an_index_of_a_replicas_own_coarsens_no_read() {
    let (mut kb, p3) = (Kb::new(), indicator(3));
    let f = |n: i64| Term::structure("f", [n.into()]);
    for n in 0..100 {
        kb.assert(&p3, End::Last, fact(0, p(&[f(n), n.into(), (-n).into()])));
    }
    let partly = p(&[Term::structure("f", [Term::Var(0)]), 5.into(), Term::Var(1)]);
    let before = read(&kb.plan(&p3, &partly));
    assert!(before.1.is_some());
    for _ in 0..8 {
        kb.note_scan(&p3, &p(&[Term::Var(0), 5.into(), Term::Var(1)]));
    }
    assert_eq!(orders(&kb, &partly, 3), [5], "found by the second argument");
    assert_eq!(read(&kb.plan(&p3, &partly)), before, "read by the first");
    // Declared keys go before indexes that were there first.
    for _ in 0..8 {
        kb.note_scan(&p3, &p(&[Term::Var(0), Term::Var(1), 5.into()]));
    }
    assert!(kb.declare_key(&p3, 3));
    let by_third = read(&kb.plan(&p3, &p(&[Term::Var(0), Term::Var(1), 5.into()])));
    let by_both = read(&kb.plan(&p3, &p(&[Term::Var(0), 5.into(), 5.into()])));
    assert!(by_third.1.is_some());
    assert_eq!(by_third, by_both);
}

#[test]
fn the_bound_of_predicates_is_known() {
    let mut kb = Kb::new();
    for arity in 0..MAX_PREDICATES as u32 {
        let predicate = Indicator::new("p", arity);
        assert!(!kb.is_full_for(&predicate));
        kb.define(&predicate);
    }
    assert!(kb.is_full_for(&Indicator::new("q", 0)));
    assert!(!kb.is_full_for(&Indicator::new("p", 7)), "that one is there");
}

/// A change of a knowledge base of p/2, by numbers.
type Change = (bool, bool, Term, Term);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec((any::<bool>(), prop::bool::weighted(0.7), term(), term()), 0..40)
}

proptest! {
    #[test]
    fn the_same_facts_have_the_same_digest_however_they_came(changes in changes()) {
        let (mut kb, p2) = (Kb::new(), indicator(2));
        let mut live = Vec::new();
        for (n, (is_first, is_new, a, b)) in (0..).zip(&changes) {
            if *is_new || live.is_empty() {
                let end = if *is_first { End::First } else { End::Last };
                let fact = fact(n, p(&[a.clone(), b.clone()]));
                live.push((kb.assert(&p2, end, fact.clone()), fact));
            } else {
                let (order, fact) = live.swap_remove(n as usize % live.len());
                prop_assert_eq!(kb.retract(&p2, order), Some(fact));
            }
        }
        let mut placed = Kb::new();
        live.iter().for_each(|(order, fact)| placed.place(&p2, *order, fact.clone()));
        let mut filled = Kb::new();
        filled.place_all(&p2, live.clone());
        prop_assert_eq!(placed.digest(), kb.digest());
        prop_assert_eq!(filled.digest(), kb.digest());
        // Another id, another order or another fact is another digest.
        if let Some((order, fact)) = live.pop() {
            let with = |order: i64, fact: Fact| {
                let mut kb = kb.clone();
                kb.retract(&p2, order);
                kb.place(&p2, order, fact);
                kb.digest()
            };
            prop_assert_eq!(with(order, fact.clone()), kb.digest());
            let id = Position { n: fact.id.n + 100, ..fact.id };
            prop_assert_ne!(with(order, Fact { id, ..fact.clone() }), kb.digest());
            let bytes = p(&[Term::atom("another"), Term::EMPTY]);
            prop_assert_ne!(with(order, Fact { bytes, ..fact }), kb.digest());
        }
    }

    #[test]
    fn what_an_index_finds_validation_sees(
        facts in vec((term(), term()), 1..30),
        goals in vec((term(), term()), 1..8),
        declared in any::<bool>(),
    ) {
        let (mut kb, p2) = (Kb::new(), indicator(2));
        if declared {
            kb.declare_key(&p2, 2);
        }
        let mut raised = Vec::new();
        for (n, (a, b)) in (0..).zip(&facts) {
            let mut keys = Vec::new();
            let fact = fact(n, p(&[a.clone(), b.clone()]));
            kb.assert_raising(&p2, End::Last, fact, |key| keys.push(key));
            raised.push(keys);
        }
        let goals = goals.iter().chain(&facts);
        for (a, b) in goals {
            let goal = p(&[a.clone(), b.clone()]);
            let plan = kb.plan(&p2, &goal);
            let (whole, keys) = read(&plan);
            let all = keys.map_or(vec![whole], |keys| keys.iter().collect());
            for order in orders(&kb, &goal, 2) {
                prop_assert!(raised[order as usize].iter().any(|key| all.contains(key)));
            }
        }
        // A retraction raises what the assertion did.
        for (order, keys) in (0..).zip(&raised) {
            let mut again = Vec::new();
            kb.retract_raising(&p2, order, |key| again.push(key));
            prop_assert_eq!(&again, keys);
        }
        prop_assert_eq!(kb.digest(), SetDigest::default());
    }
}
