//! What a changed program would have made of what happened: the log's commands are applied again, and
//! each time the recorded agent handled something, the same triggers are given to the program, at the
//! version of the knowledge base that they were handled at. What it would have written and sent stands
//! beside what was. The facts stay those of the log: one difference does not bring about others.
//!
//! The log tells of the triggers of an agent's transactions: the events between the two places of its
//! cursor, and what has no place in the order as `core::command::Record` keeps it. Messages and timers
//! for which it wrote nothing are there only if its program says `record(true)`.

mod engine;
mod run;

pub use engine::{EngineFailure, Program};
pub use run::{Compared, Line, Mark};

use bytes::Bytes;
use engine::Engine;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use synod_core::apply::{Change, Effect, Outcome, State};
use synod_core::command::{Command, Origin, Record};
use synod_core::datagrams::Datagram;
use synod_core::kb::{Indicator, Kb, Position};
use synod_core::term::Term;
use synod_prolog::frame::{self, Trigger, What};

/// Bytes of events that an agent has not handled yet, at most: one that was stopped for long.
const MAX_WAITING_BYTES: usize = 1 << 30;

/// A replay of one agent's runs with another program.
pub struct Replay {
    program: Program,
    agent: String,
    state: State,
    /// The knowledge base at the version of the run that is replayed.
    replica: Kb,
    version: u64,
    /// Changes that the replica does not know yet.
    ahead: VecDeque<Arc<Change>>,
    /// Changes with something for the agent that its cursor has not passed.
    waiting: VecDeque<Arc<Change>>,
    waiting_bytes: usize,
    is_claimed: bool,
    cursor: Position,
    watches: BTreeMap<Indicator, bool>,
    engine: Option<Engine>,
    /// Whether what was sent is known: either program asks for a record.
    knows_sent: bool,
    told: Told,
}

/// What a replay has come across.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// Runs of the agent that were replayed.
    pub runs: u64,
    /// Triggers in them.
    pub triggers: u64,
    /// Runs that would have been another.
    pub differ: u64,
}

/// Why a replay cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The program's engine cannot be had.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A command of the log cannot be read.
    #[error("index {index}: {why}")]
    Command {
        /// The command.
        index: u64,
        /// What is wrong with it.
        why: synod_core::cbor::Error,
    },
    /// The agent had handled too little by then.
    #[error(
        "at index {index} more than {MAX_WAITING_BYTES} bytes of events wait for the agent: replay a \
         part of the log in which it ran"
    )]
    Behind {
        /// Where that was.
        index: u64,
    },
}

fn size(change: &Change) -> usize {
    let bytes = change.effects.iter().map(|(_, effect)| match effect {
        Effect::Emitted { event: bytes }
        | Effect::Asserted { fact: bytes, .. }
        | Effect::Retracted { fact: bytes, .. } => bytes.len() + size_of::<Effect>(),
    });
    bytes.sum()
}

impl Replay {
    /// Of the runs of `agent`, with another program. `space` is the id of the space whose log it is.
    pub fn new(program: Program, agent: &str, space: [u8; 32]) -> Self {
        Self {
            program,
            agent: agent.to_owned(),
            state: State::new(space),
            replica: Kb::new(),
            version: 0,
            ahead: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_claimed: false,
            cursor: Position::default(),
            watches: BTreeMap::new(),
            engine: None,
            knows_sent: false,
            told: Told::default(),
        }
    }

    /// What was come across so far.
    pub fn told(&self) -> Told {
        self.told
    }

    /// The index of the last command.
    pub fn index(&self) -> u64 {
        self.state.index()
    }

    /// The next command of the log, at the time that its batch was stamped with. Gives what became of it
    /// if it was a run of the agent's.
    pub fn command(&mut self, time: u64, bytes: &Bytes) -> Result<Option<Compared>, ReplayError> {
        let index = self.state.index() + 1;
        let command = Command::decode(bytes);
        let applied = self.state.apply(time, bytes);
        let change = applied.change.map(Arc::new);
        let is_done = matches!(applied.outcome, Outcome::Committed(_));
        let compared = match command {
            // A command that nobody can read has its index and changes nothing.
            Err(why) if is_done => return Err(ReplayError::Command { index, why }),
            Ok(command) if is_done => self.compare(index, time, command, change.as_deref())?,
            _ => None,
        };
        let Some(change) = change else { return Ok(compared) };
        if self.concerns(&change) {
            self.waiting_bytes += size(&change);
            self.waiting.push_back(Arc::clone(&change));
            if self.waiting_bytes > MAX_WAITING_BYTES {
                return Err(ReplayError::Behind { index });
            }
        }
        self.ahead.push_back(change);
        // An engine has its facts from its epoch or later, whatever it handles.
        if !self.is_claimed {
            self.follow(index);
        }
        Ok(compared)
    }

    /// Whether a change has anything that the agent handles.
    fn concerns(&self, change: &Change) -> bool {
        let has_event = change.effects.iter().any(|(_, e)| matches!(e, Effect::Emitted { .. }));
        has_event || change.predicates().any(|predicate| self.watches.contains_key(predicate))
    }

    fn compare(
        &mut self,
        index: u64,
        time: u64,
        command: Command,
        change: Option<&Change>,
    ) -> Result<Option<Compared>, ReplayError> {
        let (version, to, record) = match command {
            Command::Claim(claim) if claim.agent == self.agent => {
                if let Some(agent) = self.state.agents().get(&self.agent) {
                    self.cursor = agent.cursor;
                }
                self.watches.clear();
                self.follow(index);
                self.is_claimed = true;
                return Ok(None);
            }
            Command::Letter(letter) if letter.agent == self.agent => {
                (index - 1, letter.to, Record::default())
            }
            Command::Transact(transaction) => match transaction.origin {
                Origin::Agent { name, to, record, .. } if name == self.agent => {
                    (transaction.version, to, record)
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.knows_sent |= !record.sent.is_empty();
        let triggers = self.triggers(to, &record);
        self.pass(to);
        if triggers.is_empty() {
            return Ok(None);
        }
        self.follow(version);
        let would = self.run(&triggers)?;
        let effects = change.map_or(&[][..], |change| &change.effects);
        let mut was: Vec<Line> = effects.iter().map(|(_, effect)| Line::of(effect)).collect();
        let mut would_be = would.lines;
        if self.knows_sent {
            was.extend(record.sent.iter().map(|term| Line::sent(term)));
            would_be.extend(would.sent);
        }
        self.told.runs += 1;
        self.told.triggers += triggers.len() as u64;
        let triggers = triggers.iter().map(run::trigger_text).collect();
        let compared = Compared::new(index, time, triggers, &was, &would_be, would.notes);
        self.told.differ += u64::from(compared.differs());
        Ok(Some(compared))
    }

    /// What the agent handled in a run that moved its cursor to `to`.
    fn triggers(&self, to: Position, record: &Record) -> Vec<Trigger> {
        let loose = record.triggers.iter().map(|term| match Term::decode(term) {
            Ok(Term::Atom(name)) if &*name == "start" => Trigger::Start,
            _ => Trigger::Recorded { term: term.to_vec() },
        });
        let mut triggers: Vec<Trigger> = loose.collect();
        for change in &self.waiting {
            for (n, effect) in &change.effects {
                let at = Position { index: change.index, n: *n };
                if at >= self.cursor && at < to {
                    triggers.extend(self.trigger(change, at, effect));
                }
            }
        }
        triggers
    }

    fn trigger(&self, change: &Change, at: Position, effect: &Effect) -> Option<Trigger> {
        let position = frame::Position { index: at.index, n: at.n };
        let wanted = |predicate: &Indicator| {
            let others = self.watches.get(predicate);
            others.is_some_and(|&others| !(others && change.by == self.agent))
        };
        match effect {
            Effect::Emitted { event } => Some(match Datagram::read(&change.by, event) {
                Some(datagram) => crate::multicast::ordered(position, datagram).0,
                None => {
                    let from = change.by.clone();
                    Trigger::Event { position, from, term: event.to_vec() }
                }
            }),
            Effect::Asserted { predicate, order, fact } if wanted(predicate) => {
                let what = if *order < 0 { What::Asserta } else { What::Assertz };
                Some(Trigger::Changed { position, what, fact: fact.to_vec() })
            }
            Effect::Retracted { predicate, fact, .. } if wanted(predicate) => {
                Some(Trigger::Changed { position, what: What::Retract, fact: fact.to_vec() })
            }
            Effect::Asserted { .. } | Effect::Retracted { .. } => None,
        }
    }

    /// The cursor stands at `to`: what lies before is handled.
    fn pass(&mut self, to: Position) {
        self.cursor = self.cursor.max(to);
        let cursor = self.cursor.index;
        while let Some(change) = self.waiting.pop_front_if(|change| change.index < cursor) {
            self.waiting_bytes -= size(&change);
        }
    }

    /// Brings the replica, and the engine's, to a version.
    fn follow(&mut self, version: u64) {
        while let Some(change) = self.ahead.pop_front_if(|change| change.index <= version) {
            change.follow(&mut self.replica);
            if let Some(engine) = &mut self.engine {
                engine.changed(&change);
            }
        }
        self.version = self.version.max(version);
    }

    /// Has the program handle triggers; an engine that dies of it is followed by another.
    fn run(&mut self, triggers: &[Trigger]) -> Result<run::Would, ReplayError> {
        let (version, replica) = (self.version, &self.replica);
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => Engine::start(&self.program, &self.agent, &self.state, replica, version)?,
        };
        self.knows_sent |= engine.records();
        match engine.handle(version, triggers.to_vec(), replica, &self.state) {
            Ok(handled) => {
                for watched in &handled.watches {
                    match watched {
                        (predicate, Some(others)) => {
                            self.watches.insert(predicate.clone(), *others);
                        }
                        (predicate, None) => drop(self.watches.remove(predicate)),
                    }
                }
                // One that asked to be renewed, or that has called halt, makes room for another.
                if !handled.is_over {
                    self.engine = Some(engine);
                }
                Ok(handled.would)
            }
            Err(EngineFailure::Died(why)) => Ok(run::Would::died(&why)),
            Err(e) => Err(e.into()),
        }
    }
}
