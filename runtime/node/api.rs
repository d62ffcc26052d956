//! What crosses the control socket, as JSON: the node makes these, the CLI reads them.

mod doctor;
mod facts;
mod log;
mod peers;
mod space;
mod tunnels;

pub use crate::codes::CODES;
pub use doctor::Finding;
pub use facts::{FactInfo, Facts, FactsRequest};
pub use log::{Imported, LogEffect, LogEntry, LogPlace};
pub use peers::{
    AddressRequest, ConnectionInfo, KnownAddress, KnownPeer, MeInfo, NetInfo, NodeRecord,
    PeerAnswer, PeerRequest, PeerStats, PublishTerm, PublishedLines, Ready, RecordedAgent,
    TopicMessage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use space::{
    CreateSpace, JoinSpace, LeftSpace, MemberInfo, MemberRequest, Members, ObserverInfo,
    RecoverSpace, Recovered, RetainRequest, Retained, TicketInfo, TicketRequest, recovery_words,
};
pub use tunnels::{MonitorInfo, TunnelInfo, TunnelOrder, TunnelPeer, TunnelRequest, TunnelTraffic};

/// A term to be broadcast.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroadcastRequest {
    /// The term as Prolog text.
    pub term: String,
    /// The space; the node's only one besides `local`, else `local`, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Makes the broadcast happen once, however often it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
}

/// A client session's number for one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// The session, from `POST /v1/session`.
    pub session: u64,
    /// Counted by the client from 1.
    pub seq: u64,
    /// Outcomes up to this number are no longer asked for.
    #[serde(default)]
    pub acked: u64,
}

/// Opens a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Who opens it; events carry it as their `From`.
    pub label: String,
    /// The space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// A session that was opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Its number.
    pub session: u64,
}

/// How a proposal ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Applied, at this index.
    Committed {
        /// The index.
        index: u64,
    },
    /// It can never commit.
    Refused {
        /// Why.
        why: String,
    },
    /// Nobody knows yet; ask with `synod outcome ID`.
    Unknown {
        /// The proposal's id, `SESSION-SEQ`.
        id: String,
    },
}

/// A goal to be solved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalRequest {
    /// The goal as Prolog text.
    pub goal: String,
    /// The agent whose program it is solved in; the only one that runs, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The space to look for the agent in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The most answers that are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The knowledge base must have reached this index first; and the agent must have handled the
    /// events up to it, if it does so within a second.
    #[serde(default)]
    pub min_index: u64,
    /// For `query`: the facts are those of this index, and nothing can be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// For `transact`: makes it happen once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// A name of the client's own, of up to 64 bytes: after an answer the goal waits, and goes on
    /// when `POST /v1/goals/NAME/more` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// One event of the stream that a goal's solution is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GoalEvent {
    /// An answer.
    Answer(Answer),
    /// What the goal printed.
    Output {
        /// As text; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// The goal waits to be asked for more: see [`GoalRequest::step`].
    More,
    /// No further answer. The last event but in an error.
    End {
        /// Whether there was an answer at all.
        succeeded: bool,
        /// Whether there may be more than `limit` let through.
        more: bool,
        /// The index that the answers speak of; for `transact`, that it was committed at.
        index: u64,
        /// For how many milliseconds this node has known of no leader of the space, if it knows of
        /// none: others may have written what it has not seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stale_ms: Option<u64>,
    },
    /// The goal could not be read, threw, or its engine ended. The last event.
    Error(ErrorBody),
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// As Scryer's toplevel prints it, without the full stop.
    pub text: String,
    /// Each variable's value as JSON (see `docs`): integers and floats as numbers, atoms and
    /// strings as strings, lists as arrays, other compounds as `{"functor": …, "args": […]}`.
    pub bindings: serde_json::Map<String, Value>,
    /// Constraints on variables that are not bound, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<String>,
}

/// A predicate that a program sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PredicateInfo {
    /// Its name.
    pub name: String,
    /// Its arity.
    pub arity: u32,
    /// Whether its clauses are facts of the space.
    pub replicated: bool,
}

/// One event of the stream of a space's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ChangeEvent {
    /// A fact was added.
    Asserted(FactChange),
    /// A fact was taken away.
    Retracted(FactChange),
    /// Whoever reads was too slow: changes behind this index were passed over. The last event.
    Missed {
        /// The index.
        after: u64,
    },
}

/// A change of one fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactChange {
    /// The index of the command that made it.
    pub index: u64,
    /// Its place in the command.
    pub n: u32,
    /// Who made it: an agent's name, or a session's label.
    pub by: String,
    /// The fact as text.
    pub fact: String,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// A word for programs, one of [`CODES`].
    pub code: String,
    /// One line for people, that says what to do.
    pub message: String,
    /// Where, for what has a place in a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The id to ask for, where the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Something wrong with a program or goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    /// The file; empty for a goal.
    pub file: String,
    /// From 1; 0 when it is about no line.
    pub line: u32,
    /// From 1; 0 when it is about no column.
    pub column: u32,
    /// What is wrong.
    pub text: String,
}

/// A program to run as an agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Absolute path of the program.
    pub program: String,
    /// The agent's name; the file's stem, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The space it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// What it may use and touch.
    #[serde(default)]
    pub options: AgentOptions,
    /// Whether the node starts it again when the node starts.
    #[serde(default)]
    pub keep: bool,
}

/// What an agent's engines may use and touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentOptions {
    /// Milliseconds that one handler, goal or load may take.
    pub max_time_ms: u64,
    /// Bytes of resident memory.
    pub max_memory: u64,
    /// Inferences that one handler or goal may take; 0 is without limit.
    pub max_inferences: u64,
    /// Whether there is a sandbox.
    pub sandbox: bool,
    /// Folders that may be read besides the program's own.
    pub allow_read: Vec<String>,
    /// Folders that may be written.
    pub allow_write: Vec<String>,
    /// Whether sockets may be opened.
    pub allow_net: bool,
    /// Groups to join: `239.0.0.2:20005%lo`.
    pub multicast: Vec<String>,
    /// Whether predicates that are read far more often than they are written are copied into the
    /// engine: invisible but for speed.
    pub copies: bool,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            max_time_ms: 10_000,
            max_memory: 1 << 30,
            max_inferences: 0,
            sandbox: true,
            allow_read: Vec::new(),
            allow_write: Vec::new(),
            allow_net: false,
            multicast: Vec::new(),
            copies: true,
        }
    }
}

/// An agent as `agent list` and `status` show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its name.
    pub name: String,
    /// Its space.
    pub space: String,
    /// `starting`, `running`, `waiting` (for its engine's back-off), `stopped`, `failed`.
    pub state: String,
    /// Why, where it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The program's path.
    pub program: String,
    /// The node that holds it.
    pub holder: Option<String>,
    /// The epoch of that.
    pub epoch: u64,
    /// Where its cursor stands, `INDEX.N`.
    pub cursor: String,
    /// Commands that it has not looked at.
    pub lag: u64,
    /// Events handled by this node since it started.
    pub handled: u64,
    /// Triggers handled a second, over the last five.
    pub handled_per_s: f64,
    /// Handlers that failed or threw.
    pub failed: u64,
    /// Engines that died.
    pub deaths: u64,
    /// Engines that took over from one before, whatever became of that.
    pub restarts: u64,
    /// Letters that wait.
    pub letters: u64,
    /// Letters that are kept, at most.
    pub max_letters: u64,
    /// Triggers without a position that were dropped since its queue was full.
    pub dropped: u64,
    /// Bytes of triggers without a position that wait.
    pub queue_bytes: u64,
    /// How many may.
    pub max_queue_bytes: u64,
    /// The engine's process, if there is one.
    pub pid: Option<u32>,
    /// Its resident memory in bytes.
    pub memory: Option<u64>,
    /// Bytes that it may have; 0 is without limit.
    pub max_memory: u64,
    /// Limits that are near, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// What its program was warned of when it was loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

/// A program that was taken over as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The agent.
    pub agent: String,
    /// Its epoch now.
    pub epoch: u64,
    /// Whether that is a new one: the program has changed, or the agent was restarted.
    pub is_new_epoch: bool,
    /// What the program was warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

/// An event that an agent could not handle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LetterInfo {
    /// The event's position, `INDEX.N`.
    pub position: String,
    /// The event as text; of what was no event, the argument of `on/1`.
    pub event: String,
    /// The argument that `on/1` was called with.
    pub trigger: String,
    /// Why.
    pub reason: String,
    /// The index at which that was decided.
    pub index: u64,
}

/// Which letters of an agent: one of the two.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LettersRequest {
    /// Those at these positions, `INDEX.N`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<String>,
    /// All that there are.
    #[serde(default)]
    pub all: bool,
}

/// What became of a letter that was handed to its agent's handler again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetriedLetter {
    /// Its position, `INDEX.N`.
    pub position: String,
    /// The event as text.
    pub event: String,
    /// `handled`: it is a letter no more. `kept`: it still is one.
    pub outcome: String,
    /// Why it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One line of an agent's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// Microseconds since 1970 (UTC).
    pub time: u64,
    /// `output`, `stderr`, `debug`, `info`, `warning` or `error`.
    pub level: String,
    /// The line, without its end.
    pub text: String,
}

/// A node as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The version of Synod.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its data folder.
    pub data: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its resident memory in bytes.
    pub memory: u64,
    /// Frames and streams of peers that belong to no space here, since it started.
    #[serde(default)]
    pub refused_frames: u64,
    /// Its spaces.
    pub spaces: Vec<SpaceInfo>,
    /// Its agents.
    pub agents: Vec<AgentInfo>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Its part in the network, once it takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<NetInfo>,
    /// The process that holds its privileges, if it was started with some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorInfo>,
}

/// A space as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpaceInfo {
    /// The name on this node.
    pub name: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// `leader`, `follower`, `candidate` or `observer`; `closed`, if it could not be opened, and `joining` while the node
    /// joins it anew.
    pub role: String,
    /// The Raft term.
    pub term: u64,
    /// The name of the leader's node, if a leader is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Voters; 0 in a space that is this node's alone.
    pub voters: u64,
    /// Voters that this node is connected with, itself included.
    pub voters_reachable: u64,
    /// The index of the last command applied.
    pub index: u64,
    /// Facts.
    pub facts: u64,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// The first index whose command can still be told of.
    pub first: u64,
    /// How much of its past is kept here: `everything`, a size, or an age.
    pub retain: String,
    /// Bytes that its disk has free.
    pub free_bytes: u64,
    /// Bytes that must stay free: below, writes are refused.
    pub min_free_bytes: u64,
    /// Commands applied a second, over the last five.
    pub commands_per_s: f64,
    /// Proposals under way.
    pub proposals: u64,
    /// How many may be.
    pub max_proposals: u64,
    /// Bytes of them.
    pub proposal_bytes: u64,
    /// How many they may have.
    pub max_proposal_bytes: u64,
    /// Messages of peers that were not listened to, since the node started.
    pub refused: u64,
    /// Limits that are near, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Why writes are refused, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// How it is followed, if this node is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedInfo>,
}

/// How a node follows a space without being a member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ObservedInfo {
    /// For how many milliseconds it was not where a voter says that the space is.
    pub age_ms: u64,
    /// Commands that it lacks, as far as it has heard.
    pub lag: u64,
    /// Heads of voters that it has heard and believed since the node started.
    pub heads: u64,
    /// Heads and answers that it has not believed.
    pub refused: u64,
    /// Heads that had been said before.
    pub old: u64,
    /// Pieces of the log that it has fetched.
    pub fetched: u64,
    /// Snapshots that it has fetched.
    pub snapshots: u64,
}

/// All of a goal's answers, for clients that want no stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The answers.
    pub answers: Vec<Answer>,
    /// What the goal printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// As in [`GoalEvent::End`].
    pub succeeded: bool,
    /// As in [`GoalEvent::End`].
    pub more: bool,
    /// As in [`GoalEvent::End`].
    pub index: u64,
    /// As in [`GoalEvent::End`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
}

/// A module to be made part of a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The module's name.
    pub name: String,
    /// Its Prolog text.
    pub text: String,
    /// The space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// A module that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The index from which on it is part of the space.
    pub index: u64,
}

/// A module of a space, without its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its name.
    pub name: String,
    /// Bytes of its text.
    pub bytes: u64,
}

/// A module of a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModuleText {
    /// Its name.
    pub name: String,
    /// Its Prolog text.
    pub text: String,
}

/// The space that a request means which names none, out of a node's: its only one besides
/// `local`, else `local`.
pub fn default_space<'a>(names: impl IntoIterator<Item = &'a str>) -> &'a str {
    let mut others = names.into_iter().filter(|&name| name != "local");
    match (others.next(), others.next()) {
        (Some(only), None) => only,
        _ => "local",
    }
}
