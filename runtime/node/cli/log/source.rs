//! Where a log is read from, and which part of it.

use super::super::client::{Client, encode};
use super::super::space::SpaceArg;
use super::super::{Failure, Global};
use bytes::{Buf, Bytes};
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use synod::api::default_space;
use synod::past::{Filter, Past, Span, filter};
use tokio::sync::mpsc;

/// Pieces of an answer that wait for whoever reads them, at most.
const PIECES: usize = 16;

/// A log's source.
pub(crate) enum Source {
    /// A node that runs.
    Node(Client),
    /// A space's folder that no node runs on.
    Folder(PathBuf),
}

impl Source {
    /// The node of the data folder if it runs, else the space's own folder.
    pub(crate) async fn find(global: &Global, space: &SpaceArg) -> Result<Self, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        if client.is_up().await? {
            return Ok(Self::Node(client));
        }
        let spaces = spaces(&data)?;
        let names = || spaces.iter().filter_map(|path| path.file_name()?.to_str());
        let wanted = space.space.as_deref().unwrap_or_else(|| default_space(names()));
        match spaces.iter().find(|path| path.file_name().is_some_and(|name| name == wanted)) {
            Some(path) => Ok(Self::Folder(path.clone())),
            None => {
                let known = names().collect::<Vec<_>>().join(", ");
                Err(Failure::error(format!(
                    "{} has no space {wanted}; it has: {known}",
                    data.display()
                )))
            }
        }
    }
}

/// Opens a folder's history.
pub(crate) fn past(folder: &Path) -> Result<Past, Failure> {
    Past::of_folder(folder).map_err(|e| Failure::error(e.to_string()))
}

/// The folders of all spaces of a data folder.
pub(super) fn spaces(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let root = data.join("spaces");
    let read = std::fs::read_dir(&root).map_err(|e| {
        Failure::error(format!("{}: {e}; say which data folder with --data", root.display()))
    })?;
    let mut folders: Vec<_> = read.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    if folders.is_empty() {
        return Err(Failure::error(format!("{} holds no space", root.display())));
    }
    Ok(folders)
}

/// Which part of the log.
#[derive(Clone, Debug, Args)]
pub(super) struct SpanArgs {
    /// From this index on
    #[arg(long, env = "SYNOD_FROM", value_name = "INDEX", hide_env = true)]
    from: Option<u64>,
    /// Up to this index, included
    #[arg(long, env = "SYNOD_TO", value_name = "INDEX", hide_env = true)]
    to: Option<u64>,
    /// Not before this time, as in 2025-01-31T09:30:00Z (RFC 3339)
    #[arg(long, env = "SYNOD_SINCE", value_name = "TIME", value_parser = filter::time,
          hide_env = true)]
    since: Option<u64>,
    /// Not after this time
    #[arg(long, env = "SYNOD_UNTIL", value_name = "TIME", value_parser = filter::time,
          hide_env = true)]
    until: Option<u64>,
}

impl SpanArgs {
    pub(super) fn span(&self) -> Span {
        let Self { from, to, since, until } = *self;
        Span { from, to, since, until }
    }
}

/// Which commands.
#[derive(Clone, Debug, Args)]
pub(super) struct FilterArgs {
    /// Commands of this agent only
    #[arg(long, env = "SYNOD_AGENT", value_name = "NAME", hide_env = true)]
    agent: Option<String>,
    /// Commands with facts or events of this functor only
    #[arg(long, env = "SYNOD_FUNCTOR", value_name = "NAME/ARITY", value_parser = filter::functor,
          hide_env = true)]
    functor: Option<String>,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> Filter {
        Filter { agent: self.agent.clone(), functor: self.functor.clone() }
    }
}

/// A request's path for a part of a log.
pub(crate) fn path(space: &SpaceArg, span: &Span, filter: &Filter, follow: bool) -> String {
    let time = |time: u64| encode(&synod::rfc3339::format(time));
    let parts = [
        space.space.as_deref().map(|name| format!("space={}", encode(name))),
        span.from.map(|index| format!("from={index}")),
        span.to.map(|index| format!("to={index}")),
        span.since.map(|at| format!("since={}", time(at))),
        span.until.map(|at| format!("until={}", time(at))),
        filter.agent.as_deref().map(|name| format!("agent={}", encode(name))),
        filter.functor.as_deref().map(|functor| format!("functor={}", encode(functor))),
        follow.then(|| "follow=true".to_owned()),
    ];
    format!("/v1/log?{}", parts.into_iter().flatten().collect::<Vec<_>>().join("&"))
}

/// The pieces of an answer's body, for a thread that blocks.
#[derive(Debug)]
pub(crate) struct Chunks {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// Reads an answer's body as long as somebody wants it.
pub(crate) fn chunks(mut body: Incoming) -> Chunks {
    let (sender, queue) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let piece = match frame {
                Ok(frame) => frame.into_data().map_err(|_| None),
                Err(e) => Err(Some(io::Error::other(format!("the node broke off ({e})")))),
            };
            let piece = match piece {
                Ok(data) => Ok(data),
                Err(Some(e)) => Err(e),
                // Trailers say nothing here.
                Err(None) => continue,
            };
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Chunks { queue, rest: Bytes::new() }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.queue.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let len = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
