//! stderr: talk. It may be a pipe that nobody reads any more, which is no reason to fail.

use std::fmt;
use std::io::Write;

/// Says a line on stderr; `eprintln!` would panic where nobody can hear it.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
