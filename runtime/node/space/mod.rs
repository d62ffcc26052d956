//! A space on this node: two threads and the handle to them.
//!
//! ```text
//!  propose ──► order            order: puts proposals into batches, runs Raft; one write and one
//!              ▲ │                     fdatasync for all that has queued
//!      applied │ ▼ committed    apply: owns the state, answers, feeds engines and agents
//!              apply ──► feed
//! ```
//! What queues between them is bounded by what *order* lets in: proposals by [`MAX_PROPOSALS`] and
//! [`MAX_PROPOSAL_BYTES`], commits by its bytes unapplied.

mod apply_thread;
mod feed;
mod group;
mod history;
mod links;
mod log_writer;
mod mailbox;
mod observing;
mod open;
mod order_thread;
mod polling;
mod proposal;
mod received;
mod retaining;
mod serving;
mod session;
mod shared;
pub(crate) mod snapshots;
#[cfg(test)]
mod tests;
mod watching;

use crate::api::{ErrorBody, ObservedInfo, SpaceInfo};
pub(crate) use crate::hex::hex;
use crate::near;
use crate::past::{Past, PastError};
use crate::rates::Meter;
use crate::store::FsDisk;
use apply_thread::ApplyInput;
pub(crate) use apply_thread::{Marking, SNAPSHOT_BYTES};
use bytes::Bytes;
pub use feed::{Changes, Feed};
pub(crate) use group::Me;
pub use history::History;
pub(crate) use links::{Done, Lane, Links, NoLinks, Offer};
pub(crate) use log_writer::closed_at;
use mailbox::Sender;
pub(crate) use observing::{Answered, Served};
use observing::{Known, Observing};
pub(crate) use open::{BEGUN, FOUNDER};
pub use open::{OpenSpace, OpenSpaceError};
use order_thread::OrderInput;
pub use polling::BUSY_POLL;
use proposal::Pending;
pub use proposal::{Ended, MAX_PROPOSAL_BYTES, MAX_PROPOSALS, NotProposed, Proposal, Reply};
pub(crate) use received::ReceivedSnapshot;
pub(crate) use retaining::FILE as RETENTION;
pub(crate) use serving::Reading;
#[cfg(test)]
pub(crate) use serving::Standing;
pub use serving::Unserved;
use session::NodeSession;
use shared::Shared;
pub(crate) use shared::{Leader, Reached, error};
pub use snapshots::SnapshotError;
use snapshots::Snapshots;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SendError;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use synod_core::apply::{MAX_AGENTS, MAX_MODULES, Membership, State};
use synod_core::command::Command;
use synod_core::group::Ask;
use synod_core::kb::MAX_PREDICATES;
use synod_core::order::SnapshotMeta;
use synod_core::retention::Retention;
use tokio::sync::oneshot;

/// Bytes of frames of other members that wait for the order thread, at most.
const MAX_INBOX_BYTES: usize = 64 << 20;
/// How long a leader may take to do what it is asked for.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a read waits for a leader to say how far it must see, and for this node to have come there.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long a reader waits for the index that it asks for.
const INDEX_PATIENCE: Duration = Duration::from_secs(5);

/// What is said where a member could do something, and this node only follows.
pub(crate) const OBSERVES: &str = "this node only observes the space: do it on a member, or join as one: `synod space \
    leave` here, then `synod space join TICKET`";

/// A space that is open. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    id: [u8; 32],
    order: Sender<OrderInput>,
    apply: Sender<ApplyInput>,
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    snapshots: Arc<Snapshots>,
    node_session: NodeSession,
    /// For a node that is no member.
    observing: Option<Arc<Observing>>,
    /// Where the chain is known, for those that are none.
    known: Known,
    threads: Mutex<Vec<JoinHandle<()>>>,
    meter: Meter,
}

impl Space {
    /// The name on this node.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What its newest commands did.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.inner.feed
    }

    /// Proposes a command. Its end is told to `reply`; if this returns an error, it is told nothing.
    pub fn propose(&self, command: Bytes, reply: Reply) -> Result<(), NotProposed> {
        self.serves_writes()?;
        if command.len() > synod_core::command::MAX_COMMAND_BYTES {
            return Err(NotProposed::TooLarge);
        }
        let pending = Pending::begin(&self.inner.shared, command.len(), reply);
        let pending = pending.ok_or(NotProposed::Busy)?;
        let proposal = OrderInput::Propose(Proposal { command, pending });
        self.inner.order.send(proposal).map_err(|e| {
            if let SendError(OrderInput::Propose(proposal)) = e {
                proposal.pending.forget();
            }
            NotProposed::Stopping
        })
    }

    /// Proposes a command and waits for its end; none if the node goes down before it is known.
    pub async fn commit(&self, command: &Command) -> Option<Ended> {
        self.commit_encoded(command.encode()).await
    }

    /// As [`Space::commit`], of a command's bytes: for one that may have to be sent again.
    pub async fn commit_encoded(&self, command: Bytes) -> Option<Ended> {
        let (sender, ended) = oneshot::channel();
        match self.propose(command, Reply::Once(sender)) {
            Ok(()) => ended.await.ok(),
            Err(why) => Some(Ended::NotProposed(why)),
        }
    }

    /// Looks at the state, between two commands. None if the space is closed.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, seen) = oneshot::channel();
        let look = move |state: &mut State| drop(sender.send(look(state)));
        self.inner.apply.send(ApplyInput::Inspect(Box::new(look))).ok()?;
        seen.await.ok()
    }

    /// As [`Space::look`], for what makes the state find things faster.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, seen) = oneshot::channel();
        let look = move |state: &mut State| drop(sender.send(read(state)));
        self.inner.apply.send(ApplyInput::Inspect(Box::new(look))).ok()?;
        seen.await.ok()
    }

    /// Waits until this node has come to an index; false if that takes too long.
    pub(crate) async fn reaches(&self, index: u64) -> bool {
        let mut applied = self.inner.feed.follow();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(INDEX_PATIENCE, reached).await, Ok(Ok(_)))
    }

    /// A snapshot from which the feed still knows all changes; none while nothing has been written.
    /// Takes a new one if the newest is too old for that.
    pub async fn base(&self) -> Option<PathBuf> {
        let is_of_use = |index| index >= self.inner.feed.after();
        if is_of_use(0) {
            // A replica can start from nothing: the feed goes back to the first command.
            return self.inner.snapshots.newest().map(|snapshot| snapshot.path.clone());
        }
        let mut newest = self.inner.snapshots.follow();
        loop {
            let found = newest.borrow_and_update().clone();
            if let Some(snapshot) = found.filter(|snapshot| is_of_use(snapshot.index)) {
                return Some(snapshot.path.clone());
            }
            let at_least = self.inner.feed.after();
            self.inner.apply.send(ApplyInput::Snapshot { at_least }).ok()?;
            newest.changed().await.ok()?;
        }
    }

    /// The space's history, as far as it has been applied.
    pub(crate) async fn past(&self) -> Result<Past, PastError> {
        // Asked for first: the log then holds all of that, and none of it can be superseded.
        let applied = self.inner.feed.applied();
        let (sender, reader) = oneshot::channel();
        self.inner.order.send(OrderInput::Reader(sender)).map_err(|_| PastError::Closed)?;
        let reader = reader.await.map_err(|_| PastError::Closed)?;
        let Inner { name, id, snapshots, .. } = &*self.inner;
        Ok(Past::of_space(name, *id, Arc::clone(snapshots), reader, applied))
    }

    /// The changes behind an index that the feed no longer has, from snapshots and the log.
    pub async fn history(&self, after: u64) -> Result<History, PastError> {
        let past = self.past().await?;
        tokio::task::spawn_blocking(move || History::open(&past, after))
            .await
            .map_err(|_| PastError::Closed)?
    }

    /// A file with the state as of an index, for a replica to start from. Told in advance that it
    /// may take long: it reads the log from the snapshot before.
    pub async fn as_of(&self, index: u64) -> Result<PathBuf, PastError> {
        let last = self.inner.feed.applied();
        if index > last {
            return Err(PastError::Ahead { asked: index, last });
        }
        let (past, snapshots) = (self.past().await?, Arc::clone(&self.inner.snapshots));
        tokio::task::spawn_blocking(move || history::as_of(&snapshots, &past, index))
            .await
            .map_err(|_| PastError::Closed)?
    }

    /// Where the states are that an engine may be told to read: those that it starts from, and those that
    /// [`Space::as_of`] makes.
    pub(crate) fn past_folders(&self) -> [String; 2] {
        let root = self.inner.shared.disk().root();
        snapshots::folders().map(|folder| root.join(folder).to_string_lossy().into_owned())
    }

    /// This node's part, and who leads.
    pub(crate) fn leader(&self) -> Leader {
        self.inner.shared.leader()
    }

    /// For how long this node has known of no leader; none if it knows one.
    ///
    /// A node that only observes is told by voters where they are: for how long it was not there.
    pub(crate) fn leaderless_for(&self) -> Option<Duration> {
        if let Some(follows) = self.follows() {
            return Some(follows.age);
        }
        self.inner.shared.leaderless_for()
    }

    /// Who takes part, as far as this node has applied the log.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.inner.shared.membership()
    }

    /// How often the space was recovered by hand.
    pub(crate) fn generation(&self) -> u64 {
        self.inner.shared.generation()
    }

    /// The generation to which the space has gone on without this node, if somebody who has its key has
    /// said so and no quorum says otherwise.
    pub(crate) fn gone_on(&self) -> Option<u64> {
        self.inner.shared.left_behind()
    }

    /// What a person should know whose quorum goes on beside a member that was recovered.
    pub(crate) fn is_apart(&self) -> Option<String> {
        let generation = self.inner.shared.gone_on().filter(|_| self.gone_on().is_none())?;
        Some(format!(
            "one of its members was recovered by hand at generation {generation} and goes on apart from this \
             quorum: there are two histories; have one side leave, and join the other"
        ))
    }

    /// Lets what a test says stand in the way.
    #[cfg(test)]
    pub(crate) fn hinder(&self, standing: Standing) {
        self.inner.shared.hinder(standing);
    }

    /// Whether commands may be proposed on this node.
    pub(crate) fn serves_writes(&self) -> Result<(), Unserved> {
        self.inner.shared.standing().writes()
    }

    /// Whether this node's state may be read.
    pub(crate) fn serves_reads(&self, reading: Reading) -> Result<(), Unserved> {
        self.inner.shared.standing().reads(reading)
    }

    /// Whether the space's leader may be asked for something on this node.
    pub(crate) fn serves_asks(&self) -> Result<(), Unserved> {
        self.inner.shared.standing().asks()
    }

    /// Waits until it is seen that the log here has lost what this node gave its word for.
    pub(crate) async fn is_lost(&self) {
        // The sender is there for as long as this is.
        drop(self.inner.shared.follow_lost().wait_for(|is_lost| *is_lost).await);
    }

    /// Whether this is the same opened space.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Why the state was made again, if it was.
    pub(crate) fn was_wrong(&self) -> Option<String> {
        self.inner.shared.was_wrong()
    }

    /// Follows how often it was.
    pub(crate) fn rebuilds(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.shared.rebuilds()
    }

    /// Makes this node the only member, for good.
    pub(crate) async fn recover(&self, words: String) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let closed = || "the space is being closed".to_owned();
        self.inner.order.send(OrderInput::Recover(words, reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// How far this node, if it leads, has brought the other members.
    pub(crate) fn reached(&self) -> BTreeMap<u64, Reached> {
        self.inner.shared.reached()
    }

    /// The space's id.
    pub(crate) fn id(&self) -> [u8; 32] {
        self.inner.id
    }

    /// A frame of a peer has come. Nothing waits here: beyond [`MAX_INBOX_BYTES`] it is dropped, as a
    /// network might have done.
    pub(crate) fn receive(&self, peer: Bytes, bytes: Bytes) {
        let len = bytes.len();
        let inbox = &self.inner.shared.inbox;
        if inbox.fetch_add(len, Ordering::Relaxed) + len > MAX_INBOX_BYTES {
            inbox.fetch_sub(len, Ordering::Relaxed);
            return self.inner.shared.refused();
        }
        drop(self.inner.order.send(OrderInput::Frame { peer, bytes }));
    }

    fn disk(&self) -> FsDisk {
        self.inner.shared.disk().clone()
    }

    fn min_free(&self) -> u64 {
        self.inner.shared.min_free()
    }

    /// A snapshot of a peer's is safe in this file, and this frame came behind it.
    pub(crate) fn receive_snapshot(
        &self,
        peer: Bytes,
        file: PathBuf,
        meta: SnapshotMeta,
        frame: Bytes,
    ) {
        drop(self.inner.order.send(OrderInput::Snapshot { peer, file, meta, frame }));
    }

    /// There is a connection to a peer, or none any more.
    pub(crate) fn connected(&self, peer: Bytes, is_connected: bool) {
        let input = match is_connected {
            true => OrderInput::Found { peer },
            false => OrderInput::Lost { peer },
        };
        drop(self.inner.order.send(input));
    }

    /// Has the leader do something that only it can.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<(), String> {
        self.serves_asks().map_err(|why| why.to_string())?;
        let (reply, answer) = oneshot::channel();
        let lost =
            || "the leader has not answered: `synod space members` shows who leads".to_owned();
        self.inner.order.send(OrderInput::Ask(ask, reply)).map_err(|_| lost())?;
        match tokio::time::timeout(ASK_PATIENCE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(lost()),
        }
    }

    /// Waits until this node has applied all that was acknowledged anywhere before this call, and returns
    /// the index; none if no leader says how far that is.
    pub(crate) async fn read_index(&self) -> Option<u64> {
        if let Some(observing) = &self.inner.observing {
            return self.observed_index(observing).await;
        }
        self.serves_reads(Reading::Newest).ok()?;
        if self.membership().members().len() <= 1 && self.leader().role == "leader" {
            // Nobody else could have acknowledged anything.
            return Some(self.inner.feed.applied());
        }
        let (reply, index) = oneshot::channel();
        self.inner.order.send(OrderInput::ReadIndex(reply)).ok()?;
        let raft_index = tokio::time::timeout(READ_PATIENCE, index).await.ok()?.ok()??;
        let (reached, waiting) = oneshot::channel();
        self.inner.apply.send(ApplyInput::Reach { raft_index, reached }).ok()?;
        tokio::time::timeout(READ_PATIENCE, waiting).await.ok()?.ok()
    }

    /// The node's own session.
    pub(crate) fn node_session(&self) -> &NodeSession {
        &self.inner.node_session
    }

    /// The space as `status` shows it.
    pub async fn info(&self) -> Option<SpaceInfo> {
        let look = |state: &State| {
            let sizes =
                [state.kb().predicates().len(), state.agents().len(), state.modules().len()];
            (state.index(), state.kb().len() as u64, sizes.map(|size| size as u64))
        };
        let (index, facts, [predicates, agents, modules]) = self.look(look).await?;
        let shared = &self.inner.shared;
        let Leader { role, term, .. } = shared.leader();
        let (proposals, proposal_bytes) = shared.under_way.counts();
        let (max_proposals, max_proposal_bytes) = (MAX_PROPOSALS as u64, MAX_PROPOSAL_BYTES as u64);
        let (free_bytes, min_free_bytes) = (shared.free_bytes(), shared.min_free());
        let near = [
            near::disk(free_bytes, min_free_bytes),
            near::limit("proposals", proposals, max_proposals),
            near::limit("bytes of proposals", proposal_bytes, max_proposal_bytes),
            near::limit("predicates", predicates, MAX_PREDICATES as u64),
            near::limit("agents", agents, MAX_AGENTS as u64),
            near::limit("modules", modules, MAX_MODULES as u64),
        ];
        Some(SpaceInfo {
            name: self.inner.name.clone(),
            id: hex(&self.inner.id),
            role: role.to_owned(),
            term,
            leader: None,
            voters: 0,
            voters_reachable: 0,
            index,
            facts,
            log_bytes: shared.log_bytes(),
            first: shared.first(),
            retain: shared.retention().to_string(),
            free_bytes,
            min_free_bytes,
            commands_per_s: self.inner.meter.rate(Instant::now(), index),
            proposals,
            max_proposals,
            proposal_bytes,
            max_proposal_bytes,
            refused: shared.refusals(),
            near: near.into_iter().flatten().collect(),
            read_only: self.why_read_only(),
            observed: self.follows().map(|follows| ObservedInfo {
                age_ms: u64::try_from(follows.age.as_millis()).unwrap_or(u64::MAX),
                lag: follows.lag,
                heads: follows.counts.heard,
                refused: follows.counts.refused,
                old: follows.counts.old,
                fetched: follows.counts.fetched,
                snapshots: follows.counts.snapshots,
            }),
        })
    }

    /// Why nothing is written here that should be, if nothing is; of a space that is only followed, why it is not.
    fn why_read_only(&self) -> Option<String> {
        match self.follows() {
            Some(follows) => follows.trouble,
            None => self.serves_writes().err().map(|why| why.to_string()),
        }
    }

    /// Notes how many commands were applied, for the rate, and lets go what has become too old.
    pub(crate) fn sample(&self, now: Instant) {
        self.inner.meter.sample(now, self.inner.feed.applied());
        if matches!(self.retention(), Retention::Age(_)) {
            self.tend();
        }
    }

    /// Closes the space in order: what is proposed already is decided, the log is marked as whole.
    /// Blocks until its threads have ended.
    pub fn close(&self) {
        let threads = {
            let mut threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        self.inner.shared.close();
        drop(self.inner.order.send(OrderInput::Stop));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the space {} had panicked", self.inner.name);
            }
        }
    }
}

/// A refusal or failure to propose, for the control socket.
pub(crate) fn not_proposed(why: &NotProposed) -> ErrorBody {
    let code = match why {
        NotProposed::Busy => "busy",
        NotProposed::TooLarge => "too_large",
        NotProposed::NoQuorum => "no_quorum",
        NotProposed::Unserved(why) => why.code(),
        NotProposed::Stopping => "stopping",
    };
    error(code, why.to_string())
}
