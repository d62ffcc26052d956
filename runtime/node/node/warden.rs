//! What the leader of a space does for agents whose holder has gone: it releases them, so that a node that
//! stands by takes over.
//!
//! A node that is only cut off finds that its epoch is over when it is heard again; nothing that it does
//! meanwhile commits. So being wrong about it costs a takeover and no more.

use super::{Inner, Node};
use crate::space::{Reached, Space};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use synod_core::command::{Command, Mode};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where nobody is missing and the members are the same, it looks at the agents so often only.
const LOOK_ANYWAY: u32 = 10;
/// A node that has been silent for so long has gone.
const SILENT: Duration = Duration::from_millis(1_500);
/// One that is not even connected has gone when it has been silent for so long.
const GONE: Duration = Duration::from_millis(300);

/// Looks after the agents of all spaces that this node leads, for as long as the node is there.
pub(super) async fn watch(node: Weak<Inner>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rests: BTreeMap<[u8; 32], Rest> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let Some(inner) = node.upgrade() else { return };
        let node = Node(Arc::clone(&inner));
        let spaces = node.spaces();
        rests.retain(|id, _| spaces.values().any(|space| space.id() == *id));
        for space in spaces.into_values() {
            if space.leader().role == "leader" && space.membership().members().len() > 1 {
                let rest = rests.entry(space.id()).or_default();
                release(&node, &space, rest).await;
            }
        }
    }
}

/// A space in which there was nothing to release.
#[derive(Default)]
struct Rest {
    /// As of which change of the membership; none if there was something.
    since: Option<u64>,
    /// How often it was passed over since.
    passed: u32,
}

/// Releases what nodes hold that have gone, or are members no longer.
async fn release(node: &Node, space: &Space, rest: &mut Rest) {
    let Some(net) = node.0.net.get() else { return };
    let (membership, reached) = (space.membership(), space.reached());
    let is_there = |id: u64, peer: &[u8]| {
        reached.get(&id).is_none_or(|reached| !is_gone(reached, net.is_connected(peer)))
    };
    let members = membership.members().iter();
    let (there, gone): (Vec<_>, Vec<_>) =
        members.partition(|(id, member)| is_there(**id, &member.peer));
    if gone.is_empty() && rest.since == Some(membership.changed_at()) && rest.passed < LOOK_ANYWAY {
        rest.passed += 1;
        return;
    }
    let there: BTreeSet<String> =
        there.into_iter().map(|(_, member)| member.node.clone()).collect();
    let look = space.look(move |state| {
        let held = state.agents().iter().filter(|(_, agent)| agent.mode == Mode::One);
        let held = held.filter_map(|(name, agent)| {
            let holder = agent.holder.as_ref().filter(|holder| !there.contains(*holder))?;
            Some((name.clone(), (agent.epoch, holder.clone())))
        });
        held.collect::<BTreeMap<_, _>>()
    });
    let held = look.await.unwrap_or_default();
    let since = (gone.is_empty() && held.is_empty()).then(|| membership.changed_at());
    *rest = Rest { since, passed: 0 };
    for (agent, (epoch, holder)) in held {
        tracing::info!("agent {agent}: node {holder} is gone; whoever stands by may take over");
        drop(space.commit(&Command::Release { agent, epoch }).await);
    }
}

fn is_gone(reached: &Reached, is_connected: bool) -> bool {
    reached.silent >= if is_connected { SILENT } else { GONE }
}
