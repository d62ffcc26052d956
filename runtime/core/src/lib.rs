//! Synod's pure core: terms and their bytes, the knowledge base, transactions, and the two machines
//! that a space runs on, *order* (Raft) and *apply*. It decides and never moves: no clock, no
//! thread, no socket, no file is opened here; time, randomness and identity come in as arguments.

pub mod apply;
pub mod cbor;
pub mod command;
pub mod datagrams;
pub mod export;
pub mod group;
pub mod kb;
pub mod log;
pub mod order;
pub mod retention;
pub mod snapshot;
pub mod term;
pub mod time;
pub mod transaction;
