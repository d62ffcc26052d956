//! Agents as `agent list` and `status` show them.

use super::Agents;
use super::context::Registered;
use super::mailbox::MAILBOX_BYTES;
use crate::api::AgentInfo;
use crate::near;
use std::time::Instant;
use synod_core::apply::MAX_LETTERS;

impl Agents {
    pub(super) async fn info(&self, agent: &Registered) -> AgentInfo {
        let name = agent.definition.name.clone();
        let instance = format!("{name}@{}", self.context.node());
        let look = agent.space.look(move |state| {
            let agents = state.agents();
            let known = agents.get(&name).or_else(|| agents.get(&instance)).cloned();
            (known, state.index())
        });
        let (known, index) = look.await.unwrap_or_default();
        let shown = agent.view.shown();
        let (handled, failed, deaths) = agent.view.counts();
        let letters = known.as_ref().map_or(0, |known| known.letters.len() as u64);
        let lag = known.as_ref().map_or(0, |known| {
            // A cursor is moved past what concerns its agent, and only now and then past more.
            index.saturating_sub(agent.view.passed().max(known.cursor.index.saturating_sub(1)))
        });
        let (memory, max_memory) =
            (shown.pid.and_then(resident), agent.definition.options.max_memory);
        let queue_bytes = agent.mailbox.bytes() as u64;
        let behind = (lag >= near::LAG).then(|| format!("behind: {lag} commands"));
        let near = [
            near::limit("memory", memory.unwrap_or(0), max_memory),
            near::limit("queue", queue_bytes, MAILBOX_BYTES as u64),
            near::limit("letters", letters, MAX_LETTERS as u64),
            behind,
        ];
        AgentInfo {
            name: agent.definition.name.clone(),
            space: agent.definition.space.clone(),
            state: if shown.state.is_empty() { "starting" } else { shown.state }.to_owned(),
            why: shown.why,
            program: agent.definition.program.display().to_string(),
            holder: known.as_ref().and_then(|known| known.holder.clone()),
            epoch: known.as_ref().map_or(0, |known| known.epoch),
            cursor: known.as_ref().map_or_else(String::new, |known| known.cursor.to_string()),
            lag,
            handled,
            handled_per_s: agent.view.rate(),
            failed,
            deaths,
            restarts: agent.view.restarts(),
            letters,
            max_letters: MAX_LETTERS as u64,
            dropped: agent.mailbox.dropped(),
            queue_bytes,
            max_queue_bytes: MAILBOX_BYTES as u64,
            pid: shown.pid,
            memory,
            max_memory,
            near: near.into_iter().flatten().collect(),
            warnings: agent.view.warnings(),
        }
    }

    /// Notes how much each agent has handled, for its rate.
    pub(crate) fn sample(&self, now: Instant) {
        self.context.agents().iter().for_each(|agent| agent.view.sample(now));
    }
}

/// A process's resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
