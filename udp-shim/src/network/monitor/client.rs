//! The node's side of its monitor.

use super::message::{Answer, MAX_MESSAGE_BYTES, Message, Open, Request, Restored};
use super::passing::{receive, send};
use crate::join::{Join, JoinError};
use crate::network::{Capture, Held, Network, NetworkError, NetworkSpec, members_of};
use crate::privileges::{self, NEEDED};
use crate::spec::JoinSpec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::CapabilitySet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an answer may take: it waits for commands, and for what a killed node has left.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end.
const ENDING_S: i64 = 10;
/// Where `nft` and `iptables` are looked for: whoever may start a program that has privileges does not say which
/// programs get them.
const PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/// What a monitor is started with; it gives up the rest of it itself.
pub const HANDED_ON: CapabilitySet =
    NEEDED.union(CapabilitySet::NET_BIND_SERVICE).union(CapabilitySet::SYS_PTRACE);

/// The process that holds this one's privileges. It ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    /// None once it is to end.
    link: Mutex<Option<OwnedFd>>,
    /// Why nothing can be asked of it any more.
    ended: Mutex<Option<String>>,
    child: Mutex<Child>,
    pid: u32,
}

/// A network that a monitor has opened. Dropped, it is taken out of the kernel.
#[derive(Debug)]
pub struct Lease {
    monitor: Arc<Monitor>,
    id: u32,
}

impl Monitor {
    /// Starts it: `executable` with `args` is to call [`serve`](super::serve()) with its standard input.
    pub fn start<A: AsRef<OsStr>>(
        executable: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair?;
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))?;
        let mut command = Command::new(executable);
        // Its standard error stays: that is where it says what it could not take out when nobody else is there.
        command.args(args).env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(theirs).stdout(Stdio::null()).process_group(0);
        let child = privileges::spawn_with(HANDED_ON, &mut command)?;
        let pid = child.id();
        let (link, child) = (Mutex::new(Some(ours)), Mutex::new(child));
        Ok(Self { link, ended: Mutex::default(), child, pid })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What becomes readable when its process ends.
    pub fn end(&self) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(pidfd_open(pid.ok_or(io::ErrorKind::InvalidData)?, PidfdFlags::NONBLOCK)?)
    }

    /// Has it end, and waits for that: what is open still is taken out.
    pub fn stop(&self) {
        *lock(&self.link) = None;
        self.given_up("it is not needed any more".to_owned());
        self.wait();
    }

    /// Why it serves no more, if that is so.
    pub fn ended(&self) -> Option<String> {
        let status = lock(&self.child).try_wait();
        let mut ended = lock(&self.ended);
        if let (Ok(Some(status)), None) = (status, &*ended) {
            *ended = Some(format!("it has ended ({status})"));
        }
        ended.clone()
    }

    /// Takes out what killed nodes of its folder have left: of each file, whether that went well.
    pub fn restore(&self) -> Result<Vec<Restored>, String> {
        match self.ask(Request::Restore)? {
            (Answer::Restored(all), _) => Ok(all),
            _ => Err(self.broken()),
        }
    }

    /// Joins a group, as [`Join::open`] does.
    pub fn join(&self, spec: &JoinSpec) -> Result<Join, JoinError> {
        let (_, files) = self.ask(Request::Join(spec.clone())).map_err(JoinError::Told)?;
        let file = files.into_iter().next().ok_or_else(|| JoinError::Told(self.broken()))?;
        Join::with(file.into(), spec)
    }

    /// Opens a tunnel's part of this host, as [`Network::open`] does. Where it writes down what it has put into the
    /// kernel it knows by itself; of the file's path it is told the name.
    pub fn open(self: &Arc<Self>, spec: &NetworkSpec) -> Result<Network, NetworkError> {
        let name = spec.state.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (tag, groups) = (spec.tag.clone(), spec.groups.clone());
        let members = members_of(spec)?;
        let open = Open { name, tag, groups, address: spec.address, capture: spec.capture };
        let asked = self.ask(Request::Open(open)).map_err(NetworkError::Cannot)?;
        let (Answer::Opened { id, mode, has_raw, remarks }, files) = asked else {
            return Err(NetworkError::Cannot(self.broken()));
        };
        let lease = Lease { monitor: Arc::clone(self), id };
        let destinations = spec.groups.destinations();
        if files.len() != destinations.len() + usize::from(has_raw) {
            return Err(NetworkError::Cannot(self.broken()));
        }
        let mut files = files.into_iter();
        let captures = destinations.iter().zip(files.by_ref().take(destinations.len()));
        let captures = captures.map(|(to, file)| Capture::new(*to, mode, file.into())).collect();
        let held = Held::Apart { _lease: lease };
        let raw = files.next().map(Into::into);
        Network::with(spec, mode, (remarks, captures), (members, raw), held)
    }

    /// Asks, and waits for the answer.
    fn ask(&self, request: Request) -> Result<(Answer, Vec<OwnedFd>), String> {
        let link = lock(&self.link);
        if let Some(why) = self.ended() {
            return Err(why);
        }
        let socket = link.as_ref().ok_or("it is not needed any more")?;
        let bytes = Message::Request(request).encode();
        debug_assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        let answered = send(socket.as_fd(), &bytes, &[]).and_then(|()| answer(socket));
        match answered {
            Ok((Answer::Failed(why), _)) => Err(why),
            Ok(answered) => Ok(answered),
            Err(e) => {
                // What it says from here on could be the answer to something else.
                Err(match e.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.given_up(format!("it has not answered for {} s", PATIENCE.as_secs()))
                    }
                    // Its socket goes with it, a moment before.
                    _ => {
                        self.wait();
                        self.ended().unwrap_or_else(|| self.given_up(format!("it is silent: {e}")))
                    }
                })
            }
        }
    }

    fn broken(&self) -> String {
        self.given_up("it answers something else than it was asked".to_owned())
    }

    fn given_up(&self, why: String) -> String {
        lock(&self.ended).get_or_insert(why).clone()
    }

    /// Waits until its process has ended, for a while.
    fn wait(&self) {
        let until = Timespec { tv_sec: ENDING_S, tv_nsec: 0 };
        if let Ok(end) = self.end() {
            let _ = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&until));
        }
        let _ = lock(&self.child).try_wait();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It sees the end of the socket, takes out what is left, and ends.
        self.stop();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Where it is gone, what it has left is there for the next start.
        let _ = self.monitor.ask(Request::Close(self.id));
    }
}

/// The next answer, with the files that came before it.
fn answer(socket: &OwnedFd) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let mut files = Vec::new();
    loop {
        let Some((bytes, some)) = receive(socket.as_fd(), true)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        files.extend(some);
        match Message::decode(&bytes).map_err(io::Error::other)? {
            Message::Answer(Answer::More) => {}
            Message::Answer(answer) => return Ok((answer, files)),
            Message::Request(_) => return Err(io::Error::other("it asks")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
