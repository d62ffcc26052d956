//! Node.

pub mod api;
pub mod control;
pub mod node;
