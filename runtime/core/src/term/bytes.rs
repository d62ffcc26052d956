//! The term codec: canonical bytes of a term and back.
//!
//! ```text
//! integer                 int, or tag 2/3 beyond 64 bits
//! float                   the shortest of the three widths that is exact
//! rational                tag 30 [n, d]
//! atom                    tag 39 on a text string;   [] is the empty array
//! string                  text string
//! list                    array
//! partial list            tag 27 [".", [item…], tail]
//! compound                tag 27 [name, argument…]
//! variable                tag 27 [null, n], numbered by first occurrence
//! ```
//!
//! It is injective and deterministic: equal terms have equal bytes, unequal ones unequal bytes,
//! and any byte string either decodes to a term that encodes to the same bytes or is refused.
//! A partial list cannot be taken for a compound `'.'/2`, which does not exist: it is a list cell.
//! Both ways are loops over a stack of their own, so depth costs memory, which [`MAX_DEPTH`]
//! bounds, and never the thread's stack. Nothing is reserved on the word of a head.

use super::{MAX_ARITY, MAX_DEPTH, MAX_INTEGER_BYTES, MAX_TERM_BYTES, Rational, Term, TermError};
use crate::cbor::{Error, Head, Reader, What, Writer};
use num_bigint::{BigInt, BigUint, Sign};
use std::collections::BTreeMap;

/// Tags of RFC 8949 §3.4.3 and of the IANA registry that the codec uses.
pub(super) mod tag {
    pub(crate) const POSITIVE_BIGNUM: u64 = 2;
    pub(crate) const NEGATIVE_BIGNUM: u64 = 3;
    pub(crate) const OBJECT: u64 = 27;
    pub(crate) const RATIONAL: u64 = 30;
    pub(crate) const IDENTIFIER: u64 = 39;
}

impl Term {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TermError> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out)?;
        Ok(out)
    }

    /// Appends the canonical bytes to `out`, which an error leaves as it was.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), TermError> {
        let start = out.len();
        let mut writer = Writer::onto(std::mem::take(out));
        let done = encode(self, &mut writer);
        *out = writer.into_vec();
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// The term that these bytes are the canonical form of.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let term = Self::decode_from(&mut reader)?;
        reader.end()?;
        Ok(term)
    }

    /// The term that stands next in `reader`.
    pub fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Error> {
        decode(reader)
    }
}

fn encode(term: &Term, w: &mut Writer) -> Result<(), TermError> {
    let end = w.len() + MAX_TERM_BYTES;
    let mut variables = Variables::default();
    let mut outer: Vec<std::slice::Iter<'_, Term>> = Vec::new();
    let mut siblings = std::slice::from_ref(term).iter();
    loop {
        let Some(term) = siblings.next() else {
            match outer.pop() {
                Some(next) => siblings = next,
                None => return Ok(()),
            }
            continue;
        };
        match term {
            Term::Compound(name, args) => {
                check_compound(name, args)?;
                w.tag(tag::OBJECT).array(1 + args.len()).text(name);
                outer.push(std::mem::replace(&mut siblings, args.iter()));
            }
            Term::List(items) if items.is_empty() => {
                w.array(0);
            }
            Term::List(items) => {
                if items.iter().all(Term::is_char) {
                    return Err(TermError::NotNormal("a list of characters is a string"));
                }
                w.array(items.len());
                outer.push(std::mem::replace(&mut siblings, items.iter()));
            }
            Term::Partial(items, tail) => {
                if items.is_empty() || is_list(tail) {
                    return Err(TermError::NotNormal(
                        "a partial list without items or with a list for tail",
                    ));
                }
                w.tag(tag::OBJECT).array(3).text(".").array(items.len());
                outer.push(std::mem::replace(&mut siblings, items.iter()));
                outer.push(std::slice::from_ref(&**tail).iter());
            }
            Term::Var(n) => {
                w.tag(tag::OBJECT).array(2).null().uint(u64::from(variables.number(*n)));
            }
            atomic => encode_atomic(atomic, w)?,
        }
        if outer.len() > MAX_DEPTH {
            return Err(TermError::TooDeep);
        }
        if w.len() > end {
            return Err(TermError::TooLong);
        }
    }
}

fn check_compound(name: &str, args: &[Term]) -> Result<(), TermError> {
    match args.len() {
        0 => Err(TermError::NoArguments),
        2 if name == "." => Err(TermError::NotNormal("'.'/2 is a list cell")),
        2 if Rational::of_compound(name, args).is_some() => {
            Err(TermError::NotNormal("rdiv/2 of integers in lowest terms is a rational"))
        }
        1..=MAX_ARITY => Ok(()),
        _ => Err(TermError::TooManyArguments),
    }
}

fn encode_atomic(term: &Term, w: &mut Writer) -> Result<(), TermError> {
    match term {
        Term::Integer(n) => {
            w.int(*n);
        }
        Term::Atom(name) if &**name == "[]" => {
            return Err(TermError::NotNormal("[] is the empty list"));
        }
        Term::Atom(name) => {
            w.tag(tag::IDENTIFIER).text(name);
        }
        Term::String(text) if text.is_empty() => {
            return Err(TermError::NotNormal("\"\" is the empty list"));
        }
        Term::String(text) => {
            w.text(text);
        }
        Term::Float(f) if !f.is_finite() => return Err(TermError::NotFinite),
        Term::Float(f) => {
            w.float(f + 0.0);
        }
        Term::Big(n) if i64::try_from(n).is_ok() => {
            return Err(TermError::NotNormal("an integer of 64 bits is no bignum"));
        }
        Term::Big(n) => encode_integer(n, w)?,
        Term::Rational(r) => {
            w.tag(tag::RATIONAL).array(2);
            encode_integer(&r.num, w)?;
            encode_integer(&r.den, w)?;
        }
        Term::List(_) | Term::Partial(..) | Term::Compound(..) | Term::Var(_) => {}
    }
    Ok(())
}

/// An integer in the shortest form: RFC 8949 §3.4.3 wants no bignum where an int would do.
pub(super) fn encode_integer(n: &BigInt, w: &mut Writer) -> Result<(), TermError> {
    // RFC 8949 §3.1: negative integers are kept as -1 - n.
    let (negative, magnitude) = match n.sign() {
        Sign::Minus => (true, n.magnitude() - 1u32),
        Sign::NoSign | Sign::Plus => (false, n.magnitude().clone()),
    };
    if magnitude.bits() > 8 * MAX_INTEGER_BYTES as u64 {
        return Err(TermError::IntegerTooLong);
    }
    match (negative, u64::try_from(&magnitude)) {
        (false, Ok(n)) => w.uint(n),
        (true, Ok(n)) => w.negative(n),
        (false, Err(_)) => w.tag(tag::POSITIVE_BIGNUM).bytes(&magnitude.to_bytes_be()),
        (true, Err(_)) => w.tag(tag::NEGATIVE_BIGNUM).bytes(&magnitude.to_bytes_be()),
    };
    Ok(())
}

/// Numbers variables by first occurrence.
#[derive(Default)]
struct Variables(BTreeMap<u32, u32>);

impl Variables {
    fn number(&mut self, variable: u32) -> u32 {
        // There are at most as many as there are 32-bit numbers.
        let next = self.0.len() as u32;
        *self.0.entry(variable).or_insert(next)
    }
}

fn is_list(term: &Term) -> bool {
    matches!(term, Term::List(_) | Term::String(_) | Term::Partial(..))
}

/// What is being read, while its parts are.
struct Frame<'a> {
    kind: Kind<'a>,
    /// How many parts are still to come.
    left: usize,
    /// Where its parts begin on the stack of values.
    start: usize,
    /// Offset of its head, for errors.
    at: usize,
}

enum Kind<'a> {
    List,
    Compound(&'a str),
    /// Its parts are the items, as a list that need not be normal, and the tail.
    Partial,
    /// The items of a partial list.
    Items,
}

/// What one head begins.
enum Begun<'a> {
    Whole(Term),
    Parts(Kind<'a>, usize),
}

fn decode(r: &mut Reader<'_>) -> Result<Term, Error> {
    let begin = r.position();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut values: Vec<Term> = Vec::new();
    let mut variables = 0;
    loop {
        let at = r.position();
        if at - begin > MAX_TERM_BYTES {
            return Err(too_long(begin));
        }
        let mut value = match begin_item(r, &mut variables)? {
            Begun::Whole(value) => value,
            Begun::Parts(kind, left) => {
                let start = values.len();
                if matches!(kind, Kind::Items) {
                    frames.push(Frame { kind: Kind::Partial, left: 2, start, at });
                }
                frames.push(Frame { kind, left, start, at });
                if frames.len() > MAX_DEPTH {
                    let what = What::TooMany { bound: MAX_DEPTH, of: "levels of nesting" };
                    return Err(Error { at, what });
                }
                continue;
            }
        };
        // A value may complete the frame it is part of, and that one the next.
        loop {
            let Some(frame) = frames.last_mut() else {
                let whole = r.position() - begin <= MAX_TERM_BYTES;
                return if whole { Ok(value) } else { Err(too_long(begin)) };
            };
            values.push(value);
            frame.left -= 1;
            if frame.left > 0 {
                break;
            }
            value = complete(frame, &mut values)?;
            frames.pop();
        }
    }
}

fn begin_item<'a>(r: &mut Reader<'a>, variables: &mut u32) -> Result<Begun<'a>, Error> {
    let at = r.position();
    let head = r.head()?;
    let value = match head {
        Head::Tag(tag::OBJECT) => return begin_object(r, at, variables),
        Head::Tag(tag::IDENTIFIER) => {
            let name = r.text()?;
            if name == "[]" {
                return Err(invalid(at, "[] is the empty array"));
            }
            Term::Atom(name.into())
        }
        Head::Text(0) => return Err(invalid(at, "an empty string is the empty array")),
        Head::Text(len) => Term::String(r.take_text(len)?.into()),
        Head::Array(0) => Term::EMPTY,
        Head::Array(len) => return Ok(Begun::Parts(Kind::List, len)),
        Head::Float(f) if !f.is_finite() || (f == 0.0 && f.is_sign_negative()) => {
            return Err(invalid(at, "NaN, infinities and -0.0 are no terms"));
        }
        Head::Float(f) => Term::Float(f),
        Head::Tag(tag::RATIONAL) => {
            r.array_of(2)?;
            let (num, den) = (decode_integer(r)?, decode_integer(r)?);
            match Rational::new(num, den) {
                Ok(rational) => Term::Rational(Box::new(rational)),
                Err(_) => return Err(invalid(at, "a rational that is not in lowest terms")),
            }
        }
        Head::Uint(n) => match i64::try_from(n) {
            Ok(n) => Term::Integer(n),
            Err(_) => Term::Big(n.into()),
        },
        Head::Negative(n) => match i64::try_from(n) {
            Ok(n) => Term::Integer(!n),
            Err(_) => Term::Big(-1 - BigInt::from(n)),
        },
        Head::Tag(tag::POSITIVE_BIGNUM) => Term::Big(decode_bignum(r)?.into()),
        Head::Tag(tag::NEGATIVE_BIGNUM) => Term::Big(-1 - BigInt::from(decode_bignum(r)?)),
        Head::Bytes(_) | Head::Map(_) | Head::Tag(_) | Head::Simple(_) => {
            return Err(Error {
                at,
                what: What::Unexpected { expected: "a term", found: head.kind() },
            });
        }
    };
    Ok(Begun::Whole(value))
}

/// What tag 27 stands on: a compound, a partial list, a variable.
fn begin_object<'a>(
    r: &mut Reader<'a>,
    at: usize,
    variables: &mut u32,
) -> Result<Begun<'a>, Error> {
    let len = r.array()?;
    if r.null() {
        let number = r.uint32()?;
        if len != 2 || number > *variables {
            return Err(invalid(at, "variables are numbered by first occurrence"));
        }
        *variables += u32::from(number == *variables);
        return Ok(Begun::Whole(Term::Var(number)));
    }
    let name = r.text()?;
    match len {
        0 | 1 => Err(invalid(at, "a compound without arguments: foo() is no term")),
        3 if name == "." => match r.array()? {
            0 => Err(invalid(at, "a partial list without items")),
            items => Ok(Begun::Parts(Kind::Items, items)),
        },
        // A compound's arity is one less than the length.
        len if len > MAX_ARITY + 1 => {
            Err(Error { at, what: What::TooMany { bound: MAX_ARITY, of: "arguments" } })
        }
        len => Ok(Begun::Parts(Kind::Compound(name), len - 1)),
    }
}

/// The term whose parts have all been read.
fn complete(frame: &Frame<'_>, values: &mut Vec<Term>) -> Result<Term, Error> {
    let at = frame.at;
    let mut parts = values.drain(frame.start..);
    match frame.kind {
        Kind::Compound(name) => {
            let args: Vec<_> = parts.collect();
            if Rational::of_compound(name, &args).is_some() {
                return Err(invalid(at, "rdiv/2 of integers in lowest terms is a rational"));
            }
            Ok(Term::Compound(name.into(), args))
        }
        Kind::List => {
            let items: Vec<_> = parts.collect();
            if items.iter().all(Term::is_char) {
                return Err(invalid(at, "a list of characters is a text string"));
            }
            Ok(Term::List(items))
        }
        Kind::Items => Ok(Term::List(parts.collect())),
        Kind::Partial => match (parts.next(), parts.next()) {
            (Some(Term::List(items)), Some(tail)) if !is_list(&tail) => {
                Ok(Term::Partial(items, Box::new(tail)))
            }
            _ => Err(invalid(at, "a partial list whose tail is a list")),
        },
    }
}

pub(super) fn decode_integer(r: &mut Reader<'_>) -> Result<BigInt, Error> {
    let at = r.position();
    match r.head()? {
        Head::Uint(n) => Ok(n.into()),
        Head::Negative(n) => Ok(-1 - BigInt::from(n)),
        Head::Tag(tag::POSITIVE_BIGNUM) => Ok(decode_bignum(r)?.into()),
        Head::Tag(tag::NEGATIVE_BIGNUM) => Ok(-1 - BigInt::from(decode_bignum(r)?)),
        head => {
            let what = What::Unexpected { expected: "an integer", found: head.kind() };
            Err(Error { at, what })
        }
    }
}

/// The byte string of a bignum, which no int could hold.
pub(super) fn decode_bignum(r: &mut Reader<'_>) -> Result<BigUint, Error> {
    let at = r.position();
    let bytes = r.bytes()?;
    if bytes.len() <= size_of::<u64>() || bytes.first() == Some(&0) {
        return Err(Error { at, what: What::NotDeterministic });
    }
    if bytes.len() > MAX_INTEGER_BYTES {
        return Err(Error {
            at,
            what: What::TooMany { bound: MAX_INTEGER_BYTES, of: "bytes of an integer" },
        });
    }
    Ok(BigUint::from_bytes_be(bytes))
}

fn invalid(at: usize, why: &'static str) -> Error {
    Error { at, what: What::Invalid(why) }
}

fn too_long(at: usize) -> Error {
    Error { at, what: What::TooMany { bound: MAX_TERM_BYTES, of: "bytes of a term" } }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{name, renumbered, term};
    use super::*;
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
            (
                &[0xd8, 27, 0x83, 0x61, b'.', 0x81, 1, 0x61, b'a'],
                "a partial list whose tail is a list",
            ),
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
    }

    #[test]
    fn the_bound_of_depth_is_the_same_both_ways_and_two_mebibytes_of_stack_hold_it() {
        let run = || {
            for (wrap, levels) in [
                (compound as fn(Term) -> Term, MAX_DEPTH),
                (list, MAX_DEPTH),
                (partial, MAX_DEPTH / 2),
            ] {
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
        for head in
            [&[0x9b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[0x9a, 0, 0xf, 0xff, 0xff]]
        {
            let bytes = head.repeat(MAX_DEPTH);
            assert!(Term::decode(&bytes).is_err());
        }
    }
}
