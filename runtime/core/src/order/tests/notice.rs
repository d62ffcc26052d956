//! When a follower hears of a commit.

use crate::order::*;
use crate::time::Time;
use bytes::Bytes;
use std::time::Duration;

const AFTER: Duration = Duration::from_millis(1);

/// Two voters whose disks and network take no time. The first leads.
struct Pair {
    orders: [Order; 2],
    now: Time,
    /// How far each knows the log to be committed.
    through: [u64; 2],
}

impl Pair {
    fn new(notice_after: Duration) -> Self {
        let order = |node| {
            let config = Config { notice_after, ..Config::new(node, [7; 32], node) };
            Order::new(config, Recovered::nothing(Members::of_voters([1, 2])), Time::ZERO).unwrap()
        };
        let mut pair = Self { orders: [order(1), order(2)], now: Time::ZERO, through: [0; 2] };
        pair.tell(Input::Campaign);
        assert_eq!(pair.orders[0].role(), Role::Leader);
        pair.wait();
        pair
    }

    /// Tells the leader something, and does what follows from it at once.
    fn tell(&mut self, input: Input) {
        self.orders[0].handle(self.now, input);
        while self.step(0) || self.step(1) {}
    }

    fn step(&mut self, place: usize) -> bool {
        let Some(output) = self.orders[place].poll_output() else { return false };
        match output {
            Output::Persist(Persist { number, .. }) => {
                self.orders[place].handle(self.now, Input::Persisted { number });
            }
            Output::Send { to, message, .. } => {
                let message = Input::Message { from: place as u64 + 1, bytes: message };
                self.orders[to as usize - 1].handle(self.now, message);
            }
            Output::Commit { through, .. } => self.through[place] = through.index,
            _ => {}
        }
        true
    }

    fn propose(&mut self) {
        self.tell(Input::Propose { ticket: 1, data: Bytes::from_static(b"a") });
    }

    /// Waits until the leader wants something; says what.
    fn wait(&mut self) -> &'static str {
        let (at, why) = self.orders[0].poll_timeout().unwrap();
        self.now = at;
        self.tell(Input::Timeout);
        why
    }
}

#[test]
fn a_follower_hears_of_a_commit_with_the_next_entries_or_a_little_later() {
    let mut pair = Pair::new(AFTER);
    let start = pair.through[0];
    pair.propose();
    assert_eq!(pair.through, [start + 1, start]);
    pair.propose();
    assert_eq!(pair.through, [start + 2, start + 1]);
    let before = pair.now;
    assert_eq!(pair.wait(), "notice");
    assert_eq!(pair.through, [start + 2, start + 2]);
    assert_eq!(pair.now, before + AFTER);
    assert_eq!(pair.wait(), "heartbeat", "all has been told");
}

#[test]
fn one_that_waits_for_a_commit_hears_of_it_at_once() {
    let mut pair = Pair::new(AFTER);
    let start = pair.through[0];
    pair.propose();
    pair.tell(Input::Hurry);
    pair.propose();
    assert_eq!(pair.through, [start + 2, start + 2]);
    pair.propose();
    assert_eq!(pair.through, [start + 3, start + 2], "that was another's");
}

#[test]
fn every_commit_is_told_at_once_where_no_notice_waits() {
    let mut pair = Pair::new(Duration::ZERO);
    let start = pair.through[0];
    pair.propose();
    assert_eq!(pair.through, [start + 1, start + 1]);
}
