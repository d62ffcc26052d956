//! `synod space create|ticket|join|leave|list|members|promote|remove|transfer|retain|recover`

use super::client::{Client, encode};
use super::recover::Recover;
use super::space::SpaceArg;
use super::table::Table;
use super::{Failure, Global, Verdict, units};
use clap::{Args, Subcommand};
use serde_json::Value;
use synod::api::{
    CreateSpace, JoinSpace, LeftSpace, MemberInfo, MemberRequest, Members, ObserverInfo, Recovered,
    RetainRequest, Retained, SpaceInfo, TicketInfo, TicketRequest,
};
use synod_core::retention::Retention;

/// Found, join and leave spaces of several nodes; see and change who takes part
#[derive(Debug, Subcommand)]
pub(crate) enum Space {
    /// Found a space; this node is its first voter
    Create(Create),
    /// Print a ticket, by which other nodes join the space
    Ticket(Ticket),
    /// Join the space of a ticket
    Join(Join),
    /// Leave a space: this node votes and follows no longer, and puts what it has of it aside
    Leave(Leave),
    /// List the spaces of the node
    List,
    /// Show who takes part in a space: voters, learners and observers, leader, term, index, lag
    Members(MembersOf),
    /// Let a learner vote
    Promote(Member),
    /// Let a member be one no longer, for good
    Remove(Member),
    /// Hand the leadership to a voter
    Transfer(Member),
    /// Say how much of a space's past this node keeps
    Retain(Retain),
    /// Go on with a space alone, when most of its voters are lost for good
    Recover(Recover),
}

/// What to found.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The space's name
    name: String,
}

/// What kind of ticket.
#[derive(Debug, Args)]
pub(crate) struct Ticket {
    /// The space [default: the only one besides local]
    name: Option<String>,
    /// How many nodes it admits [default: 100]
    #[arg(long, env = "SYNOD_USES", value_name = "N", hide_env = true)]
    uses: Option<u32>,
    /// For how long, with its unit: 30m, 12h, 7d [default: 24h]
    #[arg(long, env = "SYNOD_VALID", value_name = "TIME", value_parser = units::lasting,
          hide_env = true)]
    valid: Option<u64>,
    /// Take all open tickets back, and print none
    #[arg(long, env = "SYNOD_REVOKE", hide_env = true, value_parser = units::switch(),
          conflicts_with_all = ["uses", "valid"])]
    revoke: bool,
}

/// What to join.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The ticket, as `synod space ticket` prints it on a member
    ticket: String,
    /// Follow it only: have its facts and its log, write nothing and have no vote
    #[arg(long, env = "SYNOD_OBSERVE", hide_env = true, value_parser = units::switch())]
    observe: bool,
    /// The space's name on this node [default: that on the member]
    #[arg(long = "as", env = "SYNOD_AS", value_name = "NAME", hide_env = true)]
    name: Option<String>,
}

/// What to leave.
#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// The space
    name: String,
}

/// What to keep.
#[derive(Debug, Args)]
#[command(after_help = "\
What is older goes for good: `log` and `:as_of` reach back no further, and an agent that has not handled it \
gets on(gap(From, To)) in its place. The facts stay, and so does what the newest two snapshots stand on.")]
pub(crate) struct Retain {
    /// The space
    name: String,
    /// `everything`, the newest commands by size (64MiB), or by age (30d)
    retain: Retention,
}

/// Whose members.
#[derive(Debug, Args)]
pub(crate) struct MembersOf {
    /// The space [default: the only one besides local]
    name: Option<String>,
    #[command(flatten)]
    space: SpaceArg,
}

/// A member.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// The member's id, or its node's name
    member: String,
    #[command(flatten)]
    space: SpaceArg,
}

impl Space {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        match self {
            Self::Create(Create { name }) => {
                show(&client.post("/v1/spaces", &CreateSpace { name }).await?, global)
            }
            Self::Ticket(ticket) => ticket.run(&client, global).await,
            Self::Join(Join { ticket, observe, name }) => {
                let join = JoinSpace { ticket, name, observe };
                show(&client.post("/v1/spaces/join", &join).await?, global)
            }
            Self::Leave(Leave { name }) => leave(&client, &name, global).await,
            Self::List => list(&client, global).await,
            Self::Members(MembersOf { name, space }) => {
                let space = SpaceArg { space: name.or(space.space) };
                let path = format!("/v1/spaces/members{}", space.as_query());
                show(&client.get(&path).await?, global)
            }
            Self::Promote(member) => member.change(&client, "promote", global).await,
            Self::Remove(member) => member.change(&client, "remove", global).await,
            Self::Transfer(member) => member.change(&client, "transfer", global).await,
            Self::Retain(Retain { name, retain }) => keep(&client, &name, retain, global).await,
            Self::Recover(recover) => recover.run(&client, global).await,
        }
    }
}

impl Ticket {
    async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let query = SpaceArg { space: self.name }.as_query();
        if self.revoke {
            let path = format!("/v1/spaces/tickets/revoke{query}");
            let _: Value = client.post(&path, &Value::Null).await?;
            return Ok(Verdict::Yes);
        }
        let path = format!("/v1/spaces/tickets{query}");
        let seconds = self.valid.map(|millis| millis.div_ceil(1_000));
        let request = TicketRequest { uses: self.uses, seconds };
        let ticket: TicketInfo = client.post(&path, &request).await?;
        let mut out = global.out();
        if out.is_json() {
            out.json(&ticket)?;
        } else {
            out.line(&ticket.ticket)?;
            let TicketInfo { space, uses, until, .. } = &ticket;
            super::say::say(format_args!(
                "whoever has it can join {space}: up to {uses} nodes, until {until}"
            ));
        }
        Ok(Verdict::Yes)
    }
}

impl Member {
    async fn change(
        self,
        client: &Client,
        what: &str,
        global: &Global,
    ) -> Result<Verdict, Failure> {
        let path = format!("/v1/spaces/members/{what}{}", self.space.as_query());
        let members = client.post(&path, &MemberRequest { member: self.member }).await?;
        show(&members, global)
    }
}

async fn leave(client: &Client, name: &str, global: &Global) -> Result<Verdict, Failure> {
    let path = format!("/v1/spaces/{}/leave", encode(name));
    let left: LeftSpace = client.post(&path, &Value::Null).await?;
    let mut out = global.out();
    if out.is_json() {
        out.json(&left)?;
    } else {
        out.line(format_args!("left {name}; what this node had of it is in {}", left.aside))?;
    }
    Ok(Verdict::Yes)
}

async fn keep(
    client: &Client,
    name: &str,
    retain: Retention,
    global: &Global,
) -> Result<Verdict, Failure> {
    let path = format!("/v1/spaces/{}/retain", encode(name));
    let request = RetainRequest { retain: retain.to_string() };
    let kept: Retained = client.post(&path, &request).await?;
    let mut out = global.out();
    if out.is_json() {
        out.json(&kept)?;
    } else {
        out.line(format_args!("this node keeps {} of {}", kept.retain, kept.space))?;
    }
    Ok(Verdict::Yes)
}

async fn list(client: &Client, global: &Global) -> Result<Verdict, Failure> {
    let spaces: Vec<SpaceInfo> = client.get("/v1/spaces").await?;
    let mut out = global.out();
    if out.is_json() {
        spaces.iter().try_for_each(|space| out.json(space))?;
        return Ok(Verdict::Yes);
    }
    let mut table = Table::new(["SPACE", "ROLE", "TERM", "INDEX", "FACTS", "KEEPS", "ID"]);
    for space in &spaces {
        let id = space.id.get(..16).unwrap_or(&space.id).to_owned();
        let [term, index, facts] = [space.term, space.index, space.facts].map(|n| n.to_string());
        let (name, role, keeps) = (&space.name, &space.role, &space.retain);
        table.row([name.clone(), role.clone(), term, index, facts, keeps.clone(), id]);
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}

/// Shows who takes part.
pub(super) fn show(members: &Members, global: &Global) -> Result<Verdict, Failure> {
    let mut out = global.out();
    if out.is_json() {
        out.json(members)?;
        return Ok(Verdict::Yes);
    }
    let Members { space, role, term, leader, index, .. } = members;
    let by = |id: &u64| {
        let leader = members.members.iter().find(|member| member.id == *id);
        leader.map_or_else(|| format!("member {id}"), |member| member.node.clone())
    };
    let led = match leader {
        Some(_) if role == "leader" => "led by this node".to_owned(),
        Some(id) => format!("led by {}", by(id)),
        None if role == "observer" => "observed by this node".to_owned(),
        None => "without a leader: are most of its voters reachable?".to_owned(),
    };
    out.line(format_args!("{space}  {led}  term {term}  index {index}"))?;
    if let Some(Recovered { index, time, node, dropped }) = &members.recovered {
        let generation = members.generation;
        let without = if dropped.is_empty() { "nobody".to_owned() } else { dropped.join(", ") };
        out.line(format_args!(
            "generation {generation}: recovered by {node} at {time}, index {index}, without {without}"
        ))?;
    }
    if let Some(generation) = members.gone_on {
        super::say::say(format_args!(
            "this space was recovered at generation {generation}, without this node: leave it (synod space \
             leave {space}) and join again by a new ticket"
        ));
    }
    let here = members.observers.iter().find(|observer| observer.is_here);
    if let Some(trouble) = here.and_then(|here| here.trouble.as_ref()) {
        super::say::say(format_args!("{trouble}"));
    } else if let Some(age) = here.and_then(|here| here.age_ms) {
        let seconds = age as f64 / 1000.0;
        out.line(format_args!("as a voter said {seconds:.1} s ago"))?;
    }
    let mut table = Table::new(["ID", "NODE", "PART", "STATE", "LAG", "PEER"]);
    for member in &members.members {
        let state = match member {
            MemberInfo { is_leader: true, is_here: true, .. } => "leader, here",
            MemberInfo { is_leader: true, .. } => "leader",
            MemberInfo { is_here: true, .. } => "here",
            MemberInfo { is_connected: true, .. } => "connected",
            MemberInfo { .. } => "not connected",
        };
        let lag = member.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
        let row = [
            member.id.to_string(),
            member.node.clone(),
            member.part.clone(),
            state.to_owned(),
            lag,
            member.peer.clone(),
        ];
        table.marked_row(!member.is_connected, row);
    }
    for observer in &members.observers {
        let state = match observer {
            ObserverInfo { is_here: true, .. } => "here",
            ObserverInfo { is_connected: true, .. } => "connected",
            ObserverInfo { .. } => "heard of",
        };
        let ObserverInfo { node, lag, peer, .. } = observer;
        let row = ["-", node, "observer", state, &lag.to_string(), peer].map(str::to_owned);
        table.marked_row(false, row);
    }
    table.print(&mut out)?;
    Ok(Verdict::Yes)
}
