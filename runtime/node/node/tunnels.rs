//! The node's tunnels.

use super::Node;
use crate::api::{ErrorBody, TunnelInfo, TunnelRequest};
use crate::space::error;
use crate::tunnels::FindSpace;
use std::sync::Arc;

impl Node {
    /// Carries multicast to the other nodes that have a tunnel of the same name, until it is removed.
    pub async fn add_tunnel(&self, request: TunnelRequest) -> Result<TunnelInfo, ErrorBody> {
        let net = self.net().await?;
        self.0.tunnels.add(&net, &self.find_space(), request).await
    }

    /// Where tunnels that order find their spaces.
    pub(super) fn find_space(&self) -> FindSpace {
        let node = Arc::downgrade(&self.0);
        Arc::new(move |name| {
            let gone = || error("stopping", "the node is going down: ask again when it is up");
            Self(node.upgrade().ok_or_else(gone)?).space(Some(name))
        })
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
