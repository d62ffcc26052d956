//! Synod's engine: one Scryer Prolog machine in an operating-system process of its own.
//!
//! - [`spawn()`] is the node's side: it starts the process and hands back its socket.
//! - [`frame`] is what the two say to each other over that socket.
//! - [`engine`] is the process: sandbox, limits, the knowledge base's replica, and the machine.
//!
//! A crash, an abort, a runaway goal or leaked memory costs one agent a restart, never the node.
//! Nothing here knows of Raft, of other nodes, or of a disk: what needs those is asked for by frame.

pub mod engine;
pub mod frame;
mod spawn;

pub use engine::trigger_term;
pub use spawn::{Death, Spawned, spawn};
