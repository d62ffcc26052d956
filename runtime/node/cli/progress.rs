//! How far long work is, on a terminal's stderr.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// How often it is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Shows where work stands, and leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    is_terminal: bool,
    shown: Instant,
    is_shown: bool,
}

impl Progress {
    /// Of work that is called `what`: nothing is shown of what is done at once.
    pub(crate) fn new(what: &'static str) -> Self {
        let (is_terminal, shown) = (stderr().is_terminal(), Instant::now());
        Self { what, is_terminal, shown, is_shown: false }
    }

    /// It has come to this index.
    pub(crate) fn at(&mut self, index: u64) {
        if self.is_terminal && self.shown.elapsed() >= SHOW_EVERY {
            // A terminal that is gone needs no progress.
            drop(write!(stderr(), "\r\x1b[K{}: index {index}", self.what));
            (self.shown, self.is_shown) = (Instant::now(), true);
        }
    }

    /// Takes away what is shown, before something else is.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
