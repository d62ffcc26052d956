//! Letters: what killed three engines of an agent, shown, handed to its handler again, and dropped.
//!
//! A letter that is handed out again stays in the state of the space until the command that carries
//! its handler's writes takes it out in the same step: whatever dies meanwhile, it is handled once.
//! A handler that does not succeed, and an engine that dies once more, leave the letter where it is.

use super::commit::resource_error;
use super::context::Registered;
use super::task::{Order, Task};
use super::triggers::Item;
use super::{Agents, stopping};
use crate::api::{ErrorBody, LetterInfo, LettersRequest, RetriedLetter};
use crate::json::text_of as term_text;
use crate::space::{Ended, error, not_proposed};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_core::apply::{DeadLetter, MAX_LETTERS, Outcome};
use synod_core::command::{Command, MAX_COMMAND_BYTES, MAX_NAME_BYTES, MAX_REASON_BYTES};
use synod_core::kb::Position;
use synod_core::term::Term;
use synod_prolog::frame::{self, Run, Trigger};
use synod_prolog::trigger_term;
use tokio::sync::mpsc;

/// Letters that wait to be handed out again, at most.
const MAX_RETRIES: usize = MAX_LETTERS;
/// What stands in a letter for a trigger that is too large for one.
const UNRECORDED: &str = "unrecorded";
const GONE: &str = "it is gone: it was dropped, or has been handled meanwhile";

/// A letter to be handed out again, and where it is told what came of that.
#[derive(Debug)]
pub(super) struct Retry {
    position: Position,
    trigger: Vec<u8>,
    told: mpsc::UnboundedSender<(Position, Result<(), String>)>,
}

impl Retry {
    fn tell(self, how: Result<(), String>) {
        // Whoever ordered it may no longer listen.
        drop(self.told.send((self.position, how)));
    }
}

/// An agent's letters, and the name that the space knows it by.
type Letters = (String, BTreeMap<Position, DeadLetter>);

impl Agents {
    /// What an agent could not handle.
    pub(crate) async fn letters(&self, name: &str) -> Result<Vec<LetterInfo>, ErrorBody> {
        let (_, letters) = self.letters_of(&self.agent(name)?).await?;
        Ok(letters.iter().map(letter_info).collect())
    }

    /// Hands letters to the agent's handler again; waits until each has been, and says how it went.
    pub(crate) async fn retry_letters(
        &self,
        name: &str,
        which: &LettersRequest,
    ) -> Result<Vec<RetriedLetter>, ErrorBody> {
        let agent = self.agent(name)?;
        let (_, letters) = self.letters_of(&agent).await?;
        let chosen = choose(name, letters, which)?;
        let not_running = || {
            let text = format!("the agent {name} does not run: `synod run` it, then retry");
            error("stopped", text)
        };
        if !agent.view.is_running() {
            return Err(not_running());
        }
        let (told, mut ends) = mpsc::unbounded_channel();
        let retry = |(&position, letter): (&Position, &DeadLetter)| {
            let (trigger, told) = (letter.event.to_vec(), told.clone());
            Retry { position, trigger, told }
        };
        let retries = chosen.iter().map(retry).collect();
        drop(told);
        let sent = agent.orders.send(Order::Retry(retries)).await;
        sent.map_err(|_| not_running())?;
        let mut how = BTreeMap::new();
        loop {
            let end = tokio::select! {
                // What was told before the task ended counts.
                biased;
                end = ends.recv() => end,
                // An order that its task never saw may stay in the queue.
                () = agent.orders.closed() => None,
            };
            match end {
                Some((position, end)) => drop(how.insert(position, end)),
                None => break,
            }
        }
        let mut all = Vec::new();
        for (position, letter) in chosen {
            let untold = || Err("the agent ended before it was handled".to_owned());
            let why = how.remove(&position).unwrap_or_else(untold).err();
            all.push(RetriedLetter {
                position: position.to_string(),
                event: event_text(&letter.event),
                outcome: if why.is_none() { "handled" } else { "kept" }.to_owned(),
                why,
            });
        }
        Ok(all)
    }

    /// Takes letters out of the state of the space; gives those that were dropped.
    pub(crate) async fn drop_letters(
        &self,
        name: &str,
        which: &LettersRequest,
    ) -> Result<Vec<LetterInfo>, ErrorBody> {
        let agent = self.agent(name)?;
        let (known, letters) = self.letters_of(&agent).await?;
        let chosen = choose(name, letters, which)?;
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let positions = chosen.keys().copied().collect();
        match agent.space.commit(&Command::DropLetters { agent: known, positions }).await {
            Some(Ended::Applied(Outcome::Committed(_))) => {
                Ok(chosen.iter().map(letter_info).collect())
            }
            Some(Ended::Applied(Outcome::Refused(_, why))) => {
                Err(error("refused", why.to_string()))
            }
            Some(Ended::NotProposed(why)) => Err(not_proposed(&why)),
            None => Err(crate::node::unseen()),
        }
    }

    async fn letters_of(&self, agent: &Registered) -> Result<Letters, ErrorBody> {
        let name = agent.definition.name.clone();
        let names = [format!("{name}@{}", self.context.node()), name.clone()];
        let look = agent.space.look(move |state| {
            let known = names.iter().find_map(|name| state.agents().get_key_value(name));
            known.map(|(name, agent)| (name.clone(), agent.letters.clone()))
        });
        Ok(look.await.ok_or_else(stopping)?.unwrap_or((name, BTreeMap::new())))
    }
}

/// The letters that a request names. One that is not there is an error that says which.
fn choose(
    name: &str,
    mut letters: BTreeMap<Position, DeadLetter>,
    which: &LettersRequest,
) -> Result<BTreeMap<Position, DeadLetter>, ErrorBody> {
    match (which.all, which.positions.is_empty()) {
        (true, true) => return Ok(letters),
        (false, false) => {}
        _ => {
            let text = "say which letters: either positions, as `synod agent letters` shows them, \
                        or all";
            return Err(error("bad_request", text));
        }
    }
    let (mut chosen, mut unknown) = (BTreeMap::new(), Vec::new());
    for text in &which.positions {
        let position: Position =
            text.parse().map_err(|e| error("bad_request", format!("{text:?}: {e}")))?;
        match letters.remove_entry(&position) {
            Some((position, letter)) => drop(chosen.insert(position, letter)),
            None if chosen.contains_key(&position) => {}
            None => unknown.push(text.as_str()),
        }
    }
    if unknown.is_empty() {
        return Ok(chosen);
    }
    let text = format!(
        "{name} has no letter at {}: `synod agent letters {name}` shows those that there are",
        unknown.join(", ")
    );
    Err(error("not_found", text))
}

fn letter_info((position, letter): (&Position, &DeadLetter)) -> LetterInfo {
    LetterInfo {
        position: position.to_string(),
        event: event_text(&letter.event),
        trigger: term_text(&letter.event),
        reason: letter.reason.clone(),
        index: letter.index,
    }
}

/// A trigger for people: an event without its position and sender.
fn event_text(trigger: &[u8]) -> String {
    match Term::decode(trigger).ok().as_ref().map(|term| (term.functor(), term)) {
        Some((Some(("event", 3)), Term::Compound(_, arguments))) => {
            arguments[2].encode().map_or_else(|_| term_text(trigger), |bytes| term_text(&bytes))
        }
        _ => term_text(trigger),
    }
}

/// What a letter keeps of a trigger; none of those that never become letters.
pub(super) fn kept_of(trigger: &Trigger) -> Option<Bytes> {
    let fits =
        |term: &Vec<u8>| term.len() + MAX_REASON_BYTES + 2 * MAX_NAME_BYTES <= MAX_COMMAND_BYTES;
    match trigger {
        Trigger::Event { .. }
        | Trigger::OrderedDatagram { .. }
        | Trigger::OrderedUdp { .. }
        | Trigger::Timer { .. }
        | Trigger::Changed { .. }
        | Trigger::Start
        | Trigger::Gap { .. } => {
            let term = trigger_term(trigger).filter(fits);
            let term = term.or_else(|| Term::atom(UNRECORDED).encode().ok());
            term.map(Bytes::from)
        }
        Trigger::Engine
        | Trigger::Message { .. }
        | Trigger::Sent { .. }
        | Trigger::Datagram { .. }
        | Trigger::Udp { .. }
        | Trigger::Recorded { .. } => None,
    }
}

impl Task {
    /// Letters wait to be handed out again.
    pub(super) fn queue_retries(&mut self, retries: Vec<Retry>) {
        let unrecorded = Term::atom(UNRECORDED).encode().unwrap_or_default();
        for retry in retries {
            if retry.trigger == unrecorded {
                let text = "it was too large to be kept: broadcast it again, and drop the letter";
                retry.tell(Err(text.to_owned()));
            } else if self.retries.len() >= MAX_RETRIES {
                retry.tell(Err(format!("{MAX_RETRIES} letters wait already: retry it later")));
            } else {
                self.retries.push_back(retry);
            }
        }
    }

    /// The next letter to be handed out again: alone, for it has killed engines before.
    pub(super) async fn next_retry(&mut self) -> Option<Item> {
        while let Some(retry) = self.retries.pop_front() {
            let (agent, position) = (self.agent.clone(), retry.position);
            let look = self.space.look(move |state| {
                state.agents().get(&agent).is_some_and(|a| a.letters.contains_key(&position))
            });
            if !look.await.unwrap_or(false) {
                retry.tell(Err(GONE.to_owned()));
                continue;
            }
            let item = Item::loose(Trigger::Recorded { term: retry.trigger.clone() });
            self.retrying = Some(retry);
            return Some(item);
        }
        None
    }

    /// The letter that a run handles; none if it did not succeed, which leaves the letter.
    pub(super) fn letter_of(&self, run: &Run) -> Option<Position> {
        let retry = self.retrying.as_ref().filter(|_| self.is_of_batch(run))?;
        matches!(run, Run::Batch { failed, .. } if failed.is_empty()).then_some(retry.position)
    }

    /// A run that is committed, or needs no commit, may have been that of a letter.
    pub(super) fn settle_retry(&mut self, run: &Run) {
        let Run::Batch { failed, .. } = run else { return };
        if !self.is_of_batch(run) {
            return;
        }
        let Some(retry) = self.retrying.take() else { return };
        retry.tell(match failed.first() {
            None => Ok(()),
            Some(failure) => Err(format!("its handler did not succeed: {}", failure.text)),
        });
    }

    /// The letter was gone when its handler's writes were to be committed.
    pub(super) fn retry_is_void(&mut self) -> frame::Outcome {
        if let Some(retry) = self.retrying.take() {
            retry.tell(Err(GONE.to_owned()));
        }
        frame::Outcome::Refused { error: resource_error("the letter is gone") }
    }

    /// The letter that was handed out has not been handled, and stays.
    pub(super) fn retry_ends(&mut self, why: &str) -> bool {
        let retry = self.retrying.take();
        let was_one = retry.is_some();
        retry.into_iter().for_each(|retry| retry.tell(Err(why.to_owned())));
        was_one
    }

    /// The letter that was handed out goes to the next engine.
    pub(super) fn put_retry_back(&mut self) {
        if let Some(retry) = self.retrying.take() {
            self.retries.push_front(retry);
        }
    }

    fn is_of_batch(&self, run: &Run) -> bool {
        let current = self.batch.as_ref().map(|batch| batch.number);
        matches!(run, Run::Batch { batch, .. } if Some(*batch) == current)
    }
}
