//! The monitor's process: one thread, which answers one request after the other.

use super::message::{Answer, Message, Open, Request, Restored};
use super::passing::{MAX_FILES, receive, send};
use super::{MAX_OPEN, NAME};
use crate::join::Join;
use crate::network::open::{CLEANING, Opened};
use crate::network::upkeep::{Rounds, UPKEEP_EVERY};
use crate::network::{Capture, NetworkSpec, restore};
use crate::privileges::{self, NEEDED};
use crate::spec::JoinSpec;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, getppid, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, set_name};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a file that says what is in the kernel ends in.
const STATE: &str = "state";
/// How often it is looked whether the folder is free.
const LOOK: Duration = Duration::from_millis(10);
/// A membership of a port below 1024 needs it, where the node had it.
const PORTS: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
/// Whether a namespace is still there can be seen of other processes by those alone who may trace them; asked once.
const SEEING: CapabilitySet = CapabilitySet::SYS_PTRACE;

/// A monitor.
struct Serving {
    folder: PathBuf,
    /// Locked as long as it is open: one monitor at a time sees to a folder.
    lock: Option<OwnedFd>,
    /// What is open, by number: its name, and what keeps it.
    open: BTreeMap<u32, (String, Opened)>,
    last: u32,
}

/// Serves the process at the other end of the socket until that is gone; then takes out what is in the kernel.
///
/// What is put there is written down in `folder`, and nothing is written elsewhere.
pub fn serve(socket: OwnedFd, folder: &Path) -> io::Result<()> {
    // What ends a terminal's processes, or a service's, ends the node, which needs this one until it has ended.
    sys::ignore_signals();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let node = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    set_name(&CString::new(format!("{NAME}{node}"))?)?;
    let mut held = NEEDED | PORTS | SEEING;
    privileges::keep_only(held, None)?;
    let mut serving =
        Serving { folder: folder.to_owned(), lock: None, open: BTreeMap::new(), last: 0 };
    let (mut rounds, mut upheld, mut last) = (Rounds::default(), Instant::now(), Vec::new());
    let ended = loop {
        if let Some(left) = UPKEEP_EVERY.checked_sub(upheld.elapsed()) {
            if !serving.waits(socket.as_fd(), left)? {
                continue;
            }
        } else {
            let told = serving.uphold(rounds.with_rules());
            // What cannot be done is tried each time, and said once.
            if told != last {
                told.iter().for_each(|told| eprintln!("synod: {told}"));
            }
            (last, upheld) = (told, Instant::now());
            continue;
        }
        let bytes = match receive(socket.as_fd(), false) {
            Ok(Some((bytes, _))) => bytes,
            Ok(None) => break Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break Ok(()),
            Err(e) => break Err(io::Error::new(e.kind(), format!("no node speaks to it: {e}"))),
        };
        let request = match Message::decode(&bytes) {
            Ok(Message::Request(request)) => Ok(request),
            Ok(Message::Answer(_)) => Err("it is an answer, and none was asked for".to_owned()),
            Err(refused) => Err(refused.to_string()),
        };
        let answered = match request {
            Ok(request) => serving.answer(request),
            Err(why) => Err(why),
        };
        if held.contains(SEEING) {
            held.remove(SEEING);
            privileges::keep_only(held, None)?;
        }
        let (answer, files) = answered.unwrap_or_else(|why| (Answer::Failed(why), Vec::new()));
        // Whoever does not take the answer is gone.
        if hand_over(&socket, answer, &files).is_err() {
            break Ok(());
        }
    };
    serving.end();
    ended
}

type Answered = Result<(Answer, Vec<OwnedFd>), String>;

impl Serving {
    fn answer(&mut self, request: Request) -> Answered {
        match request {
            Request::Restore => {
                self.settle()?;
                Ok((Answer::Restored(self.restore()), Vec::new()))
            }
            Request::Open(open) => self.open(open),
            Request::Close(id) => match self.open.remove(&id) {
                Some(_) => Ok((Answer::Done, Vec::new())),
                None => Err(format!("nothing is open under {id}")),
            },
            Request::Join(spec) => joined(&spec),
        }
    }

    /// Waits until no other monitor sees to the folder: that of a killed node takes out what is in the kernel.
    fn settle(&mut self) -> Result<(), String> {
        if self.lock.is_some() {
            return Ok(());
        }
        let told = |e: io::Error| format!("{}: {e}", self.folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(told)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = open(&self.folder, flags, Mode::empty()).map_err(|e| told(e.into()))?;
        let until = Instant::now() + CLEANING;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOOK),
                Err(Errno::WOULDBLOCK) => {
                    return Err(format!(
                        "{}: what a killed node had put into the kernel is still being taken out after \
                         {} s, by a process called {NAME}…: try again; if it hangs, end it, and then \
                         `synod doctor --fix-network`",
                        self.folder.display(),
                        CLEANING.as_secs()
                    ));
                }
                Err(e) => return Err(told(e.into())),
            }
        }
        self.lock = Some(folder);
        Ok(())
    }

    /// Waits for a request; false if none comes in time. Where nothing is open there is no such time.
    fn waits(&self, socket: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
        let time = (!self.open.is_empty()).then(|| Timespec::try_from(time).unwrap_or_default());
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], time.as_ref()) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    /// Puts in again what others have taken out; gives what that was.
    fn uphold(&self, with_rules: bool) -> Vec<String> {
        let placed =
            self.open.values().filter_map(|(name, opened)| Some((name, opened.placed.as_ref()?)));
        let told = placed.flat_map(|(name, placed)| {
            placed.uphold(with_rules).into_iter().map(move |told| format!("tunnel {name}: {told}"))
        });
        told.collect()
    }

    /// Takes out what is written down and not open.
    fn restore(&self) -> Vec<Restored> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let states = files.map(|file| file.path());
        let states = states.filter(|path| path.extension().is_some_and(|end| end == STATE));
        let is_open = |path: &PathBuf| {
            self.open
                .values()
                .any(|(name, _)| self.folder.join(name).with_extension(STATE) == *path)
        };
        let left = states.filter(|path| !is_open(path));
        let restored = left
            .map(|path| (path.display().to_string(), restore(&path).map_err(|e| e.to_string())));
        let mut restored: Vec<_> = restored.collect();
        // An answer does not hold any number: what went wrong comes first.
        restored.sort_by_key(|(_, restored)| restored.is_ok());
        restored
    }

    /// Takes out all that is open, and says what stays: there is nobody else who could.
    fn end(&mut self) {
        for (name, opened) in std::mem::take(&mut self.open).into_values() {
            drop(opened);
            let state = self.folder.join(&name).with_extension(STATE);
            if state.exists() {
                eprintln!(
                    "synod: tunnel {name}: not all that was put into the kernel could be taken out: {} says \
                     what it is; `synod doctor --fix-network`, or the next start, tries again",
                    state.display()
                );
            }
        }
    }

    fn open(&mut self, open: Open) -> Answered {
        self.settle()?;
        let Open { name, tag, groups, address, capture } = open;
        if self.open.len() >= MAX_OPEN {
            return Err(format!("{MAX_OPEN} tunnels are open, and more are not"));
        }
        if self.open.values().any(|(other, _)| *other == name) {
            return Err(format!("the tunnel {name} is open already"));
        }
        // A name has no dot, so there is no end of one to be replaced.
        let state = self.folder.join(&name).with_extension(STATE);
        let spec = NetworkSpec { groups, address, capture, ttl: 0, tag, state };
        let mut opened = Opened::open(&spec).map_err(|e| e.to_string())?;
        let raw = opened.raw.take();
        let captures = std::mem::take(&mut opened.captures).into_iter().map(Capture::into_file);
        let files = captures.chain(raw.map(OwnedFd::from)).collect::<Vec<_>>();
        let has_raw = opened.mode.takes();
        let remarks = std::mem::take(&mut opened.remarks);
        self.last = self.last.wrapping_add(1);
        let (id, mode) = (self.last, opened.mode);
        self.open.insert(id, (name, opened));
        Ok((Answer::Opened { id, mode, has_raw, remarks }, files))
    }
}

fn joined(spec: &JoinSpec) -> Answered {
    let join = Join::open(spec).map_err(|e| e.to_string())?;
    Ok((Answer::Done, vec![join.into_socket().into()]))
}

/// Sends an answer and its files, of which no copy stays here.
fn hand_over(socket: &OwnedFd, answer: Answer, files: &[OwnedFd]) -> io::Result<()> {
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut parts: Vec<_> = files.chunks(MAX_FILES).collect();
    let last = parts.pop().unwrap_or_default();
    let more = Message::Answer(Answer::More).encode();
    parts.into_iter().try_for_each(|part| send(socket.as_fd(), &more, part))?;
    send(socket.as_fd(), &Message::Answer(answer).encode(), last)
}
