//! The simulated disk keeps its promises, and breaks whatever it did not promise.

use super::*;

const A: &str = "d/a";

fn with_folder(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new("d")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    disk
}

#[test]
fn what_was_synced_survives_any_loss_of_power() {
    for seed in 0..200 {
        let disk = with_folder(seed);
        let file = disk.create(Path::new(A)).unwrap();
        file.write_at(0, &[1; 2000]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        file.write_at(2000, &[2; 2000]).unwrap();
        let survived = disk.lose_power();
        assert_eq!(survived.contents(A).unwrap()[..2000], [1; 2000], "seed {seed}");
        assert!(file.sync_data().is_err(), "the old disk is gone");
    }
}

#[test]
fn what_was_not_synced_is_lost_torn_or_kept() {
    let (mut lost, mut kept, mut cut, mut holes, mut nameless) = (0, 0, 0, 0, 0);
    for seed in 0..500 {
        let disk = with_folder(seed);
        let file = disk.create(Path::new(A)).unwrap();
        file.write_at(0, &[1; 4000]).unwrap();
        let survived = disk.lose_power();
        match survived.contents(A) {
            None => nameless += 1,
            Some(bytes) if bytes.is_empty() => lost += 1,
            Some(bytes) if bytes == [1; 4000] => kept += 1,
            Some(bytes) if bytes.iter().all(|b| *b == 1) => cut += 1,
            Some(_) => holes += 1,
        }
    }
    for (what, count) in [(lost, "lost"), (kept, "kept"), (cut, "cut"), (holes, "holes")] {
        assert!(what > 10, "{count}: {what}");
    }
    assert!(nameless > 50, "{nameless}");
}

#[test]
fn a_rename_is_seen_whole_or_not_at_all() {
    let mut renamed = 0;
    for seed in 0..100 {
        let disk = with_folder(seed);
        disk.put("d/old", b"x");
        disk.rename(Path::new("d/old"), Path::new("d/new")).unwrap();
        let names = disk.lose_power().list(Path::new("d")).unwrap();
        assert!(names == ["old"] || names == ["new"], "seed {seed}: {names:?}");
        renamed += usize::from(names == ["new"]);
    }
    assert!((10..90).contains(&renamed), "{renamed}");
}

#[test]
fn a_killed_process_loses_nothing_and_makes_nothing_safe() {
    let disk = with_folder(3);
    disk.create(Path::new(A)).unwrap().write_at(0, b"hello").unwrap();
    let next = disk.kill();
    assert_eq!(next.contents(A).unwrap(), b"hello");
    let lost = |seed| {
        let disk = with_folder(seed);
        disk.create(Path::new(A)).unwrap().write_at(0, b"hello").unwrap();
        disk.kill().lose_power().contents(A).is_none_or(|bytes| bytes != b"hello")
    };
    assert!((0..100).any(lost));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = with_folder(0);
    let file = disk.create(Path::new(A)).unwrap();
    disk.set_budget(10);
    assert_eq!(file.write_at(0, &[1; 16]).unwrap_err().why, Why::Full);
    assert_eq!((file.len().unwrap(), disk.free_space().unwrap()), (10, 0));
    assert_eq!(disk.create(Path::new("d/b")).unwrap_err().why, Why::Full);
    file.write_at(0, &[2; 10]).unwrap();
    disk.set_budget(16);
    file.write_at(10, &[2; 6]).unwrap();
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let lost = |seed| {
        let disk = with_folder(seed);
        let file = disk.create(Path::new(A)).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        file.write_at(0, b"hello").unwrap();
        disk.fail(disk.operations() + 1, Why::Other("input/output error".to_owned()));
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(disk.contents(A).unwrap(), b"hello");
        disk.lose_power().contents(A).unwrap().is_empty()
    };
    assert!((0..100).any(lost));
}

#[test]
fn the_same_seed_gives_the_same_survivors() {
    let run = |seed| {
        let disk = with_folder(seed);
        let file = disk.create(Path::new(A)).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        file.write_at(0, &[7; 9000]).unwrap();
        disk.lose_power().contents(A)
    };
    assert!((0..20).all(|seed| run(seed) == run(seed)));
}
