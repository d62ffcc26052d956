//! The core's [`Disk`] on a real file system.
//!
//! Every call is one system call on one file, with an offset of its own (`pread`, `pwrite`), so a
//! file may be read while it is written. `fdatasync` makes a file's bytes and its length safe, an
//! `fsync` of the folder its name.

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::fs::DirEntry;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod_core::log::disk::{Disk, DiskError, File, Why};

/// New files are their owner's alone: a log holds what its space agreed on, and nobody else asked.
const FILE_MODE: u32 = 0o600;
/// New folders likewise.
const DIR_MODE: u32 = 0o700;

/// A folder of the real file system; cheap to clone.
#[derive(Clone, Debug)]
pub struct FsDisk {
    root: Arc<Path>,
}

/// An open file of an [`FsDisk`].
#[derive(Debug)]
pub struct FsFile {
    fd: OwnedFd,
    path: PathBuf,
}

impl FsDisk {
    /// The disk whose paths are relative to `root`, which must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into() }
    }

    /// The folder that this disk's paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path as the operating system knows it.
    fn path(&self, path: &Path) -> PathBuf {
        // Joining an empty path would append a slash.
        if path.as_os_str().is_empty() { self.root.to_path_buf() } else { self.root.join(path) }
    }

    fn open_with(
        &self,
        path: &Path,
        operation: &'static str,
        flags: OFlags,
    ) -> Result<FsFile, DiskError> {
        let path = self.path(path);
        match again(|| fs::open(&path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(FILE_MODE))) {
            Ok(fd) => Ok(FsFile { fd, path }),
            Err(e) => Err(error(operation, &path, e)),
        }
    }
}

impl Disk for FsDisk {
    type File = FsFile;

    fn open(&self, path: &Path) -> Result<FsFile, DiskError> {
        self.open_with(path, "open", OFlags::RDWR)
    }

    fn open_read(&self, path: &Path) -> Result<FsFile, DiskError> {
        self.open_with(path, "open", OFlags::RDONLY)
    }

    fn create(&self, path: &Path) -> Result<FsFile, DiskError> {
        self.open_with(path, "create", OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let from = self.path(from);
        fs::rename(&from, self.path(to)).map_err(|e| error("rename", &from, e))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.path(path);
        fs::unlink(&path).map_err(|e| error("remove", &path, e))
    }

    fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.path(path);
        match fs::mkdir(&path, Mode::from_raw_mode(DIR_MODE)) {
            Err(Errno::EXIST) if path.is_dir() => Ok(()),
            done => done.map_err(|e| error("create folder", &path, e)),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.path(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        again(|| fs::open(&path, flags, Mode::empty()))
            .and_then(|dir| again(|| fs::fsync(&dir)))
            .map_err(|e| error("sync folder", &path, e))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let path = self.path(path);
        let name = |entry: DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names = std::fs::read_dir(&path)
            .and_then(|entries| entries.map(|entry| entry.map(name)).collect::<Result<Vec<_>, _>>())
            .map_err(|e| match Errno::from_io_error(&e) {
                Some(errno) => error("list", &path, errno),
                None => DiskError {
                    operation: "list",
                    path: path.clone(),
                    why: Why::Other(e.to_string()),
                },
            })?;
        names.sort_unstable();
        Ok(names)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let space = again(|| fs::statvfs(&*self.root))
            .map_err(|e| error("ask the free space of", &self.root, e))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl File for FsFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut read = 0;
        while read < buffer.len() {
            let rest = &mut buffer[read..];
            let at = offset + read as u64;
            match again(|| rustix::io::pread(&self.fd, &mut *rest, at)) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) => return Err(error("read", &self.path, e)),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut written = 0;
        while written < bytes.len() {
            let at = offset + written as u64;
            match again(|| rustix::io::pwrite(&self.fd, &bytes[written..], at)) {
                // A regular file takes at least a byte or says why not; an endless loop is worse
                // than a wrong word for a file system that does neither.
                Ok(0) => return Err(error("write", &self.path, Errno::IO)),
                Ok(n) => written += n,
                Err(e) => return Err(error("write", &self.path, e)),
            }
        }
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        let stat = fs::fstat(&self.fd).map_err(|e| error("ask the length of", &self.path, e))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        again(|| fs::ftruncate(&self.fd, len)).map_err(|e| error("cut", &self.path, e))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        again(|| fs::fdatasync(&self.fd)).map_err(|e| error("sync", &self.path, e))
    }
}

/// Asks again when a signal came between.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn error(operation: &'static str, path: &Path, errno: Errno) -> DiskError {
    let why = match errno {
        Errno::NOSPC | Errno::DQUOT => Why::Full,
        Errno::NOENT => Why::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Why::Permission,
        other => Why::Other(std::io::Error::from(other).to_string()),
    };
    DiskError { operation, path: path.to_path_buf(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::log::{self, Entry, HardState, Limits, Log, Position};

    #[test]
    fn a_file_is_written_read_cut_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(dir.path());
        let (a, b) = (Path::new("d/a"), Path::new("d/b"));
        disk.create_dir(Path::new("d")).unwrap();
        disk.create_dir(Path::new("d")).unwrap();
        let file = disk.create(a).unwrap();
        file.write_at(0, b"hello world").unwrap();
        file.write_at(6, b"there").unwrap();
        file.sync_data().unwrap();
        file.truncate(8).unwrap();
        disk.rename(a, b).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(disk.list(Path::new("d")).unwrap(), ["b"]);
        let file = disk.open_read(b).unwrap();
        let mut read = [0; 16];
        assert_eq!(file.read_at(2, &mut read).unwrap(), 6);
        assert_eq!(&read[..6], b"llo th");
        assert_eq!(file.len().unwrap(), 8);
        disk.remove(b).unwrap();
        assert!(disk.list(Path::new("d")).unwrap().is_empty());
        assert!(disk.free_space().unwrap() > 0);
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_not_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(dir.path());
        let missing = disk.open(Path::new("x")).unwrap_err();
        assert_eq!(missing.why, Why::NotFound);
        assert!(missing.to_string().starts_with("cannot open /"), "{missing}");
        assert_eq!(disk.list(Path::new("x")).unwrap_err().why, Why::NotFound);
        disk.create(Path::new("x")).unwrap();
        assert!(matches!(disk.create_dir(Path::new("x")).unwrap_err().why, Why::Other(_)));
        assert!(matches!(disk.open(Path::new("x/y")).unwrap_err().why, Why::Other(_)));
    }

    #[test]
    fn a_full_disk_and_a_read_only_file_have_names_of_their_own() {
        let full = FsDisk::new("/dev").open(Path::new("full")).unwrap();
        assert_eq!(full.write_at(0, b"x").unwrap_err().why, Why::Full);
        let dir = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(dir.path());
        disk.create(Path::new("x")).unwrap();
        let file = disk.open_read(Path::new("x")).unwrap();
        // EBADF: the file was opened to be read.
        assert!(matches!(file.write_at(0, b"x").unwrap_err().why, Why::Other(_)));
        if rustix::process::geteuid().is_root() {
            return; // root passes over the rights that the rest is about
        }
        let shut = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(dir.path().join("x"), shut).unwrap();
        assert_eq!(disk.open(Path::new("x")).unwrap_err().why, Why::Permission);
    }

    #[test]
    fn a_log_is_read_back_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(dir.path());
        let (folder, space, limits) = (Path::new("log"), [7; 32], Limits::default());
        let entry = |index: u64| Entry { term: 1, index, kind: 0, data: vec![b'x'; 99].into() };
        let mut log =
            Log::create(disk.clone(), folder, space, Position::default(), limits).unwrap();
        log.append(&[entry(1), entry(2)], Some(HardState { term: 1, vote: 3, commit: 1 })).unwrap();
        log.sync().unwrap();
        drop(log);
        let (mut log, recovered) = Log::open(disk.clone(), folder, space, limits).unwrap();
        assert_eq!(recovered.last, Position { term: 1, index: 2 });
        assert_eq!(recovered.hard_state, HardState { term: 1, vote: 3, commit: 1 });
        assert!(!recovered.clean && recovered.cut.is_none());
        log.append(&[entry(3)], None).unwrap();
        log.sync().unwrap();
        assert_eq!(log.read(1, 9, usize::MAX).unwrap(), [entry(1), entry(2), entry(3)]);
        log.close().unwrap();
        assert!(log::inspect(&disk, folder, None).unwrap().0.clean);
    }
}
