//! Lines of an agent's log, as its program's output or as a log.

use super::failure::in_file;
use super::{Failure, Out};
use crate::cli::say::say;
use synod::api::{LogLine, Problem};
use synod::rfc3339;

/// The line as whoever runs the program wants it: what it printed on stdout, the rest on stderr.
/// Lines from before `begins` are an earlier run's; a line without a time is about the log itself.
pub(crate) fn print_output(out: &mut Out, line: &LogLine, begins: u64) -> Result<(), Failure> {
    if line.time != 0 && line.time < begins {
        return Ok(());
    }
    if out.is_json() {
        return out.json(line);
    }
    match line.level.as_str() {
        "output" => out.line(&line.text),
        "stderr" => {
            say(format_args!("{}", line.text));
            Ok(())
        }
        level => {
            say(format_args!("[{level}] {}", line.text));
            Ok(())
        }
    }
}

/// What a program was warned of when it was loaded, on stderr.
pub(crate) fn warn(warnings: &[Problem]) {
    warnings.iter().for_each(|warning| say(format_args!("{}", in_file(warning))));
}

/// The line as a log has it: `2025-01-31T09:30:00.000123Z warning TEXT`.
pub(crate) fn print_log(out: &mut Out, line: &LogLine) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(line);
    }
    out.line(format_args!("{} {:7} {}", rfc3339::format(line.time), line.level, line.text))
}
