//! The predicates that a program sees, for whoever completes names.

use super::Agents;
use super::side::{SideEvent, Solve};
use crate::api::{ErrorBody, PredicateInfo};
use crate::space::error;
use synod_core::term::Term;
use synod_prolog::frame::{Answer, GoalKind, GoalText};

impl Agents {
    /// The predicates that an agent's program sees: its own, those of the space, of the libraries
    /// that it uses, and the built-in ones. Asked of a side engine.
    pub(crate) async fn predicates(&self, name: &str) -> Result<Vec<PredicateInfo>, ErrorBody> {
        let agent = self.agent(name)?;
        let goal = Term::structure("visible_predicates", [Term::Var(0)]);
        let goal = Term::structure(":", [Term::atom("synod_names"), goal]);
        let term = goal.encode().map_err(|e| error("engine", e.to_string()))?;
        let solve = Solve {
            kind: GoalKind::Call,
            goal: GoalText::Term { term },
            chunk: 1,
            limit: Some(1),
            at_least: 0,
            once: None,
            as_of: None,
            depth: 0,
            step: None,
        };
        let mut events = agent.solve(&self.context, solve)?;
        while let Some(event) = events.recv().await {
            match event {
                SideEvent::Answer(answer) => return Ok(listed(&answer)),
                SideEvent::Failed(body) => return Err(body),
                SideEvent::Threw { text, .. } => return Err(error("threw", text)),
                SideEvent::End { .. } => return Ok(Vec::new()),
                SideEvent::Output(_) | SideEvent::More => {}
            }
        }
        Err(error("stopping", "the node is going down: ask again when it is up"))
    }
}

/// Out of `answer(synod_names:visible_predicates([p(Name, Arity, IsReplicated), …]), [])`.
fn listed(answer: &Answer) -> Vec<PredicateInfo> {
    let term = answer.term.as_deref().and_then(|bytes| Term::decode(bytes).ok());
    let list = term.as_ref().and_then(|answer| argument(argument(argument(answer, 0)?, 1)?, 0));
    let Some(Term::List(items)) = list else { return Vec::new() };
    let mut found: Vec<_> = items.iter().filter_map(predicate).collect();
    found.sort();
    found.dedup();
    found
}

fn predicate(item: &Term) -> Option<PredicateInfo> {
    let Some(Term::Atom(name)) = argument(item, 0) else { return None };
    let Some(Term::Integer(arity)) = argument(item, 1) else { return None };
    let replicated = matches!(argument(item, 2), Some(Term::Atom(is)) if &**is == "true");
    Some(PredicateInfo { name: name.to_string(), arity: u32::try_from(*arity).ok()?, replicated })
}

fn argument(term: &Term, n: usize) -> Option<&Term> {
    match term {
        Term::Compound(_, args) => args.get(n),
        _ => None,
    }
}
