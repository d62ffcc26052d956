//! `synod repl`: a toplevel on an agent's program and the facts of its space.
//!
//! It is a client as `synod query` is one, of the same stream of answers; but its goals wait after
//! each answer until the next is asked for, so that nothing is done for an answer that nobody wants.
//! On a terminal it looks like Scryer's own toplevel. Else it reads goals and prints answers, one a
//! line, as `synod query` does, and `;` on a line of its own asks for the next.

mod command;
mod complete;
mod input;
mod keys;
mod solve;
mod text;
mod watch;

use super::agent::table;
use super::client::{Client, encode};
use super::letters::Letters;
use super::memory::Memory;
use super::space::SpaceArg;
use super::{Failure, Global, Out, Verdict};
use crate::cli::say::say;
use clap::Args;
use command::Command;
use complete::Names;
use input::{Input, Line, MAX_GOAL_BYTES};
use solve::{Goal, Said};
use std::collections::VecDeque;
use std::io::{IsTerminal, stdin, stdout};
use std::time::{Duration, Instant};
use synod::api::{AgentInfo, PredicateInfo};
use text::{Text, is_blank};
use tokio::signal::unix::{Signal, SignalKind, signal};
use watch::{Beside, Watches};

/// The prompt, and that of a goal's further lines.
const PROMPT: &str = "?- ";
const FURTHER: &str = "|  ";
/// How old the names that Tab completes may be when a goal has ended.
const NAMES_AGE: Duration = Duration::from_secs(30);

/// A Prolog toplevel on an agent's program and the facts of its space
#[derive(Debug, Args)]
#[command(after_help = "\
`:help` in it says what else it takes. What a goal writes is a transaction of its own for each
write, as in a query. Without a terminal it reads goals, prints one answer a line, and takes `;` on
a line of its own for the next answer; it exits 2 if a goal was an error, else 1 if one failed.")]
pub(crate) struct Repl {
    /// The agent in whose program goals are solved [default: the only one]
    #[arg(long, env = "SYNOD_AGENT", value_name = "NAME", hide_env = true)]
    agent: Option<String>,
    #[command(flatten)]
    space: SpaceArg,
}

impl Repl {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let agent = self.find_agent(&client).await?;
        let space = SpaceArg { space: Some(agent.space.clone()) };
        let memory = Memory::of(&data, &space.find(&client).await?)?;
        let is_terminal =
            stdin().is_terminal() && stdout().is_terminal() && !global.out().is_json();
        let names = Names::default();
        let (input, printer) = if is_terminal {
            let history = data.join("cli").join("history");
            let (input, printer) = Input::terminal(history, names.clone())?;
            (input, Some(printer))
        } else {
            (Input::lines(), None)
        };
        let interrupts = if is_terminal {
            let listen = signal(SignalKind::interrupt());
            Some(listen.map_err(|error| Failure::error(format!("signals: {error}")))?)
        } else {
            None
        };
        let beside = Beside::new(printer, global.out().is_json());
        let mut session = Session {
            watches: Watches::new(client.clone(), agent.space.clone(), beside.clone()),
            client,
            global,
            agent,
            memory,
            out: global.out(),
            input,
            interrupts,
            beside,
            names,
            named: None,
            as_of: None,
            ahead: VecDeque::new(),
            worst: Verdict::Yes,
            has_erred: false,
        };
        session.run().await
    }

    /// The agent that is meant: it has to be named where several run.
    async fn find_agent(&self, client: &Client) -> Result<AgentInfo, Failure> {
        let agents: Vec<AgentInfo> = client.get("/v1/agents").await?;
        let space = self.space.space.as_deref();
        let is_meant = |agent: &AgentInfo| match &self.agent {
            Some(name) => agent.name == *name,
            None => {
                let is_loaded = matches!(&*agent.state, "running" | "standby" | "waiting");
                is_loaded && space.is_none_or(|space| agent.space == space)
            }
        };
        let known = agents.iter().map(|agent| agent.name.clone()).collect::<Vec<_>>().join(", ");
        let mut meant = agents.into_iter().filter(is_meant);
        match (meant.next(), meant.next(), &self.agent) {
            (Some(agent), None, _) => Ok(agent),
            (Some(_), Some(_), _) => {
                Err(Failure::error(format!("several agents run: say which with --agent ({known})")))
            }
            (None, _, Some(name)) if !known.is_empty() => {
                Err(Failure::error(format!("no agent {name} runs here; there is {known}")))
            }
            (None, ..) => {
                let space = self.space.find(client).await?;
                Err(Failure::error(match space.observed {
                    Some(_) => format!(
                        "this node only observes {name}, and runs no agents of it: use a member of {name}; here, \
                         `synod facts PATTERN --space {name}` gives its facts",
                        name = space.name
                    ),
                    None => "no agent runs here: start one with `synod run FILE`".to_owned(),
                }))
            }
        }
    }
}

/// A toplevel.
struct Session<'a> {
    client: Client,
    global: &'a Global,
    agent: AgentInfo,
    memory: Memory,
    out: Out,
    input: Input,
    /// Ctrl-C; on a terminal only.
    interrupts: Option<Signal>,
    beside: Beside,
    watches: Watches,
    names: Names,
    /// When the names were asked for.
    named: Option<Instant>,
    as_of: Option<u64>,
    /// Lines that were read and not looked at.
    ahead: VecDeque<String>,
    worst: Verdict,
    has_erred: bool,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<Verdict, Failure> {
        if self.is_terminal() {
            let AgentInfo { name, space, .. } = &self.agent;
            self.out.line(format_args!(
                "% {name} in space {space}; :help says what there is, Ctrl-D leaves"
            ))?;
        }
        let mut text = Text::default();
        loop {
            self.refresh_names();
            match self.next_line(text.is_blank()).await {
                Line::End => break,
                Line::Interrupted => text.clear(),
                Line::Bad(why) if self.is_terminal() => {
                    say(format_args!("synod: {why}"));
                    text.clear();
                }
                Line::Bad(why) => return Err(Failure::error(why)),
                Line::Text(line) if text.is_blank() && command::is_command(&line) => {
                    self.input.remember(&line);
                    let done = self.obey(&line).await;
                    self.or_say(done)?;
                }
                Line::Text(line) => {
                    text.push(&line);
                    self.solve_all(&mut text).await?;
                    if text.len() > MAX_GOAL_BYTES {
                        let most = MAX_GOAL_BYTES >> 20;
                        let why = format!("a goal has at most {most} MiB; this one has no end");
                        if !self.is_terminal() {
                            return Err(Failure::error(why));
                        }
                        say(format_args!("synod: {why}"));
                        text.clear();
                    }
                }
            }
        }
        if !text.is_blank() && !self.is_terminal() {
            return Err(Failure::error("the last goal has no full stop"));
        }
        if self.has_erred && !self.is_terminal() {
            return Err(Failure::Told);
        }
        Ok(if self.is_terminal() { Verdict::Yes } else { self.worst })
    }

    fn is_terminal(&self) -> bool {
        self.interrupts.is_some()
    }

    async fn next_line(&mut self, is_first: bool) -> Line {
        if let Some(line) = self.ahead.pop_front() {
            return Line::Text(line);
        }
        let prompt = match (is_first, self.as_of) {
            (false, _) => FURTHER.to_owned(),
            (true, None) => PROMPT.to_owned(),
            (true, Some(index)) => format!("@{index} {PROMPT}"),
        };
        self.input.read(&prompt).await
    }

    /// Solves the goals that a text holds whole; what remains of it is the beginning of the next.
    async fn solve_all(&mut self, text: &mut Text) -> Result<(), Failure> {
        while let Some(goal) = text.next_goal() {
            let goal = goal.trim();
            if is_blank(goal) {
                continue;
            }
            self.input.remember(&format!("{goal}."));
            let solved = self.solve(goal).await;
            match self.or_say(solved)? {
                Some(Said::Verdict(Verdict::No)) => self.worst = Verdict::No,
                Some(Said::Error) => self.has_erred = true,
                Some(Said::Verdict(Verdict::Yes) | Said::Stopped) | None => {}
            }
        }
        if text.is_blank() {
            text.clear();
        }
        Ok(())
    }

    async fn solve(&mut self, goal: &str) -> Result<Said, Failure> {
        Goal {
            client: &self.client,
            agent: &self.agent.name,
            goal,
            as_of: self.as_of,
            memory: &mut self.memory,
            out: &mut self.out,
            input: &mut self.input,
            interrupts: self.interrupts.as_mut(),
            is_in_line: &self.beside.is_in_line,
            ahead: &mut self.ahead,
        }
        .solve()
        .await
    }

    /// An error ends nothing but what it is about; only where nobody reads there is no going on.
    fn or_say<T>(&mut self, done: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Failure::PipeClosed) => Err(Failure::PipeClosed),
            Err(failure) => {
                self.has_erred = !self.is_terminal();
                failure.tell();
                Ok(None)
            }
        }
    }

    async fn obey(&mut self, line: &str) -> Result<(), Failure> {
        match command::read(line).map_err(Failure::error)? {
            Command::AsOf(index) => self.as_of = index,
            Command::Watch(predicate) => self.watches.begin(&predicate).await?,
            Command::Unwatch(predicate) => {
                if !self.watches.end(&predicate) {
                    return Err(Failure::error(format!("{predicate} is not watched")));
                }
            }
            Command::Letters => {
                Letters::of(&self.agent.name).run(&self.client, self.global).await?;
            }
            Command::Agents => {
                let agents: Vec<AgentInfo> = self.client.get("/v1/agents").await?;
                if self.out.is_json() {
                    agents.iter().try_for_each(|agent| self.out.json(agent))?;
                } else {
                    table(&agents).print(&mut self.out)?;
                }
            }
            Command::Help => self.out.line(command::HELP)?,
        }
        Ok(())
    }

    /// Has the names that Tab completes asked for, in the background, if they are old.
    fn refresh_names(&mut self) {
        if !self.is_terminal() || self.named.is_some_and(|named| named.elapsed() < NAMES_AGE) {
            return;
        }
        self.named = Some(Instant::now());
        let (client, names) = (self.client.clone(), self.names.clone());
        let path = format!("/v1/agents/{}/predicates", encode(&self.agent.name));
        tokio::spawn(async move {
            // Without them nothing is completed; what is wrong is told by the next goal.
            if let Ok(found) = client.get::<Vec<PredicateInfo>>(&path).await {
                names.set(found);
            }
        });
    }
}
