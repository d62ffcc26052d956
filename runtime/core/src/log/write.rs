//! Writing a log: a buffer of records, one write and one sync for all of them, a new segment when one
//! is full.

use super::disk::{Disk, DiskError, File, Why};
use super::error::{AppendError, CompactError, SyncError};
use super::index::{Index, Segment, SegmentInfo};
use super::read::{ReadError, Reader};
use super::record::{Header, MAX_OVERHEAD, Place};
use super::recover::{self, OpenError, Recovered};
use super::{Entry, HardState, Limits, MAX_KIND, MAX_PAYLOAD, Position, READ_CHUNK, SpaceId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The write buffer keeps so much memory when it is empty, in bytes.
const KEPT_BUFFER: usize = 1 << 20;

/// Zeros are written ahead of batches that are this small, in bytes. Larger ones are fewer.
const SMALL: usize = 16 << 10;

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
    /// The last segment; none while its file waits to be created.
    active: Option<Active<D::File>>,
    /// The segment before it, as long as it may have zeros at its end.
    full: Option<Active<D::File>>,
    /// The header of a segment that waits to be created.
    header: Vec<u8>,
    /// Records that wait to be written at the end of what is safe.
    pending: Vec<u8>,
    failed: Option<DiskError>,
    /// Whether what is appended next begins a new segment.
    rolls: bool,
}

/// A segment that is written to.
///
/// Making a write safe takes the disk longer where it makes the file longer, too: by a third without a journal, and
/// by another write or two with one. So zeros are written ahead of the records, which then take their place.
#[derive(Debug)]
struct Active<F> {
    file: F,
    /// How much of it is safe, in bytes: records.
    safe: u64,
    /// How long the file is: zeros follow what is safe.
    len: u64,
}

impl<F: File> Active<F> {
    fn new(file: F, safe: u64) -> Self {
        Self { file, safe, len: safe }
    }

    /// Writes records, and where they would make the file longer, so many zeros behind them.
    fn write(&mut self, records: &mut Vec<u8>, zeros: usize) -> Result<(), DiskError> {
        let count = records.len();
        let end = self.safe + count as u64;
        if end > self.len && count <= SMALL && zeros > 0 {
            records.resize(count + zeros, 0);
            let written = self.file.write_at(self.safe, records);
            records.truncate(count);
            if written.is_ok() {
                self.len = end + zeros as u64;
                return Ok(());
            }
            // There may be room enough for what matters.
            self.cut()?;
        }
        self.file.write_at(self.safe, records)?;
        self.len = self.len.max(end);
        Ok(())
    }

    /// Leaves nothing behind what is safe.
    fn cut(&mut self) -> Result<(), DiskError> {
        self.file.truncate(self.safe)?;
        self.len = self.safe;
        Ok(())
    }

    /// Leaves no zeros at the end.
    fn finish(&mut self) -> Result<(), DiskError> {
        if self.len == self.safe {
            return Ok(());
        }
        self.cut()?;
        self.file.sync_data()
    }
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
        let mut log = Self {
            disk,
            dir,
            space,
            limits,
            index,
            hard_state,
            active: None,
            full: None,
            header: Vec::new(),
            pending: Vec::new(),
            failed: None,
            rolls: false,
        };
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
        // What was read may be in memory only, if just the process had been killed; and if a sync had
        // failed, the kernel takes it for written. So what nothing proves to be safe is written again.
        write_again(&file, found.proven, segment.bytes)?;
        file.sync_data()?;
        disk.sync_dir(dir)?;
        let active = Some(Active::new(file, segment.bytes));
        let mut log = Self {
            disk,
            dir: dir.to_path_buf(),
            space,
            limits,
            hard_state: found.recovered.hard_state,
            index: found.index,
            active,
            full: None,
            header: Vec::new(),
            pending: Vec::new(),
            failed: None,
            rolls: false,
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
        let held = self.read(at.index, at.next(), 0)?;
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
        let Some(active) = &mut self.active else { return Ok(()) };
        if let Err(e) = active.write(&mut self.pending, self.limits.ahead_bytes) {
            // What got in must not stand before what is written next.
            let undone = active.cut();
            return Err(self.refused(e, undone));
        }
        if let Err(e) = active.file.sync_data() {
            return Err(self.fail(e));
        }
        active.safe += self.pending.len() as u64;
        self.index.grown(active.safe);
        self.pending.clear();
        self.pending.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    /// Writes all that was appended, and that the log was closed in order.
    pub fn close(mut self) -> Result<(), SyncError> {
        self.sync()?;
        let place = self.place();
        place.closed(&mut self.pending);
        self.sync()?;
        match self.active.as_mut().map_or(Ok(()), Active::finish) {
            Ok(()) => Ok(()),
            Err(e) => Err(self.fail(e)),
        }
    }

    /// Removes the oldest segments, as far as their entries are all at most `upto`; the last one stays.
    /// Says how many. Call it once a snapshot that holds entry `upto` is safe.
    pub fn compact(&mut self, upto: u64) -> Result<usize, CompactError> {
        self.compact_some(upto, usize::MAX)
    }

    /// As [`Log::compact`], of so many segments at most: each waits for the disk.
    pub fn compact_some(&mut self, upto: u64, most: usize) -> Result<usize, CompactError> {
        // What supersedes a segment's entries must be safe before they go.
        self.sync()?;
        let mut removed = 0;
        while let [oldest, _, ..] = &self.index.segments[..] {
            if removed >= most {
                break;
            }
            if oldest.runs.last().is_some_and(|run| run.last > upto) {
                break;
            }
            self.disk.remove(&self.dir.join(Segment::file_name(oldest.number)))?;
            self.index.remove_oldest();
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
        let end = self.active.as_ref().map_or(0, |active| active.safe);
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

    /// What lies right before the first entry; where nobody knows its term any more, the first entry.
    pub fn before(&self) -> Position {
        self.index.before()
    }

    /// Where each run of entries of one term begins, of those after `index`.
    pub fn terms(&self, index: u64) -> Vec<Position> {
        self.index.terms(index)
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

    /// How much of the log lies behind entry `index`, in bytes: whole segments only, so that it may be more.
    pub fn bytes_behind(&self, index: u64) -> u64 {
        let is_behind =
            |segment: &&Arc<Segment>| segment.runs.last().is_none_or(|r| r.last > index);
        let files: u64 = self.index.segments.iter().filter(is_behind).map(|s| s.bytes).sum();
        files + self.pending.len() as u64
    }

    /// Has what is appended next begin a new segment, if the last one holds anything: only whole
    /// segments can be removed.
    pub fn roll(&mut self) {
        self.rolls = self.index.segments.last().is_some_and(|last| !last.runs.is_empty());
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
            let next = last.precedes(Position { term, index });
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
        let batch = self.active.as_ref().map_or(self.header.len() as u64, |active| active.safe);
        Place { number, batch }
    }

    /// Begins a new segment if the last is full. Only between batches: records know their place.
    fn begin_batch(&mut self) {
        let least = if self.rolls { 0 } else { self.limits.segment_bytes };
        let full = |active: &Active<D::File>| active.safe >= least;
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
        self.full = self.active.take().or_else(|| self.full.take());
        self.rolls = false;
    }

    /// Makes the file of the segment that was begun, with its header, safe.
    fn create_segment(&mut self) -> Result<(), SyncError> {
        // A segment that has a successor is records to its end.
        match self.full.as_mut().map_or(Ok(()), Active::finish) {
            Ok(()) => self.full = None,
            Err(e) => return Err(self.fail(e)),
        }
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
        self.active = Some(Active::new(file, self.header.len() as u64));
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

fn write_again(file: &impl File, from: u64, to: u64) -> Result<(), DiskError> {
    let mut at = from;
    let mut chunk = vec![0; READ_CHUNK.min((to - from) as usize)];
    while at < to {
        let len = file.read_at(at, &mut chunk)?.min((to - at) as usize);
        if len == 0 {
            break;
        }
        file.write_at(at, &chunk[..len])?;
        at += len as u64;
    }
    Ok(())
}
