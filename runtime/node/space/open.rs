//! Opening a space: the newest snapshot, the log behind it, and the threads.

use super::apply_thread::{Applier, ApplyInput, ApplyThread};
use super::group::{Group, Me};
use super::links::Links;
use super::log_writer::{LogWriter, closed_at};
use super::mailbox::{Receiver, Sender, mailbox};
use super::observing::{ObserverThread, Observing};
use super::order_thread::{OrderInput, OrderThread, Waiting, since};
use super::polling::Polling;
use super::session::NodeSession;
use super::snapshots::{Loaded, SnapshotError, Snapshots};
use super::{Feed, Inner, Leader, Marking, Shared, Space};
use crate::past::batch_of;
use crate::store::fs_disk::FsDisk;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use synod_core::apply::State;
use synod_core::command::Batch;
use synod_core::group::observer::{Anchor, Observer};
use synod_core::group::{Coordinator, Identity, MAX_FOREIGN_BYTES, Place, resumed};
use synod_core::log::disk::{Disk, DiskError};
use synod_core::log::{self, Limits, Log, OpenError, ReadError};
use synod_core::order::{self, Config, Members, Order, Recovered, StartError};
use synod_core::retention::Retention;

/// The Raft id of who founds a space: the first that is handed out.
pub(crate) const FOUNDER: u64 = 1;
/// Ticks of 100 ms without word from the leader after which somebody stands for election, at least.
const ELECTION_TICKS: u32 = 6;
/// Ticks between a leader's heartbeats: two in a row may be lost before another stands for election.
const HEARTBEAT_TICKS: u32 = 2;
/// How long a leader's followers wait to hear of a commit, if no entries come with the word of it.
const NOTICE_AFTER: Duration = Duration::from_millis(3);

/// The file in a space's folder that says that it has had a log.
pub(crate) const BEGUN: &str = "begun";
/// The file in a space's folder that says that its log has lost what this node gave its word for.
pub(crate) const SHORTENED: &str = "shortened";

/// What a space is opened with.
#[derive(Clone, Debug)]
pub struct OpenSpace {
    /// The name on this node.
    pub name: String,
    /// The hash of its genesis.
    pub id: [u8; 32],
    /// Its folder, which exists.
    pub folder: PathBuf,
    /// Bytes that must stay free on the disk.
    pub min_free: u64,
    /// How long after a part of a small write the next is looked for before a thread sleeps; none, if never.
    pub busy_poll: Duration,
    /// The node's name.
    pub node: String,
    /// Differs from start to start.
    pub seed: [u8; 16],
    /// Who this node is among the members.
    pub(crate) me: Me,
    /// Whom to believe at first, if this node follows the space without being a member of it.
    pub(crate) observes: Option<Anchor>,
    /// When the state is marked, for the voters to agree on.
    pub(crate) marking: Marking,
    /// The way to the others.
    pub(crate) links: Arc<dyn Links>,
}

/// Why a space cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSpaceError {
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log is gone.
    #[error("{} is gone or empty, and the space has had a log: put it back, or start with another data folder", .0.display())]
    LogMissing(PathBuf),
    /// The log is shorter than it was.
    #[error(
        "{} ends at entry {last}, and had come to entry {closed} when it was closed: what was \
         acknowledged behind that is lost; put the log back, or remove {} to go on without it",
        log.display(), mark.display()
    )]
    LogShort {
        /// The log's folder.
        log: PathBuf,
        /// The last entry.
        last: u64,
        /// The last entry that there was.
        closed: u64,
        /// The file that says so.
        mark: PathBuf,
    },
    /// It was seen that the log has lost what this node gave its word for.
    #[error("{0}")]
    Shortened(String),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The newest snapshots cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What was read does not fit together.
    #[error(transparent)]
    Order(#[from] StartError),
    /// It cannot be read how much is to be kept.
    #[error("{}: {why}; write `everything` into it, or what is to be kept", path.display())]
    Retention {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl OpenSpaceError {
    /// Whether what this node gave its word for is lost: it may not take part under the id that it had.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Self::Log(e) => matches!(e, OpenError::Damaged(_) | OpenError::Missing(_)),
            Self::LogMissing(_) | Self::LogShort { .. } | Self::Shortened(_) => true,
            _ => false,
        }
    }
}

impl OpenSpace {
    /// Opens the space; creates it if its folder is empty.
    pub fn open(self) -> Result<Space, OpenSpaceError> {
        let disk = FsDisk::new(&self.folder);
        if let Ok(why) = std::fs::read_to_string(self.folder.join(SHORTENED)) {
            return Err(OpenSpaceError::Shortened(why));
        }
        let (snapshots, newest) = Snapshots::open(disk.clone(), self.id)?;
        super::received::sweep(&disk)?;
        let retention = super::retaining::read(&disk)?;
        let founders = || Members::of_voters([FOUNDER]);
        let (mut state, applied, at_snapshot, file) = match newest {
            Some(Loaded { state, at, members, path }) => {
                (state, at, members.unwrap_or_else(founders), Some(path))
            }
            None => (State::new(self.id), order::Position::default(), founders(), None),
        };
        let (snapshot_time, mut members) =
            (file.as_ref().map(|_| state.time()), at_snapshot.clone());
        let log = self.open_log(&disk, applied)?;
        let (last, closed) = (log.last().index, closed_at(&self.folder));
        if last < closed {
            let (log, mark) = (self.folder.join("log"), self.folder.join("closed"));
            return Err(OpenSpaceError::LogShort { log, last, closed, mark });
        }
        let (before, terms) = (log.before(), log.terms(log.before().index));
        let feed = Feed::new(state.index());

        // What is known to be committed is applied without going through Raft, and without being in
        // memory at once.
        let hard_state = log.hard_state();
        let last = log.last().index;
        // A node that only observes writes nothing else.
        let commit = if self.observes.is_some() { last } else { hard_state.commit };
        let commit = commit.clamp(applied.index, last.max(applied.index));
        let reader = log.reader();
        let hard_state = order::HardState { term: hard_state.term, vote: hard_state.vote, commit };
        let mut tail = Vec::new();
        for entry in reader.entries(commit + 1, last + 1)? {
            let entry = entry?;
            let kind = order::EntryKind::from_number(u64::from(entry.kind));
            let changes = kind.filter(|kind| *kind == order::EntryKind::ConfChange);
            tail.extend(changes.map(|kind| (entry.term, entry.index, kind, entry.data)));
        }
        let resumed = resumed(self.me.member, hard_state, tail);
        let commit = resumed.commit;
        let mut through = applied;
        for entry in reader.entries(applied.index + 1, commit + 1)? {
            let entry = entry?;
            let batch = batch_of(&entry);
            if !batch.is_empty() {
                apply(&mut state, &feed, &batch);
            }
            if entry.kind == order::EntryKind::ConfChange.number() as u8 {
                members = members.after_change(&entry.data);
            }
            through = order::Position { term: entry.term, index: entry.index };
        }
        let mut entries = Vec::new();
        for entry in reader.entries(through.index + 1, last + 1)? {
            let entry = entry?;
            let kind = order::EntryKind::from_number(u64::from(entry.kind));
            entries.push(order::Entry {
                term: entry.term,
                index: entry.index,
                kind: kind.unwrap_or(order::EntryKind::Normal),
                data: entry.data,
            });
        }

        let snapshot = order::SnapshotMeta { position: applied, members: at_snapshot };
        let recovered = Recovered {
            hard_state: order::HardState { commit: through.index, ..resumed },
            members: members.clone(),
            applied: through.index,
            before: order::Position { index: before.index, term: before.term },
            terms: terms
                .into_iter()
                .filter(|run| run.index <= through.index)
                .map(|run| order::Position { index: run.index, term: run.term })
                .collect(),
            entries,
            snapshot: (applied.index > 0).then(|| snapshot.clone()),
        };
        let started = origin();
        let opened = Opened {
            disk,
            log,
            state,
            feed,
            snapshots,
            through,
            started,
            members,
            snapshot_time,
            retention,
        };
        if let Some(anchor) = self.observes.clone() {
            return self.observe(opened, file.map_or(0, |_| applied.index), anchor);
        }
        let generation = self.me.generation.max(opened.state.membership().generation());
        let seed = seed_of(self.seed);
        let config = Config {
            generation,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: HEARTBEAT_TICKS,
            notice_after: NOTICE_AFTER,
            ..Config::new(self.me.member, self.id, seed)
        };
        let order = Order::new(config.clone(), recovered, since(started))?;
        let snapshot = file.map(|file| (snapshot, file));
        self.start(opened, order, config, snapshot)
    }

    fn open_log(
        &self,
        disk: &FsDisk,
        applied: order::Position,
    ) -> Result<Log<FsDisk>, OpenSpaceError> {
        let dir = Path::new("log");
        match Log::open(disk.clone(), dir, self.id, Limits::default()) {
            Ok((mut log, recovered)) => {
                if let Some(cut) = &recovered.cut {
                    tracing::warn!(
                        "{cut}; they are cut off: a write that was not finished, of which nothing was acknowledged, \
                         unless the disk has lost what it had said to be safe"
                    );
                }
                for name in &recovered.ignored {
                    tracing::warn!("{name} in the log's folder is not part of it: left alone");
                }
                log.install(log::Position { term: applied.term, index: applied.index })?;
                Ok(log)
            }
            // A space that has had a log is not given an empty one: that would forget what it has
            // acknowledged.
            Err(OpenError::Empty(_)) if disk.list(Path::new(""))?.iter().any(|n| n == BEGUN) => {
                Err(OpenSpaceError::LogMissing(self.folder.join(dir)))
            }
            Err(OpenError::Empty(_)) => {
                disk.create_dir(dir)?;
                let start = log::Position::default();
                let log = Log::create(disk.clone(), dir, self.id, start, Limits::default())?;
                disk.create(Path::new(BEGUN))?;
                disk.sync_dir(Path::new(""))?;
                Ok(log)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Goes on as a member.
    fn start(
        mut self,
        opened: Opened,
        order: Order,
        config: Config,
        snapshot: Option<(order::SnapshotMeta, PathBuf)>,
    ) -> Result<Space, OpenSpaceError> {
        self.me.generation = config.generation;
        let (last, through, started) = (opened.log.last().index, opened.through, opened.started);
        let is_alone = opened.members.is_sole_voter(self.me.member);
        let (member, boot) = (self.me.member, seed_of(self.seed));
        let (laid, apply_thread) = self.lay_out(opened);
        let group = Group::new(&self.me, Arc::clone(&self.links));
        let Me { peer, contacts, .. } = self.me.clone();
        let generation = self.me.generation;
        let identity = Identity { member, peer, boot, generation, contacts };
        let order_thread = OrderThread {
            id: self.id,
            order,
            config,
            inputs: laid.order_inputs,
            to_self: laid.to_order.clone(),
            group,
            coordinator: Coordinator::new(identity, MAX_FOREIGN_BYTES),
            log: LogWriter::new(laid.log, Arc::clone(&laid.shared)),
            disk: laid.disk,
            apply: laid.to_apply.clone(),
            applier: Arc::clone(&apply_thread.applier),
            snapshots: Arc::clone(&laid.snapshots),
            shared: Arc::clone(&laid.shared),
            started,
            waiting: Waiting::from_snapshot(snapshot, through.index),
            is_mute: false,
            polling: Polling::new(self.busy_poll),
        };
        let threads = [
            ("order", Box::new(move || order_thread.run()) as Work),
            ("apply", Box::new(move || apply_thread.run())),
        ];
        let inner = self.inner(laid.handle, threads, None)?;
        if is_alone {
            // A sole voter elects itself and finds that all of its log is committed: whoever opens
            // the space sees what was acknowledged before.
            let (reached, waiting) = mpsc::sync_channel(1);
            drop(inner.apply.send(ApplyInput::Await { raft_index: last, reached }));
            let _ = waiting.recv();
        }
        Ok(Space { inner: Arc::new(inner) })
    }

    /// Goes on as a node that follows the space and is no member. `snapshot` is the last entry in the newest
    /// one.
    fn observe(
        mut self,
        opened: Opened,
        snapshot: u64,
        anchor: Anchor,
    ) -> Result<Space, OpenSpaceError> {
        let Opened { through, started, .. } = opened;
        let at = log::Position { term: through.term, index: through.index };
        let place = Place { at, chain: opened.state.place() };
        let members = opened.members.clone();
        self.me.generation = opened.state.membership().generation();
        let (laid, apply_thread) = self.lay_out(opened);
        laid.shared.set_observed();
        laid.shared.set_applied(at.index, place.chain.index);
        laid.shared.set_leader(Leader { role: "observer", term: at.term, leader: None });
        let links = Arc::clone(&self.links);
        let observing = Observing::new(Arc::clone(&links), self.id, started, &anchor);
        let observing = Arc::new(observing);
        let memory = super::observing::memory::read(&laid.disk);
        let seed = seed_of(self.seed);
        let observer_thread = ObserverThread {
            id: self.id,
            machine: Observer::new(self.id, anchor, place, memory, seed, since(started)),
            inputs: laid.order_inputs,
            to_self: laid.to_order.clone(),
            log: LogWriter::new(laid.log, Arc::clone(&laid.shared)),
            disk: laid.disk,
            apply: laid.to_apply.clone(),
            snapshots: Arc::clone(&laid.snapshots),
            shared: Arc::clone(&laid.shared),
            links,
            observing: Arc::clone(&observing),
            started,
            members,
            snapshot,
            kept: Vec::new(),
            looked: None,
        };
        let threads = [
            ("observe", Box::new(move || observer_thread.run()) as Work),
            ("apply", Box::new(move || apply_thread.run())),
        ];
        let inner = self.inner(laid.handle, threads, Some(observing))?;
        Ok(Space { inner: Arc::new(inner) })
    }

    /// What both have.
    fn lay_out(&self, opened: Opened) -> (Laid, ApplyThread) {
        let Opened { disk, log, state, feed, snapshots, through, members, .. } = opened;
        let membership = state.membership().clone();
        let told_membership = membership.changed_at();
        let (member, generation) = (self.me.member, self.me.generation);
        let ids = (member, generation);
        let shared = Arc::new(Shared::new(disk.clone(), self.min_free, membership, ids));
        shared.set_retention(opened.retention);
        shared.set_agreed(self.marking.agreed_by(&state));
        let (feed, snapshots) = (Arc::new(feed), Arc::new(snapshots));
        let (to_order, order_inputs) = mailbox();
        let (to_apply, apply_inputs) = mailbox();
        let applier = Applier {
            space: self.id,
            marking: self.marking.clone().begin(&state),
            state,
            order: to_order.clone(),
            to_self: to_apply.clone(),
            feed: Arc::clone(&feed),
            snapshots: Arc::clone(&snapshots),
            through,
            since_snapshot: 0,
            writing: None,
            snapshot_time: opened.snapshot_time,
            awaited: Vec::new(),
            reaching: Vec::new(),
            shared: Arc::clone(&shared),
            members,
            me: member,
            boot: seed_of(self.seed),
            told_membership,
            order_knows: told_membership,
            untold_bytes: 0,
            wanted: None,
        };
        let applier = Arc::new(Mutex::new(applier));
        let apply_thread = ApplyThread { applier, inputs: apply_inputs };
        let handle = Handle {
            order: to_order.clone(),
            apply: to_apply.clone(),
            feed,
            shared: Arc::clone(&shared),
            snapshots: Arc::clone(&snapshots),
        };
        let laid = Laid { disk, log, shared, snapshots, order_inputs, to_order, to_apply, handle };
        (laid, apply_thread)
    }

    /// Starts the threads.
    fn inner(
        self,
        handle: Handle,
        threads: [(&str, Work); 2],
        observing: Option<Arc<Observing>>,
    ) -> Result<Inner, OpenSpaceError> {
        let spawn = |(role, run): (&str, Work)| {
            thread::Builder::new().name(format!("{role} {}", self.name)).spawn(run)
        };
        let threads = threads.into_iter().map(spawn).collect::<Result<Vec<_>, _>>()?;
        let Handle { order, apply, feed, shared, snapshots } = handle;
        Ok(Inner {
            name: self.name,
            id: self.id,
            order,
            apply,
            feed,
            shared,
            snapshots,
            node_session: NodeSession::new(self.node, self.seed),
            observing,
            known: Default::default(),
            threads: Mutex::new(threads),
            meter: Default::default(),
        })
    }
}

/// What a thread does.
type Work = Box<dyn FnOnce() + Send>;

/// What a space's threads have in common.
struct Laid {
    disk: FsDisk,
    log: Log<FsDisk>,
    shared: Arc<Shared>,
    snapshots: Arc<Snapshots>,
    order_inputs: Receiver<OrderInput>,
    to_order: Sender<OrderInput>,
    to_apply: Sender<ApplyInput>,
    handle: Handle,
}

/// What the handle to them has.
struct Handle {
    order: Sender<OrderInput>,
    apply: Sender<ApplyInput>,
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    snapshots: Arc<Snapshots>,
}

/// What a space's threads start from.
struct Opened {
    disk: FsDisk,
    log: Log<FsDisk>,
    state: State,
    feed: Feed,
    snapshots: Snapshots,
    through: order::Position,
    started: Instant,
    members: Members,
    snapshot_time: Option<u64>,
    retention: Retention,
}

/// Where the time of all spaces is counted from, so that their ticks come together.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

fn seed_of(seed: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = seed;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn apply(state: &mut State, feed: &Feed, data: &bytes::Bytes) {
    match Batch::decode(data) {
        Ok(batch) => {
            let changes: Vec<_> = batch
                .commands
                .iter()
                .filter_map(|command| state.apply(batch.time, command).change.map(Arc::new))
                .collect();
            feed.push(state.index(), changes);
        }
        Err(e) => tracing::error!("a log entry is not a batch of commands: {e}"),
    }
}
