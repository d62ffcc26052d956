//! How a space goes on when most of its voters are lost for good: this node appends to its log that it is
//! the only member from here on, and starts Raft again on that.

use super::acting::micros;
use super::{OrderThread, receiving};
use synod_core::group::{Recovery, Survivor};
use synod_core::order::{Order, Persist, Recovered};
use tokio::sync::oneshot;

/// Entries that are committed nowhere yet and are read again, in bytes at most: more than Raft lets in.
const MAX_TAIL_BYTES: u64 = 256 << 20;

impl OrderThread {
    /// Makes this node the only member, for who has said the words.
    pub(super) fn recover(&mut self, words: String, reply: oneshot::Sender<Result<(), String>>) {
        let result = self.try_recover(words);
        if let Err(why) = &result {
            tracing::error!("the space was not recovered: {why}");
        }
        drop(reply.send(result));
    }

    fn try_recover(&mut self, words: String) -> Result<(), String> {
        // What Raft has decided until now is on disk and handed on before it ends.
        if !self.drain_outputs() {
            return Err("the space is being closed".to_owned());
        }
        let (membership, last) = (self.shared.membership(), self.order.last());
        let survivor = Survivor {
            me: self.coordinator.me().member,
            role: self.order.role(),
            is_mute: self.is_mute,
            is_out: self.coordinator.is_told_out(),
            generation: self.group.generation,
            membership: &membership,
            last,
            hard_state: self.order.hard_state(),
        };
        let recovery = survivor.recovery(words, micros()).map_err(|e| e.to_string())?;
        let Recovery { generation, entry, hard_state } = recovery;
        let through = self.waiting.through;
        let mut entries = Vec::new();
        if last.index > through {
            let reader = self.log.reader();
            entries = receiving::read(&reader, through + 1, last.index, MAX_TAIL_BYTES)
                .map_err(|e| format!("the end of the log cannot be read: {e}"))?;
        }
        if entries.last().map_or(through, |entry| entry.index) != last.index {
            return Err("the end of the log is longer than it can be".to_owned());
        }
        entries.push(entry.clone());
        let before = self.log.before();
        let recovered = Recovered {
            hard_state,
            members: self.order.members().clone(),
            applied: through,
            before,
            terms: self.log.terms().into_iter().filter(|run| run.index <= through).collect(),
            entries,
            snapshot: self.waiting.snapshot.as_ref().map(|(meta, _)| meta.clone()),
        };
        let mut config = self.config.clone();
        config.generation = generation;
        // Answers to what this run has asked are none to the next.
        config.seed = config.seed.wrapping_add(generation);
        let order = Order::new(config.clone(), recovered, self.now()).map_err(|e| e.to_string())?;

        // From here on it is done: should the node end now, it finds the entry when it starts again.
        let persist = Persist {
            number: 0,
            snapshot: None,
            hard_state: Some(hard_state),
            entries: vec![entry],
        };
        if !self.log.append(persist) || !self.log.sync() {
            return Err("the space is being closed".to_owned());
        }
        (self.order, self.config) = (order, config);
        self.group.generation = generation;
        self.coordinator.recovered(generation);
        self.shared.set_generation(generation);
        self.end_what_waits();
        tracing::warn!("the space was recovered by hand: this node is its only member");
        Ok(())
    }

    /// What waited for the Raft that was has nobody who answers it.
    fn end_what_waits(&mut self) {
        // What was signed was signed in another generation.
        self.group.marked = None;
        self.group.marks.forget();
        self.waiting.held.clear();
        self.waiting.reads.clear();
        self.shared.own().give_all_again();
    }
}
