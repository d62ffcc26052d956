//! Datagrams of tunnels as events of a space: each that a node has captured happens there once, or not at all, and
//! all nodes have them in the same order.
//!
//! A datagram is an ordinary event, a term of fixed shape that the session of a tunnel has emitted. So logs, exports
//! and replicas that know nothing of tunnels hold and apply it as they do any other, and each is made to happen
//! once as clients' transactions are: by a session and a number. Its capturer gives it to one command, with others
//! that came meanwhile; what it says is never compared with anything.

mod event;
mod publisher;
#[cfg(test)]
mod tests;

pub use event::{Datagram, Endpoint, RESERVED, label};
pub use publisher::{
    Batch, Captured, Counts, End, MAX_BATCH, MAX_BATCH_BYTES, MAX_BATCHES, MAX_WAIT, MAX_WAITING,
    MAX_WAITING_BYTES, Publisher,
};
