//! The engine's replica of the knowledge base: a base that all engines map, and the changes since.

use super::errors::{self, Ball};
use crate::frame::{Changes, Declaration};
use bytes::Bytes;
use memmap2::Mmap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use synod_core::apply::{Change, Effect, Restore};
use synod_core::cbor::Reader;
use synod_core::kb::{Indicator, Kb};
use synod_core::snapshot::Snapshot;
use synod_core::term::Term;

/// Facts of the predicates that the program declares, at one version.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) kb: Kb,
    version: u64,
    base: Option<PathBuf>,
    wanted: BTreeMap<Indicator, Vec<u32>>,
}

impl Replica {
    /// Nothing yet; [`Replica::restart`] reads the base.
    pub(super) fn new(base: Option<PathBuf>) -> Self {
        Self { kb: Kb::new(), version: 0, base, wanted: BTreeMap::new() }
    }

    /// The version that the facts are at.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Wants a predicate, and to find its facts by these arguments too. Says whether the predicate is new,
    /// in which case the replica must be restarted.
    pub(super) fn want(&mut self, indicator: Indicator, keys: Vec<u32>) -> bool {
        let keys = keys.into_iter().filter(|key| *key > 1);
        let Some(known) = self.wanted.get_mut(&indicator) else {
            self.wanted.insert(indicator, keys.collect());
            return true;
        };
        // The check pass wants predicates without their keys, so the facts may be there already.
        for key in keys {
            if !known.contains(&key) {
                known.push(key);
                self.kb.declare_key(&indicator, key);
            }
        }
        known.sort_unstable();
        false
    }

    /// The predicates that are wanted.
    pub(super) fn declarations(&self) -> Vec<Declaration> {
        let declaration = |(indicator, keys): (&Indicator, &Vec<u32>)| Declaration {
            name: indicator.name.to_string(),
            arity: indicator.arity,
            keys: keys.clone(),
        };
        self.wanted.iter().map(declaration).collect()
    }

    /// Reads the base anew, for the predicates that are wanted now.
    pub(super) fn restart(&mut self) -> Result<(), Ball> {
        (self.kb, self.version) = match &self.base {
            Some(path) => load(path, self.wanted.keys().cloned().collect())?,
            None => (Kb::new(), 0),
        };
        for (indicator, keys) in &self.wanted {
            self.kb.define(indicator);
            for key in keys {
                self.kb.declare_key(indicator, *key);
            }
        }
        Ok(())
    }

    /// Follows what happened since; tells of each effect before it is there.
    pub(super) fn follow(
        &mut self,
        changes: &Changes,
        mut written: impl FnMut(&Effect, &Kb),
    ) -> Result<(), synod_core::cbor::Error> {
        let mut r = Reader::new(&changes.sequence);
        while !r.is_at_end() {
            let change = Change::read(&mut r)?;
            if change.index > self.version {
                change.follow_telling(&mut self.kb, &mut written);
            }
        }
        self.version = self.version.max(changes.to);
        Ok(())
    }

    /// The facts of an older version, from a base of it.
    pub(super) fn at(&self, base: &Path) -> Result<(Kb, u64), Ball> {
        load(base, self.wanted.keys().cloned().collect())
    }
}

/// Reads a base, which is a snapshot of the space: mapped, and facts are kept as slices of it.
fn load(path: &Path, wanted: BTreeSet<Indicator>) -> Result<(Kb, u64), Ball> {
    let gone = |_| errors::existence("base", Term::string(path.to_string_lossy()));
    let file = File::open(path).map_err(gone)?;
    // SAFETY: the node writes a base once, renames it into place and never changes it.
    let map = unsafe { Mmap::map(&file) }.map_err(gone)?;
    let base = Bytes::from_owner(map);
    let damaged = |error: String| errors::system(format!("base {}: {error}", path.display()));
    let snapshot = Snapshot::open(base, path, None).map_err(|error| damaged(error.to_string()))?;
    let mut restore = Restore::replica(wanted);
    for chunk in snapshot.chunks() {
        restore.item(&chunk.items).map_err(|error| damaged(error.to_string()))?;
    }
    let state = restore.finish().map_err(|error| damaged(error.to_string()))?;
    let index = state.index();
    Ok((state.into_kb(), index))
}
