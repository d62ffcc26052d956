//! The watchdog: a thread that ends the process when what runs takes too long or too much memory,
//! or when the node is gone. It sleeps while nothing runs.
//!
//! The machine cannot be interrupted soundly: an interrupt is an exception, which a program can
//! catch. Ending the process is what the design provides for: that engine alone is replaced.

use super::exit;
use super::output;
use crate::frame::Limits;
use rustix::event::{PollFd, PollFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What booting the machine and loading the program may take at least, whatever a handler may.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// How often the watchdog looks while something runs.
const TICK: Duration = Duration::from_millis(20);
/// The share of the memory limit past which an engine asks to be renewed, in percent.
const RENEWAL_PERCENT: u64 = 75;

/// What runs, as the watchdog sees it.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    watchdog: Thread,
    memory: Memory,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    /// Microseconds from the origin at which what runs was started; 0 while nothing runs.
    since: AtomicU64,
    is_loading: AtomicBool,
    is_asleep: AtomicBool,
}

/// What is needed to know how much memory the process holds.
#[derive(Debug)]
struct Memory {
    statm: File,
    output: File,
    limit: u64,
}

impl Watch {
    /// Starts the watchdog.
    pub(super) fn start(limits: &Limits, output: File, node: UnixStream) -> io::Result<Self> {
        let memory = Memory {
            // Opened now: the sandbox may not let it be opened later.
            statm: File::open("/proc/self/statm")?,
            output,
            limit: limits.memory_bytes,
        };
        let other = Memory {
            statm: memory.statm.try_clone()?,
            output: memory.output.try_clone()?,
            limit: memory.limit,
        };
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            since: AtomicU64::new(0),
            is_loading: AtomicBool::new(true),
            is_asleep: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let time = limits.time_ms.saturating_mul(1000);
        let watchdog = thread::Builder::new()
            .name("watchdog".into())
            .stack_size(256 << 10)
            .spawn(move || watched.watch(time, &other, &node))?;
        Ok(Self { shared, watchdog: watchdog.thread().clone(), memory })
    }

    /// Something starts now, or goes on to the next thing.
    pub(super) fn begin(&self) {
        let now = self.shared.micros().max(1);
        self.shared.since.store(now, Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.watchdog.unpark();
        }
    }

    /// The program is loaded.
    pub(super) fn loaded(&self) {
        self.shared.is_loading.store(false, Ordering::SeqCst);
    }

    /// Nothing runs: the engine waits for its node.
    pub(super) fn rest(&self) {
        self.shared.since.store(0, Ordering::SeqCst);
    }

    /// Resident bytes, if they have passed the share at which an engine should be renewed.
    pub(super) fn heavy(&self) -> Option<u64> {
        let used = self.memory.used();
        let share = self.memory.limit / 100 * RENEWAL_PERCENT;
        (self.memory.limit > 0 && used > share).then_some(used)
    }
}

impl Shared {
    fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn watch(&self, limit: u64, memory: &Memory, node: &UnixStream) {
        let has_limit = limit > 0;
        loop {
            let since = self.since.load(Ordering::SeqCst);
            if since == 0 {
                self.is_asleep.store(true, Ordering::SeqCst);
                // Started in between: then the unpark may have come before, or not at all.
                if self.since.load(Ordering::SeqCst) == 0 {
                    thread::park();
                }
                self.is_asleep.store(false, Ordering::SeqCst);
                continue;
            }
            let is_loading = self.is_loading.load(Ordering::SeqCst);
            let limit = if is_loading { limit.max(LOAD_TIME.as_micros() as u64) } else { limit };
            if has_limit && self.micros().saturating_sub(since) > limit {
                exit::now(exit::TIME, "the time limit is passed");
            }
            if memory.limit > 0 && memory.used() > memory.limit {
                exit::now(exit::MEMORY, "the memory limit is passed");
            }
            let mut fds = [PollFd::new(node, PollFlags::RDHUP)];
            let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
            let is_gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            if rustix::event::poll(&mut fds, Some(&wait)).is_ok()
                && fds[0].revents().intersects(is_gone)
            {
                exit::quietly();
            }
        }
    }
}

impl Memory {
    /// Resident bytes, and those of the output that was not drained yet.
    fn used(&self) -> u64 {
        let mut text = [0; 128];
        let read = self.statm.read_at(&mut text, 0).unwrap_or(0);
        let mut fields = text[..read].split(|byte| *byte == b' ');
        let pages = fields.nth(1).and_then(|field| std::str::from_utf8(field).ok()?.parse().ok());
        let page = rustix::param::page_size() as u64;
        pages.unwrap_or(0u64).saturating_mul(page) + output::length(&self.output)
    }
}
