//! A disk in memory that keeps its promises and no more.
//!
//! Whatever was not synced may be lost when the power goes: writes whole, torn to a prefix, or sector
//! by sector in any order, with zeros or old bytes between them; names that were created, renamed or
//! removed, each for itself. Which of it is lost, the seed decides.
//!
//! Operations that change something are counted. A test runs its work once to learn how many there
//! are, then again and again with the power going after each of them:
//!
//! ```
//! use synod_core::log::disk::{Disk, File};
//! use synod_sim::disk::SimDisk;
//! use std::path::Path;
//!
//! let disk = SimDisk::new(7);
//! disk.crash_after(2);
//! let file = disk.create(Path::new("a")).unwrap();
//! file.write_at(0, b"hello").unwrap();
//! assert!(file.sync_data().is_err(), "the power went");
//! let survived = disk.lose_power();
//! assert!(survived.list(Path::new("")).unwrap().len() <= 1, "the file may be there or not");
//! ```

mod survive;

use self::survive::{Change, NameChange};
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use synod_core::log::disk::{Disk, DiskError, File, Why};

/// So many of the last operations are kept to be printed.
const TRACE_LEN: usize = 64;

/// A simulated disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    path: PathBuf,
}

#[derive(Clone, Debug)]
struct State {
    rng: Rng,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// The names as programs see them.
    names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    /// The names that are safe.
    safe_names: BTreeMap<PathBuf, u64>,
    safe_dirs: BTreeSet<PathBuf>,
    /// What has happened to the names since, in order.
    name_changes: Vec<NameChange>,
    operations: u64,
    crash_after: Option<u64>,
    failures: BTreeMap<u64, Why>,
    dead: bool,
    budget: u64,
    trace: VecDeque<String>,
}

/// What a file holds, whatever its name.
#[derive(Clone, Debug, Default)]
struct Inode {
    /// As programs see it.
    bytes: Vec<u8>,
    /// What is safe.
    safe: Vec<u8>,
    /// What has happened to it since, in order.
    changes: Vec<Change>,
}

impl SimDisk {
    /// An empty disk. The seed decides what a loss of power takes.
    pub fn new(seed: u64) -> Self {
        Self::with(State {
            rng: Rng::new(seed),
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::new()]),
            safe_names: BTreeMap::new(),
            safe_dirs: BTreeSet::from([PathBuf::new()]),
            name_changes: Vec::new(),
            operations: 0,
            crash_after: None,
            failures: BTreeMap::new(),
            dead: false,
            budget: u64::MAX,
            trace: VecDeque::new(),
        })
    }

    /// How many operations have changed something so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes after `operations` operations in all: whatever is tried then fails.
    pub fn crash_after(&self, operations: u64) {
        self.state().crash_after = Some(operations);
    }

    /// Operation number `operation`, counted from 1, does nothing and fails; a sync that fails so is
    /// not made good by a later one.
    pub fn fail(&self, operation: u64, why: Why) {
        self.state().failures.insert(operation, why);
    }

    /// The disk holds so many bytes at most.
    pub fn set_budget(&self, bytes: u64) {
        self.state().budget = bytes;
    }

    /// The disk as it is found when the power is back: this one is gone.
    pub fn lose_power(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        Self::with(state.survivors())
    }

    /// The disk as another process finds it after this one was killed: nothing is lost, and nothing
    /// that was not synced is any safer.
    pub fn kill(&self) -> Self {
        let copy = self.copy();
        self.state().dead = true;
        copy
    }

    /// Another disk that holds the same; nothing is going to happen to it yet.
    pub fn copy(&self) -> Self {
        let mut copy = self.state().clone();
        (copy.dead, copy.crash_after, copy.operations) = (false, None, 0);
        copy.failures.clear();
        Self::with(copy)
    }

    /// What a file holds.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.names.get(path.as_ref())?;
        state.inodes.get(inode).map(|inode| inode.bytes.clone())
    }

    /// Puts a file there, safe; its folder too.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let mut state = self.state();
        let path = path.as_ref().to_path_buf();
        for dir in path.ancestors().skip(1) {
            state.dirs.insert(dir.to_path_buf());
            state.safe_dirs.insert(dir.to_path_buf());
        }
        let inode = state.new_inode();
        state.names.insert(path.clone(), inode);
        state.safe_names.insert(path, inode);
        let kept = Inode { bytes: bytes.to_vec(), safe: bytes.to_vec(), changes: Vec::new() };
        state.inodes.insert(inode, kept);
    }

    /// Flips the bits of `mask` in one byte of a file, as an ageing disk does.
    pub fn flip(&self, path: impl AsRef<Path>, offset: usize, mask: u8) {
        if let Some(mut bytes) = self.contents(&path) {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
            self.put(path, &bytes);
        }
    }

    /// The last operations, one a line.
    pub fn trace(&self) -> String {
        self.state().trace.iter().map(|line| format!("{line}\n")).collect()
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &Path, operation: &'static str) -> Result<SimFile, DiskError> {
        let state = self.state();
        state.alive(operation, path)?;
        match state.names.get(path) {
            Some(&inode) => {
                Ok(SimFile { state: self.state.clone(), inode, path: path.to_path_buf() })
            }
            None => Err(error(operation, path, Why::NotFound)),
        }
    }
}

impl State {
    fn alive(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        let gone = || error(operation, path, Why::Other("the simulated power is off".to_owned()));
        if self.dead { Err(gone()) } else { Ok(()) }
    }

    /// Counts an operation, which fails if its time has come.
    fn count(&mut self, operation: &'static str, path: &Path, what: u64) -> Result<(), DiskError> {
        if self.crash_after == Some(self.operations) {
            self.dead = true;
        }
        self.alive(operation, path)?;
        self.operations += 1;
        if self.trace.len() == TRACE_LEN {
            self.trace.pop_front();
        }
        let line = format!("{} {operation} {} {what}", self.operations, path.display());
        self.trace.push_back(line);
        match self.failures.get(&self.operations) {
            Some(why) => Err(error(operation, path, why.clone())),
            None => Ok(()),
        }
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.next_inode
    }

    fn used(&self) -> u64 {
        let len = |inode| self.inodes.get(inode).map_or(0, |inode| inode.bytes.len() as u64);
        self.names.values().map(len).sum()
    }

    fn change(&mut self, inode: u64, change: Change) {
        let inode = self.inodes.entry(inode).or_default();
        change.apply(&mut inode.bytes);
        inode.changes.push(change);
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &Path) -> Result<SimFile, DiskError> {
        self.file(path, "open")
    }

    fn open_read(&self, path: &Path) -> Result<SimFile, DiskError> {
        self.file(path, "open")
    }

    fn create(&self, path: &Path) -> Result<SimFile, DiskError> {
        let mut state = self.state();
        state.count("create", path, 0)?;
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(error("create", path, Why::NotFound));
        }
        if let Some(&inode) = state.names.get(path) {
            state.change(inode, Change::Truncate(0));
        } else {
            if state.used() >= state.budget {
                return Err(error("create", path, Why::Full));
            }
            let inode = state.new_inode();
            let path = path.to_path_buf();
            state.names.insert(path.clone(), inode);
            state.name_changes.push(NameChange::Created { path, inode });
        }
        drop(state);
        self.file(path, "create")
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("rename", from, 0)?;
        let inode = state.names.remove(from).ok_or(error("rename", from, Why::NotFound))?;
        state.names.insert(to.to_path_buf(), inode);
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        state.name_changes.push(NameChange::Renamed { from, to, inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("remove", path, 0)?;
        state.names.remove(path).ok_or(error("remove", path, Why::NotFound))?;
        state.name_changes.push(NameChange::Removed { path: path.to_path_buf() });
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("create folder", path, 0)?;
        if state.dirs.insert(path.to_path_buf()) {
            state.name_changes.push(NameChange::Dir { path: path.to_path_buf() });
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("sync folder", path, 0)?;
        state.sync_names(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state();
        state.alive("list", path)?;
        if !state.dirs.contains(path) {
            return Err(error("list", path, Why::NotFound));
        }
        let here = state.names.keys().chain(&state.dirs).filter(|name| name.parent() == Some(path));
        let text = |name: &PathBuf| name.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut names: Vec<_> = here.filter_map(text).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let state = self.state();
        state.alive("ask the free space of", Path::new(""))?;
        Ok(state.budget.saturating_sub(state.used()))
    }
}

impl SimFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let state = self.state();
        state.alive("read", &self.path)?;
        let bytes = state.inodes.get(&self.inode).map_or(&[][..], |inode| &inode.bytes);
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("write", &self.path, bytes.len() as u64)?;
        let len = state.inodes.get(&self.inode).map_or(0, |inode| inode.bytes.len() as u64);
        // A full disk takes what fits, and says so about the rest.
        let room = len + state.budget.saturating_sub(state.used());
        let fits = usize::try_from(room.saturating_sub(offset))
            .map_or(bytes.len(), |fits| fits.min(bytes.len()));
        let change = Change::Write { offset: offset as usize, bytes: bytes[..fits].to_vec() };
        state.change(self.inode, change);
        if fits < bytes.len() { Err(error("write", &self.path, Why::Full)) } else { Ok(()) }
    }

    fn len(&self) -> Result<u64, DiskError> {
        let state = self.state();
        state.alive("ask the length of", &self.path)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.bytes.len() as u64))
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        state.count("cut", &self.path, len)?;
        state.change(self.inode, Change::Truncate(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        let synced = state.count("sync", &self.path, 0);
        let alive = !state.dead;
        match state.inodes.get_mut(&self.inode) {
            Some(inode) if synced.is_ok() => inode.sync(),
            // As Linux does it: what could not be written counts as written from then on.
            Some(inode) if alive => inode.changes.clear(),
            _ => {}
        }
        synced
    }
}

fn error(operation: &'static str, path: &Path, why: Why) -> DiskError {
    DiskError { operation, path: path.to_path_buf(), why }
}

#[cfg(test)]
mod tests;
