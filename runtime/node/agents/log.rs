//! An agent's log: what its program printed, what it logged, and what became of its engines. The
//! last lines are in memory, more in a file.

use crate::api::LogLine;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Lines that are kept in memory.
pub(super) const KEPT_LINES: usize = 4096;
/// Bytes of one line; a longer one is broken.
pub(super) const MAX_LINE: usize = 8192;
/// Bytes of the file, after which it is put aside as `log.1` and a new one begun.
pub(super) const MAX_FILE: u64 = 8 << 20;
/// Bytes at the end of the file that are read for its last lines.
const LAST_BYTES: u64 = 1 << 20;
/// Lines that a follower may be behind before it misses some.
const FOLLOWER_LINES: usize = 1024;

/// The levels of lines.
const LEVELS: [&str; 6] = ["output", "stderr", "debug", "info", "warning", "error"];

/// The log of one agent.
#[derive(Debug)]
pub(crate) struct AgentLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// To whoever follows; none once nothing more comes.
    followers: Option<broadcast::Sender<LogLine>>,
    kept: VecDeque<LogLine>,
    /// Output that has not come to the end of its line.
    partial: Vec<u8>,
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

impl AgentLog {
    /// Appends to `folder/log`, whose last lines are remembered. Without a file that can be written,
    /// lines are in memory only.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join("log");
        let (kept, is_torn) = last_lines(&path);
        let mut file = open(&path);
        if is_torn && let Some(file) = &mut file {
            // What was being written when the node died. A log that cannot be written stops nobody.
            drop(file.write_all(b"\n"));
        }
        let written = file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        let followers = Some(broadcast::Sender::new(FOLLOWER_LINES));
        let partial = Vec::new();
        Self { inner: Mutex::new(Inner { followers, kept, partial, path, file, written }) }
    }

    /// Adds a line, or several.
    pub(crate) fn line(&self, level: &str, text: &str) {
        let mut inner = self.lock();
        for text in text.lines() {
            self.add(&mut inner, level, text);
        }
    }

    /// Adds what the program printed. A line is a line when its end has come.
    pub(super) fn output(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.partial.extend_from_slice(bytes);
        while let Some(end) = line_end(&inner.partial) {
            let rest = inner.partial.split_off(end.next);
            let mut line = std::mem::replace(&mut inner.partial, rest);
            line.truncate(end.len);
            self.add(&mut inner, "output", &String::from_utf8_lossy(&line));
        }
    }

    /// Ends a line that was begun: the engine that printed it prints no more.
    pub(super) fn end_line(&self) {
        let mut inner = self.lock();
        if !inner.partial.is_empty() {
            let line = std::mem::take(&mut inner.partial);
            self.add(&mut inner, "output", &String::from_utf8_lossy(&line));
        }
    }

    /// The agent has ended: whoever follows has seen all.
    pub(super) fn close(&self) {
        self.lock().followers = None;
    }

    /// The last `max` lines, and what comes behind them.
    pub(super) fn tail(&self, max: usize) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let inner = self.lock();
        let skip = inner.kept.len().saturating_sub(max);
        let coming = match &inner.followers {
            Some(followers) => followers.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        };
        (inner.kept.iter().skip(skip).cloned().collect(), coming)
    }

    fn add(&self, inner: &mut Inner, level: &str, text: &str) {
        let line = LogLine { time: now_micros(), level: level.to_owned(), text: text.to_owned() };
        inner.write(&line);
        inner.kept.push_back(line.clone());
        if inner.kept.len() > KEPT_LINES {
            inner.kept.pop_front();
        }
        if let Some(followers) = &inner.followers {
            // Nobody may be listening.
            drop(followers.send(line));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, line: &LogLine) {
        if self.written >= MAX_FILE && std::fs::rename(&self.path, aside(&self.path)).is_ok() {
            self.file = open(&self.path);
            self.written = 0;
        }
        let Some(file) = &mut self.file else { return };
        let text = format!("{} {} {}\n", line.time, line.level, line.text);
        // A log that cannot be written (the disk is full) must not stop the agent.
        if file.write_all(text.as_bytes()).is_ok() {
            self.written += text.len() as u64;
        }
    }
}

/// Microseconds since 1970 (UTC).
pub(super) fn now_micros() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct LineEnd {
    len: usize,
    next: usize,
}

fn line_end(bytes: &[u8]) -> Option<LineEnd> {
    match bytes.iter().position(|&b| b == b'\n') {
        Some(len) if len <= MAX_LINE => Some(LineEnd { len, next: len + 1 }),
        _ => (bytes.len() > MAX_LINE).then_some(LineEnd { len: MAX_LINE, next: MAX_LINE }),
    }
}

/// The last lines of a log, those of the file that was put aside among them; and whether the last one
/// of all has no end.
fn last_lines(path: &Path) -> (VecDeque<LogLine>, bool) {
    let mut bytes = Vec::new();
    for path in [aside(path), path.to_owned()] {
        // A file that is not there has no lines.
        drop(read_end(&path, &mut bytes));
    }
    let is_torn = bytes.last().is_some_and(|&last| last != b'\n');
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<LogLine> = text.lines().filter_map(parsed).collect();
    let skip = lines.len().saturating_sub(KEPT_LINES);
    (lines.into_iter().skip(skip).collect(), is_torn)
}

fn read_end(path: &Path, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LAST_BYTES)))?;
    file.take(LAST_BYTES).read_to_end(into)?;
    Ok(())
}

/// A line as it is written; none of what is cut off.
fn parsed(line: &str) -> Option<LogLine> {
    let mut parts = line.splitn(3, ' ');
    let (time, level) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
    LEVELS.contains(&&*level).then(|| LogLine {
        time,
        level,
        text: parts.next().unwrap_or_default().to_owned(),
    })
}

/// Where a file goes that is full.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("1")
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).append(true).open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let log = AgentLog::open(folder.path());
        for piece in ["hel", "lo\nwor", "ld\n", "no end"] {
            log.output(piece.as_bytes());
        }
        let texts = |log: &AgentLog| log.tail(9).0.into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(texts(&log), ["hello", "world"]);
        log.end_line();
        assert_eq!(texts(&log), ["hello", "world", "no end"]);
        let file = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(file.lines().count(), 3);
    }

    #[tokio::test]
    async fn followers_see_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = AgentLog::open(folder.path());
        let (_, mut coming) = log.tail(9);
        log.line("info", "last");
        log.close();
        assert_eq!(coming.recv().await.unwrap().text, "last");
        assert!(coming.recv().await.is_err());
        let (kept, mut coming) = log.tail(9);
        assert_eq!(kept.len(), 1);
        assert!(coming.recv().await.is_err());
    }

    #[test]
    fn the_last_lines_outlive_the_process_and_a_file_that_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let log = AgentLog::open(folder.path());
        let texts = |log: &AgentLog| log.tail(3).0.into_iter().map(|l| l.text).collect::<Vec<_>>();
        let (_, mut coming) = log.tail(1);
        let long = "x".repeat(MAX_LINE);
        let lines = MAX_FILE as usize / MAX_LINE + 2;
        for n in 0..lines {
            log.line("info", &long);
            assert_eq!(coming.try_recv().unwrap().text.len(), MAX_LINE, "line {n} is followed");
        }
        log.line("warning", "the last");
        assert_eq!(coming.try_recv().unwrap().text, "the last");
        let size = |name: &str| folder.path().join(name).metadata().unwrap().len();
        assert!(size("log.1") >= MAX_FILE && size("log") < MAX_FILE);
        drop(log);
        // The process dies in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(folder.path().join("log")).unwrap();
        file.write_all(b"17 info torn").unwrap();
        let log = AgentLog::open(folder.path());
        log.output(b"and on\n");
        assert_eq!(texts(&log), ["the last", "torn", "and on"]);
        assert!(log.tail(usize::MAX).0.len() > 100, "those of the file before are there too");
        assert_eq!(texts(&AgentLog::open(folder.path())), ["the last", "torn", "and on"]);
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let log = AgentLog::open(folder.path());
        log.output(&vec![b'x'; 2 * MAX_LINE + 1]);
        assert_eq!(log.tail(9).0.len(), 2);
    }
}
