//! A term into deterministic CBOR. A loop over what is still to be written: the pairs of a map are
//! written in the term's order and put in that of their keys once they are all there.

use super::super::bytes::{encode_integer, tag};
use super::super::{Term, TermError};
use super::decode::bignum;
use super::{INFINITY, MAX_DATA_BYTES, NAMED_SIMPLE, NEGATIVE_INFINITY, NOT_A_NUMBER};
use crate::cbor::Writer;

/// Why a term has no CBOR form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A variable, or a list that ends in one: an instantiation error.
    #[error("arguments are not sufficiently instantiated")]
    Variable,
    /// A term that stands for nothing in CBOR: a type error.
    #[error("{0} is no CBOR data")]
    NotData(Term),
    /// Two pairs of a map have the same key: a domain error.
    #[error("the key {0} comes twice")]
    DuplicateKey(Term),
    /// Longer than [`MAX_DATA_BYTES`] or an integer out of bounds: a resource error.
    #[error("{0}")]
    TooLong(TermError),
}

/// The bytes of one item.
pub fn encode(term: &Term) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder { w: Writer::new(), todo: vec![Todo::Item(term)], marks: Vec::new() };
    while let Some(todo) = encoder.todo.pop() {
        match todo {
            Todo::Item(term) => encoder.item(term)?,
            Todo::Items(items) => {
                if let Some((first, rest)) = items.split_first() {
                    encoder.todo.push(Todo::Items(rest));
                    encoder.item(first)?;
                }
            }
            Todo::Mark => encoder.marks.push(encoder.w.len()),
            Todo::Sort(pairs) => encoder.sort(&pairs)?,
        }
        if encoder.w.len() > MAX_DATA_BYTES {
            return Err(EncodeError::TooLong(TermError::TooLong));
        }
    }
    Ok(encoder.w.into_vec())
}

struct Encoder<'a> {
    w: Writer,
    /// What is still to be written, the next last.
    todo: Vec<Todo<'a>>,
    /// Where keys and values begin, of the maps that are being written.
    marks: Vec<usize>,
}

enum Todo<'a> {
    Item(&'a Term),
    Items(&'a [Term]),
    /// A key or a value begins here.
    Mark,
    /// The pairs of a map with these keys are written.
    Sort(Vec<&'a Term>),
}

impl<'a> Encoder<'a> {
    fn item(&mut self, term: &'a Term) -> Result<(), EncodeError> {
        match term {
            Term::Integer(n) => {
                self.w.int(*n);
            }
            Term::Big(n) => encode_integer(n, &mut self.w).map_err(EncodeError::TooLong)?,
            Term::Rational(r) => {
                self.w.tag(tag::RATIONAL).array(2);
                for n in [r.numerator(), r.denominator()] {
                    encode_integer(n, &mut self.w).map_err(EncodeError::TooLong)?;
                }
            }
            Term::Float(f) => {
                self.w.float(*f);
            }
            Term::Atom(name) if &**name == "{}" => {
                self.w.map(0);
            }
            Term::Atom(text) | Term::String(text) => {
                self.w.text(text);
            }
            Term::List(items) => {
                self.w.array(items.len());
                self.todo.push(Todo::Items(items));
            }
            Term::Var(_) => return Err(EncodeError::Variable),
            Term::Partial(_, tail) if matches!(**tail, Term::Var(_)) => {
                return Err(EncodeError::Variable);
            }
            Term::Compound(name, args) => match (&**name, &args[..]) {
                ("@" | "simple" | "bytes" | "{}", [Term::Var(_)]) => {
                    return Err(EncodeError::Variable);
                }
                ("{}", [pairs]) => self.map(pairs)?,
                ("tag", [n, content]) => self.tag(term, n, content)?,
                ("bytes", [cs]) => {
                    let bytes = byte_string(cs).ok_or_else(|| not_data(term))?;
                    self.w.bytes(&bytes);
                }
                ("simple", [Term::Integer(n)]) => match u8::try_from(*n) {
                    Ok(n @ (0..20 | 32..)) => {
                        self.w.simple(n);
                    }
                    _ => return Err(not_data(term)),
                },
                ("@", [Term::Atom(name)]) => self.named(term, name)?,
                _ => return Err(not_data(term)),
            },
            Term::Partial(..) => return Err(not_data(term)),
        }
        Ok(())
    }

    fn named(&mut self, term: &Term, name: &str) -> Result<(), EncodeError> {
        match name {
            NOT_A_NUMBER => self.w.float(f64::NAN),
            INFINITY => self.w.float(f64::INFINITY),
            NEGATIVE_INFINITY => self.w.float(f64::NEG_INFINITY),
            name => match NAMED_SIMPLE.iter().find(|(_, of)| *of == name) {
                Some((n, _)) => self.w.simple(*n),
                None => return Err(not_data(term)),
            },
        };
        Ok(())
    }

    fn tag(&mut self, term: &Term, n: &Term, content: &'a Term) -> Result<(), EncodeError> {
        if matches!(n, Term::Var(_)) {
            return Err(EncodeError::Variable);
        }
        let n = n.to_integer().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| not_data(term))?;
        match bignum(n, content) {
            Some(integer) => encode_integer(&integer, &mut self.w).map_err(EncodeError::TooLong),
            None => {
                self.w.tag(n);
                self.todo.push(Todo::Item(content));
                Ok(())
            }
        }
    }

    /// A map whose pairs stand between commas.
    fn map(&mut self, mut rest: &'a Term) -> Result<(), EncodeError> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        loop {
            let (pair, more) = match rest {
                Term::Compound(name, args) if &**name == "," && args.len() == 2 => {
                    (&args[0], Some(&args[1]))
                }
                last => (last, None),
            };
            match pair {
                Term::Compound(name, args) if &**name == "-" && args.len() == 2 => {
                    keys.push(&args[0]);
                    values.push(&args[1]);
                }
                Term::Var(_) => return Err(EncodeError::Variable),
                other => return Err(not_data(other)),
            }
            match more {
                Some(more) => rest = more,
                None => break,
            }
        }
        self.w.map(keys.len());
        self.todo.push(Todo::Sort(keys.clone()));
        for (key, value) in keys.into_iter().zip(values).rev() {
            self.todo.extend([Todo::Item(value), Todo::Mark, Todo::Item(key), Todo::Mark]);
        }
        Ok(())
    }

    /// Puts the pairs written last in the order of their keys' bytes (RFC 8949 §4.2.1).
    fn sort(&mut self, keys: &[&Term]) -> Result<(), EncodeError> {
        let marks = self.marks.split_off(self.marks.len() - 2 * keys.len());
        let Some(&start) = marks.first() else { return Ok(()) };
        let out = self.w.as_slice();
        let ends = marks.iter().skip(2).step_by(2).copied().chain([out.len()]);
        let mut pairs: Vec<_> = marks
            .chunks_exact(2)
            .zip(ends)
            .zip(keys)
            .map(|((mark, end), term)| (&out[mark[0]..mark[1]], &out[mark[0]..end], *term))
            .collect();
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_by_key(|pair| pair.0);
            if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
                return Err(EncodeError::DuplicateKey(twice[0].2.clone()));
            }
            let sorted = pairs.iter().map(|pair| pair.1).collect::<Vec<_>>().concat();
            let mut out = std::mem::take(&mut self.w).into_vec();
            out.truncate(start);
            out.extend(sorted);
            self.w = Writer::onto(out);
        }
        Ok(())
    }
}

/// The bytes that `Cs` in `bytes(Cs)` stands for: characters 0 to 255, or integers.
pub(super) fn byte_string(cs: &Term) -> Option<Vec<u8>> {
    match cs {
        Term::String(text) => text.chars().map(|c| u8::try_from(c).ok()).collect(),
        Term::List(items) => items
            .iter()
            .map(|item| match item {
                Term::Integer(n) => u8::try_from(*n).ok(),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn not_data(term: &Term) -> EncodeError {
    EncodeError::NotData(term.clone())
}
