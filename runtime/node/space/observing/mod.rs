//! A space that this node follows without being a member of it, and what members do for those that do.

pub(super) mod memory;
mod serving;
mod thread;

use super::links::Links;
use super::{OrderInput, READ_PATIENCE, Space};
use bytes::Bytes;
pub(crate) use serving::Served;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use synod_core::group::observer::{
    Anchor, Answer, Counts, Fetched, Heads, Places, Request, Status, Trouble,
};
use synod_core::order::Members;
use synod_core::time::Time;
pub(super) use thread::ObserverThread;
use tokio::sync::oneshot;

/// What an observer's thread and the space's handle both look at.
#[derive(Debug)]
pub(crate) struct Observing {
    links: Arc<dyn Links>,
    space: [u8; 32],
    started: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    status: Status,
    counts: Counts,
    voters: BTreeSet<Bytes>,
    heads: Heads,
}

/// What is known of the chain of a member's own log, for observers.
pub(super) type Known = Mutex<Places>;

impl Observing {
    pub(super) fn new(
        links: Arc<dyn Links>,
        space: [u8; 32],
        started: Instant,
        anchor: &Anchor,
    ) -> Self {
        let status = Status { fresh: None, lag: 0, trouble: None };
        let (counts, heads) = (Counts::default(), Heads::default());
        let seen = Seen { status, counts, voters: anchor.voters.clone(), heads };
        Self { links, space, started, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago this node was where a voter said that the space was.
    fn age(&self) -> Duration {
        let fresh = self.seen().status.fresh.unwrap_or(Time::ZERO);
        self.started.elapsed().saturating_sub(fresh.since(Time::ZERO))
    }
}

/// How a space is followed, for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Follows {
    /// How long ago this node was where a voter said that the space was.
    pub(crate) age: Duration,
    /// Commands that it lacks, as far as it has heard.
    pub(crate) lag: u64,
    /// Why it does not follow, if it does not.
    pub(crate) trouble: Option<String>,
    pub(crate) counts: Counts,
    /// The voters that it knows, by their ids in the network.
    pub(crate) voters: BTreeSet<Bytes>,
}

impl Space {
    /// Whether this node follows the space without being a member of it.
    pub(crate) fn is_observed(&self) -> bool {
        self.inner.observing.is_some()
    }

    /// How it is followed, if this node is no member.
    pub(crate) fn follows(&self) -> Option<Follows> {
        let observing = self.inner.observing.as_ref()?;
        let age = observing.age();
        let seen = observing.seen();
        let trouble = seen.status.trouble.map(|trouble| match trouble {
            Trouble::Strangers => format!(
                "none of the voters that this node knows is heard any more, and others speak for the space: \
                 `synod space leave {}`, and join again by a new ticket",
                self.name()
            ),
            Trouble::Apart => format!(
                "this node has applied what is not in the space's log, as after a recovery without it: \
                 `synod space leave {}`, and join again by a new ticket",
                self.name()
            ),
            Trouble::Unvouched => format!(
                "no voter that can be asked has come by where this node was let in: that was too long ago, or in                  a history that is not theirs: `synod space leave {}`, and join again by a new ticket",
                self.name()
            ),
        });
        let Seen { status, counts, voters, .. } = &*seen;
        Some(Follows { age, lag: status.lag, trouble, counts: *counts, voters: voters.clone() })
    }

    /// Gossip about the space has come, for a node that follows it.
    pub(crate) fn heard(&self, from: Bytes, bytes: Bytes) {
        let inbox = &self.inner.shared.inbox;
        let (len, most) = (bytes.len(), super::MAX_INBOX_BYTES);
        if inbox.fetch_add(len, std::sync::atomic::Ordering::Relaxed) + len > most {
            inbox.fetch_sub(len, std::sync::atomic::Ordering::Relaxed);
            return self.inner.shared.refused();
        }
        drop(self.inner.order.send(OrderInput::Heard { from, bytes }));
    }

    /// Waits until this node has applied all that a voter, asked now, says was acknowledged; none if none
    /// says so.
    pub(super) async fn observed_index(&self, observing: &Observing) -> Option<u64> {
        let voters = observing.seen().voters.clone();
        let there = voters.into_iter().filter(|peer| observing.links.is_connected(peer));
        let until = tokio::time::Instant::now() + READ_PATIENCE;
        for peer in there {
            let (sender, answered) = oneshot::channel();
            let done = Box::new(move |fetched| drop(sender.send(fetched)));
            observing.links.ask(&peer, observing.space, Request::Index, done);
            let answered = tokio::time::timeout_at(until, answered).await.ok()?;
            if let Ok(Fetched::Answer(Answer::Index(index))) = answered {
                return self.reaches(index).await.then(|| self.inner.feed.applied());
            }
        }
        None
    }
}

/// What came of a question to another node.
pub(crate) type Answered = Fetched<Taken>;

/// The file of a snapshot that has come, and the members of Raft there.
pub(crate) type Taken = (PathBuf, Members);
