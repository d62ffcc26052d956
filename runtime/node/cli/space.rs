//! Which space a verb speaks of.

use super::Failure;
use super::client::Client;
use clap::Args;
use synod::api::{SpaceInfo, Status, default_space};

/// The space's flag.
#[derive(Clone, Debug, Args)]
pub(crate) struct SpaceArg {
    /// The space [default: the only one besides local, else local]
    #[arg(long, env = "SYNOD_SPACE", value_name = "NAME", hide_env = true)]
    pub(crate) space: Option<String>,
}

impl SpaceArg {
    /// Looks the space up on the node.
    pub(crate) async fn find(&self, client: &Client) -> Result<SpaceInfo, Failure> {
        let Status { spaces, .. } = client.get("/v1/status").await?;
        let names = || spaces.iter().map(|space| space.name.as_str());
        let wanted = self.space.clone().unwrap_or_else(|| default_space(names()).to_owned());
        let known = names().collect::<Vec<_>>().join(", ");
        spaces.into_iter().find(|space| space.name == wanted).ok_or_else(|| {
            Failure::error(format!("there is no space {wanted} on this node; there is: {known}"))
        })
    }

    /// As a part of a path, after the `?`.
    pub(crate) fn as_query(&self) -> String {
        self.space
            .as_deref()
            .map_or_else(String::new, |name| format!("?space={}", super::client::encode(name)))
    }
}
