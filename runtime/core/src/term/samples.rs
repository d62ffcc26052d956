//! Terms for tests: every kind, with the atoms, numbers and strings that break readers.

use super::{BigInt, Term};
use proptest::prelude::*;

/// Names that some reader has taken for something else.
const HOSTILE: &[&str] = &[
    "",
    "a",
    "foo",
    "[]",
    "{}",
    ".",
    ",",
    "|",
    "!",
    ";",
    "-",
    "+",
    "- ",
    "-1",
    "1",
    "\\",
    "'",
    "''",
    "\"",
    "`",
    "\\'",
    "\\x41\\",
    ":-",
    "-->",
    "=",
    "is",
    "rdiv",
    "mod",
    "dynamic",
    "Foo",
    "_",
    "_1",
    "a b",
    "a\nb",
    "\t",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{ad}",
    "\u{2028}",
    "\u{feff}",
    "\u{1f600}",
    "é",
    "Éa",
    "ß",
    "日本",
    "//",
    "/*",
    "*/",
    "%",
    "$VAR",
    "end_of_file",
    "a.b",
    "0'a",
    "0x1",
    "1.0",
    "e10",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "[a]",
    "f(x)",
    "\u{301}",
    "²",
    "١",
    "ª",
    "\\\n",
    "null",
    "dict",
];

/// A term, nested a few levels, with variables among [`Term::Var`] 0 to 3.
pub(crate) fn term() -> impl Strategy<Value = Term> {
    let nested = shallow().prop_recursive(5, 48, 6, |inner| {
        let items = prop::collection::vec(inner.clone(), 1..6);
        prop_oneof![
            4 => (name(), items.clone()).prop_map(|(name, args)| Term::compound(name, args).unwrap()),
            2 => items.clone().prop_map(Term::list),
            2 => (items, inner).prop_map(|(items, tail)| Term::partial(items, tail)),
        ]
    });
    nested.boxed()
}

/// A term without arguments or items, other than a string's.
pub(crate) fn shallow() -> impl Strategy<Value = Term> {
    prop_oneof![
        4 => name().prop_map(Term::atom),
        2 => name().prop_map(Term::string),
        3 => integer().prop_map(Term::integer),
        2 => float().prop_map(|f| Term::float(f).unwrap()),
        1 => (integer(), integer()).prop_map(|(n, d)| Term::rational(n, d).unwrap_or(Term::EMPTY)),
        1 => (-9i64..9, -9i64..9).prop_map(|(n, d)| Term::structure("rdiv", [n.into(), d.into()])),
        1 => Just(Term::EMPTY),
        2 => (0u32..4).prop_map(Term::Var),
    ]
}

/// A name of an atom or a compound, or the text of a string.
pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(HOSTILE).prop_map(str::to_owned),
        2 => "[a-z][a-zA-Z0-9_]{0,8}",
        1 => "[-+*/\\\\^<>=~:.?@#&$]{1,4}",
        1 => any::<char>().prop_map(String::from),
        1 => any::<String>(),
    ]
}

fn integer() -> impl Strategy<Value = BigInt> {
    let near = |bits: u32| {
        (-2i32..3, any::<bool>()).prop_map(move |(near, negative)| {
            let n = (BigInt::from(1) << bits) + near;
            if negative { -n } else { n }
        })
    };
    prop_oneof![
        3 => (-30i64..300).prop_map(BigInt::from),
        2 => any::<i64>().prop_map(BigInt::from),
        1 => any::<i128>().prop_map(BigInt::from),
        1 => near(16),
        1 => near(32),
        2 => near(63),
        2 => near(64),
        1 => near(400),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => prop::sample::select(&[0.0, -0.0, 1.0, -1.5, 0.1, 1e22, 1e-7, 1e100, 65504.0, 65505.0,
            5e-324, 2.2250738585072014e-308, f64::MAX, f64::MIN, 16777217.0, 1e15, 1e16, 1e17, 123456.789][..]),
        1 => any::<f64>().prop_filter("finite", |f| f.is_finite()),
        1 => any::<f32>().prop_filter("finite", |f| f.is_finite()).prop_map(f64::from),
    ]
}

/// The same term with its variables numbered by first occurrence, as every decoder gives it.
pub(crate) fn renumbered(term: &Term) -> Term {
    fn walk(term: &Term, seen: &mut Vec<u32>) -> Term {
        let mut all = |terms: &[Term]| terms.iter().map(|t| walk(t, seen)).collect::<Vec<_>>();
        match term {
            Term::Var(n) => {
                let at = seen.iter().position(|m| m == n).unwrap_or_else(|| {
                    seen.push(*n);
                    seen.len() - 1
                });
                Term::Var(at as u32)
            }
            Term::List(items) => Term::List(all(items)),
            Term::Compound(name, args) => Term::Compound(name.clone(), all(args)),
            Term::Partial(items, tail) => {
                let items = all(items);
                Term::Partial(items, Box::new(walk(tail, seen)))
            }
            other => other.clone(),
        }
    }
    walk(term, &mut Vec::new())
}

/// Says that a part of a test is skipped, and why: past the test runner, which would keep it to itself.
pub(crate) fn skip(why: &str) {
    use std::io::Write;
    let line = format!("skipped: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
