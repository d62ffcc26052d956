//! A space's state, read back from a snapshot's items.

use super::rest::{self, kind};
use super::stamps::{MAX_STAMPS, Stamps};
use super::{Chain, State};
use crate::cbor::{Error, Reader};
use crate::kb::{Fact, Indicator, Kb, Position};
use crate::term::shape;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Why a snapshot's items do not make a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An item is not what the grammar says.
    #[error("a snapshot's item cannot be read: {0}")]
    Item(#[from] Error),
    /// An item names a predicate that was not listed.
    #[error("a snapshot's item names a predicate that it does not list")]
    Predicate,
    /// There is no head, or no end.
    #[error("a snapshot lacks its {0}")]
    Missing(&'static str),
    /// The state is not the one whose digest the snapshot ends with.
    #[error("a snapshot's state has another digest than it says")]
    Digest,
}

/// Reads a snapshot's items, one by one.
#[derive(Debug, Default)]
pub struct Restore {
    state: State,
    /// The kind of the last item; none before the head.
    kind: Option<u64>,
    /// The predicates that were listed, and the facts of each.
    predicates: Vec<(Indicator, Vec<(i64, Fact)>)>,
    floor: u64,
    dropped: u64,
    stamps: Vec<(u64, u64)>,
    /// Only these predicates' facts are kept, and nothing else; everything if none.
    wanted: Option<BTreeSet<Indicator>>,
    digest: [u8; 32],
}

impl Restore {
    /// Reads the whole state.
    pub fn whole() -> Self {
        Self::default()
    }

    /// Reads the facts of these predicates only: what an engine's replica starts from.
    pub fn replica(wanted: BTreeSet<Indicator>) -> Self {
        let state = State { kb: Kb::new(), ..State::default() };
        Self { state, wanted: Some(wanted), ..Self::default() }
    }

    /// Takes in the next item. Facts are kept as slices of it.
    pub fn item(&mut self, item: &Bytes) -> Result<(), RestoreError> {
        let mut r = Reader::new(item);
        let Some(entries) = r.array()?.checked_sub(1) else {
            return Err(r.invalid("an item without a kind").into());
        };
        let kind = r.uint()?;
        match (self.kind, kind) {
            (None, kind::HEAD) => {}
            (None, _) => return Err(RestoreError::Missing("head")),
            // One head, one end, and the kinds in their order.
            (Some(last), kind) if last < kind || last == kind && (1..kind::END).contains(&kind) => {
            }
            _ => return Err(r.invalid("an item out of order").into()),
        }
        self.kind = Some(kind);
        let is_replica = self.wanted.is_some();
        match kind {
            kind::HEAD => self.head(entries, &mut r)?,
            kind::PREDICATES => {
                for _ in 0..entries {
                    let indicator = rest::read_predicate(&mut self.state, &mut r)?;
                    self.predicates.push((indicator, Vec::new()));
                }
            }
            kind::STAMPS if !is_replica => {
                if self.stamps.len() + entries > MAX_STAMPS {
                    return Err(r.invalid("more stamps than are kept").into());
                }
                for _ in 0..entries {
                    r.array_of(2)?;
                    self.stamps.push((r.uint()?, r.uint()?));
                }
            }
            kind::FACTS => return self.facts(entries, r, item),
            kind::END if entries == 1 => self.digest = r.fixed()?,
            // An engine's replica is spared what it does not look at.
            kind::SESSIONS..=kind::STAMPS if is_replica => return Ok(()),
            _ => rest::read(&mut self.state, kind, entries, &mut r, item)?,
        }
        Ok(r.end()?)
    }

    /// Where the state stands, from a snapshot's first item alone.
    pub fn place_of(first: &Bytes) -> Result<Chain, RestoreError> {
        let mut restore = Self::default();
        restore.item(first)?;
        Ok(restore.state.place())
    }

    fn head(&mut self, entries: usize, r: &mut Reader<'_>) -> Result<(), Error> {
        if entries != 10 {
            return Err(r.invalid("a head of another length"));
        }
        (self.state.index, self.state.time, self.state.chain) = (r.uint()?, r.uint()?, r.fixed()?);
        (self.floor, self.dropped) = (r.uint()?, r.uint()?);
        self.state.membership.read_head(r)
    }

    fn facts(
        &mut self,
        entries: usize,
        mut r: Reader<'_>,
        item: &Bytes,
    ) -> Result<(), RestoreError> {
        let place = usize::try_from(r.uint()?).map_err(|_| RestoreError::Predicate)?;
        let (indicator, facts) = self.predicates.get_mut(place).ok_or(RestoreError::Predicate)?;
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(indicator)) {
            return Ok(());
        }
        let ends = self.state.kb.predicate(indicator).map(|predicate| predicate.ends());
        let (below, above) = ends.ok_or(RestoreError::Predicate)?;
        for _ in 1..entries {
            r.array_of(4)?;
            let order = r.int()?;
            let id = Position { index: r.uint()?, n: r.uint32()? };
            if order <= below || order >= above {
                return Err(r.invalid("a fact outside of its predicate's ends").into());
            }
            let from = r.position();
            let is_its = shape::predicate(r.item()?).is_some_and(|(name, arity)| {
                name == &*indicator.name && arity == indicator.arity as usize
            });
            if !is_its {
                return Err(r.invalid("a fact of another predicate").into());
            }
            facts.push((order, Fact { id, bytes: item.slice(from..r.position()) }));
        }
        Ok(r.end()?)
    }

    /// The state. Its digest is checked, unless only some predicates were wanted.
    pub fn finish(self) -> Result<State, RestoreError> {
        match self.kind {
            None => return Err(RestoreError::Missing("head")),
            Some(kind::END) => {}
            Some(_) => return Err(RestoreError::Missing("end")),
        }
        let mut state = self.state;
        for (indicator, facts) in self.predicates {
            let len = facts.len();
            state.kb.place_all(&indicator, facts);
            if state.kb.predicate(&indicator).is_none_or(|predicate| predicate.len() != len) {
                // Two facts of one order.
                return Err(RestoreError::Digest);
            }
        }
        state.stamps = Stamps::restore(self.floor, self.dropped, self.stamps);
        if self.wanted.is_none() && state.digest() != self.digest {
            return Err(RestoreError::Digest);
        }
        Ok(state)
    }
}
