//! Where the machine finds the answer to a host call: one environment variable.
//!
//! The machine can read an environment variable in one go (`'$getenv'/2`), and `putenv(3)` makes a
//! caller's own buffer part of the environment, so an answer costs a copy into that buffer and keeps
//! nothing. The machine's input channel would do as well, but it keeps every byte ever sent.

use std::ffi::CString;

/// The answer of the running host call.
#[derive(Debug)]
pub(super) struct Reply {
    /// `KEY=answer`, ended by a zero byte: what the environment points to.
    buffer: Vec<u8>,
    key: CString,
    prefix: usize,
}

/// An answer's buffer is given back when it has grown beyond this and is needed for less.
const KEPT_BYTES: usize = 1 << 20;

impl Reply {
    /// For the variable `key`.
    pub(super) fn new(key: &str) -> Self {
        let mut buffer = key.as_bytes().to_vec();
        buffer.extend_from_slice(b"=k\0");
        let mut reply =
            Self { buffer, key: CString::new(key).unwrap_or_default(), prefix: key.len() + 1 };
        reply.publish();
        reply
    }

    /// Makes `text` the answer. It must not be empty; a zero byte would end it.
    pub(super) fn set(&mut self, text: &str) {
        let bytes = self.prefix + text.len() + 1;
        if self.buffer.capacity() > KEPT_BYTES && bytes <= KEPT_BYTES {
            // The environment must never point to freed memory: publish the new buffer first.
            let small = self.buffer[..self.prefix].to_vec();
            let large = std::mem::replace(&mut self.buffer, small);
            self.fill(text);
            self.publish();
            drop(large);
            return;
        }
        if bytes > self.buffer.capacity() {
            let mut grown = Vec::with_capacity(bytes.next_power_of_two());
            grown.extend_from_slice(&self.buffer[..self.prefix]);
            let old = std::mem::replace(&mut self.buffer, grown);
            self.fill(text);
            self.publish();
            drop(old);
            return;
        }
        self.fill(text);
        self.check();
    }

    fn fill(&mut self, text: &str) {
        self.buffer.truncate(self.prefix);
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0);
    }

    /// A program may set or unset the variable: then ours is put back.
    fn check(&mut self) {
        // SAFETY: `key` is a C string. Only the machine's thread, which is this one, reads or
        // changes the environment once the engine runs.
        let found = unsafe { libc::getenv(self.key.as_ptr()) };
        if !std::ptr::eq(found.cast_const().cast(), self.buffer[self.prefix..].as_ptr()) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        // SAFETY: the buffer is a C string of the form `KEY=…`, and lives until another has been
        // published in its place. No other thread uses the environment (see `check`).
        unsafe { libc::putenv(self.buffer.as_mut_ptr().cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_what_the_environment_says_at_every_size_and_after_meddling() {
        let mut reply = Reply::new("SYNODT");
        for len in [1, 10, 100_000, 3, 3_000_000, 5, 1] {
            let text = "x".repeat(len);
            reply.set(&text);
            assert_eq!(std::env::var("SYNODT").unwrap(), text);
            reply.set("k");
            // SAFETY: nextest runs each test in a process of its own; nothing else reads it here.
            unsafe { std::env::set_var("SYNODT", "meddled") };
            reply.set("again");
            assert_eq!(std::env::var("SYNODT").unwrap(), "again");
        }
    }
}
