//! Unification (ISO/IEC 13211-1, 7.3) by the book, over terms as Prolog sees them: a string is a
//! chain of cells and a rational is an `rdiv/2`. No occurs check is made, as in Scryer; a pair of
//! terms that is met again while it is being unified counts as unified, so that it ends.

use std::collections::BTreeMap;
use std::rc::Rc;
use synod_core::term::Term;

/// Whether a goal and a fact unify, their variables standing apart.
pub fn unifies(goal: &Term, fact: &Term) -> bool {
    let mut nodes = Nodes::default();
    let (goal, fact) = (nodes.scope(goal), nodes.scope(fact));
    Unifier { bindings: vec![None; nodes.variables], met: Vec::new() }.unify(&goal, &fact)
}

/// A term with nothing left in it but what unification knows.
enum Node {
    Variable(usize),
    Atomic(Term),
    Compound(String, Vec<Rc<Self>>),
}

#[derive(Default)]
struct Nodes {
    variables: usize,
    scope: BTreeMap<u32, usize>,
}

impl Nodes {
    fn scope(&mut self, term: &Term) -> Rc<Node> {
        self.scope.clear();
        self.node(term)
    }

    fn node(&mut self, term: &Term) -> Rc<Node> {
        let node = match term {
            Term::Var(n) => {
                let variables = &mut self.variables;
                Node::Variable(*self.scope.entry(*n).or_insert_with(|| {
                    *variables += 1;
                    *variables - 1
                }))
            }
            Term::String(text) => {
                let chars = text.chars().map(|c| Rc::new(Node::Atomic(Term::atom(c.to_string()))));
                return chain(chars.collect(), Rc::new(Node::Atomic(Term::EMPTY)));
            }
            Term::List(items) if !items.is_empty() => {
                let items = items.iter().map(|item| self.node(item)).collect();
                return chain(items, Rc::new(Node::Atomic(Term::EMPTY)));
            }
            Term::Partial(items, tail) => {
                let items = items.iter().map(|item| self.node(item)).collect();
                return chain(items, self.node(tail));
            }
            Term::Rational(r) => {
                let parts = [r.numerator(), r.denominator()];
                let parts = parts.map(|n| Rc::new(Node::Atomic(Term::integer(n.clone()))));
                Node::Compound("rdiv".to_owned(), parts.into())
            }
            Term::Compound(name, args) => {
                Node::Compound(name.to_string(), args.iter().map(|arg| self.node(arg)).collect())
            }
            atomic => Node::Atomic(atomic.clone()),
        };
        Rc::new(node)
    }
}

fn chain(items: Vec<Rc<Node>>, tail: Rc<Node>) -> Rc<Node> {
    let cell = |tail, item| Rc::new(Node::Compound(".".to_owned(), vec![item, tail]));
    items.into_iter().rev().fold(tail, cell)
}

struct Unifier {
    bindings: Vec<Option<Rc<Node>>>,
    met: Vec<(*const Node, *const Node)>,
}

impl Unifier {
    fn unify(&mut self, a: &Rc<Node>, b: &Rc<Node>) -> bool {
        let (a, b) = (self.value(a), self.value(b));
        match (&*a, &*b) {
            (Node::Variable(x), Node::Variable(y)) if x == y => true,
            (Node::Variable(x), _) => {
                self.bindings[*x] = Some(b);
                true
            }
            (_, Node::Variable(y)) => {
                self.bindings[*y] = Some(a);
                true
            }
            (Node::Atomic(x), Node::Atomic(y)) => x == y,
            (Node::Compound(f, xs), Node::Compound(g, ys)) => {
                let pair = (Rc::as_ptr(&a), Rc::as_ptr(&b));
                if self.met.contains(&pair) {
                    return true;
                }
                self.met.push(pair);
                f == g && xs.len() == ys.len() && xs.iter().zip(ys).all(|(x, y)| self.unify(x, y))
            }
            _ => false,
        }
    }

    fn value(&self, node: &Rc<Node>) -> Rc<Node> {
        let mut node = node.clone();
        while let Node::Variable(n) = *node {
            match &self.bindings[n] {
                Some(value) => node = value.clone(),
                None => break,
            }
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(args: Vec<Term>) -> Term {
        Term::compound("f", args).unwrap()
    }

    #[test]
    fn what_unifies_in_prolog_unifies_here() {
        let (x, y) = (Term::Var(0), Term::Var(1));
        let (a, b) = (Term::atom("a"), Term::atom("b"));
        let rows = [
            (a.clone(), a.clone(), true),
            (a.clone(), b.clone(), false),
            (Term::Integer(1), Term::Float(1.0), false),
            (x.clone(), f(vec![a.clone()]), true),
            (f(vec![x.clone(), x.clone()]), f(vec![a.clone(), b.clone()]), false),
            (f(vec![x.clone(), x.clone()]), f(vec![a.clone(), x.clone()]), true),
            (f(vec![x.clone(), x.clone()]), f(vec![y.clone(), f(vec![y.clone()])]), true),
            (Term::partial(vec![a.clone()], x.clone()), Term::string("ab"), true),
            (Term::partial(vec![a.clone()], x.clone()), Term::string("ba"), false),
            (Term::string("a"), Term::list(vec![a.clone(), b.clone()]), false),
            (Term::list(vec![x.clone(), y.clone()]), Term::string("ab"), true),
            (
                Term::structure("rdiv", [x.clone(), Term::Integer(3)]),
                Term::rational(1.into(), 3.into()).unwrap(),
                true,
            ),
            (f(vec![a.clone()]), f(vec![a.clone(), a.clone()]), false),
        ];
        for (goal, fact, expected) in rows {
            assert_eq!(unifies(&goal, &fact), expected, "{goal:?} = {fact:?}");
            assert_eq!(unifies(&fact, &goal), expected, "{fact:?} = {goal:?}");
        }
    }
}
