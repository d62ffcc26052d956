//! A program on a terminal of its own, as a person has it.

use crate::world::PATIENCE;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A pseudoterminal, and the program on its other side. Dropping it kills that.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    output: Receiver<Vec<u8>>,
    /// What has come since [`Terminal::until`] last found something, without control sequences.
    pub(crate) seen: String,
    all: Vec<u8>,
}

impl Terminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the pointers are to live variables, or null where that is allowed.
        let opened = unsafe {
            libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size)
        };
        assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptors are open, and nobody else owns them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
        let side = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
        // SAFETY: both calls are async-signal-safe. The terminal becomes the session's own, so that
        // its Ctrl-C is a signal.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop((command, slave));
        let (sender, output) = channel();
        let mut reading = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other side is gone is an error to read from.
            while let Ok(read @ 1..) = reading.read(&mut buffer) {
                let _ = sender.send(buffer[..read].to_vec());
            }
        });
        Self { child, master, output, seen: String::new(), all: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this text is shown; gives what stands before it.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            self.seen = plain(&self.all);
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                // The rest may begin in the middle of a control sequence: only plain text is kept.
                self.all = self.seen.as_bytes()[at + text.len()..].to_vec();
                return before;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.all.extend(bytes),
                Err(_) => panic!("{text:?} is not shown; what is: {:?}", self.seen),
            }
        }
    }

    /// Types a goal at the prompt, and waits for what it says.
    pub(crate) fn says(&mut self, goal: &str, answer: &str) {
        self.until("?- ");
        self.keys(goal);
        self.keys("\r");
        self.until(answer);
    }

    /// Waits for the program's end; gives its status.
    pub(crate) fn wait(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(
                started.elapsed() < PATIENCE,
                "it does not end; it said {:?}",
                plain(&self.all)
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The text without control sequences (ECMA-48 5.4) and carriage returns.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next_if_eq(&'[').is_some() {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                } else {
                    chars.next();
                }
            }
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}
