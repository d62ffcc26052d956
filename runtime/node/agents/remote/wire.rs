//! What goes over the stream of a goal that an agent of another node solves.
//!
//! ```text
//! question = [1, [* token: bstr .size 16], agent, space: bstr .size 32 / null, kind, goal, chunk, limit / null,
//!             at_least, as_of / null, once / null, depth]
//!   kind   = 0 query / 1 transact / 2 call        goal = tstr (Prolog text) / bstr (a term)
//!   once   = [session, seq, acked]
//! event    = [0, text, [* [name, text, bstr / null]], [* residual], bstr / null]      an answer
//!          / [1, bstr]                             what the goal printed
//!          / [2]                                   it waits; any byte asks for more
//!          / [3, succeeded, more, index, stale_ms / null]
//!          / [4, text, bstr / null]                it threw
//!          / [5, code, message, id / null]         it could not be solved
//! ```
//!
//! Each stands behind its length, four bytes, big-endian. The tokens show which spaces the asker shares.

use super::super::side::SideEvent;
use crate::api::{ErrorBody, Once};
use crate::space::error;
use synod_core::cbor::{Error, Reader, What, Writer};
use synod_prolog::frame::{Answer, Binding, GoalKind, GoalText};

const VERSION: u64 = 1;
/// Bytes of one question or event, at most.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Tokens in one question, at most.
pub(crate) const MAX_TOKENS: usize = 256;
/// Bindings or residual goals of one answer, at most.
const MAX_PARTS: usize = 1 << 16;

/// A goal for an agent of another node.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) tokens: Vec<[u8; 16]>,
    pub(super) agent: String,
    /// The space whose indexes and sessions it speaks of.
    pub(super) space: Option<[u8; 32]>,
    pub(super) kind: GoalKind,
    pub(super) goal: GoalText,
    pub(super) chunk: u32,
    pub(super) limit: Option<u64>,
    pub(super) at_least: u64,
    pub(super) as_of: Option<u64>,
    pub(super) once: Option<Once>,
    pub(super) depth: u32,
}

impl Question {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let tokens = &self.tokens[..self.tokens.len().min(MAX_TOKENS)];
        w.array(12).uint(VERSION).array(tokens.len());
        for token in tokens {
            w.bytes(token);
        }
        w.text(&self.agent);
        match &self.space {
            Some(space) => w.bytes(space),
            None => w.null(),
        };
        w.uint(match self.kind {
            GoalKind::Query => 0,
            GoalKind::Transact => 1,
            GoalKind::Call => 2,
        });
        match &self.goal {
            GoalText::Text { text } => w.text(text),
            GoalText::Term { term } => w.bytes(term),
        };
        w.uint(self.chunk.into());
        optional(&mut w, self.limit);
        w.uint(self.at_least);
        optional(&mut w, self.as_of);
        match self.once {
            Some(Once { session, seq, acked }) => {
                w.array(3).uint(session).uint(seq).uint(acked);
            }
            None => drop(w.null()),
        }
        w.uint(self.depth.into());
        w.into_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        r.array_of(12)?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of questions"));
        }
        let of = array(&mut r, MAX_TOKENS, "tokens")?;
        let tokens = (0..of).map(|_| r.fixed()).collect::<Result<_, _>>()?;
        let agent = r.text()?.to_owned();
        let space = if r.null() { None } else { Some(r.fixed()?) };
        let kind = match r.uint()? {
            0 => GoalKind::Query,
            1 => GoalKind::Transact,
            2 => GoalKind::Call,
            _ => return Err(r.invalid("no such kind of goal")),
        };
        // A text or bytes: whichever stands there.
        let goal = match r.rest().first().map(|head| head >> 5) {
            Some(3) => GoalText::Text { text: r.text()?.to_owned() },
            _ => GoalText::Term { term: r.bytes()?.to_vec() },
        };
        let (chunk, limit, at_least) = (r.uint32()?, maybe(&mut r)?, r.uint()?);
        let as_of = maybe(&mut r)?;
        let once = match r.null() {
            true => None,
            false => {
                r.array_of(3)?;
                Some(Once { session: r.uint()?, seq: r.uint()?, acked: r.uint()? })
            }
        };
        let depth = r.uint32()?;
        r.end()?;
        Ok(Self { tokens, agent, space, kind, goal, chunk, limit, at_least, as_of, once, depth })
    }
}

/// An event's bytes.
pub(super) fn encode(event: &SideEvent) -> Vec<u8> {
    let mut w = Writer::new();
    match event {
        SideEvent::Answer(Answer { text, bindings, residuals, term }) => {
            w.array(5).uint(0).text(text).array(bindings.len());
            for binding in bindings {
                w.array(3).text(&binding.name).text(&binding.text);
                bytes_or_null(&mut w, binding.term.as_deref());
            }
            w.array(residuals.len());
            for residual in residuals {
                w.text(residual);
            }
            bytes_or_null(&mut w, term.as_deref());
        }
        SideEvent::Output(bytes) => drop(w.array(2).uint(1).bytes(bytes)),
        SideEvent::More => drop(w.array(1).uint(2)),
        SideEvent::End { succeeded, more, index, stale_ms } => {
            w.array(5).uint(3).bool(*succeeded).bool(*more).uint(*index);
            optional(&mut w, *stale_ms);
        }
        SideEvent::Threw { text, term } => {
            w.array(3).uint(4).text(text);
            bytes_or_null(&mut w, term.as_deref());
        }
        SideEvent::Failed(ErrorBody { code, message, id, .. }) => {
            w.array(4).uint(5).text(code).text(message);
            match id {
                Some(id) => w.text(id),
                None => w.null(),
            };
        }
    }
    w.into_vec()
}

/// The event of these bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<SideEvent, Error> {
    let mut r = Reader::new(bytes);
    let len = r.array()?;
    let event = match (r.uint()?, len) {
        (0, 5) => {
            let text = r.text()?.to_owned();
            let of = array(&mut r, MAX_PARTS, "bindings")?;
            let bindings = (0..of).map(|_| binding(&mut r)).collect::<Result<_, _>>()?;
            let of = array(&mut r, MAX_PARTS, "residual goals")?;
            let residuals =
                (0..of).map(|_| r.text().map(str::to_owned)).collect::<Result<_, _>>()?;
            SideEvent::Answer(Answer { text, bindings, residuals, term: maybe_bytes(&mut r)? })
        }
        (1, 2) => SideEvent::Output(r.bytes()?.to_vec()),
        (2, 1) => SideEvent::More,
        (3, 5) => {
            let (succeeded, more, index) = (r.bool()?, r.bool()?, r.uint()?);
            SideEvent::End { succeeded, more, index, stale_ms: maybe(&mut r)? }
        }
        (4, 3) => SideEvent::Threw { text: r.text()?.to_owned(), term: maybe_bytes(&mut r)? },
        (5, 4) => {
            let (code, message) = (r.text()?, r.text()?.to_owned());
            let id = if r.null() { None } else { Some(r.text()?.to_owned()) };
            // A code that this node does not know is none of its own.
            let known = crate::codes::CODES.iter().any(|(known, _)| *known == code);
            let code = if known { code } else { "engine" };
            let mut body = error(code, message);
            body.id = id;
            SideEvent::Failed(body)
        }
        _ => return Err(r.invalid("no such event")),
    };
    r.end()?;
    Ok(event)
}

fn binding(r: &mut Reader<'_>) -> Result<Binding, Error> {
    r.array_of(3)?;
    let (name, text) = (r.text()?.to_owned(), r.text()?.to_owned());
    Ok(Binding { name, text, term: maybe_bytes(r)? })
}

fn optional(w: &mut Writer, n: Option<u64>) {
    match n {
        Some(n) => w.uint(n),
        None => w.null(),
    };
}

fn bytes_or_null(w: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => w.bytes(bytes),
        None => w.null(),
    };
}

fn maybe(r: &mut Reader<'_>) -> Result<Option<u64>, Error> {
    if r.null() { Ok(None) } else { r.uint().map(Some) }
}

fn maybe_bytes(r: &mut Reader<'_>) -> Result<Option<Vec<u8>>, Error> {
    if r.null() { Ok(None) } else { r.bytes().map(|bytes| Some(bytes.to_vec())) }
}

fn array(r: &mut Reader<'_>, bound: usize, of: &'static str) -> Result<usize, Error> {
    let len = r.array()?;
    if len > bound { Err(r.error(What::TooMany { bound, of })) } else { Ok(len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;
    use proptest::prelude::*;

    fn question(goal: GoalText) -> Question {
        Question {
            tokens: vec![[1; 16]],
            agent: "bank".to_owned(),
            space: None,
            kind: GoalKind::Call,
            goal,
            chunk: 16,
            limit: Some(3),
            at_least: 9,
            as_of: None,
            once: Some(Once { session: 1, seq: 2, acked: 0 }),
            depth: 1,
        }
    }

    fn events() -> Vec<SideEvent> {
        let bound = Binding { name: "X".into(), text: "1".into(), term: Some(vec![1]) };
        vec![
            SideEvent::Answer(Answer {
                text: "X = 1".into(),
                bindings: vec![bound],
                residuals: vec!["dif(Y,2)".into()],
                term: None,
            }),
            SideEvent::Output(b"hi".to_vec()),
            SideEvent::More,
            SideEvent::End { succeeded: true, more: false, index: 7, stale_ms: Some(300) },
            SideEvent::Threw { text: "a".into(), term: Some(vec![2]) },
            SideEvent::Failed(error("busy", "later")),
        ]
    }

    #[test]
    fn questions_and_events_have_these_bytes() {
        let asked = question(GoalText::Text { text: "p(X)".into() }).encode();
        let told = events().iter().map(|event| hex(&encode(event))).collect::<Vec<_>>();
        assert_eq!((hex(&asked).as_str(), told.join(" ").as_str()), GOLDEN);
    }

    const GOLDEN: (&str, &str) = (
        "8c018150010101010101010101010101010101016462616e6bf6026470285829100309f68301020001",
        "85006558203d20318183615861314101816864696628592c3229f6 8201426869 8102 8503f5f40719012c \
         830461614102 84056462757379656c61746572f6",
    );

    #[test]
    fn what_was_written_is_read() {
        for goal in [GoalText::Text { text: "p".into() }, GoalText::Term { term: vec![1, 2] }] {
            let asked = question(goal);
            let read = Question::decode(&asked.encode()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{asked:?}"));
        }
        for event in events() {
            let bytes = encode(&event);
            assert_eq!(format!("{:?}", decode(&bytes).unwrap()), format!("{event:?}"));
            assert!((0..bytes.len()).all(|cut| decode(&bytes[..cut]).is_err()));
            assert!(decode(&[bytes, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn a_code_that_is_not_known_here_stands_for_a_failure() {
        let news = ErrorBody { code: "news".into(), ..error("busy", "later") };
        let bytes = encode(&SideEvent::Failed(news));
        let SideEvent::Failed(body) = decode(&bytes).unwrap() else { panic!("{bytes:?}") };
        assert_eq!((&*body.code, &*body.message), ("engine", "later"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            drop(Question::decode(&bytes));
            drop(decode(&bytes));
        }
    }
}
