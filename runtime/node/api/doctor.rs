//! What `synod doctor` finds.

use serde::{Deserialize, Serialize};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// `ok`, `warn` or `bad`.
    pub state: String,
    /// What was found.
    pub found: String,
    /// How to mend it, where there is something to mend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}
