//! An export made a space's log again.
//!
//! The chain starts from the space's id, so a log whose chain is to be the same is that of the same
//! space: whoever imports an export takes its space's id over, and keeps it in `genesis.json` in place of what
//! it made. The entries of Raft's log are made anew; commands keep their indexes and times. It is
//! all made aside, and changes places with the empty space when it is whole.

use crate::api::Imported;
use crate::folder::{self, FolderError};
use crate::space::snapshots::Snapshots;
use crate::space::{SNAPSHOT_BYTES, hex};
use crate::store::FsDisk;
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use synod_core::apply::State;
use synod_core::command::{Batch, Command};
use synod_core::export::{End, Envelope, ExportError, Header, Item, Reader};
use synod_core::log::disk::{Disk, DiskError};
use synod_core::log::{AppendError, Entry, HardState, Limits, Log, OpenError, Position, SyncError};

use super::{At, Past, PastError};

/// Bytes of commands after which an entry is closed; one command may be more.
const ENTRY_BYTES: usize = 1 << 20;
/// Commands of one entry, at most.
const ENTRY_COMMANDS: usize = 4096;
/// Bytes of entries after which the log is synced.
const SYNC_BYTES: usize = 8 << 20;
/// The term of all that is imported: the first.
const TERM: u64 = 1;

/// Why an export is not imported. The space is what it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not whole.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It begins in the middle.
    #[error(
        "it begins at index {0}, and only a whole log can be imported: export it from index 1 on"
    )]
    Partial(u64),
    /// The space has had commands.
    #[error(
        "the space {space} stands at index {index}, and a log is imported into an empty one only: use \
         another data folder with --data"
    )]
    NotEmpty {
        /// The space.
        space: String,
        /// Its last index.
        index: u64,
    },
    /// The space's folder cannot be read.
    #[error(transparent)]
    Past(#[from] PastError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The log cannot be created.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log does not take an entry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log cannot be written.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operating system refused.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

/// An import under way, in a folder of its own.
#[derive(Debug)]
pub struct Import {
    name: String,
    /// The folder of all spaces.
    spaces: PathBuf,
    aside: PathBuf,
    reader: Reader,
    log: Option<Log<FsDisk>>,
    state: State,
    batch: Batch,
    batch_bytes: usize,
    unsynced: usize,
    /// Bytes of commands since the last snapshot.
    since_snapshot: usize,
    entries: u64,
    is_done: bool,
}

impl Import {
    /// Begins an import into the space `name` of a data folder that this process holds.
    pub(crate) fn begin(data: &Path, name: &str) -> Result<Self, ImportError> {
        let aside = data.join(format!("import-{name}"));
        remove(&aside)?;
        folder::make(&aside)?;
        Ok(Self {
            name: name.to_owned(),
            spaces: data.join("spaces"),
            aside,
            reader: Reader::new(),
            log: None,
            state: State::default(),
            batch: Batch::default(),
            batch_bytes: 0,
            unsynced: 0,
            since_snapshot: 0,
            entries: 0,
            is_done: false,
        })
    }

    /// The index up to which commands have come.
    pub fn index(&self) -> u64 {
        self.state.index()
    }

    /// Takes in the next bytes of the export.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), ImportError> {
        self.reader.push(chunk);
        while let Some(item) = self.reader.next_item()? {
            match item {
                Item::Header(header) => self.create(&header)?,
                Item::Envelope(envelope) => self.command(envelope)?,
                Item::End { .. } => {}
            }
        }
        Ok(())
    }

    /// All bytes have come. What was imported changes places with the space, which must be empty and closed.
    pub(crate) fn finish(mut self) -> Result<Imported, ImportError> {
        let End { index, chain, .. } = std::mem::take(&mut self.reader).finish()?;
        self.close_batch()?;
        if let Some(mut log) = self.log.take() {
            log.sync()?;
            let state = HardState { term: TERM, vote: 0, commit: self.entries };
            log.append(&[], Some(state))?;
            log.close()?;
        }
        let imported = Imported {
            space: self.name.clone(),
            id: hex(&genesis_of(&self.aside)?),
            commands: index,
            chain: hex(&chain),
            digest: hex(&self.state.digest()),
        };
        self.install()?;
        Ok(imported)
    }

    fn create(&mut self, header: &Header) -> Result<(), ImportError> {
        if !header.is_whole() {
            return Err(ImportError::Partial(header.first));
        }
        folder::write_imported(&self.aside, &self.name, header.space)?;
        let disk = FsDisk::new(&self.aside);
        let start = Position::default();
        let limits = Limits::default();
        self.log = Some(Log::create(disk.clone(), Path::new("log"), header.space, start, limits)?);
        disk.create(Path::new(crate::space::BEGUN))?;
        disk.sync_dir(Path::new(""))?;
        self.state = State::new(header.space);
        self.state.be_quiet(true);
        Ok(())
    }

    fn command(&mut self, envelope: Envelope) -> Result<(), ImportError> {
        let Envelope { time, command, .. } = envelope;
        let is_full = self.batch.commands.len() >= ENTRY_COMMANDS
            || self.batch_bytes + command.len() > ENTRY_BYTES;
        if time != self.batch.time || is_full {
            self.close_batch()?;
            if self.since_snapshot as u64 >= SNAPSHOT_BYTES {
                self.snapshot()?;
            }
        }
        self.since_snapshot += command.len();
        // The chain has been followed by the reader already.
        if let Some(place) = self.reader.place() {
            self.state.apply_followed(place, Command::decode(&command).ok());
        }
        self.batch.time = time;
        self.batch_bytes += command.len();
        self.batch.commands.push(command);
        Ok(())
    }

    fn close_batch(&mut self) -> Result<(), ImportError> {
        let Some(log) = self.log.as_mut().filter(|_| !self.batch.commands.is_empty()) else {
            return Ok(());
        };
        self.entries += 1;
        let data = self.batch.encode();
        self.unsynced += data.len();
        log.append(&[Entry { term: TERM, index: self.entries, kind: 0, data }], None)?;
        self.batch.commands.clear();
        self.batch_bytes = 0;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            log.sync()?;
        }
        Ok(())
    }

    /// As a node does now and then, so that the past is told of as quickly.
    fn snapshot(&mut self) -> Result<(), ImportError> {
        self.since_snapshot = 0;
        if let Some(log) = &mut self.log {
            log.sync()?;
        }
        let snapshots = Snapshots::read_only(FsDisk::new(&self.aside), genesis_of(&self.aside)?);
        let at = Position { term: TERM, index: self.entries };
        Ok(snapshots.write_now(&mut self.state, at).map_err(PastError::from)?)
    }

    fn install(&mut self) -> Result<(), ImportError> {
        let place = self.spaces.join(&self.name);
        is_empty(&place, &self.name)?;
        let io = |e: rustix::io::Errno| ImportError::Io(place.clone(), e.into());
        if place.exists() {
            renameat_with(CWD, &self.aside, CWD, &place, RenameFlags::EXCHANGE).map_err(io)?;
        } else {
            folder::make(&self.spaces)?;
            rustix::fs::rename(&self.aside, &place).map_err(io)?;
        }
        for folder in [Some(self.spaces.as_path()), self.aside.parent()].into_iter().flatten() {
            FsDisk::new(folder).sync_dir(Path::new(""))?;
        }
        self.is_done = true;
        remove(&self.aside)
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if !self.is_done {
            drop(remove(&self.aside));
        }
    }
}

/// Refuses a space that has had commands. One that is not there is empty.
pub(crate) fn is_empty(folder: &Path, name: &str) -> Result<(), ImportError> {
    match folder.join("genesis.json").try_exists() {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(e) => return Err(ImportError::Io(folder.to_path_buf(), e)),
    }
    let past = match Past::of_folder(folder) {
        // A space that was made and never opened.
        Err(PastError::Log(OpenError::Empty(_))) => return Ok(()),
        past => past?,
    };
    match past.place_at(At::Time(u64::MAX))?.index {
        0 => Ok(()),
        index => Err(ImportError::NotEmpty { space: name.to_owned(), index }),
    }
}

fn genesis_of(folder: &Path) -> Result<[u8; 32], ImportError> {
    Ok(folder::genesis_id(folder)?)
}

fn remove(folder: &Path) -> Result<(), ImportError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(ImportError::Io(folder.to_path_buf(), e))
        }
        _ => Ok(()),
    }
}

/// Imports an export into the space of a data folder that no node runs on. `progress` is told the index
/// now and then. Blocks.
pub fn import(
    data: &Path,
    name: &str,
    mut source: impl io::Read,
    from: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Imported, ImportError> {
    let held = folder::Folder::open(data, None)?;
    is_empty(&held.root().join("spaces").join(name), name)?;
    let mut import = Import::begin(held.root(), name)?;
    loop {
        let mut chunk = vec![0; super::export::PIECE];
        match source.read(&mut chunk) {
            Ok(0) => return import.finish(),
            Ok(len) => chunk.truncate(len),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ImportError::Io(from.to_path_buf(), e)),
        }
        import.push(chunk.into())?;
        progress(import.index());
    }
}
