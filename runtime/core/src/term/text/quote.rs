//! How single things are spelt in canonical text: quoted names and strings, and numbers.

use num_bigint::BigInt;
use std::fmt::Write;

/// A name in single quotes.
pub(super) fn put_name(name: &str, out: &mut String) {
    put_quoted(name, b'\'', false, out);
}

/// A string in double quotes.
pub(super) fn put_string(text: &str, out: &mut String) {
    put_quoted(text, b'"', false, out);
}

/// Everything that Scryer's reader would refuse or misread is escaped: control characters, NUL
/// among them, and every space but the plain one (a raw U+00A0 ends in a syntax error). With
/// `ascii`, so is everything beyond ASCII.
pub(super) fn put_quoted(text: &str, quote: u8, ascii: bool, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push(char::from(quote));
    let is_odd = |b: u8| b < b' ' || b == b'\\' || b == quote || b >= 0x7f;
    match text.bytes().position(is_odd) {
        None => out.push_str(text),
        Some(first) => {
            out.push_str(&text[..first]);
            for c in text[first..].chars() {
                put_char(c, quote, ascii, out);
            }
        }
    }
    out.push(char::from(quote));
}

fn put_char(c: char, quote: u8, ascii: bool, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\\' => out.push_str("\\\\"),
        c if c == char::from(quote) => {
            out.push('\\');
            out.push(c);
        }
        ' ' => out.push(' '),
        c if c.is_control() || c.is_whitespace() || (ascii && !c.is_ascii()) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{:x}\\", u32::from(c));
        }
        c => out.push(c),
    }
}

/// An integer of 64 bits.
#[inline]
pub(super) fn put_integer(n: i64, out: &mut String) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        out.push('-');
    }
    out.extend(digits[at..].iter().map(|b| char::from(*b)));
}

/// A float, with the point that Prolog wants: `1.0e22`.
pub(super) fn put_float(f: f64, out: &mut String) {
    let start = out.len();
    let _ = write!(out, "{f:?}");
    let written = &out[start..];
    if let Some(e) = written.find('e').filter(|_| !written.contains('.')) {
        out.insert_str(start + e, ".0");
    }
}

/// A big integer.
pub(super) fn put_big(n: &BigInt, out: &mut String) {
    let _ = write!(out, "{n}");
}

/// A variable's name.
pub(super) fn put_variable(prefix: &str, n: u32, out: &mut String) {
    out.push_str(prefix);
    put_integer(i64::from(n), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(put: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        put(&mut out);
        out
    }

    #[test]
    fn numbers_are_spelt_as_prolog_reads_them() {
        for n in [0, 7, 10, -1, i64::MAX, i64::MIN] {
            assert_eq!(spelt(|out| put_integer(n, out)), n.to_string());
        }
        let floats = [
            (1.0, "1.0"),
            (1e22, "1.0e22"),
            (-1.5e-7, "-1.5e-7"),
            (5e-324, "5.0e-324"),
            (0.1, "0.1"),
        ];
        for (f, text) in floats {
            assert_eq!(spelt(|out| put_float(f, out)), text);
        }
    }

    #[test]
    fn quoted_items_hold_no_control_character_and_no_odd_space() {
        let odd = "a'b\"c\\\0\n\t\r\u{7f}\u{85}\u{a0}\u{2028}é\u{1f600}";
        let name = spelt(|out| put_name(odd, out));
        assert_eq!(
            name,
            "'a\\'b\"c\\\\\\x0\\\\n\\t\\xd\\\\x7f\\\\x85\\\\xa0\\\\x2028\\é\u{1f600}'"
        );
        assert_eq!(spelt(|out| put_string("\"'", out)), "\"\\\"'\"");
        assert_eq!(spelt(|out| put_variable("_A", 3, out)), "_A3");
    }
}
