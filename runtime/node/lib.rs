//! Node.

pub mod store;
