//! What a message must pass before Raft sees it.
//!
//! Raft trusts its peers and panics where one contradicts it. Here each such place is closed:
//! a heartbeat or an answer that speaks of entries beyond the log's end, a vote counted while
//! entries are on their way to disk, a call to stand for election while a snapshot is.
//!
//! Who may speak: answers are taken from members only. The rest is taken from whom the transport
//! has proved to be who they say they are, for a member that lags behind does not know yet who has
//! joined, and must follow (Raft thesis §4.1) and vote nevertheless.

use super::message::{self, Mark};
use super::types::{Refusal, Role};
use super::{MAX_MESSAGE_BYTES, Order};
use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

/// Reads of other members that a leader holds.
const MAX_FOREIGN_READS: usize = 4096;

impl Order {
    /// A message as Raft may see it.
    pub(super) fn admit(&self, from: u64, bytes: &Bytes) -> Result<Message, Refusal> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Refusal::TooLong(bytes.len()));
        }
        let (mark, message) = message::decode(bytes)?;
        self.check_address(from, &mark, &message)?;
        self.check_content(&message)?;
        Ok(message)
    }

    fn check_address(&self, from: u64, mark: &Mark, m: &Message) -> Result<(), Refusal> {
        if mark.group != self.mark.group {
            Err(Refusal::OtherGroup)
        } else if mark.generation != self.mark.generation {
            Err(Refusal::OtherGeneration(mark.generation))
        } else if m.from != from || from == self.config.node {
            Err(Refusal::Forged { claimed: m.from })
        } else if m.to != self.config.node {
            Err(Refusal::Misdirected { to: m.to })
        } else {
            Ok(())
        }
    }

    /// The first entry of a leader's that is another than the committed one here. Raft itself does not look: it takes
    /// for granted that what is committed is the same everywhere, and answers that it has it.
    fn apart(&self, m: &Message) -> Option<u64> {
        let log = &self.raft.raft.raft_log;
        let differs = |(index, theirs): &(u64, u64)| {
            // Nothing is known of what was compacted away.
            let ours = log.term(*index).unwrap_or(0);
            *index <= log.committed && ours != 0 && ours != *theirs
        };
        let before = (m.index, m.log_term);
        let entries = m.entries.iter().map(|entry| (entry.index, entry.term));
        let mut all = std::iter::once(before).chain(entries);
        all.find(differs).map(|(index, _)| index)
    }

    fn check_content(&self, m: &Message) -> Result<(), Refusal> {
        let raft = &self.raft.raft;
        let ours = raft.raft_log.last_index();
        let within = |theirs| {
            if theirs <= ours { Ok(()) } else { Err(Refusal::BeyondLog { theirs, ours }) }
        };
        // What a message of an older term says is answered or ignored, not believed.
        let current = m.term >= raft.term;
        match m.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if self.is_mute => {
                Err(Refusal::Mute)
            }
            MessageType::MsgHeartbeat if current => within(m.commit),
            MessageType::MsgAppend if current && let Some(index) = self.apart(m) => {
                Err(Refusal::Apart { index })
            }
            MessageType::MsgAppend if !m.entries.is_empty() => {
                if self.is_full() {
                    Err(Refusal::Overloaded)
                } else {
                    Ok(())
                }
            }
            MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
                if !self.members.contains(m.from) =>
            {
                Err(Refusal::Stranger)
            }
            // Late answers to a leader that has crashed since may well speak of what it lost.
            MessageType::MsgAppendResponse
                if m.term == raft.term && self.role() == Role::Leader =>
            {
                within(m.index.max(m.reject_hint))
            }
            MessageType::MsgRequestVoteResponse
                if m.term == raft.term
                    && raft.state == StateRole::Candidate
                    && !self.is_settled_on_disk() =>
            {
                Err(Refusal::Untimely)
            }
            MessageType::MsgTimeoutNow if current && !self.may_campaign() => Err(Refusal::Untimely),
            MessageType::MsgReadIndex if self.role() != Role::Leader => Err(Refusal::Untimely),
            MessageType::MsgReadIndex if !self.members.contains(m.from) => Err(Refusal::Stranger),
            MessageType::MsgReadIndex if raft.pending_read_count() >= MAX_FOREIGN_READS => {
                Err(Refusal::Overloaded)
            }
            _ => Ok(()),
        }
    }
}
