//! The task that runs one agent: it keeps an engine going, hands it what happens, commits what it
//! proposes, and survives whatever becomes of it.
//!
//! Exactly once: a command that handles events carries the agent's epoch and moves its cursor in the
//! same step as the writes. An engine that dies takes nothing with it but time; the events of its
//! batch are handed out again, one at a time, and the third death on one event makes it a letter.

use super::ask;
use super::context::{Context, Registered};
use super::definition::Definition;
use super::engine::{Engine, EngineError};
use super::letters::Retry;
use super::load::Loaded;
use super::takeover::{Coming, Done, How, came, tell};
use super::timers::Timers;
use super::triggers::{Item, Scan, Watches};
use super::view::View;
use crate::space::Space;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use synod_core::kb::Position;
use synod_prolog::frame::{FromEngine, ToEngine};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// The shortest and the longest wait before a fresh engine follows one that died.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// How much longer than its limits an engine may be silent before it is killed from outside.
const SILENCE: Duration = Duration::from_secs(10);

/// What a task is told.
pub(super) enum Order {
    /// End the agent, and release it if `release`.
    Stop { release: bool, done: oneshot::Sender<()> },
    /// Load the program anew. If that fails, all stays as it is.
    Load { how: How, done: Done },
    /// Hand letters out again.
    Retry(Vec<Retry>),
}

/// One agent on this node.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) definition: Arc<Definition>,
    pub(super) space: Space,
    pub(super) registered: Registered,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Orders that came while a commit waited, and are still to be obeyed.
    pub(super) taken: VecDeque<Order>,
    pub(super) watches: Watches,
    pub(super) timers: Timers,
    /// The name that the space knows the agent by.
    pub(super) agent: String,
    pub(super) epoch: u64,
    /// Whether another node runs the agent.
    pub(super) stands_by: bool,
    /// The program as it was when the epoch was claimed.
    pub(super) claimed: Loaded,
    pub(super) seq: u64,
    pub(super) cursor: Position,
    pub(super) scan: Scan,
    /// Whether `on(start)` has been handled in this epoch.
    pub(super) is_started: bool,
    pub(super) batch: Option<Batch>,
    pub(super) batches: u64,
    /// Items that an engine died on or with, to be handed out one at a time.
    pub(super) suspects: VecDeque<Item>,
    /// Letters that are to be handed out again.
    pub(super) retries: VecDeque<Retry>,
    /// The one of them that the engine has: it is all of the batch.
    pub(super) retrying: Option<Retry>,
    /// An engine that loads the program beside the one that runs.
    pub(super) coming: Option<Coming>,
    /// Engines that have died on `on(engine)` since one has not.
    pub(super) engine_deaths: u32,
    /// Engines that have died on `on(start)` in this epoch.
    pub(super) start_deaths: u32,
    /// Whether anything but `on(engine)` was handled since an engine has died.
    pub(super) has_progressed: bool,
    /// Whether `on(engine)` has killed so many that it is passed over.
    pub(super) skips_engine: bool,
}

/// What an engine has been handed and has not handled.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) items: Vec<Item>,
    /// How many of them are handled.
    pub(super) done: usize,
}

/// Why an engine is no longer driven.
pub(super) enum Left {
    Stopped {
        release: bool,
        done: Option<oneshot::Sender<()>>,
    },
    Died(String),
    Fresh(Box<Engine>),
    Behind,
    Halted,
    Superseded,
    /// The node is no member of the space any more, and why it says so.
    Removed(String),
}

/// How a wait for a fresh engine ended.
enum Pause {
    Over,
    Restarted(Box<Engine>),
    Ended,
}

impl Task {
    /// Runs the agent with an engine that has loaded its program, until it is stopped.
    pub(super) async fn run(mut self, engine: Engine) {
        let name = self.definition.name.clone();
        if self.stands_by {
            tracing::info!("agent {name}: stands by");
            if let Some(engine) = self.stand_by(engine).await {
                self.run_with(engine).await;
            }
            return self.registered.log.close();
        }
        tracing::info!("agent {name}: runs in epoch {}, from {}", self.epoch, self.cursor);
        self.run_with(engine).await;
        let why = self.view().shown().why.unwrap_or_default();
        tracing::info!("agent {name}: runs no more: {why}");
        // Whoever follows the log sees that nothing more comes.
        self.registered.log.close();
    }

    async fn run_with(&mut self, mut engine: Engine) {
        let mut wait = BACK_OFF.0;
        loop {
            let left = self.drive(&mut engine).await;
            drop(engine);
            self.registered.log.end_line();
            if std::mem::take(&mut self.has_progressed) {
                wait = BACK_OFF.0;
            }
            match left {
                Left::Stopped { release, done } => return self.end(release, done).await,
                Left::Halted => {
                    self.log("info", "the program called halt: the agent is stopped");
                    self.release().await;
                    self.view().stopped("the program called halt");
                    return;
                }
                Left::Fresh(fresh) => {
                    engine = *fresh;
                    self.put_back();
                    continue;
                }
                Left::Superseded if self.is_held_elsewhere().await => {
                    self.log("warning", "another node has taken the agent over");
                    match self.stand_by_anew().await {
                        Some(fresh) => engine = fresh,
                        None => return,
                    }
                    continue;
                }
                Left::Superseded => {
                    self.log("warning", "another node has taken the agent over");
                    self.view().stopped("another node has taken it over");
                    return;
                }
                Left::Removed(why) => {
                    self.log("error", &why);
                    return self.view().stopped(&why);
                }
                Left::Behind => {
                    self.renewal_is_void();
                    self.put_back();
                }
                Left::Died(why) => {
                    self.renewal_is_void();
                    self.view().died(&why);
                    let name = &self.definition.name;
                    tracing::info!("agent {name}: the engine {why}; a fresh one follows");
                    self.log("warning", &format!("the engine {why}; a fresh one follows"));
                    self.after_death(&why).await;
                    self.view().waiting(&why);
                    match self.pause(wait).await {
                        Pause::Over => {}
                        Pause::Restarted(fresh) => {
                            engine = *fresh;
                            continue;
                        }
                        Pause::Ended => return,
                    }
                    wait = (wait * 2).min(BACK_OFF.1);
                }
            }
            match self.fresh_engine().await {
                Some(fresh) => engine = fresh,
                None => return,
            }
        }
    }

    /// Starts engines until one has loaded the program. None if the agent is to end.
    async fn fresh_engine(&mut self) -> Option<Engine> {
        let mut wait = BACK_OFF.0;
        loop {
            match self.load_and_take(How::Renew).await {
                Ok((engine, _)) => return Some(engine),
                Err(e) => {
                    self.log("error", &format!("no fresh engine: {e}"));
                    self.view().waiting(&e.to_string());
                }
            }
            match self.pause(wait).await {
                Pause::Over => {}
                Pause::Restarted(fresh) => return Some(*fresh),
                Pause::Ended => return None,
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    /// Waits before a fresh engine is started, unless an order comes first.
    async fn pause(&mut self, wait: Duration) -> Pause {
        let over = Instant::now() + wait;
        loop {
            // One that somebody has ordered is waited for: nothing is started beside it.
            let is_coming = self.coming.is_some();
            tokio::select! {
                biased;
                order = next_order(&mut self.taken, &mut self.orders) => match order {
                    Some(Order::Stop { release, done }) => {
                        self.end(release, Some(done)).await;
                        return Pause::Ended;
                    }
                    Some(Order::Load { how, done }) => self.begin_load(how, Some(done)),
                    Some(Order::Retry(retries)) => self.queue_retries(retries),
                    None => return Pause::Ended,
                },
                loaded = came(&mut self.coming) => {
                    let (how, ordered) = self.coming.take().map(Coming::end).unwrap_or_default();
                    return match self.take(loaded, how).await {
                        Ok((fresh, taken)) => {
                            tell(ordered, &Ok(taken));
                            Pause::Restarted(Box::new(fresh))
                        }
                        Err(e) => {
                            tell(ordered, &Err(e.body()));
                            Pause::Over
                        }
                    };
                }
                () = sleep_until(over), if !is_coming => return Pause::Over,
            }
        }
    }

    pub(super) async fn end(&self, release: bool, done: Option<oneshot::Sender<()>>) {
        if release {
            self.release().await;
        }
        self.view().stopped("stopped");
        if let Some(done) = done {
            // Whoever gave the order may no longer listen.
            let _ = done.send(());
        }
    }

    async fn drive(&mut self, engine: &mut Engine) -> Left {
        self.view().taken_over(engine.pid);
        match self.exchange(engine).await {
            Ok(left) => left,
            Err(EngineError::Behind) => Left::Behind,
            Err(EngineError::Dead(death)) => Left::Died(death.to_string()),
        }
    }

    /// Answers an engine's frames until there is a reason to leave it.
    async fn exchange(&mut self, engine: &mut Engine) -> Result<Left, EngineError> {
        let mut applied = self.space.feed().follow();
        let mut waits = false;
        let mut is_new = true;
        let mut heard = Instant::now();
        loop {
            // One that has loaded takes over before anything else is handed out.
            if waits && !self.has_come() {
                applied.borrow_and_update();
                // Without triggers it follows the space and asks again.
                let only_changes = || engine.is_ageing().then(Vec::new);
                let items = self.next_items(&mut is_new).await;
                if let Some(items) = items.or_else(only_changes) {
                    self.hand_out(engine, items).await?;
                    waits = false;
                    heard = Instant::now();
                }
            }
            let due = self.timers.next();
            let patience = self.patience();
            // A restart does not wait for a handler to end.
            let takes = waits || self.coming.as_ref().is_some_and(Coming::interrupts);
            tokio::select! {
                biased;
                order = next_order(&mut self.taken, &mut self.orders) => match order {
                    Some(Order::Stop { release, done }) => {
                        // A courtesy: it may be in the middle of a handler, which leaves nothing.
                        drop(engine.send(&ToEngine::Shutdown).await);
                        return Ok(Left::Stopped { release, done: Some(done) });
                    }
                    Some(Order::Load { how, done }) => self.begin_load(how, Some(done)),
                    Some(Order::Retry(retries)) => self.queue_retries(retries),
                    None => return Ok(Left::Stopped { release: false, done: None }),
                },
                frame = engine.receive() => {
                    heard = Instant::now();
                    match frame? {
                        FromEngine::Next => {
                            self.retry_ends("its handler was not run");
                            self.batch = None;
                            waits = true;
                        }
                        FromEngine::Pull { since } => engine.pulled(since).await?,
                        FromEngine::Propose { proposal, run, draft, effects } => {
                            let left = self.propose(engine, proposal, run, draft, effects).await?;
                            if let Some(left) = left {
                                return Ok(left);
                            }
                        }
                        FromEngine::Effects { run, effects } => {
                            self.handled(engine, run, effects).await;
                        }
                        FromEngine::Renew { why } => {
                            self.log("info", &format!("the engine is renewed: {why:?}"));
                            if self.coming.is_none() {
                                self.begin_load(How::Renew, None);
                            }
                        }
                        FromEngine::Halted { status: 0 } => return Ok(Left::Halted),
                        FromEngine::Halted { status } => {
                            return Ok(Left::Died(format!("called halt({status})")));
                        }
                        frame => ask::answer(&self.context, &self.space, &self.agent, engine, frame).await?,
                    }
                },
                loaded = came(&mut self.coming), if takes => {
                    let (how, ordered) = self.coming.take().map(Coming::end).unwrap_or_default();
                    match self.take(loaded, how).await {
                        Ok((fresh, taken)) => {
                            tell(ordered, &Ok(taken));
                            drop(engine.send(&ToEngine::Shutdown).await);
                            return Ok(Left::Fresh(Box::new(fresh)));
                        }
                        Err(e) => {
                            self.log("error", &format!("no fresh engine, the old one goes on: {e}"));
                            tell(ordered, &Err(e.body()));
                        }
                    }
                }
                _ = applied.changed(), if waits => {}
                () = self.registered.mailbox.came(), if waits => {}
                () = until(due) => {
                    for term in self.timers.due(Instant::now()) {
                        self.registered.mailbox.put_timer(&term);
                    }
                }
                () = until(patience.map(|p| heard + p)), if !waits => {
                    engine.kill();
                    return Ok(Left::Died("has been silent for too long and was killed".to_owned()));
                }
            }
        }
    }

    /// How long an engine may be silent while it handles a batch.
    fn patience(&self) -> Option<Duration> {
        let limit = self.definition.options.max_time_ms;
        let items = self.batch.as_ref().map_or(1, |batch| batch.items.len().max(1));
        (limit > 0).then(|| Duration::from_millis(limit) * items as u32 + SILENCE)
    }

    async fn hand_out(&mut self, engine: &mut Engine, items: Vec<Item>) -> Result<(), EngineError> {
        self.batches += 1;
        let number = self.batches;
        let triggers = items.iter().map(|item| item.trigger.clone()).collect();
        // Kept before anything can go wrong: an engine that is too far behind leaves them to the next.
        self.batch = Some(Batch { number, items, done: 0 });
        let changes = engine.changes()?;
        engine.send(&ToEngine::Triggers { batch: number, changes, items: triggers }).await
    }

    pub(super) fn view(&self) -> &View {
        &self.registered.view
    }

    pub(super) fn log(&self, level: &str, text: &str) {
        // Its own log tells it to people; how fast that grows is the program's affair.
        tracing::debug!("agent {}: {level}: {text}", self.definition.name);
        self.registered.log.line(level, text);
    }
}

/// The next order; none once nobody can give any. May be given up and called again.
async fn next_order(
    taken: &mut VecDeque<Order>,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<Order> {
    match taken.pop_front() {
        Some(order) => Some(order),
        None => orders.recv().await,
    }
}

/// Waits for a time; for ever without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
