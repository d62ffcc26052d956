//! Making an export's bytes.

use super::{CHECK_BYTES, END, HEADER_ITEMS, Header, MAGIC, VERSION};
use crate::apply::Chain;
use crate::cbor;
use crate::log::SELF_DESCRIBED;

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

    /// Ends it. Nobody signs an end while a space has one voter.
    pub fn end(self, out: &mut Vec<u8>) {
        append(out, |w| {
            w.array(4).text(END).uint(self.chain.index).bytes(&self.chain.hash).array(0);
        });
    }
}

fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut cbor::Writer)) {
    let mut w = cbor::Writer::onto(std::mem::take(out));
    write(&mut w);
    *out = w.into_vec();
}
