//! What this node says to all and hears of them: topics of agents, and the directory.

use super::directory::{self, Agent, Directory, Held, Record};
use super::messages::{self, Message};
use super::{Net, Place, address};
use crate::agents::Agents;
use crate::space::Space;
use crate::tunnels;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use synod_bridge::{Bridge, Multiaddr, PeerId};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long the bridge may take to say where it listens.
const LISTEN_PATIENCE: Duration = Duration::from_millis(100);

impl Net {
    /// Gossips a term to the other nodes.
    pub(crate) fn publish(&self, topic: &str, from: &str, term: &[u8]) -> Result<(), String> {
        messages::check(topic, term)?;
        let Some(bridge) = self.bridge() else { return Ok(()) };
        let (agent, node) = (from.to_owned(), self.node.clone());
        let bytes = Message { agent, node, term: term.to_vec() }.encode();
        bridge.publish(&messages::to_network(topic), &bytes).map_err(|e| e.to_string())
    }

    /// Takes what was gossiped.
    pub(super) fn hear(&self, topic: &str, from: PeerId, bytes: &[u8]) {
        // What a node says itself has reached whoever is here already.
        if from == self.me {
            return;
        }
        if topic == directory::TOPIC {
            return match Record::decode(bytes) {
                Ok(record) => {
                    let (at, now) = (self.started.elapsed(), micros());
                    self.directory().heard(from.to_bytes(), record, at, now);
                }
                Err(e) => self.garbled(from, topic, &e.to_string()),
            };
        }
        if let Some(space) = self.observed.of_topic(topic) {
            return space.heard(from.to_bytes().into(), Bytes::copy_from_slice(bytes));
        }
        if let Some(tunnel) = tunnels::of_network(topic) {
            if let Err(why) = self.tunnels.hear(from, tunnel, bytes) {
                self.garbled(from, topic, &why);
            }
            return;
        }
        let Some(topic) = messages::of_network(topic) else { return };
        match Message::decode(bytes) {
            Ok(Message { agent, node, term }) => self.agents.heard(topic, &agent, &node, &term),
            Err(e) => self.garbled(from, topic, &e.to_string()),
        }
    }

    fn garbled(&self, from: PeerId, topic: &str, why: &str) {
        self.refused_here("gossip");
        tracing::debug!("{from} gossiped under {topic} what cannot be read: {why}");
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node says of itself.
    async fn record(&self, bridge: &Bridge) -> Record {
        let listening = timeout(LISTEN_PATIENCE, bridge.listening()).await.unwrap_or_default();
        let member = |(space, _): &(Space, _)| Held { id: space.id(), observed: None };
        let mut spaces: Vec<Held> = self.routes.all().iter().map(member).collect();
        spaces.extend(self.observed.all().iter().map(|(space, _)| {
            let observed = Some(space.feed().applied());
            Held { id: space.id(), observed }
        }));
        let agent = |(name, space, runs): (String, [u8; 32], bool)| {
            let space = spaces.iter().position(|known| known.id == space);
            Agent { name, space, runs }
        };
        let agents = self.agents.told().into_iter().map(agent).collect();
        let addresses = listening.iter().map(Multiaddr::to_string).collect();
        let tunnels = self.tunnels.told();
        Record { time: micros(), node: self.node.clone(), addresses, spaces, agents, tunnels }
    }

    /// Where a peer says that it listens.
    pub(super) fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        let at = self.started.elapsed();
        let directory = self.directory();
        let Some(heard) = directory.of(&peer.to_bytes(), at) else { return Vec::new() };
        let with_peer = |text: &String| match text.contains("/p2p/") {
            true => address(text),
            false => address(&format!("{text}/p2p/{peer}")),
        };
        heard.record.addresses.iter().filter_map(|text| with_peer(text).ok()).collect()
    }

    /// The nodes that say they have a tunnel of this name.
    pub(crate) fn places_of_tunnel(&self, name: &str) -> Vec<Place> {
        let at = self.started.elapsed();
        let directory = self.directory();
        let has =
            |heard: &directory::Heard| heard.record.tunnels.iter().any(|tunnel| tunnel == name);
        let live = directory.live(at).filter(|(_, heard)| has(heard));
        let place = |(peer, heard): (&[u8], &directory::Heard)| {
            let peer = PeerId::from_bytes(peer).ok()?;
            Some(Place { peer, node: heard.record.node.clone() })
        };
        live.filter_map(place).collect()
    }

    /// The name of a peer's node, if it is known.
    pub(crate) fn node_of(&self, peer: PeerId) -> Option<String> {
        let at = self.started.elapsed();
        self.directory().of(&peer.to_bytes(), at).map(|heard| heard.record.node.clone())
    }
}

/// Gossips what this node is, for as long as it takes part.
pub(super) async fn tell(net: Weak<Net>) {
    let mut ticks = interval(directory::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_subscribed = false;
    loop {
        ticks.tick().await;
        let Some(net) = net.upgrade() else { return };
        let Some(bridge) = net.bridge() else { return };
        if !is_subscribed {
            is_subscribed = bridge.subscribe(directory::TOPIC).await.is_ok();
        }
        let record = net.record(bridge).await.encode();
        if let Err(e) = bridge.publish(directory::TOPIC, &record) {
            tracing::debug!("the directory was not told of this node: {e}");
        }
    }
}

/// Keeps the bridge subscribed to what somebody here subscribes to.
pub(super) async fn follow(net: Weak<Net>, agents: Agents) {
    let changed = agents.topics_changed();
    let mut followed = BTreeSet::new();
    loop {
        let notified = changed.notified();
        let wanted = agents.topics();
        {
            let Some(net) = net.upgrade() else { return };
            let Some(bridge) = net.bridge() else { return };
            for topic in followed.difference(&wanted) {
                bridge.unsubscribe(&messages::to_network(topic)).await;
            }
            let mut now = BTreeSet::new();
            for topic in wanted {
                if followed.contains(&topic) {
                    now.insert(topic);
                    continue;
                }
                match bridge.subscribe(&messages::to_network(&topic)).await {
                    Ok(()) => drop(now.insert(topic)),
                    Err(e) => tracing::warn!("{topic} is heard from this node only: {e}"),
                }
            }
            followed = now;
        }
        notified.await;
    }
}

/// This node's time.
pub(super) fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Both tasks, for as long as the network is there.
pub(super) fn start(net: &Arc<Net>) {
    tokio::spawn(tell(Arc::downgrade(net)));
    tokio::spawn(follow(Arc::downgrade(net), net.agents.clone()));
}
