//! What a disk may hold when a machine starts, and what it refuses to start from.

use crate::order::*;
use crate::time::Time;
use std::time::Duration;

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("{index}")) }
}

fn snapshot(index: u64, term: u64) -> SnapshotMeta {
    let members = Members::of_voters([1, 2, 3]);
    SnapshotMeta { position: Position { index, term }, members }
}

/// A log from 11 to 15 behind a snapshot of 10, of which 12 has been applied.
fn disk() -> Recovered {
    Recovered {
        hard_state: HardState { term: 4, vote: 2, commit: 13 },
        members: Members::of_voters([1, 2, 3]),
        applied: 12,
        before: Position { index: 10, term: 2 },
        terms: vec![Position { index: 11, term: 2 }],
        entries: vec![entry(12, 3), entry(13, 3), entry(14, 3), entry(15, 4)],
        snapshot: Some(snapshot(10, 2)),
    }
}

fn start(recovered: Recovered) -> Result<Order, StartError> {
    Order::new(Config::new(1, [7; 32], 42), recovered, Time::ZERO)
}

fn outputs(order: &mut Order) -> Vec<Output> {
    std::iter::from_fn(|| order.poll_output()).collect()
}

#[test]
fn it_goes_on_where_the_disk_says() {
    let mut order = start(disk()).unwrap();
    let committed = Committed { index: 13, term: 3, data: "13".into(), members: None };
    let through = Position { index: 13, term: 3 };
    assert_eq!(outputs(&mut order), [Output::Commit { entries: vec![committed], through }]);
    assert_eq!(order.hard_state(), disk().hard_state);
    assert_eq!(order.last(), Position { index: 15, term: 4 });
}

#[test]
fn a_log_that_ends_with_what_is_applied_needs_no_entries() {
    let hard_state = HardState { term: 4, vote: 0, commit: 11 };
    let recovered = Recovered { hard_state, applied: 11, entries: vec![], ..disk() };
    let order = start(recovered).unwrap();
    assert_eq!(order.last(), Position { index: 11, term: 2 });
    let hard_state = HardState { term: 2, vote: 0, commit: 10 };
    let empty = Recovered { hard_state, applied: 10, terms: vec![], entries: vec![], ..disk() };
    assert_eq!(start(empty).unwrap().last(), Position { index: 10, term: 2 });
}

#[test]
fn a_vote_of_an_older_term_than_the_log_is_no_vote() {
    let hard_state = HardState { term: 3, vote: 2, commit: 12 };
    let order = start(Recovered { hard_state, ..disk() }).unwrap();
    assert_eq!(order.hard_state(), HardState { term: 4, vote: 0, commit: 12 });
}

#[test]
fn a_disk_that_contradicts_itself_is_refused() {
    let refused = |recovered| start(recovered).map(|_| ()).unwrap_err();
    let gap = |index| StartError::Gap(index);
    let with = |entries| Recovered { entries, ..disk() };
    assert_eq!(refused(with(vec![entry(12, 3), entry(14, 3)])), gap(14));
    assert_eq!(refused(with(vec![entry(12, 3), entry(13, 2)])), gap(13));
    assert_eq!(refused(with(vec![entry(14, 3)])), gap(13), "13 is not applied");
    assert_eq!(refused(Recovered { terms: vec![], ..disk() }), gap(12));
    let terms = vec![Position { index: 12, term: 2 }];
    assert_eq!(refused(Recovered { terms, ..disk() }), gap(12));
    let lost = StartError::Lost { last: 15, known: 16 };
    assert_eq!(refused(Recovered { applied: 16, ..disk() }), lost);
    let hard_state = HardState { commit: 16, ..disk().hard_state };
    assert_eq!(refused(Recovered { hard_state, ..disk() }), lost);
    assert_eq!(refused(Recovered { snapshot: None, ..disk() }), StartError::NoSnapshot(10));
    let members = Members::of_voters([]);
    assert_eq!(refused(Recovered { members, ..disk() }), MembersError::NoVoters.into());
}

#[test]
fn a_configuration_without_sense_is_refused() {
    let sense = Config::new(1, [7; 32], 42);
    let senseless = [
        Config { node: 0, ..sense.clone() },
        Config { tick: Duration::ZERO, ..sense.clone() },
        Config { heartbeat_ticks: 0, ..sense.clone() },
        Config { election_ticks: 1, ..sense.clone() },
        Config { election_ticks: u32::MAX, heartbeat_ticks: u32::MAX, ..sense },
    ];
    for config in senseless {
        let refused = Order::new(config, disk(), Time::ZERO).map(|_| ());
        assert!(matches!(refused, Err(StartError::Config(_))), "{refused:?}");
    }
}

#[test]
fn members_that_contradict_themselves_are_refused() {
    let some = || Members::of_voters([1, 2, 3]);
    let check = |members: Members| members.check();
    assert_eq!(check(some()), Ok(()));
    assert_eq!(check(Members::of_voters([0, 1])), Err(MembersError::ZeroId));
    assert_eq!(check(Members::of_voters(1..=8)), Err(MembersError::TooMany));
    let both = Members { learners: [3].into(), ..some() };
    assert_eq!(check(both), Err(MembersError::Contradiction));
    let not_joint = Members { auto_leave: true, ..some() };
    assert_eq!(check(not_joint), Err(MembersError::Contradiction));
    let next = Members { outgoing: [1].into(), learners_next: [4].into(), ..some() };
    assert_eq!(check(next), Err(MembersError::Contradiction));
}
