//! What a node is started with, and why it cannot be.

use crate::folder::FolderError;
use crate::net::NetConfig;
use crate::space::OpenSpaceError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use synod_udp_shim::network::monitor::Monitor;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// The node's name, when the folder is made; the host's name with four digits, if left out.
    pub name: Option<String>,
    /// Bytes that must stay free on the disk: below, writes are refused.
    pub min_free: u64,
    /// How long a thread that waits for what follows from a write looks for it before it sleeps, while writes come close
    /// behind each other: see [`BUSY_POLL`](crate::space::BUSY_POLL). None, if never.
    pub busy_poll: Duration,
    /// The executable whose hidden verb `engine` is an engine: this program's own.
    pub executable: PathBuf,
    /// How it takes part in the network, once it does: when a space has other members, or at once if
    /// `wants_net`.
    pub net: NetConfig,
    /// Whether it takes part in the network from its start.
    pub wants_net: bool,
    /// The process that holds the privileges that this one had; none if it had none.
    pub monitor: Option<Arc<Monitor>>,
}

/// Why a node cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A space cannot be opened.
    #[error("the space {name} cannot be opened: {why}")]
    Space {
        /// The space.
        name: String,
        /// Why.
        why: OpenSpaceError,
    },
    /// The network cannot be taken part in.
    #[error("{0}")]
    Net(String),
}
