//! What the apply thread does, as `runtime/node/space/apply_thread.rs`.

use super::marking::{MARK_EVERY, Marking};
use super::node::{Effect, Ended, OrderInput, Running, SPACE};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use synod_core::apply::{Restore, State};
use synod_core::cbor;
use synod_core::command::{Batch, Tag};
use synod_core::log::disk::Disk as _;
use synod_core::log::{self};
use synod_core::order::{Members, Position, SnapshotMeta};
use synod_core::retention::Kept;
use synod_core::snapshot::{self, Meta, Reader, SnapshotError, Writer};
use synod_sim::disk::SimDisk;

/// Snapshots that are kept.
const KEPT: usize = 3;
/// Bytes of commands after which a snapshot is taken without being asked for.
const SNAPSHOT_BYTES: usize = 6_000;
/// Bytes of commands after which *order* is woken to know of them.
const MAX_UNTOLD: usize = 2_000;

/// What the apply thread is told.
pub(crate) enum ApplyInput {
    Commit { index: u64, term: u64, data: Bytes, members: Option<Members> },
    Through(Position),
    SnapshotOfRaft { at_least: u64 },
    Install { file: PathBuf, at: Position, members: Members },
}

/// A snapshot that is being written.
pub(crate) struct Writing {
    writer: Writer<SimDisk>,
    meta: SnapshotMeta,
}

pub(crate) struct Apply {
    pub(crate) state: State,
    pub(crate) inputs: VecDeque<ApplyInput>,
    pub(crate) through: Position,
    pub(crate) members: Members,
    pub(crate) told_membership: u64,
    pub(crate) writing: Option<Writing>,
    pub(crate) since_snapshot: usize,
    /// Bytes of commands since *order* was last woken, and when the membership changed of which it was.
    pub(crate) untold_bytes: usize,
    pub(crate) order_knows: u64,
    /// Reads that wait for a Raft index, by request.
    pub(crate) reaching: Vec<(u64, u64)>,
}

pub(crate) fn folder() -> &'static Path {
    Path::new("snapshots")
}

impl Running {
    /// Takes so many inputs in.
    pub(crate) fn apply_some(&mut self, count: usize) {
        if self.is_rebuilding() {
            return;
        }
        let before = self.apply.through;
        for _ in 0..count {
            let Some(input) = self.apply.inputs.pop_front() else { break };
            self.apply_one(input);
        }
        if self.apply.through.index > before.index {
            self.tell_reached();
            self.tell_order();
        }
        if self.apply.since_snapshot >= SNAPSHOT_BYTES {
            self.begin_snapshot();
        }
    }

    /// Order looks by itself how far the state has come whenever it is awake, and is woken only for what
    /// cannot wait until then.
    fn tell_order(&mut self) {
        let changed = self.membership.changed_at();
        if self.apply.untold_bytes >= MAX_UNTOLD || changed != self.apply.order_knows {
            (self.apply.untold_bytes, self.apply.order_knows) = (0, changed);
            self.inputs.push_back(OrderInput::Applied);
        }
    }

    fn apply_one(&mut self, input: ApplyInput) {
        match input {
            ApplyInput::Commit { index, term, data, members } => {
                if !data.is_empty() {
                    self.apply_batch(&data);
                }
                if let Some(members) = members {
                    self.apply.members = members;
                }
                self.apply.through = Position { index, term };
                self.judge();
            }
            ApplyInput::Through(through) => self.apply.through = through,
            ApplyInput::SnapshotOfRaft { at_least } => {
                let is_coming = self.apply.writing.is_some();
                if !is_coming && self.apply.through.index >= at_least {
                    self.begin_snapshot();
                }
            }
            ApplyInput::Install { file, at, members } => self.take_in(&file, at, members),
        }
    }

    fn apply_batch(&mut self, data: &Bytes) {
        self.apply.since_snapshot += data.len();
        self.apply.untold_bytes += data.len();
        let batch = match Batch::decode(data) {
            Ok(batch) => batch,
            Err(e) => return self.effects.push(Effect::Note("no batch", e.to_string())),
        };
        self.mark_for_checkpoint(&batch);
        let (first, mut commands) = (self.apply.state.index() + 1, Vec::new());
        for command in &batch.commands {
            let applied = self.apply.state.apply(batch.time, command);
            commands.push((command.clone(), applied.outcome));
            if applied.index.is_multiple_of(MARK_EVERY) {
                self.mark();
            }
        }
        self.tell_membership();
        let mut ended: Vec<_> = commands.iter().map(|(_, outcome)| Some(outcome.clone())).collect();
        let state = (self.apply.state.chain(), self.apply.state.digest());
        let state = (!self.is_broken).then_some(state);
        self.effects.push(Effect::Applied { first, commands, state });
        let is_own = |tag: &&Tag| (tag.member, tag.boot) == (self.me.member, self.boot);
        for tag in batch.tags.iter().filter(is_own) {
            let effects = &mut self.effects;
            self.own.end(tag.first, tag.count, |place, request| {
                let outcome = ended.get_mut(tag.place as usize + place).and_then(Option::take);
                if let Some(outcome) = outcome {
                    effects.push(Effect::Ended(request, Ended::Applied(outcome)));
                }
            });
        }
    }

    pub(crate) fn tell_reached(&mut self) {
        if self.serves_not() {
            return;
        }
        let through = self.apply.through.index;
        let (there, waiting) =
            self.apply.reaching.drain(..).partition(|(raft_index, _)| *raft_index <= through);
        self.apply.reaching = waiting;
        let there: Vec<(u64, u64)> = there;
        for (_, request) in there {
            self.effects.push(Effect::Ended(request, Ended::Readable(through)));
        }
    }

    fn tell_membership(&mut self) {
        let membership = self.apply.state.membership();
        if membership.changed_at() != self.apply.told_membership {
            self.apply.told_membership = membership.changed_at();
            self.membership = membership.clone();
        }
    }

    fn take_in(&mut self, file: &Path, at: Position, members: Members) {
        self.apply.writing = None;
        match load(&self.disk, file) {
            Ok((state, ..)) => {
                self.apply.state = state;
                (self.apply.through, self.apply.members) = (at, members);
                self.is_broken = false;
                self.apply.since_snapshot = 0;
                self.marking = Marking::begin(&self.apply.state);
                self.membership = self.apply.state.membership().clone();
                self.apply.told_membership = self.membership.changed_at();
                let state = &self.apply.state;
                let place = (state.chain(), state.digest());
                self.effects.push(Effect::Installed(state.index(), place));
            }
            Err(e) => self.fatal(format!("a snapshot that was taken in is gone: {e}")),
        }
    }

    pub(crate) fn begin_snapshot(&mut self) {
        self.apply.since_snapshot = 0;
        let index = self.apply.state.begin_snapshot();
        let (through, members) = (self.apply.through, self.apply.members.clone());
        let mut w = cbor::Writer::new();
        members.encode_into(&mut w);
        let file = Meta {
            space: SPACE,
            index,
            chain: self.apply.state.chain(),
            at: log::Position { term: through.term, index: through.index },
            members: w.into_vec().into(),
        };
        let meta = SnapshotMeta { position: through, members };
        match Writer::create(&self.disk, folder(), &file) {
            Ok(writer) => self.apply.writing = Some(Writing { writer, meta }),
            Err(e) => self.abandon(&e),
        }
    }

    fn abandon(&mut self, why: &SnapshotError) {
        self.apply.writing = None;
        self.apply.state.abandon_snapshot();
        self.effects.push(Effect::Note("no snapshot", why.to_string()));
    }

    /// Writes so many items of the snapshot under way; at its end it is safe, and order is told.
    pub(crate) fn write_snapshot(&mut self, items: usize) {
        for _ in 0..items {
            let Some(mut writing) = self.apply.writing.take() else { return };
            match self.apply.state.snapshot_step() {
                Some(item) => match writing.writer.chunk(0, &item) {
                    Ok(()) => self.apply.writing = Some(writing),
                    Err(e) => return self.abandon(&e),
                },
                None => match writing.writer.finish() {
                    Ok(file) => {
                        let meta = writing.meta;
                        if let Err(e) = snapshot::sweep(&self.disk, folder(), KEPT) {
                            self.effects.push(Effect::Note("not swept", e.to_string()));
                        }
                        return self.inputs.push_back(OrderInput::SnapshotSaved { meta, file });
                    }
                    Err(e) => return self.abandon(&e),
                },
            }
        }
    }
}

/// The state in a snapshot, and where in Raft's log it stands.
pub(crate) fn load(disk: &SimDisk, path: &Path) -> Result<(State, Position, Members), String> {
    let text = |e: SnapshotError| e.to_string();
    let reader = Reader::open(disk, path, Some(SPACE)).map_err(text)?;
    let meta = reader.meta().clone();
    let mut restore = Restore::whole();
    for chunk in reader {
        restore.item(&chunk.map_err(text)?.items).map_err(|e| e.to_string())?;
    }
    let state = restore.finish().map_err(|e| e.to_string())?;
    let position = Position { index: meta.at.index, term: meta.at.term };
    Ok((state, position, members_of(&meta).ok_or("no members")?))
}

fn members_of(meta: &Meta) -> Option<Members> {
    let mut r = cbor::Reader::new(&meta.members);
    Members::decode_from(&mut r).ok().filter(|_| r.is_at_end())
}

/// Puts a snapshot that has come from another member among this one's, as `space/received.rs`.
pub(crate) fn receive(
    disk: &SimDisk,
    bytes: &[u8],
    number: u64,
) -> Result<(PathBuf, SnapshotMeta), String> {
    use synod_core::log::disk::File as _;
    let aside = folder().join(format!("incoming-{number}"));
    let file = disk.create(&aside).map_err(|e| e.to_string())?;
    if let Err(e) = file.write_at(0, bytes) {
        drop(disk.remove(&aside));
        return Err(e.to_string());
    }
    let (path, meta) = snapshot::adopt(disk, folder(), &aside, SPACE).map_err(|e| e.to_string())?;
    let position = Position { index: meta.at.index, term: meta.at.term };
    let members = members_of(&meta).ok_or("no members")?;
    Ok((path, SnapshotMeta { position, members }))
}

/// The snapshots that are kept, newest first.
pub(crate) fn kept(disk: &SimDisk) -> Result<Vec<Kept>, SnapshotError> {
    let mut kept = Vec::new();
    for (index, path) in snapshot::list(disk, folder())? {
        // Nothing here goes by time.
        let raft_index = Reader::open(disk, &path, Some(SPACE))?.meta().at.index;
        kept.push(Kept { index, raft_index, time: 0 });
    }
    Ok(kept)
}

pub(crate) fn remove_before(disk: &SimDisk, index: u64) -> Result<(), SnapshotError> {
    for (found, path) in snapshot::list(disk, folder())? {
        if found < index {
            disk.remove(&path)?;
        }
    }
    Ok(disk.sync_dir(folder())?)
}
