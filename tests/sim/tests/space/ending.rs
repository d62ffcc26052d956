//! What must be so when all has been well for long.

use super::node::Running;
use super::world::World;
use synod_core::apply::Part;
use synod_core::order::Role;

impl World {
    /// Everybody whom the space counts in has come to the same state, under one leader.
    pub(crate) fn check_the_end(&mut self) {
        let generation = self.checker.generation;
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let running = running.filter(|run| run.generation == generation);
        let leaders = running.filter(|run| run.order.role() == Role::Leader);
        let leader = leaders.max_by_key(|run| run.order.hard_state().term).expect("nobody leads");
        let (members, last) = (leader.order.members().clone(), self.checker.last());
        assert!(!members.is_joint(), "{members}");
        for id in members.voters.iter().chain(&members.learners) {
            let run = self.machines.values().filter_map(|machine| machine.run.as_ref());
            let is_it = |run: &&Running| run.me.member == *id && run.generation == generation;
            let run = run.clone().find(is_it);
            let run = run.unwrap_or_else(|| panic!("{id} of {members} does not run"));
            let part = if members.voters.contains(id) { Part::Voter } else { Part::Learner };
            let known = run.membership.members().get(id).map(|member| member.part);
            assert_eq!(known, Some(part), "the state says so of {id} among {members}");
            assert_eq!(run.apply.state.index(), last, "{id} lags behind among {members}");
            // Of two who differ nobody can tell which is wrong.
            let is_told = members.voters.len() >= 3;
            assert!(!run.is_broken || !is_told, "the state of {id} is wrong, unnoticed");
            self.checker.has_all(run);
        }
        for (m, machine) in &self.machines {
            let Some(run) = &machine.run else { panic!("node {m} does not run") };
            let is_out = run.removed.is_some() || run.me.generation < run.generation;
            // A learner of an older generation that nobody in this one knows says nothing, and hears nothing.
            let is_silent = run.leader.2.is_none();
            let is_of_now = run.generation == generation;
            assert!(is_of_now || is_out || is_silent, "node {m} was never told");
        }
        for c in 0..self.clients.len() {
            assert!(self.clients[c].is_done, "client {c} cannot write when all is well");
        }
        self.check_watchers();
        self.checker.check_histories();
    }
}
