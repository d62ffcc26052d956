//! What an engine asks in the middle of a run: of the space, of its members, of other agents.

use super::commit::resource_error_term;
use super::context::Context;
use super::engine::{Engine, EngineError};
use super::side::{SideEvent, Solve};
use crate::past::PastError;
use crate::space::{Reading, Space};
use std::sync::Arc;
use std::time::{Duration, Instant};
use synod_core::apply::{Outcome, Part};
use synod_core::term::Term;
use synod_prolog::frame::{Ask, FromEngine, ToEngine};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// How long a call to another agent waits for answers, if it does not say.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether an engine that waits for answers is there still: it has a time limit of its own.
const LOOK: Duration = Duration::from_millis(200);
/// Calls to other agents that one engine may have open, at most.
const MAX_CALLS: usize = 64;

/// Calls of agents behind one another, at most: each holds an engine.
pub(super) const MAX_CALL_DEPTH: u32 = 8;

/// A call to another agent that may have more answers.
pub(super) struct OpenCall {
    events: mpsc::Receiver<SideEvent>,
    chunk: u32,
    patience: Duration,
    /// Asks an agent elsewhere for more.
    asked: Option<Arc<Notify>>,
}

/// No answer has come in time, or nobody is left who waits for one.
struct Late;

impl OpenCall {
    async fn next(&mut self, engine: &Engine) -> Result<Option<SideEvent>, Late> {
        let started = Instant::now();
        loop {
            let left = self.patience.saturating_sub(started.elapsed());
            match timeout(left.min(LOOK), self.events.recv()).await {
                Ok(event) => return Ok(event),
                Err(_) if left.is_zero() || engine.is_gone() => return Err(Late),
                Err(_) => {}
            }
        }
    }
}

/// Answers a frame that asks; passes over those that mean nothing here.
pub(super) async fn answer(
    context: &Arc<Context>,
    space: &Space,
    agent: &str,
    engine: &mut Engine,
    frame: FromEngine,
) -> Result<(), EngineError> {
    match frame {
        FromEngine::Ask { ask } => {
            let (answer, error) = match asked(context, space, agent, ask).await {
                Ok(term) => (term.encode().ok(), None),
                Err(term) => (None, term.encode().ok()),
            };
            engine.send(&ToEngine::Reply { answer, error }).await
        }
        FromEngine::Call { call, agent: callee, goal, chunk, timeout_ms } => {
            let patience = match timeout_ms {
                0 => CALL_PATIENCE,
                ms => Duration::from_millis(ms),
            };
            if engine.calls.len() >= MAX_CALLS {
                let error = Term::structure("resource_error", [Term::atom("open_calls")]);
                let error = error_term(error).encode().ok();
                return answers(engine, call, Vec::new(), false, error).await;
            }
            if engine.depth >= MAX_CALL_DEPTH {
                let error = Term::structure("resource_error", [Term::atom("call_depth")]);
                let error = error_term(error).encode().ok();
                return answers(engine, call, Vec::new(), false, error).await;
            }
            let depth = engine.depth + 1;
            let open = match context.runs(&callee) {
                Some(callee) => {
                    match callee.solve(context, Solve::call(goal, chunk.max(1), depth)) {
                        Ok(events) => OpenCall { events, chunk, patience, asked: None },
                        Err(why) => {
                            let error = system_error(why.message).encode().ok();
                            return answers(engine, call, Vec::new(), false, error).await;
                        }
                    }
                }
                None => {
                    let Some(elsewhere) = context.elsewhere(&callee, None).await else {
                        let error = existence_error("agent", Term::atom(callee)).encode().ok();
                        return answers(engine, call, Vec::new(), false, error).await;
                    };
                    let asked = Arc::new(Notify::new());
                    let ask = Arc::clone(&asked);
                    let events =
                        Context::call_elsewhere(elsewhere, callee, goal, chunk.max(1), depth, ask);
                    OpenCall { events, chunk, patience, asked: Some(asked) }
                }
            };
            engine.calls.insert(call, open);
            more(engine, call).await
        }
        FromEngine::UdpRequest { call, scope, term, timeout_ms } => {
            let time = Duration::from_millis(timeout_ms);
            let voice = context.agent(agent).and_then(|agent| agent.voice(&scope));
            let error = match voice {
                None => existence_error("udp_scope", Term::atom(scope)),
                Some(voice) if engine.calls.len() < MAX_CALLS => {
                    match voice.ask(&term, time).await {
                        Ok(events) => {
                            let patience = time.saturating_add(CALL_PATIENCE);
                            let open = OpenCall { events, chunk: 1, patience, asked: None };
                            engine.calls.insert(call, open);
                            return more(engine, call).await;
                        }
                        Err(why) => system_error(why),
                    }
                }
                Some(_) => {
                    error_term(Term::structure("resource_error", [Term::atom("open_calls")]))
                }
            };
            answers(engine, call, Vec::new(), false, error.encode().ok()).await
        }
        FromEngine::Wants { predicates } => {
            engine.declares(&predicates);
            Ok(())
        }
        FromEngine::CallMore { call } => {
            if let Some(asked) = engine.calls.get(&call).and_then(|open| open.asked.as_ref()) {
                asked.notify_one();
            }
            more(engine, call).await
        }
        FromEngine::CallClose { call } => {
            engine.calls.remove(&call);
            Ok(())
        }
        _ => {
            tracing::warn!("an engine of {agent} sent a frame out of turn");
            Ok(())
        }
    }
}

/// The next answers of a call.
async fn more(engine: &mut Engine, call: u64) -> Result<(), EngineError> {
    let Some(mut open) = engine.calls.remove(&call) else {
        return answers(engine, call, Vec::new(), false, None).await;
    };
    let mut terms = Vec::new();
    loop {
        let (more, error) = match open.next(engine).await {
            Err(Late) => {
                let late = Term::structure("resource_error", [Term::atom("call_time")]);
                (false, error_term(late).encode().ok())
            }
            Ok(Some(SideEvent::Answer(answer))) => {
                terms.extend(answer.term);
                // One elsewhere says itself when it waits.
                if open.asked.is_some() || terms.len() < open.chunk.max(1) as usize {
                    continue;
                }
                (true, None)
            }
            Ok(Some(SideEvent::More)) if open.asked.is_some() => (true, None),
            Ok(Some(SideEvent::Output(_) | SideEvent::More)) => continue,
            Ok(Some(SideEvent::Threw { term, text })) => {
                let ball = term.or_else(|| Term::string(&*text).encode().ok());
                (false, ball)
            }
            Ok(Some(SideEvent::Failed(why))) => (false, system_error(why.message).encode().ok()),
            Ok(Some(SideEvent::End { .. }) | None) => (false, None),
        };
        answers(engine, call, terms, more, error).await?;
        if more {
            engine.calls.insert(call, open);
        }
        return Ok(());
    }
}

async fn answers(
    engine: &mut Engine,
    call: u64,
    answers: Vec<Vec<u8>>,
    more: bool,
    error: Option<Vec<u8>>,
) -> Result<(), EngineError> {
    engine.send(&ToEngine::CallAnswers { call, answers, more, error }).await
}

async fn asked(context: &Context, space: &Space, agent: &str, ask: Ask) -> Result<Term, Term> {
    let closed = || error_term(Term::structure("system_error", [Term::atom("node_stopping")]));
    match ask {
        Ask::ReadIndex => match space.read_index().await {
            Some(index) => Ok(integer(index)),
            None => Err(not_newest(space)),
        },
        Ask::AsOf { index } => match space.as_of(index).await {
            Ok(path) => Ok(Term::string(&*path.to_string_lossy())),
            Err(PastError::Gone { .. } | PastError::Ahead { .. }) => {
                Err(existence_error("index", integer(index)))
            }
            Err(e) => {
                Err(error_term(Term::structure("system_error", [Term::string(e.to_string())])))
            }
        },
        Ask::Fate { id } => Ok(fate(space, &id).await.ok_or_else(closed)?),
        Ask::Agent { name } => {
            match context.runs(&name).is_some() || context.elsewhere(&name, None).await.is_some() {
                true => Ok(Term::atom("true")),
                false => Err(existence_error("agent", Term::atom(name))),
            }
        }
        Ask::Members => Ok(members_of(space, context)),
        Ask::Module { name } => {
            let wanted = name.clone();
            let look =
                space.look(move |state| state.modules().get(&wanted).map(|m| m.text.clone()));
            let text = look.await.ok_or_else(closed)?;
            let text = text.ok_or_else(|| existence_error("module", Term::atom(&*name)))?;
            let folder = context.folder_of(agent).join("modules");
            let path = folder.join(format!("{name}.pl"));
            let is_plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
            if !is_plain {
                return Err(existence_error("module", Term::atom(name)));
            }
            let write = async {
                tokio::fs::create_dir_all(&folder).await?;
                tokio::fs::write(&path, text).await
            };
            match write.await {
                Ok(()) => Ok(Term::string(&*path.to_string_lossy())),
                Err(e) => {
                    let why = format!("cannot write {}: {e}", path.display());
                    Err(error_term(Term::structure("system_error", [Term::string(why)])))
                }
            }
        }
    }
}

/// `committed(Index)`, `refused`, or `unknown` for what was not applied or is no longer kept.
async fn fate(space: &Space, id: &str) -> Option<Term> {
    let unknown = || Term::atom("unknown");
    let parsed = id
        .split_once('-')
        .and_then(|(session, seq)| Some((session.parse::<u64>().ok()?, seq.parse::<u64>().ok()?)));
    let Some((session, seq)) = parsed else { return Some(unknown()) };
    let outcome = space.look(move |state| state.outcome(session, seq).cloned()).await?;
    Some(match outcome {
        Some(Outcome::Committed(index)) => Term::structure("committed", [integer(index)]),
        Some(Outcome::Refused(..)) => Term::atom("refused"),
        None => unknown(),
    })
}

fn integer(n: u64) -> Term {
    Term::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(crate) fn existence_error(kind: &str, culprit: Term) -> Term {
    error_term(Term::structure("existence_error", [Term::atom(kind), culprit]))
}

/// Who takes part in a space, by its log, and who follows it, as far as this node has heard.
fn members_of(space: &Space, context: &Context) -> Term {
    let member = |node: &str, role| Term::structure("member", [Term::atom(node), Term::atom(role)]);
    let membership = space.membership();
    let mut all: Vec<Term> = membership
        .members()
        .values()
        .filter_map(|known| match known.part {
            Part::Voter => Some(member(&known.node, "voter")),
            Part::Learner => Some(member(&known.node, "learner")),
            // It has no part yet.
            Part::Admitted => None,
        })
        .collect();
    if all.is_empty() {
        // This node's alone.
        all.push(member(&context.node, "voter"));
    }
    let mut observers = context.net().map(|net| net.observers_of(&space.id())).unwrap_or_default();
    observers.sort();
    all.extend(observers.iter().map(|(node, ..)| member(node, "observer")));
    Term::list(all)
}

/// No leader says how far a read must see, or this node has no part in that.
fn not_newest(space: &Space) -> Term {
    if let Err(why) = space.serves_reads(Reading::Newest) {
        return resource_error_term(&why.to_string());
    }
    let formal = Term::structure("resource_error", [Term::atom("quorum")]);
    let why = "no quorum of the space's voters can be reached: `synod space members` shows who is missing";
    Term::structure("error", [formal, Term::structure("synod", [Term::string(why)])])
}

fn system_error(why: String) -> Term {
    error_term(Term::structure("system_error", [Term::string(why)]))
}

fn error_term(formal: Term) -> Term {
    Term::structure("error", [formal, Term::atom("synod")])
}
