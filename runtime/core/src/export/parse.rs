//! Taking an export apart as its bytes come.

use super::{CHECK_BYTES, END, End, ExportError, Flaw, HEADER_ITEMS, Header};
use super::{MAGIC, MAX_ITEM, VERSION};
use crate::cbor::{Error, Reader, What};
use crate::command::{MAX_COMMAND_BYTES, MAX_NAME_BYTES};
use crate::log::SELF_DESCRIBED;
use bytes::{Bytes, BytesMut};

/// A command as an export has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Its index.
    pub index: u64,
    /// Its time, in microseconds since 1970 (UTC).
    pub time: u64,
    /// Its bytes: a slice of what was read.
    pub command: Bytes,
    /// The first bytes of the chain there.
    pub check: [u8; CHECK_BYTES],
    /// Where it begins, in bytes from the start of the export.
    pub offset: u64,
}

/// An item of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The first.
    Header(Header),
    /// A command.
    Envelope(Envelope),
    /// The last.
    End {
        /// What it says.
        end: End,
        /// Where it begins, in bytes from the start of the export.
        offset: u64,
    },
}

/// Takes bytes in and gives items out. It checks their form and that indexes follow one another;
/// what they say is the [`Verifier`](super::Verifier)'s part.
#[derive(Debug, Default)]
pub struct Parser {
    bytes: Bytes,
    at: usize,
    /// Where `bytes` begins in the export.
    offset: u64,
    /// The index that is due; none before the header.
    due: Option<u64>,
    is_ended: bool,
}

impl Parser {
    /// At the start of an export.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait to be taken apart: at most one item and what was pushed last.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Takes in what comes next. Items are slices of it, and keep it in memory.
    pub fn push(&mut self, chunk: Bytes) {
        let left = self.bytes.slice(self.at..);
        self.offset += self.at as u64;
        self.at = 0;
        if left.is_empty() {
            self.bytes = chunk;
            return;
        }
        let mut joined = BytesMut::with_capacity(left.len() + chunk.len());
        joined.extend_from_slice(&left);
        joined.extend_from_slice(&chunk);
        self.bytes = joined.freeze();
    }

    /// The next item; none if more bytes are wanted. After an error there is nothing more to ask.
    pub fn next_item(&mut self) -> Result<Option<Item>, ExportError> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.is_ended {
            return Err(self.flawed(Flaw::Trailing));
        }
        let Some(due) = self.due else { return self.header() };
        let mut r = Reader::new(rest);
        match self.item(&mut r, due) {
            Ok(item) => {
                self.at += r.position();
                match &item {
                    Item::End { .. } => self.is_ended = true,
                    _ => self.due = Some(due.saturating_add(1)),
                }
                Ok(Some(item))
            }
            Err(Wrong::Cbor(Error { what: What::Truncated, .. })) if rest.len() <= MAX_ITEM => {
                Ok(None)
            }
            Err(Wrong::Cbor(Error { what: What::Truncated, .. })) => {
                Err(self.flawed(Flaw::TooLong))
            }
            Err(Wrong::Cbor(Error {
                what: What::Unexpected { .. } | What::Invalid(_), ..
            })) => Err(self.flawed(Flaw::NotAnItem)),
            Err(Wrong::Cbor(Error { what, .. })) => Err(self.flawed(Flaw::NotCbor(what))),
            Err(Wrong::Flaw(flaw)) => Err(self.flawed(flaw)),
        }
    }

    /// All bytes have come: whether the export is whole.
    pub fn finish(&self) -> Result<(), ExportError> {
        match self.due {
            _ if self.is_ended && self.waiting() == 0 => Ok(()),
            // Whatever it is: what is so short has not even a header.
            None => Err(ExportError::NotAnExport),
            Some(_) => Err(self.flawed(Flaw::Cut { inside: self.waiting() > 0 })),
        }
    }

    fn flawed(&self, flaw: Flaw) -> ExportError {
        let offset = self.offset + self.at as u64;
        ExportError::Flawed { index: self.due.unwrap_or_default(), offset, flaw }
    }

    fn header(&mut self) -> Result<Option<Item>, ExportError> {
        /// No header is longer than this, in bytes.
        const MAX_HEADER: usize = MAX_NAME_BYTES + 128;
        let rest = &self.bytes[self.at..];
        let mut r = Reader::new(rest);
        let read = match read_magic(&mut r) {
            Ok((_, version)) if version != VERSION => {
                return Err(ExportError::OtherVersion(version));
            }
            Ok((items, _)) => read_header(&mut r, items),
            Err(error) => Err(error),
        };
        let header = match read {
            Ok(header) if (1..u64::MAX).contains(&header.first) => header,
            Err(Error { what: What::Truncated, .. }) if rest.len() <= MAX_HEADER => {
                return Ok(None);
            }
            _ => return Err(ExportError::NotAnExport),
        };
        let len = r.position();
        if header.is_whole() && header.chain != header.space {
            return Err(self.flawed(Flaw::Beginning));
        }
        self.at += len;
        self.due = Some(header.first);
        Ok(Some(Item::Header(header)))
    }

    fn item(&self, r: &mut Reader<'_>, due: u64) -> Result<Item, Wrong> {
        let offset = self.offset + self.at as u64;
        let items = r.array()?;
        if items == 3 {
            let end = read_end(r)?;
            let last = due - 1;
            if end.index != last {
                return Err(Wrong::Flaw(Flaw::OtherEnd { last, found: end.index }));
            }
            return Ok(Item::End { end, offset });
        }
        if items != 4 {
            return Err(r.invalid("neither an envelope nor the end").into());
        }
        let index = r.uint()?;
        if index != due {
            return Err(Wrong::Flaw(Flaw::OutOfOrder { due, found: index }));
        }
        let time = r.uint()?;
        let from = self.at + r.position();
        let command = r.item()?;
        if command.len() > MAX_COMMAND_BYTES {
            return Err(Wrong::Flaw(Flaw::TooLong));
        }
        let command = self.bytes.slice(from..from + command.len());
        Ok(Item::Envelope(Envelope { index, time, command, check: r.fixed()?, offset }))
    }
}

/// Why something was not read.
enum Wrong {
    Cbor(Error),
    Flaw(Flaw),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Cbor(error)
    }
}

/// What every export begins with: how many items its header has, and its version.
fn read_magic(r: &mut Reader<'_>) -> Result<(usize, u64), Error> {
    r.tag(SELF_DESCRIBED)?;
    let items = r.array()?;
    if r.text()? != MAGIC {
        return Err(r.invalid("another kind of file"));
    }
    Ok((items, r.uint()?))
}

fn read_header(r: &mut Reader<'_>, items: usize) -> Result<Header, Error> {
    if items != HEADER_ITEMS {
        return Err(r.invalid("a header of another length"));
    }
    let space = r.fixed()?;
    let name = r.text()?;
    if name.len() > MAX_NAME_BYTES {
        return Err(r.invalid("a name that is too long"));
    }
    Ok(Header { space, name: name.to_owned(), first: r.uint()?, chain: r.fixed()? })
}

fn read_end(r: &mut Reader<'_>) -> Result<End, Error> {
    if r.text()? != END {
        return Err(r.invalid("not the end"));
    }
    Ok(End { index: r.uint()?, chain: r.fixed()? })
}
