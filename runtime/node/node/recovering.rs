//! What is done where a space is not as it should be: recovered by hand, when most of its voters are lost
//! for good; and its agents' engines made anew, when this node's state of it was wrong.

use super::spaces::JOIN_PATIENCE;
use super::{Inner, Node};
use crate::api::{ErrorBody, Members, recovery_words};
use crate::net::Net;
use crate::space::{OBSERVES, Space, Unserved, error};
use std::sync::Weak;
use synod_core::apply::{Member, Part};

impl Node {
    /// Goes on with a space alone, when most of its voters are lost for good.
    pub async fn recover_space(&self, name: &str, understood: &str) -> Result<Members, ErrorBody> {
        let space = self.shared_space(Some(name))?;
        if space.is_observed() {
            return Err(error("observer", OBSERVES));
        }
        let words = recovery_words(name);
        if understood != words {
            let text = format!(
                "it gives up whatever the other members have and this node has not: to say that this is \
                 understood, say `{words}`"
            );
            return Err(error("understood", text));
        }
        if let Some(generation) = space.gone_on() {
            return Err(Unserved::GoneOn(generation).body());
        }
        let net = self.net().await?;
        self.refuse_recovery(&space, &net).await?;
        space.recover(words).await.map_err(|why| error("refused", why))?;
        net.renew_tokens();
        let mut applied = space.feed().follow();
        let generation = space.generation();
        let is_applied = || space.membership().generation() >= generation;
        let begun = applied.wait_for(|_| is_applied());
        if tokio::time::timeout(JOIN_PATIENCE, begun).await.is_err() {
            return Err(error("unknown", format!("the space {name} was recovered, and is slow")));
        }
        self.members(Some(name)).await
    }

    /// Why a space is not recovered: it need not be, or this node has nothing of it.
    async fn refuse_recovery(&self, space: &Space, net: &Net) -> Result<(), ErrorBody> {
        let (name, membership) = (space.name(), space.membership());
        let me = self.me_in(space, net).and_then(|id| Some((id, membership.members().get(&id)?)));
        match me {
            Some((_, member)) if member.part != Part::Admitted => {}
            _ => {
                let text = format!(
                    "this node has nothing of {name}, or is a member no longer: recover it on a node \
                     that was a voter or a learner"
                );
                return Err(error("refused", text));
            }
        }
        let voters = membership.members().iter().filter(|(_, m)| m.part == Part::Voter);
        let is_there =
            |id: u64, peer: &[u8]| me.is_some_and(|(me, _)| me == id) || net.is_connected(peer);
        let (there, gone): (Vec<_>, Vec<_>) =
            voters.partition(|(id, member)| is_there(**id, &member.peer));
        let names = |of: &[(&u64, &Member)]| {
            of.iter().map(|(_, member)| member.node.as_str()).collect::<Vec<_>>().join(", ")
        };
        let is_quorum = there.len() > gone.len();
        // A leader that was just lost may be taken for one yet; one that answers is there.
        if is_quorum || space.leader().leader.is_some() && space.read_index().await.is_some() {
            let text = format!(
                "a quorum of {name} can be reached ({} of {}: {}), and nothing is lost: it goes on by \
                 itself; `synod space remove` drops members that will not come back",
                there.len(),
                there.len() + gone.len(),
                names(&there)
            );
            return Err(error("quorum", text));
        }
        Ok(())
    }
}

/// Whenever a space's state has been made again, gives its agents new engines: theirs have seen the facts
/// that were wrong.
pub(super) async fn renew_engines(node: Weak<Inner>, space: Space) {
    let mut rebuilds = space.rebuilds();
    let name = space.name().to_owned();
    // It ends with the space's threads.
    drop(space);
    while rebuilds.changed().await.is_ok() {
        let Some(inner) = node.upgrade() else { return };
        let node = Node(inner);
        for agent in node.agents().await.into_iter().filter(|agent| agent.space == name) {
            if let Err(e) = node.restart_agent(&agent.name).await {
                tracing::error!("agent {} has no new engine: {}", agent.name, e.message);
            }
        }
    }
}
