//! What only a leader does: changes of the members, and what others ask it for.

use super::super::{Ask, Frame, Plan, View, Wish};
use super::{Action, Coordinator, Scene};
use crate::command::{Batch, Command};
use crate::order::{Input, Progress, Role};
use crate::time::Time;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a leader waits for another to take its place.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a leader, another member, may take to do what it is asked for.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// A member that has not been heard of for so long is not active.
const SILENT: Duration = Duration::from_secs(1);
/// Wishes of this node that wait for an answer of the leader, at most.
const MAX_ASKS: usize = 256;
/// Why a wish's end is not known to this node.
const LEADS_NO_LONGER: &str = "somebody else leads now: see what has become of it";

/// Who asked for something that only a leader can do.
#[derive(Debug)]
pub(super) enum Asker<A> {
    /// Somebody on this node.
    Here(A),
    /// Another member, by its number.
    There { peer: Bytes, boot: u64, number: u64 },
}

/// The leadership is being handed over.
#[derive(Debug)]
pub(super) struct Transfer<A> {
    to: u64,
    asker: Asker<A>,
    until: Time,
}

/// Changes of the members that somebody waits for.
#[derive(Debug)]
pub(super) struct Changes<A> {
    /// By ticket: Raft has not decided on them.
    proposed: BTreeMap<u64, Asker<A>>,
    /// By Raft's index, with the term: they stand in its log.
    appended: BTreeMap<u64, (u64, Asker<A>)>,
}

impl<A> Default for Changes<A> {
    fn default() -> Self {
        Self { proposed: BTreeMap::new(), appended: BTreeMap::new() }
    }
}

impl<A> Changes<A> {
    pub(super) fn appended(&mut self, ticket: u64, term: u64, index: u64) {
        if let Some(asker) = self.proposed.remove(&ticket) {
            self.appended.insert(index, (term, asker));
        }
    }

    pub(super) fn dropped(&mut self, ticket: u64) -> Option<Asker<A>> {
        self.proposed.remove(&ticket)
    }

    /// Who waited for what is decided by the commit of this entry, and how it came out.
    pub(super) fn committed(
        &mut self,
        index: u64,
        term: u64,
    ) -> Vec<(Asker<A>, Result<(), String>)> {
        let later = self.appended.split_off(&index.saturating_add(1));
        let decided = std::mem::replace(&mut self.appended, later);
        let result = |at| match at == (index, term) {
            true => Ok(()),
            false => Err(LEADS_NO_LONGER.to_owned()),
        };
        decided.into_iter().map(|(at, (term, asker))| (asker, result((at, term)))).collect()
    }
}

impl<T, A> Coordinator<T, A> {
    /// How far a leader has brought the others, and who of them has been heard of lately.
    pub fn progress(&self, scene: &Scene<'_, T>) -> Vec<Progress> {
        let mut progress = scene.raft.progress();
        for progress in &mut progress {
            // Raft's own is forgotten at each election timeout, whoever has been heard.
            // Who was never heard is not there: it was admitted, and did not come.
            let heard = self.heard.get(&progress.id);
            progress.active = heard.is_some_and(|at| scene.now.since(*at) < SILENT);
        }
        progress
    }

    /// Changes the members as the steward sees fit, if this node leads, and lets go of what has taken
    /// too long.
    pub(super) fn look_after_members(&mut self, scene: &mut Scene<'_, T>) {
        let now = scene.now;
        if let Some(transfer) = self.transfer.take_if(|transfer| now >= transfer.until) {
            let why = format!("member {} has not taken over in time", transfer.to);
            self.answer(transfer.asker, Err(why));
            // What was not taken meanwhile is this node's to put into the log, after all.
            scene.own.give_all_again();
        }
        while let Some(first) = self.asked.first_entry().filter(|first| now >= first.get().1) {
            let why = "the leader has not answered: `synod space members` shows who leads";
            let (who, _) = first.remove();
            self.actions.push_back(Action::Answer(who, Err(why.to_owned())));
        }
        if scene.raft.role() != Role::Leader || !self.changes.appended.is_empty() {
            return;
        }
        let progress = self.progress(scene);
        if let Some(plan) = self.steward.plan(now, view(scene, &progress)) {
            self.change(scene, &plan, None);
        }
    }

    /// Does what only a leader can, or has it done.
    pub(super) fn ask(&mut self, scene: &Scene<'_, T>, ask: Ask, asker: Asker<A>) {
        if scene.raft.role() != Role::Leader {
            return match (scene.raft.leader(), asker) {
                (Some(leader), Asker::Here(who)) => self.ask_leader(scene, leader, ask, who),
                (_, asker) => {
                    let why = "no leader is known: `synod space members` shows which voters are connected; \
                               try again when most are";
                    self.answer(asker, Err(why.to_owned()));
                }
            };
        }
        let wish = match ask {
            Ask::Promote(id) => Wish::Promote(id),
            Ask::Remove(id) => Wish::Remove(id),
            Ask::Transfer(to) => return self.hand_over(scene, to, asker),
        };
        let progress = scene.raft.progress();
        match self.steward.grant(wish, view(scene, &progress)) {
            Ok(plan) => self.change(scene, &plan, Some(asker)),
            Err(why) => self.answer(asker, Err(why.to_string())),
        }
    }

    fn ask_leader(&mut self, scene: &Scene<'_, T>, leader: u64, ask: Ask, who: A) {
        let Some(peer) = self.peer_of(scene.membership, leader) else {
            let why = format!("the leader, member {leader}, cannot be reached");
            return self.actions.push_back(Action::Answer(who, Err(why)));
        };
        if self.asked.len() >= MAX_ASKS {
            let why = "too much is asked for: try again later".to_owned();
            return self.actions.push_back(Action::Answer(who, Err(why)));
        }
        self.last_number += 1;
        let number = self.last_number;
        self.asked.insert(number, (who, scene.now + ASK_PATIENCE));
        let frame = Frame::Ask { boot: self.me.boot, number, ask };
        self.actions.push_back(Action::Send { peer, urgent: false, frame });
    }

    fn change(&mut self, scene: &Scene<'_, T>, plan: &Plan, asker: Option<Asker<A>>) {
        let commands = vec![Command::Configure(plan.configure.clone()).encode()];
        let batch = Batch { time: scene.wall, tags: Vec::new(), commands };
        let (ticket, data) = (self.ticket(), batch.encode());
        self.changes.proposed.extend(asker.map(|asker| (ticket, asker)));
        let input = if plan.changes.is_empty() {
            // Raft does not know them: the state alone changes. It is put into the log once and not
            // given again, for a copy that comes late could undo a newer one.
            Input::Propose { ticket, data }
        } else {
            Input::ChangeMembers { ticket, changes: plan.changes.clone(), context: data }
        };
        self.actions.push_back(Action::Raft(input));
    }

    fn hand_over(&mut self, scene: &Scene<'_, T>, to: u64, asker: Asker<A>) {
        if to == self.me.member {
            return self.answer(asker, Ok(()));
        }
        if !scene.raft.members().voters.contains(&to) {
            let why = format!("{to} is not the id of a voter: `synod space members` lists them");
            return self.answer(asker, Err(why));
        }
        if self.transfer.is_some() {
            let why = "the leadership is being handed over already".to_owned();
            return self.answer(asker, Err(why));
        }
        self.transfer = Some(Transfer { to, asker, until: scene.now + TRANSFER_PATIENCE });
        self.actions.push_back(Action::Raft(Input::Transfer { to }));
    }

    /// Somebody leads: perhaps who was to.
    pub(super) fn transferred(&mut self, leader: Option<u64>) {
        let Some(leader) = leader.filter(|&leader| leader != self.me.member) else { return };
        if let Some(transfer) = self.transfer.take() {
            let result = match leader == transfer.to {
                true => Ok(()),
                false => Err(format!("member {leader} leads now")),
            };
            self.answer(transfer.asker, result);
        }
    }

    /// This node does not lead, or no longer.
    pub(super) fn step_down(&mut self) {
        self.steward.forget();
        for (_, asker) in std::mem::take(&mut self.changes.appended).into_values() {
            self.answer(asker, Err(LEADS_NO_LONGER.to_owned()));
        }
    }

    /// Tells whoever asked what came of it.
    pub(super) fn answer(&mut self, asker: Asker<A>, result: Result<(), String>) {
        self.actions.push_back(match asker {
            Asker::Here(who) => Action::Answer(who, result),
            Asker::There { peer, boot, number } => {
                let frame = Frame::Answer { boot, number, why: result.err() };
                Action::Send { peer, urgent: false, frame }
            }
        });
    }
}

fn view<'a, T>(scene: &Scene<'a, T>, progress: &'a [Progress]) -> View<'a> {
    let (membership, members) = (scene.membership, scene.raft.members());
    View { membership, members, progress, last: scene.raft.last() }
}
