//! The node's tunnels.

use super::Node;
use crate::api::{ErrorBody, TunnelInfo, TunnelRequest};

impl Node {
    /// Carries multicast to the other nodes that have a tunnel of the same name, until it is removed.
    pub async fn add_tunnel(&self, request: TunnelRequest) -> Result<TunnelInfo, ErrorBody> {
        let net = self.net().await?;
        self.0.tunnels.add(&net, request).await
    }

    /// The tunnels, as they are.
    pub fn tunnels(&self) -> Vec<TunnelInfo> {
        self.0.tunnels.list()
    }

    /// Carries no longer. Gives what a person should know.
    pub async fn remove_tunnel(&self, name: &str) -> Result<Vec<String>, ErrorBody> {
        self.0.tunnels.remove(name).await
    }
}
