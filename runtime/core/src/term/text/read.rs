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
            Bracket::Arguments => self.compound(&frame),
            Bracket::List => self.values.list(frame.values),
            Bracket::Tail => self.values.cells(frame.values),
        };
        closed.map_err(|fault| self.lexer.error(frame.at, fault))?;
        self.weigh(frame.at, frame.name.len())
    }

    fn compound(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let is_swi_pair = self.dialect == Dialect::Swi && self.values.len() == frame.values + 2;
        match &*frame.name {
            "." if is_swi_pair => {
                Err(Fault::Refused("'.'/2 is a list cell in ISO Prolog and none in SWI-Prolog"))
            }
            "[|]" if is_swi_pair => self.values.cells(frame.values),
            name => self.values.compound(name, frame.values),
        }
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
