//! The fence around a program: no other programs, no sockets, no writing of files, and reading only
//! in its own folder. Scryer has no sandbox of its own (any program can call `shell/1` or the
//! machine's system calls), so the kernel is it: seccomp for what can be told from a system call's
//! numbers, landlock for paths.
//!
//! It is put on the machine's thread, which starts no other, once its streams are open. What seccomp
//! refuses fails with `EACCES`, and is named on standard error, which is the agent's log, but for
//! programs that are to be started: the call that would do it fails, which its handler's failure tells.

use crate::frame::Start;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Open files, at most: the engine's own and what a program may read at a time.
const MAX_FILES: u64 = 256;
/// What every program may read: clocks' time zones, and devices that hold nothing.
const READABLE: [&str; 5] =
    ["/dev/null", "/dev/zero", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo"];

/// Puts the fence up, as far as `start` wants one, around the calling thread.
pub(super) fn enter(start: &Start) -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if !start.sandbox.on {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(MAX_FILES), maximum: Some(MAX_FILES) })?;
    let has_paths = restrict_paths(start)?;
    if !has_paths {
        if !start.sandbox.write.is_empty() {
            let text = "writing in some folders only needs landlock, which this kernel lacks";
            return Err(io::Error::other(text));
        }
        eprintln!("engine: this kernel has no landlock: reading of files is not restricted");
    }
    restrict_calls(start)
}

/// Landlock. False if the kernel has none.
fn restrict_paths(start: &Start) -> io::Result<bool> {
    let abi = ABI::V3;
    let parent = |path: &str| Path::new(path).parent().map(Path::to_path_buf);
    let mut readable: Vec<PathBuf> = READABLE.iter().map(PathBuf::from).collect();
    readable.extend(parent(&start.program));
    readable.extend(start.base.as_deref().and_then(parent));
    readable.push(PathBuf::from(&start.modules));
    readable.extend(start.sandbox.read.iter().map(PathBuf::from));
    let restricted = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(&readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(&start.sandbox.write, AccessFs::from_all(abi)))?
            .restrict_self()
    };
    let status = restricted().map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Seccomp.
fn restrict_calls(start: &Start) -> io::Result<()> {
    let all = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect();
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = all(SYSTEM);
    if !start.sandbox.net {
        refused.extend(SOCKETS.iter().map(|call| (*call, Vec::new())));
    }
    if start.sandbox.write.is_empty() {
        refused.extend(FILES.iter().map(|call| (*call, Vec::new())));
        refused.insert(libc::SYS_openat, for_writing(2)?);
        #[cfg(target_arch = "x86_64")]
        refused.insert(libc::SYS_open, for_writing(1)?);
    }
    catch_refusals()?;
    // A process is started with all signals blocked: a trap would end the engine there.
    let quietly = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    apply(all(PROGRAMS), quietly)?;
    apply(refused, SeccompAction::Trap)
}

fn apply(calls: BTreeMap<i64, Vec<SeccompRule>>, refusal: SeccompAction) -> io::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refusal, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// The rules that match an open for writing, by its flags.
fn for_writing(argument: u8) -> io::Result<Vec<SeccompRule>> {
    let flags = |mask: i32, value: i32| {
        let (mask, value) = (u64::from(mask.unsigned_abs()), u64::from(value.unsigned_abs()));
        let op = SeccompCmpOp::MaskedEq(mask);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(io::Error::other)
    };
    Ok(vec![
        flags(libc::O_ACCMODE, libc::O_WRONLY)?,
        flags(libc::O_ACCMODE, libc::O_RDWR)?,
        flags(libc::O_CREAT, libc::O_CREAT)?,
        flags(libc::O_TRUNC, libc::O_TRUNC)?,
    ])
}

/// Starting programs and processes. The machine's thread starts no threads either.
const PROGRAMS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Other ways out: into other processes, the kernel, or around this filter.
const SYSTEM: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_openat2,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
];

/// Sockets.
const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Changes of the file system other than by an open file.
const FILES: &[i64] = &[
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
];

/// Has refused calls named and failed, instead of killing the process.
fn catch_refusals() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one; the handler below is async-signal-safe.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = refused as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn refused(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid ucontext, which it may change. For
    // seccomp's SIGSYS the call's number is where it was put for the call, and the result register
    // is what the interrupted code will see as the call's result.
    let call = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        #[cfg(target_arch = "x86_64")]
        {
            let registers = &mut context.uc_mcontext.gregs;
            let call = registers[libc::REG_RAX as usize];
            registers[libc::REG_RAX as usize] = -i64::from(libc::EACCES);
            call
        }
        #[cfg(target_arch = "aarch64")]
        {
            let registers = &mut context.uc_mcontext.regs;
            registers[0] = (-i64::from(libc::EACCES)) as u64;
            registers[8] as i64
        }
    };
    let what: &[u8] = if SOCKETS.contains(&call) {
        b"engine: the sandbox refused a socket (--allow-net)\n"
    } else if SYSTEM.contains(&call) {
        b"engine: the sandbox refused a system call\n"
    } else {
        b"engine: the sandbox refused to write a file (--allow-write)\n"
    };
    // SAFETY: write(2) is async-signal-safe; the slice is valid.
    unsafe { libc::write(2, what.as_ptr().cast(), what.len()) };
}
