//! The reader's stack of values, each with the nesting below it, so that no term is built that the
//! codec would find too deep.
//!
//! A list that is given as cells, `'.'(a,'.'(b,[]))` or `[a|[b|[]]]`, closes from its end to its
//! front. It is kept backwards until something takes it, or reading it would be quadratic.

use super::super::{MAX_DEPTH, Term, chars};
use super::lex::Fault;

#[derive(Default)]
pub(super) struct Stack(Vec<Value>);

enum Value {
    /// A term and its depth.
    Whole(Term, usize),
    /// A list whose front may still grow.
    Backwards {
        /// From the last to the first.
        items: Vec<Term>,
        /// Of the deepest item.
        depth: usize,
        /// What follows the last item, and its depth; nothing for the empty list.
        tail: Option<(Term, usize)>,
    },
}

impl Stack {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Pushes a term that is atomic or a variable.
    pub(super) fn push(&mut self, term: Term) {
        self.0.push(Value::Whole(term, 0));
    }

    pub(super) fn pop(&mut self) -> Result<Term, Fault> {
        match self.0.pop() {
            Some(value) => Ok(value.finish()?.0),
            None => Err(Fault::EndOfText),
        }
    }

    /// Replaces the values from `start` on by the compound of which they are the arguments.
    pub(super) fn compound(&mut self, name: &str, start: usize) -> Result<(), Fault> {
        if name == "." && self.len() == start + 2 {
            return self.cells(start);
        }
        let (args, depth) = self.take(start)?;
        let term = Term::compound(name, args)
            .map_err(|_| Fault::Refused("more arguments than a compound can have"))?;
        let depth = if matches!(term, Term::Compound(..)) { depth + 1 } else { 0 };
        self.0.push(Value::Whole(term, depth));
        Ok(())
    }

    /// Replaces the values from `start` on by the list of them.
    pub(super) fn list(&mut self, start: usize) -> Result<(), Fault> {
        let (items, depth) = self.take(start)?;
        let term = Term::list(items);
        let depth = if matches!(term, Term::String(_)) { 0 } else { depth + 1 };
        self.0.push(Value::Whole(term, depth));
        Ok(())
    }

    /// Replaces the values from `start` on by the list of all but the last, which is its tail.
    pub(super) fn cells(&mut self, start: usize) -> Result<(), Fault> {
        let Some(tail) = self.0.pop() else { return Err(Fault::EndOfText) };
        let (front, front_depth) = self.take(start)?;
        let (mut items, mut depth, tail) = tail.backwards();
        items.extend(front.into_iter().rev());
        depth = depth.max(front_depth);
        self.0.push(Value::Backwards { items, depth, tail });
        Ok(())
    }

    /// The values from `start` on, and the depth of the deepest.
    fn take(&mut self, start: usize) -> Result<(Vec<Term>, usize), Fault> {
        let mut deepest = 0;
        let mut terms = Vec::with_capacity(self.0.len() - start);
        for value in self.0.drain(start..) {
            let (term, depth) = value.finish()?;
            deepest = deepest.max(depth);
            terms.push(term);
        }
        Ok((terms, deepest))
    }
}

impl Value {
    /// The term, which is at most [`MAX_DEPTH`] deep.
    fn finish(self) -> Result<(Term, usize), Fault> {
        let (term, depth) = match self {
            Self::Whole(term, depth) => (term, depth),
            Self::Backwards { mut items, depth, tail } => {
                items.reverse();
                match tail {
                    // The items of a partial list stand two levels below it in the encoding.
                    Some((tail, below)) => {
                        let depth = (depth + 2).max(below + 1);
                        (Term::Partial(items, Box::new(tail)), depth)
                    }
                    None => match Term::list(items) {
                        string @ Term::String(_) => (string, 0),
                        list => (list, depth + 1),
                    },
                }
            }
        };
        if depth > MAX_DEPTH { Err(Fault::TooDeep) } else { Ok((term, depth)) }
    }

    /// As the tail of a list: its items from the last to the first, their depth, and its tail.
    fn backwards(self) -> (Vec<Term>, usize, Option<(Term, usize)>) {
        match self {
            Self::Backwards { items, depth, tail } => (items, depth, tail),
            Self::Whole(Term::List(mut items), depth) => {
                items.reverse();
                (items, depth.saturating_sub(1), None)
            }
            Self::Whole(Term::String(text), _) => {
                let mut items: Vec<_> = chars(&text).collect();
                items.reverse();
                (items, 0, None)
            }
            Self::Whole(Term::Partial(mut items, tail), depth) => {
                items.reverse();
                (items, depth.saturating_sub(2), Some((*tail, depth.saturating_sub(1))))
            }
            Self::Whole(tail, depth) => (Vec::new(), 0, Some((tail, depth))),
        }
    }
}
