//! Who does harm, one thing at a time, and makes it good again.

use super::Field;
use crate::random::Random;
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) struct Nemesis<'a> {
    field: &'a Field,
    random: Random,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(field: &'a Field, seed: u64) -> Self {
        Self { field, random: Random::new(seed) }
    }

    /// Strikes once, for a while; says what it did.
    pub(super) fn strike(&mut self) -> String {
        let count = self.field.members.len();
        let victim = self.random.below(count as u64) as usize;
        let other = (victim + 1 + self.random.below(count as u64 - 1) as usize) % count;
        let field = self.field;
        let what = match self.random.below(11) {
            0 | 1 => {
                field.kill(victim);
                self.last();
                format!("n{victim} was killed")
            }
            2 => {
                field.signal(victim, Signal::STOP);
                self.last();
                field.signal(victim, Signal::CONT);
                format!("n{victim} stood still")
            }
            3 => {
                for n in (0..count).filter(|n| *n != victim) {
                    field.net.cut(victim, n);
                    field.net.cut(n, victim);
                }
                self.last();
                format!("n{victim} was cut off")
            }
            4 => {
                field.net.cut(victim, other);
                self.last();
                format!("nothing went from n{victim} to n{other}")
            }
            5 => {
                // 25 % to 3 % of what it sends.
                let of = 4 << self.random.below(4);
                let lost = (0..count).try_for_each(|n| field.net.lose(n, of));
                self.last();
                match lost {
                    Ok(()) => format!("one packet of {of} was lost"),
                    Err(why) => format!("no packets could be lost: {why}"),
                }
            }
            6 => {
                field.kill(victim);
                let torn = self.tear(victim);
                self.last();
                format!("n{victim} was killed and its log torn: {torn}")
            }
            7 => {
                let filler = field.small_disk().join("filler");
                let filled = fill(&filler);
                self.last();
                let removed = std::fs::remove_file(&filler);
                format!("the disk of n{} was filled: {filled:?}, {removed:?}", count - 1)
            }
            8 | 9 => {
                // Hours ahead or behind, for good: until it is put wrong again.
                let seconds = (1 + self.random.below(30 * 3600)) as i64;
                let seconds = if self.random.below(2) == 0 { seconds } else { -seconds };
                let world = &field.members[victim].world;
                field.clocks.set(world.path(), seconds);
                self.last();
                format!("the clock of n{victim} went wrong by {seconds} s")
            }
            _ => {
                field.kill(victim);
                field.kill(other);
                self.last();
                format!("n{victim} and n{other} were killed")
            }
        };
        field.net.heal();
        (0..count).for_each(|n| field.start(n));
        // Time to recover: what happens without harm is to be seen, too.
        self.last();
        what
    }

    /// Harm lasts for a time that is part of the run, not a condition that could be waited for.
    fn last(&mut self) {
        std::thread::sleep(Duration::from_millis(300 + self.random.below(2_200)));
    }

    /// Leaves what a write that was cut short leaves: bytes that are no record behind the last one.
    fn tear(&mut self, victim: usize) -> String {
        let folder = self.field.members[victim].world.data.join("spaces/chaos/log");
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = files.map(|file| file.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
        logs.sort();
        let Some(last) = logs.last() else { return "there was none".to_owned() };
        let garbage: Vec<u8> =
            (0..1 + self.random.below(200)).map(|_| self.random.next() as u8).collect();
        match tear(last, &garbage) {
            Ok(()) => format!("{} bytes behind {}", garbage.len(), last.display()),
            Err(e) => e.to_string(),
        }
    }
}

/// Writes garbage where the next record is due: zeros were written ahead there. What the last record ends with
/// may be zeros, too: as many as its checksum has bytes.
fn tear(log: &Path, garbage: &[u8]) -> std::io::Result<()> {
    let records = std::fs::read(log)?.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 5);
    std::fs::OpenOptions::new().write(true).open(log)?.write_all_at(garbage, records as u64)
}

/// Writes until nothing more can be written; gives how many MiB that was.
fn fill(path: &Path) -> std::io::Result<usize> {
    let (mut file, chunk) = (std::fs::File::create(path)?, vec![1; 1 << 20]);
    Ok((0..4096).take_while(|_| file.write_all(&chunk).is_ok()).count())
}
