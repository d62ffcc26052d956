//! From the capture of a tunnel into a space's log: what waits, what is under way, and what has become of it.
//!
//! The driver's part:
//!
//! 1. What is captured is given to [`Publisher::offer`], in order; what does not fit is counted.
//! 2. It opens a session, says its number to [`Publisher::opened`], and proposes the commands that
//!    [`Publisher::give`] gives, one after the other, without waiting for their ends.
//! 3. A command that was not taken goes back by [`Publisher::take_back`], before another is asked for. How each of
//!    the others ends is said to [`Publisher::ended`].
//!
//! A datagram is in one command, which has one number of one session, and whoever proposes it may do so as often as
//! it takes: so it happens once. Each command says that what came before it is no longer asked for. So one that is
//! overtaken, by a copy of the next that reached the log first, is refused there and never comes behind it: the
//! datagrams of a node keep their order.

use super::event::{Endpoint, event};
use crate::apply::{Outcome, Refusal};
use crate::command::{Command, Op, Origin, Transaction};
use crate::time::Time;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Datagrams that wait or are under way, at most.
pub const MAX_WAITING: usize = 65_536;
/// And their bytes.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// How long one waits to be proposed, at most.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// Datagrams of one command, at most.
pub const MAX_BATCH: usize = 512;
/// And their bytes, but for a single one.
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Commands under way, at most.
pub const MAX_BATCHES: usize = 32;

/// A datagram on its way, as its capturer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When that was.
    pub at: Time,
    /// The group and port that it was sent to.
    pub to: Endpoint,
    /// Its source, as other nodes know it.
    pub from: Endpoint,
    /// What was in it.
    pub bytes: Box<[u8]>,
}

/// Datagrams of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The session.
    pub session: u64,
    /// Its number, which rises from command to command.
    pub seq: u64,
    datagrams: Vec<Captured>,
}

/// How a command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is in the log, and applied.
    Ordered,
    /// It is not, and never will be.
    Not,
    /// Its session is over. It may have been applied before that.
    SessionOver,
    /// Nobody knows.
    Unknown,
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Committed(_) => Self::Ordered,
            Outcome::Refused(_, Refusal::NoSession) => Self::SessionOver,
            // A later one was applied. So may this one have been before, with nobody here to see it.
            Outcome::Refused(_, Refusal::OutOfWindow) => Self::Unknown,
            Outcome::Refused(..) => Self::Not,
        }
    }
}

/// What has become of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They are in the space's order.
    pub ordered: u64,
    /// Bytes that were in them.
    pub ordered_bytes: u64,
    /// They did not fit.
    pub full: u64,
    /// They could not be put in order in time.
    pub late: u64,
    /// Nobody knows whether they are.
    pub unknown: u64,
}

/// The way of one tunnel's datagrams into a space.
#[derive(Debug, Default)]
pub struct Publisher {
    waiting: VecDeque<Captured>,
    under_way: BTreeMap<u64, UnderWay>,
    /// Of all of these.
    held: usize,
    held_bytes: usize,
    session: Option<u64>,
    /// The number of the last command.
    last: u64,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    session: u64,
    datagrams: usize,
    bytes: usize,
}

impl Publisher {
    /// Takes one in; false if it does not fit, and is counted.
    pub fn offer(&mut self, datagram: Captured) -> bool {
        let len = datagram.bytes.len();
        let fits = self.held < MAX_WAITING && self.held_bytes + len <= MAX_WAITING_BYTES;
        if fits {
            (self.held, self.held_bytes) = (self.held + 1, self.held_bytes + len);
            self.waiting.push_back(datagram);
        } else {
            self.counts.full += 1;
        }
        fits
    }

    /// Drops what has waited for too long.
    pub fn expire(&mut self, now: Time) {
        while let Some(old) = self.waiting.pop_front_if(|first| now.since(first.at) >= MAX_WAIT) {
            (self.held, self.held_bytes) = (self.held - 1, self.held_bytes - old.bytes.len());
            self.counts.late += 1;
        }
    }

    /// Whether something waits that may be proposed now, with a session or once there is one.
    pub fn is_due(&self) -> bool {
        !self.waiting.is_empty() && self.under_way.len() < MAX_BATCHES
    }

    /// The session, if there is one.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// There is a session, which no other command than this publisher's has used.
    pub fn opened(&mut self, session: u64) {
        self.session = Some(session);
    }

    /// The session is over, or was another space's.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// The next command's datagrams; none without a session, or if none is due.
    pub fn give(&mut self) -> Option<Batch> {
        let session = self.session.filter(|_| self.is_due())?;
        let (mut datagrams, mut bytes) = (Vec::new(), 0);
        while datagrams.len() < MAX_BATCH {
            let is_first = datagrams.is_empty();
            let fits =
                |next: &mut Captured| is_first || bytes + next.bytes.len() <= MAX_BATCH_BYTES;
            let Some(next) = self.waiting.pop_front_if(fits) else { break };
            bytes += next.bytes.len();
            datagrams.push(next);
        }
        self.last += 1;
        let under_way = UnderWay { session, datagrams: datagrams.len(), bytes };
        self.under_way.insert(self.last, under_way);
        Some(Batch { session, seq: self.last, datagrams })
    }

    /// The last command that was given is not in the log, and never will be: its datagrams wait again.
    pub fn take_back(&mut self, batch: Batch) {
        if batch.seq == self.last && self.under_way.remove(&batch.seq).is_some() {
            self.last -= 1;
            batch.datagrams.into_iter().rev().for_each(|one| self.waiting.push_front(one));
        }
    }

    /// A command has ended.
    pub fn ended(&mut self, seq: u64, end: End) {
        let Some(UnderWay { session, datagrams, bytes }) = self.under_way.remove(&seq) else {
            return;
        };
        (self.held, self.held_bytes) = (self.held - datagrams, self.held_bytes - bytes);
        let Counts { ordered, ordered_bytes, full: _, late, unknown } = &mut self.counts;
        let datagrams = datagrams as u64;
        match end {
            End::Ordered => {
                (*ordered, *ordered_bytes) = (*ordered + datagrams, *ordered_bytes + bytes as u64)
            }
            End::Not => *late += datagrams,
            End::SessionOver | End::Unknown => *unknown += datagrams,
        }
        if end == End::SessionOver && self.session == Some(session) {
            self.session = None;
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Datagrams that wait or are under way.
    pub fn held(&self) -> usize {
        self.held
    }

    /// What has become of the others.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Batch {
    /// The command, encoded. An event that is no term, of a name that is too long, is left out.
    pub fn command(&self, tunnel: &str, node: &str) -> Bytes {
        let Self { session: id, seq, datagrams } = self;
        let emit = |one: &Captured| {
            let event = event(tunnel, node, one.to, one.from, &one.bytes);
            event.ok().map(|event| Op::Emit { event })
        };
        let ops = datagrams.iter().filter_map(emit).collect();
        let origin = Origin::Session { id: *id, seq: *seq, acked: seq - 1 };
        Command::Transact(Transaction { origin, version: 0, reads: Vec::new(), ops }).encode()
    }
}
