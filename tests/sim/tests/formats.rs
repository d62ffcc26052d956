//! The bytes on disk, held against files that are kept: another byte needs another version, and what
//! was written once is read for ever. The grammar in `log.cddl` and a writer that knows nothing of the
//! log's code say the same.
//!
//! With a new version, `GOLDEN=write` in the environment writes the files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

#[path = "support/cddl.rs"]
mod cddl;
mod support;

use bytes::Bytes;
use cddl::Grammar;
use std::path::{Path, PathBuf};
use support::{LIMITS, LOG, SPACE, Segment, segment_name};
use synod_core::cbor::Reader;
use synod_core::log::{self, Entry, HardState, Log, Position};
use synod_core::snapshot::{self, Chunk, Meta};
use synod_sim::disk::SimDisk;

const CDDL: &str = include_str!("../../../runtime/core/log.cddl");

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        assert!(!path.exists(), "{name} is kept: a change of format needs a new version");
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn entries() -> Vec<Entry> {
    let entry = |term, index, kind, data: &[u8]| Entry {
        term,
        index,
        kind,
        data: Bytes::copy_from_slice(data),
    };
    vec![
        entry(1 << 33, 300, 0, b""),
        entry(1 << 33, 301, 15, &[0xff; 24]),
        entry((1 << 33) + 1, 302, 1, &[7; 300]),
    ]
}

const AFTER: Position = Position { term: 70_000, index: 299 };
const STATE: HardState = HardState { term: (1 << 33) + 1, vote: u64::MAX, commit: 301 };
const INSTALLED: Position = Position { term: (1 << 33) + 1, index: 900 };

/// Every kind of record, in three batches.
fn segment() -> Vec<u8> {
    let disk = SimDisk::new(0);
    disk.put("space/x", b"");
    let mut log = Log::create(disk.clone(), Path::new(LOG), SPACE, AFTER, LIMITS).unwrap();
    log.append(&entries(), Some(STATE)).unwrap();
    log.sync().unwrap();
    assert!(log.install(INSTALLED).unwrap());
    log.close().unwrap();
    disk.contents(Path::new(LOG).join(segment_name(1))).unwrap()
}

#[test]
fn a_segment_is_the_kept_one_byte_for_byte() {
    let bytes = segment();
    let kept = golden(&format!("segment-v{}.log", log::VERSION), &bytes);
    assert!(bytes == kept, "the format of segments has changed: it needs a new version");

    let disk = SimDisk::new(0);
    disk.put(Path::new(LOG).join(segment_name(1)), &kept);
    let (found, space, _) = log::inspect(&disk, Path::new(LOG), None).unwrap();
    assert_eq!((space, found.last, found.clean), (SPACE, INSTALLED, true));
    assert_eq!(found.hard_state, HardState { commit: 900, ..STATE });

    // Without what was installed the entries are there.
    let third = support::record_ends(&kept, 1)[4];
    disk.put(Path::new(LOG).join(segment_name(1)), &kept[..third]);
    let (found, _, reader) = log::inspect(&disk, Path::new(LOG), Some(SPACE)).unwrap();
    assert_eq!(reader.read(300, 999, usize::MAX).unwrap(), entries());
    assert_eq!((found.hard_state, found.first_index), (STATE, 300));
}

#[test]
fn a_segment_written_by_the_grammar_alone_is_the_same() {
    let mut by_hand = Segment::beginning(AFTER);
    for Entry { term, index, kind, data } in entries() {
        by_hand.entry(kind.into(), term, index, &data);
    }
    by_hand.hard_state(STATE.term, STATE.vote, STATE.commit).sync();
    by_hand.restart(INSTALLED).hard_state(STATE.term, STATE.vote, 900).sync().closed();
    assert_eq!(by_hand.bytes, segment());
}

fn meta() -> Meta {
    let at = Position { term: 7, index: 1 << 40 };
    let members = Bytes::from_static(b"\x83\x01\x02\x03");
    Meta { space: SPACE, index: 123_456, chain: [9; 32], at, members }
}

fn chunks() -> Vec<Chunk> {
    let chunk = |section, items: &'static [u8]| Chunk { section, items: Bytes::from_static(items) };
    vec![chunk(0, b"\x01\x02"), chunk(1, b""), chunk(1000, &[0x20; 300])]
}

fn snapshot() -> Vec<u8> {
    let disk = SimDisk::new(0);
    disk.put("space/x", b"");
    let mut writer = snapshot::Writer::create(&disk, Path::new("space"), &meta()).unwrap();
    for Chunk { section, items } in chunks() {
        writer.chunk(section, &items).unwrap();
    }
    disk.contents(writer.finish().unwrap()).unwrap()
}

#[test]
fn a_snapshot_is_the_kept_one_byte_for_byte() {
    let bytes = snapshot();
    let kept = golden(&format!("snapshot-v{}.snapshot", snapshot::VERSION), &bytes);
    assert!(bytes == kept, "the format of snapshots has changed: it needs a new version");
    let read = snapshot::Snapshot::open(kept.into(), Path::new("kept"), Some(SPACE)).unwrap();
    assert_eq!((&read.meta, read.chunks()), (&meta(), &chunks()[..]));
}

/// Which items match which rules: exactly the named one each.
fn assert_matches(bytes: &[u8], rules: &[&str]) {
    let grammar = Grammar::parse(CDDL);
    let mut r = Reader::new(bytes);
    for rule in rules {
        let at = r.position();
        for other in rules.iter().filter(|other| *other != rule) {
            assert!(!grammar.matches(other, &mut r.clone()), "byte {at} is {other} too");
        }
        assert!(grammar.matches(rule, &mut r), "byte {at} is no {rule}");
    }
    assert!(r.is_at_end());
}

#[test]
fn every_item_is_what_the_grammar_says() {
    let entries = ["entry"; 3];
    let rest = ["hard-state", "restart", "hard-state", "closed"];
    assert_matches(&segment(), &[&["log-header"], &entries[..], &rest].concat());
    let chunks = ["snapshot-chunk"; 3];
    let (first, last) = (["snapshot-header"], ["snapshot-footer"]);
    assert_matches(&snapshot(), &[&first, &chunks[..], &last].concat());
    // The grammar is read and not waved through.
    let grammar = Grammar::parse(CDDL);
    let bytes = segment();
    let mut r = Reader::new(&bytes);
    r.item().unwrap();
    assert!(grammar.matches("log-record", &mut r.clone()));
    assert!(!grammar.matches("log-header", &mut r.clone()));
    assert!(!grammar.matches("checksum", &mut r));
}
