//! One run of an agent, as it was and as it would be.

use crate::json::text_of;
use serde::Serialize;
use synod_core::apply::Effect;
use synod_core::command::Op;
use synod_core::kb::{End, Kb};
use synod_prolog::frame::Trigger;
use synod_prolog::trigger_term;

/// Something that a run wrote, emitted or sent, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Line(String);

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It was and would be.
    Same,
    /// It was and would not be.
    Was,
    /// It was not and would be.
    Would,
}

/// A run beside what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The index of the command that the run was.
    pub index: u64,
    /// When that was, in microseconds since 1970 (UTC).
    pub time: u64,
    /// What was handled: arguments of `on/1`.
    pub triggers: Vec<String>,
    /// What was written, emitted and sent, in order.
    pub lines: Vec<(Mark, Line)>,
    /// Handlers of the new program that failed or threw, and engines that died.
    pub notes: Vec<String>,
}

/// What a program would do.
#[derive(Debug, Default)]
pub(super) struct Would {
    pub(super) lines: Vec<Line>,
    pub(super) sent: Vec<Line>,
    pub(super) notes: Vec<String>,
}

impl Would {
    pub(super) fn died(why: &str) -> Self {
        Self {
            notes: vec![format!("the engine {why}: nothing would have been written")],
            ..Self::default()
        }
    }
}

impl Line {
    pub(super) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Asserted { order, fact, .. } if *order < 0 => Self(goal("asserta", fact)),
            Effect::Asserted { fact, .. } => Self(goal("assertz", fact)),
            Effect::Retracted { fact, .. } => Self(goal("retract", fact)),
            Effect::Emitted { event } => Self(goal("broadcast", event)),
        }
    }

    /// Of an operation of a draft, which retracts facts of this knowledge base.
    pub(super) fn of_op(op: &Op, kb: &Kb) -> Self {
        match op {
            Op::Assert { end: End::First, fact } => Self(goal("asserta", fact)),
            Op::Assert { end: End::Last, fact } => Self(goal("assertz", fact)),
            Op::Emit { event } => Self(goal("broadcast", event)),
            Op::Retract { predicate, order } => {
                let fact = kb.predicate(predicate).and_then(|it| it.fact(*order));
                Self(fact.map_or_else(
                    || format!("retract({}/{}) of what is gone", predicate.name, predicate.arity),
                    |fact| goal("retract", &fact.bytes),
                ))
            }
        }
    }

    /// Of `publish(Topic, Term)` or `send(Agent, Term)`, encoded.
    pub(super) fn sent(term: &[u8]) -> Self {
        Self(text_of(term))
    }
}

impl Compared {
    pub(super) fn new(
        index: u64,
        time: u64,
        triggers: Vec<String>,
        was: &[Line],
        would: &[Line],
        notes: Vec<String>,
    ) -> Self {
        Self { index, time, triggers, lines: diff(was, would), notes }
    }

    /// Whether the run would have been another.
    pub fn differs(&self) -> bool {
        self.lines.iter().any(|(mark, _)| *mark != Mark::Same)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lines on either side for which the longest common subsequence is looked for, at most: its table is
/// their product.
const MAX_TABLE: usize = 1 << 22;

/// Two lists of lines as one: by their longest common subsequence, between a common head and tail.
fn diff(was: &[Line], would: &[Line]) -> Vec<(Mark, Line)> {
    let head = was.iter().zip(would).take_while(|(a, b)| a == b).count();
    let rest = was.len().min(would.len()) - head;
    let tail = was.iter().rev().zip(would.iter().rev()).take(rest).take_while(|(a, b)| a == b);
    let tail = tail.count();
    let (a, b) = (&was[head..was.len() - tail], &would[head..would.len() - tail]);
    let same = |line: &Line| (Mark::Same, line.clone());
    let mut lines: Vec<(Mark, Line)> = was[..head].iter().map(same).collect();
    if a.len() * b.len() > MAX_TABLE {
        lines.extend(a.iter().map(|line| (Mark::Was, line.clone())));
        lines.extend(b.iter().map(|line| (Mark::Would, line.clone())));
    } else {
        lines.extend(by_table(a, b));
    }
    lines.extend(was[was.len() - tail..].iter().map(same));
    lines
}

fn by_table(a: &[Line], b: &[Line]) -> Vec<(Mark, Line)> {
    let width = b.len() + 1;
    // How much the lists behind i and j have in common.
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = match a[i] == b[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((Mark::Same, a[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len()
            || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push((Mark::Was, a[i].clone()));
            i += 1;
        } else {
            lines.push((Mark::Would, b[j].clone()));
            j += 1;
        }
    }
    lines
}

/// The argument of `on/1`, as text.
pub(super) fn trigger_text(trigger: &Trigger) -> String {
    let term = trigger_term(trigger);
    term.map_or_else(|| "a trigger that is too large".to_owned(), |term| text_of(&term))
}

fn goal(name: &str, term: &[u8]) -> String {
    format!("{name}({})", text_of(term))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line((*text).to_owned())).collect()
    }

    fn shown(was: &[&str], would: &[&str]) -> String {
        let marked = diff(&lines(was), &lines(would));
        let mark = |mark| match mark {
            Mark::Same => ' ',
            Mark::Was => '-',
            Mark::Would => '+',
        };
        marked.iter().map(|(m, Line(text))| format!("{}{text}", mark(*m))).collect()
    }

    #[test]
    fn what_both_have_stands_once_and_in_order() {
        assert_eq!(shown(&["a", "b", "c"], &["a", "b", "c"]), " a b c");
        assert_eq!(shown(&["a", "b", "c"], &["a", "c"]), " a-b c");
        assert_eq!(shown(&["a", "c"], &["a", "b", "c"]), " a+b c");
        assert_eq!(shown(&["a", "b"], &["b", "a"]), "-a b+a");
        assert_eq!(shown(&[], &["x"]), "+x");
        assert_eq!(shown(&["x", "x"], &["x"]), " x-x");
        assert_eq!(shown(&["a", "x", "b", "y", "c"], &["a", "b", "z", "c"]), " a-x b-y+z c");
    }
}
