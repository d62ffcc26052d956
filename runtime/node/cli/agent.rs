//! `synod agent list|stop|restart|reload|logs|letters`

use super::client::{Client, encode};
use super::foreground::Signals;
use super::letters::Letters;
use super::table::{Table, bytes};
use super::{Failure, Global, Out, Verdict, lines, units};
use clap::{Args, Subcommand};
use serde_json::Value;
use synod::api::{AgentInfo, LogLine, Reloaded};

/// List, stop, restart or reload agents; their logs and letters
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// List the agents of the node
    List,
    /// Stop an agent: it runs nowhere until it is run again
    Stop(Named),
    /// Begin an agent anew with its program as it is now
    ///
    /// A fresh engine takes over, in a new epoch: on(start) runs again, and timers, watches and
    /// subscriptions begin with nothing. A handler that runs is given up, and its event handled by
    /// the new program. What does not load leaves the old program running.
    #[command(verbatim_doc_comment)]
    Restart(Named),
    /// Take an agent's changed program over between two events, and go on
    ///
    /// A fresh engine loads the program beside the one that runs, and takes over when no handler
    /// runs: no event is lost or handled twice. Timers, watches, subscriptions and messages that wait
    /// are kept, and on(start) does not run again; on(engine) does, as in every engine. If the
    /// program's own text has changed, or it declares other predicates or keys, that is a new epoch
    /// of the agent. A program that does not load is refused with file, line and column, and the one
    /// from before goes on.
    #[command(verbatim_doc_comment)]
    Reload(Named),
    /// Print an agent's log
    Logs(Logs),
    Letters(Letters),
}

/// An agent's name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The agent
    #[arg(value_parser = units::agent)]
    name: String,
}

/// Which lines.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The agent
    #[arg(value_parser = units::agent)]
    name: String,
    /// Go on with what comes
    #[arg(short, long, env = "SYNOD_FOLLOW", hide_env = true, value_parser = units::switch())]
    follow: bool,
    /// Print the last so many lines
    #[arg(
        short = 'n',
        long,
        env = "SYNOD_TAIL",
        value_name = "N",
        default_value_t = 100,
        hide_env = true
    )]
    tail: usize,
}

impl Agent {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        match self {
            Self::List => list(&client, global).await,
            Self::Stop(named) => order(&client, &named.name, "stop").await,
            Self::Restart(named) => load(&client, &named.name, "restart", global).await,
            Self::Reload(named) => load(&client, &named.name, "reload", global).await,
            Self::Logs(logs) => logs.run(&client, global).await,
            Self::Letters(letters) => letters.run(&client, global).await,
        }
    }
}

async fn list(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let agents: Vec<AgentInfo> = client.get("/v1/agents").await?;
    let mut out = global.out();
    if out.is_json() {
        agents.iter().try_for_each(|agent| out.json(agent))?;
    } else {
        table(&agents).print(&mut out)?;
    }
    Ok(Verdict::Yes)
}

/// The agents for people.
pub(crate) fn table(agents: &[AgentInfo]) -> Table {
    let mut table = Table::new([
        "AGENT", "SPACE", "STATE", "CURSOR", "LAG", "HANDLED", "FAILED", "DEATHS", "LETTERS",
        "DROPPED", "MEMORY", "",
    ]);
    for agent in agents {
        table.row([
            agent.name.clone(),
            agent.space.clone(),
            agent.state.clone(),
            agent.cursor.clone(),
            agent.lag.to_string(),
            agent.handled.to_string(),
            agent.failed.to_string(),
            agent.deaths.to_string(),
            agent.letters.to_string(),
            agent.dropped.to_string(),
            agent.memory.map_or_else(|| "-".to_owned(), bytes),
            agent.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

async fn order(client: &Client, name: &str, order: &str) -> Result<Verdict, Failure> {
    let path = format!("/v1/agents/{}/{order}", encode(name));
    match client.post::<Value>(&path, &Value::Null).await {
        Ok(_) => Ok(Verdict::Yes),
        Err(error) => error.or_no(),
    }
}

async fn load(client: &Client, name: &str, how: &str, global: &Global) -> Result<Verdict, Failure> {
    let path = format!("/v1/agents/{}/{how}", encode(name));
    let loaded: Reloaded = match client.post(&path, &Value::Null).await {
        Ok(loaded) => loaded,
        Err(error) => return error.or_no(),
    };
    lines::warn(&loaded.warnings);
    let mut out = global.out();
    let Reloaded { agent, epoch, is_new_epoch, .. } = &loaded;
    if out.is_json() {
        out.json(&loaded)?;
    } else if *is_new_epoch {
        out.line(format_args!("agent {agent} goes on in epoch {epoch}"))?;
    } else {
        out.line(format_args!("agent {agent} goes on; its program's text is as it was"))?;
    }
    Ok(Verdict::Yes)
}

impl Logs {
    async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let Self { name, follow, tail } = self;
        let path = format!("/v1/agents/{}/logs?tail={tail}&follow={follow}", encode(&name));
        let mut events = match client.get_events::<LogLine>(&path).await {
            Ok(events) => events,
            Err(error) => return error.or_no(),
        };
        let mut out = global.out();
        let print_all = async {
            while let Some(line) = events.next().await? {
                lines::print_log(&mut out, &line)?;
            }
            Ok(Verdict::Yes)
        };
        let mut signals = Signals::new()?;
        tokio::select! {
            ended = print_all => ended,
            // Whoever follows has seen enough.
            () = signals.next() => Ok(Verdict::Yes),
            () = Out::closed() => Ok(Verdict::Yes),
        }
    }
}
