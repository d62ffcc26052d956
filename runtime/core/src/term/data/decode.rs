//! Any well-formed CBOR into a term. A loop over a stack of what is open; the library reads the
//! heads, leniently.

use super::super::bytes::tag;
use super::super::{BigInt, MAX_DEPTH, MAX_INTEGER_BYTES, Rational, Term};
use super::{
    INFINITY, MAX_DATA_BYTES, MAX_DATA_ITEMS, MAX_KEY_DEPTH, NAMED_SIMPLE, NEGATIVE_INFINITY,
    NOT_A_NUMBER, encode,
};
use crate::cbor::{Error, What};
use ciborium_ll::{Decoder, Header};
use num_bigint::BigUint;
use std::collections::BTreeSet;

/// The term that one item means; nothing may follow it.
pub fn decode(data: &[u8]) -> Result<Term, Error> {
    let (term, end) = decode_next(data)?;
    if end == data.len() { Ok(term) } else { Err(Error { at: end, what: What::Trailing }) }
}

/// The term that the first item of a sequence (RFC 8742) means, and where it ends.
pub fn decode_next(data: &[u8]) -> Result<(Term, usize), Error> {
    let mut reader = Reader { data, at: 0, items: 0, open: Vec::new(), values: Vec::new() };
    let term = reader.read()?;
    if reader.at > MAX_DATA_BYTES {
        return Err(Error { at: 0, what: What::TooMany { bound: MAX_DATA_BYTES, of: "bytes" } });
    }
    Ok((term, reader.at))
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    items: usize,
    open: Vec<Open>,
    /// Terms, each with its nesting.
    values: Vec<(Term, usize)>,
}

/// An item that is being read.
struct Open {
    kind: Kind,
    /// How many items it still wants; nothing if a break ends it.
    left: Option<usize>,
    /// Where its values begin.
    start: usize,
    at: usize,
    /// How many keys of maps this stands in.
    key_depth: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Map,
    Tag(u64),
}

impl Reader<'_> {
    fn read(&mut self) -> Result<Term, Error> {
        loop {
            let at = self.at;
            let header = self.header()?;
            let whole = match header {
                Header::Break => Some(self.close(at)?),
                header => self.begin(at, header)?,
            };
            let Some(mut value) = whole else { continue };
            // A value may complete what it is part of, and that the next.
            loop {
                let Some(open) = self.open.last_mut() else { return Ok(value.0) };
                self.values.push(value);
                open.left = open.left.map(|left| left - 1);
                if open.left != Some(0) {
                    break;
                }
                value = self.complete()?;
            }
        }
    }

    fn header(&mut self) -> Result<Header, Error> {
        let at = self.at;
        let rest = self.data.get(at..).unwrap_or(&[]);
        let mut decoder = Decoder::from(rest);
        let header = decoder.pull().map_err(|e| match e {
            ciborium_ll::Error::Io(_) => Error { at, what: What::Truncated },
            ciborium_ll::Error::Syntax(_) => Error { at, what: What::Malformed },
        })?;
        let len = decoder.offset();
        // RFC 8949 §3.3: two bytes do not encode a simple value below 32.
        if len == 2 && matches!(header, Header::Simple(0..32)) {
            return Err(Error { at, what: What::Malformed });
        }
        self.at += len;
        Ok(header)
    }

    /// The value of an atomic item, or nothing if its parts follow.
    fn begin(&mut self, at: usize, header: Header) -> Result<Option<(Term, usize)>, Error> {
        self.items += 1;
        if self.items > MAX_DATA_ITEMS {
            return Err(Error { at, what: What::TooMany { bound: MAX_DATA_ITEMS, of: "items" } });
        }
        let (term, depth) = match header {
            Header::Positive(n) => (Term::integer(n), 0),
            Header::Negative(n) => (Term::integer(-1 - BigInt::from(n)), 0),
            Header::Float(f) => match Term::float(f) {
                Ok(term) => (term, 0),
                Err(_) if f.is_nan() => (named(NOT_A_NUMBER), 1),
                Err(_) if f > 0.0 => (named(INFINITY), 1),
                Err(_) => (named(NEGATIVE_INFINITY), 1),
            },
            Header::Simple(n) => match NAMED_SIMPLE.iter().find(|(of, _)| *of == n) {
                Some((_, name)) => (named(name), 1),
                None => (Term::structure("simple", [Term::Integer(n.into())]), 1),
            },
            Header::Bytes(len) => {
                let bytes = self.string(at, len, |header| match header {
                    Header::Bytes(Some(len)) => Some(len),
                    _ => None,
                })?;
                let text: String = bytes.into_iter().map(char::from).collect();
                (Term::structure("bytes", [Term::string(text)]), 1)
            }
            Header::Text(len) => {
                let text = self.text(at, len)?;
                // "" would be the empty array.
                (if text.is_empty() { Term::atom("") } else { Term::string(text) }, 0)
            }
            Header::Tag(n) => {
                self.open(at, Kind::Tag(n), Some(1))?;
                return Ok(None);
            }
            Header::Array(len) => {
                self.open(at, Kind::Array, len)?;
                return self.close_if_empty(len);
            }
            Header::Map(len) => {
                self.open(at, Kind::Map, len.map(|pairs| pairs.saturating_mul(2)))?;
                return self.close_if_empty(len);
            }
            Header::Break => return Err(Error { at, what: What::Malformed }),
        };
        Ok(Some((term, depth)))
    }

    fn open(&mut self, at: usize, kind: Kind, left: Option<usize>) -> Result<(), Error> {
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(at));
        }
        let key_depth = self.open.last().map_or(0, |outer| {
            let is_key = (self.values.len() - outer.start).is_multiple_of(2);
            outer.key_depth + usize::from(outer.kind == Kind::Map && is_key)
        });
        if key_depth > MAX_KEY_DEPTH {
            let of = "levels of maps in keys";
            return Err(Error { at, what: What::TooMany { bound: MAX_KEY_DEPTH, of } });
        }
        self.open.push(Open { kind, left, start: self.values.len(), at, key_depth });
        Ok(())
    }

    fn close_if_empty(&mut self, len: Option<usize>) -> Result<Option<(Term, usize)>, Error> {
        if len == Some(0) { self.complete().map(Some) } else { Ok(None) }
    }

    /// What a break at `at` ends.
    fn close(&mut self, at: usize) -> Result<(Term, usize), Error> {
        match self.open.last() {
            Some(Open { left: None, kind, start, .. })
                if *kind == Kind::Array || (self.values.len() - start).is_multiple_of(2) =>
            {
                self.complete()
            }
            _ => Err(Error { at, what: What::Invalid("a break where none can stand") }),
        }
    }

    /// The value of the innermost item, whose parts have all been read.
    fn complete(&mut self) -> Result<(Term, usize), Error> {
        let Some(Open { kind, start, at, .. }) = self.open.pop() else {
            return Err(Error { at: self.at, what: What::Malformed });
        };
        let parts = self.values.split_off(start);
        let (term, depth) = match kind {
            Kind::Array => array(parts),
            Kind::Map => map(at, parts)?,
            Kind::Tag(n) => tagged(at, n, parts)?,
        };
        if depth > MAX_DEPTH { Err(too_deep(at)) } else { Ok((term, depth)) }
    }

    fn text(&mut self, at: usize, len: Option<usize>) -> Result<String, Error> {
        let not_utf8 = Error { at, what: What::NotUtf8 };
        if len.is_some() {
            let bytes = self.string(at, len, |_| None)?;
            return String::from_utf8(bytes).map_err(|_| not_utf8);
        }
        // RFC 8949 §3.2.3: no character is split between chunks, so each is UTF-8 by itself.
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.header()? {
                Header::Break => return Ok(text),
                Header::Text(len @ Some(_)) => text.push_str(&self.text(at, len)?),
                _ => return Err(Error { at, what: What::Malformed }),
            }
        }
    }

    /// The bytes of a string: so many, or chunks up to a break.
    fn string(
        &mut self,
        at: usize,
        len: Option<usize>,
        chunk: fn(Header) -> Option<usize>,
    ) -> Result<Vec<u8>, Error> {
        if let Some(len) = len {
            let end = self.at.saturating_add(len);
            let bytes = self.data.get(self.at..end);
            let bytes = bytes.ok_or(Error { at, what: What::Truncated })?;
            self.at = end;
            return Ok(bytes.to_vec());
        }
        let mut whole = Vec::new();
        loop {
            let at = self.at;
            match self.header()? {
                Header::Break => return Ok(whole),
                header => {
                    let len = chunk(header).ok_or(Error { at, what: What::Malformed })?;
                    whole.extend(self.string(at, Some(len), chunk)?);
                }
            }
        }
    }
}

fn array(parts: Vec<(Term, usize)>) -> (Term, usize) {
    let depth = parts.iter().map(|(_, depth)| depth + 1).max().unwrap_or(0);
    (Term::list(parts.into_iter().map(|(term, _)| term).collect()), depth)
}

fn map(at: usize, parts: Vec<(Term, usize)>) -> Result<(Term, usize), Error> {
    let mut keys = BTreeSet::new();
    let mut pairs = Vec::with_capacity(parts.len() / 2);
    let mut parts = parts.into_iter();
    while let (Some((key, key_depth)), Some((value, depth))) = (parts.next(), parts.next()) {
        let bytes = encode(&key);
        let bytes = bytes.map_err(|_| Error { at, what: What::Invalid("a key of a map") })?;
        if !keys.insert(bytes) {
            return Err(Error { at, what: What::Invalid("a key of a map that comes twice") });
        }
        pairs.push((Term::structure("-", [key, value]), key_depth.max(depth) + 1));
    }
    let Some((mut all, mut depth)) = pairs.pop() else { return Ok((Term::atom("{}"), 0)) };
    while let Some((pair, pair_depth)) = pairs.pop() {
        all = Term::structure(",", [pair, all]);
        depth = pair_depth.max(depth) + 1;
    }
    Ok((Term::structure("{}", [all]), depth + 1))
}

fn tagged(at: usize, n: u64, parts: Vec<(Term, usize)>) -> Result<(Term, usize), Error> {
    let Some((content, depth)) = parts.into_iter().next() else {
        return Err(Error { at, what: What::Truncated });
    };
    if let Some(integer) = bignum(n, &content) {
        let bound = 8 * MAX_INTEGER_BYTES as u64;
        if integer.bits() > bound {
            let what = What::TooMany { bound: MAX_INTEGER_BYTES, of: "bytes of an integer" };
            return Err(Error { at, what });
        }
        return Ok((Term::integer(integer), 0));
    }
    if n == tag::RATIONAL
        && let Term::List(items) = &content
        && let [num, den] = &items[..]
        && let (Some(num), Some(den)) = (num.to_integer(), den.to_integer())
        && let Ok(rational) = Rational::new(num, den)
    {
        return Ok((Term::Rational(Box::new(rational)), 0));
    }
    Ok((Term::structure("tag", [Term::integer(n), content]), depth + 1))
}

/// The integer that tag `n` on this content is, if it is one.
pub(super) fn bignum(n: u64, content: &Term) -> Option<BigInt> {
    if n != tag::POSITIVE_BIGNUM && n != tag::NEGATIVE_BIGNUM {
        return None;
    }
    let Term::Compound(name, args) = content else { return None };
    let bytes = match (&**name, &args[..]) {
        ("bytes", [cs]) => encode::byte_string(cs)?,
        _ => return None,
    };
    let magnitude = BigInt::from(BigUint::from_bytes_be(&bytes));
    Some(if n == tag::POSITIVE_BIGNUM { magnitude } else { -1 - magnitude })
}

fn named(name: &str) -> Term {
    Term::structure("@", [Term::atom(name)])
}

fn too_deep(at: usize) -> Error {
    Error { at, what: What::TooMany { bound: MAX_DEPTH, of: "levels of nesting" } }
}
