//! Spaces that have other members.

use serde::{Deserialize, Serialize};

/// Who takes part in a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Members {
    /// The space's name on this node.
    pub space: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// This node's part: `leader`, `follower`, `candidate` or `observer`.
    pub role: String,
    /// Raft's term.
    pub term: u64,
    /// The leader's id, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// The last index that this node has applied.
    pub index: u64,
    /// How often the space was recovered by hand.
    pub generation: u64,
    /// How it last was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// The generation to which the space has gone on without this node, which is to leave and to join
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_on: Option<u64>,
    /// By id.
    pub members: Vec<MemberInfo>,
    /// The nodes that follow the space without being members, as far as this one has heard of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<ObserverInfo>,
}

/// How a space was recovered by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// The index of the command that says so.
    pub index: u64,
    /// When (RFC 3339).
    pub time: String,
    /// The node that went on alone.
    pub node: String,
    /// The nodes that were members no longer.
    pub dropped: Vec<String>,
}

/// Goes on with a space alone, when most of its voters are lost for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverSpace {
    /// `recover NAME and lose what others have`: that this is understood.
    pub understood: String,
}

/// What somebody says who recovers a space.
pub fn recovery_words(space: &str) -> String {
    format!("recover {space} and lose what others have")
}

/// A member of a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its id, which the space's log has given it.
    pub id: u64,
    /// Its node's name.
    pub node: String,
    /// Its id in the network.
    pub peer: String,
    /// `voter`, `learner` or `admitted`.
    pub part: String,
    /// Whether it leads, as far as this node knows.
    pub is_leader: bool,
    /// Whether it is the node that tells.
    pub is_here: bool,
    /// Whether that node is connected with it.
    pub is_connected: bool,
    /// Entries of the log that it lacks, which only the leader knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
}

/// A node that follows a space without being its member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObserverInfo {
    /// Its name.
    pub node: String,
    /// Its id in the network.
    pub peer: String,
    /// Whether it is the node that tells.
    pub is_here: bool,
    /// Whether that node is connected with it.
    pub is_connected: bool,
    /// The index that it had come to when it was last heard.
    pub index: u64,
    /// Commands that it lacked then.
    pub lag: u64,
    /// For how many milliseconds it was not where a voter says that the space is; known of the node that tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Why it does not follow, if it does not; known of the node that tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Founds a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSpace {
    /// Its name on this node, and in its tickets.
    pub name: String,
}

/// Joins a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpace {
    /// A ticket of it.
    pub ticket: String,
    /// Its name on this node; that in the ticket, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether to follow it only, without being a member.
    #[serde(default)]
    pub observe: bool,
}

/// Makes a ticket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// How many nodes it admits; 100, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// For how many seconds; a day, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// A ticket. Whoever has it can join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TicketInfo {
    /// The ticket, one word.
    pub ticket: String,
    /// The space.
    pub space: String,
    /// How many nodes it admits.
    pub uses: u32,
    /// Until when (RFC 3339).
    pub until: String,
}

/// A member of a space, by its id or its node's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Which.
    pub member: String,
}

/// A space that was left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftSpace {
    /// Where what this node had of it is now.
    pub aside: String,
}

/// How much of a space's past is to be kept on this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetainRequest {
    /// `everything`, a size like `64MiB`, or an age like `30d`.
    pub retain: String,
}

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retained {
    /// The space.
    pub space: String,
    /// As in [`RetainRequest`].
    pub retain: String,
}
