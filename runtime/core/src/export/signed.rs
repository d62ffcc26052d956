//! How far voters have signed a log: whoever follows its chain finds the checkpoints in it, and holds
//! their signatures against the chain and, if the log is whole, against who voted then.

use crate::apply::{Chain, Outcome, Part, State};
use crate::command::{Checkpoint, Command};
use crate::group::{MARK_EVERY, statement};
use bytes::Bytes;
use std::collections::VecDeque;

/// Places behind the last one that a checkpoint may speak of: it comes soon after what it is of.
const RECENT: usize = 2 * MARK_EVERY as usize;

/// The end of what voters have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEnd {
    /// The last index that they signed the chain of.
    pub index: u64,
    /// The space's generation then.
    pub generation: u64,
    /// By whom.
    pub by: Vec<Signer>,
    /// Whether the log shows that they were most of its voters. One that begins in the middle does not.
    pub are_voters: bool,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Its Raft id.
    pub member: u64,
    /// Its id in the network, which holds the key.
    pub peer: Bytes,
    /// Its node's name, if the log tells.
    pub node: Option<String>,
}

/// Why a checkpoint does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// The chain that was signed is not the log's.
    #[error("the checkpoint at index {0} is of another chain than the log's")]
    Chain(u64),
    /// A signature is not that of whom it names.
    #[error("the checkpoint at index {0} has a signature that is not of whom it names")]
    Signature(u64),
    /// They were not most of the voters.
    #[error("the checkpoint at index {0} is not signed by most of who voted then")]
    Voters(u64),
}

/// Follows a log for its signatures.
#[derive(Clone, Debug)]
pub struct Signed {
    space: [u8; 32],
    /// Who takes part, and nothing else of the state; none if the log begins in the middle.
    members: Option<State>,
    /// The chain at the last indexes, the newest last, and the index of that.
    recent: VecDeque<[u8; 32]>,
    last: u64,
    end: Option<SignedEnd>,
}

impl Signed {
    /// Of the log of a space behind a place.
    pub fn behind(space: [u8; 32], place: &Chain) -> Self {
        let members = (place.index == 0).then(|| State::new(space));
        let recent = [place.hash].into();
        Self { space, members, recent, last: place.index, end: None }
    }

    /// The newest that was found.
    pub fn end(&self) -> Option<&SignedEnd> {
        self.end.as_ref()
    }

    /// Goes on with a command, which leads to `place`. `is_signed` says whether a peer has signed a
    /// message.
    pub fn follow(
        &mut self,
        place: &Chain,
        command: &Bytes,
        is_signed: impl Fn(&[u8], &[u8], &[u8]) -> bool,
    ) -> Result<(), Forged> {
        self.recent.push_back(place.hash);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.last = place.index;
        if let Some(members) = self.members.as_mut().filter(|_| Command::is_of_members(command)) {
            members.apply_followed(place, Command::decode(command).ok());
        }
        if !Checkpoint::is_likely(command) {
            return Ok(());
        }
        let Ok(Command::Checkpoint(checkpoint)) = Command::decode(command) else { return Ok(()) };
        self.checkpoint(place, checkpoint, is_signed)
    }

    fn checkpoint(
        &mut self,
        place: &Chain,
        checkpoint: Checkpoint,
        is_signed: impl Fn(&[u8], &[u8], &[u8]) -> bool,
    ) -> Result<(), Forged> {
        let Checkpoint { generation, mark, signatures } = &checkpoint;
        let statement = statement(&self.space, *generation, mark);
        if !signatures.iter().all(|s| is_signed(&s.peer, &statement, &s.bytes)) {
            return Err(Forged::Signature(place.index));
        }
        // Of what lies before this log, or so far back, nobody says anything here.
        let Some(chain) = self.chain_at(mark.index) else { return Ok(()) };
        if chain != mark.chain {
            return Err(Forged::Chain(place.index));
        }
        let node = |member: u64| {
            let members = self.members.as_ref()?.membership().members();
            members.get(&member).map(|member| member.node.clone())
        };
        let by = signatures.iter().map(|signature| Signer {
            member: signature.member,
            peer: signature.peer.clone(),
            node: node(signature.member),
        });
        let (index, generation, by) = (mark.index, *generation, by.collect());
        let are_voters = match &mut self.members {
            None => false,
            Some(members) => {
                let applied = members.apply_followed(place, Some(Command::Checkpoint(checkpoint)));
                match applied.outcome {
                    Outcome::Committed(_) => true,
                    // It came late, and all that follow the log have passed it over.
                    Outcome::Refused(..) if self.end.as_ref().is_some_and(|e| e.index >= index) => {
                        return Ok(());
                    }
                    Outcome::Refused(..) if has_changed(members, index) => return Ok(()),
                    Outcome::Refused(..) => return Err(Forged::Voters(place.index)),
                }
            }
        };
        if self.end.as_ref().is_none_or(|end| end.index < index) {
            self.end = Some(SignedEnd { index, generation, by, are_voters });
        }
        Ok(())
    }

    fn chain_at(&self, index: u64) -> Option<[u8; 32]> {
        let back = usize::try_from(self.last.checked_sub(index)?).ok()?;
        self.recent.get(self.recent.len().checked_sub(back + 1)?).copied()
    }
}

/// Whether who votes has changed since: then its checkpoint is refused, and nobody is to blame.
fn has_changed(members: &State, index: u64) -> bool {
    let membership = members.membership();
    let voters = membership.members().values().filter(|member| member.part == Part::Voter);
    membership.changed_at() > index || voters.count() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Admit, Configure, IssueTicket, Signature};
    use crate::group::Mark;

    const SPACE: [u8; 32] = [7; 32];

    /// What stands for a signature: nobody else says this.
    fn sign(peer: &[u8], statement: &[u8]) -> Bytes {
        let hash = blake3::hash(&[peer, statement].concat());
        Bytes::copy_from_slice(hash.as_bytes())
    }

    fn is_signed(peer: &[u8], statement: &[u8], signature: &[u8]) -> bool {
        signature == sign(peer, statement)
    }

    fn peer(member: u64) -> Bytes {
        Bytes::from(format!("peer {member}"))
    }

    /// A log, as it grows.
    struct Log {
        chain: Chain,
        places: Vec<(Chain, Bytes)>,
    }

    impl Log {
        /// With three voters and a learner.
        fn new() -> Self {
            let mut log = Self { chain: Chain::of_space(SPACE), places: Vec::new() };
            for member in 1..=4 {
                let (node, ticket) = (format!("n{member}"), (member > 1).then_some([1; 32]));
                let admit = Admit { peer: peer(member), node, nonce: [0; 16], ticket, after: 0 };
                log.push(&Command::Admit(admit));
                let issue = IssueTicket { hash: [1; 32], until: 9, uses: 9 };
                log.push(&Command::IssueTicket(issue));
            }
            let (voters, learners) = ([1, 2, 3].into(), [4].into());
            log.push(&Command::Configure(Configure { voters, learners, ..Default::default() }));
            log
        }

        fn push(&mut self, command: &Command) {
            let bytes = command.encode();
            self.chain.follow(1, &bytes);
            self.places.push((self.chain, bytes));
        }

        fn events(&mut self, count: u64) {
            for nonce in 0..count {
                let nonce = [nonce as u8; 16];
                self.push(&Command::OpenSession { label: String::new(), nonce });
            }
        }

        fn checkpoint(&self, index: u64, by: &[u64]) -> Checkpoint {
            let chain = self.places[index as usize - 1].0.hash;
            let mark = Mark { index, chain, digest: [5; 32] };
            let statement = statement(&SPACE, 0, &mark);
            let signature = |&member: &u64| {
                let bytes = sign(&peer(member), &statement);
                Signature { member, peer: peer(member), bytes }
            };
            Checkpoint { generation: 0, mark, signatures: by.iter().map(signature).collect() }
        }

        fn follow_from(&self, first: usize) -> Result<Option<SignedEnd>, Forged> {
            let before = first.checked_sub(1).map_or(Chain::of_space(SPACE), |n| self.places[n].0);
            let mut signed = Signed::behind(SPACE, &before);
            for (place, command) in &self.places[first..] {
                signed.follow(place, command, is_signed)?;
            }
            Ok(signed.end().cloned())
        }
    }

    #[test]
    fn the_newest_checkpoint_says_how_far_the_log_is_signed_and_by_whom() {
        let mut log = Log::new();
        assert_eq!(log.follow_from(0), Ok(None));
        log.events(5);
        log.push(&Command::Checkpoint(log.checkpoint(12, &[1, 3])));
        log.events(5);
        let end = log.follow_from(0).unwrap().unwrap();
        assert_eq!((end.index, end.generation, end.are_voters), (12, 0, true));
        let named = |end: &SignedEnd| -> Vec<_> { end.by.iter().map(|s| s.node.clone()).collect() };
        assert_eq!(named(&end), [Some("n1".to_owned()), Some("n3".to_owned())]);
        log.push(&Command::Checkpoint(log.checkpoint(14, &[1, 2, 3])));
        assert_eq!(log.follow_from(0).unwrap().unwrap().by.len(), 3);
        // One that begins in the middle knows keys, and not who had a vote.
        let part = log.follow_from(12).unwrap().unwrap();
        assert_eq!((part.index, part.are_voters), (14, false));
        assert_eq!((named(&part)[0].clone(), part.by[0].peer.clone()), (None, peer(1)));
        assert_eq!(log.follow_from(16).unwrap(), None, "of what lies before it");
    }

    #[test]
    fn what_voters_have_not_signed_is_found() {
        let with = |change: &dyn Fn(&Log) -> Checkpoint| {
            let mut log = Log::new();
            log.events(5);
            log.push(&Command::Checkpoint(change(&log)));
            log.follow_from(0)
        };
        let other_chain = with(&|log| {
            let mut mark = log.checkpoint(12, &[1, 3]).mark;
            mark.chain[0] ^= 1;
            let statement = statement(&SPACE, 0, &mark);
            let signature = |member| {
                let bytes = sign(&peer(member), &statement);
                Signature { member, peer: peer(member), bytes }
            };
            Checkpoint { generation: 0, mark, signatures: vec![signature(1), signature(2)] }
        });
        assert_eq!(other_chain, Err(Forged::Chain(15)));
        let not_signed = with(&|log| {
            let mut checkpoint = log.checkpoint(12, &[1, 3]);
            checkpoint.mark.digest[0] ^= 1;
            checkpoint
        });
        assert_eq!(not_signed, Err(Forged::Signature(15)));
        assert_eq!(with(&|log| log.checkpoint(12, &[1])), Err(Forged::Voters(15)));
        assert_eq!(with(&|log| log.checkpoint(12, &[1, 4])), Err(Forged::Voters(15)));
    }

    #[test]
    fn one_that_everybody_passed_over_is_nobodys_fault() {
        let mut log = Log::new();
        log.events(5);
        let late = log.checkpoint(11, &[1, 3]);
        log.push(&Command::Checkpoint(log.checkpoint(12, &[1, 3])));
        log.push(&Command::Checkpoint(late));
        assert_eq!(log.follow_from(0).unwrap().unwrap().index, 12);
        // Who votes changed between the signatures and their place in the log.
        let before = log.checkpoint(14, &[1, 3]);
        let (voters, learners) = ([1, 2].into(), [3, 4].into());
        log.push(&Command::Configure(Configure { voters, learners, ..Default::default() }));
        log.push(&Command::Checkpoint(before));
        assert_eq!(log.follow_from(0).unwrap().unwrap().index, 12);
    }
}
