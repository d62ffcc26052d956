//! Facts that are read without an engine.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A pattern that facts are to match.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsRequest {
    /// A call of a replicated predicate, as Prolog text.
    pub pattern: String,
    /// The space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The most facts that are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The knowledge base must have reached this index first.
    #[serde(default)]
    pub min_index: u64,
    /// Whether this node's own facts will do, which others may have gone beyond. If not, everything that
    /// was acknowledged anywhere before the request is among what it reads.
    #[serde(default)]
    pub local: bool,
}

/// Facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// In clause order.
    pub facts: Vec<FactInfo>,
    /// Whether there are more.
    pub more: bool,
    /// Whether the space knows the predicate: it has had a fact of it, or its keys were declared.
    pub is_known: bool,
    /// The index that they are of.
    pub index: u64,
    /// For how many milliseconds this node has known of no leader, if it knows of none: others may have
    /// written what it has not seen. With `local` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
}

/// A fact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FactInfo {
    /// As Prolog writes it.
    pub text: String,
    /// Its arguments as JSON, as in the bindings of an answer.
    pub args: Vec<Value>,
}
