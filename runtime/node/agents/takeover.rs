//! How a fresh engine takes an agent over from the one that runs: beside it, and between two events.
//!
//! | | program unchanged | program changed |
//! |---|---|---|
//! | renewal, reload | the epoch goes on | a new epoch, in which what the node keeps goes on |
//! | restart | a new epoch, from nothing | a new epoch, from nothing |
//!
//! The space is told of a changed program by a claim of the same holder: what it declares, and by which
//! keys it reads, is agreed on before its first handler runs. A claim keeps the cursor and the letters.
//! Timers, watches, subscriptions and what waits in the mailbox are the node's; a reload keeps them, and
//! does not run `on(start)` again. `on(engine)` runs in every engine.

use super::commit::claim;
use super::context::Context;
use super::describe;
use super::engine::Engine;
use super::load::{LoadError, Loaded};
use super::task::Task;
use super::timers::Timers;
use super::triggers::{Scan, Watches};
use crate::api::{ErrorBody, Reloaded};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a fresh engine takes over. If several reasons come together, the last of these rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// The one that runs has grown, or has died.
    #[default]
    Renew,
    /// Somebody wants the program as it is now.
    Reload,
    /// Somebody wants the agent to begin anew.
    Restart,
}

/// Where it is told how a takeover that was ordered ended.
pub(super) type Done = oneshot::Sender<Result<Reloaded, ErrorBody>>;

type Load = Result<(Engine, Loaded), LoadError>;

/// An engine that loads the program beside the one that runs.
pub(super) struct Coming {
    loading: oneshot::Receiver<Load>,
    /// What came of it, if that was looked at and not used yet.
    loaded: Option<Load>,
    how: How,
    /// Who ordered it; nobody if it is a renewal.
    ordered: Vec<Done>,
}

impl Coming {
    /// Whether it takes over in the middle of a handler.
    pub(super) fn interrupts(&self) -> bool {
        self.how == How::Restart
    }

    pub(super) fn end(self) -> (How, Vec<Done>) {
        (self.how, self.ordered)
    }
}

impl Task {
    /// Starts an engine beside the one that runs. One that was being started for another reason is
    /// given up: the program may have changed since.
    pub(super) fn begin_load(&mut self, how: How, done: Option<Done>) {
        let (before, mut ordered) = self.coming.take().map(Coming::end).unwrap_or_default();
        ordered.extend(done);
        let (sender, loading) = oneshot::channel();
        let (context, definition): (Arc<Context>, _) =
            (Arc::clone(&self.context), Arc::clone(&self.definition));
        let (space, registered, epoch) = (self.space.clone(), self.registered.clone(), self.epoch);
        tokio::spawn(async move {
            let loaded = context.load(&definition, &space, &registered, epoch).await;
            // If nobody takes it, dropping it ends the process.
            drop(sender.send(loaded));
        });
        self.coming = Some(Coming { loading, loaded: None, how: how.max(before), ordered });
    }

    /// Whether an engine has been started, or could not be.
    pub(super) fn has_come(&mut self) -> bool {
        let Some(coming) = &mut self.coming else { return false };
        if coming.loaded.is_none() {
            coming.loaded = match coming.loading.try_recv() {
                Ok(loaded) => Some(loaded),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(given_up()),
            };
        }
        coming.loaded.is_some()
    }

    /// The engine that was to be renewed has ended: a renewal that nobody ordered has no purpose.
    pub(super) fn renewal_is_void(&mut self) {
        self.coming.take_if(|coming| coming.ordered.is_empty());
    }

    /// An engine with the program as it is now.
    pub(super) async fn load_and_take(
        &mut self,
        how: How,
    ) -> Result<(Engine, Reloaded), LoadError> {
        let epoch = self.epoch;
        let load = self.context.load(&self.definition, &self.space, &self.registered, epoch);
        let loaded = load.await;
        self.take(loaded, how).await
    }

    /// Takes an engine over. An error leaves all as it was.
    pub(super) async fn take(
        &mut self,
        loaded: Load,
        how: How,
    ) -> Result<(Engine, Reloaded), LoadError> {
        let (engine, loaded) = loaded?;
        let (warnings, is_changed) = (loaded.warnings.clone(), !loaded.is_same_as(&self.claimed));
        match how {
            How::Restart => self.begin_anew(loaded).await?,
            How::Renew | How::Reload if is_changed => {
                self.claim_anew(loaded).await?;
                // What killed the program before need not kill this one.
                self.suspects.iter_mut().for_each(|suspect| suspect.deaths = 0);
                self.log("info", "the program has changed: it goes on in a new epoch");
                let (name, epoch) = (&self.definition.name, self.epoch);
                tracing::info!(
                    "agent {name}: its program has changed, and goes on in epoch {epoch}"
                );
            }
            // Its own text is the same; that of a file that it loads may be another.
            How::Renew | How::Reload => self.claimed = loaded,
        }
        if is_changed || how != How::Renew {
            warnings.iter().for_each(|warning| self.log("warning", &describe(warning)));
        }
        self.view().warned(warnings.clone());
        let is_new_epoch = is_changed || how == How::Restart;
        let (agent, epoch) = (self.definition.name.clone(), self.epoch);
        Ok((engine, Reloaded { agent, epoch, is_new_epoch, warnings }))
    }

    /// A new epoch that begins with nothing but the cursor and the letters.
    async fn begin_anew(&mut self, loaded: Loaded) -> Result<(), LoadError> {
        self.claim_anew(loaded).await?;
        self.scan = Scan::new(&self.agent, self.cursor);
        self.is_started = false;
        (self.start_deaths, self.has_progressed) = (0, true);
        self.suspects.clear();
        self.batch = None;
        self.put_retry_back();
        self.watches = Watches::default();
        self.timers = Timers::default();
        self.registered.unsubscribe_all();
        Ok(())
    }

    /// A new epoch, with a program as it was loaded.
    async fn claim_anew(&mut self, loaded: Loaded) -> Result<(), LoadError> {
        if loaded.mode != self.claimed.mode {
            return Err(LoadError::NotClaimed(
                "agent/1 says another mode now: stop it, and run it".to_owned(),
            ));
        }
        let claimed = claim(&self.space, &self.context.node, &self.agent, &loaded).await?;
        (self.epoch, self.cursor) = claimed;
        self.claimed = loaded;
        self.seq = 0;
        (self.engine_deaths, self.skips_engine) = (0, false);
        Ok(())
    }
}

/// The engine that comes; never resolves without one. May be given up and called again.
pub(super) async fn came(coming: &mut Option<Coming>) -> Load {
    let Some(coming) = coming else { return std::future::pending().await };
    match coming.loaded.take() {
        Some(loaded) => loaded,
        None => (&mut coming.loading).await.unwrap_or_else(|_| given_up()),
    }
}

fn given_up() -> Load {
    Err(LoadError::Died("was given up".to_owned()))
}

/// Tells those who ordered a takeover how it ended.
pub(super) fn tell(ordered: Vec<Done>, how: &Result<Reloaded, ErrorBody>) {
    for done in ordered {
        // Whoever gave the order may no longer listen.
        drop(done.send(how.clone()));
    }
}
