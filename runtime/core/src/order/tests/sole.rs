//! A group of one: no network, no time.

use crate::order::*;
use crate::time::Time;
use bytes::Bytes;

fn outputs(order: &mut Order) -> Vec<Output> {
    std::iter::from_fn(|| order.poll_output()).collect()
}

fn alone() -> Order {
    let config = Config::new(1, [7; 32], 42);
    Order::new(config, Recovered::nothing(Members::of_voters([1])), Time::ZERO).unwrap()
}

fn persist(output: &Output) -> &Persist {
    match output {
        Output::Persist(persist) => persist,
        other => panic!("not a persist: {other:?}"),
    }
}

#[test]
fn it_leads_at_once_and_commits_what_is_on_disk() {
    let mut order = alone();
    let first = outputs(&mut order);
    assert_eq!(first[0], Output::Role { role: Role::Leader, term: 1, leader: Some(1) });
    assert_eq!(persist(&first[1]).hard_state, Some(HardState { term: 1, vote: 1, commit: 0 }));
    assert_eq!(persist(&first[1]).entries.len(), 1, "the election's empty entry");
    assert_eq!(order.poll_timeout(), None);

    order.handle(Time::ZERO, Input::Propose { ticket: 9, data: Bytes::from_static(b"a") });
    let second = outputs(&mut order);
    assert_eq!(second[0], Output::Appended { ticket: 9, term: 1, index: 2 });
    let number = persist(&second[1]).number;
    assert_eq!(second.len(), 2, "nothing is committed that is not on disk");

    order.handle(Time::ZERO, Input::Persisted { number });
    let committed = Committed { index: 2, term: 1, data: Bytes::from_static(b"a"), members: None };
    let through = Position { index: 2, term: 1 };
    assert_eq!(outputs(&mut order), [Output::Commit { entries: vec![committed], through }]);
}

#[test]
fn it_may_move_to_another_thread() {
    fn moves<T: Send>(_: &T) {}
    moves(&alone());
}

#[test]
fn it_takes_nothing_in_while_the_state_above_lags_too_far_behind() {
    let mut order = alone();
    let data = Bytes::from(vec![0; MAX_ENTRY_BYTES]);
    let turn = |order: &mut Order, ticket| {
        order.handle(Time::ZERO, Input::Propose { ticket, data: data.clone() });
        let outputs = outputs(order);
        let number = outputs.iter().find_map(|output| match output {
            Output::Persist(persist) => Some(persist.number),
            _ => None,
        });
        if let Some(number) = number {
            order.handle(Time::ZERO, Input::Persisted { number });
        }
        outputs
    };
    let taken = (0..).take_while(|&ticket| {
        !turn(&mut order, ticket).contains(&Output::Dropped { ticket, why: Why::Busy })
    });
    let bytes = taken.count() * MAX_ENTRY_BYTES;
    let most = Config::new(1, [7; 32], 42).cache_bytes + MAX_UNAPPLIED_BYTES;
    assert!((most..=most + MAX_ENTRY_BYTES).contains(&bytes), "{bytes} of {most}");

    order.handle(Time::ZERO, Input::Applied { raft_index: order.last().index });
    let taken = turn(&mut order, 99);
    assert!(matches!(taken[0], Output::Appended { ticket: 99, .. }), "{:?}", taken[0]);
}

#[test]
fn it_wants_to_be_woken_for_others_only_and_makes_up_for_no_sleep() {
    assert_eq!(alone().poll_timeout(), None);

    let config = Config::new(1, [7; 32], 42);
    let tick = config.tick;
    let three = Recovered::nothing(Members::of_voters([1, 2, 3]));
    let mut order = Order::new(config, three, Time::ZERO).unwrap();
    let mut now = Time::ZERO + tick;
    assert_eq!(order.poll_timeout(), Some((now, "election")));
    order.handle(Time::ZERO, Input::Timeout);
    assert_eq!(order.poll_timeout(), Some((now, "election")), "it was not time yet");

    now = now + 1_000 * tick;
    order.handle(now, Input::Timeout);
    let next = order.poll_timeout().unwrap().0;
    assert!(next > now && next <= now + tick, "{next} is not the tick after {now}");
    assert_eq!(order.role(), Role::Follower, "a thousand ticks slept through are one");
}
