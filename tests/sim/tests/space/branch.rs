//! What must hold of a space within one generation of it, whatever the network, the disks and the clocks do.

use super::check::{Counts, IN_THE_BANK};
use super::clients::decode;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod_core::apply::{Outcome, Refusal, State};
use synod_core::command::{Command, Origin};
use synod_core::order::Position;
use synod_sim::reference::Members;

/// What the nodes of one generation have seen so far. A later one begins with what its founder had of it.
#[derive(Clone, Default)]
pub(crate) struct Branch {
    leaders: BTreeMap<u64, u64>,
    /// For whom each member has voted in each term.
    votes: BTreeMap<(u64, u64), u64>,
    /// What is committed, by Raft's index: the term, and the data if it has been handed out.
    terms: BTreeMap<u64, u64>,
    chosen: BTreeMap<u64, Bytes>,
    /// Chain and digest of the state, by index of the space.
    states: BTreeMap<u64, ([u8; 32], [u8; 32])>,
    /// Each command and what came of it, by index.
    outcomes: BTreeMap<u64, (Bytes, Outcome)>,
    /// The command and the index by which each number of a session was committed.
    committed: BTreeMap<(u64, u64), (Bytes, u64)>,
    /// Commands that were refused for what they read.
    refused: BTreeSet<Bytes>,
    /// Who takes part, by the rules.
    members: Members,
}

impl Branch {
    /// What of this is known to who goes on alone, who has committed and applied so far.
    pub(crate) fn up_to(&self, through: Position, index: u64) -> Self {
        let mut branch = Self {
            terms: self.terms.range(..=through.index).map(|(&at, &term)| (at, term)).collect(),
            states: self.states.range(..=index).map(|(&at, &state)| (at, state)).collect(),
            ..Self::default()
        };
        let chosen = self.chosen.range(..=through.index);
        branch.chosen = chosen.map(|(&at, data)| (at, data.clone())).collect();
        for (&index, (bytes, outcome)) in self.outcomes.range(..=index) {
            branch.happened(index, bytes, outcome, &mut Counts::new());
            branch.outcomes.insert(index, (bytes.clone(), outcome.clone()));
        }
        branch
    }

    /// The last index that any node has applied.
    pub(crate) fn last(&self) -> u64 {
        self.outcomes.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(crate) fn elected(&mut self, member: u64, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(member);
        assert_eq!(leader, member, "two leaders in term {term}");
    }

    pub(crate) fn voted(&mut self, member: u64, term: u64, who: u64) {
        let voted = *self.votes.entry((member, term)).or_insert(who);
        assert_eq!(voted, who, "{member} votes twice in term {term}");
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

    /// Holds an entry of a log, up to where that is committed, against what was chosen.
    pub(crate) fn holds(&self, member: u64, at: Position, data: &Bytes) {
        assert_eq!(self.chosen.get(&at.index), Some(data), "log of {member} at {}", at.index);
        assert_eq!(self.terms.get(&at.index), Some(&at.term), "log of {member} at {}", at.index);
    }

    /// A node's state has come to an index.
    pub(crate) fn state(&mut self, member: u64, index: u64, is: ([u8; 32], [u8; 32])) {
        let known = self.states.entry(index).or_insert(is);
        assert_eq!(known.0, is.0, "{member} has another chain at {index}");
        assert_eq!(known.1, is.1, "{member} has another digest at {index}");
    }

    /// Whether a state is that of the space at its index.
    pub(crate) fn is_right(&self, state: &State) -> bool {
        self.states.get(&state.index()) == Some(&(state.chain(), state.digest()))
    }

    /// A node has applied commands. Gives those that nobody had applied before.
    pub(crate) fn applied<'a>(
        &mut self,
        member: u64,
        first: u64,
        commands: &'a [(Bytes, Outcome)],
        counts: &mut Counts,
    ) -> Vec<&'a Bytes> {
        let mut new = Vec::new();
        for (index, (bytes, outcome)) in (first..).zip(commands) {
            if let Some((_, known)) = self.outcomes.get(&index) {
                assert_eq!(known, outcome, "{member} has another outcome at {index}");
                continue;
            }
            assert_eq!(index, self.last() + 1, "{member} leaves out commands");
            self.happened(index, bytes, outcome, counts);
            self.outcomes.insert(index, (bytes.clone(), outcome.clone()));
            *counts.entry("commands").or_default() += 1;
            new.push(bytes);
        }
        new
    }

    fn happened(&mut self, index: u64, bytes: &Bytes, outcome: &Outcome, counts: &mut Counts) {
        let mut count = |what| *counts.entry(what).or_default() += 1;
        let transaction = match Command::decode(bytes) {
            Ok(Command::Transact(transaction)) => transaction,
            Ok(command) => return self.happened_to_members(index, &command, outcome, counts),
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
                count("copies");
            }
            Outcome::Refused(_, Refusal::Conflict(_)) => {
                self.refused.insert(bytes.clone());
                count("conflicts");
            }
            Outcome::Refused(..) => count("other refusals"),
        }
    }

    fn happened_to_members(
        &mut self,
        index: u64,
        command: &Command,
        outcome: &Outcome,
        counts: &mut Counts,
    ) {
        // No ticket here is ever over.
        match command {
            Command::Admit(admit) => {
                let admitted = self.members.admit(admit, index, 0);
                match outcome {
                    Outcome::Committed(since) => assert_eq!(admitted, Ok(*since), "{admit:?}"),
                    Outcome::Refused(..) => assert!(admitted.is_err(), "{admit:?}: {outcome:?}"),
                }
                if matches!(outcome, Outcome::Refused(_, Refusal::Removed)) {
                    *counts.entry("ghosts refused").or_default() += 1;
                }
            }
            Command::IssueTicket(issue) => self.members.issue(issue, index, 0),
            Command::RevokeTickets { hashes, after } => self.members.revoke(hashes, *after),
            Command::Configure(configure) => self.members.configure(configure),
            Command::Recover(recover) => {
                let recovered = self.members.recover(recover, index);
                let is_done = matches!(outcome, Outcome::Committed(_));
                assert_eq!(recovered.is_ok(), is_done, "{recover:?}: {outcome:?}");
            }
            _ => {}
        }
    }

    /// Whether a command was committed.
    pub(crate) fn has(&self, bytes: &Bytes) -> bool {
        self.committed.values().any(|(known, _)| known == bytes)
    }

    /// Somebody was told what came of a command.
    pub(crate) fn told(&self, outcome: &Outcome) {
        let index = match outcome {
            Outcome::Committed(index) | Outcome::Refused(index, _) => index,
        };
        let known = self.outcomes.get(index).map(|(_, outcome)| outcome);
        assert_eq!(known, Some(outcome), "told, and not so");
    }

    /// What holds of the state at every index, where this has been said to have been refused.
    pub(crate) fn look(&self, state: &State, not_appended: &BTreeSet<(i64, i64)>) {
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
                    assert!(!not_appended.contains(&(*client, *n)), "it was refused");
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
}
