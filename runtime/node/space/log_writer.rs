//! Writing the log: all that has queued goes out in one write and one `fdatasync`.

use super::shared::Shared;
use crate::store::FsDisk;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use synod_core::log::disk::{Disk, DiskError, File as _};
use synod_core::log::{self, AppendError, CompactError, Log, Reader, SyncError};
use synod_core::order::{Entry, Persist, Position};

/// Bytes written between two looks at how much room the disk has.
const BYTES_BETWEEN_LOOKS: usize = 4 << 20;
/// How long a write that found the disk full waits before it is tried again.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// The file in a space's folder with the Raft index that the log had come to when it was last closed in
/// order, in decimal.
const CLOSED: &str = "closed";

fn write_closed(disk: &FsDisk, last: u64) -> Result<(), DiskError> {
    let aside = Path::new("closed.new");
    let file = disk.create(aside)?;
    file.write_at(0, last.to_string().as_bytes())?;
    file.sync_data()?;
    drop(file);
    disk.rename(aside, Path::new(CLOSED))?;
    disk.sync_dir(Path::new(""))
}

/// The Raft index that a space's log has come to at least: 0 if it was never closed in order.
pub(crate) fn closed_at(folder: &Path) -> u64 {
    let text = std::fs::read_to_string(folder.join(CLOSED)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The log of a space, on this node's disk.
pub(super) struct LogWriter {
    log: Log<FsDisk>,
    shared: Arc<Shared>,
    /// Bytes written since the disk was last asked how much room it has.
    since_look: usize,
}

impl LogWriter {
    pub(super) fn new(log: Log<FsDisk>, shared: Arc<Shared>) -> Self {
        shared.look_at_disk();
        shared.set_log_bytes(log.bytes());
        Self { log, shared, since_look: 0 }
    }

    /// Reads what is safe.
    pub(super) fn reader(&self) -> Reader<FsDisk> {
        self.log.reader()
    }

    /// Closes the log in order, and notes how far it went: one that is shorter when it is opened again
    /// has lost what was acknowledged.
    pub(super) fn close(self, disk: &FsDisk) {
        let last = self.log.last().index;
        if let Err(e) = self.log.close() {
            return tracing::error!("the log was not closed in order: {e}");
        }
        if let Err(e) = write_closed(disk, last) {
            tracing::warn!("it was not noted that the log was closed: {e}");
        }
    }

    /// Removes segments of what lies up to `upto`, so many at most; says how many.
    pub(super) fn compact(&mut self, upto: u64, most: usize) -> Result<usize, CompactError> {
        let removed = self.log.compact_some(upto, most)?;
        self.shared.set_log_bytes(self.log.bytes());
        Ok(removed)
    }

    /// How much lies behind an entry, in bytes.
    pub(super) fn bytes_behind(&self, index: u64) -> u64 {
        self.log.bytes_behind(index)
    }

    /// Has what is written next begin a new segment.
    pub(super) fn roll(&mut self) {
        self.log.roll();
    }

    /// The first entry that the log holds, or will.
    pub(super) fn first_index(&self) -> u64 {
        self.log.first_index()
    }

    /// What lies right before the first entry.
    pub(super) fn before(&self) -> Position {
        position(self.log.before())
    }

    /// Where each run of entries of one term begins.
    pub(super) fn terms(&self) -> Vec<Position> {
        self.log.terms(self.log.before().index).into_iter().map(position).collect()
    }

    /// Goes on behind a snapshot that is safe, whatever the log held; to be made safe by the next
    /// [`LogWriter::sync`].
    pub(super) fn install(&mut self, at: log::Position) {
        if let Err(e) = self.log.install(at) {
            fatal(&format!("the log does not go on behind a snapshot: {e}"));
        }
    }

    /// Takes a write in, to be made safe by the next [`LogWriter::sync`]. Says whether to go on.
    pub(super) fn append(&mut self, persist: Persist) -> bool {
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
    pub(super) fn sync(&mut self) -> bool {
        loop {
            match self.log.sync() {
                Ok(()) => {
                    self.shared.unblock();
                    self.look();
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

/// As *order* takes a position of the log.
pub(super) fn position(at: log::Position) -> Position {
    Position { index: at.index, term: at.term }
}

fn to_log(entry: Entry) -> log::Entry {
    let kind = u8::try_from(entry.kind.number()).unwrap_or(u8::MAX);
    log::Entry { term: entry.term, index: entry.index, kind, data: entry.data }
}

/// Ends the process: what it would do next could deny what it has acknowledged.
pub(super) fn fatal(why: &str) -> ! {
    tracing::error!("{why}; the node ends, and reads its log again when it is started");
    eprintln!("synod: {why}; the node ends, and reads its log again when it is started");
    std::process::exit(70)
}
