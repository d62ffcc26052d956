//! Canonical bytes into the term they are of.

use super::super::{MAX_ARITY, MAX_DEPTH, MAX_INTEGER_BYTES, MAX_TERM_BYTES, Rational, Term};
use super::encode::is_list;
use super::tag;
use crate::cbor::{Error, Head, Reader, What};
use num_bigint::{BigInt, BigUint};

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

pub(super) fn decode(r: &mut Reader<'_>) -> Result<Term, Error> {
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

pub(in super::super) fn decode_integer(r: &mut Reader<'_>) -> Result<BigInt, Error> {
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
pub(in super::super) fn decode_bignum(r: &mut Reader<'_>) -> Result<BigUint, Error> {
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

pub(super) fn too_long(at: usize) -> Error {
    Error { at, what: What::TooMany { bound: MAX_TERM_BYTES, of: "bytes of a term" } }
}
