//! What is left of a disk when the power goes.

use super::{Inode, State};
use crate::rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// A disk writes sectors whole or not at all; across them it promises nothing.
const SECTOR: usize = 512;

/// Something that happened to a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// Something that happened to a name.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Created { path: PathBuf, inode: u64 },
    Removed { path: PathBuf },
    Renamed { from: PathBuf, to: PathBuf, inode: u64 },
    Dir { path: PathBuf },
}

impl Change {
    pub(super) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(file, *offset, bytes),
            Self::Truncate(len) => file.truncate(*len),
        }
    }
}

impl NameChange {
    /// The folder that must be synced for it to be safe.
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Created { path, .. } | Self::Removed { path } | Self::Dir { path } => path,
            Self::Renamed { to, .. } => to,
        }
        .parent()
    }
}

impl Inode {
    pub(super) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.safe);
        }
    }

    /// What is left of the file.
    fn survivor(&self, rng: &mut Rng) -> Vec<u8> {
        let mut file = self.safe.clone();
        match rng.below(6) {
            0 => {}
            1 => file.clone_from(&self.bytes),
            2 => self.prefix(&mut file, rng),
            3 => self.sectors(&mut file, rng),
            // The length was written before the bytes: zeros, or what the sectors held once.
            4 => {
                self.sectors(&mut file, rng);
                file.resize(self.bytes.len(), 0);
            }
            _ => {
                let stale = rng.bytes(self.bytes.len().saturating_sub(file.len()));
                file.extend_from_slice(&stale);
                self.sectors(&mut file, rng);
            }
        }
        file
    }

    /// The first changes, the last of them torn at any byte.
    fn prefix(&self, file: &mut Vec<u8>, rng: &mut Rng) {
        let whole = rng.below(self.changes.len() as u64 + 1) as usize;
        self.changes[..whole].iter().for_each(|change| change.apply(file));
        if let Some(Change::Write { offset, bytes }) = self.changes.get(whole) {
            write(file, *offset, &bytes[..rng.below(bytes.len() as u64 + 1) as usize]);
        }
    }

    /// Each sector of each change, or not.
    fn sectors(&self, file: &mut Vec<u8>, rng: &mut Rng) {
        // Once in a while all but a few get through, or only a few.
        let kept_in_8 = 1 + rng.below(7);
        for change in &self.changes {
            match change {
                Change::Truncate(_) if rng.below(8) >= kept_in_8 => {}
                Change::Truncate(_) => change.apply(file),
                Change::Write { offset, bytes } => {
                    let mut done = 0;
                    while done < bytes.len() {
                        let at = offset + done;
                        let len = (SECTOR - at % SECTOR).min(bytes.len() - done);
                        if rng.below(8) < kept_in_8 {
                            write(file, at, &bytes[done..done + len]);
                        }
                        done += len;
                    }
                }
            }
        }
    }
}

impl State {
    /// Makes the names in a folder safe.
    pub(super) fn sync_names(&mut self, dir: &Path) {
        let changes = std::mem::take(&mut self.name_changes);
        let (synced, rest): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.dir() == Some(dir));
        synced.iter().for_each(|change| self.keep(change));
        self.name_changes = rest;
    }

    /// The disk as it is found when the power is back.
    pub(super) fn survivors(&mut self) -> Self {
        let mut left = self.clone();
        let rng = &mut self.rng;
        let changes = std::mem::take(&mut left.name_changes);
        let (mode, first) = (rng.below(4), rng.below(changes.len() as u64 + 1));
        for (nth, change) in changes.iter().enumerate() {
            let kept = match mode {
                0 => false,
                1 => true,
                2 => (nth as u64) < first,
                _ => rng.one_in(2),
            };
            if kept {
                left.keep(change);
            }
        }
        // A name in a folder that was lost is out of reach.
        let dirs = left.safe_dirs.clone();
        let reachable = |path: &Path| path.ancestors().skip(1).all(|dir| dirs.contains(dir));
        left.safe_dirs.retain(|path| reachable(path));
        left.safe_names.retain(|path, _| reachable(path));
        (left.names, left.dirs) = (left.safe_names.clone(), left.safe_dirs.clone());
        left.inodes = BTreeMap::new();
        for inode in left.names.values() {
            if let Some(kept) = self.inodes.get(inode) {
                let bytes = kept.survivor(rng);
                let kept = Inode { safe: bytes.clone(), bytes, changes: Vec::new() };
                left.inodes.insert(*inode, kept);
            }
        }
        left.rng = rng.fork();
        (left.dead, left.operations, left.crash_after) = (false, 0, None);
        left.failures.clear();
        left.trace = VecDeque::new();
        left
    }

    fn keep(&mut self, change: &NameChange) {
        match change {
            NameChange::Created { path, inode } => {
                self.safe_names.insert(path.clone(), *inode);
            }
            NameChange::Removed { path } => {
                self.safe_names.remove(path);
            }
            NameChange::Renamed { from, to, inode } => {
                self.safe_names.remove(from);
                self.safe_names.insert(to.clone(), *inode);
            }
            NameChange::Dir { path } => {
                self.safe_dirs.insert(path.clone());
            }
        }
    }
}

fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}
