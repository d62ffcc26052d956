//! `synod log export`

use super::super::progress::Progress;
use super::super::space::SpaceArg;
use super::super::table::bytes;
use super::super::{Failure, Global, Verdict};
use super::source::{Source, SpanArgs, chunks, past, path};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Stdout};
use std::path::{Path, PathBuf};
use synod::past::export::{Exporter, PIECE};
use synod::past::spool::Spool;
use synod::past::{Filter, Span};
use synod_core::export::{End, Item, MEDIA_TYPE, Parser};

/// Write a space's log, or a part of it, to a file that other programs read
#[derive(Debug, Args)]
#[command(after_help = "\
The file is a CBOR sequence (RFC 8742) of a header, an envelope a command, and an end; see the log \
format in docs. Check one with: synod log verify FILE. A file that is there is replaced once the new one \
is whole. Works with a node and without one.")]
pub(crate) struct Export {
    /// The file; `-` is stdout
    file: PathBuf,
    #[command(flatten)]
    space: SpaceArg,
    #[command(flatten)]
    span: SpanArgs,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    first: u64,
    last: u64,
    bytes: u64,
    chain: String,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let span = self.span.span();
        let mut target = Target::open(&self.file)?;
        let mut progress = Progress::new("exporting");
        let (first, end) = match Source::find(global, &self.space).await? {
            Source::Folder(folder) => of_folder(&folder, span, &mut target, &mut progress)?,
            Source::Node(client) => {
                let path = path(&self.space, &span, &Filter::default(), false);
                let body = client.get_body(&path, MEDIA_TYPE).await?;
                let mut body = chunks(body);
                let copy = tokio::task::spawn_blocking(move || {
                    let copied = copy(&mut body, &mut target, &mut progress);
                    copied.map(|(first, end)| (first, end, target))
                });
                let copied = copy.await.map_err(|e| Failure::error(e.to_string()))??;
                target = copied.2;
                (copied.0, copied.1)
            }
        };
        let written = target.finish()?;
        if self.file == Path::new("-") {
            return Ok(Verdict::Yes);
        }
        let exported = Exported {
            file: self.file.display().to_string(),
            first,
            last: end.index,
            bytes: written,
            chain: end.chain.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let mut out = global.out();
        if out.is_json() {
            out.json(&exported)?;
        } else {
            let Exported { file, first, last, bytes: size, chain } = exported;
            let size = bytes(size);
            out.line(format_args!("{file}: index {first} to {last}, {size}, chain {chain}"))?;
        }
        Ok(Verdict::Yes)
    }
}

fn of_folder(
    folder: &Path,
    span: Span,
    target: &mut Target,
    progress: &mut Progress,
) -> Result<(u64, End), Failure> {
    let failed = |e: synod::past::PastError| Failure::error(e.to_string());
    let mut exporter = Exporter::open(&past(folder)?, span).map_err(failed)?;
    let first = exporter.place().index + 1;
    while let Some(piece) = exporter.next_piece_into(|| target.spare()).map_err(failed)? {
        target.write(piece)?;
        progress.at(exporter.place().index);
    }
    let place = *exporter.place();
    target.write(exporter.finish())?;
    Ok((first, End { index: place.index, chain: place.hash }))
}

/// Copies an export that a node gives, and sees that it is whole.
fn copy(
    source: &mut impl Read,
    target: &mut Target,
    progress: &mut Progress,
) -> Result<(u64, End), Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::error(format!("what the node sends: {e}"));
    let mut parser = Parser::new();
    let (mut first, mut last) = (0, None);
    loop {
        let mut piece = target.spare();
        piece.resize(PIECE, 0);
        let len = source.read(&mut piece).map_err(|e| broken(&e))?;
        if len == 0 {
            break;
        }
        piece.truncate(len);
        parser.push(Bytes::copy_from_slice(&piece));
        target.write(piece)?;
        while let Some(item) = parser.next_item().map_err(|e| broken(&e))? {
            match item {
                Item::Header(header) => first = header.first,
                Item::Envelope(envelope) => progress.at(envelope.index),
                Item::End { end, .. } => last = Some(end),
            }
        }
    }
    parser.finish().map_err(|e| broken(&e))?;
    last.map(|end| (first, end)).ok_or_else(|| Failure::error("the node sent no end"))
}

/// What is written to: stdout, or a file that gets its name when it is whole. A thread of its own
/// writes, while the next piece is read and hashed.
struct Target {
    to: To,
    written: u64,
}

enum To {
    Stdout(Spool<Stdout>),
    File { file: Spool<File>, aside: Aside, path: PathBuf },
}

/// A file beside the one that it is to become, gone with this unless it has become that.
struct Aside(PathBuf);

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        let to = if path == Path::new("-") {
            To::Stdout(Spool::start(io::stdout())?)
        } else {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.part", std::process::id()));
            let name = PathBuf::from(name);
            let file = File::create(&name).map_err(|e| of_file(&name, &e))?;
            let aside = Aside(name);
            let file = Spool::start(file).map_err(|e| of_file(path, &e))?;
            To::File { file, aside, path: path.to_owned() }
        };
        Ok(Self { to, written: 0 })
    }

    fn write(&mut self, piece: Vec<u8>) -> Result<(), Failure> {
        self.written += piece.len() as u64;
        match &mut self.to {
            To::Stdout(stdout) => Ok(stdout.write(piece)?),
            To::File { file, path, .. } => file.write(piece).map_err(|e| of_file(path, &e)),
        }
    }

    /// An empty buffer for a piece.
    fn spare(&self) -> Vec<u8> {
        match &self.to {
            To::Stdout(stdout) => stdout.spare(),
            To::File { file, .. } => file.spare(),
        }
    }

    /// Says how many bytes there are.
    fn finish(self) -> Result<u64, Failure> {
        match self.to {
            To::Stdout(stdout) => {
                stdout.finish()?;
            }
            To::File { file, aside, path } => {
                let whole = file.finish().and_then(|file| file.sync_all());
                let named = whole.and_then(|()| std::fs::rename(&aside.0, &path));
                named.map_err(|e| of_file(&path, &e))?;
            }
        }
        Ok(self.written)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What was not finished is of no use; if it is gone already, all the better.
        drop(std::fs::remove_file(&self.0));
    }
}

fn of_file(path: &Path, e: &io::Error) -> Failure {
    Failure::error(format!("{}: {e}", path.display()))
}
