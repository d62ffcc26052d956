//! Goals on a state that no node holds: one of the past. An engine of its own, with a program that declares
//! all predicates of the state, answers them; whoever started it is its node. Nothing can be written.

use crate::agents::problems;
use crate::api::{ErrorBody, GoalEvent};
use crate::folder;
use crate::json;
use crate::space::{error, hex};
use crate::stand_in::{Answer, StandIn, encoded, no_module};
use crate::store::FsDisk;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use synod_core::apply::State;
use synod_core::kb::Indicator;
use synod_core::log::Position;
use synod_core::snapshot::{Meta, SnapshotError, Writer};
use synod_core::term::Term;
use synod_core::term::text::{self, WriteOptions};
use synod_prolog::frame::{
    self, Changes, End, Frame, FrameError, FromEngine, GoalKind, GoalText, Outcome, Role, Sandbox,
    Start, ToEngine,
};
use synod_prolog::{Death, Spawned};

/// What the engine's agent is called.
const NAME: &str = "replay";
/// The goal's number: there is one at a time.
const ID: u64 = 1;
/// The section of the base's only kind of chunks.
const SECTION: u64 = 0;
/// What goals may use besides the facts, unless there are facts of the same name and arity.
const LIBRARY: &[(&str, &[(&str, u32)])] = &[
    (
        "lists",
        &[
            ("append", 3),
            ("foldl", 4),
            ("foldl", 5),
            ("length", 2),
            ("maplist", 2),
            ("maplist", 3),
            ("maplist", 4),
            ("maplist", 5),
            ("member", 2),
            ("memberchk", 2),
            ("nth0", 3),
            ("nth1", 3),
            ("reverse", 2),
            ("select", 3),
            ("sum_list", 2),
            ("list_max", 2),
            ("list_min", 2),
        ],
    ),
    ("between", &[("between", 3), ("numlist", 3)]),
];

/// What a goal may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Milliseconds; 0 is without limit.
    pub time_ms: u64,
    /// Answers; all, if none.
    pub answers: Option<u64>,
}

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The folder for the engine's files cannot be made.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// The facts cannot be written there.
    #[error(transparent)]
    Base(#[from] SnapshotError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] folder::FolderError),
    /// No process can be started.
    #[error("an engine cannot be started: {0}; `ulimit -a` shows what this user may have")]
    Spawn(io::Error),
    /// The engine does not speak as it should.
    #[error("the engine does not speak its protocol: {0}")]
    Frame(#[from] FrameError),
    /// The engine ended.
    #[error("the engine {0}")]
    Died(Death),
    /// The goal, or a fact's name, is at fault.
    #[error(transparent)]
    Told(ErrorBody),
}

/// An engine on a state. Dropping it ends the process and removes its files.
#[derive(Debug)]
pub struct Scratch {
    engine: Spawned,
    index: u64,
    limits: Limits,
    answered: u64,
    events: VecDeque<GoalEvent>,
    /// Removed when dropped, after the process has ended.
    _files: Files,
}

impl Scratch {
    /// Starts an engine, which is `executable` with the argument `engine`, and loads it.
    pub fn start(
        executable: &Path,
        mut state: State,
        limits: Limits,
    ) -> Result<Self, ScratchError> {
        let files = Files::create()?;
        let program = files.0.join("replay.pl");
        fs::write(&program, program_of(&state))
            .map_err(|e| ScratchError::Io(program.clone(), e))?;
        let index = state.index();
        let base = files.0.join(write_base(&files.0, &mut state)?);
        // The engine has its own copy, mapped.
        drop(state);
        let engine = synod_prolog::spawn(executable, ["engine"], Stdio::inherit());
        let engine = engine.map_err(ScratchError::Spawn)?;
        let events = VecDeque::new();
        let mut scratch = Self { engine, index, limits, answered: 0, events, _files: files };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let start = Start {
            version: frame::VERSION,
            role: Role::Side { agent: NAME.to_owned() },
            node: NAME.to_owned(),
            space: NAME.to_owned(),
            program: text(&program),
            modules: text(&scratch._files.0.join("modules")),
            base: Some(text(&base)),
            at: index,
            limits: frame::Limits { time_ms: limits.time_ms, memory_bytes: 0, inferences: 0 },
            sandbox: Sandbox { on: true, read: Vec::new(), write: Vec::new(), net: false },
            copy_after: 0,
        };
        scratch.send(&ToEngine::Start { start: Box::new(start) })?;
        loop {
            match scratch.receive()? {
                FromEngine::Loaded { .. } => return Ok(scratch),
                FromEngine::NotLoaded { problems: found, .. } => {
                    let problems = problems(found);
                    let first = problems.first().map_or("it says not why", |first| &first.text);
                    let text = format!("the facts cannot be declared in one program: {first}");
                    return Err(ScratchError::Told(error("program", text)));
                }
                frame => scratch.answer(frame)?,
            }
        }
    }

    /// Asks for the answers of a goal.
    pub fn ask(&mut self, goal: &str) -> Result<(), ScratchError> {
        self.answered = 0;
        let goal = GoalText::Text { text: goal.to_owned() };
        let (kind, chunk, at_least) = (GoalKind::Query, 1, self.index);
        self.send(&ToEngine::Goal { id: ID, goal, kind, chunk, at_least })
    }

    /// The next event of the goal; blocks. After `End` or an error there is none.
    pub fn next_event(&mut self) -> Result<GoalEvent, ScratchError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.receive()? {
                FromEngine::Answers { answers, end, output, .. } => {
                    self.take(answers, end, output)?
                }
                FromEngine::Halted { status } => return Ok(GoalEvent::Error(halted(status))),
                frame => self.answer(frame)?,
            }
        }
    }

    fn take(
        &mut self,
        answers: Vec<frame::Answer>,
        end: End,
        output: Vec<u8>,
    ) -> Result<(), ScratchError> {
        if !output.is_empty() {
            let text = String::from_utf8_lossy(&output).into_owned();
            self.events.push_back(GoalEvent::Output { text });
        }
        let most = self.limits.answers.unwrap_or(u64::MAX);
        let mut is_cut = false;
        for answer in answers {
            is_cut = self.answered >= most;
            if is_cut {
                break;
            }
            self.answered += 1;
            self.events.push_back(GoalEvent::Answer(json::answer(answer)));
        }
        let (succeeded, index) = (self.answered > 0, self.index);
        let event = match end {
            End::More if is_cut || self.answered >= most => {
                self.send(&ToEngine::Stop { id: ID })?;
                GoalEvent::End { succeeded, more: true, index, stale_ms: None }
            }
            End::More => return self.send(&ToEngine::More { id: ID }),
            End::Running => return Ok(()),
            End::Done | End::False => {
                GoalEvent::End { succeeded, more: is_cut, index, stale_ms: None }
            }
            End::Syntax { problems: found } => {
                let problems = problems(found);
                let first = problems.first().map_or("the goal cannot be read", |first| &first.text);
                let body = error("syntax", first);
                GoalEvent::Error(ErrorBody { problems, ..body })
            }
            End::Error { text, .. } => GoalEvent::Error(error("threw", text)),
            End::Halted { status } => GoalEvent::Error(halted(status)),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Answers as a node whose space stands still.
    fn answer(&mut self, frame: FromEngine) -> Result<(), ScratchError> {
        let changes = Changes { to: self.index, more: false, sequence: Vec::new() };
        match frame {
            FromEngine::Pull { .. } => self.send(&ToEngine::Changes { changes }),
            FromEngine::Propose { proposal, .. } => {
                let outcome = Outcome::Refused { error: encoded(&past_error()) };
                self.send(&ToEngine::Outcome { proposal, outcome, changes })
            }
            frame => {
                let (index, has_agents, module) = (self.index, false, no_module);
                match (StandIn { index, has_agents, module }).answer(frame) {
                    Answer::Says(answer) => self.send(&answer),
                    // The rest wants no answer.
                    Answer::Nothing | Answer::Other(_) => Ok(()),
                }
            }
        }
    }

    fn send(&mut self, frame: &ToEngine) -> Result<(), ScratchError> {
        match frame.write_to(&mut self.engine.socket) {
            Err(FrameError::Io(_)) => Err(self.death()),
            sent => Ok(sent?),
        }
    }

    fn receive(&mut self) -> Result<FromEngine, ScratchError> {
        match FromEngine::read_from(&mut self.engine.socket) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) | Err(FrameError::Io(_)) => Err(self.death()),
            Err(e) => Err(e.into()),
        }
    }

    fn death(&mut self) -> ScratchError {
        // An engine whose socket is closed ends by itself.
        ScratchError::Died(self.engine.child.wait().map_or(Death::Ended, Death::from))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.engine.child.kill());
        drop(self.engine.child.wait());
    }
}

/// A folder that only this user may look into.
#[derive(Debug)]
pub struct Files(PathBuf);

impl Files {
    /// A new one, under a name that nobody can guess. Removed when dropped.
    pub fn create() -> Result<Self, folder::FolderError> {
        let path = std::env::temp_dir().join(format!("synod-{}", hex(&folder::random()?)));
        folder::make(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Writes a state as a base; gives its path in the folder.
fn write_base(folder: &Path, state: &mut State) -> Result<PathBuf, SnapshotError> {
    let (index, chain) = (state.index(), state.chain());
    let (at, members) = (Position::default(), bytes::Bytes::new());
    let meta = Meta { space: [0; 32], index, chain, at, members };
    let mut writer = Writer::create(&FsDisk::new(folder), Path::new(""), &meta)?;
    state.begin_snapshot();
    while let Some(item) = state.snapshot_step() {
        writer.chunk(SECTION, &item)?;
    }
    writer.finish()
}

/// A program that declares all predicates of a state.
fn program_of(state: &State) -> String {
    let mut program = String::from(":- use_module(library(synod)).\n");
    let mut directive = |goal: Term| {
        program.push_str(":- ");
        text::write(&goal, &mut program, WriteOptions::CANONICAL);
        program.push_str(".\n");
    };
    let indicator = |name: &str, arity: u32| {
        Term::structure("/", [Term::atom(name), Term::integer(u64::from(arity))])
    };
    for (known, predicate) in state.kb().predicates() {
        let keys = predicate.declared().iter();
        let declared = keys.fold(indicator(&known.name, known.arity), |of, key| {
            let key = Term::structure("key", [Term::integer(u64::from(*key))]);
            Term::structure("+", [of, key])
        });
        directive(Term::structure("replicated", [declared]));
    }
    for (library, exports) in LIBRARY {
        let is_free =
            |&&(name, arity): &&_| state.kb().predicate(&Indicator::new(name, arity)).is_none();
        let exports = exports.iter().filter(is_free).map(|&(name, arity)| indicator(name, arity));
        let library = Term::structure("library", [Term::atom(*library)]);
        directive(Term::structure("use_module", [library, Term::list(exports.collect())]));
    }
    program
}

/// What writing is refused with.
pub(crate) fn past_error() -> Term {
    let formal = [Term::atom("modify"), Term::atom("past"), Term::atom("facts")];
    Term::structure("error", [Term::structure("permission_error", formal), Term::atom("synod")])
}

fn halted(status: i64) -> ErrorBody {
    error("halted", format!("the goal called halt({status})"))
}
