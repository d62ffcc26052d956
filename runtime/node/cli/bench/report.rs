//! What a bench prints: a line a figure as soon as it is known, and where it stands meanwhile.

use super::latency::Latencies;
use super::machine;
use crate::cli::{Failure, Out};
use serde_json::json;
use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often what is done so far is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Prints figures to stdout and progress to a terminal's stderr.
pub(super) struct Report {
    out: Out,
    bench: &'static str,
    is_terminal: bool,
    shown: Option<Instant>,
}

impl Report {
    pub(super) fn new(out: Out, bench: &'static str) -> Self {
        Self { out, bench, is_terminal: stderr().is_terminal(), shown: None }
    }

    /// What is measured on, and what else it does: others' load is part of every figure.
    pub(super) fn machine(&mut self, folder: &Path) -> Result<(), Failure> {
        let machine = machine::describe(folder);
        if self.out.is_json() {
            return self.out.json(&json!({ "bench": self.bench, "machine": machine }));
        }
        self.out.line(format_args!("machine: {machine}"))
    }

    /// A number and its unit.
    pub(super) fn figure(&mut self, name: &str, value: f64, unit: &str) -> Result<(), Failure> {
        self.clear();
        if self.out.is_json() {
            let figure =
                json!({ "bench": self.bench, "figure": name, "value": value, "unit": unit });
            return self.out.json(&figure);
        }
        let value = short(value);
        self.out.line(format_args!("{name:<58} {value:>10} {unit}"))
    }

    /// How long things took, each.
    pub(super) fn latencies(&mut self, name: &str, of: &mut Latencies) -> Result<(), Failure> {
        self.clear();
        if self.out.is_json() {
            let times = of.json();
            let figure =
                json!({ "bench": self.bench, "figure": name, "unit": "µs", "times": times });
            return self.out.json(&figure);
        }
        self.out.line(format_args!("{name}, {} times: {}", of.count(), of.line()))?;
        of.bars().iter().try_for_each(|bar| self.out.line(format_args!("    {bar}")))
    }

    /// Says on a terminal what is under way and how far it is.
    pub(super) fn progress(&mut self, what: &str, done: u64, of: u64) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY);
        if self.is_terminal && is_due {
            let percent = done * 100 / of.max(1);
            // A terminal that is gone needs no progress.
            drop(write!(stderr(), "\r\x1b[K{what}: {percent} %"));
            self.shown = Some(Instant::now());
        }
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

/// Three places or so, whatever the number's size.
fn short(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(123_456.7), "123457");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(1.234), "1.23");
        assert_eq!(short(f64::NAN), "NaN");
    }
}
