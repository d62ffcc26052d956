//! Who takes part in a space, by its rules: all joinings that there ever were, in order, so that the id
//! of each is its place, and all tickets, the newest of each secret last.

use super::space::Why;
use bytes::Bytes;
use synod_core::apply::{MAX_ADMITTED, Part};
use synod_core::command::{Admit, Checkpoint, Configure, IssueTicket, Recover};

/// One joining of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The node's id in the network.
    pub peer: Bytes,
    /// Its name.
    pub node: String,
    /// Which of its joinings it is.
    pub nonce: [u8; 16],
    /// What it does; nothing, if it is a member no longer.
    pub part: Option<Part>,
    /// The index at which it was admitted.
    pub since: u64,
}

/// A ticket that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The hash of its secret.
    pub hash: [u8; 32],
    /// Until when it is good.
    pub until: u64,
    /// How many it may still admit; none, if it was taken back.
    pub left: u32,
    /// The index at which it was issued.
    pub since: u64,
}

/// Who takes part.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// All joinings, those that are over too.
    pub joinings: Vec<Joining>,
    issued: Vec<Issued>,
    /// How often the space was recovered.
    pub generation: u64,
    /// The last index that most voters agreed on.
    pub agreed: u64,
}

impl Members {
    /// Members with their ids.
    pub fn present(&self) -> impl Iterator<Item = (u64, &Joining)> {
        (1..).zip(&self.joinings).filter(|(_, joining)| joining.part.is_some())
    }

    /// The tickets that are good at this time.
    pub fn good(&self, time: u64) -> impl Iterator<Item = &Issued> {
        self.issued.iter().filter(move |ticket| ticket.left > 0 && time <= ticket.until)
    }

    /// The index at which the node became a member, now or before.
    pub fn admit(&mut self, admit: &Admit, index: u64, time: u64) -> Result<u64, Why> {
        let Admit { peer, node, nonce, ticket, after } = admit;
        let is_it = |joining: &Joining| joining.peer == *peer && joining.nonce == *nonce;
        if let Some((_, known)) = self.present().find(|(_, joining)| is_it(joining)) {
            return Ok(known.since);
        }
        // So many that some are forgotten are not removed here.
        if self.joinings.iter().any(is_it) {
            return Err(Why::Removed);
        }
        if self.present().any(|(_, other)| other.node == *node && other.peer != *peer) {
            return Err(Why::NameTaken);
        }
        let is_good = match ticket {
            // A member may begin anew, if that was said of its last joining.
            None => {
                let mut joinings = self.joinings.iter().rev();
                let last = joinings.find(|j| j.part.is_some() && j.peer == *peer);
                let is_meant = |j: &Joining| j.node == *node && j.since <= *after;
                self.joinings.is_empty() || last.is_some_and(is_meant)
            }
            Some(hash) => self.good(time).any(|ticket| ticket.hash == *hash),
        };
        if !is_good {
            return Err(Why::NoTicket);
        }
        if self.present().count() >= MAX_ADMITTED {
            return Err(Why::Full);
        }
        let good = |t: &&mut Issued| Some(t.hash) == *ticket && t.left > 0 && time <= t.until;
        self.issued.iter_mut().filter(good).for_each(|ticket| ticket.left -= 1);
        let founds = ticket.is_none() && self.joinings.is_empty();
        let part = Some(if founds { Part::Voter } else { Part::Admitted });
        let (peer, node, nonce) = (peer.clone(), node.clone(), *nonce);
        self.joinings.push(Joining { peer, node, nonce, part, since: index });
        Ok(index)
    }

    /// Takes the command in, that of this index.
    pub fn issue(&mut self, issue: &IssueTicket, since: u64, time: u64) {
        let &IssueTicket { hash, until, uses } = issue;
        // A copy of the command that issued one which was used up or taken back opens none again.
        let last = self.issued.iter().rfind(|ticket| ticket.hash == hash);
        let may_be_copy =
            |last: &Issued| time <= last.until && (last.left > 0 || last.until == until);
        if !last.is_some_and(may_be_copy) {
            self.issued.push(Issued { hash, until, left: uses, since });
        }
    }

    /// All of them that were issued up to an index, if none is named.
    pub fn revoke(&mut self, hashes: &[[u8; 32]], after: u64) {
        let named = |ticket: &Issued| hashes.is_empty() || hashes.contains(&ticket.hash);
        let mut issued = self.issued.iter_mut();
        // A ticket that is over is as if it were not there.
        while let Some(ticket) = issued.find(|t| t.since <= after && named(t)) {
            ticket.left = 0;
        }
    }

    /// Takes the command in.
    pub fn configure(&mut self, configure: &Configure) {
        for (id, joining) in (1..).zip(&mut self.joinings) {
            joining.part = match joining.part {
                None => None,
                Some(_) if configure.removed.contains(&id) => None,
                Some(_) if configure.voters.contains(&id) => Some(Part::Voter),
                Some(_) if configure.learners.contains(&id) => Some(Part::Learner),
                part => part,
            };
        }
    }

    /// Takes the command in: whom it names is the only member from there on.
    pub fn recover(&mut self, recover: &Recover, index: u64) -> Result<(), Why> {
        if recover.generation <= self.generation {
            return Err(Why::Malformed);
        }
        self.generation = recover.generation;
        for (id, joining) in (1..).zip(&mut self.joinings) {
            if id == recover.voter && joining.part.is_none() {
                // It was removed, and goes on nevertheless.
                joining.since = index;
            }
            joining.part = (id == recover.voter).then_some(Part::Voter);
        }
        Ok(())
    }

    /// It is of the past, of this generation, newer than the last, and signed by more than half of those
    /// who vote and by nobody else.
    pub(super) fn check_point(&mut self, checkpoint: &Checkpoint, index: u64) -> Result<(), Why> {
        let votes = |joining: &&Joining| joining.part == Some(Part::Voter);
        let voters = self.joinings.iter().filter(votes).count();
        let signed = checkpoint.signatures.iter().filter(|signature| {
            let voter = self.present().find(|(id, _)| *id == signature.member).map(|(_, it)| it);
            voter.filter(votes).is_some_and(|voter| voter.peer == signature.peer)
        });
        let (signed, mark) = (signed.count(), checkpoint.mark.index);
        let is_whole = signed == checkpoint.signatures.len() && signed > voters / 2;
        if !is_whole
            || checkpoint.generation != self.generation
            || mark <= self.agreed
            || mark >= index
        {
            return Err(Why::Malformed);
        }
        self.agreed = mark;
        Ok(())
    }
}
