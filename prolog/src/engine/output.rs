//! What the program prints: a memory file that is the process's standard output, drained between
//! two handlers, so that it belongs to the run that printed it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The memory file behind descriptor 1.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
}

impl Output {
    /// Takes descriptor 1 as it is, and makes all who write to it append.
    pub(super) fn open() -> io::Result<Self> {
        let file: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::APPEND)?;
        Ok(Self { file: file.into() })
    }

    /// Bytes that wait to be drained.
    pub(super) fn len(&self) -> u64 {
        length(&self.file)
    }

    /// Takes out all that was printed.
    pub(super) fn drain(&mut self) -> Vec<u8> {
        // The machine's user_output is this process's, which keeps the end of a line that is not
        // over. It is a memory file: it cannot fail but at the engine's memory limit.
        let _ = io::stdout().flush();
        let len = self.len();
        if len == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let is_read = self.file.read_exact_at(&mut bytes, 0).is_ok();
        let is_cut = self.file.set_len(0).is_ok();
        if is_read && is_cut { bytes } else { Vec::new() }
    }

    /// Another handle on it, for the watchdog.
    pub(super) fn watched(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// The bytes in a memory file.
pub(super) fn length(file: &File) -> u64 {
    rustix::fs::fstat(file.as_fd()).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
}
