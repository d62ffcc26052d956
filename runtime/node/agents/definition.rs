//! What an agent is to this node: the program, where it belongs, what it may do.

use crate::api::AgentOptions;
use crate::space::Space;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use synod_prolog::frame::{Limits, Role, Sandbox, Start};

/// Look-ups of a predicate after which an engine copies it.
const COPY_AFTER: u64 = 256;

/// An agent as it is kept in the data folder, so that it runs again when the node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) space: String,
    pub(super) program: PathBuf,
    pub(super) options: AgentOptions,
}

impl Definition {
    /// The first frame of an engine of this agent.
    pub(super) fn start(
        &self,
        role: Role,
        node: &str,
        folder: &Path,
        space: &Space,
        base: Option<&Path>,
        at: u64,
    ) -> Start {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let options = &self.options;
        Start {
            version: synod_prolog::frame::VERSION,
            role,
            node: node.to_owned(),
            space: self.space.clone(),
            program: text(&self.program),
            modules: text(&folder.join("modules")),
            base: base.map(text),
            at,
            limits: Limits {
                time_ms: options.max_time_ms,
                memory_bytes: options.max_memory,
                inferences: options.max_inferences,
            },
            copy_after: if options.copies { COPY_AFTER } else { 0 },
            sandbox: Sandbox {
                on: options.sandbox,
                read: options.allow_read.iter().cloned().chain(space.past_folders()).collect(),
                write: options.allow_write.clone(),
                net: options.allow_net,
            },
        }
    }
}
