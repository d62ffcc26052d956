//! Who abstains leads no longer and does not come to lead, and is as good a voter as any. Who is mute has
//! no vote either.

use super::member::Member;
use crate::order::*;
use crate::time::Time;
use std::collections::BTreeMap;

/// Three members, and a network that is quick and loses nothing.
struct Group {
    members: BTreeMap<u64, Member>,
    down: Option<u64>,
    now: Time,
}

impl Group {
    fn new() -> Self {
        let genesis = Members::of_voters(1..=3);
        let member = |id| {
            let config = Config::new(id, [7; 32], 42 + id);
            (id, Member::new(config, genesis.clone(), Time::ZERO))
        };
        Self { members: (1..=3).map(member).collect(), down: None, now: Time::ZERO }
    }

    fn handle(&mut self, id: u64, input: Input) {
        self.members.get_mut(&id).unwrap().handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut parcels = Vec::new();
            for member in self.members.values_mut() {
                member.take_outputs();
                while member.write(self.now, usize::MAX) {
                    member.take_outputs();
                }
                parcels.extend(member.outbox.drain(..));
            }
            if parcels.is_empty() {
                return;
            }
            for parcel in parcels {
                if ![parcel.from, parcel.to].iter().any(|id| self.down == Some(*id)) {
                    let (from, bytes) = (parcel.from, parcel.message);
                    let to = self.members.get_mut(&parcel.to).unwrap();
                    to.handle(self.now, Input::Message { from, bytes });
                }
            }
        }
    }

    /// So many ticks of everybody.
    fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now = self.now + std::time::Duration::from_millis(100);
            for id in 1..=3 {
                if self.down != Some(id) {
                    self.handle(id, Input::Timeout);
                }
            }
        }
    }

    fn leader(&self) -> Option<u64> {
        let up = self.members.iter().filter(|(id, _)| self.down != Some(**id));
        let mut leaders = up.filter(|(_, m)| m.order.as_ref().unwrap().role() == Role::Leader);
        leaders.next().map(|(&id, _)| id)
    }
}

#[test]
fn a_leader_that_abstains_is_followed_by_another_and_leads_no_more() {
    let mut group = Group::new();
    group.pass(40);
    let first = group.leader().unwrap();
    group.handle(first, Input::Abstain(true));
    assert_eq!(group.leader(), None);
    group.pass(40);
    let second = group.leader().unwrap();
    assert_ne!(second, first);
    // Not even when it is wished to.
    group.handle(second, Input::Transfer { to: first });
    group.pass(40);
    assert_ne!(group.leader(), Some(first));

    // Its vote counts: with the other gone, the third is elected by it.
    let leader = group.leader().unwrap();
    group.down = Some(leader);
    group.pass(60);
    let third = group.leader().unwrap();
    assert_eq!(third, 6 - first - leader);

    // Right again, it may lead.
    group.handle(first, Input::Abstain(false));
    group.handle(third, Input::Transfer { to: first });
    assert_eq!(group.leader(), Some(first));
}

#[test]
fn who_is_mute_neither_leads_nor_votes_and_follows_all_the_same() {
    let mut group = Group::new();
    group.pass(40);
    let mute = group.leader().unwrap();
    group.handle(mute, Input::Mute);
    // What ends an abstention does not end this.
    group.handle(mute, Input::Abstain(false));
    assert_eq!(group.leader(), None);
    group.pass(40);
    let leader = group.leader().unwrap();
    assert_ne!(leader, mute);
    assert_eq!(group.members[&mute].order.as_ref().unwrap().leader(), Some(leader));
    // The third has but its own vote.
    group.down = Some(leader);
    group.pass(200);
    assert_eq!(group.leader(), None);
    group.down = None;
    group.pass(60);
    assert!(group.leader().is_some_and(|leader| leader != mute));
}

#[test]
fn a_sole_voter_that_abstains_does_not_elect_itself() {
    let config = Config::new(1, [7; 32], 42);
    let mut order =
        Order::new(config, Recovered::nothing(Members::of_voters([1])), Time::ZERO).unwrap();
    order.handle(Time::ZERO, Input::Abstain(true));
    let settle = |order: &mut Order| {
        while let Some(output) = order.poll_output() {
            if let Output::Persist(persist) = output {
                order.handle(Time::ZERO, Input::Persisted { number: persist.number });
            }
        }
    };
    settle(&mut order);
    assert_ne!(order.role(), Role::Leader);
    order.handle(Time::ZERO, Input::Abstain(false));
    settle(&mut order);
    assert_eq!(order.role(), Role::Leader);
}
