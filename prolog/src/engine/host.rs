//! The host call: takes a request that the machine wrote, does it, and leaves the answer where the
//! machine reads it. What a program writes to the same stream arrives here too, and is its log.

mod arguments;
mod transact;

use super::batch::Batch;
use super::errors::{self, Ball};
use super::facts::{Facts, Page, encoded};
use super::goals::Goals;
use super::link::Link;
use super::loading::Loading;
use super::output::Output;
use super::replica::Replica;
use super::reply::Reply;
use super::run::{Phase, RunState, Verdict, conflict, unexpected};
use super::vitals::Vitals;
use super::watch::Watch;
use super::{data, exit, text};
use crate::frame::{
    Ask, Effect, FromEngine, Level, MAX_PUBLISHED_BYTES, MAX_SENT_BYTES, MAX_UDP_BYTES, Role, Run,
    Start, ToEngine,
};
use std::io::Write;
use std::path::PathBuf;
use synod_core::kb::{End, Indicator};
use synod_core::term::Term;
use synod_core::term::text::write_encoded;

use arguments::with_variables_from;
pub(super) use arguments::{arity_of, chars, number};
use arguments::{bounded, decoded, index, is_true, may_be_cyclic, signed, unknown, unreadable};

/// All that the machine's calls work on.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) start: Start,
    pub(super) link: Link,
    pub(super) output: Output,
    pub(super) watch: Watch,
    pub(super) facts: Facts,
    pub(super) run: RunState,
    pub(super) loading: Loading,
    pub(super) batch: Batch,
    pub(super) goals: Goals,
    pub(super) vitals: Vitals,
    reply: Option<Reply>,
    /// The text of the answer that is being made.
    answer: String,
    /// An answer that waits until the machine has done something else.
    put_off: Option<String>,
    /// Whether the program reads `"…"` as something else than characters.
    has_odd_quotes: bool,
    next_call: u64,
}

/// What a request is answered.
pub(super) enum Answer {
    /// It is done.
    Done,
    /// A term.
    Term(Term),
    /// A term's text, in [`Host::answer`].
    Text,
    /// All of the text, in [`Host::answer`].
    Ready,
}

impl Host {
    pub(super) fn new(start: Start, link: Link, output: Output, watch: Watch) -> Self {
        let replica = Replica::new(start.base.clone().map(PathBuf::from));
        let mut host = Self {
            start,
            link,
            output,
            watch,
            facts: Facts::new(replica),
            run: RunState::new(),
            loading: Loading::default(),
            batch: Batch::default(),
            goals: Goals::default(),
            vitals: Vitals::default(),
            reply: None,
            answer: String::new(),
            put_off: None,
            has_odd_quotes: false,
            next_call: 0,
        };
        // Booting the machine and loading the program count as one run.
        host.watch.begin();
        host.loading.program = host.start.program.clone();
        host
    }

    /// Answers from now on under this key.
    pub(super) fn listen(&mut self, key: &str) {
        self.reply = Some(Reply::new(key));
    }

    /// The program wrote to `user_error`, which the host call uses too: that is the agent's log.
    pub(super) fn logged(&mut self, bytes: &[u8]) {
        // Standard error may be gone with the node.
        let _ = std::io::stderr().write_all(bytes);
    }

    /// Does a request.
    pub(super) fn call(&mut self, request: &[u8]) {
        self.answer.clear();
        let mut is_ready = false;
        let done = match std::str::from_utf8(request).map(text::read) {
            Ok(Ok(Term::Compound(name, args))) if &*name == "@sure" => {
                args.into_iter().next().map_or(Ok(Answer::Done), |request| self.request(request))
            }
            Ok(Ok(_)) if may_be_cyclic(request) => Ok(Answer::Term(Term::atom("@cyclic"))),
            Ok(Ok(request)) => self.request(request),
            Ok(Err(error)) => Err(unreadable(&error)),
            Err(_) => Err(errors::system("a request is not UTF-8")),
        };
        match done {
            Ok(Answer::Done) => self.answer.push('k'),
            Ok(Answer::Text) => self.answer.push('.'),
            Ok(Answer::Ready) => is_ready = true,
            Ok(Answer::Term(term)) => self.write_answer(&term),
            Err(ball) => {
                self.answer.clear();
                self.write_answer(&Term::structure("@error", [ball]));
            }
        }
        if !is_ready {
            self.quote_as_meant();
        }
        self.vitals.count_atoms(&self.answer);
        if self.put_off.is_none() {
            self.facts.settle_copies();
            if let Some(todo) = self.facts.copies.take_todo() {
                self.put_off = Some(std::mem::take(&mut self.answer));
                self.write_answer(&todo);
                self.quote_as_meant();
                self.vitals.count_atoms(&self.answer);
            }
        }
        if let Some(reply) = &mut self.reply {
            reply.set(&self.answer);
        }
    }

    /// Has the machine read the second term, with characters for "…".
    fn quote_as_meant(&mut self) {
        if self.has_odd_quotes && self.answer.contains('"') {
            self.answer.insert_str(0, "'@again'. ");
        }
    }

    fn write_answer(&mut self, term: &Term) {
        text::write(term, &mut self.answer);
        self.answer.push('.');
    }

    fn request(&mut self, request: Term) -> Result<Answer, Ball> {
        let (name, args) = match request {
            Term::Compound(name, args) => (name, args),
            Term::Atom(name) => (name, Vec::new()),
            other => return Err(errors::system(format!("no request: {other:?}"))),
        };
        match args.len() {
            0 => self.request_0(&name),
            1 => match <[Term; 1]>::try_from(args) {
                Ok([arg]) => self.request_1(&name, arg),
                Err(_) => Err(unknown(&name)),
            },
            _ => self.request_n(&name, args),
        }
    }

    fn request_0(&mut self, name: &str) -> Result<Answer, Ball> {
        match name {
            "next" => self.next_events(),
            "done" => self.handler_ended(None),
            "failed" => self.handler_ended(Some("failed".into())),
            "skipped" => self.handler_skipped(),
            "next_goal" => self.next_goal(),
            "goal_end" => self.goal_ended(),
            "commit" => self.commit(),
            "abort" => {
                self.end_transaction();
                Ok(Answer::Done)
            }
            "linearizable" => self.linearizable(),
            "as_of_end" => {
                self.facts.leave_past();
                Ok(Answer::Done)
            }
            "copied" => Ok(Answer::Term(self.facts.copies.told())),
            "members" => self.ask(Ask::Members).map(Answer::Term),
            "self" => Ok(Answer::Term(Term::atom(self.agent()))),
            "node" => Ok(Answer::Term(Term::atom(self.start.node.as_str()))),
            "@resume" => {
                self.answer = self.put_off.take().unwrap_or_default();
                if self.answer == "k" {
                    self.answer.push('.');
                }
                Ok(Answer::Ready)
            }
            "start" => self.started(),
            "checked" => self.checked(),
            "loaded" => self.loaded(),
            "not_loaded" => self.not_loaded(),
            "inferences" => exit::now(exit::INFERENCES, "the inference limit is passed"),
            _ => Err(unknown(name)),
        }
    }

    fn request_1(&mut self, name: &str, arg: Term) -> Result<Answer, Ball> {
        match name {
            "find" => self.facts.find(arg, false).map(|page| self.page(page)),
            "more" => self.facts.more(number(&arg)?).map(|page| self.page(page)),
            "take" => self.write_facts(|facts| facts.take(arg)).map(|page| self.page(page)),
            "take_more" => {
                let number = number(&arg)?;
                self.write_facts(|facts| facts.take_more(number)).map(|page| self.page(page))
            }
            "take_all" => self.write_done(|facts| facts.take_all(arg)),
            "handles" => self.facts.find(arg, true).map(|page| self.page(page)),
            "take_handle" => self.take_handle(arg),
            "emit" => {
                let event = encoded(&arg)?;
                self.write_done(|facts| facts.emit(&event))
            }
            "begin" => self.begin(is_true(&arg)),
            "keep" => {
                self.run.keep(index(&arg)?);
                Ok(Answer::Done)
            }
            "rollback" => {
                let number = index(&arg)?;
                self.run.roll_back(&mut self.facts, number);
                Ok(Answer::Done)
            }
            "threw" => self.handler_ended(Some(chars(&arg))),
            "goal_threw" => self.goal_threw(&arg, None),
            "as_of" => self.as_of(number(&arg)?),
            "fate" => self.ask(Ask::Fate { id: chars(&arg) }).map(Answer::Term),
            "module" => self.ask(Ask::Module { name: chars(&arg) }).map(|path| {
                // The loader wants an atom.
                Answer::Term(Term::atom(chars(&path)))
            }),
            "ask_agent" => self.ask(Ask::Agent { name: chars(&arg) }).map(Answer::Term),
            "subscribe" => self.effect(Effect::Subscribe { topic: chars(&arg) }),
            "unsubscribe" => self.effect(Effect::Unsubscribe { topic: chars(&arg) }),
            "cancel" => self.effect(Effect::Cancel { term: encoded(&arg)?.to_vec() }),
            "call_more" => self.call_more(number(&arg)?),
            "call_close" => {
                self.link.send(&FromEngine::CallClose { call: number(&arg)? });
                Ok(Answer::Done)
            }
            "quotes" => {
                self.has_odd_quotes = chars(&arg) != "chars";
                Ok(Answer::Done)
            }
            "halt" => self.halt(&arg),
            "mode" => {
                self.loading.set_mode(&chars(&arg));
                Ok(Answer::Done)
            }
            "records" => {
                self.loading.set_records(chars(&arg) == "true");
                Ok(Answer::Done)
            }
            "datagrams" => {
                self.loading.handles_datagrams();
                Ok(Answer::Done)
            }
            "refused" => self.refused(&arg),
            "names" => {
                self.loading.set_names(&arg);
                Ok(Answer::Done)
            }
            "operators" => {
                self.loading.set_operators(&arg);
                Ok(Answer::Done)
            }
            "read_to" => self.read_to(&arg),
            "decode" => data::decode(&arg).map(Answer::Term),
            "encode" => data::encode(&arg).map(Answer::Term),
            _ => Err(unknown(name)),
        }
    }

    fn request_n(&mut self, name: &str, args: Vec<Term>) -> Result<Answer, Ball> {
        match (name, args.as_slice()) {
            ("add", [end, fact]) => {
                let end = if chars(end) == "a" { End::First } else { End::Last };
                let fact = encoded(fact)?;
                self.write_done(|facts| facts.add(end, &fact))
            }
            ("publish", [topic, term]) => {
                let (topic, term) = (chars(topic), encoded(term)?.to_vec());
                bounded(&term, MAX_PUBLISHED_BYTES, "published_term_bytes")?;
                self.effect(Effect::Publish { topic, term })
            }
            ("send", [agent, term]) => {
                let (agent, term) = (chars(agent), encoded(term)?.to_vec());
                bounded(&term, MAX_SENT_BYTES, "sent_term_bytes")?;
                self.effect(Effect::Send { agent, term })
            }
            ("udp_send", [scope, term]) => {
                let (scope, term) = (chars(scope), encoded(term)?.to_vec());
                bounded(&term, MAX_UDP_BYTES, "sent_term_bytes")?;
                self.effect(Effect::UdpSend { scope, term })
            }
            ("udp_request", [scope, term, timeout]) => {
                let (scope, term) = (chars(scope), encoded(term)?.to_vec());
                bounded(&term, MAX_UDP_BYTES, "sent_term_bytes")?;
                self.next_call += 1;
                let (call, timeout_ms) = (self.next_call, number(timeout)?);
                self.link.send(&FromEngine::UdpRequest { call, scope, term, timeout_ms });
                self.call_answers(call)
            }
            ("after", [micros, term]) => {
                let (micros, term) = (number(micros)?, encoded(term)?.to_vec());
                self.effect(Effect::After { micros, term })
            }
            ("every", [micros, term]) => {
                let (micros, term) = (number(micros)?, encoded(term)?.to_vec());
                self.effect(Effect::Every { micros, term })
            }
            ("watch", [name, arity, others]) => {
                let (name, arity) = (chars(name), arity_of(arity)?);
                self.effect(Effect::Watch { name, arity, others: is_true(others) })
            }
            ("unwatch", [name, arity]) => {
                let (name, arity) = (chars(name), arity_of(arity)?);
                self.effect(Effect::Unwatch { name, arity })
            }
            ("log", [level, line]) => {
                let level = match &*chars(level) {
                    "debug" => Level::Debug,
                    "info" => Level::Info,
                    "warning" => Level::Warning,
                    _ => Level::Error,
                };
                self.effect(Effect::Log { level, text: chars(line) })
            }
            ("call", [agent, goal, chunk, timeout]) => {
                let chunk = u32::try_from(number(chunk)?).unwrap_or(1);
                self.remote_call(chars(agent), encoded(goal)?.to_vec(), chunk, number(timeout)?)
            }
            ("goal_threw", [text, ball]) => self.goal_threw(text, Some(ball)),
            ("answer", [open, text, bindings, residuals]) => {
                self.answered(is_true(open), text, bindings, residuals)
            }
            ("answer_term", [open, answer]) => self.answered_term(is_true(open), answer),
            ("declare", [name, arity, keys]) => self.declare(name, arity, keys),
            ("copy", [name, arity]) => {
                let indicator = Indicator::new(&chars(name), arity_of(arity)?);
                self.facts.copy(&indicator).map(|page| self.page(page))
            }
            ("wants", [name, arity]) => {
                let indicator = Indicator::new(&chars(name), arity_of(arity)?);
                self.facts.replica.want(indicator, Vec::new());
                Ok(Answer::Done)
            }
            ("resolve", [file, path]) => Ok(Answer::Term(super::loading::resolve(file, path))),
            ("problem", [severity, file, from, to, what]) => {
                self.problem(severity, file, number(from)?, number(to)?, what)
            }
            _ => Err(unknown(name)),
        }
    }

    /// Writes a page of facts as a list whose tail says how to go on.
    fn page(&mut self, page: Page) -> Answer {
        if page.facts.is_empty() && page.more.is_none() {
            self.answer.push_str("[]");
            return Answer::Text;
        }
        self.answer.push('[');
        for (n, found) in page.facts.iter().enumerate() {
            if n > 0 {
                self.answer.push(',');
            }
            if page.are_handles {
                self.answer.push_str("h(");
                self.answer.push_str(&found.order.to_string());
                self.answer.push(',');
            }
            // Facts of one page share no variables.
            let is_ground = synod_core::term::shape::is_ground(&found.fact);
            let prefix = if is_ground { String::new() } else { format!("_{n}_") };
            let prefix = if is_ground { "_" } else { prefix.as_str() };
            if write_encoded(&found.fact, &mut self.answer, prefix).is_err() {
                exit::now(exit::SETUP, "a fact of the replica is no term");
            }
            if page.are_handles {
                self.answer.push(')');
            }
        }
        match page.more {
            Some(more) => {
                self.answer.push('|');
                self.answer.push_str(&more.to_string());
                self.answer.push(']');
            }
            None => self.answer.push(']'),
        }
        Answer::Text
    }

    fn take_handle(&mut self, handle: Term) -> Result<Answer, Ball> {
        let Term::Compound(_, args) = &handle else { return Err(unknown("take_handle")) };
        let [head, order] = args.as_slice() else { return Err(unknown("take_handle")) };
        let Some((name, arity)) = head.predicate() else { return Err(unknown("take_handle")) };
        let indicator = Indicator::new(name, u32::try_from(arity).unwrap_or(0));
        let order = signed(order)?;
        let was_there = self.write_facts(|facts| facts.retract(&indicator, order, None))?;
        Ok(Answer::Term(Term::atom(if was_there { "true" } else { "false" })))
    }

    fn write_done(
        &mut self,
        write: impl FnOnce(&mut Facts) -> Result<(), Ball> + Clone,
    ) -> Result<Answer, Ball> {
        self.write_facts(write).map(|()| Answer::Done)
    }

    /// Writes as part of what runs, or as a transaction of its own.
    fn write_facts<T>(
        &mut self,
        write: impl FnOnce(&mut Facts) -> Result<T, Ball> + Clone,
    ) -> Result<T, Ball> {
        if self.facts.is_past() {
            return Err(errors::permission("modify", "past", Term::atom("as_of")));
        }
        match self.run.phase {
            Phase::Handler | Phase::Transaction => write(&mut self.facts),
            Phase::Loading => Err(errors::permission("modify", "facts", Term::atom("load"))),
            Phase::Engine => Err(errors::permission("modify", "facts", Term::atom("engine"))),
            Phase::Goal => loop {
                let result = write.clone()(&mut self.facts)?;
                if self.facts.is_read_only() {
                    return Ok(result);
                }
                let verdict = self.run.propose(&mut self.facts, &mut self.link, Run::Own);
                self.facts.renew_view();
                match verdict {
                    Verdict::Committed => return Ok(result),
                    Verdict::Again => {}
                    Verdict::TooLong(keys) => return Err(conflict(keys)),
                    Verdict::Unknown(ball) | Verdict::Threw(ball) => return Err(ball),
                }
            },
        }
    }

    fn effect(&mut self, effect: Effect) -> Result<Answer, Ball> {
        let is_log = matches!(effect, Effect::Log { .. });
        match self.run.phase {
            Phase::Loading if !is_log => {
                return Err(errors::permission("perform", "effect", Term::atom("load")));
            }
            _ if is_own(&effect) && matches!(self.start.role, Role::Side { .. }) => {
                return Err(errors::permission("perform", "effect", Term::atom("goal")));
            }
            Phase::Goal => {
                self.link.send(&FromEngine::Effects { run: Run::Own, effects: vec![effect] });
            }
            _ => self.run.effect(effect)?,
        }
        Ok(Answer::Done)
    }

    pub(super) fn ask(&mut self, ask: Ask) -> Result<Term, Ball> {
        self.link.send(&FromEngine::Ask { ask });
        match self.link.receive() {
            ToEngine::Reply { error: Some(error), .. } => Err(decoded(&error)?),
            ToEngine::Reply { answer: Some(answer), .. } => decoded(&answer),
            ToEngine::Reply { .. } => Ok(Term::EMPTY),
            other => unexpected("a reply", &other),
        }
    }

    fn remote_call(
        &mut self,
        agent: String,
        goal: Vec<u8>,
        chunk: u32,
        timeout_ms: u64,
    ) -> Result<Answer, Ball> {
        self.next_call += 1;
        let call = self.next_call;
        self.link.send(&FromEngine::Call { call, agent, goal, chunk, timeout_ms });
        self.call_answers(call)
    }

    fn call_more(&mut self, call: u64) -> Result<Answer, Ball> {
        self.link.send(&FromEngine::CallMore { call });
        self.call_answers(call)
    }

    /// `call(Call, Answers, More)`. An error after some answers stands last among them.
    fn call_answers(&mut self, call: u64) -> Result<Answer, Ball> {
        let (answers, more, error) = match self.link.receive() {
            ToEngine::CallAnswers { call: of, answers, more, error } if of == call => {
                (answers, more, error)
            }
            other => unexpected("answers of a call", &other),
        };
        let mut terms = Vec::with_capacity(answers.len() + 1);
        for (n, answer) in (1..).zip(&answers) {
            // Each answer is a variable scope of its own.
            terms.push(with_variables_from(decoded(answer)?, n * VARIABLES_PER_ANSWER));
        }
        if let Some(error) = error {
            let error = decoded(&error)?;
            if terms.is_empty() {
                return Err(error);
            }
            terms.push(Term::structure("@error", [error]));
        }
        let call = Term::integer(call);
        let more = Term::atom(if more { "true" } else { "false" });
        Ok(Answer::Term(Term::structure("call", [call, Term::list(terms), more])))
    }

    fn halt(&mut self, status: &Term) -> Result<Answer, Ball> {
        let status = signed(status)?;
        if !self.goals.halted(&mut self.link, status) {
            self.link.send(&FromEngine::Halted { status });
        }
        exit::quietly()
    }

    pub(super) fn agent(&self) -> &str {
        match &self.start.role {
            Role::Agent { name, .. } => name,
            Role::Side { agent } => agent,
        }
    }

    /// The text of the answer that is being made.
    pub(super) fn answer(&mut self) -> &mut String {
        &mut self.answer
    }
}

/// What only the agent itself can do: its timers, watches and subscriptions are not those of a goal that is
/// solved beside it.
fn is_own(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::After { .. }
            | Effect::Every { .. }
            | Effect::Cancel { .. }
            | Effect::Watch { .. }
            | Effect::Unwatch { .. }
            | Effect::Subscribe { .. }
            | Effect::Unsubscribe { .. }
    )
}

/// Variables that one answer of a call may have before its numbers run into the next one's.
const VARIABLES_PER_ANSWER: u32 = 1 << 20;
