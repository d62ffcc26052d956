//! The engine's process.
//!
//! ```text
//! node ══ socket ══ link ─┬─ replica: the base and the changes since
//!                         ├─ facts: a running goal's view, its enumerations
//!   machine ⇄ host ───────┼─ run: what it wrote and wants done, until it commits
//!   (Scryer)  one call    ├─ batch: triggers, handlers, reruns      (an agent's engine)
//!             at a time   ├─ goals: queries, transactions, answers  (a side engine)
//!                         └─ loading: what is wrong with a program
//! watchdog: a thread that ends the process when a limit is passed
//! ```
//! The machine runs one query for the life of the process: `synod_engine:main`, a failure-driven
//! loop. Everything it needs of the world it asks of `host::Host`, in a call that blocks.

mod batch;
mod copies;
mod data;
mod errors;
pub mod exit;
mod facts;
mod goals;
mod host;
mod link;
mod loading;
mod machine;
mod near;
mod output;
mod replica;
mod reply;
mod run;
mod sandbox;
mod text;
mod trigger;
mod vitals;
mod watch;

pub use machine::SYNOD as LIBRARY_SYNOD;
pub use trigger::term as trigger_term;

use crate::frame::{self, Start, ToEngine};
use host::Host;
use link::Link;
use output::Output;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;
use watch::Watch;

/// The stack of the machine's thread. It is reserved, not resident: the reader and the copier of
/// terms recurse, and 8 MiB are gone between 100,000 and 200,000 levels.
const STACK_BYTES: usize = 2 << 30;

/// Runs the engine on the descriptor that [`crate::spawn()`] gave it (0) until its node ends it.
pub fn main(fd: RawFd) -> ExitCode {
    match set_up(fd) {
        Ok((start, link, output, watch)) => run(start, link, output, watch),
        Err(error) => exit::now(exit::SETUP, &format!("cannot set up: {error}")),
    }
}

fn set_up(fd: RawFd) -> io::Result<(Start, Link, Output, Watch)> {
    let socket = take_socket(fd)?;
    let output = Output::open()?;
    let watched = socket.try_clone()?;
    let mut link = Link::new(socket);
    let start = match link.receive() {
        ToEngine::Start { start } if start.version == frame::VERSION => *start,
        other => return Err(io::Error::other(format!("expected a start, got {other:?}"))),
    };
    // A panic is not unwound: the machine's destructors abort when they run into what panicked.
    std::panic::set_hook(Box::new(|info| exit::now(exit::PANIC, &info.to_string())));
    let watch = Watch::start(&start.limits, output.watched()?, watched)?;
    Ok((start, link, output, watch))
}

fn run(start: Start, link: Link, output: Output, watch: Watch) -> ExitCode {
    let machine = thread::Builder::new().name("machine".into()).stack_size(STACK_BYTES);
    let started = machine.spawn(move || machine::run(Host::new(start, link, output, watch)));
    match started.map(thread::JoinHandle::join) {
        Ok(Ok(())) => exit::quietly(),
        Ok(Err(_)) => exit::now(exit::PANIC, "the machine panicked"),
        Err(error) => exit::now(exit::SETUP, &format!("cannot start the machine: {error}")),
    }
}

/// Moves the socket out of the program's reach and leaves an empty input in its place.
fn take_socket(fd: RawFd) -> io::Result<UnixStream> {
    // SAFETY: the caller says that this descriptor is open and ours; it is only duplicated.
    let given = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(given, 64)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}
