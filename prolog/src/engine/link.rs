//! The engine's end of the socket. It blocks: the engine has one thing to do at a time.

use super::exit;
use crate::frame::{Frame, FromEngine, ToEngine};
use std::os::unix::net::UnixStream;

/// The socket to the node.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    /// Sends a frame. A node that is gone ends the engine.
    pub(super) fn send(&mut self, frame: &FromEngine) {
        if let Err(error) = frame.write_to(&mut self.socket) {
            exit::now(exit::SETUP, &format!("cannot write to the node: {error}"));
        }
    }

    /// Takes the next frame. A node that is gone, or that says so, ends the engine.
    pub(super) fn receive(&mut self) -> ToEngine {
        match ToEngine::read_from(&mut self.socket) {
            Ok(Some(ToEngine::Shutdown) | None) => exit::quietly(),
            Ok(Some(frame)) => frame,
            Err(error) => exit::now(exit::SETUP, &format!("cannot read from the node: {error}")),
        }
    }
}
