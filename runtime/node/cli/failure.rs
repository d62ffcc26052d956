//! Why a verb did not get to an answer.

use crate::cli::say::say;
use std::io;
use std::process::ExitCode;
use synod::api::{ErrorBody, Problem};

/// Characters of a line that are shown around a place in it.
const SHOWN: usize = 120;

/// What ends a verb early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout has seen enough, which is no error.
    PipeClosed,
    /// An error that has been told.
    Told,
    /// An error: one line that says what to do, and what it is about in lines of their own.
    Error {
        /// The line, without `synod: `.
        line: String,
        /// Printed below it.
        details: Vec<String>,
    },
}

impl Failure {
    pub(crate) fn error(line: impl Into<String>) -> Self {
        Self::Error { line: line.into(), details: Vec::new() }
    }

    /// An error that the node told of.
    pub(crate) fn told(error: ErrorBody) -> Self {
        let details = match error.problems.as_slice() {
            // The line says it already.
            [_] => Vec::new(),
            problems => problems.iter().map(in_file).collect(),
        };
        Self::Error { line: line_of(&error), details }
    }

    /// An error about a text that came from the command line: shows the place in it.
    pub(crate) fn told_of_text(error: ErrorBody, text: &str) -> Self {
        let line = match error.problems.first() {
            Some(Problem { line: line @ 1.., column, text, .. }) => {
                format!("line {line}, column {column}: {text}")
            }
            _ => line_of(&error),
        };
        let details = error.problems.iter().flat_map(|problem| in_text(problem, text)).collect();
        Self::Error { line, details }
    }

    /// The outcome of a proposal that may or may not have arrived.
    pub(crate) fn unknown(why: &str, id: &str) -> Self {
        Self::error(format!("unknown: {why}; ask with: synod outcome {id}"))
    }

    /// Says it on stderr, and gives the exit status.
    pub(crate) fn tell(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Told => ExitCode::from(2),
            Self::Error { line, details } => {
                say(format_args!("synod: {line}"));
                details.iter().for_each(|detail| say(format_args!("{detail}")));
                ExitCode::from(2)
            }
        }
    }
}

impl From<io::Error> for Failure {
    /// Of writing to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Self::error(format!("stdout: {error}"))
        }
    }
}

fn line_of(error: &ErrorBody) -> String {
    let ErrorBody { code, message, id, .. } = error;
    match id {
        Some(id) => format!("unknown: {message}; ask with: synod outcome {id}"),
        None if code == "threw" => format!("the goal threw {message}"),
        None => message.clone(),
    }
}

/// `FILE:LINE:COLUMN: error: TEXT`, as compilers print it and editors read it.
pub(crate) fn in_file(problem: &Problem) -> String {
    let Problem { severity, file, line, column, text } = problem;
    let file = if file.is_empty() { "goal" } else { file };
    match (line, column) {
        (0, _) => format!("{file}: {severity}: {text}"),
        (line, 0) => format!("{file}:{line}: {severity}: {text}"),
        (line, column) => format!("{file}:{line}:{column}: {severity}: {text}"),
    }
}

/// The line of the text that a problem is in, and a mark below its column.
fn in_text(problem: &Problem, text: &str) -> Vec<String> {
    let line = (problem.line as usize).checked_sub(1).and_then(|n| text.split('\n').nth(n));
    let (Some(line), Some(before)) = (line, (problem.column as usize).checked_sub(1)) else {
        return Vec::new();
    };
    let (line, before) = around(line, before);
    let line = line.as_str();
    // A tab stays a tab, so that the mark stands below what it means wherever tabs end.
    let blank = |c| if c == '\t' { '\t' } else { ' ' };
    let mark: String = line.chars().map(blank).chain(std::iter::repeat(' ')).take(before).collect();
    vec![format!("  {line}"), format!("  {mark}^")]
}

/// What stands around a place of a line, which may be long, and the place in that.
fn around(line: &str, before: usize) -> (String, usize) {
    const CUT: &str = "…";
    let len = line.chars().count();
    if len <= SHOWN {
        return (line.to_owned(), before);
    }
    let from = before.min(len).saturating_sub(SHOWN / 2);
    let part: String = line.chars().skip(from).take(SHOWN).collect();
    let (start, shift) = if from > 0 { (CUT, 1) } else { ("", 0) };
    let end = if from + SHOWN < len { CUT } else { "" };
    (format!("{start}{part}{end}"), before - from + shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32, column: u32) -> Problem {
        let (severity, file, text) = ("error".into(), String::new(), "no".into());
        Problem { severity, file, line, column, text }
    }

    #[test]
    fn a_mark_stands_below_the_place() {
        assert_eq!(in_text(&problem(1, 5), "foo(("), ["  foo((", "      ^"]);
        assert_eq!(in_text(&problem(2, 3), "é,\n\tb"), ["  \tb", "  \t ^"]);
        let long = format!("{}({}", "a".repeat(50_000), "b".repeat(50_000));
        let shown = in_text(&problem(1, 50_001), &long);
        assert!(shown.iter().all(|line| line.chars().count() <= SHOWN + 4), "{shown:?}");
        let mark = shown[1].chars().count() - 1;
        assert_eq!(shown[0].chars().nth(mark), Some('('));
        assert!(in_text(&problem(3, 1), "one line").is_empty());
        assert!(in_text(&problem(0, 0), "no place").is_empty());
    }

    #[test]
    fn problems_read_as_compilers_write_them() {
        let of_file = Problem { file: "a.pl".into(), ..problem(3, 7) };
        assert_eq!(in_file(&of_file), "a.pl:3:7: error: no");
        assert_eq!(in_file(&Problem { column: 0, ..of_file }), "a.pl:3: error: no");
        assert_eq!(in_file(&problem(0, 0)), "goal: error: no");
    }

    #[test]
    fn an_outcome_that_is_unknown_can_be_asked_for() {
        let (code, message) = ("unknown".into(), "the node went away".into());
        let error = ErrorBody { code, message, problems: Vec::new(), id: Some("4-1".into()) };
        let Failure::Error { line, .. } = Failure::told(error) else { panic!("an error") };
        assert_eq!(line, "unknown: the node went away; ask with: synod outcome 4-1");
    }
}
