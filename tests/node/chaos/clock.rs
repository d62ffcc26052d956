//! Clocks that are wrong: a node is given a library that adds to its wall clock what a file says, and leaves
//! the clock alone that measures how long things take.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian puts the library, under a folder of the architecture.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// The wall clocks of nodes.
pub(crate) struct Clocks {
    library: PathBuf,
}

impl Clocks {
    /// None, if the machine has no such library.
    pub(crate) fn new() -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut libraries = folders.map(|folder| folder.path().join(LIBRARY));
        libraries.find(|path| path.exists()).map(|library| Self { library })
    }

    /// Has a command go by the clock of this folder.
    pub(crate) fn give(&self, command: &mut Command, folder: &Path) {
        command.env("LD_PRELOAD", &self.library);
        command.env("FAKETIME_TIMESTAMP_FILE", file(folder));
        // It looks at the file each time.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("NO_FAKE_STAT", "1").env("FAKETIME_DISABLE_SHM", "1");
    }

    /// Puts a node's clock wrong by so many seconds, at once.
    pub(crate) fn set(&self, folder: &Path, seconds: i64) {
        // The file is there whole or not at all: what is no number would end the process.
        let aside = folder.join("clock.new");
        std::fs::write(&aside, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(aside, file(folder)).unwrap();
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("clock")
}
