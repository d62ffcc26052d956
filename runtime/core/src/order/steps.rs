//! What the machine does about the network, time and the disk.

use super::store::Store;
use super::types::{Entry, HardState, Output, Role, SnapshotMeta, Why};
use super::{Config, Order};
use crate::time::Time;
use bytes::Bytes;
use raft::{RawNode, SnapshotStatus};
use std::time::Duration;

/// The hard state that Raft has at the moment.
pub(super) fn hard_state(raft: &RawNode<Store>) -> HardState {
    let raft = &raft.raft;
    HardState { term: raft.term, vote: raft.vote, commit: raft.raft_log.committed }
}

/// Ticks come at whole multiples since the origin of time, so that the groups of one node have theirs together: what
/// their leaders say then goes to a peer in one piece.
pub(super) fn next_tick(now: Time, tick: Duration) -> Time {
    now.next_multiple(tick).unwrap_or(now)
}

impl Order {
    // The network.

    pub(super) fn message(&mut self, from: u64, bytes: &Bytes) {
        match self.admit(from, bytes) {
            // Raft's errors here are about local messages and unknown senders: both are refused
            // before.
            Ok(message) => drop(self.raft.step(message)),
            Err(why) => self.outputs.push_back(Output::Refused { from, why }),
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: u64, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raft.report_snapshot(to, status);
    }

    pub(super) fn transfer(&mut self, to: u64) {
        // A follower would pass this on, and raft-rs panics where it then comes by again.
        if self.role() == Role::Leader && self.members.voters.contains(&to) {
            self.raft.transfer_leader(to);
        }
    }

    // Time and elections.

    pub(super) fn timeout(&mut self, now: Time) {
        self.notice_due();
        if now < self.next_tick {
            return;
        }
        // Ticks missed are not made up for: a node that slept must not hold it against its leader.
        self.next_tick = next_tick(now, self.config.tick);
        let given_up = self.reads.tick();
        let leader = self.leader();
        for ticket in given_up {
            self.drop_ticket(ticket, Why::NotLeader { leader });
        }
        if self.role() == Role::Leader || self.may_wait_for_election() {
            self.pin_election_timeout();
            if !self.abstains || self.is_patient() {
                self.raft.tick();
            }
        }
    }

    pub(super) fn mute(&mut self) {
        self.is_mute = true;
        self.abstain(true);
    }

    pub(super) fn abstain(&mut self, abstains: bool) {
        self.abstains = abstains || self.is_mute;
        if abstains && self.role() != Role::Follower {
            let term = self.raft.raft.term;
            self.raft.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Whether a leader that was heard of is not silent yet: whoever abstains counts so far, for it then
    /// votes for another, and no further, or it would stand for election itself.
    fn is_patient(&self) -> bool {
        self.raft.raft.election_elapsed < self.config.election_ticks as usize
    }

    pub(super) fn campaign(&mut self) {
        if self.role() != Role::Leader && self.may_campaign() {
            // Fails for local messages only, which this is not.
            drop(self.raft.campaign());
        }
    }

    /// Whether standing for election now breaks nothing that Raft takes for granted.
    pub(super) fn may_campaign(&self) -> bool {
        !self.abstains && self.raft.raft.promotable() && self.may_wait_for_election()
    }

    /// While a snapshot is on its way to disk Raft cannot look for unapplied changes of members,
    /// and a sole voter elects itself only with its whole log on disk; it panics otherwise.
    fn may_wait_for_election(&self) -> bool {
        let sole = self.members.is_sole_voter(self.config.node);
        self.installing.is_empty() && (!sole || self.is_settled_on_disk())
    }

    /// Whether the whole log is on disk.
    pub(super) fn is_settled_on_disk(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.persisted == log.last_index()
    }

    /// Raft draws its election timeouts from the thread's generator. Drawn from the seed, the same
    /// inputs give the same outputs. Only a tick looks at it.
    fn pin_election_timeout(&mut self) {
        let Config { seed, node, election_ticks, .. } = self.config;
        let draw = mix(seed ^ mix(node ^ mix(self.raft.raft.term)));
        let ticks = u64::from(election_ticks);
        // Who abstains is never impatient: the longest that there is.
        let timeout = if self.abstains { 2 * ticks - 1 } else { ticks + draw % ticks };
        self.raft.raft.set_randomized_election_timeout(timeout as usize);
    }

    // Disk.

    pub(super) fn persisted(&mut self, number: u64) {
        while self.writing.front().is_some_and(|write| write.number <= number) {
            self.writing.pop_front();
        }
        // Raft counts readies. A ready may be many writes, or none.
        let done = self.writing.front().map_or(self.ready, |write| write.ready - 1);
        self.raft.on_persist_ready(done);
        while self.installing.front().is_some_and(|&(ready, _)| ready <= done) {
            if let Some((_, index)) = self.installing.pop_front() {
                self.raft.advance_apply_to(index);
            }
        }
    }

    pub(super) fn compacted(&mut self, snapshot: SnapshotMeta, first_index: u64) {
        // One that a leader's snapshot has overtaken means nothing any more.
        if snapshot.position.index <= self.committed && self.installing.is_empty() {
            self.raft.mut_store().compact(snapshot, first_index);
        }
    }

    pub(super) fn fetched(&mut self, first: u64, entries: Vec<Entry>) {
        let Some((first, last)) = self.raft.mut_store().open_window(first, entries) else {
            return;
        };
        for peer in self.progress() {
            self.feed(peer.id, first, last);
        }
        self.raft.mut_store().close_window();
    }

    /// Sends a member all that the window holds for it, as far as its line is free.
    fn feed(&mut self, id: u64, first: u64, last: u64) {
        let raft = &mut self.raft.raft;
        let next = |raft: &raft::Raft<Store>| {
            raft.prs().get(id).filter(|p| !p.is_paused()).map(|p| p.next_idx)
        };
        while let Some(before) = next(raft).filter(|next| (first..=last).contains(next)) {
            raft.send_append(id);
            if next(raft).is_none_or(|after| after <= before) {
                break;
            }
        }
    }
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of the input moves every bit of
/// the output.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
