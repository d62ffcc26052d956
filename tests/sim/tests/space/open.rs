//! How a node starts from its disk, as `runtime/node/space/open.rs`.

use super::apply::{Apply, folder, load};
use super::forgetting::SHORTENED;
use super::marking::Marking;
use super::node::{Effect, Me, Running, SPACE, Waiting};
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::Duration;
use synod_core::apply::State;
use synod_core::command::Batch;
use synod_core::group::{Coordinator, Identity, Proposals, resumed};
use synod_core::log::disk::Disk as _;
use synod_core::log::{self, Limits, Log, OpenError};
use synod_core::order::{
    self, Config, Entry, EntryKind, Members, Order, Position, Recovered, Role,
};
use synod_core::retention::Retention;
use synod_core::snapshot;
use synod_core::time::Time;
use synod_sim::disk::SimDisk;

/// The Raft id of who founds a space.
pub(crate) const FOUNDER: u64 = 1;
const ELECTION_TICKS: u32 = 6;
/// Ticks between a leader's heartbeats: two in a row may be lost before another stands for election.
const HEARTBEAT_TICKS: u32 = 2;
/// How long a leader's followers wait to hear of a commit, if no entries come with the word of it.
const NOTICE_AFTER: Duration = Duration::from_millis(3);
/// Segments so short that there is something to drop.
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 4096, pending_bytes: 1 << 20, ahead_bytes: 500 };
const BEGUN: &str = "begun";
/// So few bytes of others' proposals may wait that some are refused as too many.
const MAX_FOREIGN_BYTES: usize = 2_000;

/// Starts a node. The error says why it cannot be started, which no crash may lead to.
/// Of one whose state may be wrong it is not said what that is.
pub(crate) fn open(disk: SimDisk, me: Me, boot: u64, is_wrong: bool) -> Result<Running, String> {
    let text = |e: log::disk::DiskError| e.to_string();
    if disk.contents(SHORTENED).is_some() {
        return Err("the log is short".to_owned());
    }
    disk.create_dir(folder()).map_err(text)?;
    disk.sync_dir(folder()).map_err(text)?;
    let found = snapshot::newest(&disk, folder(), SPACE).map_err(|e| e.to_string())?;
    for name in disk.list(folder()).map_err(text)? {
        if name.starts_with("incoming-") {
            disk.remove(&folder().join(name)).map_err(text)?;
        }
    }
    let founders = Members::of_voters([FOUNDER]);
    let (mut state, applied, at_snapshot, file) = match found.whole {
        Some((path, _)) => {
            let (state, at, members) = load(&disk, &path)?;
            (state, at, members, Some(path))
        }
        None => (State::new(SPACE), Position::default(), founders, None),
    };
    let mut members = at_snapshot.clone();
    let log = open_log(&disk, applied)?;
    let (before, terms) = (log.before(), log.terms(log.before().index));
    let hard_state = log.hard_state();
    let last = log.last().index;
    let commit = hard_state.commit.clamp(applied.index, last.max(applied.index));
    let reader = log.reader();
    let (term, vote) = (hard_state.term, hard_state.vote);
    let mut tail = Vec::new();
    for entry in reader.entries(commit + 1, last + 1).map_err(|e| e.to_string())? {
        let Entry { term, index, kind, data } = from_log(entry.map_err(|e| e.to_string())?);
        tail.push((term, index, kind, data));
    }
    let resumed = resumed(me.member, order::HardState { term, vote, commit }, tail);
    let commit = resumed.commit;
    let mut through = applied;
    let place = (state.chain(), state.digest());
    let mut effects = Vec::new();
    if state.index() > 0 && !is_wrong {
        effects.push(Effect::Committed(through));
        effects.push(Effect::Checked(state.index(), place));
    }
    let read = |e: log::ReadError| e.to_string();
    for entry in reader.entries(applied.index + 1, commit + 1).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.kind == EntryKind::ConfChange.number() as u8 {
            members = members.after_change(&entry.data);
        }
        through = Position { term: entry.term, index: entry.index };
        let kind = EntryKind::from_number(u64::from(entry.kind)).ok_or("an unknown kind")?;
        let batch = Entry::batch(kind, &entry.data);
        if !batch.is_empty() {
            if kind == EntryKind::Normal {
                effects.push(Effect::Chosen(through, batch.clone()));
            }
            let batch = Batch::decode(&batch).map_err(|e| e.to_string())?;
            let (first, mut commands) = (state.index() + 1, Vec::new());
            for command in &batch.commands {
                commands.push((command.clone(), state.apply(batch.time, command).outcome));
            }
            let state = (state.chain(), state.digest());
            let state = (!is_wrong).then_some(state);
            effects.push(Effect::Applied { first, commands, state });
        }
    }
    let mut entries = Vec::new();
    for entry in reader.entries(through.index + 1, last + 1).map_err(read)? {
        entries.push(from_log(entry.map_err(read)?));
    }
    let snapshot = order::SnapshotMeta { position: applied, members: at_snapshot };
    let recovered = Recovered {
        hard_state: order::HardState { commit: through.index, ..resumed },
        members: members.clone(),
        applied: through.index,
        before: Position { index: before.index, term: before.term },
        terms: terms
            .into_iter()
            .filter(|run| run.index <= through.index)
            .map(|run| Position { index: run.index, term: run.term })
            .collect(),
        entries,
        snapshot: (applied.index > 0).then(|| snapshot.clone()),
    };
    let membership = state.membership().clone();
    let generation = me.generation.max(membership.generation());
    let config = Config {
        generation,
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: HEARTBEAT_TICKS,
        notice_after: NOTICE_AFTER,
        cache_bytes: 4096,
        ..Config::new(me.member, SPACE, boot)
    };
    let order = Order::new(config.clone(), recovered, Time::ZERO).map_err(|e| e.to_string())?;
    let marking = Marking::begin(&state);
    let broken_at = state.index();
    let told_membership = membership.changed_at();
    let begins_at = if members.is_sole_voter(me.member) { last } else { 0 };
    let apply = Apply {
        state,
        inputs: VecDeque::new(),
        through,
        members,
        told_membership,
        writing: None,
        since_snapshot: 0,
        untold_bytes: 0,
        order_knows: 0,
        reaching: Vec::new(),
    };
    let Me { member, peer, contacts, .. } = me.clone();
    let identity = Identity { member, peer, boot, generation, contacts };
    // Every other start has room for one run at a time alone: what comes right behind is refused.
    let room = if boot.is_multiple_of(2) { MAX_FOREIGN_BYTES } else { 0 };
    let coordinator = Coordinator::new(identity, room);
    Ok(Running {
        me,
        boot,
        disk,
        order,
        config,
        generation,
        gone_on: None,
        shortened: None,
        begins_at,
        log,
        apply,
        inputs: VecDeque::new(),
        own: Proposals::default(),
        membership,
        leader: (Role::Follower, 0, None),
        coordinator,
        waiting: Waiting {
            snapshot: file.map(|file| (snapshot, file)),
            through,
            ..Waiting::default()
        },
        removed: None,
        unconnected: BTreeSet::new(),
        syncing: None,
        is_full: false,
        now: Time::ZERO,
        wall: 0,
        retention: Retention::Everything,
        effects,
        marking,
        is_broken: false,
        was_wrong: false,
        broken_at,
    })
}

fn open_log(disk: &SimDisk, applied: Position) -> Result<Log<SimDisk>, String> {
    let dir = Path::new("log");
    match Log::open(disk.clone(), dir, SPACE, LIMITS) {
        Ok((mut log, _)) => {
            let at = log::Position { term: applied.term, index: applied.index };
            log.install(at).map_err(|e| e.to_string())?;
            Ok(log)
        }
        Err(OpenError::Empty(_)) => {
            let names = disk.list(Path::new("")).map_err(|e| e.to_string())?;
            if names.iter().any(|name| name == BEGUN) {
                return Err("the log is gone".to_owned());
            }
            let failed = |e: log::disk::DiskError| e.to_string();
            disk.create_dir(dir).map_err(failed)?;
            let start = log::Position::default();
            let log =
                Log::create(disk.clone(), dir, SPACE, start, LIMITS).map_err(|e| e.to_string())?;
            disk.create(Path::new(BEGUN)).map_err(failed)?;
            disk.sync_dir(Path::new("")).map_err(failed)?;
            Ok(log)
        }
        Err(e) => Err(e.to_string()),
    }
}

pub(crate) fn from_log(entry: log::Entry) -> Entry {
    let kind = EntryKind::from_number(u64::from(entry.kind)).unwrap_or(EntryKind::Normal);
    Entry { term: entry.term, index: entry.index, kind, data: entry.data }
}
