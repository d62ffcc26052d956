//! The node among others: peers, gossip, and whether it can be relied on.

use super::{LOCAL, Node};
use crate::api::{
    ConnectionInfo, ErrorBody, GoalEvent, GoalRequest, KnownPeer, MeInfo, NetInfo, NodeRecord,
    PeerStats, Ready, SpaceInfo, TopicMessage,
};
use crate::space::{Reading, Space};
use synod_core::apply::Part;
use tokio::sync::mpsc;

impl Node {
    /// Who this node is in the network. It takes part from here on.
    pub async fn peer_id(&self) -> Result<MeInfo, ErrorBody> {
        Ok(self.net().await?.me_info().await)
    }

    /// The address book; empty as long as the node takes no part in the network.
    pub async fn known_peers(&self) -> Vec<KnownPeer> {
        match self.0.net.get() {
            Some(net) => net.known().await,
            None => Vec::new(),
        }
    }

    /// The connections that there are.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.0.net.get().map(|net| net.connections()).unwrap_or_default()
    }

    /// What the bridge has counted.
    pub fn peer_stats(&self) -> PeerStats {
        self.0.net.get().map(|net| net.stats()).unwrap_or_default()
    }

    /// What other nodes say of themselves.
    pub fn directory(&self) -> Vec<NodeRecord> {
        self.0.net.get().map(|net| net.records()).unwrap_or_default()
    }

    /// Connects with whoever is at an address; gives the peer's id.
    pub async fn connect_peer(&self, address: &str) -> Result<String, ErrorBody> {
        self.net().await?.connect(address).await
    }

    /// Ends the connections with a peer.
    pub async fn disconnect_peer(&self, peer: &str) -> Result<String, ErrorBody> {
        self.net().await?.disconnect(peer).await
    }

    /// Keeps up a connection with whoever is at an address.
    pub async fn add_peer(&self, address: &str) -> Result<Option<String>, ErrorBody> {
        self.net().await?.add(address).await
    }

    /// Forgets a peer or an address.
    pub async fn forget_peer(&self, what: &str) -> Result<Option<String>, ErrorBody> {
        self.net().await?.forget(what).await
    }

    /// Gossips a term.
    pub fn publish(&self, topic: &str, from: &str, term: &[u8]) -> Result<(), ErrorBody> {
        self.0.agents.publish(topic, from, term)
    }

    /// The messages of a topic, as they come.
    pub fn listen(&self, topic: &str) -> Result<mpsc::Receiver<TopicMessage>, ErrorBody> {
        self.0.agents.listen(topic)
    }

    /// Solves a goal where the agent runs.
    pub async fn call(&self, goal: GoalRequest) -> Result<mpsc::Receiver<GoalEvent>, ErrorBody> {
        self.0.agents.call(goal).await
    }

    /// Whether this node can be relied on: each space has a leader, and this node has applied all that was
    /// acknowledged before the question.
    pub async fn ready(&self) -> Ready {
        let spaces = self.spaces();
        let asked = spaces.values().map(async |space: &Space| {
            let name = space.name();
            if let Err(why) = space.serves_reads(Reading::Newest) {
                return Some(format!("the space {name}: {why}"));
            }
            if let Some(follows) = space.follows() {
                let is_there = space.read_index().await.is_some();
                let why = "no voter has said how far the space is".to_owned();
                let why = follows.trouble.or_else(|| (!is_there).then_some(why));
                return why.map(|why| format!("the space {name}: {why}"));
            }
            if space.leader().leader.is_none() {
                return Some(format!("the space {name} has no leader that this node knows"));
            }
            let caught_up = space.read_index().await.is_some();
            (!caught_up).then(|| format!("this node has not caught up with the space {name}"))
        });
        let why = futures_util::future::join_all(asked).await.into_iter().flatten();
        let closed = self.closed_infos().into_iter();
        let closed = closed
            .filter_map(|space| Some(format!("the space {}: {}", space.name, space.read_only?)));
        let why: Vec<String> = why.chain(closed).collect();
        Ready { ready: why.is_empty(), why }
    }

    pub(super) fn net_info(&self) -> Option<NetInfo> {
        self.0.net.get().map(|net| net.info())
    }

    /// What `status` shows of a space, with who leads it and how many voters are reachable.
    pub(super) fn with_members(&self, space: &Space, info: SpaceInfo) -> SpaceInfo {
        if space.name() == LOCAL {
            return info;
        }
        let (membership, leader) = (space.membership(), space.leader().leader);
        let Some(net) = self.0.net.get() else { return info };
        let me = net.me().to_bytes();
        let voters: Vec<_> =
            membership.members().values().filter(|member| member.part == Part::Voter).collect();
        let is_there = |peer: &[u8]| peer == me || net.is_connected(peer);
        let reachable = voters.iter().filter(|member| is_there(&member.peer)).count();
        let leader = leader.and_then(|id| membership.members().get(&id)).map(|m| m.node.clone());
        SpaceInfo {
            leader,
            voters: voters.len() as u64,
            voters_reachable: reachable as u64,
            ..info
        }
    }
}
