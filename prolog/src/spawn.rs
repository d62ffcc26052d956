//! The node's side: starts an engine's process and says how one ended.
//!
//! The child's descriptors: 0 is its end of the socket pair (which it moves elsewhere before
//! anything else runs), 1 a memory file that holds what the program prints until the engine drains
//! it into a frame, 2 what the caller gives. It has an environment of its own. An engine whose node is gone
//! sees the socket close and ends.

use crate::engine::exit;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// An engine's process.
#[derive(Debug)]
pub struct Spawned {
    /// The process. Whoever holds it reaps it.
    pub child: Child,
    /// The node's end of the socket, blocking until the caller sets it otherwise.
    pub socket: UnixStream,
}

/// All of the environment that an engine has: what a program without a sandbox needs to start others.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("SHELL", "/bin/sh")];

/// Starts `executable` with `args`, which must lead it to [`crate::engine::main`].
pub fn spawn(
    executable: &Path,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    stderr: impl Into<Stdio>,
) -> io::Result<Spawned> {
    let (ours, theirs) = UnixStream::pair()?;
    let output = rustix::fs::memfd_create("synod-output", rustix::fs::MemfdFlags::CLOEXEC)?;
    let child = Command::new(executable)
        .args(args)
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(OwnedFd::from(theirs))
        .stdout(output)
        .stderr(stderr)
        .spawn()?;
    Ok(Spawned { child, socket: ours })
}

/// How an engine's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// It was told to, or said so by frame before.
    #[error("ended")]
    Ended,
    /// A handler, a goal or the load took longer than allowed.
    #[error("took more time than allowed")]
    Time,
    /// It held more memory than allowed.
    #[error("took more memory than allowed")]
    Memory,
    /// A handler or a goal took more inferences than allowed.
    #[error("took more inferences than allowed")]
    Inferences,
    /// The machine panicked.
    #[error("panicked")]
    Panic,
    /// It could not make sense of the node's frames, or could not set itself up.
    #[error("could not work with its node")]
    Setup,
    /// It was ended by this signal (6 is an abort, 9 a kill, 11 a stack or memory fault).
    #[error("was ended by signal {0}")]
    Signal(i32),
    /// It ended with this status of its own.
    #[error("ended with status {0}")]
    Exit(i32),
}

impl From<ExitStatus> for Death {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Ended,
            (Some(exit::TIME), _) => Self::Time,
            (Some(exit::MEMORY), _) => Self::Memory,
            (Some(exit::INFERENCES), _) => Self::Inferences,
            (Some(exit::PANIC), _) => Self::Panic,
            (Some(exit::SETUP), _) => Self::Setup,
            (Some(code), _) => Self::Exit(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}
