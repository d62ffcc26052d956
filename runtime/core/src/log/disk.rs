//! The only way in which the core reaches files. What a disk promises is exactly this:
//!
//! - what was written is safe from a crash once [`File::sync_data`] has returned; before that any
//!   part of it may be lost, whole or torn, in any order;
//! - a name that was created, renamed or removed is safe once [`Disk::sync_dir`] of its folder has
//!   returned; a rename is seen whole or not at all;
//! - a failed `sync_data` or `sync_dir` says nothing about what is safe: the process ends and reads
//!   again from the start, it never retries.
//!
//! The real disk is the node's, the one that loses and tears is the simulator's. Paths are relative
//! to the disk's root; the empty path is the root.

use std::fmt;
use std::path::{Path, PathBuf};

/// A folder tree that keeps files.
pub trait Disk: Clone + Send {
    /// An open file.
    type File: File;

    /// Opens a file that exists, to read and write.
    fn open(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Opens a file that exists, to read.
    fn open_read(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Creates a file to read and write, or empties the one that is there.
    fn create(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Gives a file another name, in place of any file of that name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Creates a folder; one that exists is left as it is.
    fn create_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a folder safe from a crash.
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// The names in a folder, ordered. A name that is not text is given with its odd bytes replaced.
    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError>;

    /// How many bytes may still be written.
    fn free_space(&self) -> Result<u64, DiskError>;
}

/// An open file. It has no position: every call names its offset.
pub trait File: Send + Sync {
    /// Reads into `buffer` from `offset` on; fewer bytes than asked for only at the file's end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of `bytes` at `offset`, extending the file where it ends there. After an error any
    /// part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// How long the file is, in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file holds nothing.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> Result<(), DiskError>;

    /// Makes all that was written to the file safe from a crash, its length included.
    fn sync_data(&self) -> Result<(), DiskError>;
}

/// What a disk could not do, with which file, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What was tried, as it reads after "cannot".
    pub operation: &'static str,
    /// With which file or folder, as the user knows it.
    pub path: PathBuf,
    /// Why it did not work.
    pub why: Why,
}

/// Why a disk refused, as far as callers tell the reasons apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No room is left, on the disk or in the quota.
    #[error("no space is left on the disk")]
    Full,
    /// There is no such file or folder.
    #[error("there is no such file or folder")]
    NotFound,
    /// The rights are missing, or the file system is read-only.
    #[error("permission denied")]
    Permission,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), self.why)
    }
}

impl std::error::Error for DiskError {}
