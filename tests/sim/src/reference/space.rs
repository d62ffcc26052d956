//! A space that has applied commands, with all the versions that it went through.

use super::members::Members;
use super::origins::{Admission, Agent, Session, Turn};
use super::{Facts, Write, indicator};
use std::collections::BTreeMap;
use std::rc::Rc;
use synod_core::apply::{Outcome, Refusal};
use synod_core::command::{Claim, Command, Letter, Origin};
use synod_core::kb::{Indicator, Position};
use synod_core::term::Term;

/// A space: its facts at every index, what was written between, and who writes.
#[derive(Clone, Debug)]
pub struct Space {
    /// By index; the first is the empty space.
    versions: Vec<Facts>,
    /// (index, fact) of every fact that was added or taken away.
    written: Vec<(u64, Rc<Term>)>,
    /// All sessions that were opened.
    pub sessions: Vec<Session>,
    /// All agents that were claimed.
    pub agents: BTreeMap<String, Agent>,
    /// Modules: text, the index that published it, and the one that it named as before.
    pub modules: BTreeMap<String, (String, u64, u64)>,
    /// Who takes part.
    pub members: Members,
    /// The latest time that a command was stamped with.
    pub time: u64,
}

/// A call that a transaction made, and the keys that its replica knew to be declared.
#[derive(Clone, Debug)]
pub struct Called {
    /// The goal.
    pub goal: Term,
    /// The declared arguments.
    pub keys: Vec<u32>,
}

/// A transaction, with what is not in its command: the calls themselves.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose it is.
    pub origin: Origin,
    /// The index at which it read.
    pub version: u64,
    /// What it called.
    pub calls: Vec<Called>,
    /// What it wrote.
    pub writes: Vec<Write>,
}

/// What comes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It commits, or did before, at this index.
    Committed(u64),
    /// It is refused, or was before, at this index.
    Refused(u64, Why),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `synod_core::apply::Refusal`")]
pub enum Why {
    Conflict,
    TooOld,
    NoSession,
    NoLetter,
    NoTicket,
    NameTaken,
    StaleModule,
    Removed,
    OutOfWindow,
    StaleEpoch,
    StaleCursor,
    Full,
    Malformed,
}

impl From<&Outcome> for Verdict {
    fn from(outcome: &Outcome) -> Self {
        let (index, refusal) = match outcome {
            Outcome::Committed(index) => return Self::Committed(*index),
            Outcome::Refused(index, refusal) => (*index, refusal),
        };
        let why = match refusal {
            Refusal::Conflict(_) => Why::Conflict,
            Refusal::TooOld => Why::TooOld,
            Refusal::NoSession => Why::NoSession,
            Refusal::OutOfWindow => Why::OutOfWindow,
            Refusal::StaleEpoch => Why::StaleEpoch,
            Refusal::StaleCursor => Why::StaleCursor,
            Refusal::Full(_) => Why::Full,
            Refusal::Malformed => Why::Malformed,
            Refusal::NoLetter => Why::NoLetter,
            Refusal::NoTicket => Why::NoTicket,
            Refusal::NameTaken => Why::NameTaken,
            Refusal::StaleModule => Why::StaleModule,
            Refusal::Removed => Why::Removed,
        };
        Self::Refused(index, why)
    }
}

impl Default for Space {
    fn default() -> Self {
        Self {
            versions: vec![Facts::default()],
            written: Vec::new(),
            sessions: Vec::new(),
            agents: BTreeMap::new(),
            modules: BTreeMap::new(),
            members: Members::default(),
            time: 0,
        }
    }
}

impl Space {
    /// The index of the last command.
    pub fn index(&self) -> u64 {
        self.versions.len() as u64 - 1
    }

    /// The facts as of an index.
    pub fn at(&self, index: u64) -> &Facts {
        &self.versions[index as usize]
    }

    /// The facts as of the last command.
    pub fn now(&self) -> &Facts {
        self.at(self.index())
    }

    /// The next command is stamped with this time; time never runs backwards.
    pub fn stamp(&mut self, time: u64) {
        self.time = self.time.max(time);
    }

    /// Applies a command that is no transaction.
    pub fn apply(&mut self, command: &Command) -> Verdict {
        self.versions.push(self.now().clone());
        let index = self.index();
        let committed = Verdict::Committed(index);
        match command {
            Command::OpenSession { label, nonce } => {
                let known = self.sessions.iter().find(|session| session.is_of(label, nonce));
                if let Some(session) = known {
                    return Verdict::Committed(session.id);
                }
                self.sessions.push(Session::new(index, label.clone(), *nonce));
                committed
            }
            Command::Claim(claim) => self.claim(claim.clone()),
            Command::Letter(letter) => {
                let &Letter { epoch, seq, from, to, .. } = letter;
                let Some(agent) = self.agents.get_mut(&letter.agent) else {
                    return Verdict::Refused(index, Why::StaleEpoch);
                };
                let turn = Turn { epoch, seq, from, to };
                match agent.admit(turn, index) {
                    Admission::New => {}
                    Admission::Again(verdict) => return verdict,
                    Admission::Refused(why) => return Verdict::Refused(index, why),
                }
                // That of the event, which is the last thing before where the cursor goes.
                let position = match (from < to, to.n) {
                    (false, _) => Position { index, n: 0 },
                    (true, 0) => from,
                    (true, n) => Position { index: to.index, n: n - 1 },
                };
                agent.letters.insert(position, letter.clone());
                agent.tell(turn, committed);
                committed
            }
            Command::Release { agent, epoch } => {
                match self.agents.get_mut(agent).filter(|agent| agent.epoch == *epoch) {
                    Some(agent) => {
                        agent.is_held = false;
                        committed
                    }
                    None => Verdict::Refused(index, Why::StaleEpoch),
                }
            }
            Command::DropLetters { agent, positions } => {
                if let Some(agent) = self.agents.get_mut(agent) {
                    agent.letters.retain(|position, _| !positions.contains(position));
                }
                committed
            }
            Command::PublishModule { name, text, after } => {
                let was = self.modules.get(name).cloned();
                match was {
                    Some((known, at, since)) if known == *text && since == *after => {
                        Verdict::Committed(at)
                    }
                    was if was.as_ref().map_or(0, |(_, at, _)| *at) == *after => {
                        self.modules.insert(name.clone(), (text.clone(), index, *after));
                        committed
                    }
                    _ => Verdict::Refused(index, Why::StaleModule),
                }
            }
            Command::Admit(admit) => match self.members.admit(admit, index, self.time) {
                Ok(since) => Verdict::Committed(since),
                Err(why) => Verdict::Refused(index, why),
            },
            Command::IssueTicket(issue) => {
                self.members.issue(issue, index, self.time);
                committed
            }
            Command::RevokeTickets { hashes, after } => {
                self.members.revoke(hashes, *after);
                committed
            }
            Command::Configure(configure) => {
                self.members.configure(configure);
                committed
            }
            Command::Recover(recover) => match self.members.recover(recover, index) {
                Ok(()) => committed,
                Err(why) => Verdict::Refused(index, why),
            },
            Command::Checkpoint(checkpoint) => match self.members.check_point(checkpoint, index) {
                Ok(()) => committed,
                Err(why) => Verdict::Refused(index, why),
            },
            // That is for `transact`, which knows its calls.
            Command::Transact(_) => Verdict::Refused(index, Why::Malformed),
        }
    }

    /// Bytes that are no command.
    pub fn apply_junk(&mut self) -> Verdict {
        self.versions.push(self.now().clone());
        Verdict::Refused(self.index(), Why::Malformed)
    }

    fn claim(&mut self, claim: Claim) -> Verdict {
        let index = self.index();
        let declared = claim.declared.clone();
        let verdict = match self.agents.get_mut(&claim.agent) {
            Some(agent) => agent.claim(claim, index),
            None if claim.after != 0 => Verdict::Refused(index, Why::StaleEpoch),
            None => {
                self.agents.insert(claim.agent.clone(), Agent::new(claim, index));
                Verdict::Committed(index)
            }
        };
        if verdict == Verdict::Committed(index)
            && let Some(facts) = self.versions.last_mut()
        {
            declared.iter().for_each(|declaration| facts.declare(declaration));
        }
        verdict
    }

    /// Applies a transaction.
    pub fn transact(&mut self, attempt: &Attempt) -> Verdict {
        let before = self.now().clone();
        self.versions.push(before);
        let index = self.index();
        let admission = match &attempt.origin {
            Origin::Session { id, seq, acked } => {
                match self.sessions.iter_mut().find(|session| session.id == *id) {
                    Some(session) => session.admit(*seq, *acked),
                    None => Admission::Refused(Why::NoSession),
                }
            }
            Origin::Agent { name, .. } => {
                match (self.agents.get_mut(name), turn(&attempt.origin)) {
                    (Some(agent), Some(turn)) => agent.admit(turn, index),
                    _ => Admission::Refused(Why::StaleEpoch),
                }
            }
        };
        let verdict = match admission {
            Admission::New if self.lacks_letter(&attempt.origin) => {
                Verdict::Refused(index, Why::NoLetter)
            }
            Admission::New => match self.why_not(attempt) {
                None => Verdict::Committed(index),
                Some(why) => Verdict::Refused(index, why),
            },
            Admission::Again(verdict) => return verdict,
            Admission::Refused(why) => return Verdict::Refused(index, why),
        };
        if verdict == Verdict::Committed(index) {
            self.write(&attempt.writes);
        }
        match (&attempt.origin, turn(&attempt.origin)) {
            (Origin::Session { id, seq, .. }, _) => {
                let session = self.sessions.iter_mut().find(|session| session.id == *id);
                session.into_iter().for_each(|session| session.tell(*seq, verdict));
            }
            (Origin::Agent { name, .. }, turn) => {
                let agent = self.agents.get_mut(name).zip(turn);
                agent.into_iter().for_each(|(agent, turn)| agent.tell(turn, verdict));
                if verdict == Verdict::Committed(index)
                    && let Some((agent, letter)) =
                        self.agents.get_mut(name).zip(letter(&attempt.origin))
                {
                    agent.letters.remove(&letter);
                }
            }
        }
        verdict
    }

    /// Whether it says that it handles a letter that is not there.
    fn lacks_letter(&self, origin: &Origin) -> bool {
        let Origin::Agent { name, letter: Some(letter), .. } = origin else { return false };
        self.agents.get(name).is_none_or(|agent| !agent.letters.contains_key(letter))
    }

    /// Why a transaction that is applied as the last command does not commit.
    fn why_not(&self, attempt: &Attempt) -> Option<Why> {
        let Attempt { origin: _, version, calls, writes } = attempt;
        if *version >= self.index() {
            return Some(Why::Malformed);
        }
        let retracts = writes.iter().filter_map(|write| match write {
            Write::Retract(predicate, order) => Some((predicate, *order)),
            Write::Assert(..) | Write::Emit(_) => None,
        });
        let retracts: Vec<_> = retracts.collect();
        // Stamps of an argument are kept since it was declared.
        let known = |call: &Called| {
            let declared = self.at(*version).declared.get(&indicator(&call.goal));
            call.by().is_none_or(|by| by == 1 || declared.is_some_and(|d| d.contains(&by)))
        };
        if !calls.iter().all(known) {
            return Some(Why::TooOld);
        }
        let is_there = |predicate: &Indicator, order: i64| {
            self.now().of(predicate).iter().any(|fact| fact.order == order)
        };
        let is_gone = retracts.iter().any(|(predicate, order)| !is_there(predicate, *order));
        (is_gone || self.overlaps(*version, calls)).then_some(Why::Conflict)
    }

    fn write(&mut self, writes: &[Write]) {
        let index = self.index();
        let Some(facts) = self.versions.last_mut() else { return };
        for (n, write) in (0..).zip(writes) {
            match write {
                Write::Assert(end, fact) => {
                    facts.assert(*end, Position { index, n }, fact);
                    self.written.push((index, fact.clone()));
                }
                Write::Retract(predicate, order) => {
                    if let Some(fact) = facts.retract(predicate, *order) {
                        self.written.push((index, fact.term));
                    }
                }
                Write::Emit(_) => {}
            }
        }
    }

    /// Whether any call would be answered otherwise at one index than at another.
    pub fn has_changed(&self, then: u64, now: u64, calls: &[Called]) -> bool {
        let (then, now) = (self.at(then), self.at(now));
        calls.iter().any(|call| then.answers(&call.goal) != now.answers(&call.goal))
    }

    /// Whether the rules say that a call may have been touched by a write after `version`.
    pub fn overlaps(&self, version: u64, calls: &[Called]) -> bool {
        let later = self.written.iter().filter(|(index, _)| *index > version);
        let mut pairs = later.flat_map(|(_, fact)| calls.iter().map(move |call| (call, fact)));
        pairs.any(|(call, fact)| call.overlaps(fact))
    }
}

fn letter(origin: &Origin) -> Option<Position> {
    match *origin {
        Origin::Session { .. } => None,
        Origin::Agent { letter, .. } => letter,
    }
}

fn turn(origin: &Origin) -> Option<Turn> {
    match *origin {
        Origin::Session { .. } => None,
        Origin::Agent { epoch, seq, from, to, .. } => Some(Turn { epoch, seq, from, to }),
    }
}

impl Called {
    /// A call is told apart by its first argument if that is ground, or by the first ground one of
    /// the declared keys; by one that is a compound with variables if none is ground; else not.
    fn by(&self) -> Option<u32> {
        let arguments = || std::iter::once(1).chain(self.keys.iter().copied());
        let in_goal = |n: u32| argument(&self.goal, n);
        let is_ground = |n: &u32| in_goal(*n).is_some_and(Term::is_ground);
        let is_bound = |n: &u32| in_goal(*n).is_some_and(|arg| !matches!(arg, Term::Var(_)));
        arguments().find(is_ground).or_else(|| arguments().find(is_bound))
    }

    /// Whether a write of this fact may have changed the answers.
    fn overlaps(&self, fact: &Term) -> bool {
        if indicator(&self.goal) != indicator(fact) {
            return false;
        }
        let pair = self.by().and_then(|n| Some((argument(&self.goal, n)?, argument(fact, n)?)));
        let Some((asked, written)) = pair else { return true };
        match (asked.is_ground(), written.is_ground()) {
            _ if matches!(written, Term::Var(_)) => true,
            (true, true) => asked == written,
            _ => functor(asked).is_some() && functor(asked) == functor(written),
        }
    }
}

fn argument(term: &Term, n: u32) -> Option<&Term> {
    match term {
        Term::Compound(_, args) => args.get(n as usize - 1),
        _ => None,
    }
}

/// The functor that a call finds a term by; none of what is atomic.
fn functor(term: &Term) -> Option<(&str, usize)> {
    match term {
        Term::Rational(_) => Some(("rdiv", 2)),
        other => other.functor(),
    }
}

/// That the rules refuse all that has changed is theirs to prove, not only to say.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::unifies;
    use crate::terms;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_call_overlaps_every_fact_that_it_unifies_with(
            (goal, fact) in (terms::goal(), terms::fact()),
            keys in prop::sample::subsequence(vec![2u32, 3], 0..=2),
        ) {
            let called = Called { goal, keys };
            prop_assert!(!unifies(&called.goal, &fact) || called.overlaps(&fact));
        }
    }
}
