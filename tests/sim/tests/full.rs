//! A disk that is full or failing: nothing half-written stays, the log goes on when there is room, and
//! a failed sync is the end.

#![expect(clippy::unwrap_used, reason = "a test fails so")]

mod support;

use std::path::Path;
use support::{LOG, SPACE, entry, open};
use synod_core::log::disk::{Disk, Why};
use synod_core::log::{
    AppendError, CompactError, Entry, HardState, Limits, Log, MAX_PAYLOAD, Position, SyncError,
};
use synod_core::snapshot::{self, Meta, SnapshotError};
use synod_sim::disk::SimDisk;

const LIMITS: Limits = Limits { segment_bytes: 700, pending_bytes: 1 << 20, ahead_bytes: 64 };

fn create(disk: &SimDisk) -> Log<SimDisk> {
    Log::create(disk.clone(), Path::new(LOG), SPACE, Position::default(), LIMITS).unwrap()
}

fn fresh(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new("space")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    disk
}

/// All that is on the disk, as another process finds it, with and without power in between.
fn found(disk: &SimDisk) -> Vec<Entry> {
    let read = |(log, _): (Log<_>, _)| log.read(1, u64::MAX, usize::MAX).unwrap();
    let killed = open(&disk.copy()).unwrap();
    assert_eq!(killed.1.cut, None, "nothing half-written is left");
    let killed = read(killed);
    // Without power the undoing may be lost too: then there is more of what waits.
    assert!(read(open(&disk.copy().lose_power()).unwrap()).starts_with(&killed));
    killed
}

#[test]
fn whatever_the_room_nothing_half_written_stays() {
    // Over two segments, so that the header, the records and the rolling each find no room.
    for room in 1..1500 {
        let disk = fresh(room);
        let mut log = create(&disk);
        let begun = disk.operations();
        disk.set_budget(support::header_len(&disk.contents(first_file()).unwrap()) as u64 + room);
        let mut synced = 0;
        let full = loop {
            log.append(&[entry(1, synced + 1, 100), entry(1, synced + 2, 3)], None).unwrap();
            match log.sync() {
                Ok(()) => synced += 2,
                Err(e) => break e,
            }
        };
        assert!(matches!(&full, SyncError::Full(e) if e.why == Why::Full), "{room}: {full}");
        assert!(disk.operations() > begun);
        // It is no different a second time, and one may read.
        assert!(matches!(log.sync(), Err(SyncError::Full(_))));
        assert_eq!(log.read(1, 99, usize::MAX).unwrap().len() as u64, synced);
        assert_eq!(found(&disk).len() as u64, synced);

        // One may go on appending, and all of it is written when there is room.
        log.append(&[entry(1, synced + 3, 50)], None).unwrap();
        disk.set_budget(u64::MAX);
        log.sync().unwrap();
        let all: Vec<_> = log.read(1, u64::MAX, usize::MAX).unwrap();
        assert_eq!(all.len() as u64, synced + 3);
        log.append(&[entry(1, synced + 4, 800)], None).unwrap();
        log.sync().unwrap();
        log.append(&[entry(1, synced + 5, 5)], None).unwrap();
        log.sync().unwrap();
        assert_eq!(found(&disk)[..all.len()], all);
    }
}

fn first_file() -> std::path::PathBuf {
    Path::new(LOG).join(support::segment_name(1))
}

#[test]
fn a_full_disk_opens_and_closes() {
    let disk = fresh(0);
    let mut log = create(&disk);
    log.append(&[entry(1, 1, 10)], None).unwrap();
    log.sync().unwrap();
    disk.set_budget(0);
    let (log, _) = open(&disk).unwrap();
    assert_eq!(log.read(1, 2, 99).unwrap().len(), 1);
    assert!(matches!(log.close(), Err(SyncError::Full(_))));
    assert_eq!(found(&disk).len(), 1);
}

#[test]
fn a_failed_sync_is_the_end_and_loses_nothing_safe() {
    let io = || Why::Other("input/output error".to_owned());
    // Each operation of a life over two segments fails once.
    let life = |disk: &SimDisk| {
        let mut log = create(disk);
        let mut synced = 0;
        for n in 1..12 {
            log.append(&[entry(1, n, 90)], None).unwrap();
            if let Err(e) = log.sync() {
                assert!(matches!(&e, SyncError::Failed(_)), "{e}");
                // It is never tried again.
                let operations = disk.operations();
                assert_eq!(log.sync(), Err(e.clone()));
                assert_eq!(log.compact(99), Err(CompactError::Sync(e)));
                assert_eq!(disk.operations(), operations);
                return Some(synced);
            }
            synced = n;
        }
        None
    };
    let disk = fresh(0);
    create(&disk);
    let created = disk.operations();
    for (operation, seed) in (created + 1..).flat_map(|nth| (0..20).map(move |seed| (nth, seed))) {
        for power in [true, false] {
            let disk = fresh(seed);
            disk.fail(operation, io());
            let Some(synced) = life(&disk) else { return };
            let after = if power { disk.lose_power() } else { disk.kill() };
            let (log, _) = open(&after).unwrap();
            let kept = log.read(1, u64::MAX, usize::MAX).unwrap();
            // What is read is safe, even where the kernel took it for written and it was not.
            let (log, _) = open(&after.lose_power()).unwrap();
            assert_eq!(log.read(1, u64::MAX, usize::MAX).unwrap(), kept);
            assert!(kept.len() as u64 >= synced, "{kept:?}");
            assert!(kept.iter().zip(1..).all(|(kept, n)| *kept == entry(1, n, 90)));
        }
    }
}

#[test]
fn a_full_disk_that_cannot_be_undone_is_the_end() {
    let disk = fresh(0);
    let mut log = create(&disk);
    log.append(&[entry(1, 1, 100)], None).unwrap();
    disk.set_budget(100);
    disk.fail(disk.operations() + 2, Why::Other("input/output error".to_owned()));
    let failed = log.sync().unwrap_err();
    assert!(matches!(failed, SyncError::Failed(_)), "{failed}");
    disk.set_budget(u64::MAX);
    assert_eq!(log.sync(), Err(failed));
}

#[test]
fn a_segment_that_cannot_be_removed_stays_part_of_the_log() {
    let disk = fresh(0);
    let mut log = create(&disk);
    for n in 1..30 {
        log.append(&[entry(1, n, 90)], None).unwrap();
        log.sync().unwrap();
    }
    let (before, first) = (log.segments().count(), log.segments().next().unwrap());
    disk.fail(disk.operations() + 1, Why::Permission);
    assert!(matches!(log.compact(25), Err(CompactError::Disk(e)) if e.why == Why::Permission));
    assert_eq!(log.segments().next().unwrap(), first);
    let removed = log.compact(25).unwrap();
    assert!(removed >= 2 && log.segments().count() == before - removed);
    let kept = log.segments().next().unwrap().entries.unwrap();
    assert!(kept.0 <= 26 && kept.1 > 25, "{kept:?}");
    assert_eq!(log.first_index(), kept.0);
    assert_eq!(log.compact(u64::MAX).unwrap(), before - removed - 1, "the last one stays");
    log.append(&[entry(1, 30, 90)], None).unwrap();
    log.sync().unwrap();
}

#[test]
fn what_may_not_follow_is_refused_whole() {
    let disk = fresh(0);
    let mut log = create(&disk);
    let state = |term, commit| Some(HardState { term, vote: 0, commit });
    log.append(&[entry(1, 1, 9), entry(2, 2, 9)], state(2, 1)).unwrap();
    let (last, waiting) = (log.last(), log.pending());
    type Refused = (Vec<Entry>, Option<HardState>, fn(&AppendError) -> bool);
    let refused: [Refused; 10] = [
        (vec![entry(2, 4, 0)], None, |e| matches!(e, AppendError::OutOfOrder { found: 4, .. })),
        (vec![entry(1, 3, 0)], None, |e| matches!(e, AppendError::OutOfOrder { .. })),
        (vec![entry(9, 1, 0)], None, |e| matches!(e, AppendError::OutOfOrder { commit: 1, .. })),
        (vec![entry(2, 3, 0), entry(2, 3, 0)], None, |e| {
            matches!(e, AppendError::OutOfOrder { .. })
        }),
        (vec![entry(2, 3, 0), entry(2, 5, 0)], None, |e| {
            matches!(e, AppendError::OutOfOrder { .. })
        }),
        (vec![entry(2, 3, MAX_PAYLOAD + 1)], None, |e| matches!(e, AppendError::TooLong { .. })),
        (vec![Entry { kind: 16, ..entry(2, 3, 0) }], None, |e| {
            matches!(e, AppendError::Kind { index: 3, kind: 16 })
        }),
        (vec![], state(2, 3), |e| matches!(e, AppendError::State { last: 2, .. })),
        (vec![entry(2, 3, 0)], state(1, 1), |e| matches!(e, AppendError::State { .. })),
        (vec![entry(2, 3, 0)], state(2, 0), |e| matches!(e, AppendError::State { .. })),
    ];
    for (entries, state, expected) in refused {
        let e = log.append(&entries, state).unwrap_err();
        assert!(expected(&e), "{e}");
        assert_eq!((log.last(), log.pending()), (last, waiting), "nothing of it is there");
    }
    // The same hard state is no news.
    log.append(&[], state(2, 1)).unwrap();
    assert_eq!(log.pending(), waiting);
    // The largest payload is one that is read back.
    let largest = entry(2, 3, MAX_PAYLOAD);
    log.sync().unwrap();
    log.append(std::slice::from_ref(&largest), None).unwrap();
    let full = log.append(&[entry(2, 4, 0)], None).unwrap_err();
    assert!(matches!(full, AppendError::PendingFull { room, .. } if room == LIMITS.pending_bytes));
    log.sync().unwrap();
    assert_eq!(found(&disk)[2], largest);
}

#[test]
fn a_snapshot_without_room_leaves_everything_as_it_was() {
    let disk = fresh(0);
    let dir = Path::new("space");
    let meta = |index| Meta {
        space: SPACE,
        index,
        chain: [1; 32],
        at: Position { term: 1, index },
        members: vec![1, 2, 3].into(),
    };
    let write = |disk: &SimDisk, index| {
        let mut writer = snapshot::Writer::create(disk, dir, &meta(index))?;
        for section in 0..4 {
            writer.chunk(section, &[7; 100_000])?;
        }
        writer.finish()
    };
    write(&disk, 1).unwrap();
    let used = disk.contents(Path::new("space/00000000000000000001.snapshot")).unwrap().len();
    for room in [0, 1, 1000, used - 1] {
        disk.set_budget((used + room) as u64);
        let full = write(&disk, 2).unwrap_err();
        assert!(matches!(&full, SnapshotError::Disk(e) if e.why == Why::Full), "{full}");
        let newest = snapshot::newest(&disk, dir, SPACE).unwrap();
        assert_eq!(newest.whole.unwrap().1.index, 1);
        snapshot::sweep(&disk, dir, 2).unwrap();
        assert_eq!(disk.free_space().unwrap(), room as u64, "what was begun is gone");
    }
    disk.set_budget(u64::MAX);
    write(&disk, 2).unwrap();
    assert_eq!(snapshot::newest(&disk, dir, SPACE).unwrap().whole.unwrap().1.index, 2);
}
