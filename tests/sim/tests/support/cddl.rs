//! As much of CDDL (RFC 8610) as the grammars of this project use: arrays of named members, choices, integers and
//! ranges of them, text, byte strings with a size, tags.

use std::collections::BTreeMap;
use std::iter::Peekable;
use synod_core::cbor::{Head, Reader};

pub(crate) struct Grammar {
    rules: BTreeMap<String, Type>,
}

enum Type {
    Any(Vec<Self>),
    Array(Vec<Self>),
    Bytes(Option<usize>),
    Range(u64, u64),
    Rule(String),
    Tag(u64, Box<Self>),
    Text(Option<String>),
}

impl Grammar {
    pub(crate) fn parse(text: &str) -> Self {
        let mut tokens = tokens(text).into_iter().peekable();
        let mut rules = BTreeMap::new();
        while let Some(name) = tokens.next() {
            assert_eq!(tokens.next().as_deref(), Some("="), "after {name}");
            assert!(rules.insert(name, choice(&mut tokens)).is_none());
        }
        Self { rules }
    }

    /// Whether the next item is what the rule says; it is read.
    pub(crate) fn matches(&self, rule: &str, r: &mut Reader<'_>) -> bool {
        let rule = self.rules.get(rule).unwrap_or_else(|| panic!("there is no rule {rule}"));
        self.is(rule, r)
    }

    fn is(&self, what: &Type, r: &mut Reader<'_>) -> bool {
        match what {
            Type::Any(choices) => choices.iter().any(|choice| {
                let mut ahead = r.clone();
                let matches = self.is(choice, &mut ahead);
                if matches {
                    *r = ahead;
                }
                matches
            }),
            Type::Array(items) => {
                r.array() == Ok(items.len()) && items.iter().all(|item| self.is(item, r))
            }
            Type::Bytes(size) => r.bytes().is_ok_and(|b| size.is_none_or(|size| b.len() == size)),
            Type::Range(from, to) => r.uint().is_ok_and(|n| (*from..=*to).contains(&n)),
            Type::Rule(name) => self.matches(name, r),
            Type::Tag(tag, inner) => r.head() == Ok(Head::Tag(*tag)) && self.is(inner, r),
            Type::Text(None) => r.text().is_ok(),
            Type::Text(Some(text)) => r.text() == Ok(text),
        }
    }
}

type Tokens = Peekable<std::vec::IntoIter<String>>;

fn tokens(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split(';').next().unwrap_or(""));
    let mut tokens = Vec::new();
    for line in lines {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '-';
            let len = match first {
                '"' => 2 + rest[1..].find('"').unwrap(),
                '#' | '.' if rest.starts_with("..") => 2,
                '#' | '.' => 1 + rest[1..].find(|c| !word(c) && c != '.').unwrap_or(rest.len() - 1),
                c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                _ => 1,
            };
            tokens.push(rest[..len].to_owned());
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

fn choice(tokens: &mut Tokens) -> Type {
    let mut choices = vec![primary(tokens)];
    while tokens.next_if(|token| token == "/").is_some() {
        choices.push(primary(tokens));
    }
    if choices.len() == 1 { choices.remove(0) } else { Type::Any(choices) }
}

fn primary(tokens: &mut Tokens) -> Type {
    let token = tokens.next().unwrap();
    if let Some(tag) = token.strip_prefix("#6.") {
        let tag = tag.parse().unwrap();
        assert_eq!(tokens.next().as_deref(), Some("("));
        let inner = Box::new(choice(tokens));
        assert_eq!(tokens.next().as_deref(), Some(")"));
        return Type::Tag(tag, inner);
    }
    if let Some(text) = token.strip_prefix('"') {
        return Type::Text(Some(text.trim_end_matches('"').to_owned()));
    }
    if let Ok(from) = token.parse() {
        let range = tokens.next_if(|token| token == "..").is_some();
        let to = if range { tokens.next().unwrap().parse().unwrap() } else { from };
        return Type::Range(from, to);
    }
    match &token[..] {
        "[" => array(tokens),
        "tstr" => Type::Text(None),
        "uint" => Type::Range(0, u64::MAX),
        "bytes" => {
            let sized = tokens.next_if(|token| token == ".size").is_some();
            Type::Bytes(sized.then(|| tokens.next().unwrap().parse().unwrap()))
        }
        _ => Type::Rule(token),
    }
}

fn array(tokens: &mut Tokens) -> Type {
    let mut items = Vec::new();
    loop {
        if tokens.next_if(|token| token == "]").is_some() {
            return Type::Array(items);
        }
        let mut item = choice(tokens);
        if tokens.next_if(|token| token == ":").is_some() {
            // What was read was the member's name.
            item = choice(tokens);
        }
        items.push(item);
        assert!(tokens.next_if(|token| token == ",").is_some() || tokens.peek().unwrap() == "]");
    }
}
