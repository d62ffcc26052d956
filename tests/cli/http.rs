//! HTTP by hand: what a broken client sends is not to be had from a good one.

use crate::world::PATIENCE;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection on which bytes are written as they are.
pub(crate) struct Raw {
    socket: UnixStream,
    read: Vec<u8>,
}

/// An answer's status and body.
pub(crate) type Answer = (u16, Vec<u8>);

impl Raw {
    pub(crate) fn connect(data: &Path) -> Self {
        let socket = UnixStream::connect(data.join("control.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, read: Vec::new() }
    }

    /// Writes, as far as the node reads it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A node that has said no already does not read the rest.
        let _ = self.socket.write_all(bytes.as_ref());
    }

    /// Writes all of it.
    pub(crate) fn send_all(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// A request with a body of its length.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: synod\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(head);
        self.send(body);
    }

    /// Reads an answer's head, and its body if that has a length.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.until(b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.trim().parse().unwrap());
        while self.read.len() < length {
            assert!(self.more() > 0, "the body broke off");
        }
        (status, self.read.drain(..length).collect())
    }

    /// Reads the next chunk of an answer; nothing at its end.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let size = String::from_utf8(self.until(b"\r\n")).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        while self.read.len() < size + 2 {
            assert!(self.more() > 0, "the chunk broke off");
        }
        let chunk = self.read.drain(..size).collect();
        self.read.drain(..2);
        chunk
    }

    /// Waits until the node closes the connection; gives what it said before.
    pub(crate) fn closed(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.read)
    }

    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                return self.read.drain(..at + end.len()).collect();
            }
            assert!(self.more() > 0, "closed behind {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer) {
            Ok(read) => {
                self.read.extend_from_slice(&buffer[..read]);
                read
            }
            // Closed with something unread on the other side.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One request on a connection of its own; the answer's body as JSON.
pub(crate) fn request(
    data: &Path,
    method: &str,
    path: &str,
    body: impl AsRef<[u8]>,
) -> (u16, Value) {
    let mut raw = Raw::connect(data);
    raw.request(method, path, body);
    let (status, body) = raw.answer();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
