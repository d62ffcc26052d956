//! `--user NAME`: the node is somebody else from here on.

use super::Failure;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::Path;
use std::ptr;

/// Bytes that an entry of the user database may take, at most.
const ENTRY_BYTES: usize = 64 << 10;
/// Groups that a user may be in, at most: the kernel's own bound.
const MAX_GROUPS: usize = 65_536;

/// A user of this host.
#[derive(Clone, Debug)]
pub(super) struct User {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    pub(super) fn find(name: &str) -> Result<Self, Failure> {
        let unknown =
            || Failure::error(format!("this host has no user {name}: `getent passwd` lists them"));
        let text = CString::new(name).map_err(|_| unknown())?;
        let asked = look_up(&text).map_err(|error| {
            Failure::error(format!("the user {name} cannot be looked up: {error}"))
        })?;
        let (uid, gid, groups) = asked.ok_or_else(unknown)?;
        Ok(Self { name: name.to_owned(), uid, gid, groups })
    }

    /// Whether this process is that user already.
    fn is_me(&self) -> bool {
        geteuid().as_raw() == self.uid
    }

    /// Makes a data folder theirs if it is not there, and says what to do where it is somebody else's.
    pub(super) fn own(&self, data: &Path) -> Result<(), Failure> {
        let Self { name, uid, gid, .. } = self;
        let shown = data.display();
        let wrong = |error: io::Error| Failure::error(format!("{shown}: {error}"));
        if !self.is_me() && !geteuid().is_root() {
            let text =
                format!("--user {name} needs root: sudo synod up --user {name} --data {shown}");
            return Err(Failure::error(text));
        }
        if !data.exists() {
            // What leads to it has to let that user through.
            if let Some(above) = data.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(above).map_err(wrong)?;
            }
            DirBuilder::new().mode(0o700).create(data).map_err(wrong)?;
            chown(data, Some(*uid), Some(*gid)).map_err(wrong)?;
        }
        match data.metadata().map_err(wrong)?.uid() {
            owner if owner == *uid => Ok(()),
            owner => Err(Failure::error(format!(
                "{shown} belongs to the user with the number {owner}, and the node is to be {name}: \
                 chown -R {name} {shown}"
            ))),
        }
    }

    /// A file that was made for the node becomes theirs.
    pub(super) fn give(&self, file: &Path) -> io::Result<()> {
        chown(file, Some(self.uid), Some(self.gid))
    }

    /// This process, which has one thread, is that user from here on, and keeps these capabilities for as long as
    /// it takes to hand them on.
    pub(super) fn become_them(
        &self,
        keep: CapabilitySet,
        executable: &Path,
    ) -> Result<(), Failure> {
        if !self.is_me() {
            self.change(keep).map_err(|error| {
                Failure::error(format!("it cannot become {}: {error}", self.name))
            })?;
        }
        // Engines are this program, too.
        accessat(CWD, executable, Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| {
            Failure::error(format!(
                "{} may not execute {}: {error}; put it where everybody may, as in /usr/local/bin",
                self.name,
                executable.display()
            ))
        })
    }

    fn change(&self, keep: CapabilitySet) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_keep_capabilities(true)?;
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)?;
        let permitted = capabilities(None)?.permitted & keep;
        let inheritable = CapabilitySet::empty();
        Ok(set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?)
    }
}

/// Number, group and groups of a user; none if there is no such user.
fn look_up(name: &CString) -> io::Result<Option<(u32, u32, Vec<u32>)>> {
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    // SAFETY: it is a structure for which zeroes are values.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: all lead to what outlives the call, and the buffer is as long as is said.
    let status = unsafe {
        let (to, len) = (buffer.as_mut_ptr(), buffer.len());
        libc::getpwnam_r(name.as_ptr(), &raw mut entry, to, len, &raw mut found)
    };
    match (status, found.is_null()) {
        (0 | libc::ENOENT | libc::ESRCH, true) => return Ok(None),
        (0, false) => {}
        (error, _) => return Err(io::Error::from_raw_os_error(error)),
    }
    let (uid, gid) = (entry.pw_uid, entry.pw_gid);
    let mut groups = vec![0; MAX_GROUPS];
    let mut count = libc::c_int::try_from(groups.len()).map_err(io::Error::other)?;
    // SAFETY: there is room for as many groups as is said, and the call says how many it has written.
    let status =
        unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
    if status < 0 {
        return Err(io::Error::other("it is in too many groups"));
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(Some((uid, gid, groups)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_or_not() {
        let root = User::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert!(User::find("nobody-of-this-name").is_err());
        assert!(User::find("a\0b").is_err());
    }
}
