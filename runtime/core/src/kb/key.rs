//! What a call reads and what a fact writes, as 64-bit keys.
//!
//! One vocabulary serves twice: the facts of a predicate are *indexed* under the keys that they
//! write, and a transaction is *validated* by the stamps of the keys that it read. So the index
//! cannot find a fact that validation would miss.
//!
//! For an argument that is looked up by, a fact writes, and a call reads:
//!
//! | argument | a fact with it writes | a call with it reads |
//! |---|---|---|
//! | variable | `Unbound` | the whole predicate |
//! | atomic, or a ground compound | `Ground(bytes)`, and `Functor` if compound | `Ground(bytes)`, `Open(functor)` if compound, `Unbound` |
//! | compound with variables | `Functor`, `Open` | `Functor`, `Unbound` |
//!
//! Every write also raises the predicate's `Whole`. A key is 63 bits of BLAKE3 over its parts: two
//! keys that collide make a conflict that need not be, never one that is missed.
//!
//! The first argument of every predicate is looked up by, and further ones that were declared. A call
//! that is told apart by one of those reads `Declared` too, which nothing writes: by it validation
//! knows whether the space kept stamps of that argument when the call was made.

use super::Indicator;
use crate::term::shape;
use std::hash::{BuildHasher, Hasher};

/// One key: a predicate, an argument of it, or a value of that argument, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// At most this many keys belong to one argument of a fact or a call.
const MAX_KEYS: usize = 4;

/// The keys of one argument: a few, in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keys {
    keys: [u64; MAX_KEYS],
    len: u8,
}

impl Keys {
    /// No key yet.
    pub const NONE: Self = Self { keys: [0; MAX_KEYS], len: 0 };

    fn of(keys: &[Key]) -> Self {
        let mut all = Self::NONE;
        for (slot, key) in all.keys.iter_mut().zip(keys) {
            *slot = key.0;
        }
        all.len = keys.len().min(MAX_KEYS) as u8;
        all
    }

    /// With one more.
    pub(super) fn and(mut self, key: Key) -> Self {
        if let Some(slot) = self.keys.get_mut(usize::from(self.len)) {
            *slot = key.0;
            self.len += 1;
        }
        self
    }

    /// The keys, one by one.
    pub fn iter(&self) -> impl Iterator<Item = Key> + '_ {
        self.keys.iter().take(usize::from(self.len)).map(|&key| Key(key))
    }
}

/// How far an argument of a call or a fact is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// A variable.
    Unbound,
    /// A compound with variables in it.
    Partly,
    /// No variable anywhere.
    Ground,
}

impl Binding {
    /// How far the encoded term `argument` is bound.
    pub fn of(argument: &[u8]) -> Self {
        if shape::is_ground(argument) {
            Self::Ground
        } else if shape::functor(argument).is_some() {
            Self::Partly
        } else {
            Self::Unbound
        }
    }
}

/// Makes the keys of one argument position of one predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyer {
    seed: [u8; 8],
    /// The key `Unbound`, which every call reads.
    unbound: Key,
}

const UNBOUND: u8 = 0;
const GROUND: u8 = 1;
const FUNCTOR: u8 = 2;
const OPEN: u8 = 3;

/// Set in the keys that only say what a call was told apart by.
const DECLARED: u64 = 1 << 63;

impl Key {
    /// Whether this is not of a value but of a declared argument.
    pub(crate) fn is_declared(self) -> bool {
        self.0 & DECLARED != 0
    }
}

impl Keyer {
    /// For the argument number `argument`, counted from 1.
    pub fn new(predicate: &Indicator, argument: u32) -> Self {
        let seed = whole_and(predicate, argument).0.to_le_bytes();
        Self { seed, unbound: key(seed, UNBOUND, &[]) }
    }

    /// The keys that a fact with this argument writes.
    pub fn written(&self, argument: &[u8]) -> Keys {
        match (Binding::of(argument), shape::functor(argument)) {
            (Binding::Ground, None) => Keys::of(&[self.ground(argument)]),
            (Binding::Ground, Some(f)) => {
                Keys::of(&[self.ground(argument), self.functor(FUNCTOR, f)])
            }
            (_, Some(f)) => Keys::of(&[self.functor(OPEN, f), self.functor(FUNCTOR, f)]),
            (_, None) => Keys::of(&[self.unbound]),
        }
    }

    /// The keys that a call with this argument reads; none if it is unbound, for then the call
    /// reads the whole predicate.
    pub fn read(&self, argument: &[u8]) -> Keys {
        let unbound = self.unbound;
        match (Binding::of(argument), shape::functor(argument)) {
            (Binding::Ground, None) => Keys::of(&[self.ground(argument), unbound]),
            (Binding::Ground, Some(f)) => {
                Keys::of(&[self.ground(argument), self.functor(OPEN, f), unbound])
            }
            (_, Some(f)) => Keys::of(&[self.functor(FUNCTOR, f), unbound]),
            (_, None) => Keys::NONE,
        }
    }

    /// The key `Declared` of this argument.
    pub(crate) fn declared(&self) -> Key {
        Key(u64::from_le_bytes(self.seed) | DECLARED)
    }

    fn ground(&self, argument: &[u8]) -> Key {
        key(self.seed, GROUND, argument)
    }

    fn functor(&self, kind: u8, (name, arity): (&str, usize)) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed).update(&[kind]).update(&(arity as u64).to_le_bytes());
        first_eight(hasher.update(name.as_bytes()).finalize())
    }
}

fn key(seed: [u8; 8], kind: u8, content: &[u8]) -> Key {
    // Most contents are small: one call on one block is several times faster than a hasher.
    let mut block = [0u8; 64];
    let len = 9 + content.len();
    if len <= block.len() {
        block[..8].copy_from_slice(&seed);
        block[8] = kind;
        block[9..len].copy_from_slice(content);
        return first_eight(blake3::hash(&block[..len]));
    }
    let mut hasher = blake3::Hasher::new();
    first_eight(hasher.update(&seed).update(&[kind]).update(content).finalize())
}

/// The key of a whole predicate.
pub fn whole(predicate: &Indicator) -> Key {
    whole_and(predicate, 0)
}

fn whole_and(predicate: &Indicator, argument: u32) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&predicate.arity.to_le_bytes()).update(&argument.to_le_bytes());
    first_eight(hasher.update(predicate.name.as_bytes()).finalize())
}

fn first_eight(hash: blake3::Hash) -> Key {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    Key(u64::from_le_bytes([a, b, c, d, e, f, g, h]) & !DECLARED)
}

/// Hashes keys for a `HashMap`: they are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHash(u64);

impl BuildHasher for KeyHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for KeyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::Term;

    fn keyer() -> Keyer {
        Keyer::new(&Indicator::new("p", 2), 1)
    }

    fn encoded(term: &Term) -> Vec<u8> {
        term.encode().unwrap()
    }

    fn meets(written: &Term, read: &Term) -> bool {
        let (written, read) = (keyer().written(&encoded(written)), keyer().read(&encoded(read)));
        read.iter().any(|key| written.iter().any(|w| w == key))
    }

    #[test]
    fn a_read_meets_exactly_the_writes_that_could_match_it() {
        let atom = |name| Term::atom(name);
        let f = |arg| Term::compound("f", vec![arg]).unwrap();
        let g = |arg| Term::compound("g", vec![arg]).unwrap();
        let var = Term::Var(0);
        // Each row: what a fact holds, what a call asks, whether the write must be seen.
        let rows = [
            (atom("a"), atom("a"), true),
            (atom("a"), atom("b"), false),
            (var.clone(), atom("a"), true),
            (atom("a"), f(var.clone()), false),
            (f(atom("a")), f(atom("a")), true),
            (f(atom("a")), f(atom("b")), false),
            (f(atom("a")), f(var.clone()), true),
            (f(var.clone()), f(atom("a")), true),
            (f(var.clone()), f(var.clone()), true),
            (f(var.clone()), g(var.clone()), false),
            (var.clone(), f(var.clone()), true),
            (f(var), g(atom("a")), false),
        ];
        for (fact, call, seen) in rows {
            assert_eq!(meets(&fact, &call), seen, "fact {fact:?}, call {call:?}");
        }
    }

    #[test]
    fn a_string_is_a_list_cell_to_a_partial_list() {
        let partial = Term::partial(vec![Term::atom("a")], Term::Var(0));
        assert!(meets(&Term::string("abc"), &partial));
    }

    #[test]
    fn keys_of_two_predicates_and_of_two_arguments_differ() {
        let a = encoded(&Term::atom("a"));
        let all = [("p", 2, 1), ("p", 2, 2), ("p", 3, 1), ("q", 2, 1)];
        let mut keys: Vec<_> = all
            .iter()
            .map(|&(name, arity, n)| Keyer::new(&Indicator::new(name, arity), n).written(&a))
            .flat_map(|keys| keys.iter().collect::<Vec<_>>())
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }
}
