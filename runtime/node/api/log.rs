//! A space's log.

use serde::{Deserialize, Serialize};

/// A command of a space's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// Its time (RFC 3339, UTC).
    pub time: String,
    /// The same in microseconds since 1970.
    pub micros: u64,
    /// `transaction`, `session`, `claim`, `letter`, `release`, `drop_letters`, `module`, `admit`, `ticket`,
    /// `revoke_tickets`, `members`, `recover`, `checkpoint` or `malformed`.
    pub kind: String,
    /// Who: an agent's name, a session's label, a module's name.
    pub by: String,
    /// The agent, if it is an agent's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Why it was refused, if it was: then it did nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// For one that had come before: the index that it was committed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// What it did to the facts, and the events that it emitted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<LogEffect>,
    /// The positions of the events that it handled: the first, and the one behind the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<String>,
    /// The triggers without a position that it handled, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// What it published and sent, as text, if its program has that recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<String>,
    /// What there is to say of a command that is no transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

/// One effect of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEffect {
    /// Its place in the command.
    pub n: u32,
    /// `assert`, `retract` or `emit`.
    pub what: String,
    /// `name/arity` of the fact or event; none for an event that is a number, a string or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functor: Option<String>,
    /// The fact or event as text.
    pub term: String,
}

/// A place in a space's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// The index; 0 before the first command.
    pub index: u64,
    /// The time of that command in microseconds since 1970 (UTC).
    pub micros: u64,
    /// The chain there, in hexadecimal.
    pub chain: String,
}

/// An export that was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The space's name on this node.
    pub space: String,
    /// Its id, in hexadecimal, which is that of the space that was exported.
    pub id: String,
    /// Commands.
    pub commands: u64,
    /// The chain at the last of them, in hexadecimal.
    pub chain: String,
    /// The digest of the state there, in hexadecimal.
    pub digest: String,
}
