//! Facts and goals from a universe so small that they meet: few predicates of few arities, and few
//! arguments of every kind that the knowledge base tells apart.

use proptest::prelude::*;
use synod_core::term::{BigInt, Term};

/// The predicates: a name and how many arguments.
pub const PREDICATES: &[(&str, usize)] =
    &[("go", 0), ("p", 1), ("q", 2), ("q", 3), ("account", 2), ("[]", 0)];

/// So many cases, unless `PROPTEST_CASES` in the environment says otherwise.
pub fn cases(cases: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(cases),
    }
}

/// A fact of any of [`PREDICATES`].
pub fn fact() -> impl Strategy<Value = Term> {
    of_predicates(PREDICATES, argument().boxed())
}

/// A fact of one predicate.
pub fn fact_of(name: &'static str, arity: usize) -> impl Strategy<Value = Term> {
    of_predicate((name, arity), argument().boxed())
}

/// A call of any of [`PREDICATES`], less bound than facts are.
pub fn goal() -> impl Strategy<Value = Term> {
    of_predicates(PREDICATES, open_argument())
}

/// A call of one predicate.
pub fn goal_of(name: &'static str, arity: usize) -> impl Strategy<Value = Term> {
    of_predicate((name, arity), open_argument())
}

/// An argument: mostly one of a handful, so that calls and facts meet.
pub fn argument() -> impl Strategy<Value = Term> {
    let nested = prop::sample::select(handful()).prop_recursive(2, 8, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            2 => inner.prop_map(|x| Term::structure("f", [x])),
            1 => two.clone().prop_map(|(x, y)| Term::structure("f", [x, y])),
            1 => two.clone().prop_map(|(x, y)| Term::structure("rdiv", [x, y])),
            1 => two.clone().prop_map(|(x, y)| Term::list(vec![x, y])),
            1 => two.prop_map(|(x, y)| Term::partial(vec![x], y)),
        ]
    });
    prop_oneof![3 => prop::sample::select(handful()), 1 => nested]
}

/// One of every kind that an index or a validation tells apart, or might mix up.
fn handful() -> Vec<Term> {
    let (a, x) = (Term::atom("a"), Term::Var(0));
    vec![
        a.clone(),
        Term::atom("b"),
        // An atom, a string and a compound of one name.
        Term::atom("f"),
        Term::string("f"),
        Term::structure("f", [a.clone()]),
        Term::structure("f", [x.clone()]),
        Term::structure("f", [x.clone(), x.clone()]),
        Term::structure("g", [a.clone()]),
        // Numbers that are equal in value.
        Term::Integer(1),
        Term::Float(1.0),
        Term::integer(i128::from(i64::MAX) + 1),
        // A number that is a compound to a call, and calls that take it for one.
        Term::rational(BigInt::from(1), BigInt::from(3)).unwrap_or(Term::EMPTY),
        Term::structure("rdiv", [x.clone(), Term::Integer(3)]),
        Term::structure("rdiv", [Term::Integer(2), Term::Integer(6)]),
        // Lists in all their forms.
        Term::EMPTY,
        Term::string("ab"),
        Term::list(vec![a.clone(), Term::Integer(1)]),
        Term::partial(vec![a], Term::Var(1)),
        Term::partial(vec![Term::Var(1)], Term::atom("b")),
        Term::string("long: more than what fits into one block of a hash, as a few values will be"),
        x,
        Term::Var(1),
    ]
}

fn open_argument() -> BoxedStrategy<Term> {
    prop_oneof![2 => argument(), 1 => (0u32..3).prop_map(Term::Var)].boxed()
}

fn of_predicates(
    predicates: &'static [(&'static str, usize)],
    argument: BoxedStrategy<Term>,
) -> impl Strategy<Value = Term> {
    prop::sample::select(predicates)
        .prop_flat_map(move |predicate| of_predicate(predicate, argument.clone()))
}

fn of_predicate(
    (name, arity): (&'static str, usize),
    argument: BoxedStrategy<Term>,
) -> impl Strategy<Value = Term> {
    prop::collection::vec(argument, arity).prop_map(move |args| {
        if args.is_empty() { Term::atom(name) } else { Term::Compound(name.into(), args) }
    })
}
