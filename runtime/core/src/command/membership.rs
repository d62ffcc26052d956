//! Commands about who takes part in a space.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a peer's id in the network, at most.
pub const MAX_PEER_BYTES: usize = 64;
/// Tickets that one command may take back.
pub const MAX_REVOKED: usize = 1024;

/// Gives a node an id of its own in the space's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The node's id in the network, which the transport proves.
    pub peer: Bytes,
    /// The node's name.
    pub node: String,
    /// Tells this joining from others of the same node: one that has lost its disk is another member.
    pub nonce: [u8; 16],
    /// BLAKE3 of the secret of the ticket that it joins by; none for the founder.
    pub ticket: Option<[u8; 32]>,
    /// The index that its proposer had come to. The space remembers who was removed only for so long:
    /// a copy of this command from before that is refused, for it may be of one of them.
    pub after: u64,
}

/// Lets nodes that know a secret be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueTicket {
    /// BLAKE3 of the secret.
    pub hash: [u8; 32],
    /// Until when, in microseconds since 1970 (UTC), by the time of the log.
    pub until: u64,
    /// How many nodes it may admit.
    pub uses: u32,
}

/// Who votes, who follows, and who no longer takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configure {
    /// The voters, all of them.
    pub voters: BTreeSet<u64>,
    /// The learners, all of them.
    pub learners: BTreeSet<u64>,
    /// Members that are members no longer.
    pub removed: BTreeSet<u64>,
}

/// That the space was recovered by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover {
    /// The generation from here on.
    pub generation: u64,
    /// The only member from here on.
    pub voter: u64,
    /// Its node's name.
    pub node: String,
    /// Those that were members before and are none any more, with their nodes' names.
    pub dropped: BTreeMap<u64, String>,
    /// What the user confirmed.
    pub words: String,
}
