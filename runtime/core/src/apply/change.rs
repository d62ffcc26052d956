//! What a command did to the knowledge base, and its bytes: what an engine is sent of the log.

use crate::cbor::{Error, Reader, Writer};
use crate::command::codec;
use crate::kb::{Fact, Indicator, Kb, MAX_ORDER, Position};
use bytes::Bytes;

/// What a transaction did to the knowledge base: what replicas follow, and agents are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The index of the command.
    pub index: u64,
    /// Who did it: an agent's name, or a session's label.
    pub by: String,
    /// The effects, each with its place in the command.
    pub effects: Vec<(u32, Effect)>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A fact was added.
    Asserted {
        /// Its predicate.
        predicate: Indicator,
        /// Its clause order.
        order: i64,
        /// The fact, encoded.
        fact: Bytes,
    },
    /// A fact was taken away.
    Retracted {
        /// Its predicate.
        predicate: Indicator,
        /// Its clause order.
        order: i64,
        /// The fact, encoded.
        fact: Bytes,
    },
    /// An event was emitted.
    Emitted {
        /// The event, encoded.
        event: Bytes,
    },
}

const ASSERTED: u64 = 0;
const RETRACTED: u64 = 1;
const EMITTED: u64 = 2;

impl Change {
    /// `[index, by, [n, kind, …]*]`: appends one item.
    pub fn write(&self, w: &mut Writer) {
        self.write_of(w, |_| true);
    }

    /// As [`Change::write`], with the effects on these predicates only and without events: what an
    /// engine's replica wants. Writes nothing if there are none.
    pub fn write_for(&self, w: &mut Writer, is_wanted: impl Fn(&Indicator) -> bool) {
        self.write_of(w, |effect| match effect {
            Effect::Asserted { predicate, .. } | Effect::Retracted { predicate, .. } => {
                is_wanted(predicate)
            }
            Effect::Emitted { .. } => false,
        });
    }

    fn write_of(&self, w: &mut Writer, is_wanted: impl Fn(&Effect) -> bool) {
        let len = self.effects.iter().filter(|(_, effect)| is_wanted(effect)).count();
        if len == 0 {
            return;
        }
        w.array(3).uint(self.index).text(&self.by).array(len);
        for (n, effect) in self.effects.iter().filter(|(_, effect)| is_wanted(effect)) {
            match effect {
                Effect::Asserted { predicate: _, order, fact } => {
                    w.array(4).uint(u64::from(*n)).uint(ASSERTED).int(*order).raw(fact);
                }
                Effect::Retracted { predicate: _, order, fact } => {
                    w.array(4).uint(u64::from(*n)).uint(RETRACTED).int(*order).raw(fact);
                }
                Effect::Emitted { event } => {
                    w.array(3).uint(u64::from(*n)).uint(EMITTED).raw(event);
                }
            }
        }
    }

    /// Reads one item.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        r.array_of(3)?;
        let (index, by) = (r.uint()?, codec::read_name(r)?);
        let len = r.array()?;
        if len == 0 {
            return Err(r.invalid("a change without effects"));
        }
        let mut effects = Vec::new();
        for _ in 0..len {
            let items = r.array()?;
            let (n, kind) = (r.uint32()?, r.uint()?);
            effects.push((
                n,
                match (kind, items) {
                    (ASSERTED, 4) => {
                        let (order, predicate, fact) = read_fact(r)?;
                        Effect::Asserted { predicate, order, fact }
                    }
                    (RETRACTED, 4) => {
                        let (order, predicate, fact) = read_fact(r)?;
                        Effect::Retracted { predicate, order, fact }
                    }
                    (EMITTED, 3) => Effect::Emitted { event: Bytes::copy_from_slice(r.item()?) },
                    _ => return Err(r.invalid("an unknown effect")),
                },
            ));
        }
        Ok(Self { index, by, effects })
    }

    /// The predicates that it wrote to, each as often as it did.
    pub fn predicates(&self) -> impl Iterator<Item = &Indicator> {
        self.effects.iter().filter_map(|(_, effect)| match effect {
            Effect::Asserted { predicate, .. } | Effect::Retracted { predicate, .. } => {
                Some(predicate)
            }
            Effect::Emitted { .. } => None,
        })
    }

    /// Does to a replica what was done to the space.
    pub fn follow(&self, kb: &mut Kb) {
        self.follow_telling(kb, |_, _| {});
    }

    /// As [`Change::follow`], and tells of each effect before it is there.
    pub fn follow_telling(&self, kb: &mut Kb, mut tell: impl FnMut(&Effect, &Kb)) {
        for (n, effect) in &self.effects {
            tell(effect, kb);
            match effect {
                Effect::Asserted { predicate, order, fact } => {
                    let id = Position { index: self.index, n: *n };
                    kb.place(predicate, *order, Fact { id, bytes: fact.clone() });
                }
                Effect::Retracted { predicate, order, .. } => drop(kb.retract(predicate, *order)),
                Effect::Emitted { .. } => {}
            }
        }
    }
}

fn read_fact(r: &mut Reader<'_>) -> Result<(i64, Indicator, Bytes), Error> {
    let order = r.int()?;
    if !(-MAX_ORDER..=MAX_ORDER).contains(&order) {
        return Err(r.invalid("an order that no fact can have"));
    }
    let fact = r.item()?;
    let predicate = Indicator::of(fact).ok_or_else(|| r.invalid("a fact of no predicate"))?;
    Ok((order, predicate, Bytes::copy_from_slice(fact)))
}
