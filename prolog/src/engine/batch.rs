//! An agent's main loop, from the host's side: batches of triggers, what their handlers did, and
//! their commit.
//!
//! Handlers of a batch run one after the other in one view, each seeing the writes of those before
//! it. The machine is given a list of events; it says of each how its handler ended, and asks for
//! the next list. Then what the list did is proposed as one command. On a conflict half of the
//! list is run again.

use super::errors::Ball;
use super::exit;
use super::host::{Answer, Host};
use super::run::{Mark, Phase, Verdict, conflict, unexpected};
use super::trigger;
use crate::frame::{Effect, Failed, FromEngine, Run, ToEngine, Trigger};
use std::time::Duration;

/// Handlers that are committed together, at most.
pub(super) const MAX_BATCH: usize = 64;

/// The batch that is being handled.
#[derive(Debug, Default)]
pub(super) struct Batch {
    number: u64,
    items: Vec<Trigger>,
    /// The first item of the list that runs, and how many it has.
    first: usize,
    len: usize,
    /// How many of the list's handlers have ended.
    ended: usize,
    failed: Vec<Failed>,
    /// Where the running handler began.
    mark: Option<Mark>,
    /// How many handlers may be run together, after conflicts.
    window: Option<usize>,
    /// The thread's own time when the list began.
    began: Option<Duration>,
}

impl Host {
    /// The next events to handle: `stop`, or a list.
    pub(super) fn next_events(&mut self) -> Result<Answer, Ball> {
        if self.batch.len > 0 {
            self.commit_list();
        }
        while self.batch.first >= self.batch.items.len() {
            self.fetch_batch();
        }
        self.start_list();
        Ok(Answer::Text)
    }

    /// A handler ended: well, or with this said of it.
    pub(super) fn handler_ended(&mut self, failed: Option<String>) -> Result<Answer, Ball> {
        let bytes = self.output.drain();
        if !bytes.is_empty() {
            self.run.effects.push(Effect::Output { bytes });
        }
        if let Some(text) = failed {
            if let Some(mark) = self.batch.mark {
                self.run.back_to(&mut self.facts, mark);
            }
            let item = u32::try_from(self.batch.first + self.batch.ended).unwrap_or(u32::MAX);
            self.batch.failed.push(Failed { item, text });
        }
        self.batch.ended += 1;
        self.start_handler();
        Ok(Answer::Done)
    }

    /// No clause of `on/1` was for the event.
    pub(super) fn handler_skipped(&mut self) -> Result<Answer, Ball> {
        self.handler_ended(None)
    }

    fn fetch_batch(&mut self) {
        if let Some(why) = self.vitals.renewal(self.watch.heavy()) {
            self.link.send(&FromEngine::Renew { why });
        }
        self.watch.rest();
        self.link.send(&FromEngine::Next);
        let (number, changes, items) = match self.link.receive() {
            ToEngine::Triggers { batch, changes, items } => (batch, changes, items),
            other => unexpected("triggers", &other),
        };
        self.watch.begin();
        self.facts.follow(&changes);
        self.batch.number = number;
        self.batch.items = items;
        self.batch.first = 0;
    }

    fn start_list(&mut self) {
        let batch = &mut self.batch;
        let left = batch.items.len() - batch.first;
        let max = batch.window.unwrap_or(MAX_BATCH).min(MAX_BATCH);
        batch.len = left.min(max);
        // `on(engine)` may not write, and `on(start)` is followed by nothing it could be undone with.
        let is_alone = |t: &Trigger| matches!(t, Trigger::Engine | Trigger::Start);
        let list = &batch.items[batch.first..batch.first + batch.len];
        if let Some(at) = list.iter().position(is_alone) {
            batch.len = at.max(1);
        }
        batch.ended = 0;
        batch.failed.clear();
        let answer = self.answer();
        answer.push('[');
        let Self { batch, .. } = self;
        let list = batch.items[batch.first..batch.first + batch.len].to_vec();
        for (n, item) in (0..).zip(&list) {
            if n > 0 {
                self.answer().push(',');
            }
            if !trigger::write(item, n, self.answer()) {
                exit::now(exit::SETUP, "a trigger is no term");
            }
        }
        self.answer().push(']');
        self.facts.begin();
        self.run.clear();
        self.run.phase = match list.first() {
            Some(Trigger::Engine) => Phase::Engine,
            _ => Phase::Handler,
        };
        self.batch.began = Some(thread_time());
        self.start_handler();
    }

    fn start_handler(&mut self) {
        self.batch.mark = Some(self.run.mark(&self.facts));
        self.watch.begin();
    }

    fn commit_list(&mut self) {
        let batch = &mut self.batch;
        let ended = u32::try_from(batch.len).unwrap_or(u32::MAX);
        if let Some(began) = batch.began.take() {
            self.vitals.handled(ended, thread_time().saturating_sub(began));
        }
        let run = Run::Batch {
            batch: batch.number,
            first: u32::try_from(batch.first).unwrap_or(u32::MAX),
            done: ended,
            failed: std::mem::take(&mut batch.failed),
        };
        let list = &batch.items[batch.first..batch.first + batch.len];
        let has_position = list.iter().any(|item| {
            matches!(
                item,
                Trigger::Event { .. }
                    | Trigger::OrderedDatagram { .. }
                    | Trigger::OrderedUdp { .. }
                    | Trigger::Changed { .. }
                    | Trigger::Gap { .. }
            )
        });
        // The first run of an epoch is noted by the space, written or not.
        let is_start = matches!(list.first(), Some(Trigger::Start));
        if self.facts.is_read_only() && !has_position && !is_start {
            let effects = std::mem::take(&mut self.run.effects);
            self.link.send(&FromEngine::Effects { run, effects });
            self.pass();
            return;
        }
        // The program does not run: it is the node's time now.
        self.watch.rest();
        let verdict = self.run.propose(&mut self.facts, &mut self.link, run);
        self.watch.begin();
        match verdict {
            Verdict::Committed => self.pass(),
            Verdict::Again => {
                self.batch.window = Some((self.batch.len / 2).max(1));
                self.batch.len = 0;
            }
            Verdict::TooLong(keys) => self.give_up(conflict(keys)),
            Verdict::Threw(ball) => self.give_up(ball),
            // The cursor in the space tells: the next engine starts from there.
            Verdict::Unknown(_) => {
                exit::now(exit::SETUP, "nobody knows whether a batch was committed");
            }
        }
    }

    /// The list is committed: on to what follows.
    fn pass(&mut self) {
        self.batch.first += self.batch.len;
        self.batch.len = 0;
        self.batch.window = self.batch.window.map(|n| n * 2).filter(|n| *n < MAX_BATCH);
    }

    /// The list's writes cannot be committed: its first handler has failed with this, and left
    /// nothing. The others are run again.
    fn give_up(&mut self, ball: Ball) {
        self.facts.begin();
        self.run.clear();
        self.batch.len = 1;
        let item = u32::try_from(self.batch.first).unwrap_or(u32::MAX);
        let text = ball.to_string();
        let failed = vec![Failed { item, text }];
        let run = Run::Batch { batch: self.batch.number, first: item, done: 1, failed };
        match self.run.propose(&mut self.facts, &mut self.link, run) {
            Verdict::Committed => self.pass(),
            // It read nothing and wrote nothing: only its place in the log can be refused.
            Verdict::Again | Verdict::TooLong(_) | Verdict::Unknown(_) | Verdict::Threw(_) => {
                exit::now(exit::SETUP, "an event cannot be passed over");
            }
        }
    }
}

/// What this thread has computed so far: a busy machine makes no handler slower.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
