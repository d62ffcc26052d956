//! Whether to believe a member that says that this log has lost what it gave its word for.
//!
//! Whoever believes it votes no more and joins anew, which is right where a data folder was restored from an old copy,
//! and would let a member that has gone mad take a quorum's votes from it by saying so to all. So nobody is believed
//! against the leader that is known. With none known, as it is for a member that can take nothing from its leader, who
//! says so has to go on with it.

use super::Standing;
use crate::apply::Membership;
use crate::order::{Refusal, Role};
use crate::time::Time;
use std::time::Duration;

/// How long a member has to say so, while no leader is known.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is silent for so long begins anew.
const GAP: Duration = Duration::from_secs(1);

/// Who says that this log is too short, and for how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims(Option<Claim>);

#[derive(Clone, Copy, Debug)]
struct Claim {
    from: u64,
    since: Time,
    last: Time,
}

/// Where a node stands that somebody's message makes doubt its log.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint {
    /// Its Raft id.
    pub me: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Whom it takes for the leader.
    pub leader: Option<u64>,
    /// Whether its log says that it is the only voter.
    pub is_alone: bool,
    /// Whether its log says that the sender is a member.
    pub knows_sender: bool,
}

impl Standpoint {
    /// Of this member, which knows this and has heard of `from`.
    pub fn of(me: u64, raft: &dyn Standing, membership: &Membership, from: u64) -> Self {
        Self {
            me,
            leads: raft.role() == Role::Leader,
            leader: raft.leader(),
            is_alone: raft.members().is_sole_voter(me),
            knows_sender: membership.members().contains_key(&from),
        }
    }
}

impl Claims {
    /// A message was refused that its sender may have sent because this log has lost something. Says what
    /// proves that, if it is to be believed.
    pub fn doubt(
        &mut self,
        now: Time,
        from: u64,
        refusal: &Refusal,
        here: Standpoint,
    ) -> Option<String> {
        let proof = match *refusal {
            Refusal::BeyondLog { theirs, ours } => format!(
                "its log ends at entry {ours} here, and others have this node's word for those up to {theirs}"
            ),
            Refusal::Apart { index } => {
                format!("entry {index} is committed here, and the leader has another in its place")
            }
            Refusal::Misdirected { to } if to > here.me => {
                let me = here.me;
                format!(
                    "it is member {me} here, and others know it as member {to}, which it became later"
                )
            }
            _ => return None,
        };
        // Where the log says that there is nobody else, whoever else has the space's key is the proof that it
        // has lost something.
        let leader = match here.leads {
            true if here.is_alone && !here.knows_sender => None,
            true => return None,
            false => here.leader,
        };
        self.heard(now, from, leader).then_some(proof)
    }

    /// A member says so. Whether it is to be believed, where `leader` is whom this node takes for the leader.
    fn heard(&mut self, now: Time, from: u64, leader: Option<u64>) -> bool {
        if let Some(leader) = leader {
            self.0 = None;
            return leader == from;
        }
        let goes_on = |claim: &Claim| claim.from == from && now.since(claim.last) < GAP;
        let since = self.0.filter(goes_on).map_or(now, |claim| claim.since);
        self.0 = Some(Claim { from, since, last: now });
        now.since(since) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: u64 = 200;

    /// The first time at which who says so every 200 ms is believed, if any is within ten seconds.
    fn believed(from: impl Fn(u64) -> u64, leader: Option<u64>) -> Option<u64> {
        let mut claims = Claims::default();
        let mut times = (0..10_000).step_by(EACH as usize);
        times.find(|&at| claims.heard(Time::from_millis(at), from(at), leader))
    }

    /// What is believed of a message that comes every 200 ms for three seconds.
    fn proof(refusal: &Refusal, here: Standpoint) -> Option<String> {
        let mut claims = Claims::default();
        let mut times = (0..3_000).step_by(EACH as usize).map(Time::from_millis);
        times.find_map(|now| claims.doubt(now, 2, refusal, here))
    }

    #[test]
    fn what_proves_a_loss_does_and_nothing_else() {
        let here =
            Standpoint { me: 3, leads: false, leader: None, is_alone: false, knows_sender: true };
        let beyond = Refusal::BeyondLog { theirs: 9, ours: 4 };
        assert!(proof(&beyond, here).unwrap().contains("up to 9"));
        assert!(proof(&Refusal::Apart { index: 7 }, here).unwrap().contains("entry 7"));
        assert!(proof(&Refusal::Misdirected { to: 4 }, here).unwrap().contains("member 4"));
        for other in [Refusal::Misdirected { to: 2 }, Refusal::Stranger, Refusal::OtherGroup] {
            assert_eq!(proof(&other, here), None, "{other}");
        }
        assert_eq!(proof(&beyond, Standpoint { leader: Some(1), ..here }), None);
        // A leader believes nobody, but for strangers to a log that knows of no others.
        let leads = Standpoint { leads: true, leader: Some(3), ..here };
        assert_eq!(proof(&beyond, leads), None);
        let alone = Standpoint { is_alone: true, ..leads };
        assert_eq!(proof(&beyond, alone), None);
        assert!(proof(&beyond, Standpoint { knows_sender: false, ..alone }).is_some());
        assert_eq!(proof(&beyond, Standpoint { knows_sender: false, ..leads }), None);
    }

    #[test]
    fn the_leader_is_believed_at_once_and_nobody_against_it() {
        assert_eq!(believed(|_| 2, Some(2)), Some(0));
        assert_eq!(believed(|_| 2, Some(3)), None);
        assert_eq!(believed(|_| 2, Some(1)), None, "this node leads");
    }

    #[test]
    fn with_no_leader_one_member_has_to_go_on_with_it() {
        assert_eq!(believed(|_| 2, None), Some(2_000));
        assert_eq!(believed(|at| 2 + at / EACH % 2, None), None, "two members in turns");
        let mut claims = Claims::default();
        for at in (0..20_000).step_by(1_000) {
            assert!(!claims.heard(Time::from_millis(at), 2, None), "it is silent in between");
        }
    }

    #[test]
    fn a_leader_that_turns_up_ends_it() {
        let mut claims = Claims::default();
        for at in (0..1_900).step_by(EACH as usize) {
            assert!(!claims.heard(Time::from_millis(at), 2, None));
        }
        assert!(!claims.heard(Time::from_millis(1_900), 2, Some(3)));
        assert!(!claims.heard(Time::from_millis(2_100), 2, None));
    }
}
