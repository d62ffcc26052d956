//! Side engines: queries, transactions from outside and calls of other agents run in engines of
//! their own, with the same program and the same facts. They never stall the agent; one that is no
//! longer wanted is killed.

use super::ask;
use super::commit::resource_error;
use super::context::{Context, Registered};
use super::engine::{Engine, EngineError};
use super::load::problems;
use super::step::Step;
use crate::api::{ErrorBody, Once};
use crate::node::told;
use crate::scratch::past_error;
use crate::space::{Ended, NotProposed, Reading, Space, error};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use synod_core::apply::{Outcome, Refusal};
use synod_core::command::{Command, Declaration, Origin, Transaction};
use synod_core::transaction::Draft;
use synod_prolog::Death;
use synod_prolog::frame::{
    self, Answer, Effect, End, FromEngine, GoalKind, GoalText, Role, ToEngine,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Loaded engines that wait for a goal, at most, for one agent.
const WARM: usize = 2;
/// How long an engine waits for a goal before it is ended.
const WARM_FOR: Duration = Duration::from_secs(60);
/// Side engines of one agent at once, at most.
const MAX_SIDES: usize = 64;
/// Events of one goal that wait for whoever asked, at most; then the engine waits.
const EVENTS: usize = 64;
/// How long a goal waits for the agent to handle the events up to that index. An agent that cannot
/// is no reason not to answer.
const EVENTS_PATIENCE: Duration = Duration::from_secs(1);
/// How often a warm engine is replaced by a fresh one because the space ran away from it.
const TRIES: usize = 3;

/// An agent's side engines.
#[derive(Default)]
pub(super) struct Sides {
    warm: Mutex<Vec<(Engine, Instant)>>,
    running: Arc<std::sync::atomic::AtomicUsize>,
}

/// A goal to be solved.
#[derive(Clone, Debug)]
pub(super) struct Solve {
    pub(super) kind: GoalKind,
    pub(super) goal: GoalText,
    pub(super) chunk: u32,
    pub(super) limit: Option<u64>,
    pub(super) at_least: u64,
    /// On the facts of this index.
    pub(super) as_of: Option<u64>,
    pub(super) once: Option<Once>,
    /// Calls of agents that it stands behind.
    pub(super) depth: u32,
    pub(super) step: Option<Arc<Step>>,
}

impl Solve {
    /// A goal that an agent has called, on the facts as they are.
    pub(super) fn call(goal: Vec<u8>, chunk: u32, depth: u32) -> Self {
        Self {
            kind: GoalKind::Call,
            goal: GoalText::Term { term: goal },
            chunk,
            limit: None,
            at_least: 0,
            as_of: None,
            once: None,
            depth,
            step: None,
        }
    }
}

/// What comes of a goal.
#[derive(Debug)]
pub(super) enum SideEvent {
    Answer(Answer),
    Output(Vec<u8>),
    /// The goal waits to be asked for more.
    More,
    /// No further answer; the last event.
    End {
        succeeded: bool,
        more: bool,
        index: u64,
        /// For how long no leader has been known, where another node says so.
        stale_ms: Option<u64>,
    },
    /// The goal threw; the last event.
    Threw {
        text: String,
        term: Option<Vec<u8>>,
    },
    /// The goal cannot be read, or its engine ended; the last event.
    Failed(ErrorBody),
}

impl Registered {
    /// Solves a goal, unless this node's state may not be read. Dropping the receiver ends it.
    pub(super) fn solve(
        &self,
        context: &Arc<Context>,
        solve: Solve,
    ) -> Result<mpsc::Receiver<SideEvent>, ErrorBody> {
        self.space.serves_reads(Reading::Own).map_err(|why| why.body())?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (agent, context) = (self.clone(), Arc::clone(context));
        tokio::spawn(async move {
            let running = Arc::clone(&agent.sides.running);
            let under_way = running.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if under_way >= MAX_SIDES {
                let text = format!("{MAX_SIDES} goals are being solved already: try again later");
                drop(events.send(SideEvent::Failed(error("busy", text))).await);
            } else {
                let closed = events.clone();
                tokio::select! {
                    () = solve_in_side(&agent, &context, solve, events) => {}
                    // Whoever asked has gone: the engine is dropped, and so killed.
                    () = closed.closed() => {}
                }
            }
            running.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        });
        Ok(receiver)
    }

    /// Ends all engines that wait.
    pub(super) fn drop_warm(&self) {
        self.sides.warm.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take_warm(&self) -> Option<Engine> {
        let mut warm = self.sides.warm.lock().unwrap_or_else(PoisonError::into_inner);
        warm.retain(|(_, since)| since.elapsed() < WARM_FOR);
        warm.pop().map(|(engine, _)| engine)
    }

    fn keep_warm(&self, engine: Engine) {
        let mut warm = self.sides.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if warm.len() < WARM {
            warm.push((engine, Instant::now()));
            drop(warm);
            let agent = self.clone();
            tokio::spawn(async move {
                sleep(WARM_FOR).await;
                let mut warm = agent.sides.warm.lock().unwrap_or_else(PoisonError::into_inner);
                warm.retain(|(_, since)| since.elapsed() < WARM_FOR);
            });
        }
    }
}

async fn solve_in_side(
    agent: &Registered,
    context: &Arc<Context>,
    solve: Solve,
    events: mpsc::Sender<SideEvent>,
) {
    if !agent.space.reaches(solve.at_least).await {
        let (wanted, index) = (solve.at_least, agent.space.feed().applied());
        let text = format!(
            "index {wanted} was acknowledged to this client or asked for, and this node is at {index}: \
             is it another data folder, or one whose log has lost its end?"
        );
        return drop(events.send(SideEvent::Failed(error("behind", text))).await);
    }
    if let Some(index) = solve.as_of {
        return solve_in_past(agent, context, &solve, index, &events).await;
    }
    if let Some(ended) = ended_before(&agent.space, &solve).await {
        return drop(events.send(ended).await);
    }
    if solve.at_least > 0 && agent.view.is_running() {
        drop(timeout(EVENTS_PATIENCE, agent.view.passes(solve.at_least)).await);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let warm = if tries == 1 { agent.take_warm() } else { None };
        let mut engine = match warm {
            Some(engine) => engine,
            None => {
                let role = Role::Side { agent: agent.definition.name.clone() };
                let load = context.load_as(&agent.definition, &agent.space, agent, role).await;
                let (engine, loaded) = match load {
                    Ok(loaded) => loaded,
                    Err(e) => return drop(events.send(SideEvent::Failed(e.body())).await),
                };
                if !keeps_stamps(&agent.space, loaded.declared).await {
                    let name = &agent.definition.name;
                    let text = format!(
                        "the program declares a key that it did not have when {name} was started: \
                         `synod agent restart {name}` takes it over"
                    );
                    return drop(events.send(SideEvent::Failed(error("program", text))).await);
                }
                engine
            }
        };
        let mut goal = Goal {
            agent,
            context,
            solve: &solve,
            events: &events,
            has_answered: false,
            committed: None,
        };
        match goal.run(&mut engine).await {
            Ok(true) => return agent.keep_warm(engine),
            Ok(false) => return,
            // Nothing has been told: a fresh engine may take the goal from the start.
            Err(EngineError::Behind)
                if !goal.has_answered && tries < TRIES && goal.may_run_again() => {}
            Err(e) => {
                let text = format!("the goal's engine {}", reason(&e, agent));
                return drop(events.send(SideEvent::Failed(error("engine", text))).await);
            }
        }
    }
}

/// Solves a goal in an engine of its own, on the facts of an index.
async fn solve_in_past(
    agent: &Registered,
    context: &Arc<Context>,
    solve: &Solve,
    index: u64,
    events: &mpsc::Sender<SideEvent>,
) {
    let base = match agent.space.as_of(index).await {
        Ok(base) => base,
        Err(e) => return drop(events.send(SideEvent::Failed(told(&e))).await),
    };
    let mut engine = match context.load_past(agent, &base, index).await {
        Ok(engine) => engine,
        Err(e) => return drop(events.send(SideEvent::Failed(e.body())).await),
    };
    let (has_answered, committed) = (false, None);
    let mut goal = Goal { agent, context, solve, events, has_answered, committed };
    if let Err(e) = goal.run(&mut engine).await {
        let text = format!("the goal's engine {}", reason(&e, agent));
        drop(events.send(SideEvent::Failed(error("engine", text))).await);
    }
}

/// Whether the space knows all keys that an engine reads by: of another, no transaction is valid.
async fn keeps_stamps(space: &Space, declared: Vec<Declaration>) -> bool {
    space.look(move |state| state.keeps_stamps_of(&declared)).await.unwrap_or(true)
}

/// How a transaction ended that was sent before under the same number: its goal, run again on what
/// it has changed itself, could say something else.
async fn ended_before(space: &Space, solve: &Solve) -> Option<SideEvent> {
    let Once { session, seq, .. } =
        solve.once.filter(|_| matches!(solve.kind, GoalKind::Transact))?;
    let outcome = space.look(move |state| state.outcome(session, seq).cloned()).await??;
    Some(match outcome {
        Outcome::Committed(index) => {
            SideEvent::End { succeeded: true, more: false, index, stale_ms: None }
        }
        Outcome::Refused(_, why) => SideEvent::Failed(error("refused", why.to_string())),
    })
}

fn reason(e: &EngineError, agent: &Registered) -> String {
    let options = &agent.definition.options;
    match e {
        EngineError::Dead(death @ Death::Time) => {
            let seconds = options.max_time_ms as f64 / 1000.0;
            format!("{death}: {seconds} s (--max-time of the agent)")
        }
        EngineError::Dead(death @ Death::Memory) => {
            format!("{death}: {} MiB (--max-memory of the agent)", options.max_memory >> 20)
        }
        EngineError::Dead(death) => death.to_string(),
        EngineError::Behind => "could not follow the space, which changes too fast".to_owned(),
    }
}

struct Goal<'a> {
    agent: &'a Registered,
    context: &'a Arc<Context>,
    solve: &'a Solve,
    events: &'a mpsc::Sender<SideEvent>,
    has_answered: bool,
    /// The index at which its transaction was committed.
    committed: Option<u64>,
}

impl Goal<'_> {
    /// Whether a goal whose engine fell behind may be given to another one. Only before it wrote.
    fn may_run_again(&self) -> bool {
        matches!(self.solve.kind, GoalKind::Call | GoalKind::Query)
    }

    /// Solves the goal in an engine. Says whether that is fit for another.
    async fn run(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        const ID: u64 = 1;
        let Solve { kind, goal, chunk, limit, at_least, .. } = self.solve;
        let at_least = match self.solve.as_of {
            Some(index) => index,
            None => (*at_least).max(self.agent.space.feed().applied()),
        };
        engine.depth = self.solve.depth;
        let (kind, goal, chunk) = (kind.clone(), goal.clone(), *chunk);
        engine.send(&ToEngine::Goal { id: ID, goal, kind, chunk, at_least }).await?;
        let mut answered = 0;
        loop {
            match engine.receive().await? {
                FromEngine::Pull { since } => engine.pulled(since).await?,
                FromEngine::Propose { proposal, draft, effects, .. } => {
                    self.propose(engine, proposal, draft, effects).await?;
                }
                FromEngine::Effects { effects, .. } => self.perform(effects).await,
                FromEngine::Answers { answers, end, output, at, .. } => {
                    if !output.is_empty() {
                        self.tell(SideEvent::Output(output)).await;
                    }
                    let mut cut = false;
                    for answer in answers {
                        if limit.is_some_and(|limit| answered >= limit) {
                            cut = true;
                            break;
                        }
                        answered += 1;
                        self.has_answered = true;
                        self.tell(SideEvent::Answer(answer)).await;
                    }
                    let is_full = limit.is_some_and(|limit| answered >= limit);
                    let (succeeded, index) = (answered > 0, self.committed.unwrap_or(at));
                    match end {
                        End::More if cut || is_full => {
                            engine.send(&ToEngine::Stop { id: ID }).await?;
                            self.tell(SideEvent::End {
                                succeeded,
                                more: true,
                                index,
                                stale_ms: None,
                            })
                            .await;
                            return Ok(true);
                        }
                        End::More => {
                            if let Some(step) = &self.solve.step {
                                self.tell(SideEvent::More).await;
                                step.asked().await;
                            }
                            engine.send(&ToEngine::More { id: ID }).await?;
                        }
                        End::Running => {}
                        End::Done | End::False => {
                            self.tell(SideEvent::End {
                                succeeded,
                                more: cut,
                                index,
                                stale_ms: None,
                            })
                            .await;
                            return Ok(true);
                        }
                        End::Syntax { problems: found } => {
                            let problems = problems(found);
                            let message = match problems.first() {
                                Some(p) => format!("{}:{}: {}", p.line, p.column, p.text),
                                None => "the goal cannot be read".to_owned(),
                            };
                            let body = ErrorBody { problems, ..error("syntax", message) };
                            self.tell(SideEvent::Failed(body)).await;
                            return Ok(true);
                        }
                        End::Error { text, term } => {
                            self.tell(SideEvent::Threw { text, term }).await;
                            return Ok(true);
                        }
                        End::Halted { status } => {
                            let text = format!("the goal called halt({status})");
                            self.tell(SideEvent::Failed(error("halted", text))).await;
                            return Ok(false);
                        }
                    }
                }
                FromEngine::Halted { status } => {
                    let text = format!("the goal called halt({status})");
                    self.tell(SideEvent::Failed(error("halted", text))).await;
                    return Ok(false);
                }
                FromEngine::Renew { .. } => {}
                frame => {
                    let name = &self.agent.definition.name;
                    ask::answer(self.context, &self.agent.space, name, engine, frame).await?;
                }
            }
        }
    }

    /// A transaction of the goal's. On conflict the engine runs it again under the same number.
    async fn propose(
        &mut self,
        engine: &mut Engine,
        proposal: u64,
        draft: Vec<u8>,
        effects: Vec<Effect>,
    ) -> Result<(), EngineError> {
        let space = &self.agent.space;
        let outcome = match Draft::read(&Bytes::from(draft)) {
            _ if self.solve.as_of.is_some() => {
                frame::Outcome::Refused { error: past_error().encode().unwrap_or_default() }
            }
            Err(_) => frame::Outcome::Refused { error: resource_error("a draft cannot be read") },
            Ok(draft) => match commit_draft(space, self.once(), draft).await {
                Committed::At(index) => {
                    self.committed = matches!(self.solve.kind, GoalKind::Transact).then_some(index);
                    self.perform(effects).await;
                    frame::Outcome::Committed { index }
                }
                Committed::Conflict(keys) => {
                    frame::Outcome::Conflict { keys: keys.iter().map(u64::to_string).collect() }
                }
                Committed::Refused(why) => frame::Outcome::Refused { error: resource_error(&why) },
                Committed::NotProposed(why) => {
                    frame::Outcome::Refused { error: resource_error(&why.to_string()) }
                }
                Committed::Unknown(id) => frame::Outcome::Unknown { id },
            },
        };
        let changes = engine.changes()?;
        engine.send(&ToEngine::Outcome { proposal, outcome, changes }).await
    }

    /// The client's number makes one transaction happen once: that of `transact`.
    fn once(&self) -> Option<Once> {
        self.solve.once.filter(|_| matches!(self.solve.kind, GoalKind::Transact))
    }

    async fn perform(&self, effects: Vec<Effect>) {
        let name = &self.agent.definition.name;
        for effect in effects {
            match effect {
                Effect::Output { bytes } => self.tell(SideEvent::Output(bytes)).await,
                Effect::Publish { topic, term } => {
                    if let Err(why) = self.context.publish(&topic, name, &term) {
                        self.agent.log.line("error", &format!("nothing was published: {why}"));
                    }
                }
                Effect::UdpSend { scope, term } => {
                    if let Err(why) = self.agent.udp_send(&scope, &term).await {
                        self.agent.log.line("error", &why);
                    }
                }
                Effect::Send { agent, term } => {
                    if let Err(why) = self.context.send_anywhere(&agent, name, &term).await {
                        self.agent.log.line("warning", &why);
                    }
                }
                Effect::Log { text, .. } => self.agent.log.line("info", &text),
                Effect::After { .. }
                | Effect::Every { .. }
                | Effect::Cancel { .. }
                | Effect::Watch { .. }
                | Effect::Unwatch { .. }
                | Effect::Subscribe { .. }
                | Effect::Unsubscribe { .. } => {
                    // An engine of a goal refuses them itself.
                    let text = "a goal's engine asked for a timer, watch or subscription, which are the \
                                agent's own: it was passed over";
                    self.agent.log.line("warning", text);
                }
            }
        }
    }

    async fn tell(&self, event: SideEvent) {
        // If nobody listens any more, this whole future is dropped.
        drop(self.events.send(event).await);
    }
}

/// How a draft ended.
pub(crate) enum Committed {
    At(u64),
    Conflict(Vec<u64>),
    Refused(String),
    /// It did not enter the log, and may be sent again under its number.
    NotProposed(NotProposed),
    /// Ask for this id.
    Unknown(String),
}

/// Proposes a draft under a client's number, or the node's own.
pub(crate) async fn commit_draft(space: &Space, once: Option<Once>, draft: Draft) -> Committed {
    let number = match once {
        Some(once) => Ok((once, None)),
        None => space.node_session().next(space).await.map(|own| (own.once, Some(own))),
    };
    let (Once { session, seq, acked }, own) = match number {
        Ok(number) => number,
        Err(Some(Ended::NotProposed(why))) => return Committed::NotProposed(why),
        Err(Some(Ended::Applied(Outcome::Refused(_, why)))) => {
            return Committed::Refused(why.to_string());
        }
        Err(Some(Ended::Applied(_))) => return Committed::NotProposed(NotProposed::Stopping),
        // Nobody knows whether there is a session; that nothing was written in it is certain.
        Err(None) => return Committed::NotProposed(NotProposed::NoQuorum),
    };
    let Draft { version, reads, ops } = draft;
    let origin = Origin::Session { id: session, seq, acked };
    let command = Command::Transact(Transaction { origin, version, reads, ops });
    if let Err(e) = command.check_terms() {
        return Committed::Refused(format!("a term is not in canonical form: {e}"));
    }
    match space.commit(&command).await {
        Some(Ended::Applied(Outcome::Committed(index))) => Committed::At(index),
        Some(Ended::Applied(Outcome::Refused(_, Refusal::Conflict(keys)))) => {
            Committed::Conflict(keys)
        }
        Some(Ended::Applied(Outcome::Refused(_, Refusal::TooOld))) => {
            Committed::Conflict(Vec::new())
        }
        Some(Ended::Applied(Outcome::Refused(_, why))) => Committed::Refused(why.to_string()),
        Some(Ended::NotProposed(why)) => Committed::NotProposed(why),
        None => {
            if let Some(own) = &own {
                own.keep();
            }
            Committed::Unknown(format!("{session}-{seq}"))
        }
    }
}
