//! Several nodes on this machine that share a space.

use super::node::{BenchNode, Folder};
use crate::cli::Failure;
use std::time::{Duration, Instant};
use synod::api::{ConnectionInfo, CreateSpace, JoinSpace, Members, TicketInfo};
use tokio::time::sleep;

/// The space that is measured.
pub(super) const SPACE: &str = "bench";
/// Nodes, at most: as many as a space may have voters.
const MAX_NODES: usize = 7;
/// How long the nodes have to become voters, and to elect a leader anew.
const READY: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// The nodes, and their space.
pub(super) struct Several {
    /// By place; none while it is dead.
    pub(super) nodes: Vec<Option<BenchNode>>,
}

impl Several {
    pub(super) async fn start(folder: &Folder, count: usize) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        let count = count.clamp(1, MAX_NODES);
        for n in 0..count {
            nodes.push(Some(BenchNode::start_in(folder, n, true)?));
        }
        let cluster = Self { nodes };
        let first = &cluster.node(0)?.client;
        let create = CreateSpace { name: SPACE.to_owned() };
        let _: Members = first.post("/v1/spaces", &create).await?;
        let path = format!("/v1/spaces/tickets?space={SPACE}");
        let ticket: TicketInfo = first.post(&path, &serde_json::json!({})).await?;
        for n in 1..count {
            let join = JoinSpace { ticket: ticket.ticket.clone(), name: None, observe: false };
            let _: Members = cluster.node(n)?.client.post("/v1/spaces/join", &join).await?;
        }
        cluster.all_agree().await?;
        Ok(cluster)
    }

    pub(super) fn node(&self, place: usize) -> Result<&BenchNode, Failure> {
        let node = self.nodes.get(place).and_then(Option::as_ref);
        node.ok_or_else(|| Failure::error("a node of the bench is dead"))
    }

    pub(super) async fn members(&self, place: usize) -> Result<Members, Failure> {
        let path = format!("/v1/spaces/members?space={SPACE}");
        Ok(self.node(place)?.client.get(&path).await?)
    }

    /// Waits until all vote, follow one leader, and have applied the same.
    pub(super) async fn all_agree(&self) -> Result<(), Failure> {
        let until = Instant::now() + READY;
        while Instant::now() < until {
            let mut seen = Vec::new();
            for place in 0..self.nodes.len() {
                seen.push(self.members(place).await?);
            }
            let votes = |members: &Members| {
                members.members.iter().filter(|member| member.part == "voter").count()
            };
            let all_vote = seen.iter().all(|members| votes(members) == self.nodes.len());
            let place = |members: &Members| (members.leader, members.term, members.index);
            let is_one = seen.windows(2).all(|two| place(&two[0]) == place(&two[1]));
            if all_vote && is_one && seen.iter().all(|members| members.leader.is_some()) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(Failure::error("the nodes do not agree in time"))
    }

    /// Bytes that all nodes have sent to one another as messages, without gossip.
    pub(super) async fn sent(&self) -> Result<u64, Failure> {
        let mut sent = 0;
        for node in self.nodes.iter().flatten() {
            let all: Vec<ConnectionInfo> = node.client.get("/v1/peers/connections").await?;
            sent += all.iter().map(|connection| connection.bytes_out).sum::<u64>();
        }
        Ok(sent)
    }

    pub(super) async fn leader_place(&self) -> Result<usize, Failure> {
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_some() && self.members(place).await?.role == "leader" {
                return Ok(place);
            }
        }
        Err(Failure::error("nobody leads"))
    }

    pub(super) async fn leader(&self) -> Result<&BenchNode, Failure> {
        self.node(self.leader_place().await?)
    }

    pub(super) async fn follower(&self) -> Result<&BenchNode, Failure> {
        self.node((self.leader_place().await? + 1) % self.nodes.len())
    }
}
