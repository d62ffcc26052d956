//! What another program would have made of what an agent handled.

use super::super::log::{Source, chunks, past, path};
use super::super::progress::Progress;
use super::super::{Failure, Global, Out, Verdict};
use super::Replay;
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use synod::past::export::Exporter;
use synod::past::{At, Filter, Past, PastError, Span};
use synod::replay::{Compared, Mark, Program, Told};
use synod::rfc3339;
use synod::scratch::Files;
use synod_core::command::Command;
use synod_core::export::{self, Item, MEDIA_TYPE};

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;
/// What the engine may hold.
const MAX_MEMORY: u64 = 1 << 30;
/// Triggers of one run that are shown.
const SHOWN: usize = 8;

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Pace {
    /// With the pauses that there were.
    Original,
    /// As fast as it goes.
    Instant,
}

/// What is replayed, as a whole.
#[derive(Serialize)]
struct Summary<'a> {
    agent: &'a str,
    #[serde(flatten)]
    told: Told,
}

impl Replay {
    pub(super) async fn agent(self, program: &Path, global: &Global) -> Result<Verdict, Failure> {
        let stem = program.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let file = std::fs::canonicalize(program)
            .map_err(|e| Failure::error(format!("{}: {e}", program.display())))?;
        let agent = match &self.name {
            // Whether it is there is seen on the way.
            Some(name) => name.clone(),
            None => {
                let agents = self.agents(self.source(global).await?).await?;
                match (stem.filter(|name| agents.contains(name)), agents.as_slice()) {
                    (Some(stem), _) => stem,
                    (None, [only]) => only.clone(),
                    (None, agents) => return Err(no_such(agents)),
                }
            }
        };
        let source = self.source(global).await?;
        let files = Files::create().map_err(|e| Failure::error(e.to_string()))?;
        let executable = std::env::current_exe()
            .map_err(|error| Failure::error(format!("this program's own path: {error}")))?;
        let program = Program {
            executable,
            file,
            modules: files.path().to_owned(),
            space: self.space.space.clone().unwrap_or_else(|| "replay".to_owned()),
            max_time_ms: self.max_time.unwrap_or(0),
            max_memory: MAX_MEMORY,
        };
        let (json, name) = (global.out().is_json(), agent.clone());
        let out = global.out();
        let work = move || self.replay(source, program, &agent, out).map(|told| (self, told));
        let replayed = tokio::task::spawn_blocking(work).await;
        let (replay, told) = replayed.map_err(|e| Failure::error(e.to_string()))??;
        if told.runs == 0 && replay.name.is_some() {
            let agents = replay.agents(replay.source(global).await?).await?;
            if !agents.contains(&name) {
                return Err(no_such(&agents));
            }
        }
        drop(files);
        let mut out = global.out();
        if json {
            out.json(&Summary { agent: &name, told })?;
        } else {
            let Told { runs, triggers, differ } = told;
            out.line(format_args!(
                "{name}: {runs} runs with {triggers} triggers replayed; {differ} would have been another"
            ))?;
        }
        Ok(if told.differ == 0 { Verdict::Yes } else { Verdict::No })
    }

    /// The log, as an export.
    async fn source(&self, global: &Global) -> Result<Box<dyn Read + Send>, Failure> {
        if let Some(path) = &self.file {
            let file = File::open(path);
            let file = file.map_err(|e| Failure::error(format!("{}: {e}", path.display())))?;
            return Ok(Box::new(file));
        }
        Ok(match Source::find(global, &self.space).await? {
            Source::Folder(folder) => Box::new(Exported::open(&past(&folder)?)?),
            Source::Node(client) => {
                let path = path(&self.space, &Span::default(), &Filter::default(), false);
                Box::new(chunks(client.get_body(&path, MEDIA_TYPE).await?))
            }
        })
    }

    /// The agents that have run in a log, in the order of their names.
    async fn agents(&self, source: Box<dyn Read + Send>) -> Result<Vec<String>, Failure> {
        let file = self.file.clone();
        let look = move || {
            let mut agents = std::collections::BTreeSet::new();
            each(source, file.as_deref(), |_, _, _, command| {
                if let Ok(Command::Claim(claim)) = Command::decode(command) {
                    agents.insert(claim.agent);
                }
                Ok(true)
            })?;
            Ok(agents.into_iter().collect())
        };
        tokio::task::spawn_blocking(look).await.map_err(|e| Failure::error(e.to_string()))?
    }

    fn replay(
        &self,
        source: Box<dyn Read + Send>,
        program: Program,
        agent: &str,
        mut out: Out,
    ) -> Result<Told, Failure> {
        let mut progress = Progress::new("replaying");
        let mut replay: Option<synod::replay::Replay> = None;
        let mut last_time = None;
        each(source, self.file.as_deref(), |space, index, time, command| {
            if self.until.is_some_and(|until| is_behind(until, index, time)) {
                return Ok(false);
            }
            let new = || synod::replay::Replay::new(program.clone(), agent, space);
            let compared = replay.get_or_insert_with(new).command(time, command);
            let compared = compared.map_err(|e| Failure::error(e.to_string()))?;
            progress.at(index);
            let Some(compared) = compared.filter(|run| self.from.is_none_or(|at| run.index >= at))
            else {
                return Ok(true);
            };
            if self.pace == Pace::Original
                && let Some(last) = last_time.replace(time)
            {
                sleep(Duration::from_micros(time.saturating_sub(last)));
            }
            if self.all || compared.differs() {
                progress.clear();
                show(&compared, &mut out)?;
            }
            Ok(true)
        })?;
        progress.clear();
        Ok(replay.map(|replay| replay.told()).unwrap_or_default())
    }
}

/// What is said where nobody knows whose program it is, or nobody of that name has run.
fn no_such(agents: &[String]) -> Failure {
    if agents.is_empty() {
        return Failure::error("no agent has run in this log: replay one in which some did");
    }
    let agents = agents.join(", ");
    Failure::error(format!("say with --name whose program it is; the log has: {agents}"))
}

fn is_behind(until: At, index: u64, time: u64) -> bool {
    match until {
        At::Index(until) => index > until,
        At::Time(until) => time > until,
    }
}

fn show(run: &Compared, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(run);
    }
    out.line(format_args!("@ {} {}", run.index, rfc3339::format(run.time)))?;
    for trigger in run.triggers.iter().take(SHOWN) {
        out.line(format_args!("  on {trigger}"))?;
    }
    if run.triggers.len() > SHOWN {
        out.line(format_args!("  on {} more", run.triggers.len() - SHOWN))?;
    }
    for (mark, line) in &run.lines {
        let mark = match mark {
            Mark::Same => ' ',
            Mark::Was => '-',
            Mark::Would => '+',
        };
        out.line(format_args!("{mark}   {line}"))?;
    }
    run.notes.iter().try_for_each(|note| out.line(format_args!("!   {note}")))
}

/// Hands over each command of an export: the space's id, its index, time and bytes. Ends early where it
/// is told to.
fn each(
    mut source: Box<dyn Read + Send>,
    file: Option<&Path>,
    mut command: impl FnMut([u8; 32], u64, u64, &Bytes) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let what = file.map_or_else(|| "the log".to_owned(), |path| path.display().to_string());
    let failed = |e: &dyn std::fmt::Display| Failure::error(format!("{what}: {e}"));
    let mut reader = export::Reader::new();
    let mut space = [0; 32];
    loop {
        let mut piece = vec![0; PIECE];
        let len = source.read(&mut piece).map_err(|e| failed(&e))?;
        if len == 0 {
            return reader.finish().map(drop).map_err(|e| failed(&e));
        }
        piece.truncate(len);
        reader.push(Bytes::from(piece));
        while let Some(item) = reader.next_item().map_err(|e| failed(&e))? {
            match item {
                Item::Header(header) if !header.is_whole() => {
                    let why = "it does not begin at index 1: export it whole to replay an agent";
                    return Err(failed(&why));
                }
                Item::Header(header) => space = header.space,
                Item::Envelope(it) => {
                    if !command(space, it.index, it.time, &it.command)? {
                        return Ok(());
                    }
                }
                Item::End { .. } => {}
            }
        }
    }
}

/// A folder's log, made an export as it is read.
struct Exported {
    exporter: Option<Exporter>,
    piece: Bytes,
}

impl Exported {
    fn open(past: &Past) -> Result<Self, Failure> {
        let exporter = Exporter::open(past, Span::default());
        let exporter = exporter.map_err(|e| Failure::error(e.to_string()))?;
        Ok(Self { exporter: Some(exporter), piece: Bytes::new() })
    }
}

impl Read for Exported {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let failed = |e: PastError| std::io::Error::other(e.to_string());
        while self.piece.is_empty() {
            let Some(exporter) = &mut self.exporter else { return Ok(0) };
            self.piece = match exporter.next_piece().map_err(failed)? {
                Some(piece) => piece.into(),
                None => self.exporter.take().map(Exporter::finish).unwrap_or_default().into(),
            };
        }
        let len = self.piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.piece.split_to(len));
        Ok(len)
    }
}
