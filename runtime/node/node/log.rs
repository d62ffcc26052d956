//! What a node tells of its spaces' logs, and how one is imported.

use super::{Node, stopping};
use crate::api::{ErrorBody, Imported, LogEntry, LogPlace};
use crate::past::export::Exporter;
use crate::past::import::{Import, ImportError};
use crate::past::{At, Filter, Past, PastError, Span, Told};
use crate::space::{Marking, Me, NoLinks, OpenSpace, Space, error, hex};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

/// Streams of commands as they are told of, at most: each keeps a state of the space in memory.
pub(super) const MAX_TOLD: usize = 4;
/// Commands that wait for a client, at most; then reading waits.
const ENTRIES: usize = 256;
/// Pieces of an export that wait for a client, or for the disk, at most.
const PIECES: usize = 4;

/// Something that a space's past gives piece by piece.
trait Pieces: Send + 'static {
    type Piece: Send + 'static;
    fn next(&mut self) -> Result<Option<Self::Piece>, PastError>;
    fn renew(&mut self, past: &Past) -> Result<(), PastError>;
    fn index(&self) -> u64;
    fn is_over(&self) -> bool;
    /// What is to be told last.
    fn last(self) -> Result<Option<Self::Piece>, PastError>;
}

impl Pieces for Told {
    type Piece = LogEntry;

    fn next(&mut self) -> Result<Option<LogEntry>, PastError> {
        self.next_entry()
    }

    fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        Self::renew(self, past)
    }

    fn index(&self) -> u64 {
        Self::index(self)
    }

    fn is_over(&self) -> bool {
        Self::is_over(self)
    }

    fn last(self) -> Result<Option<LogEntry>, PastError> {
        Ok(None)
    }
}

impl Pieces for Exporter {
    type Piece = Vec<u8>;

    fn next(&mut self) -> Result<Option<Vec<u8>>, PastError> {
        self.next_piece()
    }

    fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        Self::renew(self, past)
    }

    fn index(&self) -> u64 {
        self.place().index
    }

    fn is_over(&self) -> bool {
        Self::is_over(self)
    }

    fn last(self) -> Result<Option<Vec<u8>>, PastError> {
        Ok(Some(self.finish()))
    }
}

impl Node {
    /// The commands of a span that a filter admits; with `follow`, also those that come. The stream that
    /// ends in an error was cut short.
    pub async fn log_entries(
        &self,
        space: Option<&str>,
        mut span: Span,
        filter: Filter,
        follow: bool,
    ) -> Result<mpsc::Receiver<Result<LogEntry, ErrorBody>>, ErrorBody> {
        let space = self.space(space)?;
        let place = Arc::clone(&self.0.told).try_acquire_owned().map_err(|_| {
            let text = format!("{MAX_TOLD} logs are being read already: try again in a moment");
            error("busy", text)
        })?;
        let last = space.feed().applied();
        if follow && span == Span::default() {
            span.from = Some(last + 1);
        }
        if let Some(asked) = span.from.filter(|from| *from > last && !follow) {
            return Err(told(&PastError::Ahead { asked, last }));
        }
        let open = move |past: &Past| Told::open(past, span, filter);
        tell(space, follow, ENTRIES, open, place).await
    }

    /// An export of the commands of a span; with `follow` it goes on with those that come.
    pub async fn export(
        &self,
        space: Option<&str>,
        span: Span,
        follow: bool,
    ) -> Result<mpsc::Receiver<Result<Vec<u8>, ErrorBody>>, ErrorBody> {
        let space = self.space(space)?;
        tell(space, follow, PIECES, move |past: &Past| Exporter::open(past, span), ()).await
    }

    /// The place of the last command that `at` includes.
    pub async fn log_place(&self, space: Option<&str>, at: At) -> Result<LogPlace, ErrorBody> {
        let past = self.space(space)?.past().await.map_err(|e| told(&e))?;
        let found = spawn_blocking(move || past.place_at(at)).await.map_err(|_| stopping())?;
        let place = found.map_err(|e| told(&e))?;
        Ok(LogPlace { index: place.index, micros: place.time, chain: hex(&place.hash) })
    }

    /// Makes an export the log of a space that is empty: see [`crate::past::import`].
    pub async fn import<E: std::fmt::Display>(
        &self,
        space: Option<&str>,
        export: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Imported, ErrorBody> {
        let old = self.space(space)?;
        let name = old.name().to_owned();
        let Ok(_importing) = self.0.importing.try_lock() else {
            return Err(error("busy", "another import is under way: try again when it is done"));
        };
        self.may_import(&old).await?;
        let (root, of) = (self.0.folder.root().to_path_buf(), name.clone());
        let (chunks, mut queue) = mpsc::channel::<Bytes>(PIECES);
        let write = spawn_blocking(move || {
            let mut import = Import::begin(&root, &of)?;
            while let Some(chunk) = queue.blocking_recv() {
                import.push(chunk)?;
            }
            Ok::<_, ImportError>(import)
        });
        let mut export = pin!(export);
        while let Some(chunk) = export.next().await {
            let chunk =
                chunk.map_err(|e| error("bad_request", format!("the body broke off: {e}")))?;
            // Whoever writes has given up, and says why.
            if chunks.send(chunk).await.is_err() {
                break;
            }
        }
        drop(chunks);
        let import = write.await.map_err(|_| stopping())?.map_err(|e| import_error(&e))?;
        self.may_import(&old).await?;
        let node = self.clone();
        let swapped = spawn_blocking(move || {
            old.close();
            // What was written meanwhile is seen by this: then nothing is changed.
            let imported = import.finish().map_err(|e| import_error(&e));
            node.reopen(&name)?;
            imported
        });
        swapped.await.map_err(|_| stopping())?
    }

    /// Refuses to replace a space that has commands or agents.
    async fn may_import(&self, space: &Space) -> Result<(), ErrorBody> {
        let name = space.name();
        let index = space.feed().applied();
        if index > 0 {
            let refused = ImportError::NotEmpty { space: name.to_owned(), index };
            return Err(import_error(&refused));
        }
        match self.agents().await.into_iter().find(|agent| agent.space == name) {
            Some(agent) => {
                let text = format!(
                    "the agent {} belongs to the space {name}: import into a fresh data folder, and run it then",
                    agent.name
                );
                Err(error("exists", text))
            }
            None => Ok(()),
        }
    }

    /// Opens a space again whose folder may hold another. Blocks.
    fn reopen(&self, name: &str) -> Result<(), ErrorBody> {
        let failed = |e: &dyn std::fmt::Display| {
            error("disk", format!("the space {name} cannot be opened: {e}"))
        };
        let (folder, id) = self.0.folder.space(name).map_err(|e| failed(&e))?;
        let open = OpenSpace {
            name: name.to_owned(),
            id,
            folder,
            min_free: self.0.min_free,
            busy_poll: self.0.busy_poll,
            node: self.0.folder.name.clone(),
            seed: crate::folder::random().map_err(|e| failed(&e))?,
            me: Me::alone(),
            observes: None,
            marking: Marking::never(),
            links: Arc::new(NoLinks),
        };
        let space = open.open().map_err(|e| failed(&e))?;
        let mut spaces = self.0.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.insert(name.to_owned(), space);
        Ok(())
    }
}

/// Tells piece by piece, from a thread that may block. What goes wrong before the first piece is this
/// function's error. `place` is kept as long as that goes on.
async fn tell<P: Pieces>(
    space: Space,
    follow: bool,
    queue: usize,
    open: impl FnOnce(&Past) -> Result<P, PastError> + Send + 'static,
    place: impl Send + 'static,
) -> Result<mpsc::Receiver<Result<P::Piece, ErrorBody>>, ErrorBody> {
    let past = space.past().await.map_err(|e| told(&e))?;
    let (sender, receiver) = mpsc::channel(queue);
    let (opened, is_open) = oneshot::channel();
    tokio::spawn(async move {
        let opening = spawn_blocking(move || open(&past)).await;
        let pieces = match opening {
            Ok(Ok(pieces)) => pieces,
            Ok(Err(e)) => return drop(opened.send(Err(told(&e)))),
            Err(_) => return,
        };
        if opened.send(Ok(())).is_ok()
            && let Err(e) = tell_all(pieces, &space, follow, &sender).await
        {
            drop(sender.send(Err(told(&e))).await);
        }
        drop(place);
    });
    is_open.await.map_err(|_| stopping())??;
    Ok(receiver)
}

async fn tell_all<P: Pieces>(
    mut pieces: P,
    space: &Space,
    follow: bool,
    sender: &mpsc::Sender<Result<P::Piece, ErrorBody>>,
) -> Result<(), PastError> {
    let mut applied = space.feed().follow();
    loop {
        let to = sender.clone();
        let read = spawn_blocking(move || {
            while let Some(piece) = pieces.next()? {
                if to.blocking_send(Ok(piece)).is_err() {
                    return Ok(None);
                }
            }
            Ok::<_, PastError>(Some(pieces))
        });
        let Some(read) = read.await.map_err(|_| PastError::Closed)?? else { return Ok(()) };
        pieces = read;
        if !follow || pieces.is_over() {
            break;
        }
        let index = pieces.index();
        tokio::select! {
            more = applied.wait_for(|applied| *applied > index) => {
                drop(more.map_err(|_| PastError::Closed)?);
            }
            () = sender.closed() => return Ok(()),
        }
        let past = space.past().await?;
        pieces.renew(&past)?;
    }
    if let Some(last) = pieces.last()? {
        drop(sender.send(Ok(last)).await);
    }
    Ok(())
}

/// What of the past cannot be told, for the control socket.
pub(crate) fn told(e: &PastError) -> ErrorBody {
    let code = match e {
        PastError::Ahead { .. } | PastError::Gone { .. } => "not_found",
        PastError::Closed => "stopping",
        _ => "disk",
    };
    error(code, e.to_string())
}

fn import_error(e: &ImportError) -> ErrorBody {
    let code = match e {
        ImportError::Export(_) | ImportError::Partial(_) => "bad_request",
        ImportError::NotEmpty { .. } => "exists",
        _ => "disk",
    };
    error(code, e.to_string())
}
