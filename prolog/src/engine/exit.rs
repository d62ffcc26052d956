//! The statuses that an engine's process ends with, so that the node can tell its deaths apart.

/// A handler, a goal or the load took longer than allowed.
pub const TIME: i32 = 71;
/// It held more memory than allowed.
pub const MEMORY: i32 = 72;
/// A handler or a goal took more inferences than allowed.
pub const INFERENCES: i32 = 73;
/// It could not make sense of the node's frames, or could not set itself up.
pub const SETUP: i32 = 74;
/// The machine panicked: Rust's own status.
pub const PANIC: i32 = 101;
