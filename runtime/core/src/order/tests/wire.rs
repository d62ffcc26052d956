//! The bytes of messages: what they are (a golden file), that any bytes are a message that encodes
//! to the same bytes or an error.

use crate::order::members::ChangeSet;
use crate::order::message::{MAX_CONTEXT_BYTES, MAX_ENTRIES, Mark, decode, encode};
use crate::order::store::{snapshot_to_raft, to_raft};
use crate::order::*;
use proptest::collection::vec;
use proptest::prelude::*;
use raft::eraftpb::{self, Message, MessageType};
use std::fmt::Write;

pub(super) const GOLDEN: &str = "messages.golden.txt";

pub(super) const MARK: Mark = Mark { group: [7; 32], generation: 3 };

#[test]
fn the_format_is_the_golden_file() {
    let mut text =
        "# A message of each kind, as the bytes that members exchange (version 1), and what logs hold.\n".to_owned();
    for (name, message) in samples() {
        let bytes = encode(&MARK, &message);
        assert_eq!(bytes.len(), 1, "{name}");
        assert_eq!(decode(&bytes[0]), Ok((MARK, message)), "{name}");
        let hex: String = bytes[0].iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "\n{name}\n{hex}").unwrap();
    }
    let hex: String = change_set().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(text, "\nthe data of an entry that changes the members\n{hex}").unwrap();
    let path = format!("{}/testdata/order/{GOLDEN}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn what_belongs_to_the_leader_alone_never_leaves() {
    for kind in [MessageType::MsgPropose, MessageType::MsgTransferLeader, MessageType::MsgHup] {
        let message = Message { msg_type: kind, ..Message::default() };
        assert_eq!(encode(&MARK, &message), Vec::<Bytes>::new());
    }
}

#[test]
fn many_tiny_entries_leave_as_several_messages_that_join() {
    let count = MAX_ENTRIES * 2 + 1;
    let entries = (1..=count as u64).map(|n| entry(n + 5, 2, b"e"));
    let mut whole = append(entries.collect());
    (whole.index, whole.log_term) = (5, 1);
    let parts = encode(&MARK, &whole);
    assert_eq!(parts.len(), 3);
    let (mut index, mut log_term) = (5, 1);
    let mut joined = Vec::new();
    for part in parts {
        let (_, part) = decode(&part).unwrap();
        assert_eq!((part.index, part.log_term, part.commit), (index, log_term, whole.commit));
        joined.extend(part.entries.iter().cloned());
        (index, log_term) = (joined.last().unwrap().index, 2);
    }
    assert_eq!(joined, whole.entries.to_vec());
}

#[test]
fn the_largest_append_is_a_message() {
    let one = append(vec![to_raft(Entry {
        index: 1,
        term: 1,
        kind: EntryKind::Normal,
        data: vec![0; MAX_ENTRY_BYTES].into(),
    })]);
    let bytes = encode(&MARK, &one).remove(0);
    assert!(bytes.len() <= MAX_MESSAGE_BYTES);
    assert_eq!(decode(&bytes), Ok((MARK, one)));
}

#[test]
fn each_bound_is_kept() {
    let long = vec![0; MAX_CONTEXT_BYTES + 1];
    let refused = [
        Message { index: 1, ..append(vec![]) },
        Message { log_term: 1, ..append(vec![]) },
        Message { term: 0, ..append(vec![]) },
        Message { index: 1 << 62, ..append(vec![]) },
        Message { from: 0, ..append(vec![]) },
        append(vec![entry(1, 3, b"of a later term than its leader's")]),
        append(vec![entry(1, 2, b"a"), entry(2, 1, b"of an earlier term than the one before")]),
        append(vec![entry(1, 1, &vec![0; MAX_ENTRY_BYTES + 1])]),
        Message { context: long.into(), ..of(MessageType::MsgHeartbeat) },
        Message { snapshot: snapshot(0, 1).into(), ..of(MessageType::MsgSnapshot) },
        Message { snapshot: snapshot(1, 3).into(), ..of(MessageType::MsgSnapshot) },
    ];
    for message in refused {
        let bytes = encode(&MARK, &message).remove(0);
        assert!(decode(&bytes).is_err(), "{message:?}");
    }
}

proptest! {
    #[test]
    fn messages_come_back(message in message(u64::MAX >> 2)) {
        let bytes = encode(&MARK, &message);
        prop_assert_eq!(bytes.len(), 1);
        prop_assert_eq!(decode(&bytes[0]), Ok((MARK, message)));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        check_bytes(bytes.into());
    }

    /// Bytes that are nearly a message get further than any.
    #[test]
    fn bytes_near_a_message_are_one_or_an_error(
        message in message(1 << 40),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4),
    ) {
        let mut bytes = encode(&MARK, &message).remove(0).to_vec();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        check_bytes(bytes.into());
    }

    #[test]
    fn any_data_is_a_change_of_members_or_an_error(
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = change_set().encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(set) = ChangeSet::decode(&bytes) {
            prop_assert_eq!(set.encode(), bytes);
        }
    }

    #[test]
    fn members_come_back(members in members()) {
        let mut w = crate::cbor::Writer::new();
        members.encode_into(&mut w);
        let bytes = w.into_vec();
        let mut r = crate::cbor::Reader::new(&bytes);
        prop_assert_eq!(Members::decode_from(&mut r), Ok(members));
        prop_assert_eq!(r.end(), Ok(()));
    }
}

fn check_bytes(bytes: Bytes) {
    if let Ok((mark, message)) = decode(&bytes) {
        assert_eq!(encode(&mark, &message), [bytes]);
    }
}

/// A message of any kind whose numbers are below `bound`.
pub(super) fn message(bound: u64) -> impl Strategy<Value = Message> {
    let numbers = prop::array::uniform5(0..bound);
    let entries = vec((0..3u64, any::<bool>(), vec(any::<u8>(), 0..6)), 0..5);
    let context = vec(any::<u8>(), 0..MAX_CONTEXT_BYTES);
    (0..12usize, 1..bound, numbers, any::<bool>(), entries, context, members()).prop_map(
        move |(
            kind,
            term,
            [index, log_term, commit, commit_term, hint],
            flag,
            entries,
            context,
            members,
        )| {
            let mut m = samples().swap_remove(kind).1;
            (m.term, m.index, m.commit) = (term, index, commit);
            match m.get_msg_type() {
                MessageType::MsgAppend => {
                    m.log_term = if index == 0 { 0 } else { log_term.clamp(1, term) };
                    let mut at = Position { index, term: m.log_term.max(1) };
                    let entries = entries.into_iter().map(|(later, normal, data)| {
                        at = Position { index: at.index + 1, term: (at.term + later).min(term) };
                        let kind = if normal { EntryKind::Normal } else { EntryKind::ConfChange };
                        to_raft(Entry { index: at.index, term: at.term, kind, data: data.into() })
                    });
                    m.set_entries(entries.collect::<Vec<_>>().into());
                }
                MessageType::MsgAppendResponse => {
                    m.reject = flag;
                    (m.reject_hint, m.log_term) = if flag { (hint, log_term) } else { (0, 0) };
                }
                MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => {
                    (m.index, m.context) = (0, context.into());
                }
                MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                    (m.log_term, m.commit_term) = (log_term, commit_term);
                    if !flag {
                        m.context.clear();
                    }
                }
                MessageType::MsgSnapshot => {
                    let index = index.max(1);
                    (m.index, m.commit) = (0, 0);
                    let position = Position { index, term: log_term.clamp(1, term) };
                    m.set_snapshot(snapshot_to_raft(&SnapshotMeta { position, members }));
                }
                MessageType::MsgTimeoutNow => (m.index, m.commit) = (0, 0),
                MessageType::MsgReadIndex => {
                    (m.term, m.index, m.commit) = (0, 0, 0);
                    m.mut_entries()[0].data = context.into();
                }
                MessageType::MsgReadIndexResp => {
                    m.commit = 0;
                    m.mut_entries()[0].data = context.into();
                }
                _ => (m.index, m.commit_term, m.reject) = (0, commit_term, flag),
            }
            m
        },
    )
}

fn members() -> impl Strategy<Value = Members> {
    let roles = prop::collection::btree_map(1..9u64, 0..5u8, 0..8);
    (roles, 1..9u64, 0..2u8, any::<bool>()).prop_map(|(mut roles, voter, role, auto_leave)| {
        roles.insert(voter, role);
        let of = |wanted: &[u8]| {
            let has = |(id, role): (&u64, &u8)| wanted.contains(role).then_some(*id);
            roles.iter().filter_map(has).collect()
        };
        let members = Members {
            voters: of(&[0, 1]),
            outgoing: of(&[1, 2, 3]),
            learners_next: of(&[3]),
            learners: of(&[4]),
            auto_leave: auto_leave && roles.values().any(|role| [1, 2, 3].contains(role)),
        };
        // More than may be: cut back to the least there can be.
        if members.check().is_ok() { members } else { Members::of_voters([voter]) }
    })
}

pub(super) fn of(kind: MessageType) -> Message {
    Message { msg_type: kind, from: 2, to: 1, term: 2, ..Message::default() }
}

pub(super) fn entry(index: u64, term: u64, data: &[u8]) -> eraftpb::Entry {
    let data = Bytes::copy_from_slice(data);
    to_raft(Entry { index, term, kind: EntryKind::Normal, data })
}

pub(super) fn append(entries: Vec<eraftpb::Entry>) -> Message {
    Message { commit: 4, entries: entries.into(), ..of(MessageType::MsgAppend) }
}

fn snapshot(index: u64, term: u64) -> Option<eraftpb::Snapshot> {
    let members = Members {
        voters: [1, 4].into(),
        learners: [6].into(),
        outgoing: [1, 2, 3].into(),
        learners_next: [3].into(),
        auto_leave: true,
    };
    Some(snapshot_to_raft(&SnapshotMeta { position: Position { index, term }, members }))
}

fn change_set() -> ChangeSet {
    let changes = vec![Change::Voter(4), Change::Learner(5), Change::Remove(2)];
    ChangeSet { changes, context: Bytes::from_static(b"context") }
}

/// One message of each kind, in the order of their numbers.
fn samples() -> Vec<(&'static str, Message)> {
    let read = vec![entry(0, 0, b"context")];
    let mut conf_change = entry(8, 2, b"");
    conf_change.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
    conf_change.context = Bytes::from_static(b"change");
    let mut whole = append(vec![entry(7, 1, b"data"), conf_change]);
    (whole.index, whole.log_term) = (6, 1);
    let rejects = Message {
        index: 9,
        reject: true,
        reject_hint: 7,
        log_term: 1,
        commit: 4,
        ..of(MessageType::MsgAppendResponse)
    };
    let vote = |kind| Message { index: 9, log_term: 2, commit: 4, commit_term: 1, ..of(kind) };
    let answer = |kind, reject| Message { reject, commit: 4, commit_term: 1, ..of(kind) };
    let context = Bytes::from_static(b"context");
    vec![
        ("append", whole),
        ("append answer", rejects),
        (
            "heartbeat",
            Message { commit: 4, context: context.clone(), ..of(MessageType::MsgHeartbeat) },
        ),
        (
            "heartbeat answer",
            Message { commit: 4, context, ..of(MessageType::MsgHeartbeatResponse) },
        ),
        (
            "vote",
            Message {
                context: Bytes::from_static(raft::CAMPAIGN_TRANSFER),
                ..vote(MessageType::MsgRequestVote)
            },
        ),
        ("vote answer", answer(MessageType::MsgRequestVoteResponse, true)),
        ("pre-vote", vote(MessageType::MsgRequestPreVote)),
        ("pre-vote answer", answer(MessageType::MsgRequestPreVoteResponse, false)),
        ("snapshot", Message { snapshot: snapshot(8, 2).into(), ..of(MessageType::MsgSnapshot) }),
        ("election now", of(MessageType::MsgTimeoutNow)),
        (
            "read",
            Message { term: 0, entries: read.clone().into(), ..of(MessageType::MsgReadIndex) },
        ),
        (
            "read answer",
            Message { index: 9, entries: read.into(), ..of(MessageType::MsgReadIndexResp) },
        ),
    ]
}
