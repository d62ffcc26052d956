//! What a log's folder holds after whatever happened to it.
//!
//! Every record of every segment is read and checked. What is wrong is one of three things:
//!
//! - a *torn tail*: a crash cut a write short that nobody had been told of. It can only be the end of
//!   the last segment, and nothing after it may prove that it had been safe once. It is cut, and told;
//! - *zeros* at the end of the last segment were written ahead of records, and are the end;
//! - *damage*, everything else. It is refused with file, offset and index, and nothing is touched:
//!   whoever goes on after it would deny what it has acknowledged.
//!
//! The proof is a record's batch (see `record`): a valid record further on, with a batch that reaches
//! over the bad place. A segment that has a successor was safe to its end before that one was begun.

use super::disk::{Disk, DiskError, File, Why};
use super::index::{Index, Segment};
use super::record::{self, Flaw, Header, HeaderFlaw, MAX_HEADER, MAX_RECORD, Record, VERSION};
use super::scan::{Scan, Step};
use super::{HardState, Position, READ_CHUNK, SpaceId};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// How many places after a bad one may look like the proof of damage before it counts as proven.
/// Bytes at random look so once in a hundred million; only a payload made for it does so often.
const MAX_LOOKALIKES: usize = 4096;

/// What stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state.
    pub hard_state: HardState,
    /// The first entry that can be read, or the one that will be.
    pub first_index: u64,
    /// The last entry, or the place where the log was begun.
    pub last: Position,
    /// Whether the log was closed in order, and all of it is there.
    pub clean: bool,
    /// What was cut off, if a crash left a torn tail.
    pub cut: Option<Cut>,
    /// What else is in the folder, by name: it was left alone.
    pub ignored: Vec<String>,
}

/// The torn tail of a log: never acknowledged, and gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: the last {bytes} bytes, from {offset} on, were never written whole: {what}", file.display())]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where the torn part begins.
    pub offset: u64,
    /// How much was cut off, in bytes.
    pub bytes: u64,
    /// What is wrong there.
    pub what: Flaw,
}

/// A part of a log that had been safe and is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}, where entry {index} is due: {what}", file.display())]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Where the bad part begins.
    pub offset: u64,
    /// The first entry that cannot be read.
    pub index: u64,
    /// What is wrong there.
    pub what: Flaw,
}

/// Why a log cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A part that had been safe is not what it was.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no log, or only what the first moment of one left.
    #[error("{} holds no log", .0.display())]
    Empty(PathBuf),
    /// A log stands where one is to be created.
    #[error("{} holds a log already", .0.display())]
    Exists(PathBuf),
    /// A segment between others is not there.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The log was written by another version of this program.
    #[error(
        "{} is of format {version}, and this Synod reads {VERSION}: use the Synod that wrote it",
        file.display()
    )]
    OtherVersion {
        /// The segment.
        file: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The log is that of another space.
    #[error("{} belongs to the space {}, not to {}", file.display(), hex(found), hex(expected))]
    OtherSpace {
        /// The segment.
        file: PathBuf,
        /// The space that it names.
        found: SpaceId,
        /// The space that was asked for.
        expected: SpaceId,
    },
}

/// What a folder holds, found without changing it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: Index,
    pub(super) space: SpaceId,
    pub(super) recovered: Recovered,
    /// The hard state as it is written.
    pub(super) hard_state: HardState,
    /// How much of the last segment is proven to have been safe.
    pub(super) proven: u64,
    /// The number of a segment that has no header, and is to be removed.
    pub(super) headless: Option<u64>,
}

/// Reads all of a log, of `space` if one is given.
pub(super) fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    space: Option<SpaceId>,
) -> Result<Found, OpenError> {
    let (numbers, ignored) = segments(disk, dir)?;
    let mut walk = Walk { dir, space, state: None, batch: 0, clean: false };
    let mut cut = None;
    let mut headless = None;
    for (nth, &number) in numbers.iter().enumerate() {
        let last = nth + 1 == numbers.len();
        let file = dir.join(Segment::file_name(number));
        if nth > 0 && number != numbers[nth - 1] + 1 {
            let missing = Segment::file_name(numbers[nth - 1] + 1);
            return Err(OpenError::Missing(dir.join(missing)));
        }
        let handle = disk.open_read(&file)?;
        let len = handle.len()?;
        let mut scan = Scan::new(handle, number, 0, len);
        let Some((offset, what)) = walk.segment(&mut scan, &file, len)? else { continue };
        // Zeros are written ahead of the records.
        let end = if last { written(disk, &file, offset, len)? } else { len };
        if end == offset && offset > 0 {
            continue;
        }
        if !last || what.is_whole() || proven(&mut scan, offset)? {
            return Err(walk.damage(file, offset, what).into());
        }
        if offset == 0 {
            if len > MAX_HEADER as u64 {
                // Records are written only after the header is safe.
                return Err(walk.damage(file, 0, what).into());
            }
            headless = Some(number);
        }
        cut = Some(Cut { file, offset, bytes: end - offset, what });
    }
    let Some(State { space, index, hard_state }) = walk.state else {
        return Err(OpenError::Empty(dir.to_path_buf()));
    };
    if hard_state.commit > index.last.index {
        let segment = index.segments.last();
        let (number, offset) = segment.map_or((0, 0), |segment| (segment.number, segment.bytes));
        return Err(OpenError::Damaged(Damage {
            file: dir.join(Segment::file_name(number)),
            offset,
            index: index.last.next(),
            what: Flaw::Commit { commit: hard_state.commit, last: index.last.index },
        }));
    }
    let recovered = Recovered {
        hard_state: hard_state.not_before(index.last.term),
        first_index: index.first(),
        last: index.last,
        clean: walk.clean && cut.is_none(),
        cut,
        ignored,
    };
    let proven = walk.batch.min(index.segments.last().map_or(0, |segment| segment.bytes));
    Ok(Found { index, space, recovered, hard_state, proven, headless })
}

/// Where the zeros at the end of a file begin, from `offset` on.
fn written<D: Disk>(disk: &D, file: &Path, offset: u64, len: u64) -> Result<u64, DiskError> {
    let file = disk.open_read(file)?;
    let mut chunk = vec![0; READ_CHUNK];
    let mut end = len;
    while end > offset {
        let from = end.saturating_sub(READ_CHUNK as u64).max(offset);
        let read = file.read_at(from, &mut chunk[..(end - from) as usize])?;
        if let Some(at) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(offset)
}

/// The numbers of the segments in a folder, ascending, and what else is there.
pub(super) fn segments<D: Disk>(
    disk: &D,
    dir: &Path,
) -> Result<(Vec<u64>, Vec<String>), OpenError> {
    let names = match disk.list(dir) {
        Err(e) if e.why == Why::NotFound => return Err(OpenError::Empty(dir.to_path_buf())),
        names => names?,
    };
    let (ours, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| Segment::number_of(name).is_some());
    let mut numbers: Vec<_> = ours.iter().filter_map(|name| Segment::number_of(name)).collect();
    numbers.sort_unstable();
    Ok((numbers, others))
}

struct State {
    space: SpaceId,
    index: Index,
    hard_state: HardState,
}

/// Going through the segments in order.
struct Walk<'a> {
    dir: &'a Path,
    space: Option<SpaceId>,
    /// None before the first header.
    state: Option<State>,
    /// The batch of the last record.
    batch: u64,
    /// Whether the last record closed the log.
    clean: bool,
}

impl Walk<'_> {
    /// Reads a segment up to its end, or up to the first flaw.
    fn segment<F: File>(
        &mut self,
        scan: &mut Scan<F>,
        file: &Path,
        len: u64,
    ) -> Result<Option<(u64, Flaw)>, OpenError> {
        scan.fill(MAX_HEADER)?;
        let header = match Header::parse(scan.rest(), scan.number()) {
            Ok((header, len)) => {
                scan.pass(len);
                header
            }
            Err(HeaderFlaw::OtherVersion(version)) => {
                return Err(OpenError::OtherVersion { file: file.to_path_buf(), version });
            }
            Err(HeaderFlaw::Flaw(flaw)) => return Ok(Some((0, flaw))),
        };
        if let Some(flaw) = self.header(&header, file, scan.offset())? {
            return Ok(Some((0, flaw)));
        }
        let Some(state) = &mut self.state else { return Ok(None) };
        self.batch = scan.offset();
        self.clean = false;
        loop {
            let offset = scan.offset();
            let parsed = match scan.step(MAX_RECORD, record::parse)? {
                Step::Item(parsed) if parsed.batch >= self.batch => parsed,
                Step::Item(_) => return Ok(Some((offset, Flaw::Batch))),
                Step::Flaw(flaw) => return Ok(Some((offset, flaw))),
                Step::End => break,
            };
            self.batch = parsed.batch;
            self.clean = false;
            match parsed.record {
                Record::Entry { at, .. } => {
                    if let Err(flaw) = state.due(at) {
                        return Ok(Some((offset, flaw)));
                    }
                    state.index.entry(at, offset);
                }
                Record::HardState(hard_state) => state.hard_state = hard_state,
                Record::Restart(at) => {
                    state.index.restart(at);
                    state.hard_state = state.hard_state.committed(at.index);
                }
                Record::Closed => self.clean = true,
            }
            scan.pass(parsed.len);
            state.index.grown(scan.offset());
        }
        debug_assert_eq!(scan.offset(), len);
        Ok(None)
    }

    /// Holds a header against what came before it.
    fn header(
        &mut self,
        header: &Header,
        file: &Path,
        len: u64,
    ) -> Result<Option<Flaw>, OpenError> {
        if let Some(expected) = self.space
            && expected != header.space
        {
            let (file, found) = (file.to_path_buf(), header.space);
            return Err(OpenError::OtherSpace { file, found, expected });
        }
        self.space = Some(header.space);
        let state = self.state.get_or_insert_with(|| State {
            space: header.space,
            index: Index::new(header.after),
            hard_state: header.hard_state,
        });
        if let Some(previous) = state.index.segments.last() {
            if previous.bytes != header.previous {
                let what = Flaw::Length { expected: header.previous, found: previous.bytes };
                let number = previous.number;
                let file = self.dir.join(Segment::file_name(number));
                let offset = previous.bytes.min(header.previous);
                return Err(self.damage(file, offset, what).into());
            }
            if state.index.last != header.after {
                let (due, found) = (state.index.last.next(), header.after.next());
                return Ok(Some(Flaw::OutOfOrder { due, found }));
            }
        }
        state.index.push(header.number, len);
        Ok(None)
    }

    fn damage(&self, file: PathBuf, offset: u64, what: Flaw) -> Damage {
        let index = self.state.as_ref().map_or(1, |state| state.index.last.next());
        Damage { file, offset, index, what }
    }
}

impl State {
    /// Whether `at` may be the next entry.
    fn due(&self, at: Position) -> Result<(), Flaw> {
        let last = self.index.last;
        let next = last.precedes(at);
        // What is committed stays; what has been compacted away cannot be told from it.
        let supersedes = at.index <= last.index && at.index > self.hard_state.commit;
        if next || supersedes {
            Ok(())
        } else {
            Err(Flaw::OutOfOrder { due: last.next(), found: at.index })
        }
    }
}

/// Whether a valid record after `bad` says that the disk had held what stands there.
fn proven<F: File>(scan: &mut Scan<F>, bad: u64) -> Result<bool, DiskError> {
    let mut lookalikes = 0;
    while scan.fill(1)? {
        // Enough for a glance, if the file has so much.
        scan.fill(32)?;
        let offset = scan.offset();
        let reaches = |batch| batch > bad && batch <= offset;
        if record::glance(scan.rest()).is_some_and(reaches) {
            lookalikes += 1;
            let valid = matches!(scan.step(MAX_RECORD, record::parse)?, Step::Item(_));
            if valid || lookalikes > MAX_LOOKALIKES {
                return Ok(true);
            }
        }
        scan.pass(1);
    }
    Ok(false)
}

fn hex(id: &SpaceId) -> String {
    id.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
