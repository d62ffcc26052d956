//! Text into tokens, after ISO 6.4 with Scryer's character classes. Names and strings without
//! escapes are borrowed from the text.

use super::super::{MAX_DEPTH, MAX_INTEGER_BYTES, MAX_TERM_BYTES, MAX_TEXT_BYTES};
use super::Dialect;
use num_bigint::BigInt;
use std::borrow::Cow;

/// Why text is no term, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub what: Fault,
}

/// The ways in which text is no term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The text ended inside a term.
    #[error("the text ends inside a term")]
    EndOfText,
    /// Something follows the term.
    #[error("text follows the term")]
    Trailing,
    /// A character that begins nothing.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A token that cannot stand there.
    #[error("unexpected {found}, {expected} expected")]
    Unexpected {
        /// The token.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// A quoted name or string without its end.
    #[error("missing {0} at the end of a quoted item")]
    MissingQuote(char),
    /// A backslash sequence that means nothing.
    #[error("unknown escape sequence")]
    Escape,
    /// A number that is none.
    #[error("malformed number")]
    Number,
    /// An operator whose argument, or whose place, is of lower priority than itself.
    #[error("operator {0} needs parentheses here")]
    Priority(String),
    /// Readable, and no term here.
    #[error("{0}")]
    Refused(&'static str),
    /// Nested beyond [`MAX_DEPTH`].
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Longer than [`MAX_TEXT_BYTES`], or than a term of [`MAX_TERM_BYTES`] can be.
    #[error("longer than {MAX_TEXT_BYTES} bytes of text or {MAX_TERM_BYTES} of term")]
    TooLong,
    /// An integer beyond [`MAX_INTEGER_BYTES`].
    #[error("an integer of more than {MAX_INTEGER_BYTES} bytes")]
    IntegerTooLong,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// Letters, symbols, a solo character, or anything in single quotes.
    Name(Cow<'a, str>),
    Variable(&'a str),
    Small(i64),
    Big(BigInt),
    Rational(BigInt, BigInt),
    Float(f64),
    String(Cow<'a, str>),
    /// One of `( ) [ ] { } , |`.
    Punctuation(u8),
    /// A full stop, or the end of the text.
    End,
}

#[derive(Clone)]
pub(super) struct Lexer<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) dialect: Dialect,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { text, at: 0, dialect }
    }

    /// Offset of what is read next.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether the very next byte is this one: what tells `f(` from `f (`.
    pub(super) fn touches(&self, byte: u8) -> bool {
        self.peek() == Some(byte)
    }

    /// Takes one byte of ASCII that [`Self::touches`].
    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    /// Skips layout and comments; gives where the next token begins.
    pub(super) fn skip_layout(&mut self) -> Result<usize, SyntaxError> {
        let bytes = self.text.as_bytes();
        loop {
            match self.peek() {
                Some(b' ' | b'\t'..=b'\r') => self.at += 1,
                Some(b'%') => {
                    let line = self.rest().find('\n').unwrap_or(self.rest().len());
                    self.at += line;
                }
                Some(b'/') if bytes.get(self.at + 1) == Some(&b'*') => {
                    let end = self.rest()[2..].find("*/");
                    self.at += 4 + end.ok_or_else(|| self.error(self.at, Fault::EndOfText))?;
                }
                _ => return Ok(self.at),
            }
        }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'a>, SyntaxError> {
        let start = self.skip_layout()?;
        let Some(first) = self.peek() else { return Ok(Token::End) };
        match first {
            b'a'..=b'z' => Ok(Token::Name(self.word())),
            b'A'..=b'Z' | b'_' => Ok(Token::Variable(self.word_str())),
            b'0'..=b'9' => self.number(),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b',' | b'|' => {
                self.at += 1;
                Ok(Token::Punctuation(first))
            }
            b'!' | b';' => {
                self.at += 1;
                Ok(Token::Name(self.text[start..self.at].into()))
            }
            b'\'' => Ok(Token::Name(self.quoted('\'')?)),
            b'"' => Ok(Token::String(self.quoted('"')?)),
            b'`' => Err(self.error(start, Fault::Refused("back-quoted strings are not read"))),
            b'.' if self.ends_here() => {
                self.at += 1;
                Ok(Token::End)
            }
            _ if is_symbol(first) => Ok(Token::Name(self.symbols())),
            _ => match self.rest().chars().next() {
                Some(c) if c.is_uppercase() => Ok(Token::Variable(self.word_str())),
                Some(c) if c.is_alphabetic() => Ok(Token::Name(self.word())),
                Some(c) if self.dialect == Dialect::Swi && is_swi_symbol(c) => {
                    Ok(Token::Name(self.symbols()))
                }
                Some(c) if self.dialect == Dialect::Swi && is_swi_solo(c) => {
                    self.at += c.len_utf8();
                    Ok(Token::Name(self.text[start..self.at].into()))
                }
                Some(c) => Err(self.error(start, Fault::Character(c))),
                None => Ok(Token::End),
            },
        }
    }

    /// Refuses anything but layout after the full stop.
    pub(super) fn end(&mut self) -> Result<(), SyntaxError> {
        let at = self.skip_layout()?;
        if at == self.text.len() { Ok(()) } else { Err(self.error(at, Fault::Trailing)) }
    }

    /// An error at an offset.
    #[cold]
    pub(super) fn error(&self, at: usize, what: Fault) -> SyntaxError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SyntaxError { line, column, what }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Whether the full stop that stands here ends the term: layout, a comment or nothing follows.
    fn ends_here(&self) -> bool {
        matches!(self.text.as_bytes().get(self.at + 1), None | Some(b' ' | b'\t'..=b'\r' | b'%'))
    }

    /// Takes a name made of symbols.
    fn symbols(&mut self) -> Cow<'a, str> {
        let start = self.at;
        loop {
            match self.peek() {
                Some(byte) if is_symbol(byte) => self.at += 1,
                Some(128..) if self.dialect == Dialect::Swi => match self.rest().chars().next() {
                    Some(c) if is_swi_symbol(c) => self.at += c.len_utf8(),
                    _ => break,
                },
                _ => break,
            }
        }
        Cow::Borrowed(&self.text[start..self.at])
    }

    fn word(&mut self) -> Cow<'a, str> {
        Cow::Borrowed(self.word_str())
    }

    /// Takes letters, digits and underscores.
    fn word_str(&mut self) -> &'a str {
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_') => self.at += 1,
                Some(128..) => match self.rest().chars().next() {
                    Some(c) if is_alphanumeric(c) => self.at += c.len_utf8(),
                    _ => break,
                },
                _ => break,
            }
        }
        &self.text[start..self.at]
    }

    /// What stands between two quotes, which it begins at.
    fn quoted(&mut self, quote: char) -> Result<Cow<'a, str>, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut taken = String::new();
        loop {
            let rest = self.rest();
            // A raw line break is taken for a forgotten quote, as ISO has it and SWI-Prolog not.
            let breaks = self.dialect == Dialect::Scryer;
            let stop = |b: &u8| *b == quote as u8 || *b == b'\\' || (breaks && *b == b'\n');
            let Some(plain) = rest.as_bytes().iter().position(stop) else {
                return Err(self.error(start, Fault::MissingQuote(quote)));
            };
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'\n' => return Err(self.error(start, Fault::MissingQuote(quote))),
                b'\\' => {
                    taken.push_str(&rest[..plain]);
                    taken.extend(self.escape()?);
                }
                _ if self.touches(quote as u8) => {
                    self.at += 1;
                    taken.push_str(&rest[..=plain]);
                }
                _ if taken.is_empty() => return Ok(Cow::Borrowed(&rest[..plain])),
                _ => {
                    taken.push_str(&rest[..plain]);
                    return Ok(Cow::Owned(taken));
                }
            }
        }
    }

    /// The character that an escape sequence stands for, after its backslash; an escaped line
    /// break stands for none.
    pub(super) fn escape(&mut self) -> Result<Option<char>, SyntaxError> {
        let start = self.at;
        let unknown = |lexer: &Self| lexer.error(start, Fault::Escape);
        let c = self.rest().chars().next().ok_or_else(|| unknown(self))?;
        self.at += c.len_utf8();
        let swi = self.dialect == Dialect::Swi;
        Ok(Some(match c {
            '\n' => return Ok(None),
            '\\' | '\'' | '"' | '`' => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'v' => '\u{b}',
            'f' => '\u{c}',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'e' if swi => '\u{1b}',
            's' if swi => ' ',
            'u' if swi => self.code(16, Some(4)).ok_or_else(|| unknown(self))?,
            'U' if swi => self.code(16, Some(8)).ok_or_else(|| unknown(self))?,
            'x' => self.code(16, None).ok_or_else(|| unknown(self))?,
            '0'..='7' => {
                self.at = start;
                self.code(8, None).ok_or_else(|| unknown(self))?
            }
            _ => return Err(unknown(self)),
        }))
    }

    /// A character given by its code: of so many digits, or up to a closing backslash.
    fn code(&mut self, radix: u32, len: Option<usize>) -> Option<char> {
        let rest = self.rest();
        let digits = match len {
            Some(len) => rest.get(..len)?,
            None => &rest[..rest.bytes().take_while(|b| char::from(*b).is_digit(radix)).count()],
        };
        // from_str_radix would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += digits.len();
        if self.touches(b'\\') && len.is_none() {
            self.at += 1;
        } else if len.is_none() && self.dialect == Dialect::Scryer {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    }
}

/// ISO's graphic characters and the backslash, which make up names like `=..`.
pub(super) fn is_symbol(byte: u8) -> bool {
    matches!(
        byte,
        b'#' | b'$'
            | b'&'
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'/'
            | b':'
            | b'<'
            | b'='
            | b'>'
            | b'?'
            | b'@'
            | b'^'
            | b'~'
            | b'\\'
    )
}

/// What SWI-Prolog 9 takes for a symbol like those of ASCII in Latin-1, which is all that its
/// datagrams hold.
fn is_swi_symbol(c: char) -> bool {
    matches!(
        c,
        '\u{a1}'..='\u{a9}' | '«' | '¬' | '®'..='±' | '´' | '¶'..='¸' | '»' | '¿' | '×' | '÷'
    )
}

/// What it takes for a name by itself.
fn is_swi_solo(c: char) -> bool {
    matches!(c, '\u{ad}' | '²' | '³' | '¹' | '¼'..='¾')
}

/// What may stand in a word beyond ASCII: anything but space and control characters, as Scryer
/// has it.
pub(super) fn is_alphanumeric(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || c == '_'
    } else {
        !c.is_whitespace() && !c.is_control()
    }
}
