//! Reads that wait for an index. All that come while a question is under way share the next one, under
//! one context (Ongaro's dissertation, §6.4: one round serves all reads that came before it); what Raft
//! drops in silence (a leader's before it has committed in its term, a lost message) is asked again,
//! under the same context, so that a late answer is still an answer.

use bytes::BufMut;
use std::collections::BTreeMap;

/// Reads that may wait.
pub(super) const MAX_READS: usize = 16_384;
/// Heartbeats after which an unanswered question is put again.
const RETRY_HEARTBEATS: u32 = 2;
/// Election timeouts after which a read that nobody answers is given up.
const PATIENCE_ELECTIONS: u32 = 5;

/// A read that waits.
#[derive(Clone, Copy)]
struct Read {
    ticket: u64,
    /// Ticks it may still wait.
    patience: u32,
}

/// Reads asked for together.
struct Question {
    reads: Vec<Read>,
    /// Ticks until it is put, again or at all.
    due: u32,
}

/// The reads that wait.
pub(super) struct Reads {
    /// Tells this run's questions from any other's: the node and its seed.
    prefix: [u8; 16],
    retry: u32,
    patience: u32,
    next: u64,
    /// Reads that no question includes yet.
    fresh: Vec<Read>,
    questions: BTreeMap<u64, Question>,
    len: usize,
}

impl Reads {
    pub(super) fn new(node: u64, seed: u64, heartbeat_ticks: u32, election_ticks: u32) -> Self {
        let mut prefix = [0; 16];
        let mut to = &mut prefix[..];
        to.put_u64(node);
        to.put_u64(seed);
        Self {
            prefix,
            retry: heartbeat_ticks.saturating_mul(RETRY_HEARTBEATS),
            patience: election_ticks.saturating_mul(PATIENCE_ELECTIONS),
            next: 0,
            fresh: Vec::new(),
            questions: BTreeMap::new(),
            len: 0,
        }
    }

    /// Takes a read up, unless too many wait.
    pub(super) fn push(&mut self, ticket: u64) -> bool {
        let room = self.len < MAX_READS;
        if room {
            self.fresh.push(Read { ticket, patience: self.patience });
            self.len += 1;
        }
        room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The contexts of the questions to put now; they count as put.
    pub(super) fn take_due(&mut self) -> Vec<Vec<u8>> {
        if self.len == 0 {
            return Vec::new();
        }
        // Beside a question that may have been lost, the next is put; not beside one under way.
        let is_free = self.questions.values().all(|question| question.due == 0);
        if !self.fresh.is_empty() && is_free {
            let reads = std::mem::take(&mut self.fresh);
            self.questions.insert(self.next, Question { reads, due: 0 });
            self.next += 1;
        }
        let due = self.questions.iter_mut().filter(|(_, question)| question.due == 0);
        due.map(|(&number, question)| {
            question.due = self.retry;
            let mut context = self.prefix.to_vec();
            context.put_u64(number);
            context
        })
        .collect()
    }

    /// The tickets of the reads that an answer is for: its question's, and those of earlier questions,
    /// which would have been answered with no more than this.
    pub(super) fn answer(&mut self, context: &[u8]) -> Vec<u64> {
        let number = context.strip_prefix(&self.prefix[..]).and_then(|n| n.try_into().ok());
        let asked = |n: &u64| self.questions.contains_key(n);
        let Some(number) = number.map(u64::from_be_bytes).filter(asked) else {
            return Vec::new();
        };
        let later = self.questions.split_off(&(number + 1));
        let answered = std::mem::replace(&mut self.questions, later);
        let reads: Vec<_> = answered.into_values().flat_map(|question| question.reads).collect();
        self.len -= reads.len();
        reads.into_iter().map(|read| read.ticket).collect()
    }

    /// All questions are due: whoever they were put to does not lead any more.
    pub(super) fn put_again(&mut self) {
        self.questions.values_mut().for_each(|question| question.due = 0);
    }

    /// A tick went by. The tickets of the reads to give up.
    pub(super) fn tick(&mut self) -> Vec<u64> {
        let mut given_up = Vec::new();
        let mut waits = |read: &mut Read| {
            read.patience = read.patience.saturating_sub(1);
            if read.patience == 0 {
                given_up.push(read.ticket);
            }
            read.patience > 0
        };
        self.fresh.retain_mut(&mut waits);
        self.questions.retain(|_, question| {
            question.due = question.due.saturating_sub(1);
            question.reads.retain_mut(&mut waits);
            !question.reads.is_empty()
        });
        self.len -= given_up.len();
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_of_one_time_are_one_question_put_until_it_is_answered() {
        let mut reads = Reads::new(1, 5, 1, 10);
        assert!(reads.take_due().is_empty());
        assert!(reads.push(7) && reads.push(8));
        let first = reads.take_due();
        assert_eq!(first.len(), 1);
        assert!(reads.push(9) && reads.push(10));
        assert!(reads.take_due().is_empty(), "one is under way");
        assert_eq!(reads.answer(&first[0]), [7, 8]);
        assert_eq!(reads.answer(&first[0]), [0; 0], "answered already");
        let second = reads.take_due();
        assert_eq!(second.len(), 1);
        assert!(reads.push(11));
        reads.tick();
        assert!(reads.take_due().is_empty());
        reads.tick();
        let both = reads.take_due();
        assert_eq!((both.len(), &both[0]), (2, &second[0]), "it may have been lost");
        assert!(reads.push(12));
        reads.put_again();
        assert_eq!(reads.take_due().len(), 3);
        assert_eq!(reads.answer(&both[1]), [9, 10, 11], "what was asked before is answered, too");
        assert_eq!(reads.answer(&second[0]), [0; 0]);
        assert!(!reads.is_empty());
    }

    #[test]
    fn answers_to_another_run_or_node_are_none() {
        let mut reads = Reads::new(1, 5, 1, 10);
        assert!(reads.push(7));
        reads.take_due();
        for mut other in [Reads::new(1, 6, 1, 10), Reads::new(2, 5, 1, 10)] {
            assert!(other.push(7));
            assert_eq!(reads.answer(&other.take_due()[0]), [0; 0]);
        }
        assert_eq!(reads.answer(b"garbage"), [0; 0]);
        assert!(!reads.is_empty());
    }

    #[test]
    fn patience_and_room_have_ends() {
        let mut reads = Reads::new(1, 5, 1, 2);
        assert!((0..MAX_READS as u64).all(|ticket| reads.push(ticket)));
        assert!(!reads.push(0));
        reads.take_due();
        let given_up: Vec<_> = (0..10).map(|_| reads.tick().len()).collect();
        assert_eq!(given_up, [0, 0, 0, 0, 0, 0, 0, 0, 0, MAX_READS]);
        assert!(reads.is_empty() && reads.take_due().is_empty());
    }
}
