//! Exports as others see them: golden bytes, the CDDL that describes them, another program that reads
//! them, and everything that can be wrong with one.

#![expect(clippy::unwrap_used, reason = "a broken file fails the test")]

mod cddl;

use bytes::Bytes;
use cddl::Schema;
use proptest::prelude::*;
use std::io::Write as _;
use std::process::{Command as Process, Stdio};
use synod_core::apply::Chain;
use synod_core::cbor::{self, Head};
use synod_core::command::{Command, Op, Origin, Transaction};
use synod_core::export::{
    Draft, Drafter, Envelope, ExportError, Flaw, Header, Item, MAX_ITEM, Parser, Reader, VERSION,
    Writer,
};
use synod_core::kb::End;
use synod_core::term::Term;

const GOLDEN: &str = include_str!("golden/export-v2.txt");
const SPACE: [u8; 32] = [0x5a; 32];
const START: u64 = 1_700_000_000_000_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn command(n: u64) -> Bytes {
    if n == 1 {
        return Command::OpenSession { label: "cli".to_owned(), nonce: [1; 16] }.encode();
    }
    let fact = Term::structure("account", [Term::atom("alice"), Term::integer(n * 1000)]);
    let fact = fact.encode().unwrap().into();
    let origin = Origin::Session { id: 1, seq: n - 1, acked: 0 };
    let ops = vec![Op::Assert { end: End::Last, fact }];
    Command::Transact(Transaction { origin, version: 0, reads: vec![], ops }).encode()
}

/// The bytes of an export, and where each of its items ends.
fn export_of(commands: &[(u64, Bytes)]) -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    let mut writer = Writer::begin(SPACE, "local", &Chain::of_space(SPACE), &mut out);
    let mut ends = vec![out.len()];
    for (time, command) in commands {
        writer.envelope(*time, command, &mut out);
        ends.push(out.len());
    }
    writer.end(&mut out);
    ends.push(out.len());
    (out, ends)
}

fn commands(count: u64) -> Vec<(u64, Bytes)> {
    // Every other stamp is behind the one before: what is exported is the time as applied.
    (1..=count).map(|n| (START + n / 2 * 7 - n % 2, command(n))).collect()
}

/// Reads in chunks of this size; gives the envelopes.
fn read_in(chunk: usize, bytes: &[u8]) -> Result<Vec<Envelope>, ExportError> {
    let mut reader = Reader::new();
    let mut envelopes = Vec::new();
    for chunk in bytes.chunks(chunk) {
        reader.push(Bytes::copy_from_slice(chunk));
        while let Some(item) = reader.next_item()? {
            if let Item::Envelope(envelope) = item {
                envelopes.push(envelope);
            }
        }
    }
    reader.finish()?;
    Ok(envelopes)
}

fn read(bytes: &[u8]) -> Result<Vec<Envelope>, ExportError> {
    let whole = read_in(bytes.len().max(1), bytes);
    let by_parts = read_in(7, bytes);
    assert_eq!(whole, by_parts, "in one piece or in many");
    whole
}

fn said(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn the_bytes_are_what_they_have_always_been() {
    let (bytes, ends) = export_of(&commands(3));
    let mut from = 0;
    let lines =
        ends.iter().map(|&to| format!("{}\n", hex(&bytes[std::mem::replace(&mut from, to)..to])));
    let lines: String = lines.collect();
    assert!(lines == GOLDEN, "the golden file would have to be (with another version):\n{lines}");
    assert_eq!(VERSION, 2);
}

#[test]
fn golden_bytes_are_read_as_what_was_written() {
    let byte = |line: &str, n| u8::from_str_radix(&line[2 * n..2 * n + 2], 16).unwrap();
    let bytes: Vec<u8> =
        GOLDEN.lines().flat_map(|line| (0..line.len() / 2).map(move |n| byte(line, n))).collect();
    let envelopes = read(&bytes).unwrap();
    let mut chain = Chain::of_space(SPACE);
    for (envelope, (stamp, command)) in envelopes.iter().zip(commands(3)) {
        chain.follow(stamp, &command);
        assert_eq!((envelope.index, envelope.time), (chain.index, chain.time));
        assert_eq!((&envelope.command, &envelope.check[..]), (&command, &chain.hash[..8]));
    }
    assert_eq!(envelopes.len(), 3);
}

#[test]
fn every_item_is_what_the_grammar_says_and_nothing_else() {
    let schema = Schema::parse(concat!(
        include_str!("../export.cddl"),
        include_str!("../commands.cddl"),
        include_str!("../term.cddl")
    ));
    let rules = ["export-header", "envelope", "export-end"];
    let (bytes, ends) = export_of(&commands(20));
    let mut from = 0;
    for (n, to) in ends.iter().enumerate() {
        let item = &bytes[from..*to];
        let rule = if n == 0 {
            rules[0]
        } else if n == ends.len() - 1 {
            rules[2]
        } else {
            rules[1]
        };
        for other in rules {
            assert_eq!(schema.matches(other, item), other == rule, "item {n} and {other}");
        }
        assert!(!schema.matches(rule, &[item, &[0]].concat()));
        assert!(!schema.matches(rule, &item[..item.len() - 1]));
        from = *to;
    }
}

#[test]
fn python_reads_it() {
    let (bytes, _) = export_of(&commands(300));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export.py");
    let mut python = Process::new("python3");
    python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = python.spawn() else {
        skip("python3 is not installed: an export read by it");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    let fed = bytes.clone();
    let feed = std::thread::Builder::new().spawn(move || stdin.write_all(&fed)).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(feed.join());
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("No module named 'cbor2'") {
        skip("this python3 has no cbor2: an export read by it");
        return;
    }
    assert!(output.status.success(), "{stderr}");
    let mut wanted = format!("header synod-export 2 {0} local 1 {0}\n", hex(&SPACE));
    let envelopes = read(&bytes).unwrap();
    for Envelope { index, time, command, check, .. } in &envelopes {
        wanted += &format!("envelope {index} {time} {} {}\n", command[1], hex(check));
    }
    let mut chain = Chain::of_space(SPACE);
    commands(300).iter().for_each(|(time, command)| chain.follow(*time, command));
    wanted += &format!("end 300 {}\n", hex(&chain.hash));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
}

#[test]
fn what_is_laid_out_and_sealed_is_what_is_written_at_once() {
    let commands: Vec<_> = commands(300).into_iter().rev().collect();
    let (whole, _) = export_of(&commands);
    let mut out = Vec::new();
    let place = Chain::of_space(SPACE);
    let mut writer = Writer::begin(SPACE, "local", &place, &mut out);
    let (mut drafter, mut buffer) = (Drafter::behind(&place), b"used before".to_vec());
    for piece in commands.chunks(7) {
        let mut draft = Draft::onto(buffer);
        for (stamp, command) in piece {
            let (index, time) = drafter.next(*stamp);
            assert!(index > writer.place().index && time >= *stamp);
            drafter.envelope(*stamp, command, &mut draft);
        }
        buffer = writer.seal(draft);
        out.extend_from_slice(&buffer);
    }
    writer.end(&mut out);
    assert_eq!(out, whole);
}

#[test]
fn a_flipped_byte_is_found_at_its_index() {
    let (bytes, ends) = export_of(&commands(30));
    for at in ends[0]..bytes.len() {
        let n = ends.partition_point(|end| *end <= at);
        for flip in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let said = said(&changed);
            // A length that was changed takes in what follows: then the item is found at fault, or the
            // file cut there.
            let due = if n == ends.len() - 1 { [30, 31] } else { [n as u64, n as u64] };
            let is_named = due.iter().any(|due| said.starts_with(&format!("index {due}, byte ")));
            assert!(is_named, "byte {at} of item {n}: {said}");
        }
    }
    for at in 0..ends[0] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        // The name is a name, whichever it is; all else is the header's or the first link's matter.
        assert!(read(&changed).is_err() || (0x34..0x40).contains(&at), "byte {at}");
    }
}

#[test]
fn what_was_cut_reordered_removed_or_doubled_is_found_at_its_index() {
    let (bytes, ends) = export_of(&commands(30));
    let item = |n: usize| &bytes[ends[n - 1]..ends[n]];
    let without = [&bytes[..ends[19]], &bytes[ends[20]..]].concat();
    let wanted = format!(
        "index 20, byte 1,{:03}: the command of index 21 stands where 20 is due: something is \
         missing, or in another order",
        ends[19] - 1000
    );
    assert_eq!(said(&without), wanted);
    let swapped = [&bytes[..ends[4]], item(6), item(5), &bytes[ends[6]..]].concat();
    assert!(said(&swapped).starts_with("index 5, byte "), "{}", said(&swapped));
    let twice = [&bytes[..ends[4]], item(4), &bytes[ends[4]..]].concat();
    assert!(said(&twice).starts_with("index 5, byte "), "{}", said(&twice));
    let last = [&bytes[..ends[29]], &bytes[ends[30]..]].concat();
    assert!(said(&last).contains("the end is that of index 30, and the last command is 29"));
    for cut in (ends[0]..bytes.len()).step_by(3) {
        let said = said(&bytes[..cut]);
        let n = ends.partition_point(|end| *end <= cut);
        assert!(said.starts_with(&format!("index {n}, byte ")), "{said}");
        assert!(said.contains("cut: the file ends "), "{said}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(said(&longer).ends_with("bytes follow the end"));
}

/// Another command under the old check, or under a check of its own: then the next one does not fit.
#[test]
fn an_edited_command_is_found_even_with_a_check_that_fits() {
    let (bytes, ends) = export_of(&commands(5));
    let mut edited = commands(5);
    edited[2].1 = command(99);
    let (forged, forged_ends) = export_of(&edited);
    let one = [&forged[..forged_ends[3]], &bytes[ends[3]..]].concat();
    assert!(said(&one).starts_with("index 4, byte "), "{}", said(&one));
    let last = [&forged[..forged_ends[5]], &bytes[ends[5]..]].concat();
    assert!(said(&last).contains("the chain at the end"), "{}", said(&last));
}

#[test]
fn what_is_no_export_or_of_another_version_is_refused_by_name() {
    for bytes in [
        &b""[..],
        b"hello, world",
        &[0xd9, 0xd9, 0xf7],
        &[0; 4096],
        b"\xd9\xd9\xf7\x8b\x69synod-log\x02",
    ] {
        assert_eq!(read(bytes), Err(ExportError::NotAnExport), "{bytes:?}");
    }
    let (bytes, _) = export_of(&commands(2));
    let place = bytes.iter().position(|byte| *byte == 2).unwrap();
    let mut other = bytes.clone();
    other[place] = 3;
    assert_eq!(read(&other), Err(ExportError::OtherVersion(3)));
    assert!(said(&other).contains("version 3, and this Synod reads version 2"));
    // A later version may have a longer header.
    other[3] = 0x87;
    assert_eq!(read(&other), Err(ExportError::OtherVersion(3)));
}

#[test]
fn claimed_lengths_reserve_nothing_and_end_at_the_bound() {
    let (bytes, ends) = export_of(&commands(2));
    let mut w = cbor::Writer::onto(bytes[..ends[2]].to_vec());
    w.array(4).uint(3).uint(START + 100);
    let mut claim = w.into_vec();
    // A command that is a byte string of ten gigabytes.
    claim.extend_from_slice(&[0x5b, 0, 0, 0, 2, 0x54, 0x0b, 0xe4, 0]);
    assert_eq!(
        cbor::Reader::new(&claim[claim.len() - 9..]).head(),
        Ok(Head::Bytes(10_000_000_000))
    );
    let mut parser = Parser::new();
    parser.push(claim.into());
    let mut most = 0;
    let refused = loop {
        match parser.next_item() {
            Ok(Some(_)) => {}
            Ok(None) => parser.push(Bytes::from_static(&[0; 64 << 10])),
            Err(refused) => break refused,
        }
        most = most.max(parser.waiting());
    };
    assert!(
        matches!(refused, ExportError::Flawed { index: 3, flaw: Flaw::TooLong, .. }),
        "{refused}"
    );
    assert!(most <= MAX_ITEM + (128 << 10), "{most}");
}

#[test]
fn a_part_begins_behind_what_is_left_out() {
    let all = commands(30);
    let (bytes, ends) = export_of(&all);
    let mut chain = Chain::of_space(SPACE);
    all[..10].iter().for_each(|(time, command)| chain.follow(*time, command));
    let mut out = Vec::new();
    let mut writer = Writer::begin(SPACE, "local", &chain, &mut out);
    let header = out.len();
    all[10..].iter().for_each(|(time, command)| writer.envelope(*time, command, &mut out));
    writer.end(&mut out);
    assert_eq!(out[header..], bytes[ends[10]..]);
    assert_eq!(read(&out).unwrap().len(), 20);
    // The same under the pretence of being all of it.
    let mut out = Vec::new();
    let place = Chain { hash: [1; 32], ..Chain::of_space(SPACE) };
    Writer::begin(SPACE, "local", &place, &mut out).end(&mut out);
    assert!(said(&out).contains("is not the space's id"));
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_comes(
        stamps in prop::collection::vec((0..u64::MAX, 0usize..2000), 0..20),
        chunk in 1usize..300,
        name in ".{0,300}",
    ) {
        let mut out = Vec::new();
        let start = Chain::of_space(SPACE);
        let header = Header::behind(SPACE, &name, &start);
        prop_assert!(header.name.len() <= 255 && name.starts_with(&header.name));
        let mut writer = Writer::begin(SPACE, &name, &start, &mut out);
        let mut wanted = Vec::new();
        for (stamp, len) in stamps {
            let command = cbor::Writer::new().bytes(&vec![7; len]).clone().into_vec();
            writer.envelope(stamp, &command, &mut out);
            wanted.push((writer.place().index, writer.place().time, Bytes::from(command)));
        }
        writer.end(&mut out);
        let envelopes = read_in(chunk, &out).unwrap();
        let read: Vec<_> = envelopes.into_iter().map(|e| (e.index, e.time, e.command)).collect();
        prop_assert_eq!(read, wanted);
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (head, ends) = export_of(&commands(2));
        drop(read_in(5, &bytes));
        drop(read_in(5, &[&head[..ends[1]], &bytes].concat()));
    }
}

/// Says that a test is skipped, and why: past the test runner, which would keep it to itself.
fn skip(why: &str) {
    use std::io::Write;
    let line = format!("skipped: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
