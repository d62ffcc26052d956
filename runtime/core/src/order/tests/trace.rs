//! Outputs and messages as a line for people.

use super::super::{message, store};
use crate::order::*;
use raft::eraftpb::MessageType;
use std::fmt::Write;

/// One output of `node`.
pub(super) fn output(node: u64, output: &Output) -> String {
    let mut line = format!("{node} ");
    let text = match output {
        Output::Appended { ticket, term, index } => format!("ticket {ticket} is {index}/{term}"),
        Output::Commit { entries: list, through } => {
            format!("commits to {}{}", position(*through), committed(list))
        }
        Output::Dropped { ticket, why } => format!("ticket {ticket} dropped: {why}"),
        Output::Fetch { first, last, .. } => format!("fetches {first} to {last}"),
        Output::Persist(persist) => persisted(persist),
        Output::ReadReady { ticket, index } => format!("ticket {ticket} may read at {index}"),
        Output::Refused { from, why } => format!("refuses a message of {from}: {why}"),
        Output::Role { role, term, leader } => match leader {
            Some(leader) => format!("{role:?} in term {term}, led by {leader}").to_lowercase(),
            None => format!("{role:?} in term {term}").to_lowercase(),
        },
        Output::Send { to, message, after, snapshot, urgent: _ } => {
            let after = after.map(|n| format!(" (after write {n})")).unwrap_or_default();
            let with = if snapshot.is_some() { ", with the file" } else { "" };
            format!("-> {to} {}{with}{after}", sent(message))
        }
        Output::SnapshotWanted { index } => format!("wants a snapshot of {index} or later"),
    };
    line.push_str(&text);
    line
}

/// A message, without its marks.
pub(super) fn sent(bytes: &Bytes) -> String {
    let (_, m) = message::decode(bytes).unwrap();
    let (index, term) = (m.index, m.log_term);
    let rejects = if m.reject { ", no" } else { "" };
    let text = match m.get_msg_type() {
        MessageType::MsgAppend => {
            let list: Vec<_> = m.entries.iter().map(store::from_raft).collect();
            format!("append after {index}/{term}, commit {}{}", m.commit, entries(&list))
        }
        MessageType::MsgAppendResponse if m.reject => {
            format!("no append at {index}, try {}/{term}", m.reject_hint)
        }
        MessageType::MsgAppendResponse => format!("appended to {index}, commit {}", m.commit),
        MessageType::MsgHeartbeat => format!("heartbeat, commit {}", m.commit),
        MessageType::MsgHeartbeatResponse => "heartbeat answer".to_owned(),
        MessageType::MsgRequestVote => format!("vote? log to {index}/{term}"),
        MessageType::MsgRequestPreVote => format!("pre-vote? log to {index}/{term}"),
        MessageType::MsgRequestVoteResponse => format!("vote{rejects}"),
        MessageType::MsgRequestPreVoteResponse => format!("pre-vote{rejects}"),
        MessageType::MsgSnapshot => {
            let meta = store::snapshot_from_raft(m.get_snapshot());
            format!("snapshot {} {}", position(meta.position), meta.members)
        }
        MessageType::MsgTimeoutNow => "stand for election now".to_owned(),
        MessageType::MsgReadIndex => "read?".to_owned(),
        MessageType::MsgReadIndexResp => format!("read at {index}"),
        other => panic!("{other:?} never leaves"),
    };
    if m.term == 0 { text } else { format!("[{}] {text}", m.term) }
}

/// Entries, each as ` index/term data`.
pub(super) fn entries(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let what = match (entry.kind, entry.changes()) {
            (EntryKind::Normal, _) => data(&entry.data),
            (EntryKind::ConfChange, Ok(changes)) => format!("{changes:?}"),
            (EntryKind::ConfChange, Err(error)) => error.to_string(),
        };
        write!(text, " | {}/{} {what}", entry.index, entry.term).unwrap();
    }
    text
}

fn persisted(persist: &Persist) -> String {
    let mut text = format!("write {}:", persist.number);
    if let Some(snapshot) = &persist.snapshot {
        write!(text, " snapshot {} {}", position(snapshot.position), snapshot.members).unwrap();
    }
    if let Some(HardState { term, vote, commit }) = persist.hard_state {
        write!(text, " term {term} vote {vote} commit {commit}").unwrap();
    }
    text + &entries(&persist.entries)
}

fn committed(entries: &[Committed]) -> String {
    let mut text = String::new();
    for entry in entries {
        write!(text, " | {}/{} {}", entry.index, entry.term, data(&entry.data)).unwrap();
        if let Some(members) = &entry.members {
            write!(text, " ({members})").unwrap();
        }
    }
    text
}

fn position(position: Position) -> String {
    format!("{}/{}", position.index, position.term)
}

fn data(data: &[u8]) -> String {
    match data.len() {
        0..=40 => format!("{:?}", String::from_utf8_lossy(data)),
        len => format!("{len} bytes"),
    }
}
