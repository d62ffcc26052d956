//! Raft's messages as bytes: one CBOR item each, read strictly and bounded, so that nothing that a
//! peer sends ever reaches a protobuf decoder.
//!
//! ```text
//! message = [1, group: bstr .size 32, generation, from, to, body]
//! body    = [0, term, log_term, index, commit, [* [term, kind, data: bstr]]]  append
//!         / [1, term, index, commit, null / [hint_index, hint_term]]          append answer; a hint rejects
//!         / [2, term, commit, context: bstr]                                  heartbeat
//!         / [3, term, commit, context: bstr]                                  heartbeat answer
//!         / [4, term, index, log_term, commit, commit_term, bool]             vote; true: leader's wish
//!         / [5, term, commit, commit_term, bool]                              vote answer; true rejects
//!         / [6, term, index, log_term, commit, commit_term]                   pre-vote
//!         / [7, term, commit, commit_term, bool]                              pre-vote answer
//!         / [8, term, index, snapshot_term, members]                          snapshot
//!         / [9, term]                                                         stand for election now
//!         / [10, context: bstr]                                               read index
//!         / [11, term, index, context: bstr]                                  read index answer
//! ```
//!
//! What Raft could send and is not listed never leaves: proposals and transfers of leadership are
//! the leader's own. Indexes of entries are not sent, for they follow from the message's.

use super::store::{self, snapshot_from_raft, snapshot_to_raft};
use super::types::{Entry, EntryKind, Position, SnapshotMeta};
use super::{MAX_ENTRY_BYTES, Members};
use crate::cbor::{Error, Reader, Writer};
use bytes::Bytes;
use raft::eraftpb::{self, Message, MessageType};

/// The version of this format; another one is refused.
const VERSION: u64 = 1;
/// Terms and indexes stay below this, so that adding to them never overflows.
const MAX_NUMBER: u64 = 1 << 62;
/// Entries in one message. Longer runs of tiny entries are sent as several messages.
pub(super) const MAX_ENTRIES: usize = 4096;
/// Bytes of the context that heartbeats and reads carry.
pub(super) const MAX_CONTEXT_BYTES: usize = 64;

/// `raft-rs` marks the votes of a wished-for transfer by this context.
const TRANSFER: &[u8] = raft::CAMPAIGN_TRANSFER;

/// What every message of a group is marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) group: [u8; 32],
    pub(super) generation: u64,
}

/// The bytes of a message: none for what never leaves, several if its entries are too many for one.
pub(super) fn encode(mark: &Mark, message: &Message) -> Vec<Bytes> {
    let kind = message.get_msg_type();
    if kind != MessageType::MsgAppend || message.entries.len() <= MAX_ENTRIES {
        return body(message, message.index, message.log_term, &message.entries)
            .map(|body| seal(mark, message, &body))
            .into_iter()
            .collect();
    }
    let (mut index, mut log_term) = (message.index, message.log_term);
    let mut parts = Vec::new();
    for entries in message.entries.chunks(MAX_ENTRIES) {
        parts.extend(body(message, index, log_term, entries).map(|b| seal(mark, message, &b)));
        (index, log_term) = entries.last().map_or((index, log_term), |e| (e.index, e.term));
    }
    parts
}

/// Reads a message and its marks; whom it claims to be from, and for whom it is, are the caller's
/// to check.
pub(super) fn decode(bytes: &Bytes) -> Result<(Mark, Message), Error> {
    let mut r = Reader::new(bytes);
    r.array_of(6)?;
    if r.clone().uint()? != VERSION {
        return Err(r.invalid("another version of this format"));
    }
    r.uint()?;
    let mark = Mark { group: r.fixed()?, generation: r.uint()? };
    let mut m = Message::default();
    (m.from, m.to) = (member(&mut r)?, member(&mut r)?);
    let start = r.clone();
    let len = r.array()?;
    let kind = r.uint()?;
    m.set_msg_type(kind_of(kind).ok_or_else(|| start.invalid("an unknown kind of message"))?);
    if len != length(m.get_msg_type()) {
        return Err(start.invalid("a message of another length"));
    }
    read_body(&mut r, &mut m, bytes)?;
    r.end()?;
    Ok((mark, m))
}

/// Whom a message says it is from, and whether it brings a snapshot. Nothing of it is checked.
pub fn peek(bytes: &[u8]) -> Result<(u64, bool), Error> {
    let mut r = Reader::new(bytes);
    r.array_of(6)?;
    r.uint()?;
    let _group: [u8; 32] = r.fixed()?;
    r.uint()?;
    let (from, _to) = (r.uint()?, r.uint()?);
    r.array()?;
    let kind = kind_of(r.uint()?);
    Ok((from, kind == Some(MessageType::MsgSnapshot)))
}

fn seal(mark: &Mark, message: &Message, body: &[u8]) -> Bytes {
    let mut w = Writer::onto(Vec::with_capacity(body.len() + 72));
    w.array(6).uint(VERSION).bytes(&mark.group).uint(mark.generation);
    w.uint(message.from).uint(message.to).raw(body);
    w.into_vec().into()
}

/// The numbers of the kinds on the wire, and how many items each body has.
const KINDS: [(MessageType, usize); 12] = [
    (MessageType::MsgAppend, 6),
    (MessageType::MsgAppendResponse, 5),
    (MessageType::MsgHeartbeat, 4),
    (MessageType::MsgHeartbeatResponse, 4),
    (MessageType::MsgRequestVote, 7),
    (MessageType::MsgRequestVoteResponse, 5),
    (MessageType::MsgRequestPreVote, 6),
    (MessageType::MsgRequestPreVoteResponse, 5),
    (MessageType::MsgSnapshot, 5),
    (MessageType::MsgTimeoutNow, 2),
    (MessageType::MsgReadIndex, 2),
    (MessageType::MsgReadIndexResp, 4),
];

fn kind_of(number: u64) -> Option<MessageType> {
    let number = usize::try_from(number).ok()?;
    KINDS.get(number).map(|(kind, _)| *kind)
}

fn length(kind: MessageType) -> usize {
    KINDS.iter().find(|(k, _)| *k == kind).map_or(0, |(_, length)| *length)
}

fn body(m: &Message, index: u64, log_term: u64, entries: &[eraftpb::Entry]) -> Option<Vec<u8>> {
    let kind = m.get_msg_type();
    let number = KINDS.iter().position(|(k, _)| *k == kind)?;
    let size: usize = entries.iter().map(|e| e.data.len() + e.context.len() + 24).sum();
    let mut w = Writer::onto(Vec::with_capacity(64 + size));
    w.array(length(kind)).uint(number as u64);
    if kind != MessageType::MsgReadIndex {
        w.uint(m.term);
    }
    match kind {
        MessageType::MsgAppend => {
            w.uint(log_term).uint(index).uint(m.commit).array(entries.len());
            for entry in entries.iter().map(store::from_raft) {
                w.array(3).uint(entry.term).uint(entry.kind.number()).bytes(&entry.data);
            }
        }
        MessageType::MsgAppendResponse => {
            w.uint(index).uint(m.commit);
            if m.reject {
                w.array(2).uint(m.reject_hint).uint(log_term);
            } else {
                w.null();
            }
        }
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => {
            w.uint(m.commit).bytes(&m.context);
        }
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            w.uint(index).uint(log_term).uint(m.commit).uint(m.commit_term);
            if kind == MessageType::MsgRequestVote {
                w.bool(m.context == TRANSFER);
            }
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            w.uint(m.commit).uint(m.commit_term).bool(m.reject);
        }
        MessageType::MsgSnapshot => {
            let meta = snapshot_from_raft(m.get_snapshot());
            w.uint(meta.position.index).uint(meta.position.term);
            meta.members.encode_into(&mut w);
        }
        MessageType::MsgReadIndex => {
            w.bytes(read_context(m));
        }
        MessageType::MsgReadIndexResp => {
            w.uint(index).bytes(read_context(m));
        }
        _ => {}
    }
    Some(w.into_vec())
}

fn read_body(r: &mut Reader<'_>, m: &mut Message, bytes: &Bytes) -> Result<(), Error> {
    let kind = m.get_msg_type();
    if kind != MessageType::MsgReadIndex {
        m.term = number(r)?;
        if m.term == 0 {
            return Err(r.invalid("term 0 has no messages"));
        }
    }
    match kind {
        MessageType::MsgAppend => {
            (m.log_term, m.index, m.commit) = (number(r)?, number(r)?, number(r)?);
            // raft-rs finds term 0 wherever its log does not reach, and takes that for a match.
            if (m.log_term == 0) != (m.index == 0) {
                return Err(r.invalid("term 0 stands before index 1 and nowhere else"));
            }
            m.set_entries(read_entries(r, m, bytes)?.into());
        }
        MessageType::MsgAppendResponse => {
            (m.index, m.commit) = (number(r)?, number(r)?);
            if !r.null() {
                r.array_of(2)?;
                (m.reject, m.reject_hint, m.log_term) = (true, number(r)?, number(r)?);
            }
        }
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => {
            (m.commit, m.context) = (number(r)?, context(r, bytes)?);
        }
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            (m.index, m.log_term) = (number(r)?, number(r)?);
            (m.commit, m.commit_term) = (number(r)?, number(r)?);
            if kind == MessageType::MsgRequestVote && r.bool()? {
                m.context = Bytes::from_static(TRANSFER);
            }
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            (m.commit, m.commit_term, m.reject) = (number(r)?, number(r)?, r.bool()?);
        }
        MessageType::MsgSnapshot => {
            let position = Position { index: number(r)?, term: number(r)? };
            if position.index == 0 || position.term == 0 || position.term > m.term {
                return Err(r.invalid("a snapshot of no place in the log"));
            }
            let members = Members::decode_from(r)?;
            m.set_snapshot(snapshot_to_raft(&SnapshotMeta { position, members }));
        }
        MessageType::MsgReadIndex => {
            m.set_entries(vec![read_entry(context(r, bytes)?)].into());
        }
        MessageType::MsgReadIndexResp => {
            m.index = number(r)?;
            m.set_entries(vec![read_entry(context(r, bytes)?)].into());
        }
        _ => {}
    }
    Ok(())
}

/// Entries as a leader may send them: terms never go back and never pass the leader's own.
fn read_entries(
    r: &mut Reader<'_>,
    m: &Message,
    bytes: &Bytes,
) -> Result<Vec<eraftpb::Entry>, Error> {
    let len = r.array()?;
    if len > MAX_ENTRIES {
        return Err(r.invalid("too many entries"));
    }
    let mut entries = Vec::with_capacity(len);
    let (mut index, mut term) = (m.index, m.log_term.max(1));
    for _ in 0..len {
        r.array_of(3)?;
        let ascending = term..=m.term;
        term = number(r)?;
        if !ascending.contains(&term) {
            return Err(r.invalid("an entry of a term out of order"));
        }
        index += 1;
        let kind = EntryKind::from_number(r.uint()?);
        let kind = kind.ok_or_else(|| r.invalid("an unknown kind of entry"))?;
        let data = r.bytes()?;
        if data.len() > MAX_ENTRY_BYTES {
            return Err(r.invalid("an entry that is too large"));
        }
        let data = bytes.slice_ref(data);
        entries.push(store::to_raft(Entry { term, index, kind, data }));
    }
    Ok(entries)
}

fn number(r: &mut Reader<'_>) -> Result<u64, Error> {
    match r.uint()? {
        n if n < MAX_NUMBER => Ok(n),
        _ => Err(r.invalid("a term or an index that is too large")),
    }
}

fn member(r: &mut Reader<'_>) -> Result<u64, Error> {
    match r.uint()? {
        0 => Err(r.invalid("0 is not the id of a member")),
        id => Ok(id),
    }
}

fn context(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Bytes, Error> {
    let context = r.bytes()?;
    if context.len() > MAX_CONTEXT_BYTES {
        return Err(r.invalid("a context that is too long"));
    }
    Ok(bytes.slice_ref(context))
}

fn read_context(m: &Message) -> &[u8] {
    m.entries.first().map_or(&[], |entry| &entry.data)
}

fn read_entry(context: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { data: context, ..eraftpb::Entry::default() }
}
