//! A thread outside of the fence. The kernel asks it about each call that seccomp stops
//! (`seccomp_unotify(2)`, Linux 5.5): it names what is refused in the log and has it fail; opens that
//! landlock decides on go on, and are named if landlock is going to refuse them.
//!
//! A handler of SIGSYS could not do that: a program is started with all signals blocked.

use super::calls::{AT, FILES, OPEN, PROGRAMS, SOCKETS, SYSTEM};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// The thread's stack: it formats a line.
const STACK_BYTES: usize = 256 << 10;
/// What stands for the listener in the filter: seccompiler knows no such action.
const MARK: u16 = 0x5359;
/// A BPF instruction that ends the filter with a constant.
const RETURN: u16 = 0x06;

/// What a program may do.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    pub(super) readable: Vec<PathBuf>,
    pub(super) writable: Vec<PathBuf>,
    pub(super) net: bool,
}

/// The thread, before it listens.
pub(super) struct Warden {
    listener: SyncSender<OwnedFd>,
}

impl Warden {
    /// Starts the thread.
    pub(super) fn start(fence: Fence) -> io::Result<Self> {
        let (listener, listeners) = sync_channel(1);
        let thread = thread::Builder::new().name("warden".into()).stack_size(STACK_BYTES);
        thread.spawn(move || serve(&fence, &listeners))?;
        Ok(Self { listener })
    }

    /// Puts the calling thread behind seccomp.
    pub(super) fn listen(self, fence: &Fence, has_landlock: bool) -> io::Result<()> {
        let mut calls: Vec<i64> = [PROGRAMS, SYSTEM, OPEN].concat();
        if !fence.net {
            calls.extend(SOCKETS);
        }
        calls.extend(FILES.iter().map(|(call, _)| call));
        debug_assert!(has_landlock || fence.writable.is_empty());
        let calls: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
        let stop = SeccompAction::Trace(u32::from(MARK));
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, stop, arch);
        let mut program: BpfProgram =
            filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
        for instruction in program.iter_mut().filter(|instruction| instruction.code == RETURN) {
            if instruction.k == libc::SECCOMP_RET_TRACE | u32::from(MARK) {
                instruction.k = libc::SECCOMP_RET_USER_NOTIF;
            }
        }
        let listener = install(&mut program)?;
        self.listener.send(listener).map_err(|_| io::Error::other("the warden has ended"))
    }
}

/// Puts a filter on the calling thread; gives the descriptor that hears of what it stops.
fn install(program: &mut BpfProgram) -> io::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr().cast() };
    // SAFETY: the prctl takes numbers only. The filter is a valid program, of as many instructions as
    // `len` says and laid out as the kernel's are, which the kernel copies and checks. The descriptor
    // that it gives is new and nobody else's.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let (set, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        let fd = libc::syscall(libc::SYS_seccomp, set, flags, &raw const filter);
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => {
                let why = io::Error::last_os_error();
                let text =
                    format!("seccomp does not tell of what it stops (Linux 5.5 does): {why}");
                Err(io::Error::other(text))
            }
        }
    }
}

fn serve(fence: &Fence, listeners: &Receiver<OwnedFd>) {
    // Gone without a word if the fence could not be put up.
    let Ok(listener) = listeners.recv() else { return };
    let memory = File::open("/proc/self/mem").ok();
    loop {
        // SAFETY: the kernel wants zeros and fills in a call; all of it is numbers.
        let call = unsafe {
            let mut call: libc::seccomp_notif = std::mem::zeroed();
            let received =
                libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call);
            if received == 0 { Ok(call) } else { Err(io::Error::last_os_error()) }
        };
        let call = match call {
            Ok(call) => call,
            // The call was interrupted before it was seen.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::ENOENT)) => continue,
            Err(e) => return say(format_args!("the sandbox no longer hears of calls: {e}")),
        };
        let number = i64::from(call.data.nr);
        let goes_on = fence.judge(&Call { number, args: call.data.args, memory: memory.as_ref() });
        let (error, flags) = match goes_on {
            true => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            false => (-libc::EACCES, 0),
        };
        let mut response = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the response is whole, and the kernel takes it by value. If whoever called has gone
        // meanwhile, there is nobody to answer.
        unsafe {
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response);
        }
    }
}

/// A system call that was stopped.
struct Call<'a> {
    number: i64,
    args: [u64; 6],
    memory: Option<&'a File>,
}

impl Fence {
    /// Whether a call goes on. What is refused, here or by landlock, is named.
    fn judge(&self, call: &Call<'_>) -> bool {
        let number = call.number;
        if OPEN.contains(&number) {
            return self.judge_open(call);
        }
        if let Some((_, paths)) = FILES.iter().find(|(file, _)| *file == number) {
            let paths: Vec<PathBuf> = paths.iter().filter_map(|n| call.path(*n)).collect();
            let refused = paths.iter().find(|path| !is_beneath(path, &self.writable));
            if let Some(path) = refused {
                say(format_args!("the sandbox refused to change {path:?} (--allow-write)"));
            }
            // Landlock knows the folders that may be written.
            return refused.is_none();
        }
        if SOCKETS.contains(&number) {
            say(format_args!("the sandbox refused a socket (--allow-net)"));
        } else if PROGRAMS.contains(&number) {
            match number {
                libc::SYS_execve | libc::SYS_execveat => {
                    let path = call.path(usize::from(number == libc::SYS_execveat));
                    say(format_args!("the sandbox refused to run {:?}", path.unwrap_or_default()));
                }
                _ => say(format_args!("the sandbox refused to start a process")),
            }
        } else {
            say(format_args!("the sandbox refused the system call {number}"));
        }
        false
    }

    fn judge_open(&self, call: &Call<'_>) -> bool {
        let at = usize::from(AT.contains(&call.number));
        let flags = call.args[at + 1] as i32;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY
            || flags & (libc::O_CREAT | libc::O_TRUNC) != 0
            || flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let path = call.path(at).unwrap_or_default();
        if writes {
            let may = is_beneath(&path, &self.writable);
            if !may {
                say(format_args!("the sandbox refused to write {path:?} (--allow-write)"));
            }
            // Landlock decides again: the path lies in memory that is the program's.
            return may;
        }
        let is_own = path.starts_with("/proc/self/fd");
        if !is_own
            && path.exists()
            && !is_beneath(&path, &self.readable)
            && !is_beneath(&path, &self.writable)
        {
            say(format_args!("the sandbox refused to read {path:?} (--allow-read)"));
        }
        true
    }
}

/// Tells the agent's log. Standard error may be gone with the node; there is nobody else to tell.
fn say(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "engine: {what}");
}

/// Whether a path, which need not be there yet, lies in one of these folders.
fn is_beneath(path: &Path, folders: &[PathBuf]) -> bool {
    let canonical = path.canonicalize().or_else(|_| {
        let folder = path.parent().unwrap_or(path).canonicalize()?;
        Ok::<_, io::Error>(folder.join(path.file_name().unwrap_or_default()))
    });
    let Ok(canonical) = canonical else { return false };
    let folders = folders.iter().filter_map(|folder| folder.canonicalize().ok());
    folders.into_iter().any(|folder| canonical.starts_with(folder))
}

impl Call<'_> {
    /// The path that an argument points to, made absolute.
    fn path(&self, argument: usize) -> Option<PathBuf> {
        let mut bytes = [0; libc::PATH_MAX as usize];
        let from = *self.args.get(argument)?;
        let len = self.memory?.read_at(&mut bytes, from).ok()?;
        let end = bytes[..len].iter().position(|byte| *byte == 0)?;
        let path = PathBuf::from(OsString::from_vec(bytes[..end].to_vec()));
        if path.is_absolute() {
            return Some(path);
        }
        let folder = match argument.checked_sub(1).filter(|_| AT.contains(&self.number)) {
            Some(folder) if self.args[folder] as i32 != libc::AT_FDCWD => {
                let fd = self.args[folder] as i32;
                std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?
            }
            _ => std::env::current_dir().ok()?,
        };
        Some(folder.join(path))
    }
}
