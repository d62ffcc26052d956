//! Laying an export's envelopes out, on a thread that is ahead of whoever follows their chain.

use super::export::PIECE;
use super::{Commands, Past, PastError, Span};
use bytes::Bytes;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use synod_core::apply::Chain;
use synod_core::export::{Draft, Drafter};

/// Drafts that wait to be sealed, at most, and buffers that wait to be used again.
const MAX_WAITING: usize = 4;
/// Bytes that a draft has room for from the beginning: its last command may pass [`PIECE`].
const ROOM: usize = PIECE + PIECE / 4;

/// Lays out the commands of a span.
#[derive(Debug)]
pub(super) struct Layout {
    commands: Commands,
    span: Span,
    drafter: Drafter,
    /// The first command, which was read and not yet laid out.
    held: Option<(u64, Bytes)>,
    is_over: bool,
}

impl Layout {
    /// Of the commands behind a place, of which the first may have been read.
    pub(super) fn new(
        commands: Commands,
        span: Span,
        place: &Chain,
        held: Option<(u64, Bytes)>,
    ) -> Self {
        Self { commands, span, drafter: Drafter::behind(place), held, is_over: false }
    }

    /// Whether nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Lays out what there is, up to a piece. Blocks while it reads.
    pub(super) fn fill(&mut self, draft: &mut Draft) -> Result<(), PastError> {
        let Self { commands, span, drafter, held, is_over } = self;
        let mut held = held.take();
        while !*is_over && draft.len() < PIECE {
            let first = held.take();
            let next = match &first {
                Some((stamp, command)) => Some((*stamp, &command[..])),
                None => commands.next_bytes()?,
            };
            let Some((stamp, command)) = next else { break };
            // Its index and time alone: the chain is the writer's matter.
            let (index, time) = drafter.next(stamp);
            *is_over = span.is_passed_by(&Chain { index, time, hash: [0; 32] });
            if !*is_over {
                drafter.envelope(stamp, command, draft);
            }
        }
        Ok(())
    }

    /// Goes on with what has come since.
    pub(super) fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        self.commands.renew(past)
    }
}

/// Lays out on a thread of its own, up to the end of what there is. Dropped before, it ends that.
#[derive(Debug)]
pub(super) struct Ahead {
    drafts: Option<Receiver<Draft>>,
    /// Buffers of pieces that have been written.
    used: SyncSender<Vec<u8>>,
    thread: Option<JoinHandle<Result<Layout, PastError>>>,
}

impl Ahead {
    pub(super) fn start(mut layout: Layout) -> Result<Self, PastError> {
        let (drafted, drafts) = sync_channel(MAX_WAITING);
        let (used, buffers) = sync_channel::<Vec<u8>>(MAX_WAITING);
        let work = move || {
            loop {
                let mut buffer = buffers.try_recv().unwrap_or_default();
                buffer.clear();
                buffer.reserve(ROOM);
                let mut draft = Draft::onto(buffer);
                let filled = layout.fill(&mut draft);
                let is_last = draft.len() < PIECE;
                // What was read before a fault is as good as ever, and comes before it.
                if !draft.is_empty() && drafted.send(draft).is_err() {
                    return Ok(layout);
                }
                filled?;
                if is_last {
                    return Ok(layout);
                }
            }
        };
        let thread = thread::Builder::new().name("laying-out".to_owned()).spawn(work);
        let thread = Some(thread.map_err(PastError::Thread)?);
        Ok(Self { drafts: Some(drafts), used, thread })
    }

    /// Has a buffer used again.
    pub(super) fn give_buffer(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            // Where enough wait, one less is none the worse.
            drop(self.used.try_send(buffer));
        }
    }

    /// The next draft; none at the end.
    pub(super) fn next_draft(&mut self) -> Option<Draft> {
        self.drafts.as_ref()?.recv().ok()
    }

    /// What goes on from where this came to, or why nothing does.
    pub(super) fn end(mut self) -> Result<Layout, PastError> {
        match self.stop() {
            Some(Ok(ended)) => ended,
            // It has panicked, or has been asked before: there is nothing to go on from.
            Some(Err(_)) | None => Err(PastError::Closed),
        }
    }

    fn stop(&mut self) -> Option<thread::Result<Result<Layout, PastError>>> {
        self.drafts = None;
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Nobody asks any more what came of it.
        drop(self.stop());
    }
}
