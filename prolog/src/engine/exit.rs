//! The statuses that an engine's process ends with, so that the node can tell its deaths apart.

use std::io::Write;

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

/// Ends the process at once, from any thread: destructors of a machine that is in the middle of
/// something abort.
pub(super) fn now(status: i32, why: &str) -> ! {
    // Standard error may be gone with the node; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "engine: {why}");
    end(status)
}

/// Ends the process as it was asked to.
pub(super) fn quietly() -> ! {
    end(0)
}

fn end(status: i32) -> ! {
    // SAFETY: `_exit` takes any status, does not return, and runs nothing of ours.
    unsafe { libc::_exit(status) }
}
