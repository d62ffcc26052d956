//! All that libp2p does for us, put together.

use crate::Error;
use crate::frame::VERSIONS;
use crate::identity::Identity;
use crate::limits::{Limits, MAX_TOPICS};
use crate::links::Links;
use libp2p::gossipsub::{
    self, AllowAllSubscriptionFilter, IdentityTransform, MaxCountSubscriptionFilter,
    MessageAuthenticity,
};
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, autonat, connection_limits, dcutr, identify, kad, mdns,
    memory_connection_limits, ping, relay,
};
use std::time::Duration;

pub(crate) type Gossip = gossipsub::Behaviour<IdentityTransform, Filter>;
type Filter = MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>;

const KAD: StreamProtocol = StreamProtocol::new("/synod/kad/1");
/// How often a connection is asked whether it is alive; the answer also tells the round trip.
const PING: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of the machine's memory over which no more connections are made.
const MEMORY: f64 = 0.9;

// The limits come first: what they refuse reaches none of the others.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) links: Links,
    pub(crate) gossip: Gossip,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay_client: relay::client::Behaviour,
    relay: relay::Behaviour,
    dcutr: dcutr::Behaviour,
    autonat: autonat::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        identity: &Identity,
        links: Links,
        relay_client: relay::client::Behaviour,
        limits: &Limits,
        mdns: bool,
    ) -> Result<Self, Error> {
        let (id, key) = (identity.id(), identity.keypair());
        let connections = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending))
            .with_max_pending_outgoing(Some(limits.pending))
            .with_max_established(Some(limits.connections))
            .with_max_established_per_peer(Some(limits.connections_per_peer));
        let memory = match limits.memory {
            Some(bytes) => memory_connection_limits::Behaviour::with_max_bytes(bytes),
            None => memory_connection_limits::Behaviour::with_max_percentage(MEMORY),
        };
        let mdns = if mdns {
            let started = mdns::tokio::Behaviour::new(mdns::Config::default(), id);
            Some(started.map_err(Error::Mdns)?)
        } else {
            None
        };
        let identify = identify::Config::new(format!("/synod/{}", VERSIONS.end()), key.public())
            .with_agent_version(concat!("synod/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true);
        let ping = ping::Config::new().with_interval(PING).with_timeout(PING_TIMEOUT);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connections),
            memory,
            links,
            gossip: gossip(identity, limits)?,
            kad: kademlia(identity),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: Toggle::from(mdns),
            relay_client,
            relay: relay::Behaviour::new(id, relay::Config::default()),
            dcutr: dcutr::Behaviour::new(id),
            autonat: autonat::Behaviour::new(id, autonat::Config::default()),
        })
    }
}

fn gossip(identity: &Identity, limits: &Limits) -> Result<Gossip, Error> {
    // Message ids are left as they are, author and number: ids of the content would take two equal
    // messages for one. What is published goes to the mesh and not to every subscriber, so that a
    // publisher's work does not grow with their number.
    let config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(limits.gossip_transmit)
        .validation_mode(gossipsub::ValidationMode::Strict)
        .heartbeat_initial_delay(Duration::from_millis(200))
        .flood_publish(false)
        .build()
        .map_err(|error| Error::Gossip(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let signed = MessageAuthenticity::Signed(identity.keypair().clone());
    Gossip::new_with_subscription_filter(signed, config, filter)
        .map_err(|error| Error::Gossip(error.into()))
}

/// Only who is where is asked of it. Nobody can store anything at our place.
fn kademlia(identity: &Identity) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(KAD);
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    let store = MemoryStore::new(identity.id());
    let mut kad = kad::Behaviour::with_config(identity.id(), store, config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}
