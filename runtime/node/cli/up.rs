//! `synod up`

use super::client::Client;
use super::foreground::{self, Foreground, NodeArgs};
use super::{Failure, Global, Out, Verdict, client, detach, monitor, units};
use clap::Args;
use serde_json::json;
use std::path::Path;
use synod::api::Status;
use synod::control::SOCKET_NAME;
use tracing::level_filters::LevelFilter;

/// Start the node of a data folder, with the agents that it keeps
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Leave it in the background, once it can be spoken to; its log is DATA/node.log
    #[arg(long, env = "SYNOD_DETACH", hide_env = true, value_parser = units::switch())]
    detach: bool,
    #[command(flatten)]
    node: NodeArgs,
    /// It has been left in the background
    #[arg(long, hide = true)]
    in_background: bool,
}

impl Up {
    pub(crate) fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        if self.detach && !self.in_background {
            refuse_if_up(&data)?;
            let user = monitor::user_of(global, &data, &self.node)?;
            detach::start(&data, &self.node, user.as_ref(), global.verbose)?;
            print_ready(&mut global.out(), &data)?;
            return Ok(Verdict::Yes);
        }
        if self.in_background {
            detach::leave_terminal()?;
        }
        let monitor = monitor::hold_apart(global, &data, &self.node)?;
        foreground::block_on(global, LevelFilter::INFO, async {
            let mut foreground = Foreground::start(&data, self.node, monitor).await?;
            // Whoever waited for this line may have gone.
            drop(print_ready(&mut global.out(), &data));
            foreground.wanted_to_stop().await;
            foreground.stop().await?;
            Ok(Verdict::Yes)
        })
    }
}

/// Says who holds the folder before a process is started that could only say so in its log.
fn refuse_if_up(data: &Path) -> Result<(), Failure> {
    client::block_on(async {
        let client = Client::new(data);
        if client.is_up().await? {
            let Status { node, pid, .. } = client.get("/v1/status").await?;
            let data = data.display();
            return Err(Failure::error(format!(
                "node {node} (process {pid}) runs on {data} already; stop it with: \
                 synod down --data {data}"
            )));
        }
        Ok(())
    })
}

fn print_ready(out: &mut Out, data: &Path) -> Result<(), Failure> {
    let socket = data.join(SOCKET_NAME);
    if out.is_json() {
        return out.json(&json!({ "listening": socket }));
    }
    out.line(format_args!("listening on {}", socket.display()))
}
