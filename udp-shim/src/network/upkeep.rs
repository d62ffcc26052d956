//! What a tunnel has of this host, kept as it was put in while others change the host: interfaces and routes
//! come and go, and rules are flushed.

use super::follow::Follower;
use super::placed::Placed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is to be looked after.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// The rules are looked at once in so many times, for that takes a command.
const RULES_EVERY: u32 = 5;

/// Looks after a tunnel's part of this host, as long as that is there.
#[derive(Debug)]
pub struct Upkeep {
    followers: Vec<Follower>,
    placed: Arc<Mutex<Option<Placed>>>,
    rounds: Rounds,
}

/// Counts how often it was looked.
#[derive(Debug, Default)]
pub(super) struct Rounds(u32);

impl Upkeep {
    pub(super) fn new(followers: Vec<Follower>, placed: Arc<Mutex<Option<Placed>>>) -> Self {
        Self { followers, placed, rounds: Rounds::default() }
    }

    /// Looks after it; gives what had to be done, or what could not be. It blocks.
    pub fn uphold(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for follower in &mut self.followers {
            let group = follower.group();
            match follower.follow() {
                Ok(true) => {
                    told.push(format!("{group} is joined on the interface of its route now"))
                }
                Ok(false) => {}
                Err(e) => told.push(format!("{group} cannot be joined where its route leads: {e}")),
            }
        }
        if let Some(placed) = &*lock(&self.placed) {
            told.extend(placed.uphold(self.rounds.with_rules()));
        }
        told
    }
}

impl Rounds {
    /// Another round: whether it is one that looks at the rules.
    pub(super) fn with_rules(&mut self) -> bool {
        self.0 = self.0.wrapping_add(1);
        self.0.is_multiple_of(RULES_EVERY)
    }
}

pub(super) fn lock(placed: &Mutex<Option<Placed>>) -> MutexGuard<'_, Option<Placed>> {
    placed.lock().unwrap_or_else(PoisonError::into_inner)
}
