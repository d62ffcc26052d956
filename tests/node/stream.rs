//! A client of `POST /v1/propose`: many events under way at once, on one connection.

use crate::world::PATIENCE;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use synod_core::cbor::Writer;
use synod_core::command::Op;
use synod_core::term::Term;
use synod_core::transaction::Draft;

/// How a proposal ended, as the stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Committed(u64),
    /// Refused, or not proposed.
    No(String),
}

/// A stream that is open.
pub(crate) struct Stream {
    pub(crate) sender: Sender,
    pub(crate) answers: Answers,
}

/// The end that proposes.
pub(crate) struct Sender(UnixStream);

/// The end that is told.
pub(crate) struct Answers {
    socket: BufReader<UnixStream>,
    /// What was decoded of the chunks.
    bytes: Vec<u8>,
}

impl Stream {
    /// Opens a stream that goes on with a session that was opened before.
    pub(crate) fn open(data: &Path, session: u64) -> Result<Self> {
        let mut socket = UnixStream::connect(data.join("control.sock"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(
            b"POST /v1/propose HTTP/1.1\r\nHost: synod\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        let mut hello = Writer::new();
        hello.array(1).uint(session);
        let mut sender = Sender(socket.try_clone()?);
        sender.chunk(hello.as_slice())?;
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if socket.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let mut answers = Answers { socket, bytes: Vec::new() };
        match answers.next()? {
            (0, Told::Committed(opened)) if opened == session => Ok(Self { sender, answers }),
            other => Err(Error::other(format!("{other:?}"))),
        }
    }
}

impl Sender {
    /// Proposes an event under a number of the session's.
    pub(crate) fn event(&mut self, seq: u64, acked: u64, event: &Term) -> Result<()> {
        let ops = vec![Op::Emit { event: event.encode().unwrap().into() }];
        let mut draft = Writer::new();
        Draft { version: 0, reads: Vec::new(), ops }.write(&mut draft);
        let mut w = Writer::new();
        w.array(3).uint(seq).uint(acked).bytes(draft.as_slice());
        self.chunk(w.as_slice())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)
    }
}

impl Answers {
    /// The next answer and its number; 0 is the opening's.
    pub(crate) fn next(&mut self) -> Result<(u64, Told)> {
        loop {
            if let Some((answer, len)) = read(&self.bytes) {
                self.bytes.drain(..len);
                return Ok(answer);
            }
            let mut line = String::new();
            self.socket.read_line(&mut line)?;
            let len = usize::from_str_radix(line.trim_end(), 16)
                .map_err(|_| Error::from(ErrorKind::UnexpectedEof))?;
            let mut chunk = vec![0; len + 2];
            self.socket.read_exact(&mut chunk)?;
            if len == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.bytes.extend_from_slice(&chunk[..len]);
        }
    }
}

fn read(bytes: &[u8]) -> Option<((u64, Told), usize)> {
    let mut r = synod_core::cbor::Reader::new(bytes);
    let len = r.array().ok()?;
    let seq = r.uint().ok()?;
    let answer = match (len, seq) {
        (2, 0) => Told::Committed(r.uint().ok()?),
        (3, 0) => Told::No(format!("{} {}", r.text().ok()?, r.text().ok()?)),
        _ => match r.uint().ok()? {
            0 => Told::Committed(r.uint().ok()?),
            1 => Told::No(format!("{} {}", r.text().ok()?, r.text().ok()?)),
            _ => Told::No(r.text().ok()?.to_owned()),
        },
    };
    Some(((seq, answer), r.position()))
}
