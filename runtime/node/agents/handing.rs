//! What an agent's engine is handed next, and what becomes of it when the engine dies.

use super::letters::kept_of;
use super::task::Task;
use super::triggers::{Item, Scan, Wants};
use crate::past::PastError;
use crate::space::Ended;
use std::collections::VecDeque;
use synod_core::apply::Outcome;
use synod_core::command::{Command, Letter, MAX_REASON_BYTES, Record, Transaction};
use synod_core::kb::Position;
use synod_prolog::frame::Trigger;

/// Triggers of one batch, at most.
const BATCH: usize = 64;
/// One batch in so many may be a letter, while there is anything else to do.
const RETRY_EVERY: u64 = 4;
/// Deaths of an engine on one trigger, after which it is a letter.
const DEATHS_TO_LETTER: u32 = 3;
/// Commands that concern nobody may leave an idle agent's cursor so far behind.
const CURSOR_LAG: u64 = 8192;

impl Task {
    /// What the engine is to handle next; none if nothing waits.
    pub(super) async fn next_items(&mut self, is_new: &mut bool) -> Option<Vec<Item>> {
        if std::mem::take(is_new) && !self.skips_engine {
            return Some(vec![Item::loose(Trigger::Engine)]);
        }
        if !self.is_started {
            return Some(vec![Item::loose(Trigger::Start)]);
        }
        if let Some(suspect) = self.suspects.pop_front() {
            return Some(vec![suspect]);
        }
        // Letters have waited already: everything else goes on between them.
        if self.batches % RETRY_EVERY == 1
            && let Some(letter) = self.next_retry().await
        {
            return Some(vec![letter]);
        }
        // What has a position and what has none take turns, so that neither starves the other.
        let loose = |triggers: Vec<Trigger>| -> Vec<Item> {
            triggers.into_iter().map(Item::loose).collect()
        };
        if self.batches.is_multiple_of(2) && !self.registered.mailbox.is_empty() {
            return Some(loose(self.registered.mailbox.take(BATCH)));
        }
        let wants = Wants { watches: &self.watches, datagrams: self.claimed.datagrams };
        match self.scan.take(&self.space, wants, BATCH).await {
            Ok(items) => {
                let remarks = self.scan.take_remarks();
                remarks.iter().for_each(|remark| self.log("warning", remark));
                let first = items.first().and_then(|item| item.position);
                let next = first.map_or(self.scan.next(), |(at, _)| at);
                self.view().has_passed(next.index.saturating_sub(1));
                if !items.is_empty() {
                    return Some(items);
                }
            }
            Err(PastError::Gone { first }) => {
                let from = self.cursor.index;
                self.scan = Scan::new(&self.agent, Position { index: first, n: 0 });
                let gap = Trigger::Gap { from, to: first.saturating_sub(1) };
                let behind = Position { index: first, n: 0 };
                return Some(vec![Item::placed(gap, self.cursor, behind)]);
            }
            Err(e) => self.log("error", &format!("events cannot be read: {e}")),
        }
        let triggers = self.registered.mailbox.take(BATCH);
        if triggers.is_empty() {
            if let Some(letter) = self.next_retry().await {
                return Some(vec![letter]);
            }
            self.move_cursor().await;
            return None;
        }
        Some(loose(triggers))
    }

    /// An idle agent's cursor follows the log now and then, so that little is read again at the
    /// next start.
    pub(super) async fn move_cursor(&mut self) {
        let to = self.scan.next();
        if !self.is_started || to.index.saturating_sub(self.cursor.index) < CURSOR_LAG {
            return;
        }
        let origin = self.origin(to, Record::default(), None);
        let empty = Transaction { origin, version: 0, reads: Vec::new(), ops: Vec::new() };
        let ended = self.commit(&Command::Transact(empty)).await;
        if let Some(Ended::Applied(Outcome::Committed(_))) = ended {
            self.cursor = to;
        }
    }

    /// An engine has died in the middle of its batch, of which nothing was committed. Any item of
    /// it may be why, so from now on they are handed out one at a time.
    pub(super) async fn after_death(&mut self, why: &str) {
        let Some(batch) = self.batch.take() else { return };
        if self.retry_ends(&format!("the engine {why} once more")) {
            return;
        }
        let was_alone = batch.items.len() == 1;
        let mut left: VecDeque<Item> = batch.items.into_iter().skip(batch.done).collect();
        left.iter_mut().for_each(|item| item.deaths += 1);
        if was_alone && let Some(item) = left.pop_front() {
            self.after_death_on(item, why).await;
        }
        left.append(&mut self.suspects);
        self.suspects = left;
    }

    async fn after_death_on(&mut self, mut item: Item, why: &str) {
        // Each engine is handed these anew.
        let own_deaths = match item.trigger {
            Trigger::Engine => Some(&mut self.engine_deaths),
            Trigger::Start => Some(&mut self.start_deaths),
            _ => None,
        };
        let is_own = own_deaths.is_some();
        if let Some(deaths) = own_deaths {
            *deaths += 1;
            item.deaths = *deaths;
        }
        if item.position.is_none() && !is_own {
            let text = "what the engine died on has no position and is not handed out again";
            self.log("error", text);
        } else if item.deaths >= DEATHS_TO_LETTER {
            self.write_letter(item, why).await;
        } else if !is_own {
            self.suspects.push_front(item);
        }
    }

    /// Passes a trigger over, for good.
    pub(super) async fn write_letter(&mut self, item: Item, why: &str) {
        self.is_started |= matches!(item.trigger, Trigger::Start);
        self.skips_engine |= matches!(item.trigger, Trigger::Engine);
        let Some(event) = kept_of(&item.trigger) else {
            return self.log("error", "on(engine) killed three engines and is passed over");
        };
        let (from, to) =
            item.position.map_or((self.cursor, self.cursor), |(_, to)| (self.cursor, to));
        self.seq += 1;
        let mut reason = format!("three engines died on it; the last one {why}");
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        let letter = Letter {
            agent: self.agent.clone(),
            epoch: self.epoch,
            seq: self.seq,
            from,
            to,
            event,
            reason: reason.clone(),
        };
        if let Some(Ended::Applied(Outcome::Committed(_))) =
            self.commit(&Command::Letter(letter)).await
        {
            self.cursor = to;
            self.log("error", &format!("an event is put aside as a letter: {reason}"));
            let name = &self.definition.name;
            tracing::info!("agent {name}: an event is put aside: synod agent letters {name}");
        }
    }

    /// Takes what an engine was handed and did not handle back.
    pub(super) fn put_back(&mut self) {
        self.put_retry_back();
        if let Some(batch) = self.batch.take() {
            let (loose, placed): (Vec<Item>, Vec<Item>) =
                batch.items.into_iter().skip(batch.done).partition(|i| i.position.is_none());
            for item in loose {
                if !matches!(
                    item.trigger,
                    Trigger::Start | Trigger::Engine | Trigger::Recorded { .. }
                ) {
                    self.registered.mailbox.put(item.trigger);
                }
            }
            if self.suspects.is_empty() {
                self.scan.put_back(placed.into_iter());
            } else {
                // It was one of those that are handed out by themselves, and the next of them.
                placed.into_iter().rev().for_each(|item| self.suspects.push_front(item));
            }
        }
    }
}
