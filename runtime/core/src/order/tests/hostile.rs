//! Peers that keep to no rule: whatever they say, a member does not panic and does not fill up.

use super::member::{Member, Tear};
use super::wire::{MARK, append, entry, message, of};
use crate::order::message::{Mark, encode};
use crate::order::*;
use crate::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;
use raft::eraftpb::{Message, MessageType};

#[test]
fn a_follower_takes_no_more_than_it_can_apply() {
    let genesis = Members::of_voters([1, 2, 3]);
    let mut member = Member::new(Config::new(1, MARK.group, 0), genesis, Time::ZERO);
    let data = vec![0; MAX_ENTRY_BYTES];
    let mut refused = None;
    for index in 1..100 {
        let log_term = u64::from(index > 1);
        let mut next = append(vec![entry(index, 1, &data)]);
        (next.index, next.log_term, next.term, next.commit) = (index - 1, log_term, 1, 0);
        member.handle(Time::ZERO, said_in(&Mark { generation: 0, ..MARK }, 2, next));
        let outputs = member.take_outputs();
        member.writes.clear();
        if outputs.contains(&Output::Refused { from: 2, why: Refusal::Overloaded }) {
            refused = Some(index as usize);
            break;
        }
    }
    let most = (member.config.cache_bytes + MAX_UNAPPLIED_BYTES) / MAX_ENTRY_BYTES;
    assert!(refused.is_some_and(|n| (most..=most + 2).contains(&n)), "{refused:?} of {most}");
    // What costs no memory is still listened to.
    let heartbeat = Message { term: 1, ..of(MessageType::MsgHeartbeat) };
    member.handle(Time::ZERO, said_in(&Mark { generation: 0, ..MARK }, 2, heartbeat));
    assert!(member.take_outputs().iter().all(|o| !matches!(o, Output::Refused { .. })));
}

#[test]
fn what_a_leader_has_in_place_of_what_is_committed_is_refused() {
    let genesis = Members::of_voters([1, 2, 3]);
    let mut member = Member::new(Config::new(1, MARK.group, 0), genesis, Time::ZERO);
    let mut tell = |term, before: (u64, u64), entries, commit| {
        let mut next = append(entries);
        (next.index, next.log_term) = before;
        (next.term, next.commit) = (term, commit);
        member.handle(Time::ZERO, said_in(&Mark { generation: 0, ..MARK }, 2, next));
        let outputs = member.take_outputs();
        member.write(Time::ZERO, usize::MAX);
        member.take_outputs();
        outputs.into_iter().find_map(|output| match output {
            Output::Refused { why, .. } => Some(why),
            _ => None,
        })
    };
    let ours = (1..=3).map(|index| entry(index, 1, b"ours")).collect();
    assert_eq!(tell(1, (0, 0), ours, 2), None);
    assert_eq!(tell(2, (2, 1), vec![entry(3, 2, b"theirs")], 2), None, "that was not committed");
    let theirs = vec![entry(2, 2, b"theirs")];
    assert!(matches!(tell(2, (1, 1), theirs, 2), Some(Refusal::Apart { .. })));
    assert!(matches!(tell(2, (2, 2), Vec::new(), 2), Some(Refusal::Apart { .. })), "before them");
    assert_eq!(tell(2, (3, 2), vec![entry(4, 2, b"theirs")], 4), None);
}

#[test]
fn a_leader_holds_so_many_questions_and_no_more() {
    let mut config = Config::new(1, MARK.group, 0);
    config.generation = MARK.generation;
    let mut member = Member::new(config, Members::of_voters([1, 2, 3]), Time::ZERO);
    Step::Elect.run(&mut member);
    member.write(Time::ZERO, usize::MAX);
    let matched = Message { term: 1, index: 1, ..of(MessageType::MsgAppendResponse) };
    member.handle(Time::ZERO, said(2, matched));
    assert_eq!(member.order.as_ref().map(Order::role), Some(Role::Leader));
    let refused = (0..10_000u64).find(|n| {
        let read = vec![entry(0, 0, &n.to_be_bytes())].into();
        let question = Message { term: 0, entries: read, ..of(MessageType::MsgReadIndex) };
        member.handle(Time::ZERO, said(2, question));
        let overloaded = Output::Refused { from: 2, why: Refusal::Overloaded };
        member.take_outputs().contains(&overloaded)
    });
    assert_eq!(refused, Some(4096));
}

proptest! {
    /// Peers who say anything whatever, in any order, to a member that ticks, writes and proposes.
    #[test]
    fn no_message_makes_it_panic(voters in 1..4u64, steps in vec(step(), 1..80)) {
        let config = Config::new(1, MARK.group, 0);
        let mut member = Member::new(config, Members::of_voters(1..=voters), Time::ZERO);
        member.config.generation = MARK.generation;
        member.crash(0, Tear { entries: 0, hard_state: false });
        member.start(Time::ZERO);
        for step in steps {
            step.run(&mut member);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Whom from, whether it is of the member's own term, and what.
    Message(u64, bool, Box<Message>),
    Ticks(u64),
    Campaign,
    /// The others elect it.
    Elect,
    Propose,
    Change(u64),
    Write(usize),
    Read,
    Transfer,
    Restart,
}

impl Step {
    fn run(self, member: &mut Member) {
        let Some(order) = &member.order else {
            return;
        };
        let now = order.poll_timeout().map_or(Time::ZERO, |(at, _)| at);
        let input = match self {
            Self::Message(from, current, mut message) => {
                if current && message.term > 0 {
                    let ahead = message.get_msg_type() == MessageType::MsgRequestPreVoteResponse;
                    message.term = (order.hard_state().term + u64::from(ahead)).max(1);
                    let term = message.term;
                    message.log_term = message.log_term.min(term);
                    message.mut_entries().iter_mut().for_each(|e| e.term = e.term.min(term));
                    message.mut_snapshot().mut_metadata().term = term;
                }
                Some(said(from, *message))
            }
            Self::Elect => {
                member.handle(now, Input::Campaign);
                for kind in
                    [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse]
                {
                    member.take_outputs();
                    member.write(now, usize::MAX);
                    let order = member.order.as_ref().unwrap();
                    let ahead = u64::from(kind == MessageType::MsgRequestPreVoteResponse);
                    let term = order.hard_state().term + ahead;
                    let grant = said(2, Message { term, ..of(kind) });
                    member.handle(now, grant);
                }
                None
            }
            Self::Ticks(ticks) => {
                for _ in 0..ticks {
                    let at = member.order.as_ref().and_then(Order::poll_timeout);
                    member.handle(at.map_or(now, |(at, _)| at), Input::Timeout);
                }
                None
            }
            Self::Campaign => Some(Input::Campaign),
            Self::Propose => Some(Input::Propose { ticket: 1, data: Bytes::from_static(b"p") }),
            Self::Change(id) => {
                let changes = vec![Change::Learner(id + 3), Change::Remove(id)];
                Some(Input::ChangeMembers { ticket: 2, changes, context: Bytes::new() })
            }
            Self::Write(count) => {
                member.write(now, count);
                None
            }
            Self::Read => Some(Input::ReadIndex { ticket: 3 }),
            Self::Transfer => Some(Input::Transfer { to: 2 }),
            Self::Restart => {
                member.crash(1, Tear { entries: 1, hard_state: true });
                member.start(now);
                None
            }
        };
        if let Some(input) = input {
            member.handle(now, input);
        }
        member.take_outputs();
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (2..5u64, any::<bool>(), message(12))
            .prop_map(|(from, current, m)| Step::Message(from, current, Box::new(m))),
        1 => Just(Step::Elect),
        2 => (1..20u64).prop_map(Step::Ticks),
        1 => Just(Step::Campaign),
        2 => Just(Step::Propose),
        1 => (1..4u64).prop_map(Step::Change),
        4 => (1..4usize).prop_map(Step::Write),
        1 => Just(Step::Read),
        1 => Just(Step::Transfer),
        1 => Just(Step::Restart),
    ]
}

fn said(from: u64, message: Message) -> Input {
    said_in(&MARK, from, message)
}

fn said_in(mark: &Mark, from: u64, mut message: Message) -> Input {
    (message.from, message.to) = (from, 1);
    let bytes = encode(mark, &message).remove(0);
    Input::Message { from, bytes }
}
