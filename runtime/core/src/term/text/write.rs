//! Terms into text: canonical, or for people with operators and no needless quotes. A loop over
//! what is still to be written; nothing recurses.

use super::super::{Rational, Term};
use super::Dialect;
use super::lex::{is_alphanumeric, is_symbol};
use super::operators::{self, ARGUMENT, TERM};
use super::quote::{put_big, put_float, put_integer, put_quoted, put_variable};
use num_bigint::Sign;
use std::fmt;

/// How a term is written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions<'a> {
    /// With operators, and quotes only where they are needed, for people; else canonical, which
    /// reads the same under whatever operators there are.
    pub operators: bool,
    /// What variables' names begin with, before the number: something that a variable begins
    /// with. Terms that are read together but share no variables need different ones.
    pub variables: &'a str,
    /// For whom.
    pub dialect: Dialect,
}

impl WriteOptions<'static> {
    /// For an engine.
    pub const CANONICAL: Self = Self { operators: false, variables: "_", dialect: Dialect::Scryer };
    /// For people.
    pub const PRETTY: Self = Self { operators: true, ..Self::CANONICAL };
    /// For SWI-Prolog.
    pub const SWI: Self = Self { dialect: Dialect::Swi, ..Self::CANONICAL };
}

impl Default for WriteOptions<'static> {
    fn default() -> Self {
        Self::CANONICAL
    }
}

/// Appends a term's text, which [`read`](super::read()) takes back as the same term.
pub fn write(term: &Term, out: &mut String, options: WriteOptions<'_>) {
    let mut writer = Writer { start: out.len(), out, options, todo: Vec::new() };
    writer.term(term, TERM, Place::Whole);
    while let Some(todo) = writer.todo.pop() {
        match todo {
            Todo::Text(text) => writer.out.push_str(text),
            Todo::Operator(name) => writer.operator(name),
            Todo::Term(term, limit, place) => writer.term(term, limit, place),
            Todo::Items(items) => {
                let Some((first, rest)) = items.split_first() else { continue };
                if !rest.is_empty() {
                    writer.todo.extend([Todo::Items(rest), Todo::Text(",")]);
                }
                writer.term(first, ARGUMENT, Place::Whole);
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write(self, &mut text, WriteOptions::PRETTY);
        f.write_str(&text)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write(self, &mut text, WriteOptions::CANONICAL);
        f.write_str(&text)
    }
}

struct Writer<'a, 'o> {
    out: &'o mut String,
    /// Where this term begins in `out`.
    start: usize,
    options: WriteOptions<'o>,
    /// What is still to be written, the next last.
    todo: Vec<Todo<'a>>,
}

enum Todo<'a> {
    Text(&'static str),
    Operator(&'a str),
    /// A term, in parentheses if its priority is above this.
    Term(&'a Term, u16, Place),
    /// Terms with commas between.
    Items(&'a [Term]),
}

/// Whether a term stands between brackets and commas, or beside an operator.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Whole,
    Operand,
}

impl<'a> Writer<'a, '_> {
    fn term(&mut self, term: &'a Term, limit: u16, place: Place) {
        let parentheses = self.options.operators && is_parenthesised(term, limit, place);
        if parentheses {
            self.out.push('(');
            self.todo.push(Todo::Text(")"));
        }
        match term {
            Term::Integer(n) => {
                self.gap(if *n < 0 { '-' } else { '0' });
                put_integer(*n, self.out);
            }
            Term::Big(n) => {
                self.gap(if n.sign() == Sign::Minus { '-' } else { '0' });
                put_big(n, self.out);
            }
            Term::Float(f) => {
                self.gap(if f.is_sign_negative() { '-' } else { '0' });
                put_float(*f, self.out);
            }
            Term::Rational(rational) => self.rational(rational),
            Term::Atom(name) => self.name(name),
            Term::String(text) => put_quoted(text, b'"', self.is_ascii(), self.out),
            Term::List(items) if items.is_empty() => self.out.push_str("[]"),
            Term::List(items) => {
                self.out.push('[');
                self.todo.extend([Todo::Text("]"), Todo::Items(items)]);
            }
            Term::Partial(items, tail) => {
                self.out.push('[');
                let tail = Todo::Term(tail, ARGUMENT, Place::Whole);
                self.todo.extend([Todo::Text("]"), tail, Todo::Text("|"), Todo::Items(items)]);
            }
            Term::Compound(name, args) => self.compound(name, args),
            Term::Var(n) => {
                self.gap('_');
                put_variable(self.options.variables, *n, self.out);
            }
        }
    }

    fn compound(&mut self, name: &'a str, args: &'a [Term]) {
        match args {
            [arg] if self.options.operators && name == "{}" => {
                self.out.push('{');
                self.todo.extend([Todo::Text("}"), Todo::Term(arg, TERM, Place::Whole)]);
            }
            [left, right]
                if self.options.operators
                    && let Some(operator) = operators::infix(name) =>
            {
                self.todo.extend([
                    Todo::Term(right, operator.right, Place::Operand),
                    Todo::Operator(name),
                    Todo::Term(left, operator.left, Place::Operand),
                ]);
            }
            [arg]
                if self.options.operators
                    && let Some(operator) = operators::prefix(name)
                    && let first = first(arg, operator.right)
                    // A sign before a number is part of it, whatever stands between.
                    && !(name == "-" && first == First::Number) =>
            {
                self.name(name);
                if first == First::Parenthesis {
                    self.out.push(' ');
                }
                self.todo.push(Todo::Term(arg, operator.right, Place::Operand));
            }
            args => {
                self.name(name);
                self.out.push('(');
                self.todo.extend([Todo::Text(")"), Todo::Items(args)]);
            }
        }
    }

    fn rational(&mut self, rational: &Rational) {
        let (n, d) = (rational.numerator(), rational.denominator());
        let (before, between, after) = match self.options {
            WriteOptions { dialect: Dialect::Swi, .. } => ("", "r", ""),
            WriteOptions { operators: true, .. } => ("", " rdiv ", ""),
            _ => ("'rdiv'(", ",", ")"),
        };
        self.gap(if n.sign() == Sign::Minus { '-' } else { '0' });
        self.out.push_str(before);
        put_big(n, self.out);
        self.out.push_str(between);
        put_big(d, self.out);
        self.out.push_str(after);
    }

    fn is_ascii(&self) -> bool {
        self.options.dialect == Dialect::Swi
    }

    fn name(&mut self, name: &str) {
        match name.chars().next() {
            Some(first) if self.options.operators && is_bare(name) => {
                self.gap(first);
                self.out.push_str(name);
            }
            _ => {
                self.gap('\'');
                put_quoted(name, b'\'', self.is_ascii(), self.out);
            }
        }
    }

    /// An infix operator between its operands.
    fn operator(&mut self, name: &str) {
        if name == "," {
            self.out.push(',');
        } else if name.starts_with(is_alphanumeric) {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push(' ');
        } else {
            self.name(name);
        }
    }

    /// Keeps apart two tokens that would be read as one.
    fn gap(&mut self, next: char) {
        let last = self.out[self.start..].chars().next_back();
        let symbol = |c: char| u8::try_from(c).is_ok_and(is_symbol);
        if last.is_some_and(|last| {
            (symbol(last) && symbol(next))
                || (is_alphanumeric(last) && (is_alphanumeric(next) || next == '\''))
        }) {
            self.out.push(' ');
        }
    }
}

/// Whether an atom needs no quotes.
fn is_bare(name: &str) -> bool {
    match name {
        "{}" | "!" | ";" => true,
        "." => false,
        _ if name.starts_with("/*") => false,
        _ if name.bytes().all(is_symbol) => !name.is_empty(),
        _ => {
            name.starts_with(|c: char| c.is_alphabetic() && !c.is_uppercase())
                && name.chars().all(is_alphanumeric)
        }
    }
}

fn is_parenthesised(term: &Term, limit: u16, place: Place) -> bool {
    match term {
        // An operator that is an operand must not be taken for one that has operands.
        Term::Atom(name) => {
            place == Place::Operand
                && (operators::infix(name).is_some() || operators::prefix(name).is_some())
        }
        Term::Rational(_) => operators::infix("rdiv").is_some_and(|op| op.priority > limit),
        Term::Compound(name, args) => match args.len() {
            1 => operators::prefix(name).is_some_and(|op| op.priority > limit),
            2 => operators::infix(name).is_some_and(|op| op.priority > limit),
            _ => false,
        },
        _ => false,
    }
}

/// What the text of an operand begins with.
#[derive(PartialEq)]
enum First {
    Number,
    Parenthesis,
    Other,
}

fn first(mut term: &Term, mut limit: u16) -> First {
    loop {
        if is_parenthesised(term, limit, Place::Operand) {
            return First::Parenthesis;
        }
        match term {
            Term::Integer(_) | Term::Big(_) | Term::Float(_) | Term::Rational(_) => {
                return First::Number;
            }
            Term::Compound(name, args) => match (operators::infix(name), &args[..]) {
                (Some(operator), [left, _]) => (term, limit) = (left, operator.left),
                _ => return First::Other,
            },
            _ => return First::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{name, renumbered, term};
    use super::super::{Dialect, read, read_named};
    use super::*;
    use proptest::prelude::*;

    fn pretty(text: &str) -> String {
        read(text, Dialect::Scryer).unwrap().to_string()
    }

    fn written(term: &Term, options: WriteOptions<'_>) -> String {
        let mut out = String::new();
        write(term, &mut out, options);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn reading_undoes_writing(term in term()) {
            for options in [WriteOptions::CANONICAL, WriteOptions::PRETTY] {
                let text = written(&term, options);
                let back = read(&text, Dialect::Scryer);
                prop_assert_eq!(back.as_ref(), Ok(&renumbered(&term)), "{}", text);
                let stopped = read(&format!("{text} .\n% done"), Dialect::Scryer);
                prop_assert_eq!(stopped, back);
            }
        }

        #[test]
        fn reading_undoes_writing_where_operators_meet(term in operators()) {
            let text = term.to_string();
            prop_assert_eq!(read(&text, Dialect::Scryer), Ok(term), "{}", text);
        }

        #[test]
        fn every_name_survives_as_atom_compound_and_string(name in name()) {
            let args = vec![Term::atom(&*name), Term::string(&*name)];
            let term = Term::compound(&*name, args).unwrap();
            for options in [WriteOptions::CANONICAL, WriteOptions::PRETTY] {
                let text = written(&term, options);
                let back = read(&text, Dialect::Scryer);
                prop_assert_eq!(back.as_ref(), Ok(&term), "{}", text);
                prop_assert!(!text.contains(|c: char| c.is_control() || c == '\u{a0}'), "{:?}", text);
            }
        }
    }

    /// Terms of little else than operators, atoms that are operators, and signed numbers.
    fn operators() -> impl Strategy<Value = Term> {
        let name = prop::sample::select(
            &[
                "-", "+", "\\", "\\+", ":-", "?-", "=", "is", "mod", ",", ";", "->", "**", "^",
                ":", "|", "{}", "*", "a", "!", ".", "rdiv",
            ][..],
        );
        let leaf = prop_oneof![
            (-2i64..3).prop_map(Term::Integer),
            (-2i32..3).prop_map(|n| Term::Float(f64::from(n) + 0.5)),
            name.clone().prop_map(Term::atom),
            Just(Term::EMPTY),
        ];
        leaf.prop_recursive(6, 40, 2, move |inner| {
            (name.clone(), prop::collection::vec(inner, 1..3))
                .prop_map(|(name, args)| Term::compound(name, args).unwrap())
        })
    }

    #[test]
    fn people_see_operators_and_few_quotes_and_parentheses() {
        for text in [
            "price(eur,1-2)",
            "a:-b,c;d->e",
            "-a",
            "-(-1)",
            "-(1)",
            "-(1^2)",
            "- (1-2)",
            "1-(2-3)",
            "1-2-3",
            "a:- \\+b",
            "a= \\b",
            "\\+ (a,b)",
            "f((a,b),(c:-d))",
            "[a,b|_0]",
            "{x,y}",
            "_0 is 1 mod 2",
            "'Foo bar'('X',[])",
            "f(-,:-,+)",
            "(-)-(-)",
            "- (-)",
            "2** -1",
            "-1+2",
            "1 rdiv 3+x",
            "(1 rdiv 3)^2",
            "a:b:c",
            "\"a\\nb\"",
            "'\\x0\\'",
            "f(;,!,{},'|',',','.')",
            "a,b",
            "- (a:-b)^2",
            "p:-q",
            "'é x'",
            "日本",
            "\\ \\a",
            "f(:-(a,b,c),-(a,b,c))",
        ] {
            assert_eq!(pretty(text), text);
        }
    }

    #[test]
    fn canonical_text_quotes_every_atom() {
        let term = read("foo([a,'B'|T],\"it's\",1 rdiv -3,{x},T)", Dialect::Scryer).unwrap();
        let text = "'foo'(['a','B'|_0],\"it's\",'rdiv'(1,-3),'{}'('x'),_0)";
        assert_eq!(written(&term, WriteOptions::CANONICAL), text);
    }

    #[test]
    fn variables_keep_their_names_on_request() {
        let read = read_named("f(X, _, Y, X, _Z)", Dialect::Scryer).unwrap();
        let names = read.variables.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>();
        assert_eq!(names, [("X", 0), ("Y", 2), ("_Z", 3)]);
        assert_eq!(read.term.to_string(), "f(_0,_1,_2,_0,_3)");
    }
}
