//! How what is proposed here, and what other members give to their leader, gets into the log.

use super::OrderThread;
use crate::space::links::Lane;
use crate::space::proposal::{Ended, NotProposed, Proposal};
use bytes::Bytes;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use synod_core::command::{Batch, Tag};
use synod_core::group::{Dropped, Frame, Run};
use synod_core::order::{Input, Role, Why};
use synod_core::time::Time;

/// Commands of one batch, at most.
const MAX_BATCH: usize = 4096;
/// Bytes of commands after which a batch is closed.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Bytes of what other members gave that wait here, at most.
const MAX_FOREIGN_BYTES: usize = 32 << 20;
/// How long a proposal waits to be seen applied, where that needs other members.
const PATIENCE: Duration = Duration::from_secs(10);

/// Commands that another member gave to this one.
pub(super) struct Foreign {
    member: u64,
    boot: u64,
    run: Run,
}

/// Which of a batch's commands are whose.
pub(super) struct Share {
    member: u64,
    boot: u64,
    first: u64,
    count: u32,
}

impl OrderThread {
    pub(super) fn take_proposal(&mut self, proposal: Proposal) {
        let alone = self.order.members().is_sole_voter(self.group.me.member);
        let until = (!alone).then(|| self.now() + PATIENCE);
        self.shared.own().push(proposal.command, proposal.pending, until);
    }

    pub(super) fn take_foreign(&mut self, member: u64, boot: u64, run: Run) {
        let count = u32::try_from(run.commands.len()).unwrap_or(u32::MAX);
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

    /// Gives what is proposed to whoever leads: puts it into the log, or sends it there.
    pub(super) fn give(&mut self) {
        if self.order.role() == Role::Leader {
            return self.give_to_log();
        }
        while let Some(foreign) = self.waiting.foreign.pop_front() {
            let (member, boot, first) = (foreign.member, foreign.boot, foreign.run.first);
            let count = u32::try_from(foreign.run.commands.len()).unwrap_or(u32::MAX);
            self.give_back(&Share { member, boot, first, count }, Dropped::NotLeader);
        }
        let Some(leader) = self.order.leader() else { return };
        let (now, boot) = (self.now(), self.group.boot);
        loop {
            let run = self.shared.own().give(now, MAX_BATCH, MAX_BATCH_BYTES);
            let Some(Run { first, commands }) = run else { return };
            let count = u32::try_from(commands.len()).unwrap_or(u32::MAX);
            let frame = Frame::Propose { boot, first, commands };
            if !self.group.send(leader, Lane::Normal, &frame) {
                // Given again when somebody else leads, or after a while.
                self.shared.own().not_taken(first, count);
            }
        }
    }

    fn give_to_log(&mut self) {
        let (me, boot, now) = (self.group.me.member, self.group.boot, self.now());
        loop {
            let mut batch = Batch { time: micros(), ..Batch::default() };
            let (mut shares, mut left) = (Vec::new(), MAX_BATCH_BYTES);
            while let Some(foreign) = self.next_foreign(batch.commands.len(), left) {
                left = left.saturating_sub(bytes(&foreign.run));
                add(&mut batch, &mut shares, foreign);
            }
            let room = MAX_BATCH - batch.commands.len();
            let run = match room > 0 && (left > 0 || batch.commands.is_empty()) {
                true => self.shared.own().give(now, room, left),
                false => None,
            };
            if let Some(run) = run {
                add(&mut batch, &mut shares, Foreign { member: me, boot, run });
            }
            if batch.commands.is_empty() {
                return;
            }
            let ticket = self.waiting.ticket();
            self.waiting.batches.insert(ticket, shares);
            self.order.handle(now, Input::Propose { ticket, data: batch.encode() });
        }
    }

    /// The next run of another member that fits a batch of so many commands with so many bytes left.
    fn next_foreign(&mut self, commands: usize, left: usize) -> Option<Foreign> {
        let next = self.waiting.foreign.front()?;
        let fits = commands + next.run.commands.len() <= MAX_BATCH && bytes(&next.run) <= left;
        if fits || commands == 0 { self.waiting.foreign.pop_front() } else { None }
    }

    /// What was to go into the log has not.
    pub(super) fn dropped(&mut self, ticket: u64, why: &Why) {
        if let Some(reply) = self.waiting.reads.remove(&ticket) {
            let _ = reply.send(None);
            return;
        }
        if let Some(asker) = self.group.changing.remove(&ticket) {
            return self.group.tell(asker, Err(why.to_string()));
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
        if member == self.group.me.member {
            return self.take_back(first, count, why);
        }
        self.group.send(member, Lane::Urgent, &Frame::Dropped { boot, first, count, why });
    }

    /// Proposals of this node have not got into the log where they were given.
    pub(super) fn take_back(&mut self, first: u64, count: u32, why: Dropped) {
        let mut own = self.shared.own();
        let end = |why: NotProposed| {
            move |pending: crate::space::Pending| {
                pending.end(Ended::NotProposed(why.clone()));
            }
        };
        match why {
            Dropped::NotLeader => own.not_taken(first, count),
            Dropped::Busy => own.dropped(first, count, end(NotProposed::Busy)),
            Dropped::TooLarge => own.dropped(first, count, end(NotProposed::TooLarge)),
        }
    }

    /// Ends what has waited too long, and gives again what may have been lost on the way.
    pub(super) fn give_up(&mut self, now: Time) {
        let mut own = self.shared.own();
        if own.is_empty() {
            return;
        }
        own.expire(now, |pending, is_certain| {
            if is_certain {
                pending.end(Ended::NotProposed(NotProposed::NoQuorum));
            }
        });
        if self.order.role() != Role::Leader {
            own.give_late_again(now);
        }
    }
}

fn add(batch: &mut Batch, shares: &mut Vec<Share>, foreign: Foreign) {
    let Foreign { member, boot, run } = foreign;
    let place = u32::try_from(batch.commands.len()).unwrap_or(u32::MAX);
    let count = u32::try_from(run.commands.len()).unwrap_or(u32::MAX);
    batch.tags.push(Tag { place, count, member, boot, first: run.first });
    shares.push(Share { member, boot, first: run.first, count });
    batch.commands.extend(run.commands);
}

fn bytes(run: &Run) -> usize {
    run.commands.iter().map(Bytes::len).sum()
}

pub(super) fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
