//! An agent's part in SWI-Prolog's `library(udp_broadcast)`: in each of its multicast groups it has a voice,
//! a socket of its own. It sends to the group from there, asks there, and answers what is asked.

use super::context::{Context, Registered};
use super::side::{SideEvent, Solve};
use crate::folder::random;
use crate::multicast;
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_core::term::Term;
use synod_core::term::swi::{self, Swi};
use synod_prolog::frame::Answer;
use synod_udp_shim::{Join, MAX_DATAGRAM_BYTES};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Requests of others that are answered at once in one group, at most: each holds an engine.
const MAX_ANSWERING: usize = 4;
/// Requests of this agent that are open in one group, at most.
const MAX_ASKED: usize = 64;
/// Answers that wait for the agent, at most; more are passed over.
const MAX_ANSWERS: usize = 256;
/// For how long a program is not asked again that has no clause that answers.
const SILENCE: Duration = Duration::from_secs(10);
/// Answers that one request of others is given, at most.
const MAX_GIVEN: usize = 1000;

/// Of each group, with the tasks that hear what is sent to them. Dropped, they end.
#[derive(Debug, Default)]
pub(super) struct Voices(Vec<(Arc<Voice>, AbortHandle)>);

impl Drop for Voices {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, ears)| ears.abort());
    }
}

/// An agent in one group.
#[derive(Debug)]
pub(super) struct Voice {
    group: SocketAddrV4,
    socket: UdpSocket,
    /// Who waits for answers, by the request's number.
    asked: Mutex<BTreeMap<i64, mpsc::Sender<SideEvent>>>,
    answering: Semaphore,
    /// When the program was found to have no clause that answers.
    silent: Mutex<Option<Instant>>,
}

impl Voices {
    /// The one of this group, as `on(udp(Scope, _, _))` names it.
    pub(super) fn of(&self, scope: &str) -> Option<&Arc<Voice>> {
        self.0.iter().map(|(voice, _)| voice).find(|voice| voice.scope() == scope)
    }
}

/// Opens an agent's voices, and hands it what it hears in its groups until its mailbox is gone.
pub(super) fn start(captures: Vec<Join>, agent: &Registered, context: &Arc<Context>) {
    let mut voices = Vec::new();
    for capture in captures {
        let opened = capture.voice().map_err(|e| e.to_string());
        let opened = opened.and_then(|voice| UdpSocket::from_std(voice).map_err(|e| e.to_string()));
        let voice = match opened {
            Ok(socket) => Some(Arc::new(Voice {
                group: capture.spec().group(),
                socket,
                asked: Mutex::default(),
                answering: Semaphore::new(MAX_ANSWERING),
                silent: Mutex::default(),
            })),
            Err(e) => {
                agent.log.line("error", &format!("{}: no voice: {e}", capture.spec()));
                None
            }
        };
        let (name, asked) = (agent.definition.name.clone(), Arc::downgrade(context));
        let in_group = voice.clone();
        let on_request = move |from: SocketAddr, id: Term, term: Term| {
            if let Some(voice) = &in_group {
                voice.answer(&asked, &name, from, id, term);
            }
        };
        multicast::deliver(capture, &agent.mailbox, &agent.log, on_request);
        if let Some(voice) = voice {
            let name = agent.definition.name.clone();
            let hears = hear(Arc::clone(&voice), name, Arc::downgrade(context));
            voices.push((voice, tokio::spawn(hears).abort_handle()));
        }
    }
    agent.has_voices(Voices(voices));
}

/// Hears what is sent to one voice alone, as long as the agent is there.
async fn hear(voice: Arc<Voice>, agent: String, context: Weak<Context>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // An error tells of something that was sent before, to somebody who is gone.
        let Ok((len, from)) = voice.socket.recv_from(&mut buffer).await else { continue };
        let Some(known) = context.upgrade().and_then(|context| context.agent(&agent)) else {
            return;
        };
        match swi::read(&buffer[..len]) {
            Ok(Swi::Reply { id: Term::Integer(id), term }) => voice.answered(id, term),
            Ok(Swi::Reply { .. }) => {}
            Ok(Swi::Request { id, term }) => voice.answer(&context, &agent, from, id, term),
            _ => {
                let bytes = buffer[..len].to_vec();
                let trigger = multicast::trigger(&voice.group, from.to_string(), bytes, &known.log);
                known.mailbox.put(trigger);
            }
        }
    }
}

impl Voice {
    fn scope(&self) -> String {
        self.group.to_string()
    }

    /// Sends a term to the group.
    pub(super) async fn send(&self, term: &[u8]) -> Result<(), String> {
        let term = Term::decode(term).map_err(|e| e.to_string())?;
        self.say(&Swi::Send(term), self.group.into()).await
    }

    async fn say(&self, message: &Swi, to: SocketAddr) -> Result<(), String> {
        let bytes = swi::write(message).map_err(|e| e.to_string())?;
        self.socket.send_to(&bytes, to).await.map(drop).map_err(|e| e.to_string())
    }

    /// Asks the group. Answers come until the time is up, or until nobody takes them any more.
    pub(super) async fn ask(
        self: &Arc<Self>,
        term: &[u8],
        time: Duration,
    ) -> Result<mpsc::Receiver<SideEvent>, String> {
        let term = Term::decode(term).map_err(|e| e.to_string())?;
        let id = i64::from_ne_bytes(
            random().map_err(|e| e.to_string())?[..8].try_into().unwrap_or_default(),
        );
        let id = id & i64::MAX;
        let (events, receiver) = mpsc::channel(MAX_ANSWERS);
        {
            let mut asked = self.asked();
            if asked.len() >= MAX_ASKED {
                return Err(format!("{MAX_ASKED} requests are open in {} already", self.group));
            }
            asked.insert(id, events.clone());
        }
        let open = Open { voice: Arc::clone(self), id };
        self.say(&Swi::Request { id: Term::Integer(id), term }, self.group.into()).await?;
        tokio::spawn(async move {
            tokio::select! {
                () = sleep(time) => {}
                () = events.closed() => {}
            }
            drop(open);
            let end = SideEvent::End { succeeded: true, more: false, index: 0, stale_ms: None };
            drop(events.send(end).await);
        });
        Ok(receiver)
    }

    /// Somebody has answered.
    fn answered(&self, id: i64, term: Term) {
        let Some(events) = self.asked().get(&id).cloned() else { return };
        let answer = Term::structure("answer", [term, Term::EMPTY]).encode();
        let Ok(term) = answer else { return };
        let (bindings, residuals) = (Vec::new(), Vec::new());
        let answer = Answer { text: String::new(), bindings, residuals, term: Some(term) };
        // Whoever does not take them is asked no further.
        drop(events.try_send(SideEvent::Answer(answer)));
    }

    /// Answers what somebody asks: each solution of `on(udp_request(Scope, From, Term), Reply)`.
    fn answer(
        self: &Arc<Self>,
        context: &Weak<Context>,
        agent: &str,
        from: SocketAddr,
        id: Term,
        term: Term,
    ) {
        let Some(context) = context.upgrade() else { return };
        // Whoever answers nothing is not asked each time.
        if self.silent().is_some_and(|since| since.elapsed() < SILENCE) {
            return;
        }
        let Some(agent) = context.runs(agent) else { return };
        let (voice, goal) = (Arc::clone(self), goal(&self.scope(), from, term));
        tokio::spawn(async move {
            let Ok(_turn) = voice.answering.try_acquire() else {
                let text = format!("{from} is not answered: {MAX_ANSWERING} others are already");
                return agent.log.line("warning", &text);
            };
            let Some(goal) = goal else { return };
            let mut events = match agent.solve(&context, Solve::call(goal, 1, 1)) {
                Ok(events) => events,
                Err(why) => {
                    let text = format!("{from} is not answered: {}", why.message);
                    return agent.log.line("warning", &text);
                }
            };
            let mut given = 0;
            while let Some(event) = events.recv().await {
                let said = match event {
                    SideEvent::Answer(answer) => match reply_of(answer.term.as_deref()) {
                        Some(term) => voice.say(&Swi::Reply { id: id.clone(), term }, from).await,
                        None => Ok(()),
                    },
                    SideEvent::Threw { text, .. } if is_no_answerer(&text) => {
                        *voice.silent() = Some(Instant::now());
                        Ok(())
                    }
                    SideEvent::Threw { text, .. } => Err(text),
                    SideEvent::Failed(why) => Err(why.message),
                    _ => Ok(()),
                };
                given += 1;
                if let Err(why) = said {
                    agent.log.line("warning", &format!("what {from} asked: {why}"));
                }
                if given >= MAX_GIVEN {
                    return;
                }
            }
        });
    }

    fn silent(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<i64, mpsc::Sender<SideEvent>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a program has no `on/2`, by the error that its call ended in.
fn is_no_answerer(error: &str) -> bool {
    error.contains("existence_error(procedure,") && error.contains("on/2")
}

/// A request that is open; dropped, it is not.
struct Open {
    voice: Arc<Voice>,
    id: i64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.voice.asked().remove(&self.id);
    }
}

/// `on(udp_request(Scope, From, Term), Reply)`, encoded.
fn goal(scope: &str, from: SocketAddr, term: Term) -> Option<Vec<u8>> {
    let SocketAddr::V4(from) = from else { return None };
    let [a, b, c, d] = from.ip().octets().map(Term::integer);
    let from =
        Term::structure(":", [Term::structure("ip", [a, b, c, d]), Term::integer(from.port())]);
    // Numbers of variables are those that the text had; none has this one.
    let request = Term::structure("udp_request", [Term::atom(scope), from, term]);
    Term::structure("on", [request, Term::Var(u32::MAX)]).encode().ok()
}

/// What an `answer(on(_, Reply), Residuals)` replies.
fn reply_of(answer: Option<&[u8]>) -> Option<Term> {
    let argument = |term: Term, of: &str, nth: usize| match term {
        Term::Compound(name, args) if *name == *of => args.into_iter().nth(nth),
        _ => None,
    };
    let answer = Term::decode(answer?).ok()?;
    argument(argument(answer, "answer", 0)?, "on", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::term::text::{self, Dialect};

    fn term(text: &str) -> Term {
        text::read(text, Dialect::Swi).unwrap()
    }

    #[test]
    fn what_is_asked_is_a_goal_and_its_solution_a_reply() {
        let from: SocketAddr = "10.0.0.1:4711".parse().unwrap();
        let goal = goal("239.0.0.2:20005", from, term("f(X,Y,X)")).unwrap();
        let expected = "on(udp_request('239.0.0.2:20005',:(ip(10,0,0,1),4711),f(X,Y,X)),R)";
        assert_eq!(goal, term(expected).encode().unwrap());
        let answer = term("answer(on(udp_request(s,f,n(_)),n(7)),[])").encode().unwrap();
        assert_eq!(reply_of(Some(&answer)), Some(term("n(7)")));
        for other in ["answer(x,[])", "answer(on(x),[])", "x"] {
            assert_eq!(reply_of(Some(&term(other).encode().unwrap())), None);
        }
    }
}
