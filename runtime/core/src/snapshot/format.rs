//! The bytes of a snapshot. Checksums are those of the log's records (see there), over the snapshot's
//! index in place of a segment's number.

use super::{MAX_CHUNK, MAX_MEMBERS, Meta, VERSION};
use crate::cbor::{Head, Reader, Writer};
use crate::log::Position;
use crate::log::record::{self, Flaw, HeaderFlaw, SELF_DESCRIBED};
use bytes::Bytes;
use std::ops::Range;

const MAGIC: &str = "synod-snapshot";
const HEADER_ITEMS: usize = 9;
const SUFFIX: &str = ".snapshot";
const ASIDE: &str = ".partial";
/// As wide as the largest index, so that the order of names is the order of indices.
const DIGITS: usize = 20;

/// What a header takes besides the members, at most, in bytes.
const MAX_OVERHEAD: usize = 160;
/// No header is longer than this, in bytes.
pub(super) const MAX_HEADER: usize = MAX_MEMBERS + MAX_OVERHEAD;
/// No item of the body is longer than this, in bytes.
pub(super) const MAX_ITEM: usize = MAX_CHUNK + MAX_OVERHEAD;

/// An item after the header, with what it takes in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) what: What,
    pub(super) len: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Chunk { section: u64, items: Range<usize> },
    Footer { chunks: u64, digest: [u8; 32] },
}

pub(super) fn file_name(index: u64) -> String {
    format!("{index:0DIGITS$}{SUFFIX}")
}

/// What a snapshot is called until it is whole.
pub(super) fn aside_name(index: u64) -> String {
    file_name(index) + ASIDE
}

/// The index of the snapshot whose file has this name, if it is a snapshot's name.
pub(super) fn index_of(name: &str) -> Option<u64> {
    let index = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(index) == name).then_some(index)
}

/// Whether a file of this name is what an unfinished snapshot left.
pub(super) fn is_aside(name: &str) -> bool {
    name.strip_suffix(ASIDE).is_some_and(|name| index_of(name).is_some())
}

pub(super) fn header(meta: &Meta) -> Vec<u8> {
    let mut w = Writer::new();
    w.tag(SELF_DESCRIBED).array(HEADER_ITEMS).text(MAGIC).uint(VERSION);
    w.bytes(&meta.space).uint(meta.index).bytes(&meta.chain);
    w.uint(meta.at.term).uint(meta.at.index).bytes(&meta.members);
    let mut out = w.into_vec();
    record::seal(&mut out, 0, meta.index, 0);
    out
}

/// Reads the header at the start of `input`, and says how long it is.
pub(super) fn parse_header(input: &[u8]) -> Result<(Meta, usize), HeaderFlaw> {
    let mut r = Reader::new(input);
    record::magic(&mut r, MAGIC, HEADER_ITEMS, VERSION)?;
    let (space, index, chain) = (r.fixed()?, r.uint()?, r.fixed()?);
    let at = Position { term: r.uint()?, index: r.uint()? };
    let members = Bytes::copy_from_slice(r.bytes()?);
    if members.len() > MAX_MEMBERS {
        return Err(Flaw::TooLong(members.len()).into());
    }
    let len = record::check(input, r.position(), index, 0)?;
    Ok((Meta { space, index, chain, at, members }, len))
}

/// Appends a chunk to `out`; `offset` is where `out` begins in the file.
pub(super) fn chunk(out: &mut Vec<u8>, index: u64, offset: u64, section: u64, items: &[u8]) {
    let start = out.len();
    let mut w = Writer::onto(std::mem::take(out));
    w.array(3).uint(section).bytes(items);
    *out = w.into_vec();
    record::seal(out, start, index, offset + start as u64);
}

/// Appends the footer, likewise.
pub(super) fn footer(out: &mut Vec<u8>, index: u64, offset: u64, chunks: u64, digest: &[u8; 32]) {
    let start = out.len();
    let length = offset + start as u64;
    let mut w = Writer::onto(std::mem::take(out));
    w.array(4).uint(chunks).uint(length).bytes(digest);
    *out = w.into_vec();
    record::seal(out, start, index, length);
}

/// Reads the chunk or footer at the start of `input`, at `offset` of snapshot `index`.
pub(super) fn parse(input: &[u8], index: u64, offset: u64) -> Result<Item, Flaw> {
    let mut r = Reader::new(input);
    let what = match r.array()? {
        3 => {
            let section = r.uint()?;
            let Head::Bytes(len) = r.head()? else { return Err(Flaw::NotARecord) };
            if len > MAX_CHUNK {
                return Err(Flaw::TooLong(len));
            }
            let start = r.position();
            r.take(len)?;
            What::Chunk { section, items: start..start + len }
        }
        4 => {
            let (chunks, length) = (r.uint()?, r.uint()?);
            let digest = r.fixed()?;
            if length != offset {
                return Err(Flaw::NotARecord);
            }
            What::Footer { chunks, digest }
        }
        _ => return Err(Flaw::NotARecord),
    };
    let len = record::check(input, r.position(), index, offset)?;
    Ok(Item { what, len })
}
