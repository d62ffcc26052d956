//! `synod run --watch`: takes the program over again when a file of it is saved.

use super::say::say;
use super::{Failure, sources};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use synod::api::Reloaded;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, timeout_at};

/// How long nothing must be written before a save is taken for done.
const QUIET: Duration = Duration::from_millis(100);
/// How long a program that is written to without end is waited for.
const AT_MOST: Duration = Duration::from_secs(1);

/// The files of a program, and what is written to them.
#[derive(Debug)]
pub(crate) struct Watch {
    program: PathBuf,
    inotify: Arc<OwnedFd>,
    events: mpsc::Receiver<Result<(), Errno>>,
    folders: BTreeSet<PathBuf>,
    /// What each of them held when it was looked at last.
    files: BTreeMap<PathBuf, blake3::Hash>,
}

impl Watch {
    /// Watches the files of a program from now on.
    pub(crate) fn new(program: &Path) -> Result<Self, Failure> {
        let fail = |error: Errno| cannot(program, error.into());
        let inotify = Arc::new(init(CreateFlags::CLOEXEC).map_err(fail)?);
        // One that has not been looked at yet stands for all that came since.
        let (sender, events) = mpsc::channel(1);
        let reading = Arc::clone(&inotify);
        // It waits for events until the process ends.
        std::thread::spawn(move || read(&reading, &sender));
        let (program, folders) = (program.to_owned(), BTreeSet::new());
        let mut watch = Self { program, inotify, events, folders, files: BTreeMap::new() };
        watch.look()?;
        Ok(watch)
    }

    /// Reloads whenever a file is saved, and says so on stderr. Ends in an error only.
    pub(crate) async fn reload_with<R>(&mut self, reload: impl Fn() -> R) -> Failure
    where
        R: Future<Output = Result<Reloaded, Failure>>,
    {
        loop {
            let changed = match self.changed().await {
                Ok(changed) => changed,
                Err(failure) => return failure,
            };
            let names = changed.join(", ");
            match reload().await {
                // Its warnings are in its log, which is shown too.
                Ok(Reloaded { epoch, .. }) => {
                    say(format_args!("[watch] {names} changed: reloaded, epoch {epoch}"));
                }
                Err(Failure::Error { line, details }) => {
                    say(format_args!("[watch] {names} changed: {line}"));
                    details.iter().for_each(|detail| say(format_args!("{detail}")));
                }
                Err(failure @ (Failure::PipeClosed | Failure::Told)) => return failure,
            }
        }
    }

    /// Waits until files hold something else than before; gives their names.
    async fn changed(&mut self) -> Result<Vec<String>, Failure> {
        loop {
            self.event().await?;
            let deadline = Instant::now() + AT_MOST;
            // An editor writes in several steps, and may put another file in the place of the old.
            loop {
                let quiet = deadline.min(Instant::now() + QUIET);
                match timeout_at(quiet, self.event()).await {
                    Ok(event) => event?,
                    Err(_) => break,
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            let changed = self.look()?;
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    /// Waits for anything that happens in the folders.
    async fn event(&mut self) -> Result<(), Failure> {
        match self.events.recv().await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(cannot(&self.program, error.into())),
            None => Err(cannot(&self.program, io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Looks at all files; gives the names of those that hold something else than before. One that is
    /// gone is being written, or no longer loaded.
    fn look(&mut self) -> Result<Vec<String>, Failure> {
        let mut changed = Vec::new();
        for path in sources::of(&self.program) {
            if let Some(folder) = path.parent()
                && !self.folders.contains(folder)
            {
                let writes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
                add_watch(&*self.inotify, folder, writes | WatchFlags::ONLYDIR)
                    .map_err(|error| cannot(folder, error.into()))?;
                self.folders.insert(folder.to_owned());
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let hash = blake3::hash(&bytes);
            if self.files.insert(path.clone(), hash) != Some(hash) {
                let name = path.file_name().unwrap_or(path.as_os_str());
                changed.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(changed)
    }
}

/// Says that there are events, until reading them fails or nobody wants to know.
fn read(inotify: &OwnedFd, events: &mpsc::Sender<Result<(), Errno>>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error),
        };
        let is_over = event.is_err();
        // A full channel says the same already.
        if let (true, _) | (_, Err(TrySendError::Closed(_))) = (is_over, events.try_send(event)) {
            return;
        }
    }
}

fn cannot(path: &Path, error: io::Error) -> Failure {
    let path = path.display();
    Failure::error(format!("{path} cannot be watched: {error}; run it without --watch"))
}
