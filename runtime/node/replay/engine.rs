//! The scratch engine of a replay: the frames that a node would send, in lock step.

use super::run::{Line, Would};
use crate::agents::existence_error;
use crate::stand_in::{Answer, StandIn};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;
use synod_core::apply::{Change, Effect as Changed, State};
use synod_core::cbor::Writer;
use synod_core::kb::{Indicator, Kb};
use synod_core::term::Term;
use synod_core::transaction::Draft;
use synod_prolog::frame::{
    Changes, Declaration, Effect, Frame, FrameError, FromEngine, Limits, Outcome, Problem, Role,
    Sandbox, Severity, Start, ToEngine, Trigger, VERSION,
};
use synod_prolog::{Death, Spawned, spawn};

/// Bytes of facts in one frame, but for one larger fact.
const FACTS_BYTES: usize = 1 << 20;
/// How much longer than its limit an engine may be silent.
const SILENCE: Duration = Duration::from_secs(40);
/// Look-ups of a predicate after which it is copied.
const COPY_AFTER: u64 = 256;

/// A program to be replayed with.
#[derive(Clone, Debug)]
pub struct Program {
    /// This executable, which is also the engines'.
    pub executable: PathBuf,
    /// The program's file, absolute.
    pub file: PathBuf,
    /// A folder for modules of the space.
    pub modules: PathBuf,
    /// The space's name.
    pub space: String,
    /// Milliseconds that one handler may take.
    pub max_time_ms: u64,
    /// Bytes that the engine may hold.
    pub max_memory: u64,
}

/// Why there is no engine, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum EngineFailure {
    /// The program is wrong.
    #[error("{}", told(.0))]
    Program(Vec<Problem>),
    /// It has ended by itself.
    #[error("the engine {0}")]
    Died(String),
    /// No process can be started.
    #[error("an engine cannot be started: {0}; `ulimit -a` shows what this user may have")]
    Spawn(#[from] std::io::Error),
    /// It speaks another protocol than this program.
    #[error("the engine cannot be understood: {0}")]
    Frame(String),
}

fn told(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let lines = errors.map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.text));
    lines.collect::<Vec<_>>().join("\n")
}

/// What came of triggers.
pub(super) struct Handled {
    pub(super) would: Would,
    /// Predicates that are watched from now on, with `others`, or no longer.
    pub(super) watches: Vec<(Indicator, Option<bool>)>,
    /// Whether another engine is to follow.
    pub(super) is_over: bool,
}

/// A running engine, killed when dropped.
pub(super) struct Engine {
    child: Child,
    socket: UnixStream,
    declared: BTreeSet<Indicator>,
    records: bool,
    /// Changes that it has not been told of.
    pending: Writer,
    batches: u64,
    /// Whether it has asked for triggers.
    waits: bool,
}

impl Engine {
    /// An engine with the program loaded, at the version of `kb`.
    pub(super) fn start(
        program: &Program,
        agent: &str,
        state: &State,
        kb: &Kb,
        version: u64,
    ) -> Result<Self, EngineFailure> {
        let Spawned { child, socket } = spawn(&program.executable, ["engine"], Stdio::inherit())?;
        let patience = match program.max_time_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms) + SILENCE),
        };
        socket.set_read_timeout(patience)?;
        let mut engine = Self {
            child,
            socket,
            declared: BTreeSet::new(),
            records: false,
            pending: Writer::new(),
            batches: 0,
            waits: false,
        };
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let start = Start {
            version: VERSION,
            role: Role::Agent { name: agent.to_owned(), epoch: 1, first: true },
            node: "replay".to_owned(),
            space: program.space.clone(),
            program: text(&program.file),
            modules: text(&program.modules),
            base: None,
            at: version,
            limits: Limits {
                time_ms: program.max_time_ms,
                memory_bytes: program.max_memory,
                inferences: 0,
            },
            sandbox: Sandbox { on: true, read: vec![], write: vec![], net: false },
            copy_after: COPY_AFTER,
        };
        engine.send(&ToEngine::Start { start: Box::new(start) })?;
        engine.load(program, state, kb, version)?;
        // As every fresh engine.
        engine.handle(version, vec![Trigger::Engine], kb, state)?;
        Ok(engine)
    }

    /// Whether the program asks for a record of all that it sends.
    pub(super) fn records(&self) -> bool {
        self.records
    }

    /// Something has changed, which the engine is told of before it handles anything else.
    pub(super) fn changed(&mut self, change: &Change) {
        let declared = &self.declared;
        change.write_for(&mut self.pending, |predicate| declared.contains(predicate));
    }

    fn load(
        &mut self,
        program: &Program,
        state: &State,
        kb: &Kb,
        version: u64,
    ) -> Result<(), EngineFailure> {
        loop {
            match self.receive()? {
                FromEngine::Wants { predicates } => self.declares(&predicates),
                FromEngine::Pull { .. } => self.send_facts(kb, version)?,
                FromEngine::Loaded { declared, records, .. } => {
                    self.declares(&declared);
                    self.records = records;
                    return Ok(());
                }
                FromEngine::NotLoaded { problems, .. } => {
                    return Err(EngineFailure::Program(problems));
                }
                FromEngine::Propose { proposal, .. } => {
                    self.outcome(proposal, refused("load"), version)?;
                }
                FromEngine::Halted { .. } => {
                    return Err(EngineFailure::Died("called halt while it loaded".to_owned()));
                }
                other => self.answer(other, state, version, Some(program))?,
            }
        }
    }

    /// Has the program handle triggers, at a version that the engine has been told of or will be now.
    pub(super) fn handle(
        &mut self,
        version: u64,
        items: Vec<Trigger>,
        kb: &Kb,
        state: &State,
    ) -> Result<Handled, EngineFailure> {
        let new = || Handled { would: Would::default(), watches: Vec::new(), is_over: false };
        let mut before = new();
        while !self.waits {
            let frame = self.receive()?;
            self.take(frame, version, kb, state, &mut before)?;
        }
        self.waits = false;
        let mut handled = new();
        self.batches += 1;
        let sequence = std::mem::take(&mut self.pending).into_vec();
        let changes = Changes { to: version, more: false, sequence };
        self.send(&ToEngine::Triggers { batch: self.batches, changes, items })?;
        while !self.waits && !handled.is_over {
            let frame = self.receive()?;
            self.take(frame, version, kb, state, &mut handled)?;
        }
        Ok(handled)
    }

    fn take(
        &mut self,
        frame: FromEngine,
        version: u64,
        kb: &Kb,
        state: &State,
        handled: &mut Handled,
    ) -> Result<(), EngineFailure> {
        match frame {
            FromEngine::Next => self.waits = true,
            FromEngine::Renew { .. } => handled.is_over = true,
            FromEngine::Halted { status } => {
                handled.would.notes.push(format!("the program called halt({status})"));
                handled.is_over = true;
            }
            FromEngine::Propose { proposal, run, draft, effects } => {
                let draft = Draft::read(&Bytes::from(draft));
                let draft = draft.map_err(|e| EngineFailure::Frame(e.to_string()))?;
                handled.would.lines.extend(draft.ops.iter().map(|op| Line::of_op(op, kb)));
                handled.ran(&run, effects);
                // As far as the program can tell it was committed; the facts stay those of the log.
                self.outcome(proposal, Outcome::Committed { index: version }, version)?;
            }
            FromEngine::Effects { run, effects } => handled.ran(&run, effects),
            FromEngine::Pull { .. } => {
                let changes = Changes { to: version, more: false, sequence: Vec::new() };
                self.send(&ToEngine::Changes { changes })?;
            }
            other => self.answer(other, state, version, None)?,
        }
        Ok(())
    }

    /// What a program asks that has nobody around it.
    fn answer(
        &mut self,
        frame: FromEngine,
        state: &State,
        version: u64,
        program: Option<&Program>,
    ) -> Result<(), EngineFailure> {
        let module = |name: &str| module(state, program, name);
        match (StandIn { index: version, has_agents: true, module }).answer(frame) {
            Answer::Says(answer) => self.send(&answer),
            Answer::Nothing => Ok(()),
            Answer::Other(other) => Err(EngineFailure::Frame(format!("it said {other:?}"))),
        }
    }

    fn outcome(
        &mut self,
        proposal: u64,
        outcome: Outcome,
        version: u64,
    ) -> Result<(), EngineFailure> {
        let changes = Changes { to: version, more: false, sequence: Vec::new() };
        self.send(&ToEngine::Outcome { proposal, outcome, changes })
    }

    fn declares(&mut self, declared: &[Declaration]) {
        self.declared = declared.iter().map(|d| Indicator::new(&d.name, d.arity)).collect();
    }

    /// All facts of the predicates that the program declares, as one change in several frames.
    fn send_facts(&mut self, kb: &Kb, version: u64) -> Result<(), EngineFailure> {
        let mut effects = Vec::new();
        let mut bytes = 0;
        let mut frames = Vec::new();
        for (predicate, facts) in kb.predicates().filter(|(name, _)| self.declared.contains(*name))
        {
            for (order, fact) in facts.facts_after(None) {
                bytes += fact.bytes.len();
                let (predicate, fact) = (predicate.clone(), fact.bytes.clone());
                let n = u32::try_from(effects.len()).unwrap_or(u32::MAX);
                effects.push((n, Changed::Asserted { predicate, order, fact }));
                if bytes > FACTS_BYTES {
                    frames.push(std::mem::take(&mut effects));
                    bytes = 0;
                }
            }
        }
        frames.push(effects);
        let last = frames.len() - 1;
        for (n, effects) in frames.into_iter().enumerate() {
            let mut w = Writer::new();
            Change { index: version.max(1), by: String::new(), effects }.write(&mut w);
            let (more, to) = (n < last, if n < last { 0 } else { version });
            let changes = Changes { to, more, sequence: w.into_vec() };
            self.send(&ToEngine::Changes { changes })?;
            if more {
                self.expect_pull()?;
            }
        }
        Ok(())
    }

    fn expect_pull(&mut self) -> Result<(), EngineFailure> {
        match self.receive()? {
            FromEngine::Pull { .. } => Ok(()),
            other => Err(EngineFailure::Frame(format!("it said {other:?}"))),
        }
    }

    fn send(&mut self, frame: &ToEngine) -> Result<(), EngineFailure> {
        match frame.write_to(&mut self.socket) {
            Ok(()) => Ok(()),
            Err(FrameError::Io(_)) => Err(self.death()),
            Err(e) => Err(EngineFailure::Frame(e.to_string())),
        }
    }

    fn receive(&mut self) -> Result<FromEngine, EngineFailure> {
        match FromEngine::read_from(&mut self.socket) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(self.death()),
            Err(FrameError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                drop(self.child.kill());
                Err(EngineFailure::Died("has been silent for too long".to_owned()))
            }
            Err(FrameError::Io(_)) => Err(self.death()),
            Err(e) => Err(EngineFailure::Frame(e.to_string())),
        }
    }

    fn death(&mut self) -> EngineFailure {
        let death = self.child.wait().map_or(Death::Ended, Death::from);
        EngineFailure::Died(death.to_string())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Handled {
    fn ran(&mut self, run: &synod_prolog::frame::Run, effects: Vec<Effect>) {
        if let synod_prolog::frame::Run::Batch { failed, .. } = run {
            let note = |f: &synod_prolog::frame::Failed| {
                format!("the handler of trigger {} did not succeed: {}", f.item + 1, f.text)
            };
            self.would.notes.extend(failed.iter().map(note));
        }
        for effect in effects {
            match effect {
                Effect::Publish { topic, term } => self.sent("publish", topic, &term),
                Effect::Send { agent, term } => self.sent("send", agent, &term),
                Effect::Watch { name, arity, others } => {
                    self.watches.push((Indicator::new(&name, arity), Some(others)));
                }
                Effect::Unwatch { name, arity } => {
                    self.watches.push((Indicator::new(&name, arity), None));
                }
                _ => {}
            }
        }
    }

    fn sent(&mut self, name: &str, to: String, term: &[u8]) {
        let sent =
            Term::decode(term).ok().map(|term| Term::structure(name, [Term::atom(to), term]));
        let bytes = sent.and_then(|sent| sent.encode().ok());
        let line = bytes.map_or_else(|| Line::sent(term), |bytes| Line::sent(&bytes));
        self.would.sent.push(line);
    }
}

/// Puts a module of the space where the engine may read it.
fn module(state: &State, program: Option<&Program>, name: &str) -> Result<Term, Term> {
    let gone = || existence_error("module", Term::atom(name));
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    let (module, program) = state.modules().get(name).zip(program).ok_or_else(gone)?;
    let path = program.modules.join(format!("{name}.pl"));
    if !is_plain || std::fs::write(&path, &module.text).is_err() {
        return Err(gone());
    }
    Ok(Term::string(&*path.to_string_lossy()))
}

fn refused(what: &str) -> Outcome {
    let culprit = [Term::atom("modify"), Term::atom("facts"), Term::atom(what)];
    let error = [Term::structure("permission_error", culprit), Term::atom("replay")];
    Outcome::Refused { error: Term::structure("error", error).encode().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_with_their_places() {
        let problem = |severity, line| Problem {
            severity,
            file: "a.pl".to_owned(),
            line,
            column: 2,
            text: "x".to_owned(),
        };
        let problems = [problem(Severity::Warning, 1), problem(Severity::Error, 3)];
        assert_eq!(told(&problems), "a.pl:3:2: x");
    }
}
