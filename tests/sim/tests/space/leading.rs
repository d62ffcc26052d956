//! What only a leader does, and how proposals get into the log, as `order_thread/leading.rs` and
//! `order_thread/proposing.rs`.

use super::node::{Asker, Effect, Ended, Foreign, Running, Share};
use bytes::Bytes;
use std::time::Duration;
use synod_core::command::{Batch, Command, Tag};
use synod_core::group::{Ask, Dropped, Frame, Plan, Run, View, Wish};
use synod_core::order::{Input, Role, Why};

const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);
const SILENT: Duration = Duration::from_secs(1);
const MAX_BATCH: usize = 4096;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// So few bytes of others' proposals may wait that some are refused as too many.
const MAX_FOREIGN_BYTES: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(10);

impl Running {
    // Members.

    pub(crate) fn look_after_members(&mut self) {
        let now = self.now;
        if let Some((to, asker, _)) = self.waiting.transfer.take_if(|(_, _, until)| now >= *until) {
            self.tell(asker, Err(format!("member {to} has not taken over in time")));
        }
        let mut progress = self.order.progress();
        for progress in &mut progress {
            let heard = self.heard.get(&progress.id);
            progress.active = heard.map_or(Duration::ZERO, |at| now.since(*at)) < SILENT;
        }
        if self.order.role() != Role::Leader || !self.waiting.changes.is_empty() {
            return;
        }
        let (members, last) = (self.order.members(), self.order.last().index);
        let view = View { membership: &self.membership, members, progress: &progress, last };
        if let Some(plan) = self.steward.plan(now, view) {
            self.change(&plan, None);
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask, asker: Asker) {
        if self.order.role() != Role::Leader {
            return match (self.order.leader(), asker) {
                (Some(leader), Asker::Here) => {
                    self.last_number += 1;
                    let number = self.last_number;
                    self.send_frame(leader, false, &Frame::Ask { number, ask });
                }
                (_, asker) => self.tell(asker, Err("no leader is known".to_owned())),
            };
        }
        let wish = match ask {
            Ask::Promote(id) => Wish::Promote(id),
            Ask::Remove(id) => Wish::Remove(id),
            Ask::Transfer(to) => return self.transfer(to, asker),
        };
        let progress = self.order.progress();
        let (members, last) = (self.order.members(), self.order.last().index);
        let view = View { membership: &self.membership, members, progress: &progress, last };
        match self.steward.grant(wish, view) {
            Ok(plan) => self.change(&plan, Some(asker)),
            Err(why) => self.tell(asker, Err(why.to_string())),
        }
    }

    fn change(&mut self, plan: &Plan, asker: Option<Asker>) {
        let configure = Command::Configure(plan.configure.clone()).encode();
        if plan.changes.is_empty() {
            self.own.push(configure, 0, None);
            return asker.into_iter().for_each(|asker| self.tell(asker, Ok(())));
        }
        let batch = Batch { time: self.wall, tags: Vec::new(), commands: vec![configure] };
        let ticket = self.ticket();
        if let Some(asker) = asker {
            self.changing.insert(ticket, asker);
        }
        let (changes, context) = (plan.changes.clone(), batch.encode());
        self.order.handle(self.now, Input::ChangeMembers { ticket, changes, context });
    }

    pub(crate) fn changed(&mut self, index: u64, term: u64) {
        while let Some(entry) = self.waiting.changes.first_entry() {
            if *entry.key() > index {
                return;
            }
            let (at, (appended, asker)) = entry.remove_entry();
            let result = match (at, appended) == (index, term) {
                true => Ok(()),
                false => Err("somebody else leads now".to_owned()),
            };
            self.tell(asker, result);
        }
    }

    fn transfer(&mut self, to: u64, asker: Asker) {
        if to == self.me.member {
            return self.tell(asker, Ok(()));
        }
        if !self.order.members().voters.contains(&to) || self.waiting.transfer.is_some() {
            return self.tell(asker, Err("no voter, or under way".to_owned()));
        }
        self.waiting.transfer = Some((to, asker, self.now + TRANSFER_PATIENCE));
        self.order.handle(self.now, Input::Transfer { to });
    }

    pub(crate) fn transferred(&mut self, leader: Option<u64>) {
        if let Some(leader) = leader
            && leader != self.me.member
            && let Some((to, asker, _)) = self.waiting.transfer.take()
        {
            let result = match leader == to {
                true => Ok(()),
                false => Err(format!("member {leader} leads now")),
            };
            self.tell(asker, result);
        }
    }

    pub(crate) fn step_down(&mut self) {
        self.steward.forget();
        for (_, asker) in std::mem::take(&mut self.waiting.changes).into_values() {
            self.tell(asker, Err("this node leads no longer".to_owned()));
        }
    }

    // Proposals.

    pub(crate) fn take_proposal(&mut self, command: Bytes, request: u64) {
        let until = (!self.is_sole_voter()).then(|| self.now + PATIENCE);
        self.own.push(command, request, until);
    }

    pub(crate) fn take_foreign(&mut self, member: u64, boot: u64, run: Run) {
        let count = run.commands.len() as u32;
        let waiting: usize = self.waiting.foreign.iter().map(|foreign| bytes(&foreign.run)).sum();
        let why = if self.order.role() != Role::Leader {
            Dropped::NotLeader
        } else if waiting > 0 && waiting + bytes(&run) > MAX_FOREIGN_BYTES {
            Dropped::Busy
        } else {
            return self.waiting.foreign.push_back(Foreign { member, boot, run });
        };
        self.give_back(&Share { member, boot, first: run.first, count }, why);
    }

    pub(crate) fn give(&mut self) {
        if self.order.role() == Role::Leader {
            return self.give_to_log();
        }
        while let Some(Foreign { member, boot, run }) = self.waiting.foreign.pop_front() {
            let count = run.commands.len() as u32;
            let share = Share { member, boot, first: run.first, count };
            self.give_back(&share, Dropped::NotLeader);
        }
        let Some(leader) = self.order.leader() else { return };
        while let Some(Run { first, commands }) =
            self.own.give(self.now, MAX_BATCH, MAX_BATCH_BYTES)
        {
            let count = commands.len() as u32;
            let frame = Frame::Propose { boot: self.boot, first, commands };
            if !self.send_frame(leader, false, &frame) {
                self.own.not_taken(first, count);
            }
        }
    }

    fn give_to_log(&mut self) {
        loop {
            let mut batch = Batch { time: self.wall, ..Batch::default() };
            let (mut shares, mut left, mut foreigners) = (Vec::new(), MAX_BATCH_BYTES, 0);
            while let Some(foreign) = self.next_foreign(batch.commands.len(), left) {
                left = left.saturating_sub(bytes(&foreign.run));
                foreigners += foreign.run.commands.len() as u64;
                add(&mut batch, &mut shares, foreign);
            }
            let room = MAX_BATCH - batch.commands.len();
            let run = match room > 0 && (left > 0 || batch.commands.is_empty()) {
                true => self.own.give(self.now, room, left),
                false => None,
            };
            if let Some(run) = run {
                let (member, boot) = (self.me.member, self.boot);
                add(&mut batch, &mut shares, Foreign { member, boot, run });
            }
            if batch.commands.is_empty() {
                return;
            }
            self.effects.push(Effect::Proposed { foreign: foreigners });
            let ticket = self.ticket();
            self.waiting.batches.insert(ticket, shares);
            self.order.handle(self.now, Input::Propose { ticket, data: batch.encode() });
        }
    }

    fn next_foreign(&mut self, commands: usize, left: usize) -> Option<Foreign> {
        let next = self.waiting.foreign.front()?;
        let fits = commands + next.run.commands.len() <= MAX_BATCH && bytes(&next.run) <= left;
        if fits || commands == 0 { self.waiting.foreign.pop_front() } else { None }
    }

    pub(crate) fn dropped(&mut self, ticket: u64, why: &Why) {
        if let Some(request) = self.waiting.reads.remove(&ticket) {
            return self.effects.push(Effect::Ended(request, Ended::NotProposed("no leader")));
        }
        if let Some(asker) = self.changing.remove(&ticket) {
            return self.tell(asker, Err(why.to_string()));
        }
        let why = match why {
            Why::TooLarge | Why::Empty => Dropped::TooLarge,
            Why::NotLeader { .. } | Why::Transferring => Dropped::NotLeader,
            Why::Busy | Why::Members(_) => Dropped::Busy,
        };
        for share in self.waiting.batches.remove(&ticket).unwrap_or_default() {
            self.give_back(&share, why);
        }
    }

    fn give_back(&mut self, share: &Share, why: Dropped) {
        let &Share { member, boot, first, count } = share;
        if member == self.me.member {
            return self.take_back(first, count, why);
        }
        self.send_frame(member, true, &Frame::Dropped { boot, first, count, why });
    }

    pub(crate) fn take_back(&mut self, first: u64, count: u32, why: Dropped) {
        let name = match why {
            Dropped::NotLeader => return self.own.not_taken(first, count),
            Dropped::Busy => "busy",
            Dropped::TooLarge => "too large",
        };
        let effects = &mut self.effects;
        let end = |request| effects.push(Effect::Ended(request, Ended::NotProposed(name)));
        self.own.dropped(first, count, end);
    }

    pub(crate) fn give_up(&mut self) {
        let effects = &mut self.effects;
        self.own.expire(self.now, |request, is_certain| {
            let ended = match is_certain {
                true => Ended::NotProposed("no quorum"),
                false => Ended::Unknown,
            };
            effects.push(Effect::Ended(request, ended));
        });
        if self.order.role() != Role::Leader {
            self.own.give_late_again(self.now);
        }
    }
}

fn add(batch: &mut Batch, shares: &mut Vec<Share>, foreign: Foreign) {
    let Foreign { member, boot, run } = foreign;
    let (place, count) = (batch.commands.len() as u32, run.commands.len() as u32);
    batch.tags.push(Tag { place, count, member, boot, first: run.first });
    shares.push(Share { member, boot, first: run.first, count });
    batch.commands.extend(run.commands);
}

fn bytes(run: &Run) -> usize {
    run.commands.iter().map(Bytes::len).sum()
}
