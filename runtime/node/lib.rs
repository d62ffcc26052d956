//! Node.

pub mod api;
pub mod control;
pub mod node;
pub mod space;
pub mod store;
