//! A space's snapshots on disk: written by a thread of their own from what *apply* hands over a
//! little at a time, read when the space is opened, when an engine starts, and for the past.

use crate::store::fs_disk::FsDisk;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use synod_core::apply::{Chain, Restore, RestoreError, State};
use synod_core::cbor;
use synod_core::group::Place;
use synod_core::log::Position;
use synod_core::log::disk::{Disk, DiskError, File};
use synod_core::order::{self, Members};
use synod_core::retention::Kept;
use synod_core::snapshot::SnapshotError as FileError;
use synod_core::snapshot::{self, Meta, Reader, Writer};
use tokio::sync::watch;

/// Snapshots that are kept, at most: the newest, and older ones for who looks at the past. They are taken
/// every 32 MiB of commands; when there are too many those go that leave the smallest gaps, so that
/// what is kept stays spread evenly over the log.
const KEPT: usize = 64;
/// Bytes of snapshots that are kept, at most, but for the newest two.
const KEPT_BYTES: u64 = 2 << 30;
/// Files with states of the past that are kept.
const KEPT_PAST: usize = 16;
/// Items that wait to be written, at most.
const QUEUE: usize = 64;
/// The only section of the file.
const SECTION: u64 = 0;

/// A snapshot that is whole on disk.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) index: u64,
    pub(super) path: PathBuf,
}

/// Why there is no snapshot to be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file, or the disk, is at fault.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is whole and its items make no state.
    #[error("{}: {why}", path.display())]
    Restore {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        why: RestoreError,
    },
    /// The thread that writes cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The thread that writes has given up; it has said why.
    #[error("it could not be written")]
    GivenUp,
}

/// All snapshots of one space.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    disk: FsDisk,
    space: [u8; 32],
    newest: Arc<watch::Sender<Option<Arc<Saved>>>>,
    /// The thread that writes one, or has.
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A snapshot that is being written.
pub(super) struct Writing {
    index: u64,
    items: SyncSender<Bytes>,
    waiting: Option<Bytes>,
}

fn folder() -> &'static Path {
    Path::new("snapshots")
}

/// Where states of the past are put for who asks for them.
fn past() -> &'static Path {
    Path::new("as-of")
}

/// All folders with snapshots that engines read.
pub(super) fn folders() -> [&'static Path; 2] {
    [folder(), past()]
}

impl Snapshots {
    /// Finds the newest snapshot that is whole, and reads it.
    pub(super) fn open(
        disk: FsDisk,
        space: [u8; 32],
    ) -> Result<(Self, Option<Loaded>), SnapshotError> {
        // An engine's fence knows of folders that are there when it is put up.
        folders().into_iter().try_for_each(|folder| disk.create_dir(folder))?;
        let newest = Arc::new(watch::Sender::new(None));
        let snapshots = Self { disk, space, newest, writer: Arc::default() };
        // A name that a kill has left between the rename and the folder's sync could still vanish.
        snapshots.disk.sync_dir(folder())?;
        let mut found = None;
        for (index, path) in snapshot::list(&snapshots.disk, folder())? {
            match snapshots.load(&path) {
                Ok((state, at, members)) => {
                    let path = snapshots.disk.root().join(&path);
                    snapshots
                        .newest
                        .send_replace(Some(Arc::new(Saved { index, path: path.clone() })));
                    found = Some(Loaded { state, at, members, path });
                    break;
                }
                Err(
                    e @ (SnapshotError::File(FileError::Damaged { .. })
                    | SnapshotError::Restore { .. }),
                ) => tracing::warn!("a snapshot is passed over for an older one: {e}"),
                Err(e) => return Err(e),
            }
        }
        Ok((snapshots, found))
    }

    /// The newest snapshot.
    pub(super) fn newest(&self) -> Option<Arc<Saved>> {
        self.newest.borrow().clone()
    }

    /// Follows the newest snapshot.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Arc<Saved>>> {
        self.newest.subscribe()
    }

    /// Those that are kept, newest first; one that is damaged is passed over.
    pub(crate) fn kept(&self) -> Result<Vec<Kept>, SnapshotError> {
        let mut kept = Vec::new();
        for (index, path) in snapshot::list(&self.disk, folder())? {
            match self.time_of(&path) {
                Ok(Some((raft_index, time))) => kept.push(Kept { index, raft_index, time }),
                Ok(None)
                | Err(
                    SnapshotError::File(FileError::Damaged { .. }) | SnapshotError::Restore { .. },
                ) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(kept)
    }

    /// The last entry of Raft's log that a snapshot contains, and the time of its state.
    fn time_of(&self, path: &Path) -> Result<Option<(u64, u64)>, SnapshotError> {
        let mut reader = Reader::open(&self.disk, path, Some(self.space))?;
        let raft_index = reader.meta().at.index;
        let Some(first) = reader.next().transpose()? else { return Ok(None) };
        let wrong = |why| SnapshotError::Restore { path: path.to_path_buf(), why };
        let place = Restore::place_of(&first.items).map_err(wrong)?;
        Ok(Some((raft_index, place.time)))
    }

    /// Where the states of all that are whole are, newest first.
    pub(super) fn places(&self) -> Result<Vec<Place>, SnapshotError> {
        let mut places = Vec::new();
        for (_, path) in snapshot::list(&self.disk, folder())? {
            match self.place_of(&path) {
                Ok(place) => places.extend(place),
                Err(
                    SnapshotError::File(FileError::Damaged { .. }) | SnapshotError::Restore { .. },
                ) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(places)
    }

    fn place_of(&self, path: &Path) -> Result<Option<Place>, SnapshotError> {
        let mut reader = Reader::open(&self.disk, path, Some(self.space))?;
        let at = reader.meta().at;
        let Some(first) = reader.next().transpose()? else { return Ok(None) };
        let wrong = |why| SnapshotError::Restore { path: path.to_path_buf(), why };
        let chain = Restore::place_of(&first.items).map_err(wrong)?;
        Ok(Some(Place { at, chain }))
    }

    /// Where the state in a file is that came from elsewhere; all of it is read.
    pub(super) fn chain_of(&self, file: &Path) -> Result<Chain, SnapshotError> {
        let relative = file.strip_prefix(self.disk.root()).unwrap_or(file);
        self.load(relative).map(|(state, ..)| state.place())
    }

    /// Removes a file that came from elsewhere and is of no use.
    pub(super) fn discard(&self, file: &Path) {
        let relative = file.strip_prefix(self.disk.root()).unwrap_or(file);
        let removed = self.disk.remove(relative).and_then(|()| self.disk.sync_dir(folder()));
        if let Err(e) = removed {
            tracing::warn!("a snapshot that is of no use is left: {e}");
        }
    }

    /// Removes those of states before an index.
    pub(super) fn remove_before(&self, index: u64) -> Result<(), SnapshotError> {
        for (found, path) in snapshot::list(&self.disk, folder())? {
            if found < index {
                self.disk.remove(&path)?;
            }
        }
        Ok(self.disk.sync_dir(folder())?)
    }

    /// Those in a folder that nobody may write to.
    pub(crate) fn read_only(disk: FsDisk, space: [u8; 32]) -> Self {
        let newest = Arc::new(watch::Sender::new(None));
        Self { disk, space, newest, writer: Arc::default() }
    }

    /// The newest state whose place is wanted, if any is kept.
    pub(crate) fn load_before(
        &self,
        is_wanted: impl Fn(&Chain) -> bool,
    ) -> Result<Option<(State, order::Position)>, SnapshotError> {
        match self.find(is_wanted)? {
            Some((path, ..)) => self.load(&path).map(|(state, at, _)| Some((state, at))),
            None => Ok(None),
        }
    }

    /// The newest place that is wanted, of those whose states are kept.
    pub(crate) fn place_before(
        &self,
        is_wanted: impl Fn(&Chain) -> bool,
    ) -> Result<Option<(Chain, order::Position)>, SnapshotError> {
        Ok(self.find(is_wanted)?.map(|(_, place, at)| (place, at)))
    }

    fn find(
        &self,
        is_wanted: impl Fn(&Chain) -> bool,
    ) -> Result<Option<(PathBuf, Chain, order::Position)>, SnapshotError> {
        for (_, path) in snapshot::list(&self.disk, folder())? {
            let mut reader = Reader::open(&self.disk, &path, Some(self.space))?;
            let at = reader.meta().at;
            let Some(first) = reader.next().transpose()? else { continue };
            let wrong = |why| SnapshotError::Restore { path: path.clone(), why };
            let place = Restore::place_of(&first.items).map_err(wrong)?;
            if is_wanted(&place) {
                return Ok(Some((path, place, order::Position { index: at.index, term: at.term })));
            }
        }
        Ok(None)
    }

    /// Waits until nothing is written any more: what was given up is gone, what was finished is there.
    /// Whoever waits has given up or finished what it wrote.
    pub(super) fn settle(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("a thread that wrote a snapshot had panicked");
        }
    }

    /// Removes the snapshots of states behind an index.
    pub(super) fn remove_behind(&self, index: u64) -> Result<(), SnapshotError> {
        let mut newest = None;
        for (of, path) in snapshot::list(&self.disk, folder())? {
            if of > index {
                self.disk.remove(&path)?;
            } else if newest.is_none() {
                newest = Some(Arc::new(Saved { index: of, path: self.disk.root().join(&path) }));
            }
        }
        self.disk.sync_dir(folder())?;
        self.newest.send_replace(newest);
        Ok(())
    }

    /// Begins to write the state of this index.
    pub(super) fn begin(
        &self,
        index: u64,
        chain: [u8; 32],
        (at, members): (order::Position, &Members),
        saved: impl FnOnce(PathBuf, Vec<Kept>) + Send + 'static,
    ) -> Result<Writing, SnapshotError> {
        // Two of the same index would write to one file.
        self.settle();
        let at = Position { term: at.term, index: at.index };
        let members = encode_members(members);
        let meta = Meta { space: self.space, index, chain, at, members };
        let writer = Writer::create(&self.disk, folder(), &meta)?;
        let (items, queue) = mpsc::sync_channel(QUEUE);
        let (all, disk) = (self.clone(), self.disk.clone());
        let writer = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || match write(writer, &queue, &disk) {
                Ok(Some(path)) => {
                    let path = disk.root().join(path);
                    all.newest.send_replace(Some(Arc::new(Saved { index, path: path.clone() })));
                    let kept = all.kept().unwrap_or_else(|e| {
                        tracing::warn!("snapshots cannot be looked at: {e}");
                        Vec::new()
                    });
                    saved(path, kept);
                }
                Ok(None) => {}
                Err(e) => tracing::warn!("the snapshot of index {index} was given up: {e}"),
            })
            .map_err(SnapshotError::Thread)?;
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(Writing { index, items, waiting: None })
    }

    /// Writes a state of the past to a file of its own, and returns its absolute path.
    pub(super) fn write_past(&self, mut state: State) -> Result<PathBuf, SnapshotError> {
        let path = self.write_to(past(), &mut state, Position::default())?;
        snapshot::sweep(&self.disk, past(), KEPT_PAST)?;
        Ok(self.disk.root().join(path))
    }

    /// Writes a state whose commands end with the entry `at` of Raft's log. Blocks.
    pub(crate) fn write_now(&self, state: &mut State, at: Position) -> Result<(), SnapshotError> {
        self.write_to(folder(), state, at)?;
        thin(&self.disk)
    }

    fn write_to(
        &self,
        folder: &Path,
        state: &mut State,
        at: Position,
    ) -> Result<PathBuf, SnapshotError> {
        self.disk.create_dir(folder)?;
        let (index, chain) = (state.index(), state.chain());
        let meta = Meta { space: self.space, index, chain, at, members: Bytes::new() };
        let mut writer = Writer::create(&self.disk, folder, &meta)?;
        state.begin_snapshot();
        while let Some(item) = state.snapshot_step() {
            writer.chunk(SECTION, &item)?;
        }
        Ok(writer.finish()?)
    }

    /// The state in a snapshot that came from elsewhere, which becomes the newest.
    pub(super) fn install(&self, file: &Path) -> Result<State, SnapshotError> {
        let relative = file.strip_prefix(self.disk.root()).unwrap_or(file);
        let (state, ..) = self.load(relative)?;
        let saved = Saved { index: state.index(), path: file.to_path_buf() };
        self.newest.send_replace(Some(Arc::new(saved)));
        Ok(state)
    }

    /// The state in a snapshot that another member has sent, and where it stands; it is none of this
    /// node's yet.
    pub(super) fn look_into(&self, file: &Path) -> Result<(State, order::Position), SnapshotError> {
        let relative = file.strip_prefix(self.disk.root()).unwrap_or(file);
        self.load(relative).map(|(state, at, _)| (state, at))
    }

    /// Removes one that is wrong.
    pub(super) fn remove(&self, file: &Path) -> Result<(), SnapshotError> {
        let relative = file.strip_prefix(self.disk.root()).unwrap_or(file);
        Ok(self.disk.remove(relative)?)
    }

    fn load(
        &self,
        path: &Path,
    ) -> Result<(State, order::Position, Option<Members>), SnapshotError> {
        let reader = Reader::open(&self.disk, path, Some(self.space))?;
        let at = reader.meta().at;
        let members = decode_members(&reader.meta().members);
        let mut restore = Restore::whole();
        let wrong = |why| SnapshotError::Restore { path: path.to_path_buf(), why };
        for chunk in reader {
            restore.item(&chunk?.items).map_err(wrong)?;
        }
        let state = restore.finish().map_err(wrong)?;
        Ok((state, order::Position { index: at.index, term: at.term }, members))
    }
}

/// A space's newest state on disk.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) at: order::Position,
    /// Raft's members there; none in a snapshot of an import, which has its founder alone.
    pub(super) members: Option<Members>,
    pub(super) path: PathBuf,
}

fn encode_members(members: &Members) -> Bytes {
    let mut w = cbor::Writer::new();
    members.encode_into(&mut w);
    w.into_vec().into()
}

/// Raft's members in a snapshot's header.
pub(crate) fn decode_members(bytes: &[u8]) -> Option<Members> {
    let mut r = cbor::Reader::new(bytes);
    Members::decode_from(&mut r).ok().filter(|_| r.is_at_end())
}

impl Writing {
    /// The index of the state that is being written.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Whether there is room for an item now.
    pub(super) fn has_room(&mut self) -> Result<bool, SnapshotError> {
        let Some(item) = self.waiting.take() else { return Ok(true) };
        match self.items.try_send(item) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(item)) => {
                self.waiting = Some(item);
                Ok(false)
            }
            Err(TrySendError::Disconnected(_)) => Err(SnapshotError::GivenUp),
        }
    }

    /// Hands an item over, once there is room.
    pub(super) fn item(&mut self, item: Bytes) {
        self.waiting = Some(item);
    }

    /// Hands over the mark of the end: without it the file is thrown away.
    pub(super) fn finish(self) {
        // If the thread has given up it has said why.
        drop(self.items.send(Bytes::new()));
    }
}

/// Writes items until the mark of the end. None if it never comes: the snapshot was given up.
fn write(
    mut writer: Writer<FsDisk>,
    items: &mpsc::Receiver<Bytes>,
    disk: &FsDisk,
) -> Result<Option<PathBuf>, SnapshotError> {
    while let Ok(item) = items.recv() {
        if item.is_empty() {
            let path = writer.finish()?;
            if let Err(e) = thin(disk) {
                tracing::warn!("old snapshots were not removed: {e}");
            }
            return Ok(Some(path));
        }
        writer.chunk(SECTION, &item)?;
    }
    writer.abandon()?;
    Ok(None)
}

/// Removes the snapshots that are too many, and what unfinished ones left.
fn thin(disk: &FsDisk) -> Result<(), SnapshotError> {
    let mut kept = Vec::new();
    for (index, path) in snapshot::list(disk, folder())? {
        kept.push((index, disk.open_read(&path)?.len()?, path));
    }
    let sizes: Vec<(u64, u64)> = kept.iter().map(|(index, bytes, _)| (*index, *bytes)).collect();
    for place in too_many(&sizes, KEPT, KEPT_BYTES) {
        disk.remove(&kept[place].2)?;
    }
    snapshot::sweep(disk, folder(), KEPT)?;
    Ok(())
}

/// Which of these snapshots go, by their places: of index and size, newest first. The newest two stay in
/// any case, for one of them may be damaged; else the one goes whose neighbours are closest.
fn too_many(kept: &[(u64, u64)], most: usize, most_bytes: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..kept.len()).collect();
    let mut gone = Vec::new();
    loop {
        let bytes: u64 = left.iter().map(|&place| kept[place].1).sum();
        if left.len() <= 2 || left.len() <= most && bytes <= most_bytes {
            return gone;
        }
        // Before the first snapshot is the log's beginning.
        let index = |n: usize| left.get(n).map_or(0, |&place| kept[place].0);
        let closest = (2..left.len()).min_by_key(|&n| index(n - 1) - index(n + 1));
        let Some(closest) = closest else { return gone };
        gone.push(left.remove(closest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_spread_evenly_and_bounded() {
        let mut kept: Vec<(u64, u64)> = Vec::new();
        for n in 1..=1000u64 {
            kept.insert(0, (n * 10, 1));
            let gone = too_many(&kept, 8, u64::MAX);
            let indexes: Vec<u64> = gone.iter().map(|&place| kept[place].0).collect();
            kept.retain(|(index, _)| !indexes.contains(index));
            assert!(kept.len() <= 8 && kept[0].0 == n * 10);
        }
        let mut gaps: Vec<u64> = kept.windows(2).map(|two| two[0].0 - two[1].0).collect();
        gaps.push(kept.last().unwrap().0);
        assert!(gaps.iter().all(|gap| *gap <= 10_000 / 2), "{gaps:?}");
    }

    #[test]
    fn bytes_are_bounded_but_for_the_newest_two() {
        let kept: Vec<(u64, u64)> = (1..=10).rev().map(|n| (n, 100)).collect();
        assert_eq!(too_many(&kept, 64, 1000), Vec::<usize>::new());
        assert_eq!(too_many(&kept, 64, 450).len(), 6);
        let gone = too_many(&kept, 64, 0);
        assert!(gone.len() == 8 && !gone.contains(&0) && !gone.contains(&1));
    }
}
