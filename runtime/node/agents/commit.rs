//! What an agent's runs become: commands of its epoch, which move its cursor with their writes.

use super::engine::{Engine, EngineError};
use super::load::{LoadError, Loaded};
use super::takeover::How;
use super::task::{Left, Order, Task};
use super::triggers::Item;
use crate::json::text_of;
use crate::space::{Ended, NotProposed, Space, Unserved};
use bytes::Bytes;
use std::time::Duration;
use synod_core::apply::{Outcome, Refusal};
use synod_core::command::{
    Claim, Command, MAX_RECORD_BYTES, MAX_RECORD_TERMS, Origin, Record, Transaction,
};
use synod_core::kb::Position;
use synod_core::term::Term;
use synod_core::transaction::Draft;
use synod_prolog::frame::{self, Effect, Run, ToEngine, Trigger};
use synod_prolog::trigger_term;
use tokio::time::sleep;

/// How long the node waits before it offers again what it could not propose.
const OFFER_AGAIN: Duration = Duration::from_millis(100);

/// Bytes of a trigger's text in a log line, at most.
const MAX_SHOWN: usize = 200;

/// How long a commit that is under way has when the node goes down.
const LAST_COMMIT: Duration = Duration::from_secs(2);

impl Task {
    pub(super) async fn propose(
        &mut self,
        engine: &mut Engine,
        proposal: u64,
        run: Run,
        draft: Vec<u8>,
        effects: Vec<Effect>,
    ) -> Result<Option<Left>, EngineError> {
        let Ok(draft) = Draft::read(&Bytes::from(draft)) else {
            engine.kill();
            return Ok(Some(Left::Died("proposed what cannot be read".to_owned())));
        };
        let to = self.cursor_behind(&run).unwrap_or(self.cursor);
        let record = self.record_of(&run, &effects);
        let origin = self.origin(to, record, self.letter_of(&run));
        let Draft { version, reads, ops } = draft;
        let command = Command::Transact(Transaction { origin, version, reads, ops });
        if command.check_terms().is_err() {
            engine.kill();
            return Ok(Some(Left::Died(
                "proposed a term that is not in canonical form".to_owned(),
            )));
        }
        let (outcome, is_committed) = match self.commit(&command).await {
            Some(Ended::Applied(Outcome::Committed(index))) => {
                (frame::Outcome::Committed { index }, true)
            }
            Some(Ended::Applied(Outcome::Refused(_, Refusal::Conflict(keys)))) => {
                let keys = keys.iter().map(u64::to_string).collect();
                (frame::Outcome::Conflict { keys }, false)
            }
            Some(Ended::Applied(Outcome::Refused(_, Refusal::TooOld))) => {
                (frame::Outcome::Conflict { keys: Vec::new() }, false)
            }
            Some(Ended::Applied(Outcome::Refused(
                _,
                Refusal::StaleEpoch | Refusal::StaleCursor | Refusal::OutOfWindow,
            ))) => return Ok(Some(Left::Superseded)),
            Some(Ended::Applied(Outcome::Refused(_, Refusal::NoLetter))) => {
                (self.retry_is_void(), false)
            }
            Some(Ended::Applied(Outcome::Refused(_, why))) => {
                (frame::Outcome::Refused { error: resource_error(&why.to_string()) }, false)
            }
            Some(Ended::NotProposed(NotProposed::Unserved(why @ Unserved::Removed(_)))) => {
                return Ok(Some(Left::Removed(why.to_string())));
            }
            // What it has read may be wrong: another engine handles the same again.
            Some(Ended::NotProposed(NotProposed::Unserved(Unserved::Rebuilding(_)))) => {
                return Ok(Some(Left::Behind));
            }
            Some(Ended::NotProposed(why)) => {
                (frame::Outcome::Refused { error: resource_error(&why.to_string()) }, false)
            }
            // The node is going down, and says nothing that it does not know.
            None => return Ok(Some(Left::Stopped { release: false, done: None })),
        };
        if is_committed {
            self.cursor = to;
            self.count(&run);
            self.settle_retry(&run);
            self.perform(effects).await;
        }
        let changes = engine.changes()?;
        engine.send(&ToEngine::Outcome { proposal, outcome, changes }).await?;
        Ok(None)
    }

    /// The next command of the epoch, one that moves the cursor to `to`.
    pub(super) fn origin(
        &mut self,
        to: Position,
        record: Record,
        letter: Option<Position>,
    ) -> Origin {
        self.seq += 1;
        Origin::Agent {
            name: self.agent.clone(),
            epoch: self.epoch,
            seq: self.seq,
            from: self.cursor,
            to,
            record,
            letter,
        }
    }

    /// A run that wrote nothing, of triggers without a position. The log tells of it if the program
    /// asks for that, and if it handled a letter.
    pub(super) async fn handled(&mut self, engine: &Engine, run: Run, effects: Vec<Effect>) {
        let letter = self.letter_of(&run);
        let record = match self.claimed.records || letter.is_some() {
            true => self.record_of(&run, &effects),
            false => Record::default(),
        };
        if record != Record::default() {
            let origin = self.origin(self.cursor, record, letter);
            let version = engine.version();
            let (reads, ops) = (Vec::new(), Vec::new());
            let transaction = Transaction { origin, version, reads, ops };
            match self.commit(&Command::Transact(transaction)).await {
                Some(Ended::Applied(Outcome::Committed(_))) => {}
                Some(Ended::Applied(Outcome::Refused(_, Refusal::NoLetter))) => {
                    drop(self.retry_is_void());
                    return;
                }
                other => self.log("warning", &format!("a run is not in the log: {other:?}")),
            }
        }
        self.count(&run);
        self.settle_retry(&run);
        self.perform(effects).await;
    }

    /// What the log would not tell of a run otherwise.
    fn record_of(&self, run: &Run, effects: &[Effect]) -> Record {
        let mut room = MAX_RECORD_BYTES;
        let mut recorded = |term: Option<Vec<u8>>| {
            let fits = term.filter(|term| term.len() <= room);
            let term = fits.or_else(|| Term::atom("unrecorded").encode().ok()).unwrap_or_default();
            room = room.saturating_sub(term.len());
            Bytes::from(term)
        };
        let mut record = Record::default();
        if let (Run::Batch { batch, first, done, .. }, Some(current)) = (run, &self.batch)
            && *batch == current.number
        {
            let handled = current.items.iter().skip(*first as usize).take(*done as usize);
            let loose = handled.filter(|item| item.position.is_none());
            let of_note = loose.filter(|item| !matches!(item.trigger, Trigger::Engine));
            record.triggers.extend(of_note.map(|item| recorded(trigger_term(&item.trigger))));
        }
        if self.claimed.records {
            let sent = effects.iter().filter_map(sent_term).take(MAX_RECORD_TERMS);
            record.sent.extend(sent.map(recorded));
        }
        record
    }

    /// Where the cursor stands behind what a run handles; none if that has no position.
    pub(super) fn cursor_behind(&self, run: &Run) -> Option<Position> {
        let (Run::Batch { batch, first, done, .. }, Some(current)) = (run, &self.batch) else {
            return None;
        };
        if *batch != current.number {
            return None;
        }
        let handled = current.items.iter().skip(*first as usize).take(*done as usize);
        handled.rev().find_map(|item| item.position).map(|(_, behind)| behind)
    }

    /// Notes that items of the batch are handled.
    pub(super) fn count(&mut self, run: &Run) {
        let Run::Batch { batch, first, done, failed } = run else { return };
        let Some(current) = self.batch.as_mut().filter(|current| current.number == *batch) else {
            return;
        };
        let first_item = current.items.get(*first as usize).map(|item| &item.trigger);
        let is_start = matches!(first_item, Some(Trigger::Start));
        current.done = current.done.max((*first as usize) + (*done as usize));
        // Every fresh engine handles this first, however soon it dies after that.
        if matches!(first_item, Some(Trigger::Engine)) {
            self.engine_deaths = 0;
        } else {
            self.has_progressed = true;
        }
        self.is_started |= is_start;
        let said: Vec<String> = failed
            .iter()
            .map(|failure| {
                let item = current.items.get(failure.item as usize);
                let of = item.map_or_else(String::new, |item| format!(" of {}", in_short(item)));
                format!("the handler{of} did not succeed: {}", failure.text)
            })
            .collect();
        self.view().handled_more(u64::from(*done), failed.len() as u64);
        said.iter().for_each(|line| self.log("error", line));
    }

    /// Proposes a command until it is decided, however long no quorum can be reached: the same bytes
    /// happen once. None if the node goes down first.
    pub(super) async fn commit(&mut self, command: &Command) -> Option<Ended> {
        let bytes = command.encode();
        let mut is_told = false;
        loop {
            // On a full disk this may wait for long, and the node can be told to go down meanwhile.
            let given_up = async {
                self.context.stopping().await;
                sleep(LAST_COMMIT).await;
            };
            let ended = tokio::select! {
                ended = self.space.commit_encoded(bytes.clone()) => ended,
                () = given_up => return None,
            };
            let waits = match ended {
                Some(Ended::NotProposed(
                    why @ (NotProposed::Busy
                    | NotProposed::NoQuorum
                    | NotProposed::Unserved(Unserved::DiskFull(_) | Unserved::Shortened(_))),
                )) => why.to_string(),
                None => "the space has not said what became of it".to_owned(),
                ended => return ended,
            };
            if !std::mem::replace(&mut is_told, true) {
                self.log("warning", &format!("a write waits: {waits}"));
            }
            sleep(OFFER_AGAIN).await;
            if self.context.is_stopping() || self.is_ordered_to_end() {
                return None;
            }
        }
    }

    /// Whether an order has come that does not wait for a commit.
    fn is_ordered_to_end(&mut self) -> bool {
        self.taken.extend(std::iter::from_fn(|| self.orders.try_recv().ok()));
        let ends = |order: &Order| {
            matches!(order, Order::Stop { .. } | Order::Load { how: How::Restart, .. })
        };
        self.taken.iter().any(ends)
    }

    pub(super) async fn release(&self) {
        let release = Command::Release { agent: self.agent.clone(), epoch: self.epoch };
        // Without a quorum it is the leader that finds this node gone.
        drop(tokio::time::timeout(LAST_COMMIT, self.space.commit(&release)).await);
    }
}

/// `publish(Topic, Term)` or `send(Agent, Term)`, encoded; none of what is not sent.
fn sent_term(effect: &Effect) -> Option<Option<Vec<u8>>> {
    let (name, to, term) = match effect {
        Effect::Publish { topic, term } => ("publish", topic, term),
        Effect::Send { agent, term } => ("send", agent, term),
        Effect::UdpSend { scope, term } => ("udp_send", scope, term),
        _ => return None,
    };
    let term = Term::decode(term).ok();
    let sent = term.map(|term| Term::structure(name, [Term::atom(&**to), term]));
    Some(sent.and_then(|sent| sent.encode().ok()))
}

/// A trigger as a log names it.
fn in_short(item: &Item) -> String {
    let mut text = trigger_term(&item.trigger).map_or_else(String::new, |term| text_of(&term));
    if text.len() > MAX_SHOWN {
        text.truncate(text.floor_char_boundary(MAX_SHOWN));
        text.push('…');
    }
    text
}

/// Claims an agent for this node: the new epoch, and where the cursor stands.
pub(super) async fn claim(
    space: &Space,
    node: &str,
    agent: &str,
    loaded: &Loaded,
) -> Result<(u64, Position), LoadError> {
    let name = agent.to_owned();
    let closed = || LoadError::NotClaimed("the node is going down".to_owned());
    let look = space.look(move |state| state.agents().get(&name).map(|agent| agent.epoch));
    let after = look.await.ok_or_else(closed)?.unwrap_or(0);
    claim_after(space, node, agent, loaded, after).await
}

/// The same, unless the agent has been claimed since the epoch given.
pub(super) async fn claim_after(
    space: &Space,
    node: &str,
    agent: &str,
    loaded: &Loaded,
    after: u64,
) -> Result<(u64, Position), LoadError> {
    let closed = || LoadError::NotClaimed("the space has not said in time".to_owned());
    let claim = Claim {
        agent: agent.to_owned(),
        node: node.to_owned(),
        program: loaded.program,
        mode: loaded.mode,
        after,
        declared: loaded.declared.clone(),
    };
    match space.commit(&Command::Claim(claim)).await {
        Some(Ended::Applied(Outcome::Committed(epoch))) => {
            let name = agent.to_owned();
            let look = space.look(move |state| state.agents().get(&name).map(|a| a.cursor));
            let cursor = look.await.flatten().ok_or_else(closed)?;
            Ok((epoch, cursor))
        }
        Some(Ended::Applied(Outcome::Refused(_, why))) => {
            Err(LoadError::NotClaimed(why.to_string()))
        }
        Some(Ended::NotProposed(why)) => Err(LoadError::NotClaimed(why.to_string())),
        None => Err(closed()),
    }
}

/// `error(resource_error(space), synod(Why))`, encoded.
pub(super) fn resource_error(why: &str) -> Vec<u8> {
    resource_error_term(why).encode().unwrap_or_default()
}

/// As above.
pub(super) fn resource_error_term(why: &str) -> Term {
    let formal = Term::structure("resource_error", [Term::atom("space")]);
    let context = Term::structure("synod", [Term::string(why)]);
    Term::structure("error", [formal, context])
}
