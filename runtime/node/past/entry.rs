//! A command as people and their programs are told of it. What a retract took away is not in the
//! command, so telling needs the state before it.

use super::filter::written;
use crate::api::{LogEffect, LogEntry};
use crate::rfc3339;
use bytes::Bytes;
use synod_core::apply::{Applied, Effect, Outcome, State};
use synod_core::command::{Command, Mode, Origin};
use synod_core::kb::Indicator;
use synod_core::term::shape;
use synod_core::term::{Term, text};

/// Applies commands and tells of each.
#[derive(Debug)]
pub struct Teller {
    state: State,
}

impl Teller {
    /// From a state on.
    pub fn new(state: State) -> Self {
        Self { state }
    }

    /// The state that the commands so far lead to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies the next command without telling of it.
    pub fn pass(&mut self, stamp: u64, command: &Bytes) {
        self.state.apply(stamp, command);
    }

    /// Applies the next command.
    pub fn tell(&mut self, stamp: u64, bytes: &Bytes) -> LogEntry {
        let command = Command::decode(bytes);
        let session = match &command {
            Ok(Command::Transact(transaction)) => match &transaction.origin {
                Origin::Session { id, .. } => self.state.session(*id).map(|s| s.label.clone()),
                Origin::Agent { .. } => None,
            },
            _ => None,
        };
        let applied = self.state.apply(stamp, bytes);
        let mut entry = of_applied(&applied);
        match command {
            Ok(command) => describe(&mut entry, command, session),
            Err(_) => "malformed".clone_into(&mut entry.kind),
        }
        entry
    }
}

/// What is told of any command.
fn of_applied(applied: &Applied) -> LogEntry {
    let mut entry = LogEntry {
        index: applied.index,
        time: rfc3339::format(applied.time),
        micros: applied.time,
        ..LogEntry::default()
    };
    match &applied.outcome {
        Outcome::Refused(_, why) => entry.refused = Some(why.to_string()),
        // A command that was sent again has the index of the first.
        Outcome::Committed(index) if *index < applied.index => entry.first = Some(*index),
        Outcome::Committed(_) => {}
    }
    for (n, effect) in applied.change.iter().flat_map(|change| &change.effects) {
        let (what, functor, term) = match effect {
            Effect::Asserted { predicate, fact, .. } => ("assert", Some(predicate.clone()), fact),
            Effect::Retracted { predicate, fact, .. } => ("retract", Some(predicate.clone()), fact),
            Effect::Emitted { event } => {
                let functor = shape::predicate(event).and_then(|(name, arity)| {
                    Some(Indicator::new(name, u32::try_from(arity).ok()?))
                });
                ("emit", functor, event)
            }
        };
        let functor = functor.map(|functor| written(&functor));
        entry.effects.push(LogEffect { n: *n, what: what.to_owned(), functor, term: shown(term) });
    }
    entry
}

fn describe(entry: &mut LogEntry, command: Command, session: Option<String>) {
    match command {
        Command::OpenSession { label, .. } => {
            "session".clone_into(&mut entry.kind);
            // One that was opened before keeps its number, which is no other index's command.
            entry.first = None;
            entry.by = label;
        }
        Command::Transact(transaction) => {
            "transaction".clone_into(&mut entry.kind);
            match transaction.origin {
                Origin::Session { id, .. } => {
                    entry.by = session.unwrap_or_else(|| format!("session {id}"));
                }
                Origin::Agent { name, from, to, record, letter, .. } => {
                    if to > from {
                        entry.handled = Some(format!("{from}-{to}"));
                    }
                    entry.what = letter.map(|at| format!("handles the letter at {at}"));
                    entry.triggers = record.triggers.iter().map(|term| shown(term)).collect();
                    entry.sent = record.sent.iter().map(|term| shown(term)).collect();
                    of_agent(entry, name);
                }
            }
        }
        Command::Claim(claim) => {
            "claim".clone_into(&mut entry.kind);
            let mode = if claim.mode == Mode::Each { "each" } else { "one" };
            let node = &claim.node;
            // The epoch that a claim makes is its index.
            entry.first = None;
            entry.what = Some(format!("held by {node}, mode {mode}"));
            of_agent(entry, claim.agent);
        }
        Command::Letter(letter) => {
            "letter".clone_into(&mut entry.kind);
            let (event, reason) = (shown(&letter.event), letter.reason);
            entry.what = Some(format!("{event} could not be handled: {reason}"));
            of_agent(entry, letter.agent);
        }
        Command::Release { agent, epoch } => {
            "release".clone_into(&mut entry.kind);
            entry.what = Some(format!("ends epoch {epoch}"));
            of_agent(entry, agent);
        }
        Command::DropLetters { agent, positions } => {
            "drop_letters".clone_into(&mut entry.kind);
            let positions: Vec<_> = positions.iter().map(ToString::to_string).collect();
            entry.what = Some(positions.join(" "));
            of_agent(entry, agent);
        }
        Command::PublishModule { name, text, after: _ } => {
            "module".clone_into(&mut entry.kind);
            entry.what = Some(format!("{} bytes", text.len()));
            entry.by = name;
        }
        Command::Admit(admit) => {
            "admit".clone_into(&mut entry.kind);
            entry.by = admit.node;
        }
        Command::IssueTicket(ticket) => {
            "ticket".clone_into(&mut entry.kind);
            let until = rfc3339::format(ticket.until);
            entry.what = Some(format!("admits {} until {until}", ticket.uses));
        }
        Command::RevokeTickets { hashes, after: _ } => {
            "revoke_tickets".clone_into(&mut entry.kind);
            let which = if hashes.is_empty() { "all".to_owned() } else { hashes.len().to_string() };
            entry.what = Some(which);
        }
        Command::Configure(configure) => {
            "members".clone_into(&mut entry.kind);
            let sets = [
                ("voters", &configure.voters),
                ("learners", &configure.learners),
                ("removed", &configure.removed),
            ];
            let named = sets.iter().filter(|(_, ids)| !ids.is_empty()).map(|(what, ids)| {
                let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
                format!("{what} {}", ids.join(" "))
            });
            entry.what = Some(named.collect::<Vec<_>>().join(", "));
        }
        Command::Checkpoint(checkpoint) => {
            "checkpoint".clone_into(&mut entry.kind);
            let signers =
                checkpoint.signatures.iter().map(|signature| signature.member.to_string());
            let signers: Vec<_> = signers.collect();
            let (index, signers) = (checkpoint.mark.index, signers.join(" "));
            entry.what = Some(format!("index {index}, signed by {signers}"));
        }
        Command::Recover(recover) => {
            "recover".clone_into(&mut entry.kind);
            let generation = recover.generation;
            let dropped: Vec<_> = recover.dropped.values().map(String::as_str).collect();
            let without = if dropped.is_empty() { "nobody".to_owned() } else { dropped.join(", ") };
            entry.what =
                Some(format!("generation {generation}, without {without}: {}", recover.words));
            entry.by = recover.node;
        }
    }
}

fn of_agent(entry: &mut LogEntry, agent: String) {
    entry.by.clone_from(&agent);
    entry.agent = Some(agent);
}

/// A term in one line, for people.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    match Term::decode(bytes) {
        Ok(term) => text::write(&term, &mut out, text::WriteOptions::PRETTY),
        // A log holds what a leader let in, and that it checked.
        Err(e) => out = format!("<no term: {e}>"),
    }
    out
}

impl LogEntry {
    /// The entry in one line: time, index, who, and what it did.
    pub fn line(&self) -> String {
        let mut line = format!("{} {} {}", self.time, self.index, self.by);
        let mut add = |text: &str| {
            line.push(' ');
            line.push_str(text);
        };
        if self.kind != "transaction" {
            add(&self.kind.replace('_', " "));
        }
        for effect in &self.effects {
            let sign = match effect.what.as_str() {
                "assert" => '+',
                "retract" => '-',
                _ => '!',
            };
            add(&format!("{sign}{}", effect.term));
        }
        if let Some(what) = &self.what {
            add(what);
        }
        match (&self.refused, self.first) {
            (Some(why), _) => add(&format!("refused: {why}")),
            (None, Some(first)) => add(&format!("again: it is that of index {first}")),
            (None, None) if self.kind == "transaction" && self.effects.is_empty() => {
                match &self.handled {
                    Some(handled) => add(&format!("(handled {handled})")),
                    None => add("(nothing)"),
                }
            }
            (None, None) => {}
        }
        line
    }
}
