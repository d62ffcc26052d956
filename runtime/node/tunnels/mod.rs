//! The tunnels of this node: multicast groups and ports that are carried between nodes whose tunnels
//! have the same name.
//!
//! ```text
//! DATA/tunnels.json     what they are to be, and how often the node has started with them
//! DATA/network/N.state  what a tunnel has put into the kernel
//! ```
//!
//! A peer takes part if its record in the directory names the tunnel. Frames (`udp-shim/frame.cddl`) go
//! to each over a stream of its own, or to all by gossip.

mod apart;
mod beacons;
mod carriage;
mod guests;
mod incoming;
mod info;
mod latency;
mod link;
mod ordering;
mod request;
mod running;
mod upkeep;

use crate::api::{ErrorBody, TunnelInfo, TunnelRequest};
use crate::folder::{random, write_json};
use crate::hex::hex;
use crate::net::{Net, peer_id};
use crate::space::error;
use carriage::Topic;
pub(crate) use carriage::of_network;
use info::info;
pub(crate) use link::STREAM;
pub(crate) use ordering::FindSpace;
use ordering::Ordering;
use request::{carriage, check, idle, short};
use running::Shared;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use synod_bridge::PeerId;
use synod_udp_shim::network::monitor::Monitor;
use synod_udp_shim::network::{self, Kept, Network, NetworkSpec};
use synod_udp_shim::tunnel::{Tunnel, virtual_address};
use tokio::task::{AbortHandle, spawn_blocking};
pub use upkeep::firewall;

/// Tunnels of a node, at most.
const MAX_TUNNELS: usize = 64;
/// Files that may be open in a node with tunnels, if the system lets it.
const OPEN_FILES: u64 = 65_536;
/// The folder of what is in the kernel, in the data folder.
pub const NETWORK: &str = "network";

/// The node's tunnels.
pub(crate) struct Tunnels {
    root: PathBuf,
    /// What holds the privileges that this process does not; none where it has what it was started with.
    monitor: Option<Arc<Monitor>>,
    /// Waits for its end.
    minding: OnceLock<AbortHandle>,
    running: Mutex<BTreeMap<String, Running>>,
    /// Memberships for applications that joined by a tunnel that is removed.
    kept: Arc<Mutex<Kept>>,
    /// Held while one is added or removed.
    changing: tokio::sync::Mutex<()>,
}

/// One of them.
struct Running {
    request: TunnelRequest,
    /// None where it could not be opened; then why.
    open: Result<Open, String>,
}

struct Open {
    shared: Arc<Shared>,
    network: Network,
    tasks: Vec<AbortHandle>,
}

/// `tunnels.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    /// Rises with each start, and with each tunnel that is added.
    boot: u64,
    /// A few letters that tell this folder's rules from others'.
    tag: String,
    tunnels: Vec<TunnelRequest>,
}

impl Tunnels {
    /// Those of a data folder. What a node has left in the kernel is taken out.
    pub(crate) fn of(root: &Path, monitor: Option<Arc<Monitor>>) -> Self {
        for (state, restored) in apart::restore(root, monitor.as_ref()) {
            match restored {
                Ok(true) => {
                    tracing::warn!("what a killed node left in the kernel is taken out: {state}")
                }
                Ok(false) => {}
                Err(e) => tracing::error!("what a killed node left in the kernel stays there: {e}"),
            }
        }
        let (running, changing) = (Mutex::default(), tokio::sync::Mutex::default());
        let (kept, minding) = (Arc::default(), OnceLock::new());
        Self { root: root.to_owned(), monitor, minding, running, kept, changing }
    }

    /// Whether there are any to be opened.
    pub(crate) fn are_wanted(&self) -> bool {
        self.read().is_ok_and(|file| !file.tunnels.is_empty())
    }

    /// Opens those that are kept; one that cannot be opened says why, and is tried again at the next
    /// start.
    pub(crate) async fn open_kept(&self, net: &Arc<Net>, find: &FindSpace) {
        let changing = self.changing.lock().await;
        let file = match self.read() {
            Ok(mut file) => {
                file.boot = later_than(file.boot);
                self.write(&file).map(|()| file)
            }
            Err(e) => Err(e),
        };
        let file = match file {
            Ok(file) => file,
            Err(e) => return tracing::error!("no tunnel is opened: {}", e.message),
        };
        for request in &file.tunnels {
            let open = self.open(net, find, request, &file).await.map_err(|e| e.message);
            if let Err(why) = &open {
                tracing::error!("tunnel {}: {why}", request.name);
            }
            let running = Running { request: request.clone(), open };
            self.lock().insert(request.name.clone(), running);
        }
        drop(changing);
    }

    /// Adds a tunnel, which stays until it is removed.
    pub(crate) async fn add(
        &self,
        net: &Arc<Net>,
        find: &FindSpace,
        request: TunnelRequest,
    ) -> Result<TunnelInfo, ErrorBody> {
        let _changing = self.changing.lock().await;
        let groups = check(&request)?;
        request.order.iter().try_for_each(|space| ordering::check(find, space))?;
        for (name, running) in &*self.lock() {
            if *name == request.name {
                return Err(error("exists", format!("there is a tunnel {name} already")));
            }
            let others = check(&running.request)?.destinations();
            if let Some(to) = others.into_iter().find(|to| groups.contains(*to)) {
                return Err(error(
                    "exists",
                    format!("{to} is carried by the tunnel {name} already"),
                ));
            }
        }
        let mut file = self.read()?;
        if file.tunnels.len() >= MAX_TUNNELS {
            return Err(error("busy", format!("a node has at most {MAX_TUNNELS} tunnels")));
        }
        if file.tag.is_empty() {
            let tag = random().map_err(|e| error("internal", e.to_string()))?;
            file.tag = hex(&tag[..4]);
        }
        // Its numbers begin anew, and peers may still know a tunnel of this name that was removed a moment ago.
        file.boot = later_than(file.boot);
        let open = self.open(net, find, &request, &file).await?;
        file.tunnels.push(request.clone());
        if let Err(e) = self.write(&file) {
            self.close(vec![open]).await;
            return Err(e);
        }
        let name = request.name.clone();
        let running = Running { request, open: Ok(open) };
        let info = info(&running);
        self.lock().insert(name, running);
        Ok(info)
    }

    /// Removes a tunnel, and what it has put into the kernel. Gives what a person should know.
    pub(crate) async fn remove(&self, name: &str) -> Result<Vec<String>, ErrorBody> {
        let _changing = self.changing.lock().await;
        let mut file = self.read()?;
        let before = file.tunnels.len();
        file.tunnels.retain(|request| request.name != name);
        if file.tunnels.len() == before {
            let text =
                format!("there is no tunnel {name}: `synod tunnel list` shows those that are");
            return Err(error("not_found", text));
        }
        self.write(&file)?;
        let removed = self.lock().remove(name);
        let open = removed.into_iter().filter_map(|running| running.open.ok()).collect();
        let remark = |group: Ipv4Addr| {
            format!(
                "programs here have joined {group} on lo while the tunnel was there: they hear it as long as \
                 this node runs, and are best started again"
            )
        };
        Ok(self.close(open).await.into_iter().map(remark).collect())
    }

    pub(crate) fn list(&self) -> Vec<TunnelInfo> {
        self.lock().values().map(info).collect()
    }

    /// The names of those that run, for the directory.
    pub(crate) fn told(&self) -> Vec<String> {
        let running = self.lock();
        let open = running.iter().filter(|(_, running)| running.open.is_ok());
        open.map(|(name, _)| name.clone()).collect()
    }

    /// What a person should look at.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let running = self.lock();
        let warning = |running: &Running| match &running.open {
            Ok(open) => open.shared.ordering.as_ref()?.warning(),
            Err(why) => Some(why.clone()),
        };
        let told = running
            .iter()
            .filter_map(|(name, running)| Some(format!("tunnel {name}: {}", warning(running)?)));
        told.collect()
    }

    /// Ends all of them; they are opened again at the next start.
    pub(crate) async fn shut_down(&self) {
        let _changing = self.changing.lock().await;
        let running = std::mem::take(&mut *self.lock());
        if let Some(minding) = self.minding.get() {
            minding.abort();
        }
        self.close(running.into_values().filter_map(|running| running.open.ok()).collect()).await;
        if let Some(monitor) = self.monitor.clone() {
            drop(spawn_blocking(move || monitor.stop()).await);
        }
    }

    /// What is in the kernel is taken out first, so that nothing is redirected to who no longer listens.
    /// Gives the groups that applications go on hearing since this node is a member for them.
    async fn close(&self, open: Vec<Open>) -> Vec<Ipv4Addr> {
        for one in &open {
            one.shared.topic().unsubscribe().await;
        }
        let kept = Arc::clone(&self.kept);
        let closed = spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.prune();
            let mut groups = Vec::new();
            let mut close = |Open { shared, network, tasks }: Open| {
                groups.extend(network.close(&mut kept));
                (shared, tasks)
            };
            let closed: Vec<_> = open.into_iter().map(&mut close).collect();
            for (shared, tasks) in closed {
                shared.ordering.iter().for_each(|ordering| ordering.drain());
                shared.close();
                tasks.iter().for_each(AbortHandle::abort);
            }
            groups
        });
        closed.await.unwrap_or_default()
    }

    async fn open(
        &self,
        net: &Arc<Net>,
        find: &FindSpace,
        request: &TunnelRequest,
        file: &File,
    ) -> Result<Open, ErrorBody> {
        let groups = check(request)?;
        let only = request.peers.iter().map(|peer| peer_id(peer));
        let only: BTreeSet<PeerId> =
            only.collect::<Result<_, _>>().map_err(|e| error("address", e.to_string()))?;
        let me = net.me().to_bytes();
        let folder = self.root.join(NETWORK);
        let spec = NetworkSpec {
            groups: groups.clone(),
            address: virtual_address(&me),
            capture: request
                .capture
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(|e: String| error("bad_request", e))?,
            ttl: request.ttl,
            tag: format!("{}{}", file.tag, short(&request.name)),
            state: folder.join(format!("{}.state", request.name)),
        };
        let monitor = self.monitor.clone();
        let opened = spawn_blocking(move || {
            let files = raise_open_files();
            tracing::debug!("{files:?} files may be open");
            crate::folder::make(&folder).map_err(|e| error("multicast", e.to_string()))?;
            apart::open(&spec, monitor.as_ref())
        });
        let mut network = opened.await.map_err(|e| error("internal", e.to_string()))??;
        for remark in network.remarks() {
            tracing::warn!("tunnel {}: {remark}", request.name);
        }
        let tunnel = Tunnel::new(groups, &me, file.boot).forgetting_after(idle(request));
        let injector = Arc::clone(network.injector());
        let topic = Topic::new(&request.name, carriage(request)?, net.bridge());
        let ordering = request.order.as_deref().map(|space| Arc::new(Ordering::new(space)));
        let ordered = ordering.clone();
        let shared = Shared::new(&request.name, only, injector, ordering, topic, net, tunnel);
        let shared = Arc::new(shared);
        let kept_up = network.upkeep().map_err(|e| error("multicast", e.to_string()))?;
        let captures = network.take_captures().into_iter();
        let mut tasks: Vec<AbortHandle> = captures
            .map(|one| running::capture(Arc::clone(&shared), one))
            .map(|task| shared.mover().spawn(task).abort_handle())
            .collect();
        tasks.push(tokio::spawn(running::keep(Arc::clone(&shared))).abort_handle());
        if let Some(ordering) = ordered {
            let (name, node) = (request.name.clone(), net.node().to_owned());
            let run = ordering.run(name, node, Arc::clone(find));
            tasks.push(tokio::spawn(run).abort_handle());
        }
        tasks.push(tokio::spawn(upkeep::uphold(request.name.clone(), kept_up)).abort_handle());
        if let Some(socket) = network.take_beacons() {
            let (shared, net) = (Arc::clone(&shared), Arc::downgrade(net));
            let exchange = beacons::exchange(shared, socket, net, file.boot);
            tasks.push(tokio::spawn(exchange).abort_handle());
        }
        Ok(Open { shared, network, tasks })
    }

    fn read(&self) -> Result<File, ErrorBody> {
        let path = self.path();
        let damaged = |e: String| error("disk", format!("{}: {e}", path.display()));
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(File::default()),
            Err(e) => Err(damaged(e.to_string())),
        }
    }

    fn write(&self, file: &File) -> Result<(), ErrorBody> {
        write_json(&self.path(), file).map(drop).map_err(|e| error("disk", e.to_string()))
    }

    fn path(&self) -> PathBuf {
        self.root.join("tunnels.json")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out what a node of this data folder, which does not run, has left in the kernel. Gives the
/// files that say so, and whether it went well.
pub fn restore(root: &Path) -> Vec<(String, Result<bool, String>)> {
    let restore = |path: PathBuf| {
        let restored = network::restore(&path).map_err(|e| e.to_string());
        (path.display().to_string(), restored)
    };
    states(root).map(restore).collect()
}

/// The files that say what a node of this data folder has put into the kernel.
pub fn states(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let files = std::fs::read_dir(root.join(NETWORK)).into_iter().flatten().flatten();
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "state"))
}

/// What killed nodes of whatever folder have left in the kernel: what it is, or why it cannot be known.
pub fn left_over() -> Result<String, String> {
    network::left_over().map(|left| left.to_string()).map_err(|e| e.to_string())
}

/// Takes that out. Gives what it was.
pub fn remove_left_over() -> Result<String, String> {
    network::remove_left_over().map(|left| left.to_string()).map_err(|e| e.to_string())
}

/// Each stand-in is a socket, and what a process may open is often less than it could have.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).ok()?;
    }
    getrlimit(Resource::Nofile).current
}

/// A start's number: later than the last, by the clock too, should the file be lost.
fn later_than(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0).max(last.saturating_add(1))
}
