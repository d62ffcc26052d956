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
use super::load::{LoadError, Loaded};
use super::timers::Timers;
use super::triggers::{Item, Scan, Watches};
use super::view::View;
use crate::space::{Ended, NotProposed, Space};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use synod_core::apply::{Outcome, Refusal};
use synod_core::command::{Claim, Command, Letter, MAX_REASON_BYTES, Origin, Transaction};
use synod_core::kb::{Indicator, Position};
use synod_core::term::Term;
use synod_core::transaction::Draft;
use synod_prolog::frame::{self, Effect, FromEngine, Run, ToEngine, Trigger};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// Triggers of one batch, at most.
const BATCH: usize = 64;
/// Deaths of an engine on one trigger, after which it is a letter.
const DEATHS_TO_LETTER: u32 = 3;
/// The shortest and the longest wait before a fresh engine follows one that died.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// How much longer than its limits an engine may be silent before it is killed from outside.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the node waits before it offers again what it could not propose.
const OFFER_AGAIN: Duration = Duration::from_millis(100);
/// Commands that concern nobody may leave an idle agent's cursor so far behind.
const CURSOR_LAG: u64 = 8192;

/// What a task is told.
pub(super) enum Order {
    /// End the agent, and release it if `release`.
    Stop { release: bool, done: oneshot::Sender<()> },
    /// Load the program anew, in a new epoch.
    Restart { done: oneshot::Sender<Result<(), LoadError>> },
}

/// One agent on this node.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) definition: Arc<Definition>,
    pub(super) space: Space,
    pub(super) registered: Registered,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) watches: Watches,
    pub(super) timers: Timers,
    /// The name that the space knows the agent by.
    pub(super) agent: String,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) cursor: Position,
    pub(super) scan: Scan,
    /// Whether `on(start)` has been handled in this epoch.
    pub(super) is_started: bool,
    pub(super) batch: Option<Batch>,
    pub(super) batches: u64,
    /// Items that an engine died on or with, to be handed out one at a time.
    pub(super) suspects: VecDeque<Item>,
    pub(super) deaths: u32,
}

/// What an engine has been handed and has not handled.
#[derive(Debug)]
pub(super) struct Batch {
    number: u64,
    items: Vec<Item>,
    /// How many of them are handled.
    done: usize,
}

/// Why an engine is no longer driven.
enum Left {
    Stopped { release: bool, done: Option<oneshot::Sender<()>> },
    Restart(oneshot::Sender<Result<(), LoadError>>),
    Died(String),
    Fresh(Box<(Engine, Loaded)>),
    Behind,
    Halted,
    Superseded,
}

impl Task {
    /// Runs the agent with an engine that has loaded its program, until it is stopped.
    pub(super) async fn run(mut self, mut engine: Engine) {
        let mut wait = BACK_OFF.0;
        loop {
            let handled_before = self.view().handled();
            let left = self.drive(&mut engine).await;
            drop(engine);
            self.registered.log.end_line();
            if self.view().handled() > handled_before {
                wait = BACK_OFF.0;
            }
            match left {
                Left::Stopped { release, done } => {
                    if release {
                        self.release().await;
                    }
                    self.view().stopped("stopped");
                    tell(done);
                    return;
                }
                Left::Halted => {
                    self.log("info", "the program called halt: the agent is stopped");
                    self.release().await;
                    self.view().stopped("the program called halt");
                    return;
                }
                Left::Fresh(fresh) => {
                    engine = fresh.0;
                    self.put_back();
                    continue;
                }
                Left::Restart(done) => match self.restart().await {
                    Ok(fresh) => {
                        engine = fresh;
                        drop(done.send(Ok(())));
                        continue;
                    }
                    Err(e) => {
                        self.view().failed(&e.to_string());
                        drop(done.send(Err(e)));
                        return;
                    }
                },
                Left::Superseded => {
                    self.log("warning", "another node has taken the agent over");
                    self.view().stopped("another node has taken it over");
                    return;
                }
                Left::Behind => self.put_back(),
                Left::Died(why) => {
                    self.view().died(&why);
                    self.log("warning", &format!("the engine {why}; a fresh one follows"));
                    self.after_death(&why).await;
                    self.view().waiting(&why);
                    match self.pause(wait).await {
                        Some(Order::Stop { release, done }) => {
                            if release {
                                self.release().await;
                            }
                            self.view().stopped("stopped");
                            tell(Some(done));
                            return;
                        }
                        Some(Order::Restart { done }) => drop(done.send(Ok(()))),
                        None => {}
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
            let load =
                self.context.load(&self.definition, &self.space, &self.registered, self.epoch);
            match load.await {
                Ok((engine, _)) => return Some(engine),
                Err(e) => {
                    self.log("error", &format!("no fresh engine: {e}"));
                    self.view().failed(&e.to_string());
                }
            }
            match self.pause(wait).await {
                Some(Order::Stop { release, done }) => {
                    if release {
                        self.release().await;
                    }
                    self.view().stopped("stopped");
                    tell(Some(done));
                    return None;
                }
                Some(Order::Restart { done }) => drop(done.send(Ok(()))),
                None => {}
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    /// Waits, unless an order comes first.
    async fn pause(&mut self, wait: Duration) -> Option<Order> {
        tokio::select! {
            order = self.orders.recv() => order,
            () = sleep(wait) => None,
        }
    }

    async fn drive(&mut self, engine: &mut Engine) -> Left {
        self.view().running(engine.pid);
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
        let mut renewal: Option<oneshot::Receiver<Result<(Engine, Loaded), LoadError>>> = None;
        loop {
            if waits {
                applied.borrow_and_update();
                if let Some(items) = self.next_items(&mut is_new).await {
                    self.hand_out(engine, items).await?;
                    waits = false;
                    heard = Instant::now();
                }
            }
            let due = self.timers.next();
            let patience = self.patience();
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Stop { release, done }) => {
                        // A courtesy: it may be in the middle of a handler, which leaves nothing.
                        drop(engine.send(&ToEngine::Shutdown).await);
                        return Ok(Left::Stopped { release, done: Some(done) });
                    }
                    Some(Order::Restart { done }) => return Ok(Left::Restart(done)),
                    None => return Ok(Left::Stopped { release: false, done: None }),
                },
                frame = engine.receive() => {
                    heard = Instant::now();
                    match frame? {
                        FromEngine::Next => {
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
                            self.count(&run);
                            self.perform(effects).await;
                        }
                        FromEngine::Renew { why } => {
                            self.log("info", &format!("the engine is renewed: {why:?}"));
                            renewal = Some(self.begin_renewal());
                        }
                        FromEngine::Halted { status: 0 } => return Ok(Left::Halted),
                        FromEngine::Halted { status } => {
                            return Ok(Left::Died(format!("called halt({status})")));
                        }
                        frame => ask::answer(&self.context, &self.space, &self.agent, engine, frame).await?,
                    }
                },
                fresh = renewed(&mut renewal), if waits => {
                    renewal = None;
                    match fresh {
                        Some(fresh) => {
                            drop(engine.send(&ToEngine::Shutdown).await);
                            return Ok(Left::Fresh(Box::new(fresh)));
                        }
                        None => self.log("error", "the engine could not be renewed and goes on"),
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

    /// What the engine is to handle next; none if nothing waits.
    async fn next_items(&mut self, is_new: &mut bool) -> Option<Vec<Item>> {
        if std::mem::take(is_new) {
            return Some(vec![Item { trigger: Trigger::Engine, position: None }]);
        }
        if !self.is_started && self.suspects.is_empty() {
            return Some(vec![Item { trigger: Trigger::Start, position: None }]);
        }
        if let Some(suspect) = self.suspects.pop_front() {
            return Some(vec![suspect]);
        }
        // What has a position and what has none take turns, so that neither starves the other.
        let loose = |triggers: Vec<Trigger>| -> Vec<Item> {
            triggers.into_iter().map(|trigger| Item { trigger, position: None }).collect()
        };
        if self.batches % 2 == 0 && !self.registered.mailbox.is_empty() {
            return Some(loose(self.registered.mailbox.take(BATCH)));
        }
        match self.scan.take(&self.space, &self.watches, BATCH).await {
            Ok(items) if !items.is_empty() => return Some(items),
            Ok(_) => {}
            Err(crate::space::HistoryError::Gone { first }) => {
                let from = self.cursor.index;
                self.scan = Scan::new(&self.agent, Position { index: first, n: 0 });
                let gap = Trigger::Gap { from, to: first.saturating_sub(1) };
                let position = Some((self.cursor, Position { index: first, n: 0 }));
                return Some(vec![Item { trigger: gap, position }]);
            }
            Err(e) => self.log("error", &format!("events cannot be read: {e}")),
        }
        let triggers = self.registered.mailbox.take(BATCH);
        if triggers.is_empty() {
            self.move_cursor().await;
            return None;
        }
        Some(loose(triggers))
    }

    async fn hand_out(&mut self, engine: &mut Engine, items: Vec<Item>) -> Result<(), EngineError> {
        let changes = engine.changes()?;
        self.batches += 1;
        let number = self.batches;
        let triggers = items.iter().map(|item| item.trigger.clone()).collect();
        self.batch = Some(Batch { number, items, done: 0 });
        engine.send(&ToEngine::Triggers { batch: number, changes, items: triggers }).await
    }

    async fn propose(
        &mut self,
        engine: &mut Engine,
        proposal: u64,
        run: Run,
        draft: Vec<u8>,
        effects: Vec<Effect>,
    ) -> Result<Option<Left>, EngineError> {
        let Ok(draft) = Draft::read(&Bytes::from(draft)) else {
            engine.kill();
            return Ok(Some(Left::Died("proposed what cannot be read".to_owned())));
        };
        let to = self.cursor_behind(&run).unwrap_or(self.cursor);
        self.seq += 1;
        let origin = Origin::Agent {
            name: self.agent.clone(),
            epoch: self.epoch,
            seq: self.seq,
            from: self.cursor,
            to,
        };
        let Draft { version, reads, ops } = draft;
        let command = Command::Transact(Transaction { origin, version, reads, ops });
        if command.check_terms().is_err() {
            engine.kill();
            return Ok(Some(Left::Died(
                "proposed a term that is not in canonical form".to_owned(),
            )));
        }
        let (outcome, is_committed) = match self.commit(&command).await {
            Some(Ended::Applied(Outcome::Committed(index))) => {
                (frame::Outcome::Committed { index }, true)
            }
            Some(Ended::Applied(Outcome::Refused(_, Refusal::Conflict(keys)))) => {
                let keys = keys.iter().map(u64::to_string).collect();
                (frame::Outcome::Conflict { keys }, false)
            }
            Some(Ended::Applied(Outcome::Refused(_, Refusal::TooOld))) => {
                (frame::Outcome::Conflict { keys: Vec::new() }, false)
            }
            Some(Ended::Applied(Outcome::Refused(
                _,
                Refusal::StaleEpoch | Refusal::StaleCursor | Refusal::OutOfWindow,
            ))) => return Ok(Some(Left::Superseded)),
            Some(Ended::Applied(Outcome::Refused(_, why))) => {
                (frame::Outcome::Refused { error: resource_error(&why.to_string()) }, false)
            }
            Some(Ended::NotProposed(why)) => {
                (frame::Outcome::Refused { error: resource_error(&why.to_string()) }, false)
            }
            // The node is going down, and says nothing that it does not know.
            None => return Ok(Some(Left::Stopped { release: false, done: None })),
        };
        if is_committed {
            self.cursor = to;
            self.count(&run);
            self.perform(effects).await;
        }
        let changes = engine.changes()?;
        engine.send(&ToEngine::Outcome { proposal, outcome, changes }).await?;
        Ok(None)
    }

    /// Where the cursor stands behind what a run handles; none if that has no position.
    fn cursor_behind(&self, run: &Run) -> Option<Position> {
        let (Run::Batch { batch, first, done, .. }, Some(current)) = (run, &self.batch) else {
            return None;
        };
        if *batch != current.number {
            return None;
        }
        let handled = current.items.iter().skip(*first as usize).take(*done as usize);
        handled.rev().find_map(|item| item.position).map(|(_, behind)| behind)
    }

    /// Notes that items of the batch are handled.
    fn count(&mut self, run: &Run) {
        let Run::Batch { batch, first, done, failed } = run else { return };
        let Some(current) = self.batch.as_mut().filter(|current| current.number == *batch) else {
            return;
        };
        let first_item = current.items.get(*first as usize).map(|item| &item.trigger);
        let is_start = matches!(first_item, Some(Trigger::Start));
        current.done = current.done.max((*first as usize) + (*done as usize));
        self.deaths = 0;
        self.is_started |= is_start;
        self.view().handled_more(u64::from(*done), failed.len() as u64);
        for failure in failed {
            self.log("error", &format!("a handler did not succeed: {}", failure.text));
        }
    }

    /// Proposes a command until it is decided; none if the node goes down first.
    async fn commit(&mut self, command: &Command) -> Option<Ended> {
        let bytes = command.encode();
        let mut is_told = false;
        loop {
            match self.space.commit_encoded(bytes.clone()).await? {
                Ended::NotProposed(why @ (NotProposed::Busy | NotProposed::DiskFull(_))) => {
                    if !std::mem::replace(&mut is_told, true) {
                        self.log("warning", &format!("a write waits: {why}"));
                    }
                    sleep(OFFER_AGAIN).await;
                    if self.context.is_stopping() || !self.orders.is_empty() {
                        return None;
                    }
                }
                ended => return Some(ended),
            }
        }
    }

    /// Does what a committed run wants done outside of the knowledge base, in order.
    async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Output { bytes } => self.registered.log.output(&bytes),
                Effect::Log { level, text } => {
                    self.registered.log.line(level_name(level), &text);
                }
                Effect::After { micros, term } => self.arm(micros, false, term),
                Effect::Every { micros, term } => self.arm(micros, true, term),
                Effect::Cancel { term } => self.timers.cancel(&term),
                Effect::Watch { name, arity, others } => {
                    self.watches.watch(Indicator::new(&name, arity), others);
                }
                Effect::Unwatch { name, arity } => {
                    self.watches.unwatch(&Indicator::new(&name, arity));
                }
                Effect::Subscribe { topic } => self.registered.subscribe(&topic),
                Effect::Unsubscribe { topic } => self.registered.unsubscribe(&topic),
                Effect::Publish { topic, term } => {
                    self.context.publish(&topic, &self.definition.name, &term);
                }
                Effect::Send { agent, term } => {
                    if !self.context.send(&agent, &self.definition.name, &term) {
                        let text = format!("nothing was sent to {agent}: no such agent is known");
                        self.log("warning", &text);
                    }
                }
            }
        }
    }

    fn arm(&mut self, micros: u64, every: bool, term: Vec<u8>) {
        let after = Duration::from_micros(micros);
        if !self.timers.arm(Instant::now(), after, every, term) {
            let bound = super::timers::MAX_TIMERS;
            self.log("error", &format!("a timer was not armed: there are {bound} already"));
        }
    }

    /// An engine has died in the middle of its batch.
    async fn after_death(&mut self, why: &str) {
        let Some(batch) = self.batch.take() else { return };
        let mut left = batch.items.into_iter().skip(batch.done);
        let Some(head) = left.next() else { return };
        self.deaths += 1;
        if head.position.is_none() && !matches!(head.trigger, Trigger::Start | Trigger::Engine) {
            self.log(
                "error",
                "what the engine died on has no position and is not handed out again",
            );
            self.deaths = 0;
        } else if self.deaths >= DEATHS_TO_LETTER {
            self.deaths = 0;
            self.write_letter(head, why).await;
        } else if !matches!(head.trigger, Trigger::Start | Trigger::Engine) {
            let rest: Vec<Item> = left.by_ref().collect();
            for item in rest.into_iter().rev() {
                self.suspects.push_front(item);
            }
            self.suspects.push_front(head);
        }
        let rest: Vec<Item> = left.collect();
        for item in rest.into_iter().rev() {
            self.suspects.push_front(item);
        }
    }

    /// Passes a trigger over, for good.
    async fn write_letter(&mut self, item: Item, why: &str) {
        if matches!(item.trigger, Trigger::Start) {
            self.is_started = true;
        }
        let Some(event) = term_of(&item.trigger) else {
            return self.log("error", "on(engine) killed three engines and is passed over");
        };
        let (from, to) =
            item.position.map_or((self.cursor, self.cursor), |(_, to)| (self.cursor, to));
        self.seq += 1;
        let mut reason = format!("three engines died on it; the last one {why}");
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        let letter = Letter {
            agent: self.agent.clone(),
            epoch: self.epoch,
            seq: self.seq,
            from,
            to,
            event,
            reason: reason.clone(),
        };
        if let Some(Ended::Applied(Outcome::Committed(_))) =
            self.commit(&Command::Letter(letter)).await
        {
            self.cursor = to;
            self.log("error", &format!("an event is put aside as a letter: {reason}"));
        }
    }

    /// Takes what an engine was handed and did not handle back.
    fn put_back(&mut self) {
        if let Some(batch) = self.batch.take() {
            let (loose, placed): (Vec<Item>, Vec<Item>) =
                batch.items.into_iter().skip(batch.done).partition(|i| i.position.is_none());
            for item in loose {
                if !matches!(item.trigger, Trigger::Start | Trigger::Engine) {
                    self.registered.mailbox.put(item.trigger);
                }
            }
            self.scan.put_back(placed.into_iter());
        }
    }

    /// An idle agent's cursor follows the log now and then, so that little is read again at the
    /// next start.
    async fn move_cursor(&mut self) {
        let to = self.scan.next();
        if !self.is_started || to.index.saturating_sub(self.cursor.index) < CURSOR_LAG {
            return;
        }
        self.seq += 1;
        let origin = Origin::Agent {
            name: self.agent.clone(),
            epoch: self.epoch,
            seq: self.seq,
            from: self.cursor,
            to,
        };
        let empty = Transaction { origin, version: 0, reads: Vec::new(), ops: Vec::new() };
        let ended = self.commit(&Command::Transact(empty)).await;
        if let Some(Ended::Applied(Outcome::Committed(_))) = ended {
            self.cursor = to;
        }
    }

    fn begin_renewal(&self) -> oneshot::Receiver<Result<(Engine, Loaded), LoadError>> {
        let (sender, fresh) = oneshot::channel();
        let (context, definition) = (Arc::clone(&self.context), Arc::clone(&self.definition));
        let (space, registered, epoch) = (self.space.clone(), self.registered.clone(), self.epoch);
        tokio::spawn(async move {
            let loaded = context.load(&definition, &space, &registered, epoch).await;
            // If nobody takes it, dropping it ends the process.
            drop(sender.send(loaded));
        });
        fresh
    }

    /// A new epoch, with the program as it is now.
    async fn restart(&mut self) -> Result<Engine, LoadError> {
        let loading = self.context.load(&self.definition, &self.space, &self.registered, 0);
        let (engine, loaded) = loading.await?;
        let claimed = claim(&self.space, &self.context.node, &self.agent, &loaded).await?;
        (self.epoch, self.cursor) = claimed;
        self.scan = Scan::new(&self.agent, self.cursor);
        (self.seq, self.deaths, self.is_started) = (0, 0, false);
        self.suspects.clear();
        self.batch = None;
        self.watches = Watches::default();
        self.timers = Timers::default();
        self.registered.unsubscribe_all();
        Ok(engine)
    }

    async fn release(&self) {
        let release = Command::Release { agent: self.agent.clone(), epoch: self.epoch };
        drop(self.space.commit(&release).await);
    }

    fn view(&self) -> &View {
        &self.registered.view
    }

    fn log(&self, level: &str, text: &str) {
        self.registered.log.line(level, text);
    }
}

/// Claims an agent for this node: the new epoch, and where the cursor stands.
pub(super) async fn claim(
    space: &Space,
    node: &str,
    agent: &str,
    loaded: &Loaded,
) -> Result<(u64, Position), LoadError> {
    let name = agent.to_owned();
    let closed = || LoadError::NotClaimed("the node is going down".to_owned());
    let look = space.look(move |state| state.agents().get(&name).map(|agent| agent.epoch));
    let after = look.await.ok_or_else(closed)?.unwrap_or(0);
    let claim = Claim {
        agent: agent.to_owned(),
        node: node.to_owned(),
        program: loaded.program,
        mode: loaded.mode,
        after,
        declared: loaded.declared.clone(),
    };
    match space.commit(&Command::Claim(claim)).await {
        Some(Ended::Applied(Outcome::Committed(epoch))) => {
            let name = agent.to_owned();
            let look = space.look(move |state| state.agents().get(&name).map(|a| a.cursor));
            let cursor = look.await.flatten().ok_or_else(closed)?;
            Ok((epoch, cursor))
        }
        Some(Ended::Applied(Outcome::Refused(_, why))) => {
            Err(LoadError::NotClaimed(why.to_string()))
        }
        Some(Ended::NotProposed(why)) => Err(LoadError::NotClaimed(why.to_string())),
        None => Err(closed()),
    }
}

/// The term that a letter keeps of a trigger.
fn term_of(trigger: &Trigger) -> Option<Bytes> {
    match trigger {
        Trigger::Event { term, .. } | Trigger::Timer { term } => Some(Bytes::from(term.clone())),
        Trigger::Changed { fact, .. } => Some(Bytes::from(fact.clone())),
        Trigger::Start => Term::atom("start").encode().ok().map(Bytes::from),
        Trigger::Gap { .. } => Term::atom("gap").encode().ok().map(Bytes::from),
        Trigger::Engine
        | Trigger::Message { .. }
        | Trigger::Sent { .. }
        | Trigger::Datagram { .. }
        | Trigger::Udp { .. } => None,
    }
}

/// `error(resource_error(space), synod(Why))`, encoded.
pub(super) fn resource_error(why: &str) -> Vec<u8> {
    let formal = Term::structure("resource_error", [Term::atom("space")]);
    let context = Term::structure("synod", [Term::string(why)]);
    Term::structure("error", [formal, context]).encode().unwrap_or_default()
}

fn level_name(level: frame::Level) -> &'static str {
    match level {
        frame::Level::Debug => "debug",
        frame::Level::Info => "info",
        frame::Level::Warning => "warning",
        frame::Level::Error => "error",
    }
}

/// Tells that an order is carried out. Whoever gave it may no longer listen.
fn tell(done: Option<oneshot::Sender<()>>) {
    if let Some(done) = done {
        let _ = done.send(());
    }
}

/// Waits for a time; for ever without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What comes of a renewal; never resolves without one. May be given up and called again.
async fn renewed<T, E>(renewal: &mut Option<oneshot::Receiver<Result<T, E>>>) -> Option<T> {
    match renewal {
        Some(receiver) => receiver.await.ok().and_then(Result::ok),
        None => std::future::pending().await,
    }
}
