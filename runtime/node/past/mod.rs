//! A space's past: its commands, one after the other, as its log and its snapshots tell of them. The same
//! for a space that is open on a node and for a folder that no node runs on.

mod drafts;
mod entries;
mod entry;
pub mod export;
pub mod filter;
pub mod import;
pub mod kb;
mod pipeline;
pub mod spool;

pub use entries::Told;
pub use entry::Teller;
pub use filter::{Filter, Span};
pub use pipeline::StreamError;

use crate::folder::{FolderError, check_format_of, genesis_id};
use crate::rfc3339;
use crate::space::SnapshotError;
use crate::space::snapshots::Snapshots;
use crate::store::FsDisk;
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use synod_core::apply::{Chain, State};
use synod_core::command::Batch;
use synod_core::log::{self, Entries, OpenError, ReadError, Reader};
use synod_core::order::{self, EntryKind};

/// A point in a space's history: after the last command that is not behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The command of this index.
    Index(u64),
    /// This time, in microseconds since 1970 (UTC).
    Time(u64),
}

impl At {
    /// Whether a command at this place is not behind it.
    pub fn includes(self, place: &Chain) -> bool {
        match self {
            Self::Index(index) => place.index <= index,
            Self::Time(time) => place.time <= time,
        }
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.parse().ok().map(Self::Index);
        let at = index.or_else(|| rfc3339::parse(text).map(Self::Time));
        at.ok_or_else(|| {
            format!("neither an index nor a time, which is as in {}", rfc3339::EXAMPLE)
        })
    }
}

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The space has been closed.
    #[error("the space is closed, for its node is going down: ask again when it is up")]
    Closed,
    /// There has been no such command yet.
    #[error("index {asked} has not come: the log ends at index {last}")]
    Ahead {
        /// The index that was asked for.
        asked: u64,
        /// The last index.
        last: u64,
    },
    /// Neither a snapshot nor the log reaches back so far.
    #[error(
        "the log goes back to index {first} only: what was before has been let go, as `synod space retain` has it; ask from index {first} on"
    )]
    Gone {
        /// The first index that can be told of.
        first: u64,
    },
    /// The folder holds no space.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The log is damaged, incomplete, or of another version or space.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The operating system gives no thread to read with.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

/// The history of one space, as far as it was safe on disk when this was made.
#[derive(Clone, Debug)]
pub struct Past {
    name: String,
    id: [u8; 32],
    snapshots: Arc<Snapshots>,
    reader: Reader<FsDisk>,
    /// The last index that is told of; all that there is, if none.
    last: Option<u64>,
}

impl Past {
    /// Of a space that is open: what it has applied.
    pub(crate) fn of_space(
        name: &str,
        id: [u8; 32],
        snapshots: Arc<Snapshots>,
        reader: Reader<FsDisk>,
        applied: u64,
    ) -> Self {
        Self { name: name.to_owned(), id, snapshots, reader, last: Some(applied) }
    }

    /// Of a space's folder that no node runs on: read only. All that its log holds counts as committed,
    /// as it does for the node, the only voter, when it starts.
    pub fn of_folder(folder: &Path) -> Result<Self, PastError> {
        check_format_of(folder)?;
        let id = genesis_id(folder)?;
        let name =
            folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let disk = FsDisk::new(folder);
        let (_, _, reader) = log::inspect(&disk, Path::new("log"), Some(id))?;
        let snapshots = Arc::new(Snapshots::read_only(disk, id));
        Ok(Self { name, id, snapshots, reader, last: None })
    }

    /// The space's name on this node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The space's id.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The newest state that is kept and that `at` includes, or the empty one, and the commands behind it.
    pub fn state_before(&self, at: At) -> Result<(State, Commands), PastError> {
        let base = self.snapshots.load_before(|place| at.includes(place))?;
        let (state, through) = base.unwrap_or_else(|| (State::new(self.id), Default::default()));
        let commands = self.commands(through, state.index())?;
        Ok((state, commands))
    }

    /// As [`Past::state_before`], of the place alone.
    pub fn place_before(&self, at: At) -> Result<(Chain, Commands), PastError> {
        let base = self.snapshots.place_before(|place| at.includes(place))?;
        let start = || (Chain::of_space(self.id), Default::default());
        let (place, through) = base.unwrap_or_else(start);
        let commands = self.commands(through, place.index)?;
        Ok((place, commands))
    }

    /// The state as of a point.
    pub fn state_at(&self, at: At) -> Result<State, PastError> {
        let (mut state, mut commands) = self.state_before(at)?;
        state.be_quiet(true);
        while let Some((stamp, command)) = commands.next_command()? {
            let is_in = match at {
                At::Index(index) => state.index() < index,
                At::Time(time) => stamp.max(state.time()) <= time,
            };
            if !is_in {
                break;
            }
            state.apply(stamp, &command);
        }
        match at {
            At::Index(asked) if asked > state.index() => {
                Err(PastError::Ahead { asked, last: state.index() })
            }
            _ => Ok(state),
        }
    }

    /// The place of the last command that `at` includes.
    pub fn place_at(&self, at: At) -> Result<Chain, PastError> {
        let (mut place, mut commands) = self.place_before(at)?;
        while let Some((stamp, command)) = commands.next_command()? {
            let mut next = place;
            next.follow(stamp, &command);
            if !at.includes(&next) {
                return Ok(place);
            }
            place = next;
        }
        match at {
            At::Index(asked) if asked > place.index => {
                Err(PastError::Ahead { asked, last: place.index })
            }
            _ => Ok(place),
        }
    }

    /// The first index whose command can be told of: behind the oldest state from which the log goes on.
    fn first(&self) -> Result<u64, PastError> {
        let begins = self.reader.first_index();
        let kept = self.snapshots.kept()?;
        let oldest = kept.iter().rev().find(|kept| kept.raft_index + 1 >= begins);
        Ok(oldest.map_or(1, |oldest| oldest.index + 1))
    }

    fn commands(&self, through: order::Position, index: u64) -> Result<Commands, PastError> {
        let from = through.index + 1;
        if self.reader.first_index() > from {
            return Err(PastError::Gone { first: self.first()? });
        }
        let entries = self.reader.entries(from, u64::MAX)?;
        let batch = Found::default();
        let snapshots = Arc::clone(&self.snapshots);
        Ok(Commands { entries, snapshots, next: from, batch, index, last: self.last })
    }
}

/// The batch of commands in an entry of the log; empty if it holds none.
pub(crate) fn batch_of(entry: &log::Entry) -> Bytes {
    let kind = EntryKind::from_number(u64::from(entry.kind));
    kind.map(|kind| order::Entry::batch(kind, &entry.data)).unwrap_or_default()
}

/// Commands, one after the other, with the time that their leader stamped them with.
#[derive(Debug)]
pub struct Commands {
    entries: Entries<FsDisk>,
    snapshots: Arc<Snapshots>,
    /// The entry that comes next.
    next: u64,
    batch: Found,
    /// The index of the last command that was given.
    index: u64,
    last: Option<u64>,
}

/// A batch as it was found, and how many of its commands have been given.
#[derive(Debug, Default)]
struct Found {
    stamp: u64,
    payload: Bytes,
    commands: Vec<Range<usize>>,
    given: usize,
}

impl Commands {
    /// The next command and its stamp; none at the end of what is told of. Blocks while it reads.
    pub fn next_command(&mut self) -> Result<Option<(u64, Bytes)>, PastError> {
        let next = self.advance()?;
        Ok(next.map(|range| (self.batch.stamp, self.batch.payload.slice(range))))
    }

    /// As [`Commands::next_command`], of the bytes alone.
    pub fn next_bytes(&mut self) -> Result<Option<(u64, &[u8])>, PastError> {
        let next = self.advance()?;
        Ok(next.map(|range| (self.batch.stamp, &self.batch.payload[range])))
    }

    /// Where in the batch's payload the next command is.
    fn advance(&mut self) -> Result<Option<Range<usize>>, PastError> {
        if self.last.is_some_and(|last| self.index >= last) {
            return Ok(None);
        }
        loop {
            let batch = &mut self.batch;
            if let Some(command) = batch.commands.get(batch.given) {
                batch.given += 1;
                self.index += 1;
                return Ok(Some(command.clone()));
            }
            // Nobody keeps the last entry by now: what it was read into is read into again.
            batch.payload = Bytes::new();
            batch.commands.clear();
            batch.given = 0;
            let entry = match self.entries.next().transpose() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(None),
                Err(ReadError::Compacted { .. }) => return Err(self.overtaken()),
                Err(e) => return Err(e.into()),
            };
            self.next = entry.index + 1;
            let payload = batch_of(&entry);
            if payload.is_empty() {
                continue;
            }
            match Batch::find(&payload, |range| batch.commands.push(range)) {
                Ok((stamp, _)) => (batch.stamp, batch.payload) = (stamp, payload),
                // An entry that is no batch changes nothing: every replica passes it over alike.
                Err(_) => batch.commands.clear(),
            }
        }
    }

    /// What comes next has been let go since this was made: the log was cut at a snapshot.
    fn overtaken(&self) -> PastError {
        match self.snapshots.kept() {
            Ok(kept) => {
                let oldest = kept.iter().rev().find(|kept| kept.raft_index >= self.next);
                PastError::Gone { first: oldest.map_or(self.index, |oldest| oldest.index) + 1 }
            }
            Err(e) => e.into(),
        }
    }

    /// Goes on with what has come since.
    pub fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        self.entries = match past.reader.entries(self.next, u64::MAX) {
            Err(ReadError::Compacted { .. }) => return Err(self.overtaken()),
            entries => entries?,
        };
        self.last = past.last;
        Ok(())
    }
}
