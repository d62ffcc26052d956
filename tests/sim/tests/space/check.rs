//! What must hold of a space whatever the network, the disks and the clocks do.

use super::clients::decode;
use super::node::Running;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod_core::apply::{Outcome, Refusal, State};
use synod_core::command::{Command, Origin};
use synod_core::order::Position;
use synod_sim::linear::{self, Operation};
use synod_sim::reference::Members;

/// How much is in all accounts together.
pub(crate) const IN_THE_BANK: i64 = 500;

/// Kinds of what happened, counted, so that a test can tell that something did.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What the nodes and the clients have seen so far.
#[derive(Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<u64, u64>,
    /// What is committed, by Raft's index: the term, and the data if it has been handed out.
    terms: BTreeMap<u64, u64>,
    chosen: BTreeMap<u64, Bytes>,
    /// Chain and digest of the state, by index of the space.
    states: BTreeMap<u64, ([u8; 32], [u8; 32])>,
    /// What came of each command, by index.
    outcomes: BTreeMap<u64, Outcome>,
    /// The command and the index by which each number of a session was committed.
    committed: BTreeMap<(u64, u64), (Bytes, u64)>,
    /// Commands of which a client was told that they are in no log.
    never: BTreeSet<Bytes>,
    /// Commands that were refused for what they read.
    refused: BTreeSet<Bytes>,
    /// Of each register.
    pub(crate) histories: BTreeMap<i64, Vec<Operation>>,
    /// Items of the list that clients were told of.
    pub(crate) appended: BTreeSet<(i64, i64)>,
    pub(crate) not_appended: BTreeSet<(i64, i64)>,
    /// Who takes part, by the rules.
    members: Members,
    pub(crate) counts: Counts,
}

impl Checker {
    pub(crate) fn count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// The last index that any node has applied.
    pub(crate) fn last(&self) -> u64 {
        self.outcomes.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(crate) fn elected(&mut self, member: u64, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(member);
        assert_eq!(leader, member, "two leaders in term {term}");
        self.count("elections", 1);
    }

    pub(crate) fn committed(&mut self, member: u64, at: Position) {
        let term = *self.terms.entry(at.index).or_insert(at.term);
        assert_eq!(term, at.term, "{member} has another term committed at {}", at.index);
    }

    /// A committed entry was handed out.
    pub(crate) fn chosen(&mut self, member: u64, at: Position, data: &Bytes) {
        self.committed(member, at);
        let chosen = self.chosen.entry(at.index).or_insert_with(|| data.clone());
        assert_eq!(chosen, data, "{member} has something else committed at {}", at.index);
    }

    /// A node's state has come to an index.
    pub(crate) fn state(&mut self, member: u64, index: u64, is: ([u8; 32], [u8; 32])) {
        let known = self.states.entry(index).or_insert(is);
        assert_eq!(known.0, is.0, "{member} has another chain at {index}");
        assert_eq!(known.1, is.1, "{member} has another digest at {index}");
    }

    /// A node has applied commands.
    pub(crate) fn applied(&mut self, member: u64, first: u64, commands: &[(Bytes, Outcome)]) {
        for (index, (bytes, outcome)) in (first..).zip(commands) {
            if let Some(known) = self.outcomes.get(&index) {
                assert_eq!(known, outcome, "{member} has another outcome at {index}");
                continue;
            }
            assert_eq!(index, self.last() + 1, "{member} leaves out commands");
            self.outcomes.insert(index, outcome.clone());
            self.count("commands", 1);
            self.happened(index, bytes, outcome);
        }
    }

    fn happened(&mut self, index: u64, bytes: &Bytes, outcome: &Outcome) {
        assert!(!self.never.contains(bytes), "{index} is in the log and was said not to be");
        let transaction = match Command::decode(bytes) {
            Ok(Command::Transact(transaction)) => transaction,
            Ok(command) => return self.happened_to_members(index, &command, outcome),
            Err(_) => return,
        };
        let Origin::Session { id, seq, .. } = transaction.origin else { return };
        match outcome {
            Outcome::Committed(at) if *at == index => {
                assert!(!self.refused.contains(bytes), "{index} was refused before");
                let new = self.committed.insert((id, seq), (bytes.clone(), index));
                assert_eq!(new, None, "{seq} of session {id} is applied twice");
            }
            Outcome::Committed(at) => {
                let (known, since) = &self.committed[&(id, seq)];
                // A number's outcome is its last run's, for copies of runs that conflicted, too.
                let is_its = known == bytes || self.refused.contains(bytes);
                assert!(is_its && since == at, "{index} is told the end of another");
                self.count("copies", 1);
            }
            Outcome::Refused(_, Refusal::Conflict(_)) => {
                self.refused.insert(bytes.clone());
                self.count("conflicts", 1);
            }
            Outcome::Refused(..) => self.count("other refusals", 1),
        }
    }

    fn happened_to_members(&mut self, index: u64, command: &Command, outcome: &Outcome) {
        // No ticket here is ever over.
        match command {
            Command::Admit(admit) => {
                let admitted = self.members.admit(admit, index, 0);
                match outcome {
                    Outcome::Committed(since) => assert_eq!(admitted, Ok(*since), "{admit:?}"),
                    Outcome::Refused(..) => assert!(admitted.is_err(), "{admit:?}: {outcome:?}"),
                }
                if matches!(outcome, Outcome::Refused(_, Refusal::Removed)) {
                    self.count("ghosts refused", 1);
                }
            }
            Command::IssueTicket(issue) => self.members.issue(issue, index, 0),
            Command::RevokeTickets { hashes, after } => self.members.revoke(hashes, *after),
            Command::Configure(configure) => self.members.configure(configure),
            _ => {}
        }
    }

    /// A client was told that a command has not come into the log and never will.
    pub(crate) fn told_never(&mut self, bytes: &Bytes) {
        let is_there = self.committed.values().any(|(known, _)| known == bytes);
        assert!(!is_there, "it is committed and was said to be nowhere");
        self.never.insert(bytes.clone());
    }

    /// A client was told what came of a command.
    pub(crate) fn told(&mut self, outcome: &Outcome) {
        let index = match outcome {
            Outcome::Committed(index) | Outcome::Refused(index, _) => index,
        };
        assert_eq!(self.outcomes.get(index), Some(outcome), "told, and not so");
    }

    /// What holds of the state at every index.
    pub(crate) fn look(&mut self, state: &State) {
        let (mut sum, mut accounts, mut elements) = (0, 0, BTreeSet::new());
        let mut items = BTreeSet::new();
        for (name, args) in decode(state) {
            match (&*name, &args[..]) {
                ("account", [_, amount]) => {
                    sum += amount;
                    accounts += 1;
                }
                ("element", [element]) => {
                    assert!(elements.insert(*element), "{element} is in the set twice");
                }
                ("item", [client, n]) => {
                    assert!(items.insert((*client, *n)), "{n} of {client} is in the list twice");
                    assert!(!self.not_appended.contains(&(*client, *n)), "it was refused");
                }
                _ => {}
            }
        }
        assert!(accounts == 0 || sum == IN_THE_BANK, "{sum} is in the bank");
        if state.index() == self.last() {
            let known = state.membership();
            let members: Vec<u64> = self.members.present().map(|(id, _)| id).collect();
            assert!(known.members().keys().eq(&members), "members {members:?} and {known:?}");
            let good: BTreeSet<[u8; 32]> = self.members.good(0).map(|t| t.hash).collect();
            assert!(known.tickets().keys().eq(&good), "tickets {good:?} and {known:?}");
        }
    }

    /// At the end a node has all that was acknowledged.
    pub(crate) fn has_all(&self, run: &Running) {
        let items: BTreeSet<(i64, i64)> = decode(&run.apply.state)
            .into_iter()
            .filter(|(name, _)| &**name == "item")
            .map(|(_, args)| (args[0], args[1]))
            .collect();
        let lost: Vec<_> = self.appended.difference(&items).collect();
        assert!(lost.is_empty(), "{} has lost {lost:?}", run.me.member);
        // The log, too, holds what was agreed on.
        let (first, commit) = (run.log.first_index(), run.log.hard_state().commit);
        let entries = run.log.read(first, commit + 1, usize::MAX).expect("the log can be read");
        for entry in entries.iter().filter(|entry| entry.kind == 0 && !entry.data.is_empty()) {
            assert_eq!(
                self.chosen.get(&entry.index),
                Some(&entry.data),
                "log of {}",
                run.me.member
            );
            assert_eq!(self.terms.get(&entry.index), Some(&entry.term));
        }
    }

    pub(crate) fn check_histories(&mut self) {
        for (register, history) in &self.histories {
            let result = linear::check(0, history);
            assert_eq!(result, Ok(()), "register {register} is none: {history:#?}");
        }
        let known = self.histories.values().flatten().filter(|op| op.returned.is_some()).count();
        self.count("operations checked", known as u64);
    }
}
