//! Where lines come from: a terminal, with editing, history and completion, or a file or pipe. Both
//! block, so they have a thread of their own.

use super::complete::Names;
use crate::cli::Failure;
use crate::cli::say::say;
use rustyline::config::{BellStyle, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Bytes of a goal, at most.
pub(super) const MAX_GOAL_BYTES: usize = 1 << 20;
/// Goals that the history keeps, at most.
const HISTORY_ENTRIES: usize = 1000;
/// Bytes of a goal that the history keeps, at most.
const HISTORY_ENTRY_BYTES: usize = 4096;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C: what has been typed is to be forgotten.
    Interrupted,
    /// There is no further line.
    End,
    /// What is there is no text, or too much of it: nothing more is read.
    Bad(String),
}

/// The reader's end of it.
pub(super) struct Input {
    orders: mpsc::Sender<Order>,
}

/// Prints while a line is being edited.
pub(super) type Printer = Box<dyn ExternalPrinter + Send>;

enum Order {
    Read { prompt: String, line: oneshot::Sender<Line> },
    Remember(String),
}

impl Input {
    /// Lines from a terminal.
    pub(super) fn terminal(history: PathBuf, names: Names) -> Result<(Self, Printer), Failure> {
        let failed = |error: ReadlineError| Failure::error(format!("the terminal: {error}"));
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES)
            .map_err(failed)?
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .build();
        let mut editor: Editor<Names, FileHistory> = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(names));
        let kept = match history.parent().map_or(Ok(()), std::fs::create_dir_all) {
            Ok(()) => editor.load_history(&history),
            Err(error) => Err(ReadlineError::Io(error)),
        };
        match kept {
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                say(format_args!("synod: no history from {}: {error}", history.display()))
            }
            Ok(()) => {}
        }
        let printer: Printer = Box::new(editor.create_external_printer().map_err(failed)?);
        let (orders, received) = mpsc::channel();
        std::thread::spawn(move || edit(editor, &history, &received));
        Ok((Self { orders }, printer))
    }

    /// Lines from a file or a pipe.
    pub(super) fn lines() -> Self {
        let (orders, received) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stdin, mut number) = (io::stdin().lock(), 0);
            for order in received {
                if let Order::Read { line, .. } = order {
                    number += 1;
                    // Whoever asked may have gone.
                    drop(line.send(read_line(&mut stdin, number)));
                }
            }
        });
        Self { orders }
    }

    /// The next line.
    pub(super) async fn read(&mut self, prompt: &str) -> Line {
        let (line, read) = oneshot::channel();
        let order = Order::Read { prompt: prompt.to_owned(), line };
        if self.orders.send(order).is_err() {
            return Line::End;
        }
        read.await.unwrap_or(Line::End)
    }

    /// Adds a goal to the history, if there is one.
    pub(super) fn remember(&self, goal: &str) {
        if goal.len() <= HISTORY_ENTRY_BYTES {
            // A reader that has ended keeps no history.
            drop(self.orders.send(Order::Remember(goal.to_owned())));
        }
    }
}

fn edit(
    mut editor: Editor<Names, FileHistory>,
    history: &std::path::Path,
    orders: &mpsc::Receiver<Order>,
) {
    for order in orders {
        match order {
            Order::Read { prompt, line } => {
                let read = match editor.readline(&prompt) {
                    Ok(text) => Line::Text(text),
                    Err(ReadlineError::Interrupted) => Line::Interrupted,
                    Err(ReadlineError::Eof) => Line::End,
                    Err(error) => Line::Bad(format!("the terminal: {error}")),
                };
                drop(line.send(read));
            }
            Order::Remember(goal) => {
                // A history that cannot be written is no reason not to answer; the next session
                // says so when it reads it.
                drop(editor.add_history_entry(goal));
                drop(editor.append_history(history));
            }
        }
    }
}

/// The next line, if it is text and not too long.
fn read_line(input: &mut impl BufRead, number: u64) -> Line {
    let mut bytes = Vec::new();
    let limit = MAX_GOAL_BYTES as u64 + 1;
    match input.take(limit).read_until(b'\n', &mut bytes) {
        Err(error) => return Line::Bad(format!("standard input: {error}")),
        Ok(0) => return Line::End,
        Ok(_) => {}
    }
    if bytes.len() > MAX_GOAL_BYTES {
        return Line::Bad(too_long(number));
    }
    match String::from_utf8(bytes) {
        Ok(line) if !line.contains('\0') => Line::Text(line.trim_end_matches('\n').to_owned()),
        _ => Line::Bad(format!(
            "line {number} of standard input is no text: a toplevel reads Prolog goals in UTF-8"
        )),
    }
}

fn too_long(number: u64) -> String {
    format!(
        "line {number} of standard input has more than {} MiB, and no goal may: put the data in \
         facts",
        MAX_GOAL_BYTES >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_of_a_bounded_length() {
        let mut input = &b"p.\n\nq"[..];
        assert_eq!(read_line(&mut input, 1), Line::Text("p.".into()));
        assert_eq!(read_line(&mut input, 2), Line::Text(String::new()));
        assert_eq!(read_line(&mut input, 3), Line::Text("q".into()));
        assert_eq!(read_line(&mut input, 4), Line::End);
        for bad in [&b"\xff\xfe\n"[..], b"a\0b\n", &vec![b'a'; MAX_GOAL_BYTES + 1]] {
            let mut input = bad;
            assert!(matches!(read_line(&mut input, 7), Line::Bad(why) if why.contains("line 7")));
        }
    }
}
