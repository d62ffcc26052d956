//! stdout: data, flushed line by line, so that what comes one by one is seen one by one.

use super::Failure;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Stdout, Write, stdout};

/// stdout, as text or as JSON.
#[derive(Debug)]
pub(crate) struct Out {
    stdout: Stdout,
    is_json: bool,
    is_terminal: bool,
    /// Whether the last text ended its line.
    is_at_line_start: bool,
}

impl Out {
    pub(crate) fn new(is_json: bool) -> Self {
        let stdout = stdout();
        let is_terminal = stdout.is_terminal();
        Self { stdout, is_json, is_terminal, is_at_line_start: true }
    }

    /// Whether `--json` was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a person reads it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Text that stands out where a terminal can show that (<https://no-color.org>).
    pub(crate) fn marked(&self, text: &str) -> String {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if self.is_terminal && !is_dumb && !is_set("NO_COLOR") {
            format!("\x1b[33m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A line of its own.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_at_line_start, true) {
            writeln!(self.stdout)?;
        }
        writeln!(self.stdout, "{line}")?;
        Ok(self.stdout.flush()?)
    }

    /// Ends the line that has been begun, if one has.
    pub(crate) fn begin_line(&mut self) -> Result<(), Failure> {
        if self.is_at_line_start { Ok(()) } else { self.text("\n") }
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(last) = text.as_bytes().last() {
            self.is_at_line_start = *last == b'\n';
        }
        self.stdout.write_all(text.as_bytes())?;
        Ok(self.stdout.flush()?)
    }

    /// Resolves when whoever reads has closed the pipe, for those who wait for long before they print
    /// again. What is no pipe is never closed.
    pub(crate) async fn closed() {
        let (sender, closed) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let stdout = stdout();
            let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
            // Without flags it returns for an error or a reader that has gone, and for nothing else.
            while poll(&mut polled, None) == Err(Errno::INTR) {}
            let _ = sender.send(());
        });
        // The thread cannot end without a word.
        drop(closed.await);
    }

    /// A value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value);
        self.line(text.map_err(|error| Failure::error(format!("JSON: {error}")))?)
    }
}
