//! What the machine takes without Synod.

use super::latency::Latencies;
use crate::cli::Failure;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of one append.
const APPEND: usize = 256;

/// A file in the folder that is measured, for one `fdatasync` after each append.
pub(super) struct Appends(File);

impl Appends {
    pub(super) fn create(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("floor");
        let file = File::create(&path);
        file.map(Self).map_err(|error| Failure::error(format!("{}: {error}", path.display())))
    }

    /// Appends and syncs so often.
    pub(super) fn run(&mut self, count: u64) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::default();
        for n in 0..count {
            let bytes = [n as u8; APPEND];
            let start = Instant::now();
            let done = self.0.write_all(&bytes).and_then(|()| self.0.sync_data());
            done.map_err(|error| Failure::error(format!("fdatasync: {error}")))?;
            latencies.add(start.elapsed());
        }
        Ok(latencies)
    }
}

/// How long the same lookups take in a map of Rust's standard library, one.
pub(super) fn lookup(facts: u64, lookups: u64) -> Duration {
    let map: BTreeMap<u64, Vec<u8>> = (0..facts).map(|n| (n, n.to_be_bytes().to_vec())).collect();
    let start = Instant::now();
    for n in 0..lookups {
        std::hint::black_box(map.get(&std::hint::black_box(super::lookup::key(n, facts))));
    }
    start.elapsed() / u32::try_from(lookups.max(1)).unwrap_or(u32::MAX)
}

/// How long it takes to start this program and have it say its version.
pub(super) fn start() -> Result<Duration, Failure> {
    let failed = |error: std::io::Error| Failure::error(format!("this program: {error}"));
    let executable = std::env::current_exe().map_err(failed)?;
    let start = Instant::now();
    let mut version = Command::new(executable);
    version.arg("--version").stdout(Stdio::null()).status().map_err(failed)?;
    Ok(start.elapsed())
}
