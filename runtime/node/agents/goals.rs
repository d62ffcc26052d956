//! Goals of clients: in a side engine of an agent here, or of one elsewhere.

use super::context::Registered;
use super::remote::{self, Remote};
use super::side::{SideEvent, Solve};
use super::step::Step;
use super::{Agents, EVENTS, SolveKind};
use crate::api::{ErrorBody, GoalEvent, GoalRequest};
use crate::json;
use crate::space::{Space, error};
use std::sync::Arc;
use std::time::Duration;
use synod_prolog::frame::{GoalKind, GoalText};
use tokio::sync::{Notify, mpsc};

/// Answers in one frame of a goal from outside: each is shown as it comes.
const CHUNK: u32 = 1;

impl Agents {
    /// Solves a goal in a side engine of an agent: of one here, else of one elsewhere. Dropping the
    /// receiver ends it.
    pub(crate) async fn solve(
        &self,
        kind: SolveKind,
        request: GoalRequest,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        match self.for_goal(request.agent.as_deref(), request.space.as_deref()) {
            Ok(agent) => self.solve_here(&agent, kind, request),
            Err(unknown) => self.solve_elsewhere(kind, request, unknown).await,
        }
    }

    /// Solves a goal where the agent runs, be it here or elsewhere.
    pub(crate) async fn call(
        &self,
        request: GoalRequest,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        let name = request.agent.clone().unwrap_or_default();
        if let Some(agent) = self.context.runs(&name) {
            return self.solve_here(&agent, SolveKind::Query, request);
        }
        let unknown = error("not_found", format!("no agent {name} runs on any node that is known"));
        self.solve_elsewhere(SolveKind::Query, request, unknown).await
    }

    async fn solve_elsewhere(
        &self,
        kind: SolveKind,
        request: GoalRequest,
        unknown: ErrorBody,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        let Some(agent) = request.agent.clone() else { return Err(unknown) };
        let space = request.space.clone();
        let Some((net, places)) = self.context.elsewhere(&agent, space.as_deref()).await else {
            return Err(unknown);
        };
        let space = net.space_id(space.as_deref());
        let (step, solve) = self.asked(kind, request)?;
        let asked = Arc::new(Notify::new());
        let events = remote::solve(net, places, Remote { agent, space, solve }, Arc::clone(&asked));
        Ok(pass_on(events, None, kind, Some((step, asked))))
    }

    fn solve_here(
        &self,
        agent: &Registered,
        kind: SolveKind,
        request: GoalRequest,
    ) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        let (step, solve) = self.asked(kind, request)?;
        let events = agent.solve(&self.context, Solve { step, ..solve })?;
        Ok(pass_on(events, Some(agent.space.clone()), kind, None))
    }

    fn asked(
        &self,
        kind: SolveKind,
        request: GoalRequest,
    ) -> Result<(Option<Arc<Step>>, Solve), ErrorBody> {
        let step = request.step.map(|name| self.context.steps.begin(name)).transpose()?;
        let solve = Solve {
            kind: match kind {
                SolveKind::Query => GoalKind::Query,
                SolveKind::Transact => GoalKind::Transact,
            },
            goal: GoalText::Text { text: request.goal },
            chunk: CHUNK,
            limit: request.limit,
            at_least: request.min_index,
            as_of: request.as_of.filter(|_| kind == SolveKind::Query),
            once: request.once,
            depth: 0,
            step: None,
        };
        Ok((step.map(Arc::new), solve))
    }

    fn for_goal(&self, name: Option<&str>, space: Option<&str>) -> Result<Registered, ErrorBody> {
        if let Some(name) = name {
            return self.agent(name);
        }
        let mut running: Vec<_> = self
            .context
            .agents()
            .into_iter()
            .filter(|a| a.view.is_alive() && space.is_none_or(|s| a.definition.space == s))
            .collect();
        match (running.pop(), running.is_empty()) {
            (Some(agent), true) => Ok(agent),
            (Some(agent), false) => {
                running.push(agent);
                let names: Vec<_> = running.iter().map(|a| a.definition.name.clone()).collect();
                let text =
                    format!("several agents run: say which with --agent ({})", names.join(", "));
                Err(error("ambiguous", text))
            }
            (None, _) => {
                let text = "no agent runs here: start one with `synod run FILE`";
                Err(error("not_found", text))
            }
        }
    }
}

/// A goal that is solved elsewhere waits after each answer: for the client if it wants that, and is else
/// asked to go on as soon as the answer has been passed on.
type Waits = (Option<Arc<Step>>, Arc<Notify>);

/// Passes what a goal tells on to a client.
fn pass_on(
    mut events: mpsc::Receiver<SideEvent>,
    space: Option<Space>,
    kind: SolveKind,
    waits: Option<Waits>,
) -> mpsc::Receiver<GoalEvent> {
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = sender.closed() => return,
            };
            let Some(event) = event else { return };
            if let (SideEvent::More, Some((step, asked))) = (&event, &waits) {
                if let Some(step) = step {
                    if sender.send(GoalEvent::More).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        () = step.asked() => {}
                        () = sender.closed() => return,
                    }
                }
                asked.notify_one();
                continue;
            }
            if sender.send(goal_event(event, space.as_ref(), kind)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn goal_event(event: SideEvent, space: Option<&Space>, kind: SolveKind) -> GoalEvent {
    match event {
        SideEvent::Answer(answer) => GoalEvent::Answer(json::answer(answer)),
        SideEvent::Output(bytes) => {
            GoalEvent::Output { text: String::from_utf8_lossy(&bytes).into_owned() }
        }
        SideEvent::More => GoalEvent::More,
        SideEvent::End { succeeded, more, index, stale_ms } => {
            let stale = space.and_then(Space::leaderless_for).filter(|_| kind == SolveKind::Query);
            let millis = |stale: Duration| u64::try_from(stale.as_millis()).unwrap_or(u64::MAX);
            let stale_ms = stale.map(millis).or(stale_ms);
            GoalEvent::End { succeeded, more, index, stale_ms }
        }
        SideEvent::Threw { text, .. } => GoalEvent::Error(error("threw", text)),
        SideEvent::Failed(body) => GoalEvent::Error(body),
    }
}
