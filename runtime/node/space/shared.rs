//! What a space's threads and its handle all look at.

use super::apply_thread::SNAPSHOT_BYTES;
use super::proposal::{Pending, UnderWay};
use super::serving::Standing;
use crate::api::{CODES, ErrorBody};
use crate::store::FsDisk;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use synod_core::apply::{Membership, Part};
use synod_core::group::Proposals;
use synod_core::log::disk::Disk;
use synod_core::order::Progress;
use synod_core::retention::Retention;
use tokio::sync::watch;

/// How often a full disk is looked at again when somebody wants to write.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// This node's part in a space, and who leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// `leader`, `follower` or `candidate`.
    pub(crate) role: &'static str,
    /// Raft's term.
    pub(crate) term: u64,
    /// The leader's Raft id, if one is known.
    pub(crate) leader: Option<u64>,
}

/// How far a leader has brought another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Entries of the log that it lacks.
    pub(crate) lag: u64,
    /// Whether it has been heard of in the last election timeout.
    pub(crate) active: bool,
    /// How long it has been silent.
    pub(crate) silent: Duration,
}

/// Facts about a space that are read without asking its threads.
#[derive(Debug)]
pub(super) struct Shared {
    disk: FsDisk,
    /// Bytes that must stay free on the disk.
    min_free: u64,
    is_full: AtomicBool,
    /// Whether a write waits for room on the disk.
    is_blocked: AtomicBool,
    /// Whether the space is being closed.
    is_closing: AtomicBool,
    full: Mutex<(Option<String>, Instant)>,
    /// With when that became so.
    leader: Mutex<(Leader, Instant)>,
    log_bytes: AtomicU64,
    /// The first index whose command can be told of.
    first: AtomicU64,
    retention: Mutex<Retention>,
    /// Bytes of commands after which a snapshot is taken.
    snapshot_bytes: AtomicU64,
    /// What this node has proposed and not seen applied.
    own: Mutex<Proposals<Pending>>,
    membership: RwLock<Arc<Membership>>,
    /// What a leader knows of the others, by member.
    reached: Mutex<BTreeMap<u64, Reached>>,
    /// This node's Raft id.
    me: u64,
    /// How often the space was recovered by hand.
    generation: AtomicU64,
    /// The generation to which it has gone on without this node, if it has.
    gone_on: AtomicU64,
    /// Why this node does not serve, as far as that is not found elsewhere here.
    standing: Mutex<Standing>,
    /// Whether the log has lost what this node gave its word for.
    lost: watch::Sender<bool>,
    /// What was wrong with it, if it was.
    was_wrong: Mutex<Option<String>>,
    /// The last index at which this state was what most voters had.
    agreed: AtomicU64,
    /// How often it was made again.
    rebuilds: watch::Sender<u64>,
    /// Messages of peers that were not listened to.
    refused: AtomicU64,
    /// Bytes of frames of peers that wait.
    pub(super) inbox: AtomicUsize,
    /// The Raft index that the state has come to.
    applied: AtomicU64,
    /// The index of the space that it has come to.
    applied_index: AtomicU64,
    pub(super) under_way: UnderWay,
}

impl Shared {
    pub(super) fn new(
        disk: FsDisk,
        min_free: u64,
        membership: Membership,
        (me, generation): (u64, u64),
    ) -> Self {
        Self {
            disk,
            min_free,
            is_full: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            full: Mutex::new((None, Instant::now())),
            leader: Mutex::new((
                Leader { role: "follower", term: 0, leader: None },
                Instant::now(),
            )),
            log_bytes: AtomicU64::new(0),
            first: AtomicU64::new(1),
            retention: Mutex::default(),
            snapshot_bytes: AtomicU64::new(SNAPSHOT_BYTES),
            own: Mutex::default(),
            membership: RwLock::new(Arc::new(membership)),
            reached: Mutex::default(),
            me,
            generation: AtomicU64::new(generation),
            gone_on: AtomicU64::new(0),
            standing: Mutex::default(),
            lost: watch::Sender::new(false),
            was_wrong: Mutex::default(),
            agreed: AtomicU64::new(0),
            rebuilds: watch::Sender::new(0),
            refused: AtomicU64::new(0),
            inbox: AtomicUsize::new(0),
            applied: AtomicU64::new(0),
            applied_index: AtomicU64::new(0),
            under_way: UnderWay::default(),
        }
    }

    /// Why nothing is written, if nothing is. Looks at the disk again now and then.
    pub(super) fn why_full(&self) -> Option<String> {
        if !self.is_full() {
            return None;
        }
        let looked = self.full.lock().unwrap_or_else(PoisonError::into_inner).1;
        if looked.elapsed() >= LOOK_AGAIN && !self.is_blocked.load(Ordering::Relaxed) {
            self.look_at_disk();
        }
        self.full.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, why: Option<String>) {
        self.is_full.store(why.is_some(), Ordering::Relaxed);
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = (why, Instant::now());
    }

    /// A write found no room and waits for some.
    pub(super) fn block(&self, why: String) {
        self.is_blocked.store(true, Ordering::Relaxed);
        self.set_full(Some(why));
    }

    /// What waited is written.
    pub(super) fn unblock(&self) {
        if self.is_blocked.swap(false, Ordering::Relaxed) {
            self.look_at_disk();
        }
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Asks the disk how much room it has.
    pub(super) fn look_at_disk(&self) {
        let free = self.disk.free_space().unwrap_or(u64::MAX);
        let why = (free < self.min_free).then(|| {
            format!(
                "the disk has {} MiB left and {} MiB are kept free: make room, or lower --min-free; \
                 reads go on",
                free >> 20,
                self.min_free >> 20
            )
        });
        self.set_full(why);
    }

    pub(super) fn disk(&self) -> &FsDisk {
        &self.disk
    }

    /// Bytes that must stay free on the disk.
    pub(super) fn min_free(&self) -> u64 {
        self.min_free
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.disk.free_space().unwrap_or(0)
    }

    /// Returns what it was before.
    pub(super) fn set_leader(&self, leader: Leader) -> Leader {
        let mut known = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        // A change of term while nobody leads is no end of that.
        let since = if known.0.leader.is_none() && leader.leader.is_none() {
            known.1
        } else {
            Instant::now()
        };
        std::mem::replace(&mut *known, (leader, since)).0
    }

    pub(super) fn leaderless_for(&self) -> Option<Duration> {
        let (leader, since) = *self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.leader.is_none().then(|| since.elapsed())
    }

    pub(super) fn leader(&self) -> Leader {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn own(&self) -> MutexGuard<'_, Proposals<Pending>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_membership(&self, membership: Membership) {
        let membership = Arc::new(membership);
        *self.membership.write().unwrap_or_else(PoisonError::into_inner) = membership;
    }

    /// What a leader whose log ends at `last` knows of the others; nothing, for who does not lead.
    pub(super) fn set_progress(
        &self,
        progress: &[Progress],
        last: u64,
        silent: impl Fn(u64) -> Duration,
    ) {
        let reached = |p: &Progress| {
            let (lag, silent) = (last.saturating_sub(p.matched), silent(p.id));
            (p.id, Reached { lag, active: p.active, silent })
        };
        let all = progress.iter().map(reached).collect();
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    pub(super) fn reached(&self) -> BTreeMap<u64, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This node was removed from the space.
    pub(super) fn set_removed(&self, at: u64) {
        self.with_standing(|standing| standing.removed = Some(at));
    }

    /// The index at which this node was removed, or one behind that; none if it is a member as far as
    /// it knows.
    pub(super) fn removed_at(&self) -> Option<u64> {
        self.with_standing(|standing| standing.removed)
    }

    fn with_standing<T>(&self, with: impl FnOnce(&mut Standing) -> T) -> T {
        with(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets what a test says stand in the way.
    #[cfg(test)]
    pub(super) fn hinder(&self, hindered: Standing) {
        self.set_gone_on(hindered.gone_on.unwrap_or(0));
        match hindered.full.clone() {
            Some(why) => self.block(why),
            None => self.unblock(),
        }
        self.with_standing(|standing| *standing = hindered);
    }

    /// This node follows the space, and is no member of it.
    pub(super) fn set_observed(&self) {
        self.with_standing(|standing| standing.observed = true);
    }

    /// All that stands in the way of serving.
    pub(super) fn standing(&self) -> Standing {
        let (gone_on, full) = (self.left_behind(), self.why_full());
        let known = self.with_standing(|standing| standing.clone());
        Standing { gone_on, full, ..known }
    }

    pub(super) fn set_applied(&self, raft_index: u64, index: u64) {
        self.applied_index.store(index, Ordering::Relaxed);
        self.applied.store(raft_index, Ordering::Release);
    }

    /// The index that the state has come to.
    pub(super) fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Relaxed)
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// The generation to which the space has gone on without this node, if somebody has said so.
    pub(super) fn gone_on(&self) -> Option<u64> {
        let generation = self.gone_on.load(Ordering::Relaxed);
        (generation > self.generation()).then_some(generation)
    }

    /// As above, where no quorum says otherwise.
    pub(super) fn left_behind(&self) -> Option<u64> {
        self.gone_on().filter(|_| {
            // Who does not vote takes a leader for one as long as it hears of no other.
            self.leader().leader.is_none() || !self.is_voter()
        })
    }

    /// Whether this node votes, as far as it has applied the log.
    pub(super) fn is_voter(&self) -> bool {
        let membership = self.membership();
        let me = membership.members().get(&self.me);
        me.is_some_and(|member| member.part == Part::Voter)
    }

    /// Says whether that was not known.
    pub(super) fn set_gone_on(&self, generation: u64) -> bool {
        self.gone_on.fetch_max(generation, Ordering::Relaxed) < generation
    }

    pub(super) fn set_rebuilding(&self, why: Option<String>) {
        self.with_standing(|standing| standing.rebuilding = why);
    }

    /// A member takes for granted what this log has not.
    pub(super) fn set_shortened(&self, why: String) {
        self.with_standing(|standing| standing.shortened = Some(why));
        self.lost.send_replace(true);
    }

    pub(super) fn follow_lost(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    /// The last index at which this state was what most voters had; the highest that there is, where
    /// nobody could contradict it.
    pub(super) fn agreed(&self) -> u64 {
        self.agreed.load(Ordering::Relaxed)
    }

    pub(super) fn set_agreed(&self, index: u64) {
        self.agreed.store(index, Ordering::Relaxed);
    }

    /// The state was made again.
    pub(super) fn rebuilt(&self, what_was_wrong: String) {
        let was_wrong = Some(what_was_wrong);
        *self.was_wrong.lock().unwrap_or_else(PoisonError::into_inner) = was_wrong;
        self.set_rebuilding(None);
        self.rebuilds.send_modify(|count| *count += 1);
    }

    pub(super) fn was_wrong(&self) -> Option<String> {
        self.was_wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows how often the state was made again.
    pub(super) fn rebuilds(&self) -> watch::Receiver<u64> {
        self.rebuilds.subscribe()
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How much of the past is kept.
    pub(super) fn retention(&self) -> Retention {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
        self.snapshot_bytes.store(retention.snapshot_bytes(SNAPSHOT_BYTES), Ordering::Relaxed);
    }

    /// Bytes of commands after which a snapshot is taken.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes.load(Ordering::Relaxed)
    }

    /// The first index whose command can be told of.
    pub(super) fn first(&self) -> u64 {
        self.first.load(Ordering::Relaxed)
    }

    pub(super) fn set_first(&self, first: u64) {
        self.first.store(first, Ordering::Relaxed);
    }

    pub(super) fn set_log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }
}

/// An error for the control socket.
pub(crate) fn error(code: &str, message: impl Into<String>) -> ErrorBody {
    debug_assert!(CODES.iter().any(|(known, _)| *known == code), "{code} is not among the codes");
    let (code, message) = (code.to_owned(), message.into());
    ErrorBody { code, message, problems: Vec::new(), id: None }
}
