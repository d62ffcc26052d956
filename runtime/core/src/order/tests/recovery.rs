//! A group that has lost most of its voters for good goes on with one member, whatever it was.

use super::member::Member;
use crate::order::*;
use crate::time::Time;

const ALONE: u64 = 2;

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("{index}")) }
}

/// What a member's disk holds that recovers: two entries, of which nobody knows more than the first to
/// be committed, and the entry of the recovery.
fn disk(members: Members) -> Recovered {
    let recovery = Entry::recovery(5, 3, ALONE, "why".into());
    assert_eq!(Entry::recovers(recovery.kind, &recovery.data), Some(ALONE));
    Recovered {
        hard_state: HardState { term: 5, vote: ALONE, commit: 3 },
        entries: vec![entry(1, 1), entry(2, 4), recovery],
        ..Recovered::nothing(members)
    }
}

/// All that members may be when most of them are lost.
fn all() -> [Members; 5] {
    let voters = |ids: &[u64]| Members::of_voters(ids.iter().copied());
    [
        voters(&[1, 2]),
        voters(&[1, 2, 3, 4, 5]),
        Members { learners: [4, 5].into(), ..voters(&[1, 2, 3]) },
        Members { learners: [ALONE, 4].into(), ..voters(&[1, 3]) },
        Members {
            outgoing: [1, 2, 3].into(),
            learners_next: [3].into(),
            auto_leave: true,
            ..voters(&[1, 4, 5])
        },
    ]
}

#[test]
fn whoever_recovers_leads_alone_with_all_that_it_has() {
    for members in all() {
        let config = Config { generation: 1, ..Config::new(ALONE, [7; 32], 42) };
        let mut member = Member::new(config.clone(), Members::of_voters([1]), Time::ZERO);
        (member.disk.hard_state, member.disk.entries) =
            (disk(members.clone()).hard_state, disk(members.clone()).entries);
        member.order = Some(Order::new(config, disk(members.clone()), Time::ZERO).unwrap());
        let mut committed = Vec::new();
        loop {
            for output in member.take_outputs() {
                match output {
                    Output::Commit { entries, .. } => committed.extend(entries),
                    Output::Send { to, .. } => panic!("{members}: something is sent to {to}"),
                    _ => {}
                }
            }
            if !member.write(Time::ZERO, usize::MAX) {
                break;
            }
        }
        let order = member.order.as_ref().unwrap();
        assert_eq!((order.role(), order.leader()), (Role::Leader, Some(ALONE)), "{members}");
        assert_eq!(*order.members(), Members::of_voters([ALONE]), "{members}");
        let data: Vec<_> = committed.iter().map(|entry| entry.data.clone()).collect();
        assert_eq!(data, ["1", "2", "why"], "{members}");
        assert_eq!(committed[2].members, Some(Members::of_voters([ALONE])), "{members}");
    }
}

#[test]
fn whoever_reads_the_log_finds_the_same_members() {
    let recovery = Entry::recovery(5, 3, ALONE, Bytes::new());
    for members in all() {
        assert_eq!(members.after_change(&recovery.data), Members::of_voters([ALONE]));
    }
    assert_eq!(Entry::batch(recovery.kind, &Entry::recovery(5, 3, 2, "why".into()).data), "why");
    assert_eq!(Entry::recovers(EntryKind::Normal, &recovery.data), None);
}

#[test]
fn no_leader_leaves_anybody_alone() {
    let config = Config::new(1, [7; 32], 42);
    let mut order =
        Order::new(config, Recovered::nothing(Members::of_voters([1])), Time::ZERO).unwrap();
    while let Some(output) = order.poll_output() {
        if let Output::Persist(persist) = output {
            order.handle(Time::ZERO, Input::Persisted { number: persist.number });
        }
    }
    assert_eq!(order.role(), Role::Leader);
    let changes = vec![Change::Only(3)];
    order.handle(Time::ZERO, Input::ChangeMembers { ticket: 9, changes, context: Bytes::new() });
    let dropped = |output| matches!(output, Output::Dropped { ticket: 9, why: Why::Members(_) });
    assert!(std::iter::from_fn(|| order.poll_output()).any(dropped));
}
