//! What the log says about files that are not what it wrote: each byte cut, each byte flipped, files
//! missing, strange, foreign or newer. It is refused by name, or only what nothing proves to have been
//! safe is cut off, and told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{LIMITS, LOG, SPACE, Segment, entry, open, segment_name};
use synod_core::log::disk::Disk;
use synod_core::log::{
    self, Damage, Entry, Flaw, HardState, Limits, Log, OpenError, Position, Recovered,
};
use synod_sim::disk::SimDisk;

/// A log of three segments. The last one holds three batches of two entries and a hard state; where
/// they end is returned too, the header's end first.
fn three_segments(close: bool) -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::new(0);
    let limits = Limits { segment_bytes: 400, ..LIMITS };
    let mut log =
        Log::create(disk.clone(), Path::new(LOG), SPACE, Position::default(), limits).unwrap();
    let mut ends = Vec::new();
    let mut index = 0;
    while ends.len() < 4 {
        let entries = [entry(1, index + 1, 50), entry(1, index + 2, 50)];
        index += 2;
        let state = HardState { term: 1, vote: 2, commit: index - 1 };
        log.append(&entries, Some(state)).unwrap();
        log.sync().unwrap();
        let segments: Vec<_> = log.segments().collect();
        if segments.len() == 3 {
            let bytes = disk.contents(Path::new(LOG).join(&segments[2].file)).unwrap();
            if ends.is_empty() {
                ends.push(support::header_len(&bytes));
            }
            ends.push(bytes.len());
        }
    }
    if close {
        log.close().unwrap();
    }
    (disk, ends)
}

fn file(number: u64) -> PathBuf {
    Path::new(LOG).join(segment_name(number))
}

fn read(log: &Log<SimDisk>) -> Vec<Entry> {
    log.read(log.first_index(), u64::MAX, usize::MAX).unwrap()
}

/// Opens it and appends to it, as a node that goes on would.
fn goes_on(disk: &SimDisk) -> (Vec<Entry>, Recovered) {
    let (mut log, recovered) = open(disk).unwrap();
    let entries = read(&log);
    let last = log.last();
    log.append(&[entry(last.term, last.index + 1, 9)], None).unwrap();
    log.sync().unwrap();
    drop(log);
    let (log, again) = open(disk).unwrap();
    assert_eq!(again.cut, None, "a cut is made once");
    assert_eq!(read(&log)[..entries.len()], entries);
    assert_eq!(again.last.index, last.index + 1);
    (entries, recovered)
}

#[test]
fn the_last_segment_may_be_cut_anywhere() {
    let (disk, ends) = three_segments(false);
    let whole = disk.contents(file(3)).unwrap();
    let all = read(&open(&disk).unwrap().0);
    let records = support::record_ends(&whole, 3);
    for len in 0..whole.len() {
        let disk = disk.copy();
        disk.put(file(3), &whole[..len]);
        let (entries, recovered) = goes_on(&disk);
        assert_eq!(entries[..], all[..entries.len()], "cut to {len}");
        let boundary = records.contains(&len);
        assert_eq!(recovered.cut.is_none(), boundary, "cut to {len}: {recovered:?}");
        if let Some(cut) = recovered.cut {
            assert_eq!(cut.file, file(3));
            let before = records.iter().rev().find(|end| **end <= len).copied().unwrap_or(0);
            // Zeros at the end are none of it.
            let torn =
                whole[before..len].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            assert_eq!((cut.offset as usize, cut.bytes as usize), (before, torn));
            // Whatever was whole is there.
            let held = records.iter().filter(|end| **end > ends[0] && **end <= len).count();
            let hard_states = ends[1..].iter().filter(|end| **end <= len).count();
            let first = all.len() - 6;
            assert_eq!(entries.len(), first + held - hard_states, "cut to {len}");
        }
    }
}

#[test]
fn zeros_that_were_written_ahead_are_the_end_and_what_tears_there_is_cut() {
    let (disk, _) = three_segments(false);
    let whole = disk.contents(file(3)).unwrap();
    let all = read(&open(&disk).unwrap().0);
    let records = support::record_ends(&whole, 3);
    for len in records[0]..=whole.len() {
        for zeros in [1, 5, 1000] {
            let disk = disk.copy();
            disk.put(file(3), &[&whole[..len], &vec![0; zeros]].concat());
            let (entries, recovered) = goes_on(&disk);
            assert_eq!(entries[..], all[..entries.len()], "torn at {len}");
            let end = records.iter().rev().find(|end| **end <= len).copied().unwrap();
            let torn = whole[end..len].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let cut = recovered.cut.map_or(0, |cut| {
                assert_eq!(cut.offset as usize, end);
                cut.bytes as usize
            });
            assert_eq!(cut, torn, "torn at {len}, {zeros} zeros");
        }
    }
    let disk = disk.copy();
    let second = disk.contents(file(2)).unwrap();
    disk.put(file(2), &[&second[..], &[0; 10]].concat());
    assert!(matches!(open(&disk), Err(OpenError::Damaged(_))), "a segment is records to its end");
}

#[test]
fn a_log_has_zeros_ahead_while_it_is_written_and_none_once_it_is_closed() {
    let limits = Limits { segment_bytes: 400, ahead_bytes: 300, ..LIMITS };
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("space")).unwrap();
    let after = Position::default();
    let mut log = Log::create(disk.clone(), Path::new(LOG), SPACE, after, limits).unwrap();
    let zeros = |number| {
        let bytes = disk.contents(file(number)).unwrap();
        bytes.iter().rev().take_while(|byte| **byte == 0).count()
    };
    let mut lengths = BTreeSet::new();
    for index in 1..=4 {
        log.append(&[entry(1, index, 50)], None).unwrap();
        log.sync().unwrap();
        lengths.insert(disk.contents(file(1)).unwrap().len());
    }
    assert_eq!(lengths.len(), 1, "the file grew once: {lengths:?}");
    assert!(zeros(1) > 0);
    for index in 5..=12 {
        log.append(&[entry(1, index, 50)], None).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(zeros(1), 0, "a segment that has a successor is records to its end");
    let (killed, recovered) = Log::open(disk.copy(), Path::new(LOG), SPACE, limits).unwrap();
    assert_eq!((killed.last().index, recovered.cut), (12, None));
    log.close().unwrap();
    assert_eq!(zeros(2), 0);
}

#[test]
fn no_other_segment_may_be_cut_anywhere() {
    let (disk, _) = three_segments(true);
    let whole = disk.contents(file(2)).unwrap();
    for len in 0..whole.len() {
        let disk = disk.copy();
        disk.put(file(2), &whole[..len]);
        match open(&disk) {
            Err(OpenError::Damaged(damage)) => {
                assert_eq!(damage.file, file(2), "cut to {len}");
                assert!(damage.offset as usize <= len, "cut to {len}: {damage}");
            }
            other => panic!("cut to {len}: {other:?}"),
        }
    }
}

/// What comes of flipping some bits of a byte.
fn flipped(disk: &SimDisk, number: u64, at: usize, mask: u8) -> Result<Recovered, OpenError> {
    let disk = disk.copy();
    disk.flip(file(number), at, mask);
    let before = disk.contents(file(number));
    match open(&disk.copy()) {
        Ok(_) => Ok(goes_on(&disk).1),
        Err(_) => {
            let refused = open(&disk).map(|(_, recovered)| recovered);
            assert_eq!(disk.contents(file(number)), before, "what is refused is not touched");
            refused
        }
    }
}

fn assert_refused(result: Result<Recovered, OpenError>, number: u64, at: usize, starts: &[usize]) {
    let start = starts.iter().rev().find(|start| **start <= at).copied().unwrap_or(0) as u64;
    match result {
        Err(OpenError::Damaged(Damage { file: named, offset, .. })) => {
            assert_eq!((named, offset), (file(number), start), "byte {at}");
        }
        Err(OpenError::OtherVersion { file: named, .. }) => {
            assert_eq!((named, start), (file(number), 0))
        }
        other => panic!("segment {number}, byte {at}: {other:?}"),
    }
}

#[test]
fn every_flipped_byte_of_a_closed_log_is_refused() {
    let (disk, _) = three_segments(true);
    let entries = read(&open(&disk).unwrap().0);
    for number in 1..=3 {
        let bytes = disk.contents(file(number)).unwrap();
        let mut starts = support::record_ends(&bytes, number);
        let end = starts.pop().unwrap();
        let mark = *starts.last().unwrap();
        for at in 0..end {
            for mask in [1, 0x80, 0xff, 0x20] {
                let result = flipped(&disk, number, at, mask);
                if number == 3 && at >= mark {
                    // Nothing can prove the last record but another one; it held no entry.
                    let recovered = result.unwrap();
                    assert_eq!(recovered.cut.unwrap().offset as usize, mark);
                    assert_eq!(recovered.last.index, entries.len() as u64);
                    continue;
                }
                assert_refused(result, number, at, &starts);
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_a_killed_log_is_refused_or_unproven() {
    let (disk, ends) = three_segments(false);
    let bytes = disk.contents(file(3)).unwrap();
    let starts = support::record_ends(&bytes, 3);
    let proven = ends[2];
    for at in 0..bytes.len() {
        for mask in [1, 0x80, 0xff, 0x20] {
            let result = flipped(&disk, 3, at, mask);
            if at < proven {
                assert_refused(result, 3, at, &starts);
            } else {
                let cut = result.unwrap().cut.unwrap();
                let start = starts.iter().rev().find(|start| **start <= at).unwrap();
                assert_eq!(cut.offset as usize, *start, "byte {at}");
            }
        }
    }
}

#[test]
fn damage_names_the_entry_that_is_lost() {
    let (disk, ends) = three_segments(false);
    let first = open(&disk).unwrap().0.segments().nth(2).unwrap().entries.unwrap().0;
    disk.flip(file(3), ends[1] + 20, 4);
    let refused = open(&disk).unwrap_err();
    let what = Flaw::Checksum;
    let damage = Damage { file: file(3), offset: ends[1] as u64, index: first + 2, what };
    assert_eq!(refused, OpenError::Damaged(damage));
    let said = format!(
        "space/log/{} is damaged at byte {}, where entry {} is due: the checksum does not fit",
        segment_name(3),
        ends[1],
        first + 2
    );
    assert_eq!(refused.to_string(), said);
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, _) = three_segments(true);
    disk.remove(&file(2)).unwrap();
    assert_eq!(open(&disk).unwrap_err(), OpenError::Missing(file(2)));
    assert!(open(&disk).unwrap_err().to_string().ends_with("2.log is missing"));
}

#[test]
fn a_segment_under_another_number_is_refused() {
    let (disk, _) = three_segments(true);
    let second = disk.contents(file(2)).unwrap();
    disk.put(file(3), &second);
    let refused = open(&disk).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Damaged(Damage { offset: 0, what: Flaw::OtherSegment(2), file: f, .. }) if *f == file(3)),
        "{refused}"
    );
    // One that is short enough to be taken for the first moment of a segment, too.
    disk.put(file(3), &second[..support::header_len(&second)]);
    assert!(matches!(open(&disk), Err(OpenError::Damaged(Damage { offset: 0, .. }))));
}

#[test]
fn a_segment_that_does_not_follow_the_one_before_is_refused() {
    let (disk, _) = three_segments(true);
    for wrong in 0..2 {
        let disk = disk.copy();
        disk.put(file(4), &Segment::after_but(&disk, 4, |after| after[wrong] += 1).bytes);
        let refused = open(&disk).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Damaged(Damage { file: f, offset: 0, what: Flaw::OutOfOrder { .. }, .. }) if *f == file(4)),
            "{refused}"
        );
    }
}

#[test]
fn a_log_of_another_space_is_refused() {
    let (disk, _) = three_segments(true);
    let refused = Log::open(disk.clone(), Path::new(LOG), [9; 32], LIMITS).unwrap_err();
    let found = OpenError::OtherSpace { file: file(1), found: SPACE, expected: [9; 32] };
    assert_eq!(refused, found);
    assert!(refused.to_string().contains(&"05".repeat(32)), "{refused}");
    // A segment of another space among ours.
    let alien = Segment::new(3, [9; 32]).bytes;
    disk.put(file(3), &alien);
    assert!(matches!(open(&disk), Err(OpenError::OtherSpace { found: [9, ..], .. })));
    assert!(matches!(log::inspect(&disk, Path::new(LOG), None), Err(OpenError::OtherSpace { .. })));
}

#[test]
fn another_version_is_refused_by_name() {
    let (disk, _) = three_segments(true);
    for version in [log::VERSION - 1, log::VERSION + 1] {
        let mut other = b"\xd9\xd9\xf7\x85\x69synod-log".to_vec();
        other.push(u8::try_from(version).unwrap());
        // The rest of it may be anything.
        for rest in [&[][..], &[0xff; 300]] {
            other.extend_from_slice(rest);
            disk.put(file(3), &other);
            let refused = open(&disk).unwrap_err();
            assert_eq!(refused, OpenError::OtherVersion { file: file(3), version });
            let said = refused.to_string();
            assert!(said.contains(&format!("is of format {version}, and")), "{said}");
            assert_eq!(disk.contents(file(3)).unwrap(), other, "it is left alone");
        }
    }
}

#[test]
fn what_is_not_ours_is_left_alone_and_told() {
    let (disk, _) = three_segments(true);
    let others = ["1.log", "00000000000000000000.log", "core", "lost+found", "x.snapshot"];
    others.iter().for_each(|name| disk.put(Path::new(LOG).join(name), b"!"));
    let mut ignored = open(&disk).unwrap().1.ignored;
    ignored.sort_unstable_by_key(|name| others.iter().position(|other| other == name));
    assert_eq!(ignored, others);
    assert!(others.iter().all(|name| disk.contents(Path::new(LOG).join(name)).is_some()));
}

#[test]
fn the_first_moments_of_a_segment_leave_nothing_behind() {
    let (disk, _) = three_segments(true);
    let header = Segment::after(&disk, 4).bytes;
    let last = open(&disk).unwrap().1.last;
    // Created, created and cut short, created and never written, and with its header only.
    for bytes in [&[][..], &header[..20], &vec![0; header.len()], &header] {
        let disk = disk.copy();
        disk.put(file(4), bytes);
        let (entries, recovered) = goes_on(&disk);
        assert_eq!((entries.len() as u64, recovered.last), (last.index, last));
        let torn = bytes != header;
        assert_eq!(recovered.cut.is_some(), torn);
        assert_eq!(disk.contents(file(4)).is_none(), torn, "{:?}", recovered.cut);
    }
    // No crash leaves so much without a header.
    disk.put(file(4), &[0; 200]);
    assert!(matches!(open(&disk), Err(OpenError::Damaged(Damage { offset: 0, .. }))));
    // And none before others.
    let disk = three_segments(true).0;
    disk.put(file(3), &[]);
    disk.put(file(4), &header);
    assert!(matches!(open(&disk), Err(OpenError::Damaged(Damage { offset: 0, .. }))));
}

#[test]
fn a_folder_without_a_log_is_told_from_one_with() {
    let disk = SimDisk::new(0);
    assert_eq!(open(&disk).unwrap_err(), OpenError::Empty(LOG.into()));
    disk.put(file(1), &[]);
    assert_eq!(open(&disk).unwrap_err(), OpenError::Empty(LOG.into()));
    let create =
        || Log::create(disk.clone(), Path::new(LOG), SPACE, Position::default(), LIMITS).map(drop);
    create().unwrap();
    assert_eq!(create().unwrap_err(), OpenError::Exists(LOG.into()));
    assert_eq!(open(&disk).unwrap().1.first_index, 1);
}

#[test]
fn records_that_are_whole_and_wrong_are_refused() {
    type Make = fn(&mut Segment) -> &mut Segment;
    let cases: [(&str, Make); 7] = [
        ("a gap", |s| s.entry(0, 1, 1, b"a").entry(0, 1, 3, b"c")),
        ("a term that goes back", |s| s.entry(0, 2, 1, b"a").entry(0, 1, 2, b"b")),
        ("what is committed superseded", |s| {
            s.entry(0, 1, 1, b"a").hard_state(1, 0, 1).entry(0, 2, 1, b"b")
        }),
        ("more committed than there is", |s| s.entry(0, 1, 1, b"a").hard_state(1, 0, 2)),
        ("a batch that goes back", |s| {
            s.entry(0, 1, 1, b"a").sync().entry(0, 1, 2, b"b").batch(60).entry(0, 1, 3, b"c")
        }),
        ("a kind that does not exist", |s| s.item(&[19, 0])),
        ("a record of another shape", |s| s.item(&[16, 0, 1, 2])),
    ];
    for (name, make) in cases {
        let mut segment = Segment::new(1, SPACE);
        make(&mut segment);
        // A record after it, of a later batch: this is no torn tail.
        segment.sync().closed();
        let disk = SimDisk::new(0);
        disk.put(file(1), &segment.bytes);
        let refused = open(&disk).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged(_)), "{name}: {refused}");
    }
}

#[test]
fn a_payload_made_to_look_like_a_log_is_a_payload() {
    // A whole segment inside an entry, with records that would prove damage if they stood alone.
    let (disk, _) = three_segments(true);
    let inner = disk.contents(file(3)).unwrap();
    let fresh = SimDisk::new(1);
    let mut log =
        Log::create(fresh.clone(), Path::new(LOG), SPACE, Position::default(), LIMITS).unwrap();
    let data = inner.repeat(20).into();
    log.append(&[Entry { term: 1, index: 1, kind: 0, data }], None).unwrap();
    log.sync().unwrap();
    drop(log);
    let whole = fresh.contents(file(1)).unwrap();
    for len in (support::header_len(&whole)..whole.len()).step_by(97) {
        let disk = fresh.copy();
        disk.put(file(1), &whole[..len]);
        assert_eq!(open(&disk).unwrap().1.last.index, 0);
    }
}

#[test]
fn bytes_at_random_are_never_a_log() {
    let mut rng = synod_sim::rng::Rng::new(0);
    for _ in 0..2000 {
        let disk = SimDisk::new(0);
        let len = rng.below(600) as usize;
        let mut bytes = rng.bytes(len);
        // Half of them behind a good header.
        let good = rng.one_in(2);
        if good {
            bytes.splice(0..0, Segment::new(1, SPACE).bytes);
        }
        disk.put(file(1), &bytes);
        match open(&disk) {
            Ok((log, recovered)) => assert!(good && log.last().index == 0, "{recovered:?}"),
            Err(OpenError::Empty(_) | OpenError::Damaged(_)) => assert!(!good),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn the_largest_numbers_are_numbers() {
    let disk = SimDisk::new(0);
    let end = Position { term: u64::MAX, index: u64::MAX };
    let mut segment = Segment::beginning(end);
    segment.entry(0, u64::MAX, u64::MAX, b"").sync().closed();
    disk.put(file(1), &segment.bytes);
    assert!(matches!(open(&disk), Err(OpenError::Damaged(_))));
    let begun = Segment::beginning(end).bytes;
    disk.put(file(1), &begun);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.first_index, recovered.last), (u64::MAX, end));
    assert_eq!(log.read(0, u64::MAX, 9).unwrap_err().to_string().split(':').count(), 2);
    assert!(log.terms(u64::MAX).is_empty());
    assert!(!log.install(end).unwrap());
    assert!(log.append(&[entry(u64::MAX, 1, 1)], None).is_err());
}
