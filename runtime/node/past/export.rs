//! A space's history as an export, piece by piece.
//!
//! Two threads share the work: one reads the log and lays the envelopes out, ahead of whoever asks, who
//! follows the chain and fills their checks in. What came since is laid out where it is asked for.

use super::drafts::{Ahead, Layout};
use super::{At, Past, PastError, Span};
use synod_core::apply::Chain;
use synod_core::export::{Draft, Writer};

/// Bytes after which a piece is handed over.
pub const PIECE: usize = 256 << 10;

/// Makes an export of the commands of a span.
#[derive(Debug)]
pub struct Exporter {
    writer: Writer,
    /// What the export begins with, until it is handed over.
    begin: Option<Vec<u8>>,
    /// Dropped with this, it ends its thread.
    ahead: Option<Ahead>,
    /// What lays out when nobody is ahead; none once that has failed.
    layout: Option<Layout>,
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
        let mut begin = Vec::new();
        let writer = Writer::begin(past.id(), past.name(), &place, &mut begin);
        let ahead = Ahead::start(Layout::new(commands, span, &place, held))?;
        Ok(Self { writer, begin: Some(begin), ahead: Some(ahead), layout: None })
    }

    /// The place of the last command that has been written.
    pub fn place(&self) -> &Chain {
        self.writer.place()
    }

    /// Whether nothing can come any more.
    pub fn is_over(&self) -> bool {
        self.layout.as_ref().is_some_and(Layout::is_over)
    }

    /// The next piece; none if there is nothing more for now. Blocks.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, PastError> {
        self.next_piece_into(Vec::new)
    }

    /// As [`Exporter::next_piece`]; a later piece is made in a buffer that is given.
    pub fn next_piece_into(
        &mut self,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<Option<Vec<u8>>, PastError> {
        if let Some(begin) = self.begin.take() {
            return Ok(Some(begin));
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.give_buffer(spare());
            if let Some(draft) = ahead.next_draft() {
                return Ok(Some(self.writer.seal(draft)));
            }
            self.layout = self.ahead.take().map(Ahead::end).transpose()?;
        }
        let Some(layout) = &mut self.layout else { return Ok(None) };
        let mut draft = Draft::default();
        layout.fill(&mut draft)?;
        Ok((!draft.is_empty()).then(|| self.writer.seal(draft)))
    }

    /// Goes on with what has come since.
    pub fn renew(&mut self, past: &Past) -> Result<(), PastError> {
        self.layout.as_mut().map_or(Ok(()), |layout| layout.renew(past))
    }

    /// The last piece.
    pub fn finish(self) -> Vec<u8> {
        let mut last = self.begin.unwrap_or_default();
        self.writer.end(&mut last);
        last
    }
}
