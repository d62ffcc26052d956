//! What Synod's tests hold the real parts against: a disk that loses and tears what was not synced,
//! models too plain to be wrong in the same way, and the seeded randomness that makes every run
//! repeatable. The same seed gives the same run.

pub mod disk;
pub mod linear;
pub mod reference;
pub mod rng;
pub mod terms;

/// The seeds that a test goes through: `count` of them, or the one that `SEED` in the environment
/// names, as a failed run prints it; `SEEDS` asks for another count.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(count),
    }
}

/// Prints the seed of a run that panics, with the command that repeats it.
#[derive(Debug)]
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} fails; set it in the environment to repeat this run alone", self.0);
        }
    }
}
