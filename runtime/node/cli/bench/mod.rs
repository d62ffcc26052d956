//! `synod bench write|read|publish|cluster|transact|update|lookup|reach|export|replay|tunnel`: what this machine does with Synod.
//!
//! Each bench starts a node of its own, as a process on a folder of its own, and measures it from
//! outside, over the same socket that any client uses. Next to each figure stands the machine's
//! floor for it, measured in the same run: what the disk or the processor takes for the same thing
//! without Synod. Where others use the machine too, the ratio to the floor says more than the
//! figure.

mod cluster;
mod contended;
mod etcd;
mod export;
mod floor;
mod history;
mod latency;
mod load;
mod lookup;
mod machine;
mod node;
mod publish;
mod reach;
mod read;
mod replay;
mod report;
mod several;
mod stream;
mod transact;
mod tunnel;
mod update;
mod write;

use super::foreground::Signals;
use super::{Failure, Global, Verdict};
use clap::Subcommand;
use node::Folder;
use report::Report;

/// Measure what Synod does on this machine, with a node of its own; --data chooses the disk
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Write(write::Write),
    Read(read::Read),
    Publish(publish::Publish),
    Cluster(cluster::Cluster),
    Transact(transact::Transact),
    Update(update::Update),
    Lookup(lookup::Lookup),
    Reach(reach::Reach),
    Export(export::Export),
    Replay(replay::Replay),
    Tunnel(tunnel::Tunnel),
}

impl Bench {
    /// Measures, and leaves nothing behind.
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let mut signals = Signals::new()?;
        let folder = Folder::create(&global.data()?)?;
        let mut report = Report::new(global.out(), self.name());
        let measured = async {
            report.machine(folder.path())?;
            match self {
                Self::Write(write) => write.run(&folder, &mut report).await,
                Self::Read(read) => read.run(&folder, &mut report).await,
                Self::Publish(publish) => publish.run(&folder, &mut report).await,
                Self::Cluster(cluster) => cluster.run(&folder, &mut report).await,
                Self::Transact(transact) => transact.run(&folder, &mut report).await,
                Self::Update(update) => update.run(&folder, &mut report).await,
                Self::Lookup(lookup) => lookup.run(&folder, &mut report).await,
                Self::Reach(reach) => reach.run(&folder, &mut report).await,
                Self::Export(export) => export.run(&folder, &mut report),
                Self::Replay(replay) => replay.run(&folder, &mut report).await,
                Self::Tunnel(tunnel) => tunnel.run(&folder, &mut report).await,
            }
        };
        tokio::select! {
            measured = measured => measured.map(|()| Verdict::Yes),
            () = signals.next() => Err(Failure::error("stopped before it was done")),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Read(_) => "read",
            Self::Publish(_) => "publish",
            Self::Cluster(_) => "cluster",
            Self::Transact(_) => "transact",
            Self::Update(_) => "update",
            Self::Lookup(_) => "lookup",
            Self::Reach(_) => "reach",
            Self::Export(_) => "export",
            Self::Replay(_) => "replay",
            Self::Tunnel(_) => "tunnel",
        }
    }
}
