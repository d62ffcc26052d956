//! Whether a text is a program, without running anything of it: an engine reads it, and is ended before it
//! would load it.

use crate::agents::problems;
use crate::api::Problem;
use crate::scratch::{Files, ScratchError};
use crate::stand_in::{Answer, StandIn, no_module};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use synod_prolog::frame::{
    self, Frame, FrameError, FromEngine, Limits, Role, Sandbox, Start, ToEngine,
};
use synod_prolog::{Death, Spawned};

/// How long reading may take, in milliseconds.
const TIME_MS: u64 = 10_000;
/// The engine ends itself when the time is up; this is for one that cannot.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes of memory that it may have.
const MEMORY: u64 = 1 << 30;
/// What the engine is told to be.
const NAME: &str = "check";

/// What is wrong with the text of a module. Blocks.
pub(crate) fn module(
    executable: &Path,
    name: &str,
    text: &str,
) -> Result<Vec<Problem>, ScratchError> {
    let files = Files::create()?;
    let program = files.path().join(format!("{name}.pl"));
    fs::write(&program, text).map_err(|e| ScratchError::Io(program.clone(), e))?;
    let engine = synod_prolog::spawn(executable, ["engine"], Stdio::null());
    let mut engine = Killed(engine.map_err(ScratchError::Spawn)?);
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let start = Start {
        version: frame::VERSION,
        role: Role::Side { agent: NAME.to_owned() },
        node: NAME.to_owned(),
        space: NAME.to_owned(),
        program: path(&program),
        modules: path(&files.path().join("modules")),
        base: None,
        at: 0,
        limits: Limits { time_ms: TIME_MS, memory_bytes: MEMORY, inferences: 0 },
        sandbox: Sandbox { on: true, read: Vec::new(), write: Vec::new(), net: false },
        copy_after: 0,
    };
    engine.0.socket.set_read_timeout(Some(SILENCE)).map_err(ScratchError::Spawn)?;
    engine.send(&ToEngine::Start { start: Box::new(start) })?;
    loop {
        let frame = match FromEngine::read_from(&mut engine.0.socket) {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(FrameError::Io(_)) => return Err(engine.death()),
            Err(e) => return Err(e.into()),
        };
        match frame {
            FromEngine::NotLoaded { problems: found, .. } => {
                let place = path(&program);
                let mut found = problems(found);
                found
                    .iter_mut()
                    .filter(|p| p.file == place)
                    .for_each(|p| name.clone_into(&mut p.file));
                return Ok(found);
            }
            // It asks for facts when it has read everything, and goes on to load it.
            FromEngine::Wants { .. } | FromEngine::Pull { .. } | FromEngine::Loaded { .. } => {
                return Ok(Vec::new());
            }
            other => {
                let stand_in = StandIn { index: 0, has_agents: false, module: no_module };
                if let Answer::Says(answer) = stand_in.answer(other) {
                    engine.send(&answer)?;
                }
            }
        }
    }
}

/// An engine that is killed when it is dropped.
struct Killed(Spawned);

impl Killed {
    fn send(&mut self, frame: &ToEngine) -> Result<(), ScratchError> {
        match frame.write_to(&mut self.0.socket) {
            Err(FrameError::Io(_)) => Err(self.death()),
            sent => Ok(sent?),
        }
    }

    fn death(&mut self) -> ScratchError {
        drop(self.0.child.kill());
        ScratchError::Died(self.0.child.wait().map_or(Death::Ended, Death::from))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.child.kill());
        drop(self.0.child.wait());
    }
}
