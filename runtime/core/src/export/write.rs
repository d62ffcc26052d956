//! Making an export's bytes.

use super::{CHECK_BYTES, END, HEADER_ITEMS, Header, MAGIC, VERSION};
use crate::apply::Chain;
use crate::cbor;
use crate::log::SELF_DESCRIBED;
use std::ops::Range;

/// Bytes of a check's head.
const CHECK_HEAD: usize = 1;

/// Appends an export, item by item, to buffers that the caller sends on.
#[derive(Clone, Debug)]
pub struct Writer {
    chain: Chain,
}

impl Writer {
    /// Begins an export of what lies behind a place in a space's log.
    pub fn begin(space: [u8; 32], name: &str, place: &Chain, out: &mut Vec<u8>) -> Self {
        let header = Header::behind(space, name, place);
        append(out, |w| {
            w.tag(SELF_DESCRIBED).array(HEADER_ITEMS).text(MAGIC).uint(VERSION);
            w.bytes(&header.space).text(&header.name).uint(header.first).bytes(&header.chain);
        });
        Self { chain: *place }
    }

    /// Where the export stands.
    pub fn place(&self) -> &Chain {
        &self.chain
    }

    /// Goes on with the next command, stamped `stamp`.
    pub fn envelope(&mut self, stamp: u64, command: &[u8], out: &mut Vec<u8>) {
        self.chain.follow(stamp, command);
        let Chain { index, time, hash } = &self.chain;
        append(out, |w| {
            w.array(4).uint(*index).uint(*time).raw(command).bytes(&hash[..CHECK_BYTES]);
        });
    }

    /// Fills the checks in that a draft has left open, and gives its bytes. The draft's commands are
    /// those that follow.
    pub fn seal(&mut self, draft: Draft) -> Vec<u8> {
        let Draft { mut bytes, laid } = draft;
        for Laid { time, command } in laid {
            let Range { start, end } = command;
            self.chain.follow(time, &bytes[start..end]);
            let check = end + CHECK_HEAD;
            bytes[check..check + CHECK_BYTES].copy_from_slice(&self.chain.hash[..CHECK_BYTES]);
        }
        bytes
    }

    /// Ends it.
    pub fn end(self, out: &mut Vec<u8>) {
        append(out, |w| {
            w.array(3).text(END).uint(self.chain.index).bytes(&self.chain.hash);
        });
    }
}

/// Envelopes whose checks are left open, for [`Writer::seal`] to fill in.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    laid: Vec<Laid>,
}

#[derive(Clone, Debug)]
struct Laid {
    time: u64,
    /// Where the command stands; its check is behind it.
    command: Range<usize>,
}

impl Draft {
    /// Without envelopes yet; they are laid out in this buffer.
    pub fn onto(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, laid: Vec::new() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no envelopes yet.
    pub fn is_empty(&self) -> bool {
        self.laid.is_empty()
    }
}

/// Lays out envelopes in drafts: all that needs no chain, for a thread other than the one that follows it.
#[derive(Clone, Copy, Debug)]
pub struct Drafter {
    index: u64,
    time: u64,
}

impl Drafter {
    /// Of what lies behind a place in a space's log.
    pub fn behind(place: &Chain) -> Self {
        Self { index: place.index, time: place.time }
    }

    /// The index and time of the next command, stamped `stamp`.
    pub fn next(&self, stamp: u64) -> (u64, u64) {
        (self.index + 1, self.time.max(stamp))
    }

    /// Goes on with the next command, stamped `stamp`.
    pub fn envelope(&mut self, stamp: u64, command: &[u8], draft: &mut Draft) {
        (self.index, self.time) = self.next(stamp);
        let (index, time) = (self.index, self.time);
        let mut start = 0;
        append(&mut draft.bytes, |w| {
            start = w.array(4).uint(index).uint(time).len();
            w.raw(command).bytes(&[0; CHECK_BYTES]);
        });
        draft.laid.push(Laid { time, command: start..start + command.len() });
    }
}

fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut cbor::Writer)) {
    let mut w = cbor::Writer::onto(std::mem::take(out));
    write(&mut w);
    *out = w.into_vec();
}
