//! Snapshots of many facts, taken while they change; and what is not a snapshot.

use super::*;
use crate::apply::rest::{ITEM_BYTES, ITEM_ENTRIES};
use crate::command::{Admit, Configure, IssueTicket};
use proptest::prelude::*;

fn rest(state: &mut State) -> Vec<Bytes> {
    std::iter::from_fn(|| state.snapshot_step()).collect()
}

fn snapshot(state: &mut State) -> Vec<Bytes> {
    assert_eq!(state.begin_snapshot(), state.index());
    rest(state)
}

fn restore(items: &[Bytes]) -> Result<State, RestoreError> {
    let mut restore = Restore::whole();
    for item in items {
        restore.item(item)?;
    }
    restore.finish()
}

fn fact(predicate: usize, key: i64) -> Bytes {
    encoded(&Term::structure(format!("p{predicate}"), [key.into()]))
}

/// A write: to which predicate, at which end, and how many of the oldest facts it retracts.
#[derive(Clone, Debug)]
struct Write {
    predicate: usize,
    is_first: bool,
    added: i64,
    retracted: usize,
}

fn write() -> impl Strategy<Value = Write> {
    (0..4usize, any::<bool>(), 0..60i64, 0..60usize).prop_map(
        |(predicate, is_first, added, retracted)| Write { predicate, is_first, added, retracted },
    )
}

impl Space {
    fn change(&mut self, write: &Write) {
        let Write { predicate, is_first, added, retracted } = *write;
        let indicator = Indicator::new(&format!("p{predicate}"), 1);
        let facts = self.state.kb().predicate(&indicator).into_iter();
        let orders: Vec<i64> =
            facts.flat_map(|p| p.facts_after(None)).map(|(order, _)| order).collect();
        // From the front, the back and the middle.
        let places = (0..retracted.min(orders.len())).map(|n| n * 7919 % orders.len());
        let places: BTreeSet<usize> = places.collect();
        let end = if is_first { End::First } else { End::Last };
        let mut ops: Vec<Op> =
            (0..added).map(|key| Op::Assert { end, fact: fact(predicate, key + added) }).collect();
        ops.extend(
            places
                .into_iter()
                .map(|place| Op::Retract { predicate: indicator.clone(), order: orders[place] }),
        );
        assert!(matches!(self.write(ops), Outcome::Committed(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_snapshot_is_the_state_when_it_was_begun_whatever_comes_between(
        sizes in proptest::collection::vec(0..3000i64, 3),
        early in proptest::collection::vec(write(), 0..6),
        late in proptest::collection::vec((0..3usize, write()), 0..40),
    ) {
        let mut space = Space::new();
        for (predicate, &added) in sizes.iter().enumerate() {
            space.change(&Write { predicate, is_first: predicate == 1, added, retracted: 0 });
        }
        early.iter().for_each(|write| space.change(write));
        let digest = space.state.digest();
        space.state.begin_snapshot();
        let (mut items, mut log) = (Vec::new(), Vec::new());
        for (steps, write) in &late {
            items.extend((0..*steps).map_while(|_| space.state.snapshot_step()));
            space.change(write);
            log.push(space.last.clone());
        }
        items.extend(rest(&mut space.state));
        for item in &items {
            prop_assert!(item.len() <= ITEM_BYTES + 100 * ITEM_ENTRIES);
        }
        let mut restored = restore(&items).unwrap();
        prop_assert_eq!(restored.digest(), digest);
        for command in &log {
            restored.apply(0, command);
        }
        prop_assert_eq!(restored.digest(), space.state.digest());
        prop_assert_eq!(restored.chain(), space.state.chain());
        prop_assert_eq!(restored.kb().digest(), space.state.kb().digest());
        // One that is restored is snapshotted alike.
        let (again, other) = (snapshot(&mut restored), snapshot(&mut space.state));
        prop_assert_eq!(again.last(), other.last());
    }
}

proptest! {
    #[test]
    fn a_damaged_snapshot_is_refused_or_is_the_same(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        how in 0..4u8,
    ) {
        let mut space = of_everything();
        let digest = space.state.digest();
        let mut items = snapshot(&mut space.state);
        let which = which.index(items.len());
        let mut bytes = items[which].to_vec();
        let place = place.index(bytes.len());
        match how {
            0 => bytes[place] = byte,
            1 => bytes[place] ^= 1 << (byte % 8),
            2 => bytes.truncate(place),
            _ => bytes.insert(place, byte),
        }
        items[which] = bytes.into();
        if let Ok(state) = restore(&items) {
            prop_assert_eq!(state.digest(), digest);
        }
        let mut replica = Restore::replica(BTreeSet::from([p2()]));
        if items.iter().all(|item| replica.item(item).is_ok()) {
            let _ = replica.finish();
        }
    }
}

/// A space that has something of every kind in its state.
fn of_everything() -> Space {
    let mut space = Space::new();
    space.write((0..40).map(|key| assert(p(key, key))).collect());
    space.write(vec![
        assert(encoded(&Term::atom("go"))),
        assert(encoded(&Term::EMPTY)),
        retract(3),
    ]);
    let stale = reading(&space.state, 0);
    space.write(vec![retract(0)]);
    space.propose(stale);
    let declared = vec![declares(Indicator::new("job", 3), [3, 2])];
    space.expect(&Command::Claim(Claim { declared, ..claim("a", 0) }));
    let here = position(space.state.index(), 0);
    let (agent, reason) = ("a".to_owned(), "why".to_owned());
    let letter =
        Letter { agent, epoch: here.index, seq: 1, from: here, to: here, event: p(1, 1), reason };
    space.expect(&Command::Letter(letter));
    space.expect(&publish("m".to_owned(), "p.".to_owned()));
    space
}

fn publish(name: String, text: String) -> Command {
    Command::PublishModule { name, text, after: 0 }
}

#[test]
fn the_digest_is_of_everything() {
    type Alter = fn(&mut State);
    let alter: [(&str, Alter); 18] = [
        ("index", |s| s.index += 1),
        ("time", |s| s.time += 1),
        ("chain", |s| s.chain[31] ^= 1),
        ("facts", |s| drop(s.kb.retract(&p2(), 7))),
        ("ends", |s| s.kb.set_ends(&p2(), (-9, 0))),
        ("predicates", |s| s.kb.set_ends(&Indicator::new("q", 0), (-1, 0))),
        ("keys", |s| assert!(s.kb.declare_key(&p2(), 2))),
        ("stamps", |s| s.stamps.raise(Key(7), 9)),
        ("sessions", |s| assert_eq!(s.sessions.open(9, "x".to_owned(), [9; 16]), 9)),
        ("session", |s| s.sessions.record(1, 99, &Outcome::Committed(9))),
        ("agents", |s| drop(s.agents.insert("b".to_owned(), s.agents["a"].clone()))),
        ("agent", |s| s.agents.get_mut("a").unwrap().cursor.n += 1),
        ("letters", |s| s.agents.get_mut("a").unwrap().letters.clear()),
        ("modules", |s| s.modules.get_mut("m").unwrap().text.clear()),
        ("module", |s| s.modules.get_mut("m").unwrap().index += 1),
        ("members", |s| {
            let (peer, node) = (Bytes::from_static(b"peer"), "n".to_owned());
            let admit = Admit { peer, node, nonce: [0; 16], ticket: None, after: 0 };
            s.admit(admit);
        }),
        ("removed", |s| {
            let (peer, node) = (Bytes::from_static(b"peer"), "n".to_owned());
            s.admit(Admit { peer, node, nonce: [0; 16], ticket: None, after: 0 });
            s.configure(&Configure { removed: [1].into(), ..Configure::default() });
        }),
        ("tickets", |s| {
            let issue = IssueTicket { hash: [1; 32], until: 9, uses: 2 };
            s.issue_ticket(&issue);
        }),
    ];
    let state = of_everything().state;
    let mut digests = BTreeSet::from([state.digest()]);
    for (what, alter) in alter {
        let mut altered = state.clone();
        alter(&mut altered);
        assert!(digests.insert(altered.digest()), "{what}");
    }
    // What is a replica's own business is no part of it.
    let mut indexed = state.clone();
    let goal = encoded(&Term::structure("p", [Term::Var(0), 1.into()]));
    (0..40).for_each(|_| indexed.kb.note_scan(&p2(), &goal));
    indexed.begin_snapshot();
    assert_eq!(indexed.digest(), state.digest());
}

#[test]
fn a_state_of_large_parts_makes_no_item_that_a_file_would_not_take() {
    let mut space = Space::new();
    for n in 0..40 {
        let (name, text) = (format!("m{n}"), "x".repeat(1 << 20));
        space.expect(&publish(name, text));
    }
    let large = Term::structure("large", [Term::string("x".repeat(1_000_000))]);
    for _ in 0..8 {
        space.write(vec![assert(encoded(&large)); 3]);
    }
    for nonce in 1..40 {
        space.expect(&open("client", nonce));
        let id = space.state.index();
        for seq in 1..100 {
            space.expect(&by_session(id, seq, 0, nothing(1)));
        }
    }
    let digest = space.state.digest();
    space.state.begin_snapshot();
    let first: Vec<_> = (0..2).map_while(|_| space.state.snapshot_step()).collect();
    // All are retracted before the job comes to them.
    let orders = (0..24).map(|order| Op::Retract { predicate: Indicator::new("large", 1), order });
    space.write(orders.collect());
    let items: Vec<_> = first.into_iter().chain(rest(&mut space.state)).collect();
    let longest = items.iter().map(Bytes::len).max().unwrap();
    assert!(longest < (1 << 21), "{longest} bytes");
    assert!(longest < crate::snapshot::MAX_CHUNK);
    assert_eq!(restore(&items).unwrap().digest(), digest);
}

#[test]
fn a_replica_has_the_facts_that_were_wanted_and_their_keys() {
    let mut space = of_everything();
    let wanted = Indicator::new("job", 3);
    space.write(vec![assert(encoded(&Term::structure("job", [1.into(), 2.into(), 3.into()])))]);
    let items = snapshot(&mut space.state);
    let mut replica = Restore::replica(BTreeSet::from([wanted.clone()]));
    items.iter().for_each(|item| replica.item(item).unwrap());
    let state = replica.finish().unwrap();
    assert_eq!(state.index(), space.state.index());
    assert!(
        state.agents().is_empty() && state.modules().is_empty(),
        "an engine needs none of that"
    );
    let kb = state.into_kb();
    assert_eq!(kb.len(), 1);
    assert_eq!(kb.predicate(&wanted).unwrap().declared(), [3, 2]);
    assert_eq!(kb.predicate(&p2()).unwrap().ends(), (-1, 40), "where its own writes would go");
}

#[test]
fn a_snapshot_is_given_up_for_another_or_altogether() {
    let mut space = of_everything();
    let whole = snapshot(&mut space.state);
    assert_eq!(space.state.snapshot_step(), None);
    space.state.begin_snapshot();
    space.state.snapshot_step();
    assert_eq!(snapshot(&mut space.state), whole);
    space.state.begin_snapshot();
    space.state.abandon_snapshot();
    assert_eq!(space.state.snapshot_step(), None);
}

#[test]
fn what_is_no_snapshot_is_refused_for_what_it_lacks() {
    let mut space = of_everything();
    let items = snapshot(&mut space.state);
    let missing = |what| Some(RestoreError::Missing(what));
    assert_eq!(restore(&[]).err(), missing("head"));
    assert_eq!(restore(&items[1..]).err(), missing("head"));
    assert_eq!(restore(&items[..items.len() - 1]).err(), missing("end"));
    let mut twice = items.clone();
    twice.insert(1, items[0].clone());
    assert!(matches!(restore(&twice), Err(RestoreError::Item(_))));
    twice = items.clone();
    twice.push(items[items.len() - 1].clone());
    assert!(matches!(restore(&twice), Err(RestoreError::Item(_))));
    for n in 1..items.len() - 1 {
        let mut twice = items.clone();
        twice.insert(n, items[n].clone());
        assert!(restore(&twice).is_err(), "item {n} twice");
        let mut without = items.clone();
        without.remove(n);
        assert!(restore(&without).is_err(), "item {n} missing");
        let mut swapped = items.clone();
        swapped.swap(n, 0);
        assert!(restore(&swapped).is_err(), "item {n} first");
    }
}
