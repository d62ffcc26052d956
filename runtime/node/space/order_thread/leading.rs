//! What only a leader does: changes of the members, and what others ask it for.

use super::OrderThread;
use super::proposing::micros;
use crate::space::group::Asker;
use std::time::Duration;
use synod_core::command::{Batch, Command};
use synod_core::group::{Ask, Plan, View, Wish};
use synod_core::order::{Input, Role};
use synod_core::time::Time;

/// How long a leader waits for another to take its place.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);

/// A member that has not been heard of for so long is not active.
const SILENT: Duration = Duration::from_secs(1);

/// The leadership is being handed over.
pub(super) struct Transfer {
    to: u64,
    asker: Asker,
    until: Time,
}

impl OrderThread {
    /// Changes the members as the steward sees fit, if this node leads.
    pub(super) fn look_after_members(&mut self) {
        let now = self.now();
        if let Some(transfer) = self.waiting.transfer.take_if(|transfer| now >= transfer.until) {
            let why = format!("member {} has not taken over in time", transfer.to);
            self.group.tell(transfer.asker, Err(why));
            // What was not taken meanwhile is this node's to put into the log, after all.
            self.shared.own().give_all_again();
        }
        let mut progress = self.order.progress();
        let heard = &self.group.heard;
        let silent = |id: u64| heard.get(&id).map_or(Duration::ZERO, |at| now.since(*at));
        for progress in &mut progress {
            // Raft's own is forgotten at each election timeout, whoever has been heard.
            // Who was never heard is not there: it was admitted, and did not come.
            let heard = heard.get(&progress.id);
            progress.active = heard.is_some_and(|at| now.since(*at) < SILENT);
        }
        self.shared.set_progress(&progress, self.order.last().index, silent);
        if self.order.role() != Role::Leader || !self.waiting.changes.is_empty() {
            return;
        }
        let membership = self.group.membership();
        let (members, last) = (self.order.members(), self.order.last().index);
        let view = View { membership: &membership, members, progress: &progress, last };
        if let Some(plan) = self.group.steward.plan(now, view) {
            self.change(&plan, None);
        }
    }

    /// Does what only a leader can, or has it done.
    pub(super) fn ask(&mut self, ask: Ask, asker: Asker) {
        if self.order.role() != Role::Leader {
            return match (self.order.leader(), asker) {
                (Some(leader), Asker::Here(reply)) => self.group.ask(leader, ask, reply),
                (_, asker) => {
                    let why = "no leader is known: are most of the space's voters reachable?";
                    self.group.tell(asker, Err(why.to_owned()));
                }
            };
        }
        let wish = match ask {
            Ask::Promote(id) => Wish::Promote(id),
            Ask::Remove(id) => Wish::Remove(id),
            Ask::Transfer(to) => return self.transfer(to, asker),
        };
        let (membership, progress) = (self.group.membership(), self.order.progress());
        let (members, last) = (self.order.members(), self.order.last().index);
        let view = View { membership: &membership, members, progress: &progress, last };
        match self.group.steward.grant(wish, view) {
            Ok(plan) => self.change(&plan, Some(asker)),
            Err(why) => self.group.tell(asker, Err(why.to_string())),
        }
    }

    fn change(&mut self, plan: &Plan, asker: Option<Asker>) {
        let configure = Command::Configure(plan.configure.clone()).encode();
        if plan.changes.is_empty() {
            // Raft does not know them: the state alone changes. It is put into the log once and not
            // given again, for a copy that comes late could undo a newer one.
            let batch = Batch { time: micros(), tags: Vec::new(), commands: vec![configure] };
            let (ticket, data) = (self.waiting.ticket(), batch.encode());
            self.order.handle(self.now(), Input::Propose { ticket, data });
            return asker.into_iter().for_each(|asker| self.group.tell(asker, Ok(())));
        }
        let batch = Batch { time: micros(), tags: Vec::new(), commands: vec![configure] };
        let ticket = self.waiting.ticket();
        if let Some(asker) = asker {
            self.group.changing.insert(ticket, asker);
        }
        let (changes, context) = (plan.changes.clone(), batch.encode());
        self.order.handle(self.now(), Input::ChangeMembers { ticket, changes, context });
    }

    /// A change of members has been committed.
    pub(super) fn changed(&mut self, index: u64, term: u64) {
        while let Some(entry) = self.waiting.changes.first_entry() {
            if *entry.key() > index {
                return;
            }
            let (at, (appended, asker)) = entry.remove_entry();
            let result = if (at, appended) == (index, term) {
                Ok(())
            } else {
                Err("somebody else leads now: see what has become of it".to_owned())
            };
            self.group.tell(asker, result);
        }
    }

    fn transfer(&mut self, to: u64, asker: Asker) {
        let me = self.group.me.member;
        if to == me {
            return self.group.tell(asker, Ok(()));
        }
        if !self.order.members().voters.contains(&to) {
            let why = format!("{to} is not the id of a voter: `synod space members` lists them");
            return self.group.tell(asker, Err(why));
        }
        if self.waiting.transfer.is_some() {
            let why = "the leadership is being handed over already".to_owned();
            return self.group.tell(asker, Err(why));
        }
        let until = self.now() + TRANSFER_PATIENCE;
        self.waiting.transfer = Some(Transfer { to, asker, until });
        self.order.handle(self.now(), Input::Transfer { to });
    }

    /// Somebody leads: perhaps who was to.
    pub(super) fn transferred(&mut self, leader: Option<u64>) {
        if let Some(leader) = leader
            && leader != self.group.me.member
            && let Some(transfer) = self.waiting.transfer.take()
        {
            let result = match leader == transfer.to {
                true => Ok(()),
                false => Err(format!("member {leader} leads now")),
            };
            self.group.tell(transfer.asker, result);
        }
    }

    /// This node does not lead, or no longer.
    pub(super) fn step_down(&mut self) {
        self.group.steward.forget();
        let changes = std::mem::take(&mut self.waiting.changes).into_values();
        let changes: Vec<Asker> = changes.map(|(_, asker)| asker).collect();
        for asker in changes {
            let why = "this node leads no longer: see what has become of it".to_owned();
            self.group.tell(asker, Err(why));
        }
    }
}
