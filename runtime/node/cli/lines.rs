//! Lines of an agent's log, as its program's output or as a log.

use super::{Failure, Out};
use crate::cli::say::say;
use synod::api::LogLine;

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

/// The line as a log has it: `2025-01-31T09:30:00.000123Z warning TEXT`.
pub(crate) fn print_log(out: &mut Out, line: &LogLine) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(line);
    }
    out.line(format_args!("{} {:7} {}", timestamp(line.time), line.level, line.text))
}

/// Microseconds since 1970 as RFC 3339 has it, in UTC.
fn timestamp(micros: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The Gregorian date of a day since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days). Years begin in March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(951_827_696_789_000), "2000-02-29T12:34:56.789000Z");
        assert_eq!(timestamp(4_107_542_399_999_999), "2100-02-28T23:59:59.999999Z");
        assert_eq!(timestamp(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
    }
}
