//! Spaces that this node has and cannot serve: the others are served all the same, and whoever asks for one of
//! these is told why.

use super::Node;
use crate::api::{ErrorBody, SpaceInfo};
use crate::hex::hex;
use crate::space::error;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

/// The role that such a space has for whoever lists them.
pub const CLOSED: &str = "closed";
/// The role of one that is closed for as long as it takes to join it anew.
pub const JOINING: &str = "joining";

/// Why a space is closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// The space's id, if its folder says it.
    pub(super) id: Option<[u8; 32]>,
    /// What is wrong, and what to do.
    pub(super) why: String,
    /// Whether the node itself sees to it that it is open again.
    pub(super) is_coming: bool,
}

/// All of them, by name.
pub(super) type ClosedSpaces = std::sync::Mutex<BTreeMap<String, Closed>>;

impl Node {
    fn closed_spaces(&self) -> MutexGuard<'_, BTreeMap<String, Closed>> {
        self.0.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a space is closed, or why now.
    pub(super) fn close_space(&self, name: &str, closed: Closed) {
        self.closed_spaces().insert(name.to_owned(), closed);
    }

    /// It is closed no longer. Says whether it was.
    pub(super) fn reopened(&self, name: &str) -> bool {
        self.closed_spaces().remove(name).is_some()
    }

    /// The spaces that are closed.
    pub(super) fn closed(&self) -> BTreeMap<String, Closed> {
        self.closed_spaces().clone()
    }

    /// Whether a space is closed.
    pub(super) fn is_closed(&self, name: &str) -> bool {
        self.closed_spaces().contains_key(name)
    }

    /// Whether a space is about to be open again, with all that ran in it.
    pub fn is_joining_anew(&self, name: &str) -> bool {
        self.closed_spaces().get(name).is_some_and(|closed| closed.is_coming)
    }

    /// Refuses to join a space that is here and closed.
    pub(super) fn refuse_closed(&self, id: [u8; 32]) -> Result<(), ErrorBody> {
        match self.closed().into_iter().find(|(_, closed)| closed.id == Some(id)) {
            Some((name, closed)) => Err(closed.refusal(&name)),
            None => Ok(()),
        }
    }

    /// Those of them that are not open, for whoever lists spaces.
    pub(super) fn closed_infos(&self) -> Vec<SpaceInfo> {
        let open = self.spaces();
        let closed = self.closed().into_iter().filter(|(name, _)| !open.contains_key(name));
        closed.map(|(name, closed)| closed.info(name, self.0.min_free)).collect()
    }
}

impl Closed {
    /// What is said to whoever asks for it.
    pub(super) fn refusal(&self, name: &str) -> ErrorBody {
        error("damaged", format!("the space {name} is closed on this node: {}", self.why))
    }

    fn info(self, name: String, min_free_bytes: u64) -> SpaceInfo {
        SpaceInfo {
            name,
            id: self.id.map(|id| hex(&id)).unwrap_or_default(),
            role: if self.is_coming { JOINING } else { CLOSED }.to_owned(),
            term: 0,
            leader: None,
            voters: 0,
            voters_reachable: 0,
            index: 0,
            facts: 0,
            log_bytes: 0,
            first: 0,
            retain: "-".to_owned(),
            free_bytes: 0,
            min_free_bytes,
            commands_per_s: 0.0,
            proposals: 0,
            max_proposals: 0,
            proposal_bytes: 0,
            max_proposal_bytes: 0,
            refused: 0,
            near: Vec::new(),
            read_only: Some(format!("it is closed: {}", self.why)),
            observed: None,
        }
    }
}
