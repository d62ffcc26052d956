//! Which commands of a log are wanted.

use super::At;
use crate::api::{LogEffect, LogEntry};
use crate::rfc3339;
use serde::{Deserialize, Serialize};
use synod_core::apply::Chain;
use synod_core::kb::Indicator;
use synod_core::term::Term;
use synod_core::term::text::{self, Dialect};

/// From where to where, both included; time and index may be mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Not before this time, in microseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Not after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Span {
    /// A point that all before the span are before: where to begin to read.
    pub fn begins_behind(&self) -> At {
        match (self.from, self.since) {
            (Some(from), _) => At::Index(from.saturating_sub(1)),
            (None, Some(since)) => At::Time(since.saturating_sub(1)),
            (None, None) => At::Index(0),
        }
    }

    /// Whether a command at this place is in it.
    pub fn holds(&self, place: &Chain) -> bool {
        self.from.is_none_or(|from| place.index >= from)
            && self.since.is_none_or(|since| place.time >= since)
            && !self.is_passed_by(place)
    }

    /// Whether a command at this place, and all behind it, are behind the span.
    pub fn is_passed_by(&self, place: &Chain) -> bool {
        self.to.is_some_and(|to| place.index > to) || self.until.is_some_and(|t| place.time > t)
    }
}

/// Which commands are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Of this agent only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// With effects on this predicate, or events of this functor, only: `name/arity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functor: Option<String>,
}

impl Filter {
    /// Whether a command is wanted.
    pub fn admits(&self, entry: &LogEntry) -> bool {
        let is_by = |agent: &String| entry.agent.as_ref() == Some(agent);
        let is_of = |functor: &String| {
            entry.effects.iter().any(|LogEffect { functor: of, .. }| of.as_ref() == Some(functor))
        };
        self.agent.as_ref().is_none_or(is_by) && self.functor.as_ref().is_none_or(is_of)
    }
}

/// `name/arity` as it is compared: the name as Prolog writes it.
pub fn functor(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no functor: those are NAME/ARITY, as in account/2");
    let Ok(Term::Compound(slash, args)) = text::read(text, Dialect::Scryer) else {
        return Err(wrong());
    };
    match (&*slash, &args[..]) {
        ("/", [Term::Atom(name), Term::Integer(arity)]) => {
            let arity = u32::try_from(*arity).map_err(|_| wrong())?;
            Ok(written(&Indicator::new(name, arity)))
        }
        _ => Err(wrong()),
    }
}

/// An indicator as Prolog writes it.
pub(super) fn written(indicator: &Indicator) -> String {
    let mut out = String::new();
    text::write(&Term::atom(&*indicator.name), &mut out, text::WriteOptions::PRETTY);
    format!("{out}/{}", indicator.arity)
}

/// A time of a span, from RFC 3339.
pub fn time(text: &str) -> Result<u64, String> {
    rfc3339::parse(text).ok_or_else(|| format!("no time: those are as in {}", rfc3339::EXAMPLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_holds_what_is_within_all_its_ends() {
        let place = |index, time| Chain { index, time, hash: [0; 32] };
        let span = Span { from: Some(3), to: Some(7), since: Some(20), until: Some(60) };
        let held: Vec<u64> = (1..=9).filter(|n| span.holds(&place(*n, 10 * n))).collect();
        assert_eq!(held, [3, 4, 5, 6]);
        assert!(!span.is_passed_by(&place(6, 60)) && span.is_passed_by(&place(6, 61)));
        assert!(Span::default().holds(&place(1, 0)));
    }

    #[test]
    fn functors_are_compared_as_prolog_writes_them() {
        assert_eq!(functor("account/2").unwrap(), "account/2");
        assert_eq!(functor("'my job'/3").unwrap(), "'my job'/3");
        assert_eq!(functor("'account'/2").unwrap(), "account/2");
        for wrong in ["account", "X/2", "a/b", "a/ -1", "a/2/3", "", "a(("] {
            assert!(functor(wrong).unwrap_err().contains("NAME/ARITY"), "{wrong}");
        }
    }
}
