//! Which network namespace a state is of: rules and routes are a namespace's, and files are not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where namespaces that have a name are.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A network namespace, as long as the system is not started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its number among those that are there.
    pub(super) inode: u64,
    /// Which of the system's starts it is of.
    pub(super) boot: String,
}

/// Where a namespace is, seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// This process is in it.
    Here,
    /// It is another one; a file that leads into it, if one was found.
    Elsewhere(Option<PathBuf>),
    /// It has ended, and with it all that was put into it.
    Gone,
}

impl Namespace {
    /// The one that this thread is in.
    pub(super) fn here() -> io::Result<Self> {
        let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
        Ok(Self { inode, boot: fs::read_to_string(BOOT)?.trim().to_owned() })
    }

    pub(super) fn whereabouts(&self) -> io::Result<Whereabouts> {
        let here = Self::here()?;
        if self.boot != here.boot {
            return Ok(Whereabouts::Gone);
        }
        if self.inode == here.inode {
            return Ok(Whereabouts::Here);
        }
        // A process whose namespace we may not see may be in it.
        let mut is_all_seen = true;
        let named = NAMED.iter().flat_map(|folder| entries(Path::new(folder)));
        let processes = entries(Path::new("/proc"))
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok())
            })
            .map(|path| path.join("ns/net"));
        for path in named.chain(processes) {
            match fs::metadata(&path) {
                Ok(found) if found.ino() == self.inode => {
                    return Ok(Whereabouts::Elsewhere(Some(path)));
                }
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => is_all_seen = false,
                _ => {}
            }
        }
        Ok(if is_all_seen { Whereabouts::Gone } else { Whereabouts::Elsewhere(None) })
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_here_or_gone() {
        let here = Namespace::here().unwrap();
        assert_eq!(here.whereabouts().unwrap(), Whereabouts::Here);
        let earlier = Namespace { boot: "another".to_owned(), ..here.clone() };
        assert_eq!(earlier.whereabouts().unwrap(), Whereabouts::Gone);
        let other = Namespace { inode: 1, ..here };
        assert!(matches!(
            other.whereabouts().unwrap(),
            Whereabouts::Gone | Whereabouts::Elsewhere(None)
        ));
    }
}
