//! Prolog terms as JSON, for answers.
//!
//! | term | JSON |
//! |---|---|
//! | integer of up to 53 bits, float | number |
//! | larger integer, rational | `{"number": "…"}`, as Prolog writes it |
//! | atom | string |
//! | string | string |
//! | list | array |
//! | partial list | `{"list": […], "tail": …}` |
//! | compound | `{"functor": "…", "args": […]}` |
//! | variable | `{"variable": "_N"}` |
//! | what cannot be encoded, or is nested deeper than [`MAX_LEVELS`] | `{"text": "…"}`, all of it |

use crate::api;
use serde_json::{Map, Value, json};
use synod_core::term::{Term, text};
use synod_prolog::frame;

/// The largest integer that every JSON reader keeps exactly: 2^53.
const MAX_EXACT: u64 = 1 << 53;
/// Levels of a term that JSON is nested for. A compound takes two of JSON's, an answer three more,
/// and many readers take no more than 128.
const MAX_LEVELS: usize = 60;

/// An engine's answer as the control socket tells it.
pub(crate) fn answer(answer: frame::Answer) -> api::Answer {
    let value = |binding: &frame::Binding| {
        let term = binding.term.as_deref().and_then(|bytes| Term::decode(bytes).ok());
        let value = term.and_then(|term| value(&term, MAX_LEVELS));
        value.unwrap_or_else(|| json!({ "text": binding.text }))
    };
    let bindings: Map<String, Value> =
        answer.bindings.iter().map(|b| (b.name.clone(), value(b))).collect();
    api::Answer { text: answer.text, bindings, residuals: answer.residuals }
}

/// A term as JSON.
pub(crate) fn of(term: &Term) -> Value {
    value(term, MAX_LEVELS).unwrap_or_else(|| json!({ "text": written(term) }))
}

/// A term as JSON, unless it has more levels than this.
fn value(term: &Term, levels: usize) -> Option<Value> {
    let below = levels.checked_sub(1)?;
    let one = |term: &Term| value(term, below);
    let all = |terms: &[Term]| terms.iter().map(one).collect::<Option<Vec<_>>>();
    Some(match term {
        Term::Integer(n) if n.unsigned_abs() <= MAX_EXACT => json!(n),
        Term::Integer(_) | Term::Big(_) | Term::Rational(_) => json!({ "number": written(term) }),
        Term::Float(f) => json!(f),
        Term::Atom(name) => json!(name),
        Term::String(text) => json!(text),
        Term::List(items) => json!(all(items)?),
        Term::Partial(items, tail) => json!({ "list": all(items)?, "tail": one(tail)? }),
        Term::Compound(name, args) => json!({ "functor": name, "args": all(args)? }),
        Term::Var(n) => json!({ "variable": format!("_{n}") }),
    })
}

/// An encoded term as text for people.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    match Term::decode(bytes) {
        Ok(term) => written(&term),
        Err(e) => format!("(cannot be read: {e})"),
    }
}

fn written(term: &Term) -> String {
    let mut out = String::new();
    text::write(term, &mut out, text::WriteOptions { operators: true, ..Default::default() });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_term_has_its_form() {
        let form = |term: &Term| value(term, MAX_LEVELS).unwrap();
        let f = Term::structure("f", [Term::atom("a"), Term::Var(0), Term::string("hi")]);
        let expected = json!({ "functor": "f", "args": ["a", { "variable": "_0" }, "hi"] });
        assert_eq!(form(&f), expected);
        assert_eq!(form(&Term::list(vec![Term::Integer(1), Term::Float(2.5)])), json!([1, 2.5]));
        for n in [i64::MAX, i64::MIN] {
            assert_eq!(form(&Term::Integer(n)), json!({ "number": n.to_string() }));
        }
        assert_eq!(form(&Term::list(vec![])), json!([]));
    }

    #[test]
    fn what_is_nested_deeper_than_readers_read_is_text() {
        let nested = |levels: usize| {
            let term = (1..levels).fold(Term::atom("a"), |term, _| Term::structure("f", [term]));
            let (term, text) = (Some(term.encode().unwrap()), "f(…)".to_owned());
            let bindings = vec![frame::Binding { name: "X".to_owned(), text, term }];
            let text = "X = f(…)".to_owned();
            let answer = answer(frame::Answer { text, bindings, residuals: vec![], term: None });
            serde_json::to_string(&api::GoalEvent::Answer(answer)).unwrap()
        };
        let deepest = nested(MAX_LEVELS);
        assert!(deepest.contains("functor"));
        assert!(serde_json::from_str::<api::GoalEvent>(&deepest).is_ok());
        assert!(nested(MAX_LEVELS + 1).contains(r#""X":{"text":"f(…)"}"#));
        assert!(nested(synod_core::term::MAX_DEPTH - 1).contains(r#""X":{"text":"f(…)"}"#));
    }
}
