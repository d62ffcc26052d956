//! Logs to measure with, made without a node: exports of commands that a client might have sent.

use crate::cli::Failure;
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use synod_core::apply::{Chain, link};
use synod_core::command::{Command, Op, Origin, Transaction};
use synod_core::export::{Item, Parser, Writer};
use synod_core::kb::{End, Indicator};
use synod_core::term::Term;

/// The id of the space that the commands are said to be of.
const SPACE: [u8; 32] = [7; 32];
/// Time between two commands, in microseconds: a busy space's.
const APART: u64 = 8;
/// The first one's time.
const START: u64 = 1_700_000_000_000_000;
/// Bytes that are written, or read, at once.
const PIECE: usize = 1 << 20;

/// What the commands are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A new fact each.
    Assertz,
    /// One of so many facts each is replaced by another, once all are there.
    Update(u64),
    /// An event of so many bytes each.
    Event(usize),
}

impl Kind {
    /// The command of this index, from 2 on.
    fn command(self, index: u64) -> Result<Bytes, Failure> {
        let seq = index - 1;
        let n = seq - 1;
        let fact = |key: u64, value: u64| {
            let fact = Term::structure("item", [Term::integer(key), Term::integer(value)]);
            encoded(&fact).map(|fact| Op::Assert { end: End::Last, fact })
        };
        let ops = match self {
            Self::Assertz => vec![fact(n, n)?],
            Self::Update(keys) if n < keys => vec![fact(n, 0)?],
            // Round and round: the fact of a key is that of one round before.
            Self::Update(keys) => {
                let order = i64::try_from(n - keys).unwrap_or(i64::MAX);
                let retract = Op::Retract { predicate: Indicator::new("item", 2), order };
                vec![retract, fact(n % keys, n / keys)?]
            }
            Self::Event(bytes) => {
                vec![Op::Emit { event: encoded(&Term::string("x".repeat(bytes)))? }]
            }
        };
        let origin = Origin::Session { id: 1, seq, acked: seq - 1 };
        let transaction = Transaction { origin, version: index - 1, reads: Vec::new(), ops };
        Ok(Command::Transact(transaction).encode())
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// Bytes of the longest command.
    pub(super) longest: usize,
}

/// Writes an export of so many commands. `progress` is told how many there are.
pub(super) fn write(
    path: &Path,
    kind: Kind,
    count: u64,
    mut progress: impl FnMut(u64),
) -> Result<Written, Failure> {
    let failed = |e: std::io::Error| Failure::error(format!("{}: {e}", path.display()));
    let mut file = File::create(path).map_err(failed)?;
    let mut piece = Vec::new();
    let mut writer = Writer::begin(SPACE, "bench", &Chain::of_space(SPACE), &mut piece);
    let mut written = Written::default();
    let open = Command::OpenSession { label: "bench".to_owned(), nonce: [1; 16] }.encode();
    writer.envelope(START, &open, &mut piece);
    for index in 2..=count {
        let command = kind.command(index)?;
        written.longest = written.longest.max(command.len());
        writer.envelope(START + index * APART, &command, &mut piece);
        if piece.len() >= PIECE {
            written.bytes += piece.len() as u64;
            file.write_all(&piece).map_err(failed)?;
            piece.clear();
            progress(index);
        }
    }
    writer.end(&mut piece);
    written.bytes += piece.len() as u64;
    file.write_all(&piece).map_err(failed)?;
    Ok(written)
}

/// How long it takes to read a file from beginning to end, and nothing else.
pub(super) fn read(path: &Path) -> Result<Duration, Failure> {
    let failed = |e: std::io::Error| Failure::error(format!("{}: {e}", path.display()));
    let start = Instant::now();
    let mut file = File::open(path).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    while file.read(&mut piece).map_err(failed)? > 0 {
        std::hint::black_box(&piece);
    }
    Ok(start.elapsed())
}

/// How long the chain of an export's commands takes on one thread, and nothing else: BLAKE3, one call a
/// command, each waiting for the one before.
pub(super) fn hash(path: &Path) -> Result<Duration, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::error(format!("{}: {e}", path.display()));
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let (mut parser, mut chain, mut taken) = (Parser::new(), SPACE, Duration::ZERO);
    loop {
        let mut piece = vec![0; PIECE];
        let len = file.read(&mut piece).map_err(|e| failed(&e))?;
        if len == 0 {
            return Ok(taken);
        }
        piece.truncate(len);
        parser.push(piece.into());
        let mut envelopes = Vec::new();
        while let Some(item) = parser.next_item().map_err(|e| failed(&e))? {
            if let Item::Envelope(envelope) = item {
                envelopes.push(envelope);
            }
        }
        let start = Instant::now();
        for envelope in &envelopes {
            chain = link(&chain, envelope.index, envelope.time, &envelope.command);
        }
        taken += start.elapsed();
        std::hint::black_box(chain);
    }
}

fn encoded(term: &Term) -> Result<Bytes, Failure> {
    term.encode().map(Bytes::from).map_err(|e| Failure::error(e.to_string()))
}
