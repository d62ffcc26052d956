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

use crate::api;
use serde_json::{Map, Value, json};
use synod_core::term::{Term, text};
use synod_prolog::frame;

/// The largest integer that every JSON reader keeps exactly: 2^53.
const MAX_EXACT: i64 = 1 << 53;

/// An engine's answer as the control socket tells it.
pub(crate) fn answer(answer: frame::Answer) -> api::Answer {
    let value = |binding: &frame::Binding| {
        let term = binding.term.as_deref().and_then(|bytes| Term::decode(bytes).ok());
        term.map_or_else(|| json!({ "text": binding.text }), |term| value(&term))
    };
    let bindings: Map<String, Value> =
        answer.bindings.iter().map(|b| (b.name.clone(), value(b))).collect();
    api::Answer { text: answer.text, bindings, residuals: answer.residuals }
}

/// A term as JSON. Its depth is bounded by [`synod_core::term::MAX_DEPTH`].
pub(crate) fn value(term: &Term) -> Value {
    let all = |terms: &[Term]| Value::Array(terms.iter().map(value).collect());
    match term {
        Term::Integer(n) if n.abs() <= MAX_EXACT => json!(n),
        Term::Integer(_) | Term::Big(_) | Term::Rational(_) => json!({ "number": written(term) }),
        Term::Float(f) => json!(f),
        Term::Atom(name) => json!(name),
        Term::String(text) => json!(text),
        Term::List(items) => all(items),
        Term::Partial(items, tail) => json!({ "list": all(items), "tail": value(tail) }),
        Term::Compound(name, args) => json!({ "functor": name, "args": all(args) }),
        Term::Var(n) => json!({ "variable": format!("_{n}") }),
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
        let f = Term::structure("f", [Term::atom("a"), Term::Var(0), Term::string("hi")]);
        let expected = json!({ "functor": "f", "args": ["a", { "variable": "_0" }, "hi"] });
        assert_eq!(value(&f), expected);
        assert_eq!(value(&Term::list(vec![Term::Integer(1), Term::Float(2.5)])), json!([1, 2.5]));
        assert_eq!(value(&Term::Integer(i64::MAX)), json!({ "number": i64::MAX.to_string() }));
        assert_eq!(value(&Term::list(vec![])), json!([]));
    }
}
