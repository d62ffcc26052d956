//! What the simulator's model of a space does not reach: bounds, what is far apart, and snapshots
//! of many facts. The rest is in `tests/sim/tests/apply.rs`.

mod origins;
mod read;
mod snapshots;

use super::*;
use crate::command::{Declaration, Mode};
use crate::kb::End;
use crate::term::Term;
use crate::transaction::{Draft, View};

/// A space with a session.
struct Space {
    state: State,
    session: u64,
    seq: u64,
    /// The command that was applied last.
    last: Bytes,
}

impl Space {
    fn new() -> Self {
        let state = State::new([0; 32]);
        let mut space = Self { state, session: 0, seq: 0, last: Bytes::new() };
        space.session = match space.apply(&open("client", 0)) {
            Outcome::Committed(id) => id,
            refused => panic!("{refused:?}"),
        };
        space
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.last = command.encode();
        self.state.apply(0, &self.last).outcome
    }

    /// Writes at the present version, by the session's next number.
    fn write(&mut self, ops: Vec<Op>) -> Outcome {
        let draft = Draft { version: self.state.index(), reads: vec![], ops };
        self.propose(draft)
    }

    fn propose(&mut self, draft: Draft) -> Outcome {
        self.seq += 1;
        let command = by_session(self.session, self.seq, self.seq - 1, draft);
        self.apply(&command)
    }

    fn expect(&mut self, command: &Command) {
        let index = self.state.index() + 1;
        assert_eq!(self.apply(command), Outcome::Committed(index));
    }

    /// Read back from a snapshot.
    fn restored(&mut self) -> Self {
        self.state.begin_snapshot();
        let mut restore = Restore::whole();
        while let Some(item) = self.state.snapshot_step() {
            restore.item(&item).unwrap();
        }
        let state = restore.finish().unwrap();
        Self { state, session: self.session, seq: self.seq, last: self.last.clone() }
    }

    fn refuses(&mut self, command: &Command, why: Refusal) {
        let index = self.state.index() + 1;
        assert_eq!(self.apply(command), Outcome::Refused(index, why));
    }
}

fn open(label: &str, nonce: u64) -> Command {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    Command::OpenSession { label: label.to_owned(), nonce: bytes }
}

fn by_session(id: u64, seq: u64, acked: u64, draft: Draft) -> Command {
    let Draft { version, reads, ops } = draft;
    let origin = Origin::Session { id, seq, acked };
    Command::Transact(Transaction { origin, version, reads, ops })
}

fn by_agent(epoch: u64, seq: u64, (from, to): (Position, Position), draft: Draft) -> Command {
    let Draft { version, reads, ops } = draft;
    let origin = Origin::Agent {
        name: "a".to_owned(),
        epoch,
        seq,
        from,
        to,
        record: Default::default(),
        letter: None,
    };
    Command::Transact(Transaction { origin, version, reads, ops })
}

fn nothing(version: u64) -> Draft {
    Draft { version, reads: vec![], ops: vec![] }
}

fn position(index: u64, n: u32) -> Position {
    Position { index, n }
}

fn encoded(term: &Term) -> Bytes {
    term.encode().unwrap().into()
}

fn p(key: i64, value: i64) -> Bytes {
    encoded(&Term::structure("p", [key.into(), value.into()]))
}

fn p2() -> Indicator {
    Indicator::new("p", 2)
}

fn assert(fact: Bytes) -> Op {
    Op::Assert { end: End::Last, fact }
}

fn retract(order: i64) -> Op {
    Op::Retract { predicate: p2(), order }
}

/// What a goal reads that asks for `p(key, _)` at this version of the state.
fn reading(state: &State, key: i64) -> Draft {
    let mut view = View::new(state.index());
    let goal = encoded(&Term::structure("p", [key.into(), Term::Var(0)]));
    view.open(&mut state.kb().clone(), &goal).unwrap();
    view.finish()
}

fn claim(agent: &str, after: u64) -> Claim {
    Claim {
        agent: agent.to_owned(),
        node: "n".to_owned(),
        program: [1; 32],
        mode: Mode::One,
        after,
        declared: vec![],
    }
}

fn declares(predicate: Indicator, keys: impl IntoIterator<Item = u32>) -> Declaration {
    Declaration { predicate, keys: keys.into_iter().collect() }
}

#[test]
fn the_chain_holds_every_command_its_place_and_its_time() {
    let mut state = State::new([7; 32]);
    let mut chain = [7; 32];
    let mut last = 0;
    let junk = Bytes::from_static(b"junk");
    for (n, time) in [5, 3, 5, 9].into_iter().enumerate() {
        let applied = state.apply(time, &junk);
        last = time.max(last);
        chain = link(&chain, n as u64 + 1, last, b"junk");
        assert_eq!((applied.index, applied.time), (n as u64 + 1, last), "time never runs back");
        assert_eq!(applied.outcome, Outcome::Refused(applied.index, Refusal::Malformed));
        assert_eq!((state.chain(), state.time(), state.index()), (chain, last, applied.index));
    }
    let chains = [
        link(&[0; 32], 1, 2, b"x"),
        link(&[1; 32], 1, 2, b"x"),
        link(&[0; 32], 2, 2, b"x"),
        link(&[0; 32], 1, 3, b"x"),
        link(&[0; 32], 1, 2, b"y"),
    ];
    assert_eq!(chains.iter().collect::<BTreeSet<_>>().len(), chains.len());
}

#[test]
fn a_change_says_what_was_done_where_and_by_whom() {
    let mut space = Space::new();
    let ops =
        vec![assert(p(1, 1)), Op::Emit { event: encoded(&Term::atom("go")) }, assert(p(2, 2))];
    space.write(ops);
    let ops = vec![
        retract(0),
        assert(p(3, 3)),
        retract(0),
        Op::Assert { end: End::First, fact: p(4, 4) },
    ];
    let command = by_session(space.session, 9, 8, Draft { version: 2, reads: vec![], ops });
    let applied = space.state.apply(0, &command.encode());
    let effects = vec![
        (0, Effect::Retracted { predicate: p2(), order: 0, fact: p(1, 1) }),
        (1, Effect::Asserted { predicate: p2(), order: 2, fact: p(3, 3) }),
        (3, Effect::Asserted { predicate: p2(), order: -1, fact: p(4, 4) }),
    ];
    let change = Change { index: applied.index, by: "client".to_owned(), effects };
    assert_eq!(applied.change, Some(change));
    let silent = by_session(space.session, 10, 9, nothing(2));
    assert_eq!(space.state.apply(0, &silent.encode()).change, None);
}

#[test]
fn a_conflict_names_what_was_read_and_no_more_keys_than_the_bound() {
    let mut space = Space::new();
    space.write((0..200).map(|key| assert(p(key, 0))).collect());
    let (one, other) = (reading(&space.state, 1), reading(&space.state, 2));
    space.write(vec![retract(1)]);
    assert!(matches!(space.propose(other), Outcome::Committed(_)), "another key");
    let Outcome::Refused(_, Refusal::Conflict(keys)) = space.propose(one.clone()) else {
        panic!("a missed conflict")
    };
    assert!(!keys.is_empty() && keys.iter().all(|key| one.reads.contains(key)));
    // What is gone cannot be retracted, whatever was read.
    let again = Draft { version: space.state.index(), reads: vec![], ops: vec![retract(1)] };
    let whole = key::whole(&p2()).0;
    let Outcome::Refused(_, why) = space.propose(again) else { panic!("retracted twice") };
    assert_eq!(why, Refusal::Conflict(vec![whole]));
    let version = space.state.index();
    let reads: BTreeSet<u64> = (0..200).flat_map(|key| reading(&space.state, key).reads).collect();
    space.write((0..200).map(|key| assert(p(key, 1))).collect());
    let all = Draft { version, reads: reads.into_iter().collect(), ops: vec![] };
    let Outcome::Refused(_, Refusal::Conflict(keys)) = space.propose(all) else {
        panic!("a missed conflict")
    };
    assert_eq!(keys.len(), MAX_KEYS_NAMED);
}

#[test]
fn what_read_below_the_floor_is_too_old_and_what_read_nothing_is_not() {
    let mut space = Space::new();
    space.state.stamps = Stamps::bounded(8);
    space.write(vec![assert(p(0, 0))]);
    let early = reading(&space.state, 0);
    let blind = Draft { version: early.version, reads: vec![], ops: vec![assert(p(7, 7))] };
    let gone = Draft { version: early.version, reads: vec![], ops: vec![retract(0)] };
    for key in 1..5 {
        assert!(matches!(space.write(vec![assert(p(key, 0))]), Outcome::Committed(_)));
    }
    // Two stamps a write, and eight are kept: of the four last writes.
    assert_eq!(space.state.stamps.floor(), 2);
    assert!(matches!(space.propose(early.clone()), Outcome::Committed(_)), "not below the floor");
    space.write(vec![assert(p(9, 0))]);
    let index = space.state.index() + 1;
    assert_eq!(space.propose(early), Outcome::Refused(index, Refusal::TooOld));
    assert_eq!(space.propose(gone), Outcome::Refused(index + 1, Refusal::TooOld));
    assert!(matches!(space.propose(blind), Outcome::Committed(_)), "it depends on nothing");
    // A command that writes more than all stamps: whoever read before it is too old, not after.
    let before = reading(&space.state, 0);
    space.write((20..40).map(|key| assert(p(key, 0))).collect());
    let after = reading(&space.state, 0);
    assert_eq!(space.state.stamps.floor(), space.state.index());
    let index = space.state.index() + 1;
    assert_eq!(space.propose(before), Outcome::Refused(index, Refusal::TooOld));
    assert!(matches!(space.propose(after), Outcome::Committed(_)));
}

#[test]
fn what_says_that_it_read_in_the_future_is_refused() {
    let mut space = Space::new();
    space.write(vec![assert(p(0, 0))]);
    let mut draft = reading(&space.state, 0);
    space.write(vec![retract(0)]);
    // As if the replica were of a longer history: nothing newer could ever be found.
    for ahead in [0, 1, 1 << 40, u64::MAX] {
        let index = space.state.index() + 1;
        draft.version = index.saturating_add(ahead);
        assert_eq!(space.propose(draft.clone()), Outcome::Refused(index, Refusal::Malformed));
    }
    draft.version = space.state.index();
    assert!(matches!(space.propose(draft), Outcome::Committed(_)));
}

#[test]
fn a_key_is_read_by_from_the_claim_on_that_declares_it() {
    let mut space = Space::new();
    let p3 = Indicator::new("p", 3);
    let fact =
        |n: i64, second: i64| encoded(&Term::structure("p", [n.into(), second.into(), n.into()]));
    let goal = encoded(&Term::structure("p", [Term::Var(0), 5.into(), Term::Var(1)]));
    // What an engine reads whose program declares the second argument, whatever the space knows.
    let reading = |space: &Space| {
        let mut kb = space.state.kb().clone();
        kb.declare_key(&p3, 2);
        let mut view = View::new(space.state.index());
        view.open(&mut kb, &goal).unwrap();
        view.finish()
    };
    space.write(vec![assert(fact(1, 5))]);
    let early = reading(&space);
    let index = space.state.index() + 1;
    let refused = |index| Outcome::Refused(index, Refusal::TooOld);
    assert_eq!(space.propose(early.clone()), refused(index), "no stamp would tell");
    space.write(vec![assert(fact(2, 5))]);
    let claim = Claim { declared: vec![declares(p3.clone(), [2])], ..claim("a", 0) };
    space.expect(&Command::Claim(claim));
    let index = space.state.index() + 1;
    assert_eq!(space.propose(early), refused(index), "nor of what was before");
    let late = reading(&space);
    space.write(vec![assert(fact(1, 6))]);
    assert!(matches!(space.propose(late.clone()), Outcome::Committed(_)), "another key");
    space.write(vec![assert(fact(3, 5))]);
    let Outcome::Refused(_, Refusal::Conflict(_)) = space.propose(late) else {
        panic!("a missed conflict")
    };
}

#[test]
fn the_bounds_of_predicates_and_keys_hold_for_one_command_and_for_many() {
    let mut space = Space::new();
    let wide = Indicator::new("wide", 30);
    let declare = |agent: &str, keys: std::ops::Range<u32>| {
        let declared = vec![declares(wide.clone(), keys)];
        Command::Claim(Claim { declared, ..claim(agent, 0) })
    };
    space.expect(&declare("a", 2..8));
    // Eight fit. More are refused, and none of them taken: an engine reads by all or runs not.
    space.refuses(&declare("b", 7..12), Refusal::Full("keys of a predicate"));
    assert_eq!(space.state.kb().predicate(&wide).unwrap().declared().len(), 6);
    space.expect(&declare("b", 5..10));
    assert_eq!(space.state.kb().predicate(&wide).unwrap().declared().len(), MAX_KEYS);
    let twice = vec![declares(wide.clone(), [20]), declares(wide.clone(), [21])];
    let claimed = Command::Claim(Claim { declared: twice, ..claim("c", 0) });
    space.refuses(&claimed, Refusal::Full("keys of a predicate"));

    let fill = |kb: &mut Kb, leave: usize| {
        let len = kb.predicates().len();
        for n in len..MAX_PREDICATES - leave {
            kb.define(&Indicator::new("filler", n as u32));
        }
    };
    fill(&mut space.state.kb, 3);
    let new = |n: usize| assert(encoded(&Term::atom(format!("new{n}"))));
    let index = space.state.index() + 1;
    let full = Refusal::Full("predicates");
    let four = space.write((0..4).map(new).collect());
    assert_eq!(four, Outcome::Refused(index, full.clone()), "not even in part");
    let declared = |n: usize| declares(Indicator::new("declared", n as u32), []);
    let four = Claim { declared: (0..4).map(declared).collect(), ..claim("d", 0) };
    space.refuses(&Command::Claim(four), full.clone());
    let three = (0..3).chain(0..3).map(new).collect();
    assert!(matches!(space.write(three), Outcome::Committed(_)), "some of them twice");
    assert_eq!(space.state.kb().predicates().len(), MAX_PREDICATES);
    let index = space.state.index() + 1;
    assert_eq!(space.write(vec![new(4)]), Outcome::Refused(index, full));
    assert!(matches!(
        space.write(vec![new(0), assert(encoded(&Term::atom("new1")))]),
        Outcome::Committed(_)
    ));
}

#[test]
fn the_bounds_of_modules_and_agents_hold() {
    let mut space = Space::new();
    let publish = |n: usize, bytes: usize, after: u64| {
        let (name, text) = (format!("m{n}"), "x".repeat(bytes));
        Command::PublishModule { name, text, after }
    };
    let large = MAX_MODULE_BYTES_IN_ALL / (1 << 20);
    for n in 0..large {
        space.expect(&publish(n, 1 << 20, 0));
    }
    space.refuses(&publish(large, 1, 0), Refusal::Full("bytes of modules"));
    space.expect(&publish(0, 1, space.state.modules()["m0"].index));
    for n in large..MAX_MODULES {
        space.expect(&publish(n, 1, 0));
    }
    space.refuses(&publish(MAX_MODULES, 1, 0), Refusal::Full("modules"));
    let before = space.state.modules()["m7"].index;
    space.expect(&publish(7, 2, before));
    assert_eq!(space.state.modules()["m7"].text, "xx");
    let then = space.state.modules()["m7"].index;
    let again = space.state.apply(0, &publish(7, 2, before).encode());
    assert_eq!(again.outcome, Outcome::Committed(then), "a copy of it comes late");
    space.refuses(&publish(7, 3, before), Refusal::StaleModule);
    for n in 0..MAX_AGENTS {
        space.expect(&Command::Claim(claim(&format!("a{n}"), 0)));
    }
    space.refuses(&Command::Claim(claim("one more", 0)), Refusal::Full("agents"));
    let epoch = space.state.agents()["a7"].epoch;
    space.expect(&Command::Claim(claim("a7", epoch)));
}

#[test]
fn updates_of_one_key_leave_nothing_behind_and_cost_the_same_for_ever() {
    let mut space = Space::new();
    space.write(vec![assert(p(1, 0))]);
    let (mut kb, mut sizes) = (space.state.kb().clone(), Vec::new());
    let goal = encoded(&Term::structure("p", [1.into(), Term::Var(0)]));
    for n in 0..5000 {
        let mut view = View::new(space.state.index());
        let mut cursor = view.open(&mut kb, &goal).unwrap();
        let chunk = view.next(&kb, &mut cursor, 9, usize::MAX);
        assert_eq!(chunk.facts.len(), 1);
        view.retract(&kb, cursor.predicate(), chunk.facts[0].order).unwrap();
        view.assert(&kb, End::Last, &p(1, n)).unwrap();
        space.seq += 1;
        let command = by_session(space.session, space.seq, space.seq - 1, view.finish());
        let applied = space.state.apply(0, &command.encode());
        applied.change.unwrap().follow(&mut kb);
        if n % 1000 == 999 {
            let session = space.state.session(space.session).unwrap();
            sizes.push((space.state.kb().len(), session.outcomes.len()));
            assert_eq!(kb.digest(), space.state.kb().digest());
        }
    }
    assert_eq!(sizes, [(1, 1); 5]);
    let predicate = space.state.kb().predicate(&p2()).unwrap();
    assert_eq!(predicate.ends(), (-1, 5001), "orders go on, and are all that does");
}

#[test]
fn a_quiet_state_comes_to_the_same_and_may_go_on_aloud() {
    let mut space = Space::new();
    let mut quiet = State::new([0; 32]);
    quiet.apply(0, &space.last);
    quiet.be_quiet(true);
    for n in 0..300u64 {
        let fact = Term::structure("p", [Term::integer(n % 7), Term::integer(n)]);
        let fact = fact.encode().unwrap().into();
        let mut ops = vec![Op::Assert { end: End::Last, fact }];
        if n % 3 == 2 {
            let order = i64::try_from(n - 2).unwrap();
            ops.push(Op::Retract { predicate: Indicator::new("p", 2), order });
        }
        // Every fifth reads what the one before wrote, and so is refused.
        let reads = if n % 5 == 4 { vec![key::whole(&Indicator::new("p", 2)).0] } else { vec![] };
        let version = space.state.index() - u64::from(n % 5 == 4);
        let outcome = space.propose(Draft { version, reads, ops });
        let applied = quiet.apply(0, &space.last);
        assert_eq!(applied.outcome, outcome, "{n}");
        assert_eq!(applied.change.is_none(), n < 200 || matches!(outcome, Outcome::Refused(..)));
        if n == 100 {
            assert_eq!(quiet.digest(), space.state.digest(), "asked for in between");
        }
        if n == 199 {
            quiet.be_quiet(false);
        }
    }
    assert_eq!(quiet.digest(), space.state.digest());
    assert_eq!(quiet.place(), space.state.place());
}
