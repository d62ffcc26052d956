//! The changes of a space's facts as a stream, for people who watch.

use super::Space;
use crate::api::{ChangeEvent, FactChange};
use crate::json;
use std::sync::Arc;
use synod_core::apply::{Change, Effect};
use synod_core::kb::Indicator;
use tokio::sync::mpsc;

/// Changes that wait for a client, at most; then the feed goes on without it.
const EVENTS: usize = 64;
/// Bytes of changes that are taken out of the feed at once.
const BYTES: usize = 1 << 20;

impl Space {
    /// The changes behind an index (now, without one) of the facts of a predicate, or of all.
    /// Dropping the receiver ends it.
    pub fn watch(
        &self,
        predicate: Option<Indicator>,
        after: Option<u64>,
    ) -> mpsc::Receiver<ChangeEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let feed = Arc::clone(self.feed());
        let mut applied = feed.follow();
        let mut at = after.unwrap_or_else(|| feed.applied());
        tokio::spawn(async move {
            loop {
                let Some(behind) = feed.behind(at, BYTES) else {
                    drop(sender.send(ChangeEvent::Missed { after: at }).await);
                    return;
                };
                for change in &behind.changes {
                    for event in events(change, predicate.as_ref()) {
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                at = behind.to;
                if behind.more {
                    continue;
                }
                tokio::select! {
                    reached = applied.wait_for(|applied| *applied > at) => {
                        if reached.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

fn events(change: &Change, wanted: Option<&Indicator>) -> Vec<ChangeEvent> {
    let fact_change = |n: u32, fact: &[u8]| FactChange {
        index: change.index,
        n,
        by: change.by.clone(),
        fact: json::text_of(fact),
    };
    let is_wanted = |predicate: &Indicator| wanted.is_none_or(|wanted| wanted == predicate);
    let event = |(n, effect): &(u32, Effect)| match effect {
        Effect::Asserted { predicate, fact, .. } if is_wanted(predicate) => {
            Some(ChangeEvent::Asserted(fact_change(*n, fact)))
        }
        Effect::Retracted { predicate, fact, .. } if is_wanted(predicate) => {
            Some(ChangeEvent::Retracted(fact_change(*n, fact)))
        }
        _ => None,
    };
    change.effects.iter().filter_map(event).collect()
}
