//! Completion: names of predicates in goals, names of commands behind a colon.

use super::command;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use std::sync::{Arc, Mutex, PoisonError};
use synod::api::PredicateInfo;

/// The predicates that the program sees, as far as the node has told them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<Vec<PredicateInfo>>>);

impl Names {
    pub(super) fn set(&self, names: Vec<PredicateInfo>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The place from which on a line's word is to be replaced, and by what.
    fn complete(&self, line: &str, end: usize) -> (usize, Vec<Pair>) {
        let before = line.get(..end).unwrap_or(line);
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let word = before.rsplit(|c| !is_part(c)).next().unwrap_or_default();
        let start = before.len() - word.len();
        if command::is_command(before) && !before.trim().contains(char::is_whitespace) {
            let start = before.len() - before.trim_start().len();
            let names = command::NAMES.iter().filter(|name| name.starts_with(&before[start..]));
            return (start, names.map(|name| pair(name, format!("{name} "))).collect());
        }
        let is_atom = word.starts_with(|c: char| c.is_lowercase());
        if !is_atom {
            return (start, Vec::new());
        }
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_command = command::is_command(before);
        let fits = |p: &&PredicateInfo| {
            p.name.starts_with(word) && p.name.chars().all(is_part) && (!is_command || p.replicated)
        };
        let found = names.iter().filter(fits).map(|PredicateInfo { name, arity, .. }| {
            let indicator = format!("{name}/{arity}");
            match arity {
                _ if is_command => pair(&indicator, indicator.clone()),
                0 => pair(&indicator, name.clone()),
                _ => pair(&indicator, format!("{name}(")),
            }
        });
        (start, found.collect())
    }
}

fn pair(display: &str, replacement: String) -> Pair {
    Pair { display: display.to_owned(), replacement }
}

impl Completer for Names {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.complete(line, pos))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> (usize, Vec<String>) {
        let names = Names::default();
        let info =
            |name: &str, arity, replicated| PredicateInfo { name: name.into(), arity, replicated };
        names.set(vec![
            info("account", 2, true),
            info("accounts", 0, false),
            info("append", 3, false),
            info("a b", 1, false),
        ]);
        let (start, found) = names.complete(line, line.len());
        (start, found.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn words_of_goals_are_completed_to_predicates() {
        assert_eq!(completed("acc"), (0, vec!["account(".to_owned(), "accounts".to_owned()]));
        assert_eq!(completed("p(X), app"), (6, vec!["append(".to_owned()]));
        assert_eq!(completed("X").1, Vec::<String>::new());
        assert_eq!(completed("foo(").1, Vec::<String>::new());
    }

    #[test]
    fn commands_are_completed_and_their_predicates_are_replicated_ones() {
        assert_eq!(completed(":wa"), (0, vec![":watch ".to_owned()]));
        assert_eq!(completed(":watch a"), (7, vec!["account/2".to_owned()]));
    }
}
