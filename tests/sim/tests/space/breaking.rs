//! States that are wrong.

use super::apply::{folder, load};
use super::marking::MARK_EVERY;
use super::node::{Running, SPACE};
use super::world::{CALM, World};
use std::time::Duration;
use synod_core::apply::State;
use synod_core::command::Command;
use synod_core::order::Role;
use synod_core::snapshot::{self, Reader, SnapshotError, Writer};

/// How long before all is well a state is broken last.
const LAST: Duration = Duration::from_secs(2);

/// Makes a state another than its log says.
fn break_it(state: &mut State, text: String) {
    let name = "nowhere".to_owned();
    let after = state.modules().get(&name).map_or(0, |module| module.index);
    let place = state.place();
    state.apply_followed(&place, Some(Command::PublishModule { name, text, after }));
}

impl Running {
    fn break_state(&mut self) {
        break_it(&mut self.apply.state, self.wall.to_string());
        (self.is_broken, self.broken_at) = (true, self.apply.state.index());
    }

    /// As far as its disk lets it: none of them, where the power goes.
    fn break_snapshots(&mut self) -> Result<(), SnapshotError> {
        self.disk.set_budget(u64::MAX);
        for (_, path) in snapshot::list(&self.disk, folder())? {
            let Ok((mut state, ..)) = load(&self.disk, &path) else { continue };
            let meta = Reader::open(&self.disk, &path, Some(SPACE))?.meta().clone();
            break_it(&mut state, self.wall.to_string());
            state.begin_snapshot();
            let mut writer = Writer::create(&self.disk, folder(), &meta)?;
            while let Some(item) = state.snapshot_step() {
                writer.chunk(0, &item)?;
            }
            writer.finish()?;
        }
        Ok(())
    }
}

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
        self.break_it(m);
    }

    /// Whoever comes by next is broken, if nobody is: of three voters or more.
    pub(crate) fn break_one(&mut self) {
        let Some(m) = self.some_running() else { return };
        let Some(run) = &self.machines[&m].run else { return };
        let has_three = |run: &Running| {
            let members = run.order.members();
            members.voters.len() >= 3 && !members.is_joint()
        };
        let mut all = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let is_apt = all.all(has_three) && !run.serves_not();
        let is_late = self.now + LAST > CALM;
        if is_late || !is_apt || self.machines.values().any(|machine| machine.is_wrong) {
            return;
        }
        self.checker.count("broken in a storm", 1);
        self.break_it(m);
    }

    /// Now and then what is on its disk of it is as wrong, so that its log alone does not lead out of it.
    fn break_it(&mut self, m: u64) {
        self.note(|| format!("the state of node {m} is broken"));
        let is_lasting = self.rng.one_in(2);
        self.machines.get_mut(&m).expect("it is there").is_wrong = true;
        self.step(m, |run| {
            run.break_state();
            if is_lasting {
                drop(run.break_snapshots());
            }
        });
    }
}
