//! Members whose disks lose what they gave their word for: a log that is gone, damaged, or an old copy. Such a member
//! votes no more and joins anew, as `runtime/node/node/rejoining.rs` has it.

use super::clients::Asked;
use super::node::{Effect, Running};
use super::world::{CALM, Event, World};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;
use synod_core::cbor::Reader;
use synod_core::command::{Admit, Command};
use synod_core::group::{Frame, Standpoint};
use synod_core::log::disk::Disk as _;
use synod_core::order::{Input, Refusal, Role};
use synod_sim::disk::SimDisk;

/// The file that says that a log is short.
pub(crate) const SHORTENED: &str = "shortened";
/// While an old copy is found out, nothing else goes wrong: until then nobody can know.
const TRUCE: Duration = Duration::from_secs(5);
/// How long it takes until others lead and follow.
const SETTLED: Duration = Duration::from_secs(3);
/// How long before all is well something is forgotten last.
const LAST: Duration = Duration::from_secs(3);

/// Kinds of a message, by their numbers on the wire.
const ASKS_FOR_VOTE: u64 = 4;
const VOTES: u64 = 5;

/// A vote that a message gives: whose, in which term, for whom.
pub(crate) fn vote_of(frame: &Bytes) -> Option<(u64, u64, u64)> {
    let Ok(Frame::Raft(message)) = Frame::decode(frame) else { return None };
    let mut r = Reader::new(&message);
    r.array_of(6).ok()?;
    r.uint().ok()?;
    let _group: [u8; 32] = r.fixed().ok()?;
    r.uint().ok()?;
    let (from, to) = (r.uint().ok()?, r.uint().ok()?);
    r.array().ok()?;
    match (r.uint().ok()?, r.uint().ok()?) {
        (ASKS_FOR_VOTE, term) => Some((from, term, from)),
        (VOTES, term) => {
            let _commit = (r.uint().ok()?, r.uint().ok()?);
            let is_rejected = r.bool().ok()?;
            (!is_rejected).then_some((from, term, to))
        }
        _ => None,
    }
}

impl Running {
    /// A message was refused, perhaps because this log has lost something: as `order_thread::doubt`.
    pub(crate) fn doubt(&mut self, from: u64, refusal: &Refusal) {
        if self.shortened.is_some() {
            return;
        }
        let here = Standpoint::of(self.me.member, &self.order, &self.membership, from);
        let Some(proof) = self.waiting.claims.doubt(self.now, from, refusal, here) else { return };
        self.order.handle(self.now, Input::Mute);
        self.disk.put(SHORTENED, proof.as_bytes());
        self.shortened = Some(proof.clone());
        self.effects.push(Effect::Shortened(proof));
    }
}

impl World {
    /// Now and then a voter's folder is copied; and one of the voters forgets.
    pub(crate) fn forget(&mut self) {
        let apt: Vec<u64> = self.machines.keys().copied().filter(|m| self.may_forget(*m)).collect();
        if apt.is_empty() {
            return;
        }
        let m = apt[self.rng.below(apt.len() as u64) as usize];
        if self.rng.one_in(2) {
            for m in apt {
                let machine = self.machines.get_mut(&m).expect("it is there");
                let member = machine.me.as_ref().map_or(0, |me| me.member);
                if machine.copy.as_ref().is_none_or(|(of, _)| *of != member) {
                    machine.copy = Some((member, machine.disk.copy()));
                }
            }
            return;
        }
        let all_run = self.machines.values().all(|machine| machine.run.is_some());
        if !all_run || self.now + LAST > CALM || !self.may_lose_a_voter() {
            return;
        }
        let is_copied = apt.iter().any(|m| self.old_copy(*m).is_some());
        match self.rng.below(5) {
            0..3 if is_copied => {
                // It could vote again before anybody tells it: not while others stand for election.
                (self.truce, self.loss) = (self.now + SETTLED + TRUCE, 0);
                for (a, b) in std::mem::take(&mut self.cuts) {
                    self.heal(a, b);
                }
                self.plan(SETTLED.as_micros() as u64, Event::Restore);
            }
            0..4 => self.damage(m),
            _ => self.lose_log(m),
        }
    }

    /// A folder is restored from an old copy, where others lead and follow.
    pub(crate) fn restore(&mut self) {
        let apt: Vec<u64> = self.machines.keys().copied().filter(|m| self.may_forget(*m)).collect();
        let copied = apt.into_iter().find_map(|m| Some((m, self.old_copy(m)?)));
        let all_run = self.machines.values().all(|machine| machine.run.is_some());
        match copied.filter(|_| all_run) {
            Some((m, copy)) => self.restore_copy(m, copy),
            None => self.truce = self.now,
        }
    }

    /// Whether a machine is one of three voters or more, who hear a leader.
    fn may_forget(&self, m: u64) -> bool {
        let Some(run) = &self.machines[&m].run else { return false };
        let members = run.order.members();
        let votes = members.voters.contains(&run.me.member) && members.voters.len() >= 3;
        votes && !members.is_joint() && run.shortened.is_none() && run.leader.2.is_some()
    }

    /// An old copy of the disk of a member that follows somebody who leads.
    fn old_copy(&self, m: u64) -> Option<SimDisk> {
        let (machine, run) = (&self.machines[&m], self.machines[&m].run.as_ref()?);
        let (of, copy) = machine.copy.as_ref()?;
        let leads = |other: &&Running| {
            run.leader.2 == Some(other.me.member) && other.leader.0 == Role::Leader
        };
        let mut others = self.machines.values().filter_map(|other| other.run.as_ref());
        let is_led = run.leader.0 == Role::Follower && others.any(|other| leads(&other));
        (is_led && *of == run.me.member).then(|| copy.clone())
    }

    fn restore_copy(&mut self, m: u64, copy: SimDisk) {
        self.checker.count("old copies", 1);
        (self.loss, self.truce) = (0, self.now + TRUCE);
        for machine in self.machines.values_mut() {
            (machine.is_doomed, machine.is_slow) = (false, false);
            machine.disk.set_budget(u64::MAX);
        }
        self.crash(m, "its folder is restored from an old copy");
        (self.wiped, self.restored) = (Some(m), Some(m));
        self.plan(100_000, Event::Restart(m));
        let machine = self.machines.get_mut(&m).expect("it is there");
        (machine.disk, machine.copy) = (copy, None);
    }

    /// If nobody has missed anything by now, nothing was lost with the folder.
    pub(crate) fn end_truce(&mut self) {
        let Some(m) = self.restored.take() else { return };
        if !self.machines[&m].is_joining_anew && self.wiped == Some(m) {
            self.wiped = None;
        }
    }

    fn segments(&self, m: u64) -> (SimDisk, Vec<PathBuf>) {
        let disk = self.machines[&m].disk.clone();
        let names = disk.list(Path::new("log")).unwrap_or_default();
        (disk, names.into_iter().map(|name| Path::new("log").join(name)).collect())
    }

    /// A byte of it is another than was written, and there are records behind it.
    fn damage(&mut self, m: u64) {
        self.crash(m, "its log is damaged");
        let (disk, segments) = self.segments(m);
        let Some(first) = segments.first() else { return self.lose_log(m) };
        let long = disk.contents(first).map_or(0, |bytes| bytes.len());
        if segments.len() < 2 || long < 200 {
            return self.lose_log(m);
        }
        disk.flip(first, long / 2, 1 << self.rng.below(8));
        self.checker.count("damaged logs", 1);
        self.forgets_now(m);
    }

    fn lose_log(&mut self, m: u64) {
        self.crash(m, "its log is lost");
        let (disk, segments) = self.segments(m);
        for segment in segments {
            disk.remove(&segment).expect("it was there");
        }
        disk.sync_dir(Path::new("log")).expect("it is there");
        self.checker.count("lost logs", 1);
        self.forgets_now(m);
    }

    fn forgets_now(&mut self, m: u64) {
        self.wiped = Some(m);
        self.machines.get_mut(&m).expect("it is there").has_forgotten = true;
    }

    /// A node has been convinced that its log is short, or finds that it is at its start: it asks the others to
    /// let it in under another id.
    pub(crate) fn begin_anew_with(&mut self, m: u64) {
        let machine = self.machines.get_mut(&m).expect("it is there");
        if std::mem::replace(&mut machine.is_joining_anew, true) {
            return;
        }
        machine.nonce += 1;
        self.wiped = Some(m);
        self.lost = self.now;
        self.plan(100_000, Event::JoinAnew(m));
    }

    pub(crate) fn ask_to_join_anew(&mut self, m: u64) {
        let machine = &self.machines[&m];
        if !machine.is_joining_anew {
            return;
        }
        let (peer, nonce) = (machine.peer.clone(), [machine.nonce; 16]);
        let again = 300_000 + self.rng.below(500_000);
        let Some(at) = self.some_running().filter(|at| *at != m) else {
            return self.plan(again, Event::JoinAnew(m));
        };
        let run = self.machines[&at].run.as_ref().expect("it runs");
        if run.removed.is_none() && run.membership.of_peer(&peer).is_none() {
            let is_known = run.membership.removed_peer(&peer).is_some();
            if is_known {
                // It is no member any more: by a ticket it may join.
                self.machines.get_mut(&m).expect("it is there").is_joining_anew = false;
                return self.lose_disk(m);
            }
            return self.plan(again, Event::JoinAnew(m));
        }
        let (node, after) = (format!("node {m}"), run.apply.state.index());
        let admit = Command::Admit(Admit { peer, node, nonce, ticket: None, after });
        let request = self.request(at, Asked::Join(m));
        self.note(|| format!("node {m} asks node {at} to let it in anew"));
        self.propose(at, admit.encode(), request);
    }

    /// It was let in: what it had is put aside.
    pub(crate) fn put_aside(&mut self, m: u64) {
        self.checker.count("joined anew", 1);
        let disk = SimDisk::new(self.rng.number());
        let machine = self.machines.get_mut(&m).expect("it is there");
        (machine.run, machine.disk, machine.copy) = (None, disk, None);
        (machine.is_joining_anew, machine.has_forgotten, machine.is_wrong) = (false, false, false);
        self.end_all_of(m);
        self.links(m);
    }

    /// Nobody votes twice in a term, nor at all who knows that it has forgotten.
    pub(crate) fn check_vote(&mut self, m: u64, frame: &Bytes) {
        let Some((whose, term, who)) = vote_of(frame) else { return };
        let Some(run) = &self.machines[&m].run else { return };
        assert_eq!(run.shortened, None, "node {m} has forgotten, and votes for {who} in {term}");
        self.checker.branch(run.generation).voted(whose, term, who);
    }
}
