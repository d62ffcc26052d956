//! The node's end of one engine: its process, its frames, and the knowledge base it is fed.

use super::ask::OpenCall;
use super::log::AgentLog;
use crate::space::Space;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use synod_core::cbor::Writer;
use synod_core::kb::Indicator;
use synod_prolog::frame::{self, Changes, Declaration, Frame, FromEngine, Start, ToEngine};
use synod_prolog::{Death, Spawned};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// Frames of an engine that wait for the node, at most; then the engine waits.
const FRAMES: usize = 16;
/// Bytes of changes in one frame, but for a single larger one.
pub(super) const CHANGES_BYTES: usize = 1 << 20;

/// A running engine. Dropping it kills the process.
pub(super) struct Engine {
    space: Space,
    child: Arc<Mutex<Child>>,
    pub(super) pid: u32,
    frames: mpsc::Receiver<FromEngine>,
    /// Calls to other agents that may have more answers, by number.
    pub(super) calls: BTreeMap<u64, OpenCall>,
    /// Calls of agents that what it does stands behind.
    pub(super) depth: u32,
    socket: OwnedWriteHalf,
    /// The predicates that its replica follows; all, until it has said which.
    declared: Option<BTreeSet<Indicator>>,
    /// The version that its replica has been brought to.
    version: u64,
    /// The version that it stays at: of an engine that looks at the past.
    stays_at: Option<u64>,
}

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It has ended, or its socket has.
    #[error("{0}")]
    Dead(Death),
    /// It is so far behind that only a fresh one can catch up.
    #[error("it is too far behind the space to catch up")]
    Behind,
}

impl Engine {
    /// Whether it has ended, and all that it has said was taken.
    pub(super) fn is_gone(&self) -> bool {
        self.frames.is_closed() && self.frames.is_empty()
    }

    /// Starts a process and sends it `start`.
    pub(super) async fn start(
        executable: &Path,
        space: Space,
        log: &Arc<AgentLog>,
        start: Start,
    ) -> io::Result<Self> {
        let Spawned { mut child, socket } =
            synod_prolog::spawn(executable, ["engine"], Stdio::piped())?;
        let pid = child.id();
        if let Some(stderr) = child.stderr.take() {
            follow_stderr(stderr, Arc::clone(log));
        }
        let socket: StdStream = socket;
        socket.set_nonblocking(true)?;
        let (reading, writing) = tokio::net::UnixStream::from_std(socket)?.into_split();
        let (sender, frames) = mpsc::channel(FRAMES);
        tokio::spawn(read_frames(pid, reading, sender));
        let mut engine = Self {
            space,
            child: Arc::new(Mutex::new(child)),
            pid,
            frames,
            calls: BTreeMap::new(),
            depth: 0,
            socket: writing,
            declared: None,
            version: 0,
            stays_at: None,
        };
        // An engine that dies at once is seen to by whoever receives from it.
        drop(engine.send(&ToEngine::Start { start: Box::new(start) }).await);
        Ok(engine)
    }

    /// The engine has loaded a program that declares these predicates.
    pub(super) fn declares(&mut self, declared: &[Declaration]) {
        let indicators = declared.iter().map(|d| Indicator::new(&d.name, d.arity));
        self.declared = Some(indicators.collect());
    }

    /// The engine's base is of this version, and it is told of nothing that came after.
    pub(super) fn stay_at(&mut self, version: u64) {
        self.stays_at = Some(version);
    }

    /// The next frame. May be given up and called again: no frame is lost.
    pub(super) async fn receive(&mut self) -> Result<FromEngine, EngineError> {
        match self.frames.recv().await {
            Some(frame) => Ok(frame),
            None => Err(EngineError::Dead(self.end().await)),
        }
    }

    /// Answers a `Pull`.
    pub(super) async fn pulled(&mut self, since: u64) -> Result<(), EngineError> {
        self.version = since;
        let changes = self.changes()?;
        self.send(&ToEngine::Changes { changes }).await
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, frame: &ToEngine) -> Result<(), EngineError> {
        let sent = match frame.encode() {
            Ok(bytes) => self.socket.write_all(&bytes).await.is_ok(),
            Err(e) => {
                tracing::error!(
                    "engine {}: a frame cannot be sent to it: {e}; it is ended",
                    self.pid
                );
                self.kill();
                false
            }
        };
        if sent { Ok(()) } else { Err(EngineError::Dead(self.end().await)) }
    }

    /// What has changed since the version that the engine's replica is at, as far as it fits.
    pub(super) fn changes(&mut self) -> Result<Changes, EngineError> {
        if let Some(to) = self.stays_at {
            self.version = to;
            return Ok(Changes { to, more: false, sequence: Vec::new() });
        }
        let feed = self.space.feed();
        let behind = feed.behind(self.version, CHANGES_BYTES).ok_or(EngineError::Behind)?;
        let mut w = Writer::new();
        for change in &behind.changes {
            change.write_for(&mut w, |predicate| {
                self.declared.as_ref().is_none_or(|declared| declared.contains(predicate))
            });
        }
        self.version = behind.to;
        Ok(Changes { to: behind.to, more: behind.more, sequence: w.into_vec() })
    }

    /// The version that its replica has been brought to.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the engine should follow the space before it is too late, though nothing happens for
    /// it: see [`crate::space::Feed::is_ageing`].
    pub(super) fn is_ageing(&self) -> bool {
        self.space.feed().is_ageing(self.version)
    }

    /// Ends the process at once.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        drop(self.child.lock().unwrap_or_else(PoisonError::into_inner).kill());
    }

    /// Waits until the process has ended; ends it if only its socket has.
    async fn end(&mut self) -> Death {
        let child = Arc::clone(&self.child);
        let ended = tokio::task::spawn_blocking(move || wait(&child)).await;
        ended.unwrap_or(Death::Ended)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        let child = Arc::clone(&self.child);
        // Reaped in the background; without a runtime the process is going down anyhow.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || wait(&child));
        }
    }
}

/// An engine that closes its socket has a moment to end by itself.
const END_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

fn wait(child: &Mutex<Child>) -> Death {
    let started = std::time::Instant::now();
    loop {
        let mut locked = child.lock().unwrap_or_else(PoisonError::into_inner);
        match locked.try_wait() {
            Ok(Some(status)) => return status.into(),
            Ok(None) if started.elapsed() > END_PATIENCE => drop(locked.kill()),
            Ok(None) => {}
            Err(_) => return Death::Ended,
        }
        drop(locked);
        // There is no wait with a time in the standard library; this runs on a thread of its own.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

async fn read_frames(pid: u32, mut socket: OwnedReadHalf, frames: mpsc::Sender<FromEngine>) {
    loop {
        let mut prefix = [0; frame::PREFIX];
        if socket.read_exact(&mut prefix).await.is_err() {
            return;
        }
        let mut bytes = match frame::length(prefix) {
            Ok(length) => vec![0; length],
            Err(e) => return tracing::error!("engine {pid} does not speak its protocol: {e}"),
        };
        if socket.read_exact(&mut bytes).await.is_err() {
            return;
        }
        match FromEngine::decode(&bytes) {
            Ok(frame) => {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
            Err(e) => return tracing::error!("engine {pid} does not speak its protocol: {e}"),
        }
    }
}

fn follow_stderr(stderr: std::process::ChildStderr, log: Arc<AgentLog>) {
    let Ok(stderr) = tokio::process::ChildStderr::from_std(stderr) else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            log.line("stderr", &String::from_utf8_lossy(&line));
        }
    });
}
