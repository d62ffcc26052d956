//! Who waits for what, and whom one asks.

use super::clients::Asked;
use super::node::{Ended, Running};
use super::world::World;
use std::collections::BTreeSet;
use synod_core::order::Role;

impl World {
    pub(crate) fn request(&mut self, m: u64, asked: Asked) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, (m, asked));
        self.last_request
    }

    pub(crate) fn ended(&mut self, request: u64, ended: Ended) {
        let Some((m, asked)) = self.requests.remove(&request) else { return };
        let run = self.machines[&m].run.as_ref();
        if ended == Ended::NotProposed("no quorum")
            && run.is_some_and(|run| run.leader.0 == Role::Leader)
        {
            self.checker.count("no quorum at a leader", 1);
        }
        if matches!(ended, Ended::Applied(_) | Ended::Readable(_)) {
            // What it had answered when it found out was right as far as it knew.
            let serves = run.is_none_or(|run| !run.was_wrong || !run.serves_not());
            assert!(serves, "node {m} serves, and is wrong");
        }
        self.note(|| format!("request {request} at node {m}: {ended:?}"));
        match asked {
            Asked::Client(c) => self.client_told(c, m, request, &ended),
            Asked::Join(joiner) => self.join_told(joiner, m, &ended),
            Asked::Nobody => {}
            Asked::Older => self.older_told(m, &ended),
        }
    }

    /// What nobody at a node that is gone can tell any more.
    pub(crate) fn end_all_of(&mut self, m: u64) {
        let its = self.requests.iter().filter(|(_, (at, _))| *at == m);
        let its: Vec<u64> = its.map(|(&request, _)| request).collect();
        its.into_iter().for_each(|request| self.ended(request, Ended::Unknown));
    }

    /// One of those that run, and live in the generation of now.
    pub(crate) fn some_running(&mut self) -> Option<u64> {
        let generation = self.checker.generation;
        let is_of_now = |run: &Running| run.generation == generation;
        let running = self.machines.iter();
        let running = running.filter(|(_, m)| m.run.as_ref().is_some_and(is_of_now));
        let mut running: Vec<u64> = running.map(|(&m, _)| m).collect();
        if self.is_calm() {
            // Who is no member any more, and may not know it, is asked by nobody for ever.
            let members = self.members();
            running.retain(|m| {
                let me = self.machines[m].me.as_ref();
                me.is_some_and(|me| members.contains(&me.member))
            });
        }
        if running.is_empty() {
            return None;
        }
        Some(running[self.rng.below(running.len() as u64) as usize])
    }

    /// The members, as the node knows them that has applied most.
    fn members(&self) -> BTreeSet<u64> {
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let newest = running.max_by_key(|run| (run.generation, run.apply.state.index()));
        newest.map(|run| run.membership.members().keys().copied().collect()).unwrap_or_default()
    }
}
