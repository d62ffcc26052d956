//! Who watches the changes of the facts, a watcher at each node: all of them see the same, each change
//! once and in its place, through whatever befalls their nodes.

use super::Field;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a stream may be silent before it is looked whether to go on.
const LOOK: Duration = Duration::from_millis(200);
/// How long the end is waited for once all is healed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A change: its index, its place there, what was done and to which fact.
type Seen = (u64, u64, String, String);

/// What one has seen, and where.
pub(super) struct Watcher {
    node: usize,
    /// The index behind which it began.
    from: u64,
    pub(super) seen: Vec<Seen>,
    streams: usize,
}

impl Watcher {
    pub(super) fn new(node: usize, from: u64) -> Self {
        Self { node, from, seen: Vec::new(), streams: 0 }
    }

    /// Watches until it is over.
    pub(super) fn watch(mut self, field: &Field, over: &AtomicBool) -> Self {
        while !over.load(Ordering::Relaxed) {
            // A node that is down, or that went down in the middle, is asked again.
            if self.stream(field, |_| over.load(Ordering::Relaxed)).is_err() {
                std::thread::sleep(LOOK / 10);
            }
        }
        self
    }

    /// Watches until it has seen a fact asserted; says what is wrong if it does not come.
    pub(super) fn until(&mut self, field: &Field, fact: &str) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        let is_last = |seen: &[Seen]| seen.last().is_some_and(|(.., last)| last == fact);
        while Instant::now() < until && !is_last(&self.seen) {
            let _ = self.stream(field, |seen| is_last(seen) || Instant::now() > until);
        }
        let is_there = is_last(&self.seen);
        (!is_there).then(|| format!("n{}: whoever watches has not seen {fact}", self.node))
    }

    /// One stream, behind what was seen: of the last index there may be more.
    fn stream(
        &mut self,
        field: &Field,
        is_enough: impl Fn(&[Seen]) -> bool,
    ) -> std::io::Result<()> {
        self.streams += 1;
        let after = self.seen.last().map_or(self.from, |(index, ..)| index - 1);
        let data = &field.members[self.node].world.data;
        let mut socket = UnixStream::connect(data.join("control.sock"))?;
        socket.set_read_timeout(Some(LOOK))?;
        let request = format!("GET /v1/changes?after={after} HTTP/1.1\r\nHost: synod\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let (mut lines, mut line) = (BufReader::new(socket), Vec::new());
        while !is_enough(&self.seen) {
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) if line.ends_with(b"\n") => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    let Some(event) = text.strip_prefix("data: ") else { continue };
                    // What a chunk was cut off in is asked for again.
                    let Ok(event) = serde_json::from_str::<Value>(event) else { return Ok(()) };
                    if event["event"] == "missed" {
                        return Ok(());
                    }
                    self.take(&event);
                }
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &Value) {
        let number = |key: &str| event[key].as_u64().unwrap_or_else(|| panic!("{event}"));
        let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("{event}")).to_owned();
        let seen = (number("index"), number("n"), text("event"), text("fact"));
        let place = |seen: &Seen| (seen.0, seen.1);
        if self.seen.last().is_none_or(|last| place(last) < place(&seen)) {
            self.seen.push(seen);
        }
    }

    /// Holds what two have seen against each other; says where they differ.
    pub(super) fn differs(&self, other: &Self) -> Option<String> {
        let pairs = self.seen.iter().zip(&other.seen);
        let first = pairs.enumerate().find(|(_, (a, b))| a != b);
        let (a, b) = (self.seen.len(), other.seen.len());
        let who = format!("watchers at n{} and n{}", self.node, other.node);
        match first {
            Some((at, (a, b))) => Some(format!("{who} differ at {at}: {a:?} {b:?}")),
            None if a != b => Some(format!("{who} have seen {a} and {b} changes")),
            None => None,
        }
    }

    pub(super) fn summary(&self) -> String {
        let Self { node, seen, streams, .. } = self;
        format!("n{node}: {} changes in {streams} streams", seen.len())
    }
}
