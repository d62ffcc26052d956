//! `/v1/propose`: many proposals in flight on one connection.

use crate::SHOP;
use crate::http::Raw;
use crate::world::World;
use std::collections::BTreeMap;
use synod::control::propose::{MAX_DRAFT_BYTES, MAX_IN_FLIGHT};
use synod_core::cbor::{Reader, Writer};
use synod_core::command::Op;
use synod_core::kb::End;
use synod_core::term::Term;
use synod_core::transaction::Draft;

/// An item of the answer, after its number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Opened(u64),
    Ended(String),
    Committed(u64),
    Refused(String),
    NotProposed(String),
}

/// A stream of proposals.
struct Stream {
    raw: Raw,
    read: Vec<u8>,
}

impl Stream {
    /// Begins a stream with its hello.
    fn begin(world: &World, hello: impl FnOnce(&mut Writer)) -> Self {
        let mut raw = Raw::connect(&world.data);
        raw.send("POST /v1/propose HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut stream = Self { raw, read: Vec::new() };
        let mut w = Writer::new();
        hello(w.array(1));
        stream.send(w.as_slice());
        assert_eq!(stream.raw.answer().0, 200);
        stream
    }

    /// Opens a session.
    fn open(world: &World, label: &str) -> (Self, u64) {
        let mut stream = Self::begin(world, |w| _ = w.text(label));
        match stream.next() {
            Some((0, Said::Opened(session))) => (stream, session),
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.raw.send(format!("{:x}\r\n", bytes.len()));
        self.raw.send(bytes);
        self.raw.send("\r\n");
    }

    /// Ends the request; the answer goes on.
    fn end(&mut self) {
        self.raw.send("0\r\n\r\n");
    }

    /// The next item of the answer; nothing at its end.
    fn next(&mut self) -> Option<(u64, Said)> {
        loop {
            let mut r = Reader::new(&self.read);
            if r.item().is_ok() {
                let item: Vec<u8> = self.read.drain(..r.position()).collect();
                return Some(read(&item));
            }
            let chunk = self.raw.chunk();
            if chunk.is_empty() {
                assert!(self.read.is_empty());
                return None;
            }
            self.read.extend_from_slice(&chunk);
        }
    }

    fn rest(&mut self) -> Vec<(u64, Said)> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn read(item: &[u8]) -> (u64, Said) {
    let mut r = Reader::new(item);
    let len = r.array().unwrap();
    let seq = r.uint().unwrap();
    let said = match (seq, len) {
        (0, 2) => Said::Opened(r.uint().unwrap()),
        (0, 3) => Said::Ended(r.text().unwrap().to_owned()),
        _ => match r.uint().unwrap() {
            0 => Said::Committed(r.uint().unwrap()),
            1 => Said::Refused(r.text().unwrap().to_owned()),
            2 => Said::NotProposed(r.text().unwrap().to_owned()),
            other => panic!("{other}"),
        },
    };
    (seq, said)
}

fn proposal(w: &mut Writer, seq: u64, ops: Vec<Op>) {
    let mut draft = Writer::new();
    Draft { version: 0, reads: Vec::new(), ops }.write(&mut draft);
    w.array(3).uint(seq).uint(0).bytes(draft.as_slice());
}

fn fact(key: u64) -> Op {
    let fact = Term::structure("stock", [Term::integer(key), Term::integer(1)]);
    Op::Assert { end: End::Last, fact: fact.encode().unwrap().into() }
}

#[test]
fn what_is_in_flight_commits_once_and_in_order() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let (mut stream, session) = Stream::open(&world, "loader");
    // More than are taken in at once: the rest waits in the socket.
    let many = 3 * MAX_IN_FLIGHT as u64;
    let mut w = Writer::new();
    (1..=many).for_each(|seq| proposal(&mut w, seq, vec![fact(seq)]));
    stream.send(w.as_slice());
    stream.end();
    let said = stream.rest();
    let seqs: Vec<u64> = said.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=many).collect::<Vec<_>>());
    let index = |said: &Said| match said {
        Said::Committed(index) => *index,
        other => panic!("{other:?}"),
    };
    let indexes: BTreeMap<u64, u64> = said.iter().map(|(seq, said)| (*seq, index(said))).collect();
    assert!(indexes.values().is_sorted());
    assert_eq!(
        node.query("shop", "findall(X, stock(X, _), L), length(L, N)")[0]
            .matches(many.to_string().as_str())
            .count(),
        2
    );

    // Sent again on another connection: the same transactions, not others.
    let mut again = Stream::begin(&world, |w| _ = w.uint(session));
    assert_eq!(again.next(), Some((0, Said::Opened(session))));
    let mut w = Writer::new();
    (many - 9..=many).for_each(|seq| proposal(&mut w, seq, vec![fact(seq)]));
    again.send(w.as_slice());
    again.end();
    for (seq, said) in again.rest() {
        assert_eq!(index(&said), indexes[&seq]);
    }
}

#[test]
fn an_item_may_come_byte_by_byte() {
    let world = World::new();
    let _node = world.up(&[]);
    let (mut stream, _) = Stream::open(&world, "slow");
    let mut w = Writer::new();
    proposal(&mut w, 1, vec![fact(1)]);
    for byte in w.as_slice() {
        stream.send(&[*byte]);
    }
    // It is answered without any further item, and without the end of the request.
    assert!(matches!(stream.next(), Some((1, Said::Committed(_)))));
}

#[test]
fn a_draft_that_is_wrong_is_refused_and_the_stream_goes_on() {
    let world = World::new();
    let node = world.up(&[]);
    let (mut stream, _) = Stream::open(&world, "broken");
    let mut w = Writer::new();
    w.array(3).uint(1).uint(0).bytes(b"no draft");
    // A map is well-formed CBOR, and no term.
    proposal(&mut w, 2, vec![Op::Emit { event: b"\xa0"[..].into() }]);
    proposal(&mut w, 3, vec![fact(3)]);
    stream.send(w.as_slice());
    stream.end();
    let said: BTreeMap<u64, Said> = stream.rest().into_iter().collect();
    assert_eq!(said[&1], Said::Refused("malformed".to_owned()));
    assert_eq!(said[&2], Said::Refused("malformed".to_owned()));
    assert!(matches!(said[&3], Said::Committed(_)));
    // The session's opening and the one proposal that was one.
    assert_eq!(node.get("/v1/status")["spaces"][0]["index"], 2);
}

#[test]
fn a_stream_that_cannot_go_on_says_why_when_all_is_answered() {
    let world = World::new();
    let _node = world.up(&[]);
    let ended = |code: &str| Some((0, Said::Ended(code.to_owned())));

    let (mut stream, _) = Stream::open(&world, "broken");
    let mut w = Writer::new();
    proposal(&mut w, 1, vec![fact(1)]);
    w.array(2).uint(1).uint(2);
    proposal(&mut w, 2, vec![fact(2)]);
    stream.send(w.as_slice());
    assert!(matches!(stream.next(), Some((1, Said::Committed(_)))));
    assert_eq!(stream.next(), ended("bad_request"));
    assert_eq!(stream.next(), None);

    let (mut stream, _) = Stream::open(&world, "cut");
    let mut w = Writer::new();
    proposal(&mut w, 1, vec![fact(3)]);
    stream.send(&w.as_slice()[..w.len() - 1]);
    stream.end();
    assert_eq!(stream.rest(), [ended("bad_request").unwrap()]);

    // No more than its head is read of one that is too large.
    let (mut stream, _) = Stream::open(&world, "large");
    let mut w = Writer::new();
    w.array(3).uint(1).uint(0);
    let mut bytes = w.into_vec();
    bytes.push(0x5a);
    bytes.extend_from_slice(&u32::try_from(MAX_DRAFT_BYTES + 1).unwrap().to_be_bytes());
    stream.send(&bytes);
    assert_eq!(stream.rest(), [ended("bad_request").unwrap()]);

    let mut stream = Stream::begin(&world, |w| _ = w.null());
    assert_eq!(stream.rest(), [ended("bad_request").unwrap()]);
    let mut stream = Stream::begin(&world, |w| _ = w.text(&"x".repeat(300)));
    assert_eq!(stream.rest(), [ended("bad_request").unwrap()]);
}

#[test]
fn a_session_that_is_not_open_refuses() {
    let world = World::new();
    let _node = world.up(&[]);
    let mut stream = Stream::begin(&world, |w| _ = w.uint(4711));
    assert_eq!(stream.next(), Some((0, Said::Opened(4711))));
    let mut w = Writer::new();
    proposal(&mut w, 1, vec![fact(1)]);
    stream.send(w.as_slice());
    stream.end();
    assert_eq!(stream.rest(), [(1, Said::Refused("no_session".to_owned()))]);
}
