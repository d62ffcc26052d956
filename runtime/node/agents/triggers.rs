//! The positioned triggers of an agent: events and watched changes, from the feed or, for an agent
//! that is far behind, from the log.

use crate::multicast;
use crate::past::PastError;
use crate::space::{Changes, History, Space};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use synod_core::apply::{Change, Effect};
use synod_core::datagrams::Datagram;
use synod_core::kb::{Indicator, Position};
use synod_prolog::frame::{self, Trigger, What};

/// Changes taken from the log in one go, for an agent that is far behind.
const HISTORY_CHANGES: usize = 4096;
/// Bytes of changes looked through in one go.
const SCAN_BYTES: usize = 4 << 20;
/// Datagrams that could not be read and are told of, of those that are looked at together.
const MAX_REMARKS: usize = 16;

/// A trigger, and the position behind it if it has one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) trigger: Trigger,
    /// Where it stands, and where the cursor stands once it has been handled.
    pub(super) position: Option<(Position, Position)>,
    /// Engines that died while it was in their batch.
    pub(super) deaths: u32,
}

impl Item {
    /// A trigger that stands nowhere in the log.
    pub(super) fn loose(trigger: Trigger) -> Self {
        Self { trigger, position: None, deaths: 0 }
    }

    /// A trigger that stands at `at`; the cursor stands at `behind` once it has been handled.
    pub(super) fn placed(trigger: Trigger, at: Position, behind: Position) -> Self {
        Self { trigger, position: Some((at, behind)), deaths: 0 }
    }
}

/// The predicates that an agent watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches(BTreeMap<Indicator, bool>);

impl Watches {
    /// Watches a predicate; with `others`, but for the agent's own changes.
    pub(super) fn watch(&mut self, predicate: Indicator, others: bool) {
        self.0.insert(predicate, others);
    }

    /// Watches a predicate no longer.
    pub(super) fn unwatch(&mut self, predicate: &Indicator) {
        self.0.remove(predicate);
    }

    fn wants(&self, predicate: &Indicator, is_own: bool) -> bool {
        self.0.get(predicate).is_some_and(|&others| !(others && is_own))
    }
}

/// What an agent wants to be told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants<'a> {
    /// The predicates that it watches.
    pub(super) watches: &'a Watches,
    /// Whether it may have a clause for datagrams of tunnels.
    pub(super) datagrams: bool,
}

/// Reads the log on behalf of one agent.
#[derive(Debug)]
pub(super) struct Scan {
    agent: String,
    /// The first position that has not been looked at.
    next: Position,
    ready: VecDeque<Item>,
    /// What the feed no longer has, if the last look was into that. It begins at a snapshot: opening
    /// it for each look would read the log from there each time.
    history: Option<History>,
    /// Why datagrams were not read that say that they are SWI-Prolog's.
    remarks: Vec<String>,
}

impl Scan {
    pub(super) fn new(agent: &str, from: Position) -> Self {
        Self {
            agent: agent.to_owned(),
            next: from,
            ready: VecDeque::new(),
            history: None,
            remarks: Vec::new(),
        }
    }

    /// What the agent's log should say.
    pub(super) fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// How far the log has been looked through: nothing before this waits to be handled but `ready`.
    pub(super) fn next(&self) -> Position {
        self.ready.front().and_then(|item| item.position).map_or(self.next, |(at, _)| at)
    }

    /// Puts items back in front, in order.
    pub(super) fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item>) {
        items.rev().for_each(|item| self.ready.push_front(item));
    }

    /// The next triggers, `max` at most.
    pub(super) async fn take(
        &mut self,
        space: &Space,
        wants: Wants<'_>,
        max: usize,
    ) -> Result<Vec<Item>, PastError> {
        while self.ready.len() < max {
            let before = self.next;
            match space.feed().behind(self.next.index.saturating_sub(1), SCAN_BYTES) {
                Some(changes) => {
                    self.history = None;
                    self.look_through(&changes, wants);
                }
                None => self.look_back(space, wants).await?,
            }
            if self.next == before {
                break;
            }
        }
        let len = self.ready.len().min(max);
        Ok(self.ready.drain(..len).collect())
    }

    fn look_through(&mut self, changes: &Changes, wants: Wants<'_>) {
        for change in &changes.changes {
            self.look_at(change, wants);
        }
        self.next = self.next.max(Position { index: changes.to + 1, n: 0 });
    }

    /// The feed no longer goes back to where this agent stands.
    async fn look_back(&mut self, space: &Space, wants: Wants<'_>) -> Result<(), PastError> {
        let mut history = match self.history.take() {
            Some(history) => history,
            None => space.history(self.next.index.saturating_sub(1)).await?,
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut changes = Vec::new();
            while changes.len() < HISTORY_CHANGES {
                match history.next_change()? {
                    Some(change) => changes.push(change),
                    None => return Ok((changes, history.index(), None)),
                }
            }
            Ok::<_, PastError>((changes, history.index(), Some(history)))
        });
        let (changes, to, history) = read.await.map_err(|_| PastError::Closed)??;
        self.history = history;
        let changes: Vec<Arc<Change>> = changes;
        self.look_through(&Changes { changes, to, more: true }, wants);
        Ok(())
    }

    fn look_at(&mut self, change: &Change, wants: Wants<'_>) {
        let Wants { watches, datagrams } = wants;
        let is_own = change.by == self.agent;
        for (n, effect) in &change.effects {
            let at = Position { index: change.index, n: *n };
            if at < self.next {
                continue;
            }
            let position = frame::Position { index: at.index, n: at.n };
            let trigger = match effect {
                Effect::Emitted { event } if !datagrams && Datagram::is_one(&change.by, event) => {
                    continue;
                }
                Effect::Emitted { event } => match Datagram::read(&change.by, event) {
                    Some(datagram) => {
                        let (trigger, why) = multicast::ordered(position, datagram);
                        self.remarks.extend(why.filter(|_| self.remarks.len() < MAX_REMARKS));
                        trigger
                    }
                    None => {
                        Trigger::Event { position, from: change.by.clone(), term: event.to_vec() }
                    }
                },
                Effect::Asserted { predicate, order, fact } if watches.wants(predicate, is_own) => {
                    let what = if *order < 0 { What::Asserta } else { What::Assertz };
                    Trigger::Changed { position, what, fact: fact.to_vec() }
                }
                Effect::Retracted { predicate, fact, .. } if watches.wants(predicate, is_own) => {
                    Trigger::Changed { position, what: What::Retract, fact: fact.to_vec() }
                }
                Effect::Asserted { .. } | Effect::Retracted { .. } => continue,
            };
            let behind = Position { index: at.index, n: at.n + 1 };
            self.ready.push_back(Item::placed(trigger, at, behind));
        }
        self.next = self.next.max(Position { index: change.index, n: u32::MAX });
    }
}
