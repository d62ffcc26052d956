//! What a node has put aside: spaces that it has left, or whose logs were damaged. It is kept for people, and
//! not for ever.

use super::{Folder, FolderError, make, random, sync};
use crate::space::hex;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where it is.
const LEFT: &str = "left";
/// Folders that are kept aside, at most: the oldest go.
pub(super) const MAX_LEFT: usize = 16;
/// Bytes in them, at most, but for a single larger one.
const MAX_LEFT_BYTES: u64 = 8 << 30;

impl Folder {
    /// Puts a space's folder out of the way; returns where it is now.
    pub(crate) fn set_aside(&self, name: &str) -> Result<PathBuf, FolderError> {
        let folder = self.root.join("spaces").join(name);
        let left = self.root.join(LEFT);
        make(&left)?;
        let to = left.join(format!("{name}-{}", hex(&random()?)));
        fs::rename(&folder, &to).map_err(|e| FolderError::Io(folder, e))?;
        sync(&left)?;
        let tidied = touch(&to).and_then(|()| tidy(&left, &to, MAX_LEFT, MAX_LEFT_BYTES));
        if let Err(e) = tidied {
            tracing::warn!("what is too much in {} stays: {e}", left.display());
        }
        Ok(to)
    }
}

/// Notes in a folder that it was put aside now.
fn touch(folder: &Path) -> io::Result<()> {
    File::open(folder)?.set_modified(SystemTime::now())
}

/// Removes the oldest of what is too much, but for what was put there last.
fn tidy(left: &Path, last: &Path, most: usize, most_bytes: u64) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(left)? {
        let entry = entry?;
        let path = entry.path();
        if path != last {
            all.push((entry.metadata()?.modified()?, bytes_of(&path)?, path));
        }
    }
    // The newest first.
    all.sort_by(|a, b| b.cmp(a));
    let mut bytes = bytes_of(last)?;
    for (kept, (_, its_bytes, path)) in (1..).zip(all) {
        bytes = bytes.saturating_add(its_bytes);
        if kept < most && bytes <= most_bytes {
            continue;
        }
        // What is larger than all may be makes no room for what is older.
        bytes = u64::MAX;
        tracing::warn!(
            "{} ({its_bytes} bytes) is removed: {most} folders and {most_bytes} bytes are kept aside, the \
             newest",
            path.display()
        );
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// What the files in a folder hold.
fn bytes_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0u64;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            bytes = bytes.saturating_add(if found.is_file() { found.len() } else { 0 });
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn names(left: &Path) -> Vec<String> {
        let entries = fs::read_dir(left).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let left = tempfile::tempdir().unwrap();
        let left = left.path();
        for (age, name) in ["d", "c", "b", "a"].into_iter().enumerate() {
            let folder = left.join(name);
            fs::create_dir_all(folder.join("log")).unwrap();
            fs::write(folder.join("log/1"), vec![0; 100]).unwrap();
            let age = Duration::from_secs(10 * age as u64);
            File::open(&folder).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        let last = left.join("d");
        tidy(left, &last, 4, 400).unwrap();
        assert_eq!(names(left), ["a", "b", "c", "d"]);
        tidy(left, &last, 3, 400).unwrap();
        assert_eq!(names(left), ["b", "c", "d"]);
        tidy(left, &last, 4, 299).unwrap();
        assert_eq!(names(left), ["c", "d"]);
        tidy(left, &last, 4, 1).unwrap();
        assert_eq!(names(left), ["d"], "what was put there last stays");
    }

    #[test]
    fn what_is_put_aside_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), Some("one")).unwrap();
        let mut last = PathBuf::new();
        for n in 0..MAX_LEFT + 3 {
            folder.adopt_space("s", [1; 32]).unwrap();
            fs::write(root.path().join("spaces/s/n"), n.to_string()).unwrap();
            last = folder.set_aside("s").unwrap();
        }
        assert_eq!(names(&root.path().join(LEFT)).len(), MAX_LEFT);
        assert_eq!(fs::read_to_string(last.join("n")).unwrap(), (MAX_LEFT + 2).to_string());
    }
}
