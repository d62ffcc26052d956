//! The log against a model, on a disk that loses power after every operation.
//!
//! What must hold after each loss: everything that was synced is there byte for byte, of what was not
//! there is a prefix, nothing else is there, and the log goes on. Snapshots are whole or absent, and
//! the log begins no later than the newest one ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

#[path = "support/model.rs"]
mod model;

use model::{Model, Op};
use std::path::Path;
use synod_core::log::disk::Disk;
use synod_core::log::{Entry, HardState, Limits, Log, OpenError, Position, ReadError, Recovered};
use synod_core::snapshot::{self, Meta, SnapshotError};
use synod_sim::disk::SimDisk;
use synod_sim::rng::Rng;
use synod_sim::{Seed, seeds};

const SPACE: [u8; 32] = [5; 32];
const LOG: &str = "space/log";
const SNAPSHOTS: &str = "space/snapshots";
/// Small enough that a run rolls over several segments.
const LIMITS: Limits = Limits { segment_bytes: 6000, pending_bytes: 1 << 20, ahead_bytes: 200 };
/// How many steps the life takes whose every operation is its last once.
const STEPS: usize = 14;

/// A node's storage through several lives.
struct World {
    rng: Rng,
    disk: SimDisk,
    log: Option<Log<SimDisk>>,
    /// Whether [`Log::create`] has returned.
    created: bool,
    safe: Model,
    /// Appended, not synced.
    waiting: Vec<Op>,
    /// Nothing above this has been compacted.
    compacted: u64,
    /// The last snapshot that was finished, and one that may have been.
    snapshot: Option<Meta>,
    unfinished: Option<Meta>,
    snapshots: u64,
}

/// The power went.
#[derive(Debug)]
struct PowerLost;

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            disk: SimDisk::new(rng.number()),
            rng,
            log: None,
            created: false,
            safe: Model::default(),
            waiting: Vec::new(),
            compacted: 0,
            snapshot: None,
            unfinished: None,
            snapshots: 0,
        }
    }

    /// A life of so many steps, or until the power goes.
    fn live(&mut self, steps: usize) -> Result<(), PowerLost> {
        if self.log.is_none() {
            self.create()?;
        }
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    /// The end of this life: the power goes, or just the process.
    fn end(&mut self, power: bool) {
        self.log = None;
        self.disk = if power { self.disk.lose_power() } else { self.disk.kill() };
    }

    /// The beginning of the next one: what is left is held against the model.
    fn start(&mut self) -> Result<(), PowerLost> {
        match self.open() {
            Err(OpenError::Empty(_)) if !self.created => self.create(),
            opened => opened.map(|_| ()).map_err(|e| lost(&e)),
        }
    }

    fn create(&mut self) -> Result<(), PowerLost> {
        let create = || {
            self.disk.create_dir(Path::new("space"))?;
            self.disk.sync_dir(Path::new(""))?;
            self.disk.create_dir(Path::new(SNAPSHOTS))?;
            self.disk.sync_dir(Path::new("space"))?;
            let after = Position::default();
            Log::create(self.disk.clone(), Path::new(LOG), SPACE, after, LIMITS)
        };
        self.log = Some(create().map_err(|e| lost(&e))?);
        self.created = true;
        Ok(())
    }

    fn step(&mut self) -> Result<(), PowerLost> {
        match self.rng.below(16) {
            0..=6 => self.append(),
            7..=10 => self.sync()?,
            11 => self.compact()?,
            12 => self.take_snapshot()?,
            13 if self.rng.one_in(3) => self.install_snapshot()?,
            14 => {
                self.sync()?;
                self.log.take().unwrap().close().map_err(|e| lost(&e))?;
                let recovered = self.open().map_err(|e| lost(&e))?;
                assert!(recovered.clean && recovered.cut.is_none(), "{recovered:?}");
            }
            _ => self.read(),
        }
        Ok(())
    }

    fn append(&mut self) {
        let model = self.model();
        let (mut last, state) = (model.last(), model.hard_state);
        if self.rng.one_in(6) && last.index > state.commit {
            // Another leader's entries; of an earlier term perhaps, if those above were never safe.
            last.index = state.commit + self.rng.below(last.index - state.commit);
            last.term = last.term.saturating_sub(self.rng.below(2));
        }
        let mut entries = Vec::new();
        for _ in 0..self.rng.below(5) {
            last.term = (last.term + u64::from(self.rng.one_in(8))).max(1);
            last.index += 1;
            let len = match self.rng.below(10) {
                0 => 0,
                1 => self.rng.below(4000),
                _ => self.rng.below(300),
            };
            let data = self.rng.bytes(len as usize).into();
            let kind = self.rng.below(3) as u8;
            entries.push(Entry { term: last.term, index: last.index, kind, data });
        }
        let end = entries.last().map_or(model.last().index, |entry| entry.index);
        let hard_state = self.rng.one_in(2).then(|| HardState {
            term: state.term.max(last.term),
            vote: self.rng.below(4),
            commit: state.commit + self.rng.below(end - state.commit + 1),
        });
        self.log().append(&entries, hard_state).unwrap();
        self.waiting.extend(entries.into_iter().map(Op::Entry));
        self.waiting.extend(hard_state.map(Op::HardState));
    }

    fn sync(&mut self) -> Result<(), PowerLost> {
        self.log().sync().map_err(|e| lost(&e))?;
        self.safe = self.model();
        self.waiting.clear();
        Ok(())
    }

    /// Removes what a snapshot stands for.
    fn compact(&mut self) -> Result<(), PowerLost> {
        let Some(at) = self.snapshot.as_ref().map(|meta| meta.at.index) else { return Ok(()) };
        let upto = self.rng.below(at + 1);
        self.compacted = self.compacted.max(upto);
        self.log().compact(upto).map_err(|e| lost(&e))?;
        // It was a sync too.
        self.sync()?;
        let log = self.log.as_ref().unwrap();
        check_terms(log, &self.safe, log.first_index());
        Ok(())
    }

    fn take_snapshot(&mut self) -> Result<(), PowerLost> {
        let at = self.model().committed();
        self.write_snapshot(at)
    }

    /// Another voter's snapshot takes the place of a log that fell behind.
    fn install_snapshot(&mut self) -> Result<(), PowerLost> {
        let last = self.model().last();
        let at = Position { term: last.term + 1, index: last.index + self.rng.below(5) };
        self.write_snapshot(at)?;
        self.install(at);
        self.sync()
    }

    fn install(&mut self, at: Position) {
        let model = self.model();
        let held = model.entries.iter().any(|e| e.index == at.index && e.term == at.term);
        let before = model.hard_state;
        let restarts = self.log().install(at).unwrap();
        if before.commit >= at.index {
            return assert!(!restarts);
        }
        // What waits is not looked at.
        assert!(restarts != held || restarts && !self.waiting.is_empty());
        let vote = if at.term > before.term { 0 } else { before.vote };
        let state = HardState { term: before.term.max(at.term), vote, commit: at.index };
        self.waiting.extend(restarts.then_some(Op::Restart(at)));
        self.waiting.push(Op::HardState(state));
    }

    fn write_snapshot(&mut self, at: Position) -> Result<(), PowerLost> {
        self.snapshots += 1;
        let index = self.snapshots;
        let members = vec![3; index as usize].into();
        let meta = Meta { space: SPACE, index, chain: [index as u8; 32], at, members };
        self.unfinished = Some(meta.clone());
        let (disk, dir) = (self.disk.clone(), Path::new(SNAPSHOTS));
        let write = || {
            let mut writer = snapshot::Writer::create(&disk, dir, &meta)?;
            for (section, items) in chunks(index) {
                writer.chunk(section, &items)?;
            }
            writer.finish()
        };
        write().map_err(|e| lost(&e))?;
        self.snapshot = Some(meta);
        let keep = 1 + self.rng.below(3) as usize;
        snapshot::sweep(&disk, dir, keep).map_err(|e| lost(&e))?;
        Ok(())
    }

    /// Reads some of what is safe.
    fn read(&mut self) {
        let (log, safe) = (self.log.as_ref().unwrap(), &self.safe);
        if !self.waiting.is_empty() || log.first_index() > log.last().index {
            return;
        }
        let first = log.first_index();
        let from = first + self.rng.below(log.last().index - first + 1);
        let to = from + self.rng.below(9);
        let read = log.read(from, to, 1000).unwrap();
        let at = (from - safe.base.index - 1) as usize;
        assert_eq!(read, safe.entries[at..at + read.len()]);
        assert!(!read.is_empty() || from == to);
        let bytes: usize = read.iter().map(|entry| entry.data.len()).sum();
        assert!(bytes <= 1000 || read.len() == 1, "{bytes}");
    }

    fn open(&mut self) -> Result<Recovered, OpenError> {
        let (log, recovered) = Log::open(self.disk.clone(), Path::new(LOG), SPACE, LIMITS)?;
        self.created = true;
        self.settle(&log, &recovered);
        self.log = Some(log);
        self.check_snapshots(&recovered)?;
        Ok(recovered)
    }

    /// Finds which of the possible states the log is in; it must be one of them.
    fn settle(&mut self, log: &Log<SimDisk>, recovered: &Recovered) {
        let first = recovered.first_index;
        let read = log.read(first, u64::MAX, usize::MAX).unwrap();
        let mut model = self.safe.clone();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        loop {
            let begin = model.base.index + 1;
            let kept = (begin..=begin.max(self.compacted + 1)).contains(&first);
            let skipped = first.saturating_sub(begin) as usize;
            if kept
                && recovered.last == model.last()
                && recovered.hard_state == model.hard_state_found()
                && model.entries.get(skipped..) == Some(&read[..])
            {
                check_terms(log, &model, first);
                break;
            }
            let Some(op) = waiting.next() else {
                panic!("{recovered:?}, {} entries; safe is {:?}", read.len(), self.safe);
            };
            model.apply(&op);
        }
        let found = model.hard_state_found();
        if found != model.hard_state {
            self.waiting.push(Op::HardState(found));
        }
        self.safe = model;
    }

    fn check_snapshots(&mut self, recovered: &Recovered) -> Result<(), OpenError> {
        let newest = match snapshot::newest(&self.disk, Path::new(SNAPSHOTS), SPACE) {
            Err(SnapshotError::Disk(e)) => return Err(e.into()),
            newest => newest.unwrap(),
        };
        assert_eq!(newest.passed_over, [], "what has a snapshot's name is whole");
        let whole = newest.whole.map(|(path, meta)| {
            let chunk = |chunk: snapshot::Chunk| (chunk.section, chunk.items.to_vec());
            let reader = snapshot::Reader::open(&self.disk, &path, Some(SPACE)).unwrap();
            let streamed: Vec<_> = reader.map(|read| chunk(read.unwrap())).collect();
            assert_eq!(streamed, chunks(meta.index));
            let bytes = self.disk.contents(&path).unwrap().into();
            let mapped = snapshot::Snapshot::open(bytes, &path, Some(SPACE)).unwrap();
            assert!(mapped.chunks().iter().cloned().map(chunk).eq(streamed));
            assert!(recovered.first_index <= meta.at.index + 1, "a gap after the snapshot");
            meta
        });
        assert!(whole == self.snapshot || whole == self.unfinished, "{whole:?}");
        self.snapshot = whole;
        self.unfinished = None;
        if let Some(at) = self.snapshot.as_ref().map(|meta| meta.at) {
            self.install(at);
        }
        Ok(())
    }

    /// What was appended, synced or not.
    fn model(&self) -> Model {
        let mut model = self.safe.clone();
        self.waiting.iter().for_each(|op| model.apply(op));
        model
    }

    fn log(&mut self) -> &mut Log<SimDisk> {
        self.log.as_mut().unwrap()
    }
}

/// The state that snapshot `index` holds.
fn chunks(index: u64) -> Vec<(u64, Vec<u8>)> {
    let mut rng = Rng::new(index);
    let mut chunk = |_| (rng.below(3), vec![index as u8; rng.below(3000) as usize]);
    (0..index % 5).map(&mut chunk).collect()
}

/// The log knows the terms of its entries without reading them.
fn check_terms(log: &Log<SimDisk>, model: &Model, first: u64) {
    let at = |index| match index - model.base.index {
        0 => model.base,
        nth => Position { index, term: model.entries[nth as usize - 1].term },
    };
    let before = log.before();
    assert!(before == at(first - 1) || before == at(first), "{before:?}");
    for after in first - 1..=model.last().index {
        let mut expected: Vec<Position> = Vec::new();
        for index in after + 1..=model.last().index {
            if expected.last().is_none_or(|run| run.term != at(index).term) {
                expected.push(at(index));
            }
        }
        assert_eq!(log.terms(after), expected, "after {after}");
    }
}

/// The error that the end of power is; any other is a failure.
fn lost(e: &dyn std::error::Error) -> PowerLost {
    assert!(e.to_string().contains("power is off"), "{e}");
    PowerLost
}

/// A life that ends after so many operations, and more of them, some cut short at their start; the
/// last one ends in order. Says whether the first was cut short.
fn lives(seed: u64, operations: u64) -> bool {
    let mut world = World::new(seed);
    world.disk.crash_after(operations);
    let cut = world.live(STEPS).is_err();
    let mut rng = Rng::new(seed ^ (operations << 32));
    for _ in 0..3 {
        world.end(rng.below(3) > 0);
        if rng.one_in(3) {
            world.disk.crash_after(rng.below(6));
            let _ = world.start();
            world.end(true);
        }
        world.start().unwrap();
        world.disk.crash_after(world.disk.operations() + rng.below(30));
        let _ = world.live(6);
    }
    world.end(true);
    world.start().unwrap();
    world.live(4).unwrap();
    world.sync().unwrap();
    world.log.take().unwrap().close().unwrap();
    assert!(world.open().unwrap().clean);
    cut
}

#[test]
fn power_may_go_after_every_operation() {
    for seed in seeds(250) {
        let _seed = Seed(seed);
        let mut operations = 0;
        while lives(seed, operations) {
            operations += 1;
        }
    }
}

#[test]
fn who_reads_what_is_compacted_meanwhile_is_told_so() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("space")).unwrap();
    let (after, limits) = (Position::default(), Limits { segment_bytes: 100, ..LIMITS });
    let mut log = Log::create(disk, Path::new(LOG), SPACE, after, limits).unwrap();
    for index in 1..=8 {
        let entry = Entry { term: 1, index, kind: 0, data: vec![1; 99].into() };
        log.append(&[entry], Some(HardState { term: 1, vote: 0, commit: index })).unwrap();
        log.sync().unwrap();
    }
    let mut entries = log.reader().entries(1, 9).unwrap();
    assert_eq!(entries.next().unwrap().unwrap().index, 1);
    assert_eq!(log.compact(4).unwrap(), 4);
    let told = entries.next().unwrap().unwrap_err();
    assert_eq!(told, ReadError::Compacted { asked: 2, first: 3 });
    assert_eq!(entries.next(), None, "an error is the last item");
    let mut rest = log.reader().entries(5, 9).unwrap();
    assert_eq!(rest.next().unwrap().unwrap().index, 5);
}

#[test]
fn compacting_many_segments_never_leaves_a_gap() {
    for seed in seeds(200) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new("space")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let (after, limits) = (Position::default(), Limits { segment_bytes: 100, ..LIMITS });
        let mut log = Log::create(disk.clone(), Path::new(LOG), SPACE, after, limits).unwrap();
        for index in 1..=8 {
            let entry = Entry { term: 1, index, kind: 0, data: vec![1; 99].into() };
            log.append(&[entry], Some(HardState { term: 1, vote: 0, commit: index })).unwrap();
            log.sync().unwrap();
        }
        assert_eq!(log.segments().count(), 8);
        disk.crash_after(disk.operations() + 1 + seed % 14);
        let compacted = log.compact(7).map_err(|e| lost(&e));
        assert_eq!(compacted.is_err(), seed % 14 < 13, "{compacted:?}");
        let (log, recovered) = Log::open(disk.lose_power(), Path::new(LOG), SPACE, LIMITS).unwrap();
        assert!(compacted.is_err() || recovered.first_index == 8);
        let kept = log.read(recovered.first_index, 99, usize::MAX).unwrap();
        assert_eq!(kept.last().map(|entry| entry.index), Some(8));
    }
}

#[test]
fn a_log_that_rolls_can_be_cut_where_it_did_a_few_segments_at_a_time() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("space")).unwrap();
    let mut log =
        Log::create(disk.clone(), Path::new(LOG), SPACE, Position::default(), LIMITS).unwrap();
    log.roll();
    for index in 1..=6 {
        let entry = Entry { term: 1, index, kind: 0, data: vec![1; 9].into() };
        log.append(&[entry], Some(HardState { term: 1, vote: 0, commit: index })).unwrap();
        log.sync().unwrap();
        if index % 2 == 0 {
            log.roll();
            log.roll();
        }
    }
    let entries: Vec<_> = log.segments().map(|segment| segment.entries).collect();
    assert_eq!(entries, [Some((1, 2)), Some((3, 4)), Some((5, 6))], "none is empty");
    let sizes: Vec<u64> = log.segments().map(|segment| segment.bytes).collect();
    assert_eq!(log.bytes_behind(0), sizes.iter().sum::<u64>());
    assert_eq!(log.bytes_behind(3), sizes[1] + sizes[2], "whole segments");
    assert_eq!(log.bytes_behind(4), sizes[2]);
    assert_eq!(log.compact_some(4, 1).unwrap(), 1);
    assert_eq!((log.first_index(), log.bytes_behind(0)), (3, sizes[1] + sizes[2]));
    assert_eq!(log.compact_some(4, 9).unwrap(), 1);
    assert_eq!(log.compact_some(9, 9).unwrap(), 0, "the last one stays");
    let entry = Entry { term: 1, index: 7, kind: 0, data: vec![1; 9].into() };
    log.append(&[entry], None).unwrap();
    log.sync().unwrap();
    let (log, recovered) = Log::open(disk.lose_power(), Path::new(LOG), SPACE, LIMITS).unwrap();
    assert_eq!((recovered.first_index, log.last().index), (5, 7));
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let life = |seed| {
        let mut world = World::new(seed);
        world.disk.crash_after(40);
        let _ = world.live(STEPS);
        let trace = world.disk.trace();
        world.end(true);
        world.start().unwrap();
        (trace, world.safe)
    };
    for seed in 0..20 {
        assert!(life(seed) == life(seed), "SEED={seed}");
    }
}
