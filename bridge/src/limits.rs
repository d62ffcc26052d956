//! Every bound of the bridge, by name. `Limits::default()` is what a node runs with.

use std::time::Duration;

/// The bounds that a node may want to set.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections to others, both ways together. Peers of the address book that were asked for by
    /// name get in beyond it.
    pub connections: u32,
    /// Connections with one peer: both may dial at once, and a relayed one may go before a direct.
    pub connections_per_peer: u32,
    /// Inbound connections, established or not, from one address of the network.
    pub connections_per_host: usize,
    /// Inbound connections that have not yet shown who they are, from one address of the network.
    pub pending_per_host: usize,
    /// Inbound connections that have not yet shown who they are.
    pub pending: u32,
    /// New connections are refused while the process holds more memory than this.
    pub memory: Option<usize>,
    /// Bytes that may wait to be sent to one peer on the normal lane.
    pub queue_normal: usize,
    /// Bytes that may wait to be sent to one peer on the urgent lane.
    pub queue_urgent: usize,
    /// Bytes of a lane that may be delivered and not yet let go of: beyond it the lane is not read,
    /// and its sender waits.
    pub inflow_normal: usize,
    /// The same for the urgent lane.
    pub inflow_urgent: usize,
    /// Streams that one peer may have opened here at a time, and as many that we may open there.
    pub streams_per_peer: usize,
    /// Bytes of gossip that may wait to be signed and sent.
    pub gossip_queue: usize,
    /// Bytes of gossip that may be delivered and not yet let go of, over all peers. What comes
    /// beyond it is dropped and counted: gossip is best effort.
    pub gossip_inflow: usize,
    /// The same for what one neighbour passed on, so that a flood drowns its own sender only.
    pub gossip_inflow_per_peer: usize,
    /// The largest message between two gossip routers. It is to be well above [`MAX_GOSSIP`].
    pub gossip_transmit: usize,
    /// How often each gossip neighbour is asked whether it hears us.
    pub beacon_interval: Duration,
    /// How many beacons may go unheard before the connection is closed.
    pub beacons_missed: u32,
    /// How long a peer that broke the protocol stays out.
    pub block: Duration,
    /// The number of connections that are kept up without being asked for.
    pub peers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 4,
            connections_per_host: 256,
            pending_per_host: 32,
            pending: 256,
            memory: None,
            queue_normal: 16 << 20,
            queue_urgent: 1 << 20,
            inflow_normal: 16 << 20,
            inflow_urgent: 1 << 20,
            streams_per_peer: 64,
            gossip_queue: 8 << 20,
            gossip_inflow: 32 << 20,
            gossip_inflow_per_peer: 8 << 20,
            gossip_transmit: 256 << 10,
            beacon_interval: Duration::from_secs(5),
            beacons_missed: 3,
            block: Duration::from_secs(60),
            peers: 8,
        }
    }
}

/// The largest message of the normal lane.
pub const MAX_NORMAL: usize = 6 << 20;
/// The largest message of the urgent lane.
pub const MAX_URGENT: usize = 64 << 10;
/// The largest gossip message: any UDP datagram fits with room for a header.
pub const MAX_GOSSIP: usize = 80 << 10;
/// The longest name of a topic or of a stream, in bytes.
pub const MAX_NAME: usize = 255;
/// Topics that one peer may subscribe to.
pub const MAX_TOPICS: usize = 1024;
/// Commands that may wait for the swarm.
pub(crate) const COMMANDS: usize = 1024;
/// Events other than messages that may wait for their reader before the swarm waits too.
pub(crate) const EVENTS: usize = 4096;
/// Requests to open a stream that may wait for one connection.
pub(crate) const OPENS: usize = 64;
/// Peers whose refusals are remembered, so that each is told of once.
pub(crate) const REFUSED: usize = 1024;
/// How long setting up a connection, a lane or a stream may take.
pub(crate) const SETUP: Duration = Duration::from_secs(10);
