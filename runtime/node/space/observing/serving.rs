//! What a member, or another observer, gives to nodes that follow a space.

use super::super::apply_thread::ApplyInput;
use super::super::order_thread::OrderInput;
use super::super::snapshots::SnapshotError;
use super::super::{Reading, ReceivedSnapshot, Space};
use super::{Answered, Fetched, Taken};
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use synod_core::apply::{Chain, Membership};
use synod_core::group::observer::{Found, Piece};
use synod_core::group::{Head, Place};
use synod_core::log::{Position, Reader};
use tokio::sync::oneshot;

/// What there is behind an entry.
#[derive(Debug)]
pub(crate) enum Served {
    /// To be signed: entries behind `before` that lead to a place.
    ToSign(Found),
    /// Signed by a voter already.
    Signed(Piece),
    /// Nothing that this node may tell.
    Nothing,
}

impl Space {
    /// Whether this node's word for where the space is counts: it votes, and is as it should be.
    pub(crate) fn may_sign(&self) -> bool {
        let shared = &self.inner.shared;
        let is_right = self.serves_reads(Reading::Newest).is_ok();
        !self.is_observed() && shared.is_voter() && is_right
    }

    /// Where the state is, and the last entry of Raft's log in it.
    pub(crate) async fn place(&self) -> Option<Place> {
        let (reply, place) = oneshot::channel();
        self.inner.apply.send(ApplyInput::Place(reply)).ok()?;
        place.await.ok()
    }

    /// Where the state is, and who takes part there.
    pub(crate) async fn place_and_members(&self) -> Option<(Place, Membership)> {
        loop {
            let place = self.place().await?;
            let membership = self.look(|state| state.membership().clone()).await?;
            if membership.changed_at() <= place.chain.index {
                return Some((place, membership));
            }
        }
    }

    /// A reader of what is safe of the log.
    pub(crate) async fn reader(&self) -> Option<Reader<crate::store::FsDisk>> {
        let (reply, reader) = oneshot::channel();
        self.inner.order.send(OrderInput::Reader(reply)).ok()?;
        reader.await.ok()
    }

    /// What lies behind an entry, for who follows the space and has this chain there.
    pub(crate) async fn behind(&self, before: u64, chain: [u8; 32]) -> Option<Served> {
        let is_observed = self.is_observed();
        if !is_observed && !self.may_sign() {
            return Some(Served::Nothing);
        }
        // The place first: all up to it is safe in what is read then, or is not told of.
        let last = self.place().await?;
        let (reader, space) = (self.reader().await?, self.clone());
        let found = tokio::task::spawn_blocking(move || match &space.inner.observing {
            Some(observing) => {
                let heads = observing.seen().heads.clone();
                let found = heads.find(&reader, before).map_err(|e| e.to_string())?;
                Ok(found.map_or(Served::Nothing, |(entries, head)| {
                    Served::Signed(Piece { head, before, entries })
                }))
            }
            None => space.find(&reader, (before, &chain), &last).map(Served::ToSign),
        });
        match found.await.ok()? {
            Ok(served) => Some(served),
            Err(why) => {
                let why: String = why;
                tracing::warn!("what a follower of {} lacks cannot be read: {why}", self.name());
                Some(Served::Nothing)
            }
        }
    }

    fn find(
        &self,
        reader: &Reader<crate::store::FsDisk>,
        (before, chain): (u64, &[u8; 32]),
        last: &Place,
    ) -> Result<Found, String> {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut others = Vec::new();
        if !known.contains(before) && before < last.at.index {
            others = self.inner.snapshots.places().map_err(|e| e.to_string())?;
            let chain = Chain::of_space(self.inner.id);
            others.push(Place { at: Position::default(), chain });
        }
        let found = known.find(reader, &others, (before, chain), last);
        let found = found.map_err(|e| e.to_string())?;
        if let Found::Entries(_, place) = &found {
            self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).note(*place);
        }
        Ok(found)
    }

    /// The newest snapshot and its place, for who is behind what is kept of the log.
    pub(crate) async fn snapshot_to_give(&self) -> Option<(Place, PathBuf)> {
        let (space, newest) = (self.clone(), self.inner.snapshots.newest()?);
        let place = tokio::task::spawn_blocking(move || {
            let all = space.inner.snapshots.places()?;
            Ok::<_, SnapshotError>(
                all.into_iter()
                    .find(|p| p.chain.index == newest.index)
                    .map(|p| (p, newest.path.clone())),
            )
        });
        place.await.ok()?.unwrap_or_else(|e| {
            tracing::warn!("a snapshot cannot be given to a follower: {e}");
            None
        })
    }

    /// Looks whether a snapshot that has come is what its head says. Blocks.
    pub(crate) fn check_snapshot(&self, received: ReceivedSnapshot, head: Head) -> Answered {
        let checked = || -> io::Result<Taken> {
            let (file, meta) = received.finish()?;
            let at = Position { term: meta.position.term, index: meta.position.index };
            let chain = self.inner.snapshots.chain_of(&file).map_err(io::Error::other);
            match chain {
                Ok(chain) if (Place { at, chain }) == head.place => Ok((file, meta.members)),
                other => {
                    // It would be taken for a state of this space when the node starts again.
                    self.inner.snapshots.discard(&file);
                    let why = "its state is not at the place that was signed".to_owned();
                    Err(io::Error::other(other.err().map_or(why, |e| e.to_string())))
                }
            }
        };
        match checked() {
            Ok(taken) => Fetched::Snapshot(head, taken),
            Err(e) => Fetched::Bad(format!("it sent a snapshot that cannot be used: {e}")),
        }
    }
}
