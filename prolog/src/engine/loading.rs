//! What the check pass and the loader say of a program, in lines and columns.

use super::errors::Ball;
use super::host::{Answer, Host, arity_of, chars};
use super::near;
use super::run::Phase;
use super::{exit, sandbox};
use crate::frame::{FromEngine, Mode, Problem, Role, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use synod_core::kb::Indicator;
use synod_core::term::Term;
use synod_core::term::text::{self, Dialect, SyntaxError};

/// Problems that are told, at most.
const MAX_PROBLEMS: usize = 200;

/// What was found while the program was checked and loaded.
#[derive(Debug, Default)]
pub(super) struct Loading {
    pub(super) program: String,
    mode: Option<Mode>,
    records: bool,
    datagrams: bool,
    problems: Vec<Problem>,
    /// Texts of the files that problems are in.
    texts: BTreeMap<String, String>,
    /// The operators that the machine knows now.
    operators: BTreeSet<String>,
    /// The predicates that the program sees.
    names: Vec<(String, u32)>,
}

impl Loading {
    pub(super) fn set_mode(&mut self, mode: &str) {
        self.mode = Some(if mode == "each" { Mode::Each } else { Mode::One });
    }

    pub(super) fn set_operators(&mut self, names: &Term) {
        let Term::List(names) = names else { return };
        self.operators = names.iter().map(chars).collect();
    }

    pub(super) fn set_names(&mut self, names: &Term) {
        self.names = indicators(names);
    }

    /// Of what is known by a name that nothing has: the name, and what is said of it.
    fn unknown(&self, what: &Term) -> Option<(String, String)> {
        let Term::Compound(_, args) = what else { return None };
        let (name, text) = match (what.predicate()?.0, args.as_slice()) {
            ("unknown", [name, arity]) => {
                let (name, arity) = (chars(name), arity_of(arity).ok()?);
                (name.clone(), near::unknown(&name, arity, &self.names))
            }
            ("unknown", [module, name, arity, names]) => {
                let (name, arity) = (chars(name), arity_of(arity).ok()?);
                (name.clone(), near::unknown_in(&chars(module), &name, arity, &indicators(names)))
            }
            ("no_trigger", [name, arity]) => {
                let (name, arity) = (chars(name), arity_of(arity).ok()?);
                (name.clone(), near::no_trigger(&name, arity))
            }
            _ => return None,
        };
        Some((name, text))
    }

    pub(super) fn set_records(&mut self, records: bool) {
        self.records = records;
    }

    pub(super) fn handles_datagrams(&mut self) {
        self.datagrams = true;
    }

    fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn text(&mut self, file: &str) -> String {
        let read = || std::fs::read_to_string(file).unwrap_or_default();
        self.texts.entry(file.to_owned()).or_insert_with(read).clone()
    }

    /// Where between two offsets the text stops being a term, as closely as can be told: the
    /// machine's reader says only where the clause ends. Our own does not know the program's
    /// operators, so it is not believed where one of those stands.
    fn gave_up(&self, text: &str, from: u64, to: u64) -> u64 {
        let offset = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(text.len());
        let Some(clause) = text.get(offset(from)..) else { return to };
        let Err(error) = read_first(clause) else { return to };
        let at = from + offset_of(clause, error.line, error.column) as u64;
        let rest = text.get(offset(at)..).unwrap_or_default();
        let is_operator = |name: &String| rest.starts_with(name.as_str()) && !is_standard(name);
        if at >= to || self.operators.iter().any(is_operator) { to } else { at }
    }
}

/// Reads the first clause of a text with our own reader.
fn read_first(clause: &str) -> Result<Term, SyntaxError> {
    let ends = clause.match_indices('.').filter(|(at, _)| {
        clause[at + 1..].chars().next().is_none_or(|next| next.is_whitespace() || next == '%')
    });
    let mut last = text::read(clause, Dialect::Scryer);
    for (at, _) in ends.take(MAX_ENDS) {
        last = text::read(&clause[..=at], Dialect::Scryer);
        // An end inside of quotes or comments is none: then the text is cut short there.
        if !matches!(&last, Err(error) if is_at_end(&clause[..=at], error)) {
            return last;
        }
    }
    last
}

/// Full stops that are tried as the end of a clause.
const MAX_ENDS: usize = 50;

fn is_at_end(text: &str, error: &SyntaxError) -> bool {
    offset_of(text, error.line, error.column) >= text.trim_end_matches('.').trim_end().len()
}

/// The byte offset of a line and a column, which count from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before = text.split_inclusive('\n').take(line.saturating_sub(1));
    let start: usize = before.map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    let columns = rest.char_indices().nth(column.saturating_sub(1));
    start + columns.map_or(rest.len(), |(at, _)| at)
}

/// Operators that our own reader knows too.
fn is_standard(name: &str) -> bool {
    let uses = [format!("a {name} b"), format!("{name} b"), format!("a {name}")];
    uses.iter().any(|text| text::read(text, Dialect::Scryer).is_ok())
}

impl Host {
    /// What the machine is to load and then to do.
    pub(super) fn started(&mut self) -> Result<Answer, Ball> {
        // The machine has its streams and its libraries: from here on it runs what is not ours.
        if let Err(error) = sandbox::enter(&self.start) {
            exit::now(exit::SETUP, &format!("cannot set up the sandbox: {error}"));
        }
        let role = match self.start.role {
            Role::Agent { .. } => "agent",
            Role::Side { .. } => "side",
        };
        let inferences = Term::integer(self.start.limits.inferences);
        let file = Term::atom(self.start.program.as_str());
        Ok(Answer::Term(Term::structure("start", [file, Term::atom(role), inferences])))
    }

    /// Something is wrong at these offsets of a file.
    pub(super) fn problem(
        &mut self,
        severity: &Term,
        file: &Term,
        from: u64,
        to: u64,
        what: &Term,
    ) -> Result<Answer, Ball> {
        let is_error = chars(severity) == "error";
        let file = chars(file);
        let text = sentence(what);
        if file.is_empty() {
            let goal = self.goals.text().map(|file| text_behind(file, 0)).unwrap_or_default();
            let to = self.loading.gave_up(goal.trim_end_matches(['\n', '.']), from, to);
            self.problem_at(to.max(from), text);
            return Ok(Answer::Done);
        }
        if self.loading.problems.len() < MAX_PROBLEMS {
            let source = self.loading.text(&file);
            let (from, to, text) = match self.loading.unknown(what) {
                Some((name, text)) => {
                    let at = near::place(&source, from, to, &name);
                    (at, at, text)
                }
                None => (from, to, text),
            };
            let to = if is_syntax(what) { self.loading.gave_up(&source, from, to) } else { to };
            let (line, column) = line_and_column(&source, from);
            let (to_line, to_column) = line_and_column(&source, to);
            let text = if is_error && (to_line, to_column) > (line, column) && is_syntax(what) {
                format!("{text}; the reader gave up at {to_line}:{to_column}")
            } else {
                text
            };
            let severity = if is_error { Severity::Error } else { Severity::Warning };
            self.loading.problems.push(Problem { severity, file, line, column, text });
        }
        Ok(Answer::Done)
    }

    /// Something is wrong in the text of a goal.
    pub(super) fn problem_at(&mut self, offset: u64, text: String) {
        let goal = self.goals.text().map(|file| text_behind(file, 0)).unwrap_or_default();
        // Not behind the full stop that was added.
        let len = goal.trim_end_matches(['\n', '.']).len() as u64;
        let (line, column) = line_and_column(&goal, offset.min(len));
        let (severity, file) = (Severity::Error, String::new());
        self.goals.problem(Problem { severity, file, line, column, text });
    }

    /// The check pass is over: fetches the facts, if the program is to be loaded at all.
    pub(super) fn checked(&mut self) -> Result<Answer, Ball> {
        if self.loading.has_errors() {
            self.report_not_loaded();
            return Ok(Answer::Term(Term::atom("false")));
        }
        self.fetch_facts()?;
        Ok(Answer::Term(Term::atom("true")))
    }

    /// `replicated/1` was obeyed.
    pub(super) fn declare(
        &mut self,
        name: &Term,
        arity: &Term,
        keys: &Term,
    ) -> Result<Answer, Ball> {
        let indicator = Indicator::new(&chars(name), arity_of(arity)?);
        let keys = match keys {
            Term::List(keys) => keys.iter().map(arity_of).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let is_new = self.facts.replica.want(indicator, keys);
        // One that the check pass did not see: a term expansion made it, or a module of the space.
        if is_new {
            self.fetch_facts()?;
        }
        Ok(Answer::Done)
    }

    fn fetch_facts(&mut self) -> Result<(), Ball> {
        let predicates = self.facts.replica.declarations();
        self.link.send(&FromEngine::Wants { predicates });
        self.facts.replica.restart()?;
        self.facts.copies.drop_all();
        self.pull(self.start.at);
        self.facts.begin();
        Ok(())
    }

    /// The program is loaded, but for what was refused meanwhile. Says whether to go on.
    pub(super) fn loaded(&mut self) -> Result<Answer, Ball> {
        if self.loading.has_errors() {
            self.report_not_loaded();
            return Ok(Answer::Term(Term::atom("false")));
        }
        let output = program_output(self.output.drain());
        // As one reads the program: what is unknown was found when all else was done.
        let order = |p: &Problem| (p.file.clone(), p.line, p.column);
        self.loading.problems.sort_by_cached_key(order);
        self.link.send(&FromEngine::Loaded {
            declared: self.facts.replica.declarations(),
            mode: self.loading.mode.clone().unwrap_or(Mode::One),
            records: self.loading.records,
            datagrams: self.loading.datagrams,
            warnings: std::mem::take(&mut self.loading.problems),
            output,
        });
        self.watch.loaded();
        // Making a copy takes inferences, which are the program's only if it has no limit.
        if self.start.limits.inferences == 0 {
            self.facts.copies.start(self.start.copy_after);
        }
        self.run.phase = Phase::Handler;
        Ok(Answer::Term(Term::atom("true")))
    }

    /// Something is wrong at no place that is known.
    pub(super) fn refused(&mut self, what: &Term) -> Result<Answer, Ball> {
        let (severity, file) = (Severity::Error, self.loading.program.clone());
        let text = sentence(what);
        self.loading.problems.push(Problem { severity, file, line: 0, column: 0, text });
        Ok(Answer::Done)
    }

    /// The program cannot be loaded.
    pub(super) fn not_loaded(&mut self) -> Result<Answer, Ball> {
        self.report_not_loaded();
        Ok(Answer::Done)
    }

    fn report_not_loaded(&mut self) {
        let problems = std::mem::take(&mut self.loading.problems);
        let output = program_output(self.output.drain());
        self.link.send(&FromEngine::NotLoaded { problems, output });
    }
}

/// The loader's own remarks on singletons are left out: the check pass has said it with columns.
fn program_output(output: Vec<u8>) -> Vec<u8> {
    const REMARK: &[u8] = b"% Warning: singleton variables";
    if !output.starts_with(b"% ") && !output.windows(REMARK.len()).any(|part| part == REMARK) {
        return output;
    }
    output.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(REMARK)).fold(
        Vec::new(),
        |mut kept, line| {
            kept.extend_from_slice(line);
            kept
        },
    )
}

/// The path of a file that another one uses: next to it, with or without `.pl`; empty if there is
/// none.
pub(super) fn resolve(user: &Term, path: &Term) -> Term {
    let (user, path) = (chars(user), chars(path));
    let folder = Path::new(&user).parent().unwrap_or(Path::new("/"));
    let whole = folder.join(&path);
    let with_extension = folder.join(format!("{path}.pl"));
    let found = [whole, with_extension].into_iter().find(|path| path.is_file());
    Term::string(found.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default())
}

/// What stands in a file behind an offset.
pub(super) fn text_behind(mut file: &File, offset: u64) -> String {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The line and the column of a byte offset, both from 1; columns are characters.
fn line_and_column(text: &str, offset: u64) -> (u32, u32) {
    // A byte order mark is no character of the text.
    let (text, offset) = match text.strip_prefix('\u{feff}') {
        Some(text) => (text, offset.saturating_sub(3)),
        None => (text, offset),
    };
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let before = (0..=offset).rev().find_map(|at| text.get(..at)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (small(line), small(column))
}

/// The predicates of a list of `Name/Arity`.
fn indicators(names: &Term) -> Vec<(String, u32)> {
    let Term::List(names) = names else { return Vec::new() };
    let pair = |term: &Term| match term {
        Term::Compound(_, args) => match args.as_slice() {
            [name, arity] => Some((chars(name), arity_of(arity).ok()?)),
            _ => None,
        },
        _ => None,
    };
    names.iter().filter_map(pair).collect()
}

fn is_syntax(what: &Term) -> bool {
    matches!(what, Term::Atom(name) if !["marked", "cannot_open"].contains(&&**name))
}

/// What is wrong, as a sentence.
fn sentence(what: &Term) -> String {
    let arg = |n: usize| match what {
        Term::Compound(_, args) => args.get(n).map(ToString::to_string).unwrap_or_default(),
        _ => String::new(),
    };
    match what.predicate() {
        Some(("singleton", 1)) => format!("singleton variable {}", unquoted(what)),
        Some(("discontiguous", 1)) => format!(
            "clauses of {} do not stand together; only the last group would be kept \
             (`:- discontiguous({}).` keeps all)",
            arg(0),
            arg(0)
        ),
        Some(("replicated_clause", 1)) => {
            format!("{} is replicated: its clauses are facts of the space, not text", arg(0))
        }
        Some(("no_library", 1)) => format!("{} does not exist", arg(0)),
        Some(("no_file", 1)) => format!("file {} does not exist", arg(0)),
        Some(("cannot_open", 0)) => "the file cannot be opened".into(),
        Some(("variable_clause", 0)) => "a clause is a variable".into(),
        Some(("bad_exports", 0)) => "the module's export list declares an invalid operator".into(),
        Some(("bad_operator", 0)) => "an invalid operator declaration".into(),
        Some(("marked", 0)) => {
            "the file begins with a byte order mark, which the loader takes for \
             a part of its first clause: save it as UTF-8 without one"
                .into()
        }
        Some(("thrown", 1)) => format!("the directive threw {}", unquoted(what)),
        Some(("no_directive", 1)) => format!(
            "{} is no directive: a goal that is to run when the program has been loaded is \
             `:- initialization(Goal).`",
            arg(0)
        ),
        Some(("without_synod", 1)) => format!(
            "{} is a declaration of library(synod), which is not used here: put \
             `:- use_module(library(synod)).` before it",
            arg(0)
        ),
        Some(("no_goal", 0)) => "there is no goal".into(),
        Some((name, 0)) => format!("syntax error: {}", name.replace('_', " ")),
        _ => format!("syntax error: {what}"),
    }
}

fn unquoted(what: &Term) -> String {
    match what {
        Term::Compound(_, args) => args.first().map(chars).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_never_leave_the_text() {
        let text = "aé\nüx";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 3), (1, 3));
        assert_eq!(line_and_column(text, 4), (2, 1));
        assert_eq!(line_and_column(text, 5), (2, 1));
        assert_eq!(line_and_column(text, 99), (2, 3));
    }
}
