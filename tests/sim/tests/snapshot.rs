//! Snapshots that are cut, flipped, newer, foreign or not there.

#![expect(clippy::unwrap_used, reason = "a test fails so")]

use bytes::Bytes;
use std::path::{Path, PathBuf};
use synod_core::log::disk::Disk;
use synod_core::log::{Flaw, Position};
use synod_core::snapshot::{self, Chunk, MAX_CHUNK, Meta, Reader, Snapshot, SnapshotError, Writer};
use synod_sim::disk::SimDisk;

const SPACE: [u8; 32] = [5; 32];
const DIR: &str = "snapshots";

fn meta(index: u64) -> Meta {
    let at = Position { term: 3, index: index + 2 };
    Meta { space: SPACE, index, chain: [index as u8; 32], at, members: vec![1, 2, 3].into() }
}

fn chunks() -> Vec<Chunk> {
    let chunk = |section, items: &'static [u8]| Chunk { section, items: Bytes::from_static(items) };
    vec![chunk(0, b"\x01"), chunk(0, b""), chunk(7, &[9; 300]), chunk(1 << 40, b"end")]
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(0);
    disk.create_dir(Path::new(DIR)).unwrap();
    disk
}

fn write(disk: &SimDisk, meta: &Meta) -> PathBuf {
    let mut writer = Writer::create(disk, Path::new(DIR), meta).unwrap();
    for Chunk { section, items } in chunks() {
        writer.chunk(section, &items).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads it both ways, which must say the same.
fn read(disk: &SimDisk, path: &Path) -> Result<(Meta, Vec<Chunk>), SnapshotError> {
    let streamed = Reader::open(disk, path, Some(SPACE)).and_then(|reader| {
        let meta = reader.meta().clone();
        Ok((meta, reader.collect::<Result<Vec<_>, _>>()?))
    });
    let bytes = disk.contents(path).unwrap();
    let mapped = Snapshot::open(bytes.into(), path, Some(SPACE));
    assert_eq!(streamed, mapped.map(|s| (s.meta.clone(), s.chunks().to_vec())));
    streamed
}

#[test]
fn what_was_written_is_read_streamed_and_in_place() {
    let disk = disk();
    let path = write(&disk, &meta(41));
    assert_eq!(path, Path::new("snapshots/00000000000000000041.snapshot"));
    assert_eq!(read(&disk, &path).unwrap(), (meta(41), chunks()));
    let snapshot = Snapshot::open(disk.contents(&path).unwrap().into(), &path, None).unwrap();
    assert_eq!(snapshot.section(0).count(), 2);
    assert_eq!(snapshot.section(7).next().unwrap()[..], [9; 300]);
    assert_eq!(snapshot.section(8).count(), 0);
}

#[test]
fn a_large_one_is_read_in_pieces() {
    let disk = disk();
    let mut writer = Writer::create(&disk, Path::new(DIR), &meta(1)).unwrap();
    for n in 0..200_u32 {
        writer.chunk(n.into(), &vec![n as u8; 30_000 + n as usize]).unwrap();
    }
    writer.chunk(1, &vec![1; MAX_CHUNK]).unwrap();
    let refused = writer.chunk(1, &vec![1; MAX_CHUNK + 1]).unwrap_err();
    assert!(matches!(refused, SnapshotError::TooLong { bound: MAX_CHUNK, .. }), "{refused}");
    let bytes = writer.bytes();
    let path = writer.finish().unwrap();
    assert!(disk.contents(&path).unwrap().len() as u64 > bytes);
    let (_, chunks) = read(&disk, &path).unwrap();
    assert_eq!(chunks.len(), 201);
    assert!(chunks.iter().take(200).zip(0..).all(|(chunk, n)| chunk.section == n
        && chunk.items.len() == 30_000 + n as usize
        && chunk.items.iter().all(|byte| *byte == n as u8)));
}

#[test]
fn every_cut_is_refused() {
    let disk = disk();
    let path = write(&disk, &meta(2));
    let whole = disk.contents(&path).unwrap();
    for len in 0..whole.len() {
        disk.put(&path, &whole[..len]);
        match read(&disk, &path).unwrap_err() {
            SnapshotError::Damaged { file, offset, what } => {
                assert_eq!((file, what), (path.clone(), Flaw::Ends));
                assert!(offset as usize <= len);
            }
            other => unreachable!("{other}"),
        }
    }
}

#[test]
fn every_flipped_byte_and_every_byte_more_is_refused() {
    let disk = disk();
    let path = write(&disk, &meta(2));
    let whole = disk.contents(&path).unwrap();
    for at in 0..whole.len() {
        for mask in [1, 0x80, 0xff] {
            disk.put(&path, &whole);
            disk.flip(&path, at, mask);
            match read(&disk, &path).unwrap_err() {
                SnapshotError::Damaged { file, offset, .. } => {
                    assert_eq!(file, path);
                    assert!(offset as usize <= at, "byte {at}: {offset}");
                }
                other => assert!(matches!(other, SnapshotError::OtherVersion { .. }), "{other}"),
            }
        }
    }
    for more in [&b"\0"[..], &whole] {
        disk.put(&path, &[&whole, more].concat());
        let refused = read(&disk, &path).unwrap_err();
        let SnapshotError::Damaged { offset, .. } = refused else { unreachable!("{refused}") };
        assert_eq!(offset as usize, whole.len());
    }
}

#[test]
fn a_chunk_that_was_swapped_or_left_out_is_refused() {
    let disk = disk();
    let path = write(&disk, &meta(2));
    let whole = disk.contents(&path).unwrap();
    let mut r = synod_core::cbor::Reader::new(&whole);
    let mut items = Vec::new();
    while !r.is_at_end() {
        items.push(r.item().unwrap());
    }
    for left_out in 1..items.len() {
        let mut rest = items.clone();
        rest.remove(left_out);
        disk.put(&path, &rest.concat());
        assert!(matches!(read(&disk, &path).unwrap_err(), SnapshotError::Damaged { .. }));
        if left_out > 1 {
            let mut swapped = items.clone();
            swapped.swap(left_out - 1, left_out);
            disk.put(&path, &swapped.concat());
            assert!(matches!(read(&disk, &path).unwrap_err(), SnapshotError::Damaged { .. }));
        }
    }
    // A snapshot under another name is what it is: its header says so.
    disk.put(&path, &whole);
    assert_eq!(read(&disk, &path).unwrap().0, meta(2));
}

#[test]
fn the_newest_whole_one_is_found_and_why_others_are_not() {
    let disk = disk();
    let dir = Path::new(DIR);
    assert_eq!(snapshot::newest(&disk, dir, SPACE).unwrap(), snapshot::Newest::default());
    let paths: Vec<_> = [3, 20, 100].iter().map(|index| write(&disk, &meta(*index))).collect();
    disk.put(dir.join("notes.txt"), b"not ours");
    assert_eq!(
        snapshot::list(&disk, dir).unwrap(),
        [(100, paths[2].clone()), (20, paths[1].clone()), (3, paths[0].clone())]
    );
    let newest = snapshot::newest(&disk, dir, SPACE).unwrap();
    assert_eq!((newest.whole, newest.passed_over), (Some((paths[2].clone(), meta(100))), vec![]));
    disk.flip(&paths[2], 120, 1);
    disk.put(&paths[1], b"");
    let newest = snapshot::newest(&disk, dir, SPACE).unwrap();
    assert_eq!(newest.whole, Some((paths[0].clone(), meta(3))));
    let files: Vec<_> = newest.passed_over.iter().map(ToString::to_string).collect();
    assert!(files[0].starts_with("snapshots/00000000000000000100.snapshot is damaged at byte"));
    assert!(files[1].contains("00000000000000000020.snapshot is damaged at byte 0: the file ends"));
    disk.flip(&paths[0], 1, 1);
    let newest = snapshot::newest(&disk, dir, SPACE).unwrap();
    assert_eq!((newest.whole, newest.passed_over.len()), (None, 3));
}

#[test]
fn another_version_or_a_foreign_one_is_refused_by_name() {
    let disk = disk();
    let dir = Path::new(DIR);
    let path = write(&disk, &Meta { space: [6; 32], ..meta(9) });
    let refused = snapshot::newest(&disk, dir, SPACE).unwrap_err();
    assert_eq!(refused, SnapshotError::OtherSpace { file: path.clone(), found: [6; 32] });
    assert!(Reader::open(&disk, &path, None).is_ok());
    disk.put(&path, b"\xd9\xd9\xf7\x82\x6esynod-snapshot\x05");
    let refused = snapshot::newest(&disk, dir, SPACE).unwrap_err();
    assert_eq!(refused, SnapshotError::OtherVersion { file: path, version: 5 });
    assert!(refused.to_string().contains("is of format 5, and"), "{refused}");
}

#[test]
fn sweeping_keeps_the_newest_and_clears_what_was_begun() {
    let disk = disk();
    let dir = Path::new(DIR);
    for index in [1, 2, 3, 10] {
        write(&disk, &meta(index));
    }
    drop(Writer::create(&disk, dir, &meta(11)).unwrap());
    disk.put(dir.join("notes.txt"), b"not ours");
    assert_eq!(snapshot::sweep(&disk, dir, 2).unwrap(), 3);
    let left = disk.lose_power().list(dir).unwrap();
    let kept = ["00000000000000000003.snapshot", "00000000000000000010.snapshot", "notes.txt"];
    assert_eq!(left, kept);
    let writer = Writer::create(&disk.copy(), dir, &meta(12)).unwrap();
    writer.abandon().unwrap();
}
