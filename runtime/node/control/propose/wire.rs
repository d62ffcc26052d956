//! The items of a propose stream: cut out of the request's chunks as they come, and written.

use super::MAX_DRAFT_BYTES;
use crate::space::Ended;
use bytes::{Bytes, BytesMut};
use synod_core::apply::{Outcome, Refusal};
use synod_core::cbor::{Error, Head, Reader, What, Writer};
use synod_core::command::MAX_NAME_BYTES;
use synod_core::transaction::Draft;

const COMMITTED: u64 = 0;
const REFUSED: u64 = 1;
const NOT_PROPOSED: u64 = 2;

/// One item of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Opens a session of this label.
    Hello(String),
    /// Goes on with a session.
    Resume(u64),
    /// Proposes.
    Proposal(Proposal),
}

/// A transaction to be proposed. Its draft has not been looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) seq: u64,
    pub(super) acked: u64,
    pub(super) draft: Bytes,
}

impl Proposal {
    /// Reads the draft. Its terms are checked where it is proposed.
    pub(super) fn read_draft(&self) -> Result<Draft, Error> {
        Draft::read(&self.draft)
    }
}

/// Chunks of the request, cut into items. No item is copied unless it lies in several chunks.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Whole items, perhaps, and the beginning of one.
    rest: Bytes,
    /// The beginning of an item that goes on in the next chunk.
    partial: BytesMut,
    /// Bytes that `partial` must have before it is worth looking at again.
    wanted: usize,
}

/// How much of the input the next item takes.
enum Measured {
    Whole(Item, usize),
    /// The input ends before the item does, which needs so many bytes at least.
    Partial(usize),
}

impl Inbox {
    /// Takes a chunk in. All items of those before it must have been taken out.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.rest.is_empty());
        if self.partial.is_empty() {
            self.rest = chunk;
            return;
        }
        self.partial.extend_from_slice(&chunk);
        if self.partial.len() >= self.wanted {
            self.rest = self.partial.split().freeze();
        }
    }

    /// Takes the next whole item out.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        match measure(&self.rest)? {
            Measured::Whole(item, len) => {
                self.rest = self.rest.slice(len..);
                Ok(Some(item))
            }
            Measured::Partial(wanted) => {
                self.wanted = wanted;
                self.partial.reserve(wanted);
                self.partial.extend_from_slice(&self.rest);
                self.rest = Bytes::new();
                Ok(None)
            }
        }
    }

    /// Whether an item has begun and not ended.
    pub(super) fn is_inside_item(&self) -> bool {
        !self.rest.is_empty() || !self.partial.is_empty()
    }
}

fn measure(input: &Bytes) -> Result<Measured, Error> {
    let mut r = Reader::new(input);
    match cut(input, &mut r) {
        Ok(item) => Ok(Measured::Whole(item, r.position())),
        Err(Stop::Short(wanted)) => Ok(Measured::Partial(wanted)),
        // A head takes nine bytes at most: one byte more is asked for nine times at most.
        Err(Stop::Wrong(Error { what: What::Truncated, .. })) => {
            Ok(Measured::Partial(input.len() + 1))
        }
        Err(Stop::Wrong(error)) => Err(error),
    }
}

enum Stop {
    Short(usize),
    Wrong(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

fn cut(input: &Bytes, r: &mut Reader<'_>) -> Result<Item, Stop> {
    let at = r.position();
    match r.head()? {
        Head::Array(1) => match r.head()? {
            Head::Uint(session) => Ok(Item::Resume(session)),
            Head::Text(len) if len <= MAX_NAME_BYTES => {
                expect(input, r, len)?;
                Ok(Item::Hello(r.take_text(len)?.to_owned()))
            }
            _ => Err(invalid(at, "a hello is [label] or [session]")),
        },
        Head::Array(3) => {
            let (seq, acked) = (r.uint()?, r.uint()?);
            if seq == 0 {
                return Err(invalid(at, "proposals are counted from 1"));
            }
            match r.head()? {
                Head::Bytes(len) if len > MAX_DRAFT_BYTES => {
                    let what = What::TooMany { bound: MAX_DRAFT_BYTES, of: "bytes of a draft" };
                    Err(Stop::Wrong(Error { at, what }))
                }
                Head::Bytes(len) => {
                    expect(input, r, len)?;
                    let from = r.position();
                    r.take(len)?;
                    Ok(Item::Proposal(Proposal {
                        seq,
                        acked,
                        draft: input.slice(from..from + len),
                    }))
                }
                _ => Err(invalid(at, "a draft is a byte string")),
            }
        }
        _ => Err(invalid(at, "an item is [label], [session] or [seq, acked, draft]")),
    }
}

/// Stops if the input has not `len` bytes more.
fn expect(input: &Bytes, r: &Reader<'_>, len: usize) -> Result<(), Stop> {
    let wanted = r.position() + len;
    if input.len() < wanted { Err(Stop::Short(wanted)) } else { Ok(()) }
}

fn invalid(at: usize, why: &'static str) -> Stop {
    Stop::Wrong(Error { at, what: What::Invalid(why) })
}

/// Says that the session is open.
pub(super) fn write_opened(w: &mut Writer, session: u64) {
    w.array(2).uint(0).uint(session);
}

/// Says why nothing more is said.
pub(super) fn write_ended(w: &mut Writer, code: &str, text: &str) {
    w.array(3).uint(0).text(code).text(text);
}

/// Says how a proposal ended.
pub(super) fn write_outcome(w: &mut Writer, seq: u64, outcome: &Ended) {
    match outcome {
        Ended::Applied(Outcome::Committed(index)) => {
            w.array(3).uint(seq).uint(COMMITTED).uint(*index);
        }
        Ended::Applied(Outcome::Refused(_, why)) => {
            write_refused(w, seq, code_of(why), &why.to_string());
        }
        Ended::NotProposed(why) => {
            w.array(3).uint(seq).uint(NOT_PROPOSED).text(&why.to_string());
        }
    }
}

/// Says that a proposal can never commit.
pub(super) fn write_refused(w: &mut Writer, seq: u64, code: &str, text: &str) {
    w.array(4).uint(seq).uint(REFUSED).text(code).text(text);
}

fn code_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Conflict(_) => "conflict",
        Refusal::TooOld => "too_old",
        Refusal::NoSession => "no_session",
        Refusal::OutOfWindow => "out_of_window",
        Refusal::StaleEpoch => "stale_epoch",
        Refusal::StaleCursor => "stale_cursor",
        Refusal::Full(_) => "full",
        Refusal::Malformed => "malformed",
        Refusal::NoLetter => "no_letter",
        Refusal::NoTicket => "no_ticket",
        Refusal::NameTaken => "name_taken",
        Refusal::StaleModule => "stale_module",
        Refusal::Removed => "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Unserved;
    use proptest::prelude::*;
    use synod_core::command::Op;
    use synod_core::term::Term;

    fn draft(event: &Term) -> Draft {
        let ops = vec![Op::Emit { event: event.encode().unwrap().into() }];
        Draft { version: 0, reads: Vec::new(), ops }
    }

    fn write_proposal(w: &mut Writer, seq: u64, draft: &[u8]) {
        w.array(3).uint(seq).uint(seq - 1).bytes(draft);
    }

    fn stream() -> (Bytes, Vec<Item>) {
        let mut w = Writer::new();
        w.array(1).text("bench");
        let mut wanted = vec![Item::Hello("bench".into())];
        w.array(1).uint(300);
        wanted.push(Item::Resume(300));
        for seq in [1, 23, 24, 70_000] {
            let mut bytes = Writer::new();
            draft(&Term::string("x".repeat(seq as usize % 999))).write(&mut bytes);
            write_proposal(&mut w, seq, bytes.as_slice());
            let draft = bytes.into_vec().into();
            wanted.push(Item::Proposal(Proposal { seq, acked: seq - 1, draft }));
        }
        (w.into_vec().into(), wanted)
    }

    fn take_all(inbox: &mut Inbox) -> Vec<Item> {
        std::iter::from_fn(|| inbox.next().unwrap()).collect()
    }

    #[test]
    fn items_are_the_same_wherever_the_chunks_are_cut() {
        let (bytes, wanted) = stream();
        for size in (1..=40).chain([100, 1000, bytes.len()]) {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for chunk in bytes.chunks(size) {
                inbox.push(Bytes::copy_from_slice(chunk));
                found.extend(take_all(&mut inbox));
            }
            assert_eq!(found, wanted, "in chunks of {size}");
            assert!(!inbox.is_inside_item());
        }
    }

    #[test]
    fn a_draft_reads_back() {
        let mut w = Writer::new();
        let wanted = draft(&Term::structure("open", [Term::atom("alice")]));
        wanted.write(&mut w);
        let read = |bytes: &[u8]| {
            let draft = Bytes::copy_from_slice(bytes);
            Proposal { seq: 1, acked: 0, draft }.read_draft()
        };
        assert_eq!(read(w.as_slice()).unwrap(), wanted);
        assert!(read(&[]).is_err());
    }

    #[test]
    fn what_promises_too_much_is_refused_before_it_is_kept() {
        let mut inbox = Inbox::default();
        let mut w = Writer::new();
        w.array(3).uint(1).uint(0);
        let mut bytes = w.into_vec();
        bytes.extend_from_slice(&[0x5b, 0, 0, 0, 1, 0, 0, 0, 0]);
        inbox.push(bytes.into());
        let error = inbox.next().unwrap_err();
        assert!(matches!(error.what, What::TooMany { .. }), "{error}");
    }

    #[test]
    fn what_is_no_item_is_refused_by_what_it_should_be() {
        for bytes in [&[0x00][..], &[0x83, 0, 0, 0x40], &[0x83, 1, 0, 0x60], &[0x81, 0xf6], &[0x80]]
        {
            let mut inbox = Inbox::default();
            inbox.push(Bytes::copy_from_slice(bytes));
            let error = inbox.next().unwrap_err();
            assert!(matches!(error.what, What::Invalid(_)), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn outcomes_are_written_as_the_cddl_says() {
        let mut w = Writer::new();
        write_opened(&mut w, 5);
        write_outcome(&mut w, 1, &Ended::Applied(Outcome::Committed(500)));
        write_outcome(&mut w, 2, &Ended::Applied(Outcome::Refused(501, Refusal::TooOld)));
        write_outcome(&mut w, 3, &Ended::NotProposed(Unserved::DiskFull("full".into()).into()));
        write_ended(&mut w, "bad_request", "no");
        let mut wanted = Writer::new();
        wanted.array(2).uint(0).uint(5).array(3).uint(1).uint(0).uint(500);
        wanted.array(4).uint(2).uint(1).text("too_old").text("it read too long ago");
        wanted.array(3).uint(3).uint(2).text("full");
        wanted.array(3).uint(0).text("bad_request").text("no");
        assert_eq!(w.into_vec(), wanted.into_vec());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            size in 1..50usize,
        ) {
            let mut inbox = Inbox::default();
            'stream: for chunk in bytes.chunks(size) {
                inbox.push(Bytes::copy_from_slice(chunk));
                loop {
                    match inbox.next() {
                        Ok(Some(Item::Proposal(proposal))) => drop(proposal.read_draft()),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }
}
