//! A term into its canonical bytes.

use super::super::{
    MAX_ARITY, MAX_DEPTH, MAX_INTEGER_BYTES, MAX_TERM_BYTES, Rational, Term, TermError,
};
use super::tag;
use crate::cbor::Writer;
use num_bigint::{BigInt, Sign};
use std::collections::BTreeMap;

pub(super) fn encode(term: &Term, w: &mut Writer) -> Result<(), TermError> {
    let end = w.len() + MAX_TERM_BYTES;
    let mut variables = Variables::default();
    let mut walk = Walk { outer: Vec::new(), here: Level { terms: [].iter(), depth: 0 } };
    let mut next = Some(term);
    while let Some(term) = next {
        match term {
            Term::Compound(name, args) => {
                check_compound(name, args)?;
                w.tag(tag::OBJECT).array(1 + args.len()).text(name);
                walk.enter(args)?;
            }
            Term::List(items) if items.is_empty() => {
                w.array(0);
            }
            Term::List(items) => {
                if items.iter().all(Term::is_char) {
                    return Err(TermError::NotNormal("a list of characters is a string"));
                }
                w.array(items.len());
                walk.enter(items)?;
            }
            Term::Partial(items, tail) => {
                if items.is_empty() || is_list(tail) {
                    return Err(TermError::NotNormal("a partial list without items, or of a list"));
                }
                w.tag(tag::OBJECT).array(3).text(".").array(items.len());
                walk.enter(std::slice::from_ref(tail))?;
                walk.enter(items)?;
            }
            Term::Var(n) => {
                w.tag(tag::OBJECT).array(2).null().uint(u64::from(variables.number(*n)));
            }
            atomic => encode_atomic(atomic, w)?,
        }
        if w.len() > end {
            return Err(TermError::TooLong);
        }
        next = walk.next();
    }
    Ok(())
}

/// Terms side by side that are still to be written.
struct Level<'a> {
    terms: std::slice::Iter<'a, Term>,
    depth: usize,
}

/// Where the encoder is. Levels of which nothing is left are not kept, so that a fact of atomic
/// arguments needs no memory.
struct Walk<'a> {
    outer: Vec<Level<'a>>,
    here: Level<'a>,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, terms: &'a [Term]) -> Result<(), TermError> {
        let depth = self.here.depth + 1;
        if depth > MAX_DEPTH {
            return Err(TermError::TooDeep);
        }
        let outer = std::mem::replace(&mut self.here, Level { terms: terms.iter(), depth });
        if !outer.terms.as_slice().is_empty() {
            self.outer.push(outer);
        }
        Ok(())
    }

    fn next(&mut self) -> Option<&'a Term> {
        loop {
            if let Some(term) = self.here.terms.next() {
                return Some(term);
            }
            self.here = self.outer.pop()?;
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
pub(in super::super) fn encode_integer(n: &BigInt, w: &mut Writer) -> Result<(), TermError> {
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

pub(super) fn is_list(term: &Term) -> bool {
    matches!(term, Term::List(_) | Term::String(_) | Term::Partial(..))
}
