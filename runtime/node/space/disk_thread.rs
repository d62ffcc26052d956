//! The thread that writes the log: all that has queued goes out in one write and one `fdatasync`.

use super::order_thread::OrderInput;
use super::shared::Shared;
use crate::store::FsDisk;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;
use synod_core::log::{self, AppendError, Log, Reader, SyncError};
use synod_core::order::{Entry, Persist};

/// Bytes written between two looks at how much room the disk has.
const BYTES_BETWEEN_LOOKS: usize = 4 << 20;
/// How long a write that found the disk full waits before it is tried again.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum DiskInput {
    /// Make this safe.
    Persist(Persist),
    /// Give a reader of what is safe.
    Reader(tokio::sync::oneshot::Sender<Reader<FsDisk>>),
    /// Close the log in order.
    Stop,
}

pub(super) struct DiskThread {
    pub(super) log: Log<FsDisk>,
    pub(super) inputs: Receiver<DiskInput>,
    pub(super) order: Sender<OrderInput>,
    pub(super) shared: Arc<Shared>,
    pub(super) since_look: usize,
}

impl DiskThread {
    pub(super) fn run(mut self) {
        loop {
            let mut next = self.inputs.recv().ok();
            let mut persisted = None;
            let mut stop = next.is_none();
            while let Some(input) = next {
                match input {
                    DiskInput::Persist(persist) => {
                        let number = persist.number;
                        if !self.append(persist) {
                            return;
                        }
                        persisted = Some(number);
                    }
                    DiskInput::Reader(reply) => drop(reply.send(self.log.reader())),
                    DiskInput::Stop => stop = true,
                }
                next = self.inputs.try_recv().ok();
            }
            if let Some(number) = persisted {
                if !self.sync() {
                    return;
                }
                drop(self.order.send(OrderInput::Persisted(number)));
            }
            if stop {
                if let Err(e) = self.log.close() {
                    tracing::error!("the log was not closed in order: {e}");
                }
                return;
            }
            self.look();
        }
    }

    /// Says whether to go on.
    fn append(&mut self, persist: Persist) -> bool {
        let entries: Vec<log::Entry> = persist.entries.into_iter().map(to_log).collect();
        let hard_state = persist.hard_state.map(|state| log::HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        });
        self.since_look += entries.iter().map(|entry| entry.data.len() + 32).sum::<usize>();
        // A commit index that runs ahead of the entries in this very write is told by the next.
        let result = self.log.append(&entries, hard_state);
        let result = match result {
            Err(AppendError::PendingFull { .. }) => {
                if !self.sync() {
                    return false;
                }
                self.log.append(&entries, hard_state)
            }
            other => other,
        };
        if let Err(e) = result {
            fatal(&format!("the log does not take what Raft wants written: {e}"));
        }
        true
    }

    /// Makes all that was appended safe. A full disk is waited out, for nothing has been
    /// acknowledged; a failed `fdatasync` says that nobody knows what the disk holds. Says whether to
    /// go on: a space that is closed waits for no room, and what it has not written was told to
    /// nobody.
    fn sync(&mut self) -> bool {
        loop {
            match self.log.sync() {
                Ok(()) => {
                    self.shared.unblock();
                    return true;
                }
                Err(SyncError::Full(e)) => {
                    self.shared.block(format!("the disk is full: {e}; make room; reads go on"));
                    if self.shared.is_closing() {
                        tracing::error!("the space is closed on a full disk: {e}");
                        return false;
                    }
                    std::thread::sleep(FULL_RETRY);
                }
                Err(SyncError::Failed(e)) => fatal(&e.to_string()),
            }
        }
    }

    fn look(&mut self) {
        self.shared.set_log_bytes(self.log.bytes());
        if self.since_look >= BYTES_BETWEEN_LOOKS || self.shared.is_full() {
            self.since_look = 0;
            self.shared.look_at_disk();
        }
    }
}

fn to_log(entry: Entry) -> log::Entry {
    let kind = u8::try_from(entry.kind.number()).unwrap_or(u8::MAX);
    log::Entry { term: entry.term, index: entry.index, kind, data: entry.data }
}

/// Ends the process: what it would do next could deny what it has acknowledged.
fn fatal(why: &str) -> ! {
    tracing::error!("{why}; the node ends, and reads its log again when it is started");
    eprintln!("synod: {why}; the node ends, and reads its log again when it is started");
    std::process::exit(70)
}
