//! How a space goes on that has lost most of its voters for good: one of those who are left says in its log that it
//! is the only member from there on, in a generation in which it is listened to by nobody who was one before.

use crate::apply::Membership;
use crate::command::{Batch, Command, Recover};
use crate::order::{Entry, EntryKind, HardState, Position, Role};
use bytes::Bytes;

/// Who goes on alone.
#[derive(Clone, Copy, Debug)]
pub struct Survivor<'a> {
    /// Its Raft id.
    pub me: u64,
    /// Its part.
    pub role: Role,
    /// Whether it has lost a part of its log: see [`Input::Mute`](crate::order::Input::Mute).
    pub is_mute: bool,
    /// Whether others have told it that it is a member no longer, or that the space has gone on.
    pub is_out: bool,
    /// The generation in which it lives.
    pub generation: u64,
    /// The members, as of what it has applied.
    pub membership: &'a Membership,
    /// The end of its log, committed or not.
    pub last: Position,
    /// What Raft has decided until now.
    pub hard_state: HardState,
}

/// What it writes, and by which it is done: the entry, and then the hard state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The space's generation from here on.
    pub generation: u64,
    /// The entry that says so, behind all that there is.
    pub entry: Entry,
    /// Of a term in which nobody was elected but this node, by itself.
    pub hard_state: HardState,
}

/// Why a node does not go on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// It need not.
    #[error("this node leads the space: nothing is lost")]
    Leads,
    /// Others have decided without it.
    #[error("the others go on without this node: recover the space on one that is a member")]
    Out,
    /// It may have lost what others still have.
    #[error(
        "this node has lost a part of its log: recover the space on another; if there is none, remove the file \
         `shortened` from the space's folder and start this node again before"
    )]
    Short,
}

impl Survivor<'_> {
    /// How it goes on: for who has said `words`, at the time `wall`.
    pub fn recovery(&self, words: String, wall: u64) -> Result<Recovery, RecoveryError> {
        if self.role == Role::Leader {
            return Err(RecoveryError::Leads);
        }
        if self.is_out {
            return Err(RecoveryError::Out);
        }
        if self.is_mute {
            return Err(RecoveryError::Short);
        }
        let members = self.membership.members();
        let dropped = members.iter().filter(|(id, _)| **id != self.me);
        let generation = self.generation.max(self.membership.generation()) + 1;
        let recover = Recover {
            generation,
            voter: self.me,
            node: members.get(&self.me).map(|member| member.node.clone()).unwrap_or_default(),
            dropped: dropped.map(|(&id, member)| (id, member.node.clone())).collect(),
            words,
        };
        let commands = vec![Command::Recover(recover).encode()];
        let batch = Batch { time: wall, tags: Vec::new(), commands };
        let term = self.hard_state.term.max(self.last.term) + 1;
        let entry = Entry::recovery(term, self.last.index + 1, self.me, batch.encode());
        let hard_state = HardState { term, vote: self.me, commit: entry.index };
        Ok(Recovery { generation, entry, hard_state })
    }
}

/// The hard state of a log that is opened, `tail` being what it holds behind the commit: the term, the index, the kind
/// and the data of each. Only a member itself writes that it is the only one. If it ended right then, before it wrote
/// what follows from that, it is so.
pub fn resumed(
    me: u64,
    hard_state: HardState,
    tail: impl IntoIterator<Item = (u64, u64, EntryKind, Bytes)>,
) -> HardState {
    let mut resumed = hard_state;
    for (term, index, kind, data) in tail {
        if Entry::recovers(kind, &data) == Some(me) {
            resumed.commit = index;
            if term > hard_state.term {
                (resumed.term, resumed.vote) = (term, me);
            }
        }
    }
    resumed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::State;
    use crate::command::{Admit, IssueTicket};

    fn state() -> State {
        let mut state = State::new([1; 32]);
        for n in 1..=3u8 {
            let (peer, node) = (vec![n].into(), format!("node {n}"));
            let ticket = (n > 1).then_some([5; 32]);
            let admit = Admit { peer, node, nonce: [n; 16], ticket, after: 0 };
            state.apply(0, &Command::Admit(admit).encode());
            let issue = IssueTicket { hash: [5; 32], until: 9, uses: 99 };
            state.apply(0, &Command::IssueTicket(issue).encode());
        }
        state
    }

    fn survivor(state: &State) -> Survivor<'_> {
        Survivor {
            me: 2,
            role: Role::Candidate,
            is_mute: false,
            is_out: false,
            generation: 3,
            membership: state.membership(),
            last: Position { index: 9, term: 4 },
            hard_state: HardState { term: 7, vote: 1, commit: 5 },
        }
    }

    #[test]
    fn the_only_member_is_so_in_a_term_and_a_generation_of_its_own() {
        let mut state = state();
        let made = survivor(&state).recovery("words".to_owned(), 5).unwrap();
        assert_eq!(made.generation, 4);
        assert_eq!((made.entry.index, made.entry.term), (10, 8));
        assert_eq!(made.hard_state, HardState { term: 8, vote: 2, commit: 10 });
        assert_eq!(Entry::recovers(made.entry.kind, &made.entry.data), Some(2));
        let batch = Entry::batch(made.entry.kind, &made.entry.data);
        let batch = Batch::decode(&batch).unwrap();
        let Ok(Command::Recover(recover)) = Command::decode(&batch.commands[0]) else { panic!() };
        let dropped = [(1, "node 1".to_owned()), (3, "node 3".to_owned())].into();
        assert_eq!((recover.node.as_str(), recover.dropped), ("node 2", dropped));
        state.apply(0, &batch.commands[0]);
        assert_eq!(state.membership().generation(), 4);
        // The log may know of a later term than the hard state, and the state of a later generation.
        let last = Position { index: 9, term: 12 };
        let made = Survivor { generation: 0, last, ..survivor(&state) };
        let made = made.recovery(String::new(), 5).unwrap();
        assert_eq!((made.generation, made.entry.term), (5, 13));
    }

    #[test]
    fn who_leads_or_is_out_or_has_lost_something_does_not_go_on_alone() {
        let state = state();
        let leads = Survivor { role: Role::Leader, ..survivor(&state) };
        assert_eq!(leads.recovery(String::new(), 5), Err(RecoveryError::Leads));
        let out = Survivor { is_out: true, ..survivor(&state) };
        assert_eq!(out.recovery(String::new(), 5), Err(RecoveryError::Out));
        let short = Survivor { is_mute: true, ..survivor(&state) };
        assert_eq!(short.recovery(String::new(), 5), Err(RecoveryError::Short));
    }

    #[test]
    fn what_a_member_says_of_itself_is_so_though_it_ended_right_then() {
        let state = state();
        let Recovery { entry, hard_state, .. } =
            survivor(&state).recovery(String::new(), 5).unwrap();
        let before = survivor(&state).hard_state;
        let tail = |entry: &Entry| (entry.term, entry.index, entry.kind, entry.data.clone());
        let other = (7, 9, EntryKind::Normal, Bytes::from_static(b"x"));
        assert_eq!(resumed(2, before, [other.clone(), tail(&entry)]), hard_state);
        assert_eq!(
            resumed(1, before, [other.clone(), tail(&entry)]),
            before,
            "another has said it"
        );
        assert_eq!(resumed(2, before, [other]), before);
        // What it has voted since stays.
        let later = HardState { term: 20, vote: 9, commit: 5 };
        assert_eq!(resumed(2, later, [tail(&entry)]), HardState { commit: 10, ..later });
    }
}
