//! Starting an engine and waiting until it has loaded its program.

use super::ask;
use super::commit::resource_error;
use super::context::{Context, Registered};
use super::definition::Definition;
use super::engine::{Engine, EngineError};
use crate::api::{ErrorBody, Problem};
use crate::space::{Space, error};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use synod_core::command::{Declaration, Mode};
use synod_core::kb::Indicator;
use synod_prolog::frame::{self, FromEngine, Outcome, Role, Severity, Start, ToEngine};
use tokio::time::timeout;

/// How much longer than a program's own time limit its load may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a program's file, at most.
const MAX_PROGRAM_BYTES: u64 = 16 << 20;
/// Engines started for one load, at most: the space may run away from one that starts slowly.
const TRIES: usize = 3;

/// What a program says of itself.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) declared: Vec<Declaration>,
    pub(super) mode: Mode,
    /// Whether the log is to tell of all that the agent handles and sends.
    pub(super) records: bool,
    /// Whether it may have a clause for datagrams that are events.
    pub(super) datagrams: bool,
    /// BLAKE3 of its text.
    pub(super) program: [u8; 32],
    pub(super) warnings: Vec<Problem>,
}

impl Loaded {
    /// Whether what the space was told of the program is still true.
    pub(super) fn is_same_as(&self, claimed: &Self) -> bool {
        let told = |l: &Self| (l.program, l.mode, l.declared.clone());
        told(self) == told(claimed)
    }
}

/// Why there is no engine with the program loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The program is wrong.
    #[error("{}", first_of(.0))]
    Program(Vec<Problem>),
    /// The program's file cannot be read.
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: io::Error },
    /// No process can be started.
    #[error("an engine cannot be started: {0}; `ulimit -a` shows what this user may have")]
    Spawn(io::Error),
    /// The engine ended while it loaded.
    #[error("the engine {0} while it loaded the program")]
    Died(String),
    /// It took too long.
    #[error(
        "the program was not loaded within {0:?}: raise --max-time if that is how long it takes"
    )]
    TooSlow(Duration),
    /// The space does not let this node run the agent.
    #[error("the agent cannot be claimed: {0}")]
    NotClaimed(String),
}

impl LoadError {
    pub(super) fn body(&self) -> ErrorBody {
        let (code, problems) = match self {
            Self::Program(problems) => ("program", problems.clone()),
            Self::File { .. } => ("not_found", Vec::new()),
            Self::Spawn(_) | Self::Died(_) | Self::TooSlow(_) => ("engine", Vec::new()),
            Self::NotClaimed(_) => ("not_claimed", Vec::new()),
        };
        ErrorBody { problems, ..error(code, self.to_string()) }
    }
}

fn first_of(problems: &[Problem]) -> String {
    match problems.iter().find(|problem| problem.severity == "error") {
        Some(p) if p.line > 0 => format!("{}:{}:{}: {}", p.file, p.line, p.column, p.text),
        Some(problem) => format!("{}: {}", problem.file, problem.text),
        None => "the program cannot be loaded".to_owned(),
    }
}

impl Context {
    /// An engine of an agent, with the program loaded.
    pub(super) async fn load(
        self: &Arc<Self>,
        definition: &Definition,
        space: &Space,
        registered: &Registered,
        epoch: u64,
    ) -> Result<(Engine, Loaded), LoadError> {
        let name = definition.name.clone();
        self.load_as(definition, space, registered, Role::Agent { name, epoch, first: false }).await
    }

    /// An engine in the role given, with the program loaded.
    pub(super) async fn load_as(
        self: &Arc<Self>,
        definition: &Definition,
        space: &Space,
        registered: &Registered,
        role: Role,
    ) -> Result<(Engine, Loaded), LoadError> {
        let path = definition.program.clone();
        let read = tokio::task::spawn_blocking(move || program_text(&path)).await;
        let gone = |_| LoadError::Died("was given up".to_owned());
        let program = *blake3::hash(read.map_err(gone)??.as_bytes()).as_bytes();
        let folder = self.folder_of(&definition.name);
        let mut tries = 0;
        loop {
            tries += 1;
            let base = space.base().await;
            let at = space.feed().applied();
            let start =
                definition.start(role.clone(), &self.node, &folder, space, base.as_deref(), at);
            match self.load_once(definition, space, registered, start, program, None).await {
                Err(LoadFailure::Behind) if tries < TRIES => {}
                Err(LoadFailure::Behind) => {
                    let why = "could not follow the space, which changes too fast,";
                    return Err(LoadError::Died(why.to_owned()));
                }
                Err(LoadFailure::Other(e)) => return Err(e),
                Ok(loaded) => return Ok(loaded),
            }
        }
    }

    /// An engine for goals on the past: on the facts in `base`, which are those of `index`.
    pub(super) async fn load_past(
        self: &Arc<Self>,
        registered: &Registered,
        base: &Path,
        index: u64,
    ) -> Result<Engine, LoadError> {
        let (definition, space) = (&registered.definition, &registered.space);
        let role = Role::Side { agent: definition.name.clone() };
        let folder = self.folder_of(&definition.name);
        let start = definition.start(role, &self.node, &folder, space, Some(base), index);
        let at = Some(index);
        match self.load_once(definition, space, registered, start, [0; 32], at).await {
            Ok((engine, _)) => Ok(engine),
            Err(LoadFailure::Other(e)) => Err(e),
            // The past does not run away.
            Err(LoadFailure::Behind) => Err(LoadError::Died("fell behind".to_owned())),
        }
    }

    async fn load_once(
        self: &Arc<Self>,
        definition: &Definition,
        space: &Space,
        registered: &Registered,
        start: Start,
        program: [u8; 32],
        stays_at: Option<u64>,
    ) -> Result<(Engine, Loaded), LoadFailure> {
        let engine = Engine::start(&self.executable, space.clone(), &registered.log, start).await;
        let mut engine = engine.map_err(|e| LoadFailure::Other(LoadError::Spawn(e)))?;
        stays_at.iter().for_each(|version| engine.stay_at(*version));
        let limit = Duration::from_millis(definition.options.max_time_ms) + LOAD_PATIENCE;
        let exchange = async {
            loop {
                match engine.receive().await? {
                    FromEngine::Pull { since } => engine.pulled(since).await?,
                    FromEngine::Loaded { declared, mode, records, datagrams, warnings, output } => {
                        registered.log.output(&output);
                        engine.declares(&declared);
                        let declared = declared.into_iter().map(declaration).collect();
                        let (mode, warnings) = (mode_of(mode), problems(warnings));
                        return Ok(Ok(Loaded {
                            declared,
                            mode,
                            records,
                            datagrams,
                            program,
                            warnings,
                        }));
                    }
                    FromEngine::NotLoaded { problems: found, output } => {
                        registered.log.output(&output);
                        registered.log.end_line();
                        return Ok(Err(LoadError::Program(problems(found))));
                    }
                    FromEngine::Propose { proposal, .. } => {
                        let why = "a program may not write while it is loaded: use on(start)";
                        let outcome = Outcome::Refused { error: resource_error(why) };
                        let changes = engine.changes()?;
                        engine.send(&ToEngine::Outcome { proposal, outcome, changes }).await?;
                    }
                    FromEngine::Effects { effects, .. } => registered.hear(effects),
                    FromEngine::Halted { .. } => {
                        let text = "the program calls halt while it is loaded".to_owned();
                        return Ok(Err(LoadError::Died(text)));
                    }
                    frame => {
                        ask::answer(self, space, &definition.name, &mut engine, frame).await?;
                    }
                }
            }
        };
        match timeout(limit, exchange).await {
            Err(_) => Err(LoadFailure::Other(LoadError::TooSlow(limit))),
            Ok(Err(EngineError::Behind)) => Err(LoadFailure::Behind),
            Ok(Err(EngineError::Dead(death))) => {
                Err(LoadFailure::Other(LoadError::Died(death.to_string())))
            }
            Ok(Ok(Err(e))) => Err(LoadFailure::Other(e)),
            Ok(Ok(Ok(loaded))) => Ok((engine, loaded)),
        }
    }
}

/// A program's text, if it is one that can be loaded.
fn program_text(path: &Path) -> Result<String, LoadError> {
    let failed = |why| LoadError::File { path: path.to_path_buf(), why };
    let refused = |why: String| failed(io::Error::new(io::ErrorKind::InvalidInput, why));
    // Opening a pipe would wait for who writes to it.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_PROGRAM_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_PROGRAM_BYTES {
        let bound = MAX_PROGRAM_BYTES >> 20;
        return Err(refused(format!("a program has {bound} MiB at most; put data into facts")));
    }
    String::from_utf8(text).map_err(|e| {
        let (at, text) = (e.utf8_error().valid_up_to(), e.into_bytes());
        let line = text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        refused(format!("it is not UTF-8: byte {at}, in line {line}; save it as UTF-8"))
    })
}

enum LoadFailure {
    Behind,
    Other(LoadError),
}

fn declaration(declared: frame::Declaration) -> Declaration {
    let predicate = Indicator::new(&declared.name, declared.arity);
    Declaration { predicate, keys: declared.keys }
}

fn mode_of(mode: frame::Mode) -> Mode {
    match mode {
        frame::Mode::One => Mode::One,
        frame::Mode::Each => Mode::Each,
    }
}

/// An engine's problems as the control socket tells them.
pub(crate) fn problems(found: Vec<frame::Problem>) -> Vec<Problem> {
    let problem = |p: frame::Problem| Problem {
        severity: match p.severity {
            Severity::Warning => "warning".to_owned(),
            Severity::Error => "error".to_owned(),
        },
        file: p.file,
        line: p.line,
        column: p.column,
        text: p.text,
    };
    found.into_iter().map(problem).collect()
}
