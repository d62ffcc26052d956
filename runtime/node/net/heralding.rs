//! Telling those that follow a space where its log has come to. Where nobody follows it, nothing is done: it is
//! looked once a second whether somebody does.

use super::Net;
use super::observing::topic;
use crate::space::Space;
use std::sync::{Arc, Weak};
use std::time::Duration;
use synod_core::apply::Part;
use synod_core::group::observer::{MAX_ANNOUNCED, MAX_ANNOUNCED_BYTES, Piece, observers_key};
use synod_core::group::{Duty, Herald, IDLE, Place, duty};
use synod_core::log::Entry;
use synod_core::time::Time;
use tokio::sync::watch;
use tokio::time::timeout;

/// How often it is looked what falls to this node.
const LOOK_EVERY: Duration = IDLE;

/// Tells of a space for as long as this node is its member.
pub(super) fn start(net: &Arc<Net>, space: &Space, key: &[u8; 32]) {
    let telling = Telling {
        topic: topic(&observers_key(key)),
        applied: space.feed().follow(),
        space: space.clone(),
        herald: Herald::default(),
        is_subscribed: false,
    };
    tokio::spawn(tell(Arc::downgrade(net), telling));
}

struct Telling {
    space: Space,
    topic: String,
    applied: watch::Receiver<u64>,
    herald: Herald,
    is_subscribed: bool,
}

async fn tell(net: Weak<Net>, mut telling: Telling) {
    loop {
        let Some(net) = net.upgrade() else { return };
        let is_gone = net.routes.find(&telling.space.id()).is_none();
        let duty = if is_gone { Duty::None } else { net.duty(&telling.space) };
        telling.subscribe(&net, duty).await;
        if is_gone {
            return;
        }
        let index = *telling.applied.borrow_and_update();
        let now = net.now();
        match telling.herald.due(duty, index) {
            None => {
                telling.herald = Herald::default();
                drop(net);
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Some(due) if due <= now => {
                if !telling.speak(&net, duty).await {
                    drop(net);
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            Some(due) => {
                drop(net);
                let pause = due.since(now).min(LOOK_EVERY);
                let is_news = telling.herald.told().is_some_and(|told| index > told.chain.index);
                if duty == Duty::Tells && !is_news {
                    // Or as soon as there is something to tell.
                    drop(timeout(pause, telling.applied.changed()).await);
                } else {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

impl Telling {
    /// Voters that do not lead pass on what others tell.
    async fn subscribe(&mut self, net: &Net, duty: Duty) {
        let is_leader = self.space.leader().role == "leader";
        let wanted = duty != Duty::None && !is_leader;
        let Some(bridge) = net.bridge().filter(|_| wanted != self.is_subscribed) else { return };
        if wanted {
            self.is_subscribed = bridge.subscribe(&self.topic).await.is_ok();
        } else {
            bridge.unsubscribe(&self.topic).await;
            self.is_subscribed = false;
        }
    }

    /// Says where the log is; says whether it could.
    async fn speak(&mut self, net: &Net, duty: Duty) -> bool {
        let Some(place) = self.space.place().await else { return false };
        let told = self.herald.told().copied();
        let mut entries = Vec::new();
        if let (Duty::Tells, Some(told)) = (duty, told) {
            entries = self.entries(&told, &place).await;
        }
        let before = place.at.index - entries.len() as u64;
        let piece = Piece { head: net.head(&self.space, place), before, entries };
        if let Some(bridge) = net.bridge()
            && let Err(e) = bridge.publish(&self.topic, &piece.announcement())
        {
            tracing::debug!("{} was not told of: {e}", self.space.name());
        }
        self.herald.spoke(net.now(), place);
        true
    }

    /// What lies between two places, if it is little.
    async fn entries(&self, told: &Place, place: &Place) -> Vec<Entry> {
        let (after, last) = (told.at.index, place.at.index);
        if last <= after || last - after > MAX_ANNOUNCED as u64 {
            return Vec::new();
        }
        let Some(reader) = self.space.reader().await else { return Vec::new() };
        let read = move || reader.read(after + 1, last + 1, MAX_ANNOUNCED_BYTES);
        let read = tokio::task::spawn_blocking(read).await;
        let entries = read.ok().and_then(Result::ok).unwrap_or_default();
        let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
        let is_all = entries.last().is_some_and(|entry| entry.index == last);
        if is_all && bytes <= MAX_ANNOUNCED_BYTES { entries } else { Vec::new() }
    }
}

impl Net {
    fn now(&self) -> Time {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Time::from_micros(micros)
    }

    /// What falls to this node, if anybody follows the space.
    fn duty(&self, space: &Space) -> Duty {
        if !self.is_observed(&space.id()) || !space.may_sign() {
            return Duty::None;
        }
        let (membership, me) = (space.membership(), self.me.to_bytes());
        let Some((id, _)) = membership.of_peer(&me) else { return Duty::None };
        let voters = membership.members().iter().filter(|(_, member)| member.part == Part::Voter);
        let voters = voters.map(|(&id, member)| (id, self.is_connected(&member.peer)));
        duty(id, space.leader().leader, voters)
    }
}
