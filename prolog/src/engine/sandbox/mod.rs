//! The fence around a program: no other programs, no sockets, no writing of files, and reading only
//! in its own folder. Scryer has no sandbox of its own (any program can call `shell/1` or the
//! machine's system calls), so the kernel is it: seccomp for what can be told from a system call's
//! numbers, landlock for paths.
//!
//! It is put on the machine's thread, which starts no other, once its streams are open. What is
//! refused fails with `EACCES` and is named on standard error, which is the agent's log, by the
//! [warden]: a thread that stays outside of the fence.

mod calls;
mod warden;

use crate::frame::Start;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;
use std::path::{Path, PathBuf};
use warden::{Fence, Warden};

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
    let fence = Fence {
        readable: readable(start),
        writable: start.sandbox.write.iter().map(PathBuf::from).collect(),
        net: start.sandbox.net,
    };
    // Started before anything is restricted: threads inherit restrictions.
    let warden = Warden::start(fence.clone())?;
    let has_paths = restrict_paths(&fence)?;
    if !has_paths {
        if !fence.writable.is_empty() {
            let text = "writing in some folders only needs landlock, which this kernel lacks";
            return Err(io::Error::other(text));
        }
        eprintln!("engine: this kernel has no landlock: reading of files is not restricted");
    }
    warden.listen(&fence, has_paths)
}

fn readable(start: &Start) -> Vec<PathBuf> {
    let parent = |path: &str| Path::new(path).parent().map(Path::to_path_buf);
    let mut readable: Vec<PathBuf> = READABLE.iter().map(PathBuf::from).collect();
    readable.extend(parent(&start.program));
    readable.extend(start.base.as_deref().and_then(parent));
    readable.push(PathBuf::from(&start.modules));
    readable.extend(start.sandbox.read.iter().map(PathBuf::from));
    readable
}

/// Landlock. False if the kernel has none.
fn restrict_paths(fence: &Fence) -> io::Result<bool> {
    let abi = ABI::V3;
    let restricted = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(&fence.readable, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(&fence.writable, AccessFs::from_all(abi)))?
            .restrict_self()
    };
    let status = restricted().map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
