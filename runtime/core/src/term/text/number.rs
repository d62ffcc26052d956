//! Numbers: ISO's, digit groups as Scryer and SWI-Prolog have them, and SWI-Prolog's rationals.

use super::super::MAX_INTEGER_BYTES;
use super::Dialect;
use super::lex::{Fault, Lexer, SyntaxError, Token};
use num_bigint::{BigInt, BigUint};
use std::borrow::Cow;

/// Decimal digits that give integers within the bound, and a few that do not, which are caught
/// after conversion. Conversion costs quadratic time.
const MAX_DIGITS: usize = MAX_INTEGER_BYTES * 5 / 2;

impl<'a> Lexer<'a> {
    /// The number that begins here.
    pub(super) fn number(&mut self) -> Result<Token<'a>, SyntaxError> {
        let start = self.at;
        let rest = self.rest().as_bytes();
        if rest[0] == b'0' {
            let radix = match rest.get(1) {
                Some(b'\'') => return self.character_code(),
                Some(b'x') => 16,
                Some(b'o') => 8,
                Some(b'b') => 2,
                _ => 10,
            };
            let digit = rest.get(2).is_some_and(|b| char::from(*b).is_digit(radix));
            if radix != 10 && digit {
                self.at += 2;
                let digits = self.digits(|b| char::from(b).is_digit(radix));
                return self.integer(start, digits, radix).map(integer_token);
            }
        }
        let whole = self.grouped_digits()?;
        if let Some(fraction) = self.fraction() {
            return self.float(start, whole, fraction);
        }
        if self.dialect == Dialect::Swi {
            return self.swi_number(start, &whole);
        }
        self.decimal(start, &whole)
    }

    fn decimal(&self, start: usize, digits: &str) -> Result<Token<'a>, SyntaxError> {
        if digits.len() <= 18 {
            let n = digits.bytes().fold(0, |n, b| 10 * n + i64::from(b - b'0'));
            return Ok(Token::Small(n));
        }
        self.integer(start, digits, 10).map(integer_token)
    }

    fn integer(&self, start: usize, digits: &str, radix: u32) -> Result<BigInt, SyntaxError> {
        if digits.len() > MAX_DIGITS {
            return Err(self.error(start, Fault::IntegerTooLong));
        }
        let n = BigUint::parse_bytes(digits.as_bytes(), radix)
            .ok_or_else(|| self.error(start, Fault::Number))?;
        if n.bits() > 8 * MAX_INTEGER_BYTES as u64 {
            return Err(self.error(start, Fault::IntegerTooLong));
        }
        Ok(n.into())
    }

    fn digits(&mut self, is_digit: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().take_while(|b| is_digit(*b)).count();
        self.at += len;
        &rest[..len]
    }

    /// Decimal digits, in groups that underscores may join: `1_000_000`.
    fn grouped_digits(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let mut digits = Cow::Borrowed(self.digits(|b| b.is_ascii_digit()));
        while self.touches(b'_') {
            let at = self.at;
            self.at += 1;
            self.skip_layout()?;
            let more = self.digits(|b| b.is_ascii_digit());
            if more.is_empty() {
                return Err(self.error(at, Fault::Number));
            }
            digits.to_mut().push_str(more);
        }
        Ok(digits)
    }

    /// Takes a point, digits and perhaps an exponent, if they stand here.
    fn fraction(&mut self) -> Option<&'a str> {
        let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
        let start = self.at;
        let rest = self.rest().as_bytes();
        if rest.first() != Some(&b'.') || !is_digit(rest.get(1)) {
            return None;
        }
        self.at += 1;
        self.digits(|b| b.is_ascii_digit());
        let rest = self.rest().as_bytes();
        if matches!(rest.first(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(1), Some(b'+' | b'-')));
            if is_digit(rest.get(1 + sign)) {
                self.at += 1 + sign;
                self.digits(|b| b.is_ascii_digit());
            }
        }
        Some(&self.text[start..self.at])
    }

    fn float(
        &self,
        start: usize,
        whole: Cow<'_, str>,
        fraction: &str,
    ) -> Result<Token<'a>, SyntaxError> {
        if self.dialect == Dialect::Swi {
            let rest = self.rest();
            if rest.starts_with("Inf") || rest.starts_with("NaN") {
                return Err(self.error(start, Fault::Refused(NOT_FINITE)));
            }
        }
        let parsed = match whole {
            Cow::Borrowed(_) => self.text[start..self.at].parse(),
            Cow::Owned(whole) => format!("{whole}{fraction}").parse(),
        };
        match parsed {
            Ok(f) if f64::is_finite(f) => Ok(Token::Float(f)),
            Ok(_) => Err(self.error(start, Fault::Refused(NOT_FINITE))),
            Err(_) => Err(self.error(start, Fault::Number)),
        }
    }

    /// A number whose digits have been taken, and which SWI-Prolog may continue: `1r3`, `1Inf`.
    fn swi_number(&mut self, start: usize, whole: &str) -> Result<Token<'a>, SyntaxError> {
        let rest = self.rest();
        if rest.starts_with('r') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            let den = self.digits(|b| b.is_ascii_digit());
            let (num, den) = (self.integer(start, whole, 10)?, self.integer(start, den, 10)?);
            return Ok(Token::Rational(num, den));
        }
        if rest.starts_with("Inf") || rest.starts_with("NaN") {
            return Err(self.error(start, Fault::Refused(NOT_FINITE)));
        }
        self.decimal(start, whole)
    }

    /// `0'c`, which begins here.
    fn character_code(&mut self) -> Result<Token<'a>, SyntaxError> {
        let start = self.at;
        self.at += 2;
        let c = self.rest().chars().next().ok_or_else(|| self.error(start, Fault::EndOfText))?;
        self.at += c.len_utf8();
        let code = match c {
            '\\' => self.escape()?.ok_or_else(|| self.error(start, Fault::Escape))?,
            '\'' if self.touches(b'\'') => {
                self.at += 1;
                c
            }
            '\'' | '\n' => return Err(self.error(start, Fault::Number)),
            c => c,
        };
        Ok(Token::Small(i64::from(u32::from(code))))
    }
}

const NOT_FINITE: &str = "a float that is not finite is no Prolog term";

fn integer_token(n: BigInt) -> Token<'static> {
    i64::try_from(&n).map_or_else(|_| Token::Big(n), Token::Small)
}
