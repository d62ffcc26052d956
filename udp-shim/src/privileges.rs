//! What this process may do besides what its user may: which privileges are held, how they are given up for
//! good, and how a child gets them.
//!
//! Linux keeps capabilities by thread, and a thread can only change its own: whoever gives them up does so before
//! it starts a second one.

use rustix::fs::getxattr;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What redirecting needs.
pub const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// How long a thread that has ended may be listed.
const LAST_THREAD: Duration = Duration::from_secs(5);
/// Where the kernel keeps what a file gives to whoever executes it.
const FILE_CAPABILITIES: &str = "security.capability";
/// Bytes of that, at most (`struct vfs_ns_cap_data`).
const FILE_CAPABILITIES_BYTES: usize = 24;

/// Whether this thread holds what redirecting needs.
pub fn are_held() -> bool {
    held().contains(NEEDED)
}

/// What this thread may do now.
pub fn held() -> CapabilitySet {
    capabilities(None).map(|mine| mine.effective).unwrap_or(CapabilitySet::empty())
}

/// Gives up all but these, in every set, for this process and all that it executes from here on. It is to have
/// one thread.
///
/// The bounding set stays as it is where the privilege to change it is missing, as it is with `setcap`: what is
/// executed gains nothing all the same. What `executable` gives to who executes it stays in that set, too, for
/// the kernel refuses to execute a file that it cannot give what the file says.
pub fn keep_only(keep: CapabilitySet, executable: Option<&Path>) -> io::Result<()> {
    let until = Instant::now() + LAST_THREAD;
    // One that was joined is listed for a moment longer.
    while std::fs::read_dir("/proc/self/task")?.count() > 1 {
        if Instant::now() > until {
            return Err(io::Error::other("there are threads that would keep their privileges"));
        }
        std::thread::yield_now();
    }
    clear_ambient_capability_set()?;
    if held().contains(CapabilitySet::SETPCAP) {
        let given = executable.map(given_by).transpose()?.unwrap_or(CapabilitySet::empty());
        bound_to(keep | given)?;
    }
    let permitted = capabilities(None)?.permitted & keep;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?;
    set_no_new_privs(true)?;
    Ok(())
}

fn bound_to(keep: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Ok(true) if !keep.contains(one) => remove_capability_from_bounding_set(one)?,
            is_there => drop(is_there?),
        }
    }
    Ok(())
}

/// What a file gives to whoever executes it.
fn given_by(file: &Path) -> io::Result<CapabilitySet> {
    let mut bytes = [0; FILE_CAPABILITIES_BYTES];
    match getxattr(file, FILE_CAPABILITIES, &mut bytes) {
        Ok(len) => Ok(file_capabilities(&bytes[..len])),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(CapabilitySet::empty()),
        Err(e) => Err(e.into()),
    }
}

/// The permitted ones of `struct vfs_cap_data`: a word of magic, then a permitted and an inheritable word for each
/// 32 capabilities.
fn file_capabilities(bytes: &[u8]) -> CapabilitySet {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        u64::from(word.map_or(0, u32::from_le_bytes))
    };
    CapabilitySet::from_bits_retain(word(4) | word(12) << 32)
}

/// Starts a command that holds these, as far as this thread may hand them on: they are not by themselves. That
/// happens on a thread of its own, for they are a thread's: no other child gets them.
pub fn spawn_with(these: CapabilitySet, command: &mut Command) -> io::Result<Child> {
    let start = || {
        let mut mine = capabilities(None)?;
        let these = these & mine.permitted;
        mine.inheritable |= these;
        set_capabilities(None, mine)?;
        for one in these.iter() {
            configure_capability_in_ambient_set(one, true)?;
        }
        command.spawn()
    };
    std::thread::scope(|scope| {
        let started = scope.spawn(start).join();
        started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has died")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_gives_is_read() {
        // As `setcap cap_net_admin,cap_net_raw+ep` writes it.
        let bytes = [1, 0, 0, 2, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(file_capabilities(&bytes), NEEDED);
        // CAP_BPF is 39.
        let mut high = bytes;
        high[12] = 0x80;
        assert_eq!(file_capabilities(&high), NEEDED | CapabilitySet::BPF);
        assert_eq!(file_capabilities(&[1, 0]), CapabilitySet::empty());
        assert_eq!(given_by(Path::new("/dev/null")).unwrap(), CapabilitySet::empty());
    }
}
