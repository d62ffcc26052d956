//! A term's bytes straight into canonical text, with no [`Term`] between: how facts get from the
//! knowledge base into an engine, by the thousand.
//!
//! [`Term`]: super::super::Term

use super::super::MAX_DEPTH;
use super::super::bytes::{decode_bignum, decode_integer, tag};
use super::quote::{put_big, put_float, put_integer, put_name, put_string, put_variable};
use crate::cbor::{Error, Head, Reader, What};
use num_bigint::BigInt;

/// Appends the canonical text of an encoded term, variables named by `prefix` (which begins like a
/// variable, as `_` does) and their number. An error leaves `out` as it was. Bytes that are not
/// an encoded term are an error; whether they are the canonical form of one is not checked.
pub fn write_encoded(term: &[u8], out: &mut String, prefix: &str) -> Result<(), Error> {
    let start = out.len();
    let mut reader = Reader::new(term);
    let done = write(&mut reader, out, prefix).and_then(|()| reader.end());
    if done.is_err() {
        out.truncate(start);
    }
    done
}

/// What is open while its parts are written.
struct Open {
    /// How many parts are not yet written whole.
    left: usize,
    kind: Kind,
}

enum Kind {
    Arguments,
    List,
    /// The items of a partial list, which a tail follows.
    Items,
}

fn write(r: &mut Reader<'_>, out: &mut String, prefix: &str) -> Result<(), Error> {
    // The innermost is kept apart, so that a fact of atomic arguments needs no memory for it.
    let mut outer: Vec<Open> = Vec::new();
    let mut innermost: Option<Open> = None;
    loop {
        if let Some(begun) = write_item(r, out, prefix)? {
            outer.extend(innermost.replace(begun));
            if outer.len() == MAX_DEPTH {
                return Err(r.error(What::TooMany { bound: MAX_DEPTH, of: "levels of nesting" }));
            }
            continue;
        }
        // An item is whole: it may complete what is open, and that the next.
        loop {
            let Some(open) = &mut innermost else { return Ok(()) };
            open.left -= 1;
            if open.left > 0 {
                out.push(',');
                break;
            }
            match open.kind {
                Kind::Items => {
                    out.push('|');
                    *open = Open { left: 1, kind: Kind::List };
                    break;
                }
                Kind::Arguments => out.push(')'),
                Kind::List => out.push(']'),
            }
            innermost = outer.pop();
        }
    }
}

/// Writes an atomic item whole, or the beginning of one that has parts.
fn write_item(r: &mut Reader<'_>, out: &mut String, prefix: &str) -> Result<Option<Open>, Error> {
    match r.head()? {
        Head::Tag(tag::OBJECT) => return write_object(r, out, prefix),
        Head::Tag(tag::IDENTIFIER) => put_name(r.text()?, out),
        Head::Text(0) | Head::Array(0) => out.push_str("[]"),
        Head::Text(len) => put_string(r.take_text(len)?, out),
        Head::Array(len) => {
            out.push('[');
            return Ok(Some(Open { left: len, kind: Kind::List }));
        }
        Head::Uint(n) => match i64::try_from(n) {
            Ok(n) => put_integer(n, out),
            Err(_) => put_big(&n.into(), out),
        },
        Head::Negative(n) => match i64::try_from(n) {
            Ok(n) => put_integer(!n, out),
            Err(_) => put_big(&(-1 - BigInt::from(n)), out),
        },
        Head::Float(f) => put_float(f, out),
        Head::Tag(tag::RATIONAL) => {
            r.array_of(2)?;
            out.push_str("'rdiv'(");
            put_big(&decode_integer(r)?, out);
            out.push(',');
            put_big(&decode_integer(r)?, out);
            out.push(')');
        }
        Head::Tag(tag::POSITIVE_BIGNUM) => put_big(&decode_bignum(r)?.into(), out),
        Head::Tag(tag::NEGATIVE_BIGNUM) => put_big(&(-1 - BigInt::from(decode_bignum(r)?)), out),
        head @ (Head::Bytes(_) | Head::Map(_) | Head::Tag(_) | Head::Simple(_)) => {
            return Err(r.error(What::Unexpected { expected: "a term", found: head.kind() }));
        }
    }
    Ok(None)
}

/// What tag 27 stands on: a compound, a partial list, a variable.
fn write_object(r: &mut Reader<'_>, out: &mut String, prefix: &str) -> Result<Option<Open>, Error> {
    let len = r.array()?;
    if r.null() {
        put_variable(prefix, r.uint32()?, out);
        return if len == 2 { Ok(None) } else { Err(r.invalid("not a variable")) };
    }
    let name = r.text()?;
    if len < 2 {
        return Err(r.invalid("a compound without arguments"));
    }
    if len == 3 && name == "." {
        out.push('[');
        let items = r.array()?;
        let open = Open { left: items, kind: Kind::Items };
        return if items > 0 { Ok(Some(open)) } else { Err(r.invalid("a list without items")) };
    }
    put_name(name, out);
    out.push('(');
    Ok(Some(Open { left: len - 1, kind: Kind::Arguments }))
}

#[cfg(test)]
mod tests {
    use super::super::super::Term;
    use super::super::super::samples::term;
    use super::super::{WriteOptions, write};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_and_term_give_the_same_text(term in term()) {
            let bytes = term.encode().unwrap();
            let (mut straight, mut through) = (String::new(), String::new());
            write_encoded(&bytes, &mut straight, "_").unwrap();
            write(&Term::decode(&bytes).unwrap(), &mut through, WriteOptions::default());
            prop_assert_eq!(straight, through);
        }

        #[test]
        fn any_bytes_are_written_or_refused_and_leave_no_half(
            term in term(), at in any::<prop::sample::Index>(), byte: u8,
        ) {
            let mut bytes = term.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..at]] {
                let mut out = "before".to_owned();
                let done = write_encoded(bytes, &mut out, "_");
                prop_assert!(done.is_ok() || out == "before");
            }
        }
    }

    #[test]
    fn nesting_is_bounded_and_costs_no_stack() {
        let mut bytes = [0x81].repeat(MAX_DEPTH);
        bytes.push(0);
        assert_eq!(write_encoded(&bytes, &mut String::new(), "_"), Ok(()));
        bytes.insert(0, 0x81);
        assert!(write_encoded(&bytes, &mut String::new(), "_").is_err());
    }

    #[test]
    fn each_fact_may_have_variables_of_its_own() {
        let fact = Term::structure("p", [Term::Var(0), Term::Var(1), Term::Var(0)]);
        let mut out = String::new();
        write_encoded(&fact.encode().unwrap(), &mut out, "_7_").unwrap();
        assert_eq!(out, "'p'(_7_0,_7_1,_7_0)");
    }
}
