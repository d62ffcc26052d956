//! Which voter tells a space's observers where its log has come to, and when.
//!
//! One voter does with each batch: the first that does not lead, of those that are there. The next ones say
//! once a second where they are, so that observers hear of it if that one stands still. The leader says
//! nothing while another voter is there. With nobody to listen, nobody says anything.

use super::head::Place;
use crate::time::Time;
use std::time::Duration;

/// How long at least a herald is silent after it has spoken: what is applied meanwhile is told together.
pub const MIN_GAP: Duration = Duration::from_millis(10);
/// How long a herald is silent at most.
pub const IDLE: Duration = Duration::from_secs(1);

/// What a voter does for observers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    None,
    /// Says once a second where it is.
    Stands,
    /// Tells of every batch.
    Tells,
}

/// What falls to `me`, of these voters: each with whether it is there, as far as `me` knows.
pub fn duty(me: u64, leader: Option<u64>, voters: impl IntoIterator<Item = (u64, bool)>) -> Duty {
    let (mut is_voter, mut first, mut others) = (false, None, false);
    for (id, is_there) in voters {
        is_voter |= id == me;
        if !(is_there || id == me) || leader == Some(id) {
            continue;
        }
        others |= id != me;
        first = Some(first.map_or(id, |first: u64| first.min(id)));
    }
    match (is_voter, leader == Some(me)) {
        (false, _) => Duty::None,
        (true, true) if others => Duty::None,
        (true, true) => Duty::Tells,
        (true, false) if first == Some(me) => Duty::Tells,
        (true, false) => Duty::Stands,
    }
}

/// When a voter speaks next.
#[derive(Clone, Debug, Default)]
pub struct Herald {
    /// When it last spoke, and where the log had come to.
    said: Option<(Time, Place)>,
}

impl Herald {
    /// From when on it is to speak: `index` is that of the last command applied here. None, if never.
    pub fn due(&self, duty: Duty, index: u64) -> Option<Time> {
        let Some((when, place)) = &self.said else {
            return (duty != Duty::None).then_some(Time::ZERO);
        };
        match duty {
            Duty::None => None,
            Duty::Tells if index > place.chain.index => Some(*when + MIN_GAP),
            Duty::Tells | Duty::Stands => Some(*when + IDLE),
        }
    }

    /// The place behind which the entries are of use to who has heard all that was said until now.
    pub fn told(&self) -> Option<&Place> {
        self.said.as_ref().map(|(_, place)| place)
    }

    /// It has spoken.
    pub fn spoke(&mut self, now: Time, place: Place) {
        self.said = Some((now, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Chain;
    use crate::log::Position;

    fn place(index: u64) -> Place {
        let chain = Chain { index, time: 0, hash: [0; 32] };
        Place { at: Position { term: 1, index }, chain }
    }

    #[test]
    fn one_voter_tells_and_not_the_leader_if_another_is_there() {
        let of = |me, leader, there: &[u64]| {
            let voters = [1, 2, 3].map(|id| (id, there.contains(&id)));
            duty(me, leader, voters)
        };
        let all = [1, 2, 3];
        assert_eq!(of(1, Some(1), &all), Duty::None);
        assert_eq!(of(2, Some(1), &all), Duty::Tells);
        assert_eq!(of(3, Some(1), &all), Duty::Stands);
        assert_eq!(of(3, Some(1), &[1]), Duty::Tells, "the second is gone");
        assert_eq!(of(1, Some(1), &[]), Duty::Tells, "nobody else is there");
        assert_eq!(of(2, None, &[1, 3]), Duty::Stands, "nobody leads: the first tells");
        assert_eq!(of(4, Some(1), &all), Duty::None, "it is no voter");
        assert_eq!(duty(1, Some(1), [(1, true)]), Duty::Tells);
    }

    #[test]
    fn batches_are_told_together_and_silence_ends() {
        let mut herald = Herald::default();
        assert_eq!(herald.due(Duty::None, 5), None);
        assert_eq!(herald.due(Duty::Tells, 5), Some(Time::ZERO));
        let now = Time::from_millis(100);
        herald.spoke(now, place(5));
        assert_eq!(herald.told(), Some(&place(5)));
        assert_eq!(herald.due(Duty::Tells, 6), Some(now + MIN_GAP));
        assert_eq!(herald.due(Duty::Tells, 5), Some(now + IDLE));
        assert_eq!(herald.due(Duty::Stands, 6), Some(now + IDLE));
        assert_eq!(herald.due(Duty::None, 6), None);
    }
}
