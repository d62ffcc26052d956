//! Gossip, out and in, and the beacons that show whether it arrives.

use super::Node;
use crate::batch;
use crate::conn::lock;
use crate::event::{Event, Inflow, Lane, Payload, Refusal};
use crate::frame::Kind;
use crate::{Error, SubscribeError};
use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, Message, PublishError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Topics of users, and those of the beacons.
const TOPIC: &str = "synod/topic/";
const EAR: &str = "synod/ear/";
/// How long frames wait after every neighbour's queue was full.
const FULL: Duration = Duration::from_millis(5);
/// Frames that are signed and sent before others have their turn.
const TURN: usize = 16;
/// What a message counts for beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;

impl Node {
    pub(super) fn listen_for_beacons(&mut self) -> Result<(), Error> {
        let ear = IdentTopic::new(format!("{EAR}{}", self.id));
        let subscribed = self.swarm.behaviour_mut().gossip.subscribe(&ear);
        subscribed.map(|_| ()).map_err(|error| Error::Gossip(error.to_string()))
    }

    pub(super) fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        // One of them is the topic of our own beacons.
        if gossip.topics().count() >= crate::limits::MAX_TOPICS {
            return Err(SubscribeError::TooMany);
        }
        let subscribed = gossip.subscribe(&IdentTopic::new(format!("{TOPIC}{topic}")));
        subscribed.map(|_| ()).map_err(|_| SubscribeError::TooMany)
    }

    pub(super) fn unsubscribe(&mut self, topic: &str) -> bool {
        let topic = IdentTopic::new(format!("{TOPIC}{topic}"));
        self.swarm.behaviour_mut().gossip.unsubscribe(&topic)
    }

    pub(super) fn send_gossip(&mut self, now: Instant) {
        if self.gossip_after.is_some_and(|after| after > now) {
            return;
        }
        self.gossip_after = None;
        for _ in 0..TURN {
            let Some((topic, frame)) = lock(&self.gossip.batcher).next(now) else {
                return;
            };
            let name = IdentTopic::new(format!("{TOPIC}{topic}"));
            match self.swarm.behaviour_mut().gossip.publish(name, frame.clone()) {
                Ok(_) => self.counters.add(&self.counters.gossip_frames_out, 1),
                Err(PublishError::AllQueuesFull(_)) => {
                    lock(&self.gossip.batcher).put_back(topic, frame);
                    self.gossip_after = Some(now + FULL);
                    return;
                }
                Err(PublishError::NoPeersSubscribedToTopic) => {
                    self.counters.add(&self.counters.gossip_unheard, 1);
                }
                // The bounds are such that this says something is wrong with them.
                Err(error) => tracing::error!("a gossip frame was not sent: {error}"),
            }
        }
    }

    pub(super) fn beacons(&mut self, now: Instant) {
        let round = self.ears.round(now);
        for peer in round.beacons {
            let ear = IdentTopic::new(format!("{EAR}{peer}"));
            // Where it cannot be sent it is not heard, which is what matters.
            if self.swarm.behaviour_mut().gossip.publish(ear, [0]).is_ok() {
                self.counters.add(&self.counters.beacons_out, 1);
                // A connection that has sent no gossip yet does not hear of it by itself.
                self.peers.of(&peer).iter().for_each(|conn| conn.waker.wake());
            }
        }
        for peer in round.deaf {
            self.counters.add(&self.counters.deaf, 1);
            let address = self.peers.get(&peer).map(|conn| conn.address.clone());
            self.refuse(Some(peer), address, Refusal::Deaf);
            self.ears.gone(&peer);
            self.disconnect(peer);
        }
    }

    pub(super) fn gossip_came(&mut self, neighbour: PeerId, message: Message) {
        // Strict validation lets no message in without an author and its signature.
        let Some(from) = message.source else {
            return;
        };
        if let Err(reason) = self.swarm.behaviour().links.gate.admits(&from, Instant::now()) {
            return self.refuse(Some(from), None, reason);
        }
        if let Some(ear) = message.topic.as_str().strip_prefix(EAR) {
            if ear == self.id.to_string() {
                self.beacon_came(from);
            }
            return;
        }
        let Some(topic) = message.topic.as_str().strip_prefix(TOPIC) else {
            return;
        };
        self.counters.add(&self.counters.gossip_frames_in, 1);
        let Some(messages) = batch::split(&message.data) else {
            self.counters.add(&self.counters.gossip_garbage, 1);
            return self.refuse(Some(from), None, Refusal::Garbage);
        };
        let topic: Arc<str> = topic.into();
        let limit = self.limits.gossip_inflow_per_peer;
        let by_neighbour =
            Arc::clone(self.gossip_inflows.entry(neighbour).or_insert_with(|| Inflow::new(limit)));
        for bytes in messages {
            let size = bytes.len() + OVERHEAD;
            let (Some(one), Some(all)) =
                (by_neighbour.try_hold(size), self.gossip_inflow.try_hold(size))
            else {
                self.counters.add(&self.counters.gossip_dropped, 1);
                continue;
            };
            self.counters.add(&self.counters.gossip_in, 1);
            let bytes = Payload::new(bytes.to_vec(), [Some(one), Some(all)]);
            self.deliver.deliver(Event::Gossip { topic: Arc::clone(&topic), from, bytes });
        }
    }

    fn beacon_came(&mut self, from: PeerId) {
        self.counters.add(&self.counters.beacons_in, 1);
        if let (Some(count), Some(conn)) = (self.ears.came(&from), self.peers.get(&from)) {
            // If there is no room now, there is for the answer to the next.
            let _ = conn.send(Lane::Urgent, Kind::Heard, count.to_be_bytes().to_vec());
        }
    }
}
