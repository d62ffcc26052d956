//! The engine's process.

pub mod exit;
