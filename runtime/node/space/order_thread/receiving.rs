//! What comes from other members, and the long work that is done for them.

use super::{OrderInput, OrderThread};
use crate::space::apply_thread::ApplyInput;
use crate::space::links::Lane;
use bytes::Bytes;
use std::path::PathBuf;
use synod_core::group::{self, Frame, Giving};
use synod_core::log::{self, Reader};
use synod_core::order::{Entry, EntryKind, Input, SnapshotMeta};

impl OrderThread {
    /// A frame, from whom the transport says.
    pub(super) fn receive(&mut self, peer: Bytes, bytes: &Bytes) {
        match Frame::decode(bytes) {
            Ok(frame) => {
                if let Some(frame) = self.receive_here(&peer, frame) {
                    self.tell(group::Input::Frame { peer, frame, with_snapshot: false });
                }
            }
            Err(e) => {
                self.shared.refused();
                tracing::debug!("a frame of a member cannot be read: {e}");
            }
        }
    }

    /// Takes in what is not for the coordinator; gives back what is.
    fn receive_here(&mut self, peer: &Bytes, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::Mark { mark, signature } => {
                match self.shared.membership().of_peer(peer) {
                    Some((member, _)) => self.take_mark(member, peer, mark, &signature),
                    None => self.shared.refused(),
                }
                None
            }
            Frame::WantState { first } => {
                match self.shared.membership().of_peer(peer) {
                    Some(_) => self.send_state(peer, first),
                    None => self.shared.refused(),
                }
                None
            }
            // It means something behind a file, and not alone.
            Frame::State => {
                self.shared.refused();
                None
            }
            frame => Some(frame),
        }
    }

    /// Asks a member for a state in place of this node's, which is wrong.
    pub(super) fn ask_for_state(&mut self, member: u64) {
        if let Some(peer) = self.coordinator.peer_of(&self.shared.membership(), member) {
            let first = self.log.first_index();
            self.group.send(&peer, Lane::Normal, &Frame::WantState { first });
        }
    }

    /// Sends a member whose state is wrong the newest snapshot here, if its log goes on behind that. If
    /// there is none, one is taken: it asks again.
    fn send_state(&mut self, peer: &Bytes, first: u64) {
        let is_busy = self.waiting.is_rebuilding || self.waiting.is_sending_state;
        let newest = self.waiting.snapshot.as_ref().map(|(meta, _)| meta.position.index);
        match (Giving::to(first, newest, is_busy), &self.waiting.snapshot) {
            (Giving::Newest, Some((_, file))) => {
                self.waiting.is_sending_state = true;
                let sender = self.to_self.clone();
                let done = Box::new(move |_| drop(sender.send(OrderInput::StateSent)));
                self.group.offer(peer, self.id, file.clone(), &Frame::State, done);
            }
            (Giving::Later(at_least), _) => {
                drop(self.apply.send(ApplyInput::SnapshotOfRaft { at_least }));
            }
            (Giving::Newest | Giving::Nothing, _) => {}
        }
    }

    /// A snapshot is safe on this node's disk, and this is the message that it belongs to.
    pub(super) fn receive_snapshot(
        &mut self,
        peer: Bytes,
        file: PathBuf,
        meta: SnapshotMeta,
        frame: &Bytes,
    ) {
        match Frame::decode(frame) {
            Ok(frame @ Frame::Raft(_)) => {
                self.waiting.arrived.push(meta, file);
                self.tell(group::Input::Frame { peer, frame, with_snapshot: true });
            }
            Ok(Frame::State) => {
                let SnapshotMeta { position: at, members } = meta;
                drop(self.apply.send(ApplyInput::State { file, at, members }));
            }
            _ => self.shared.refused(),
        }
    }

    /// Makes a snapshot that has arrived this node's state: the log goes on behind it.
    pub(super) fn install(&mut self, wanted: Option<&SnapshotMeta>) {
        let Some(wanted) = wanted else { return };
        let Some(file) = self.waiting.arrived.take(wanted.position) else {
            // Raft has not seen such a message without its file.
            tracing::error!("the file of a snapshot that Raft has taken is not there");
            return;
        };
        let (at, members) = (wanted.position, wanted.members.clone());
        self.log.install(log::Position { term: at.term, index: at.index });
        (self.waiting.through, self.waiting.handed) = (at.index, at.index);
        drop(self.apply.send(ApplyInput::Install { file: file.clone(), at, members }));
        self.waiting.snapshot = Some((wanted.clone(), file));
        self.look_at_snapshots();
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
        match self.coordinator.peer_of(&self.shared.membership(), to) {
            Some(peer) => {
                self.group.offer(&peer, self.id, file.clone(), &Frame::Raft(message), done);
            }
            None => done(false),
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

pub(super) fn read(
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
