//! What comes from other members, and the long work that is done for them.

use super::{OrderInput, OrderThread};
use crate::space::apply_thread::ApplyInput;
use crate::space::group::Asker;
use bytes::Bytes;
use std::path::PathBuf;
use synod_core::group::{Frame, Run};
use synod_core::log::{self, Reader};
use synod_core::order::{self, Entry, EntryKind, Input, SnapshotMeta};

/// Snapshots of others that are remembered until Raft has taken or left them.
const MAX_ARRIVED: usize = 8;

impl OrderThread {
    /// A frame, from whom the transport says.
    pub(super) fn receive(&mut self, peer: &Bytes, bytes: &Bytes) {
        match Frame::decode(bytes) {
            Ok(Frame::Raft(message)) => self.receive_raft(peer, message, false),
            Ok(frame) => self.receive_other(peer, frame),
            Err(e) => {
                self.shared.refused();
                tracing::debug!("a frame of a member cannot be read: {e}");
            }
        }
    }

    fn receive_raft(&mut self, peer: &Bytes, message: Bytes, with_snapshot: bool) {
        let from = match order::peek(&message) {
            // A snapshot's message is taken with its snapshot, and not without.
            Ok((from, is_snapshot)) if is_snapshot == with_snapshot => from,
            Ok(_) | Err(_) => return self.shared.refused(),
        };
        if !self.group.may_be(from, peer) {
            self.shared.refused();
            return tracing::debug!("a peer that is not member {from} speaks as if it were");
        }
        self.group.heard.insert(from, self.now());
        self.order.handle(self.now(), Input::Message { from, bytes: message });
    }

    fn receive_other(&mut self, peer: &Bytes, frame: Frame) {
        let membership = self.group.membership();
        let Some((member, _)) = membership.of_peer(peer) else {
            return self.shared.refused();
        };
        match frame {
            Frame::Propose { boot, first, commands } => {
                self.take_foreign(member, boot, Run { first, commands });
            }
            Frame::Dropped { boot, first, count, why } if boot == self.group.boot => {
                self.take_back(first, count, why);
            }
            Frame::Ask { number, ask } => {
                self.ask(ask, Asker::There { peer: peer.clone(), number });
            }
            Frame::Answer { number, why } => self.group.answered(number, why),
            // Of an earlier start of this node.
            Frame::Dropped { .. } | Frame::Raft(_) => {}
        }
    }

    /// A snapshot is safe on this node's disk, and this is the message that it belongs to.
    pub(super) fn receive_snapshot(
        &mut self,
        peer: &Bytes,
        file: PathBuf,
        meta: SnapshotMeta,
        frame: &Bytes,
    ) {
        if let Ok(Frame::Raft(message)) = Frame::decode(frame) {
            self.waiting.arrived.push_back((meta, file));
            if self.waiting.arrived.len() > MAX_ARRIVED {
                self.waiting.arrived.pop_front();
            }
            self.receive_raft(peer, message, true);
        }
    }

    /// Makes a snapshot that has arrived this node's state: the log goes on behind it.
    pub(super) fn install(&mut self, wanted: Option<&SnapshotMeta>) {
        let Some(wanted) = wanted else { return };
        let is_it = |(meta, _): &(SnapshotMeta, PathBuf)| meta.position == wanted.position;
        let found = self.waiting.arrived.iter().position(is_it);
        let Some((_, file)) = found.and_then(|place| self.waiting.arrived.remove(place)) else {
            // Raft has not seen such a message without its file.
            tracing::error!("the file of a snapshot that Raft has taken is not there");
            return;
        };
        let (at, members) = (wanted.position, wanted.members.clone());
        self.log.install(log::Position { term: at.term, index: at.index });
        drop(self.apply.send(ApplyInput::Install { file: file.clone(), at, members }));
        self.waiting.snapshot = Some((wanted.clone(), file));
    }

    /// Sends a member the snapshot that Raft offers it.
    pub(super) fn offer(&mut self, to: u64, meta: &SnapshotMeta, message: Bytes) {
        let file = self.waiting.snapshot.as_ref().filter(|(known, _)| known == meta);
        let Some((_, file)) = file else {
            self.order.handle(self.now(), Input::SnapshotSent { to, ok: false });
            return;
        };
        let sender = self.to_self.clone();
        let done = Box::new(move |ok| drop(sender.send(OrderInput::SnapshotSent { to, ok })));
        self.group.offer(to, self.id, file.clone(), message, done);
    }

    /// The connection to a peer has gone: what was on its way to it may be lost.
    pub(super) fn lose(&mut self, peer: &Bytes) {
        let membership = self.group.membership();
        let its = membership.members().iter().filter(|(_, member)| member.peer == *peer);
        let now = self.now();
        for (&to, _) in its {
            self.order.handle(now, Input::Unreachable { to });
        }
    }

    /// There is a connection to a peer: if it leads, it is given what may have been lost.
    pub(super) fn find(&mut self, peer: &Bytes) {
        let membership = self.group.membership();
        let is_leader = |(id, _): (u64, _)| self.order.leader() == Some(id);
        if membership.of_peer(peer).is_some_and(is_leader) {
            self.shared.own().give_all_again();
        }
    }

    /// Reads old entries for a member that lags behind, on a thread of its own.
    pub(super) fn fetch(&mut self, first: u64, last: u64, max_bytes: u64) {
        let (reader, to_self) = (self.log.reader(), self.to_self.clone());
        let fetch = move || {
            let entries = read(&reader, first, last, max_bytes).unwrap_or_else(|e| {
                tracing::error!("entries cannot be read for another member: {e}");
                Vec::new()
            });
            drop(to_self.send(OrderInput::Fetched { first, entries }));
        };
        if let Err(e) = std::thread::Builder::new().name("fetch".to_owned()).spawn(fetch) {
            tracing::error!("a thread cannot be started: {e}");
            self.order.handle(self.now(), Input::Fetched { first, entries: Vec::new() });
        }
    }
}

fn read(
    reader: &Reader<crate::store::FsDisk>,
    first: u64,
    last: u64,
    max_bytes: u64,
) -> Result<Vec<Entry>, log::ReadError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for entry in reader.entries(first, last + 1)? {
        let entry = entry?;
        bytes += entry.data.len() as u64;
        if bytes > max_bytes && !entries.is_empty() {
            break;
        }
        let kind = EntryKind::from_number(u64::from(entry.kind)).unwrap_or(EntryKind::Normal);
        let (term, index) = (entry.term, entry.index);
        entries.push(Entry { term, index, kind, data: entry.data });
    }
    Ok(entries)
}
