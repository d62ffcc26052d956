//! Following an export's chain.

use super::{CHECK_BYTES, End, Envelope, ExportError, Flaw, Header, Item, Parser};
use crate::apply::Chain;
use bytes::Bytes;

/// Holds commands against the chain that their export says they make.
#[derive(Clone, Debug)]
pub struct Verifier {
    chain: Chain,
}

impl Verifier {
    /// From an export's header on.
    pub fn new(header: &Header) -> Self {
        let index = header.first.saturating_sub(1);
        Self { chain: Chain { index, time: 0, hash: header.chain } }
    }

    /// Where it stands.
    pub fn place(&self) -> &Chain {
        &self.chain
    }

    /// Goes on with the next command.
    pub fn envelope(&mut self, envelope: &Envelope) -> Result<(), ExportError> {
        let &Envelope { index, time, ref command, check, offset } = envelope;
        let flawed = |flaw| Err(ExportError::Flawed { index, offset, flaw });
        if index != self.chain.index.saturating_add(1) {
            let due = self.chain.index.saturating_add(1);
            return flawed(Flaw::OutOfOrder { due, found: index });
        }
        if time < self.chain.time {
            return flawed(Flaw::Backwards);
        }
        self.chain.follow(time, command);
        if self.chain.hash[..CHECK_BYTES] != check {
            return flawed(Flaw::Check);
        }
        Ok(())
    }

    /// Holds the end against what came before it.
    pub fn end(&self, end: &End, offset: u64) -> Result<(), ExportError> {
        let index = self.chain.index;
        let flawed = |flaw| Err(ExportError::Flawed { index, offset, flaw });
        if end.index != index {
            return flawed(Flaw::OtherEnd { last: index, found: end.index });
        }
        if end.chain != self.chain.hash {
            return flawed(Flaw::EndChain);
        }
        Ok(())
    }
}

/// Reads and verifies an export as its bytes come.
#[derive(Debug, Default)]
pub struct Reader {
    parser: Parser,
    verifier: Option<Verifier>,
    end: Option<End>,
}

impl Reader {
    /// At the start of an export.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what comes next.
    pub fn push(&mut self, chunk: Bytes) {
        self.parser.push(chunk);
    }

    /// The next item, which has been verified; none if more bytes are wanted.
    pub fn next_item(&mut self) -> Result<Option<Item>, ExportError> {
        let item = self.parser.next_item()?;
        match (&item, &mut self.verifier) {
            (Some(Item::Header(header)), verifier) => {
                *verifier = Some(Verifier::new(header));
            }
            (Some(Item::Envelope(envelope)), Some(verifier)) => verifier.envelope(envelope)?,
            (Some(Item::End { end, offset }), Some(verifier)) => {
                verifier.end(end, *offset)?;
                self.end = Some(end.clone());
            }
            // The parser gives a header first.
            (Some(_), None) | (None, _) => {}
        }
        Ok(item)
    }

    /// The last index that was verified, and its time and chain; none before the header.
    pub fn place(&self) -> Option<&Chain> {
        self.verifier.as_ref().map(Verifier::place)
    }

    /// All bytes have come: the end, if the export is whole.
    pub fn finish(self) -> Result<End, ExportError> {
        self.parser.finish()?;
        self.end.ok_or(ExportError::NotAnExport)
    }
}
