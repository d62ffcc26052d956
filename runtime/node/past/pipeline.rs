//! Reading an export as a stream: one thread takes it apart, whoever asks follows the chain.
//!
//! What queues between two threads is [`QUEUE`] groups of [`GROUP`] commands, and nobody is given what
//! has not been verified.

use bytes::Bytes;
use std::io::{self, Read};
use std::sync::mpsc::SyncSender;
use synod_core::apply::Chain;
use synod_core::export::{End, Envelope, ExportError, Header, Item, Parser, Verifier};

/// Commands that go from one thread to the next together, at most.
const GROUP: usize = 1024;
/// Bytes of commands after which a group is handed on.
const GROUP_BYTES: usize = 256 << 10;
/// Groups that wait for a thread, at most.
pub(super) const QUEUE: usize = 4;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Why an export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Its bytes do not come.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not whole.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// What goes from one thread to the next.
pub(super) enum Step<T> {
    Header(Header),
    Commands(Vec<T>),
    /// With its place in the file.
    End(End, u64),
}

/// A step, or why there are no more.
pub(super) type Message<T> = Result<Step<T>, StreamError>;

/// Reads and takes apart, until the end or until nobody listens.
pub(super) fn read(source: impl Read, to: &SyncSender<Message<Envelope>>) {
    let mut reading = Reading { group: Vec::with_capacity(GROUP), bytes: 0, end: None, to };
    let ended = reading.all(source);
    // What came before a fault is as good as ever, and an earlier fault is told first.
    if reading.flush().is_none() {
        return;
    }
    let last = match (ended, reading.end.take()) {
        (Some(Ok(())), Some((end, offset))) => Ok(Step::End(end, offset)),
        (Some(Ok(())), None) => Err(ExportError::NotAnExport.into()),
        (Some(Err(e)), _) => Err(e),
        (None, _) => return,
    };
    drop(to.send(last));
}

struct Reading<'a> {
    group: Vec<Envelope>,
    bytes: usize,
    end: Option<(End, u64)>,
    to: &'a SyncSender<Message<Envelope>>,
}

impl Reading<'_> {
    /// None if nobody listens any more.
    fn all(&mut self, mut source: impl Read) -> Option<Result<(), StreamError>> {
        let mut parser = Parser::new();
        loop {
            loop {
                match parser.next_item() {
                    Ok(None) => break,
                    Ok(Some(item)) => self.take(item)?,
                    Err(e) => return Some(Err(e.into())),
                }
            }
            let mut chunk = vec![0; CHUNK];
            match source.read(&mut chunk) {
                Ok(0) => return Some(parser.finish().map_err(StreamError::from)),
                Ok(len) => {
                    chunk.truncate(len);
                    parser.push(chunk.into());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Some(Err(e.into())),
            }
        }
    }

    fn take(&mut self, item: Item) -> Option<()> {
        match item {
            Item::Header(header) => self.to.send(Ok(Step::Header(header))).ok(),
            Item::Envelope(envelope) => {
                self.bytes += envelope.command.len();
                self.group.push(envelope);
                let is_full = self.group.len() >= GROUP || self.bytes >= GROUP_BYTES;
                if is_full { self.flush() } else { Some(()) }
            }
            Item::End { end, offset } => {
                self.end = Some((end, offset));
                Some(())
            }
        }
    }

    fn flush(&mut self) -> Option<()> {
        self.bytes = 0;
        let group = std::mem::replace(&mut self.group, Vec::with_capacity(GROUP));
        if group.is_empty() { Some(()) } else { self.to.send(Ok(Step::Commands(group))).ok() }
    }
}

/// Follows an export's chain.
#[derive(Default)]
pub(super) struct Following(Option<Verifier>);

impl Following {
    /// What is verified of a step, and why nothing more is.
    pub(super) fn step(
        &mut self,
        step: Message<Envelope>,
    ) -> (Option<Step<(Chain, Bytes)>>, Option<StreamError>) {
        match (step, &mut self.0) {
            (Err(e), _) => (None, Some(e)),
            (Ok(Step::Header(header)), verifier) => {
                *verifier = Some(Verifier::new(&header));
                (Some(Step::Header(header)), None)
            }
            (Ok(Step::Commands(envelopes)), Some(verifier)) => {
                let mut group = Vec::with_capacity(envelopes.len());
                for envelope in envelopes {
                    if let Err(e) = verifier.envelope(&envelope) {
                        return (Some(Step::Commands(group)), Some(e.into()));
                    }
                    group.push((*verifier.place(), envelope.command));
                }
                (Some(Step::Commands(group)), None)
            }
            (Ok(Step::End(end, offset)), Some(verifier)) => match verifier.end(&end, offset) {
                Ok(()) => (Some(Step::End(end, offset)), None),
                Err(e) => (None, Some(e.into())),
            },
            // Whoever reads gives a header first.
            (Ok(_), None) => (None, Some(ExportError::NotAnExport.into())),
        }
    }
}
