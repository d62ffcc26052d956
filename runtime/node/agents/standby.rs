//! An agent of mode `one` runs on one node of its space, the holder; wherever else it was started with
//! the same program, it stands by with its program loaded, and takes over when nobody holds it.
//!
//! Who holds it is in the log: a node that stops it releases it, and the leader does that for a node that
//! it no longer hears of. Two that take over at the same time are told apart by the epoch that they saw.

use super::commit::claim_after;
use super::context::Context;
use super::engine::Engine;
use super::load::{LoadError, Loaded};
use super::takeover::{Done, tell};
use super::task::{Order, Task};
use super::timers::Timers;
use super::triggers::{Scan, Watches};
use crate::api::Reloaded;
use crate::space::Space;
use std::time::Duration;
use synod_core::command::Mode;
use tokio::time::sleep;

/// How long who stands by waits before it looks again, at least: the state is not to be asked at each
/// command.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it looks away, at most.
const LOOK_AWAY: Duration = Duration::from_secs(1);

/// What the space says of who runs an agent.
pub(super) enum Held {
    /// Nobody, since this epoch.
    Free { epoch: u64 },
    /// Another node.
    By { node: String, program: [u8; 32] },
}

/// Who runs an agent, as far as this node has applied the log; none if the space is closed. What this
/// node held before it started anew is free.
pub(super) async fn held(
    context: &Context,
    space: &Space,
    agent: &str,
    mode: Mode,
) -> Option<Held> {
    let (name, node) = (agent.to_owned(), context.node().to_owned());
    let look = space.look(move |state| {
        let Some(agent) = state.agents().get(&name) else { return Held::Free { epoch: 0 } };
        // A node that is no member, as that which an imported space comes from, holds nothing.
        let is_member = |holder: &String| {
            state.membership().members().values().any(|member| member.node == *holder)
        };
        match &agent.holder {
            Some(holder) if *holder != node && mode == Mode::One && is_member(holder) => {
                Held::By { node: holder.clone(), program: agent.program }
            }
            _ => Held::Free { epoch: agent.epoch },
        }
    });
    look.await
}

/// Why a program does not stand by for another under the same name.
pub(super) fn refused(agent: &str, node: &str) -> LoadError {
    LoadError::NotClaimed(format!(
        "{agent} runs on node {node} with another program: give this one another name (--agent NAME), or \
         put the same program on both"
    ))
}

impl Task {
    /// Stands by until this node holds the agent. None if it is to end.
    pub(super) async fn stand_by(&mut self, mut engine: Engine) -> Option<Engine> {
        let mut applied = self.space.feed().follow();
        let mut by = None;
        loop {
            let (context, mode) = (std::sync::Arc::clone(&self.context), self.claimed.mode);
            match held(&context, &self.space, &self.agent, mode).await? {
                Held::Free { epoch } => match self.take_over(epoch).await {
                    Ok(()) => return Some(engine),
                    // Somebody else was first, or no quorum can be reached: look again.
                    Err(e) => {
                        self.view().waiting(&e.to_string());
                        self.log("info", &format!("it has not taken over: {e}"));
                        by = None;
                    }
                },
                Held::By { node, .. } => {
                    if by.as_ref() != Some(&node) {
                        self.log("info", &format!("node {node} runs it: this one stands by"));
                        self.view().standing_by(&node, engine.pid);
                        by = Some(node);
                    }
                }
            }
            sleep(LOOK_AGAIN).await;
            if self.is_to_end(&mut engine).await {
                return None;
            }
            applied.borrow_and_update();
            tokio::select! {
                order = self.orders.recv() => {
                    // Seen to above.
                    self.taken.extend(order);
                    if self.taken.is_empty() { return None }
                }
                _ = applied.changed() => {}
                () = sleep(LOOK_AWAY) => {}
            }
            if self.is_to_end(&mut engine).await {
                return None;
            }
            if engine.is_ageing() {
                // What it has not seen may be forgotten soon: a fresh one starts from a snapshot.
                self.reload_beside(&mut engine, None).await;
            }
        }
    }

    /// As above, with an engine that is still to be started: another node has taken the agent over.
    pub(super) async fn stand_by_anew(&mut self) -> Option<Engine> {
        loop {
            let load = self.context.load(&self.definition, &self.space, &self.registered, 0).await;
            match load {
                Ok((engine, loaded)) => {
                    self.claimed = loaded;
                    return self.stand_by(engine).await;
                }
                Err(e) => {
                    self.log("error", &format!("it does not stand by: {e}"));
                    self.view().waiting(&e.to_string());
                }
            }
            tokio::select! {
                order = self.orders.recv() => match order? {
                    Order::Stop { done, .. } => {
                        self.end(false, Some(done)).await;
                        return None;
                    }
                    Order::Load { done, .. } => drop(done),
                    Order::Retry(_) => {}
                },
                () = sleep(LOOK_AWAY) => {}
            }
        }
    }

    /// Obeys what was ordered meanwhile; says whether the agent is to end.
    async fn is_to_end(&mut self, engine: &mut Engine) -> bool {
        self.taken.extend(std::iter::from_fn(|| self.orders.try_recv().ok()));
        while let Some(order) = self.taken.pop_front() {
            match order {
                Order::Stop { done, .. } => {
                    self.end(false, Some(done)).await;
                    return true;
                }
                Order::Load { done, .. } => self.reload_beside(engine, Some(done)).await,
                // The holder hands letters out.
                Order::Retry(_) => self.log("warning", "letters are retried where the agent runs"),
            }
        }
        false
    }

    async fn reload_beside(&mut self, engine: &mut Engine, done: Option<Done>) {
        let load = self.context.load(&self.definition, &self.space, &self.registered, 0).await;
        let told = match load {
            Ok((fresh, loaded)) => {
                let warnings = loaded.warnings.clone();
                *engine = fresh;
                self.claimed = loaded;
                let (agent, is_new_epoch) = (self.definition.name.clone(), false);
                Ok(Reloaded { agent, epoch: self.epoch, is_new_epoch, warnings })
            }
            Err(e) => {
                self.log("error", &format!("no fresh engine, the old one goes on: {e}"));
                Err(e.body())
            }
        };
        tell(done.into_iter().collect(), &told);
    }

    /// Claims the agent in an epoch of its own, with what the program says as it was loaded here.
    async fn take_over(&mut self, epoch: u64) -> Result<(), LoadError> {
        let (node, loaded): (_, &Loaded) = (self.context.node(), &self.claimed);
        let claimed = claim_after(&self.space, node, &self.agent, loaded, epoch).await?;
        (self.epoch, self.cursor) = claimed;
        self.seq = 0;
        self.scan = Scan::new(&self.agent, self.cursor);
        (self.is_started, self.batch, self.stands_by) = (false, None, false);
        self.suspects.clear();
        self.watches = Watches::default();
        self.timers = Timers::default();
        self.registered.unsubscribe_all();
        self.log("info", &format!("it runs here, in epoch {}", self.epoch));
        Ok(())
    }

    /// Whether another node holds the agent, so that this one may stand by.
    pub(super) async fn is_held_elsewhere(&self) -> bool {
        let held = held(&self.context, &self.space, &self.agent, self.claimed.mode).await;
        matches!(held, Some(Held::By { program, .. }) if program == self.claimed.program)
    }
}
