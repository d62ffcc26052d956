//! What must hold of a group whatever the network and the disks do, checked after each output.

use crate::order::*;
use raft::Storage;
use std::collections::{BTreeMap, BTreeSet};

/// What the members have said so far.
#[derive(Default)]
pub(super) struct Checker {
    leaders: BTreeMap<u64, u64>,
    /// The term of each index that somebody has committed up to.
    terms: BTreeMap<u64, u64>,
    /// What stands committed, by index.
    chosen: BTreeMap<u64, Committed>,
    /// The end of what each member has handed out as committed since it started.
    handed_out: BTreeMap<u64, u64>,
    /// Data whose proposal was dropped, or stands somewhere; all data is different.
    proposals: BTreeMap<u64, Bytes>,
    dropped: BTreeSet<Bytes>,
    placed: BTreeMap<(u64, u64), (u64, Bytes)>,
    seen: BTreeSet<Bytes>,
    /// Where the log was committed when a read was asked for.
    reads: BTreeMap<u64, u64>,
    pub(super) counts: Counts,
}

/// How much happened, so that a test can tell that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) elections: u64,
    pub(super) entries: u64,
    pub(super) changes: u64,
    pub(super) reads: u64,
    pub(super) snapshots: u64,
    pub(super) fetches: u64,
    pub(super) refused: u64,
}

impl Counts {
    fn all(&self) -> [u64; 7] {
        let Self { elections, entries, changes, reads, snapshots, fetches, refused } = *self;
        [elections, entries, changes, reads, snapshots, fetches, refused]
    }

    pub(super) fn covers(&self, least: &Self) -> bool {
        self.all().iter().zip(least.all()).all(|(count, least)| *count >= least)
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.elections += more.elections;
        self.entries += more.entries;
        self.changes += more.changes;
        self.reads += more.reads;
        self.snapshots += more.snapshots;
        self.fetches += more.fetches;
        self.refused += more.refused;
    }
}

impl Checker {
    /// The last index that anybody has committed.
    pub(super) fn committed(&self) -> u64 {
        self.terms.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(super) fn proposed(&mut self, ticket: u64, data: &Bytes) {
        self.proposals.insert(ticket, data.clone());
    }

    pub(super) fn read(&mut self, ticket: u64) {
        self.reads.insert(ticket, self.committed());
    }

    /// A member starts with the state above as it was at `applied`, and a log up to `last`. What it
    /// had appended beyond that it may append otherwise, if nobody else has seen it.
    pub(super) fn started(&mut self, node: u64, applied: u64, last: u64) {
        self.handed_out.insert(node, applied);
        self.placed.retain(|(index, _), (by, _)| *by != node || *index <= last);
    }

    pub(super) fn output(&mut self, node: u64, order: &Order, output: &Output) {
        match output {
            Output::Appended { ticket, term, index } => {
                if let Some(data) = self.proposals.remove(ticket) {
                    let other = self.placed.insert((*index, *term), (node, data));
                    assert_eq!(other, None, "two proposals at {index}/{term}");
                }
            }
            Output::Commit { entries, through } => self.commit(node, entries, *through),
            Output::Dropped { ticket, .. } => self.dropped.extend(self.proposals.remove(ticket)),
            Output::Fetch { .. } => self.counts.fetches += 1,
            Output::Persist(Persist { snapshot: Some(snapshot), .. }) => {
                self.installed(node, snapshot);
            }
            Output::ReadReady { ticket, index } => {
                let floor = self.reads.remove(ticket).expect("a read answered twice");
                assert!(*index >= floor, "{node} reads at {index} what was at {floor}");
                self.counts.reads += 1;
            }
            Output::Refused { why, .. } => {
                // Members that keep to the rules meet with these and no others.
                let fair = matches!(why, Refusal::Stranger | Refusal::Untimely);
                assert!(fair, "{node} refuses: {why}");
                self.counts.refused += 1;
            }
            Output::Role { role: Role::Leader, term, .. } => self.elected(node, order, *term),
            Output::Persist(_)
            | Output::Role { .. }
            | Output::Send { .. }
            | Output::SnapshotWanted { .. } => {}
        }
    }

    /// Election safety and leader completeness (Raft §5.4).
    fn elected(&mut self, node: u64, order: &Order, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(node);
        assert_eq!(leader, node, "two leaders in term {term}");
        if let Some((&index, &chosen)) = self.terms.last_key_value() {
            let own = order.raft.store().term(index);
            assert_eq!(own, Ok(chosen), "{node} leads term {term} and misses {index}");
        }
        self.counts.elections += 1;
    }

    /// State machine safety (Raft §5.4.3): the same entries at the same places, none left out.
    fn commit(&mut self, node: u64, entries: &[Committed], through: Position) {
        let before = self.handed_out.insert(node, through.index).unwrap_or(0);
        assert!(before < through.index, "{node} commits {} after {before}", through.index);
        let known = self.committed();
        self.place(through.index, through.term);
        for entry in entries {
            assert!((before + 1..=through.index).contains(&entry.index));
            self.place(entry.index, entry.term);
            match self.chosen.get(&entry.index) {
                Some(chosen) => assert_eq!(chosen, entry, "{node} disagrees"),
                None => self.choose(node, entry, known),
            }
        }
        let chosen = self.chosen.range(before + 1..=through.index).count();
        assert_eq!(chosen, entries.len(), "{node} leaves out some of {before}..{through:?}");
    }

    fn choose(&mut self, node: u64, entry: &Committed, known: u64) {
        let Committed { index, term, data, members } = entry;
        assert!(*index > known, "{node} fills {index}, which others passed over");
        if members.is_none() {
            assert!(self.seen.insert(data.clone()), "{data:?} is committed twice");
            assert!(!self.dropped.contains(data), "{data:?} was dropped and is committed");
            let placed = self.placed.get(&(*index, *term));
            assert!(
                placed.is_none_or(|(_, placed)| placed == data),
                "{data:?} is not what stood here"
            );
            self.counts.entries += 1;
        } else {
            self.counts.changes += 1;
        }
        self.chosen.insert(*index, entry.clone());
    }

    fn place(&mut self, index: u64, term: u64) {
        let chosen = *self.terms.entry(index).or_insert(term);
        assert_eq!(chosen, term, "two terms committed at {index}");
    }

    fn installed(&mut self, node: u64, snapshot: &SnapshotMeta) {
        let Position { index, term } = snapshot.position;
        self.place(index, term);
        let changes = self.chosen.range(..=index).rev();
        if let Some(members) = changes.filter_map(|(_, entry)| entry.members.as_ref()).next() {
            assert_eq!(members, &snapshot.members, "{node} is sent other members than at {index}");
        }
        let before = self.handed_out.insert(node, index).unwrap_or(0);
        assert!(before < index, "{node} is sent back from {before} to {index}");
        self.counts.snapshots += 1;
    }
}
