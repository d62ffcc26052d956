//! A state that is not what most voters have, made right: again from this node's own log, or from what a member sends
//! that has signed the right one.

use super::Mark;
use crate::apply::State;
use crate::command::{Batch, Checkpoint};
use crate::order::Position;

/// The mark of a state as it is.
pub fn mark_of(state: &State) -> Mark {
    Mark { index: state.index(), chain: state.chain(), digest: state.digest() }
}

/// Goes on from a state with the batches behind it; none if it does not come by what the voters agree on, unless it is
/// taken to be right.
pub fn replay<E>(
    mut state: State,
    batches: impl IntoIterator<Item = Result<Batch, E>>,
    checkpoint: &Checkpoint,
    is_right: bool,
) -> Result<Option<State>, E> {
    let wanted = &checkpoint.mark;
    let mut is_right = is_right || mark_of(&state) == *wanted;
    for batch in batches {
        let batch = batch?;
        for command in &batch.commands {
            state.apply(batch.time, command);
            if state.index() == wanted.index {
                is_right = mark_of(&state) == *wanted;
            }
        }
    }
    Ok(is_right.then_some(state))
}

/// What becomes of a state that a member has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is the state from here on: it is ahead of this node's log.
    Taken,
    /// The log goes on from it; whether that has to come by what the voters agree on.
    LeadsOn {
        /// Whether it is newer than that, and cannot be held against it: it is at their next agreement, as any.
        is_newer: bool,
    },
}

impl Sent {
    /// Of a state that stands at `at`, where the log here has been applied up to `through`.
    pub fn judge(state: &State, at: Position, through: Position, checkpoint: &Checkpoint) -> Self {
        let is_newer = state.index() > checkpoint.mark.index;
        match is_newer && at.index >= through.index {
            true => Self::Taken,
            false => Self::LeadsOn { is_newer },
        }
    }
}

/// Who is asked for a state: those who have signed the right one, one after the other.
#[derive(Clone, Debug)]
pub struct Signers {
    members: Vec<u64>,
    asked: usize,
}

impl Signers {
    /// Those of a checkpoint but for this node itself; none if nobody else has signed it.
    pub fn of(checkpoint: &Checkpoint, me: u64) -> Option<Self> {
        let signed = checkpoint.signatures.iter().map(|signature| signature.member);
        let members: Vec<u64> = signed.filter(|member| *member != me).collect();
        (!members.is_empty()).then_some(Self { members, asked: 0 })
    }

    /// All of them.
    pub fn members(&self) -> &[u64] {
        &self.members
    }

    /// Who is asked next.
    pub fn ask(&mut self) -> Option<u64> {
        let member = self.members.get(self.asked % self.members.len().max(1)).copied();
        self.asked += 1;
        member
    }
}

/// What a member does that is asked for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giving {
    /// It sends its newest snapshot.
    Newest,
    /// It takes one first, of this entry at least: it is asked again.
    Later(u64),
    /// Nothing: its own is being made again, or one is on its way already.
    Nothing,
}

impl Giving {
    /// To somebody whose log begins with `first`, where the newest snapshot here is of this entry, if there is one.
    pub fn to(first: u64, newest: Option<u64>, is_busy: bool) -> Self {
        match newest {
            _ if is_busy => Self::Nothing,
            Some(newest) if newest + 1 >= first => Self::Newest,
            _ => Self::Later(first.saturating_sub(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Signature};
    use bytes::Bytes;

    fn batch(n: u8) -> Batch {
        let command = Command::OpenSession { label: format!("{n}"), nonce: [n; 16] }.encode();
        Batch { time: u64::from(n), tags: Vec::new(), commands: vec![command] }
    }

    fn state(upto: u8) -> State {
        let mut state = State::new([1; 32]);
        for n in 1..=upto {
            let Batch { time, commands, .. } = batch(n);
            state.apply(time, &commands[0]);
        }
        state
    }

    fn agreed(mark: Mark) -> Checkpoint {
        let signature = |member| Signature { member, peer: Bytes::new(), bytes: Bytes::new() };
        Checkpoint {
            generation: 0,
            mark,
            signatures: vec![signature(1), signature(2), signature(3)],
        }
    }

    fn led(from: State, upto: u8, checkpoint: &Checkpoint, is_right: bool) -> Option<u64> {
        let behind = from.index() as u8 + 1;
        let batches = (behind..=upto).map(|n| Ok::<_, ()>(batch(n)));
        replay(from, batches, checkpoint, is_right).unwrap().map(|state| state.index())
    }

    #[test]
    fn a_state_is_right_that_comes_by_what_is_agreed_on_and_no_other() {
        let right = agreed(mark_of(&state(3)));
        let wrong = agreed(Mark { digest: [9; 32], ..right.mark });
        for from in 0..=3 {
            assert_eq!(led(state(from), 5, &right, false), Some(5), "from {from}");
            assert_eq!(led(state(from), 5, &wrong, false), None, "from {from}");
        }
        assert_eq!(led(state(2), 5, &wrong, true), None, "it came by it, and was wrong");
        assert_eq!(led(state(4), 5, &right, false), None, "it does not come by it");
        assert_eq!(led(state(4), 5, &right, true), Some(5));
        let failed = replay(state(1), [Err("gone")], &right, true);
        assert_eq!(failed.err(), Some("gone"));
    }

    #[test]
    fn a_state_that_is_sent_is_held_against_what_is_agreed_on_if_it_can_be() {
        let at = |index| Position { index, term: 1 };
        let checkpoint = agreed(mark_of(&state(3)));
        let judge =
            |of, index, through| Sent::judge(&state(of), at(index), at(through), &checkpoint);
        assert_eq!(judge(3, 30, 20), Sent::LeadsOn { is_newer: false });
        assert_eq!(judge(4, 30, 40), Sent::LeadsOn { is_newer: true });
        assert_eq!(judge(4, 40, 40), Sent::Taken);
    }

    #[test]
    fn signers_are_asked_in_turns_and_give_what_leads_on() {
        let checkpoint = agreed(mark_of(&state(1)));
        let mut signers = Signers::of(&checkpoint, 2).unwrap();
        assert_eq!([0; 3].map(|_| signers.ask()), [Some(1), Some(3), Some(1)]);
        let alone = Checkpoint { signatures: checkpoint.signatures[1..2].to_vec(), ..checkpoint };
        assert!(Signers::of(&alone, 2).is_none());
        assert_eq!(Giving::to(8, Some(7), false), Giving::Newest);
        assert_eq!(Giving::to(8, Some(6), false), Giving::Later(7));
        assert_eq!(Giving::to(8, None, false), Giving::Later(7));
        assert_eq!(Giving::to(8, Some(7), true), Giving::Nothing);
    }
}
