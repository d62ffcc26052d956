//! A space's log: Raft's storage and the history that users export, written once.
//!
//! A folder of *segments*, each a CBOR sequence (RFC 8742) of a header and records. The driver's part:
//!
//! 1. [`Log::create`] once, [`Log::open`] at every later start; look at what [`Recovered`] tells, and
//!    [`Log::install`] the snapshot to start from.
//! 2. [`Log::append`] whatever order wants to persist, as much as has queued: it only fills a buffer.
//! 3. [`Log::sync`]: one write and one `fdatasync` for all of it. Only then tell order `Persisted`.
//! 4. On [`SyncError::Full`] nothing is lost or half-written: make room, `sync` again. On
//!    [`SyncError::Failed`] end the process: what the disk holds is known only to the next `open`.
//! 5. [`Log::compact`] once a snapshot is safe, and as far as retention allows. [`Log::close`] at the
//!    end.
//!
//! Entries are opaque bytes here. An entry whose index has been there supersedes it and all above it.
//! A damaged log is refused, a torn one is cut and the cut is told; which is which is explained in
//! `recover`, the bytes in `record` and `log.cddl`.
//!
//! What it does not do: it keeps no entry in memory, it decides nothing, and it starts no thread.

pub mod disk;
mod index;
mod read;
pub(crate) mod record;
mod recover;
pub(crate) mod scan;

pub use self::index::SegmentInfo;
pub use self::read::{Entries, ReadError, Reader};
pub use self::record::{Flaw, SELF_DESCRIBED, VERSION};
pub use self::recover::{Cut, Damage, OpenError, Recovered};

use self::disk::{Disk, DiskError, File, Why};
use self::index::{Index, Segment};
use self::record::{Header, MAX_OVERHEAD, Place};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// No payload is longer than this, in bytes: as much as Raft leaves uncommitted.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// The largest [`Entry::kind`].
pub const MAX_KIND: u8 = 15;
/// How much is read at a time, in bytes. An entry that was read keeps so much in memory at most.
pub const READ_CHUNK: usize = 256 << 10;
/// The write buffer keeps so much memory when it is empty, in bytes.
const KEPT_BUFFER: usize = 1 << 20;

/// What a space is known by: the hash of its genesis.
pub type SpaceId = [u8; 32];

/// A place in Raft's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The term of the entry there.
    pub term: u64,
    /// Its index; entries are counted from 1.
    pub index: u64,
}

/// An entry of Raft's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader made it.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What order takes the data for; at most [`MAX_KIND`], and nothing to the log.
    pub kind: u8,
    /// The payload, at most [`MAX_PAYLOAD`] bytes.
    pub data: Bytes,
}

/// What a voter must remember besides its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that it has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: u64,
    /// The last index that it knows to be committed.
    pub commit: u64,
}

/// How large things may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A new segment is begun when one holds so much, in bytes; the batch that reaches it may pass it.
    pub segment_bytes: u64,
    /// So much may wait to be written, in bytes.
    pub pending_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, pending_bytes: 64 << 20 }
    }
}

/// Why something cannot be appended. Nothing of it has been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The entry's kind is larger than [`MAX_KIND`].
    #[error("entry {index} is of kind {kind}: there are none above {MAX_KIND}")]
    Kind {
        /// The entry.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// An entry leaves a gap, goes back in terms, or supersedes one that is committed.
    #[error("entry {found} cannot follow {last}, with {commit} committed")]
    OutOfOrder {
        /// The index of the entry.
        found: u64,
        /// The last index.
        last: u64,
        /// What is committed.
        commit: u64,
    },
    /// Too much waits to be written; [`Log::sync`] first.
    #[error("{waiting} bytes wait to be written: there is room for {room} at most")]
    PendingFull {
        /// How much waits, in bytes.
        waiting: usize,
        /// [`Limits::pending_bytes`].
        room: usize,
    },
    /// The hard state goes back, or counts as committed what the log does not hold.
    #[error("the hard state {found:?} cannot follow {was:?}, with {last} the last entry")]
    State {
        /// The new one.
        found: HardState,
        /// The one before.
        was: HardState,
        /// The last index.
        last: u64,
    },
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("entry {index} holds {len} bytes: there may be {MAX_PAYLOAD} at most")]
    TooLong {
        /// The entry.
        index: u64,
        /// How long its payload is, in bytes.
        len: usize,
    },
}

/// Why what was appended is not safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The disk is full. Nothing half-written is left, and what was appended still waits: another
    /// [`Log::sync`] writes it when there is room.
    #[error("nothing was written: {0}")]
    Full(DiskError),
    /// The disk failed, so nobody knows what it holds. The process must end; every later call
    /// answers the same.
    #[error("the log cannot go on: {0}")]
    Failed(DiskError),
}

/// Why no segments can be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// A segment cannot be removed. It is part of the log still.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was appended before is not safe.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// A log, open to be written.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    dir: PathBuf,
    space: SpaceId,
    limits: Limits,
    /// What there is, with what waits to be written.
    index: Index,
    hard_state: HardState,
    /// The last segment, and how much of it is safe; none while its file waits to be created.
    active: Option<(D::File, u64)>,
    /// The header of a segment that waits to be created.
    header: Vec<u8>,
    /// Records that wait to be written at the end of what is safe.
    pending: Vec<u8>,
    failed: Option<DiskError>,
}

impl<D: Disk> Log<D> {
    /// Creates a log in `dir`, which may exist. It goes on after `after`: the default for a new space,
    /// a snapshot's place for one that is joined.
    pub fn create(
        disk: D,
        dir: &Path,
        space: SpaceId,
        after: Position,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        disk.create_dir(dir)?;
        disk.sync_dir(dir.parent().unwrap_or(Path::new("")))?;
        // A crash may have left the first segment without a header: `open` finds no log there.
        match recover::recover(&disk, dir, None) {
            Err(OpenError::Empty(_)) => {}
            Ok(_) => return Err(OpenError::Exists(dir.to_path_buf())),
            Err(e) => return Err(e),
        }
        let hard_state = HardState::default().not_before(after.term).committed(after.index);
        let (dir, index) = (dir.to_path_buf(), Index::new(after));
        let (active, header, pending, failed) = (None, Vec::new(), Vec::new(), None);
        let mut log =
            Self { disk, dir, space, limits, index, hard_state, active, header, pending, failed };
        log.begin_segment();
        log.create_segment().map_err(|e| match e {
            SyncError::Full(e) | SyncError::Failed(e) => OpenError::Disk(e),
        })?;
        Ok(log)
    }

    /// Opens the log in `dir`: reads and checks all of it, and cuts a torn tail.
    pub fn open(
        disk: D,
        dir: &Path,
        space: SpaceId,
        limits: Limits,
    ) -> Result<(Self, Recovered), OpenError> {
        let found = recover::recover(&disk, dir, Some(space))?;
        if let Some(number) = found.headless {
            disk.remove(&dir.join(Segment::file_name(number)))?;
        }
        let Some(segment) = found.index.segments.last() else {
            return Err(OpenError::Empty(dir.to_path_buf()));
        };
        let file = disk.open(&dir.join(Segment::file_name(segment.number)))?;
        if file.len()? > segment.bytes {
            file.truncate(segment.bytes)?;
        }
        // What was read may have been in memory only, if just the process had been killed.
        file.sync_data()?;
        disk.sync_dir(dir)?;
        let active = Some((file, segment.bytes));
        let mut log = Self {
            disk,
            dir: dir.to_path_buf(),
            space,
            limits,
            hard_state: found.recovered.hard_state,
            index: found.index,
            active,
            header: Vec::new(),
            pending: Vec::new(),
            failed: None,
        };
        if found.recovered.hard_state != found.hard_state {
            log.place().hard_state(&mut log.pending, log.hard_state);
        }
        Ok((log, found.recovered))
    }

    /// Appends entries and then a hard state, all of it or nothing. It is not on the disk before
    /// [`Log::sync`].
    pub fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<(), AppendError> {
        let hard_state = hard_state.filter(|state| *state != self.hard_state);
        let bytes = self.check(entries, hard_state)?;
        if bytes == 0 {
            return Ok(());
        }
        self.begin_batch();
        self.pending.reserve(bytes);
        let place = self.place();
        for entry in entries {
            let offset = place.batch + self.pending.len() as u64;
            self.index.entry(Position { term: entry.term, index: entry.index }, offset);
            place.entry(&mut self.pending, entry);
        }
        if let Some(state) = hard_state {
            place.hard_state(&mut self.pending, state);
            self.hard_state = state;
        }
        Ok(())
    }

    /// Follows a snapshot that is safe: all up to `at` is committed, and if the log does not hold that
    /// very entry, it goes on after it, whatever it held. Says whether it does. To be called with the
    /// snapshot that a node starts from, and with one that was taken from another voter. It is not on
    /// the disk before [`Log::sync`].
    pub fn install(&mut self, at: Position) -> Result<bool, ReadError> {
        if at.index <= self.hard_state.commit {
            return Ok(false);
        }
        let held = self.read(at.index, at.index + 1, 0)?;
        let restarts = held.first().is_none_or(|entry| entry.term != at.term);
        self.begin_batch();
        self.hard_state = self.hard_state.not_before(at.term).committed(at.index);
        let (place, state) = (self.place(), self.hard_state);
        if restarts {
            place.restart(&mut self.pending, at);
            self.index.restart(at);
        }
        place.hard_state(&mut self.pending, state);
        Ok(restarts)
    }

    /// Writes all that was appended and makes it safe: one write, one `fdatasync`.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        if let Some(failed) = &self.failed {
            return Err(SyncError::Failed(failed.clone()));
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.active.is_none() {
            self.create_segment()?;
        }
        let Some((file, safe)) = &mut self.active else { return Ok(()) };
        if let Err(e) = file.write_at(*safe, &self.pending) {
            // What got in must not stand before what is written next.
            let undone = file.truncate(*safe);
            return Err(self.refused(e, undone));
        }
        if let Err(e) = file.sync_data() {
            return Err(self.fail(e));
        }
        *safe += self.pending.len() as u64;
        self.index.grown(*safe);
        self.pending.clear();
        self.pending.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    /// Writes all that was appended, and that the log was closed in order.
    pub fn close(mut self) -> Result<(), SyncError> {
        self.sync()?;
        let place = self.place();
        place.closed(&mut self.pending);
        self.sync()
    }

    /// Removes the oldest segments, as far as their entries are all at most `upto`; the last one stays.
    /// Says how many. Call it once a snapshot that holds entry `upto` is safe.
    pub fn compact(&mut self, upto: u64) -> Result<usize, CompactError> {
        // What supersedes a segment's entries must be safe before they go.
        self.sync()?;
        let mut removed = 0;
        while let [oldest, _, ..] = &self.index.segments[..] {
            if oldest.runs.last().is_some_and(|run| run.last > upto) {
                break;
            }
            self.disk.remove(&self.dir.join(Segment::file_name(oldest.number)))?;
            self.index.segments.remove(0);
            // One after the other: a crash may then leave too many, but never a gap.
            if let Err(e) = self.disk.sync_dir(&self.dir) {
                return Err(self.fail(e).into());
            }
            removed += 1;
        }
        Ok(removed)
    }

    /// The entries from index `from` up to, not including, `to`, as far as they are safe and their
    /// payloads fit `max_bytes`; the first in any case.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.reader().read(from, to, max_bytes)
    }

    /// What is safe now, to be read from anywhere.
    pub fn reader(&self) -> Reader<D> {
        let end = self.active.as_ref().map_or(0, |(_, safe)| *safe);
        Reader::new(&self.disk, &self.dir, &self.index, end)
    }

    /// The last hard state, with what waits to be written.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The first entry, or the one that will be.
    pub fn first_index(&self) -> u64 {
        self.index.first()
    }

    /// The last entry, with what waits to be written, or the place where the log begins.
    pub fn last(&self) -> Position {
        self.index.last
    }

    /// How much waits to be written, in bytes.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The files, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.index.segments.iter().map(|segment| SegmentInfo::from(&**segment))
    }

    /// How much the log takes, in bytes, with what waits to be written.
    pub fn bytes(&self) -> u64 {
        self.index.segments.iter().map(|s| s.bytes).sum::<u64>() + self.pending.len() as u64
    }

    /// Whether all this may follow what there is; says how many bytes it takes at most.
    fn check(
        &self,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<usize, AppendError> {
        let mut bytes = if hard_state.is_some() { MAX_OVERHEAD } else { 0 };
        let mut last = self.index.last;
        let commit = self.hard_state.commit;
        for (nth, &Entry { term, index, kind, ref data }) in entries.iter().enumerate() {
            let next = index == last.index + 1 && term >= last.term;
            let supersedes = nth == 0 && index <= last.index && index > commit;
            if !next && !supersedes {
                return Err(AppendError::OutOfOrder { found: index, last: last.index, commit });
            }
            if kind > MAX_KIND {
                return Err(AppendError::Kind { index, kind });
            }
            if data.len() > MAX_PAYLOAD {
                return Err(AppendError::TooLong { index, len: data.len() });
            }
            bytes = bytes.saturating_add(data.len() + MAX_OVERHEAD);
            last = Position { term, index };
        }
        if let Some(found) = hard_state {
            let was = self.hard_state;
            let back =
                (found.term, found.commit) != (found.term.max(was.term), found.commit.max(commit));
            if back || found.commit > last.index {
                return Err(AppendError::State { found, was, last: last.index });
            }
        }
        let (waiting, room) = (self.pending.len(), self.limits.pending_bytes);
        // Whatever its size, a batch fits an empty buffer: it must be written some time.
        if waiting > 0 && waiting.saturating_add(bytes) > room {
            return Err(AppendError::PendingFull { waiting, room });
        }
        Ok(bytes)
    }

    /// Where the next record goes.
    fn place(&self) -> Place {
        let number = self.index.segments.last().map_or(1, |segment| segment.number);
        let batch = self.active.as_ref().map_or(self.header.len() as u64, |(_, safe)| *safe);
        Place { number, batch }
    }

    /// Begins a new segment if the last is full. Only between batches: records know their place.
    fn begin_batch(&mut self) {
        let full = |(_, safe): &(D::File, u64)| *safe >= self.limits.segment_bytes;
        if self.pending.is_empty() && self.active.as_ref().is_some_and(full) {
            self.begin_segment();
        }
    }

    fn begin_segment(&mut self) {
        let before = self.index.segments.last();
        let (number, previous) = before.map_or((1, 0), |before| (before.number + 1, before.bytes));
        let (space, after, hard_state) = (self.space, self.index.last, self.hard_state);
        self.header = Header { space, number, previous, after, hard_state }.encode();
        self.index.push(number, self.header.len() as u64);
        self.active = None;
    }

    /// Makes the file of the segment that was begun, with its header, safe.
    fn create_segment(&mut self) -> Result<(), SyncError> {
        let number = self.place().number;
        let path = self.dir.join(Segment::file_name(number));
        let file = match self.disk.create(&path) {
            Ok(file) => file,
            Err(e) => return Err(self.refused(e, Ok(()))),
        };
        if let Err(e) = file.write_at(0, &self.header) {
            let undone = self.disk.remove(&path);
            return Err(self.refused(e, undone));
        }
        if let Err(e) = file.sync_data().and_then(|()| self.disk.sync_dir(&self.dir)) {
            return Err(self.fail(e));
        }
        self.active = Some((file, self.header.len() as u64));
        Ok(())
    }

    /// A write did not work, and was undone or not.
    fn refused(&mut self, e: DiskError, undone: Result<(), DiskError>) -> SyncError {
        match (&e.why, undone) {
            (Why::Full, Ok(())) => SyncError::Full(e),
            (Why::Full, Err(e)) => self.fail(e),
            _ => self.fail(e),
        }
    }

    fn fail(&mut self, e: DiskError) -> SyncError {
        self.failed = Some(e.clone());
        SyncError::Failed(e)
    }
}

/// Reads and checks all of a log without changing anything, of any space if none is given: what is
/// [`Recovered`], which space it is, and a reader of its entries.
pub fn inspect<D: Disk>(
    disk: &D,
    dir: &Path,
    space: Option<SpaceId>,
) -> Result<(Recovered, SpaceId, Reader<D>), OpenError> {
    let found = recover::recover(disk, dir, space)?;
    let end = found.index.segments.last().map_or(0, |segment| segment.bytes);
    Ok((found.recovered, found.space, Reader::new(disk, dir, &found.index, end)))
}

impl HardState {
    /// A crash may have kept entries of a term and lost the hard state that went with them. Nobody
    /// was told of a vote in that term, or the hard state would have been safe.
    fn not_before(self, term: u64) -> Self {
        if term > self.term { Self { term, vote: 0, ..self } } else { self }
    }

    /// With all up to `index` committed.
    fn committed(self, index: u64) -> Self {
        Self { commit: self.commit.max(index), ..self }
    }
}
