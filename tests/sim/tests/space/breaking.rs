//! States that are wrong.

use super::marking::MARK_EVERY;
use super::node::Running;
use super::world::World;
use synod_core::order::Role;

impl World {
    /// Makes the state of one machine another than its log says: of the leader, or of another. Of one at a
    /// time, for two that are wrong alike would be a majority.
    pub(crate) fn break_a_state(&mut self) {
        let running = |m: &u64| self.machines[m].run.as_ref();
        let up: Vec<u64> = self.machines.keys().copied().filter(|m| running(m).is_some()).collect();
        let last = self.checker.last();
        let is_right = |run: &Running| {
            // Far enough behind the last agreement that a snapshot of before it is there, or none is.
            !run.is_broken && run.apply.state.index() + MARK_EVERY > last && run.marking.agreed > 0
        };
        let voters = |run: &Running| run.order.members().voters.len();
        let is_ready = |m: &u64| running(m).is_some_and(|run| is_right(run) && voters(run) >= 3);
        if up.len() < 3 || !up.iter().all(is_ready) {
            return;
        }
        let is_leader = |m: &&u64| running(m).is_some_and(|run| run.order.role() == Role::Leader);
        let at_random = up[self.rng.below(up.len() as u64) as usize];
        let of_leader = up.iter().find(is_leader).copied().filter(|_| self.rng.below(2) == 0);
        let m = of_leader.unwrap_or(at_random);
        let leads = running(&m).is_some_and(|run| run.order.role() == Role::Leader);
        self.checker.count(if leads { "leaders broken" } else { "followers broken" }, 1);
        self.note(|| format!("the state of node {m} is broken"));
        self.step(m, Running::break_state);
    }
}
