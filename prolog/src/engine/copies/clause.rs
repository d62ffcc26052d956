//! The clause that stands for the facts of one key.
//!
//! ```text
//! p(7, x).                                                            a number, an atom: its only fact
//! p(8, A, Cut)          :- var(A), '$set_cp_by_default'(Cut), ( A = x ; A = y ).       none, or several
//! p(Hash, "ab", A, Cut) :- '$set_cp_by_default'(Cut), A = z.                                   a string
//! ```
//! An only fact is chosen as a condition is, in half the time of the others. Who calls one of those has left a choice open, for keys that have none, and says where to cut it off. One
//! clause a key means that a call which is under way goes on with what was there when it was made.
//!
//! Of several facts, a call whose other arguments are bound would leave a choice open behind the last
//! that matches, which the host does not: such a call goes on to the host.

use bytes::Bytes;
use synod_core::kb::Indicator;
use synod_core::term::Term;

/// Characters of a string or an atom that is a key, at most; `synod_copies.pl` has it too.
const MAX_TEXT_CHARS: usize = 256;
/// The last characters of a string, of which its hash is made; `synod_copies.pl` has it too.
const HASHED_CHARS: usize = 8;
/// Bits of a hash; `synod_copies.pl` has it too.
const HASH_BITS: u32 = 24;
/// Integers within this on both sides are of the machine's small kind, which its index tells apart.
const MAX_SMALL: i64 = 1 << 54;
/// Arguments of a predicate that is copied by key, at most: each pair of them is compared.
const MAX_ARITY: u32 = 8;

/// Whether facts with this first argument can be copied alone.
pub(super) fn is_key(indicator: &Indicator, first: &Term) -> bool {
    indicator.arity <= MAX_ARITY
        && match first {
            Term::Integer(n) => (-MAX_SMALL..MAX_SMALL).contains(n),
            Term::Atom(text) | Term::String(text) => text.chars().count() <= MAX_TEXT_CHARS,
            _ => false,
        }
}

/// The goal that reads the facts of a key.
pub(in crate::engine) fn goal(indicator: &Indicator, first: Term) -> Term {
    let others = (1..indicator.arity).map(Term::Var);
    Term::Compound((&*indicator.name).into(), std::iter::once(first).chain(others).collect())
}

/// Where a key's clause stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Kind {
    /// Among the facts that are the only ones of their keys.
    Single,
    /// Among numbers and atoms.
    Keyed,
    /// Among strings.
    Text,
}

impl Kind {
    /// That of a key with so many facts.
    pub(super) fn of(first: &Term, facts: usize) -> Self {
        match (first, facts) {
            (Term::String(_), _) => Self::Text,
            (_, 1) => Self::Single,
            _ => Self::Keyed,
        }
    }
}

/// The clause for these facts, which are all ground; none if they are no facts of this key's.
pub(super) fn of(indicator: &Indicator, first: &Term, facts: &[Bytes]) -> Option<Term> {
    if let (Kind::Single, [fact]) = (Kind::of(first, facts.len()), facts) {
        return Term::decode(fact).ok();
    }
    let mut rows = Vec::with_capacity(facts.len());
    for fact in facts {
        let Ok(Term::Compound(_, values)) = Term::decode(fact) else { return None };
        let cells = (1..).zip(values.into_iter().skip(1));
        let goals = cells.map(|(n, value)| Term::structure("=", [Term::Var(n), value]));
        rows.push(joined(",", goals.collect()).unwrap_or_else(|| Term::atom("true")));
    }
    let mut goals = if rows.len() > 1 { are_free(indicator) } else { Vec::new() };
    goals.push(Term::structure("$set_cp_by_default", [Term::Var(0)]));
    goals.push(joined(";", rows).unwrap_or_else(|| Term::atom("fail")));
    let head = head(indicator, first, Kind::of(first, facts.len()));
    Some(Term::structure(":-", [head, joined(",", goals)?]))
}

/// Goals that a call's other arguments are variables, each another one.
fn are_free(indicator: &Indicator) -> Vec<Term> {
    let free = (1..indicator.arity).map(|n| Term::structure("var", [Term::Var(n)]));
    let pairs = (1..indicator.arity).flat_map(|n| (1..n).map(move |m| (m, n)));
    let differ = pairs.map(|(m, n)| Term::structure("\\==", [Term::Var(m), Term::Var(n)]));
    free.chain(differ).collect()
}

/// The head of a key's clause, or its only fact but for what stands in it.
pub(super) fn head(indicator: &Indicator, first: &Term, kind: Kind) -> Term {
    if kind == Kind::Single {
        return goal(indicator, first.clone());
    }
    let hash = match first {
        Term::String(text) => Some(Term::Integer(hash(text))),
        _ => None,
    };
    let others = (1..indicator.arity).map(Term::Var).chain([Term::Var(0)]);
    let args = hash.into_iter().chain([first.clone()]).chain(others);
    Term::Compound((&*indicator.name).into(), args.collect())
}

/// As `synod_copies:hash/3` has it.
fn hash(text: &str) -> i64 {
    let len = text.chars().count();
    let start = i64::try_from(len).unwrap_or(i64::MAX);
    let hashed = text.chars().skip(len.saturating_sub(HASHED_CHARS));
    hashed.fold(start, |hash, c| (hash * 31 + i64::from(u32::from(c))) & ((1 << HASH_BITS) - 1))
}

/// `a, b, c`.
fn joined(operator: &str, goals: Vec<Term>) -> Option<Term> {
    goals.into_iter().rev().reduce(|right, left| Term::structure(operator, [left, right]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(first: Term, facts: &[Term]) -> String {
        let facts: Vec<Bytes> = facts.iter().map(|f| f.encode().unwrap().into()).collect();
        of(&Indicator::new("p", 3), &first, &facts).unwrap().to_string()
    }

    #[test]
    fn a_key_s_facts_are_one_clause() {
        let fact = |key: Term, n: i64| Term::structure("p", [key, n.into(), Term::atom("x")]);
        let body = "'$set_cp_by_default'(_0)";
        assert_eq!(clause(7.into(), &[]), format!("p(7,_1,_2,_0):-{body},fail"));
        assert_eq!(
            clause(7.into(), &[fact(7.into(), 1), fact(7.into(), 2)]),
            format!("p(7,_1,_2,_0):-var(_1),var(_2),_1\\==_2,{body},(_1=1,_2=x;_1=2,_2=x)")
        );
        assert_eq!(clause(7.into(), &[fact(7.into(), 1)]), "p(7,1,x)");
        let key = Term::string("ab");
        let hash = (2 * 31 + 97) * 31 + 98;
        assert_eq!(
            clause(key.clone(), &[fact(key, 1)]),
            format!("p({hash},\"ab\",_1,_2,_0):-{body},_1=1,_2=x")
        );
    }

    #[test]
    fn long_strings_and_what_the_machine_s_index_does_not_know_are_no_keys() {
        let p = Indicator::new("p", 2);
        for (first, is) in [
            (Term::Integer(-3), true),
            (Term::Integer(i64::MAX), false),
            (Term::atom("a"), true),
            (Term::EMPTY, false),
            (Term::string("x".repeat(MAX_TEXT_CHARS)), true),
            (Term::string("x".repeat(MAX_TEXT_CHARS + 1)), false),
            (Term::structure("f", [1.into()]), false),
            (Term::Float(1.0), false),
        ] {
            assert_eq!(is_key(&p, &first), is, "{first}");
        }
        assert!(!is_key(&Indicator::new("p", MAX_ARITY + 1), &Term::Integer(1)));
    }
}
