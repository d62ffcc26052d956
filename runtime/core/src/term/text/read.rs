//! Tokens into terms: an operator-precedence reader in two states, *operand wanted* and *operator
//! wanted*, with one stack for open brackets, one for operators that wait for their right
//! argument, and one for values (`stack.rs`). Nothing recurses.
//!
//! It takes more than ISO in one point: an operator may stand for itself as an operand without
//! parentheses, as in `X = +`. Everything else that ISO refuses, it refuses.

use super::super::{MAX_TERM_BYTES, MAX_TEXT_BYTES, Term, TermError};
use super::Dialect;
use super::lex::{Fault, Lexer, SyntaxError, Token};
use super::operators::{self, Operator};
use super::stack::Stack;
use num_bigint::BigInt;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A term that was read, and its variables' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The term. Its variables are numbered by first occurrence.
    pub term: Term,
    /// The names of the named variables, with their numbers, in that order.
    pub variables: Vec<(String, u32)>,
}

/// Reads one term. The full stop at its end may be left out.
pub fn read(text: &str, dialect: Dialect) -> Result<Term, SyntaxError> {
    Reader::new(text, dialect)?.read()
}

/// Reads one term and gives the names of its variables too.
pub fn read_named(text: &str, dialect: Dialect) -> Result<Read, SyntaxError> {
    let mut reader = Reader::new(text, dialect)?;
    let term = reader.read()?;
    let mut variables: Vec<_> =
        reader.variables.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    variables.sort_by_key(|(_, n)| *n);
    Ok(Read { term, variables })
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    dialect: Dialect,
    ahead: Option<Ahead<'a>>,
    frames: Vec<Frame<'a>>,
    waiting: Vec<Waiting<'a>>,
    values: Stack,
    variables: BTreeMap<&'a str, u32>,
    next_variable: u32,
    /// Operands and operators so far, and what they are long: no more than the encoding will be.
    weight: usize,
}

/// A token that was looked at and not yet taken, with the lexer behind it.
struct Ahead<'a> {
    at: usize,
    token: Token<'a>,
    lexer: Lexer<'a>,
}

/// A bracket that is open, or the whole text.
struct Frame<'a> {
    bracket: Bracket,
    /// A compound's.
    name: Cow<'a, str>,
    at: usize,
    /// Where its values begin, and its waiting operators.
    values: usize,
    waiting: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Bracket {
    Text,
    Round,
    Curly,
    Arguments,
    List,
    /// A list, after its bar.
    Tail,
}

/// An operator whose right argument is being read.
struct Waiting<'a> {
    name: Cow<'a, str>,
    operator: Operator,
    /// How many arguments it takes.
    arity: usize,
    at: usize,
}

/// What the reader has come to.
enum State {
    OperandWanted,
    OperatorWanted,
    AtEnd,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, dialect: Dialect) -> Result<Self, SyntaxError> {
        let lexer = Lexer::new(text, dialect);
        if text.len() > MAX_TEXT_BYTES {
            return Err(lexer.error(0, Fault::TooLong));
        }
        Ok(Self {
            lexer,
            dialect,
            ahead: None,
            frames: Vec::with_capacity(4),
            waiting: Vec::new(),
            values: Stack::default(),
            variables: BTreeMap::new(),
            next_variable: 0,
            weight: 0,
        })
    }

    fn read(&mut self) -> Result<Term, SyntaxError> {
        self.open(0, Bracket::Text, "".into())?;
        let mut state = State::OperandWanted;
        loop {
            state = match state {
                State::OperandWanted => self.operand()?,
                State::OperatorWanted => self.operator()?,
                State::AtEnd => break,
            };
        }
        self.lexer.end()?;
        self.values.pop().map_err(|fault| self.lexer.error(0, fault))
    }

    /// Takes a token where an operand is wanted.
    fn operand(&mut self) -> Result<State, SyntaxError> {
        let (at, token) = self.next()?;
        let term = match token {
            Token::Name(name) => return self.name(at, name),
            Token::Variable(name) => self.variable(at, name)?,
            Token::Small(n) => Term::Integer(n),
            Token::Big(n) => Term::Big(n),
            Token::Rational(n, d) => self.rational(at, n, d)?,
            Token::Float(f) => Term::Float(f),
            Token::String(text) => Term::string(Box::from(text)),
            Token::Punctuation(b'(') => return self.open(at, Bracket::Round, "".into()),
            Token::Punctuation(b'[') if self.closes(b']')? => return self.name(at, "[]".into()),
            Token::Punctuation(b'[') => return self.open(at, Bracket::List, "".into()),
            Token::Punctuation(b'{') if self.closes(b'}')? => return self.name(at, "{}".into()),
            Token::Punctuation(b'{') => return self.open(at, Bracket::Curly, "".into()),
            Token::Punctuation(b')') if self.is_empty_compound() => {
                return Err(self.lexer.error(at, refused(TermError::NoArguments)));
            }
            other => return Err(self.unexpected(at, &other, "a term")),
        };
        self.push(at, term)
    }

    /// A name where an operand is wanted: a compound's, a sign, a prefix operator or an atom.
    fn name(&mut self, at: usize, name: Cow<'a, str>) -> Result<State, SyntaxError> {
        if self.lexer.touches(b'(') {
            self.lexer.skip();
            return self.open(at, Bracket::Arguments, name);
        }
        if name == "-"
            && let Some(term) = self.negative_number()?
        {
            return self.push(at, term);
        }
        if let Some(operator) = operators::prefix(&name)
            && self.begins_operand()?
        {
            return self.wait(Waiting { name, operator, arity: 1, at });
        }
        if name.starts_with(char::is_alphabetic) {
            self.refuse_dict(at)?;
        }
        self.push(at, Term::atom(Box::from(name)))
    }

    /// The negative number of which the sign has just been taken, if it is one. Scryer lets layout
    /// stand between them, SWI-Prolog does not.
    fn negative_number(&mut self) -> Result<Option<Term>, SyntaxError> {
        let behind_sign = self.lexer.position();
        let apart_counts = self.dialect == Dialect::Swi;
        let (at, token) = self.peek()?;
        let is_number = matches!(
            token,
            Token::Small(_) | Token::Big(_) | Token::Float(_) | Token::Rational(..)
        );
        if !is_number || (apart_counts && at != behind_sign) {
            return Ok(None);
        }
        Ok(match self.next()?.1 {
            Token::Small(n) => Some(Term::Integer(-n)),
            Token::Big(n) => Some(Term::integer(-n)),
            Token::Float(f) => Some(Term::Float(0.0 - f)),
            Token::Rational(n, d) => Some(self.rational(at, -n, d)?),
            _ => None,
        })
    }

    fn rational(&self, at: usize, n: BigInt, d: BigInt) -> Result<Term, SyntaxError> {
        Term::rational(n, d).map_err(|e| self.lexer.error(at, refused(e)))
    }

    /// Whether what comes next can be the argument of a prefix operator. If it is an infix
    /// operator, the name before it stands for itself.
    fn begins_operand(&mut self) -> Result<bool, SyntaxError> {
        self.peek()?;
        let Some(ahead) = &self.ahead else { return Ok(false) };
        Ok(match &ahead.token {
            Token::Punctuation(byte) => matches!(byte, b'(' | b'[' | b'{'),
            Token::End => false,
            Token::Name(name) => {
                operators::infix(name).is_none()
                    || operators::prefix(name).is_some()
                    || ahead.lexer.touches(b'(')
            }
            _ => true,
        })
    }

    fn variable(&mut self, at: usize, name: &'a str) -> Result<Term, SyntaxError> {
        self.refuse_dict(at)?;
        let next = self.next_variable;
        let n = if name == "_" { next } else { *self.variables.entry(name).or_insert(next) };
        self.next_variable += u32::from(n == next);
        Ok(Term::Var(n))
    }

    fn refuse_dict(&self, at: usize) -> Result<(), SyntaxError> {
        if self.dialect == Dialect::Swi && self.lexer.touches(b'{') {
            return Err(self.lexer.error(at, Fault::Refused("a dict is no ISO Prolog term")));
        }
        Ok(())
    }

    /// Takes a token where an operand is complete.
    fn operator(&mut self) -> Result<State, SyntaxError> {
        let (at, token) = self.next()?;
        match (token, self.bracket()) {
            (Token::End, Bracket::Text) => {
                self.close()?;
                Ok(State::AtEnd)
            }
            (Token::Punctuation(b','), Bracket::Arguments | Bracket::List) => {
                self.reduce(operators::TERM)?;
                Ok(State::OperandWanted)
            }
            (Token::Punctuation(b'|'), Bracket::List) => {
                self.reduce(operators::TERM)?;
                if let Some(frame) = self.frames.last_mut() {
                    frame.bracket = Bracket::Tail;
                }
                Ok(State::OperandWanted)
            }
            (Token::Punctuation(b')'), Bracket::Round | Bracket::Arguments)
            | (Token::Punctuation(b']'), Bracket::List | Bracket::Tail)
            | (Token::Punctuation(b'}'), Bracket::Curly) => {
                self.close()?;
                Ok(State::OperatorWanted)
            }
            (Token::Punctuation(b','), _) => self.infix(at, ",".into()),
            (Token::Name(name), _) => self.infix(at, name),
            (other, _) => Err(self.unexpected(at, &other, "an operator or a closing bracket")),
        }
    }

    fn infix(&mut self, at: usize, name: Cow<'a, str>) -> Result<State, SyntaxError> {
        let Some(operator) = operators::infix(&name) else {
            return Err(self.unexpected(at, &Token::Name(name), "an operator"));
        };
        self.reduce(operator.left)?;
        self.wait(Waiting { name, operator, arity: 2, at })
    }

    /// Lets an operator wait for its right argument, if its priority fits where it stands.
    fn wait(&mut self, waiting: Waiting<'a>) -> Result<State, SyntaxError> {
        let limit = match (self.waiting_here().last(), self.bracket()) {
            (Some(outer), _) => outer.operator.right,
            (None, Bracket::Text | Bracket::Round | Bracket::Curly) => operators::TERM,
            (None, Bracket::Arguments | Bracket::List | Bracket::Tail) => operators::ARGUMENT,
        };
        if waiting.operator.priority > limit {
            let fault = Fault::Priority(waiting.name.into());
            return Err(self.lexer.error(waiting.at, fault));
        }
        self.weigh(waiting.at, waiting.name.len())?;
        self.waiting.push(waiting);
        Ok(State::OperandWanted)
    }

    /// Builds the compounds of waiting operators, as long as their priority is at most this.
    fn reduce(&mut self, priority: u16) -> Result<(), SyntaxError> {
        while self.waiting_here().last().is_some_and(|w| w.operator.priority <= priority) {
            let Some(waiting) = self.waiting.pop() else { break };
            let start = self.values.len().saturating_sub(waiting.arity);
            self.values
                .compound(&waiting.name, start)
                .map_err(|fault| self.lexer.error(waiting.at, fault))?;
        }
        Ok(())
    }

    fn waiting_here(&self) -> &[Waiting<'a>] {
        let start = self.frames.last().map_or(0, |frame| frame.waiting);
        self.waiting.get(start..).unwrap_or(&[])
    }

    fn bracket(&self) -> Bracket {
        self.frames.last().map_or(Bracket::Text, |frame| frame.bracket)
    }

    fn open(
        &mut self,
        at: usize,
        bracket: Bracket,
        name: Cow<'a, str>,
    ) -> Result<State, SyntaxError> {
        // Brackets alone may be as many as the text is long.
        if self.frames.len() == MAX_TERM_BYTES {
            return Err(self.lexer.error(at, Fault::TooLong));
        }
        let (values, waiting) = (self.values.len(), self.waiting.len());
        self.frames.push(Frame { bracket, name, at, values, waiting });
        Ok(State::OperandWanted)
    }

    /// Makes one value of what stands in the innermost bracket.
    fn close(&mut self) -> Result<(), SyntaxError> {
        self.reduce(operators::TERM)?;
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let closed = match frame.bracket {
            Bracket::Text | Bracket::Round => Ok(()),
            Bracket::Curly => self.values.compound("{}", frame.values),
            Bracket::Arguments => self.values.compound(&frame.name, frame.values),
            Bracket::List => self.values.list(frame.values),
            Bracket::Tail => self.values.cells(frame.values),
        };
        closed.map_err(|fault| self.lexer.error(frame.at, fault))?;
        self.weigh(frame.at, frame.name.len())
    }

    /// Takes a closing bracket if it is all that stands in the one that was just opened.
    fn closes(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.lexer.skip_layout()?;
        let closes = self.lexer.touches(close);
        if closes {
            self.lexer.skip();
        }
        Ok(closes)
    }

    fn is_empty_compound(&self) -> bool {
        let here = (self.values.len(), self.waiting.len());
        self.frames
            .last()
            .is_some_and(|f| f.bracket == Bracket::Arguments && (f.values, f.waiting) == here)
    }

    fn push(&mut self, at: usize, term: Term) -> Result<State, SyntaxError> {
        let len = match &term {
            Term::Atom(text) | Term::String(text) => text.len(),
            Term::Big(n) => n.bits() as usize / 8,
            _ => 1,
        };
        self.weigh(at, len)?;
        self.values.push(term);
        Ok(State::OperatorWanted)
    }

    fn weigh(&mut self, at: usize, len: usize) -> Result<(), SyntaxError> {
        self.weight += len;
        if self.weight > MAX_TERM_BYTES {
            return Err(self.lexer.error(at, Fault::TooLong));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(usize, Token<'a>), SyntaxError> {
        if let Some(ahead) = self.ahead.take() {
            self.lexer = ahead.lexer;
            return Ok((ahead.at, ahead.token));
        }
        let at = self.lexer.skip_layout()?;
        Ok((at, self.lexer.next()?))
    }

    fn peek(&mut self) -> Result<(usize, &Token<'a>), SyntaxError> {
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let mut lexer = self.lexer.clone();
                let at = lexer.skip_layout()?;
                Ahead { at, token: lexer.next()?, lexer }
            }
        };
        let ahead = self.ahead.insert(ahead);
        Ok((ahead.at, &ahead.token))
    }

    #[cold]
    fn unexpected(&self, at: usize, token: &Token<'_>, expected: &'static str) -> SyntaxError {
        let found = match token {
            Token::End => return self.lexer.error(at, Fault::EndOfText),
            Token::Punctuation(byte) => char::from(*byte).to_string(),
            Token::Name(name) => name.to_string(),
            Token::Variable(_) => "variable".to_owned(),
            Token::String(_) => "string".to_owned(),
            Token::Small(_) | Token::Big(_) | Token::Rational(..) | Token::Float(_) => {
                "number".to_owned()
            }
        };
        self.lexer.error(at, Fault::Unexpected { found, expected })
    }
}

fn refused(error: TermError) -> Fault {
    match error {
        TermError::NoArguments => {
            Fault::Refused("a compound without arguments: foo() is no Prolog term, foo is")
        }
        TermError::TooManyArguments => Fault::Refused("too many arguments"),
        TermError::ZeroDenominator => Fault::Refused("a rational with denominator zero"),
        _ => Fault::Refused("no Prolog term"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{MAX_ARITY, MAX_DEPTH};
    use super::super::{WriteOptions, write};
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> Result<String, SyntaxError> {
        let mut out = String::new();
        write(&read(text, Dialect::Scryer)?, &mut out, WriteOptions::CANONICAL);
        Ok(out)
    }

    /// What the text reads as, or the place and the message of the error.
    fn shown(text: &str) -> String {
        canonical(text).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn terms_are_read_as_scryer_reads_them() {
        for (text, term) in [
            ("- 1.", "-1"),
            ("f(- 1)", "'f'(-1)"),
            ("a - 1", "'-'('a',1)"),
            ("a -1", "'-'('a',1)"),
            ("- (1)", "'-'(1)"),
            ("-(1)", "'-'(1)"),
            ("- - 1", "'-'(-1)"),
            ("1 - -1", "'-'(1,-1)"),
            ("[](a)", "'[]'('a')"),
            ("{}(a)", "'{}'('a')"),
            ("{ }", "'{}'"),
            ("[ ]", "[]"),
            ("{a,b}", "'{}'(','('a','b'))"),
            ("f(:-, a)", "'f'(':-','a')"),
            ("[-|T]", "['-'|_0]"),
            ("[a,b|[c|[d]]]", r#""abcd""#),
            ("[1,b|[c|D]]", "[1,'b','c'|_0]"),
            ("'.'(a,'.'(b,[]))", r#""ab""#),
            ("'.'(1,'.'(b,X))", "[1,'b'|_0]"),
            (r#"'.'(a,"bc")"#, r#""abc""#),
            ("'.'(a)", "'.'('a')"),
            (r#""""#, "[]"),
            ("- a ^ b", "'-'('^'('a','b'))"),
            ("-1^2", "'^'(-1,2)"),
            ("-(1)^2", "'^'('-'(1),2)"),
            ("- (1)^2", "'-'('^'(1,2))"),
            ("a:b:c", "':'('a',':'('b','c'))"),
            ("1-2-3", "'-'('-'(1,2),3)"),
            ("2^3^4", "'^'(2,'^'(3,4))"),
            (r"p :- \+ a, b", r"':-'('p',','('\\+'('a'),'b'))"),
            (":- a", "':-'('a')"),
            ("a ',' b", "','('a','b')"),
            ("- ( - )", "'-'('-')"),
            ("X = +", "'='(_0,'+')"),
            ("- = x", "'='('-','x')"),
            ("f(A,_,A,_B,_)", "'f'(_0,_1,_0,_2,_3)"),
            ("X is 1 rdiv 3", "'is'(_0,'rdiv'(1,3))"),
            ("1_000", "1000"),
            ("1_ 000", "1000"),
            ("1_0.5", "10.5"),
            ("0'a", "97"),
            ("0'''", "39"),
            ("0' ", "32"),
            (r"0'\x41\", "65"),
            ("0x1F + 0o17 + 0b101", "'+'('+'(31,15),5)"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("1.0e10", "10000000000.0"),
            ("1.5E-7", "1.5e-7"),
            ("-0.0", "0.0"),
            ("'a''b'", r"'a\'b'"),
            (r#""a""b""#, r#""a\"b""#),
            ("'a\\\nb\\n\\101\\\\x41\\'", r"'ab\nAA'"),
            ("/* c */ a % d\n .", "'a'"),
            ("a.% c", "'a'"),
            ("É", "_0"),
            ("ª", "'ª'"),
            ("a\u{301}²", "'a\u{301}²'"),
            ("'\u{a0}\0'", r"'\xa0\\x0\'"),
            ("a= \n(b:-c)", "'='('a',':-'('b','c'))"),
        ] {
            assert_eq!(shown(text), term, "{text}");
        }
    }

    #[test]
    fn what_is_no_term_is_refused_with_its_place() {
        for (text, error) in [
            ("", "line 1, column 1: the text ends inside a term"),
            ("f(a,\n  b", "line 2, column 4: the text ends inside a term"),
            ("f(a. b)", "line 1, column 4: the text ends inside a term"),
            ("a. b", "line 1, column 4: text follows the term"),
            (
                "foo()",
                "line 1, column 5: a compound without arguments: foo() is no Prolog term, foo is",
            ),
            ("f(,)", "line 1, column 3: unexpected ,, a term expected"),
            ("f (a)", "line 1, column 3: unexpected (, an operator or a closing bracket expected"),
            ("X(a)", "line 1, column 2: unexpected (, an operator or a closing bracket expected"),
            ("(a|b)", "line 1, column 3: unexpected |, an operator or a closing bracket expected"),
            ("[a|b,c]", "line 1, column 5: operator , needs parentheses here"),
            ("f(a:-b)", "line 1, column 4: operator :- needs parentheses here"),
            ("a = b = c", "line 1, column 7: operator = needs parentheses here"),
            (r"a = \+ b", r"line 1, column 5: operator \+ needs parentheses here"),
            ("a b", "line 1, column 3: unexpected b, an operator expected"),
            ("a 'b\nc'", "line 1, column 3: missing ' at the end of a quoted item"),
            (r"'\e'", "line 1, column 3: unknown escape sequence"),
            (r"'\xD800\'", "line 1, column 3: unknown escape sequence"),
            ("1.0e999", "line 1, column 1: a float that is not finite is no Prolog term"),
            ("1_a", "line 1, column 2: malformed number"),
            ("`a`", "line 1, column 1: back-quoted strings are not read"),
            ("é \u{1f600}", "line 1, column 3: unexpected character '\u{1f600}'"),
            ("/* a", "line 1, column 1: the text ends inside a term"),
            (")", "line 1, column 1: unexpected ), a term expected"),
        ] {
            assert_eq!(shown(text), error, "{text}");
        }
    }

    /// Pieces of text that meet in odd ways.
    const PIECES: &[&str] = &[
        "a", "(", ")", "[", "]", "{", "}", ",", "|", "-", "+", ":-", "=", "1", "1.5", "X", "_",
        "'.'(", "f(", "\"s\"", " ", ".", "\\+", "'", "\"", "\\", "0'", "rdiv", "1r3", "/*", "%",
        "\n",
    ];

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String, swi: bool) {
            let _ = read(&text, if swi { Dialect::Swi } else { Dialect::Scryer });
        }

        #[test]
        fn text_that_nearly_is_a_term_is_read_or_refused(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
        ) {
            let text = pieces.concat();
            let _ = read(&text, Dialect::Swi);
            if let Ok(term) = read(&text, Dialect::Scryer) {
                let again = canonical(&text).unwrap();
                prop_assert_eq!(read(&again, Dialect::Scryer), Ok(term), "{}", text);
            }
        }
    }

    #[test]
    fn the_bounds_hold_and_nothing_overflows() {
        let nested = |open: &str, close: &str, n| open.repeat(n) + "a" + &close.repeat(n);
        let fault = |text: &str| read(text, Dialect::Scryer).map_err(|e| e.what).map(|_| ());
        let run = move || {
            for (open, close) in [("f(", ")"), ("{", "}"), ("- ", ""), ("[1,", "]"), ("1-(", ")")] {
                assert_eq!(fault(&nested(open, close, MAX_DEPTH)), Ok(()), "{open}");
                let deeper = nested(open, close, MAX_DEPTH + 1);
                assert_eq!(fault(&deeper), Err(Fault::TooDeep), "{open}");
                assert!(fault(&nested(open, close, 500_000)).is_err(), "{open}");
            }
            // Brackets and cells do not nest the term, and are read in linear time.
            assert_eq!(fault(&nested("(", ")", 100_000)), Ok(()));
            assert_eq!(fault(&nested("'.'(1,", ")", 200_000)), Ok(()));
            assert_eq!(fault(&nested("[1|", "]", 200_000)), Ok(()));
            assert_eq!(fault(&format!("[{}1]", "1,".repeat(600_000))), Ok(()));
            assert_eq!(fault(&"(".repeat(MAX_TERM_BYTES + 1)), Err(Fault::TooLong));
            assert_eq!(fault(&" ".repeat(MAX_TEXT_BYTES + 1)), Err(Fault::TooLong));
            assert_eq!(fault(&"9".repeat(200_000)), Err(Fault::IntegerTooLong));
            let args = vec!["a"; MAX_ARITY + 1].join(",");
            assert!(matches!(fault(&format!("f({args})")), Err(Fault::Refused(_))));
            assert_eq!(fault(&format!("f({})", &args[2..])), Ok(()));
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(run).unwrap().join().unwrap();
    }
}
