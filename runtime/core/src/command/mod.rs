//! Commands: what a space's log is made of. One applied command is one index.
//!
//! A log record's payload is a [`Batch`]: the leader's time stamp and commands, each kept as the
//! bytes that the chain hashes. `commands.cddl` describes both.

mod batch;
mod checkpoint;
pub(crate) mod codec;
mod membership;
#[cfg(test)]
mod tests;

use crate::kb::{End, Indicator, Position};
pub use batch::{Batch, MAX_TAGS, Tag};
use bytes::Bytes;
pub use checkpoint::{Checkpoint, MAX_SIGNATURE_BYTES, Signature};
pub use codec::MAX_COMMAND_BYTES;
pub use membership::{Admit, Configure, IssueTicket, MAX_PEER_BYTES, MAX_REVOKED, Recover};

/// Bytes of a name (of an agent, a node, a session, a module), at most.
pub const MAX_NAME_BYTES: usize = 255;
/// Bytes of the reason in a letter, at most; a longer one is cut by who writes it.
pub const MAX_REASON_BYTES: usize = 4096;
/// Bytes of one module's text, at most.
pub const MAX_MODULE_BYTES: usize = 1 << 20;
/// Terms in each list of a [`Record`], at most.
pub const MAX_RECORD_TERMS: usize = 4096;
/// Bytes of the terms in a [`Record`], at most; who writes it puts `unrecorded` in place of the rest.
pub const MAX_RECORD_BYTES: usize = 512 << 10;
/// Predicates that one agent may declare, at most.
pub const MAX_DECLARATIONS: usize = 4096;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens a client session; its number is the index of this command.
    OpenSession {
        /// Who opens it, for people and for `From` in events.
        label: String,
        /// Tells two openings apart, so that one sent twice opens one session.
        nonce: [u8; 16],
    },
    /// Applies a transaction if nothing that it read has changed.
    Transact(Transaction),
    /// Makes a node the holder of an agent, in a new epoch, which is the index of this command.
    Claim(Claim),
    /// Passes an agent's event over, for the reason given.
    Letter(Letter),
    /// Ends an agent's epoch: it runs nowhere until it is claimed again.
    Release {
        /// The agent.
        agent: String,
        /// The epoch that ends.
        epoch: u64,
    },
    /// Takes letters out of an agent's state.
    DropLetters {
        /// The agent.
        agent: String,
        /// The events they were about.
        positions: Vec<Position>,
    },
    /// Makes a module's text part of the space.
    PublishModule {
        /// The module's name.
        name: String,
        /// Its Prolog text.
        text: String,
        /// The index at which the module was published before, 0 if it was not. Published since, it is
        /// refused: so a copy of this command that comes late does not undo what came between.
        after: u64,
    },
    /// Gives a node an id of its own in the space's group.
    Admit(Admit),
    /// Lets nodes that know a secret be admitted.
    IssueTicket(IssueTicket),
    /// Takes tickets back.
    RevokeTickets {
        /// The hashes of their secrets; all of them if there are none here.
        hashes: Vec<[u8; 32]>,
        /// Only those that were issued up to this index are taken back: so a copy of this command
        /// that comes late takes no newer ones.
        after: u64,
    },
    /// Says who votes and who follows. It comes with the change of Raft's members that makes it so.
    Configure(Configure),
    /// Says that the space was recovered by hand, after most of its voters were lost.
    Recover(Recover),
    /// What most voters agree that the log leads to.
    Checkpoint(Checkpoint),
}

impl Command {
    /// Whether these bytes may be a command about who takes part: cheap, for who looks for them alone.
    pub fn is_of_members(command: &[u8]) -> bool {
        use codec::{ADMIT, RECOVER};
        matches!(command, [0x82..=0x86, kind, ..] if (ADMIT..=RECOVER).contains(&u64::from(*kind)))
    }
}

/// A transaction's effects, with what they depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Whose it is, which is also what makes it happen once.
    pub origin: Origin,
    /// The index at which it read.
    pub version: u64,
    /// The keys that it read, strictly ascending.
    pub reads: Vec<u64>,
    /// What it wrote and emitted, in order. The place in this list is `n` of a [`Position`].
    pub ops: Vec<Op>,
}

/// Whose a transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's.
    Session {
        /// The session.
        id: u64,
        /// Counted by the client from 1; one number is one transaction.
        seq: u64,
        /// Outcomes up to this number are no longer asked for.
        acked: u64,
    },
    /// An agent's.
    Agent {
        /// The agent's name.
        name: String,
        /// The epoch of its holder.
        epoch: u64,
        /// Counted by the holder from 1 in each epoch; one number is one transaction.
        seq: u64,
        /// Where the cursor must stand.
        from: Position,
        /// Where it then stands; the same if the transaction handles no positioned event.
        to: Position,
        /// What the log would not tell otherwise.
        record: Record,
        /// The letter that it handles, which is taken out of the agent's state in the same step. If it is
        /// gone, nothing is done.
        letter: Option<Position>,
    },
}

/// What an agent's transaction came of and had sent, for whoever replays the log: nothing that is
/// applied depends on it. The events that it handled are those from its `from` to its `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The triggers without a position that it handled, in order: arguments of `on/1`, encoded.
    pub triggers: Vec<Bytes>,
    /// What it published and sent, in order, if the program asks for that: `publish(Topic, Term)` and
    /// `send(Agent, Term)`, encoded.
    pub sent: Vec<Bytes>,
}

/// One effect of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a fact.
    Assert {
        /// At which end of its predicate.
        end: End,
        /// The whole term, encoded.
        fact: Bytes,
    },
    /// Takes a fact away. If it is gone, the transaction conflicts.
    Retract {
        /// The fact's predicate.
        predicate: Indicator,
        /// Its clause order, which no other fact of the predicate ever has.
        order: i64,
    },
    /// Emits an event.
    Emit {
        /// The term, encoded.
        event: Bytes,
    },
}

/// How many nodes run an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One holder in the space, the others standing by.
    One,
    /// Every node runs an instance, an agent of its own.
    Each,
}

/// A node's claim to run an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The agent's name.
    pub agent: String,
    /// The node's name.
    pub node: String,
    /// BLAKE3 of the program's text.
    pub program: [u8; 32],
    /// How many nodes run it.
    pub mode: Mode,
    /// The epoch that the claim takes over from: 0 for an agent that is new. Another current
    /// epoch refuses it.
    pub after: u64,
    /// The predicates that the program declares replicated.
    pub declared: Vec<Declaration>,
}

/// A predicate that a program declares replicated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declaration {
    /// Which.
    pub predicate: Indicator,
    /// Arguments, other than the first, that reads are told apart by; counted from 1.
    pub keys: Vec<u32>,
}

/// An event that an agent could not handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The agent's name.
    pub agent: String,
    /// The epoch of its holder.
    pub epoch: u64,
    /// Counted with the holder's transactions.
    pub seq: u64,
    /// Where the cursor stands: at the event.
    pub from: Position,
    /// Where it then stands: behind the event.
    pub to: Position,
    /// What could not be handled: the argument of `on/1`, encoded.
    pub event: Bytes,
    /// Why it could not be handled.
    pub reason: String,
}
