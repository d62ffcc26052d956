//! CDDL (RFC 8610), as much of it as our formats are described in: choices, tags, arrays with
//! occurrences and members' names, literals, `.size` and `.ne`. Published validators were tried and let `foo()` pass.

#![expect(clippy::expect_used, clippy::panic, reason = "a schema that is broken fails the test")]

use std::collections::BTreeMap;
use synod_core::cbor::{Head, Reader};

pub(crate) struct Schema {
    rules: BTreeMap<String, Type>,
}

#[derive(Debug)]
enum Type {
    Name(String),
    Text(String),
    Uint(u64),
    Choice(Vec<Self>),
    Tag(u64, Box<Self>),
    Array(Vec<Entry>),
    /// A string's length in bytes, or an integer's.
    Size(Box<Self>, u64, u64),
    Not(Box<Self>, Box<Self>),
}

#[derive(Debug)]
struct Entry {
    at_least: u64,
    at_most: u64,
    of: Type,
}

impl Schema {
    pub(crate) fn parse(text: &str) -> Self {
        let code =
            text.lines().map(|line| line.split(';').next().unwrap_or("")).collect::<Vec<_>>();
        let mut parser = Parser { tokens: tokens(&code.join("\n")), at: 0 };
        let mut rules = BTreeMap::new();
        while parser.at < parser.tokens.len() {
            let name = parser.next();
            parser.expect("=");
            assert!(rules.insert(name.clone(), parser.choice()).is_none(), "{name} comes twice");
        }
        Self { rules }
    }

    /// Whether these bytes are one item of the type of that name.
    pub(crate) fn matches(&self, name: &str, item: &[u8]) -> bool {
        let mut reader = Reader::new(item);
        self.takes(&Type::Name(name.to_owned()), &mut reader) && reader.is_at_end()
    }

    /// Takes one item if it is of the type; if not, the reader may stand anywhere.
    fn takes(&self, of: &Type, r: &mut Reader<'_>) -> bool {
        match of {
            Type::Name(name) => match self.rules.get(name) {
                Some(of) => self.takes(of, r),
                None => takes_prelude(name, r),
            },
            Type::Text(text) => r.text() == Ok(text),
            Type::Uint(n) => r.uint() == Ok(*n),
            Type::Choice(types) => types.iter().any(|of| {
                let mut tried = r.clone();
                let takes = self.takes(of, &mut tried);
                if takes {
                    *r = tried;
                }
                takes
            }),
            Type::Tag(n, of) => r.head() == Ok(Head::Tag(*n)) && self.takes(of, r),
            Type::Array(entries) => match r.head() {
                Ok(Head::Array(len)) => self.takes_group(entries, len as u64, r),
                _ => false,
            },
            Type::Size(of, least, most) => {
                let mut head = r.clone();
                self.takes(of, r)
                    && match head.head() {
                        Ok(Head::Bytes(len) | Head::Text(len)) => {
                            (*least..=*most).contains(&(len as u64))
                        }
                        Ok(Head::Uint(n)) => n.checked_shr(8 * *most as u32).unwrap_or(0) == 0,
                        _ => false,
                    }
            }
            Type::Not(of, other) => {
                let mut tried = r.clone();
                !self.takes(other, &mut tried) && self.takes(of, r)
            }
        }
    }

    fn takes_group(&self, entries: &[Entry], left: u64, r: &mut Reader<'_>) -> bool {
        let Some((entry, rest)) = entries.split_first() else { return left == 0 };
        // Greedy: no group of ours wants anything else.
        let mut taken = 0;
        while taken < left.min(entry.at_most) {
            let mut tried = r.clone();
            if !self.takes(&entry.of, &mut tried) {
                break;
            }
            *r = tried;
            taken += 1;
        }
        taken >= entry.at_least && self.takes_group(rest, left - taken, r)
    }
}

fn takes_prelude(name: &str, r: &mut Reader<'_>) -> bool {
    let Ok(head) = r.head() else { return false };
    match (name, head) {
        ("int", Head::Uint(_) | Head::Negative(_)) | ("uint", Head::Uint(_)) => true,
        ("float16" | "float32" | "float64", Head::Float(_)) => true,
        ("bstr", Head::Bytes(len)) => r.take(len).is_ok(),
        ("tstr", Head::Text(len)) => r.take_text(len).is_ok(),
        ("null", Head::Simple(22)) | ("bool", Head::Simple(20 | 21)) => true,
        ("int" | "uint" | "float16" | "float32" | "float64", _) => false,
        ("bstr" | "tstr" | "null" | "bool", _) => false,
        _ => panic!("no rule is called {name}"),
    }
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '#';
        let len = match rest.as_bytes()[0] {
            b'"' => rest[1..].find('"').expect("a closing quote") + 2,
            b if word(b.into()) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => 1,
        };
        tokens.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn peek_second(&self) -> &str {
        self.tokens.get(self.at + 1).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn expect(&mut self, token: &str) {
        assert_eq!(self.next(), token, "token {}", self.at);
    }

    fn choice(&mut self) -> Type {
        let mut types = vec![self.controlled()];
        while self.peek() == "/" {
            self.next();
            types.push(self.controlled());
        }
        Type::Choice(types)
    }

    fn controlled(&mut self) -> Type {
        let of = Box::new(self.single());
        match self.peek() {
            ".size" => {
                self.next();
                let (least, most) = self.range();
                Type::Size(of, least, most)
            }
            ".ne" => {
                self.next();
                Type::Not(of, Box::new(self.single()))
            }
            _ => *of,
        }
    }

    /// `(1..9)`, or `4`, which bounds an integer from above.
    fn range(&mut self) -> (u64, u64) {
        let number = |text: &str| text.parse().expect("a number");
        if self.peek() != "(" {
            return (0, number(&self.next()));
        }
        self.next();
        let range = self.next();
        let (least, most) = range.split_once("..").expect("a range");
        self.expect(")");
        (number(least), number(most))
    }

    fn single(&mut self) -> Type {
        let token = self.next();
        if token == "[" {
            let mut entries = Vec::new();
            while self.peek() != "]" {
                entries.push(self.entry());
                if self.peek() == "," {
                    self.next();
                }
            }
            self.next();
            return Type::Array(entries);
        }
        if let Some(tag) = token.strip_prefix("#6.") {
            self.expect("(");
            let of = self.choice();
            self.expect(")");
            return Type::Tag(tag.parse().expect("a tag"), Box::new(of));
        }
        if let Ok(n) = token.parse() {
            return Type::Uint(n);
        }
        match token.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(text) => Type::Text(text.to_owned()),
            None => Type::Name(token),
        }
    }

    fn entry(&mut self) -> Entry {
        // A member's name is for people.
        if self.peek_second() == ":" {
            self.at += 2;
        }
        let least = self.peek().parse().ok().filter(|_| self.peek_second() == "*");
        if least.is_some() {
            self.next();
        }
        let (at_least, at_most) = match self.peek() {
            "+" => (1, u64::MAX),
            "*" => (least.unwrap_or(0), u64::MAX),
            _ => return Entry { at_least: 1, at_most: 1, of: self.choice() },
        };
        self.next();
        let most = self.peek().parse().ok();
        if most.is_some() {
            self.next();
        }
        Entry { at_least, at_most: most.unwrap_or(at_most), of: self.choice() }
    }
}
