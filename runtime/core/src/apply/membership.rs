//! Who takes part in a space, as the space itself knows it: ids that the log hands out and never uses
//! again, and the tickets by which nodes join.
//!
//! The roles here follow from [`Command::Configure`](crate::command::Command::Configure), which comes
//! with each change of Raft's members; Raft's own members are exact in the middle of a change, too.

use super::outcome::bound;
use super::{Outcome, Refusal, State};
use crate::cbor::{Error, Reader, Writer};
use crate::command::{Admit, Checkpoint, Configure, IssueTicket, Recover, Signature, codec};
use crate::order::{MAX_LEARNERS, MAX_VOTERS};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Members of a space, at most, those counted in that have been admitted and follow nothing yet.
pub const MAX_ADMITTED: usize = MAX_VOTERS + MAX_LEARNERS;
/// Tickets that may be open at once.
pub const MAX_TICKETS: usize = 1024;
/// Members that were removed and are remembered: of more, the first removed are forgotten, and with them
/// every command to admit somebody that is as old.
pub(super) const MAX_REMOVED: usize = 1024;
/// Tickets that are remembered when they are used up or taken back; those that would have ended first
/// are forgotten.
const MAX_SPENT: usize = 1024;

/// The part of who has none any more, in a snapshot.
const GONE: u64 = 3;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It has an id and is not among Raft's members yet.
    Admitted,
    /// It receives the log and does not vote.
    Learner,
    /// It votes.
    Voter,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id in the network.
    pub peer: Bytes,
    /// Its node's name.
    pub node: String,
    /// Which of its joinings this is.
    pub nonce: [u8; 16],
    /// What it does.
    pub part: Part,
    /// The index at which it was admitted.
    pub since: u64,
}

/// A ticket that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Until when, in microseconds since 1970 (UTC), by the time of the log.
    pub until: u64,
    /// How many nodes it may still admit.
    pub uses: u32,
    /// The index at which it was issued.
    pub since: u64,
}

/// A member that is one no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    peer: Bytes,
    node: String,
    nonce: [u8; 16],
    /// The index at which it was removed.
    at: u64,
}

/// How a space was recovered by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The index of the command that says so.
    pub index: u64,
    /// When, in microseconds since 1970 (UTC).
    pub time: u64,
    /// The node that went on alone.
    pub node: String,
    /// The nodes that were members no longer.
    pub dropped: Vec<String>,
}

/// Who takes part in a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    /// Those that are members no longer: a late copy of the command that admitted one must not admit it
    /// again.
    removed: BTreeMap<u64, Removed>,
    /// The highest index of a removal that is forgotten.
    forgotten: u64,
    /// The last id that was handed out.
    last: u64,
    /// Those that are open, by BLAKE3 of the secret.
    tickets: BTreeMap<[u8; 32], Ticket>,
    /// Those that were used up or taken back, and until when they would have been open: until then a
    /// late copy of the command that issued one must not open it again.
    spent: BTreeMap<[u8; 32], u64>,
    generation: u64,
    /// When it last was.
    recovery: Option<Recovery>,
    /// The last state that most voters agreed on.
    checkpoint: Option<Checkpoint>,
    /// The index at which something here changed last, as far as this state knows.
    changed: u64,
}

impl Membership {
    /// The members, by id.
    pub fn members(&self) -> &BTreeMap<u64, Member> {
        &self.members
    }

    /// The last id that was handed out: whoever has a higher one was admitted later than this state knows.
    pub fn last_member(&self) -> u64 {
        self.last
    }

    /// The open tickets, by BLAKE3 of their secrets.
    pub fn tickets(&self) -> &BTreeMap<[u8; 32], Ticket> {
        &self.tickets
    }

    /// All tickets that are known, those without uses too.
    pub(super) fn all_tickets(&self) -> BTreeMap<[u8; 32], Ticket> {
        let ticket = |until| Ticket { until, uses: 0, since: 0 };
        let spent = self.spent.iter().map(|(&hash, &until)| (hash, ticket(until)));
        self.tickets.iter().map(|(&hash, &ticket)| (hash, ticket)).chain(spent).collect()
    }

    fn spend(&mut self, hash: [u8; 32]) {
        let Some(ticket) = self.tickets.remove(&hash) else { return };
        self.spent.insert(hash, ticket.until);
        if self.spent.len() > MAX_SPENT
            && let Some(first) = self.spent.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.spent.remove(&first);
        }
    }

    /// Those that were removed, as far as they are remembered.
    pub(super) fn removed(&self) -> &BTreeMap<u64, Removed> {
        &self.removed
    }

    /// The index at which this member was removed, or one behind that if it is long ago; none if it is
    /// a member, or its id was never handed out.
    pub fn removed_at(&self, id: u64) -> Option<u64> {
        if id == 0 || id > self.last || self.members.contains_key(&id) {
            return None;
        }
        Some(self.removed.get(&id).map_or(self.forgotten, |removed| removed.at))
    }

    /// The member that a node was last, and the index at which that was removed; none if the node is a
    /// member, or is not known to have been one.
    pub fn removed_peer(&self, peer: &[u8]) -> Option<(u64, u64)> {
        if self.of_peer(peer).is_some() {
            return None;
        }
        let mut newest = self.removed.iter().rev();
        newest.find(|(_, removed)| removed.peer == peer).map(|(&id, removed)| (id, removed.at))
    }

    fn remove(&mut self, id: u64, at: u64) {
        let Some(Member { peer, node, nonce, .. }) = self.members.remove(&id) else { return };
        self.removed.insert(id, Removed { peer, node, nonce, at });
        if self.removed.len() > MAX_REMOVED
            && let Some((&first, _)) = self.removed.iter().min_by_key(|(_, removed)| removed.at)
            && let Some(first) = self.removed.remove(&first)
        {
            self.forgotten = self.forgotten.max(first.at);
        }
    }

    /// How often the space was recovered by hand.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How the space was last recovered by hand, if it ever was.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The last state that most voters agreed on, with their signatures.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Why voters may not have agreed on this. Their signatures are looked at by who has the means.
    fn doubts(&self, checkpoint: &Checkpoint, index: u64) -> bool {
        let last = self.checkpoint.as_ref().map_or(0, |last| last.mark.index);
        let is_new = checkpoint.mark.index > last && checkpoint.mark.index < index;
        let is_voter = |signature: &Signature| {
            let member = self.members.get(&signature.member);
            member.is_some_and(|m| m.part == Part::Voter && m.peer == signature.peer)
        };
        let voters = self.members.values().filter(|member| member.part == Part::Voter).count();
        let are_most = checkpoint.signatures.len() * 2 > voters;
        checkpoint.generation != self.generation
            || !is_new
            || !are_most
            || !checkpoint.signatures.iter().all(is_voter)
    }

    /// The index at which something here changed last, for whoever keeps a copy; 0 in a state that was
    /// read from a snapshot.
    pub fn changed_at(&self) -> u64 {
        self.changed
    }

    /// The last id that was handed out.
    pub fn last_id(&self) -> u64 {
        self.last
    }

    /// The member that a node became by this joining.
    pub fn joined(&self, peer: &[u8], nonce: &[u8; 16]) -> Option<(u64, &Member)> {
        let is_it = |member: &Member| member.peer == peer && member.nonce == *nonce;
        self.members.iter().find(|(_, member)| is_it(member)).map(|(&id, member)| (id, member))
    }

    /// The newest member that a node is, by its id in the network.
    pub fn of_peer(&self, peer: &[u8]) -> Option<(u64, &Member)> {
        let mut newest = self.members.iter().rev();
        newest.find(|(_, member)| member.peer == peer).map(|(&id, member)| (id, member))
    }

    /// Why a node is not admitted; nothing if it may be, or has been by this very joining.
    fn refuses(&self, admit: &Admit, time: u64) -> Option<Refusal> {
        let is_it = |was: &Removed| was.peer == admit.peer && was.nonce == admit.nonce;
        if admit.after < self.forgotten || self.removed.values().any(is_it) {
            return Some(Refusal::Removed);
        }
        let is_other = |member: &Member| member.node == admit.node && member.peer != admit.peer;
        if self.members.values().any(is_other) {
            return Some(Refusal::NameTaken);
        }
        let is_open = match &admit.ticket {
            // The founder needs none, nor does a member that has lost its log and begins anew.
            None => self.last == 0 || self.may_begin_anew(admit),
            Some(hash) => self.tickets.get(hash).is_some_and(|t| t.uses > 0 && time <= t.until),
        };
        if !is_open {
            return Some(Refusal::NoTicket);
        }
        (self.members.len() >= MAX_ADMITTED).then_some(Refusal::Full(bound::MEMBERS))
    }

    /// Whether this admits a member once more, under another id. Not one that has become a member
    /// since it was said: it was said of another joining, which is over.
    fn may_begin_anew(&self, admit: &Admit) -> bool {
        let member = self.of_peer(&admit.peer).map(|(_, member)| member);
        member.is_some_and(|m| m.node == admit.node && m.since <= admit.after)
    }

    pub(super) fn write_head(&self, w: &mut Writer) {
        w.uint(self.last).uint(self.generation).uint(self.forgotten);
        match &self.recovery {
            None => {
                w.null();
            }
            Some(Recovery { index, time, node, dropped }) => {
                w.array(4).uint(*index).uint(*time).text(node).array(dropped.len());
                for node in dropped {
                    w.text(node);
                }
            }
        }
        match &self.checkpoint {
            None => {
                w.null();
            }
            Some(checkpoint) => checkpoint.write(w.array(5)),
        }
    }

    pub(super) fn read_head(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        (self.last, self.generation, self.forgotten) = (r.uint()?, r.uint()?, r.uint()?);
        if !r.null() {
            r.array_of(4)?;
            let (index, time, node) = (r.uint()?, r.uint()?, codec::read_name(r)?);
            let len = codec::array_up_to(r, MAX_ADMITTED, "members")?;
            let dropped = (0..len).map(|_| codec::read_name(r)).collect::<Result<_, _>>()?;
            self.recovery = Some(Recovery { index, time, node, dropped });
        }
        if !r.null() {
            r.array_of(5)?;
            self.checkpoint = Some(Checkpoint::read(r)?);
        }
        Ok(())
    }

    /// As a snapshot says; false if the member is there already.
    pub(super) fn restore_member(&mut self, r: &mut Reader<'_>) -> Result<bool, Error> {
        r.array_of(6)?;
        let id = r.uint()?;
        let (peer, node) = (codec::read_peer(r)?, codec::read_name(r)?);
        let nonce = r.fixed()?;
        let part = match r.uint()? {
            0 => Some(Part::Admitted),
            1 => Some(Part::Learner),
            2 => Some(Part::Voter),
            GONE => None,
            _ => return Err(r.invalid("an unknown part of a member")),
        };
        let (len, bound) = match part {
            Some(_) => (self.members.len(), MAX_ADMITTED),
            None => (self.removed.len(), MAX_REMOVED),
        };
        if id == 0 || id > self.last || len >= bound {
            return Err(r.invalid("an id that was not handed out, or one member too many"));
        }
        let since = r.uint()?;
        let is_known = self.members.contains_key(&id) || self.removed.contains_key(&id);
        match part {
            Some(part) => {
                self.members.insert(id, Member { peer, node, nonce, part, since });
            }
            None => {
                self.removed.insert(id, Removed { peer, node, nonce, at: since });
            }
        }
        Ok(!is_known)
    }

    /// As a snapshot says; false if the ticket is there already.
    pub(super) fn restore_ticket(&mut self, r: &mut Reader<'_>) -> Result<bool, Error> {
        r.array_of(4)?;
        let hash = r.fixed()?;
        let ticket = Ticket { until: r.uint()?, uses: r.uint32()?, since: r.uint()? };
        let is_known = self.tickets.contains_key(&hash) || self.spent.contains_key(&hash);
        let (len, bound) = match ticket.uses {
            0 => (self.spent.len(), MAX_SPENT),
            _ => (self.tickets.len(), MAX_TICKETS),
        };
        if len >= bound {
            return Err(r.invalid("one ticket too many"));
        }
        match ticket.uses {
            0 => drop(self.spent.insert(hash, ticket.until)),
            _ => drop(self.tickets.insert(hash, ticket)),
        }
        Ok(!is_known)
    }
}

pub(super) fn write_member(w: &mut Writer, id: u64, member: &Member) {
    w.array(6).uint(id).bytes(&member.peer).text(&member.node).bytes(&member.nonce);
    w.uint(match member.part {
        Part::Admitted => 0,
        Part::Learner => 1,
        Part::Voter => 2,
    });
    w.uint(member.since);
}

pub(super) fn write_removed(w: &mut Writer, id: u64, removed: &Removed) {
    w.array(6).uint(id).bytes(&removed.peer).text(&removed.node).bytes(&removed.nonce);
    w.uint(GONE).uint(removed.at);
}

pub(super) fn write_ticket(w: &mut Writer, hash: &[u8; 32], ticket: Ticket) {
    w.array(4).bytes(hash).uint(ticket.until).uint(u64::from(ticket.uses)).uint(ticket.since);
}

impl State {
    /// Who takes part in the space.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn admit(&mut self, admit: Admit) -> Outcome {
        if let Some((_, member)) = self.membership.joined(&admit.peer, &admit.nonce) {
            return Outcome::Committed(member.since);
        }
        if let Some(why) = self.membership.refuses(&admit, self.time) {
            return self.refused(why);
        }
        let membership = &mut self.membership;
        if let Some(hash) = admit.ticket
            && let Some(ticket) = membership.tickets.get_mut(&hash)
        {
            ticket.uses -= 1;
            if ticket.uses == 0 {
                membership.spend(hash);
            }
        }
        let is_founder = membership.last == 0 && admit.ticket.is_none();
        membership.last += 1;
        membership.changed = self.index;
        let part = if is_founder { Part::Voter } else { Part::Admitted };
        let Admit { peer, node, nonce, ticket: _, after: _ } = admit;
        let member = Member { peer, node, nonce, part, since: self.index };
        membership.members.insert(membership.last, member);
        Outcome::Committed(self.index)
    }

    pub(super) fn issue_ticket(&mut self, issue: &IssueTicket) -> Outcome {
        let (membership, time) = (&mut self.membership, self.time);
        membership.tickets.retain(|_, ticket| time <= ticket.until);
        membership.spent.retain(|_, until| time <= *until);
        let tickets = &mut membership.tickets;
        if tickets.len() >= MAX_TICKETS && !tickets.contains_key(&issue.hash) {
            return self.refused(Refusal::Full(bound::TICKETS));
        }
        // Sent again it gives nothing back that was used or taken meanwhile.
        let is_open = tickets.contains_key(&issue.hash);
        if !is_open && membership.spent.get(&issue.hash) != Some(&issue.until) {
            membership.spent.remove(&issue.hash);
            let (until, uses, since) = (issue.until, issue.uses, self.index);
            tickets.insert(issue.hash, Ticket { until, uses, since });
            if issue.uses == 0 {
                membership.spend(issue.hash);
            }
        }
        membership.changed = self.index;
        Outcome::Committed(self.index)
    }

    pub(super) fn revoke_tickets(&mut self, hashes: &[[u8; 32]], after: u64) -> Outcome {
        let known = self.membership.tickets.iter().filter(|(_, ticket)| ticket.since <= after);
        let is_named = |hash: &[u8; 32]| hashes.is_empty() || hashes.contains(hash);
        let named: Vec<[u8; 32]> = known.map(|(hash, _)| *hash).filter(is_named).collect();
        named.into_iter().for_each(|hash| self.membership.spend(hash));
        self.membership.changed = self.index;
        Outcome::Committed(self.index)
    }

    pub(super) fn configure(&mut self, configure: &Configure) -> Outcome {
        self.membership.changed = self.index;
        for &id in &configure.removed {
            self.membership.remove(id, self.index);
        }
        for (id, member) in &mut self.membership.members {
            if configure.voters.contains(id) {
                member.part = Part::Voter;
            } else if configure.learners.contains(id) {
                member.part = Part::Learner;
            }
        }
        Outcome::Committed(self.index)
    }

    /// The log goes on with one voter; the others, if they are ever seen again, join anew. It may have been
    /// removed by what it had in its log and did not know to be committed: it goes on all the same.
    pub(super) fn recover(&mut self, recover: &Recover) -> Outcome {
        if recover.generation <= self.membership.generation {
            return self.refused(Refusal::Malformed);
        }
        (self.membership.generation, self.membership.changed) = (recover.generation, self.index);
        self.membership.recovery = Some(Recovery {
            index: self.index,
            time: self.time,
            node: recover.node.clone(),
            dropped: recover.dropped.values().cloned().collect(),
        });
        let all: Vec<u64> = self.membership.members.keys().copied().collect();
        for id in all.into_iter().filter(|&id| id != recover.voter) {
            self.membership.remove(id, self.index);
        }
        let since = self.index;
        if !self.membership.members.contains_key(&recover.voter)
            && let Some(removed) = self.membership.removed.remove(&recover.voter)
        {
            let Removed { peer, node, nonce, at: _ } = removed;
            let member = Member { peer, node, nonce, part: Part::Voter, since };
            self.membership.members.insert(recover.voter, member);
        }
        for member in self.membership.members.values_mut() {
            member.part = Part::Voter;
        }
        Outcome::Committed(self.index)
    }

    pub(super) fn check_point(&mut self, checkpoint: Checkpoint) -> Outcome {
        if self.membership.doubts(&checkpoint, self.index) {
            return self.refused(Refusal::Malformed);
        }
        (self.membership.checkpoint, self.membership.changed) = (Some(checkpoint), self.index);
        Outcome::Committed(self.index)
    }
}
