//! What clients ask and what goes wrong in a simulated group, drawn at random.

use super::member::{Member, Tear};
use super::sim::{Event, Sim};
use crate::order::*;

impl Sim {
    pub(super) fn client(&mut self) {
        let id = self.somebody_who_leads();
        match self.random.below(100) {
            0..70 => {
                for _ in 0..=self.random.below(8) {
                    self.propose(id);
                }
                self.settle(id);
            }
            70..85 => {
                self.tickets += 1;
                let (ticket, id) = (self.tickets, self.anybody());
                if self.members[&id].order.is_some() {
                    self.checker.read(ticket);
                    self.handle(id, Input::ReadIndex { ticket });
                }
            }
            85..92 => {
                let id = self.anybody();
                self.compact(id);
            }
            92..94 => {
                let to = self.anybody();
                self.handle(id, Input::Transfer { to });
            }
            _ if self.changing => self.change_members(id),
            _ => {}
        }
    }

    fn propose(&mut self, id: u64) {
        self.tickets += 1;
        let data = format!("{}{}", self.tickets, "x".repeat(self.random.below(200) as usize));
        let (now, ticket, data) = (self.now, self.tickets, Bytes::from(data));
        if self.members[&id].order.is_some() {
            self.checker.proposed(ticket, &data);
            self.member(id).handle(now, Input::Propose { ticket, data });
        }
    }

    pub(super) fn compact(&mut self, id: u64) {
        let (now, keep) = (self.now, self.random.below(20));
        let member = self.member(id);
        let first = member.committed.index.saturating_sub(keep) + 1;
        // A snapshot on its way to disk overtakes one taken now.
        let installing = member.writes.iter().any(|write| write.snapshot.is_some());
        if !installing && member.committed.index > 0 && first > member.disk.before.index {
            member.compact(now, first);
            self.settle(id);
        }
    }

    /// Adds, promotes, demotes or removes one or two, keeping the group between two and five.
    fn change_members(&mut self, id: u64) {
        let Some(order) = &self.members[&id].order else {
            return;
        };
        let members = order.members().clone();
        let mut changes = Vec::new();
        for _ in 0..=self.random.below(2) {
            let voters: Vec<_> = members.voters.iter().copied().collect();
            let learners: Vec<_> = members.learners.iter().copied().collect();
            let voter = voters[self.random.below(voters.len() as u64) as usize];
            match self.random.below(4) {
                0 if self.members.len() < 9 && learners.len() < 2 => {
                    let new = self.members.len() as u64 + 1;
                    self.join(new);
                    self.settle(new);
                    changes.push(Change::Learner(new));
                }
                1 if !learners.is_empty() && voters.len() < 5 => {
                    changes.push(Change::Voter(learners[0]));
                }
                2 if voters.len() > 2 => changes.push(Change::Learner(voter)),
                3 if voters.len() > 2 => changes.push(Change::Remove(voter)),
                _ => {}
            }
        }
        changes.dedup_by_key(|change| change.id());
        if !changes.is_empty() {
            self.tickets += 1;
            let (ticket, context) = (self.tickets, Bytes::new());
            self.handle(id, Input::ChangeMembers { ticket, changes, context });
        }
    }

    pub(super) fn fault(&mut self) {
        let id = self.anybody();
        match self.random.below(10) {
            0 => self.crash(id),
            1..3 => drop(self.doomed.insert(id)),
            3..5 => self.restart(id),
            5..7 => {
                let ids: Vec<_> = self.members.keys().copied().collect();
                self.sides = vec![ids.into_iter().filter(|_| self.random.chance(500)).collect()];
            }
            7 => self.sides.clear(),
            8 => (self.loss, self.double) = (self.random.below(300), self.random.below(200)),
            _ => (self.loss, self.double) = (0, 0),
        }
    }

    /// Comes back soon, more often than not: what it has forgotten is asked for at once.
    pub(super) fn crash(&mut self, id: u64) {
        if self.members[&id].order.is_none() {
            return;
        }
        if self.random.chance(700) {
            let pause = self.random.below(20_000);
            self.plan(pause, Event::Restart(id));
        }
        let (writes, entries) = (self.random.below(3) as usize, self.random.below(3) as usize);
        let tear = Tear { entries, hard_state: self.random.chance(500) };
        self.member(id).crash(writes, tear);
        self.busy.retain(|(busy, _)| *busy != id);
        self.events.retain(|_, event| {
            !matches!(event, Event::Applied(e) | Event::Compact(e) | Event::Disk(e)
                | Event::Fetched(e) | Event::Tick(e) if *e == id)
        });
    }

    pub(super) fn restart(&mut self, id: u64) {
        let now = self.now;
        if self.members[&id].order.is_none() {
            self.member(id).start(now);
            let member = &self.members[&id];
            let last = member.order.as_ref().map_or(0, |order| order.last().index);
            self.checker.started(id, member.committed.index, last);
            self.settle(id);
        }
    }

    pub(super) fn calm(&mut self) {
        (self.loss, self.double) = (0, 0);
        self.sides.clear();
        self.doomed.clear();
        let ids: Vec<_> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.restart(id));
    }

    fn anybody(&mut self) -> u64 {
        let at = self.random.below(self.members.len() as u64) as usize;
        *self.members.keys().nth(at).unwrap()
    }

    /// Mostly somebody who believes to lead.
    fn somebody_who_leads(&mut self) -> u64 {
        let leads = |m: &Member| m.order.as_ref().is_some_and(|o| o.role() == Role::Leader);
        let leaders: Vec<_> =
            self.members.iter().filter(|(_, m)| leads(m)).map(|(id, _)| *id).collect();
        if leaders.is_empty() || self.random.chance(50) {
            return self.anybody();
        }
        leaders[self.random.below(leaders.len() as u64) as usize]
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.below(1_000) < of_a_thousand
    }
}
