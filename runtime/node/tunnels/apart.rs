//! The tunnels of a node whose privileges a process of its own holds: its [monitor](Monitor) puts into the kernel
//! what they need. If it ends before the node, they are down, and the next start mends that.

use super::Tunnels;
use crate::api::{ErrorBody, MonitorInfo};
use crate::space::error;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use synod_udp_shim::network::monitor::{Monitor, Restored};
use synod_udp_shim::network::{Mode, Network, NetworkSpec};
use tokio::sync::oneshot;

impl Tunnels {
    /// Sees to it that the end of the monitor is noticed.
    pub(crate) fn mind_monitor(self: &Arc<Self>) {
        let Some(monitor) = &self.monitor else { return };
        let minding = mind(Arc::downgrade(self), monitor.end());
        let minding = tokio::spawn(minding).abort_handle();
        // Nobody asks for it twice.
        drop(self.minding.set(minding));
    }

    /// Who holds the node's privileges.
    pub(crate) fn monitor_info(&self) -> Option<MonitorInfo> {
        let monitor = self.monitor.as_ref()?;
        Some(MonitorInfo { pid: monitor.pid(), ended: monitor.ended() })
    }

    /// All tunnels are down.
    async fn lost(&self, why: &str) {
        let _changing = self.changing.lock().await;
        let mut open = Vec::new();
        for running in self.lock().values_mut() {
            open.extend(std::mem::replace(&mut running.open, Err(why.to_owned())).ok());
        }
        self.close(open).await;
    }
}

/// Takes out what a killed node of this data folder has left: of each file, whether that went well.
pub(super) fn restore(root: &Path, monitor: Option<&Arc<Monitor>>) -> Vec<Restored> {
    let Some(monitor) = monitor else { return super::restore(root) };
    // It is not waited for where there is nothing to be done.
    if super::states(root).next().is_none() {
        return Vec::new();
    }
    monitor.restore().unwrap_or_else(|why| vec![(root.display().to_string(), Err(why))])
}

/// Opens a tunnel's part of this host, by who may.
pub(super) fn open(
    spec: &NetworkSpec,
    monitor: Option<&Arc<Monitor>>,
) -> Result<Network, ErrorBody> {
    let refused = |why: String| error("multicast", why);
    let Some(monitor) = monitor else {
        return Network::open(spec).map_err(|e| refused(e.to_string()));
    };
    match monitor.ended() {
        // That takes no privilege.
        Some(_) if spec.capture == Some(Mode::Join) => {
            Network::open(spec).map_err(|e| refused(e.to_string()))
        }
        Some(why) => Err(refused(gone(&why))),
        None => monitor
            .open(spec)
            .map_err(|e| refused(monitor.ended().map_or_else(|| e.to_string(), |why| gone(&why)))),
    }
}

fn gone(why: &str) -> String {
    format!(
        "the process that held this node's privileges is gone: {why}; what it had put into the kernel is there \
         still, and what is sent to its groups here is heard by nobody. Start the node again (synod down, \
         synod up): that takes it out, and opens the tunnels anew"
    )
}

async fn mind(tunnels: Weak<Tunnels>, end: io::Result<OwnedFd>) {
    let (told, ended) = oneshot::channel();
    // A thread of its own waits: tokio knows sockets, and this is none.
    let wait = move || {
        drop(told.send(end.and_then(|end| {
            Ok(rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], None))?)
        })))
    };
    let ended = match std::thread::Builder::new().name("monitor-end".into()).spawn(wait) {
        Ok(_) => ended.await.unwrap_or_else(|e| Err(io::Error::other(e))),
        Err(e) => Err(e),
    };
    if let Err(e) = ended {
        return tracing::error!("whether the node's privileges are held cannot be seen: {e}");
    }
    let Some(tunnels) = tunnels.upgrade() else { return };
    let why = tunnels.monitor_info().and_then(|info| info.ended);
    let why = gone(&why.unwrap_or_else(|| "it has ended".to_owned()));
    tracing::error!("tunnels: {why}");
    tunnels.lost(&why).await;
}
