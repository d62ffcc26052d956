use super::*;
use crate::command::{Command, MAX_COMMAND_BYTES, Origin, Transaction};
use crate::kb::{Fact, Position};
use crate::term::Term;

fn fact(name: &str, args: &[i64]) -> Vec<u8> {
    let args: Vec<Term> = args.iter().map(|&n| n.into()).collect();
    let term = if args.is_empty() { Term::atom(name) } else { Term::compound(name, args).unwrap() };
    term.encode().unwrap()
}

fn by_key(name: &str, key: i64) -> Vec<u8> {
    Term::structure(name, [key.into(), Term::Var(0)]).encode().unwrap()
}

fn all(name: &str) -> Vec<u8> {
    Term::structure(name, [Term::Var(0), Term::Var(1)]).encode().unwrap()
}

/// A replica with the facts `p(0, 0)` to `p(len - 1, 0)`.
fn replica(len: i64) -> Kb {
    let mut kb = Kb::new();
    for n in 0..len {
        let id = Position { index: 1, n: n as u32 };
        kb.assert(&p2(), End::Last, Fact { id, bytes: fact("p", &[n, 0]).into() });
    }
    kb
}

fn p2() -> Indicator {
    Indicator::new("p", 2)
}

/// What a call gives, read to its end.
fn ask(view: &mut View, kb: &mut Kb, goal: &[u8]) -> Vec<Found> {
    let mut cursor = view.open(kb, goal).unwrap();
    let chunk = view.next(kb, &mut cursor, usize::MAX, usize::MAX);
    assert!(chunk.is_last);
    chunk.facts
}

fn encoded(draft: Draft) -> Bytes {
    // With a name and numbers as long as they can be.
    let position = Position { index: u64::MAX, n: u32::MAX };
    let name = "x".repeat(crate::command::MAX_NAME_BYTES);
    let (epoch, seq) = (u64::MAX, u64::MAX);
    let origin = Origin::Agent {
        name,
        epoch,
        seq,
        from: position,
        to: position,
        record: Default::default(),
        letter: Some(position),
    };
    let Draft { reads, ops, .. } = draft;
    Command::Transact(Transaction { origin, version: u64::MAX, reads, ops }).encode()
}

#[test]
fn a_chunk_ends_where_it_is_told_to_and_says_when_it_is_the_last() {
    let (mut kb, mut view) = (replica(5), View::new(1));
    let len = fact("p", &[0, 0]).len();
    let mut cursor = view.open(&mut kb, &all("p")).unwrap();
    let mut next = |facts, bytes| {
        let chunk = view.next(&kb, &mut cursor, facts, bytes);
        (chunk.facts.iter().map(|found| found.order).collect::<Vec<_>>(), chunk.is_last)
    };
    assert_eq!(next(0, 0), (vec![0], false), "one at least");
    assert_eq!(next(9, 2 * len), (vec![1, 2], false));
    assert_eq!(next(2, usize::MAX), (vec![3, 4], true));
    assert_eq!(next(2, usize::MAX), (vec![], true));
    assert_eq!(ask(&mut view, &mut kb, &by_key("p", 9)), []);
    assert_eq!(ask(&mut view, &mut kb, &by_key("unheard_of", 9)), []);
}

#[test]
fn what_cannot_be_called_is_no_fact_and_no_goal() {
    let (mut kb, mut view) = (replica(0), View::new(1));
    for term in [Term::Integer(1), Term::Var(0), Term::string("ab"), Term::list(vec![1.into()])] {
        let bytes = term.encode().unwrap();
        assert_eq!(view.open(&mut kb, &bytes).err(), Some(WriteError::NotCallable));
        assert_eq!(view.assert(&kb, End::Last, &bytes), Err(WriteError::NotCallable));
    }
    assert!(view.is_read_only());
    assert_eq!(view.finish(), Draft { version: 1, reads: vec![], ops: vec![] });
}

#[test]
fn a_fact_retracted_twice_is_gone_the_second_time() {
    let (kb, mut view) = (replica(2), View::new(1));
    assert_eq!(view.retract(&kb, &p2(), 0), Ok(true));
    assert_eq!(view.retract(&kb, &p2(), 0), Ok(false));
    view.assert(&kb, End::First, &fact("p", &[7, 7])).unwrap();
    assert_eq!(view.retract(&kb, &p2(), -1), Ok(true));
    assert_eq!(view.retract(&kb, &p2(), -1), Ok(false));
    assert_eq!(view.retract(&kb, &p2(), 99), Ok(false));
    assert_eq!(view.retract(&kb, &Indicator::new("q", 0), 0), Ok(false));
    assert_eq!(view.finish().ops, [Op::Retract { predicate: p2(), order: 0 }]);
}

#[test]
fn reads_are_kept_through_a_rollback_and_writes_are_not() {
    let (mut kb, mut view) = (replica(2), View::new(1));
    let before = view.savepoint();
    ask(&mut view, &mut kb, &by_key("p", 1));
    view.retract(&kb, &p2(), 1).unwrap();
    view.emit(&fact("event", &[])).unwrap();
    view.assert(&kb, End::Last, &fact("p", &[9, 9])).unwrap();
    let reads = view.finish().reads;
    view.rollback(before);
    assert!(view.is_read_only());
    assert_eq!(view.finish(), Draft { version: 1, reads: reads.clone(), ops: vec![] });
    assert_eq!(reads.len(), 2, "the key and the facts without one");
    let calls = view.calls_behind(&reads);
    assert_eq!(calls, vec![Bytes::from(by_key("p", 1)); 2]);
}

#[test]
fn more_keys_of_one_predicate_than_the_bound_are_the_predicate() {
    let (mut kb, mut view) = (replica(0), View::new(1));
    // Each call reads its own key, and all of them one more.
    for key in 1..MAX_KEYS_READ as i64 {
        ask(&mut view, &mut kb, &by_key("p", key));
    }
    ask(&mut view, &mut kb, &by_key("q", 1));
    let reads = view.finish().reads;
    assert_eq!(reads.len(), MAX_KEYS_READ + 2);
    ask(&mut view, &mut kb, &by_key("p", 0));
    let reads = view.finish().reads;
    let whole = crate::kb::key::whole(&p2()).0;
    assert_eq!(reads.len(), 3);
    assert!(reads.contains(&whole));
    assert_eq!(view.calls_behind(&[whole]), [Bytes::from(by_key("p", 0))]);
    ask(&mut view, &mut kb, &by_key("p", -5));
    assert_eq!(view.finish().reads, reads);
}

#[test]
fn more_keys_in_all_than_the_bound_are_the_predicates() {
    let (mut kb, mut view) = (replica(0), View::new(1));
    let predicates = 100;
    let name = |n: usize| format!("p{n}");
    let keys = MAX_KEYS_READ_IN_ALL / predicates;
    let mut most = 0;
    for n in 0..predicates {
        for key in 0..keys as i64 {
            ask(&mut view, &mut kb, &by_key(&name(n), key));
        }
        most = most.max(view.finish().reads.len());
    }
    assert!(most > MAX_KEYS_READ_IN_ALL - keys);
    let reads = view.finish().reads;
    assert_eq!(reads.len(), predicates);
    let whole = |n| crate::kb::key::whole(&Indicator::new(&name(n), 2)).0;
    assert!((0..predicates).all(|n| reads.contains(&whole(n))));
    // From then on at once.
    ask(&mut view, &mut kb, &by_key("new", 1));
    assert_eq!(view.finish().reads.len(), predicates + 1);
}

/// Fills a view by one kind of write, and returns how many there were.
fn fill(view: &mut View, mut write: impl FnMut(&mut View, i64) -> Result<(), WriteError>) -> i64 {
    let full = (0..).find(|&n| {
        let before = view.finish_len();
        let is_full = write(view, n) == Err(WriteError::TooLarge);
        assert!(!is_full || view.finish_len() == before, "what is refused changes nothing");
        is_full
    });
    full.unwrap_or_default()
}

impl View {
    fn finish_len(&self) -> usize {
        self.steps.len()
    }
}

#[test]
fn whatever_a_goal_may_write_and_read_fits_into_a_command() {
    let long = "p".repeat(300);
    let mut kb = replica(0);
    for n in 0..200_000u32 {
        let fact = Fact { id: Position { index: 1, n }, bytes: fact("r", &[]).into() };
        kb.place(&Indicator::new("r", 0), (1 << 50) + i64::from(n), fact);
    }
    for n in 0..10_000u32 {
        let fact = Fact { id: Position { index: 1, n }, bytes: fact("r", &[]).into() };
        kb.place(&Indicator::new(&format!("{long}{n}"), 0), -1, fact);
    }
    let large = Term::string("x".repeat(1_000_000)).encode().unwrap();
    let mut tight = 0;
    for kind in 0..5 {
        let mut view = View::new(1);
        let retract = |view: &mut View, name: &str, order| {
            view.retract(&kb, &Indicator::new(name, 0), order).map(|taken| assert!(taken))
        };
        let written = fill(&mut view, |view, n| match kind {
            0 => view.emit(&[0]),
            1 => view.assert(&kb, End::Last, &fact("x", &[])),
            2 => retract(view, "r", (1 << 50) + n),
            3 => retract(view, &format!("{long}{n}"), -1),
            _ => view.emit(&large),
        });
        assert!(written > 2);
        let len = encoded(view.finish()).len() + 9 * MAX_KEYS_READ_IN_ALL;
        assert!(len <= MAX_COMMAND_BYTES, "{len} bytes of writes of kind {kind}");
        tight = tight.max(len);
    }
    assert!(tight > MAX_TRANSACTION_BYTES, "the bound is not much lower than it need be");
}

#[test]
fn a_rollback_gives_room_back() {
    let (kb, mut view) = (replica(1), View::new(1));
    let before = view.savepoint();
    for _ in 0..3 {
        let emitted = fill(&mut view, |view, _| view.emit(&[0; 1000]));
        assert_eq!(emitted, MAX_TRANSACTION_BYTES as i64 / 1008);
        assert_eq!(view.retract(&kb, &p2(), 0), Ok(true), "a little is left");
        view.rollback(before);
    }
    assert!(view.is_read_only());
}

// What follows would take minutes if a goal's own writes made each next one slower.

#[test]
fn a_goal_that_updates_one_key_again_and_again_stays_as_fast() {
    let (mut kb, mut view) = (replica(1), View::new(1));
    let outer = view.open(&mut kb, &all("p")).unwrap();
    for n in 0..20_000 {
        let found = ask(&mut view, &mut kb, &by_key("p", 0));
        assert_eq!(found.len(), 1);
        view.retract(&kb, &p2(), found[0].order).unwrap();
        view.assert(&kb, End::Last, &fact("p", &[0, n])).unwrap();
    }
    assert_eq!(view.finish().ops.len(), 2);
    // A call from before still sees what it saw.
    let chunk = view.next(&kb, &mut outer.clone(), 9, usize::MAX);
    assert_eq!(chunk.facts.iter().map(|found| found.order).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_goal_that_looks_up_each_fact_that_it_adds_stays_as_fast() {
    let (mut kb, mut view) = (replica(0), View::new(1));
    for key in 0..20_000 {
        assert_eq!(ask(&mut view, &mut kb, &by_key("p", key)), []);
        view.assert(&kb, if key % 2 == 0 { End::First } else { End::Last }, &fact("p", &[key, 0]))
            .unwrap();
        assert_eq!(ask(&mut view, &mut kb, &by_key("p", key)).len(), 1);
    }
}

#[test]
fn a_goal_that_takes_the_first_again_and_again_stays_as_fast() {
    let (mut kb, mut view) = (replica(20_000), View::new(1));
    let before = view.savepoint();
    let first = |view: &mut View, kb: &mut Kb| {
        let mut cursor = view.open(kb, &all("p")).unwrap();
        view.next(kb, &mut cursor, 1, usize::MAX).facts.first().map(|found| found.order)
    };
    for n in 0..20_000 {
        assert_eq!(first(&mut view, &mut kb), Some(n));
        view.retract(&kb, &p2(), n).unwrap();
    }
    assert_eq!(first(&mut view, &mut kb), None);
    view.rollback(before);
    assert_eq!(first(&mut view, &mut kb), Some(0), "what was passed over is there again");
}

#[test]
fn a_call_is_read_to_its_end_while_all_that_it_sees_is_retracted() {
    let (mut kb, mut view) = (replica(0), View::new(1));
    for n in 0..20_000 {
        view.assert(&kb, End::Last, &fact("p", &[n, 0])).unwrap();
    }
    let mut cursor = view.open(&mut kb, &all("p")).unwrap();
    for n in 0..20_000 {
        let chunk = view.next(&kb, &mut cursor, 1, usize::MAX);
        assert_eq!(chunk.facts.iter().map(|found| found.order).collect::<Vec<_>>(), [n]);
        view.retract(&kb, &p2(), n).unwrap();
        view.assert(&kb, End::Last, &fact("p", &[n, 1])).unwrap();
    }
    assert!(view.next(&kb, &mut cursor, 1, usize::MAX).is_last);
    assert_eq!(view.finish().ops.len(), 20_000);
}
