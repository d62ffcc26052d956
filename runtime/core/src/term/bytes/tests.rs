//! Both ways of the codec, against each other and against what is nearly a term.

use super::super::samples::{name, renumbered, term};
use super::super::{BigInt, MAX_ARITY, MAX_DEPTH, MAX_INTEGER_BYTES, MAX_TERM_BYTES};
use super::decode::too_long;
use super::*;
use crate::cbor::What;
use proptest::prelude::*;

/// What decodes must be the canonical form of what it decodes to.
fn check_bytes(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(term) = Term::decode(bytes) {
        let again = term.encode();
        prop_assert_eq!(again.as_deref(), Ok(bytes));
    }
    Ok(())
}

/// Pieces of which terms and what is nearly a term are made.
const NEARLY: &[&[u8]] = &[
    &[0xd8, 27],
    &[0xd8, 39],
    &[0xd8, 30],
    &[0xc2],
    &[0xc3],
    &[0x82],
    &[0x83],
    &[0x81],
    &[0x80],
    &[0x61, b'a'],
    &[0x61, b'.'],
    &[0x64, b'r', b'd', b'i', b'v'],
    &[0x60],
    &[0x62, b'[', b']'],
    &[0xf6],
    &[0],
    &[1],
    &[2],
    &[3],
    &[0x20],
    &[0xf9, 0x3c, 0],
    &[0xf9, 0x80, 0],
    &[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0x41, 0],
    &[0x18, 24],
];

/// `f(f(…))`, or lists in lists, so many levels deep.
fn deep(levels: usize, wrap: fn(Term) -> Term) -> Term {
    (0..levels).fold(Term::Integer(1), |inner, _| wrap(inner))
}

fn compound(inner: Term) -> Term {
    Term::Compound("f".into(), vec![inner])
}

fn list(inner: Term) -> Term {
    Term::List(vec![inner])
}

fn partial(inner: Term) -> Term {
    Term::Partial(vec![inner], Box::new(Term::Var(0)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn decoding_undoes_encoding(term in term()) {
        let bytes = term.encode().unwrap();
        prop_assert_eq!(Term::decode(&bytes), Ok(renumbered(&term)));
        check_bytes(&bytes)?;
    }

    #[test]
    fn equal_terms_have_equal_bytes_and_unequal_ones_do_not(a in term(), b in term()) {
        let same = renumbered(&a) == renumbered(&b);
        prop_assert_eq!(a.encode() == b.encode(), same);
    }

    #[test]
    fn random_bytes_are_canonical_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
        check_bytes(&bytes)?;
    }

    // Bytes that are nearly right reach the checks that random ones never get to.
    #[test]
    fn bytes_that_begin_like_a_term_are_canonical_or_refused(
        heads in prop::collection::vec(prop::sample::select(NEARLY), 0..10),
    ) {
        check_bytes(&heads.concat())?;
    }

    #[test]
    fn damaged_bytes_are_canonical_or_refused(term in term(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = term.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check_bytes(&bytes)?;
        prop_assert!(Term::decode(&bytes[..at]).is_err());
        bytes.insert(at, byte);
        check_bytes(&bytes)?;
    }

    #[test]
    fn names_are_kept_to_the_letter(name in name()) {
        let term = Term::compound(&*name, vec![Term::atom(&*name)]).unwrap();
        prop_assert_eq!(Term::decode(&term.encode().unwrap()), Ok(term));
    }
}

#[test]
fn each_thing_has_one_form_and_the_others_are_refused_by_name() {
    let refused: &[(&[u8], &str)] = &[
        (&[0x60], "an empty string is the empty array"),
        (&[0x81, 0xd8, 39, 0x61, b'a'], "a list of characters is a text string"),
        (&[0xd8, 39, 0x62, b'[', b']'], "[] is the empty array"),
        (&[0xf9, 0x7e, 0], "NaN, infinities and -0.0 are no terms"),
        (&[0xf9, 0x7c, 0], "NaN, infinities and -0.0 are no terms"),
        (&[0xf9, 0x80, 0], "NaN, infinities and -0.0 are no terms"),
        (&[0xd8, 30, 0x82, 2, 4], "a rational that is not in lowest terms"),
        (&[0xd8, 30, 0x82, 2, 1], "a rational that is not in lowest terms"),
        (&[0xd8, 30, 0x82, 1, 0], "a rational that is not in lowest terms"),
        (
            &[0xd8, 27, 0x83, 0x64, b'r', b'd', b'i', b'v', 1, 3],
            "rdiv/2 of integers in lowest terms is a rational",
        ),
        (&[0xd8, 27, 0x81, 0x61, b'f'], "a compound without arguments: foo() is no term"),
        (&[0xd8, 27, 0x83, 0x61, b'.', 0x80, 1], "a partial list without items"),
        (&[0xd8, 27, 0x83, 0x61, b'.', 0x81, 1, 0x80], "a partial list whose tail is a list"),
        (&[0xd8, 27, 0x83, 0x61, b'.', 0x81, 1, 0x61, b'a'], "a partial list whose tail is a list"),
        (&[0xd8, 27, 0x82, 0xf6, 1], "variables are numbered by first occurrence"),
        (&[0xd8, 27, 0x83, 0xf6, 0, 0], "variables are numbered by first occurrence"),
        (&[0xd8, 27, 0x83, 0x61, b'.', 1, 2], "expected an array, found an unsigned integer"),
        (&[0x41, 0], "expected a term, found a byte string"),
        (&[0xa0], "expected a term, found a map"),
        (&[0xf6], "expected a term, found a simple value"),
        (&[0xc2, 0x41, 1], "not in deterministic form (RFC 8949 §4.2.1)"),
        (&[1, 1], "bytes follow the last item"),
    ];
    for (bytes, why) in refused {
        let error = Term::decode(bytes).expect_err(why);
        assert_eq!(error.what.to_string(), *why, "{bytes:02x?}");
    }
}

#[test]
fn what_was_built_by_hand_and_is_not_normal_is_refused() {
    let one = || Term::Integer(1);
    let not_normal = [
        Term::Atom("[]".into()),
        Term::String("".into()),
        Term::List(vec![Term::Atom("a".into())]),
        Term::Partial(vec![], Box::new(one())),
        Term::Partial(vec![one()], Box::new(Term::EMPTY)),
        Term::Compound(".".into(), vec![one(), one()]),
        Term::Compound("rdiv".into(), vec![one(), Term::Integer(2)]),
        Term::Big(7.into()),
    ];
    for term in not_normal {
        let mut out = b"before".to_vec();
        let done = Term::List(vec![one(), term.clone()]).encode_into(&mut out);
        assert!(matches!(done, Err(TermError::NotNormal(_))), "{term:?}");
        assert_eq!(out, b"before", "an error leaves the buffer as it was");
    }
    assert_eq!(Term::Float(f64::NAN).encode(), Err(TermError::NotFinite));
    assert_eq!(Term::Compound("f".into(), vec![]).encode(), Err(TermError::NoArguments));
    let wide = Term::Compound("f".into(), vec![one(); MAX_ARITY + 1]);
    assert_eq!(wide.encode(), Err(TermError::TooManyArguments));
    let mut bytes = Term::List(vec![one(); MAX_ARITY + 2]).encode().unwrap();
    bytes.splice(..4, [0xd8, 27, 0x99, 1, 1, 0x61, b'f']);
    let what = What::TooMany { bound: MAX_ARITY, of: "arguments" };
    assert_eq!(Term::decode(&bytes), Err(Error { at: 0, what }));
}

#[test]
fn the_bound_of_depth_is_the_same_both_ways_and_two_mebibytes_of_stack_hold_it() {
    let run = || {
        for (wrap, levels) in
            [(compound as fn(Term) -> Term, MAX_DEPTH), (list, MAX_DEPTH), (partial, MAX_DEPTH / 2)]
        {
            let term = deep(levels, wrap);
            let bytes = term.encode().unwrap();
            let read = Term::decode(&bytes).unwrap();
            assert!(read == term.clone());
            assert!(read.is_ground() || levels < MAX_DEPTH);
            assert_eq!(wrap(term).encode(), Err(TermError::TooDeep));
        }
        let mut bytes = [0x81].repeat(MAX_DEPTH + 1);
        bytes.push(0x80);
        let error = Term::decode(&bytes).expect_err("too deep");
        assert_eq!(error.what, What::TooMany { bound: MAX_DEPTH, of: "levels of nesting" });
        // The empty list is atomic: it takes no level.
        bytes.remove(0);
        assert_eq!(Term::decode(&bytes).map(|t| t.encode()), Ok(Ok(bytes)));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn the_bounds_of_size_are_the_same_both_ways() {
    let fits = Term::string("a".repeat(MAX_TERM_BYTES - 5));
    let bytes = fits.encode().unwrap();
    assert_eq!(bytes.len(), MAX_TERM_BYTES);
    assert_eq!(Term::decode(&bytes), Ok(fits));
    let long = "a".repeat(MAX_TERM_BYTES - 4);
    assert_eq!(Term::string(&*long).encode(), Err(TermError::TooLong));
    let mut w = Writer::new();
    w.text(&long);
    assert_eq!(Term::decode(w.as_slice()), Err(too_long(0)));

    let widest: BigInt = (BigInt::from(1) << (8 * MAX_INTEGER_BYTES)) - 1;
    for fits in [widest.clone(), -widest.clone() - 1] {
        let term = Term::integer(fits);
        assert_eq!(Term::decode(&term.encode().unwrap()), Ok(term));
    }
    for too_long in [widest.clone() + 1, -widest - 2] {
        assert_eq!(Term::integer(too_long).encode(), Err(TermError::IntegerTooLong));
    }
}

#[test]
fn a_head_that_promises_much_reserves_nothing() {
    for head in [&[0x9b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[0x9a, 0, 0xf, 0xff, 0xff]] {
        let bytes = head.repeat(MAX_DEPTH);
        assert!(Term::decode(&bytes).is_err());
    }
}
