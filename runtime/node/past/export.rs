//! A space's history as an export, piece by piece.

use super::{At, Commands, Past, PastError, Span};
use bytes::Bytes;
use synod_core::apply::Chain;
use synod_core::export::Writer;

/// Bytes after which a piece is handed over.
pub const PIECE: usize = 256 << 10;

/// Makes an export of the commands of a span.
#[derive(Debug)]
pub struct Exporter {
    writer: Writer,
    commands: Commands,
    span: Span,
    /// A command that was read and not yet written.
    held: Option<(u64, Bytes)>,
    piece: Vec<u8>,
    is_over: bool,
}

impl Exporter {
    /// Goes to where the span begins. Blocks.
    pub fn open(past: &Past, span: Span) -> Result<Self, PastError> {
        let begins = span.begins_behind();
        let (mut place, mut commands) = past.place_before(begins)?;
        // What is before the span counts for the chain alone.
        let held = loop {
            let Some((stamp, command)) = commands.next_command()? else { break None };
            let mut next = place;
            next.follow(stamp, &command);
            if span.holds(&next) || span.is_passed_by(&next) {
                break Some((stamp, command));
            }
            place = next;
        };
        match begins {
            At::Index(asked) if asked > place.index => {
                return Err(PastError::Ahead { asked, last: place.index });
            }
            _ => {}
        }
        let mut piece = Vec::with_capacity(PIECE + PIECE / 4);
        let writer = Writer::begin(past.id(), past.name(), &place, &mut piece);
        Ok(Self { writer, commands, span, held, piece, is_over: false })
    }

    /// The place of the last command that has been written.
    pub fn place(&self) -> &Chain {
        self.writer.place()
    }

    /// Whether nothing can come any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next piece; none if there is nothing more for now. Blocks.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, PastError> {
        self.next_piece_into(Vec::new)
    }

    /// As [`Exporter::next_piece`]; the piece behind it is made in an empty buffer that is given.
    pub fn next_piece_into(
        &mut self,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<Option<Vec<u8>>, PastError> {
        while !self.is_over && self.piece.len() < PIECE {
            let next = match self.held.take() {
                Some(held) => Some(held),
                None => self.commands.next_command()?,
            };
            let Some((stamp, command)) = next else { break };
            // Its index and time alone: the chain is the writer's matter.
            let Chain { index, time, hash } = *self.writer.place();
            let next = Chain { index: index + 1, time: time.max(stamp), hash };
            if self.span.is_passed_by(&next) {
                self.is_over = true;
            } else {
                self.writer.envelope(stamp, &command, &mut self.piece);
            }
        }
        if self.piece.is_empty() {
            return Ok(None);
        }
        let room = if self.piece.len() < PIECE { 0 } else { PIECE + PIECE / 4 };
        let mut next = spare();
        next.reserve(room);
        Ok(Some(std::mem::replace(&mut self.piece, next)))
    }

    /// Goes on with what has come since.
    pub fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        self.commands.renew(past)
    }

    /// The last piece.
    pub fn finish(mut self) -> Vec<u8> {
        self.writer.end(&mut self.piece);
        self.piece
    }
}
