//! Prolog terms: one type, its canonical bytes, its text, and the two foreign forms it is carried
//! in (SWI-Prolog's datagrams and other people's CBOR).
//!
//! ```text
//!   text::read ─┐                        ┌─► text::write          canonical text, or for people
//!   swi::read  ─┼─► Term ─► encode ─► bytes ─► text::write_encoded   the hot path, no Term built
//!   data::decode┘     ▲                  │
//!                     └──── decode ◄─────┴─► shape::…               questions put to the bytes
//! ```
//!
//! A [`Term`] is in **normal form**: what is one thing in Scryer is one value here, so that equal
//! terms are equal values and have equal bytes. `[]`, `'[]'` and `""` are the empty list; a list
//! of one-character atoms is a [`Term::String`]; `'.'(a,[])` is `[a]`; `rdiv(1,3)` is a rational;
//! −0.0 is 0.0. The constructors see to it. The variants are public for matching; a value built
//! from them by hand that is not in normal form is refused by [`Term::encode`], never written.
//!
//! Bounds are named constants below. Depth counts what the encoding nests: a compound or a list is
//! one level, the items of a partial list are two below it.

mod bytes;
pub mod data;
#[cfg(test)]
pub(crate) mod samples;
pub mod shape;
pub mod swi;
pub mod text;
mod walk;

pub use crate::cbor::Error as DecodeError;
pub use num_bigint::BigInt;
use num_bigint::{BigUint, Sign};

/// How many compounds and lists may stand inside one another. Dropping a [`Term`] recurses this
/// deep at most, which 2 MiB of stack hold; everything else that walks one is a loop.
pub const MAX_DEPTH: usize = 4096;
/// The most bytes of one encoded term.
pub const MAX_TERM_BYTES: usize = 1 << 20;
/// The most bytes of text that are read as one term.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// The most arguments of a compound: Scryer has no more.
pub const MAX_ARITY: usize = 255;
/// The most bytes of an integer's magnitude. Decimal digits cost quadratic time.
pub const MAX_INTEGER_BYTES: usize = 64 << 10;
/// The most bytes of a rational's numerator and of its denominator. Reducing costs quadratic time;
/// a larger one stays the compound `rdiv(N, D)`, which evaluates to the same.
pub const MAX_RATIONAL_BYTES: usize = 1 << 10;

/// A Prolog term in normal form.
pub enum Term {
    /// An integer of 64 bits.
    Integer(i64),
    /// An integer outside the 64 bits.
    Big(BigInt),
    /// A rational that is no integer.
    Rational(Box<Rational>),
    /// A finite float, never −0.0.
    Float(f64),
    /// An atom, never `[]`.
    Atom(Box<str>),
    /// A non-empty list of one-character atoms.
    String(Box<str>),
    /// Any other proper list. Without items it is `[]`.
    List(Vec<Self>),
    /// A list with items whose tail is no list: `[a,b|T]`.
    Partial(Vec<Self>, Box<Self>),
    /// A compound of 1 to [`MAX_ARITY`] arguments, never `'.'/2`.
    Compound(Box<str>, Vec<Self>),
    /// A variable; the same number is the same variable within one term. The numbers mean nothing
    /// else: terms that differ in them alone have the same bytes.
    Var(u32),
}

/// A fraction in lowest terms whose denominator is 2 at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rational {
    num: BigInt,
    den: BigInt,
}

/// Why something is no term, or cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// NaN or an infinity.
    #[error("a float that is not finite is no Prolog term")]
    NotFinite,
    /// A rational over zero.
    #[error("a rational with denominator zero")]
    ZeroDenominator,
    /// `foo()`.
    #[error("a compound without arguments: foo() is no Prolog term, foo is")]
    NoArguments,
    /// More arguments than Scryer's compounds have.
    #[error("more than {MAX_ARITY} arguments")]
    TooManyArguments,
    /// Nested beyond [`MAX_DEPTH`].
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Longer than [`MAX_TERM_BYTES`].
    #[error("longer than {MAX_TERM_BYTES} bytes")]
    TooLong,
    /// An integer beyond [`MAX_INTEGER_BYTES`].
    #[error("an integer of more than {MAX_INTEGER_BYTES} bytes")]
    IntegerTooLong,
    /// Built by hand, and not in normal form.
    #[error("not in normal form: {0}")]
    NotNormal(&'static str),
}

impl Term {
    /// The empty list, which is `'[]'` and `""` too.
    pub const EMPTY: Self = Self::List(Vec::new());

    /// An integer of any size.
    pub fn integer(n: impl Into<BigInt>) -> Self {
        let n = n.into();
        match i64::try_from(&n) {
            Ok(small) => Self::Integer(small),
            Err(_) => Self::Big(n),
        }
    }

    /// A float. NaN and the infinities are no terms.
    pub fn float(f: f64) -> Result<Self, TermError> {
        // Adding positive zero turns −0.0 into 0.0 and leaves the rest as it is.
        if f.is_finite() { Ok(Self::Float(f + 0.0)) } else { Err(TermError::NotFinite) }
    }

    /// The number `num`/`den`, reduced: an integer where it is one. Beyond
    /// [`MAX_RATIONAL_BYTES`] it is the compound `rdiv(num, den)`.
    pub fn rational(num: BigInt, den: BigInt) -> Result<Self, TermError> {
        if den.sign() == Sign::NoSign {
            return Err(TermError::ZeroDenominator);
        }
        if !is_small(&num) || !is_small(&den) {
            return Ok(Self::Compound("rdiv".into(), vec![Self::integer(num), Self::integer(den)]));
        }
        let common = BigInt::from(gcd(num.magnitude().clone(), den.magnitude().clone()));
        let common = if den.sign() == Sign::Minus { -common } else { common };
        let (num, den) = (num / &common, den / common);
        Ok(match Rational::new(num, den) {
            Ok(rational) => Self::Rational(Box::new(rational)),
            Err((whole, _)) => Self::integer(whole),
        })
    }

    /// An atom; `[]` is the empty list.
    pub fn atom(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        if &*name == "[]" { Self::EMPTY } else { Self::Atom(name) }
    }

    /// A list of one-character atoms; without any it is the empty list.
    pub fn string(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::EMPTY } else { Self::String(text) }
    }

    /// A proper list.
    pub fn list(items: Vec<Self>) -> Self {
        match string_of(&items) {
            Some(text) => Self::String(text),
            None => Self::List(items),
        }
    }

    /// The list of `items` that goes on as `tail`, whatever that is. Costs the length of both.
    pub fn partial(mut items: Vec<Self>, tail: Self) -> Self {
        if items.is_empty() {
            return tail;
        }
        match tail {
            Self::List(more) => items.extend(more),
            Self::String(text) => items.extend(chars(&text)),
            Self::Partial(more, tail) => {
                items.extend(more);
                return Self::Partial(items, tail);
            }
            tail => return Self::Partial(items, Box::new(tail)),
        }
        Self::list(items)
    }

    /// A compound; `'.'(Head, Tail)` is a list cell, and `rdiv(N, D)` of two integers in lowest
    /// terms is a rational, as Scryer writes them.
    pub fn compound(name: impl Into<Box<str>>, args: Vec<Self>) -> Result<Self, TermError> {
        match args.len() {
            0 => Err(TermError::NoArguments),
            1..=MAX_ARITY => Ok(Self::compound_of(name.into(), args)),
            _ => Err(TermError::TooManyArguments),
        }
    }

    /// A compound of a known number of arguments, which therefore cannot fail.
    pub fn structure<const N: usize>(name: impl Into<Box<str>>, args: [Self; N]) -> Self {
        const { assert!(N >= 1 && N <= MAX_ARITY) }
        Self::compound_of(name.into(), Vec::from(args))
    }

    fn compound_of(name: Box<str>, args: Vec<Self>) -> Self {
        if &*name == "." && args.len() == 2 {
            let mut args = args.into_iter();
            if let (Some(head), Some(tail)) = (args.next(), args.next()) {
                return Self::partial(vec![head], tail);
            }
            return Self::EMPTY;
        }
        match Rational::of_compound(&name, &args) {
            Some(rational) => Self::Rational(Box::new(rational)),
            None => Self::Compound(name, args),
        }
    }

    /// Whether this is a one-character atom, the element of a string.
    pub fn is_char(&self) -> bool {
        matches!(self, Self::Atom(name) if is_char(name))
    }

    /// The name and the number of arguments of a predicate that has this term for a fact: an
    /// atom's (`[]` included) or a compound's. Numbers, variables and lists are no facts.
    pub fn predicate(&self) -> Option<(&str, usize)> {
        match self {
            Self::Atom(name) => Some((name, 0)),
            Self::List(items) if items.is_empty() => Some(("[]", 0)),
            Self::Compound(name, args) => Some((name, args.len())),
            _ => None,
        }
    }

    /// The principal functor of a compound; every list that has an item is a cell, `'.'/2`. `None`
    /// for what is atomic and for variables.
    pub fn functor(&self) -> Option<(&str, usize)> {
        match self {
            Self::List(items) if items.is_empty() => None,
            Self::List(_) | Self::String(_) | Self::Partial(..) => Some((".", 2)),
            Self::Compound(name, args) => Some((name, args.len())),
            _ => None,
        }
    }
}

impl Rational {
    /// Of a fraction in lowest terms with a denominator of 2 at least, both within
    /// [`MAX_RATIONAL_BYTES`]; anything else is given back.
    pub fn new(num: BigInt, den: BigInt) -> Result<Self, (BigInt, BigInt)> {
        let lowest = is_small(&num)
            && is_small(&den)
            && den > BigInt::from(1)
            && gcd(num.magnitude().clone(), den.magnitude().clone()) == BigUint::from(1u32);
        if lowest { Ok(Self { num, den }) } else { Err((num, den)) }
    }

    /// The numerator, which bears the sign.
    pub fn numerator(&self) -> &BigInt {
        &self.num
    }

    /// The denominator.
    pub fn denominator(&self) -> &BigInt {
        &self.den
    }

    /// The rational that a compound is in normal form, if it is one.
    fn of_compound(name: &str, args: &[Term]) -> Option<Self> {
        let (n, d) = match args {
            [n, d] if name == "rdiv" => (n.to_integer()?, d.to_integer()?),
            _ => return None,
        };
        Self::new(n, d).ok()
    }
}

impl Term {
    fn to_integer(&self) -> Option<BigInt> {
        match self {
            Self::Integer(n) => Some((*n).into()),
            Self::Big(n) => Some(n.clone()),
            _ => None,
        }
    }
}

impl From<i64> for Term {
    fn from(n: i64) -> Self {
        Self::Integer(n)
    }
}

/// Whether a name is one character long.
fn is_char(name: &str) -> bool {
    name.chars().next().is_some_and(|c| c.len_utf8() == name.len())
}

/// The one-character atoms of a string.
fn chars(text: &str) -> impl Iterator<Item = Term> {
    text.chars().map(|c| Term::Atom((&*c.encode_utf8(&mut [0; 4])).into()))
}

/// The string that a list of items is, if it is one.
fn string_of(items: &[Term]) -> Option<Box<str>> {
    if items.is_empty() || !items.iter().all(Term::is_char) {
        return None;
    }
    let text = items.iter().filter_map(|item| match item {
        Term::Atom(name) => Some(&**name),
        _ => None,
    });
    Some(text.collect::<String>().into())
}

fn is_small(n: &BigInt) -> bool {
    n.bits() <= 8 * MAX_RATIONAL_BYTES as u64
}

/// Euclid's algorithm.
fn gcd(mut a: BigUint, mut b: BigUint) -> BigUint {
    while b != BigUint::ZERO {
        (a, b) = (b.clone(), a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(name: &str) -> Term {
        Term::atom(name)
    }

    #[test]
    fn what_is_one_thing_in_scryer_is_one_value() {
        assert_eq!(atom("[]"), Term::EMPTY);
        assert_eq!(Term::string(""), Term::EMPTY);
        assert_eq!(Term::list(vec![]), Term::EMPTY);
        assert_eq!(Term::list(vec![atom("a"), atom("é")]), Term::String("aé".into()));
        assert_eq!(
            Term::structure(".", [atom("a"), Term::structure(".", [atom("b"), Term::EMPTY])]),
            Term::String("ab".into())
        );
        assert_eq!(Term::partial(vec![Term::Integer(1)], Term::string("ab")), {
            Term::List(vec![Term::Integer(1), atom("a"), atom("b")])
        });
        assert_eq!(
            Term::partial(vec![atom("a")], Term::partial(vec![atom("b")], Term::Var(0))),
            Term::Partial(vec![atom("a"), atom("b")], Box::new(Term::Var(0)))
        );
        assert!(matches!(Term::float(-0.0), Ok(Term::Float(f)) if f.is_sign_positive()));
        assert_eq!(Term::integer(BigInt::from(i64::MIN)), Term::Integer(i64::MIN));
        assert!(matches!(Term::integer(i128::from(i64::MIN) - 1), Term::Big(_)));
    }

    #[test]
    fn rationals_are_reduced_and_rdiv_in_lowest_terms_is_one() {
        let third = Term::rational(BigInt::from(-2), BigInt::from(-6)).unwrap();
        assert_eq!(Term::structure("rdiv", [Term::Integer(1), Term::Integer(3)]), third);
        assert_eq!(Term::rational(4.into(), (-2).into()), Ok(Term::Integer(-2)));
        // What the programmer wrote in another form is left as it is: nothing is evaluated here.
        for (n, d) in [(2, 6), (1, -3), (3, 1), (1, 0)] {
            let written = Term::structure("rdiv", [Term::Integer(n), Term::Integer(d)]);
            assert!(matches!(written, Term::Compound(..)), "{written:?}");
        }
        let large = BigInt::from(1) << (8 * MAX_RATIONAL_BYTES + 1);
        let written = Term::rational(1.into(), large);
        assert!(matches!(written, Ok(Term::Compound(..))));
    }

    #[test]
    fn what_is_no_term_is_refused_by_name() {
        assert_eq!(Term::float(f64::NAN), Err(TermError::NotFinite));
        assert_eq!(Term::float(f64::INFINITY), Err(TermError::NotFinite));
        assert_eq!(Term::compound("foo", vec![]), Err(TermError::NoArguments));
        let args = vec![Term::EMPTY; MAX_ARITY + 1];
        assert_eq!(Term::compound("foo", args), Err(TermError::TooManyArguments));
        assert_eq!(Term::rational(1.into(), 0.into()), Err(TermError::ZeroDenominator));
    }
}
