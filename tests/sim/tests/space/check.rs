//! What must hold of a space whatever the network, the disks and the clocks do: of each generation by itself
//! (`branch.rs`), and of what clients were told.

use super::branch::Branch;
use super::clients::decode;
use super::node::Running;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod_core::apply::{Outcome, State};
use synod_core::order::Position;
use synod_sim::linear::{self, Action, Operation};

/// How much is in all accounts together.
pub(crate) const IN_THE_BANK: i64 = 500;
/// How long before a recovery something was begun that may still come into the log after it, in microseconds.
const MAY_YET: u64 = 20_000_000;

/// Kinds of what happened, counted, so that a test can tell that something did.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What the nodes and the clients have seen so far.
pub(crate) struct Checker {
    branches: BTreeMap<u64, Branch>,
    /// The generation that clients live in.
    pub(crate) generation: u64,
    /// Commands of which a client was told that they are in no log.
    never: BTreeSet<Bytes>,
    /// Of each register, with what it held when the generation began.
    pub(crate) histories: BTreeMap<i64, Vec<Operation>>,
    began: BTreeMap<i64, i64>,
    /// What was refused for what it had read: where others have not read that, a copy may yet be right.
    pub(crate) refused: Vec<(i64, Operation)>,
    /// Items of the list that clients were told of.
    pub(crate) appended: BTreeSet<(i64, i64)>,
    pub(crate) not_appended: BTreeSet<(i64, i64)>,
    pub(crate) counts: Counts,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            branches: [(0, Branch::default())].into(),
            generation: 0,
            never: BTreeSet::new(),
            histories: BTreeMap::new(),
            began: BTreeMap::new(),
            refused: Vec::new(),
            appended: BTreeSet::new(),
            not_appended: BTreeSet::new(),
            counts: Counts::new(),
        }
    }
}

impl Checker {
    pub(crate) fn count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    pub(crate) fn branch(&mut self, generation: u64) -> &mut Branch {
        let branch = self.branches.get_mut(&generation);
        branch.unwrap_or_else(|| panic!("nobody has recovered the space to {generation}"))
    }

    /// The last index that any node has applied in the generation that clients live in.
    pub(crate) fn last(&self) -> u64 {
        self.branches[&self.generation].last()
    }

    /// A node of one generation may found another, with what it has committed and applied.
    pub(crate) fn forks(&mut self, from: u64, to: u64, through: Position, index: u64) {
        let branch = self.branch(from).up_to(through, index);
        self.branches.insert(to, branch);
    }

    pub(crate) fn elected(&mut self, generation: u64, member: u64, term: u64) {
        self.branch(generation).elected(member, term);
        self.count("elections", 1);
    }

    /// A node has applied commands.
    pub(crate) fn applied(
        &mut self,
        generation: u64,
        member: u64,
        first: u64,
        commands: &[(Bytes, Outcome)],
    ) {
        let Self { branches, never, counts, .. } = self;
        let branch = branches.get_mut(&generation).expect("it is known");
        for bytes in branch.applied(member, first, commands, counts) {
            assert!(!never.contains(bytes), "it is in the log and was said not to be");
        }
    }

    /// A client was told that a command has not come into the log and never will.
    pub(crate) fn told_never(&mut self, bytes: &Bytes) {
        let is_there = self.branches.values().any(|branch| branch.has(bytes));
        assert!(!is_there, "it is committed and was said to be nowhere");
        self.never.insert(bytes.clone());
    }

    /// What holds of the state at every index.
    pub(crate) fn look(&mut self, generation: u64, state: &State) {
        let none = BTreeSet::new();
        let is_theirs = generation == self.generation;
        let refused = if is_theirs { &self.not_appended } else { &none };
        self.branches[&generation].look(state, refused);
    }

    /// Clients live in another generation from here on, which began with this state. What was acknowledged
    /// before may be lost with those who had it; what was under way may come yet.
    pub(crate) fn begins(&mut self, now: u64, generation: u64, state: &State) {
        self.check_histories();
        self.generation = generation;
        let facts = decode(state);
        let registers = facts.iter().filter(|(name, _)| &**name == "register");
        self.began = registers.map(|(_, args)| (args[0], args[1])).collect();
        for (register, refused) in std::mem::take(&mut self.refused) {
            self.histories.entry(register).or_default().push(refused);
        }
        for history in self.histories.values_mut() {
            let may_yet = |op: &&mut Operation| {
                matches!(op.action, Action::Swap(..)) && op.invoked + MAY_YET > now
            };
            let open = |op: &mut Operation| Operation { returned: None, invoked: now, ..*op };
            *history = history.iter_mut().filter(may_yet).map(open).collect();
        }
        let items = facts.iter().filter(|(name, _)| &**name == "item");
        let items: BTreeSet<(i64, i64)> = items.map(|(_, args)| (args[0], args[1])).collect();
        let before = self.appended.len();
        self.appended.retain(|item| items.contains(item));
        self.not_appended.clear();
        self.count("acknowledged and given up", (before - self.appended.len()) as u64);
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
            let at = Position { index: entry.index, term: entry.term };
            self.branches[&self.generation].holds(run.me.member, at, &entry.data);
        }
    }

    pub(crate) fn check_histories(&mut self) {
        for (register, history) in &self.histories {
            let began = self.began.get(register).copied().unwrap_or(0);
            let result = linear::check(began, history);
            assert_eq!(result, Ok(()), "register {register} is none: {history:#?}");
        }
        let known = self.histories.values().flatten().filter(|op| op.returned.is_some()).count();
        self.count("operations checked", known as u64);
    }
}
