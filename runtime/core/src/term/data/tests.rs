//! The examples of RFC 8949, what is refused, both ways against each other, and Python's `cbor2`
//! as another's opinion.

use super::super::samples::renumbered;
use super::super::text::{self, Dialect};
use super::super::{BigInt, MAX_DEPTH, Term, samples};
use super::*;
use crate::cbor::What;
use proptest::prelude::*;
use std::process::{Command, Stdio};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn term(text: &str) -> Term {
    text::read(text, Dialect::Scryer).unwrap()
}

/// RFC 8949, appendix A: the item, its term, and what it is written as where that is not the same.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("00", "0", ""),
    ("1818", "24", ""),
    ("1bffffffffffffffff", "18446744073709551615", ""),
    ("c249010000000000000000", "18446744073709551616", ""),
    ("3bffffffffffffffff", "-18446744073709551616", ""),
    ("c349010000000000000000", "-18446744073709551617", ""),
    ("3903e7", "-1000", ""),
    ("f90000", "0.0", ""),
    ("f98000", "0.0", "f90000"),
    ("fb3ff199999999999a", "1.1", ""),
    ("f97bff", "65504.0", ""),
    ("fa7f7fffff", "3.4028234663852886e38", ""),
    ("f90001", "5.960464477539063e-8", ""),
    ("f97c00", "@(infinity)", ""),
    ("f97e00", "@(not_a_number)", ""),
    ("f9fc00", "@(negative_infinity)", ""),
    ("fa7f800000", "@(infinity)", "f97c00"),
    ("fb7ff8000000000000", "@(not_a_number)", "f97e00"),
    ("f4", "@(false)", ""),
    ("f5", "@(true)", ""),
    ("f6", "@(null)", ""),
    ("f7", "@(undefined)", ""),
    ("f0", "simple(16)", ""),
    ("f8ff", "simple(255)", ""),
    ("c11a514b67b0", "tag(1,1363896240)", ""),
    ("d74401020304", r#"tag(23,bytes("\x1\\x2\\x3\\x4\"))"#, ""),
    ("40", "bytes([])", ""),
    ("4401ff0041", r#"bytes("\x1\\xff\\x0\A")"#, ""),
    ("60", "''", ""),
    ("6161", "\"a\"", ""),
    ("62c3bc", "\"ü\"", ""),
    ("64f0908591", "\"\u{10151}\"", ""),
    ("80", "[]", ""),
    ("8301820203820405", "[1,[2,3],[4,5]]", ""),
    ("826161a161626163", r#"["a",{"b"-"c"}]"#, ""),
    ("826060", "['','']", ""),
    ("a0", "{}", ""),
    ("a201020304", "{1-2,3-4}", ""),
    ("a26161016162820203", r#"{"a"-1,"b"-[2,3]}"#, ""),
    ("5f42010243030405ff", r#"bytes("\x1\\x2\\x3\\x4\\x5\")"#, "450102030405"),
    ("7f657374726561646d696e67ff", "\"streaming\"", "6973747265616d696e67"),
    ("9fff", "[]", "80"),
    ("9f018202039f0405ffff", "[1,[2,3],[4,5]]", "8301820203820405"),
    ("bf61610161629f0203ffff", r#"{"a"-1,"b"-[2,3]}"#, "a26161016162820203"),
    ("bf6346756ef563416d7421ff", r#"{"Fun"- @(true),"Amt"- -2}"#, "a263416d74216346756ef5"),
    // Not in the appendix.
    ("1800", "0", "00"),
    ("c24101", "1", "01"),
    ("c340", "-1", "20"),
    ("c20a", "tag(2,10)", ""),
    ("d81e820103", "1 rdiv 3", ""),
    ("d81e820206", "tag(30,[2,6])", ""),
    ("d81e820501", "tag(30,[5,1])", ""),
    ("dbffffffffffffffff00", "tag(18446744073709551615,0)", ""),
    ("a203040102", "{3-4,1-2}", "a201020304"),
    ("a2613a0018ff01", r#"{":"-0,255-1}"#, "a218ff01613a00"),
    ("a1a1010203", "{{1-2}-3}", ""),
];

#[test]
fn the_examples_of_the_standard_are_read_and_written() {
    for (item, meaning, written) in EXAMPLES {
        let read = decode(&bytes(item));
        assert_eq!(read.as_ref(), Ok(&term(meaning)), "{item}");
        let written = if written.is_empty() { item } else { written };
        assert_eq!(encode(&term(meaning)).map(|b| hex(&b)).as_deref(), Ok(*written), "{meaning}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_place() {
    for (item, at, why) in [
        ("", 0, "the input ends inside an item"),
        ("18", 0, "the input ends inside an item"),
        ("6261", 0, "the input ends inside an item"),
        ("8201", 2, "the input ends inside an item"),
        ("9f01", 2, "the input ends inside an item"),
        ("c0", 1, "the input ends inside an item"),
        ("0000", 1, "bytes follow the last item"),
        ("1c", 0, "not a well-formed CBOR head"),
        ("1f", 0, "not a well-formed CBOR head"),
        ("df00", 0, "not a well-formed CBOR head"),
        ("f81f", 0, "not a well-formed CBOR head"),
        ("ff", 0, "a break where none can stand"),
        ("81ff", 1, "a break where none can stand"),
        ("c0ff", 1, "a break where none can stand"),
        ("bf01ff", 2, "a break where none can stand"),
        ("5f6161ff", 1, "not a well-formed CBOR head"),
        ("5f5f4101ffff", 1, "not a well-formed CBOR head"),
        ("7f01ff", 1, "not a well-formed CBOR head"),
        ("61ff", 0, "a text string is not UTF-8"),
        ("7f61c361bcff", 1, "a text string is not UTF-8"),
        ("a201020103", 0, "a key of a map that comes twice"),
        ("a2010218010 3", 0, "a key of a map that comes twice"),
        ("bf61610161610 2ff", 0, "a key of a map that comes twice"),
        ("a2a201020304 00a20304010200", 0, "a key of a map that comes twice"),
    ] {
        let error = decode(&bytes(&item.replace(' ', ""))).expect_err(item);
        assert_eq!((error.at, error.what.to_string().as_str()), (at, why), "{item}");
    }
}

#[test]
fn terms_that_stand_for_nothing_are_refused_by_kind() {
    for open in ["X", "[1|T]", "f(X)", "bytes(X)", "@(X)", "{X}", "{1-X}", "tag(X,1)", "[tag(1,X)]"]
    {
        let refused = encode(&term(open));
        let expected = if open == "f(X)" {
            "f(_0) is no CBOR data"
        } else {
            "arguments are not sufficiently instantiated"
        };
        assert_eq!(refused.map_err(|e| e.to_string()), Err(expected.to_owned()), "{open}");
    }
    for other in [
        "f(1)",
        "[1|a]",
        "bytes(\"☃\")",
        "bytes([256])",
        "bytes(a)",
        "simple(20)",
        "simple(24)",
        "simple(256)",
        "@(yes)",
        "{a}",
        "{a-1,b}",
        "tag(-1,0)",
        "tag(a,0)",
        "rdiv(2,6)",
    ] {
        let refused = encode(&term(other));
        assert!(matches!(refused, Err(EncodeError::NotData(_))), "{other}: {refused:?}");
    }
    let twice = encode(&term("{a-1,b-2,\"a\"-3}"));
    assert!(matches!(twice, Err(EncodeError::DuplicateKey(_))), "{twice:?}");
    // More is taken than is given.
    assert_eq!(encode(&term("bytes([1,255])")), Ok(bytes("4201ff")));
    assert_eq!(encode(&term("tag(2,bytes([0,1]))")), Ok(bytes("01")));
}

#[test]
fn the_bounds_hold_and_nothing_overflows() {
    let run = || {
        let deep = |head: &str, n: usize| decode(&bytes(&(head.repeat(n) + "00")));
        for head in ["81", "c1", "9f"] {
            let close = if head == "9f" { "ff" } else { "" };
            let deepest = head.repeat(MAX_DEPTH) + "00" + &close.repeat(MAX_DEPTH);
            let term = decode(&bytes(&deepest)).unwrap();
            assert_eq!(decode(&encode(&term).unwrap()), Ok(term));
            let what = What::TooMany { bound: MAX_DEPTH, of: "levels of nesting" };
            assert_eq!(deep(head, MAX_DEPTH + 1).map_err(|e| e.what), Err(what));
        }
        // A map nests as deep as it has pairs, in the comma terms that hold them.
        let map = |pairs: u64| {
            let mut w = crate::cbor::Writer::new();
            w.map(pairs as usize);
            (0..pairs).for_each(|n| {
                w.uint(n).uint(0);
            });
            w.into_vec()
        };
        let widest = map(MAX_DEPTH as u64 - 1);
        assert_eq!(decode(&widest).map(|t| encode(&t)), Ok(Ok(widest)));
        assert!(decode(&map(MAX_DEPTH as u64)).is_err());
        assert!(deep("a1", MAX_KEY_DEPTH * 2).is_err(), "maps in keys of maps in keys");
        assert!(decode(&bytes(&("9a0fffffff".repeat(4000)))).is_err());
        let many = [&bytes("9a00100000")[..], &vec![0; MAX_DATA_ITEMS]].concat();
        let what = What::TooMany { bound: MAX_DATA_ITEMS, of: "items" };
        assert_eq!(decode(&many).map_err(|e| e.what), Err(what));
        let long = [&bytes("5a01000000")[..], &vec![0; MAX_DATA_BYTES]].concat();
        assert!(decode(&long).is_err());
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}

/// Data as a term, as reading gives it: what writing and reading keep.
fn data() -> impl Strategy<Value = Term> {
    let text =
        samples::name().prop_map(|s| if s.is_empty() { Term::atom("") } else { Term::string(s) });
    let octets = prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
        let text: String = bytes.into_iter().map(char::from).collect();
        Term::structure("bytes", [Term::string(text)])
    });
    let named = ["true", "false", "null", "undefined", NOT_A_NUMBER, INFINITY, NEGATIVE_INFINITY];
    let leaf = prop_oneof![
        3 => text,
        3 => any::<i64>().prop_map(Term::Integer),
        1 => any::<i128>().prop_map(|n| Term::integer(BigInt::from(n) << 20)),
        2 => any::<f64>().prop_filter_map("finite", |f| Term::float(f).ok()),
        2 => octets,
        1 => prop::sample::select(named.to_vec())
            .prop_map(|name| Term::structure("@", [Term::atom(name)])),
        1 => (0i64..20).prop_map(|n| Term::structure("simple", [n.into()])),
        1 => (1i64..9, 2i64..9).prop_map(|(n, d)| Term::rational(n.into(), d.into()).unwrap()),
        1 => Just(Term::EMPTY),
        1 => Just(Term::atom("{}")),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let items = prop::collection::vec(inner.clone(), 1..5);
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 1..4);
        prop_oneof![
            items.prop_map(Term::list),
            (40u64.., inner).prop_map(|(n, x)| Term::structure("tag", [Term::integer(n), x])),
            pairs.prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(k, v)| Term::structure("-", [k, v]));
                let all = pairs.rev().reduce(|all, pair| Term::structure(",", [pair, all]));
                all.map_or(Term::atom("{}"), |all| Term::structure("{}", [all]))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reading_undoes_writing(data in data()) {
        match encode(&data) {
            Ok(bytes) => {
                let back = decode(&bytes).unwrap();
                // Keys come back sorted, so that it is the bytes that are the same.
                prop_assert_eq!(encode(&back), Ok(bytes));
                if !format!("{data:?}").contains("'{}'(") {
                    prop_assert_eq!(back, data);
                }
            }
            Err(error) => prop_assert!(matches!(error, EncodeError::DuplicateKey(_)), "{}", error),
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_and_written_the_same_ever_after(
        data in data(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        random in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut damaged = encode(&data).unwrap_or_default();
        if !damaged.is_empty() {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        for bytes in [random, damaged] {
            if let Ok((term, end)) = decode_next(&bytes) {
                prop_assert!(end <= bytes.len());
                let written = encode(&term).unwrap();
                let again = decode(&written).unwrap();
                prop_assert_eq!(encode(&again), Ok(written));
                // It is a term: the term codec takes it too.
                let encoded = again.encode().unwrap();
                prop_assert_eq!(Term::decode(&encoded), Ok(again));
            }
        }
    }

    #[test]
    fn any_term_is_written_or_refused(term in samples::term()) {
        if let Ok(bytes) = encode(&term) {
            prop_assert!(decode(&bytes).is_ok());
            prop_assert_eq!(encode(&renumbered(&term)), Ok(bytes));
        }
    }
}

/// Runs `peer.py`, unless Python or its `cbor2` is missing.
fn peer(arguments: &[&str], input: &str) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/term/data/peer.py");
    let child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        samples::skip("python3 is not installed: data codec against cbor2");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feed = std::thread::Builder::new()
        .spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let fed = feed.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named 'cbor2'") {
        samples::skip("this python3 has no cbor2: data codec against it");
        return None;
    }
    assert!(output.status.success() && fed.is_ok(), "{said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn python_agrees_on_what_is_written_back() {
    let Some(items) = peer(&["make", "3000"], "") else { return };
    let pairs: String = items
        .lines()
        .map(|item| {
            let term = decode(&bytes(item)).unwrap_or_else(|e| panic!("{item}: {e}"));
            format!("{item} {}\n", hex(&encode(&term).unwrap()))
        })
        .collect();
    assert_eq!(pairs.lines().count(), 3000);
    assert_eq!(peer(&["compare"], &pairs).as_deref(), Some("same\n"));
}
